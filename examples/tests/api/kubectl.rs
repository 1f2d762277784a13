//! What kubectl does, as one sees it do it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::{Entry, fixture::Fixture};

pub(crate) const ENTRIES: &[Entry] = &[
    (
        "[sig-cli] Kubectl client Kubectl api-versions should check if v1 is in available api versions",
        api_versions_lists_v1,
    ),
    (
        "[sig-cli] Kubectl client Kubectl cluster-info should check if Kubernetes control plane services is included in cluster-info",
        cluster_info_names_the_control_plane,
    ),
    (
        "[sig-cli] Kubectl client Kubectl version should check is all data is printed",
        version_prints_all_data,
    ),
    (
        "[sig-cli] Kubectl client Kubectl describe should check if kubectl describe prints relevant information for rc and pods",
        describe_prints_what_matters,
    ),
    (
        "[sig-cli] Kubectl client Kubectl diff should check if kubectl diff finds a difference for Deployments",
        diff_finds_a_difference,
    ),
    (
        "[sig-cli] Kubectl client Kubectl expose should create services for rc",
        expose_makes_services,
    ),
    (
        "[sig-cli] Kubectl client Kubectl label should update the label on a resource",
        label_sets_and_removes,
    ),
    (
        "[sig-cli] Kubectl client Kubectl patch should add annotations for pods in rc",
        patch_annotates_the_pods_of_a_controller,
    ),
    (
        "[sig-cli] Kubectl client Kubectl replace should update a single-container pod's image",
        replace_changes_an_image,
    ),
    (
        "[sig-cli] Kubectl client Kubectl run pod should create a pod from an image when restart is Never",
        run_makes_a_pod,
    ),
    (
        "[sig-cli] Kubectl client Kubectl server-side dry-run should check if kubectl can dry-run update Pods",
        a_dry_run_changes_nothing,
    ),
    (
        "[sig-cli] Kubectl client Proxy server should support --unix-socket=/path",
        the_proxy_serves_a_unix_socket,
    ),
    (
        "[sig-cli] Kubectl client Proxy server should support proxy with --port 0",
        the_proxy_serves_a_free_port,
    ),
    (
        "[sig-cli] Kubectl client Update Demo should create and stop a replication controller",
        a_controller_starts_and_stops,
    ),
    (
        "[sig-cli] Kubectl client Update Demo should scale a replication controller",
        a_controller_is_scaled,
    ),
];

const PODS: &str = "/api/v1/namespaces/default/pods";

const PRIMARY: &str = "
apiVersion: v1
kind: ReplicationController
metadata: {name: primary, labels: {app: store, role: primary}}
spec:
  replicas: 1
  selector: {app: store, role: primary}
  template:
    metadata: {labels: {app: store, role: primary}}
    spec:
      containers:
      - name: primary
        image: 'example.com/store:1'
        ports: [{name: store-server, containerPort: 6379}]
";

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: primary, labels: {app: store, role: primary}}
spec:
  ports: [{port: 6379, targetPort: store-server}]
  selector: {app: store, role: primary}
";

const DEMO: &str = "
apiVersion: v1
kind: ReplicationController
metadata: {name: demo}
spec:
  replicas: 2
  selector: {name: demo}
  template:
    metadata: {labels: {name: demo}}
    spec:
      containers:
      - name: demo
        image: 'example.com/demo:1'
        ports: [{containerPort: 80}]
";

fn is_running(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running"
}

/// Whether a pod has one container, of that image.
fn has_image(pod: &Value, image: &str) -> bool {
    let containers = pod["spec"]["containers"].as_array();
    containers.is_some_and(|all| all.len() == 1 && all[0]["image"] == image)
}

/// Makes the controller, and waits for its pod.
async fn primary() -> (Fixture, String) {
    let cluster = Fixture::with_nodes(1).await;
    cluster.apply(PRIMARY);
    let running = |pods: &[Value]| pods.len() == 1 && is_running(&pods[0]);
    let pods = cluster.api.settles(PODS, running).await;
    let name = pods[0]["metadata"]["name"].as_str().expect("a name");
    (cluster, name.to_owned())
}

/// Runs one container, and waits until it does.
async fn web() -> Fixture {
    let cluster = Fixture::with_nodes(1).await;
    let said = cluster.kubectl(&[
        "run",
        "web",
        "--image=example.com/web:1",
        "--labels=app=web",
    ]);
    assert_eq!(said.trim(), "pod/web created");
    cluster.api.until(&format!("{PODS}/web"), is_running).await;
    cluster
}

