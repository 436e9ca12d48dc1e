//! An apiserver in memory: objects with versions, server-side apply, preconditions and watches, as
//! far as the operator uses them; and answers by script.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::sleep;
use tower::service_fn;

/// The apiserver; clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<Key, Value>,
    /// Everything that happened, oldest first: its version and what a watch tells of it.
    history: Vec<(u64, Key, &'static str, Value)>,
    watches: BTreeMap<u64, Watching>,
    /// Number of the next watch.
    next: u64,
    calls: Vec<Call>,
    /// All there ever were.
    heard: Vec<Call>,
    scripts: Vec<Script>,
}

/// A watch, and how much of the history whoever reads it has taken in.
#[derive(Default)]
struct Watching {
    taken: usize,
    waker: Option<Waker>,
}

/// Where an object is: `secrets` of a group and version, namespace, name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    collection: String,
    namespace: String,
    name: String,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

impl Call {
    /// `PATCH secrets/team.a/status`, to be compared.
    pub(crate) fn brief(&self) -> String {
        let place = Place::of(&self.path);
        let rest = [&place.key.namespace, &place.key.name, &place.subresource];
        let plural = place.key.collection.rsplit('/').next().unwrap_or_default();
        let mut brief = format!("{} {plural}", self.method);
        rest.into_iter().filter(|part| !part.is_empty()).for_each(|part| {
            brief.push('/');
            brief.push_str(part);
        });
        brief
    }
}

/// An answer that is none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failure {
    /// This code, as the apiserver itself gives it.
    Status(u16),
    /// As for a path that is unknown: of no object.
    NoSuchPath,
    /// None at all.
    Silence,
    /// The right one, after so many milliseconds.
    Late(u64),
}

struct Script {
    method: Method,
    path: &'static str,
    failure: Failure,
    times: usize,
}

struct Place {
    key: Key,
    subresource: String,
}

impl Place {
    /// `/apis/GROUP/VERSION[/namespaces/NAMESPACE]/PLURAL[/NAME[/SUBRESOURCE]]`
    fn of(path: &str) -> Self {
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let head = if parts[0] == "api" { 2 } else { 3 };
        let (group, mut rest) = parts.split_at(head);
        let mut namespace = "";
        if rest.len() > 2 && rest[0] == "namespaces" {
            (namespace, rest) = (rest[1], &rest[2..]);
        }
        let part = |at: usize| rest.get(at).map_or_else(String::new, |part| (*part).to_owned());
        let collection = format!("{}/{}", group.join("/"), part(0));
        let key = Key { collection, namespace: namespace.to_owned(), name: part(1) };
        Self { key, subresource: part(2) }
    }
}

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

