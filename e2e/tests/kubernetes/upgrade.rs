//! The release itself: removed and installed, with the demo before a PostgreSQL, and upgraded under its clients.
//!
//! Nobody else is beside: their gateway would be replaced too. Last in the alphabet, so that no other test waits.

use e2e::{
    clients::{
        Endpoint, Transport,
        claude::{self, Claude},
        install::Sdk,
        model::{Model, Script},
        sessions::{Mode, Sessions},
    },
    cluster::{
        Postgres, Program, Release, Tenant,
        release::{HOME, RELEASE},
    },
};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{MINUTE, Open, endpoint, everything, traffic::Traffic, wire::Caller};

/// What alice may use.
const ALL: [&str; 9] = [
    "add",
    "describe_table",
    "echo",
    "get_time",
    "list_files",
    "list_tables",
    "query",
    "read_file",
    "write_file",
];

/// What bob may use: everything but files.
const WITHOUT_FILES: [&str; 6] =
    ["add", "describe_table", "echo", "get_time", "list_tables", "query"];

#[tokio::test]
async fn a_release_is_installed_used_and_upgraded() {
    let release = Release::alone().await.unwrap();
    let team = release.tenant("demo").await.unwrap();
    let postgres = release.cluster().postgres().await.unwrap();
    let before = team.key("before", json!({"user": "before"})).await.unwrap();
    let namespace = format!("demo.namespace={}", team.name());
    let database = format!("demo.postgres.url={}", postgres.url());
    let demo = ["demo.enabled=true", &namespace, &database];

    stays_after_uninstall(&release, &team).await;
    release.upgrade(&demo).await.unwrap();
    for server in ["everything", "filesystem", "postgres"] {
        team.ready("mcpserver", server).await.unwrap();
    }
    for person in ["alice", "bob"] {
        team.ready("mcppolicy", person).await.unwrap();
        team.ready("mcpapikey", person).await.unwrap();
    }
    let alice = team.collect("alice").await.unwrap();
    let bob = team.collect("bob").await.unwrap();

    assert_eq!(
        Caller::new(&release, &before).unwrap().status().await.unwrap(),
        200,
        "a key of before"
    );
    for (key, tools) in [(&alice, &ALL[..]), (&bob, &WITHOUT_FILES)] {
        python(&release, &team, key, tools).await;
        claude_code(&release, key, tools).await;
    }
    configuration_works_as_it_stands(&team).await;
    reads_the_database(&release, &alice, &postgres).await;

    upgrade_under_clients(&release, &team, &alice, &demo).await;
}

/// Resources and keys are the users': they outlive the release.
async fn stays_after_uninstall(release: &Release, team: &Tenant) {
    release.uninstall().await.unwrap();

    let left = ["--namespace", HOME, "get", "all", "--output=name"];
    let left = release.cluster().kubectl(&left).await.unwrap();
    assert_eq!(left, "", "something of the release is left");
    team.read("mcpapikey", "before").await.unwrap();
    let keys = ["--namespace", HOME, "get", "secret", &format!("{RELEASE}-keys")];
    release.cluster().kubectl(&keys).await.unwrap();
}

/// Both lines of the SDK over both transports, at the plain URL and at the tenant's.
async fn python(release: &Release, team: &Tenant, key: &str, tools: &[&str]) {
    let kinds = [Sdk::V1, Sdk::V2].into_iter().flat_map(|sdk| Transport::ALL.map(|of| (sdk, of)));
    let checks = kinds.map(|(sdk, transport)| async move {
        let plain = endpoint(release, transport, key).unwrap();
        let path = match transport {
            Transport::Http => format!("/t/{}/mcp", team.name()),
            Transport::Sse => format!("/t/{}/mcp/sse", team.name()),
        };
        let url = format!("{}{path}", release.url().unwrap());
        let tenants = Endpoint { transport, url, headers: Vec::new() }.header("X-Api-Key", key);
        for endpoint in [plain, tenants] {
            let case = format!("{sdk:?} at {}", endpoint.url);
            let sessions = Sessions::open(sdk, Mode::Auto, &endpoint, 1).await.unwrap();
            assert_eq!(sessions.list(0).await.unwrap(), tools, "{case}");
            let sum = sessions.call(0, "add", json!({"a": 2, "b": 3})).await.unwrap();
            assert_eq!((sum.text.as_str(), sum.is_error), ("5", false), "{case}");
        }
    });
    join_all(checks).await;
}

async fn claude_code(release: &Release, key: &str, tools: &[&str]) {
    for transport in Transport::ALL {
        let script = Script::new().call(&claude::tool("add"), json!({"a": 2, "b": 3}));
        let model = Model::start(script).await.unwrap();
        let claude = Claude::new().await.unwrap();
        let endpoint = endpoint(release, transport, key).unwrap();

        let outcome = claude.run(&endpoint, &model).unwrap().finish().await.unwrap();

        let wanted: Vec<String> = tools.iter().map(|tool| claude::tool(tool)).collect();
        assert_eq!(outcome.init.unwrap().tools, wanted, "{transport:?}");
        let result = &outcome.results[0];
        assert!(!result.is_error && result.text.contains('5'), "{transport:?}: {result:?}");
    }
}

