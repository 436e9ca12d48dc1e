//! The gateway between a client of one era and a server of the other. What cannot hold then, and why.

use e2e::clients::conformance::{Era, Revision, judge_server};

use crate::support::{Exempt, Scene, Subject, UNWRITTEN, assert_all_hold, assert_hold_but_for};

const TASKS: &str = "extensions/tasks, Capability Negotiation: tasks are an extension of 2026-07-28 that the server \
    offers; 2025-11-25 has no extensions, so a legacy server offers none";

const KEYS: &str = "2026-07-28 basic/patterns/mrtr, InputRequests: the keys are the server's; a legacy server sends \
    elicitation/create, sampling/createMessage and roots/list as requests, which have ids and no keys, and keeps what \
    it has asked in the open call, so that answers to questions it has not asked yet are answers to none";

const NO_ERROR: &str = "2025-11-25 basic/lifecycle, Capability Negotiation: capabilities are settled at initialize and \
    no error says that one is missing; MissingRequiredClientCapabilityError (-32021) is new in 2026-07-28";

/// What a modern client misses at a legacy server.
const MODERN_AT_LEGACY: &[Exempt] = &[
    Exempt { scenario: "tasks-lifecycle", checks: &["*"], because: TASKS },
    Exempt { scenario: "tasks-capability-negotiation", checks: &["*"], because: TASKS },
    Exempt { scenario: "tasks-wire-fields", checks: &["*"], because: TASKS },
    Exempt { scenario: "tasks-request-state-removal", checks: &["*"], because: TASKS },
    Exempt { scenario: "tasks-mrtr-input", checks: &["*"], because: TASKS },
    Exempt { scenario: "tasks-request-headers", checks: &["*"], because: TASKS },
    Exempt { scenario: "tasks-dispatch-and-envelope", checks: &["*"], because: TASKS },
    Exempt { scenario: "tasks-required-task-error", checks: &["*"], because: TASKS },
    Exempt { scenario: "tasks-mrtr-composition", checks: &["*"], because: TASKS },
    UNWRITTEN,
    Exempt {
        scenario: "server-stateless",
        checks: &[
            "sep-2575-server-rejects-undeclared-capability",
            "sep-2575-missing-capability-http-400",
        ],
        because: NO_ERROR,
    },
    Exempt {
        scenario: "input-required-result-basic-elicitation",
        checks: &["sep-2322-elicitation-incomplete"],
        because: KEYS,
    },
    Exempt {
        scenario: "input-required-result-ignore-extra-params",
        checks: &["sep-2322-ignore-unexpected-params"],
        because: KEYS,
    },
];

#[tokio::test]
async fn a_legacy_client_misses_nothing_at_a_modern_server() {
    let scene = Scene::set(Era::Modern).await.unwrap();

    let report = judge_server(&scene.url(), Revision::Legacy).await.unwrap();

    assert_all_hold(&report, Subject::Gateway, Revision::Legacy);
}

#[tokio::test]
async fn a_modern_client_misses_at_a_legacy_server_only_what_that_cannot_have() {
    let scene = Scene::set(Era::Legacy).await.unwrap();

    let report = judge_server(&scene.url(), Revision::Modern).await.unwrap();

    assert_hold_but_for(MODERN_AT_LEGACY, &report);
}
