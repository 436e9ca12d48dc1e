//! The secrets of a release, changed while they are in use.

use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::cluster::{
    Release,
    release::{HOME, RELEASE, until},
};
use serde_json::{Value, json};

use crate::support::{MINUTE, wire::Caller};

/// Base64 of 32 bytes that nobody has used before.
const NEW: &str = "bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmV3bmU=";

#[tokio::test]
async fn a_keyring_is_changed_without_a_restart() {
    let release = Release::alone().await.unwrap();
    let team = release.tenant("keyring").await.unwrap();
    let alice = team.key("alice", json!({"user": "alice"})).await.unwrap();
    let caller = Caller::new(&release, &alice).unwrap();
    let old = caller.open().await.unwrap();
    let pods = pods(&release).await;
    let before = read(&release).await;

    let mut both = before.clone();
    let pepper = both["pepper"].take();
    both["peppers"] = json!([NEW, pepper]);
    both["sealing"].as_array_mut().unwrap().insert(0, json!(NEW));
    put(&release, &both).await;
    // A session's id begins with that of the key that seals it.
    let sealing = |session: &Caller| session.session().unwrap()[..5].to_owned();
    let first = sealing(&old);
    let sealed_anew = || async { Ok(sealing(&caller.open().await?) != first) };
    until("a session that the new key seals", 3 * MINUTE, sealed_anew).await.unwrap();

    assert_eq!(old.status().await.unwrap(), 200, "what the old one sealed goes on");
    assert_eq!(caller.status().await.unwrap(), 200, "a key of the old pepper is good");
    let bob = team.key("bob", json!({"user": "bob"})).await.unwrap();
    assert_eq!(Caller::new(&release, &bob).unwrap().status().await.unwrap(), 200);

    put(&release, &before).await;
    let sealed_as_before = || async { Ok(sealing(&caller.open().await?) == first) };
    until("a session that the old key seals", 3 * MINUTE, sealed_as_before).await.unwrap();
    assert_eq!(old.status().await.unwrap(), 200);
    // The operator looks by itself, every 10 s: until then it makes keys that nobody takes any more.
    let made = AtomicUsize::new(0);
    let is_good = || async {
        let name = format!("carol-{}", made.fetch_add(1, Ordering::Relaxed));
        let carol = team.key(&name, json!({"user": "carol"})).await?;
        Ok(Caller::new(&release, &carol)?.status().await? == 200)
    };
    until("a key of the old pepper", MINUTE, is_good).await.unwrap();
    assert_eq!(self::pods(&release).await, pods, "something was restarted");
}

/// Names of the release's pods, and how often each was restarted.
async fn pods(release: &Release) -> String {
    let path = "--output=jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[*].restartCount}\n{end}";
    release.cluster().kubectl(&["--namespace", HOME, "get", "pods", path]).await.unwrap()
}

async fn read(release: &Release) -> Value {
    let name = format!("{RELEASE}-keys");
    let path = "--output=go-template={{index .data \"state.json\" | base64decode}}";
    let arguments = ["--namespace", HOME, "get", "secret", &name, path];
    serde_json::from_str(&release.cluster().kubectl(&arguments).await.unwrap()).unwrap()
}

async fn put(release: &Release, contents: &Value) {
    let name = format!("{RELEASE}-keys");
    let change = json!({"stringData": {"state.json": contents.to_string()}}).to_string();
    let patch = ["--namespace", HOME, "patch", "secret", &name, "--type=merge", "--patch", &change];
    release.cluster().kubectl(&patch).await.unwrap();
    // Whatever changes about a pod, its kubelet looks at its volumes now, not within a minute.
    let nudge = format!("fairway.dev/nudge={}", contents["sealing"].as_array().unwrap().len());
    let gateways = "--selector=app.kubernetes.io/component=gateway";
    let annotate = ["--namespace", HOME, "annotate", "pods", gateways, "--overwrite", &nudge];
    release.cluster().kubectl(&annotate).await.unwrap();
}
