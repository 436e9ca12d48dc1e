//! Bodies of requests, read within bounds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway_core::Account;
use http::request::Parts;
use http::{StatusCode, header};
use tokio::time::timeout;

use super::reply::{self, Response};
use super::{Came, Downstream};
use crate::http1::{BrokenOff, Incoming};
use crate::peer::BodyHash;
use crate::room::{Full, Pieces, Room};

/// Largest request body.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a body was not read to its end.
enum Unread {
    TooLarge,
    NoRoom(Full),
    BrokenOff,
}

/// Reads a body of JSON that was sent with a key. One that another gateway passed on has to be what
/// that one vouched for.
pub(super) async fn read_body(
    parts: &Parts,
    body: Incoming,
    came: &Came,
    account: &Arc<Account>,
    room: &Arc<Room>,
) -> Result<Bytes, Response> {
    let whole = read(parts, body, account, room).await?;
    match came.passed() {
        Some(passed) => vouched(whole, passed.body),
        None => Ok(whole),
    }
}

/// Reads what another gateway tells by itself.
pub(crate) async fn read_told(
    app: &Downstream,
    parts: &Parts,
    body: Incoming,
    hash: BodyHash,
) -> Result<Bytes, Response> {
    vouched(read(parts, body, &Arc::default(), &app.commons.room).await?, hash)
}

fn vouched(body: Bytes, hash: BodyHash) -> Result<Bytes, Response> {
    let changed = || reply::error(StatusCode::FORBIDDEN, "the body was changed on its way");
    hash.is_of(&body).then_some(body).ok_or_else(changed)
}

async fn read(
    parts: &Parts,
    mut body: Incoming,
    account: &Arc<Account>,
    room: &Arc<Room>,
) -> Result<Bytes, Response> {
    let json = parts
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"));
    if !json {
        let message = "send the message as JSON, with Content-Type: application/json";
        return Err(reply::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    // Mostly it came with the head: nothing to wait for, nor to count.
    if let Some(whole) = body.take_whole() {
        return Ok(whole);
    }
    let announced = body.length().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    let read = match announced {
        Some(length) if length > MAX_BODY => Ok(Err(Unread::TooLarge)),
        _ => {
            let expected = announced.unwrap_or_default();
            timeout(BODY_TIMEOUT, collect(&mut body, expected, account, room)).await
        }
    };
    let unread = match read {
        Ok(Ok(body)) => return Ok(body),
        Err(_) => {
            return Err(reply::error(StatusCode::REQUEST_TIMEOUT, "the body took over 30 s"));
        }
        Ok(Err(unread)) => unread,
    };
    let refusal = match unread {
        Unread::BrokenOff => {
            return Err(reply::error(StatusCode::BAD_REQUEST, "the body broke off"));
        }
        Unread::TooLarge => {
            let message = format!("the body is larger than the limit of {} MiB", MAX_BODY >> 20);
            reply::error(StatusCode::PAYLOAD_TOO_LARGE, &message)
        }
        Unread::NoRoom(Full::Key) => {
            let message = "large requests of this key are under way; send this one again when \
                           they are answered";
            reply::later(StatusCode::TOO_MANY_REQUESTS, message)
        }
        Unread::NoRoom(Full::All) => {
            let message = "the gateway has no room for a request of this size now; try again";
            reply::later(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    };
    Err(refusal)
}

/// A body. One that comes in one piece is not copied, nor counted.
async fn collect(
    body: &mut Incoming,
    expected: usize,
    account: &Arc<Account>,
    room: &Arc<Room>,
) -> Result<Bytes, Unread> {
    let (mut first, mut pieces): (_, Option<Pieces>) = (Bytes::new(), None);
    while let Some(piece) = body.piece().await {
        let data = piece.map_err(|BrokenOff| Unread::BrokenOff)?;
        if first.len().max(pieces.as_ref().map_or(0, Pieces::len)) + data.len() > MAX_BODY {
            return Err(Unread::TooLarge);
        }
        match &mut pieces {
            None if first.is_empty() => first = data,
            None => {
                let whole = pieces.insert(room.pieces(account, expected));
                whole.add(&first).and_then(|()| whole.add(&data)).map_err(Unread::NoRoom)?;
            }
            Some(whole) => whole.add(&data).map_err(Unread::NoRoom)?,
        }
    }
    Ok(pieces.map_or(first, Pieces::whole))
}
