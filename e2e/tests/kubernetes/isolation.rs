//! What mallory, who may use everything in his own namespace and writes whatever resources he likes there, sees and
//! reaches of another one: nothing, until both sides say so.

use std::collections::BTreeMap;

use e2e::cluster::{Program, Release, Tenant, release::manifest};
use serde_json::{Value, json};

use crate::support::{
    MINUTE, Open, everything, put_secret,
    stub::{self, Stub},
    wire::Caller,
};

/// A namespace with a server of its own, and mallory's.
struct Scene {
    release: Release,
    victim: Tenant,
    bob: Caller,
    attacker: Tenant,
    mallory: Caller,
    /// Mallory's key.
    key: String,
}

impl Scene {
    async fn set(name: &str) -> Self {
        let release = Release::shared().await.unwrap();
        let victim = release.tenant(&format!("{name}-b")).await.unwrap();
        let attacker = release.tenant(&format!("{name}-a")).await.unwrap();
        let image = release.image(Program::Everything).unwrap();
        victim.run("secret", image, json!({"description": "of the victim"})).await.unwrap();
        victim.allow("all", "bob", &["*"]).await.unwrap();
        let bob = victim.key("bob", json!({"user": "bob"})).await.unwrap();
        let patterns = ["*".to_owned(), "*/*".to_owned(), format!("{}/*", victim.name())];
        let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
        attacker.allow("all", "mallory", &patterns).await.unwrap();
        let spec = json!({"user": "mallory", "groups": ["bob"], "allow": {"servers": patterns}});
        let key = attacker.key("mallory", spec).await.unwrap();
        victim.ready("mcpserver", "secret").await.unwrap();
        let (bob, mallory) =
            (Caller::new(&release, &bob).unwrap(), Caller::new(&release, &key).unwrap());
        Self { release, victim, bob, attacker, mallory, key }
    }
}

