//! A server whose calls come to nothing is left alone for a while, which is told to all who ask.

use e2e::cluster::{Program, Release, release::until};
use serde_json::json;

use crate::support::{MINUTE, set, wire::Caller};

#[tokio::test]
async fn a_server_that_fails_is_not_called_for_a_while_and_says_so() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("breaker").await.unwrap();
    team.allow("all", "alice", &["*"]).await.unwrap();
    let key = team.key("alice", json!({"user": "alice"})).await.unwrap();
    let mut workload = team.workload("tools", release.image(Program::Everything).unwrap());
    set(&mut workload, "EVERYTHING_SLOW_TOOLS", "true");
    let spec = json!({
        "workload": workload,
        "timeouts": {"request": "1s"},
        "circuitBreaker": {"failures": 2, "openFor": "5s"},
    });
    team.apply("McpServer", "tools", spec).await.unwrap();
    team.ready("mcpserver", "tools").await.unwrap();
    let caller = Caller::new(&release, &key).unwrap().open().await.unwrap();

    for _ in 0..2 {
        let late = caller.call("tools_slow", json!({"seconds": 3, "steps": 1})).await.unwrap();
        assert!(late.text.contains("sent nothing for 1 s"), "{late:?}");
    }
    let refused = caller.call("tools_echo", json!({"message": "there"})).await.unwrap();
    assert!(refused.text.contains("is not called for now"), "{refused:?}");
    let told = team.wait_reason("mcpserver", "tools", "Ready", "CircuitOpen").await.unwrap();
    assert!(told.contains("sent nothing for 1 s"), "{told}");
    let event = || async {
        let reasons = ["get", "events", "--output=jsonpath={.items[*].reason}"];
        let reasons = team.namespace().kubectl(&reasons).await?;
        Ok(reasons.split_whitespace().any(|reason| reason == "CircuitOpen"))
    };
    until("an event", MINUTE, event).await.unwrap();

    let again = || async {
        let echo = caller.call("tools_echo", json!({"message": "there"})).await?;
        Ok(echo.content() == "there")
    };
    until("a call to be let through", MINUTE, again).await.unwrap();
    team.ready("mcpserver", "tools").await.unwrap();
}
