//! The servers, the columns of the table: where they are, and what each can be asked for.

use std::path::Path;

use anyhow::Result;
use e2e::clients::{
    Transport,
    install::Sdk,
    stage::{Reference, Server},
    tap::Tap,
};
use serde_json::{Value, json};

/// One server, with a tap before it.
pub(crate) struct Column {
    /// The name of its manifest: the names of its tools begin with it and an underscore.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) transport: &'static str,
    pub(crate) kind: Kind,
    pub(crate) tap: Tap,
}

impl Column {
    /// What a client calls one of its tools.
    pub(crate) fn tool(&self, name: &str) -> String {
        format!("{}_{name}", self.name)
    }

    /// Waits until the server was told that nobody waits for the call with these arguments any more: by the
    /// notification, or because its request was abandoned.
    pub(crate) async fn wait_cancelled(&self, arguments: &Value) -> Result<()> {
        self.tap
            .wait("a cancelled call", |exchanges| {
                let call = exchanges.iter().find(|exchange| {
                    exchange.method.as_deref() == Some("tools/call")
                        && exchange.message["params"]["arguments"] == *arguments
                });
                call.is_some_and(|call| {
                    let told = exchanges.iter().any(|exchange| {
                        exchange.is("notifications/cancelled")
                            && exchange.session == call.session
                            && exchange.message["params"]["requestId"] == call.message["id"]
                    });
                    told || call.abandoned
                })
            })
            .await
    }
}

/// All of them, and the processes they are in.
pub(crate) struct Servers {
    pub(crate) columns: Vec<Column>,
    _servers: Vec<Server>,
    _references: Vec<Reference>,
}

impl Servers {
    pub(crate) async fn start() -> Result<Self> {
        let npm_sse = Server::npm_everything(Transport::Sse).await?;
        let npm_http = Server::npm_everything(Transport::Http).await?;
        let (legacy_time, modern_time) = (Server::time(false).await?, Server::time(true).await?);
        let own = Server::everything().await?;
        let one = Reference::start_on(Sdk::V1, "").await?;
        let two = Reference::start_on(Sdk::V2, "").await?;
        let mut columns = Vec::new();
        for (name, title, url, transport, kind) in [
            ("npm-sse", "server-everything 2026.8.31, SSE", npm_sse.url(), "Sse", Kind::Npm),
            ("npm-http", "server-everything 2026.8.31, HTTP", npm_http.url(), HTTP, Kind::Npm),
            ("time-sse", "mcp-proxy 6.7.19, SSE", legacy_time.url(), "Sse", Kind::Time),
            ("time-http", "mcp-proxy 6.7.19, HTTP", legacy_time.url(), HTTP, Kind::Time),
            ("time-both", "mcp-proxy 6.7.19, both eras", modern_time.url(), HTTP, Kind::Time),
            ("own", "`servers/everything`, both eras", own.url(), HTTP, Kind::Own),
            ("one-sse", "`reference.py` on 1.30.0, SSE", one.url(), "Sse", Kind::Reference),
            ("one-http", "`reference.py` on 1.30.0, HTTP", one.url(), HTTP, Kind::Reference),
            ("two-both", "`reference.py` on 2.3.0, both eras", two.url(), HTTP, Kind::Reference),
        ] {
            let tap = Tap::start(&url).await?;
            columns.push(Column { name, title, transport, kind, tap });
        }
        let servers = vec![npm_sse, npm_http, legacy_time, modern_time, own];

        Ok(Self { columns, _servers: servers, _references: vec![one, two] })
    }
}

const HTTP: &str = "StreamableHttp";

/// A tool, what it is called with, and what its answer has in it.
pub(crate) struct Example {
    pub(crate) tool: &'static str,
    pub(crate) arguments: Value,
    pub(crate) answer: String,
}

fn example(tool: &'static str, arguments: Value, answer: &str) -> Example {
    Example { tool, arguments, answer: answer.to_owned() }
}

