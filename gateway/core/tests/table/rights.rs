//! What principals may use: the rules, and that lists and calls agree with them.

use gateway_core::{Scope, ServerName};
use proptest::prelude::*;
use serde_json::json;

use crate::fixture::{World, find, key, list, policy, scope, server};
use crate::universe::{KEYS, SERVERS, TOOLS, universe};

#[test]
fn rules_add_up_and_denials_win() {
    let mut world = World::of([
        server("a/git", 0, &json!({})),
        server("a/files", 0, &json!({})),
        key("a/none", json!({})),
        key("a/all", json!({"allow": {}})),
        key("a/own", json!({"allow": {"servers": ["git"], "tools": ["l*"]}})),
        key("a/user", json!({"user": "ann"})),
        key("a/group", json!({"groups": ["other", "analysts"], "allow": {"tools": ["log"]}})),
        policy(
            "a/grant",
            &json!([{"user": "ann"}, {"group": "analysts"}]),
            &json!([{"servers": ["files"]}]),
        ),
        policy("a/one-key", &json!([{"key": "own"}]), &json!([{"tools": ["read"]}])),
        policy(
            "a/guard",
            &json!([{"group": "analysts"}]),
            &json!([{"effect": "Deny", "tools": ["w*"]}]),
        ),
        policy(
            "a/guard-all",
            &json!([{"user": "all"}]),
            &json!([{"effect": "Deny", "servers": ["git"]}]),
        ),
        // Subjects of one sort are not those of another.
        policy(
            "a/misnamed",
            &json!([{"user": "analysts"}, {"group": "own"}, {"key": "ann"}]),
            &json!([{}]),
        ),
        // Those of another tenant are nobody here.
        policy("b/elsewhere", &json!([{"user": "none"}, {"key": "none"}]), &json!([{}])),
    ]);
    world.offer("a/git", &["log", "push", "ls"]);
    world.offer("a/files", &["read", "write"]);

    for (key, expected) in [
        ("a/none", &[][..]),
        ("a/all", &["files_read", "files_write"]),
        ("a/own", &["files_read", "git_log", "git_ls"]),
        ("a/user", &["files_read", "files_write"]),
        ("a/group", &["files_read", "git_log"]),
    ] {
        assert_eq!(world.names(key), expected, "{key}");
    }
}

#[test]
fn a_server_is_known_to_who_may_use_a_tool_of_it() {
    let mut world = World::of([
        server("a/git", 0, &json!({})),
        server("a/new", 0, &json!({})),
        server("a/empty", 0, &json!({})),
        key("a/all", json!({"allow": {}})),
        key("a/push", json!({"allow": {"tools": ["push"]}})),
        key("a/none", json!({})),
        key("a/denied", json!({"allow": {}})),
        policy("a/deny", &json!([{"key": "denied"}]), &json!([{"effect": "Deny"}])),
    ]);
    world.offer("a/git", &["log"]);
    world.offer("a/empty", &[]);

    for (key, expected) in [
        ("a/all", [true, true, true, false]),
        ("a/push", [false, true, true, false]),
        ("a/none", [false; 4]),
        ("a/denied", [false; 4]),
    ] {
        let principal = world.principal(key);
        let knows = ["git", "new", "empty", "nobody"].map(|server| {
            principal.tenant.knows(&ServerName::new(server), &principal)
        });

        assert_eq!(knows, expected, "{key}");
    }
}

/// A principal is of one table: anywhere else it is nobody.
#[test]
fn a_key_or_a_policy_leaves_what_servers_offer_as_it_is() {
    let mut world = World::of([server("a/git", 0, &json!({})), key("a/ann", json!({}))]);
    world.offer("a/git", &["log"]);
    let offered = |world: &World| {
        let ann = world.principal("a/ann");
        std::ptr::from_ref(ann.tenant.server(&ServerName::new("git")).unwrap())
    };
    let before = offered(&world);

    let everything = json!([{"servers": ["*"]}]);
    world.apply(policy("a/all", &json!([{"user": "ann"}]), &everything));
    assert_eq!((offered(&world), world.names("a/ann")), (before, vec!["git_log".to_owned()]));
    world.apply(key("a/bob", json!({"user": "ann"})));
    assert_eq!((offered(&world), world.names("a/bob")), (before, vec!["git_log".to_owned()]));

    world.offer("a/git", &["log", "show"]);
    assert_ne!(offered(&world), before);
    assert_eq!(world.names("a/bob"), ["git_log", "git_show"]);
}

