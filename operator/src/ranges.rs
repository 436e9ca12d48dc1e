//! Where no server given by a URL may be: the addresses of the cluster itself, as far as the
//! cluster tells, and those the operator is told of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use gateway_core::{Forbidden, Range};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client, ResourceExt};

use crate::lease::Leadership;
use crate::objects::{Error, call, put};

/// Of the Secret that holds them, and its name.
pub(crate) const CONFIG_TYPE: &str = "fairway.dev/config";
const CONFIG: &str = "config";

/// Writes them where the gateways read them. Pods have the ranges of their nodes (`podCIDRs`); a
/// network with ranges of its own has to be named to the operator.
pub(crate) struct Ranges {
    client: Client,
    entries: Api<Secret>,
    leadership: Arc<Leadership>,
    forbidden: Vec<Range>,
    allowed: Vec<Range>,
}

impl Ranges {
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        leadership: Arc<Leadership>,
        forbidden: Vec<Range>,
        allowed: Vec<Range>,
    ) -> Self {
        let entries = Api::namespaced(client.clone(), namespace);
        Self { client, entries, leadership, forbidden, allowed }
    }

    /// Brings the entry in line with the cluster.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn update(&self) -> Result<(), Error> {
        let forbidden = Forbidden {
            ranges: self.of_the_cluster().await?.into_iter().collect(),
            allowed: self.allowed.clone(),
        };
        let json = serde_json::to_vec(&forbidden)?;
        let live = call("read the ranges", self.entries.get_opt(CONFIG)).await?;
        let said = live.as_ref().and_then(|live| live.data.as_ref()?.get("forbidden"));
        if said.is_some_and(|said| said.0 == json) {
            return Ok(());
        }
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(CONFIG.to_owned()),
                resource_version: live.as_ref().and_then(ResourceExt::resource_version),
                ..ObjectMeta::default()
            },
            type_: Some(CONFIG_TYPE.to_owned()),
            data: Some(BTreeMap::from([("forbidden".to_owned(), ByteString(json))])),
            ..Secret::default()
        };
        self.leadership.term().ok_or(Error::NotLeader)?;
        put("write the ranges", &self.entries, CONFIG, &secret, live.is_some()).await?;
        tracing::info!(ranges = ?forbidden.ranges, "ranges of the cluster are written");
        Ok(())
    }

    async fn of_the_cluster(&self) -> Result<BTreeSet<Range>, Error> {
        let mut ranges: BTreeSet<Range> = self.forbidden.iter().copied().collect();
        let all = Default::default();
        let nodes = Api::<Node>::all(self.client.clone());
        for node in call("list the nodes", nodes.list(&all)).await? {
            let pods = node.spec.unwrap_or_default().pod_cidrs.unwrap_or_default();
            ranges.extend(pods.iter().filter_map(|range| range.parse::<Range>().ok()));
            let addresses = node.status.unwrap_or_default().addresses.unwrap_or_default();
            ranges.extend(addresses.iter().filter_map(|address| host(&address.address)));
        }
        let services = Api::<ServiceCIDR>::all(self.client.clone());
        for services in call("list the ranges of Services", services.list(&all)).await? {
            let cidrs = services.spec.unwrap_or_default().cidrs.unwrap_or_default();
            ranges.extend(cidrs.iter().filter_map(|range| range.parse::<Range>().ok()));
        }
        let slices = Api::<EndpointSlice>::namespaced(self.client.clone(), "default");
        let apiserver =
            kube::api::ListParams::default().labels("kubernetes.io/service-name=kubernetes");
        for slice in call("find the apiserver", slices.list(&apiserver)).await? {
            let addresses =
                slice.endpoints.iter().flatten().flat_map(|endpoint| &endpoint.addresses);
            ranges.extend(addresses.filter_map(|address| host(address)));
        }
        Ok(ranges)
    }
}

fn host(address: &str) -> Option<Range> {
    address.parse::<IpAddr>().ok().map(Range::host)
}

#[cfg(test)]
mod tests;
