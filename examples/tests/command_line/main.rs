//! What the `cluster` binary says when something is wrong: one clear sentence, and nothing changed.

mod snapshots;
#[path = "../support/mod.rs"]
mod support;

use std::{
    fs::OpenOptions,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::Path,
    process::{Child, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use snapshots::snapshot;
use support::{Cluster, command};

const SIM: &[&str] = &["--runtime", "sim"];

fn up(data_dir: &Path, arguments: &[&str]) -> Output {
    command()
        .args(["up", "--data-dir"])
        .arg(data_dir)
        .args(arguments)
        .output()
        .expect("it runs")
}

fn said(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_port_in_use_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let arguments = [SIM, &["--store", "memory", "--listen", &address]].concat();
    let said = said(&up(&folder.path().join("data"), &arguments));
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
}

#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    // Where each write fails as on a full disk.
    let full = OpenOptions::new().write(true).open("/dev/full");
    let mut process = command()
        .args(["server", "--store", "memory", "--listen", "127.0.0.1:0"])
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .env("RUST_LOG", "debug")
        .stdout(Stdio::piped())
        .stderr(full.expect("a device"))
        .spawn()
        .expect("it runs");
    let mut line = String::new();
    let output = process.stdout.take().expect("its output");
    let read = BufReader::new(output).read_line(&mut line);
    process.kill().expect("it runs still");
    process.wait().expect("it has ended");
    read.expect("text");
    assert!(line.starts_with("ready in "), "{line}");
}

/// A server that runs, and its id.
fn running(data_dir: &Path, more: &[&str]) -> (Child, Pid) {
    let mut process = command()
        .args(["server", "--store", "memory", "--listen", "127.0.0.1:0"])
        .args(more)
        .arg("--data-dir")
        .arg(data_dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let output = process.stdout.as_mut().expect("its output");
    let mut line = String::new();
    let read = BufReader::new(output).read_line(&mut line);
    read.expect("text");
    assert!(line.starts_with("ready in "), "{line}");
    let id = process.id().try_into().expect("an id");
    (process, Pid::from_raw(id))
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut process, id) = running(&folder.path().join("data"), &["--shutdown-delay", "600"]);
    kill(id, Signal::SIGTERM).expect("it runs");
    // Until one comes that is no echo of the first: nothing tells when that time is over.
    while process.try_wait().expect("a status").is_none() {
        kill(id, Signal::SIGINT).expect("it runs");
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = process.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(said.contains("second signal"), "{said}");
}

#[test]
fn a_signal_that_comes_twice_ends_it_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let (process, id) = running(&folder.path().join("data"), &["--shutdown-delay", "2"]);
    // Two of one kind might come as one.
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        kill(id, signal).expect("it runs");
    }
    let output = process.wait_with_output().expect("it ends");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
}

#[test]
fn a_data_directory_held_by_another_cluster_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for store in ["embedded", "memory"] {
        let data_dir = folder.path().join(store);
        let arguments = [SIM, &["--store", store]].concat();
        let running = Cluster::up(&data_dir, &arguments);
        let arguments = [SIM, &["--listen", "127.0.0.1:0"]].concat();
        let said = said(&up(&data_dir, &arguments));
        assert!(said.contains("in use by another cluster"), "{said}");
        running.stop();
    }
}

#[test]
fn a_data_directory_of_another_version_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    Cluster::up(&data_dir, SIM).stop();
    let version = data_dir.join("store").join("FORMAT");
    assert!(version.exists(), "the store says its version in a file");
    std::fs::write(&version, "k8s-store 999\n").expect("it can be written");
    let arguments = [SIM, &["--listen", "127.0.0.1:0"]].concat();
    let said = said(&up(&data_dir, &arguments));
    assert!(said.contains("format 999"), "{said}");
}

#[test]
fn a_broken_image_archive_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    std::fs::create_dir(&data_dir).expect("a folder");
    let archive = folder.path().join("broken.tar");
    std::fs::write(&archive, [0xa5; 2000]).expect("it can be written");
    let output = command()
        .args(["image", "import", "--data-dir"])
        .arg(&data_dir)
        .arg(&archive)
        .output();
    let said = said(&output.expect("it runs"));
    assert!(
        said.contains("broken.tar") && said.contains("neither a tar archive"),
        "{said}"
    );
    let listed = command()
        .args(["image", "ls", "--data-dir"])
        .arg(&data_dir)
        .output()
        .expect("it runs");
    assert_eq!(
        String::from_utf8_lossy(&listed.stdout).lines().count(),
        1,
        "only the header"
    );
}

