//! Bodies of responses.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::answer::{Events, Through};
use super::events::EventBody;
use crate::peer::Relayed;

/// What a response carries.
pub(crate) enum Body {
    /// Bytes, all there; `None` once they are sent, or if there are none.
    Whole(Option<Bytes>),
    /// A call's answer too large to hold.
    Through(Box<Through>),
    /// A call as a stream of events.
    Call(Box<Events>),
    /// A stream that stays open.
    Stream(Box<EventBody>),
    /// What another gateway answers.
    Relayed(Box<Relayed>),
    /// Lines for the operator.
    Lines(BoxStream<'static, Bytes>),
}

/// The answer broke off. The transfer is aborted: no one may take what came for the whole.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub(crate) struct BrokenOff;

impl Body {
    pub(crate) const fn empty() -> Self {
        Self::Whole(None)
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole((!bytes.is_empty()).then_some(bytes))
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Through(body) => body.poll_data(cx).map(frame),
            Self::Call(body) => body.poll_data(cx).map(frame),
            Self::Stream(body) => body.poll_data(cx).map(frame),
            Self::Relayed(body) => body.poll_data(cx).map(frame),
            Self::Lines(lines) => lines.poll_next_unpin(cx).map(|line| frame(line.map(Ok))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            _ => SizeHint::default(),
        }
    }
}

fn frame(data: Option<Result<Bytes, BrokenOff>>) -> Option<Result<Frame<Bytes>, BrokenOff>> {
    data.map(|data| data.map(Frame::data))
}
