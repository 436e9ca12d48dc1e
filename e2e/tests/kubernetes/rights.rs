//! What the apiserver lets gateway and operator do: what they need, all of which they use, and nothing else.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use e2e::cluster::{
    Program, Release, Tenant,
    release::{ENTRIES, HOME, RELEASE, until},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{MINUTE, put_secret, strings, stub::Stub};

/// What a gateway may do.
const GATEWAY: [&str; 3] = ["get", "list", "watch"];

#[tokio::test]
async fn a_gateway_reads_entries_and_nothing_else() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("gateway").await.unwrap();
    put_secret(&team, "precious", "token").await;
    let gateway = Account::of(&release, "gateway").await.unwrap();
    let anybody = Account::of(&release, "default").await.unwrap();

    for (namespace, rights) in [
        (HOME, vec![]),
        ("default", vec![]),
        ("kube-system", vec![]),
        (team.name(), vec![]),
        (ENTRIES, GATEWAY.map(|verb| format!("secrets {verb}")).into()),
    ] {
        let may = gateway.may_beyond(&anybody, namespace).await;
        assert_eq!(may, BTreeSet::from_iter(rights), "in {namespace}");
    }

    // The same by its token, where rules might say one thing and the apiserver do another.
    gateway.kubectl(&["get", "secrets", "--namespace", ENTRIES]).await.unwrap();
    let config = ["get", "secret", "config", "--namespace", ENTRIES, "--output=json"];
    let config: Value = serde_json::from_str(&gateway.kubectl(&config).await.unwrap()).unwrap();
    let helm = format!("sh.helm.release.v1.{RELEASE}.v1");
    let (keys, token) = (format!("{RELEASE}-keys"), format!("{RELEASE}-metrics-token"));
    for arguments in [
        vec!["get", "secret", &helm, "--namespace", HOME],
        vec!["get", "secret", &keys, "--namespace", HOME],
        vec!["get", "secret", &token, "--namespace", HOME],
        vec!["get", "secrets", "--namespace", HOME],
        vec!["get", "secret", "precious", "--namespace", team.name()],
        vec!["get", "secrets", "--all-namespaces"],
        vec!["get", "mcpservers", "--all-namespaces"],
        vec!["get", "mcpapikeys", "--namespace", team.name()],
        vec!["get", "pods", "--namespace", HOME],
        vec!["get", "configmaps", "--namespace", ENTRIES],
        vec!["get", "nodes"],
        vec!["get", "namespaces"],
        vec!["get", "leases", "--namespace", HOME],
        vec!["delete", "secret", "config", "--namespace", ENTRIES],
        vec![
            "patch",
            "secret",
            "config",
            "--namespace",
            ENTRIES,
            "--patch={\"metadata\":{\"labels\":{\"a\":\"b\"}}}",
        ],
        vec!["create", "secret", "generic", "mine", "--namespace", ENTRIES],
        vec!["create", "token", "fairway-operator", "--namespace", HOME],
    ] {
        let told = gateway.kubectl(&arguments).await.unwrap_err().to_string();
        assert!(told.to_lowercase().contains("forbidden"), "{arguments:?}: {told}");
    }
    let after = ["--namespace", ENTRIES, "get", "secret", "config", "--output=json"];
    let after: Value =
        serde_json::from_str(&release.cluster().kubectl(&after).await.unwrap()).unwrap();
    assert_eq!(after["metadata"]["uid"], config["metadata"]["uid"]);
}

