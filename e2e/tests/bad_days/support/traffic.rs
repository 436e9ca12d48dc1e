//! A client that calls a tool through the Ingress all the time, and remembers every answer.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::http::{Request, header};
use anyhow::Result;
use bytes::Bytes;
use e2e::cluster::http;
use http_body_util::Full;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

/// Between two calls.
const PAUSE: Duration = Duration::from_millis(20);
/// A call that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a call was answered with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    Called,
    /// The key is refused.
    Denied,
    /// No such tool for this key.
    Unknown,
    /// 404, and who says so.
    Missing(String),
    /// Another status.
    Status(u16),
    /// Another answer.
    Other(String),
    /// None.
    Broken(String),
}

/// One call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// When it was answered.
    pub(crate) at: Instant,
    pub(crate) answer: Answer,
}

/// Calls a tool that takes a `message`, on a connection of its own and without a session.
pub(crate) async fn call(address: SocketAddr, key: &str, tool: &str) -> Answer {
    match timeout(PATIENCE, attempt(address, key, tool)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => Answer::Broken(format!("{error:#}")),
        Err(_) => Answer::Broken(format!("no answer in {PATIENCE:?}")),
    }
}

async fn attempt(address: SocketAddr, key: &str, tool: &str) -> Result<Answer> {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{"message":"x"}}}}}}"#
    );
    let request = Request::post("/mcp")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, text/event-stream")
        .header("X-Api-Key", key)
        .body(Full::new(Bytes::from(body)))?;
    let (status, body) = http::send(address, request).await?;
    let body = String::from_utf8_lossy(&body);
    Ok(match status {
        401 => Answer::Denied,
        200 if body.contains("-32602") => Answer::Unknown,
        200 if body.contains(r#""result""#) && !body.contains(r#""isError":true"#) => {
            Answer::Called
        }
        200 => Answer::Other(body.chars().take(300).collect()),
        404 => Answer::Missing(body.chars().take(300).collect()),
        status => Answer::Status(status),
    })
}

/// Calls that go on until this is stopped or dropped.
#[derive(Debug)]
pub(crate) struct Traffic {
    calls: Arc<Mutex<Vec<Call>>>,
    _task: JoinSet<()>,
}

impl Traffic {
    pub(crate) fn start(address: SocketAddr, key: &str, tool: &str) -> Self {
        let (key, tool) = (key.to_owned(), tool.to_owned());
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (log, mut task) = (calls.clone(), JoinSet::new());
        task.spawn(async move {
            loop {
                let answer = call(address, &key, &tool).await;
                let at = Instant::now();
                log.lock().unwrap_or_else(PoisonError::into_inner).push(Call { at, answer });
                sleep(PAUSE).await;
            }
        });
        Self { calls, _task: task }
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often there was which answer since then.
    pub(crate) fn answers_since(&self, since: Instant) -> BTreeMap<Answer, usize> {
        let mut answers = BTreeMap::new();
        for call in self.calls().into_iter().filter(|call| call.at >= since) {
            *answers.entry(call.answer).or_default() += 1;
        }
        answers
    }

    /// How often there was which answer.
    pub(crate) fn answers(&self) -> BTreeMap<Answer, usize> {
        let first = self.calls().first().map_or_else(Instant::now, |call| call.at);
        self.answers_since(first)
    }

    /// The answers in their order, alike ones together: how many, and how long after the first call they began.
    pub(crate) fn course(&self) -> Vec<String> {
        let calls = self.calls();
        let alike = calls.chunk_by(|one, next| one.answer == next.answer);
        let show = |alike: &[Call]| {
            let began = alike[0].at - calls[0].at;
            format!("{} × {:?} from {:.1} s", alike.len(), alike[0].answer, began.as_secs_f32())
        };
        alike.map(show).collect()
    }

    /// The longest time without a success.
    pub(crate) fn longest_gap(&self) -> Duration {
        let calls = self.calls().into_iter().filter(|call| call.answer == Answer::Called);
        let times: Vec<Instant> = calls.map(|call| call.at).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }
}
