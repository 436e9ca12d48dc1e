//! Definitions as they are read, changed and stored.

use super::*;

fn raw(json: &str) -> Json<'_> {
    Json::parse(json).unwrap()
}

fn parse(json: &str) -> Tool {
    Tool::parse(raw(json)).unwrap()
}

const fn named(name: &str) -> Change<'_> {
    Change { name, description: None, title: None, wrap: None }
}

#[test]
fn renaming_touches_the_name_alone() {
    let json = r#"{"x-vendor": 1.0, "name":"a\u0064d","inputSchema":{"name":"q"} }"#;
    let tool = parse(json);

    assert_eq!(&*tool.name, "add");
    assert_eq!(tool.render(&named("add")), json);
    assert_eq!(
        tool.render(&named("calc_add")),
        r#"{"x-vendor": 1.0, "name":"calc_add","inputSchema":{"name":"q"} }"#
    );
}

#[test]
fn a_description_is_replaced_or_added() {
    for (json, name, expected) in [
        (r#"{"description":"old","name":"a"}"#, "b", r#"{"description":"n\"w","name":"b"}"#),
        (r#"{"description":"old","name":"a"}"#, "a", r#"{"description":"n\"w","name":"a"}"#),
        (r#"{"description":null,"name":"a"}"#, "a", r#"{"description":"n\"w","name":"a"}"#),
        (r#"{"name":"a","x":1}"#, "a", r#"{"name":"a","description":"n\"w","x":1}"#),
    ] {
        let change = Change { description: Some("n\"w"), ..named(name) };
        assert_eq!(parse(json).render(&change), expected, "{json}");
    }
}

#[test]
fn a_title_is_added_where_there_is_none() {
    for (json, expected) in [
        (r#"{"name":"a.b"}"#, r#"{"name":"a_b","title":"a.b"}"#),
        (r#"{"name":"a.b","title":"A"}"#, r#"{"name":"a_b","title":"A"}"#),
        (r#"{"name":"a.b","title":null}"#, r#"{"name":"a_b","title":null}"#),
        (
            r#"{"name":"a.b","annotations":{"title":"A"}}"#,
            r#"{"name":"a_b","annotations":{"title":"A"}}"#,
        ),
    ] {
        let change = Change { title: Some("a.b"), ..named("a_b") };
        assert_eq!(parse(json).render(&change), expected, "{json}");
    }
}

#[test]
fn the_hash_is_of_what_a_definition_says() {
    let hash = |json: &str| parse(json).hash;
    let one = hash(r#"{"name":"a","inputSchema":{"x":1,"y":[1,2]}}"#);

    assert_eq!(one, hash(r#"{ "inputSchema":{"y":[1,2],"x":1}, "name":"\u0061"}"#));
    for other in [
        r#"{"name":"a","inputSchema":{"x":1,"y":[2,1]}}"#,
        r#"{"name":"a","inputSchema":{"x":1,"y":[12]}}"#,
        r#"{"name":"a","inputSchema":{"x":"1","y":[1,2]}}"#,
        r#"{"name":"a","inputSchema":{"x":1,"y":[1,2]},"description":""}"#,
        r#"{"name":"a","inputSchema":{"x":1e400,"y":[1,2]}}"#,
    ] {
        assert_ne!(one, hash(other), "{other}");
    }
    // As deep as may be.
    let deep = format!(r#"{{"name":"a","x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let deep = Tool::parse(serde_json::from_str(&deep).unwrap()).unwrap();
    assert_ne!(one, deep.hash);
}

#[test]
fn a_catalog_is_stored_as_it_was() {
    let mut catalog = Catalog::default();
    catalog.add(raw(r#"{ "name":"a", "x":1.0 }"#)).unwrap();
    catalog.add(raw(r#"{"name":"b"}"#)).unwrap();

    let read = Catalog::from_json(&catalog.to_json()).unwrap();

    assert_eq!(read, catalog);
    assert_eq!(read.hash(), catalog.hash());
    assert_eq!(Catalog::from_json(b"[]").unwrap(), Catalog::default());
    assert!(Catalog::from_json(b"{}").is_err());
}

#[test]
fn definitions_without_a_name_and_duplicates_are_refused() {
    let mut catalog = Catalog::default();
    catalog.add(raw(r#"{"name":"a"}"#)).unwrap();

    for json in [
        r#"{"name":"a"}"#,
        r#"{"name":"\u0061"}"#,
        r#"{"name":""}"#,
        r#"{"name":1}"#,
        r#"{"name":null}"#,
        r#"{"name":"b","name":"c"}"#,
        "{}",
        "[]",
        "7",
    ] {
        assert!(catalog.add(raw(json)).is_err(), "{json}");
    }
    assert_eq!(catalog.tools().len(), 1);
}

#[test]
fn hints_tell_whether_a_call_may_be_sent_twice() {
    for (hints, replayable) in [
        (r#"{"readOnlyHint":true}"#, true),
        (r#"{"idempotentHint":true,"readOnlyHint":false}"#, true),
        (r#"{"title":"x"}"#, false),
        (r#"{"readOnlyHint":null,"idempotentHint":true}"#, true),
        (r#"{"readOnlyHint":"yes"}"#, false),
        ("null", false),
        ("[]", false),
    ] {
        let tool = parse(&format!(r#"{{"name":"a","annotations":{hints}}}"#));
        assert_eq!(tool.replayable, replayable, "{hints}");
    }
}

fn add_all(catalog: &mut Catalog) {
    catalog.add(raw(r#"{ "name":"a", "x":1.0 }"#)).unwrap();
    catalog.add_prompt(raw(r#"{ "name":"a", "x":1.0 }"#)).unwrap();
    catalog.add_resource(raw(r#"{"x":1.0, "uri":"x:\/\/a","name":"A"}"#)).unwrap();
    catalog.add_template(raw(r#"{"uriTemplate":"x://{a}" }"#)).unwrap();
}

#[test]
fn everything_a_server_says_is_stored_as_it_was() {
    let mut catalog = Catalog::default();
    add_all(&mut catalog);
    catalog.set_server(
        Some(raw(r#"{"prompts":{}, "x":1.0}"#)),
        Some(raw(r#""\u0041sk.""#)),
        Some(raw(r#"{"name":"s", "version":"1"}"#)),
    );

    let json = catalog.to_json();
    let read = Catalog::from_json(&json).unwrap();

    assert_eq!(read, catalog);
    assert_eq!((read.hash(), read.whole_hash()), (catalog.hash(), catalog.whole_hash()));
    assert_eq!(read.to_json(), json);
    assert!(read.has_prompts() && read.has_resources());
    assert_eq!(&*read.resources()[0].uri, "x://a");
    assert_eq!(read.instructions().unwrap(), r#""\u0041sk.""#);
    let later = br#"{"tools":[],"later":{}}"#;
    assert_eq!(Catalog::from_json(later).unwrap(), Catalog::default());
}

#[test]
fn tools_alone_are_what_an_earlier_version_stored() {
    let read = Catalog::from_json(br#" [{"name":"a"},{"name":"b"}]"#).unwrap();

    assert_eq!(read.tools().len(), 2);
    assert!(!read.has_prompts() && !read.has_resources() && read.capabilities().is_none());
}

#[test]
fn each_list_has_names_of_its_own_and_none_twice() {
    let mut catalog = Catalog::default();
    add_all(&mut catalog);
    let before = catalog.clone();

    for (listed, json, message) in [
        (Listed::Prompt, r#"{"name":"a"}"#, "two prompts have the name a"),
        (Listed::Prompt, r#"{"title":"a"}"#, "a prompt's definition cannot be read"),
        (Listed::Prompt, r#"{"name":7}"#, "a prompt's name is not a string"),
        (Listed::Resource, r#"{"uri":"x://a"}"#, "two resources have the uri x://a"),
        (Listed::Resource, r#"{"name":"a"}"#, "a resource's definition cannot be read"),
        (Listed::Resource, r#"{"uri":""}"#, "a resource's uri is not a string"),
        (Listed::Template, r#"{"uriTemplate":"x://{a}"}"#, "two resource templates have"),
        (Listed::Template, r#"{"uri":"x://{b}"}"#, "a resource template's definition cannot"),
    ] {
        let json = raw(json);
        let added = match listed {
            Listed::Tool => catalog.add(json),
            Listed::Prompt => catalog.add_prompt(json),
            Listed::Resource => catalog.add_resource(json),
            Listed::Template => catalog.add_template(json),
        };

        let error = added.unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
    assert_eq!(catalog, before);
}

#[test]
fn the_hash_is_of_tools_and_the_whole_hash_of_everything() {
    let mut tools = Catalog::default();
    tools.add(raw(r#"{"name":"a", "x":1.0}"#)).unwrap();
    let mut whole = Catalog::default();
    add_all(&mut whole);
    assert_eq!(tools.hash(), whole.hash());
    assert_ne!(tools.whole_hash(), whole.whole_hash());

    for (more, differs) in [
        (r#"{"tools":[{"name":"a","x":1.0}]}"#, false),
        (r#"{"tools":[{"name":"a","x":1.0}],"prompts":[{"name":"p"}]}"#, true),
        (r#"{"tools":[{"name":"a","x":1.0}],"resources":[{"uri":"x"}]}"#, true),
        (r#"{"tools":[{"name":"a","x":1.0}],"templates":[{"uriTemplate":"x"}]}"#, true),
        (r#"{"tools":[{"name":"a","x":1.0}],"capabilities":{}}"#, true),
        (r#"{"tools":[{"name":"a","x":1.0}],"instructions":"x"}"#, true),
        (r#"{"tools":[{"name":"a","x":1.0}],"serverInfo":{}}"#, true),
        (r#"{"tools":[{"name":"a","x":1.1}]}"#, true),
    ] {
        let other = Catalog::from_json(more.as_bytes()).unwrap();
        assert_eq!(other.whole_hash() != tools.whole_hash(), differs, "{more}");
    }
    // The order of a list, and of members, may be another each time.
    let one = br#"{"tools":[],"prompts":[{"name":"p","x":1},{"name":"q"}]}"#;
    let two = br#"{"tools":[],"prompts":[{"name":"q"},{"x":1,"name":"p"}]}"#;
    let hash = |json: &[u8]| Catalog::from_json(json).unwrap().whole_hash();
    assert_eq!(hash(one), hash(two));
}

#[test]
fn the_resources_that_a_tool_is_shown_with_are_found_and_wrapped() {
    let wrap = |uri: &str| format!("w+{uri}");
    for (meta, wrapped) in [
        (r#"{"ui":{"resourceUri":"ui://a"}}"#, r#"{"ui":{"resourceUri":"w+ui://a"}}"#),
        (
            r#"{"ui":{"x":1,"resourceUri":"a"},"y":2}"#,
            r#"{"ui":{"x":1,"resourceUri":"w+a"},"y":2}"#,
        ),
        (r#"{"ui/resourceUri":"a"}"#, r#"{"ui/resourceUri":"w+a"}"#),
        (r#"{"ui":{"resourceUri":7}}"#, r#"{"ui":{"resourceUri":7}}"#),
        (r#"{"ui":7,"ui/resourceUri":"a"}"#, r#"{"ui":7,"ui/resourceUri":"w+a"}"#),
        ("7", "7"),
        ("null", "null"),
    ] {
        let tool = parse(&format!(r#"{{"_meta":{meta},"name":"a"}}"#));
        let change = Change { wrap: Some(&wrap), ..named("a") };

        assert_eq!(tool.render(&change), format!(r#"{{"_meta":{wrapped},"name":"a"}}"#), "{meta}");
    }
}
