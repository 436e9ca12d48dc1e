//! The fixtures themselves: the suite finds nothing wrong with our server in the revisions that it speaks.

use e2e::clients::conformance::{Era, Revision, Server, judge_server};

use crate::support::{Subject, assert_all_hold};

async fn direct(era: Era, revision: Revision) {
    let server = Server::start(era).await.unwrap();

    let report = judge_server(&server.url(), revision).await.unwrap();

    assert_all_hold(&report, Subject::Server, revision);
}

#[tokio::test]
async fn a_server_of_both_eras_conforms_to_2025_11_25() {
    direct(Era::Dual, Revision::Legacy).await;
}

#[tokio::test]
async fn a_server_of_both_eras_conforms_to_2026_07_28() {
    direct(Era::Dual, Revision::Modern).await;
}

#[tokio::test]
async fn a_legacy_server_conforms_to_2025_11_25() {
    direct(Era::Legacy, Revision::Legacy).await;
}

#[tokio::test]
async fn a_modern_server_conforms_to_2026_07_28() {
    direct(Era::Modern, Revision::Modern).await;
}
