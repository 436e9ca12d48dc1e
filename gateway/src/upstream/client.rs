//! HTTP to one server: connections kept for each worker, each driven by the call that uses it.
//!
//! A connection has no task of its own: whoever waits for its answer polls it. That saves two
//! wake-ups a call, which is more than everything else the gateway does with it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Response;

use super::connection::{Answer, Connection, Failure};
use super::connector::Connector;
use super::fault::Fault;
pub(crate) use super::request::{Request, Template};
use crate::http1::Decoder;
use crate::worker::PerWorker;

/// How long a connection takes new requests. A pod that is to end takes clients for 5 s more, in the
/// first of which its Service comes to lead elsewhere: when it closes its idle connections, it has
/// none of ours, on which a request could be lost. Servers that close what was idle for 5 s find none
/// either.
pub(super) const LIFETIME: Duration = Duration::from_secs(3);
/// Idle connections a worker keeps.
const MAX_IDLE: usize = 256;

/// The connections to one origin. Follows no redirect and uses no proxy.
#[derive(Debug)]
pub(crate) struct HttpClient(PerWorker<Arc<Lane>>);

/// Those of one worker: its lock is free.
#[derive(Debug)]
struct Lane {
    connector: Connector,
    idle: Mutex<Idle>,
}

/// Connections that wait, the last one used at the end. Boxed: they move with every call.
type Idle = Vec<Box<Connection>>;

/// A request under way.
pub(crate) type Sending = Pin<Box<dyn Future<Output = Result<Response<Body>, Fault>> + Send>>;

impl HttpClient {
    pub(crate) fn new(connector: &Connector) -> Arc<Self> {
        let lane = || Arc::new(Lane { connector: connector.clone(), idle: Mutex::default() });
        Arc::new(Self(PerWorker::new(lane)))
    }

    /// Sends a request. A connection that turns out to be closed before the request was written is
    /// replaced; nothing is ever written twice.
    pub(crate) fn send(&self, request: Request) -> Sending {
        let lane = self.0.here().clone();
        Box::pin(async move {
            loop {
                let (mut connection, used) = match lane.take() {
                    Some(connection) => (connection, true),
                    // Boxed: it is rare, and most of what is awaited here.
                    None => {
                        let stream = Box::pin(lane.connector.connect()).await?;
                        (Box::new(Connection::new(stream)), false)
                    }
                };
                match connection.exchange(&request).await {
                    Ok(Answer { response, decoder, persists }) => {
                        let keeper = Keeper { connection, lane, persists };
                        return Ok(response.map(|()| Body { decoder, keeper: Some(keeper) }));
                    }
                    Err(Failure::Unsent(_)) if used => {}
                    Err(Failure::Unsent(fault) | Failure::Sent(fault)) => return Err(fault),
                }
            }
        })
    }

    /// Closes idle connections that are too old.
    pub(crate) fn sweep(&self) {
        for lane in self.0.iter() {
            lane.idle().retain(|connection| connection.is_young());
        }
    }
}

impl Lane {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<Box<Connection>> {
        let mut idle = self.idle();
        // The last one used is the least likely to be closed.
        while let Some(connection) = idle.pop() {
            if connection.is_young() {
                return Some(connection);
            }
        }
        None
    }

    fn put(&self, connection: Box<Connection>) {
        let mut idle = self.idle();
        // How old it is shows when it is taken.
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }
}

/// The body of an answer. Read to its end, it gives the connection back.
#[derive(Debug)]
pub(crate) struct Body {
    decoder: Decoder,
    /// `None` once the body is over or broke off.
    keeper: Option<Keeper>,
}

/// A connection in use, and who takes it back.
#[derive(Debug)]
struct Keeper {
    connection: Box<Connection>,
    lane: Arc<Lane>,
    /// It can serve again after the answer.
    persists: bool,
}

impl Body {
    /// The next bytes; trailers are skipped.
    pub(crate) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        let Some(keeper) = &mut self.keeper else { return Poll::Ready(None) };
        let data = ready!(keeper.connection.poll_data(&mut self.decoder, cx));
        match &data {
            Some(Ok(_)) if !keeper.connection.is_over(&mut self.decoder) => {}
            Some(Ok(_)) | None => self.give_back(),
            Some(Err(_)) => self.keeper = None,
        }
        Poll::Ready(data)
    }

    /// Gives the connection back if nothing is left to read, without waiting for more.
    pub(crate) async fn release(mut self) {
        std::future::poll_fn(|cx| {
            let _ = self.poll_data(cx);
            Poll::Ready(())
        })
        .await;
    }

    fn give_back(&mut self) {
        let Some(Keeper { mut connection, lane, persists }) = self.keeper.take() else { return };
        if persists && connection.settle() {
            lane.put(connection);
        }
    }
}

#[cfg(test)]
mod tests;
