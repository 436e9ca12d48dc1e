use std::net::SocketAddr;

use gateway_core::Endpoint;
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::egress::Egress;
use super::*;

const LIMIT: Duration = Duration::from_secs(5);
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

struct Stage {
    listener: TcpListener,
    client: Arc<HttpClient>,
    template: Template,
}

async fn stage() -> Stage {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let url: http::Uri = format!("http://{address}/mcp").parse().unwrap();
    let endpoint = Endpoint {
        streamable: url.clone(),
        sse: url.clone(),
        transport: crds::Transport::Auto,
        host: None,
        address: Some(address.ip()),
        authorities: None,
    };
    let client = HttpClient::new(&Connector::new(&endpoint, Egress::unknown(), LIMIT));
    Stage { listener, client, template: Template::new(&url, None).posting() }
}

impl Stage {
    fn send(&self, body: impl Into<Bytes>) -> Sending {
        self.client.send(self.template.request(&Method::POST, &[], body.into()))
    }

    /// Connections that wait for a request.
    fn idle(&self) -> usize {
        self.client.0.iter().map(|lane| lane.idle().len()).sum()
    }

    async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// Sends a request to which the next connection says this, piece by piece, and what came of it.
    async fn told(&self, pieces: &[&[u8]]) -> Result<(StatusCode, Bytes), Fault> {
        let serve = async {
            let mut server = self.accept().await;
            read_request(&mut server).await;
            for piece in pieces {
                server.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (answer, ()) = tokio::join!(answer(self.send("hello")), serve);
        answer
    }
}

/// One request, and its body.
async fn read_request(server: &mut TcpStream) -> String {
    let mut text = String::new();
    loop {
        let mut bytes = [0; 1024];
        let read = server.read(&mut bytes).await.unwrap();
        assert!(read > 0, "{text}");
        text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && head.contains(&format!("content-length: {}", body.len()))
        {
            return text;
        }
    }
}

async fn read_body(mut body: Body) -> Result<Bytes, Fault> {
    let mut whole = Vec::new();
    while let Some(data) = std::future::poll_fn(|cx| body.poll_data(cx)).await {
        whole.extend_from_slice(&data?);
    }
    Ok(whole.into())
}

async fn answer(sending: Sending) -> Result<(StatusCode, Bytes), Fault> {
    let response = sending.await?;
    Ok((response.status(), read_body(response.into_body()).await?))
}

#[tokio::test]
async fn requests_on_one_connection_are_written_whole() {
    let stage = stage().await;
    let serve = async {
        let mut server = stage.accept().await;
        let first = read_request(&mut server).await;
        server.write_all(ANSWER).await.unwrap();
        let second = read_request(&mut server).await;
        server.write_all(ANSWER).await.unwrap();
        (first, second)
    };
    let call = async {
        assert_eq!(answer(stage.send("one")).await.unwrap().1, "ok");
        let (accept, own) = (http::header::ACCEPT, "x-own".parse().unwrap());
        let (plain, yes) = ("text/plain".parse().unwrap(), "yes".parse().unwrap());
        let headers = [(&accept, &plain), (&own, &yes)];
        let request = stage.template.request(&Method::DELETE, &headers, Bytes::new());
        assert_eq!(answer(stage.client.send(request)).await.unwrap().1, "ok");
    };

    let ((first, second), ()) = tokio::join!(serve, call);

    let host = stage.listener.local_addr().unwrap();
    assert_eq!(
        first,
        format!(
            "POST /mcp HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
             accept: application/json, text/event-stream\r\ncontent-length: 3\r\n\r\none"
        )
    );
    assert!(second.starts_with("DELETE /mcp HTTP/1.1\r\nhost: "), "{second}");
    assert!(second.contains("\r\naccept: text/plain\r\nx-own: yes\r\ncontent-length: 0\r\n\r\n"));
    assert_eq!(second.matches("accept").count(), 1, "{second}");
}

#[tokio::test]
async fn answers_read_the_same_in_whatever_pieces_they_come() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n";
    for (framing, body) in [
        ("Content-Length: 5", "hello"),
        ("Transfer-Encoding: chunked", "2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        ("Connection: close", "hello"),
    ] {
        let message = format!("{interim}HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{body}");
        for at in 0..message.len() {
            let (first, second) = message.as_bytes().split_at(at);
            let told = stage().await.told(&[first, second]).await;
            assert_eq!(told, Ok((StatusCode::OK, Bytes::from("hello"))), "{framing}, {at}");
        }
    }
}

#[tokio::test]
async fn what_is_no_answer_is_a_fault() {
    for message in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.1 200 OK\n\nhello",
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        &"HTTP/1.1 100 Continue\r\n\r\n".repeat(50),
        &format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(70_000)),
    ] {
        let told = stage().await.told(&[message.as_bytes()]).await;
        assert!(matches!(told, Err(Fault::Closed(_))), "{message:.60}: {told:?}");
    }
}