#[tokio::test]
async fn an_operator_may_do_what_the_chart_says_and_nothing_else() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("operator").await.unwrap();
    put_secret(&team, "precious", "token").await;
    let operator = Account::of(&release, "operator").await.unwrap();
    let anybody = Account::of(&release, "default").await.unwrap();
    let rights = granted(&release).await.unwrap();

    for namespace in [HOME, ENTRIES, "kube-system", team.name()] {
        let expected: BTreeSet<String> = rights
            .iter()
            .filter(|right| right.place.as_deref().is_none_or(|place| place == namespace))
            .map(Right::line)
            .collect();
        let may = operator.may_beyond(&anybody, namespace).await;
        assert_eq!(may, expected, "in {namespace}");
    }

    let keys = format!("{RELEASE}-keys");
    operator.kubectl(&["get", "secret", &keys, "--namespace", HOME]).await.unwrap();
    for arguments in [
        vec!["delete", "secret", &keys, "--namespace", HOME],
        vec!["delete", "mcpserver", "any", "--namespace", team.name()],
        vec!["create", "serviceaccount", "any", "--namespace", HOME, "--as=system:admin"],
        vec!["create", "clusterrolebinding", "any", "--clusterrole=cluster-admin", "--user=any"],
        vec![
            "create",
            "role",
            "any",
            "--verb=get",
            "--resource=secrets",
            "--namespace",
            team.name(),
        ],
        vec!["run", "any", "--image=any", "--namespace", team.name()],
        vec!["create", "token", "default", "--namespace", "kube-system"],
        vec!["delete", "secrets", "--all", "--namespace", team.name()],
        vec!["get", "configmaps", "--namespace", "kube-system"],
        vec!["delete", "namespace", team.name()],
    ] {
        let told = operator.kubectl(&arguments).await.unwrap_err().to_string();
        assert!(told.to_lowercase().contains("forbidden"), "{arguments:?}: {told}");
    }
}

/// The audit log of the apiserver tells: each right that the operator has it has used, and a gateway lists and
/// watches. (What it may `get` too is nothing that it does not see in the list.)
#[tokio::test]
async fn every_right_is_used_and_none_is_missing() {
    let release = Release::shared().await.unwrap();
    if release.cluster().audit().unwrap().is_none() {
        return;
    }
    let began = Timestamp::now();
    let team = release.tenant("uses").await.unwrap();
    use_everything(&release, &team).await;

    let mut rights = granted(&release).await.unwrap();
    rights.extend(["list", "watch"].map(|verb| Right {
        who: "gateway",
        place: Some(ENTRIES.to_owned()),
        resource: "secrets".to_owned(),
        name: None,
        verb: verb.to_owned(),
    }));
    let unused = std::sync::Mutex::new(Vec::new());
    let all_used = || async {
        let uses = uses(&release.cluster().audit()?.unwrap_or_default());
        let not_used = rights.iter().filter(|right| !uses.iter().any(|made| right.allows(made)));
        *unused.lock().unwrap() = not_used.map(|right| format!("{right:?}")).collect();
        Ok(unused.lock().unwrap().is_empty())
    };
    let waited = until("all rights to be used", MINUTE, all_used).await;
    assert!(waited.is_ok(), "nobody needs:\n{}", unused.into_inner().unwrap().join("\n"));

    let uses = uses(&release.cluster().audit().unwrap().unwrap());
    let denied: Vec<&Use> = uses.iter().filter(|made| !made.allowed && made.at > began).collect();
    assert!(denied.is_empty(), "{denied:#?}");
}

/// One right of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Right {
    who: &'static str,
    /// The namespace; all if none.
    place: Option<String>,
    /// With its group, and its subresource.
    resource: String,
    name: Option<String>,
    verb: String,
}

impl Right {
    /// As [`Account::may`] tells it.
    fn line(&self) -> String {
        let name = self.name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        format!("{}{name} {}", self.resource, self.verb)
    }

    fn allows(&self, made: &Use) -> bool {
        // An apply that makes an object is authorized for both.
        let verb = made.verb == self.verb
            || (self.verb == "create" && made.verb == "patch" && made.code == 201);
        made.who == self.who
            && verb
            && made.allowed
            && made.resource == self.resource
            && self.place.as_ref().is_none_or(|place| *place == made.namespace)
            // What may be done by name elsewhere is no use of the right to do it everywhere.
            && (self.place.is_some() || made.namespace != ENTRIES && made.namespace != HOME)
            && self.name.as_ref().is_none_or(|name| *name == made.name)
    }
}

/// A request that was made.
#[derive(Clone, Debug)]
struct Use {
    at: Timestamp,
    who: &'static str,
    verb: String,
    namespace: String,
    resource: String,
    name: String,
    /// By the rights: what is asked for need not be there.
    allowed: bool,
    code: u64,
}

