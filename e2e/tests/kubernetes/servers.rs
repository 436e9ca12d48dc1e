//! Servers come, change and go under open sessions.

use e2e::{
    clients::{
        Transport,
        install::Sdk,
        python::{Mode, Sessions},
        stage,
    },
    cluster::{Program, Release},
};
use serde_json::json;

#[tokio::test]
async fn a_server_that_is_applied_can_be_called_once_it_is_ready() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("team").await.unwrap();
    team.allow("all", "alice", &["*"]).await.unwrap();
    let key = team.key("alice", json!({"user": "alice"})).await.unwrap();

    team.run("tools", release.image(Program::Everything).unwrap(), json!({})).await.unwrap();
    team.ready("mcpserver", "tools").await.unwrap();

    for transport in Transport::ALL {
        let endpoint = stage::endpoint(transport, &release.url().unwrap(), &key);
        let sessions = Sessions::open(Sdk::V1, Mode::Legacy, &endpoint, 1).await.unwrap();
        let tools = sessions.list(0).await.unwrap();
        assert_eq!(tools, ["tools_add", "tools_echo", "tools_get_time"], "{transport:?}");
        let sum = sessions.call(0, "tools_add", json!({"a": 2, "b": 3})).await.unwrap();
        assert!(sum.text.contains('5'), "{transport:?}: {sum:?}");
    }
}
