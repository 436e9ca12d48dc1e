//! The cluster that the other tests run in: it comes up, works, and comes back from anything.

use std::{fs, io::ErrorKind, net::Ipv4Addr, time::Duration};

use anyhow::{Result, ensure};
use e2e::cluster::{Cluster, Component, Namespace, dns};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::Instant,
};

#[tokio::test]
async fn node_is_ready_and_runs_pods() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("pods").await.unwrap();
    let probe = cluster.probe().await.unwrap();

    cluster.kubectl(&["wait", "nodes", "--all", "--for=condition=Ready"]).await.unwrap();
    namespace.apply(&pod("pod", probe.reference(), "sleep")).await.unwrap();
    namespace.wait("pod/pod", "condition=Ready", MINUTE).await.unwrap();

    // Other ways into a pod go through other parts: exec through the kubelet's server, logs through its files.
    let help = namespace.kubectl(&["exec", "pod", "--", "/probe", "nonsense"]).await.unwrap_err();
    assert!(help.to_string().contains("unknown command \"nonsense\""), "{help}");
    assert_eq!(namespace.kubectl(&["logs", "pod"]).await.unwrap(), "");
}

#[tokio::test]
async fn names_resolve_in_pods_and_on_the_host() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("names").await.unwrap();
    let probe = cluster.probe().await.unwrap();
    namespace.apply(&pod("pod", probe.reference(), "sleep")).await.unwrap();
    namespace.wait("pod/pod", "condition=Ready", MINUTE).await.unwrap();
    let resolve =
        async |name| namespace.kubectl(&["exec", "pod", "--", "/probe", "resolve", name]).await;

    // The short name needs the search list that the kubelet writes.
    assert_eq!(resolve("kubernetes.default").await.unwrap(), "10.96.0.1\n");
    let unknown = resolve("nowhere.example").await.unwrap_err();
    assert!(unknown.to_string().contains("no such host"), "{unknown}");

    if cluster.is_own() {
        let server = ([10, 96, 0, 10], 53).into();
        let name = "kubernetes.default.svc.cluster.local";
        let addresses = dns::resolve(name, server).await.unwrap();
        assert_eq!(addresses, [Ipv4Addr::new(10, 96, 0, 1)]);
        assert!(dns::resolve("nowhere.example", server).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn ingress_and_services_lead_to_pods() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("ingress").await.unwrap();
    let host = serve(&cluster, &namespace).await.unwrap();

    let through_ingress = answer(&cluster, &host).await.unwrap();
    // The pod's own name is the Service's: only the longer one is asked of the cluster.
    let url = format!("http://web.{}/inside", namespace.name());
    let ask = ["exec", "web", "--", "/probe", "get", &url];
    let through_service = eventually(async || namespace.kubectl(&ask).await).await.unwrap();

    assert!(through_ingress.ends_with("web /outside\n"), "{through_ingress}");
    // A pod that reaches itself through its Service needs its address changed on the way.
    assert_eq!(through_service, "200\nweb /inside\n");
}

#[tokio::test]
async fn what_is_sent_to_a_pod_that_is_gone_does_not_leave_the_host() {
    let cluster = Cluster::shared().await.unwrap();
    if !cluster.is_own() {
        return;
    }
    // The last address of the range is given to no pod.
    let nobody = (Ipv4Addr::new(10, 244, 0, 255), 8080);

    let connected = tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(nobody)).await;

    let refused = connected.unwrap().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::HostUnreachable, "{refused}");
}

#[tokio::test]
async fn pods_reach_a_database_on_the_host() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("database").await.unwrap();
    let probe = cluster.probe().await.unwrap();
    let postgres = cluster.postgres().await.unwrap();
    namespace.apply(&pod("pod", probe.reference(), "sleep")).await.unwrap();
    namespace.wait("pod/pod", "condition=Ready", MINUTE).await.unwrap();

    let rows = postgres.sql("SELECT count(*) > 0 FROM employees").await.unwrap();
    let address = postgres.address().to_string();
    let connect = ["exec", "pod", "--", "/probe", "connect", &address];
    namespace.kubectl(&connect).await.unwrap();
    postgres.stop().await.unwrap();
    let stopped = namespace.kubectl(&connect).await;
    postgres.launch().await.unwrap();
    namespace.kubectl(&connect).await.unwrap();

    assert_eq!(rows, "t\n");
    assert!(stopped.is_err(), "the database was stopped and a pod still reached it");
}

#[tokio::test]
async fn helm_installs_a_chart() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("helm").await.unwrap();
    let chart = tempfile::tempdir().unwrap();
    fs::create_dir(chart.path().join("templates")).unwrap();
    let description = "apiVersion: v2\nname: small\nversion: 1.0.0\n";
    fs::write(chart.path().join("Chart.yaml"), description).unwrap();
    let map =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: made}\ndata: {key: {{ .Values.key }}}\n";
    fs::write(chart.path().join("templates/map.yaml"), map).unwrap();

    let path = chart.path().display().to_string();
    let install =
        ["install", "small", &path, "--namespace", namespace.name(), "--set", "key=value"];
    cluster.helm(&install, MINUTE).await.unwrap();

    let made = namespace.kubectl(&["get", "configmap", "made", "--output=jsonpath={.data.key}"]);
    assert_eq!(made.await.unwrap(), "value");
}

