//! HTTP by hand, for what no library sends.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::within;

/// A connection.
#[derive(Debug)]
pub struct Raw(TcpStream);

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    pub async fn send(&mut self, text: impl AsRef<[u8]>) {
        within("room to write", self.0.write_all(text.as_ref())).await.unwrap();
    }

    /// Sends to a side that may have closed.
    pub async fn try_send(&mut self, text: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.write_all(text.as_ref()).await
    }

    /// What comes up to the end; nothing if the connection was reset.
    pub async fn rest(&mut self) -> String {
        let mut read = Vec::new();
        // What came before a reset counts.
        let _ = self.0.read_to_end(&mut read).await;
        String::from_utf8(read).unwrap()
    }

    /// Reads up to the end of a text.
    pub async fn read_until(&mut self, end: &str) -> String {
        let mut read = Vec::new();
        within(end, async {
            while !String::from_utf8_lossy(&read).contains(end) {
                assert_ne!(self.0.read_buf(&mut read).await.unwrap(), 0, "it ended: {read:?}");
            }
        })
        .await;
        String::from_utf8(read).unwrap()
    }
}
