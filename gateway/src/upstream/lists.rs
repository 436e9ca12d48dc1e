//! Reads what a server offers: all pages of all its lists, within bounds.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use gateway_core::{Catalog, CatalogError};
use mcp::Era;
use mcp::error::METHOD_NOT_FOUND;
use mcp::header::ParamHeaders;
use mcp::json::{Json, JsonBuf};
use mcp::members::members;
use mcp::tool::text;
use serde::de::Error;

use super::Upstream;
use super::fault::Fault;
use super::hello::{Hello, method_header, own_request};
use super::leg::{Leg, Outbound};
use super::own::{answer_to, request, result_of};

/// Bounds on a list (DESIGN §4).
const MAX_PAGES: usize = 100;
const MAX_LIST: usize = 16 * 1024 * 1024;
const MAX_ITEMS: usize = 10_000;

/// A list of a server: the method that asks for it, the feature it belongs to, the member of the
/// answer that holds it, and what to do with each of its items.
struct List {
    method: &'static str,
    feature: &'static str,
    member: &'static str,
    add: fn(&mut Catalog, Json<'_>) -> Result<(), CatalogError>,
}

const LISTS: [List; 4] = [
    List { method: "tools/list", feature: "tools", member: "tools", add: Catalog::add },
    List {
        method: "prompts/list",
        feature: "prompts",
        member: "prompts",
        add: Catalog::add_prompt,
    },
    List {
        method: "resources/list",
        feature: "resources",
        member: "resources",
        add: Catalog::add_resource,
    },
    List {
        method: "resources/templates/list",
        feature: "resources",
        member: "resourceTemplates",
        add: Catalog::add_template,
    },
];

/// What could not be taken into the catalog: how much, and why the first.
#[derive(Default)]
struct LeftOut {
    count: usize,
    first: Option<String>,
}

impl LeftOut {
    fn note(&mut self, why: &dyn ToString) {
        self.count += 1;
        self.first.get_or_insert_with(|| why.to_string());
    }
}

pub(super) async fn list_over(upstream: &Arc<Upstream>, leg: &Leg) -> Result<Catalog, Fault> {
    let mut catalog = Catalog::default();
    let Hello { capabilities, instructions, server_info, .. } = leg.hello();
    let [capabilities, instructions, server_info] =
        [capabilities, instructions, server_info].map(|said| said.as_ref().map(JsonBuf::as_json));
    catalog.set_server(capabilities, instructions, server_info);
    let (mut size, mut left_out) = (0, LeftOut::default());
    for list in &LISTS {
        // Many servers of tools alone name no features of theirs.
        if list.feature == "tools" || leg.offers(list.feature) {
            read(upstream, leg, list, &mut catalog, &mut size, &mut left_out).await?;
        }
    }
    if left_out.count > 0 {
        let entry = upstream.entry();
        let (count, first) = (left_out.count, left_out.first.unwrap_or_default());
        tracing::warn!(namespace = %entry.namespace, server = %entry.name, count, first, "some of what the server offers is left out");
    }
    Ok(catalog)
}

async fn read(
    upstream: &Arc<Upstream>,
    leg: &Leg,
    list: &List,
    catalog: &mut Catalog,
    size: &mut usize,
    left_out: &mut LeftOut,
) -> Result<(), Fault> {
    let mut cursor: Option<String> = None;
    let mut seen = HashSet::new();
    let mut items = 0;
    for _ in 0..MAX_PAGES {
        let answer = ask(upstream, leg, list.method, cursor.as_deref()).await?;
        *size += answer.len();
        if *size > MAX_LIST {
            return Err(Fault::TooLarge(MAX_LIST >> 20));
        }
        let result = match result_of(&answer) {
            // A server of prompts has no tools, and does not know the method.
            Err(Fault::Refused(code)) if code == i64::from(METHOD_NOT_FOUND) => return Ok(()),
            other => other?,
        };
        let (definitions, next) =
            page(result, list.member).map_err(|error| Fault::misshapen(&error))?;
        for definition in definitions {
            // One unusable definition hides that item, not the server.
            if items == MAX_ITEMS {
                left_out.note(&format!("more than {MAX_ITEMS} {}", list.member));
            } else if let Err(error) = usable(leg, list, definition) {
                left_out.note(&error);
            } else if let Err(error) = (list.add)(catalog, definition) {
                left_out.note(&error);
            } else {
                items += 1;
            }
        }
        match next {
            Some(next) if seen.insert(next.clone()) => cursor = Some(next),
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// The definitions of a page, and where the next one begins.
fn page<'a>(
    result: Json<'a>,
    member: &'static str,
) -> Result<(Vec<Json<'a>>, Option<String>), serde_json::Error> {
    let [definitions, next] = members(result, &[member, "nextCursor"])?;
    let definitions = definitions.ok_or_else(|| serde_json::Error::missing_field(member))?;
    Ok((serde_json::from_str(definitions.get())?, next.and_then(text).map(Cow::into_owned)))
}

/// A client of 2026-07-28 must not use a tool whose arguments cannot be sent as headers as it wants
/// (basic/transports/streamable-http, custom headers).
fn usable(leg: &Leg, list: &List, definition: Json<'_>) -> Result<(), String> {
    if leg.era() == Era::Legacy || list.feature != "tools" {
        return Ok(());
    }
    ParamHeaders::of_tool(definition).map(drop).map_err(|error| error.to_string())
}

async fn ask(
    upstream: &Arc<Upstream>,
    leg: &Leg,
    method: &'static str,
    cursor: Option<&str>,
) -> Result<Bytes, Fault> {
    let id = leg.next_id();
    let params = cursor.map_or_else(
        || "{}".to_owned(),
        |cursor| format!(r#"{{"cursor":{}}}"#, mcp::modern::quoted(cursor)),
    );
    let out = match leg.era() {
        Era::Legacy => Outbound::own(id, request(id, method, &params), Vec::new()),
        Era::Modern => Outbound::own(id, own_request(id, method, &params), method_header(method)),
    };
    let exchange = leg.send(upstream, out)?;
    answer_to(id, exchange, upstream.entry().timeouts.request).await
}
