//! What the `cluster` binary says when something is wrong: one clear sentence, and nothing changed.

mod support;

use std::{net::TcpListener, path::Path, process::Output};

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

fn snapshot(arguments: &[&str], data_dir: &Path, file: Option<&Path>) -> Output {
    let mut command = command();
    command
        .arg("snapshot")
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir);
    command.args(file).output().expect("it runs")
}

#[test]
fn a_cluster_is_saved_while_it_runs_and_comes_back_at_a_later_revision() {
    let folder = tempfile::tempdir().expect("a folder");
    let data_dir = folder.path().join("data");
    let file = folder.path().join("saved");
    let running = Cluster::up(&data_dir, SIM);
    let saved = snapshot(&["save"], &data_dir, Some(&file));
    assert!(saved.status.success(), "{}", said_by(&saved));
    let refused = said(&snapshot(&["restore"], &data_dir, Some(&file)));
    assert!(refused.contains("in use"), "{refused}");
    running.stop();

    let restored = snapshot(&["restore"], &data_dir, Some(&file));
    assert!(restored.status.success(), "{}", said_by(&restored));
    let checked = snapshot(&["check"], &data_dir, None);
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    let revision = text
        .trim()
        .rsplit(' ')
        .next()
        .and_then(|n| n.parse::<u64>().ok());
    assert!(
        revision.is_some_and(|revision| revision > 1_000_000_000),
        "{text}"
    );
    Cluster::up(&data_dir, SIM).stop();

    std::fs::write(&file, "something else").expect("it can be written");
    let refused = said(&snapshot(&["restore"], &data_dir, Some(&file)));
    assert!(refused.contains("corrupt"), "{refused}");
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
