//! Somebody changes by hand what only the operator should: entries, and its Lease.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::support::{
    Answer, PATIENCE, Scene, Watch, entries, lease, report,
    scene::{ECHO, USER},
    until,
};

/// How long an entry stays as somebody left it.
const MENDED: Duration = Duration::from_secs(1);

/// What can be done to the JSON of an entry.
type Edit = (&'static str, fn(&mut Value));
const EDITS: [Edit; 4] = [
    ("other facts", |entry| entry["generation"] = json!(1_000)),
    ("another resource", |entry| entry["entry"]["name"] = json!("another")),
    ("another UID", |entry| entry["uid"] = json!("another")),
    ("no JSON of ours", |entry| *entry = json!("nonsense")),
];

#[tokio::test]
async fn an_entry_that_was_changed_by_hand_is_written_again() {
    let Some(scene) = Scene::set("hands").await.unwrap() else { return };
    scene.wait_converged().await.unwrap();
    let entries = scene.entries();
    let names = [("policy", "all"), ("key", "stays"), ("server", "tools")];
    let names = names.map(|(short, name)| scene.entry(short, name));

    for name in &names {
        let before = entries.get(name).await.unwrap();
        let began = Instant::now();
        entries.delete(name, &DeleteParams::default()).await.unwrap();
        let again = || async { Ok(same(&entries.get(name).await?, &before)) };
        until("an entry that was deleted to be there", PATIENCE, again).await.unwrap();
        report(&format!("{name} deleted: there again after {:?}", began.elapsed()));
        assert!(began.elapsed() < MENDED, "{name}: {:?}", began.elapsed());
    }
    for (what, edit) in EDITS {
        for name in &names {
            let before = entries.get(name).await.unwrap();
            let mut changed = before.clone();
            let data = changed.data.get_or_insert_default();
            let mut json: Value = serde_json::from_slice(&data["entry"].0).unwrap();
            edit(&mut json);
            data.insert("entry".to_owned(), ByteString(json.to_string().into_bytes()));

            let began = Instant::now();
            entries.replace(name, &Default::default(), &changed).await.unwrap();
            let again = || async { Ok(same(&entries.get(name).await?, &before)) };
            let mended = until("an entry that was edited to be as it was", PATIENCE, again).await;
            mended.unwrap_or_else(|error| panic!("{name}, {what}: {error:#}"));
            report(&format!("{name}, {what}: as it was after {:?}", began.elapsed()));
            assert!(began.elapsed() < MENDED, "{name}, {what}: {:?}", began.elapsed());
        }
    }
    scene.wait_answer(&scene.key, ECHO, &Answer::Called, PATIENCE).await.unwrap();
    // What gateways took in from the edits does not stand in the way of later changes.
    scene.put("McpApiKey", "stays", disabled()).await.unwrap();
    scene.wait_answer(&scene.key, ECHO, &Answer::Denied, MENDED).await.unwrap();
}

#[tokio::test]
async fn a_lease_that_was_deleted_puts_no_change_off() {
    let Some(scene) = Scene::set("lease").await.unwrap() else { return };
    // At least two terms: what begins anew at the first one would be older than its entries.
    let before = scene.lead().await.unwrap();
    let raised = json!({"spec": {"leaseTransitions": before.term + 10}});
    let by_hand = PatchParams::default();
    scene.leases().patch(&lease::name(), &by_hand, &Patch::Merge(&raised)).await.unwrap();
    let mut raised = before.clone();
    raised.term += 10;
    let lead = scene.next_lead(&raised, PATIENCE).await.unwrap();
    scene.alias("late").await.unwrap();
    scene.wait_answer(&scene.key, "late_echo", &Answer::Called, PATIENCE).await.unwrap();
    let watch = Watch::start(&scene.client).await.unwrap();

    scene.leases().delete(&lease::name(), &DeleteParams::default()).await.unwrap();
    let began = Instant::now();
    let someone = || async { scene.lead().await.map(|_| true) };
    until("a leader", PATIENCE, someone).await.unwrap();
    let next = scene.lead().await.unwrap();
    scene.put("McpApiKey", "stays", disabled()).await.unwrap();
    scene.wait_answer(&scene.key, ECHO, &Answer::Denied, PATIENCE).await.unwrap();
    report(&format!(
        "Lease deleted in term {}: {} leads in term {}, a key disabled since then is denied after {:?}",
        lead.term,
        next.pod,
        next.term,
        began.elapsed()
    ));
    assert!(next.term > lead.term, "terms began anew");
    assert!(watch.reverts().is_empty(), "{:?}", watch.reverts());
}

fn disabled() -> Value {
    json!({
        "user": USER,
        "disabled": true,
        "valueFrom": {"secretKeyRef": {"name": "stays", "key": "key"}},
    })
}

/// Whether an entry says what another one said, in whatever term.
fn same(one: &Secret, other: &Secret) -> bool {
    let says = |secret: &Secret| {
        let record = entries::record(secret)?;
        let data = secret.data.as_ref()?.get("entry")?;
        let facts = serde_json::from_slice::<Value>(&data.0).ok()?["entry"].take();
        Some((record.uid, record.generation, facts))
    };
    says(one).is_some() && says(one) == says(other)
}
