//! Where URIs of resources stand in what a server says, so that those of several servers can be kept
//! apart. Performs no I/O.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json::Json;

use crate::object::{elements, member, unescape};

/// All raw URIs in the `result` of a request with this method, or in the params of a notification with
/// it, in order. One search, if there are none.
pub fn uris<'a>(value: Json<'a>, method: &str) -> Vec<Json<'a>> {
    let text = value.get();
    static URI: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"uri\""));
    static TEMPLATE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"uriTemplate\""));
    static INTERFACE: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"esourceUri\""));
    let key = match method {
        "resources/read"
        | "resources/list"
        | "tools/call"
        | "prompts/get"
        | "tasks/result"
        | "tasks/get"
        | "notifications/tasks"
        | "notifications/resources/updated" => &URI,
        "resources/templates/list" => &TEMPLATE,
        "tools/list" => &INTERFACE,
        _ => return Vec::new(),
    };
    if key.find(text.as_bytes()).is_none() {
        return Vec::new();
    }
    let mut found = Vec::new();
    match method {
        "resources/read" => each(text, "contents", |part| found.extend(member(part, "uri"))),
        "resources/list" => each(text, "resources", |part| found.extend(member(part, "uri"))),
        "resources/templates/list" => {
            each(text, "resourceTemplates", |part| found.extend(member(part, "uriTemplate")));
        }
        "tools/list" => each(text, "tools", |tool| in_tool(tool, &mut found)),
        "prompts/get" => each(text, "messages", |message| {
            let content = member(message, "content").unwrap_or_default();
            in_content(content, &mut found);
            elements(content).for_each(|block| in_content(block, &mut found));
        }),
        "notifications/resources/updated" => found.extend(member(text, "uri")),
        // What became of the call that the task was made for.
        "tasks/get" | "notifications/tasks" => {
            let done = member(text, "result").unwrap_or_default();
            each(done, "content", |block| in_content(block, &mut found));
        }
        _ => each(text, "content", |block| in_content(block, &mut found)),
    }
    strings(&found)
}

fn each<'a>(object: &'a str, name: &str, visit: impl FnMut(&'a str)) {
    member(object, name).into_iter().flat_map(elements).for_each(visit);
}

/// A link, or a resource within the content.
fn in_content<'a>(block: &'a str, found: &mut Vec<&'a str>) {
    match member(block, "type").and_then(unescape).as_deref() {
        Some("resource_link") => found.extend(member(block, "uri")),
        Some("resource") => {
            found.extend(member(block, "resource").and_then(|resource| member(resource, "uri")));
        }
        _ => {}
    }
}

/// Of its user interface (extension `io.modelcontextprotocol/ui`).
fn in_tool<'a>(tool: &'a str, found: &mut Vec<&'a str>) {
    let meta = member(tool, "_meta").unwrap_or_default();
    found.extend(member(meta, "ui").and_then(|ui| member(ui, "resourceUri")));
    // As drafts of the extension had it, and servers still send beside the other.
    found.extend(member(meta, "ui/resourceUri"));
}

fn strings<'a>(found: &[&'a str]) -> Vec<Json<'a>> {
    found.iter().filter(|uri| uri.starts_with('"')).map(|uri| Json::part(uri)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_found_at_known_places_only() {
        let link = r#"{"type":"resource_link","uri":"a","name":"uri"}"#;
        let embedded = r#"{"type":"resource","resource":{"uri":"b","text":"{\"uri\":1}"}}"#;
        let text = r#"{"type":"text","text":"\"uri\":\"no\"","uri":"no"}"#;
        let tool =
            r#"{"name":"t","_meta":{"ui":{"resourceUri":"ui://x"},"ui/resourceUri":"ui://x"}}"#;
        for (method, value, expected) in [
            (
                "resources/read",
                r#"{"contents":[{"text":"x","uri":"a"},{"uri":"\u0062"},{"uri":7}]}"#.to_owned(),
                r#""a" "\u0062""#,
            ),
            ("resources/list", r#"{"resources":[{"uri":"a"}],"uri":"no"}"#.to_owned(), "\"a\""),
            (
                "resources/templates/list",
                r#"{"resourceTemplates":[{"uriTemplate":"a/{b}"}]}"#.to_owned(),
                "\"a/{b}\"",
            ),
            (
                "tools/call",
                format!(
                    r#"{{"structuredContent":{{"uri":"no"}},"content":[{link},{text},{embedded}]}}"#
                ),
                "\"a\" \"b\"",
            ),
            (
                "prompts/get",
                format!(
                    r#"{{"messages":[{{"content":{embedded}}},{{"content":[{link},{text}]}}]}}"#
                ),
                "\"b\" \"a\"",
            ),
            (
                "tasks/get",
                format!(r#"{{"content":[{link}],"result":{{"content":[{embedded}]}}}}"#),
                "\"b\"",
            ),
            ("tools/list", format!(r#"{{"tools":[{tool},{{}}]}}"#), "\"ui://x\" \"ui://x\""),
            ("notifications/resources/updated", r#"{"uri":"a"}"#.to_owned(), "\"a\""),
            ("tools/call", r#"{"content":[]}"#.to_owned(), ""),
            ("tools/call", "null".to_owned(), ""),
            ("ping", r#"{"uri":"no"}"#.to_owned(), ""),
        ] {
            let value = serde_json::from_str(&value).unwrap();
            let found: Vec<_> = uris(value, method).into_iter().map(Json::get).collect();
            assert_eq!(found.join(" "), expected, "{method}");
        }
    }
}
