//! The streams of reports: one to each pod of the gateway.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use gateway_core::report::Line;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Gateways;
use crate::keyring::Keyring;

/// To connect, and for a whole answer that is no stream.
const PATIENCE: Duration = Duration::from_secs(5);
/// Gateways give a sign of life every 10 s.
const SILENCE: Duration = Duration::from_secs(30);
/// Between two attempts.
const RETRY: Duration = Duration::from_millis(250);
/// Longest line: that of all conflicts of a large cluster.
const MAX_LINE: usize = 16 * 1024 * 1024;
/// Largest catalog, as the gateway bounds it.
const MAX_CATALOG: usize = 16 * 1024 * 1024;
/// The admin port, where a pod does not name it.
const ADMIN_PORT: i32 = 9090;

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StreamError {
    #[error("cannot connect")]
    Io(#[from] std::io::Error),
    #[error("no HTTP")]
    Hyper(#[from] hyper::Error),
    #[error("no such request")]
    Http(#[from] http::Error),
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("silent for too long")]
    Silent,
    #[error("a line that cannot be read")]
    Line(#[from] serde_json::Error),
    #[error("too large")]
    TooLarge,
}

/// Follows the pods of the gateway.
pub(crate) struct Followers {
    gateways: Arc<Gateways>,
    keyring: Arc<ArcSwap<Keyring>>,
    tasks: TaskTracker,
    /// By UID of the pod.
    running: HashMap<String, CancellationToken>,
    stop: CancellationToken,
}

/// Never shows the token.
impl fmt::Debug for Followers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Followers").field("running", &self.running).finish_non_exhaustive()
    }
}

impl Followers {
    pub(crate) fn new(
        gateways: Arc<Gateways>,
        keyring: Arc<ArcSwap<Keyring>>,
        stop: CancellationToken,
    ) -> Self {
        let (tasks, running) = (TaskTracker::new(), HashMap::new());
        Self { gateways, keyring, tasks, running, stop }
    }

    /// Takes in a pod as it is now.
    pub(crate) fn saw(&mut self, pod: &Pod) {
        let Some(uid) = pod.uid() else { return };
        let Some(address) = address(pod).filter(|_| !has_ended(pod)) else {
            self.lost(&uid);
            return;
        };
        // Clients are no longer sent to a pod that is being deleted, whatever its condition says.
        let ready = is_ready(pod) && pod.metadata.deletion_timestamp.is_none();
        self.gateways.set_pod(&uid, &pod.name_any(), ready);
        if !self.running.contains_key(&uid) {
            let stop = self.stop.child_token();
            self.running.insert(uid.clone(), stop.clone());
            let (gateways, keyring) = (self.gateways.clone(), self.keyring.clone());
            self.tasks.spawn(async move {
                let follow = follow(&gateways, &uid, &address, &keyring);
                let _ = stop.run_until_cancelled(follow).await;
            });
        }
    }

    /// Takes in that a pod is gone.
    pub(crate) fn lost(&mut self, uid: &str) {
        if let Some(stop) = self.running.remove(uid) {
            stop.cancel();
        }
        self.gateways.remove_pod(uid);
    }
}

async fn follow(gateways: &Gateways, uid: &str, address: &str, keyring: &ArcSwap<Keyring>) {
    let mut told = false;
    loop {
        // Each time the one of now: gateways may know the new one sooner or later than we do.
        let broken = read(gateways, uid, address, &keyring.load_full().admin).await;
        if !std::mem::replace(&mut told, true) {
            let reason = broken.map_or_else(|error| error.to_string(), |()| "it ended".to_owned());
            tracing::info!(address, reason, "the report of a gateway broke off; trying again");
        }
        sleep(RETRY).await;
    }
}

async fn read(
    gateways: &Gateways,
    uid: &str,
    address: &str,
    token: &str,
) -> Result<(), StreamError> {
    let mut body = open(address, "/report", token).await?;
    gateways.begin(uid);
    let mut buffer = BytesMut::new();
    loop {
        let frame = timeout(SILENCE, body.frame()).await.map_err(|_| StreamError::Silent)?;
        let Some(frame) = frame else { return Ok(()) };
        let Ok(data) = frame?.into_data() else { continue };
        // Looked for in what is new only: a long line comes in many pieces.
        let mut from = buffer.len();
        buffer.extend_from_slice(&data);
        while let Some(end) = buffer[from..].iter().position(|byte| *byte == b'\n') {
            let line = buffer.split_to(from + end + 1);
            from = 0;
            let line = line.trim_ascii();
            if !line.is_empty() {
                gateways.take(uid, serde_json::from_slice::<Line>(line)?);
            }
        }
        if buffer.len() > MAX_LINE {
            return Err(StreamError::TooLarge);
        }
    }
}

/// The list of a server, as the gateway at this address has it.
pub(crate) async fn fetch_catalog(
    address: &str,
    namespace: &str,
    server: &str,
    token: &str,
) -> Result<Bytes, StreamError> {
    let fetch = async {
        let body = open(address, &format!("/catalog/{namespace}/{server}"), token).await?;
        let whole = Limited::new(body, MAX_CATALOG).collect().await;
        whole.map(|whole| whole.to_bytes()).map_err(|_| StreamError::TooLarge)
    };
    timeout(PATIENCE, fetch).await.map_err(|_| StreamError::Silent)?
}

async fn open(address: &str, path: &str, token: &str) -> Result<Incoming, StreamError> {
    let request = Request::get(path)
        .header(header::HOST, address)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Empty::<Bytes>::new())?;
    let open = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the response that it carries, which this task drops.
        tokio::spawn(connection);
        Ok::<_, StreamError>(sender.send_request(request).await?)
    };
    let response = timeout(PATIENCE, open).await.map_err(|_| StreamError::Silent)??;
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        other => Err(StreamError::Status(other)),
    }
}

/// Address and admin port of a pod that has one.
pub(crate) fn address(pod: &Pod) -> Option<String> {
    let ip = pod.status.as_ref()?.pod_ip.as_ref()?;
    let ports = pod.spec.as_ref()?.containers.iter().filter_map(|c| c.ports.as_ref()).flatten();
    let port = ports
        .filter(|port| port.name.as_deref() == Some("admin"))
        .map(|port| port.container_port)
        .next()
        .unwrap_or(ADMIN_PORT);
    Some(if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") })
}

fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[cfg(test)]
mod tests;
