//! Two servers on one etcd and a node that has joined over the network: the server that is left goes on. Nothing
//! here needs root.

#[path = "../../k8s-store/tests/support/etcd.rs"]
mod etcd;
mod support;

use std::{
    path::Path,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
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

    // Somebody writes all the time, to the one that is about to be killed.
    let (report, acknowledged) = mpsc::channel();
    let kubeconfig = first.kubeconfig();
    let writer = thread::spawn(move || {
        for n in 0.. {
            let name = format!("written-{n}");
            let output = Command::new("kubectl")
                .arg("--kubeconfig")
                .arg(&kubeconfig)
                .args(["create", "configmap", &name])
                .output()
                .expect("kubectl is installed");
            if !output.status.success() {
                return;
            }
            report.send(name).expect("the test reads on");
        }
    });
    let mut written: Vec<String> = acknowledged.iter().take(3).collect();
    first.kill();
    writer.join().expect("it ends");
    written.extend(acknowledged.iter());
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
    let there = second.kubectl(&["get", "configmaps", "-o", "name"]);
    for name in written {
        let there = there.lines().any(|l| l == format!("configmap/{name}"));
        assert!(there, "{name} was acknowledged");
    }

    // The node's own server shows a certificate that the cluster has signed.
    second.kubectl(&["logs", "deployment/before"]);
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

/// Waits, for two minutes at most.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} never comes");
        thread::sleep(Duration::from_millis(200));
    }
}

#[test]
#[ignore = "needs etcd and kubectl"]
fn while_etcd_has_no_majority_nothing_ends_and_afterwards_all_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let etcd = Etcd::start(3);
    let store = format!("etcd={}", etcd.endpoints().join(","));
    let cluster = Cluster::server(&folder.path().join("a"), &["--store", &store]);
    let join = cluster.join_arguments();
    let options = ["--name", "worker", "--runtime", "sim"];
    let arguments: Vec<&str> = join.iter().map(String::as_str).chain(options).collect();
    let node = Cluster::node(&folder.path().join("b"), &arguments);
    cluster.apply(&WEB.replace("NAME", "web"));
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let before = pods(&cluster, "web");

    etcd.pause(0);
    etcd.pause(1);
    let ready = || cluster.try_kubectl(&["get", "--raw", "/readyz"], "");
    until("a server that is not ready", || !ready().status.success());
    let why = cluster.kubectl_fails(&["get", "--raw", "/readyz"], "");
    assert!(why.contains("[-]etcd failed"), "{why}");
    // So long that nobody can renew a lease.
    let log = folder.path().join("a.log");
    until("a lost lease", || {
        let log = std::fs::read_to_string(&log).unwrap_or_default();
        log.matches("another server leads now, or none can").count() >= 2
    });
    etcd.resume(0);
    etcd.resume(1);
    until("a server that is ready", || ready().status.success());
    cluster.kubectl(&["scale", "deployment/web", "--replicas=5"]);
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let after = pods(&cluster, "web");
    assert_eq!(after.len(), 5, "no more than were asked for");
    assert!(
        before.iter().all(|pod| after.contains(pod)),
        "none was made anew"
    );
    // Both still run, and end as they should.
    node.stop();
    cluster.stop();
}

/// The client certificate of a node that has joined, and when it runs out, in seconds since 1970.
fn credentials(data_dir: &Path) -> (String, i64) {
    let config = kube::config::Kubeconfig::read_from(data_dir.join("node.kubeconfig"));
    let mut infos = config.expect("it is there").auth_infos.into_iter();
    let info = infos.next().and_then(|named| named.auth_info);
    let data = info.and_then(|info| info.client_certificate_data);
    let data = data.expect("there is a certificate");
    let pem = STANDARD.decode(&data).expect("base64");
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).expect("PEM");
    let certificate = pem.parse_x509().expect("a certificate");
    (data, certificate.validity().not_after.timestamp())
}

#[test]
#[ignore = "needs kubectl"]
fn a_joined_node_renews_its_certificates_before_they_run_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let short = ["--store", "memory", "--cluster-signing-duration", "30s"];
    let cluster = Cluster::server(&folder.path().join("a"), &short);
    let machine = folder.path().join("b");
    let join = cluster.join_arguments();
    let options = ["--name", "worker", "--runtime", "sim"];
    let arguments: Vec<&str> = join.iter().map(String::as_str).chain(options).collect();
    let node = Cluster::node(&machine, &arguments);
    let (first, end) = credentials(&machine);
    // As upstream's API server, ours knows nobody by a certificate that has run out.
    let old = folder.path().join("old.kubeconfig");
    std::fs::copy(machine.join("node.kubeconfig"), &old).expect("it can be copied");
    let as_before = || {
        let mut kubectl = Command::new("kubectl");
        kubectl.arg("--kubeconfig").arg(&old);
        kubectl
            .args(["get", "node", "worker"])
            .output()
            .expect("kubectl is installed")
    };
    assert!(as_before().status.success());

    until("a renewed certificate", || credentials(&machine).0 != first);
    until("the end of the first one", || !as_before().status.success());
    until("one that is good after that", || {
        credentials(&machine).1 > end + 30
    });
    // The node works on with both of its own.
    cluster.apply(&WEB.replace("NAME", "web"));
    cluster.kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    cluster.kubectl(&["logs", "deployment/web"]);
    let requests = cluster.kubectl(&["get", "csr", "-o", "jsonpath={.items[*].spec.username}"]);
    let own = requests
        .split(' ')
        .filter(|user| *user == "system:node:worker");
    assert!(own.count() >= 3, "{requests}");
    node.stop();
    cluster.stop();
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
