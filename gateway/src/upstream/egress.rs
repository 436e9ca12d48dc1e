//! Where connections may go.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use gateway_core::Forbidden;

/// What a name resolves to.
pub(super) type Resolved = BoxFuture<'static, io::Result<Vec<SocketAddr>>>;

/// Rules for addresses that servers name themselves, and how names are resolved.
pub(crate) struct Egress {
    rules: ArcSwap<Rules>,
    resolve: fn(String, u16) -> Resolved,
}

#[derive(Debug)]
enum Rules {
    /// Manifests of one's own machine may name any address.
    Anywhere,
    /// Nobody has said yet what is forbidden.
    Unknown,
    Known(Forbidden),
}

/// Why an address is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Not told which address: names of a cluster could be explored by that.
    #[error(
        "its url leads to an address inside the cluster or to one that is reserved, which is not \
         permitted; use spec.service for a Service, or have the address allowed"
    )]
    Forbidden,
    #[error("which addresses are forbidden is not known yet; the operator says so when it runs")]
    Unknown,
}

impl std::fmt::Debug for Egress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.rules.load().fmt(f)
    }
}

impl Egress {
    /// Forbids nothing.
    pub(crate) fn anywhere() -> Arc<Self> {
        Self::with(Rules::Anywhere, resolve)
    }

    /// Forbids every address until it is told which.
    pub(crate) fn unknown() -> Arc<Self> {
        Self::with(Rules::Unknown, resolve)
    }

    fn with(rules: Rules, resolve: fn(String, u16) -> Resolved) -> Arc<Self> {
        Arc::new(Self { rules: ArcSwap::from_pointee(rules), resolve })
    }

    /// With other names than those of this machine.
    #[cfg(test)]
    pub(super) fn resolving(
        forbidden: Forbidden,
        resolve: fn(String, u16) -> Resolved,
    ) -> Arc<Self> {
        Self::with(Rules::Known(forbidden), resolve)
    }

    /// Forbids these from the next connection on.
    pub(crate) fn forbid(&self, forbidden: Forbidden) {
        self.rules.store(Arc::new(Rules::Known(forbidden)));
    }

    /// The addresses of a name that the operator gave, not the one who wrote the manifest.
    pub(super) async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        (self.resolve)(host.to_owned(), port).await
    }

    /// The addresses of a host, if all of them are permitted: of a name with several a client may
    /// get to any.
    pub(super) async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let addresses = self.resolve(host, port).await?;
        let refused = match &**self.rules.load() {
            Rules::Anywhere => None,
            Rules::Unknown => Some(Refused::Unknown),
            Rules::Known(forbidden) => {
                let permitted = addresses.iter().all(|address| forbidden.permits(address.ip()));
                (!permitted).then_some(Refused::Forbidden)
            }
        };
        refused.map_or(Ok(addresses), |refused| Err(io::Error::other(refused)))
    }
}

/// As this machine does.
fn resolve(host: String, port: u16) -> Resolved {
    Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
}
