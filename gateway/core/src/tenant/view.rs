//! What an entitlement shows. Performs no I/O.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::compiled::CompiledTool;
use super::{Server, offers::Offers};
use crate::ServerName;
use crate::rights::Entitlement;

/// What an entitlement shows: one bit a tool, for tools may be allowed one by one, and two a server.
#[derive(Debug)]
pub(super) struct View {
    tools: Bits,
    /// Servers whose prompts and resources it shows.
    whole: Bits,
    /// Servers of which it shows anything, or could once they offer something.
    known: Bits,
    /// The one server with resources that it shows, if it is one.
    pub(super) sole: Option<ServerName>,
    /// Of the lists of all servers: tools, prompts, resources with templates.
    pub(super) hashes: [OnceLock<u64>; 3],
}

impl View {
    pub(super) fn new(
        servers: &BTreeMap<ServerName, Server>,
        tools: &Offers<CompiledTool>,
        entitlement: &Entitlement,
    ) -> Self {
        let mut view = Self {
            tools: Bits::new(tools.items.len()),
            whole: Bits::new(servers.len()),
            known: Bits::new(servers.len()),
            sole: None,
            hashes: <[OnceLock<u64>; 3]>::default(),
        };
        let mut with_resources = 0;
        for (name, server) in servers {
            let rights = entitlement.on(name.as_str());
            if !rights.may_allow() {
                continue;
            }
            let mut known = server.tools.is_empty();
            for (at, tool) in server.tools.range().zip(tools.of(&server.tools)) {
                if rights.allows(&tool.name) {
                    view.tools.set(at);
                    known = true;
                }
            }
            if rights.allow_whole() {
                view.whole.set(server.place);
                known |= server.has_prompts() || server.has_resources();
                if server.has_resources() {
                    with_resources += 1;
                    view.sole = (with_resources == 1).then(|| name.clone());
                }
            }
            if known {
                view.known.set(server.place);
            }
        }
        view
    }

    pub(super) fn shows(&self, tool: usize) -> bool {
        self.tools.has(tool)
    }

    pub(super) fn shows_whole(&self, server: &Server) -> bool {
        self.whole.has(server.place)
    }

    pub(super) fn knows(&self, server: &Server) -> bool {
        self.known.has(server.place)
    }
}

/// A set of indices.
#[derive(Debug)]
struct Bits(Box<[u64]>);

impl Bits {
    fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)].into_boxed_slice())
    }

    fn set(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / 64) {
            *word |= 1 << (at % 64);
        }
    }

    fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }
}
