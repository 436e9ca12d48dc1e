use std::time::Duration;

use bytes::Bytes;
use gateway_core::report::Watermark;
use gateway_core::{Catalog, Kind, Namespace, ResourceRef};
use serde_json::json;
use tokio::time::timeout;

use super::*;
use crate::conditions::Holds;
use crate::gateways::Bells;
use crate::keyring::Keyring;
use crate::testing::Gateway;

struct Following {
    gateways: Arc<Gateways>,
    followers: Followers,
    _stop: tokio_util::sync::DropGuard,
}

impl Following {
    fn new() -> Self {
        let gateways = Arc::new(Gateways::new(Arc::new(Bells::default())));
        let stop = CancellationToken::new();
        let followers = Followers::new(gateways.clone(), Keyring::any(), stop.clone());
        Self { gateways, followers, _stop: stop.drop_guard() }
    }

    fn saw(&mut self, gateway: &Gateway, ready: bool) {
        self.followers.saw(&serde_json::from_value(gateway.pod(ready)).unwrap());
    }

    fn programmed(&self) -> Holds {
        let namespace = Namespace::new("team");
        let resource = ResourceRef { namespace, kind: Kind::Key, name: "alice".into() };
        self.gateways.programmed(&resource, 7).holds
    }

    async fn until(&self, holds: Holds) {
        let reached = async {
            while self.programmed() != holds {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), reached).await.expect("it should be so");
    }
}

fn reached(version: u64) -> Line {
    Line::Table(Watermark { resource_version: version, complete: true })
}

#[tokio::test]
async fn a_pod_that_is_ready_counts_with_what_it_reports() {
    let (mut following, gateway) = (Following::new(), Gateway::start("one").await);
    assert_eq!(following.programmed(), Holds::Unknown);

    following.saw(&gateway, false);
    gateway.tell(&reached(6));
    assert_eq!(following.programmed(), Holds::Unknown);
    following.saw(&gateway, true);
    following.until(Holds::No).await;

    gateway.tell(&reached(7));
    following.until(Holds::Yes).await;
}

#[tokio::test]
async fn a_pod_that_is_to_end_has_ended_or_is_gone_does_not_count() {
    let gateway = Gateway::start("one").await;
    gateway.knows_all();
    let pod: Pod = serde_json::from_value(gateway.pod(true)).unwrap();
    let (mut to_end, mut ended, mut homeless) = (pod.clone(), pod.clone(), pod.clone());
    to_end.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).ok();
    ended.status.as_mut().unwrap().phase = Some("Failed".to_owned());
    homeless.status.as_mut().unwrap().pod_ip = None;

    for later in [Some(to_end), Some(ended), Some(homeless), None] {
        let mut following = Following::new();
        following.followers.saw(&pod);
        following.until(Holds::Yes).await;

        match later {
            Some(later) => following.followers.saw(&later),
            None => following.followers.lost("one"),
        }
        assert_eq!(following.programmed(), Holds::Unknown);
    }
}

#[tokio::test]
async fn a_report_that_breaks_off_is_read_again_from_its_beginning() {
    let (mut following, gateway) = (Following::new(), Gateway::start("one").await);
    gateway.tell(&reached(9));
    following.saw(&gateway, true);
    following.until(Holds::Yes).await;

    // What comes after it is not read, but all of it once more.
    gateway.tell_raw(Bytes::from_static(b"no line of ours\n"));
    timeout(Duration::from_secs(10), async {
        while gateway.readers() < 2 {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn lines_may_come_in_pieces_and_with_signs_of_life_between() {
    let (mut following, gateway) = (Following::new(), Gateway::start("one").await);
    following.saw(&gateway, true);

    let line = serde_json::to_vec(&reached(9)).unwrap();
    let (head, tail) = line.split_at(5);
    gateway.tell_raw(Bytes::from_static(b"\n\n"));
    gateway.tell_raw(Bytes::copy_from_slice(head));
    gateway.tell_raw([tail, b"\n".as_slice(), b"\n"].concat().into());

    following.until(Holds::Yes).await;
}

#[tokio::test]
async fn a_gateway_that_does_not_know_the_token_tells_nothing() {
    let gateway = Gateway::start("one").await;
    gateway.knows_all();
    let pod: Pod = serde_json::from_value(gateway.pod(true)).unwrap();
    let address = address(&pod).unwrap();

    let refused = open(&address, "/report", "another-token").await.unwrap_err();
    assert!(matches!(refused, StreamError::Status(StatusCode::UNAUTHORIZED)), "{refused}");
    assert!(open(&address, "/report", "admin-token").await.is_ok());
}

#[tokio::test]
async fn a_list_is_fetched_whole() {
    let gateway = Gateway::start("one").await;
    let catalog = Catalog::from_json(br#"[{"name":"log"}]"#).unwrap();
    gateway.lists("git", &catalog);
    let pod: Pod = serde_json::from_value(gateway.pod(true)).unwrap();
    let address = address(&pod).unwrap();

    let list = fetch_catalog(&address, "team", "git", "admin-token").await.unwrap();
    assert_eq!(Catalog::from_json(&list).unwrap(), catalog);

    let none = fetch_catalog(&address, "team", "sql", "admin-token").await.unwrap_err();
    assert!(matches!(none, StreamError::Status(StatusCode::NOT_FOUND)), "{none}");
}

#[test]
fn the_admin_port_is_the_one_of_that_name() {
    let pod = |ip: &str, ports: serde_json::Value| -> Pod {
        serde_json::from_value(json!({
            "metadata": {}, "status": {"podIP": ip},
            "spec": {"containers": [{"name": "gateway", "ports": ports}]},
        }))
        .unwrap()
    };
    let ports =
        json!([{"name": "http", "containerPort": 1}, {"name": "admin", "containerPort": 2}]);

    assert_eq!(address(&pod("10.0.0.1", ports.clone())).as_deref(), Some("10.0.0.1:2"));
    assert_eq!(address(&pod("fd00::1", ports)).as_deref(), Some("[fd00::1]:2"));
    assert_eq!(address(&pod("10.0.0.1", json!([]))).as_deref(), Some("10.0.0.1:9090"));
}

#[tokio::test]
async fn it_shows_no_token() {
    let (mut following, gateway) = (Following::new(), Gateway::start("one").await);
    following.saw(&gateway, true);

    let shown = format!("{:?}", following.followers);

    assert!(shown.contains("one") && !shown.contains("admin-token"), "{shown}");
}