#[tokio::test]
async fn a_connection_that_was_closed_meanwhile_is_replaced() {
    let stage = stage().await;
    for unasked in [&b""[..], b"HTTP/1.1 408 Request Timeout\r\n\r\n"] {
        let serve = async {
            let mut server = stage.accept().await;
            read_request(&mut server).await;
            server.write_all(ANSWER).await.unwrap();
            server
        };
        let (first, mut server) = tokio::join!(answer(stage.send("one")), serve);
        assert_eq!(first.unwrap().1, "ok");
        server.write_all(unasked).await.unwrap();
        drop(server);
        // What comes over another connection after that is seen after that.
        let (_client, _server) =
            tokio::join!(TcpStream::connect(stage.listener.local_addr().unwrap()), stage.accept());
        assert_eq!(stage.idle(), 1);

        assert_eq!(stage.told(&[ANSWER]).await.unwrap().1, "ok");
        stage.client.0.iter().for_each(|lane| lane.idle().clear());
    }
}

#[tokio::test]
async fn a_request_that_left_is_not_sent_again() {
    let stage = stage().await;
    let serve = async {
        let mut server = stage.accept().await;
        read_request(&mut server).await;
        server.write_all(ANSWER).await.unwrap();
        read_request(&mut server).await;
    };
    let call = async {
        assert_eq!(answer(stage.send("one")).await.unwrap().1, "ok");
        answer(stage.send("two")).await
    };

    let (told, ()) = tokio::join!(call, serve);

    assert!(matches!(told, Err(Fault::Closed(_))), "{told:?}");
}

#[tokio::test]
async fn only_a_connection_with_nothing_left_on_it_serves_again() {
    for (answered, kept) in [
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..], true),
        (b"HTTP/1.1 204 No Content\r\n\r\n", true),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", true),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n", false),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", false),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", false),
    ] {
        let stage = stage().await;
        stage.told(&[answered]).await.unwrap();

        assert_eq!(stage.idle() == 1, kept, "{}", String::from_utf8_lossy(answered));
    }
}

#[tokio::test]
async fn a_request_that_is_refused_half_way_is_answered() {
    let stage = stage().await;
    let refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno";
    let serve = async {
        let mut server = stage.accept().await;
        server.write_all(refusal).await.unwrap();
        server
    };

    let (told, _server) = tokio::join!(answer(stage.send(vec![b'x'; 32 << 20])), serve);

    assert_eq!(told, Ok((StatusCode::PAYLOAD_TOO_LARGE, Bytes::from("no"))));
    assert_eq!(stage.idle(), 0);
}

#[tokio::test]
async fn a_large_request_arrives_while_its_answer_does() {
    let stage = stage().await;
    let body = vec![b'x'; 8 << 20];
    let serve = async {
        let mut server = stage.accept().await;
        server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").await.unwrap();
        let (mut read, mut bytes) = (0, vec![0; 64 * 1024]);
        while read < body.len() {
            read += server.read(&mut bytes).await.unwrap();
        }
        server.write_all(b"ok").await.unwrap();
        server
    };

    let (told, _server) = tokio::join!(answer(stage.send(body.clone())), serve);

    assert_eq!(told, Ok((StatusCode::OK, Bytes::from("ok"))));
}

#[tokio::test]
async fn a_connection_that_is_used_all_the_time_is_replaced_all_the_same() {
    let stage = stage().await;
    let call = async || read_body(stage.send("hello").await.unwrap().into_body()).await.unwrap();
    let serve = async |server: &mut TcpStream| {
        read_request(server).await;
        server.write_all(ANSWER).await.unwrap();
    };

    let first = async {
        let mut server = stage.accept().await;
        serve(&mut server).await;
        serve(&mut server).await;
        server
    };
    let (mut server, ()) = tokio::join!(first, async {
        call().await;
        call().await;
    });
    let wait_half = async || {
        tokio::time::pause();
        tokio::time::advance(LIFETIME / 2).await;
        tokio::time::resume();
    };
    wait_half().await;
    tokio::join!(serve(&mut server), call());
    wait_half().await;

    let another = async { serve(&mut stage.accept().await).await };
    tokio::join!(another, call());
}
