//! Two servers on one etcd and a node that has joined over the network: the server that is left goes on. Nothing
//! here needs root.

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

    // The first one leads, and a machine joins by the second one.
    let first = Cluster::server(&folder.path().join("a"), &shared);
    let second = Cluster::server(&folder.path().join("b"), &shared);
    let machine = folder.path().join("c");
    let join = second.join_arguments();
    let options = ["--name", "worker", "--runtime", "sim"];
    let arguments: Vec<&str> = join.iter().map(String::as_str).chain(options).collect();
    let node = Cluster::node(&machine, &arguments);
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

    // The node's own server shows a certificate that the cluster has signed.
    let healthy = second.kubectl(&["get", "--raw", "/api/v1/nodes/worker/proxy/healthz"]);
    assert_eq!(healthy, "ok");
    // It comes back without a token.
    node.stop();
    let node = Cluster::node(&machine, &[&["--join", &join[1]], &options[..]].concat());
    second.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "node/worker",
        "--timeout=30s",
    ]);

    // A server that comes back finds all of it.
    let first = Cluster::server(&folder.path().join("a"), &shared);
    assert_eq!(pods(&first, "before"), before);
    node.stop();
    first.stop();
    second.stop();
}

#[test]
#[ignore = "needs kubectl"]
fn a_machine_joins_only_the_cluster_that_it_was_told_to_and_with_a_good_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::server(&folder.path().join("a"), &["--store", "memory"]);
    let join = cluster.join_arguments();
    let refusal = |change: &dyn Fn(&mut Vec<String>)| {
        let mut arguments = join.clone();
        change(&mut arguments);
        let output = support::command()
            .args(["node", "--runtime", "sim", "--name", "worker", "--data-dir"])
            .arg(folder.path().join("b"))
            .args(&arguments)
            .output()
            .expect("it runs");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(
        (join[0].as_str(), join[2].as_str(), join[4].as_str()),
        ("--join", "--token", "--discovery-token-ca-cert-hash")
    );
    let other = refusal(&|join| join[5] = format!("sha256:{}", "0".repeat(64)));
    assert!(other.contains("this is another cluster"), "{other}");
    let token = refusal(&|join| join[3] = "abcdef.0123456789abcdef".to_owned());
    assert!(token.contains("Unauthorized"), "{token}");
    let none = refusal(&|join| join.truncate(2));
    assert!(
        none.contains("has no credentials of worker: give --token"),
        "{none}"
    );
    assert!(cluster.kubectl(&["get", "nodes", "-o", "name"]).is_empty());
    cluster.stop();
}