#[tokio::test]
async fn no_path_header_or_session_leads_to_another_namespace() {
    let Scene { release, victim, bob, attacker, mallory, key } = Scene::set("paths").await;
    let (theirs, mine) = (victim.name(), attacker.name());
    assert_eq!(bob.tools().await.unwrap(), everything("secret_"));
    assert_eq!(mallory.tools().await.unwrap(), [] as [&str; 0]);

    // By name.
    for tool in
        ["secret_add", "add", &format!("{theirs}/secret_add"), &format!("{theirs}_secret_add")]
    {
        let (known, unknown) = (
            mallory.call(tool, json!({})).await.unwrap(),
            mallory.call("x", json!({})).await.unwrap(),
        );
        assert_eq!(
            known.text.replace(tool, "x"),
            unknown.text,
            "it can be told that {tool} exists"
        );
    }
    // By path: another tenant's URL answers as for a key that nobody knows, whether there is one or not.
    let nobody = Caller::new(&release, "fw_nobody").unwrap();
    for path in ["mcp", "mcp/secret", "mcp/nothing", "mcp/sse"] {
        for tenant in [theirs, "nowhere", "kube-system", "fairway-entries"] {
            let path = format!("/t/{tenant}/{path}");
            let (mine, nobodys) = (mallory.at(&path), nobody.at(&path));
            let ask = async |caller: &Caller| match path.ends_with("sse") {
                true => caller.get().await.unwrap(),
                false => caller.ask("tools/list", json!({})).await.unwrap(),
            };
            let (told, unknown) = (ask(&mine).await, ask(&nobodys).await);
            assert_eq!((told.status, &told.text), (unknown.status, &unknown.text), "{path}");
            assert_eq!((told.status, told.error().as_str()), (401, "invalid API key"), "{path}");
        }
    }
    let own = mallory.at(&format!("/t/{mine}/mcp"));
    assert_eq!(own.tools().await.unwrap(), [] as [&str; 0], "the own one is the plain one");
    for path in [
        "/mcp/secret".to_owned(),
        format!("/mcp/{theirs}%2Fsecret"),
        format!("/mcp/..%2F..%2Ft%2F{theirs}%2Fmcp"),
        format!("/t/{mine}/../{theirs}/mcp"),
        format!("/t/{mine}%2F..%2F{theirs}/mcp"),
        format!("/t/{mine}/mcp/../../{theirs}/mcp/secret"),
        format!("//t/{theirs}/mcp"),
        format!("/T/{theirs}/mcp"),
        format!("/t/{theirs}/mcp;/t/{mine}/mcp"),
    ] {
        let told = mallory.at(&path).ask("tools/list", json!({})).await.unwrap();
        assert!(!told.text.contains("secret") && !told.text.contains("echo"), "{path}: {told:?}");
        assert!(
            told.status != 200 || told.json()["result"]["tools"] == json!([]),
            "{path}: {told:?}"
        );
    }
    // By header.
    for (header, value) in [
        ("x-original-url", format!("/t/{theirs}/mcp")),
        ("x-forwarded-uri", format!("/t/{theirs}/mcp")),
        ("x-forwarded-prefix", format!("/t/{theirs}")),
        ("x-forwarded-host", format!("mcp-secret.{theirs}.svc")),
        ("x-forwarded-user", "bob".to_owned()),
        ("x-fairway-tenant", theirs.to_owned()),
        ("x-tenant", theirs.to_owned()),
        ("host", format!("mcp-secret.{theirs}.svc")),
        ("authorization", "Bearer bob".to_owned()),
    ] {
        let told = mallory.with(header, &value).tools().await;
        assert_eq!(told.unwrap(), [] as [&str; 0], "{header}: {value}");
    }

    // By session: one that is somebody else's is one that never was.
    let session = bob.open().await.unwrap();
    let stream = session.listen().await.unwrap();
    let stolen = session.with("x-api-key", &key);
    let forged = mallory.with("mcp-session-id", "AAAA");
    let told = [
        (
            stolen.ask("tools/list", json!({})).await.unwrap(),
            forged.ask("tools/list", json!({})).await.unwrap(),
        ),
        (stolen.get().await.unwrap(), forged.get().await.unwrap()),
    ];
    for (stolen, forged) in told {
        assert_eq!((stolen.status, &stolen.text), (forged.status, &forged.text));
        assert_eq!(stolen.status, 404, "{stolen:?}");
    }
    let sse = bob.at("/sse").listen().await.unwrap();
    let endpoint = sse.endpoint().await.unwrap();
    let call = json!({
        "jsonrpc": "2.0", "id": 7, "method": "tools/call",
        "params": {"name": "secret_echo", "arguments": {"message": "stolen"}},
    });
    let told = mallory.at(&endpoint).post(&call).await.unwrap();
    assert!([401, 403, 404].contains(&told.status), "{told:?}");
    // Its key was in a header: without one the id alone is not enough.
    let told = Caller::nobody(&release).unwrap().at(&endpoint).post(&call).await.unwrap();
    assert_eq!(told.status, 401, "{told:?}");
    assert_eq!(
        bob.at(&endpoint)
            .post(&json!({"jsonrpc": "2.0", "id": 8, "method": "ping"}))
            .await
            .unwrap()
            .status,
        202
    );
    let heard = sse.hears("\"id\":8").await.unwrap();
    assert!(!heard.contains("stolen"), "{heard}");
    assert!(stream.is_open());
    assert_eq!(session.status().await.unwrap(), 200);
}