impl Api {
    /// A client of it, that repeats nothing.
    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let serve = service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.serve(request).await) }
        });
        Client::new(serve, "default")
    }

    /// Has the next `times` requests fail whose path contains `path`.
    pub(crate) fn fail(&self, method: Method, path: &'static str, failure: Failure, times: usize) {
        self.state().scripts.push(Script { method, path, failure, times });
    }

    /// Ends all failures.
    pub(crate) fn mend(&self) {
        self.state().scripts.clear();
    }

    /// Puts an object there, as a user does. Gives it as it is then.
    pub(crate) fn put(&self, object: Value) -> Value {
        let mut state = self.state();
        let key = key_of(&object);
        let before = state.objects.get(&key).cloned();
        let mut object = object;
        if let Some(before) = &before {
            for kept in ["uid", "creationTimestamp"] {
                object["metadata"][kept] = before["metadata"][kept].clone();
            }
            if object["spec"]["clusterIP"].is_null() && before["spec"]["clusterIP"].is_string() {
                object["spec"]["clusterIP"] = before["spec"]["clusterIP"].clone();
            }
        }
        state.store(key, object)
    }

    /// Changes an object, as a user does.
    pub(crate) fn edit(&self, path: &str, change: impl FnOnce(&mut Value)) -> Value {
        let mut state = self.state();
        let key = Place::of(path).key;
        let mut object = state.objects.get(&key).expect("an object to edit").clone();
        change(&mut object);
        state.store(key, object)
    }

    /// Takes an object away.
    pub(crate) fn remove(&self, path: &str) {
        let mut state = self.state();
        let key = Place::of(path).key;
        state.remove(&key).expect("an object to remove");
    }

    /// An object, if it is there.
    pub(crate) fn find(&self, path: &str) -> Option<Value> {
        self.state().objects.get(&Place::of(path).key).cloned()
    }

    /// An object that is there.
    pub(crate) fn get<K: DeserializeOwned>(&self, path: &str) -> K {
        let object = self.find(path).unwrap_or_else(|| panic!("{path} is not there"));
        serde_json::from_value(object).unwrap()
    }

    /// Names of the objects of a collection.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let wanted = Place::of(path).key;
        let state = self.state();
        let here = state
            .objects
            .keys()
            .filter(|key| key.collection == wanted.collection && key.namespace == wanted.namespace);
        here.map(|key| key.name.clone()).collect()
    }

    /// The requests that change something, but for the Lease and Events, since this was last asked.
    pub(crate) fn writes(&self) -> Vec<Call> {
        let calls = std::mem::take(&mut self.state().calls);
        let told = |call: &Call| {
            call.method != Method::GET
                && !call.path.contains("/leases")
                && !call.path.contains("/events")
        };
        calls.into_iter().filter(told).collect()
    }

    /// The same in brief.
    pub(crate) fn briefs(&self) -> Vec<String> {
        self.writes().iter().map(Call::brief).collect()
    }

    /// All requests since they were last taken.
    pub(crate) fn calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state().calls)
    }

    /// All requests there ever were.
    pub(crate) fn everything(&self) -> Vec<Call> {
        self.state().heard.clone()
    }

    /// The Events that were published: reason and note.
    pub(crate) fn events(&self) -> Vec<(String, String)> {
        let state = self.state();
        let events = state.objects.iter().filter(|(key, _)| key.collection.ends_with("/events"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        events.map(|(_, event)| (text(&event["reason"]), text(&event["note"]))).collect()
    }

    /// How many watches are read.
    pub(crate) fn watches(&self) -> usize {
        self.state().watches.len()
    }

    /// Breaks all watches off, as if the apiserver had forgotten what they know.
    pub(crate) fn break_watches(&self) {
        let mut state = self.state();
        for (_, watching) in std::mem::take(&mut state.watches) {
            watching.waker.into_iter().for_each(Waker::wake);
        }
    }

    /// Whether everybody who watches has taken in everything that happened.
    pub(crate) fn is_taken_in(&self) -> bool {
        let state = self.state();
        state.watches.values().all(|watch| watch.taken == state.history.len())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    async fn serve(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.unwrap();
        let call = Call {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
        };
        let failure = self.state().note(&call);
        match failure {
            Some(Failure::Silence) => std::future::pending().await,
            Some(Failure::Status(code)) => status(code, "by script", &Place::of(&call.path).key),
            Some(Failure::NoSuchPath) => answer(
                404,
                &json!({
                    "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404,
                    "reason": "NotFound",
                    "message": "the server could not find the requested resource", "details": {},
                }),
            ),
            Some(Failure::Late(millis)) => {
                sleep(Duration::from_millis(millis)).await;
                self.state().serve(&call)
            }
            None if call.query.contains("watch=") => self.watch(&call),
            None => self.state().serve(&call),
        }
    }

    /// One line for each thing that happened, as it happens.
    fn watch(&self, call: &Call) -> Answer {
        let place = Place::of(&call.path).key;
        let query = Query::of(&call.query);
        let since: u64 = query.text("resourceVersion").parse().unwrap();
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        let at = state.history.partition_point(|(version, ..)| *version <= since);
        state.watches.insert(number, Watching { taken: at, waker: None });
        drop(state);
        // Nobody waits for a watch that nobody reads.
        let guard = Guard(self.clone(), number);
        let mut next = at;
        let lines = stream::poll_fn(move |context| {
            let mut state = guard.0.state();
            // It was broken off: "gone", so that everything is listed again.
            if !state.watches.contains_key(&number) {
                if std::mem::replace(&mut next, usize::MAX) == usize::MAX {
                    return Poll::Ready(None);
                }
                let gone = json!({"type": "ERROR", "object": {"kind": "Status", "code": 410,
                    "apiVersion": "v1", "status": "Failure", "reason": "Expired", "message": ""}});
                return Poll::Ready(Some(line(&gone)));
            }
            while let Some((_, key, what, object)) = state.history.get(next) {
                next += 1;
                if key.is_in(&place) && query.selects(key, object) {
                    return Poll::Ready(Some(line(&json!({"type": what, "object": object}))));
                }
            }
            // Asked for more: what was given before is taken in.
            let watching = state.watches.get_mut(&number).unwrap();
            watching.taken = next;
            watching.waker = Some(context.waker().clone());
            Poll::Pending
        });
        Response::new(UnsyncBoxBody::new(StreamBody::new(lines)))
    }
}

struct Guard(Api, u64);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.state().watches.remove(&self.1);
    }
}

