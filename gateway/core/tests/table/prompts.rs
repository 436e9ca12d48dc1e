//! Prompts: their names, and who may use them.

use gateway_core::{Principal, Scope, ServerName};
use serde_json::{Value, json};

use crate::fixture::{Lists, World, find, key, policy, scope, server};

fn prompts(principal: &Principal, scope: &Scope) -> Vec<String> {
    let name = |definition: &[u8]| {
        let definition: Value = serde_json::from_slice(definition).unwrap();
        definition["name"].as_str().unwrap().to_owned()
    };
    let list = principal.tenant.list_prompts(scope, principal);
    list.map(|definition| name(definition)).collect()
}

fn find_prompt(principal: &Principal, scope: &Scope, name: &str) -> Option<String> {
    let prompt = principal.tenant.find_prompt(name, scope, principal)?;
    Some(format!("{}/{}/{}", prompt.server.namespace, prompt.server.name, prompt.name))
}

/// Two servers that offer a tool, a prompt, a resource and a template each.
fn world() -> World {
    let mut world = World::of([
        server("a/git", 0, &json!({})),
        server("a/docs", 1, &json!({})),
        key("a/ann", json!({"allow": {}})),
    ]);
    for server in ["a/git", "a/docs"] {
        world.keep_all(server, everything().catalog(server));
    }
    world.build();
    world
}

fn everything() -> Lists<'static> {
    Lists {
        tools: &["ask"],
        prompts: &["ask", "code.review"],
        resources: &["test://a"],
        templates: &["test://{id}"],
    }
}

#[test]
fn prompts_have_names_as_tools_do_and_may_be_called_like_one() {
    let world = world();
    let ann = world.principal("a/ann");

    let all = ["docs_ask", "docs_code_review", "git_ask", "git_code_review"];
    assert_eq!(prompts(&ann, &Scope::All), all);
    assert_eq!(prompts(&ann, &scope("git")), ["ask", "code.review"]);
    assert_eq!(
        find_prompt(&ann, &Scope::All, "git_code_review").as_deref(),
        Some("a/git/code.review")
    );
    assert_eq!(find_prompt(&ann, &scope("git"), "ask").as_deref(), Some("a/git/ask"));
    assert_eq!(find_prompt(&ann, &scope("git"), "git_ask"), None);
    assert_eq!(find(&ann, &Scope::All, "git_ask").as_deref(), Some("a/git/ask"));
    assert!(world.diagnostics().is_empty());
}

