use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::BytesMut;
use http::HeaderValue;
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::BrokenOff;
use super::*;
use crate::watchdog::{End, Watch};

type Content = UnsyncBoxBody<Bytes, io::Error>;

/// Both ends of a connection: the client's, and where what became of the server's is told.
struct Served {
    client: TcpStream,
    drain: CancellationToken,
    ended: tokio::task::JoinHandle<Option<Result<(), Ended>>>,
}

async fn served<A>(answer: impl Fn(Request<Incoming>) -> A + Send + 'static) -> Served
where
    A: Future<Output = Response<Content>> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let drain = CancellationToken::new();
    let watch = Watch::start(End { drain: drain.clone(), cut: None });
    let ended = tokio::spawn(async move {
        let activity = watch.begin();
        let refuse = |error: Malformed| {
            let mut response = response(format!("refused: {error}"));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        };
        let connection = pin!(serve(stream, &activity, None, answer, refuse));
        activity.guard(connection).await
    });
    Served { client, drain, ended }
}

fn response(body: impl Into<Bytes>) -> Response<Content> {
    let body = Full::new(body.into()).map_err(|never: Infallible| match never {});
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert("x-own", HeaderValue::from_static("yes"));
    response
}

/// A body of pieces that come when they are sent. `None` is a break.
fn stream(mut pieces: mpsc::Receiver<Option<&'static str>>) -> Response<Content> {
    let pieces = futures_util::stream::poll_fn(move |cx| {
        pieces.poll_recv(cx).map(|piece| {
            piece.map(|piece| {
                let data = piece.ok_or_else(|| io::Error::other("a break"))?;
                Ok(Frame::data(Bytes::from(data)))
            })
        })
    });
    Response::new(StreamBody::new(pieces).boxed_unsync())
}

/// Answers with a stream, of which the pieces are sent.
async fn streaming() -> (mpsc::Sender<Option<&'static str>>, Served) {
    let (pieces, body) = mpsc::channel(8);
    let body = std::sync::Mutex::new(Some(body));
    let answer = move |_| std::future::ready(stream(body.lock().unwrap().take().unwrap()));
    (pieces, served(answer).await)
}

/// Tells what was asked.
async fn echo(request: Request<Incoming>) -> Response<Content> {
    let what = format!("{} {} ", request.method(), request.uri());
    let (mut body, mut told) = (request.into_body(), BytesMut::from(what.as_bytes()));
    while let Some(piece) = body.piece().await {
        match piece {
            Ok(piece) => told.extend_from_slice(&piece),
            Err(BrokenOff) => told.extend_from_slice(b"broke off"),
        }
        if told.ends_with(b"broke off") {
            break;
        }
    }
    response(told)
}

/// An answer as it is written, but for the date.
fn written(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}\r\n{body}")
}

fn ok(body: &str) -> String {
    written("200 OK", &format!("x-own: yes\r\ncontent-length: {}\r\n", body.len()), body)
}

fn last(body: &str) -> String {
    let headers = format!("x-own: yes\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
    written("200 OK", &headers, body)
}

/// All that comes until the server closes.
async fn rest(client: &mut TcpStream) -> String {
    let mut all = Vec::new();
    within(client.read_to_end(&mut all)).await.unwrap();
    dateless(&all)
}

/// What comes until it ends so.
async fn until(client: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    while !dateless(&all).ends_with(end) {
        assert_ne!(within(client.read_buf(&mut all)).await.unwrap(), 0, "{}", dateless(&all));
    }
    dateless(&all)
}

fn dateless(all: &[u8]) -> String {
    let lines = std::str::from_utf8(all).unwrap().split_inclusive("\r\n");
    lines.filter(|line| !line.starts_with("date: ")).collect()
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), what).await.expect("nothing came in time")
}

#[tokio::test]
async fn requests_are_the_same_in_whatever_pieces_they_come() {
    let all: &[u8] = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\none\
        \r\nGET /b?c HTTP/1.1\r\nhost: h\r\n\r\n\
        POST /d HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
        2\r\ntw\r\n1;x=y\r\no\r\n0\r\nA: b\r\n\r\n\
        HEAD /e HTTP/1.1\r\nHost: h\r\n\r\n\
        GET /f HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let head = "HTTP/1.1 200 OK\r\nx-own: yes\r\ncontent-length: 8\r\n\r\n";
    let expected =
        [ok("POST /a one"), ok("GET /b?c "), ok("POST /d two"), head.into(), last("GET /f ")];
    for at in 0..all.len() {
        let Served { mut client, ended, .. } = served(echo).await;
        client.set_nodelay(true).unwrap();
        let (first, second) = all.split_at(at);
        client.write_all(first).await.unwrap();
        // So that the other end reads them apart, whenever it may.
        tokio::task::yield_now().await;
        client.write_all(second).await.unwrap();
        assert_eq!(rest(&mut client).await, expected.concat(), "{at}");
        within(ended).await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test]
async fn one_more_request_is_taken_as_version_and_header_say() {
    for (head, persists) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", false),
        ("GET / HTTP/1.0\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", true),
    ] {
        let Served { mut client, .. } = served(echo).await;
        client.write_all(head.as_bytes()).await.unwrap();
        let answer = until(&mut client, "GET / ").await;
        assert_eq!(answer.contains("connection: close"), !persists, "{head}");
        let kept = persists && head.contains("1.0");
        assert_eq!(answer.contains("connection: keep-alive"), kept, "{head}");
        if persists {
            client.write_all(head.as_bytes()).await.unwrap();
            assert_eq!(until(&mut client, "GET / ").await, answer);
        } else {
            assert_eq!(rest(&mut client).await, "", "{head}");
        }
    }
}

