//! What must hold of any bytes: the bodies of the fuzz targets in `gateway/fuzz`, replayed over their
//! corpora by a test. Each panics when something does not hold. Performs no I/O.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::header::{self, Headers, ParamHeaders};
use crate::json::{Json, MAX_DEPTH};
use crate::message::{Message, Outcome};
use crate::modern::{Envelope, Meta, VERSION, envelope_edits, strip_edits};
use crate::object::{entries, raw};
use crate::result::{Cache, ResultType, modern_additions, result_type, to_legacy, to_modern};
use crate::scan::{Names, Piece, ScanError, Scanner};
use crate::splice::{Edit, splice};
use crate::sse::{Decoder, Item};
use crate::{error, input, subscription, task, uri};

const ENVELOPE: Envelope<'_> = Envelope {
    protocol_version: VERSION,
    client_capabilities: "{}",
    client_info: Some("{}"),
    log_level: Some("info"),
};
const INFO: &str = r#"{"name":"f","version":"1"}"#;

/// A message keeps what is not ours, and whatever it is made into is a message again.
pub fn envelope(bytes: &[u8]) {
    let Ok(message) = Message::parse(bytes) else { return };
    assert_eq!(splice(bytes, &mut []), bytes);
    match message {
        Message::Request { method, params, .. } | Message::Notification { method, params } => {
            call(bytes, &method, params);
        }
        Message::Response { outcome: Outcome::Error(error), .. } => {
            edited(bytes, error::modern_error(bytes, error));
            let _ = input::url_elicitations(error);
        }
        Message::Response { outcome: Outcome::Result(result), .. } => {
            let _ = input::InputRequired::parse(result);
            for method in ["tools/call", "tools/list", "prompts/get", "resources/read"] {
                edited(bytes, to_modern(bytes, result, method, INFO, Cache::default()));
                places(bytes, &uri::uris(result, method));
                places(bytes, &task::in_result(method, result));
            }
            edited(bytes, to_legacy(bytes, result));
            let _ = result_type(result);
        }
    }
}

fn call(bytes: &[u8], method: &str, params: Option<Json<'_>>) {
    let _ = input::InputResponses::parse(params);
    let _ = subscription::stamp(bytes, params, "1");
    places(bytes, &task::in_params(method, params));
    let Ok(meta) = Meta::parse(params) else { return };
    let modern = edited(bytes, envelope_edits(bytes, params, &ENVELOPE));
    let Ok(Message::Request { params: made, .. } | Message::Notification { params: made, .. }) =
        Message::parse(&modern)
    else {
        unreachable!("a call stays one")
    };
    if params.is_none_or(|params| params.get() == "null" || params.get().starts_with('{')) {
        let made_meta = Meta::parse(made);
        assert!(made_meta.is_ok_and(|made| made.missing().is_none()));
        let stripped = edited(&modern, strip_edits(&modern, made));
        let had_meta = params.and_then(|params| crate::object::member(params.get(), "_meta"));
        let had_none = meta.protocol_version.is_none()
            && meta.client_capabilities.is_none()
            && !had_meta
                .is_some_and(|meta| meta.contains("modelcontextprotocol") || meta.contains('\\'));
        if had_none && had_meta.is_some_and(|meta| meta.starts_with('{')) {
            assert_eq!(stripped, bytes);
        }
    }
}

/// Applies the edits, and checks that a message comes of them.
fn edited(bytes: &[u8], mut edits: Vec<Edit<'_>>) -> Bytes {
    let out = splice(bytes, &mut edits);
    // Adding members can pass the limit on nesting by the level of `_meta`, nothing else.
    assert!(std::str::from_utf8(&out).is_ok_and(|text| raw(text).is_some()), "no JSON any more");
    out
}

fn places(bytes: &[u8], found: &[Json<'_>]) {
    let edits = found
        .iter()
        .map(|found| Edit::replace(bytes, found.get().as_bytes(), b"\"x\""))
        .map(|edit| edit.unwrap_or_else(|| unreachable!("found elsewhere")))
        .collect();
    edited(bytes, edits);
}

/// An event stream decodes alike however it is cut. The first byte tells how.
pub fn sse(bytes: &[u8]) {
    let Some((size, stream)) = bytes.split_first() else { return };
    let decode = |size: usize| {
        let mut decoder = Decoder::with_stream_above(256, 32);
        let (mut events, mut data) = (Vec::new(), Vec::new());
        let mut failed = None;
        'chunks: for chunk in stream.chunks(size) {
            decoder.push(Bytes::copy_from_slice(chunk));
            loop {
                match decoder.next() {
                    Ok(None) => break,
                    Ok(Some(Item::DataStart(_))) => data.clear(),
                    Ok(Some(Item::DataChunk(part))) => data.extend_from_slice(&part),
                    Ok(Some(Item::DataEnd(fields))) => {
                        let data = Bytes::from(std::mem::take(&mut data));
                        events.push((fields.event, fields.id, fields.retry, data));
                    }
                    Ok(Some(Item::Event(event))) => {
                        assert!(event.data.len() <= 32, "too large for one item");
                        events.push((event.event, event.id, event.retry, event.data));
                    }
                    Err(error) => {
                        failed = Some(error);
                        break 'chunks;
                    }
                }
            }
        }
        (events, failed.is_some(), failed.is_none() && decoder.finish())
    };
    assert_eq!(decode(usize::from(*size).max(1)), decode(stream.len().max(1)));
}