fn line(event: &Value) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(format!("{event}\n").into()))
}

impl Key {
    fn is_in(&self, place: &Self) -> bool {
        self.collection == place.collection
            && (place.namespace.is_empty() || self.namespace == place.namespace)
    }
}

/// The query of a list or a watch.
struct Query(BTreeMap<String, String>);

impl Query {
    fn of(query: &str) -> Self {
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=')?;
            let decoded = value.replace("%3D", "=").replace("%2C", ",").replace("%2F", "/");
            Some((name.to_owned(), decoded.replace("%21", "!")))
        };
        Self(query.split('&').filter_map(pair).collect())
    }

    fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    fn selects(&self, key: &Key, object: &Value) -> bool {
        let labels = self.text("labelSelector").split(',').filter(|one| !one.is_empty());
        let mut labels = labels.map(|label| label.split_once('=').unwrap());
        let here = format!("metadata.namespace!={}", key.namespace);
        self.text("fieldSelector") != here
            && labels.all(|(name, value)| object["metadata"]["labels"][name] == value)
    }
}

impl State {
    /// Notes a request; gives the failure that is due for it.
    fn note(&mut self, call: &Call) -> Option<Failure> {
        self.calls.push(call.clone());
        self.heard.push(call.clone());
        let due = self.scripts.iter_mut().find(|script| {
            script.times > 0 && script.method == call.method && call.path.contains(script.path)
        })?;
        due.times -= 1;
        Some(due.failure)
    }

    fn serve(&mut self, call: &Call) -> Answer {
        let Place { key, subresource } = Place::of(&call.path);
        let live = self.objects.get(&key).cloned();
        match (call.method.as_str(), live) {
            ("GET", _) if key.name.is_empty() => self.list(&key, &Query::of(&call.query)),
            ("GET", Some(live)) => answer(200, &live),
            ("POST", _) => {
                let name = call.body["metadata"]["name"].as_str().unwrap().to_owned();
                let key = Key { name, ..key };
                if self.objects.contains_key(&key) {
                    return status(409, "AlreadyExists", &key);
                }
                let mut object = call.body.clone();
                object["metadata"]["namespace"] = json!(key.namespace);
                answer(201, &self.store(key, object))
            }
            ("PATCH", None) if !subresource.is_empty() => status(404, "NotFound", &key),
            ("PATCH", live) => {
                let wanted = &call.body["metadata"]["resourceVersion"];
                let found =
                    live.as_ref().map_or(&Value::Null, |l| &l["metadata"]["resourceVersion"]);
                if !wanted.is_null() && wanted != found {
                    return status(409, "Conflict", &key);
                }
                let mut object = live.unwrap_or_else(|| json!({}));
                if subresource == "status" {
                    object["status"] = call.body["status"].clone();
                } else {
                    merge(&mut object, &call.body);
                    object["metadata"]["namespace"] = json!(key.namespace);
                }
                answer(200, &self.store(key, object))
            }
            ("PUT", Some(live)) => {
                let wanted = &call.body["metadata"]["resourceVersion"];
                if !wanted.is_null() && *wanted != live["metadata"]["resourceVersion"] {
                    return status(409, "Conflict", &key);
                }
                answer(200, &self.store(key, call.body.clone()))
            }
            ("DELETE", Some(live)) => {
                let conditions = &call.body["preconditions"];
                let held = ["uid", "resourceVersion"].iter().all(|name| {
                    conditions[name].is_null() || conditions[name] == live["metadata"][name]
                });
                if !held {
                    return status(409, "Conflict", &key);
                }
                answer(200, &self.remove(&key).unwrap())
            }
            _ => status(404, "NotFound", &key),
        }
    }