/// What the tools are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// npm `@modelcontextprotocol/server-everything`
    Npm,
    /// PyPI `mcp-server-time`
    Time,
    /// `servers/everything`
    Own,
    /// `e2e/clients/reference.py`
    Reference,
}

impl Kind {
    /// Tools that it has from the beginning to the end.
    pub(crate) fn tools(self) -> &'static [&'static str] {
        match self {
            Self::Npm => &["echo", "get-sum", "trigger-long-running-operation"],
            Self::Time => &["get_current_time"],
            Self::Own => &["add", "echo", "slow"],
            Self::Reference => &["add", "big", "fail", "grow", "shrink", "wait"],
        }
    }

    /// A call that succeeds, another for each number.
    pub(crate) fn call(self, number: u32) -> Example {
        match self {
            Self::Npm | Self::Own => {
                let message = format!("message {number}.");
                example("echo", json!({"message": message}), &message)
            }
            Self::Time => example("get_current_time", json!({"timezone": "UTC"}), "UTC"),
            Self::Reference => {
                let sum = (1000 + number).to_string();
                example("add", json!({"a": 1000, "b": number}), &sum)
            }
        }
    }

    /// A call that fails.
    pub(crate) fn failure(self) -> Example {
        match self {
            Self::Npm => example("get-sum", json!({"a": "one", "b": 2}), "get-sum"),
            Self::Time => {
                example("get_current_time", json!({"timezone": "Nowhere/Near"}), "Nowhere/Near")
            }
            Self::Own => example("add", json!({"a": 1.7e308, "b": 1.7e308}), "too large"),
            Self::Reference => example("fail", json!({"message": "as asked"}), "fail"),
        }
    }

    /// A call that reports progress and ends soon; `reference.py` needs the file for that.
    pub(crate) fn progress(self, file: &Path) -> Option<Example> {
        match self {
            Self::Npm => {
                let arguments = json!({"duration": 0.2, "steps": 4});
                Some(example("trigger-long-running-operation", arguments, "completed"))
            }
            Self::Time => None,
            Self::Own => Some(example("slow", json!({"seconds": 0.2, "steps": 4}), "Took")),
            Self::Reference => Some(example("wait", json!({"path": file}), "it is there")),
        }
    }

    /// A call that reports progress and does not end soon. No two numbers have the same arguments.
    pub(crate) fn endless(self, number: usize) -> Option<Example> {
        let (npm, own) = (30 + number, 300 + number);
        match self {
            Self::Npm => {
                let arguments = json!({"duration": npm, "steps": npm * 10});
                Some(example("trigger-long-running-operation", arguments, ""))
            }
            Self::Time => None,
            Self::Own => Some(example("slow", json!({"seconds": own, "steps": 1000}), "")),
            Self::Reference => {
                let path = format!("/nonexistent/{number}");
                Some(example("wait", json!({"path": path}), ""))
            }
        }
    }

    /// A call whose answer is so many digits.
    pub(crate) fn big(self, size: usize) -> Option<Example> {
        let call = example("big", json!({"size": size}), "");
        (self == Self::Reference).then_some(call)
    }

    /// A tool that users may not use at first, where the server's own list never changes.
    pub(crate) fn withheld(self) -> Option<Example> {
        match self {
            Self::Npm => Some(example("get-tiny-image", json!({}), "image")),
            Self::Time => {
                let arguments = json!({
                    "source_timezone": "UTC",
                    "time": "12:00",
                    "target_timezone": "UTC",
                });
                Some(example("convert_time", arguments, "UTC"))
            }
            Self::Own => Some(example("get_time", json!({}), "T")),
            Self::Reference => None,
        }
    }
}

/// What `reference.py` answers when it is asked for so many digits.
pub(crate) fn digits(size: usize) -> String {
    "0123456789".repeat(size / 10)
}
