//! What the clients are set against: the demo, the gateway, and servers.

mod fairway;
mod manifests;
mod servers;

use std::{
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU16, Ordering},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::{process::Command, time};

pub use fairway::{Demo, Gateway, endpoint};
pub use manifests::{ALICE, BOB, Manifests, key_of};
pub use servers::Server;

use super::{
    POLL,
    install::{self, Sdk},
    process::Process,
};

/// A port that nothing listens on, below those the system gives to outgoing connections.
pub fn free_port() -> Result<u16> {
    /// Below the 32,768 where outgoing connections start, above what services like to use.
    const PORTS: std::ops::Range<u16> = 20_000..32_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);

    let width = PORTS.end - PORTS.start;
    // Tests of another process start elsewhere.
    let start = process::id() % u32::from(width);
    for _ in PORTS {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = PORTS.start + u16::try_from((start + step) % u32::from(width))?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no port is free")
}

/// The body that a GET answers with, if its status is a success.
pub async fn get(url: &str) -> Result<String> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let answer = client.get(url.parse::<Uri>()?).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();

    ensure!(status.is_success(), "{url} answered {status}");
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// Asks for `url` until its answer satisfies `condition`.
pub async fn wait_get(url: &str, condition: impl Fn(&str) -> bool) -> Result<String> {
    let mut last = String::new();
    let poll = async {
        loop {
            match get(url).await {
                Ok(body) if condition(&body) => return body,
                Ok(body) => last = body,
                Err(error) => last = format!("{error:#}"),
            }
            time::sleep(POLL).await;
        }
    };
    super::within(&format!("{url} to be as wanted"), poll)
        .await
        .map_err(|error| error.context(format!("last answer: {last}")))
}

/// A server of the official SDK; see `e2e/clients/reference.py` for its tools.
#[derive(Debug)]
pub struct Reference {
    process: Process,
    sdk: Sdk,
    port: u16,
    prefix: String,
}

impl Reference {
    /// Starts one whose tools begin with `prefix`, on line 1 of the SDK.
    pub async fn start(prefix: &str) -> Result<Self> {
        Self::start_on(Sdk::V1, prefix).await
    }

    /// The same on either line.
    pub async fn start_on(sdk: Sdk, prefix: &str) -> Result<Self> {
        let port = free_port()?;
        let process = Self::at(sdk, port, prefix).await?;

        Ok(Self { process, sdk, port, prefix: prefix.to_owned() })
    }

    /// Starts it again as it was, after [`Self::kill`].
    pub async fn start_again(&mut self) -> Result<()> {
        self.process = Self::at(self.sdk, self.port, &self.prefix).await?;
        Ok(())
    }

    async fn at(sdk: Sdk, port: u16, prefix: &str) -> Result<Process> {
        const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/reference.py");

        let mut command = Command::new(install::python(sdk).await?);
        command.args([SERVER, &port.to_string(), prefix]).env_clear();
        let process = Process::spawn("the reference server", command)?;
        process.wait_for_line("Uvicorn running").await?;

        Ok(process)
    }

    /// `http://HOST:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it with SIGKILL.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }
}