#[test]
fn a_principal_of_another_table_may_nothing() {
    let tenant = |name: &str| {
        [
            server(&format!("{name}/git"), 0, &json!({})),
            key(&format!("{name}/ann"), json!({"allow": {}})),
        ]
    };
    let mut world = World::of(tenant("a").into_iter().chain(tenant("b")));
    world.offer("a/git", &["log"]);
    world.offer("b/git", &["log"]);
    let (a, b) = (world.principal("a/ann"), world.principal("b/ann"));

    assert!(a.tenant.find("git_log", &Scope::All, &a).is_some());
    assert!(b.tenant.find("git_log", &Scope::All, &a).is_none());
    assert_eq!(b.tenant.list(&Scope::All, &a).count(), 0);
    assert!(!b.tenant.knows(&ServerName::new("git"), &a));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// The algebra, in the words of the manual; `Universe` knows nothing of tables.
    #[test]
    fn lists_are_what_the_rules_say(universe in universe()) {
        let world = universe.world();

        for key in KEYS {
            let principal = world.principal(key);
            let namespace = principal.key.namespace.as_str();
            let mut everywhere = Vec::new();
            for server in SERVERS {
                let expected = universe.allowed(key, &format!("{namespace}/{server}"));
                let listed = list(&principal, &scope(server));

                let origins: Vec<_> = listed.iter().map(|tool| tool.origin.clone()).collect();
                prop_assert_eq!(&origins, &expected, "{} {}", key, server);
                everywhere.extend(expected);
            }
            // Among all tools, those are missing that lost their names, and these are told of.
            let all = world.list(key);
            let lost = everywhere.iter().filter(|origin| {
                !all.iter().any(|tool| tool.origin == **origin)
            });
            for origin in lost {
                let (server, tool) = origin.rsplit_once('/').unwrap();
                let start = format!("McpServer {server}: NameConflict: tool {tool} is hidden");
                let diagnostics = world.diagnostics();
                prop_assert!(diagnostics.iter().any(|d| d.starts_with(&start)), "{}", origin);
            }
            prop_assert!(all.iter().all(|tool| everywhere.contains(&tool.origin)));
        }
    }

    #[test]
    fn what_is_listed_can_be_found_and_nothing_else(universe in universe()) {
        let world = universe.world();
        // Every name that anybody sees anywhere, and every name that a tool has.
        let mut names: Vec<String> = TOOLS.iter().map(|&tool| tool.to_owned()).collect();
        names.extend(KEYS.iter().flat_map(|key| world.names(key)));
        names.push("unheard-of".to_owned());

        for key in KEYS {
            let principal = world.principal(key);
            for scope in SERVERS.iter().map(|s| scope(s)).chain([Scope::All, scope("nobody")]) {
                let listed = list(&principal, &scope);
                for name in &names {
                    let in_list: Vec<_> = listed.iter().filter(|t| t.name == *name).collect();
                    let found = find(&principal, &scope, name);

                    prop_assert!(in_list.len() <= 1, "{} twice", name);
                    let listed = in_list.first().map(|tool| tool.origin.clone());
                    prop_assert_eq!(found, listed, "{} {:?} {}", key, scope, name);
                }
            }
        }
    }

    #[test]
    fn nobody_sees_a_tool_of_another_tenant(universe in universe()) {
        let world = universe.world();

        for key in KEYS {
            let tenant = key.split_once('/').unwrap().0;
            for tool in world.list(key) {
                prop_assert!(tool.origin.starts_with(&format!("{tenant}/")), "{} {:?}", key, tool);
            }
        }
    }

    #[test]
    fn names_are_such_as_every_model_api_takes(universe in universe()) {
        let world = universe.world();

        for name in KEYS.iter().flat_map(|key| world.names(key)) {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
            prop_assert!((1..=64).contains(&name.len()) && name.chars().all(fits), "{}", name);
        }
    }
}