    fn list(&self, place: &Key, query: &Query) -> Answer {
        let here = self
            .objects
            .iter()
            .filter(|(key, object)| key.is_in(place) && query.selects(key, object))
            .map(|(_, object)| object)
            .collect::<Vec<_>>();
        let version = self.version.to_string();
        answer(
            200,
            &json!({
                "kind": "List", "apiVersion": "v1",
                "metadata": {"resourceVersion": version}, "items": here,
            }),
        )
    }

    /// As it is stored, unless it is so already.
    fn store(&mut self, key: Key, mut object: Value) -> Value {
        let before = self.objects.get(&key).cloned();
        let meta = &mut object["metadata"];
        if let Some(before) = &before {
            meta["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
            meta["generation"] = before["metadata"]["generation"].clone();
            if object == *before {
                return object;
            }
        }
        self.version += 1;
        let same_spec = before.as_ref().is_some_and(|before| before["spec"] == object["spec"]);
        let meta = &mut object["metadata"];
        if meta["uid"].is_null() {
            meta["uid"] = json!(format!("uid-{}", self.version));
        }
        if meta["creationTimestamp"].is_null() {
            meta["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        if !same_spec {
            meta["generation"] = json!(meta["generation"].as_i64().unwrap_or_default() + 1);
        }
        meta["resourceVersion"] = json!(self.version.to_string());
        if key.collection == "api/v1/services" && object["spec"]["clusterIP"].is_null() {
            object["spec"]["clusterIP"] = json!(format!("10.96.0.{}", self.version));
        }
        let what = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.happened(key.clone(), what, object.clone());
        self.objects.insert(key, object.clone());
        object
    }

    fn remove(&mut self, key: &Key) -> Option<Value> {
        let mut object = self.objects.remove(key)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.happened(key.clone(), "DELETED", object.clone());
        Some(object)
    }

    fn happened(&mut self, key: Key, what: &'static str, object: Value) {
        self.history.push((self.version, key, what, object));
        for watching in self.watches.values_mut() {
            watching.waker.take().into_iter().for_each(Waker::wake);
        }
    }
}

fn key_of(object: &Value) -> Key {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&object["apiVersion"]);
    let root = if version.contains('/') { "apis" } else { "api" };
    let kind = text(&object["kind"]).to_lowercase();
    let plural = match kind.strip_suffix('y') {
        Some(stem) if !kind.ends_with("key") => format!("{stem}ies"),
        _ => format!("{kind}s"),
    };
    Key {
        collection: format!("{root}/{version}/{plural}"),
        namespace: text(&object["metadata"]["namespace"]),
        name: text(&object["metadata"]["name"]),
    }
}

/// Server-side apply by the only manager there is, but for what it no longer names.
fn merge(live: &mut Value, applied: &Value) {
    match (live, applied) {
        (Value::Object(live), Value::Object(applied)) => {
            for (name, value) in applied {
                merge(live.entry(name).or_insert(Value::Null), value);
            }
        }
        (live, applied) => *live = applied.clone(),
    }
}

fn answer(code: u16, body: &Value) -> Answer {
    let body = Full::new(Bytes::from(body.to_string()));
    let mut response = Response::new(UnsyncBoxBody::new(body));
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

fn status(code: u16, reason: &str, key: &Key) -> Answer {
    let message = format!("{} {:?}: {reason}", key.collection, key.name);
    answer(
        code,
        &json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
            "reason": reason_of(code, reason), "message": message,
            "details": {"name": key.name, "kind": key.collection},
        }),
    )
}

fn reason_of(code: u16, given: &str) -> &str {
    match (code, given) {
        (409, "AlreadyExists") => "AlreadyExists",
        (409, _) => "Conflict",
        (403, _) => "Forbidden",
        (404, _) => "NotFound",
        (422, _) => "Invalid",
        _ => "InternalError",
    }
}
