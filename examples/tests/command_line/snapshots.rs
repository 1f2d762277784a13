//! `cluster snapshot`: what is saved comes back, at revisions that nobody has seen.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{
    SIM, said, said_by,
    support::{Cluster, command},
};

pub(crate) fn snapshot(arguments: &[&str], data_dir: &Path, file: Option<&Path>) -> Output {
    let mut command = command();
    command
        .arg("snapshot")
        .args(arguments)
        .arg("--data-dir")
        .arg(data_dir);
    command.args(file).output().expect("it runs")
}

/// The revision that a command tells.
fn revision(output: &Output) -> u64 {
    assert!(output.status.success(), "{}", said_by(output));
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split([' ', ';', '\n']);
    words.find(|word| *word == "revision").expect("it is told");
    let number = words.next().and_then(|word| word.parse().ok());
    number.expect("a number")
}

/// Every file below, and what is in it.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        if entry.path().is_dir() {
            found.extend(contents(&entry.path()));
        } else {
            found.push((entry.path(), fs::read(entry.path()).expect("it is there")));
        }
    }
    found.sort();
    found
}

#[test]
fn a_cluster_is_saved_while_it_runs_and_comes_back_at_a_later_revision_each_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data_dir, file) = (folder.path().join("data"), folder.path().join("saved"));
    let running = Cluster::up(&data_dir, SIM);
    let saved = revision(&snapshot(&["save"], &data_dir, Some(&file)));
    let refused = said(&snapshot(&["restore"], &data_dir, Some(&file)));
    assert!(refused.contains("in use"), "{refused}");
    running.stop();

    let first = revision(&snapshot(&["restore"], &data_dir, Some(&file)));
    assert!(first > saved + 1_000_000_000, "{saved}, then {first}");
    let checked = revision(&snapshot(&["check"], &data_dir, None));
    assert_eq!(checked, first);
    Cluster::up(&data_dir, SIM).stop();

    // What was replaced is not replaced by what came after, unless somebody says so.
    let refused = said(&snapshot(&["restore"], &data_dir, Some(&file)));
    assert!(refused.contains("store.before-restore"), "{refused}");
    assert!(refused.contains("remove it"), "{refused}");
    let written = revision(&snapshot(&["check"], &data_dir, None));
    fs::remove_dir_all(data_dir.join("store.before-restore")).expect("it can be removed");
    let second = revision(&snapshot(&["restore"], &data_dir, Some(&file)));
    assert!(second > written, "{written}, then {second}");
    // Elsewhere, nothing is known of these.
    let elsewhere = folder.path().join("elsewhere");
    let third = revision(&snapshot(&["restore"], &elsewhere, Some(&file)));
    assert!(third > second, "{second}, then {third}");
}

#[test]
fn clients_that_have_seen_what_is_lost_begin_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, file) = (folder.path().join("old"), folder.path().join("saved"));
    let running = Cluster::server(&old, &[]);
    running.kubectl(&["create", "configmap", "kept"]);
    revision(&snapshot(&["save"], &old, Some(&file)));
    running.kubectl(&["create", "configmap", "lost"]);
    running.kubectl(&["label", "configmap", "kept", "changed=yes"]);
    let seen = running.kubectl(&["get", "configmap", "kept", "-o", "yaml"]);
    let version = |cluster: &Cluster| {
        let path = "/api/v1/namespaces/default/configmaps";
        let list = cluster.kubectl(&["get", "--raw", path]);
        let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
        let version = list["metadata"]["resourceVersion"].as_str();
        version
            .and_then(|v| v.parse::<u64>().ok())
            .expect("a number")
    };
    let before = version(&running);
    running.stop();

    // A new directory, to which the certificates and keys are brought by hand.
    let new = folder.path().join("new");
    revision(&snapshot(&["restore"], &new, Some(&file)));
    let copied = Command::new("cp")
        .arg("-r")
        .arg(old.join("pki"))
        .arg(&new)
        .status();
    assert!(copied.expect("it runs").success());
    let running = Cluster::server(&new, &[]);
    let after = version(&running);
    assert!(after > before, "{before}, then {after}");
    let names = running.kubectl(&["get", "configmaps", "-o", "name"]);
    assert!(names.contains("configmap/kept"), "{names}");
    assert!(!names.contains("configmap/lost"), "{names}");
    // Who watched is told to list again.
    let watch = format!(
        "/api/v1/namespaces/default/configmaps?watch=1&timeoutSeconds=10&resourceVersion={before}"
    );
    let answer = running.try_kubectl(&["get", "--raw", &watch], "");
    let answer = [answer.stdout, answer.stderr].concat();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.contains("too old resource version"), "{answer}");
    // Who has read an object writes on no other.
    let refused = running.kubectl_fails(&["replace", "-f", "-"], &seen);
    assert!(
        refused.contains("the object has been modified"),
        "{refused}"
    );
    running.stop();
}

