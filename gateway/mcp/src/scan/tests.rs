//! Behaviour of the scanner.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
use proptest::{prop_assert, prop_assert_eq};
use serde_json::Value;

use super::{Addition, Kind, MAX_ID, MAX_NAME, Name, Names, Piece, ScanError, Scanner};

const DEPTH: u16 = 16;

#[derive(Debug, PartialEq)]
struct Scanned {
    whole: Bytes,
    id: Option<Bytes>,
    kind: Option<Kind>,
    is_error: bool,
}

fn scan<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Scanned, ScanError> {
    let mut scanner = Scanner::new(DEPTH);
    let mut out = VecDeque::new();
    for chunk in chunks {
        scanner.feed(Bytes::copy_from_slice(chunk), &mut out)?;
    }
    scanner.finish()?;

    let mut whole = BytesMut::new();
    let mut id = None;
    for piece in out {
        match piece {
            Piece::Span(span) => {
                assert!(!span.is_empty(), "an empty span");
                whole.extend_from_slice(&span);
            }
            Piece::Id(raw) => {
                whole.extend_from_slice(&raw);
                assert!(id.replace(raw).is_none(), "two ids");
            }
            Piece::Added(other) | Piece::Name(_, other) => panic!("{other:?}"),
        }
    }
    Ok(Scanned { whole: whole.freeze(), id, kind: scanner.kind(), is_error: scanner.is_error() })
}

/// Scans the message cut in every way into three chunks, and byte by byte.
fn scan_every_split(message: &[u8]) -> Result<Scanned, ScanError> {
    let expected = scan([message]);
    for first in 0..=message.len() {
        for second in first..=message.len() {
            let chunks = [&message[..first], &message[first..second], &message[second..]];
            assert_eq!(
                scan(chunks),
                expected,
                "{} cut at {first}, {second}",
                message.escape_ascii()
            );
        }
    }
    assert_eq!(scan(message.chunks(1)), expected, "{} byte by byte", message.escape_ascii());
    expected
}

