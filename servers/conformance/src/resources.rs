//! The resources: two that never change, one that can be watched, and a template.

use rmcp::{
    ErrorData,
    model::{
        CacheScope, ListResourceTemplatesResult, ListResourcesResult, ReadResourceResult, Resource,
        ResourceContents, ResourceTemplate,
    },
};
use serde_json::json;

use crate::{server::TTL_MS, tools::RED_PIXEL};

/// A change of the list shows in what the last resource says of itself.
pub(crate) fn list(version: u64) -> ListResourcesResult {
    let resources = vec![
        Resource::new("test://static-text", "Static text")
            .with_description("A text that never changes.")
            .with_mime_type("text/plain"),
        Resource::new("test://static-binary", "Static binary")
            .with_description("An image of one red pixel.")
            .with_mime_type("image/png"),
        Resource::new(WATCHED, "Watched resource")
            .with_description("A text to subscribe to; test_trigger_resource_update announces it.")
            .with_mime_type("text/plain"),
        Resource::new("test://changing", "Changing resource")
            .with_description(format!("Version {version} of what the list says of this resource."))
            .with_mime_type("text/plain"),
    ];
    ListResourcesResult::with_all_items(resources)
        .with_ttl_ms(TTL_MS)
        .with_cache_scope(CacheScope::Public)
}

pub(crate) fn templates() -> ListResourceTemplatesResult {
    let template = ResourceTemplate::new(TEMPLATE, "Template")
        .with_description("A resource for each id.")
        .with_mime_type("application/json");
    ListResourceTemplatesResult::with_all_items(vec![template])
        .with_ttl_ms(TTL_MS)
        .with_cache_scope(CacheScope::Public)
}

pub(crate) fn read(uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let contents = match uri {
        "test://static-text" => {
            ResourceContents::text("This is the content of the static text resource.", uri)
        }
        "test://static-binary" => {
            ResourceContents::blob(RED_PIXEL, uri).with_mime_type("image/png")
        }
        WATCHED => ResourceContents::text("Somebody may watch this.", uri),
        "test://changing" => ResourceContents::text("The list changes, this does not.", uri),
        _ => match id(uri) {
            Some(id) => {
                let data =
                    json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
                ResourceContents::text(data.to_string(), uri).with_mime_type("application/json")
            }
            None => {
                let message = format!("there is no resource {uri}");
                return Err(ErrorData::resource_not_found(message, Some(json!({ "uri": uri }))));
            }
        },
    };
    Ok(ReadResourceResult::new(vec![contents])
        .with_ttl_ms(TTL_MS)
        .with_cache_scope(CacheScope::Public))
}

/// What stands for `{id}` in a URI of the template.
fn id(uri: &str) -> Option<&str> {
    let id = uri.strip_prefix("test://template/")?.strip_suffix("/data")?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

/// The resource that subscriptions are tried with.
pub(crate) const WATCHED: &str = "test://watched-resource";

const TEMPLATE: &str = "test://template/{id}/data";