/// What gateway and operator asked for themselves: this test has their tokens too, but is kubectl.
fn uses(audit: &str) -> Vec<Use> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let used = |line: &str| {
        let event: Value = serde_json::from_str(line).ok()?;
        let user = event["user"]["username"].as_str()?;
        let who = ["gateway", "operator"]
            .into_iter()
            .find(|who| user == format!("system:serviceaccount:{HOME}:{RELEASE}-{who}"))?;
        let object = &event["objectRef"];
        if object.is_null() || text(&event["userAgent"]).starts_with("kubectl") {
            return None;
        }
        Some(Use {
            at: event["requestReceivedTimestamp"].as_str()?.parse().ok()?,
            who,
            verb: text(&event["verb"]),
            namespace: text(&object["namespace"]),
            resource: resource(
                &object["apiGroup"],
                &text(&object["resource"]),
                &text(&object["subresource"]),
            ),
            name: text(&object["name"]),
            allowed: event["annotations"]["authorization.k8s.io/decision"] == "allow",
            code: event["responseStatus"]["code"].as_u64()?,
        })
    };
    audit.lines().filter_map(used).collect()
}

fn resource(group: &Value, resource: &str, subresource: &str) -> String {
    let group = group.as_str().unwrap_or_default();
    let dot = if group.is_empty() { "" } else { "." };
    let slash = if subresource.is_empty() { "" } else { "/" };
    format!("{resource}{dot}{group}{slash}{subresource}")
}

/// The rights that the roles of the operator give.
async fn granted(release: &Release) -> Result<Vec<Right>> {
    let roles = ["get", "clusterroles,roles", "--all-namespaces", "--output=json"];
    let selector = "--selector=app.kubernetes.io/component=operator";
    let printed = release.cluster().kubectl(&[&roles[..], &[selector]].concat()).await?;
    let roles: Value = serde_json::from_str(&printed)?;
    let mut rights = Vec::new();
    for role in roles["items"].as_array().into_iter().flatten() {
        for rule in role["rules"].as_array().into_iter().flatten() {
            let names = match strings(&rule["resourceNames"]) {
                names if names.is_empty() => vec![None],
                names => names.into_iter().map(|name| Some(name.to_owned())).collect(),
            };
            for group in rule["apiGroups"].as_array().into_iter().flatten() {
                for path in strings(&rule["resources"]) {
                    let (kind, subresource) = path.split_once('/').unwrap_or((path, ""));
                    for verb in strings(&rule["verbs"]) {
                        rights.extend(names.iter().map(|name| Right {
                            who: "operator",
                            place: role["metadata"]["namespace"].as_str().map(str::to_owned),
                            resource: resource(group, kind, subresource),
                            name: name.clone(),
                            verb: verb.to_owned(),
                        }));
                    }
                }
            }
        }
    }
    Ok(rights)
}

