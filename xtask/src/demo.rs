//! The demo: everything from a fresh clone to a cluster that serves.

use std::process::Command;

use anyhow::bail;

use crate::{
    packages::{self, CLUSTER},
    process::{self, cargo, root, target},
};

fn demo(keep: bool) -> Command {
    let release = target().join("release");
    let mut command = Command::new(release.join("demo"));
    command.arg("--cluster").arg(release.join("cluster"));
    command
        .arg("--manifest")
        .arg(root().join("examples/manifests/web.yaml"));
    if keep {
        command.arg("--keep");
    }
    command
}

pub(crate) fn run(keep: bool) -> anyhow::Result<()> {
    if !packages::is_root() {
        bail!("the demo runs containers and programs the kernel's network: run it as root");
    }
    packages::ensure(CLUSTER)?;
    process::run(&mut cargo(&[
        "build",
        "--release",
        "-p",
        "examples",
        "--bins",
    ]))?;
    let status = demo(keep).status()?;
    if !status.success() {
        bail!("the demo failed");
    }
    Ok(())
}
