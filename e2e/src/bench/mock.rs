//! A minimal MCP server on raw HTTP/1: as little work behind the proxies as the protocol allows.
//!
//! One thread, Streamable HTTP at `/mcp`, JSON answers only. It gives out no session id, so that a
//! gateway may share one session among its clients.

use std::{borrow::Cow, convert::Infallible, net::SocketAddr};

use anyhow::Result;
use bytes::Bytes;
use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{net::TcpListener, runtime};

use crate::bench::process::Process;

/// Starts the server as a process of its own.
pub(super) fn start() -> Result<(Process, SocketAddr)> {
    Process::listener(["mock"])
}

/// Serves on a port of the kernel's choice, printed as the first line.
pub(super) fn serve() -> Result<()> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(handle));
            // A connection ends when its client goes; nobody waits to hear why.
            tokio::spawn(async { drop(connection.await) });
        }
    })
}

async fn handle(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() != "/mcp" {
        return Ok(empty(StatusCode::NOT_FOUND));
    }
    if request.method() != Method::POST {
        let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Ok(response);
    }
    let Ok(body) = request.into_body().collect().await else {
        return Ok(empty(StatusCode::BAD_REQUEST));
    };
    Ok(match serde_json::from_slice(&body.to_bytes()) {
        Ok(message) => respond(&message),
        Err(_) => empty(StatusCode::BAD_REQUEST),
    })
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

fn respond(message: &Message<'_>) -> Response<Full<Bytes>> {
    let Some(id) = message.id else { return empty(StatusCode::ACCEPTED) };
    let outcome = match message.method.as_ref() {
        "initialize" => initialize(message.params),
        "ping" => Some(r#""result":{}"#.to_owned()),
        "tools/list" => Some(format!(r#""result":{{"tools":{TOOLS}}}"#)),
        "tools/call" => echo(message.params),
        _ => Some(r#""error":{"code":-32601,"message":"method not found"}"#.to_owned()),
    };
    let outcome = outcome
        .unwrap_or_else(|| r#""error":{"code":-32602,"message":"invalid params"}"#.to_owned());
    let mut response = Response::new(Full::from(answer(id.get(), &outcome)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn initialize(params: Option<&RawValue>) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Params<'a> {
        #[serde(borrow)]
        protocol_version: &'a RawValue,
    }

    let params: Params<'_> = serde_json::from_str(params?.get()).ok()?;
    Some(format!(
        r#""result":{{"protocolVersion":{},"capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"bench","version":"1.0.0"}}}}"#,
        params.protocol_version.get()
    ))
}

fn echo(params: Option<&RawValue>) -> Option<String> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        name: Cow<'a, str>,
        #[serde(borrow)]
        arguments: Arguments<'a>,
    }
    #[derive(Deserialize)]
    struct Arguments<'a> {
        #[serde(borrow)]
        message: &'a RawValue,
    }

    let params: Params<'_> = serde_json::from_str(params?.get()).ok()?;
    (params.name == "echo")
        .then(|| format!(r#""result":{}"#, echo_result(params.arguments.message.get())))
}

/// What `echo` answers for `message`, a JSON string: what clients expect, byte for byte.
pub(super) fn echo_result(message: &str) -> String {
    format!(r#"{{"content":[{{"type":"text","text":{message}}}],"isError":false}}"#)
}

fn answer(id: &str, outcome: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},{outcome}}}"#)
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// The tool that is measured and a few more, because a server with one tool is rare.
const TOOLS: &str = r#"[
{"name":"echo","description":"Returns the message.","inputSchema":{"type":"object","properties":{"message":{"type":"string"}},"required":["message"]},"annotations":{"readOnlyHint":true}},
{"name":"search","description":"Finds documents by words.","inputSchema":{"type":"object","properties":{"query":{"type":"string"},"limit":{"type":"integer","minimum":1}},"required":["query"]},"annotations":{"readOnlyHint":true}},
{"name":"read","description":"Reads one document.","inputSchema":{"type":"object","properties":{"uri":{"type":"string","format":"uri"}},"required":["uri"]},"annotations":{"readOnlyHint":true}},
{"name":"write","description":"Replaces one document.","inputSchema":{"type":"object","properties":{"uri":{"type":"string","format":"uri"},"text":{"type":"string"}},"required":["uri","text"]},"annotations":{"destructiveHint":true}}
]"#;

#[cfg(test)]
mod tests {
    use super::*;

    async fn reply(request: &str) -> (StatusCode, String) {
        let response = respond(&serde_json::from_str(request).unwrap());
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn echo_keeps_the_id_and_the_message_as_written() {
        let (status, body) = reply(
            r#"{"jsonrpc":"2.0","id":1.50,"method":"tools/call","params":{"name":"echo","arguments":{"message":"\u0041"}}}"#,
        )
        .await;

        assert_eq!(status, StatusCode::OK);
        let expected = r#"{"jsonrpc":"2.0","id":1.50,"result":{"content":[{"type":"text","text":"\u0041"}],"isError":false}}"#;
        assert_eq!(body, expected);
    }

    #[tokio::test]
    async fn notifications_are_accepted_and_unknown_tools_refused() {
        let (status, body) = reply(r#"{"method":"notifications/initialized"}"#).await;
        assert_eq!((status, body.as_str()), (StatusCode::ACCEPTED, ""));

        let (_, body) = reply(
            r#"{"id":1,"method":"tools/call","params":{"name":"x","arguments":{"message":""}}}"#,
        )
        .await;
        assert!(body.contains("-32602"), "{body}");
    }

    #[tokio::test]
    async fn initialize_agrees_to_the_version_asked_for_and_lists_valid_tools() {
        let (_, body) = reply(
            r#"{"id":"a","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}"#,
        )
        .await;
        assert!(body.contains(r#""id":"a","result":{"protocolVersion":"2025-11-25""#), "{body}");

        let (_, body) = reply(r#"{"id":2,"method":"tools/list"}"#).await;
        let list: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(list["result"]["tools"].as_array().unwrap().len(), 4);
    }
}
