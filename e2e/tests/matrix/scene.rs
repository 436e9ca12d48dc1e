//! The gateway before all servers, and a user for each cell.

use anyhow::Result;
use e2e::clients::{
    Endpoint, Transport,
    stage::{Gateway, Manifests, key_of},
};
use tempfile::TempDir;

use crate::servers::{Column, Servers};

pub(crate) struct Scene {
    pub(crate) servers: Servers,
    pub(crate) gateway: Gateway,
    /// Where tests put the files that servers wait for.
    pub(crate) files: TempDir,
    manifests: Manifests,
    _state: TempDir,
}

impl Scene {
    /// Every user may use one server, without the tool that is withheld.
    pub(crate) async fn set(servers: Servers, rows: usize) -> Result<Self> {
        let (manifests, state) = (Manifests::of_alice()?, TempDir::new()?);
        for column in &servers.columns {
            manifests.server_over(column.name, column.tap.url(), column.transport)?;
            for row in 0..rows {
                let withheld = column.kind.withheld().map(|withheld| withheld.tool);
                manifests.user(&user(row, column), column.name, withheld.as_slice())?;
            }
        }
        let mut names: Vec<&str> = servers.columns.iter().map(|column| column.name).collect();
        names.sort_unstable();
        let gateway = Gateway::start(&manifests, &state.path().join("state"), &names).await?;

        Ok(Self { servers, gateway, files: TempDir::new()?, manifests, _state: state })
    }

    /// Lets the user of a cell use all tools of its server.
    pub(crate) fn grant(&self, row: usize, column: &Column) -> Result<()> {
        self.manifests.user(&user(row, column), column.name, &[])
    }
}

/// The gateway at `base` for the user of a cell.
pub(crate) fn endpoint(transport: Transport, base: &str, row: usize, column: &Column) -> Endpoint {
    Endpoint::new(transport, base).header("X-Api-Key", &key_of(&user(row, column)))
}

fn user(row: usize, column: &Column) -> String {
    format!("{}-{row}", column.name)
}
