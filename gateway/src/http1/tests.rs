use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

/// A message as it is read when it comes in these pieces: its head, and the body.
fn read(pieces: &[&[u8]]) -> Result<(ResponseHead, Bytes), Malformed> {
    let (mut buffer, mut lines) = (BytesMut::new(), Lines::default());
    let (mut head, mut body) = (None, BytesMut::new());
    let mut decoder = Decoder::UntilClose;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if head.is_none()
            && let Some(end) = lines.end(&buffer, 1024)?
        {
            let read = response(&buffer.split_to(end))?;
            decoder = match read.framing {
                Framing { chunked: true, .. } => Decoder::Size,
                Framing { length: Some(length), .. } => Decoder::Length(length),
                _ => Decoder::UntilClose,
            };
            head = Some(read);
        }
        while head.is_some()
            && let Part::Data(data) = decoder.next(&mut buffer)?
        {
            assert!(!data.is_empty());
            body.extend_from_slice(&data);
            // Asking changes nothing.
            if decoder.is_over(&mut buffer) {
                assert_eq!(decoder.next(&mut buffer), Ok(Part::End));
            }
        }
    }
    Ok((head.ok_or(Malformed::Head)?, body.freeze()))
}

fn whole(message: &[u8]) -> Result<(ResponseHead, Bytes), Malformed> {
    read(&[message])
}

const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: Chunked\r\n\r\n\
    4\r\nWiki\r\n6;name=\"v\"\r\npedia \r\n00E\r\nin \r\n\r\nchunks.\r\n0\r\nDigest: x\r\n\r\n";

#[test]
fn a_message_reads_the_same_in_whatever_pieces_it_comes() {
    let length: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nX: y\r\n\r\nhello world";
    for (message, expected) in
        [(CHUNKED, &b"Wikipedia in \r\n\r\nchunks."[..]), (length, b"hello world")]
    {
        for first in 0..message.len() {
            for second in first..message.len() {
                let pieces = [&message[..first], &message[first..second], &message[second..]];

                let (head, body) = read(&pieces).unwrap();

                assert_eq!(body, expected, "{first} {second}");
                assert_eq!(head.status, 200);
                assert_eq!(head.headers.len(), 1);
            }
        }
        let bytes: Vec<&[u8]> = message.chunks(1).collect();
        assert_eq!(read(&bytes).unwrap().1, expected);
    }
}

#[test]
fn what_two_readers_could_take_for_two_messages_is_refused() {
    for (fields, expected) in [
        ("Content-Length: 5\r\nContent-Length: 6", Malformed::Length),
        ("Content-Length: +5", Malformed::Length),
        ("Content-Length: -5", Malformed::Length),
        ("Content-Length: 0x5", Malformed::Length),
        ("Content-Length: 5, 5", Malformed::Length),
        ("Content-Length: ", Malformed::Length),
        ("Content-Length: 18446744073709551616", Malformed::Length),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", Malformed::Encoding),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", Malformed::Length),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Malformed::Encoding),
        ("Transfer-Encoding: gzip, chunked", Malformed::Encoding),
        ("Transfer-Encoding: chunked, identity", Malformed::Encoding),
        ("Transfer-Encoding: xchunked", Malformed::Encoding),
        ("Transfer-Encoding:", Malformed::Encoding),
        ("Content-Length: 5\nX: y", Malformed::Line),
        ("X: y\n\nZ: z", Malformed::Line),
        ("X: a\r\n b", Malformed::Head),
        ("X: a\r\n\tb", Malformed::Head),
        (" X: a", Malformed::Head),
        ("Content-Length : 5", Malformed::Head),
        ("X Y: 5", Malformed::Head),
        ("X", Malformed::Head),
        (": x", Malformed::Head),
        ("X: a\rb", Malformed::Head),
        ("X: a\0b", Malformed::Head),
    ] {
        let message = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nhello");
        assert_eq!(whole(message.as_bytes()).map(|_| ()), Err(expected), "{fields:?}");
    }
    let twice = whole(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(twice.unwrap().1, "hello");
}

#[test]
fn chunks_without_proper_sizes_and_ends_are_refused() {
    for (body, expected) in [
        ("\r\n", Malformed::Chunk),
        ("g\r\n", Malformed::Chunk),
        ("-1\r\na\r\n", Malformed::Chunk),
        ("+1\r\na\r\n", Malformed::Chunk),
        ("0x1\r\na\r\n", Malformed::Chunk),
        (" 1\r\na\r\n", Malformed::Chunk),
        ("1 1\r\na\r\n", Malformed::Chunk),
        ("1\x0c\r\na\r\n", Malformed::Chunk),
        ("1\na\r\n", Malformed::Chunk),
        ("1\ra\r\n", Malformed::Chunk),
        ("1;x\ny\r\na\r\n", Malformed::Chunk),
        ("1\r\nab\r\n", Malformed::Chunk),
        ("1\r\na\n", Malformed::Chunk),
        ("1\r\na\rb", Malformed::Chunk),
        ("10000000000000000\r\n", Malformed::Chunk),
        ("0\r\nno colon\r\n\r\n", Malformed::Trailers),
        ("0\r\nX: y\n\r\n", Malformed::Trailers),
        ("0\r\n\n", Malformed::Trailers),
    ] {
        let message = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        assert_eq!(whole(message.as_bytes()).map(|_| ()), Err(expected), "{body:?}");
        let pieces: Vec<&[u8]> = message.as_bytes().chunks(1).collect();
        assert_eq!(read(&pieces).map(|_| ()), Err(expected), "{body:?} by bytes");
    }
}

