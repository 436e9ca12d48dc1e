//! Random resources of two tenants, and what the manual says of them. It knows nothing of tables.

use gateway_core::Entry;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

use crate::fixture::{World, key, policy, server};

pub(crate) const NAMESPACES: [&str; 2] = ["a", "b"];
pub(crate) const SERVERS: [&str; 3] = ["s0", "s1", "s2"];
pub(crate) const KEYS: [&str; 4] = ["a/k0", "a/k1", "a/k2", "b/k0"];
/// Some meet when they are prefixed, sanitised or cut.
pub(crate) const TOOLS: [&str; 8] = [
    "get",
    "put",
    "get_all",
    "get.all",
    "get all",
    "s0_get",
    "a-very-long-name-that-will-have-to-be-cut-because-it-is-over-the-limit-1",
    "a-very-long-name-that-will-have-to-be-cut-because-it-is-over-the-limit-2",
];
const PREFIXES: [&str; 3] = ["", "s0_", "x"];
const TOOL_GLOBS: [&str; 6] = ["*", "get*", "put", "?et", "*l*", "nothing"];
const SERVER_GLOBS: [&str; 4] = ["*", "s0", "s?", "nothing"];
const USERS: [&str; 2] = ["u0", "u1"];
const GROUPS: [&str; 3] = ["g0", "g1", "u0"];

type Names = Vec<&'static str>;

#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// `namespace/name`
    pub(crate) id: String,
    pub(crate) created: i64,
    prefix: Option<&'static str>,
    allow: Option<Names>,
    deny: Option<Names>,
    /// What it lists.
    pub(crate) tools: Names,
}

#[derive(Debug, Clone)]
struct Rule {
    servers: Names,
    tools: Names,
}

#[derive(Debug, Clone)]
struct Key {
    id: &'static str,
    user: &'static str,
    groups: Names,
    allow: Option<Rule>,
}

#[derive(Debug, Clone)]
struct Policy {
    namespace: &'static str,
    /// Sort and name.
    subjects: Vec<(&'static str, &'static str)>,
    /// Whether it denies, and what.
    rules: Vec<(bool, Rule)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Universe {
    pub(crate) servers: Vec<Server>,
    keys: Vec<Key>,
    policies: Vec<Policy>,
}

impl Server {
    pub(crate) fn entry(&self) -> Entry {
        let mut tools = json!({"allow": self.allow, "deny": self.deny});
        if let Some(prefix) = self.prefix {
            tools["prefix"] = json!(prefix);
        }
        server(&self.id, self.created, &tools)
    }

    fn offers(&self, tool: &str) -> bool {
        self.allow.as_ref().is_none_or(|globs| any_matches(globs, tool))
            && !self.deny.as_ref().is_some_and(|globs| any_matches(globs, tool))
    }
}

impl Rule {
    fn covers(&self, server: &str, tool: &str) -> bool {
        any_matches(&self.servers, server) && any_matches(&self.tools, tool)
    }

    fn spec(&self) -> Value {
        json!({"servers": self.servers, "tools": self.tools})
    }
}

impl Policy {
    fn names(&self, key: &Key) -> bool {
        let (namespace, name) = key.id.split_once('/').unwrap();
        namespace == self.namespace
            && self.subjects.iter().any(|(sort, subject)| match *sort {
                "user" => *subject == key.user,
                "group" => key.groups.contains(subject),
                _ => *subject == name,
            })
    }
}

impl Universe {
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let keys = self.keys.iter().map(|k| {
            let allow = k.allow.as_ref().map(Rule::spec);
            key(k.id, json!({"user": k.user, "groups": k.groups, "allow": allow}))
        });
        let policies = self.policies.iter().enumerate().map(|(at, p)| {
            let subjects: Value =
                p.subjects.iter().map(|(sort, name)| json!({*sort: name})).collect();
            let rules = p.rules.iter().map(|(deny, rule)| {
                let mut spec = rule.spec();
                spec["effect"] = json!(if *deny { "Deny" } else { "Allow" });
                spec
            });
            policy(&format!("{}/p{at}", p.namespace), &subjects, &rules.collect())
        });
        self.servers.iter().map(Server::entry).chain(keys).chain(policies).collect()
    }

