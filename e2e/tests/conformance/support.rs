//! What the tests have in common: the gateway in front of the fixtures, and what is asked of a report.

use std::fmt::Write as _;

use anyhow::Result;
use e2e::clients::{
    conformance::{Check, Era, Report, Revision, Server},
    hop::Hop,
    stage::{ALICE, Gateway, Manifests},
};
use tempfile::TempDir;

/// The conformance server behind a gateway that wants a key, and a hop that adds it.
pub(crate) struct Scene {
    hop: Hop,
    _gateway: Gateway,
    _server: Server,
    _manifests: Manifests,
    _state: TempDir,
}

impl Scene {
    pub(crate) async fn set(era: Era) -> Result<Self> {
        let state = TempDir::new()?;
        let server = Server::start(era).await?;
        let manifests = Manifests::of_alice()?;
        manifests.server("fixtures", &server.url(), "Auto")?;
        let gateway =
            Gateway::start(&manifests, &state.path().join("state"), &["fixtures"]).await?;
        let hop = Hop::start(&gateway.url(), "X-Api-Key", ALICE).await?;

        Ok(Self { hop, _gateway: gateway, _server: server, _manifests: manifests, _state: state })
    }

    /// Where the one server is, with its own names.
    pub(crate) fn url(&self) -> String {
        format!("{}/mcp/fixtures", self.hop.url())
    }
}

/// Checks of a scenario that do not hold, for a reason.
pub(crate) struct Exempt {
    pub(crate) scenario: &'static str,
    /// Their ids; `*` stands for whatever the scenario looks at.
    pub(crate) checks: &'static [&'static str],
    /// The clause of the specification that forbids them.
    pub(crate) because: &'static str,
}

impl Exempt {
    fn covers(&self, check: &Check) -> bool {
        self.scenario == check.scenario
            && (self.checks == ["*"] || self.checks.contains(&check.id.as_str()))
    }

    /// Which of its checks hold all the same.
    fn stale(&self, report: &Report) -> Vec<&'static str> {
        let fails = |id: &str| {
            report
                .faults()
                .any(|check| check.scenario == self.scenario && (id == "*" || check.id == id))
        };
        self.checks.iter().filter(|id| !fails(id)).copied().collect()
    }
}

/// Who answers the suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Our server of fixtures.
    Server,
    /// The gateway in front of it.
    Gateway,
}

/// What the suite of alpha.12 plays and finds when all is well: scenarios and checks.
pub(crate) fn everything(subject: Subject, revision: Revision) -> (usize, usize) {
    match (subject, revision) {
        (Subject::Server, Revision::Legacy) => (33, 83),
        // Three look at the ids of events (`server-sse-polling`), which the gateway does not send: that a stream can be
        // resumed is optional (2025-11-25, basic/transports, resumability).
        (Subject::Gateway, Revision::Legacy) => (33, 80),
        (Subject::Server, Revision::Modern) => (50, 197),
        (Subject::Gateway, Revision::Modern) => (50, 196),
    }
}

/// The suite does not make this check itself yet.
pub(crate) const UNWRITTEN: Exempt = Exempt {
    scenario: "tasks-status-notifications",
    checks: &["tasks-status-notifications"],
    because: "the suite skips it until it listens for notifications/tasks",
};

/// Every check holds, as many as ever.
#[track_caller]
pub(crate) fn assert_all_hold(report: &Report, subject: Subject, revision: Revision) {
    let unwritten = if revision == Revision::Modern { &[UNWRITTEN][..] } else { &[] };
    assert_hold_but_for(unwritten, report);

    assert_eq!(
        (report.scenarios(), report.successes()),
        everything(subject, revision),
        "{}",
        report.text()
    );
    assert!(report.agrees(), "{}", report.text());
}

/// Every check holds but for those that cannot, and those do not.
#[track_caller]
pub(crate) fn assert_hold_but_for(exempt: &[Exempt], report: &Report) {
    let mut faults = String::new();
    for check in report.faults() {
        if !exempt.iter().any(|exempt| exempt.covers(check)) {
            writeln!(faults, "{check}").unwrap();
        }
    }
    for exempt in exempt {
        for id in exempt.stale(report) {
            writeln!(faults, "{}: {id} holds, though {}", exempt.scenario, exempt.because).unwrap();
        }
    }

    assert!(faults.is_empty(), "{} checks hold, but:\n{faults}", report.successes());
}
