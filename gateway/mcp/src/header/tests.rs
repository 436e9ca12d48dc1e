//! Behaviour of the header rules, after the test cases of SEP-2243.

use proptest::prelude::*;

use super::*;
use crate::json::Json;

fn raw_of(text: &str) -> Json<'_> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn values_are_encoded_as_the_specification_shows() {
    for (value, encoded) in [
        ("us-west1", "us-west1"),
        ("us west 1", "us west 1"),
        ("", ""),
        ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("us-west1 ", "=?base64?dXMtd2VzdDEg?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("\tindented", "=?base64?CWluZGVudGVk?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ("file:///path/to/file%20name.txt?id=1", "file:///path/to/file%20name.txt?id=1"),
    ] {
        assert_eq!(encode(value), encoded);
        assert_eq!(decode(encoded).as_deref(), Ok(value), "{encoded}");
    }
}

#[test]
fn what_only_looks_like_base64_is_itself() {
    for literal in ["SGVsbG8=", "=?base64?SGVsbG8=", "=?BASE64?SGVsbG8=?=", "=?base64?="] {
        assert_eq!(decode(literal).as_deref(), Ok(literal));
    }
    for wrong in ["=?base64?SGVsbG8?=", "=?base64?SGVs!!!bG8=?=", "=?base64?/w==?=", "é", "a\nb"] {
        assert!(decode(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn names_stand_where_each_method_has_them() {
    for (method, params, name) in [
        ("tools/call", r#"{"name":"a","uri":"b"}"#, Some("\"a\"")),
        ("prompts/get", r#"{"n\u0061me":"a"}"#, Some("\"a\"")),
        ("resources/read", r#"{"uri":"b"}"#, Some("\"b\"")),
        ("tasks/cancel", r#"{"taskId":"t"}"#, Some("\"t\"")),
        ("tools/call", "{}", None),
        ("tools/list", r#"{"name":"a"}"#, None),
        ("completion/complete", r#"{"ref":{"name":"a"}}"#, None),
    ] {
        assert_eq!(expected_name(method, Some(raw_of(params))).map(Json::get), name, "{method}");
        assert!(expected_name(method, None).is_none());
    }
}

#[test]
fn headers_must_say_what_the_body_says() {
    let right =
        Headers { version: Some("2026-07-28"), method: Some("tools/call"), name: Some("foo") };
    let told = |name: &str, headers: Headers<'_>| {
        check("tools/call", Some("2026-07-28"), Some(raw_of(name)), &headers)
            .map_err(|error| error.to_string())
    };

    assert_eq!(told("\"foo\"", right), Ok(()));
    assert_eq!(told("\"f\\u006fo\"", right), Ok(()));
    assert_eq!(told("\"foo\"", Headers { name: Some("=?base64?Zm9v?="), ..right }), Ok(()));
    for (headers, expected) in [
        (
            Headers { name: Some("bar"), ..right },
            "header mismatch: Mcp-Name is 'bar', but the body says 'foo'",
        ),
        (
            Headers { name: None, ..right },
            "header mismatch: Mcp-Name is missing, the body says 'foo'",
        ),
        (
            Headers { name: Some("=?base64?Zm9?="), ..right },
            "header mismatch: Mcp-Name is not valid base64",
        ),
        (
            Headers { method: Some("TOOLS/CALL"), ..right },
            "header mismatch: Mcp-Method is 'TOOLS/CALL', but the body says 'tools/call'",
        ),
        (
            Headers { method: None, ..right },
            "header mismatch: Mcp-Method is missing, the body says 'tools/call'",
        ),
        (
            Headers { version: Some("2025-11-25"), ..right },
            "header mismatch: MCP-Protocol-Version is '2025-11-25', but the body says '2026-07-28'",
        ),
        (
            Headers { version: None, ..right },
            "header mismatch: MCP-Protocol-Version is missing, the body says '2026-07-28'",
        ),
    ] {
        assert_eq!(told("\"foo\"", headers), Err(expected.to_owned()));
    }
    let list = Headers { method: Some("tools/list"), name: Some("x"), ..right };
    assert_eq!(check("tools/list", Some("2026-07-28"), None, &list), Ok(()));
}

const SCHEMA: &str = r#"{"type":"object","properties":{
    "region":{"type":"string","x-mcp-header":"Region"},
    "x-mcp-header":{"type":"string"},
    "where":{"type":"object","properties":{"count":{"type":"integer","x-mcp-header":"Count"}}},
    "dry":{"type":"boolean","x-mcp-header":"Method","default":{"x-mcp-header":"no schema"}},
    "other":{"type":"array","items":{"type":"string"}}
},"$defs":{"x-mcp-header":{"type":"string"}}}"#;

#[test]
fn arguments_are_repeated_where_the_schema_says() {
    let headers = ParamHeaders::of_schema(raw_of(SCHEMA)).unwrap();
    for (arguments, expected) in [
        (
            r#"{"region":"us-west1","where":{"count":42},"dry":false}"#,
            "Region: us-west1|Count: 42|Method: false",
        ),
        (
            r#"{"dry":true,"where":{"count":4.2e1},"region":"\u65e5"}"#,
            "Region: =?base64?5pel?=|Count: 42|Method: true",
        ),
        (r#"{"where":{"count":-7,"region":"x"},"region":null}"#, "Count: -7"),
        (r#"{"where":{"count":9007199254740993},"region":""}"#, "Region: |Count: 9007199254740993"),
        (r#"{"where":[{"count":1}],"region":{},"dry":[]}"#, ""),
        ("{}", ""),
    ] {
        let arguments = raw_of(arguments);
        let written: Vec<(&str, Cow<'_, str>)> = headers.values(Some(arguments)).collect();
        let found: Vec<String> = written
            .iter()
            .map(|(name, value)| format!("{}: {value}", name.strip_prefix("Mcp-Param-").unwrap()))
            .collect();
        assert_eq!(found.join("|"), expected, "{}", arguments.get());

        let lookup = |name: &str| {
            written.iter().find(|(header, _)| *header == name).map(|(_, value)| &**value)
        };
        assert_eq!(headers.check(Some(arguments), lookup), Ok(()), "{}", arguments.get());
    }
    assert_eq!(headers.values(None).count(), 0);
    assert_eq!(headers.check(None, |_| None), Ok(()));
    assert!(ParamHeaders::of_tool(raw_of(r#"{"name":"a"}"#)).unwrap().is_empty());
}

#[test]
fn headers_of_arguments_must_say_what_the_arguments_say() {
    let headers = ParamHeaders::of_schema(raw_of(SCHEMA)).unwrap();
    for (arguments, name, value, error) in [
        (r#"{"where":{"count":42}}"#, "Count", Some("42.0"), None),
        (r#"{"where":{"count":42.0}}"#, "Count", Some("42"), None),
        (r#"{"where":{"count":42}}"#, "Count", Some("43"), Some("'43', but the body says '42'")),
        (r#"{"where":{"count":42}}"#, "Count", Some("x"), Some("'x', but")),
        (r#"{"where":{"count":42}}"#, "Count", None, Some("missing, the body says '42'")),
        (r#"{"where":{"count":9007199254740993}}"#, "Count", Some("9007199254740992"), Some("but")),
        (r#"{"region":"42"}"#, "Region", Some("42.0"), Some("but the body says '42'")),
        (r#"{"region":null}"#, "Region", Some("null"), Some("the body has no value")),
        ("{}", "Region", Some(""), Some("the body has no value")),
        (r#"{"region":"a"}"#, "Region", Some("=?base64?YQ?="), Some("not valid base64")),
        (r#"{"region":"a","region":"b"}"#, "Region", Some("b"), Some("stands twice")),
        (r#"{"where":{"count":1},"where":{}}"#, "Count", None, Some("stands twice")),
    ] {
        let full = format!("Mcp-Param-{name}");
        let told = headers.check(Some(raw_of(arguments)), |name| value.filter(|_| name == full));
        match (told, error) {
            (Ok(()), None) => {}
            (Err(told), Some(error)) if told.to_string().contains(error) => {
                assert!(told.to_string().contains(&full), "{told}");
            }
            (told, _) => panic!("{arguments} with {value:?}: {told:?}"),
        }
    }
}

#[test]
fn tools_with_invalid_annotations_are_told() {
    let string = |name: &str| format!(r#"{{"type":"string","x-mcp-header":{name}}}"#);
    let one = |name: &str| format!(r#"{{"properties":{{"a":{}}}}}"#, string(name));
    let deep =
        format!("{}{}{}", r#"{"properties":{"a":"#.repeat(70), string("\"A\""), "}}".repeat(70));
    for (schema, error) in [
        (one("\"\""), "token"),
        (one("\"My Region\""), "token"),
        (one("\"Region:Primary\""), "token"),
        (one("\"Région\""), "token"),
        (one("\"Region\\t1\""), "token"),
        (one("7"), "token"),
        (
            format!(
                r#"{{"properties":{{"a":{},"b":{}}}}}"#,
                string("\"Region\""),
                string("\"REGION\"")
            ),
            "twice",
        ),
        (r#"{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}"#.into(), "type"),
        (r#"{"properties":{"a":{"type":"object","x-mcp-header":"A"}}}"#.into(), "type"),
        (r#"{"properties":{"a":{"type":["string","null"],"x-mcp-header":"A"}}}"#.into(), "type"),
        (r#"{"properties":{"a":{"b":{},"x-mcp-header":"A"}}}"#.into(), "type"),
        (r#"{"x-mcp-header":"A","type":"string"}"#.into(), "only in properties"),
        (format!(r#"{{"items":{}}}"#, string("\"A\"")), "only in properties"),
        (format!(r#"{{"anyOf":[{}]}}"#, one("\"A\"")), "only in properties"),
        (format!(r#"{{"$defs":{{"a":{}}}}}"#, string("\"A\"")), "only in properties"),
        (format!(r#"{{"properties":{{"a":{{"items":{}}}}}}}"#, one("\"A\"")), "only in properties"),
        (
            format!(r#"{{"if":{}}}"#, one("\"A\"")).replace("x-mcp", r"\u0078-mcp"),
            "only in properties",
        ),
        (deep, "levels"),
    ] {
        let told = ParamHeaders::of_schema(raw_of(&schema)).expect_err(&schema).to_string();
        assert!(told.contains(error), "{schema}: {told}");
    }
    let many: Vec<String> =
        (0..65).map(|at| format!("\"a{at}\":{}", string(&format!("\"A{at}\"")))).collect();
    let many = format!(r#"{{"properties":{{{}}}}}"#, many.join(","));
    assert_eq!(ParamHeaders::of_schema(raw_of(&many)), Err(InvalidHeader::TooMany));
}

proptest! {
    #[test]
    fn every_value_survives_a_header(value in any::<String>()) {
        let encoded = encode(&value);

        prop_assert!(encoded.bytes().all(|byte| matches!(byte, b' '..=b'~')));
        prop_assert_eq!(encoded.trim(), &*encoded);
        prop_assert_eq!(&*decode(&encoded).unwrap(), &*value);
    }

    #[test]
    fn what_is_repeated_is_accepted(value in crate::scan::tests::json(), count in any::<i64>()) {
        let headers = ParamHeaders::of_schema(raw_of(SCHEMA)).unwrap();
        let text = serde_json::json!({"region": value, "where": {"count": count}}).to_string();
        let arguments = Some(raw_of(&text));
        let written: Vec<(&str, Cow<'_, str>)> = headers.values(arguments).collect();

        let checked = headers.check(arguments, |name| {
            written.iter().find(|(header, _)| *header == name).map(|(_, value)| &**value)
        });

        prop_assert_eq!(checked, Ok(()));
    }
}