    /// Everything at once.
    pub(crate) fn world(&self) -> World {
        let mut world = World::of(self.entries());
        for server in &self.servers {
            world.keep(&server.id, &server.tools);
        }
        world.build();
        world
    }

    /// The tools of a server that a key may use, in the server's order.
    pub(crate) fn allowed(&self, key: &str, server: &str) -> Vec<String> {
        let key = self.keys.iter().find(|k| k.id == key).unwrap();
        let Some(server) = self.servers.iter().find(|s| s.id == server) else { return Vec::new() };
        let name = server.id.split_once('/').unwrap().1;
        let rules = |denials| {
            let policies = self.policies.iter().filter(|policy| policy.names(key));
            policies.flat_map(|policy| &policy.rules).filter(move |rule| rule.0 == denials)
        };
        let allowed = |tool: &str| {
            server.offers(tool)
                && (key.allow.as_ref().is_some_and(|rule| rule.covers(name, tool))
                    || rules(false).any(|(_, rule)| rule.covers(name, tool)))
                && !rules(true).any(|(_, rule)| rule.covers(name, tool))
        };
        let tools = server.tools.iter().filter(|tool| allowed(tool));
        tools.map(|tool| format!("{}/{tool}", server.id)).collect()
    }
}

fn any_matches(globs: &[&str], name: &str) -> bool {
    globs.iter().any(|glob| matches(glob.as_bytes(), name.as_bytes()))
}

fn matches(glob: &[u8], name: &[u8]) -> bool {
    match glob.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len()).any(|skip| matches(rest, &name[skip..])),
        Some((c, rest)) => name
            .split_first()
            .is_some_and(|(n, name)| (*c == b'?' || c == n) && matches(rest, name)),
    }
}

pub(crate) fn universe() -> impl Strategy<Value = Universe> {
    let servers = NAMESPACES
        .iter()
        .flat_map(|namespace| SERVERS.map(|name| format!("{namespace}/{name}")))
        .map(|id| option::weighted(0.8, described(id)))
        .collect::<Vec<_>>()
        .prop_map(|servers| servers.into_iter().flatten().collect());
    let keys = KEYS.to_vec().into_iter().map(key_of).collect::<Vec<_>>();
    (servers, keys, vec(any_policy(), 0..6)).prop_map(|(servers, keys, policies)| Universe {
        servers,
        keys,
        policies,
    })
}

/// Any manifest of that server, and any list.
pub(crate) fn described(id: String) -> impl Strategy<Value = Server> {
    let globs = || option::weighted(0.3, vec(select(&TOOL_GLOBS[..]), 0..3));
    (0..3_i64, option::of(select(&PREFIXES[..])), globs(), globs(), tools()).prop_map(
        move |(created, prefix, allow, deny, tools)| Server {
            id: id.clone(),
            created,
            prefix,
            allow,
            deny,
            tools,
        },
    )
}

/// Any list of tools, in any order.
pub(crate) fn tools() -> impl Strategy<Value = Names> {
    subsequence(TOOLS.to_vec(), 0..=TOOLS.len()).prop_shuffle()
}

fn rule() -> impl Strategy<Value = Rule> {
    (vec(select(&SERVER_GLOBS[..]), 1..3), vec(select(&TOOL_GLOBS[..]), 1..3))
        .prop_map(|(servers, tools)| Rule { servers, tools })
}

fn key_of(id: &'static str) -> impl Strategy<Value = Key> {
    (select(&USERS[..]), subsequence(GROUPS.to_vec(), 0..=2), option::of(rule()))
        .prop_map(move |(user, groups, allow)| Key { id, user, groups, allow })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let subject = prop_oneof![
        (Just("user"), select(&USERS[..])),
        (Just("group"), select(&GROUPS[..])),
        (Just("key"), select(&["k0", "k1", "u0"][..])),
    ];
    (select(&NAMESPACES[..]), vec(subject, 1..3), vec((any::<bool>(), rule()), 1..3))
        .prop_map(|(namespace, subjects, rules)| Policy { namespace, subjects, rules })
}
