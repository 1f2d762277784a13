//! Two servers on one etcd: the one that is left goes on. Nothing here needs root.

#[path = "../../k8s-store/tests/support/etcd.rs"]
mod etcd;
mod support;

use etcd::Etcd;
use support::Cluster;

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: NAME}
spec:
  replicas: 3
  selector: {matchLabels: {app: NAME}}
  template:
    metadata: {labels: {app: NAME}}
    spec:
      containers: [{name: web, image: "example.com/web:1"}]
"#;

fn pods(cluster: &Cluster, app: &str) -> Vec<String> {
    let label = format!("app={app}");
    let uids = cluster.kubectl(&[
        "get",
        "pods",
        "-l",
        &label,
        "-o",
        "jsonpath={.items[*].metadata.uid}",
    ]);
    let mut uids: Vec<_> = uids.split(' ').map(str::to_owned).collect();
    uids.sort();
    uids
}

#[test]
#[ignore = "needs etcd and kubectl"]
fn when_one_of_two_servers_is_killed_the_other_schedules_and_controls() {
    let folder = tempfile::tempdir().expect("a folder");
    let etcd = Etcd::start(3);
    let store = format!("etcd={}", etcd.endpoints().join(","));
    let pki = folder.path().join("pki").display().to_string();
    let shared = ["--store", &store, "--pki", &pki];

    // The first one leads, and the second one has a node.
    let first = Cluster::server(&folder.path().join("a"), &shared);
    let arguments = [&shared[..], &["--runtime", "sim"]].concat();
    let second = Cluster::up(&folder.path().join("b"), &arguments);
    first.apply(&WEB.replace("NAME", "before"));
    second.kubectl(&["rollout", "status", "deployment/before", "--timeout=60s"]);
    let before = pods(&first, "before");
    assert_eq!(before.len(), 3);

    first.kill();
    second.apply(&WEB.replace("NAME", "after"));
    second.kubectl(&["rollout", "status", "deployment/after", "--timeout=15s"]);
    assert_eq!(
        pods(&second, "after").len(),
        3,
        "no more than were asked for"
    );
    assert_eq!(
        pods(&second, "before"),
        before,
        "nothing was lost or made twice"
    );

    // A server that comes back finds all of it.
    let first = Cluster::server(&folder.path().join("a"), &shared);
    assert_eq!(pods(&first, "before"), before);
    first.stop();
    second.stop();
}