#[tokio::test]
async fn no_url_leads_into_the_cluster() {
    let Scene { release, victim, attacker, mallory, .. } = Scene::set("urls").await;
    let theirs = victim.name();
    let service = field(&victim, "service/mcp-secret", "{.spec.clusterIP}").await;
    let pod = field(&victim, "pods", "{.items[0].status.podIP}").await;
    let node = Stub::start(&release, &[("look", "Looks.")]).await.unwrap();
    let lure = Stub::start(&release, &[("look", "Looks.")]).await.unwrap();
    let (host, port) = (node.address().ip(), node.address().port());
    lure.redirects(307, &format!("http://{}/mcp", node.address()));
    let lured = lure.publish(&attacker, "lure").await.unwrap();
    let hex = |ip: &str| {
        let bytes: Vec<u8> = ip.split('.').map(|byte| byte.parse().unwrap()).collect();
        format!("{:02x}{:02x}:{:02x}{:02x}", bytes[0], bytes[1], bytes[2], bytes[3])
    };
    let six = hex(&service);

    // Services of his own that lead there.
    let alias = json!({"type": "ExternalName", "externalName": format!("mcp-secret.{theirs}.svc.cluster.local")});
    let ports = json!([{"name": "mcp", "port": 8000}]);
    for (name, spec, addresses) in [
        ("alias", alias, vec![]),
        ("headless", json!({"clusterIP": "None", "ports": ports}), vec![&pod]),
        ("aimless", json!({"ports": ports}), vec![&pod]),
        // One good address does not make up for a bad one.
        (
            "mixed",
            json!({"clusterIP": "None", "ports": ports}),
            vec![&"192.0.2.1".to_owned(), &pod],
        ),
    ] {
        let manifest = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
        attacker.namespace().apply(&manifest.to_string()).await.unwrap();
        if !addresses.is_empty() {
            let addresses: Vec<&str> = addresses.iter().map(|ip| ip.as_str()).collect();
            let slice = stub::slice(name, &addresses, 8000).to_string();
            attacker.namespace().apply(&slice).await.unwrap();
        }
    }
    node.serve(&attacker, "to-node", json!("None")).await.unwrap();

    let mine = attacker.name();
    let urls = [
        // The server of the victim, its pod, and both by name.
        format!("http://{service}:8000/mcp"),
        format!("http://{pod}:8000/mcp"),
        format!("http://mcp-secret.{theirs}:8000/mcp"),
        format!("http://mcp-secret.{theirs}.svc:8000/mcp"),
        format!("http://mcp-secret.{theirs}.svc.cluster.local:8000/mcp"),
        format!("http://mcp-secret.{theirs}.svc.cluster.local.:8000/mcp"),
        // In disguise.
        format!("http://[::ffff:{six}]:8000/mcp"),
        format!("http://[::{six}]:8000/mcp"),
        format!("http://[64:ff9b::{six}]:8000/mcp"),
        format!("http://[2002:{six}::1]:8000/mcp"),
        format!("http://{}:8000/mcp", number(&service)),
        // By way of his own Services.
        format!("http://alias.{mine}.svc:8000/mcp"),
        format!("http://headless.{mine}.svc:8000/mcp"),
        format!("http://aimless.{mine}.svc:8000/mcp"),
        format!("http://mixed.{mine}.svc:8000/mcp"),
        format!("http://to-node.{mine}.svc:{port}/mcp"),
        // The node, the apiserver, the kubelet.
        format!("http://{host}:{port}/mcp"),
        format!("http://{host}/mcp"),
        "https://kubernetes.default.svc/mcp".to_owned(),
        "https://kubernetes.default.svc.cluster.local/mcp".to_owned(),
        format!(
            "https://{}/mcp",
            field(&victim, "--namespace=default service/kubernetes", "{.spec.clusterIP}").await
        ),
        format!("https://{host}:6443/mcp"),
        format!("https://{host}:10250/mcp"),
        // The gateway itself, and what else listens beside it.
        "http://fairway-gateway.fairway-e2e.svc/mcp".to_owned(),
        "http://127.0.0.1:8080/mcp".to_owned(),
        "http://127.0.0.1:9090/metrics".to_owned(),
        "http://127.1:9090/mcp".to_owned(),
        "http://2130706433:9090/mcp".to_owned(),
        "http://0x7f000001:9090/mcp".to_owned(),
        "http://localhost:9090/mcp".to_owned(),
        "http://0.0.0.0:9090/mcp".to_owned(),
        "http://[::1]:9090/mcp".to_owned(),
        "http://[::]:9090/mcp".to_owned(),
        "http://[::ffff:127.0.0.1]:9090/mcp".to_owned(),
        // The cloud's metadata, the link.
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "http://[::ffff:169.254.169.254]/mcp".to_owned(),
        "http://[fe80::1]:8000/mcp".to_owned(),
    ];
    let mut manifests = String::new();
    for (number, url) in urls.iter().enumerate() {
        let manifest = manifest("McpServer", &format!("u{number}"), &json!({"url": url}));
        manifests += &format!("---\n{manifest}\n");
    }
    let redirected = manifest("McpServer", "redirected", &json!({"url": lured}));
    attacker.namespace().apply(&format!("{manifests}---\n{redirected}\n")).await.unwrap();

    let verdicts = verdicts(&attacker, urls.len() + 1).await;
    let mut wrong = Vec::new();
    for (number, url) in urls.iter().enumerate() {
        let told = &verdicts[&format!("u{number}")];
        let permitted = !told.contains("is not permitted");
        // Who asks must not learn what is there.
        let leaks = told.contains(&service) || told.contains(&pod);
        if permitted || leaks {
            wrong.push(format!("{url}: {told}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(verdicts["redirected"].contains("307"), "{}", verdicts["redirected"]);
    assert!(!lure.seen().is_empty(), "the redirect was never met");
    assert!(node.seen().is_empty(), "{:?}", node.seen());
    assert_eq!(mallory.tools().await.unwrap(), [] as [&str; 0]);

    // The same by `service`, where addresses of the cluster are the rule.
    for (name, words) in [
        ("alias", "is of type ExternalName"),
        ("headless", "has no selector"),
        ("aimless", "has no selector"),
        ("to-node", "has no selector"),
    ] {
        attacker
            .apply("McpServer", "by-service", json!({"service": {"name": name, "port": 8000}}))
            .await
            .unwrap();
        let told = attacker
            .wait_reason("mcpserver", "by-service", "Accepted", "ServiceNotUsable")
            .await
            .unwrap();
        assert!(told.contains(name) && told.contains(words), "{name}: {told}");
    }
    attacker
        .apply("McpServer", "by-service", json!({"service": {"name": "mcp-secret"}}))
        .await
        .unwrap();
    attacker.wait_reason("mcpserver", "by-service", "Accepted", "ServiceNotFound").await.unwrap();
    assert_eq!(mallory.tools().await.unwrap(), [] as [&str; 0]);
}

#[tokio::test]
async fn with_both_sides_a_server_is_shared_and_only_that_one() {
    let Scene { release, victim, bob, attacker, mallory, key } = Scene::set("both").await;
    let image = release.image(Program::Everything).unwrap();
    victim.run("other", image, json!({})).await.unwrap();
    victim.ready("mcpserver", "other").await.unwrap();
    let share = json!({"exposeTo": [attacker.name()], "tools": {"prefix": ""}});
    let rule = format!("{}/secret", victim.name());
    let only = async |servers: &[&str]| {
        attacker.allow("all", "mallory", servers).await.unwrap();
        let spec = json!({"user": "mallory"});
        attacker.apply("McpApiKey", "mallory", spec).await.unwrap();
        attacker.ready("mcpapikey", "mallory").await.unwrap();
    };

    // One side: the rule alone, of which mallory has had enough so far; the server alone.
    assert_eq!(mallory.tools().await.unwrap(), [] as [&str; 0]);
    only(&["*"]).await;
    victim.run("secret", image, share.clone()).await.unwrap();
    victim.ready("mcpserver", "secret").await.unwrap();
    assert_eq!(mallory.tools().await.unwrap(), [] as [&str; 0], "a bare glob means own servers");
    let all = [everything(""), everything("other_")].concat();
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    assert_eq!(bob.tools().await.unwrap(), sorted(all));

    // Both, under open sessions. Without a prefix nobody could tell whose tools they are.
    let open = Open::all(&release, &key).await.unwrap();
    let before: Vec<_> = open.iter().map(|open| open.sessions.list_changes()).collect();
    only(&[&rule]).await;
    for (open, before) in open.iter().zip(&before) {
        open.see(before, &everything("secret_")).await;
    }
    let sum = mallory.call("secret_add", json!({"a": 2, "b": 3})).await.unwrap();
    assert_eq!(sum.content(), "5", "{sum:?}");
    let told = mallory.call("other_add", json!({"a": 2, "b": 3})).await.unwrap();
    assert_eq!(told.code(), Some(-32602), "{told:?}");
    let named = attacker.read("mcppolicy", "all").await.unwrap();
    assert_eq!(named["status"]["appliesTo"]["servers"], json!([rule]));

    // Either side ends it.
    let before: Vec<_> = open.iter().map(|open| open.sessions.list_changes()).collect();
    victim.run("secret", image, json!({"exposeTo": ["somebody-else"]})).await.unwrap();
    victim.ready("mcpserver", "secret").await.unwrap();
    for (open, before) in open.iter().zip(&before) {
        open.see(before, &[]).await;
        open.is_whole();
    }
    let told = mallory.call("secret_add", json!({"a": 2, "b": 3})).await.unwrap();
    assert_eq!(told.code(), Some(-32602), "{told:?}");
}

#[tokio::test]
async fn references_stay_in_their_namespace() {
    let Scene { release, victim, attacker, .. } = Scene::set("refs").await;
    let stub = Stub::start(&release, &[("look", "Looks.")]).await.unwrap();
    let url = stub.publish(&attacker, "listener").await.unwrap();
    put_secret(&victim, "precious", "the-credential-of-the-victim").await;
    put_secret(&victim, "own-key-of-bob", "the-own-key-of-bob-which-is-long").await;

    let names = ["precious".to_owned(), format!("{}.precious", victim.name())];
    for name in names {
        let credentials = json!({"secretRef": {"name": name, "key": "token"}});
        attacker
            .apply("McpServer", "thief", json!({"url": url, "credentials": credentials}))
            .await
            .unwrap();
        let told = attacker
            .wait_reason("mcpserver", "thief", "Accepted", "SecretNotUsable")
            .await
            .unwrap();
        assert!(told.contains(&name), "{told}");
    }
    let reference = json!({"secretKeyRef": {"name": "own-key-of-bob", "key": "token"}});
    attacker
        .apply("McpApiKey", "thief", json!({"user": "bob", "valueFrom": reference}))
        .await
        .unwrap();
    attacker.wait_reason("mcpapikey", "thief", "Accepted", "SecretNotUsable").await.unwrap();
    for name in [format!("{}/precious", victim.name()), "../precious".to_owned()] {
        let spec =
            json!({"url": url, "credentials": {"secretRef": {"name": name, "key": "token"}}});
        let refused = attacker.apply("McpServer", "thief", spec).await.unwrap_err().to_string();
        assert!(refused.contains("spec.credentials.secretRef.name"), "{refused}");
    }

    assert!(stub.seen().is_empty(), "without its credential nothing is sent: {:?}", stub.seen());
}

/// What the gateways say of each server, once they say something of all.
async fn verdicts(tenant: &Tenant, servers: usize) -> BTreeMap<String, String> {
    let looked = std::sync::Mutex::new(BTreeMap::new());
    let all = || async {
        let printed = tenant.namespace().kubectl(&["get", "mcpservers", "--output=json"]).await?;
        let list: Value = serde_json::from_str(&printed)?;
        let mut found = BTreeMap::new();
        for server in list["items"].as_array().into_iter().flatten() {
            let verified = e2e::cluster::release::condition_of(server, "Verified");
            let name = server["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            assert_ne!(verified["status"], "True", "{name} is reached: {}", server["spec"]);
            if verified["reason"] == "Unreachable" {
                found.insert(name, verified["message"].as_str().unwrap_or_default().to_owned());
            }
        }
        let enough = found.len() == servers;
        *looked.lock().unwrap() = found;
        Ok(enough)
    };
    let waited = e2e::cluster::release::until("a verdict on every server", MINUTE, all).await;
    let looked = looked.into_inner().unwrap();
    assert!(waited.is_ok(), "{} of {servers}: {:?}", looked.len(), looked.keys());
    looked
}

/// A field of an object of a namespace, or of what else the words name.
async fn field(tenant: &Tenant, object: &str, path: &str) -> String {
    let path = format!("--output=jsonpath={path}");
    let arguments: Vec<&str> =
        ["get"].into_iter().chain(object.split(' ')).chain([path.as_str()]).collect();
    tenant.namespace().kubectl(&arguments).await.unwrap()
}

/// An IPv4 address as one number.
fn number(ip: &str) -> u32 {
    u32::from(ip.parse::<std::net::Ipv4Addr>().unwrap())
}
