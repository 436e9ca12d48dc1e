//! The ports for clients and for other gateways: accepts connections and hands them to workers, within bounds.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http::{Request, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Admin;
use crate::downstream::reply::{self, Response};
use crate::downstream::{self, Downstream};
use crate::http1::{Incoming, MAX_HEADERS, Malformed, server};
use crate::peer;
use crate::telemetry::Telemetry;
use crate::watchdog::{End, Watch};
use crate::worker;

/// Connections of all clients; as many of other gateways.
const MAX_CONNECTIONS: usize = 20_000;
/// Connections of one address. High, because an Ingress is one address.
const MAX_PER_PEER: usize = 15_000;
/// Connections to the admin port: those of a few scrapers.
const MAX_ADMIN: usize = 64;
/// Connections that wait for a worker.
const QUEUE: usize = 1024;
/// After a failed accept, which is mostly a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A timer that is sooner than all others makes the runtime wake itself by a system call. This one
/// beats always, and sooner than those of calls.
const BEAT: Duration = Duration::from_millis(400);
/// How long other gateways may take to hear the end of what they asked.
const GRACE: Duration = Duration::from_millis(800);

/// Connections under way to one port: who fills it is not in the way of the other one.
#[derive(Debug, Default)]
struct Peers(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// The place of one connection among its peer's.
struct Place {
    peers: Arc<Peers>,
    peer: IpAddr,
    telemetry: Arc<Telemetry>,
}

impl Peers {
    /// `None` when the peer, or all together, have too many.
    fn enter(self: &Arc<Self>, peer: IpAddr, telemetry: &Arc<Telemetry>) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.by_address.get(&peer).copied().unwrap_or_default();
        if count >= MAX_PER_PEER || counts.all >= MAX_CONNECTIONS {
            return None;
        }
        counts.by_address.insert(peer, count + 1);
        counts.all += 1;
        telemetry.connections.inc();
        Some(Place { peers: self.clone(), peer, telemetry: telemetry.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.telemetry.connections.dec();
        let mut counts = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        if let Some(count) = counts.by_address.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.peer);
            }
        }
    }
}

/// A connection for a worker.
struct Accepted {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    place: Place,
    port: Port,
}

/// Which port a connection came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Port {
    Clients,
    /// Other gateways.
    Peers,
}

/// Where connections come to.
pub(crate) struct Listeners {
    pub(crate) clients: TcpListener,
    /// For other gateways.
    pub(crate) peers: Option<TcpListener>,
}

/// When to end: clients are let go, then all ends.
#[derive(Debug, Clone)]
pub(crate) struct Ending {
    /// No more clients are taken; those who are there end what they are at.
    pub(crate) drain: CancellationToken,
    /// What has not ended is cut.
    pub(crate) stop: CancellationToken,
    /// The connections of clients, and what other gateways pass on.
    pub(crate) clients: TaskTracker,
}

/// The threads that serve clients.
#[derive(Debug)]
pub(crate) struct Workers {
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Waits until all connections ended, or their grace did.
    pub(crate) fn join(self) {
        for thread in self.threads {
            // A worker that panicked is down already.
            let _ = thread.join();
        }
    }
}

/// Serves clients on `listener` from one thread a processor, until `stop`.
pub(crate) fn serve(
    listeners: Listeners,
    downstream: &Arc<Downstream>,
    ending: &Ending,
) -> io::Result<Workers> {
    let mut queues = Vec::new();
    let mut threads = Vec::new();
    for index in 1..=worker::count() {
        let (queue, accepted) = mpsc::channel(QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (downstream, ending) = (downstream.for_worker(), ending.clone());
        threads.push(thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            worker::enter(index);
            runtime.block_on(work(accepted, downstream, ending));
        })?);
        queues.push(queue);
    }
    let (telemetry, Listeners { clients, peers }) = (&downstream.telemetry, listeners);
    if let Some(peers) = peers {
        let stop = ending.stop.clone();
        tokio::spawn(accept(peers, Port::Peers, queues.clone(), telemetry.clone(), stop));
    }
    let drain = ending.drain.clone();
    tokio::spawn(accept(clients, Port::Clients, queues, telemetry.clone(), drain));
    Ok(Workers { threads })
}