#[test]
fn objects_survive_a_kill_and_a_stop() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    let first = Cluster::up(&data_dir, SIM);
    assert!(
        first.ready_line.contains("KUBECONFIG="),
        "{}",
        first.ready_line
    );
    first.kill();
    let second = Cluster::up(&data_dir, SIM);
    second.stop();
    Cluster::up(&data_dir, SIM).stop();
}

fn said_by(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_etcd_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", free.local_addr().expect("an address"));
    drop(free);
    let store = format!("etcd={url}");
    let arguments = [SIM, &["--listen", "127.0.0.1:0", "--store", &store]].concat();
    let said = said(&up(&folder.path().join("data"), &arguments));
    assert!(said.contains(&url), "{said}");
}

#[test]
fn secrets_are_sealed_on_disk_and_a_restored_cluster_needs_their_key() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let (data_dir, file) = (folder.path().join("data"), folder.path().join("saved"));
    let running = Cluster::server(&data_dir, &[]);
    running.kubectl(&[
        "create",
        "secret",
        "generic",
        "s",
        "--from-literal=k=hush-hush-hush",
    ]);
    running.kubectl(&["create", "configmap", "m", "--from-literal=k=said-aloud"]);
    let saved = snapshot(&["save"], &data_dir, Some(&file));
    assert!(saved.status.success(), "{}", said_by(&saved));
    running.stop();
    let on_disk = |needle: &[u8]| {
        let files = std::fs::read_dir(data_dir.join("store")).expect("a folder");
        files.flatten().any(|entry| {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            bytes.windows(needle.len()).any(|w| w == needle)
        })
    };
    assert!(on_disk(b"said-aloud"));
    // `hush-hush-hush` in base64
    assert!(!on_disk(b"aHVzaC1odXNoLWh1c2g="));
    assert!(on_disk(b"k8s:enc:aesgcm:v1:key1:"));
    let keys = data_dir.join("pki").join("encryption.yaml");
    let mode = std::fs::metadata(&keys)
        .expect("it is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    // Elsewhere, the same objects need the same keys.
    let other = folder.path().join("other");
    let restored = snapshot(&["restore"], &other, Some(&file));
    assert!(restored.status.success(), "{}", said_by(&restored));
    let listen = ["--listen", "127.0.0.1:0"];
    let output = command()
        .args(["server", "--data-dir"])
        .arg(&other)
        .args(listen)
        .output()
        .expect("it runs");
    let refused = said(&output);
    assert!(refused.contains("/registry/secrets/"), "{refused}");
    assert!(refused.contains("encryption.yaml"), "{refused}");
    std::fs::copy(&keys, other.join("pki").join("encryption.yaml")).expect("it can be copied");
    let running = Cluster::server(&other, &[]);
    let secret = running.kubectl(&["get", "secret", "s", "-o", "jsonpath={.data.k}"]);
    assert_eq!(secret, "aHVzaC1odXNoLWh1c2g=");
    running.stop();
}

#[test]
fn what_the_policy_chooses_is_audited_to_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let (policy, log) = (
        folder.path().join("policy.yaml"),
        folder.path().join("audit.log"),
    );
    std::fs::write(
        &policy,
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, resources: [{resources: [configmaps]}], verbs: [create]}]\n",
    )
    .expect("it can be written");
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (policy, log_path) = (path(&policy), path(&log));
    let running = Cluster::server(
        &folder.path().join("data"),
        &[
            "--store",
            "memory",
            "--audit-policy-file",
            &policy,
            "--audit-log-path",
            &log_path,
            "--audit-log-maxsize",
            "1",
        ],
    );
    running.kubectl(&["create", "configmap", "m"]);
    running.stop();
    let text = std::fs::read_to_string(&log).expect("it is there");
    // Controllers make some, too.
    let ours = text
        .lines()
        .filter(|line| line.contains("fieldManager=kubectl-create"));
    assert_eq!(ours.count(), 2, "received and complete: {text}");

    let said = said(&up(
        &folder.path().join("other"),
        &["--audit-log-path", &log_path],
    ));
    assert!(said.contains("--audit-policy-file"), "{said}");
}

