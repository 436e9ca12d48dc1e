//! The gateway in front of a server of the same era as the client: it conforms as the server does.

use e2e::clients::conformance::{Era, Revision, judge_server};

use crate::support::{Scene, Subject, assert_all_hold};

async fn through_the_gateway(era: Era, revision: Revision) {
    let scene = Scene::set(era).await.unwrap();

    let report = judge_server(&scene.url(), revision).await.unwrap();

    assert_all_hold(&report, Subject::Gateway, revision);
}

#[tokio::test]
async fn the_gateway_conforms_to_2025_11_25() {
    through_the_gateway(Era::Dual, Revision::Legacy).await;
}

#[tokio::test]
async fn the_gateway_conforms_to_2026_07_28() {
    through_the_gateway(Era::Dual, Revision::Modern).await;
}

#[tokio::test]
async fn the_gateway_before_a_legacy_server_conforms_to_2025_11_25() {
    through_the_gateway(Era::Legacy, Revision::Legacy).await;
}

#[tokio::test]
async fn the_gateway_before_a_modern_server_conforms_to_2026_07_28() {
    through_the_gateway(Era::Modern, Revision::Modern).await;
}
