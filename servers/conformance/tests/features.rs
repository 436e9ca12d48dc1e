//! What the fixtures do, the same for clients of either era.

#![allow(clippy::panic, clippy::unwrap_used)]
#![allow(dead_code, reason = "each test binary uses its part of the support")]
#![allow(deprecated, reason = "subscriptions of the legacy era are tested here")]

mod support;

use std::time::Duration;

use rmcp::model::{ClientCapabilities, SubscribeRequestParams, SubscriptionFilter};
use server_conformance::Era;
use tokio::time::timeout;

use crate::support::{McpClient, eras};

/// Far longer than anything here takes; a hang fails instead of blocking.
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn tools_that_need_input_get_it_in_either_era() {
    for (era, lifecycle) in eras() {
        let client = McpClient::connect(era, lifecycle).await;

        for (tool, text) in [
            ("test_sampling", "LLM response: Paris"),
            ("test_elicitation", r"User response: action=accept, content={}"),
            (
                "test_elicitation_sep1034_defaults",
                "Elicitation completed: action=accept, content={}",
            ),
            ("test_streaming_elicitation", r#"Value: action=accept, content={"value":"value"}"#),
            ("test_input_required_result_elicitation", "Hello, name!"),
            ("test_input_required_result_sampling", "The model says: Paris"),
            ("test_input_required_result_list_roots", "Roots: file:///home/test"),
            ("test_input_required_result_request_state", "Confirmed: state-ok"),
            ("test_input_required_result_multiple_inputs", "Paris to name, from file:///home/test"),
            ("test_input_required_result_multi_round", "name likes color."),
            (
                "test_input_required_result_capabilities",
                "Answered: [user_name, greeting, client_roots]",
            ),
        ] {
            assert_eq!(client.call(tool).await.as_deref(), Ok(text), "{era:?}: {tool}");
        }
    }
}

#[tokio::test]
async fn nobody_is_asked_for_what_they_do_not_offer() {
    for (era, lifecycle) in eras() {
        let client = McpClient::with(ClientCapabilities::default(), era, lifecycle).await;

        for tool in ["test_sampling", "test_elicitation", "test_input_required_result_list_roots"] {
            assert!(client.call(tool).await.is_err(), "{era:?}: {tool}");
        }
        let undemanding = client.call("test_input_required_result_capabilities").await;
        assert_eq!(undemanding.as_deref(), Ok("Answered: []"), "{era:?}");
    }
}

#[tokio::test]
async fn tools_that_have_to_become_tasks_are_for_the_modern_era() {
    for (era, lifecycle) in eras() {
        let client = McpClient::connect(era, lifecycle).await;

        let tools = client.peer.list_all_tools().await.unwrap();
        let has = |name: &str| tools.iter().any(|tool| tool.name == name);

        assert_eq!(has("failing_job"), era == Era::Modern, "{era:?}");
        assert!(has("slow_compute") && has("test_simple_text"), "{era:?}");
    }
}

#[tokio::test]
async fn a_legacy_session_hears_of_changes_and_of_what_it_watches() {
    let [(era, lifecycle), _] = eras();
    let mut client = McpClient::connect(era, lifecycle).await;
    client.peer.subscribe(SubscribeRequestParams::new("test://watched-resource")).await.unwrap();

    let before = client.peer.list_all_tools().await.unwrap();
    client.call("test_trigger_tool_change").await.unwrap();
    client.call("test_trigger_resource_update").await.unwrap();

    let first = timeout(DEADLINE, client.heard.recv()).await.unwrap();
    let second = timeout(DEADLINE, client.heard.recv()).await.unwrap();
    let mut heard = [first.unwrap(), second.unwrap()];
    heard.sort();
    assert_eq!(heard, ["test://watched-resource", "tools"]);
    assert_ne!(client.peer.list_all_tools().await.unwrap(), before, "the list differs");
}

#[tokio::test]
async fn a_modern_client_hears_what_it_listens_to() {
    let [_, (era, lifecycle)] = eras();
    let client = McpClient::connect(era, lifecycle).await;
    let filter = SubscriptionFilter::builder()
        .resource_subscriptions(["test://watched-resource".to_owned()])
        .build();
    let mut stream = client.peer.listen(filter).await.unwrap();

    client.call("test_trigger_tool_change").await.unwrap();
    client.call("test_trigger_resource_update").await.unwrap();

    let heard = timeout(DEADLINE, stream.next()).await.unwrap().unwrap().unwrap();
    let heard = serde_json::to_value(&heard).unwrap();
    assert_eq!(heard["method"], "notifications/resources/updated", "{heard}");
    assert_eq!(heard["params"]["uri"], "test://watched-resource", "{heard}");
}
