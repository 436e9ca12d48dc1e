//! Behaviour of the event stream codec.

use bytes::{Bytes, BytesMut};
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
use proptest::test_runner::TestCaseError;
use proptest::{prop_assert, prop_assert_eq};

use super::{DecodeError, Decoder, Event, Fields, Item};

const LIMIT: usize = 1 << 20;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn data(text: &str) -> Event {
    Event { data: bytes(text), dispatched: true, ..Event::default() }
}

fn named(name: &str, text: &str) -> Event {
    Event { event: Some(bytes(name)), ..data(text) }
}

/// All items of the chunks and whether an event was pending at their end.
fn decode<'a>(
    mut decoder: Decoder,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(Vec<Item>, bool), DecodeError> {
    let mut items = Vec::new();
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk));
        while let Some(item) = decoder.next()? {
            items.push(item);
        }
    }
    Ok((items, decoder.finish()))
}

/// The items with streamed events put together again.
fn join(items: Vec<Item>) -> Vec<Event> {
    let mut events = Vec::new();
    let mut open: Option<BytesMut> = None;
    for item in items {
        match item {
            Item::Event(event) => {
                assert!(open.is_none(), "an event inside a streamed one");
                events.push(event);
            }
            Item::DataStart(_) => {
                assert!(open.replace(BytesMut::new()).is_none(), "a streamed event inside another");
            }
            Item::DataChunk(chunk) => {
                assert!(!chunk.is_empty(), "an empty chunk");
                open.as_mut().expect("a chunk belongs to an event").extend_from_slice(&chunk);
            }
            Item::DataEnd(Fields { event, id, retry }) => {
                let data = open.take().expect("an end belongs to an event").freeze();
                events.push(Event { event, data, id, retry, dispatched: true });
            }
        }
    }
    events
}

fn decode_whole(stream: &str) -> Vec<Event> {
    let (items, _) = decode(Decoder::new(LIMIT), [stream.as_bytes()]).unwrap();
    join(items)
}

/// Streams with LF line ends and what they hold.
fn samples() -> Vec<(&'static str, &'static str, Vec<Event>)> {
    let id_only = |id: &str| Event { id: Some(bytes(id)), ..Event::default() };
    vec![
        ("empty stream", "", vec![]),
        ("blank lines", "\n\n\n", vec![]),
        ("one event", "data: a\n\n", vec![data("a")]),
        ("no space", "data:a\n\n", vec![data("a")]),
        ("one space goes", "data:  a \n\n", vec![data(" a ")]),
        ("lines join", "data: a\ndata: b\n\n", vec![data("a\nb")]),
        ("empty data", "data:\n\n", vec![data("")]),
        ("no colon", "data\n\n", vec![data("")]),
        ("empty lines join", "data\ndata:\ndata: \n\n", vec![data("\n\n")]),
        ("empty first line", "data\ndata: b\n\n", vec![data("\nb")]),
        ("named", "event: endpoint\ndata: /x\n\n", vec![named("endpoint", "/x")]),
        ("name last", "data: /x\nevent: endpoint\n\n", vec![named("endpoint", "/x")]),
        ("empty name", "event: x\nevent:\ndata: a\n\n", vec![data("a")]),
        ("last name wins", "event: x\nevent: y\ndata: a\n\n", vec![named("y", "a")]),
        ("name alone", "event: x\n\ndata: a\n\n", vec![data("a")]),
        ("comments", ": hi\n\n:\ndata: a\n:x\ndata: b\n\n", vec![data("a\nb")]),
        ("unknown fields", "foo: 1\ndatum: 2\n data: 3\nx\nDATA: 4\ndata: a\n\n", vec![data("a")]),
        ("unknown without a colon", "eventual\nda\ndata: a\n\n", vec![data("a")]),
        ("colons in data", "data: a: b\ndata:: c\n\n", vec![data("a: b\n: c")]),
        (
            "priming",
            "id: 7\ndata:\n\ndata: a\n\n",
            vec![Event { id: Some(bytes("7")), ..data("") }, data("a")],
        ),
        ("id without data", "id: 7\n\ndata: a\n\n", vec![id_only("7"), data("a")]),
        ("empty id", "id\n\n", vec![id_only("")]),
        ("id with a null byte", "id: a\0b\ndata: a\n\n", vec![data("a")]),
        (
            "retry without data",
            "retry: 200\n\n",
            vec![Event { retry: Some(200), ..Event::default() }],
        ),
        ("bad retry", "retry: 2s\nretry:\nretry: -1\nretry:  1\ndata: a\n\n", vec![data("a")]),
        (
            "huge retry",
            "retry: 99999999999999999999999\n\n",
            vec![Event { retry: Some(u64::MAX), ..Event::default() }],
        ),
        ("byte order mark", "\u{feff}data: a\n\n", vec![data("a")]),
        ("second byte order mark", "\u{feff}\u{feff}data: a\n\ndata: b\n\n", vec![data("b")]),
        ("late byte order mark", "\n\u{feff}data: a\n\ndata: b\n\n", vec![data("b")]),
        ("part of a byte order mark", "\u{fec0}data: a\n\ndata: b\n\n", vec![data("b")]),
        ("incomplete", "data: a\n\ndata: b\n", vec![data("a")]),
        ("incomplete line", "data: a\n\ndata: b", vec![data("a")]),
    ]
}