#[test]
fn heads_chunk_lines_and_trailers_have_bounds() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = "x".repeat(20_000);
    for (message, expected) in [
        (format!("HTTP/1.1 200 OK\r\nX: {long}"), Malformed::LargeHead),
        (format!("HTTP/1.1 200 OK\r\nX: {long}\r\n\r\n"), Malformed::LargeHead),
        (format!("{chunked}1;{long}"), Malformed::Chunk),
        (format!("{chunked}{}", "0".repeat(2000)), Malformed::Chunk),
        (format!("{chunked}0\r\nX: {long}"), Malformed::Trailers),
        (format!("{chunked}0\r\n{}", "X: y\r\n".repeat(4000)), Malformed::Trailers),
    ] {
        assert_eq!(whole(message.as_bytes()).map(|_| ()), Err(expected), "{message:.60}");
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(101));
    assert_eq!(whole(many.as_bytes()).map(|_| ()), Err(Malformed::Head));
}

#[test]
fn a_body_without_a_length_goes_on() {
    let (head, body) = read(&[b"HTTP/1.0 200 OK\r\n\r\nab", b"cd"]).unwrap();

    assert_eq!(body, "abcd");
    assert!(!head.framing.persists(head.minor_version));
}

#[test]
fn connections_persist_as_the_version_and_the_header_say() {
    for (message, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n", true),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\n\r\n", false),
        ("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\nConnection: close\r\n\r\n", false),
        ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n", true),
    ] {
        let head = whole(message.as_bytes()).unwrap().0;
        assert_eq!(head.framing.persists(head.minor_version), expected, "{message:?}");
    }
}

/// Pieces of messages, right and wrong, in any order.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let text = |text: &'static str| Just(text.as_bytes().to_vec());
    prop_oneof![
        text("HTTP/1.1 200 OK\r\n"),
        text("HTTP/1.0 99 \r\n"),
        text("Content-Length: 3\r\n"),
        text("Content-Length: 4\r\n"),
        text("Transfer-Encoding: chunked\r\n"),
        text("Connection: close\r\n"),
        text("\r\n"),
        text("\n"),
        text("\r"),
        text("0"),
        text("3\r\nabc\r\n"),
        text("ffffffffffffffff\r\n"),
        text("1;x=y\r\na\r\n"),
        text("0\r\nA: b\r\n\r\n"),
        proptest::collection::vec(any::<u8>(), 0..8),
    ]
}

/// The head of a request as it is read when it comes in pieces.
fn asked(pieces: &[&[u8]]) -> Result<Option<RequestHead>, Malformed> {
    let (mut buffer, mut lines) = (BytesMut::new(), Lines::default());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if let Some(end) = lines.end(&buffer, 1024)? {
            return request(&buffer.split_to(end).freeze()).map(Some);
        }
    }
    Ok(None)
}

#[test]
fn a_request_has_its_headers_but_not_those_of_its_connection() {
    let head =
        b"POST http://h/a?b HTTP/1.1\r\nhOST: h\r\nX-A: 1\r\nx-a:\t2 \r\nConnection: close\r\n\
        Expect: 100-Continue\r\nContent-Length: 7\r\n\r\n";

    let RequestHead { request, framing, expects } = asked(&[head]).unwrap().unwrap();

    assert_eq!(request.uri(), "http://h/a?b");
    assert_eq!(request.headers().len(), 4);
    assert_eq!(request.headers().get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(framing, Framing { length: Some(7), close: true, ..Framing::default() });
    assert!(expects);
}

proptest! {
    /// Whatever comes is read or refused, and the same way in whatever pieces.
    #[test]
    fn any_bytes_read_the_same_in_any_pieces(
        fragments in proptest::collection::vec(fragment(), 0..12),
        begins in any::<bool>(),
        size in 1_usize..9,
    ) {
        let start: &[u8] = if begins { b"HTTP/1.1 200 OK\r\n" } else { b"" };
        let message = [start, &fragments.concat()].concat();
        let pieces: Vec<&[u8]> = message.chunks(size).collect();

        let once = whole(&message).map(|(head, body)| (head.status, head.headers, body));
        let pieced = read(&pieces).map(|(head, body)| (head.status, head.headers, body));

        prop_assert_eq!(once, pieced);
    }

    #[test]
    fn any_bytes_ask_the_same_in_any_pieces(
        fragments in proptest::collection::vec(fragment(), 0..12),
        begins in any::<bool>(),
        size in 1_usize..9,
    ) {
        let start: &[u8] = if begins { b"GET /a HTTP/1.1\r\nHost: h\r\n" } else { b"" };
        let message = [start, &fragments.concat()].concat();
        let pieces: Vec<&[u8]> = message.chunks(size).collect();

        let told = |read: Result<Option<RequestHead>, Malformed>| {
            read.map(|head| head.map(|head| (format!("{:?}", head.request), head.framing)))
        };
        prop_assert_eq!(told(asked(&[&message])), told(asked(&pieces)));
    }

    #[test]
    fn chunks_of_any_sizes_read_as_what_they_hold(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
        size in 1_usize..50,
    ) {
        let mut message = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for chunk in &chunks {
            message.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
            message.extend_from_slice(chunk);
            message.extend_from_slice(b"\r\n");
        }
        message.extend_from_slice(b"0\r\n\r\n");

        let (_, body) = read(&message.chunks(size).collect::<Vec<_>>()).unwrap();

        prop_assert_eq!(body, chunks.concat());
    }
}
