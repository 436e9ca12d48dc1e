//! URIs: whose they are, and how they are shown where two servers could be meant.

use std::collections::BTreeSet;
use std::sync::Arc;

use gateway_core::{Catalog, Entry, Principal, Scope, Secrets};
use mcp::json::Json;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::fixture::{Lists, World, claim, from_resource, key, manifest, policy, scope, server};

/// Servers `one` to `three`, claimed in this order, and a key for everything.
fn world() -> World {
    World::of([
        server("a/three", 3, &json!({})),
        server("a/two", 2, &json!({})),
        server("a/one", 1, &json!({})),
        key("a/ann", json!({"allow": {}})),
    ])
}

fn located(
    resources: &'static [&'static str],
    templates: &'static [&'static str],
) -> Lists<'static> {
    Lists { resources, templates, ..Lists::default() }
}

/// URI or template, and `namespace/server/own`.
type Shown = (String, String);

fn read(definition: &[u8], key: &str) -> Shown {
    let definition: Value = serde_json::from_slice(definition).unwrap();
    let text = |field: &str| definition[field].as_str().unwrap().to_owned();
    (text(key), text("description"))
}

fn resources(principal: &Principal, scope: &Scope) -> Vec<Shown> {
    let list = principal.tenant.list_resources(scope, principal);
    list.map(|definition| read(definition, "uri")).collect()
}

fn templates(principal: &Principal, scope: &Scope) -> Vec<Shown> {
    let list = principal.tenant.list_templates(scope, principal);
    list.map(|definition| read(definition, "uriTemplate")).collect()
}

/// `namespace/server/own`
fn resolve(principal: &Principal, uri: &str) -> Option<String> {
    let (server, own) = principal.tenant.resolve_uri(uri, &Scope::All, principal)?;
    Some(format!("{}/{}/{own}", server.namespace, server.name))
}

fn resolve_template(principal: &Principal, template: &str) -> Option<String> {
    let (server, own) = principal.tenant.resolve_template(template, &Scope::All, principal)?;
    Some(format!("{}/{}/{own}", server.namespace, server.name))
}

fn names(shown: &[Shown]) -> Vec<&str> {
    shown.iter().map(|(uri, _)| uri.as_str()).collect()
}

#[test]
fn of_two_servers_with_one_uri_the_later_claim_shows_it_wrapped() {
    let mut world = world();
    world.offer_all("a/two", &located(&["file:///b", "file:///a"], &[]));
    world.offer_all("a/one", &located(&["file:///a"], &[]));
    let ann = world.principal("a/ann");

    let all = resources(&ann, &Scope::All);

    assert_eq!(names(&all), ["file:///a", "file:///b", "fairway+a+two+file:///a"]);
    assert_eq!(resolve(&ann, "file:///a").as_deref(), Some("a/one/file:///a"));
    assert_eq!(resolve(&ann, "file:///b").as_deref(), Some("a/two/file:///b"));
    assert_eq!(resolve(&ann, "fairway+a+two+file:///a").as_deref(), Some("a/two/file:///a"));
    // Under its server's own URL nothing is in its way.
    assert_eq!(names(&resources(&ann, &scope("two"))), ["file:///b", "file:///a"]);
    // Nothing is hidden, so there is nothing to mend.
    assert!(world.diagnostics().is_empty());
}

#[test]
fn a_uri_listed_later_is_not_taken_from_who_holds_it() {
    let mut world = world();
    world.offer_all("a/one", &located(&["file:///b"], &[]));
    world.offer_all("a/two", &located(&["file:///a"], &[]));

    world.offer_all("a/one", &located(&["file:///b", "file:///a"], &[]));

    let ann = world.principal("a/ann");
    assert_eq!(resolve(&ann, "file:///a").as_deref(), Some("a/two/file:///a"));
    assert_eq!(resolve(&ann, "fairway+a+one+file:///a").as_deref(), Some("a/one/file:///a"));
}

