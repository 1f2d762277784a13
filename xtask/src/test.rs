//! The checks and tests, in the order in which they fail fastest.

use std::{path::Path, process::Command};

use crate::{
    clients,
    packages::{self, CLUSTER, ETCD, KUBECTL},
    process::{cargo, run},
};

/// The crates that others embed: they choose no Kubernetes level.
const LIBRARIES: &[&str] = &[
    "k8s-model",
    "k8s-store",
    "k8s-streaming",
    "k8s-apiserver",
    "k8s-scheduler",
    "k8s-controllers",
    "k8s-netproxy",
    "k8s-runtime",
    "k8s-kubelet",
    "k8s-testing",
];

/// Everything.
pub(crate) fn all() -> anyhow::Result<()> {
    fmt()?;
    lint()?;
    oldest()?;
    doc()?;
    unprivileged()?;
    if packages::is_root() {
        privileged()?;
    } else {
        eprintln!(
            "not root: the privileged tests are left out (`cargo xtask test-privileged` runs them)"
        );
    }
    Ok(())
}

pub(crate) fn fmt() -> anyhow::Result<()> {
    run(&mut cargo(&["fmt", "--all", "--check"]))
}

pub(crate) fn lint() -> anyhow::Result<()> {
    run(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ]))
}

/// The other end of k8s-openapi's range, in a target directory of its own so that the two do
/// not push each other out.
pub(crate) fn oldest() -> anyhow::Result<()> {
    let mut command = cargo(&["check", "--target-dir", "target/oldest"]);
    for library in LIBRARIES {
        command.args(["-p", library]);
    }
    run(command.env("K8S_OPENAPI_ENABLED_VERSION", "1.33"))
}

pub(crate) fn doc() -> anyhow::Result<()> {
    let mut build = cargo(&["doc", "--workspace", "--no-deps", "--all-features"]);
    run(build.env("RUSTDOCFLAGS", "-D warnings"))?;
    run(&mut cargo(&[
        "test",
        "--workspace",
        "--doc",
        "--all-features",
    ]))
}

pub(crate) fn unprivileged() -> anyhow::Result<()> {
    nextest(&["--all-features"], &[])
}

pub(crate) fn privileged() -> anyhow::Result<()> {
    packages::ensure(CLUSTER)?;
    packages::ensure(KUBECTL)?;
    packages::ensure(ETCD)?;
    let clients = clients::ensure()?;
    nextest(
        &[
            "--all-features",
            "--run-ignored",
            "only",
            "--profile",
            "privileged",
        ],
        &[("CLIENTS", &clients)],
    )
}

pub(crate) fn bench() -> anyhow::Result<()> {
    run(&mut cargo(&["bench", "-p", "benches"]))
}

/// `cargo nextest` where it is installed, `cargo test` where not.
fn nextest(arguments: &[&str], variables: &[(&str, &Path)]) -> anyhow::Result<()> {
    let installed = Command::new("cargo-nextest")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if installed {
        let base = ["nextest", "run", "--workspace", "--no-fail-fast"];
        let mut command = cargo(&[&base, arguments].concat());
        return run(command.envs(variables.iter().copied()));
    }
    let mut base = vec![
        "test",
        "--workspace",
        "--tests",
        "--all-features",
        "--no-fail-fast",
        "--",
    ];
    if arguments.contains(&"only") {
        base.extend(["--ignored", "--test-threads", "1"]);
    }
    run(cargo(&base).envs(variables.iter().copied()))
}