/// What a header carries, an argument says again, and a schema asks for only what can be sent. A line
/// each: the header's value, the schema, the arguments.
pub fn header(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut lines = text.splitn(3, '\n');
    let value = lines.next().unwrap_or_default();
    let encoded = header::encode(value);
    assert!(encoded.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    assert_eq!(header::decode(&encoded).as_deref(), Ok(value));
    let _ = header::decode(value);

    let schema = lines.next().and_then(raw);
    let arguments = lines.next().and_then(raw);
    let Some(headers) = schema.and_then(|schema| ParamHeaders::of_schema(schema).ok()) else {
        return;
    };
    let written: Vec<_> = headers.values(arguments).collect();
    let lookup =
        |name: &str| written.iter().find(|(header, _)| *header == name).map(|(_, value)| &**value);
    let twice = arguments.is_some_and(|arguments| stands_twice(arguments.get()));
    assert!(headers.check(arguments, lookup).is_ok() || twice, "what we send, we refuse");
    let given =
        Headers { version: Some(VERSION), method: Some("tools/call"), name: Some(&encoded) };
    let name = crate::modern::quoted(value);
    assert_eq!(header::check("tools/call", Some(VERSION), raw(&name), &given), Ok(()));
}

/// Whether a key stands twice in some object.
fn stands_twice(text: &str) -> bool {
    let mut names: Vec<_> = entries(text).filter_map(|entry| entry.name()).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| matches!(pair, [a, b] if a == b))
        || entries(text).any(|entry| stands_twice(entry.value()))
}

/// A message passes through alike however it is cut, and untouched but for what is added. The first
/// byte tells how it is cut and what is looked for. What asks is told from what answers.
pub fn scan(bytes: &[u8]) {
    let Some((first, message)) = bytes.split_first() else { return };
    let size = usize::from(*first).max(1);
    let names = [Names::Contents, Names::Content, Names::Messages, Names::Task];
    let pass = |size, adding| pass(message, size, names.get(usize::from(*first) % 5), adding);
    assert_eq!(pass(size, false), pass(message.len().max(1), false));
    let weighed = weigh(message, size);
    assert_eq!(weighed, weigh(message, message.len().max(1)));
    if let Ok(verdict) = weighed
        && let Ok(Message::Response { outcome: Outcome::Result(result), .. }) =
            Message::parse(message)
        && matches!(result_type(result), ResultType::InputRequired | ResultType::Task)
    {
        assert_eq!(verdict, Some(false), "a question that would pass for an answer");
    }
    let added = pass(size, true);
    assert_eq!(added, pass(message.len().max(1), true));
    if let Ok(plain) = pass(size, false) {
        assert_eq!(plain, message);
        let valid = |text: &[u8]| std::str::from_utf8(text).is_ok_and(|text| raw(text).is_some());
        assert!(!valid(message) || added.is_ok_and(|added| valid(&added)), "no JSON any more");
    }
}

fn weigh(message: &[u8], size: usize) -> Result<Option<bool>, ScanError> {
    let mut scanner = Scanner::new(MAX_DEPTH).weighing();
    let mut pieces = VecDeque::new();
    for chunk in message.chunks(size) {
        scanner.feed(Bytes::copy_from_slice(chunk), &mut pieces)?;
    }
    scanner.finish()?;
    Ok(scanner.is_final())
}

fn pass(
    message: &[u8],
    size: usize,
    names: Option<&Names>,
    adding: bool,
) -> Result<Vec<u8>, ScanError> {
    let mut scanner = Scanner::new(MAX_DEPTH).naming(names.copied());
    if adding {
        scanner = scanner.adding(modern_additions("resources/read", INFO, Cache::default()));
    }
    let (mut pieces, mut out) = (VecDeque::new(), Vec::new());
    for chunk in message.chunks(size) {
        scanner.feed(Bytes::copy_from_slice(chunk), &mut pieces)?;
    }
    scanner.finish()?;
    for piece in pieces {
        let (Piece::Span(bytes) | Piece::Id(bytes) | Piece::Added(bytes) | Piece::Name(_, bytes)) =
            piece;
        out.extend_from_slice(&bytes);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn corpora_replay() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
        for (name, target) in
            [("envelope", envelope as fn(&[u8])), ("sse", sse), ("header", header), ("scan", scan)]
        {
            let mut replayed = 0;
            for file in std::fs::read_dir(corpora.join(name)).unwrap() {
                target(&std::fs::read(file.unwrap().path()).unwrap());
                replayed += 1;
            }
            assert!(replayed > 0, "no corpus for {name}");
        }
    }

    proptest! {
        #[test]
        fn mutated_messages_hold(
            params in prop_oneof![
                crate::scan::tests::json().prop_map(|json| json.to_string()),
                crate::scan::tests::json().prop_map(|json| format!(r#"{{"_meta":{json},"a":1}}"#)),
            ],
            key in prop::sample::select(vec!["params", "result", "error"]),
            size in any::<u8>(),
        ) {
            let method = if key == "params" { r#""method":"tools/call","# } else { "" };
            let message = format!(r#"{{"jsonrpc":"2.0",{method}"{key}":{params},"id":1}}"#);
            envelope(message.as_bytes());
            let mut cut = vec![size];
            cut.extend_from_slice(message.as_bytes());
            scan(&cut);
            sse(&cut);
        }
    }
}
