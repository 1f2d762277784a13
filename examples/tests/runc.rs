//! The cluster under runc: containers that really run. Needs root, and a machine to itself.

mod support;

use std::{collections::BTreeSet, path::Path, process::Command, time::Duration};

use support::{Cluster, busybox_image, command};

const IMAGE: &str = "example.com/busybox:test";

const PODS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: content}
data: {index.html: served}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: example.com/busybox:test
        command: [sh, -c, 'echo started; httpd -f -p 8080 -h /www']
        readinessProbe: {httpGet: {path: /index.html, port: 8080}, periodSeconds: 1}
        volumeMounts: [{name: content, mountPath: /www}]
      volumes: [{name: content, configMap: {name: content}}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: main
    image: example.com/busybox:test
    command: [sleep, '3600']
";

/// What a cluster makes on a machine, counted.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    network_namespaces: usize,
    mounts: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    links: BTreeSet<String>,
    rules: String,
    shims: usize,
}

impl Traces {
    /// What there is before a cluster: an earlier test's last shim may just be on its way out.
    fn before() -> Self {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        loop {
            let traces = Self::now();
            if traces.shims == 0 || std::time::Instant::now() > deadline {
                return traces;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn now() -> Self {
        let text = |program: &str, arguments: &[&str]| {
            let output = Command::new(program)
                .args(arguments)
                .output()
                .expect("the program is installed");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("proc is mounted");
        let mut cgroups = BTreeSet::new();
        folders(Path::new("/sys/fs/cgroup"), &mut cgroups);
        Self {
            network_namespaces: text("lsns", &["-t", "net", "-n"]).lines().count(),
            mounts: mounts
                .lines()
                .filter_map(|l| l.split(' ').nth(1))
                .map(str::to_owned)
                .collect(),
            cgroups: cgroups
                .into_iter()
                .filter(|c| c.contains("kubepods"))
                .collect(),
            links: text("ip", &["-br", "link"])
                .lines()
                .filter_map(|l| l.split([' ', '@']).next())
                .map(str::to_owned)
                .collect(),
            rules: text("nft", &["list", "tables"]),
            shims: text("ps", &["-eo", "args"])
                .lines()
                .filter(|l| l.contains("k8s-runtime-shim"))
                .count(),
        }
    }
}

fn folders(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            found.insert(entry.path().display().to_string());
            folders(&entry.path(), found);
        }
    }
}

fn boot(data_dir: &Path) -> Cluster {
    let cluster = Cluster::up(data_dir, &[]);
    let archive = busybox_image(data_dir.parent().expect("a parent"), IMAGE);
    let output = command()
        .args(["image", "import", "--data-dir"])
        .arg(data_dir)
        .arg(archive)
        .output()
        .expect("it runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    cluster
}

fn all_ready(cluster: &Cluster) {
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    cluster.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/client",
        "--timeout=120s",
    ]);
}

fn container_ids(cluster: &Cluster) -> BTreeSet<String> {
    let path = "jsonpath={range .items[*]}{.status.containerStatuses[0].containerID}{'\\n'}{end}";
    cluster
        .kubectl(&["get", "pods", "-o", path])
        .lines()
        .map(str::to_owned)
        .collect()
}

/// Asks again until it works: rules follow readiness by a moment.
fn eventually(cluster: &Cluster, arguments: &[&str], expected: &str) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let output = cluster.try_kubectl(arguments, "");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() && text.trim() == expected {
            return;
        }
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            std::time::Instant::now() < deadline,
            "kubectl {arguments:?}: {text}{error}"
        );
    }
}

#[test]
#[ignore = "needs root, runc, nft and kubectl"]
fn pods_run_serve_and_talk_and_a_clean_stop_leaves_nothing() {
    let before = Traces::before();
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = boot(&folder.path().join("data"));
    cluster.apply(PODS);
    all_ready(&cluster);

    let fetch = [
        "exec",
        "client",
        "--",
        "wget",
        "-q",
        "-O",
        "-",
        "http://web.default.svc.cluster.local/",
    ];
    eventually(&cluster, &fetch, "served");
    assert_eq!(
        cluster
            .kubectl(&["exec", "client", "--", "hostname"])
            .trim(),
        "client"
    );
    assert!(
        cluster
            .kubectl(&["logs", "deployment/web"])
            .contains("started")
    );
    let failed = cluster.try_kubectl(&["exec", "client", "--", "sh", "-c", "exit 7"], "");
    assert_eq!(failed.status.code(), Some(7));
    let token = [
        "exec",
        "client",
        "--",
        "cat",
        "/var/run/secrets/kubernetes.io/serviceaccount/namespace",
    ];
    assert_eq!(cluster.kubectl(&token), "default");

    cluster.stop();
    assert_eq!(Traces::now(), before);
}

#[test]
#[ignore = "needs root, runc, nft and kubectl"]
fn containers_outlive_the_cluster_and_are_adopted() {
    let before = Traces::before();
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    let cluster = boot(&data_dir);
    cluster.apply(PODS);
    all_ready(&cluster);
    let containers = container_ids(&cluster);
    cluster.kill();

    let again = Cluster::up(&data_dir, &[]);
    all_ready(&again);
    assert_eq!(container_ids(&again), containers);
    let restarts = "jsonpath={.items[*].status.containerStatuses[0].restartCount}";
    assert_eq!(again.kubectl(&["get", "pods", "-o", restarts]), "0 0 0");
    assert_eq!(
        again.kubectl(&["exec", "client", "--", "hostname"]).trim(),
        "client"
    );

    again.stop();
    assert_eq!(Traces::now(), before);
}

#[test]
#[ignore = "needs root, runc, nft and kubectl"]
fn failing_containers_back_off_and_missing_images_say_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = boot(&folder.path().join("data"));
    cluster.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: crash}
spec:
  containers: [{name: main, image: 'example.com/busybox:test', command: [sh, -c, 'exit 3']}]
---
apiVersion: v1
kind: Pod
metadata: {name: missing}
spec:
  containers: [{name: main, image: 'example.com/nothing:1', imagePullPolicy: Never}]
---
apiVersion: v1
kind: Pod
metadata: {name: done}
spec:
  restartPolicy: Never
  containers: [{name: main, image: 'example.com/busybox:test', command: [sh, -c, 'echo bye']}]
",
    );
    let reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}";
    eventually(
        &cluster,
        &["get", "pod", "crash", "-o", reason],
        "CrashLoopBackOff",
    );
    eventually(
        &cluster,
        &["get", "pod", "missing", "-o", reason],
        "ErrImageNeverPull",
    );
    eventually(
        &cluster,
        &["get", "pod", "done", "-o", "jsonpath={.status.phase}"],
        "Succeeded",
    );
    assert_eq!(cluster.kubectl(&["logs", "done"]), "bye\n");
    let code = "jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}";
    assert_eq!(cluster.kubectl(&["get", "pod", "crash", "-o", code]), "3");
    cluster.stop();
}