#[test]
fn a_file_that_cannot_be_restored_is_refused_with_advice_and_nothing_is_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data_dir, good) = (folder.path().join("data"), folder.path().join("good"));
    Cluster::server(&data_dir, &[]).stop();
    revision(&snapshot(&["save"], &data_dir, Some(&good)));
    let before = contents(&data_dir.join("store"));

    let good = fs::read(&good).expect("it is there");
    let half = good[..good.len() / 2].to_vec();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let mut later = good.clone();
    later[7] += 1;
    let corrupt = "a file that `cluster snapshot save` wrote";
    let bad = folder.path().join("bad");
    for (bytes, advice) in [
        (b"something else".to_vec(), corrupt),
        (Vec::new(), corrupt),
        (half, corrupt),
        (flipped, corrupt),
        (later, "use the version of this program that wrote it"),
    ] {
        fs::write(&bad, bytes).expect("it can be written");
        for what in ["restore", "check"] {
            let refused = said(&snapshot(&[what], &data_dir, Some(&bad)));
            assert!(refused.contains(advice), "{what}: {refused}");
            assert!(refused.contains("bad"), "{what}: {refused}");
        }
    }
    let missing = folder.path().join("missing");
    let refused = said(&snapshot(&["restore"], &data_dir, Some(&missing)));
    assert!(refused.contains("missing: No such file"), "{refused}");
    assert_eq!(contents(&data_dir.join("store")), before);

    let empty = folder.path().join("empty");
    let refused = said(&snapshot(&["save"], &empty, Some(&missing)));
    assert!(refused.contains("holds no embedded store"), "{refused}");
    assert!(!empty.exists() && !missing.exists());
}

#[test]
fn a_damaged_store_is_found_named_and_replaced_by_what_was_saved() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data_dir, file) = (folder.path().join("data"), folder.path().join("saved"));
    Cluster::server(&data_dir, &[]).stop();
    revision(&snapshot(&["save"], &data_dir, Some(&file)));
    let store = contents(&data_dir.join("store")).into_iter();
    let mut logs = store.filter(|(path, _)| path.extension().is_some_and(|e| e == "log"));
    let (log, mut bytes) = logs.find(|(_, bytes)| bytes.len() > 1000).expect("a log");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).expect("it can be written");
    let name = log.file_name().and_then(|name| name.to_str());
    let name = name.expect("a name");

    let found = said(&snapshot(&["check"], &data_dir, None));
    let output = command()
        .args(["server", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data_dir)
        .output();
    let refused = said(&output.expect("it runs"));
    for text in [&found, &refused] {
        assert!(text.contains(name) && text.contains("corrupt"), "{text}");
        assert!(text.contains("cluster snapshot restore FILE"), "{text}");
    }
    revision(&snapshot(&["restore"], &data_dir, Some(&file)));
    Cluster::server(&data_dir, &[]).stop();
}

#[test]
fn an_interrupted_restore_does_not_end_in_an_empty_cluster() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data_dir, file) = (folder.path().join("data"), folder.path().join("saved"));
    Cluster::server(&data_dir, &[]).stop();
    revision(&snapshot(&["save"], &data_dir, Some(&file)));
    // What is there when it is killed between its two last steps, and a half of an earlier attempt.
    fs::rename(
        data_dir.join("store"),
        data_dir.join("store.before-restore"),
    )
    .expect("a folder");
    fs::create_dir(data_dir.join("store.restored")).expect("a folder");
    fs::write(data_dir.join("store.restored").join("half"), "x").expect("it can be written");
    let output = command()
        .args(["server", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&data_dir)
        .output();
    let refused = said(&output.expect("it runs"));
    assert!(refused.contains("a restore was interrupted"), "{refused}");
    revision(&snapshot(&["restore"], &data_dir, Some(&file)));
    Cluster::server(&data_dir, &[]).stop();
}
