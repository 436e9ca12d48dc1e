//! `notifications/message`: a legacy session says once how much it wants to read, a modern request each time.
#![expect(deprecated, reason = "logging is what is served here")]

use rmcp::{
    RoleServer,
    model::{LoggingLevel, LoggingMessageNotificationParam},
    service::RequestContext,
};
use serde_json::json;

use crate::{era, session::Session};

/// Writes to the client of this request, if it wants to read messages of this level.
pub(crate) async fn log(
    level: LoggingLevel,
    text: &str,
    session: &Session,
    context: &RequestContext<RoleServer>,
) {
    let least =
        if era::is_modern(context) { context.meta.log_level() } else { Some(session.level()) };
    if least.is_none_or(|least| (level as u8) < least as u8) {
        return;
    }
    let message =
        LoggingMessageNotificationParam::new(level, json!(text)).with_logger("conformance");
    if let Err(error) = context.peer.notify_logging_message(message).await {
        tracing::debug!(%error, "nobody reads the messages any more");
    }
}
