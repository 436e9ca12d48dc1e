//! Which of the protocol's two eras a request belongs to. Performs no I/O.

use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;

use crate::json::Json;

/// The first revision without `initialize`.
const FIRST_MODERN: &str = "2026-07-28";

/// Legacy revisions begin with `initialize`; modern ones carry version and capabilities in every
/// request (2026-07-28, basic/versioning).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Era {
    /// 2024-11-05 to 2025-11-25.
    Legacy,
    /// 2026-07-28 and later.
    Modern,
}

impl Era {
    /// Tells the era of a request by its content: a modern `_meta`, the method only that era has,
    /// or a modern `MCP-Protocol-Version` header. `initialize` is legacy whatever the header says,
    /// unless its own `_meta` is modern.
    pub fn of(method: &str, params: Option<Json<'_>>, version_header: Option<&str>) -> Self {
        let modern_meta = params.is_some_and(declares_version);
        let modern_header = version_header.is_some_and(|version| version >= FIRST_MODERN);
        if modern_meta || method == "server/discover" || (modern_header && method != "initialize") {
            Self::Modern
        } else {
            Self::Legacy
        }
    }
}

fn declares_version(params: Json<'_>) -> bool {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow, rename = "_meta")]
        meta: Option<Meta<'a>>,
    }
    #[derive(Deserialize)]
    struct Meta<'a> {
        #[serde(borrow, rename = "io.modelcontextprotocol/protocolVersion")]
        version: Option<Json<'a>>,
    }
    // A search of the text first: only requests that mention the key are parsed for it.
    static KEY: LazyLock<Finder<'static>> =
        LazyLock::new(|| Finder::new(b"io.modelcontextprotocol/protocolVersion"));
    KEY.find(params.get().as_bytes()).is_some()
        && serde_json::from_str::<Params<'_>>(params.get())
            .is_ok_and(|params| params.meta.is_some_and(|meta| meta.version.is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_decides() {
        let modern = r#"{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}"#;
        let quoted = r#"{"arguments":{"text":"io.modelcontextprotocol/protocolVersion"}}"#;
        for (method, params, header, era) in [
            ("initialize", "{}", None, Era::Legacy),
            ("initialize", "{}", Some("2026-07-28"), Era::Legacy),
            ("initialize", modern, None, Era::Modern),
            ("server/discover", "{}", None, Era::Modern),
            ("tools/call", modern, None, Era::Modern),
            ("tools/call", quoted, None, Era::Legacy),
            ("tools/call", "{}", Some("2026-07-28"), Era::Modern),
            ("tools/call", "{}", Some("2025-11-25"), Era::Legacy),
        ] {
            let raw = Json::parse(params).unwrap();
            assert_eq!(Era::of(method, Some(raw), header), era, "{method} {params} {header:?}");
        }
    }
}