/// `mcp.json` of the Secret, unchanged.
async fn configuration_works_as_it_stands(team: &Tenant) {
    let template = "--output=go-template={{index .data \"mcp.json\" | base64decode}}";
    let arguments = ["get", "secret", "mcp-key-alice", template];
    let configuration = team.namespace().kubectl(&arguments).await.unwrap();
    let parsed: Value = serde_json::from_str(&configuration).unwrap();
    let servers = parsed["mcpServers"].as_object().unwrap();
    let name = servers.keys().next().unwrap();
    let tool = |tool: &str| format!("mcp__{name}__{tool}");
    let script = Script::new().call(&tool("list_files"), json!({}));
    let model = Model::start(script).await.unwrap();
    let claude = Claude::new().await.unwrap();

    let outcome = claude.run_with(&configuration, name, &model).unwrap().finish().await.unwrap();

    let wanted: Vec<String> = ALL.iter().map(|name| tool(name)).collect();
    assert_eq!(outcome.init.unwrap().tools, wanted);
    let files = &outcome.results[0];
    assert!(files.text.contains("readme.txt") && files.text.contains("report.csv"), "{files:?}");
}

/// The one outside, not a sample of its own.
async fn reads_the_database(release: &Release, key: &str, postgres: &Postgres) {
    postgres
        .sql("CREATE TABLE told (word text); INSERT INTO told VALUES ('from outside')")
        .await
        .unwrap();
    let caller = Caller::new(release, key).unwrap();

    let tables = caller.call("list_tables", json!({})).await.unwrap().content();
    let word = caller.call("query", json!({"sql": "SELECT word FROM told"})).await.unwrap();

    assert!(tables.contains("employees") && tables.contains("told"), "{tables}");
    assert!(word.content().contains("from outside"), "{word:?}");
}

/// Gateway and operator are replaced while calls are in flight and sessions open.
async fn upgrade_under_clients(release: &Release, team: &Tenant, key: &str, demo: &[&str]) {
    let image = release.image(Program::Everything).unwrap();
    let mut workload = team.workload("slow", image);
    let slow = json!({"name": "EVERYTHING_SLOW_TOOLS", "value": "true"});
    workload["env"].as_array_mut().unwrap().push(slow);
    team.apply("McpServer", "slow", json!({"workload": workload})).await.unwrap();
    team.ready("mcpserver", "slow").await.unwrap();
    // The SDK's own client of HTTP+SSE ends with its stream; Claude Code's comes back.
    let mut open = Vec::new();
    for sdk in [Sdk::V1, Sdk::V2] {
        let endpoint = endpoint(release, Transport::Http, key).unwrap();
        let sessions = Sessions::open(sdk, Mode::Auto, &endpoint, 4).await.unwrap();
        open.push(Open { case: format!("{sdk:?}"), sessions });
    }
    let mut conversations = Vec::new();
    for transport in Transport::ALL {
        let add = |a: u32| (claude::tool("add"), json!({"a": a, "b": 1}));
        let (first, second, third) = (add(1), add(2), add(3));
        let script = Script::new().call(&first.0, first.1);
        let (script, gate) = script.gated_call(&second.0, second.1);
        let model = Model::start(script.call(&third.0, third.1)).await.unwrap();
        let claude = Claude::new().await.unwrap();
        let run = claude.run(&endpoint(release, transport, key).unwrap(), &model).unwrap();
        gate.reached().await.unwrap();
        conversations.push((transport, gate, run, model, claude));
    }
    let calls =
        [("slow_slow", json!({"seconds": 2, "steps": 2})), ("add", json!({"a": 2, "b": 3}))];
    let traffic = Traffic::start(open, &calls);
    let old = pods(release).await;

    let number = format!("e2e-{}", std::process::id());
    let [gateway, operator] =
        ["gateway", "operator"].map(|of| format!("{of}.podAnnotations.upgrade={number}"));
    let values = [demo, &[gateway.as_str(), &operator]].concat();
    release.upgrade(&values).await.unwrap();
    for pod in old {
        let gone = ["--namespace", HOME, "wait", &pod, "--for=delete", "--timeout=120s"];
        release.cluster().kubectl_for(&gone, 2 * MINUTE).await.unwrap();
    }
    let so_far = traffic.answered();
    let more = || async { Ok(traffic.answered() > so_far + 50) };
    e2e::cluster::release::until("calls through the new gateway", MINUTE, more).await.unwrap();
    let (open, answered, lost) = traffic.stop().await;

    assert!(
        lost.is_empty(),
        "of {} calls {} were lost: {lost:#?}",
        answered + lost.len(),
        lost.len()
    );
    for (transport, gate, run, _model, _claude) in conversations {
        gate.open();
        let outcome = run.finish().await.unwrap();
        let sums: Vec<&str> = outcome.results.iter().map(|result| result.text.as_str()).collect();
        assert_eq!(sums, ["2", "3", "4"], "{transport:?}");
    }
    // Their streams are back too, or nobody would hear of this.
    let before: Vec<_> = open.iter().map(|open| open.sessions.list_changes()).collect();
    team.run("late", image, json!({})).await.unwrap();
    team.ready("mcpserver", "late").await.unwrap();
    let mut tools = ALL.map(str::to_owned).to_vec();
    tools.extend(everything("late_"));
    tools.extend(everything("slow_"));
    tools.push("slow_slow".to_owned());
    tools.sort();
    for (open, before) in open.iter().zip(&before) {
        open.see(before, &tools).await;
        open.is_whole();
    }
}

/// The release's own.
async fn pods(release: &Release) -> Vec<String> {
    let selector = format!("--selector=app.kubernetes.io/instance={RELEASE}");
    let arguments = ["--namespace", HOME, "get", "pods", &selector, "--output=name"];
    let printed = release.cluster().kubectl(&arguments).await.unwrap();
    printed.lines().map(str::to_owned).collect()
}