#[tokio::test]
async fn up_again_is_quick() {
    drop(Cluster::shared().await.unwrap());

    let again = Instant::now();
    let _cluster = Cluster::shared().await.unwrap();

    // A tenth of a second on a machine with nothing else to do, and tests run beside this one.
    assert!(again.elapsed() < Duration::from_secs(10), "took {:?}", again.elapsed());
}

#[tokio::test]
async fn components_and_the_node_come_back() {
    let cluster = Cluster::alone().await.unwrap();
    let Ok(fault) = cluster.fault() else { return };
    let namespace = cluster.namespace("faults").await.unwrap();
    let host = serve(&cluster, &namespace).await.unwrap();
    answer(&cluster, &host).await.unwrap();

    fault.stop(Component::Apiserver).await.unwrap();
    cluster.kubectl(&["get", "nodes"]).await.unwrap_err();
    let meanwhile = get(&cluster, &host).await.unwrap();
    assert!(meanwhile.ends_with("web /outside\n"), "traffic needs no apiserver: {meanwhile}");
    fault.start(Component::Apiserver).await.unwrap();

    for component in Component::ALL {
        fault.restart(component).await.unwrap();
        namespace.kubectl(&["get", "pod", "web"]).await.unwrap();
    }
    answer(&cluster, &host).await.unwrap();

    fault.restart_node().await.unwrap();
    let restarted = "jsonpath={.status.containerStatuses[0].restartCount}=1";
    namespace.wait("pod/web", restarted, MINUTE).await.unwrap();
    namespace.wait("pod/web", "condition=Ready", MINUTE).await.unwrap();
    answer(&cluster, &host).await.unwrap();
}

#[tokio::test]
async fn frozen_pod_answers_when_it_thaws() {
    let cluster = Cluster::alone().await.unwrap();
    let Ok(fault) = cluster.fault() else { return };
    let namespace = cluster.namespace("frozen").await.unwrap();
    let host = serve(&cluster, &namespace).await.unwrap();
    answer(&cluster, &host).await.unwrap();

    let frozen = fault.freeze_pod(namespace.name(), "web").await.unwrap();
    get(&cluster, &host).await.unwrap_err();
    frozen.thaw();

    assert!(get(&cluster, &host).await.unwrap().ends_with("web /outside\n"));
    fault.kill_pod(namespace.name(), "web").await.unwrap();
    let restarted = "jsonpath={.status.containerStatuses[0].restartCount}=1";
    namespace.wait("pod/web", restarted, MINUTE).await.unwrap();
}

#[tokio::test]
async fn second_node_runs_pods_until_it_is_lost() {
    let cluster = Cluster::alone().await.unwrap();
    let Ok(fault) = cluster.fault() else { return };
    let namespace = cluster.namespace("nodes").await.unwrap();
    let probe = cluster.probe().await.unwrap();
    let host = format!("{}.test", namespace.name());
    namespace.apply(&format!("{SERVICE}---\n{}", INGRESS.replace("HOST", &host))).await.unwrap();
    namespace.apply(&pod_on("fairway-node", "first", probe.reference())).await.unwrap();

    fault.add_node().await.unwrap();
    cluster.kubectl(&["wait", "nodes", "--all", "--for=condition=Ready"]).await.unwrap();
    namespace.apply(&pod_on("fairway-node-2", "second", probe.reference())).await.unwrap();
    namespace.apply(&SPREAD.replace("IMAGE", probe.reference())).await.unwrap();
    for pod in ["pod/first", "pod/second"] {
        namespace.wait(pod, "condition=Ready", MINUTE).await.unwrap();
    }
    namespace.wait("deployment/web", "condition=Available", MINUTE).await.unwrap();

    // DNS and the Service from both nodes, the host from its Ingress controller.
    let url = format!("http://web.{}.svc.cluster.local/inside", namespace.name());
    let ask = async |pod| namespace.kubectl(&["exec", pod, "--", "/probe", "get", &url]).await;
    let names =
        ["get", "pods", "--selector=app=web", "--output=jsonpath={.items[*].spec.nodeName}"];
    assert_eq!(namespace.kubectl(&names).await.unwrap(), "fairway-node-2");
    for pod in ["first", "second"] {
        let answer = eventually(async || ask(pod).await).await.unwrap();
        assert!(answer.starts_with("200\nweb-"), "{pod}: {answer}");
    }
    answer(&cluster, &host).await.unwrap();
    // A pod of the first node from the second, by its address.
    let address = ["get", "pod", "first", "--output=jsonpath={.status.podIP}:8000"];
    let address = namespace.kubectl(&address).await.unwrap();
    namespace.kubectl(&["exec", "second", "--", "/probe", "connect", &address]).await.unwrap();

    fault.lose_node().await.unwrap();
    let kubelet = TcpStream::connect((Ipv4Addr::new(10, 97, 0, 2), 10250));
    let silence = tokio::time::timeout(Duration::from_secs(2), kubelet).await;
    assert!(silence.is_err(), "a lost node says that it is lost: {silence:?}");
    ask("first").await.unwrap_err();
    let unknown = ["wait", "node/fairway-node-2", "--for=condition=Ready=Unknown", "--timeout=90s"];
    cluster.kubectl_for(&unknown, LOSS).await.unwrap();
    let answer = eventually(async || ask("first").await).await.unwrap();
    assert!(answer.starts_with("200\nweb-"), "{answer}");
    let nodes = namespace.kubectl(&names).await.unwrap();
    assert!(nodes.split(' ').any(|node| node == "fairway-node"), "{nodes}");

    drop((namespace, cluster));
    let cluster = Cluster::alone().await.unwrap();
    let nodes = cluster.kubectl(&["get", "nodes", "--output=name"]).await.unwrap();
    assert_eq!(nodes, "node/fairway-node\n");
    let pods = ["get", "pods", "--all-namespaces", "--field-selector=spec.nodeName=fairway-node-2"];
    assert_eq!(cluster.kubectl(&[&pods[..], &["--output=name"]].concat()).await.unwrap(), "");
}

