use http::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use crate::testing::{Api as Apiserver, Failure};

const KEYS: &str = "/api/v1/namespaces/fairway/secrets/release-keys";
const TOKEN: &str = "/api/v1/namespaces/fairway/secrets/release-metrics-token";

async fn opened(api: &Apiserver) -> Result<Keyring, KeyringError> {
    open(&api.client(), "fairway", "release").await
}

fn contents(api: &Apiserver) -> Value {
    let secret: Secret = api.get(KEYS);
    serde_json::from_slice(&secret.data.unwrap()[FILE].0).unwrap()
}

fn put(api: &Apiserver, contents: &Value) {
    let encoded = STANDARD.encode(contents.to_string());
    api.put(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": "release-keys", "namespace": "fairway"}, "data": {FILE: encoded},
    }));
}

fn good() -> Value {
    let secret = STANDARD.encode([7; 32]);
    json!({"pepper": secret, "sealing": [secret], "admin": secret, "metrics": secret})
}

#[tokio::test]
async fn what_is_missing_is_made_as_gateways_read_it() {
    let api = Apiserver::default();

    let keyring = opened(&api).await.unwrap();

    let contents = contents(&api);
    for secret in ["pepper", "admin", "metrics"] {
        assert_eq!(STANDARD.decode(contents[secret].as_str().unwrap()).unwrap().len(), 32);
    }
    assert_eq!(STANDARD.decode(contents["sealing"][0].as_str().unwrap()).unwrap().len(), 32);
    assert_eq!(contents["admin"], keyring.admin);
    assert_eq!(contents["metrics"], keyring.metrics);
    assert_ne!(keyring.admin, keyring.metrics);
    let token: Secret = api.get(TOKEN);
    assert_eq!(token.data.unwrap()["token"].0, keyring.metrics.as_bytes());
}

#[tokio::test]
async fn what_is_there_is_used_and_never_written() {
    let api = Apiserver::default();
    let first = opened(&api).await.unwrap();
    let before = (api.find(KEYS), api.find(TOKEN));
    api.calls();

    let second = opened(&api).await.unwrap();

    assert_eq!((first.admin, first.metrics), (second.admin, second.metrics));
    assert!(api.writes().is_empty());
    assert_eq!((api.find(KEYS), api.find(TOKEN)), before);
}

#[tokio::test]
async fn two_operators_that_begin_at_once_use_the_same() {
    let api = Apiserver::default();

    let (one, two) = tokio::join!(opened(&api), opened(&api));

    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.admin, one.metrics), (two.admin, two.metrics));
    assert_eq!(one.pepper.digest(b"key"), two.pepper.digest(b"key"));
}

#[tokio::test]
async fn its_two_secrets_are_asked_for_by_name_alone() {
    let api = Apiserver::default();
    opened(&api).await.unwrap();

    for call in api.calls() {
        let named = call.path == KEYS || call.path == TOKEN;
        let made = call.method == Method::POST && call.path == "/api/v1/namespaces/fairway/secrets";
        assert!(named || made, "{} {}", call.method, call.path);
    }
}

#[tokio::test]
async fn the_new_pepper_comes_first_while_it_is_changed() {
    let (api, mut contents) = (Apiserver::default(), good());
    contents["pepper"] = Value::Null;
    contents["peppers"] = json!([STANDARD.encode([1; 32]), STANDARD.encode([2; 32])]);
    put(&api, &contents);

    let keyring = opened(&api).await.unwrap();

    assert_eq!(keyring.pepper.digest(b"key"), Pepper::new(&[1; 32]).digest(b"key"));
}

#[tokio::test]
async fn a_damaged_keyring_is_told_and_left_as_it_is() {
    let without = |field: &str| {
        let mut contents = good();
        contents[field] = Value::Null;
        contents
    };
    let with = |field: &str, value: &str| {
        let mut contents = good();
        contents[field] = json!(value);
        contents
    };
    for (row, contents) in [
        ("no object", json!("text")),
        ("no pepper", without("pepper")),
        ("a short pepper", with("pepper", "c2hvcnQ=")),
        ("no base64", with("pepper", "?")),
        ("no admin token", without("admin")),
        ("a token to be guessed", with("admin", "guess me")),
        ("no token for metrics", with("metrics", "")),
    ] {
        let api = Apiserver::default();
        put(&api, &contents);

        let error = opened(&api).await.unwrap_err();

        assert!(matches!(error, KeyringError::Damaged(_)), "{row}: {error:?}");
        let text = error.to_string();
        assert!(text.contains("release-keys") && !text.contains("BwcH"), "{row}: {text}");
        assert!(api.writes().is_empty(), "{row}");
    }
}

#[tokio::test]
async fn without_the_right_to_read_nothing_is_made() {
    let api = Apiserver::default();
    api.fail(Method::GET, "/secrets/", Failure::Status(403), 1);

    let error = opened(&api).await.unwrap_err();

    assert!(matches!(error, KeyringError::Api(..)), "{error:?}");
    assert!(api.writes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_change_is_followed_and_a_loss_is_not() {
    let api = Apiserver::default();
    let keyring = ArcSwap::from_pointee(opened(&api).await.unwrap());
    let (client, rang) = (api.client(), Notify::new());
    let following = follow(&client, "fairway", "release", &keyring, || rang.notify_one());
    let scene = async {
        let mut contents = good();
        contents["admin"] = json!("another-admin-token");
        put(&api, &contents);
        rang.notified().await;
        let changed = keyring.load_full();
        assert_eq!(changed.admin, "another-admin-token");
        assert_eq!(changed.pepper.digest(b"key"), Pepper::new(&[7; 32]).digest(b"key"));
        api.calls();

        contents["admin"] = json!("guess me");
        put(&api, &contents);
        sleep(3 * LOOK).await;
        api.remove(KEYS);
        sleep(3 * LOOK).await;

        assert_eq!(keyring.load().admin, "another-admin-token");
        assert!(api.writes().is_empty(), "another keyring would end all keys and sessions");
    };
    tokio::select! {
        () = following => {}
        () = scene => {}
    }
}

#[test]
fn it_shows_nothing() {
    assert_eq!(format!("{:?}", Keyring::any().load_full()), "Keyring(…)");
}