#[test]
fn only_the_uri_of_a_definition_is_touched() {
    let mut world = world();
    let definition = r#"{"x":1.0, "uri":"ui:\/\/app","name":"App" }"#;
    for server in ["a/one", "a/two"] {
        let mut catalog = Catalog::default();
        catalog.add_resource(Json::parse(definition).unwrap()).unwrap();
        world.keep_all(server, Arc::new(catalog));
    }
    world.build();
    let ann = world.principal("a/ann");

    let all: Vec<_> = ann.tenant.list_resources(&Scope::All, &ann).collect();

    assert_eq!(all[0], definition);
    assert_eq!(all[1], r#"{"x":1.0, "uri":"ui://fairway+a+two+app","name":"App" }"#);
    assert_eq!(resolve(&ann, "ui://fairway+a+two+app").as_deref(), Some("a/two/ui://app"));
}

#[test]
fn what_no_list_names_leads_where_a_template_does() {
    let mut world = world();
    world.offer_all("a/one", &located(&["db://x/listed"], &["db://x/{table}", "db://x/{+any}"]));
    world.offer_all("a/two", &located(&[], &["db://y/{table}", "db://y/z/{table}"]));
    let ann = world.principal("a/ann");

    let all = templates(&ann, &Scope::All);
    assert_eq!(
        names(&all),
        ["db://x/{table}", "db://x/{+any}", "db://y/{table}", "db://y/z/{table}"]
    );
    for (uri, expected) in [
        ("db://x/1", Some("a/one/db://x/1")),
        ("db://y/1", Some("a/two/db://y/1")),
        ("db://y/z/1", Some("a/two/db://y/z/1")),
        ("db://z/1", None),
        ("db://", None),
        ("", None),
    ] {
        assert_eq!(resolve(&ann, uri).as_deref(), expected, "{uri}");
    }
    for (_, template) in &all {
        let (_, own) = template.split_once("db").unwrap();
        assert_eq!(resolve_template(&ann, &format!("db{own}")).as_ref(), Some(template));
    }
}

#[test]
fn a_template_that_could_mean_an_earlier_server_is_wrapped() {
    for (of_one, of_two, wrapped) in [
        ("db://x/{a}", "db://x/{b}", true),
        ("db://x/{a}", "db://x/y/{b}", true),
        ("db://x/y/{a}", "db://{b}", true),
        ("db://x/{a}", "db://y/{b}", false),
        ("db://x/{a}", "{+b}", true),
        ("{a}", "db://{b}", false),
    ] {
        let mut world = world();
        for (server, template) in [("a/two", of_two), ("a/one", of_one)] {
            world.offer_all(server, &Lists { templates: &[template], ..Lists::default() });
        }
        let ann = world.principal("a/ann");

        let shown = templates(&ann, &Scope::All).pop().unwrap();

        let expected = if wrapped { format!("fairway+a+two+{of_two}") } else { of_two.to_owned() };
        assert_eq!(shown, (expected, format!("a/two/{of_two}")), "{of_one} {of_two}");
        assert_eq!(resolve_template(&ann, &shown.0), Some(shown.1), "{of_one} {of_two}");
    }
}

#[test]
fn a_uri_of_nobody_is_the_only_servers_if_there_is_but_one_with_resources() {
    let mut world = world();
    world.apply(key("a/two", json!({"allow": {"servers": ["two", "three"]}})));
    world.offer_all("a/one", &located(&["file:///a"], &[]));
    world.offer_all("a/two", &located(&["file:///b"], &[]));
    world.offer_all("a/three", &Lists { tools: &["add"], ..Lists::default() });

    assert_eq!(resolve(&world.principal("a/ann"), "file:///c"), None);
    let two = world.principal("a/two");
    assert_eq!(resolve(&two, "file:///c").as_deref(), Some("a/two/file:///c"));
    // That of another server is as unknown: nothing tells that it is there.
    assert_eq!(resolve(&two, "file:///a").as_deref(), Some("a/two/file:///a"));
    assert_eq!(resolve(&two, "fairway+a+one+file:///a"), None);

    // One that only says that it has resources counts.
    let mut catalog = Catalog::default();
    catalog.set_server(Json::parse(r#"{"resources":{}}"#).ok(), None, None);
    world.keep_all("a/three", Arc::new(catalog));
    world.build();
    assert_eq!(resolve(&world.principal("a/two"), "file:///c"), None);
}

#[test]
fn what_looks_wrapped_and_is_not_leads_nowhere() {
    let mut world = world();
    world.offer_all("a/one", &located(&["fairway+a+two+x"], &["fairway+{x}", "ui://fairway+{x}"]));
    let ann = world.principal("a/ann");

    for uri in [
        "fairway+",
        "fairway+a",
        "fairway+a+one",
        "fairway+b+one+x",
        "fairway+a+two",
        "fairway+a+nobody+x",
        "fairway+a+b/one+x",
        "ui://fairway+a+one",
    ] {
        assert_eq!(resolve(&ann, uri), None, "{uri}");
    }
    assert_eq!(names(&resources(&ann, &Scope::All)), ["fairway+a+one+fairway+a+two+x"]);
    assert_eq!(
        names(&templates(&ann, &Scope::All)),
        ["fairway+a+one+fairway+{x}", "ui://fairway+a+one+fairway+{x}"]
    );
}

#[test]
fn a_tool_is_shown_with_the_resource_of_its_own_server() {
    let mut world = world();
    let tool = r#"{"name":"map","_meta":{"ui":{"resourceUri":"ui://map"},"ui/resourceUri":"ui://map","x":1}}"#;
    for server in ["a/one", "a/two"] {
        let mut catalog = Catalog::default();
        catalog.add(Json::parse(tool).unwrap()).unwrap();
        catalog.add_resource(Json::parse(r#"{"uri":"ui://map"}"#).unwrap()).unwrap();
        world.keep_all(server, Arc::new(catalog));
    }
    world.build();
    let ann = world.principal("a/ann");

    let all: Vec<_> = ann.tenant.list(&Scope::All, &ann).collect();

    assert_eq!(all[0], &tool.replace("\"map\"", "\"one_map\""));
    let wrapped = tool.replace("ui://map", "ui://fairway+a+two+map");
    assert_eq!(all[1], &wrapped.replace("\"map\"", "\"two_map\""));
    assert_eq!(ann.tenant.list(&scope("two"), &ann).next().unwrap(), tool);
}

/// Servers of two tenants: those of `b` are exposed to `a`.
const SERVERS: [&str; 4] = ["a/s0", "a/s1", "b/s0", "b/s1"];

fn exposed(id: &str, created: i64) -> Entry {
    let (namespace, name) = id.split_once('/').unwrap();
    let spec = json!({"url": "http://host", "exposeTo": ["a"]});
    let entry = from_resource(manifest("McpServer", namespace, name, &spec), &Secrets::default());
    let Entry::Server(server) = entry.unwrap() else { panic!("no server") };
    let mut server = Arc::unwrap_or_clone(server);
    server.claim = claim(created);
    Entry::Server(Arc::new(server))
}

#[derive(Debug, Clone)]
struct Site {
    created: i64,
    resources: BTreeSet<String>,
    templates: BTreeSet<String>,
}

impl Site {
    fn catalog(&self, server: &str) -> Arc<Catalog> {
        let texts = |set: &'_ BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
        let (resources, templates) = (texts(&self.resources), texts(&self.templates));
        let resources: Vec<&str> = resources.iter().map(String::as_str).collect();
        let templates: Vec<&str> = templates.iter().map(String::as_str).collect();
        let lists = Lists { resources: &resources, templates: &templates, ..Lists::default() };
        lists.catalog(server)
    }
}

const PARTS: [&str; 15] = [
    "x", "x/", "y", "xx", "ui://", "file:///", "fairway+", "a+", "b+", "s0+", "s1+", "+", "é", "ê",
    "fair",
];

/// Any URI, some of which look wrapped or begin alike.
fn uri() -> impl Strategy<Value = String> {
    vec(select(&PARTS[..]), 1..5).prop_map(|parts| parts.concat())
}

fn template() -> impl Strategy<Value = String> {
    (prop_oneof![1 => Just(String::new()), 6 => uri()], select(&["{v}", "{+v}", "{v}/z", ""][..]))
        .prop_map(|(start, end)| start + end)
        .prop_filter("empty", |template| !template.is_empty())
}

fn sites() -> impl Strategy<Value = Vec<Site>> {
    let site = || {
        let (resources, templates) = (vec(uri(), 0..5), vec(template(), 0..4));
        (0..3_i64, resources, templates).prop_map(|(created, resources, templates)| Site {
            created,
            resources: resources.into_iter().collect(),
            templates: templates.into_iter().collect(),
        })
    };
    vec(site(), SERVERS.len())
}

fn entries(sites: &[Site]) -> Vec<Entry> {
    let servers = SERVERS.iter().zip(sites).map(|(server, site)| exposed(server, site.created));
    servers
        .chain([
            key("a/root", json!({"allow": {"servers": ["*", "*/*"]}})),
            key("a/ann", json!({})),
            policy("a/ann", &json!([{"user": "ann"}]), &json!([{"servers": ["s0", "b/*"]}])),
        ])
        .collect()
}

fn built(sites: &[Site]) -> World {
    let mut world = World::of(entries(sites));
    for (server, site) in SERVERS.iter().zip(sites) {
        world.keep_all(server, site.catalog(server));
    }
    world.build();
    world
}

/// What anybody can tell of the URIs of a table.
fn seen(world: &World) -> Vec<(Vec<Shown>, Vec<Shown>, u64)> {
    ["a/root", "a/ann"]
        .into_iter()
        .map(|key| {
            let principal = world.principal(key);
            let hash = principal.tenant.resources_hash(&Scope::All, &principal);
            (resources(&principal, &Scope::All), templates(&principal, &Scope::All), hash)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_uri_of_every_server_leads_back_to_it(sites in sites(), uris in vec(uri(), 1..8)) {
        let world = built(&sites);
        let root = world.principal("a/root");
        let listed = sites.iter().flat_map(|site| site.resources.iter().cloned());
        let uris: BTreeSet<String> = uris.into_iter().chain(listed).collect();

        for server in root.tenant.servers_for(&Scope::All, &root) {
            let entry = &server.entry;
            for uri in &uris {
                let shown = root.tenant.expose_uri(uri, entry, &Scope::All);

                let (found, own) =
                    root.tenant.resolve_uri(&shown, &Scope::All, &root).unwrap();
                prop_assert!(Arc::ptr_eq(found, entry), "{} {} {}", uri, entry.name, shown);
                prop_assert_eq!(&*own, uri);
                let scope = Scope::Server(entry.known_as(root.tenant.namespace()));
                prop_assert_eq!(&*root.tenant.expose_uri(uri, entry, &scope), uri);
                let (found, own) = root.tenant.resolve_uri(uri, &scope, &root).unwrap();
                prop_assert!(Arc::ptr_eq(found, entry) && own == *uri);
            }
        }
    }

    #[test]
    fn everything_is_listed_once_and_leads_to_who_lists_it(sites in sites()) {
        let world = built(&sites);
        let root = world.principal("a/root");
        let all = resources(&root, &Scope::All);
        let distinct: BTreeSet<_> = all.iter().map(|(uri, _)| uri).collect();
        let listed = sites.iter().map(|site| site.resources.len()).sum::<usize>();

        prop_assert_eq!((all.len(), distinct.len()), (listed, listed));
        for (uri, origin) in &all {
            prop_assert_eq!(resolve(&root, uri), Some(origin.clone()), "{}", uri);
        }
    }

    #[test]
    fn what_a_template_makes_leads_to_who_lists_it(sites in sites()) {
        let world = built(&sites);
        let root = world.principal("a/root");
        let all = templates(&root, &Scope::All);
        prop_assert_eq!(all.len(), sites.iter().map(|site| site.templates.len()).sum::<usize>());

        for (template, origin) in &all {
            prop_assert_eq!(resolve_template(&root, template), Some(origin.clone()));
            // A value that no list names.
            let filled = |text: &str| text.replace("{v}", "0").replace("{+v}", "0");
            if template.contains('{') {
                prop_assert_eq!(resolve(&root, &filled(template)), Some(filled(origin)));
            }
        }
    }

    #[test]
    fn forbidden_and_unknown_are_one_answer(sites in sites(), uris in vec(uri(), 1..8)) {
        let world = built(&sites);
        let (root, ann) = (world.principal("a/root"), world.principal("a/ann"));

        let uris = uris.into_iter().chain(resources(&root, &Scope::All).into_iter().map(|r| r.0));
        for uri in uris {
            let found = resolve(&ann, &uri);
            prop_assert!(!found.is_some_and(|found| found.starts_with("a/s1/")), "{}", uri);
        }
        prop_assert!(resources(&ann, &Scope::All).iter().all(|(_, o)| !o.starts_with("a/s1/")));
    }

    #[test]
    fn the_order_of_first_lists_is_nothing(
        sites in sites(),
        order in Just((0..SERVERS.len()).collect::<Vec<_>>()).prop_shuffle(),
        entries_order in any::<prop::sample::Index>(),
        builds in vec(any::<bool>(), 20),
    ) {
        let expected = seen(&built(&sites));
        let mut world = World::default();
        let mut builds = builds.into_iter().cycle();
        let mut entries = entries(&sites);
        let middle = entries_order.index(entries.len());
        entries.rotate_left(middle);
        for entry in entries {
            world.entries.apply(entry);
            if builds.next() == Some(true) {
                world.build();
            }
        }

        for at in order.iter().chain(&order) {
            world.keep_all(SERVERS[*at], sites[*at].catalog(SERVERS[*at]));
            if builds.next() == Some(true) {
                world.build();
            }
        }
        world.build();

        prop_assert_eq!(seen(&world), expected);
    }
}

#[test]
fn what_is_compiled_of_an_unchanged_server_is_kept() {
    let mut world = world();
    world.offer_all("a/one", &located(&["file:///a"], &["db://{x}"]));
    world.offer_all("a/two", &located(&["file:///a"], &["db://{x}"]));
    let places = |world: &World| {
        let ann = world.principal("a/ann");
        let resources = ann.tenant.list_resources(&Scope::All, &ann);
        let all = resources.chain(ann.tenant.list_templates(&Scope::All, &ann));
        all.map(|definition| definition.as_ptr()).collect::<Vec<_>>()
    };
    let before = places(&world);

    world.offer_all("a/three", &Lists { tools: &["add"], ..Lists::default() });

    assert_eq!(places(&world), before);
}
