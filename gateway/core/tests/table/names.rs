//! Who holds a name when several want it.

use gateway_core::Kind;
use serde_json::json;

use crate::fixture::{World, find, key, scope, server};

/// Servers `one` to `three`, claimed in this order, none with a prefix, and a key for everything.
fn world() -> World {
    let bare = json!({"prefix": ""});
    World::of([
        server("a/three", 3, &bare),
        server("a/two", 2, &bare),
        server("a/one", 1, &bare),
        key("a/ann", json!({"allow": {}})),
    ])
}

#[test]
fn names_are_prefixed_with_the_server_unless_the_manifest_says_otherwise() {
    let mut world = World::of([
        server("a/git", 0, &json!({})),
        server("a/files", 0, &json!({"prefix": "f-"})),
        server("a/calc", 0, &json!({"prefix": ""})),
        key("a/ann", json!({"allow": {}})),
    ]);
    world.offer("a/git", &["log", "show"]);
    world.offer("a/files", &["read"]);
    world.offer("a/calc", &["add"]);

    assert_eq!(world.names("a/ann"), ["add", "f-read", "git_log", "git_show"]);
    let ann = world.principal("a/ann");
    assert_eq!(find(&ann, &scope("git"), "log").as_deref(), Some("a/git/log"));
    assert_eq!(find(&ann, &scope("git"), "git_log"), None);
    assert_eq!(find(&ann, &scope("files"), "log"), None);
}

#[test]
fn a_changed_name_keeps_the_original_as_its_title() {
    let mut world = World::of([
        server("a/git", 0, &json!({"overrides": {"repo.list": {"description": "lists"}}})),
        key("a/ann", json!({"allow": {}})),
    ]);
    world.offer("a/git", &["repo.list", "log"]);
    let ann = world.principal("a/ann");
    let texts = |scope| {
        let list = ann.tenant.list(&scope, &ann);
        list.map(|text| String::from_utf8(text.to_vec()).unwrap()).collect::<Vec<_>>()
    };

    assert_eq!(
        texts(gateway_core::Scope::All),
        [
            r#"{"description":"lists","name":"git_repo_list","title":"repo.list"}"#,
            r#"{"description":"a/git/log","name":"git_log"}"#,
        ]
    );
    assert_eq!(
        texts(scope("git")),
        [
            r#"{"description":"lists","name":"repo.list"}"#,
            r#"{"description":"a/git/log","name":"log"}"#,
        ]
    );
}

#[test]
fn the_earliest_claim_wins_and_the_losers_are_told() {
    let mut world = world();
    for server in ["a/three", "a/one", "a/two"] {
        world.keep(server, &["add"]);
    }
    world.build();

    assert_eq!(world.origin("add", "a/ann").as_deref(), Some("a/one/add"));
    assert_eq!(world.names("a/ann"), ["add"]);
    let lost = |server: &str| {
        format!(
            "McpServer a/{server}: NameConflict: tool add is hidden: the name add is held by tool \
             add of McpServer one; set another tools.prefix"
        )
    };
    assert_eq!(world.diagnostics(), [lost("three"), lost("two")]);
    // Under its server's own URL nothing is in its way.
    let ann = world.principal("a/ann");
    assert_eq!(find(&ann, &scope("two"), "add").as_deref(), Some("a/two/add"));
}

#[test]
fn equal_claims_are_decided_by_the_servers_names() {
    let bare = json!({"prefix": ""});
    let entries =
        [server("a/y", 1, &bare), server("a/x", 1, &bare), key("a/ann", json!({"allow": {}}))];
    for order in [["a/x", "a/y"], ["a/y", "a/x"]] {
        let mut world = World::of(entries.clone());
        for server in order {
            world.offer(server, &["add"]);
        }

        assert_eq!(world.origin("add", "a/ann").as_deref(), Some("a/x/add"), "{order:?}");
    }
}

#[test]
fn a_tool_added_later_takes_no_name_from_who_holds_it() {
    let mut world = world();
    world.offer("a/one", &["other"]);
    world.offer("a/two", &["add"]);

    world.offer("a/one", &["other", "add"]);

    assert_eq!(world.origin("add", "a/ann").as_deref(), Some("a/two/add"));
    assert!(world.diagnostics()[0].starts_with("McpServer a/one: NameConflict"));
}

#[test]
fn a_first_list_of_an_earlier_claim_takes_its_names() {
    let mut world = world();
    world.offer("a/three", &["add"]);
    assert_eq!(world.origin("add", "a/ann").as_deref(), Some("a/three/add"));

    world.offer("a/two", &["add"]);

    assert_eq!(world.origin("add", "a/ann").as_deref(), Some("a/two/add"));
}

