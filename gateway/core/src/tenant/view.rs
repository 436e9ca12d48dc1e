//! Which tools an entitlement shows. Performs no I/O.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::{CompiledTool, Server};
use crate::ServerName;
use crate::rights::Entitlement;

/// The tools an entitlement shows: one bit a tool.
#[derive(Debug)]
pub(super) struct View {
    visible: Box<[u64]>,
    /// Of the list of all servers' tools.
    pub(super) hash: OnceLock<u64>,
}

impl View {
    pub(super) fn new(
        servers: &BTreeMap<ServerName, Server>,
        tools: &[Arc<CompiledTool>],
        entitlement: &Entitlement,
    ) -> Self {
        let mut visible = vec![0_u64; tools.len().div_ceil(64)].into_boxed_slice();
        for (name, server) in servers {
            let rights = entitlement.on(name.as_str());
            if !rights.may_allow() {
                continue;
            }
            let tools = tools.get(server.tools.clone()).unwrap_or_default();
            for (at, tool) in server.tools.clone().zip(tools) {
                if rights.allows(&tool.name)
                    && let Some(word) = visible.get_mut(at / 64)
                {
                    *word |= 1 << (at % 64);
                }
            }
        }
        Self { visible, hash: OnceLock::new() }
    }

    pub(super) fn shows(&self, tool: usize) -> bool {
        self.visible.get(tool / 64).is_some_and(|word| word & (1 << (tool % 64)) != 0)
    }
}
