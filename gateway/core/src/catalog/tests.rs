//! Definitions as they are read, changed and stored.

use super::*;

fn raw(json: &str) -> Box<RawValue> {
    serde_json::from_str(json).unwrap()
}

fn parse(json: &str) -> Tool {
    Tool::parse(&raw(json)).unwrap()
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
    assert_ne!(one, hash(&deep));
}

#[test]
fn a_catalog_is_stored_as_it_was() {
    let mut catalog = Catalog::default();
    catalog.add(&raw(r#"{ "name":"a", "x":1.0 }"#)).unwrap();
    catalog.add(&raw(r#"{"name":"b"}"#)).unwrap();

    let read = Catalog::from_json(&catalog.to_json()).unwrap();

    assert_eq!(read, catalog);
    assert_eq!(read.hash(), catalog.hash());
    assert_eq!(Catalog::from_json(b"[]").unwrap(), Catalog::default());
    assert!(Catalog::from_json(b"{}").is_err());
}

#[test]
fn definitions_without_a_name_and_duplicates_are_refused() {
    let mut catalog = Catalog::default();
    catalog.add(&raw(r#"{"name":"a"}"#)).unwrap();

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
        assert!(catalog.add(&raw(json)).is_err(), "{json}");
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