/// `one` comes too late for a name of `three`, `two` does not.
#[test]
fn a_late_tool_is_no_obstacle_to_a_first_list() {
    let mut world = world();
    world.offer("a/one", &["other"]);
    world.offer("a/three", &["add"]);

    world.keep("a/one", &["other", "add"]);
    world.keep("a/two", &["add"]);
    world.build();

    assert_eq!(world.origin("add", "a/ann").as_deref(), Some("a/two/add"));
}

#[test]
fn a_name_goes_to_the_next_when_its_holder_lets_go() {
    let mut world = world();
    world.offer("a/one", &["add"]);
    world.offer("a/two", &["add"]);

    world.offer("a/one", &["other"]);
    assert_eq!(world.origin("add", "a/ann").as_deref(), Some("a/two/add"));
    world.offer("a/one", &["other", "add"]);
    assert_eq!(world.origin("add", "a/ann").as_deref(), Some("a/two/add"));
    world.delete(Kind::Server, "a/two");
    assert_eq!(world.origin("add", "a/ann").as_deref(), Some("a/one/add"));
    assert!(world.diagnostics().is_empty());
}

#[test]
fn a_server_made_anew_under_its_name_holds_nothing() {
    let bare = json!({"prefix": ""});
    let mut world = world();
    world.offer("a/one", &["add"]);
    world.offer("a/two", &["add"]);

    // Within one table, so that there is none without it.
    world.entries.apply(server("a/one", 9, &bare));
    world.keep("a/one", &["add"]);
    world.build();

    assert_eq!(world.origin("add", "a/ann").as_deref(), Some("a/two/add"));
}

#[test]
fn a_prefix_edited_later_takes_no_name_from_who_holds_it() {
    let mut world = world();
    world.apply(server("a/one", 1, &json!({"prefix": "x_"})));
    world.offer("a/one", &["add"]);
    world.offer("a/two", &["add"]);

    world.apply(server("a/one", 1, &json!({"prefix": ""})));

    assert_eq!(world.origin("add", "a/ann").as_deref(), Some("a/two/add"));
    assert_eq!(world.origin("x_add", "a/ann"), None);
}

/// `one` held the name, wants it no longer and is no reason to pass over `two`.
#[test]
fn who_lets_go_of_a_name_has_no_say_in_who_is_next() {
    let mut world = world();
    world.offer("a/one", &["add"]);
    world.offer("a/two", &["add"]);

    world.entries.apply(server("a/one", 1, &json!({"prefix": "x_"})));
    world.keep("a/three", &["add"]);
    world.build();

    assert_eq!(world.origin("add", "a/ann").as_deref(), Some("a/two/add"));
    assert_eq!(world.origin("x_add", "a/ann").as_deref(), Some("a/one/add"));
}

#[test]
fn the_list_of_a_server_goes_with_it() {
    let mut world = world();
    world.offer("a/one", &["add"]);

    world.delete(Kind::Server, "a/one");
    world.apply(server("a/one", 1, &json!({"prefix": ""})));

    assert_eq!(world.names("a/ann"), [""; 0]);
}

#[test]
fn the_list_of_a_server_that_is_not_there_is_forgotten() {
    let mut world = world();
    world.offer("a/four", &["add"]);
    world.offer("nowhere/one", &["add"]);

    world.apply(server("a/four", 4, &json!({"prefix": ""})));
    world.apply(server("nowhere/one", 1, &json!({"prefix": ""})));

    assert_eq!(world.names("a/ann"), [""; 0]);
    assert!(world.snapshot.diagnostics().is_empty());
}

/// A server that names a tool after the hash of another one harms itself alone.
#[test]
fn even_a_collision_within_one_server_leaves_one_tool_a_name() {
    let mut world = world();
    world.offer("a/one", &["a.b", "a_b"]);
    let hashed = world.names("a/ann").into_iter().find(|name| name != "a_b").unwrap();

    world.offer("a/one", &["a.b", "a_b", &hashed]);

    assert_eq!(world.names("a/ann"), [hashed.as_str(), "a_b"]);
    assert_eq!(world.origin(&hashed, "a/ann").as_deref(), Some("a/one/a.b"));
    assert_eq!(world.diagnostics().len(), 1);
}

/// A name is nothing to somebody who may not use the tool that holds it.
#[test]
fn a_name_held_by_a_forbidden_tool_calls_nothing() {
    let mut world = world();
    world.apply(key("a/bob", json!({"allow": {"servers": ["two"]}})));
    world.offer("a/one", &["add"]);
    world.offer("a/two", &["add", "sub"]);

    assert_eq!(world.names("a/bob"), ["sub"]);
    assert_eq!(world.origin("add", "a/bob"), None);
}