/// Whether the parts of a text come in this order.
fn in_order(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let found = rest.find(part);
        let at = found.unwrap_or_else(|| panic!("{part:?} is not in its place in:\n{text}"));
        rest = &rest[at + part.len()..];
    }
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn api_versions_lists_v1() {
    let cluster = Fixture::server().await;
    let versions = cluster.kubectl(&["api-versions"]);
    for version in ["v1", "apps/v1", "apiextensions.k8s.io/v1"] {
        assert!(versions.lines().any(|line| line == version), "{versions}");
    }
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn cluster_info_names_the_control_plane() {
    let cluster = Fixture::server().await;
    let info = cluster.kubectl(&["cluster-info"]);
    let plain: String = info
        .replace("\u{1b}[0;32m", "")
        .replace("\u{1b}[0;33m", "")
        .replace("\u{1b}[0m", "");
    in_order(
        &plain,
        &[
            "Kubernetes control plane",
            "is running at",
            "https://127.0.0.1:",
        ],
    );
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn version_prints_all_data() {
    let cluster = Fixture::server().await;
    let version = cluster.kubectl(&["version", "-o", "json"]);
    let version: Value = serde_json::from_str(&version).expect("JSON");
    for side in ["clientVersion", "serverVersion"] {
        for field in [
            "major",
            "minor",
            "gitVersion",
            "gitCommit",
            "gitTreeState",
            "buildDate",
            "goVersion",
            "compiler",
            "platform",
        ] {
            let said = version[side][field].as_str();
            assert!(
                said.is_some_and(|said| !said.is_empty()),
                "no {field} in {version:#}"
            );
        }
    }
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn describe_prints_what_matters() {
    let (cluster, pod) = primary().await;
    cluster.apply(SERVICE);
    let ready = |slices: &[Value]| {
        slices.iter().any(|slice| {
            slice["metadata"]["labels"]["kubernetes.io/service-name"] == "primary"
                && slice["endpoints"][0]["conditions"]["ready"] == true
        })
    };
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    cluster.api.settles(slices, ready).await;

    let said = cluster.kubectl(&["describe", "pod", &pod]);
    in_order(
        &said,
        &[
            "Name:",
            &pod,
            "Namespace:",
            "default",
            "Node:",
            "Labels:",
            "app=store",
            "role=primary",
            "Annotations:",
            "Status:",
            "Running",
            "IP:",
            "Controlled By:",
            "ReplicationController/primary",
            "Image:",
            "example.com/store:1",
            "State:",
            "Running",
            "QoS Class:",
            "BestEffort",
        ],
    );
    let said = cluster.kubectl(&["describe", "rc", "primary"]);
    in_order(
        &said,
        &[
            "Name:",
            "primary",
            "Namespace:",
            "default",
            "Selector:",
            "app=store,role=primary",
            "Labels:",
            "app=store",
            "role=primary",
            "Annotations:",
            "Replicas:",
            "1 current",
            "1 desired",
            "Pods Status:",
            "1 Running",
            "0 Waiting",
            "0 Succeeded",
            "0 Failed",
            "Pod Template:",
            "Image:",
            "example.com/store:1",
            "Events:",
            "SuccessfulCreate",
            "replication-controller",
            "Created pod:",
            &pod,
        ],
    );
    let said = cluster.kubectl(&["describe", "service", "primary"]);
    in_order(
        &said,
        &[
            "Name:",
            "primary",
            "Namespace:",
            "default",
            "Labels:",
            "app=store",
            "role=primary",
            "Annotations:",
            "Selector:",
            "app=store",
            "role=primary",
            "Type:",
            "ClusterIP",
            "IP:",
            "Port:",
            "<unset>",
            "6379/TCP",
            "TargetPort:",
            "store-server/TCP",
            "Endpoints:",
            ":6379",
        ],
    );
    let nodes = cluster.api.list("/api/v1/nodes").await;
    let node = nodes[0]["metadata"]["name"].as_str().expect("a name");
    let said = cluster.kubectl(&["describe", "node", node]);
    in_order(
        &said,
        &[
            "Name:",
            node,
            "Labels:",
            "Annotations:",
            "CreationTimestamp:",
            "Conditions:",
            "Type",
            "Status",
            "LastHeartbeatTime",
            "LastTransitionTime",
            "Reason",
            "Message",
            "Addresses:",
            "Capacity:",
            "Kubelet Version:",
            "Non-terminated Pods:",
            &pod,
        ],
    );
    let said = cluster.kubectl(&["describe", "namespace", "default"]);
    in_order(
        &said,
        &[
            "Name:",
            "default",
            "Labels:",
            "Annotations:",
            "Status:",
            "Active",
        ],
    );
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn diff_finds_a_difference() {
    let cluster = Fixture::server().await;
    let deployment = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: 'example.com/httpd:1'}]
";
    cluster.kubectl_with(&["create", "-f", "-"], deployment);
    let other = deployment.replace("httpd", "busybox");
    let diff = cluster.try_kubectl(&["diff", "-f", "-"], &other);
    let text = String::from_utf8_lossy(&diff.stdout);
    assert_eq!(diff.status.code(), Some(1), "{text}");
    assert!(
        text.lines()
            .any(|l| l.starts_with('-') && l.contains("example.com/httpd:1")),
        "{text}"
    );
    assert!(
        text.lines()
            .any(|l| l.starts_with('+') && l.contains("example.com/busybox:1")),
        "{text}"
    );
    let same = cluster.try_kubectl(&["diff", "-f", "-"], deployment);
    assert_eq!(
        same.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&same.stdout)
    );
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn expose_makes_services() {
    let (cluster, pod) = primary().await;
    let services = "/api/v1/namespaces/default/services";
    for (arguments, name, port) in [
        (
            ["expose", "rc", "primary", "--name=rm2", "--port=1234"],
            "rm2",
            1234,
        ),
        (
            ["expose", "service", "rm2", "--name=rm3", "--port=2345"],
            "rm3",
            2345,
        ),
    ] {
        cluster.kubectl(&[arguments.as_slice(), &["--target-port=6379"]].concat());
        let service = cluster.api.get(&format!("{services}/{name}")).await;
        let wanted = json!([{"port": port, "protocol": "TCP", "targetPort": 6379}]);
        assert_eq!(service["spec"]["ports"], wanted);
        let leads_there = |slices: &[Value]| {
            slices.iter().any(|slice| {
                slice["endpoints"][0]["targetRef"]["name"] == *pod
                    && slice["ports"][0]["port"] == 6379
            })
        };
        let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
        let slices = format!("{slices}?labelSelector=kubernetes.io%2Fservice-name%3D{name}");
        cluster.api.settles(&slices, leads_there).await;
    }
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn label_sets_and_removes() {
    let cluster = web().await;
    let column = || cluster.kubectl(&["get", "pod", "web", "-L", "testing-label", "--no-headers"]);
    let said = cluster.kubectl(&["label", "pods", "web", "testing-label=testing-label-value"]);
    assert_eq!(said.trim(), "pod/web labeled");
    assert!(column().contains("testing-label-value"));
    let by_label = ["get", "pods", "-l", "testing-label", "-o", "name"];
    assert_eq!(cluster.kubectl(&by_label).trim(), "pod/web");
    let said = cluster.kubectl(&["label", "pods", "web", "testing-label-"]);
    assert_eq!(said.trim(), "pod/web unlabeled");
    assert!(!column().contains("testing-label-value"));
    assert_eq!(cluster.kubectl(&by_label), "");
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn patch_annotates_the_pods_of_a_controller() {
    let cluster = Fixture::with_nodes(1).await;
    cluster.kubectl_with(&["create", "-f", "-"], DEMO);
    for pod in has_running(&cluster, 2).await {
        let pod = pod["metadata"]["name"].as_str().expect("a name");
        let patch = r#"{"metadata":{"annotations":{"x":"y"}}}"#;
        let said = cluster.kubectl(&["patch", "pod", pod, "-p", patch]);
        assert_eq!(said.trim(), format!("pod/{pod} patched"));
    }
    let pods = has_running(&cluster, 2).await;
    assert!(
        pods.iter()
            .all(|pod| pod["metadata"]["annotations"]["x"] == "y"),
        "{pods:#?}"
    );
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn replace_changes_an_image() {
    let cluster = web().await;
    let pod = cluster.kubectl(&["get", "pod", "web", "-o", "json"]);
    let changed = pod.replace("example.com/web:1", "example.com/busybox:1");
    let said = cluster.kubectl_with(&["replace", "-f", "-"], &changed);
    assert_eq!(said.trim(), "pod/web replaced");
    let path = format!("{PODS}/web");
    let found = cluster.api.get(&path).await;
    assert!(has_image(&found, "example.com/busybox:1"), "{found}");
    // What runs follows.
    let runs = |image: &'static str| {
        move |pod: &Value| pod["status"]["containerStatuses"][0]["image"] == image
    };
    let follows = runs("example.com/busybox:1");
    cluster.api.until(&path, follows).await;

    let forced = changed.replace("busybox:1", "busybox:2");
    cluster.kubectl_with(&["replace", "--force", "-f", "-"], &forced);
    let again = cluster.api.get(&path).await;
    assert_ne!(again["metadata"]["uid"], found["metadata"]["uid"]);
    assert!(has_image(&again, "example.com/busybox:2"), "{again}");
    let follows = runs("example.com/busybox:2");
    cluster.api.until(&path, follows).await;
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn run_makes_a_pod() {
    let cluster = Fixture::with_nodes(1).await;
    cluster.kubectl(&["run", "web", "--restart=Never", "--image=example.com/web:1"]);
    let pod = cluster.api.get(&format!("{PODS}/web")).await;
    assert!(has_image(&pod, "example.com/web:1"), "{pod}");
    assert_eq!(pod["spec"]["restartPolicy"], "Never");
    cluster.api.until(&format!("{PODS}/web"), is_running).await;
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn a_dry_run_changes_nothing() {
    let cluster = web().await;
    let patch = r#"{"spec":{"containers":[{"name":"web","image":"example.com/busybox:1"}]}}"#;
    let said = cluster.kubectl(&["patch", "pod", "web", "-p", patch, "--dry-run=server"]);
    assert_eq!(said.trim(), "pod/web patched");
    let would = [
        "patch",
        "pod",
        "web",
        "-p",
        patch,
        "--dry-run=server",
        "-o",
        "json",
    ];
    let would: Value = serde_json::from_str(&cluster.kubectl(&would)).expect("JSON");
    assert!(has_image(&would, "example.com/busybox:1"), "{would}");
    let pod = cluster.api.get(&format!("{PODS}/web")).await;
    assert!(has_image(&pod, "example.com/web:1"), "{pod}");
}

/// A `kubectl proxy` that ends with its test.
struct Proxy {
    process: Child,
    /// What it said when it was ready.
    said: String,
}

impl Proxy {
    fn start(cluster: &Fixture, argument: &str) -> Self {
        let mut process = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(cluster.kubeconfig())
            .args(["proxy", argument])
            .stdout(Stdio::piped())
            .spawn()
            .expect("kubectl is installed");
        let mut said = String::new();
        let output = process.stdout.take().expect("a pipe");
        BufReader::new(output).read_line(&mut said).expect("a line");
        Self { process, said }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // It may have ended by itself, which the test has seen then.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Asks for the versions of the core group, as any HTTP client would.
fn versions(mut connection: impl Read + Write) -> Value {
    let request = b"GET /api/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    connection.write_all(request).expect("it is sent");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let start = answer.find('{').expect("an object");
    let end = answer.rfind('}').expect("an object");
    let object: Value = serde_json::from_str(&answer[start..=end]).expect("JSON");
    object["versions"].clone()
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn the_proxy_serves_a_unix_socket() {
    let cluster = Fixture::server().await;
    let path = cluster.folder.path().join("socket");
    let proxy = Proxy::start(&cluster, &format!("--unix-socket={}", path.display()));
    assert!(
        proxy.said.starts_with("Starting to serve on "),
        "{}",
        proxy.said
    );
    let connection = UnixStream::connect(&path).expect("it listens");
    assert_eq!(versions(connection), json!(["v1"]));
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn the_proxy_serves_a_free_port() {
    let cluster = Fixture::server().await;
    let proxy = Proxy::start(&cluster, "--port=0");
    let address = proxy.said.trim().strip_prefix("Starting to serve on ");
    let connection = TcpStream::connect(address.expect("an address")).expect("it listens");
    assert_eq!(versions(connection), json!(["v1"]));
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn a_controller_starts_and_stops() {
    let cluster = Fixture::with_nodes(1).await;
    cluster.kubectl_with(&["create", "-f", "-"], DEMO);
    has_running(&cluster, 2).await;
    cluster.kubectl(&["delete", "rc", "demo", "--grace-period=0", "--force"]);
    cluster.api.settles(PODS, <[Value]>::is_empty).await;
    assert_eq!(cluster.kubectl(&["get", "rc", "-o", "name"]), "");
}

#[tokio::test]
#[ignore = "needs kubectl"]
async fn a_controller_is_scaled() {
    let cluster = Fixture::with_nodes(1).await;
    cluster.kubectl_with(&["create", "-f", "-"], DEMO);
    has_running(&cluster, 2).await;
    for count in [1, 2] {
        let replicas = format!("--replicas={count}");
        let said = cluster.kubectl(&["scale", "rc", "demo", &replicas, "--timeout=5m"]);
        assert_eq!(said.trim(), "replicationcontroller/demo scaled");
        has_running(&cluster, count).await;
    }
}

/// Waits until so many pods run what the demonstration is, and no other is there.
async fn has_running(cluster: &Fixture, count: usize) -> Vec<Value> {
    let runs = |pod: &Value| is_running(pod) && has_image(pod, "example.com/demo:1");
    let running = |pods: &[Value]| pods.len() == count && pods.iter().all(runs);
    cluster.api.settles(PODS, running).await
}