#[tokio::test]
async fn cluster_comes_back_when_its_components_were_killed() {
    let cluster = Cluster::alone().await.unwrap();
    let Ok(fault) = cluster.fault() else { return };
    let namespace = cluster.namespace("killed").await.unwrap();
    serve(&cluster, &namespace).await.unwrap();

    // Its pods live on, with their networks and mounts, and nobody knows them any more.
    for component in Component::ALL {
        fault.stop(component).await.unwrap();
    }

    drop(cluster);
    cluster_works().await.unwrap();
}

#[tokio::test]
async fn cluster_comes_back_when_everything_was_killed() {
    let cluster = Cluster::alone().await.unwrap();
    let Ok(fault) = cluster.fault() else { return };
    let namespace = cluster.namespace("killed").await.unwrap();
    serve(&cluster, &namespace).await.unwrap();
    fault.add_node().await.unwrap();

    fault.kill_everything().await.unwrap();

    drop(cluster);
    cluster_works().await.unwrap();
}

async fn cluster_works() -> Result<()> {
    let cluster = Cluster::alone().await?;
    let namespace = cluster.namespace("again").await?;
    let host = serve(&cluster, &namespace).await?;
    answer(&cluster, &host).await.map(drop)
}

/// A pod that answers under its name, with a Service and an Ingress for a host name of its own.
async fn serve(cluster: &Cluster, namespace: &Namespace) -> Result<String> {
    let probe = cluster.probe().await?;
    let host = format!("{}.test", namespace.name());
    namespace.apply(&pod("web", probe.reference(), "serve, ':8000'")).await?;
    namespace.apply(SERVICE).await?;
    namespace.apply(&INGRESS.replace("HOST", &host)).await?;
    namespace.wait("pod/web", "condition=Ready", MINUTE).await?;
    Ok(host)
}

fn pod(name: &str, image: &str, arguments: &str) -> String {
    format!(
        "\
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {{name: probe, image: '{image}', imagePullPolicy: IfNotPresent, args: [{arguments}]}}
"
    )
}

/// A pod that answers, on one node.
fn pod_on(node: &str, name: &str, image: &str) -> String {
    let pod = pod(name, image, "serve, ':8000'");
    pod.replace("spec:\n", &format!("spec:\n  nodeSelector: {{kubernetes.io/hostname: {node}}}\n"))
}

/// One pod that goes to the second node while there is one, and leaves it at once when it is lost.
const SPREAD: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 0}
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 100
            preference:
              matchExpressions:
              - {key: kubernetes.io/hostname, operator: In, values: [fairway-node-2]}
      containers:
      - {name: probe, image: 'IMAGE', imagePullPolicy: IfNotPresent, args: [serve, ':8000']}
";

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8000}]}
";

const INGRESS: &str = "\
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  ingressClassName: traefik
  rules:
  - host: HOST
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}
";

/// The answer of what was just made known to the Ingress controller.
async fn answer(cluster: &Cluster, host: &str) -> Result<String> {
    eventually(async || get(cluster, host).await).await
}

/// Controllers hear of changes within a second or two.
async fn eventually(attempt: impl AsyncFn() -> Result<String>) -> Result<String> {
    let end = Instant::now() + MINUTE;
    loop {
        let answer = attempt().await;
        if answer.is_ok() || Instant::now() > end {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One request through the Ingress controller, whose answer has to be 200.
async fn get(cluster: &Cluster, host: &str) -> Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(cluster.ingress()?).await?;
        let request = format!("GET /outside HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(5), exchange).await?
}

/// A node is said to be lost after 50 s.
const LOSS: Duration = Duration::from_secs(90);

const MINUTE: Duration = Duration::from_secs(60);
