use std::net::Ipv4Addr;

use bytes::Bytes;
use gateway_core::{Endpoint, Forbidden};
use http::{Method, Uri};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::super::client::Template;
use super::super::egress::Resolved;
use super::super::fault::Fault;
use super::*;

const LIMIT: Duration = Duration::from_secs(5);
const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const TWO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// What DNS says, by the port that is asked for, so that tests do not meet.
static NAMES: Mutex<Vec<(u16, Vec<Ipv4Addr>)>> = Mutex::new(Vec::new());

fn resolve(_: String, port: u16) -> Resolved {
    let names = NAMES.lock().unwrap();
    let known =
        names.iter().rev().find(|(known, _)| *known == port).map(|(_, found)| found.clone());
    let found =
        known.filter(|found| !found.is_empty()).ok_or_else(|| io::ErrorKind::NotFound.into());
    let addressed =
        move |found: Vec<Ipv4Addr>| found.into_iter().map(|ip| (ip, port).into()).collect();
    Box::pin(async move { found.map(addressed) })
}

/// A server of two pods, each of which answers with its address.
struct Stage {
    port: u16,
    pods: Arc<Pods>,
    connector: Connector,
    template: Template,
    running: HashMap<Ipv4Addr, AbortOnDropHandle<()>>,
}

impl Stage {
    async fn start() -> Self {
        let first = TcpListener::bind((ONE, 0)).await.unwrap();
        let port = first.local_addr().unwrap().port();
        let second = TcpListener::bind((TWO, port)).await.unwrap();
        let url: Uri = format!("http://10.0.0.1:{port}/mcp").parse().unwrap();
        let endpoint = Endpoint {
            streamable: url.clone(),
            sse: url.clone(),
            transport: crds::Transport::Auto,
            host: None,
            address: Some(Ipv4Addr::new(10, 0, 0, 1).into()),
            authorities: None,
        };
        let egress = Egress::resolving(Forbidden::default(), resolve);
        let stage = Self {
            port,
            pods: Pods::new("mcph-git.team.svc", port, egress.clone()),
            connector: Connector::new(&endpoint, egress, LIMIT),
            template: Template::new(&url, None).posting(),
            running: HashMap::from([(ONE, serve(first)), (TWO, serve(second))]),
        };
        stage.name(&[ONE, TWO]);
        stage
    }

    fn name(&self, pods: &[Ipv4Addr]) {
        NAMES.lock().unwrap().push((self.port, pods.to_vec()));
    }

    async fn ways(&self) -> Vec<Arc<HttpClient>> {
        self.pods.ways(&self.connector).await.unwrap()
    }

    /// Which pod answers.
    async fn ask(&self, client: &Arc<HttpClient>) -> Result<String, Fault> {
        let response = client.send(self.template.request(&Method::POST, &[], Bytes::new())).await?;
        let pod = response.headers().get("x-pod").unwrap().to_str().unwrap().to_owned();
        response.into_body().release().await;
        Ok(pod)
    }
}

/// Answers one request a connection.
fn serve(listener: TcpListener) -> AbortOnDropHandle<()> {
    let address = listener.local_addr().unwrap().ip();
    AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nx-pod: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }))
}

#[tokio::test]
async fn each_way_leads_to_one_pod_and_legs_spread() {
    let stage = Stage::start().await;

    let mut found = std::collections::HashSet::new();
    let mut legs = Vec::new();
    for _ in 0..2 {
        let best = stage.ways().await.swap_remove(0);
        let pod = stage.ask(&best).await.unwrap();
        for _ in 0..3 {
            assert_eq!(stage.ask(&best).await.unwrap(), pod);
        }
        found.insert(pod);
        legs.push(best);
    }

    assert_eq!(found.len(), 2, "the second leg goes where none is");
}

#[tokio::test]
async fn a_pod_that_takes_no_connection_has_lost_its_sessions_and_comes_last() {
    let mut stage = Stage::start().await;
    let leg = stage.ways().await.swap_remove(0);
    let pod: Ipv4Addr = stage.ask(&leg).await.unwrap().parse().unwrap();

    stage.running.remove(&pod).unwrap().abort();
    let refused = async { while stage.ask(&leg).await.is_ok() {} };
    tokio::time::timeout(LIMIT, refused).await.unwrap();

    assert_eq!(stage.ask(&leg).await, Err(Fault::SessionLost));
    // With fewer legs than the other, were it alive.
    let others = [stage.ways().await.swap_remove(0), stage.ways().await.swap_remove(0)];
    drop(leg);
    let best = stage.ways().await.swap_remove(0);
    assert_ne!(stage.ask(&best).await.unwrap(), pod.to_string());
    drop(others);
}

#[tokio::test]
async fn an_address_that_is_the_servers_no_more_is_not_dialled() {
    let stage = Stage::start().await;
    let leg = stage.ways().await.swap_remove(0);
    let pod: Ipv4Addr = stage.ask(&leg).await.unwrap().parse().unwrap();

    let other = if pod == ONE { TWO } else { ONE };
    stage.name(&[other]);
    tokio::time::sleep(FRESH).await;

    assert_eq!(stage.ask(&leg).await, Err(Fault::SessionLost), "whoever has it now");
    let ways = stage.ways().await;
    assert_eq!(ways.len(), 1);
    assert_eq!(stage.ask(&ways[0]).await.unwrap(), other.to_string());
    drop((leg, ways));
    stage.pods.sweep();
    assert!(stage.pods.clients.lock().unwrap().is_empty());
}

#[tokio::test]
async fn dns_that_is_away_for_a_moment_loses_no_session() {
    let stage = Stage::start().await;
    let leg = stage.ways().await.swap_remove(0);
    let pod = stage.ask(&leg).await.unwrap();

    stage.name(&[]);
    tokio::time::sleep(FRESH).await;

    assert_eq!(stage.ask(&leg).await.unwrap(), pod);
}