#[test]
fn id_is_found_wherever_it_stands() {
    let rows = [
        (r#"{"id":1,"result":{}}"#, Some("1")),
        (r#"{"result":{},"id":1}"#, Some("1")),
        ("{ \"id\" :\t-1.5e+7\r\n, \"result\": {} }", Some("-1.5e+7")),
        (r#"{"id":"a\"b\\","result":{}}"#, Some(r#""a\"b\\""#)),
        (r#"{"result":{},"id":"\\\\"}"#, Some(r#""\\\\""#)),
        (r#"{"\u0069d":7,"result":{}}"#, Some("7")),
        (r#"{"\u0069\u0064":"","result":{}}"#, Some(r#""""#)),
        (r#"{"i\u0044":7,"result":{}}"#, None),
        (r#"{"result":{"id":1},"x":[{"id":2}]}"#, None),
        (r#"{"result":"\"id\":1","x":"{\"id\":2"}"#, None),
        (r#"{"result":{"a":"}","b":"]","c\\":"\\"},"id":12}"#, Some("12")),
        (r#"{"result":["\\\"",{"\"":"{["}],"id":12}"#, Some("12")),
        (r#"{"x":"id","result":true,"id" : 3 }"#, Some("3")),
        (r#"{"a":null,"b":true,"c":-1.5E-3,"d":[],"e":{},"result":0,"id":4}"#, Some("4")),
        (r#"{"id\\":1,"id ":2,"Id":3,"result":1}"#, None),
    ];
    for (message, id) in rows {
        let scanned = scan_every_split(message.as_bytes()).expect(message);
        assert_eq!(scanned.whole, message);
        assert_eq!(scanned.id, id.map(Bytes::from), "{message}");
        assert_eq!(scanned.kind, Some(Kind::Response), "{message}");
    }
}

#[test]
fn kind_follows_top_level_keys() {
    let rows = [
        (r"{}", None, false),
        (r#"{"x":{"method":1,"result":2}}"#, None, false),
        (r#"{"id":1,"result":{}}"#, Some(Kind::Response), false),
        (r#"{"id":1,"error":{"code":1}}"#, Some(Kind::Response), true),
        (r#"{"id":1,"error": null,"result":{}}"#, Some(Kind::Response), false),
        (r#"{"id":1,"\u0065rror":{}}"#, Some(Kind::Response), true),
        (r#"{"method":"result"}"#, Some(Kind::Call), false),
        (r#"{"params":{"error":1}}"#, Some(Kind::Call), false),
        (r#"{"\u006d\u0065\u0074\u0068\u006F\u0064":"x"}"#, Some(Kind::Call), false),
    ];
    for (message, kind, is_error) in rows {
        let scanned = scan_every_split(message.as_bytes()).expect(message);
        assert_eq!((scanned.kind, scanned.is_error), (kind, is_error), "{message}");
    }
}

#[test]
fn kind_is_known_before_the_value() {
    let mut scanner = Scanner::new(DEPTH);
    let mut out = VecDeque::new();

    scanner.feed(Bytes::from_static(b"{\"result\""), &mut out).unwrap();

    assert_eq!(scanner.kind(), Some(Kind::Response));
    assert!(!scanner.is_complete());
}

#[test]
fn malformed_messages_are_refused_wherever_they_are_cut() {
    let unexpected = |byte, offset| ScanError::Unexpected { byte, offset };
    let rows = [
        ("", ScanError::Incomplete),
        ("  ", ScanError::Incomplete),
        (r#"{"id":1"#, ScanError::Incomplete),
        (r#"{"a":"b}"#, ScanError::Incomplete),
        (r#"{"a":[[1]"#, ScanError::Incomplete),
        ("[]", ScanError::NotAnObject("an array")),
        (" [{\"id\":1}]", ScanError::NotAnObject("an array")),
        ("\"a\"", ScanError::NotAnObject("a string")),
        ("1", ScanError::NotAnObject("a number")),
        ("null", ScanError::NotAnObject("null")),
        ("true", ScanError::NotAnObject("a boolean")),
        ("<html>", unexpected(b'<', 0)),
        ("\u{feff}{}", unexpected(0xef, 0)),
        ("{}}", unexpected(b'}', 2)),
        ("{} {}", unexpected(b'{', 3)),
        (r#"{"a":[}]}"#, unexpected(b'}', 6)),
        (r#"{"a":{]}}"#, unexpected(b']', 6)),
        (r#"{"a":1]}"#, unexpected(b']', 6)),
        (r#"{"a":[]]}"#, unexpected(b']', 7)),
        (r#"{"a":}"#, unexpected(b'}', 5)),
        (r#"{"a"}"#, unexpected(b'}', 4)),
        (r#"{"a" "b":1}"#, unexpected(b'"', 5)),
        (r#"{"a":1,}"#, unexpected(b'}', 7)),
        ("{,}", unexpected(b',', 1)),
        ("{a:1}", unexpected(b'a', 1)),
        (r#"{"a":x "id":1}"#, unexpected(b'"', 7)),
        (r#"{"a":x"id":1}"#, unexpected(b'"', 6)),
        (r#"{"a":"b" "id":1}"#, unexpected(b'"', 9)),
        (r#"{"id":1 2}"#, unexpected(b'2', 8)),
        (r#"{"id":1"b"}"#, unexpected(b'"', 7)),
        (r#"{"id":null}"#, ScanError::InvalidId),
        (r#"{"id":true}"#, ScanError::InvalidId),
        (r#"{"id":{}}"#, ScanError::InvalidId),
        (r#"{"id":[1]}"#, ScanError::InvalidId),
        (r#"{"id":-}"#, ScanError::InvalidId),
        (r#"{"id":01}"#, ScanError::InvalidId),
        (r#"{"id":1x}"#, ScanError::InvalidId),
        (r#"{"id":"\x"}"#, ScanError::InvalidId),
        ("{\"id\":\"\n\"}", ScanError::InvalidId),
        (r#"{"id":1,"id":2}"#, ScanError::Duplicate("id")),
        (r#"{"id":1,"\u0069d":2}"#, ScanError::Duplicate("id")),
        (r#"{"method":1,"method":2}"#, ScanError::Duplicate("method")),
        (r#"{"method":1,"result":2}"#, ScanError::Ambiguous),
        (r#"{"error":1,"params":2}"#, ScanError::Ambiguous),
        (r#"{"\x69d":1}"#, ScanError::MalformedKey),
    ];
    for (message, error) in rows {
        assert_eq!(scan_every_split(message.as_bytes()), Err(error), "{message}");
    }
    assert_eq!(scan_every_split(b"{\"id\":\"\xff\"}"), Err(ScanError::InvalidId));
}

#[test]
fn failure_lasts() {
    let mut scanner = Scanner::new(DEPTH);
    let mut out = VecDeque::new();

    assert_eq!(
        scanner.feed(Bytes::from_static(b"[1"), &mut out),
        Err(ScanError::NotAnObject("an array"))
    );

    let next = scanner.feed(Bytes::from_static(b"{}"), &mut out);
    assert_eq!(next, Err(ScanError::NotAnObject("an array")));
    assert_eq!(scanner.finish(), Err(ScanError::NotAnObject("an array")));
}

#[test]
fn depth_is_limited() {
    let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));

    assert!(scan([nested(15).as_bytes()]).is_ok());
    assert_eq!(scan([nested(16).as_bytes()]), Err(ScanError::TooDeep { limit: DEPTH }));
    assert_eq!(scan([nested(100_000).as_bytes()]), Err(ScanError::TooDeep { limit: DEPTH }));
    assert_eq!(
        Scanner::new(0).feed(Bytes::from_static(b"{}"), &mut VecDeque::new()),
        Err(ScanError::TooDeep { limit: 0 })
    );
}

#[test]
fn id_is_limited_wherever_it_is_cut() {
    let message = |length: usize| format!("{{\"id\":\"{}\",\"result\":1}}", "a".repeat(length - 2));
    for size in [1, 7, 100, 1023, 1024, 1025, 4096] {
        let longest = scan(message(MAX_ID).as_bytes().chunks(size)).expect("an id at the limit");
        assert_eq!(longest.id.map(|id| id.len()), Some(MAX_ID), "by {size}");

        let too_long = scan(message(MAX_ID + 1).as_bytes().chunks(size));
        assert_eq!(too_long, Err(ScanError::LongId), "by {size}");
    }
}

#[test]
fn long_keys_are_other_keys() {
    for escapes in 0..8 {
        for length in 0..48 {
            let key = format!("{}{}\\\"", "\\u0069".repeat(escapes), "d".repeat(length));
            let message = format!("{{\"{key}\":1,\"id\":2}}");
            for size in 1..message.len() {
                let scanned = scan(message.as_bytes().chunks(size)).expect(&message);
                assert_eq!(scanned.id, Some(Bytes::from("2")), "{message}");
            }
        }
    }
}

#[test]
fn pieces_are_slices_of_the_chunks() {
    let chunk = Bytes::from_static(br#"{"result":{"a":[1,2]},"id":"abc","x":1}"#);
    let mut out = VecDeque::new();

    Scanner::new(DEPTH).feed(chunk.clone(), &mut out).unwrap();

    let pieces: Vec<_> = out.into_iter().collect();
    assert_eq!(
        pieces,
        [
            Piece::Span(Bytes::from(r#"{"result":{"a":[1,2]},"id":"#)),
            Piece::Id(Bytes::from(r#""abc""#)),
            Piece::Span(Bytes::from(r#","x":1}"#)),
        ]
    );
    for Piece::Span(bytes) | Piece::Id(bytes) | Piece::Added(bytes) | Piece::Name(_, bytes) in
        pieces
    {
        assert!(chunk.as_ptr_range().contains(&bytes.as_ptr()), "{bytes:?} was copied");
    }
}

#[test]
fn huge_strings_with_escapes_at_chunk_borders() {
    let text = r#"plain \"quoted\" \\ \\\" {\"id\":[ \u0022 "#.repeat(400);
    let message = format!("{{\"result\":{{\"text\":\"{text}\"}},\"top\":\"{text}\",\"id\":9}}");

    for size in (1..70).chain([4095, 4096, 4097]) {
        let scanned = scan(message.as_bytes().chunks(size)).expect("a valid message");
        assert_eq!(scanned.whole, message, "by {size}");
        assert_eq!(scanned.id, Some(Bytes::from("9")), "by {size}");
    }
}

/// What comes out of a scanner that makes results modern.
fn added<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<String, ScanError> {
    let mut scanner = Scanner::new(DEPTH).adding(vec![
        Addition::new("resultType", "\"complete\""),
        Addition::replacing("cacheScope", "\"private\""),
    ]);
    let mut out = VecDeque::new();
    for chunk in chunks {
        scanner.feed(Bytes::copy_from_slice(chunk), &mut out)?;
    }
    scanner.finish()?;
    let whole: Vec<u8> = out
        .into_iter()
        .flat_map(|piece| match piece {
            Piece::Span(bytes) | Piece::Id(bytes) | Piece::Added(bytes) | Piece::Name(_, bytes) => {
                assert!(!bytes.is_empty(), "an empty piece");
                bytes
            }
        })
        .collect();
    Ok(String::from_utf8(whole).unwrap())
}

#[test]
fn what_a_result_lacks_is_added_wherever_it_is_cut() {
    let both = r#""resultType":"complete","cacheScope":"private""#;
    let rows = [
        (r#"{"id":1,"result":{}}"#, format!(r#"{{"id":1,"result":{{{both}}}}}"#)),
        (r#"{"result":{ } ,"id":1}"#, format!(r#"{{"result":{{ {both}}} ,"id":1}}"#)),
        (r#"{"result":{"a":[{}]},"id":1}"#, format!(r#"{{"result":{{"a":[{{}}],{both}}},"id":1}}"#)),
        (r#"{"result":{"a":-1.5e3 }}"#, format!(r#"{{"result":{{"a":-1.5e3 ,{both}}}}}"#)),
        (r#"{"result":{"a":true}}"#, format!(r#"{{"result":{{"a":true,{both}}}}}"#)),
        (
            r#"{"result":{"resultType":"task","b":{"cacheScope":1}}}"#,
            r#"{"result":{"resultType":"task","b":{"cacheScope":1},"cacheScope":"private"}}"#.into(),
        ),
        (
            r#"{"result":{"cacheScope" : "pub\"lic" , "resultType":"x"},"x":{"cacheScope":"public"}}"#,
            r#"{"result":{"cacheScope" : "private" , "resultType":"x"},"x":{"cacheScope":"public"}}"#.into(),
        ),
        (
            r#"{"result":{"result\u0054ype":1,"cacheScope":17}}"#,
            r#"{"result":{"result\u0054ype":1,"cacheScope":"private"}}"#.into(),
        ),
        (
            r#"{"result":{"cacheScope":{"a":"}"},"resultType":1, "id":2},"id":3}"#,
            r#"{"result":{"cacheScope":{"a":"}"},"resultType":1, "id":2},"id":3}"#.into(),
        ),
        (r#"{"result":[{}],"id":1}"#, r#"{"result":[{}],"id":1}"#.into()),
        (r#"{"error":{"code":1},"id":1}"#, r#"{"error":{"code":1},"id":1}"#.into()),
        (r#"{"x":{},"result":null}"#, r#"{"x":{},"result":null}"#.into()),
    ];
    for (message, expected) in rows {
        let bytes = message.as_bytes();
        assert_eq!(added([bytes]).as_ref(), Ok(&expected));
        for cut in 0..=bytes.len() {
            assert_eq!(added([&bytes[..cut], &bytes[cut..]]).as_ref(), Ok(&expected), "at {cut}");
        }
        assert_eq!(added(bytes.chunks(1)), Ok(expected), "{message} byte by byte");
    }
}

#[test]
fn malformed_results_are_refused_when_members_are_added() {
    for message in [
        r#"{"result":{"a"}}"#,
        r#"{"result":{"a":1,}}"#,
        r#"{"result":{,}}"#,
        r#"{"result":{"a":1]}"#,
        r#"{"result":{"a":1"#,
        r#"{"result":{"cacheScope":"x"#,
        r#"{"result":{"cacheScope":1"#,
    ] {
        assert!(added([message.as_bytes()]).is_err(), "{message}");
        assert!(added(message.as_bytes().chunks(1)).is_err(), "{message}");
    }
}

/// What comes out of a scanner that looks for names: URIs in brackets, ids of tasks in braces.
fn named<'a>(
    names: Names,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Result<String, ScanError> {
    let mut scanner = Scanner::new(DEPTH).naming(Some(names));
    let mut out = VecDeque::new();
    for chunk in chunks {
        scanner.feed(Bytes::copy_from_slice(chunk), &mut out)?;
    }
    scanner.finish()?;
    let pieces = out.into_iter().map(|piece| match piece {
        Piece::Span(bytes) | Piece::Id(bytes) | Piece::Added(bytes) => text(&bytes),
        Piece::Name(Name::Uri, bytes) => format!("[{}]", text(&bytes)),
        Piece::Name(Name::Task, bytes) => format!("{{{}}}", text(&bytes)),
    });
    Ok(pieces.collect())
}

/// Whether a result is final, as far as it has come.
fn weighed<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Option<bool> {
    let mut scanner = Scanner::new(DEPTH).weighing();
    let (mut out, mut fed, mut passed) = (VecDeque::new(), Vec::new(), Vec::new());
    for chunk in chunks {
        scanner.feed(Bytes::copy_from_slice(chunk), &mut out).unwrap();
        fed.extend_from_slice(chunk);
    }
    for piece in out {
        let (Piece::Span(bytes) | Piece::Id(bytes)) = piece else { panic!("{piece:?}") };
        passed.extend_from_slice(&bytes);
    }
    assert!(fed.starts_with(&passed) && (!scanner.is_complete() || fed == passed), "{fed:?}");
    scanner.is_final()
}

#[test]
fn what_asks_is_told_from_what_answers_wherever_it_is_cut() {
    for (message, verdict) in [
        (r#"{"id":1,"result":{"resultType":"input_required","#, Some(false)),
        (r#"{"id":1,"result":{"resultType":"task","#, Some(false)),
        (r#"{"id":1,"result":{"resultType":"complete","#, Some(true)),
        (r#"{"id":1,"result":{"resultType":"vendor/x","inputRequests":{"#, Some(true)),
        (r#"{"id":1,"result":{"resultType":"input_req"#, None),
        (r#"{"id":1,"result":{"result\u0054ype":"input\u005frequired"}}"#, Some(false)),
        (
            r#"{"id":1,"result":{"_meta":{"resultType":"task","content":[]},"requestState":"s","#,
            None,
        ),
        (r#"{"id":1,"result":{"inputRequests":{"a":{"resultType":"complete"}},"more":1,"#, None),
        (r#"{"id":1,"result":{"more":1,"inputRequests":{"a":{"#, None),
        (
            r#"{"id":1,"result":{"inputRequests":{},"more":1,"resultType":"input_required"}}"#,
            Some(false),
        ),
        (
            r#"{"id":1,"result":{"\u0069\u006e\u0070\u0075\u0074\u0052\u0065\u0071\u0075\u0065\u0073\u0074\u0073":{"#,
            None,
        ),
        (r#"{"id":1,"result":{"content":[{"#, Some(true)),
        (r#"{"id":1,"result":{"content":[],"resultType":"input_required"}}"#, Some(false)),
        (r#"{"id":1,"result":{"resultType":null,"#, None),
        (r#"{"id":1,"result":{}}"#, None),
        (r#"{"id":1,"result":["#, Some(true)),
        (r#"{"id":1,"result":null"#, Some(true)),
        (r#"{"id":1,"error":{"#, Some(true)),
        (r#"{"id":1,"method":"m","#, Some(true)),
        (r#"{"id":1,"resultType":"task","#, None),
    ] {
        for size in 1..=message.len() {
            let chunks = message.as_bytes().chunks(size);
            assert_eq!(weighed(chunks), verdict, "{message} by {size}");
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn names_are_found_at_known_places_wherever_they_are_cut() {
    for (names, result, expected) in [
        (
            Names::Contents,
            r#"{"uri":"no","contents":[{"text":"\"uri\":","uri":"a\"b"} , {"uri":7,"x":[{"uri":"no"}]}]}"#,
            r#"{"uri":"no","contents":[{"text":"\"uri\":","uri":["a\"b"]} , {"uri":7,"x":[{"uri":"no"}]}]}"#,
        ),
        (Names::Contents, r#"{"contents":[]}"#, r#"{"contents":[]}"#),
        (Names::Contents, r#"{"contents":[ ],"a":1}"#, r#"{"contents":[ ],"a":1}"#),
        (Names::Contents, r#"{"contents":["x",1 ,null,{}]}"#, r#"{"contents":["x",1 ,null,{}]}"#),
        (
            Names::Content,
            r#"{"content":[{"type":"resource_link","\u0075ri":"a"},{"resource":{"uri":"b"}}],"structuredContent":{"uri":"no"}}"#,
            r#"{"content":[{"type":"resource_link","\u0075ri":["a"]},{"resource":{"uri":["b"]}}],"structuredContent":{"uri":"no"}}"#,
        ),
        (
            Names::Messages,
            r#"{"messages":[{"content":{"resource":{"uri":"a"}}},{"content":[{"uri":"b"}],"uri":"no"}]}"#,
            r#"{"messages":[{"content":{"resource":{"uri":["a"]}}},{"content":[{"uri":["b"]}],"uri":"no"}]}"#,
        ),
        (
            Names::Task,
            r#"{"taskId":"t","result":{"taskId":"no","content":[{"uri":"a"}]},"content":[{"uri":"no"}]}"#,
            r#"{"taskId":{"t"},"result":{"taskId":"no","content":[{"uri":["a"]}]},"content":[{"uri":"no"}]}"#,
        ),
        (Names::Task, r#"[{"taskId":"no"}]"#, r#"[{"taskId":"no"}]"#),
        (Names::Task, "null", "null"),
    ] {
        let message = format!(r#"{{"uri":"no","result":{result},"id":1}}"#);
        let expected = format!(r#"{{"uri":"no","result":{expected},"id":1}}"#);
        let bytes = message.as_bytes();
        for cut in 0..=bytes.len() {
            let chunks = [&bytes[..cut], &bytes[cut..]];
            assert_eq!(named(names, chunks).as_ref(), Ok(&expected), "{message} at {cut}");
        }
        assert_eq!(named(names, bytes.chunks(1)), Ok(expected), "{message} byte by byte");
    }
}

#[test]
fn a_name_that_holds_what_it_names_passes_as_it_is() {
    for (length, is_name) in [(MAX_NAME - 2, true), (MAX_NAME - 1, false), (3 * MAX_NAME, false)] {
        let uri = format!(r#""{}""#, "x".repeat(length));
        let message = format!(r#"{{"result":{{"contents":[{{"uri":{uri}}}]}}}}"#);
        let shown = if is_name { format!("[{uri}]") } else { uri };
        let expected = format!(r#"{{"result":{{"contents":[{{"uri":{shown}}}]}}}}"#);
        for size in [1, 100, MAX_NAME, message.len()] {
            let found = named(Names::Contents, message.as_bytes().chunks(size));
            assert_eq!(found.as_ref(), Ok(&expected), "{length} by {size}");
        }
    }
}

#[test]
fn malformed_results_are_refused_when_names_are_looked_for() {
    for result in [
        r#"{"contents":[{"uri":"a"}}"#,
        r#"{"contents":[{"uri":"a"],1}"#,
        r#"{"contents":[,]}"#,
        r#"{"contents":[1,]}"#,
        r#"{"contents":[1}"#,
        r#"{"contents":[{"uri""a"}]}"#,
    ] {
        let message = format!(r#"{{"result":{result},"id":1}}"#);
        assert!(named(Names::Contents, [message.as_bytes()]).is_err(), "{message}");
        assert!(named(Names::Contents, message.as_bytes().chunks(1)).is_err(), "{message}");
    }
}

/// Any JSON value, at most a few levels deep, with strings full of what could mislead.
pub(crate) fn json() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        prop::collection::vec(
            prop_oneof![Just('"'), Just('\\'), Just('{'), Just(']'), Just('i'), any::<char>()],
            0..12
        )
        .prop_map(String::from_iter),
        Just("id".to_owned()),
        Just("result".to_owned()),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 8.0)),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((text.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// `key` as a JSON string, with the characters escaped that `mask` says.
fn escape(key: &str, mask: u8) -> String {
    let mut raw = String::from('"');
    for (at, character) in key.chars().enumerate() {
        if mask >> at & 1 == 1 {
            raw.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            raw.push(character);
        }
    }
    raw.push('"');
    raw
}

proptest! {
    #[test]
    fn results_get_what_they_lack_and_nothing_else(
        members in prop::collection::vec(("[a-c]{0,2}|resultType|cacheScope|result", json()), 0..5),
        pretty in any::<bool>(),
        size in 1_usize..24,
    ) {
        let mut result: serde_json::Map<String, Value> = members.into_iter().collect();
        let mut message = serde_json::json!({"a": {"result": {}}, "id": 1, "result": result});
        let text = if pretty { format!("{message:#}") } else { message.to_string() };

        let out: Value = serde_json::from_str(&added(text.as_bytes().chunks(size))?).unwrap();

        result.entry("resultType").or_insert_with(|| "complete".into());
        if !result.get("cacheScope").is_some_and(|scope| scope.is_object() || scope.is_array()) {
            result.insert("cacheScope".into(), "private".into());
        }
        message["result"] = result.into();
        prop_assert_eq!(out, message);
    }

    #[test]
    fn any_message_in_any_chunks_comes_back_with_its_id(
        others in prop::collection::vec(("[a-h]{0,3}|jsonrpc|id2", json()), 0..5),
        body in prop::option::of((prop_oneof![Just("method"), Just("params"), Just("result"), Just("error")], json())),
        id in prop::option::of(prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[0-9]{1,40}".prop_map(Value::from),
        ]),
        (id_at, body_at, mask) in (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()),
        space in "[ \t\r\n]{0,3}",
        pretty in any::<bool>(),
        sizes in prop::collection::vec(1_usize..24, 1..40),
    ) {
        let write = |value: &Value| if pretty { format!("{value:#}") } else { value.to_string() };
        let id = id.as_ref().map(write);
        let mut members: Vec<(String, String)> =
            others.iter().map(|(key, value)| (escape(key, mask), write(value))).collect();
        if let Some((key, value)) = &body {
            members.insert(body_at.index(members.len() + 1), (escape(key, mask), write(value)));
        }
        if let Some(id) = &id {
            members.insert(id_at.index(members.len() + 1), (escape("id", mask), id.clone()));
        }
        let members: Vec<String> =
            members.iter().map(|(key, value)| format!("{space}{key}{space}:{space}{value}{space}")).collect();
        let message = format!("{space}{{{}}}{space}", members.join(","));

        let mut chunks = Vec::new();
        let mut rest = message.as_bytes();
        for size in sizes.iter().cycle() {
            let (chunk, after) = rest.split_at((*size).min(rest.len()));
            chunks.push(chunk);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        let scanned = scan(chunks)?;

        prop_assert_eq!(scanned.whole, message);
        prop_assert_eq!(scanned.id, id.map(Bytes::from));
        let kind = body.as_ref().map(|(key, _)| match *key {
            "method" | "params" => Kind::Call,
            _ => Kind::Response,
        });
        prop_assert_eq!(scanned.kind, kind);
        prop_assert_eq!(scanned.is_error, body.is_some_and(|(key, value)| key == "error" && !value.is_null()));
    }

    #[test]
    fn garbage_never_panics_and_cuts_never_matter(
        garbage in prop::collection::vec(prop_oneof![Just(b'"'), Just(b'\\'), Just(b'{'), Just(b'}'), Just(b':'), Just(b','), any::<u8>()], 0..40),
        prefix in prop::sample::select(vec!["", "{\"id\":", "{\"a\":{", "{"]),
        size in 1_usize..9,
    ) {
        let message = [prefix.as_bytes(), garbage.as_slice()].concat();
        prop_assert_eq!(scan(message.chunks(size)), scan([message.as_slice()]));
    }

    #[test]
    fn what_serde_rejects_as_unbalanced_is_never_complete(value in json(), cut in any::<prop::sample::Index>()) {
        let message = format!("{{\"result\":{value},\"id\":1}}");
        let cut = cut.index(message.len());
        prop_assert!(scan([&message.as_bytes()[..cut]]).is_err());
    }
}