#[test]
fn every_split_in_three_yields_the_same_events() {
    for (row, stream, expected) in samples() {
        for line_end in ["\n", "\r\n", "\r"] {
            let stream = stream.replace('\n', line_end);
            let stream = stream.as_bytes();
            for stream_above in [0, 1, 2, 1024] {
                for first in 0..=stream.len() {
                    for second in first..=stream.len() {
                        let chunks = [&stream[..first], &stream[first..second], &stream[second..]];
                        let decoder = Decoder::with_stream_above(LIMIT, stream_above);

                        let (items, _) = decode(decoder, chunks).unwrap();

                        assert_eq!(
                            join(items),
                            expected,
                            "{row}, {line_end:?}, {first}, {second}, streamed above {stream_above}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn mixed_line_ends_each_end_one_line() {
    let events = decode_whole("data: a\rdata: b\r\ndata: c\n\rdata: d\n\n\r\r\ndata: e\r\n\r\n");

    assert_eq!(events, [data("a\nb\nc"), data("d"), data("e")]);
}

#[test]
fn cr_dispatches_without_waiting_for_lf() {
    let (items, pending) = decode(Decoder::new(LIMIT), [&b"data: a\r\r"[..]]).unwrap();

    assert_eq!(join(items), [data("a")]);
    assert!(!pending);
}

#[test]
fn finish_tells_whether_an_event_was_pending() {
    for (stream, expected) in [
        ("", false),
        ("data: a\n\n", false),
        ("data: a\n\n: bye", false),
        ("data: a\n\nunknown: bye", false),
        ("event:\n", false),
        ("data: a\n", true),
        ("data", true),
        ("data:", true),
        ("id: 7\n", true),
        ("retry: 7\n", true),
        ("event: x", true),
    ] {
        let (_, pending) = decode(Decoder::new(LIMIT), [stream.as_bytes()]).unwrap();
        assert_eq!(pending, expected, "{stream:?}");
    }
}

#[test]
fn event_within_a_chunk_is_a_slice_of_it() {
    let chunk = Bytes::from_static(b"event: message\ndata: {\"id\":1}\n\ndata: 2\n\n");
    let range = chunk.as_ptr_range();
    let mut decoder = Decoder::new(LIMIT);

    decoder.push(chunk);

    for expected in ["{\"id\":1}", "2"] {
        let Some(Item::Event(event)) = decoder.next().unwrap() else { panic!("no event") };
        assert_eq!(event.data, expected);
        assert!(range.contains(&event.data.as_ptr()), "{expected} was copied");
    }
    assert_eq!(decoder.next(), Ok(None));
}

#[test]
fn data_above_the_threshold_is_streamed() {
    let at = format!("event: x\nid: 1\ndata: {}\nretry: 5\n\n", "a".repeat(10));
    let above = format!("event: x\nid: 1\ndata: {}\nretry: 5\n\n", "a".repeat(11));
    let early = Fields { event: Some(bytes("x")), id: Some(bytes("1")), retry: None };

    let (whole, _) = decode(Decoder::with_stream_above(LIMIT, 10), [at.as_bytes()]).unwrap();
    let (streamed, _) = decode(Decoder::with_stream_above(LIMIT, 10), [above.as_bytes()]).unwrap();

    assert!(matches!(whole.as_slice(), [Item::Event(_)]), "{whole:?}");
    assert_eq!(
        streamed,
        [
            Item::DataStart(early.clone()),
            Item::DataChunk(bytes("aaaaaaaaaaa")),
            Item::DataEnd(Fields { retry: Some(5), ..early }),
        ]
    );
}

#[test]
fn streamed_data_is_handed_out_as_it_comes() {
    let mut decoder = Decoder::with_stream_above(LIMIT, 4);
    let mut step = |chunk: &str| {
        decoder.push(bytes(chunk));
        std::iter::from_fn(|| decoder.next().unwrap()).collect::<Vec<_>>()
    };

    assert_eq!(step("data: abc"), []);
    assert_eq!(
        step("def"),
        [
            Item::DataStart(Fields::default()),
            Item::DataChunk(bytes("abc")),
            Item::DataChunk(bytes("def")),
        ]
    );
    assert_eq!(step("\nda"), []);
    assert_eq!(step("ta"), []);
    assert_eq!(step(":  g"), [Item::DataChunk(bytes("\n")), Item::DataChunk(bytes(" g"))]);
    assert_eq!(step("\n"), []);
    assert_eq!(step("\n"), [Item::DataEnd(Fields::default())]);
}

#[test]
fn event_over_the_limit_is_refused_wherever_it_is_cut() {
    let rows = [
        ("one line", "data: aaaaaaaaaaaaaaaaaaaa\n\n"),
        ("many lines", "data: aa\ndata: aa\ndata: aa\n\n"),
        ("empty lines", "data\ndata\ndata\ndata\ndata\ndata\n\n"),
        ("unknown field", "abcdefghijklmnopqrstuvwxyz"),
        ("comment without an end", ": bcdefghijklmnopqrstuvwxyz"),
        ("id", "id: 0123456789012345678901234567890"),
    ];
    for (row, stream) in rows {
        for size in 1..stream.len() {
            let decoder = Decoder::with_stream_above(20, 8);
            let decoded = decode(decoder, stream.as_bytes().chunks(size));
            assert_eq!(decoded, Err(DecodeError::TooLarge { limit: 20 }), "{row} by {size}");
        }
    }
}

#[test]
fn limit_is_for_one_event_and_without_comments() {
    let stream = "data: aaaaaaaaaaaaaa\n: comment\n: comment\n: comment\n\n".repeat(3);

    let (items, _) = decode(Decoder::new(20), [stream.as_bytes()]).unwrap();

    assert_eq!(join(items), vec![data("aaaaaaaaaaaaaa"); 3]);
}

#[test]
fn failure_lasts_and_comes_after_the_events_before_it() {
    let mut decoder = Decoder::new(10);
    decoder.push(bytes("data: a\n\ndata: aaaaaaaaaaaaaa\n\ndata: b\n\n"));

    assert_eq!(decoder.next(), Ok(Some(Item::Event(data("a")))));
    assert_eq!(decoder.next(), Err(DecodeError::TooLarge { limit: 10 }));

    decoder.push(bytes("data: c\n\n"));
    assert_eq!(decoder.next(), Err(DecodeError::TooLarge { limit: 10 }));
}

#[test]
fn long_id_is_refused() {
    let stream = format!("id: {}\n\n", "1".repeat(8193));

    let decoded = decode(Decoder::new(LIMIT), stream.as_bytes().chunks(1000));

    assert_eq!(decoded, Err(DecodeError::FieldTooLong { field: "id", limit: 8192 }));
}

#[test]
fn encoder_writes_one_line_a_field() {
    let mut out = BytesMut::new();
    super::retry(250, &mut out);
    super::event(Some("message"), Some("7"), b"{\"a\":\r\n1}", &mut out);
    super::event(None, None, b"", &mut out);
    super::comment("keep\nalive", &mut out);
    super::event(Some("x\ndata: injected"), Some("1\r2"), b"a", &mut out);
    super::begin(None, None, &mut out);
    out.extend_from_slice(&super::flatten(Bytes::from_static(b"[1,\n2]")));
    super::end(&mut out);

    assert_eq!(
        out,
        "retry: 250\n\n\
         event: message\nid: 7\ndata: {\"a\":  1}\n\n\
         data: \n\n\
         : keep alive\n\n\
         event: x data: injected\nid: 1 2\ndata: a\n\n\
         data: [1, 2]\n\n"
    );
}

#[test]
fn flatten_copies_only_what_it_must() {
    let flat = Bytes::from_static(b"{\"a\": 1}");
    let at = flat.as_ptr();
    let owned = Bytes::from(b"{\n\"a\": 1}\r\n".to_vec());
    let shared = owned.clone();

    assert_eq!(super::flatten(flat).as_ptr(), at);
    assert_eq!(super::flatten(owned), "{ \"a\": 1}  ");
    assert_eq!(shared, "{\n\"a\": 1}\r\n", "a shared buffer must not change");
}

/// Lines that mean something, and garbage.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        3 => Just(Vec::new()),
        3 => prop::collection::vec(prop_oneof![Just(b'a'), Just(b' '), Just(b':')], 0..12)
            .prop_map(|value| [b"data:", value.as_slice()].concat()),
        1 => "(event|id|retry|data|dat|:|:ping|foo)(: ?[0-9a]{0,6})?".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..12),
    ];
    let line_end = prop::sample::select(vec!["\n", "\r\n", "\r"]);
    prop::collection::vec((line, line_end), 0..24).prop_map(|lines| {
        lines
            .iter()
            .flat_map(|(line, line_end)| [line.as_slice(), line_end.as_bytes()])
            .flatten()
            .copied()
            .collect()
    })
}

fn split<'a>(bytes: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut chunks = Vec::new();
    for size in sizes {
        let (chunk, after) = rest.split_at((*size).min(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    chunks.push(rest);
    chunks
}

/// The format as the standard words it: lines first, then fields.
fn reference(stream: &[u8]) -> Vec<Event> {
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let mut lines = vec![Vec::new()];
    let mut bytes = stream.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => {
                bytes.next_if_eq(&b'\n');
                lines.push(Vec::new());
            }
            b'\n' => lines.push(Vec::new()),
            _ => lines.last_mut().unwrap().push(byte),
        }
    }
    lines.pop();

    let mut events = Vec::new();
    let mut event = Event::default();
    let mut buffer = Vec::new();
    for line in lines {
        if line.is_empty() {
            buffer.pop();
            event.data = std::mem::take(&mut buffer).into();
            let event = std::mem::take(&mut event);
            if event.dispatched || event.id.is_some() || event.retry.is_some() {
                events.push(event);
            }
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) =
            colon.map_or((line.as_slice(), &b""[..]), |colon| (&line[..colon], &line[colon + 1..]));
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => {
                event.dispatched = true;
                buffer.extend_from_slice(value);
                buffer.push(b'\n');
            }
            b"event" => {
                event.event = Some(Bytes::copy_from_slice(value)).filter(|name| !name.is_empty());
            }
            b"id" if !value.contains(&0) => event.id = Some(Bytes::copy_from_slice(value)),
            b"retry" => {
                let digits =
                    std::str::from_utf8(value).ok().filter(|value| !value.starts_with('+'));
                event.retry = digits.and_then(|digits| digits.parse().ok()).or(event.retry);
            }
            _ => {}
        }
    }
    events
}

proptest! {
    #[test]
    fn any_chunking_decodes_as_the_standard_says(
        stream in stream(),
        sizes in prop::collection::vec(0_usize..9, 0..64),
        stream_above in 0_usize..32,
    ) {
        let expected = reference(&stream);

        let decoder = Decoder::with_stream_above(LIMIT, stream_above);
        let (items, _) = decode(decoder, split(&stream, &sizes))?;

        for item in &items {
            if let Item::Event(event) = item {
                prop_assert!(event.data.len() <= stream_above);
            }
        }
        let (streamed, expected_streamed) = (
            items.iter().filter(|item| matches!(item, Item::DataEnd(_))).count(),
            expected.iter().filter(|event| event.data.len() > stream_above).count(),
        );
        prop_assert_eq!(join(items), expected);
        prop_assert_eq!(streamed, expected_streamed);
    }

    #[test]
    fn what_is_encoded_decodes(
        events in prop::collection::vec(
            (prop::option::of("[a-z/]{1,9}"), prop::option::of("[0-9a-f]{0,9}"), "[^\r\n]{0,40}"),
            0..6,
        ),
        sizes in prop::collection::vec(0_usize..20, 0..20),
    ) {
        let mut out = BytesMut::new();
        let mut expected = Vec::new();
        for (name, id, text) in &events {
            super::comment(text, &mut out);
            super::event(name.as_deref(), id.as_deref(), text.as_bytes(), &mut out);
            expected.push(Event {
                event: name.as_deref().map(bytes),
                id: id.as_deref().map(bytes),
                ..data(text)
            });
        }

        let (items, pending) = decode(Decoder::new(LIMIT), split(&out, &sizes))?;

        prop_assert_eq!(join(items), expected);
        prop_assert!(!pending);
    }

    #[test]
    fn pretty_printed_json_stays_the_same(value in crate::scan::tests::json()) {
        let pretty = serde_json::to_vec_pretty(&value).map_err(|error| TestCaseError::fail(error.to_string()))?;
        let mut out = BytesMut::new();
        super::event(None, None, &pretty, &mut out);

        let (items, _) = decode(Decoder::new(LIMIT), [&out[..]])?;

        let events = join(items);
        prop_assert_eq!(events.len(), 1);
        prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&events[0].data).ok(), Some(value));
        prop_assert_eq!(super::flatten(pretty.into()), &events[0].data);
    }
}