#[tokio::test]
async fn what_is_no_request_is_told_so_and_what_follows_is_not_heard() {
    let huge = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(MAX_HEAD));
    for (head, expected) in [
        ("GET / HTTP/1.1\r\n\r\n", Malformed::Host),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Malformed::Host),
        ("GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n", Malformed::Host),
        ("GET / HTTP/1.1\nHost: a\n\n", Malformed::Line),
        ("GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", Malformed::Head),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Malformed::Head),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Head),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Malformed::Head),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Malformed::Head),
        ("\x16\x03\x01\r\n\r\n", Malformed::Head),
        ("\r\n\r\n", Malformed::Head),
        ("GET a b HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Head),
        ("GET http:// HTTP/1.1\r\nHost: a\r\n\r\n", Malformed::Target),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", Malformed::Length),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", Malformed::Encoding),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Malformed::Encoding),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            Malformed::Length,
        ),
        (&huge, Malformed::LargeHead),
    ] {
        let Served { mut client, .. } = served(echo).await;
        let after = "GET /after HTTP/1.1\r\nHost: h\r\n\r\n";
        client.write_all(format!("{head}{after}").as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head:?}: {answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert!(answer.ends_with(&format!("refused: {expected}")), "{head:?}: {answer}");
    }
}

#[tokio::test]
async fn a_large_body_comes_as_it_is_taken() {
    let body = "0123456789abcdef".repeat(1 << 16);
    for head in ["Content-Length: 1048576", "Transfer-Encoding: chunked"] {
        let Served { mut client, .. } = served(async |request| {
            let (mut body, mut all, mut largest) = (request.into_body(), 0, 0);
            while let Some(piece) = body.piece().await {
                let piece = piece.unwrap();
                (all, largest) = (all + piece.len(), largest.max(piece.len()));
                // Others get on meanwhile.
                tokio::task::yield_now().await;
            }
            response(format!("{all} {}", largest <= 128 * 1024))
        })
        .await;
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{head}\r\n\r\n");
        let chunks = format!("80000\r\n{0}\r\n80000\r\n{0}\r\n0\r\n\r\n", &body[..1 << 19]);
        for _ in 0..2 {
            client.write_all(head.as_bytes()).await.unwrap();
            let body = if head.contains("chunked") { &chunks } else { &body };
            client.write_all(body.as_bytes()).await.unwrap();
            assert_eq!(until(&mut client, "true").await, ok("1048576 true"));
        }
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_no_whole_one() {
    for (sent, closes) in [
        ("Content-Length: 5\r\n\r\nabc", true),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", true),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nx\r\nGET / HTTP/1.1\r\n\r\n", false),
    ] {
        let Served { mut client, .. } = served(echo).await;
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{sent}");
        client.write_all(head.as_bytes()).await.unwrap();
        if closes {
            client.shutdown().await.unwrap();
        }
        assert_eq!(rest(&mut client).await, last("POST / abcbroke off"), "{sent}");
    }
}

#[tokio::test]
async fn who_waits_for_a_word_gets_it_when_the_body_is_wanted() {
    let head = b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    let Served { mut client, .. } = served(echo).await;
    client.write_all(head).await.unwrap();
    assert_eq!(until(&mut client, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(b"one").await.unwrap();
    assert_eq!(until(&mut client, "one").await, ok("POST / one"));

    let Served { mut client, .. } = served(async |_request| {
        tokio::task::yield_now().await;
        response("no")
    })
    .await;
    client.write_all(head).await.unwrap();
    assert_eq!(rest(&mut client).await, last("no"), "nobody wants it");
}

#[tokio::test]
async fn who_sends_an_empty_body_that_nobody_reads_may_ask_again() {
    let Served { mut client, .. } = served(async |_| response("yes")).await;
    for _ in 0..2 {
        let head = b"DELETE / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        client.write_all(head).await.unwrap();
        assert_eq!(until(&mut client, "yes").await, ok("yes"));
    }
}

#[tokio::test]
async fn an_answer_reaches_who_is_still_sending() {
    let Served { mut client, ended, .. } = served(async |_| response("no")).await;
    let head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 33554432\r\n\r\n";
    client.write_all(head).await.unwrap();
    // More than both ends keep for each other.
    let piece = vec![b'x'; 1 << 20];
    for _ in 0..32 {
        client.write_all(&piece).await.unwrap();
    }
    assert_eq!(rest(&mut client).await, last("no"));
    drop(client);
    within(ended).await.unwrap().unwrap().unwrap();
}

/// Counts when it is dropped.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn an_answer_is_given_up_when_its_client_goes() {
    let dropped = Arc::<AtomicUsize>::default();
    let count = dropped.clone();
    let Served { mut client, ended, .. } = served(move |_| {
        let guard = Dropped(count.clone());
        async move {
            let _guard = guard;
            std::future::pending().await
        }
    })
    .await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    drop(client);
    assert!(matches!(within(ended).await.unwrap(), Some(Err(Ended::Gone))));
    assert_eq!(dropped.load(Ordering::Relaxed), 1);

    // Whatever else it has sent.
    for more in ["", "\r\n", "GET /b HTTP/1.1\r\n"] {
        let (pieces, Served { mut client, ended, .. }) = streaming().await;
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\n\r\n{more}");
        client.write_all(request.as_bytes()).await.unwrap();
        pieces.try_send(Some("one")).unwrap();
        let head = written("200 OK", "transfer-encoding: chunked\r\n", "3\r\none\r\n");
        assert_eq!(until(&mut client, "one\r\n").await, head);
        drop(client);
        within(pieces.closed()).await;
        assert!(matches!(within(ended).await.unwrap(), Some(Err(Ended::Gone))), "{more:?}");
    }
}

#[tokio::test]
async fn a_stream_is_written_as_it_comes_and_has_an_end_only_if_it_is_whole() {
    for (version, whole) in [("1.1", true), ("1.1", false), ("1.0", true), ("1.0", false)] {
        let (pieces, Served { mut client, ended, .. }) = streaming().await;
        let head = format!("GET / HTTP/{version}\r\nHost: h\r\nConnection: keep-alive\r\n\r\n");
        client.write_all(head.as_bytes()).await.unwrap();
        let (head, first, second, end) = match version {
            "1.1" => {
                ("transfer-encoding: chunked\r\n", "3\r\none\r\n", "3\r\ntwo\r\n", "0\r\n\r\n")
            }
            _ => ("connection: close\r\n", "one", "two", ""),
        };
        pieces.try_send(Some("one")).unwrap();
        assert_eq!(until(&mut client, first).await, written("200 OK", head, first));
        pieces.try_send(Some("")).unwrap();
        pieces.try_send(Some("two")).unwrap();
        assert_eq!(until(&mut client, second).await, second);
        if whole {
            drop(pieces);
            if version == "1.1" {
                assert_eq!(until(&mut client, end).await, end);
            } else {
                assert_eq!(rest(&mut client).await, end);
            }
        } else {
            // What came before it is told still.
            pieces.try_send(Some("two")).unwrap();
            pieces.try_send(None).unwrap();
            let (mut all, second) = (Vec::new(), second.as_bytes());
            let read = within(client.read_to_end(&mut all)).await;
            // Where only the end of the connection is the end of the body, that is no proper one.
            assert_eq!(read.is_err(), version == "1.0");
            assert!(version == "1.0" || all == second, "{all:?}");
            assert!(matches!(within(ended).await.unwrap(), Some(Err(Ended::BrokenOff))));
        }
    }
}

#[tokio::test]
async fn large_pieces_keep_their_order() {
    let Served { mut client, .. } = served(async |_| {
        let sizes = [3, 5000, 0, 1, 4096, 4097, 70_000, 2, 100_000];
        let pieces = sizes.into_iter().enumerate().map(|(index, size)| {
            let digit = b'0' + u8::try_from(index).unwrap();
            Ok(Frame::data(Bytes::from(vec![digit; size])))
        });
        Response::new(StreamBody::new(futures_util::stream::iter(pieces)).boxed_unsync())
    })
    .await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    let answer = rest(&mut client).await;
    let (_, mut body) = answer.split_once("\r\n\r\n").unwrap();
    let mut found = Vec::new();
    while let Some((size, more)) = body.split_once("\r\n") {
        let (piece, more) = more.split_at(usize::from_str_radix(size, 16).unwrap());
        let digit = piece.bytes().next().map(|digit| digit - b'0');
        assert!(piece.bytes().all(|byte| Some(byte - b'0') == digit));
        found.push((digit, piece.len()));
        body = more.strip_prefix("\r\n").unwrap();
    }
    let expected = [3, 5000, 1, 4096, 4097, 70_000, 2, 100_000];
    let digits = [0, 1, 3, 4, 5, 6, 7, 8];
    let mut expected: Vec<_> = digits.into_iter().map(Some).zip(expected).collect();
    expected.push((None, 0));
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_gateway_that_drains_lets_go_who_is_idle_and_hears_who_is_new() {
    let request = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    let Served { mut client, drain, ended } = served(echo).await;
    client.write_all(request).await.unwrap();
    assert_eq!(until(&mut client, "GET / ").await, ok("GET / "));
    drain.cancel();
    assert_eq!(rest(&mut client).await, "");
    within(ended).await.unwrap().unwrap().unwrap();

    let Served { mut client, drain, .. } = served(echo).await;
    drain.cancel();
    tokio::task::yield_now().await;
    client.write_all(request).await.unwrap();
    assert_eq!(rest(&mut client).await, last("GET / "));
}