/// Has the operator do everything that it does.
async fn use_everything(release: &Release, team: &Tenant) {
    let image = release.image(Program::Everything).unwrap();
    let stub = Stub::start(release, &[("look", "Looks.")]).await.unwrap();
    let url = stub.publish(team, "elsewhere").await.unwrap();
    put_secret(team, "credential", "token").await;
    team.allow("all", "alice", &["*"]).await.unwrap();
    team.key("alice", json!({"user": "alice"})).await.unwrap();
    let rotate = ["annotate", "mcpapikey", "alice", "fairway.dev/rotate=1"];
    team.namespace().kubectl(&rotate).await.unwrap();
    // Several pods that keep sessions have a Service more.
    let mut several = team.workload("tools", image);
    several["replicas"] = json!(2);
    let spec = json!({
        "workload": several,
        "session": "PerClient",
        "credentials": {"secretRef": {"name": "credential", "key": "token"}},
    });
    team.apply("McpServer", "tools", spec).await.unwrap();
    team.ready("mcpserver", "tools").await.unwrap();
    team.apply("McpServer", "tools", json!({"url": url})).await.unwrap();
    team.ready("mcpserver", "tools").await.unwrap();
    for kind in ["deployment", "service", "serviceaccount", "networkpolicy"] {
        team.namespace().wait(&format!("{kind}/mcp-tools"), "delete", MINUTE).await.unwrap();
    }

    // Entries of resources that are not there: it looks for these before it deletes them.
    for (kind, name) in [("server", "tools"), ("key", "alice"), ("policy", "all")] {
        let of = |name: &str| format!("{kind}.{}.{name}", team.name());
        let arguments = ["--namespace", ENTRIES, "get", "secret", &of(name), "--output=json"];
        let printed = release.cluster().kubectl(&arguments).await.unwrap();
        let mut secret: Value = serde_json::from_str(&printed).unwrap();
        let entry = STANDARD.decode(secret["data"]["entry"].as_str().unwrap()).unwrap();
        let entry = String::from_utf8(entry).unwrap();
        let entry = entry.replace(&format!("\"name\":\"{name}\""), "\"name\":\"nobody\"");
        secret["data"]["entry"] = json!(STANDARD.encode(entry));
        secret["metadata"] = json!({"name": of("nobody"), "namespace": ENTRIES});
        release.cluster().apply(&secret.to_string()).await.unwrap();
        let gone = || async {
            let arguments = [
                "--namespace",
                ENTRIES,
                "get",
                "secret",
                &of("nobody"),
                "--ignore-not-found",
                "--output=name",
            ];
            Ok(release.cluster().kubectl(&arguments).await?.is_empty())
        };
        until(&format!("the entry {} to go", of("nobody")), MINUTE, gone).await.unwrap();
    }
}

/// A service account of the release, with a token of its own.
struct Account<'a> {
    release: &'a Release,
    kubeconfig: String,
    _directory: TempDir,
}

impl<'a> Account<'a> {
    async fn of(release: &'a Release, component: &str) -> Result<Self> {
        let name = match component {
            "default" => component.to_owned(),
            component => format!("{RELEASE}-{component}"),
        };
        let cluster = release.cluster();
        let token = cluster.kubectl(&["--namespace", HOME, "create", "token", &name]).await?;
        let config =
            cluster.kubectl(&["config", "view", "--minify", "--raw", "--output=json"]).await?;
        let mut config: Value = serde_json::from_str(&config)?;
        // An administrator's certificate would count for more than any token.
        config["users"][0]["user"] = json!({"token": token.trim()});
        let directory = TempDir::new()?;
        let kubeconfig = directory.path().join("kubeconfig");
        fs::write(&kubeconfig, config.to_string())?;
        let kubeconfig = Path::display(&kubeconfig).to_string();
        Ok(Self { release, kubeconfig, _directory: directory })
    }

    async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let account = ["--kubeconfig", &self.kubeconfig];
        self.release.cluster().kubectl(&[&account[..], arguments].concat()).await
    }

    /// What it may do in a namespace that another one may not.
    async fn may_beyond(&self, other: &Account<'_>, namespace: &str) -> BTreeSet<String> {
        let (may, others) = (self.may(namespace).await, other.may(namespace).await);
        may.difference(&others).cloned().collect()
    }

    /// What it may do in a namespace, as the apiserver says itself: `RESOURCE VERB` or `RESOURCE NAME VERB`.
    async fn may(&self, namespace: &str) -> BTreeSet<String> {
        let arguments = ["auth", "can-i", "--list", "--no-headers", "--namespace", namespace];
        let printed = self.kubectl(&arguments).await.unwrap();
        let mut lines = BTreeSet::new();
        for line in printed.lines() {
            // RESOURCE [URLS] [NAMES] [VERBS]
            let (resource, lists) = line.split_once('[').unwrap();
            let lists: Vec<Vec<&str>> = lists
                .split('[')
                .map(|list| list.trim().trim_end_matches(']').split_whitespace().collect())
                .collect();
            let [urls, names, verbs] = &lists[..] else { panic!("{line}") };
            let what = format!("{}{}", resource.trim(), urls.join(" "));
            for verb in verbs {
                match &names[..] {
                    [] => drop(lines.insert(format!("{what} {verb}"))),
                    names => lines.extend(names.iter().map(|name| format!("{what} {name} {verb}"))),
                }
            }
        }
        lines
    }
}