/// Hands connections to the workers in turn.
async fn accept(
    listener: TcpListener,
    port: Port,
    queues: Vec<mpsc::Sender<Accepted>>,
    telemetry: Arc<Telemetry>,
    stop: CancellationToken,
) {
    let peers = Arc::new(Peers::default());
    let mut turn = queues.iter().cycle();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = peers.enter(peer.ip(), &telemetry) else { continue };
        let (Ok(stream), Some(queue)) = (prepare(stream), turn.next()) else { continue };
        if queue.send(Accepted { stream, peer, place, port }).await.is_err() {
            return;
        }
    }
}

/// Takes the stream off this thread's runtime.
fn prepare(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    let keep_alive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(20))
        .with_retries(3);
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keep_alive)?;
    stream.into_std()
}

async fn work(mut accepted: mpsc::Receiver<Accepted>, downstream: Arc<Downstream>, ending: Ending) {
    let Ending { drain, stop, clients } = ending;
    let of_clients = Watch::start(End { drain, cut: Some(stop.clone()) });
    let of_peers = Watch::start(End { drain: stop.clone(), cut: None });
    let peers = TaskTracker::new();
    tokio::spawn(stop.clone().run_until_cancelled_owned(async {
        loop {
            sleep(BEAT).await;
        }
    }));
    loop {
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            next = accepted.recv() => next,
        };
        let Some(Accepted { stream, peer, place, port }) = next else {
            // Nobody comes any more, and who is here has until then.
            stop.cancelled().await;
            break;
        };
        let Ok(stream) = TcpStream::from_std(stream) else { continue };
        let downstream = downstream.clone();
        match port {
            Port::Clients => {
                clients.spawn(client(stream, place, downstream, of_clients.clone()));
            }
            Port::Peers => {
                let at = stream.local_addr().ok().map(|at| at.ip().to_canonical());
                let answer =
                    move |request| peer::port::serve(downstream.clone(), request, peer, at);
                let awaited = Some(clients.clone());
                peers.spawn(connection(stream, place, answer, awaited, of_peers.clone()));
            }
        }
    }
    peers.close();
    // What has not ended by then is cut: the process is about to go.
    let _ = tokio::time::timeout(GRACE, peers.wait()).await;
}

/// Serves the admin port: few connections, from this thread.
pub(crate) async fn serve_admin(listener: TcpListener, admin: Arc<Admin>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_ADMIN));
    let watch = Watch::start(End { drain: stop.clone(), cut: None });
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else { continue };
        // A table that is in force is to be heard of at once.
        let _ = stream.set_nodelay(true);
        let admin = admin.clone();
        let answer = move |request| std::future::ready(admin.serve(&request));
        tokio::spawn(connection(stream, place, answer, None, watch.clone()));
    }
}

async fn client(stream: TcpStream, place: Place, downstream: Arc<Downstream>, watch: Arc<Watch>) {
    let local = stream.local_addr().is_ok_and(|at| at.ip().to_canonical().is_loopback());
    let answer = move |request| downstream::serve(downstream.clone(), request, local);
    connection(stream, place, answer, None, watch).await;
}

/// Serves one connection, for which `place` is held. Its requests, if not it, are `awaited` in the end.
async fn connection<P, A>(
    stream: TcpStream,
    place: P,
    answer: impl Fn(Request<Incoming>) -> A,
    awaited: Option<TaskTracker>,
    watch: Arc<Watch>,
) where
    A: Future<Output = Response>,
{
    let activity = watch.begin();
    let connection =
        std::pin::pin!(server::serve(stream, &activity, awaited.as_ref(), answer, refuse));
    let ended = activity.guard(connection).await;
    // Clients leave as they like: only worth a word when something is looked for.
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, "connection ended");
    }
    drop(place);
}

/// What is no request is told so.
fn refuse(error: Malformed) -> Response {
    let (status, message) = match error {
        Malformed::LargeHead => {
            let message = format!(
                "the head is larger than the limits of {} KiB and {MAX_HEADERS} headers",
                server::MAX_HEAD >> 10
            );
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message)
        }
        error => (StatusCode::BAD_REQUEST, format!("this is not HTTP/1.1: {error}")),
    };
    reply::error(status, &message)
}
