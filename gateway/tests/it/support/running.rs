//! A server in this process that can be killed, connections and all, and started again.

use std::net::SocketAddr;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::eventually;

/// A server that runs until it is killed or dropped.
#[derive(Debug)]
pub struct Running {
    pub address: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Running {
    pub async fn start(router: Router) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), router).await
    }

    pub async fn start_at(address: SocketAddr, router: Router) -> Self {
        let bind = || async move { TcpListener::bind(address).await.ok() };
        let listener = eventually("a free port", bind).await;
        let address = listener.local_addr().unwrap();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let accept = accept(listener, router, stop.clone(), tasks.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(accept));
        Self { address, stop, tasks }
    }

    /// Where it speaks MCP.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Ends it as a crash would, in the middle of whatever it does.
    pub async fn kill(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(
    listener: TcpListener,
    router: Router,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tasks.spawn(stop.clone().run_until_cancelled_owned(connection));
    }
}
