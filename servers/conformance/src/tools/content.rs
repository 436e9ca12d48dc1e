//! Tools that answer the same each time: one for each kind of content.

use rmcp::model::{AudioContent, CallToolResult, ContentBlock, ResourceContents};

/// What the tool answers, if it is one of these.
pub(super) fn of(name: &str) -> Option<CallToolResult> {
    let content = match name {
        "test_simple_text" => {
            vec![ContentBlock::text("This is a simple text response for testing.")]
        }
        "test_image_content" => vec![image()],
        "test_audio_content" => {
            vec![ContentBlock::Audio(AudioContent::new(SILENCE, "audio/wav"))]
        }
        "test_embedded_resource" => vec![ContentBlock::resource(ResourceContents::text(
            "This is an embedded resource content.",
            "test://embedded-resource",
        ))],
        "test_multiple_content_types" => {
            let contents = ResourceContents::text(
                r#"{"test":"data","value":123}"#,
                "test://mixed-content-resource",
            )
            .with_mime_type("application/json");
            let text = ContentBlock::text("Multiple content types test:");
            vec![text, image(), ContentBlock::resource(contents)]
        }
        "test_changing_tool" => vec![ContentBlock::text("The list changes, this does not.")],
        "test_error_handling" => {
            let message = "This tool intentionally returns an error for testing";
            return Some(CallToolResult::error(vec![ContentBlock::text(message)]));
        }
        _ => return None,
    };
    Some(CallToolResult::success(content))
}

fn image() -> ContentBlock {
    ContentBlock::image(RED_PIXEL, "image/png")
}

/// A PNG of one red pixel.
pub(crate) const RED_PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC";

/// A WAV of one millisecond of silence.
const SILENCE: &str = "UklGRiwAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQgAAACAgICAgICAgA==";
