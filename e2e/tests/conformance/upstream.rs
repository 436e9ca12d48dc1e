//! The gateway as a client: the suite plays the server behind it, and the Python SDK the client before it.
//!
//! Of the suite's scenarios for clients all are played but two kinds. `auth/*` looks at how a client has its user authorize
//! it, which is optional (basic/authorization, "Authorization is **OPTIONAL**"): what the gateway shows a server is the
//! credential of its manifest, and there is no user whom it could ask. `sep-2640-*` is an extension that the suite's
//! requirements for both revisions leave out.

use std::path::Path;

use anyhow::Result;
use e2e::clients::{
    conformance::{Revision, judge_client},
    install::{self, Sdk},
    stage::{ALICE, Gateway, Manifests},
};
use tempfile::TempDir;

use crate::support::{Exempt, assert_hold_but_for};

/// How the Python SDK begins.
#[derive(Clone, Copy)]
enum Mode {
    Auto,
    Legacy,
}

/// A gateway without servers; the driver adds the suite's.
struct Scene {
    command: String,
    _gateway: Gateway,
    _manifests: Manifests,
    _state: TempDir,
}

impl Scene {
    async fn set(mode: Mode) -> Result<Self> {
        let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/upstream.py");
        let state = TempDir::new()?;
        let manifests = Manifests::of_alice()?;
        let gateway = Gateway::start(&manifests, &state.path().join("state"), &[]).await?;
        let mode = match mode {
            Mode::Auto => "auto",
            Mode::Legacy => "legacy",
        };
        // The suite splits this at spaces.
        let command = format!(
            "{} {} {} {} {ALICE} {mode}",
            install::python(Sdk::V2).await?.display(),
            driver.display(),
            manifests.path().display(),
            gateway.url(),
        );

        Ok(Self { command, _gateway: gateway, _manifests: manifests, _state: state })
    }
}

async fn plays(scenario: &str, revision: Revision, mode: Mode) {
    let scene = Scene::set(mode).await.unwrap();

    let report = judge_client(&scene.command, scenario, revision).await.unwrap();

    let exempt: Vec<Exempt> =
        IDLE.into_iter().filter(|exempt| exempt.scenario == scenario).collect();
    assert_hold_but_for(&exempt, &report);
    assert!(report.agrees(), "{}", report.text());
}

/// What the suite looks for only if a client does it, and the gateway does not.
const IDLE: [Exempt; 2] = [
    Exempt {
        scenario: "request-metadata",
        checks: &[
            "sep-2575-client-declares-roots-capability",
            "sep-2575-client-declares-sampling-capability",
            "sep-2575-client-declares-elicitation-capability",
        ],
        because: "nothing is declared that the client did not declare (basic/index, capabilities)",
    },
    Exempt {
        scenario: "http-standard-headers",
        checks: &["sep-2243-client-includes-standard-headers"],
        because: "2026-07-28 has no initialize and no notifications/initialized (changelog)",
    },
];

macro_rules! scenarios {
    ($($test:ident: $scenario:literal, $revision:ident, $mode:ident;)*) => {$(
        #[tokio::test]
        async fn $test() {
            plays($scenario, Revision::$revision, Mode::$mode).await;
        }
    )*};
}

scenarios! {
    initialize: "initialize", Legacy, Legacy;
    calls: "tools_call", Legacy, Legacy;
    elicitation_defaults: "elicitation-sep1034-client-defaults", Legacy, Legacy;
    reconnection: "sse-retry", Legacy, Legacy;
    schemas: "json-schema-2020-12-preservation", Legacy, Legacy;
    modern_calls: "tools_call", Modern, Auto;
    modern_schemas: "json-schema-2020-12-preservation", Modern, Auto;
    metadata: "request-metadata", Modern, Auto;
    standard_headers: "http-standard-headers", Modern, Auto;
    custom_headers: "http-custom-headers", Modern, Auto;
    invalid_headers: "http-invalid-tool-headers", Modern, Auto;
    request_state: "sep-2322-client-request-state", Modern, Auto;
    schema_references: "json-schema-ref-no-deref", Modern, Auto;
    modern_client_calls_legacy_server: "tools_call", Legacy, Auto;
    modern_client_fills_in_a_legacy_form: "elicitation-sep1034-client-defaults", Legacy, Auto;
    legacy_client_calls_modern_server: "tools_call", Modern, Legacy;
    legacy_client_sends_custom_headers: "http-custom-headers", Modern, Legacy;
    legacy_client_sees_no_invalid_headers: "http-invalid-tool-headers", Modern, Legacy;
    legacy_client_keeps_request_state: "sep-2322-client-request-state", Modern, Legacy;
}