#[test]
fn a_new_key_takes_over_and_the_old_one_can_be_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    let running = Cluster::server(&data_dir, &[]);
    running.kubectl(&["create", "secret", "generic", "s", "--from-literal=k=v"]);
    running.stop();
    let keys = data_dir.join("pki").join("encryption.yaml");
    let first = std::fs::read_to_string(&keys).expect("it is there");
    // 32 times the same byte, in base64.
    let new = "      - name: key2\n        secret: BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n";
    let both = first.replace(
        "      - name: key1\n",
        &format!("{new}      - name: key1\n"),
    );
    assert_ne!(both, first);
    std::fs::write(&keys, &both).expect("it can be written");
    let running = Cluster::server(&data_dir, &[]);
    let sealed = |with: &str| {
        let files = std::fs::read_dir(data_dir.join("store")).expect("a folder");
        let mark = format!("k8s:enc:aesgcm:v1:{with}:");
        files.flatten().any(|entry| {
            let bytes = std::fs::read(entry.path()).unwrap_or_default();
            bytes.windows(mark.len()).any(|w| w == mark.as_bytes())
        })
    };
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !sealed("key2") {
        assert!(
            std::time::Instant::now() < deadline,
            "nothing is sealed anew"
        );
        std::thread::yield_now();
    }
    running.stop();
    let start = both.find("      - name: key1").expect("it is there");
    let end = both.find("  - identity").expect("it is there");
    let only = format!("{}{}", &both[..start], &both[end..]);
    std::fs::write(&keys, only).expect("it can be written");
    let running = Cluster::server(&data_dir, &[]);
    let secret = running.kubectl(&["get", "secret", "s", "-o", "jsonpath={.data.k}"]);
    assert_eq!(secret, "dg==");
    running.stop();
}

#[test]
fn a_file_that_says_nothing_useful_about_access_is_refused_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("some.yaml");
    std::fs::write(&file, "kind: Nonsense").expect("it can be written");
    let path = file.to_str().expect("UTF-8");
    for flag in [
        "--encryption-provider-config",
        "--authentication-token-webhook-config-file",
        "--authorization-webhook-config-file",
        "--authorization-config",
        "--authentication-config",
    ] {
        let arguments = ["--listen", "127.0.0.1:0", "--store", "memory", flag, path];
        let arguments = [SIM, &arguments].concat();
        let said = said(&up(&folder.path().join("data"), &arguments));
        assert!(said.contains("some.yaml"), "{flag}: {said}");
    }
}

#[test]
fn controllers_and_scheduler_can_be_left_to_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = up(
        &folder.path().join("other"),
        &[SIM, &["--controllers", "*,-nonesuch"]].concat(),
    );
    let said = said(&output);
    assert!(
        said.contains("\"nonesuch\" is not in the list of known controllers"),
        "{said}"
    );

    let policy = folder.path().join("policy.yaml");
    std::fs::write(
        &policy,
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata, omitStages: [RequestReceived]}]\n",
    )
    .expect("it can be written");
    let log = folder.path().join("audit.log");
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let running = Cluster::server(
        &folder.path().join("data"),
        &[
            "--store",
            "memory",
            "--controllers",
            "-",
            "--disable-scheduler",
            "--audit-policy-file",
            &path(&policy),
            "--audit-log-path",
            &path(&log),
        ],
    );
    running.kubectl(&["create", "namespace", "left-alone"]);
    running.stop();
    let text = std::fs::read_to_string(&log).expect("it is there");
    assert!(text.contains("left-alone"), "{text}");
    for who in [
        "system:kube-scheduler",
        "system:kube-controller-manager",
        "system:serviceaccount:kube-system:",
    ] {
        // Roles have such names, too.
        let asking = format!("\"username\":\"{who}");
        let asked = text.lines().find(|line| line.contains(&asking));
        assert_eq!(asked, None, "{who}");
    }
}
