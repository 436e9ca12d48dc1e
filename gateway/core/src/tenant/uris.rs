//! To which server a URI leads among all servers of a tenant, and how it is shown where it would
//! lead to another one. Performs no I/O.
//!
//! A URI that is listed leads to who holds it, as a name does. Any other leads to the server one
//! of whose templates begins as it does. One that would lead elsewhere, or nowhere, is wrapped: it
//! then says whose it is.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use super::Server;
use super::compiled::CompiledResource;
use super::offers::Offers;
use crate::{ServerEntry, ServerName};

/// Begins a wrapped URI. A `+` may stand in a scheme and in no name of a server.
const MARK: &str = "fairway+";
/// Hosts look for this scheme, so it stays in front.
const UI: &str = "ui://";

/// As it is shown where it is wrapped; a template too.
pub(super) fn wrap(server: &ServerEntry, uri: &str) -> String {
    let ServerEntry { namespace, name, .. } = server;
    match uri.strip_prefix(UI) {
        Some(rest) => format!("{UI}{MARK}{namespace}+{name}+{rest}"),
        None => format!("{MARK}{namespace}+{name}+{uri}"),
    }
}

/// Whether it looks wrapped; a server's own URI that does must be wrapped once more.
pub(super) fn is_marked(uri: &str) -> bool {
    uri.strip_prefix(UI).unwrap_or(uri).starts_with(MARK)
}

/// What a wrapped URI says.
pub(super) struct Unwrapped<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    /// As the server wrote it.
    pub(super) uri: Cow<'a, str>,
}

impl<'a> Unwrapped<'a> {
    pub(super) fn parse(uri: &'a str) -> Option<Self> {
        let ui = uri.strip_prefix(UI);
        let mut parts = ui.unwrap_or(uri).strip_prefix(MARK)?.splitn(3, '+');
        let (namespace, name, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let uri = if ui.is_some() { format!("{UI}{rest}").into() } else { rest.into() };
        Some(Self { namespace, name, uri })
    }
}

/// The resources and templates of all servers, and where URIs lead.
#[derive(Debug)]
pub(super) struct Uris {
    /// Those that hold no URI are wrapped.
    pub(super) resources: Offers<CompiledResource>,
    /// Those whose URIs lead elsewhere are wrapped: no name of theirs is of any meaning.
    pub(super) templates: Offers<CompiledResource>,
    prefixes: Prefixes,
}

impl Uris {
    /// `resources` are settled, but for those that look wrapped.
    pub(super) fn new(
        mut resources: Offers<CompiledResource>,
        templates: Vec<Arc<CompiledResource>>,
        by_claim: &[&Server],
    ) -> Self {
        let marked: Vec<usize> =
            resources.holders.iter().filter(|(uri, _)| is_marked(uri)).map(|(_, at)| *at).collect();
        resources.nameless.extend(marked);
        let (prefixes, wrapped) = settle_prefixes(&templates, by_claim);
        let templates = Offers { items: templates, nameless: wrapped, ..Offers::default() };
        Self { resources, templates, prefixes }
    }

    /// Whose URI it is, as the tenant's rules name the server. One that looks wrapped is nobody's.
    pub(super) fn leads_to(&self, uri: &str) -> Option<&ServerName> {
        if is_marked(uri) {
            return None;
        }
        let listed = self.resources.holder(uri).and_then(|at| self.resources.get(at));
        listed.map(|resource| &resource.known_as).or_else(|| self.prefixes.owner(uri))
    }

    /// Whose template it is. What is the same in all its URIs tells.
    pub(super) fn template_leads_to(&self, template: &str) -> Option<&ServerName> {
        let prefix = literal(template);
        if is_marked(prefix) { None } else { self.prefixes.owner(prefix) }
    }
}

/// What of a template is the same in every URI that it makes.
fn literal(template: &str) -> &str {
    template.split('{').next().unwrap_or_default()
}

/// Gives each prefix to one server. A template whose prefix meets that of an earlier claim gets
/// none, nor one that begins with a variable; indices of these.
fn settle_prefixes(
    templates: &[Arc<CompiledResource>],
    by_claim: &[&Server],
) -> (Prefixes, HashSet<usize>) {
    let mut prefixes = Prefixes::default();
    let mut wrapped = HashSet::new();
    for server in by_claim {
        let mut granted = Vec::new();
        for at in server.templates.range() {
            let Some(template) = templates.get(at) else { continue };
            let prefix = literal(&template.uri);
            if prefix.is_empty() || is_marked(prefix) || prefixes.meets(prefix) {
                wrapped.insert(at);
            } else {
                granted.push((prefix, &template.known_as));
            }
        }
        // After all of them are looked at: those of one server may meet.
        let granted = granted.into_iter().map(|(prefix, owner)| (prefix.into(), owner.clone()));
        prefixes.0.extend(granted);
    }
    (prefixes, wrapped)
}

/// Who owns the URIs that begin so. Of two servers' prefixes none begins with the other.
#[derive(Debug, Default)]
struct Prefixes(BTreeMap<Box<str>, ServerName>);

impl Prefixes {
    /// The owner of the longest prefix that the URI begins with.
    fn owner(&self, uri: &str) -> Option<&ServerName> {
        let mut key = uri;
        loop {
            let up_to = (Bound::Unbounded, Bound::Included(key));
            let (prefix, owner) = self.0.range::<str, _>(up_to).next_back()?;
            let common = common_start(prefix, key);
            if common == prefix.len() {
                return Some(owner);
            }
            // Another one that the URI begins with is no longer than that.
            key = key.get(..common)?;
        }
    }

    /// Whether some URI that begins so has an owner.
    fn meets(&self, prefix: &str) -> bool {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let longer = self.0.range::<str, _>(from).next();
        longer.is_some_and(|(other, _)| other.starts_with(prefix)) || self.owner(prefix).is_some()
    }
}

/// How many bytes two texts have in common at their start, in whole characters.
fn common_start(one: &str, other: &str) -> usize {
    let pairs = one.char_indices().zip(other.chars());
    let same = pairs.take_while(|((_, a), b)| a == b);
    same.last().map_or(0, |((at, c), _)| at + c.len_utf8())
}
