//! Who leads the operators.

use std::time::Duration;

use anyhow::{Context as _, Result};
use e2e::cluster::release::{HOME, RELEASE};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

use super::{Scene, until};

/// A leader, as the Lease names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lead {
    /// Its pod.
    pub(crate) pod: String,
    pub(crate) term: i32,
    /// When its term began.
    pub(crate) since: Duration,
}

/// Of the operators' Lease.
pub(crate) fn name() -> String {
    format!("{RELEASE}-operator")
}

impl Scene {
    pub(crate) fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), HOME)
    }

    /// Who leads now, as far as the Lease tells.
    pub(crate) async fn lead(&self) -> Result<Lead> {
        let lease = self.leases().get(&name()).await?;
        let spec = lease.spec.context("an empty Lease")?;
        let pod = spec.holder_identity.filter(|pod| !pod.is_empty()).context("nobody leads")?;
        let since = spec.acquire_time.context("no time in the Lease")?.0.as_microsecond();
        let since = Duration::from_micros(u64::try_from(since)?);
        Ok(Lead { pod, term: spec.lease_transitions.unwrap_or_default(), since })
    }

    /// Waits until somebody leads in a later term.
    pub(crate) async fn next_lead(&self, before: &Lead, deadline: Duration) -> Result<Lead> {
        let found = std::sync::Mutex::new(None);
        let another = || async {
            let lead = self.lead().await?;
            let later = lead.term > before.term;
            if later {
                found.lock().map_err(|_| anyhow::anyhow!("poisoned"))?.replace(lead);
            }
            Ok(later)
        };
        until(&format!("a leader after {before:?}"), deadline, another).await?;
        let found = found.into_inner().ok().flatten();
        found.context("nobody leads")
    }
}
