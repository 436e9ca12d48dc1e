//! Behaviour of the modern envelope.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;
use crate::Message;
use crate::scan::tests::json;

const ENVELOPE: Envelope<'_> = Envelope {
    protocol_version: VERSION,
    client_capabilities: r#"{"roots":{}}"#,
    client_info: Some(r#"{"name":"c","version":"1"}"#),
    log_level: None,
};

const WRITTEN: &str = concat!(
    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientCapabilities":{"roots":{}},"#,
    r#""io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"}"#
);

fn edited(message: &str, edits: impl Fn(&[u8], Option<Json<'_>>) -> Vec<Edit<'static>>) -> String {
    let Ok(Message::Request { params, .. } | Message::Notification { params, .. }) =
        Message::parse(message.as_bytes())
    else {
        panic!("{message} is no call");
    };
    let out = splice(message.as_bytes(), &mut edits(message.as_bytes(), params));
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn the_envelope_is_put_where_it_belongs() {
    let old = r#""io.modelcontextprotocol/protocolVersion":"x""#;
    for (before, after) in [
        (String::new(), format!(r#","params":{{"_meta":{{{WRITTEN}}}}}"#)),
        (r#","params":null"#.into(), format!(r#","params":{{"_meta":{{{WRITTEN}}}}}"#)),
        (r#","params":{}"#.into(), format!(r#","params":{{"_meta":{{{WRITTEN}}}}}"#)),
        (r#","params":{"_meta":null}"#.into(), format!(r#","params":{{"_meta":{{{WRITTEN}}}}}"#)),
        (r#","params":{"_meta":{}}"#.into(), format!(r#","params":{{"_meta":{{{WRITTEN}}}}}"#)),
        (
            r#","params":{ "a" : 1.0 }"#.into(),
            format!(r#","params":{{ "a" : 1.0,"_meta":{{{WRITTEN}}} }}"#),
        ),
        (
            r#","params":{"_meta":{"progressToken":1e2, "x/y":{"a":[]}},"a":1}"#.into(),
            format!(
                r#","params":{{"_meta":{{"progressToken":1e2, "x/y":{{"a":[]}},{WRITTEN}}},"a":1}}"#
            ),
        ),
        (
            format!(r#","params":{{"_meta":{{{old},"a":1}}}}"#),
            format!(
                r#","params":{{"_meta":{{"io.modelcontextprotocol/protocolVersion":"2026-07-28","a":1,{}}}}}"#,
                WRITTEN.split_once(',').unwrap().1
            ),
        ),
        (r#","params":[1]"#.into(), r#","params":[1]"#.into()),
    ] {
        let message = |params: &str| format!(r#"{{"jsonrpc":"2.0","method":"m"{params},"id":1}}"#);
        let (before, after) = if before.is_empty() {
            (message(""), format!(r#"{{"jsonrpc":"2.0","method":"m","id":1{after}}}"#))
        } else {
            (message(&before), message(&after))
        };

        let out = edited(&before, |message, params| envelope_edits(message, params, &ENVELOPE));

        assert_eq!(out, after, "{before}");
    }
}

fn strip(params: Json<'_>) -> Bytes {
    let text = params.get().as_bytes();
    splice(text, &mut strip_edits(text, Some(params)))
}

#[test]
fn stripping_undoes_the_envelope() {
    for params in [r#"{"a":1,"_meta":{}}"#, r#"{"_meta":{"progressToken":"x"} }"#] {
        let raw = Json::parse(params).unwrap();
        let modern = envelope(Some(raw), &Envelope { log_level: Some("info"), ..ENVELOPE });
        assert_ne!(modern, params);

        let modern = serde_json::from_slice::<Json<'_>>(&modern).unwrap();

        assert_eq!(strip(modern), params);
    }
    let made = envelope(None, &ENVELOPE);
    assert_eq!(strip(serde_json::from_slice(&made).unwrap()), r#"{"_meta":{}}"#);
}

#[test]
fn meta_is_read_and_what_could_be_read_otherwise_is_refused() {
    let params = format!(
        r#"{{"_meta":{{{WRITTEN},"io.modelcontextprotocol/logLevel":"\u0069nfo","progressToken":7,"traceparent":"00-a"}}}}"#
    );
    let meta = Meta::parse(Some(serde_json::from_str(&params).unwrap())).unwrap();

    assert_eq!(meta.protocol_version.as_deref(), Some(VERSION));
    assert_eq!(meta.client_capabilities.map(Json::get), Some(r#"{"roots":{}}"#));
    assert_eq!(meta.log_level.as_deref(), Some("info"));
    assert_eq!(meta.progress_token.map(Json::get), Some("7"));
    assert_eq!(meta.traceparent.as_deref(), Some("00-a"));
    assert_eq!(meta.missing(), None);

    assert_eq!(Meta::parse(None).unwrap().missing(), Some(PROTOCOL_VERSION));
    for params in [
        r#"{"_meta":{},"_meta":{}}"#,
        r#"{"_META":{}}"#,
        r#"{"_meta":7}"#,
        r#"{"_meta":{"progressToken":{}}}"#,
        r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":7}}"#,
        r#"{"_meta":{"io.modelcontextprotocol/protocolversion":"2026-07-28"}}"#,
        r#"{"_meta":{"io.modelcontextprotocol/clientCapabilities":[]}}"#,
        "[1]",
    ] {
        assert!(Meta::parse(Some(serde_json::from_str(params).unwrap())).is_err(), "{params}");
    }
}

#[test]
fn capabilities_allow_what_they_name() {
    let form = ("elicitation/create", r#"{"message":"x"}"#);
    let url = ("elicitation/create", r#"{"mode":"url"}"#);
    let sampling = ("sampling/createMessage", r#"{"messages":[],"tools":null}"#);
    let tools = ("sampling/createMessage", r#"{"tools":[]}"#);
    let roots = ("roots/list", "{}");
    let all = [form, url, sampling, tools, roots, ("vendor/ask", "{}")];
    for (capabilities, allowed) in [
        (r"{}", &[][..]),
        (r#"{"elicitation":null,"roots":null}"#, &[]),
        (r#"{"elicitation":{}}"#, &[form]),
        (r#"{"elicitation":{"form":{}}}"#, &[form]),
        (r#"{"elicitation":{"url":{}}}"#, &[url]),
        (r#"{"elicitation":{"form":{},"url":{}}}"#, &[form, url]),
        (r#"{"sampling":{}}"#, &[sampling]),
        (
            r#"{"sampling":{"tools":{}},"\u0072oots":{"listChanged":true}}"#,
            &[sampling, tools, roots],
        ),
    ] {
        let declared = serde_json::from_str(capabilities).unwrap();
        for (method, params) in all {
            let raw = Some(serde_json::from_str(params).unwrap());
            assert_eq!(
                declares(Some(declared), method, raw),
                allowed.contains(&(method, params)),
                "{capabilities} {method} {params}"
            );
            assert!(!declares(None, method, raw));
            if let Some(required) = required_capability(method, raw) {
                assert!(declares(serde_json::from_str(required).ok(), method, raw), "{required}");
            }
        }
    }
    let extensions = r#"{"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;
    let extensions = serde_json::from_str(extensions).unwrap();
    assert!(declares_extension(Some(extensions), "io.modelcontextprotocol/tasks"));
    assert!(!declares_extension(Some(extensions), "io.modelcontextprotocol/ui"));
}

proptest! {
    #[test]
    fn an_envelope_changes_only_its_own_members(
        others in prop::collection::vec(("[a-z/]{1,9}", json()), 0..5),
        meta in prop::option::of(prop::collection::vec(("[a-z/]{1,9}", json()), 0..5)),
        pretty in any::<bool>(),
    ) {
        let mut params: Map<String, Value> = others.into_iter().collect();
        if let Some(meta) = meta {
            params.insert("_meta".into(), Value::Object(meta.into_iter().collect()));
        }
        let value = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "m", "params": params});
        let message = if pretty { format!("{value:#}") } else { value.to_string() };

        let modern = edited(&message, |message, params| envelope_edits(message, params, &ENVELOPE));
        let back = edited(&modern, strip_edits);

        let mut expected = value;
        let meta = &mut expected["params"]["_meta"];
        if meta.is_null() {
            *meta = Value::Object(Map::new());
        } else {
            prop_assert_eq!(&back, &message);
        }
        prop_assert_eq!(serde_json::from_str::<Value>(&back).unwrap(), expected.clone());
        expected["params"]["_meta"].as_object_mut().unwrap().extend(
            serde_json::from_str::<Map<String, Value>>(&format!("{{{WRITTEN}}}")).unwrap(),
        );
        prop_assert_eq!(serde_json::from_str::<Value>(&modern).unwrap(), expected);
    }
}
