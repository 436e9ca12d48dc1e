//! Whether a result is the last word on its request.

use serde_json::from_slice;

use crate::result::ResultType;

/// What a result has told of that so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Finality {
    /// What its `resultType` says.
    kind: Option<bool>,
    /// It has what only a result has that asks for input.
    asks: bool,
    /// It has what such a result has no use for.
    answers: bool,
}

impl Finality {
    /// Notes a key of the result. Servers may write `resultType` last.
    pub(super) fn see(&mut self, key: &[u8]) {
        match key {
            b"resultType" | b"requestState" | b"_meta" => {}
            b"inputRequests" => self.asks = true,
            _ => self.answers = true,
        }
    }

    /// Notes the JSON text of the string that `resultType` is.
    pub(super) fn read(&mut self, text: &[u8]) {
        let kind = from_slice(text).map_or(ResultType::Other, |text: String| ResultType::of(&text));
        self.kind = Some(!matches!(kind, ResultType::InputRequired | ResultType::Task));
    }

    /// It is no result that could have a type.
    pub(super) fn settle(&mut self) {
        self.answers = true;
    }

    /// The `resultType` decides, once it is there.
    pub(super) fn verdict(self) -> Option<bool> {
        self.kind.or_else(|| (self.answers && !self.asks).then_some(true))
    }
}
