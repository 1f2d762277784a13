//! A machine with real containers joins over the network. The machine is a network namespace of its own, so it
//! needs root.

mod support;

use std::{path::Path, process::Command};

use support::{Cluster, busybox_image, command};

const IMAGE: &str = "example.com/busybox:test";
/// The two ends of the cable between the machines.
const SERVER: &str = "10.77.0.1";
const WORKER: &str = "10.77.0.2";
const MACHINE: &str = "k8s-join-test";

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: NAME, labels: {app: NAME}}
spec:
  nodeName: NODE
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: example.com/busybox:test
    command: [sh, -c, 'echo started on $NODE; mkdir /www; hostname > /www/index.html; httpd -f -p 8080 -h /www']
    env: [{name: NODE, value: NODE}]
    readinessProbe: {httpGet: {path: /index.html, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: NAME}
spec:
  selector: {app: NAME}
  ports: [{port: 80, targetPort: 8080}]
---
";

fn run(program: &str, arguments: &str) -> bool {
    let status = Command::new(program).args(arguments.split(' ')).status();
    status.expect("the program is installed").success()
}

/// Another machine, at the end of a cable. Dropping it removes both.
struct Machine;

impl Machine {
    fn new() -> Self {
        let machine = Self;
        // What a killed test has left.
        machine.remove();
        for arguments in [
            format!("netns add {MACHINE}"),
            format!("link add k8sjoin0 type veth peer name eth0 netns {MACHINE}"),
            format!("addr add {SERVER}/24 dev k8sjoin0"),
            "link set k8sjoin0 up".to_owned(),
            format!("-n {MACHINE} addr add {WORKER}/24 dev eth0"),
            format!("-n {MACHINE} link set eth0 up"),
            format!("-n {MACHINE} link set lo up"),
            format!("-n {MACHINE} route add default via {SERVER}"),
        ] {
            assert!(run("ip", &arguments), "ip {arguments}");
        }
        machine
    }

    fn remove(&self) {
        let there = |path: String| Path::new(&path).exists();
        if there(format!("/run/netns/{MACHINE}")) {
            run("ip", &format!("netns del {MACHINE}"));
        }
        if there("/sys/class/net/k8sjoin0".to_owned()) {
            run("ip", "link del k8sjoin0");
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.remove();
    }
}

fn import(data_dir: &Path, archive: &Path) {
    let output = command()
        .args(["image", "import", "--data-dir"])
        .arg(data_dir)
        .arg(archive)
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
}

/// Lets the other machine join, as a node with the image.
fn join(cluster: &Cluster, data_dir: &Path, archive: &Path) -> Cluster {
    let mut join = cluster.join_arguments();
    let port = join[1].rsplit(':').next().expect("a port").to_owned();
    join[1] = format!("https://{SERVER}:{port}");
    std::fs::create_dir(data_dir).expect("a folder");
    import(data_dir, archive);
    let options = ["--name", "worker", "--runtime", "runc"];
    let arguments: Vec<&str> = join.iter().map(String::as_str).chain(options).collect();
    Cluster::node_inside(MACHINE, data_dir, &arguments)
}

#[test]
#[ignore = "needs root, runc and kubectl"]
fn pods_on_a_machine_that_joined_are_like_any_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let machine = Machine::new();
    let (here, there) = (folder.path().join("a"), folder.path().join("b"));
    let archive = busybox_image(folder.path(), IMAGE);
    let arguments = ["--listen", "0.0.0.0:0", "--tls-san", SERVER];
    let cluster = Cluster::up(&here, &arguments);
    import(&here, &archive);

    let node = join(&cluster, &there, &archive);
    let nodes = cluster.kubectl(&["get", "node", "worker", "-o", "wide"]);
    assert!(nodes.contains(WORKER), "{nodes}");

    for (name, node) in [("near", "node-1"), ("far", "worker")] {
        cluster.apply(&PODS.replace("NAME", name).replace("NODE", node));
    }
    cluster.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/near",
        "pod/far",
        "--timeout=60s",
    ]);
    // Logs and commands go by the joined node's own server.
    let logs = cluster.kubectl(&["logs", "far"]);
    assert_eq!(logs, "started on worker\n");
    let ip = |pod: &str| cluster.kubectl(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"]);
    let service =
        |name: &str| cluster.kubectl(&["get", "service", name, "-o", "jsonpath={.spec.clusterIP}"]);
    for (from, to) in [("near", "far"), ("far", "near")] {
        // The one name is searched for, the other is whole.
        let names = [to.to_owned(), format!("{to}.default.svc.cluster.local.")];
        for url in [&[format!("{}:8080", ip(to)), service(to)], &names[..]].concat() {
            let url = format!("http://{url}/");
            let said = cluster.kubectl(&["exec", from, "--", "wget", "-qO-", &url]);
            assert_eq!(said.trim(), to, "from {from} by {url}");
        }
    }

    node.stop();
    cluster.stop();
    drop(machine);
}

#[test]
#[ignore = "needs root, runc and kubectl"]
fn pods_find_services_by_name_where_the_control_plane_has_no_node() {
    let folder = tempfile::tempdir().expect("a folder");
    let machine = Machine::new();
    let (here, there) = (folder.path().join("a"), folder.path().join("b"));
    let archive = busybox_image(folder.path(), IMAGE);
    let arguments = ["--listen", "0.0.0.0:0", "--tls-san", SERVER];
    let cluster = Cluster::server(&here, &arguments);
    let node = join(&cluster, &there, &archive);

    cluster.apply(&PODS.replace("NAME", "web").replace("NODE", "worker"));
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=60s"]);
    // Its own host name is another thing.
    for name in ["web.default", "web.default.svc.cluster.local."] {
        let url = format!("http://{name}/");
        let said = cluster.kubectl(&["exec", "web", "--", "wget", "-qO-", &url]);
        assert_eq!(said.trim(), "web", "{name}");
    }
    let api = "kubernetes.default.svc.cluster.local";
    let found = cluster.kubectl(&["exec", "web", "--", "nslookup", api]);
    assert!(found.contains("10.96.0.1"), "{found}");

    // Names are found by the node itself, whatever becomes of the control plane.
    cluster.stop();
    let mut lookup = Command::new("nsenter");
    lookup.arg(format!("--net=/run/netns/{MACHINE}"));
    lookup.args([
        "busybox",
        "nslookup",
        "web.default.svc.cluster.local",
        "10.96.0.10",
    ]);
    let found = lookup.output().expect("busybox is installed");
    let text = String::from_utf8_lossy(&found.stdout).into_owned();
    assert!(
        found.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&found.stderr)
    );
    assert!(text.contains("web.default.svc.cluster.local"), "{text}");
    node.stop();
    drop(machine);
}
