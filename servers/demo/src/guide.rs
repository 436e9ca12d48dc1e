//! What to do now that the demo runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// Says where everything is and what to type next.
pub(crate) fn print(address: SocketAddr, admin: SocketAddr, database: &str, manifests: &Path) {
    let (address, admin) = (reachable(address), reachable(admin));
    let manifests = manifests.display();
    println!(
        "\
Fairway is listening on http://{address}

  Streamable HTTP   http://{address}/mcp        one server: /mcp/everything
  HTTP+SSE          http://{address}/sse
  Health            http://{address}/health     in detail: /readyz
  Metrics           http://{admin}/metrics

Who may see what:

  alice  alice-key-abc123   9 tools of everything, filesystem, {database}
  bob    bob-key-xyz789     6 tools of everything, {database}
  carol  carol-key-def456   the tenant \"tools\", at http://{address}/t/tools/mcp

Add it to Claude Code, by one of:

  claude mcp add --transport http fairway http://{address}/mcp --header \"X-Api-Key: alice-key-abc123\"
  claude mcp add --transport sse fairway \"http://{address}/sse?api_key=alice-key-abc123\"

Edit the manifests in {manifests}
and save: open sessions see the change at once. Ctrl-C stops everything."
    );
}

/// The address to type: one that stands for all addresses is none.
fn reachable(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
    } else {
        address
    }
}
