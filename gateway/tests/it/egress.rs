//! Where connections to servers go, and where they do not.

use std::sync::Arc;

use gateway_core::{Entry, Record};
use http::{StatusCode, header};
use serde_json::json;

use crate::support::client::tool_names;
use crate::support::cluster::{ClusterStage, server, service};
use crate::support::fixture::{Fixture, reply};
use crate::support::stage::find;
use crate::support::tls::Authority;

async fn is(stage: &ClusterStage, name: &str, state: &str) -> String {
    let shown = |ready: &serde_json::Value| find(ready, name)["state"] == state;
    let ready = stage.ready_when(&format!("{name} is {state}"), shown).await;
    find(&ready, name)["reason"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_url_into_the_cluster_is_refused_until_it_is_allowed() {
    let fixture = Fixture::start().await;
    let stage = ClusterStage::start().await;
    let version = stage.forbid(&["10.0.0.0/8"], &[]);
    stage.has_reached(version).await;
    let url = fixture.url().replace("127.0.0.1", "localhost");
    stage.put(&server("inside", &url));

    let reason = is(&stage, "inside", "unreachable").await;
    assert!(reason.contains("not permitted; use spec.service"), "{reason}");
    assert_eq!(fixture.seen().len(), 0);

    stage.forbid(&["10.0.0.0/8"], &["127.0.0.0/8", "::1"]);
    is(&stage, "inside", "connected").await;
}

#[tokio::test]
async fn before_the_ranges_are_known_no_url_is_dialled() {
    let fixture = Fixture::start().await;
    let mut stage = ClusterStage::empty().await;
    stage.api.delete("config");
    stage.put(&server("early", &fixture.url()));
    stage.open().await;

    let reason = is(&stage, "early", "unreachable").await;
    assert!(reason.contains("not known yet"), "{reason}");
    stage.forbid(&[], &["127.0.0.0/8"]);
    is(&stage, "early", "connected").await;

    // Nobody says that everything is allowed by taking the config away.
    stage.forbid(&[], &[]);
    let version = stage.api.delete("config");
    stage.has_reached(version).await;
    stage.put(&server("late", &fixture.url()));
    assert!(is(&stage, "late", "unreachable").await.contains("not permitted"));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (fixture, inside) = (Fixture::start().await, Fixture::start().await);
    let to = inside.url();
    for status in [StatusCode::TEMPORARY_REDIRECT, StatusCode::FOUND] {
        let to = to.clone();
        fixture.on("initialize", move |_| {
            let mut redirect = reply(status, "text/plain", "");
            redirect.headers_mut().insert(header::LOCATION, to.parse().unwrap());
            std::future::ready(redirect)
        });
        let stage = ClusterStage::start().await;
        stage.put(&server("redirects", &fixture.url()));

        let reason = is(&stage, "redirects", "unreachable").await;
        assert!(reason.contains(status.as_str()), "{reason}");
    }
    assert_eq!(inside.seen().len(), 0);
}

/// A Service that speaks TLS and is trusted for these authorities.
fn secure(port: u16, authorities: Option<&str>) -> Record {
    let mut record = service("secure", "127.0.0.1".parse().unwrap(), port);
    let Entry::Server(server) = &mut record.entry else { unreachable!() };
    let endpoint = &mut Arc::make_mut(server).endpoint;
    let url = format!("https://svc.default.svc:{port}/mcp").parse::<http::Uri>().unwrap();
    (endpoint.streamable, endpoint.sse) = (url.clone(), url);
    endpoint.authorities = authorities.map(Into::into);
    record
}

#[tokio::test]
async fn a_servers_own_authorities_are_trusted_in_place_of_the_systems() {
    let fixture = Fixture::start().await;
    let (authority, stranger) = (Authority::new(), Authority::new());
    let address = fixture.url().trim_start_matches("http://").trim_end_matches("/mcp").parse();
    let front = authority.front("svc.default.svc", address.unwrap()).await;
    let stage = ClusterStage::start().await;

    for (authorities, problem) in [
        (None, "certificate"),
        (Some(stranger.pem()), "certificate"),
        (Some("no PEM".to_owned()), "give PEM"),
    ] {
        let version = stage.put(&secure(front.port, authorities.as_deref()));
        stage.has_reached(version).await;
        let reason = is(&stage, "secure", "unreachable").await;
        assert!(reason.contains(problem), "{reason}");
    }

    stage.put(&secure(front.port, Some(&(stranger.pem() + &authority.pem()))));
    is(&stage, "secure", "connected").await;
    let list = stage.alice().one_shot("/mcp", "tools/list", json!({})).await;
    assert_eq!(tool_names(&list), ["work"]);

    // What is trusted changed: connections are made anew.
    stage.put(&secure(front.port, Some(&stranger.pem())));
    is(&stage, "secure", "unreachable").await;
}