#[test]
fn a_changed_name_keeps_the_original_as_its_title() {
    let world = world();
    let ann = world.principal("a/ann");

    let list: Vec<_> = ann.tenant.list_prompts(&Scope::All, &ann).collect();

    assert_eq!(list[2], r#"{"description":"a/git/ask","name":"git_ask"}"#);
    assert_eq!(
        list[3],
        r#"{"description":"a/git/code.review","name":"git_code_review","title":"code.review"}"#
    );
}

#[test]
fn the_earliest_claim_wins_and_the_losers_are_told() {
    let mut world = World::of([
        server("a/two", 2, &json!({"prefix": ""})),
        server("a/one", 1, &json!({"prefix": ""})),
        key("a/ann", json!({"allow": {}})),
    ]);
    let lists = Lists { prompts: &["ask"], ..Lists::default() };
    world.offer_all("a/two", &lists);

    world.offer_all("a/one", &lists);

    let ann = world.principal("a/ann");
    assert_eq!(find_prompt(&ann, &Scope::All, "ask").as_deref(), Some("a/one/ask"));
    assert_eq!(prompts(&ann, &Scope::All), ["ask"]);
    assert_eq!(
        world.diagnostics(),
        [
            "McpServer a/two: NameConflict: prompt ask is hidden: the name ask is held by prompt ask \
          of McpServer one; set another tools.prefix"
        ]
    );
}

/// Tools, prompts, resources and templates that a key sees of one server.
fn seen(world: &World, key: &str, server: &str) -> [usize; 4] {
    let ann = world.principal(key);
    let scope = scope(server);
    [
        ann.tenant.list(&scope, &ann).count(),
        ann.tenant.list_prompts(&scope, &ann).count(),
        ann.tenant.list_resources(&scope, &ann).count(),
        ann.tenant.list_templates(&scope, &ann).count(),
    ]
}

#[test]
fn rules_that_name_tools_are_about_tools_alone() {
    let mut world = world();
    let deny = |tools: &Value| json!([{"effect": "Deny", "servers": ["git"], "tools": tools}]);
    for (name, allow, rules) in [
        ("all", json!({}), None),
        ("star", json!({"servers": ["git"], "tools": ["x", "*"]}), None),
        ("tools", json!({"tools": ["ask"]}), None),
        ("most", json!({"tools": ["?*"]}), None),
        ("no-tool", json!({}), Some(deny(&json!(["ask"])))),
        ("nothing", json!({}), Some(deny(&json!(["*"])))),
        ("none", json!(null), None),
    ] {
        world.apply(key(&format!("a/{name}"), json!({"allow": allow})));
        if let Some(rules) = rules {
            let id = format!("a/{name}");
            world.apply(policy(&id, &json!([{"key": name}]), &rules));
        }
    }

    for (key, on_git, on_docs) in [
        ("all", [1, 2, 1, 1], [1, 2, 1, 1]),
        ("star", [1, 2, 1, 1], [0; 4]),
        ("tools", [1, 0, 0, 0], [1, 0, 0, 0]),
        ("most", [1, 0, 0, 0], [1, 0, 0, 0]),
        ("no-tool", [0, 2, 1, 1], [1, 2, 1, 1]),
        ("nothing", [0; 4], [1, 2, 1, 1]),
        ("none", [0; 4], [0; 4]),
    ] {
        let id = format!("a/{key}");
        assert_eq!(seen(&world, &id, "git"), on_git, "{key}");
        assert_eq!(seen(&world, &id, "docs"), on_docs, "{key}");
        let principal = world.principal(&id);
        let found = find_prompt(&principal, &Scope::All, "git_ask").is_some();
        assert_eq!(found, on_git[1] > 0, "{key}");
        let read = principal.tenant.resolve_uri("test://a", &scope("git"), &principal);
        assert_eq!(read.is_some(), on_git[2] > 0, "{key}");
        let knows = ["git", "docs"]
            .map(|server| principal.tenant.knows(&ServerName::new(server), &principal));
        assert_eq!(knows, [on_git != [0; 4], on_docs != [0; 4]], "{key}");
        let servers = principal.tenant.servers_for(&Scope::All, &principal);
        let names: Vec<_> = servers.map(|server| server.entry.name.to_string()).collect();
        let known = [("docs", knows[1]), ("git", knows[0])];
        let expected: Vec<_> = known.iter().filter(|known| known.1).map(|known| known.0).collect();
        assert_eq!(names, expected, "{key}");
    }
}

/// Which tools of a server are shown says nothing of its prompts.
#[test]
fn what_the_manifest_hides_is_tools() {
    let mut world = World::of([
        server("a/git", 0, &json!({"allow": [], "deny": ["*"]})),
        key("a/ann", json!({"allow": {}})),
    ]);

    world.offer_all("a/git", &everything());

    assert_eq!(seen(&world, "a/ann", "git"), [0, 2, 1, 1]);
}

#[test]
fn a_server_without_tools_is_known_to_who_may_use_all_of_it() {
    let mut world = world();
    world.apply(key("a/push", json!({"allow": {"tools": ["push"]}})));
    world.offer_all("a/git", &Lists { tools: &["ask"], ..Lists::default() });
    world.offer_all("a/docs", &Lists { prompts: &["ask"], ..Lists::default() });

    // It could have the tool one day, as one that has not said yet what it offers.
    for (key, expected) in [("a/ann", [true, true]), ("a/push", [false, true])] {
        let principal = world.principal(key);
        let knows = ["git", "docs"]
            .map(|server| principal.tenant.knows(&ServerName::new(server), &principal));
        assert_eq!(knows, expected, "{key}");
    }
}

#[test]
fn each_kind_has_a_hash_of_its_own() {
    let mut world = world();
    let hashes = |world: &World, scope: &Scope| {
        let ann = world.principal("a/ann");
        [
            ann.tenant.view_hash(scope, &ann),
            ann.tenant.prompts_hash(scope, &ann),
            ann.tenant.resources_hash(scope, &ann),
        ]
    };
    let mut before = [Scope::All, scope("git")].map(|scope| hashes(&world, &scope));
    for (lists, changed) in [
        (Lists { tools: &["other"], ..everything() }, [true, false, false]),
        (Lists { prompts: &["other"], ..everything() }, [true, true, false]),
        (Lists { resources: &["test://b"], ..everything() }, [false, true, true]),
        (Lists { templates: &["test://{b}"], ..everything() }, [false, false, true]),
        (Lists { templates: &["test://{b}"], ..everything() }, [false, false, false]),
    ] {
        world.offer_all("a/git", &lists);

        let after = [Scope::All, scope("git")].map(|scope| hashes(&world, &scope));
        for (before, after) in before.iter().zip(&after) {
            let differ: Vec<_> = before.iter().zip(after).map(|(b, a)| b != a).collect();
            assert_eq!(differ, changed, "{lists:?}");
        }
        before = after;
    }
}
