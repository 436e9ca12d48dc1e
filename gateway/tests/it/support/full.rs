//! A server that cannot be connected to.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use super::eventually;

/// A listener with a full backlog: further connections hang.
#[derive(Debug)]
pub struct Full {
    listener: TcpListener,
    _kept: Vec<TcpStream>,
}

impl Full {
    pub async fn bind(address: SocketAddr) -> Self {
        let listen = || async {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_reuseaddr(true).unwrap();
            socket.bind(address).ok()?;
            socket.listen(1).ok()
        };
        let listener = eventually("a free port", listen).await;
        let address = listener.local_addr().unwrap();
        let mut kept = Vec::new();
        while let Ok(Ok(stream)) =
            timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            kept.push(stream);
        }
        Self { listener, _kept: kept }
    }

    /// Where it would speak MCP.
    pub fn url(&self) -> String {
        format!("http://{}/mcp", self.listener.local_addr().unwrap())
    }
}
