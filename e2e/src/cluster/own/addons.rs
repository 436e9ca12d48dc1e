//! What the cluster knows of its own DNS and Ingress controller, which run on the host.

use std::time::Duration;

use anyhow::Result;
use tokio::net::TcpStream;

use super::super::{
    client::Access,
    command, dns,
    layout::{APISERVER_SERVICE, DNS_SERVICE, NODE_IP},
};

/// Makes pods and Ingresses find them.
pub(crate) async fn apply(access: &Access) -> Result<()> {
    // The apiserver is ready some moments before it has made kube-system.
    let applied = || async { access.apply(&manifests()).await.map(|_| true) };
    command::until("the add-ons to be accepted", START, applied).await
}

/// Waits until both answer: DNS at its Service, so that kube-proxy is seen to work too.
pub(crate) async fn answer() -> Result<()> {
    let name = "kubernetes.default.svc.cluster.local";
    let resolved =
        || async { Ok(dns::resolve(name, (DNS_SERVICE, 53).into()).await? == [APISERVER_SERVICE]) };
    command::until("the cluster's DNS", START, resolved).await?;

    let listens = || async { Ok(TcpStream::connect((NODE_IP, 80)).await.map(|_| true)?) };
    command::until("the Ingress controller", START, listens).await
}

pub(crate) fn manifests() -> String {
    format!(
        "\
apiVersion: v1
kind: Service
metadata: {{name: kube-dns, namespace: kube-system}}
spec:
  clusterIP: {DNS_SERVICE}
  ports:
  - {{name: dns, port: 53, protocol: UDP}}
  - {{name: dns-tcp, port: 53, protocol: TCP}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: kube-dns-host
  namespace: kube-system
  labels: {{kubernetes.io/service-name: kube-dns, endpointslice.kubernetes.io/managed-by: fairway-e2e}}
addressType: IPv4
ports:
- {{name: dns, port: 53, protocol: UDP}}
- {{name: dns-tcp, port: 53, protocol: TCP}}
endpoints:
- addresses: ['{NODE_IP}']
  conditions: {{ready: true}}
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata:
  name: traefik
  annotations: {{ingressclass.kubernetes.io/is-default-class: 'true'}}
spec: {{controller: traefik.io/ingress-controller}}
"
    )
}

/// CoreDNS waits for its first complete lists, kube-proxy writes all rules at once: 3 s when both cores are busy.
const START: Duration = Duration::from_secs(60);
