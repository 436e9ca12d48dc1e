//! Changes without a pause: resources come, change and go.

use anyhow::Result;
use kube::{
    Api,
    api::{DeleteParams, DynamicObject},
};
use serde_json::json;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Duration, sleep},
};

use super::{
    Scene,
    scene::{alias, put},
};

/// Resources that change.
const NAMES: u32 = 20;
/// Between two changes: fast enough that the operator is always at work.
const PAUSE: Duration = Duration::from_millis(10);

/// Changes that go on until they are stopped.
#[derive(Debug)]
pub(crate) struct Storm {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<u32>>,
}

impl Storm {
    pub(crate) fn start(scene: &Scene) -> Self {
        let (servers, keys) = (scene.resources("McpServer"), scene.resources("McpApiKey"));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut changes = 0;
            let mut stopped = std::pin::pin!(stopped);
            loop {
                change(&servers, &keys, changes).await?;
                changes += 1;
                tokio::select! {
                    _ = &mut stopped => return Ok(changes),
                    () = sleep(PAUSE) => {}
                }
            }
        });
        Self { stop, task }
    }

    /// How many changes there were.
    pub(crate) async fn stop(self) -> Result<u32> {
        // A storm that failed says so below.
        let _ = self.stop.send(());
        self.task.await?
    }
}

/// Names are used again: what is gone comes back as another resource.
async fn change(servers: &Api<DynamicObject>, keys: &Api<DynamicObject>, at: u32) -> Result<()> {
    let name = format!("storm-{}", at * 7 % NAMES);
    match at % 5 {
        0 => remove(servers, &name).await,
        1 => {
            put(keys, "McpApiKey", &name, &json!({"user": "nobody", "description": at.to_string()}))
                .await
        }
        2 if at.is_multiple_of(3) => remove(keys, &name).await,
        _ => put(servers, "McpServer", &name, &alias(&format!("change {at}"))).await,
    }
}

async fn remove(api: &Api<DynamicObject>, name: &str) -> Result<()> {
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(drop).map_err(Into::into),
    }
}
