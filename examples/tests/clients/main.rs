//! Other people's clients against a running cluster: kube-rs, the Python and JavaScript clients, and
//! Helm. `cargo xtask test-privileged` installs the latter, and says where in `CLIENTS`.

mod kube_rs;
#[path = "../support/mod.rs"]
mod support;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use support::{Cluster, busybox_image, command};

const IMAGE: &str = "example.com/busybox:test";

/// Where the clients are installed.
fn clients() -> PathBuf {
    let folder = std::env::var_os("CLIENTS");
    folder
        .expect("CLIENTS is set by `cargo xtask test-privileged`")
        .into()
}

/// The scripts and the chart.
fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Runs a program to its end; its standard output. Fails the test if it fails.
fn run(program: &mut Command) -> String {
    let output = program.output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{program:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// A cluster whose pod `web` says hello and runs a shell.
fn with_a_shell(folder: &Path) -> Cluster {
    let data_dir = folder.join("data");
    let cluster = Cluster::up(&data_dir, &["--store", "memory"]);
    let image = busybox_image(folder, IMAGE);
    let import = ["image", "import", "--data-dir"];
    run(command().args(import).arg(&data_dir).arg(image));
    cluster.kubectl(&[
        "run",
        "web",
        "--image",
        IMAGE,
        "--restart=Never",
        "--",
        "sh",
        "-c",
        "echo hello; sleep 1000",
    ]);
    cluster.kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=120s"]);
    cluster
}

#[test]
#[ignore = "needs root, kubectl, Python and its Kubernetes client"]
fn the_python_client_works() {
    let clients = clients();
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = with_a_shell(folder.path());
    run(Command::new(clients.join("python/bin/python"))
        .arg(here().join("client.py"))
        .env("KUBECONFIG", cluster.kubeconfig()));
    cluster.stop();
}

#[test]
#[ignore = "needs root, kubectl, Node.js and its Kubernetes client"]
fn the_javascript_client_works() {
    let clients = clients();
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = with_a_shell(folder.path());
    run(Command::new("node")
        .arg(here().join("client.mjs"))
        .env("CLIENT_MODULES", clients.join("node"))
        .env("KUBECONFIG", cluster.kubeconfig()));
    cluster.stop();
}

/// Helm, with its files in a folder of the test's.
struct Helm<'a> {
    program: PathBuf,
    cluster: &'a Cluster,
    folder: &'a Path,
}

impl Helm<'_> {
    fn run(&self, arguments: &[&str]) -> String {
        run(Command::new(&self.program)
            .args(arguments)
            .args(["--namespace", "default", "--kubeconfig"])
            .arg(self.cluster.kubeconfig())
            .env("HOME", self.folder))
    }

    /// What a release's objects and pods are like: the lamp's colour, the replicas, and the pods
    /// that ran for hooks.
    fn state(&self) -> (String, String, Vec<String>) {
        let get = |path: &str, what: &str| self.cluster.kubectl(&["get", what, "-o", path]);
        let colour = get("jsonpath={.items[*].spec.colour}", "lamps");
        let ready = get("jsonpath={.items[*].status.readyReplicas}", "deployments");
        let pods: Value = serde_json::from_str(&get("json", "pods")).expect("JSON");
        let ended = |pod: &&Value| pod["status"]["phase"] == "Succeeded";
        let pods = pods["items"].as_array().expect("pods").iter().filter(ended);
        let names = pods.map(|pod| pod["metadata"]["name"].as_str().expect("a name").to_owned());
        (colour, ready, names.collect())
    }
}

#[test]
#[ignore = "needs kubectl and Helm"]
fn helm_installs_upgrades_rolls_back_and_uninstalls() {
    let program = clients().join("bin/helm");
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    let cluster = Cluster::up(&data_dir, &["--runtime", "sim", "--store", "memory"]);
    let helm = Helm {
        program,
        cluster: &cluster,
        folder: folder.path(),
    };
    let chart = here().join("chart");
    let chart = chart.to_str().expect("a path");
    let wait = ["--wait", "--timeout", "120s"];
    let state = |colour: &str, ready: &str, hooks: &[&str]| {
        let hooks = hooks.iter().map(|hook| format!("shop-{hook}")).collect();
        (colour.to_owned(), ready.to_owned(), hooks)
    };

    let said = helm.run(&[["install", "shop", chart].as_slice(), &wait].concat());
    assert!(said.contains("STATUS: deployed"), "{said}");
    assert_eq!(
        helm.state(),
        state("red", "2", &["post-install", "pre-install"])
    );

    let change = ["upgrade", "shop", chart, "--set", "colour=blue,replicas=3"];
    helm.run(&[change.as_slice(), &wait].concat());
    let hooks = ["post-install", "pre-install", "pre-upgrade"];
    assert_eq!(helm.state(), state("blue", "3", &hooks));

    helm.run(&[["rollback", "shop", "1"].as_slice(), &wait].concat());
    let hooks = [
        "post-install",
        "post-rollback",
        "pre-install",
        "pre-upgrade",
    ];
    assert_eq!(helm.state(), state("red", "2", &hooks));
    let history: Value =
        serde_json::from_str(&helm.run(&["history", "shop", "-o", "json"])).expect("JSON");
    let revisions = history.as_array().expect("revisions").iter();
    let statuses: Vec<&str> = revisions
        .map(|r| r["status"].as_str().expect("a status"))
        .collect();
    assert_eq!(statuses, ["superseded", "superseded", "deployed"]);

    helm.run(&[["uninstall", "shop"].as_slice(), &wait].concat());
    let hooks = [
        "post-install",
        "post-rollback",
        "pre-delete",
        "pre-install",
        "pre-upgrade",
    ];
    assert_eq!(helm.state(), state("", "", &hooks));
    assert_eq!(cluster.kubectl(&["get", "secrets", "-o", "name"]), "");
    // Helm leaves definitions alone.
    let definitions = cluster.kubectl(&["get", "customresourcedefinitions", "-o", "name"]);
    assert!(
        definitions.contains("lamps.shop.example.com"),
        "{definitions}"
    );
    cluster.stop();
}
