//! Requests of our own, and their answers.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mcp::Message;
use mcp::error::INTERNAL_ERROR;
use mcp::json::Json;
use mcp::message::Outcome;
use serde::Deserialize;
use tokio::time::timeout;

use super::exchange::{Exchange, Item};
use super::fault::Fault;

/// A request of our own.
pub(crate) fn request(id: u64, method: &str, params: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#).into()
}

/// The raw `result` of an answer.
pub(crate) fn result_of(answer: &[u8]) -> Result<Json<'_>, Fault> {
    match Message::parse(answer) {
        Ok(Message::Response { outcome: Outcome::Result(result), .. }) => Ok(result),
        Ok(Message::Response { outcome: Outcome::Error(error), .. }) => {
            Err(Fault::Refused(code(error)))
        }
        Ok(_) => Err(Fault::Garbage("no answer".to_owned())),
        Err(error) => Err(Fault::Garbage(error.to_string())),
    }
}

/// The code of an error. Its text is the server's and may repeat the credential that it was shown:
/// it goes into no log and to no client.
fn code(error: Json<'_>) -> i64 {
    #[derive(Deserialize)]
    struct Coded {
        code: i64,
    }
    serde_json::from_str::<Coded>(error.get()).map_or_else(|_| INTERNAL_ERROR.into(), |e| e.code)
}

/// Waits for the answer to a request of our own, whole.
pub(crate) async fn answer_to(
    id: u64,
    mut exchange: Exchange,
    limit: Duration,
) -> Result<Bytes, Fault> {
    let mut large = BytesMut::new();
    within(limit, async {
        loop {
            match std::future::poll_fn(|cx| exchange.poll_next(cx)).await? {
                Some(Item::Message(message)) => {
                    let own = matches!(
                        Message::parse(&message),
                        Ok(Message::Response { id: answered, .. })
                            if mcp::tool::is_own(answered, id)
                    );
                    if own {
                        return Ok(message);
                    }
                    if Message::parse(&message).is_err() {
                        return Err(Fault::Garbage("a body that is no message".to_owned()));
                    }
                }
                Some(Item::Chunk(chunk) | Item::Name(_, chunk)) => large.extend_from_slice(&chunk),
                Some(Item::Unheard { .. }) => {}
                Some(Item::End { .. }) => return Ok(large.split().freeze()),
                None => return Err(Fault::Closed("no answer came".to_owned())),
            }
        }
    })
    .await?
}

/// Bounds the time of a step.
pub(crate) async fn within<T>(limit: Duration, step: impl Future<Output = T>) -> Result<T, Fault> {
    timeout(limit, step).await.map_err(|_| Fault::Silent(limit.as_secs().max(1)))
}
