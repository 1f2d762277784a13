//! The Debian packages that a cluster needs.

use std::{path::Path, process::Command};

use anyhow::{Context, bail};

use crate::process::run;

/// A package, and files one of which is there when it is installed; without any, it is missing.
type Package = (&'static str, &'static [&'static str]);

/// What the demo and the privileged tests need.
pub(crate) const CLUSTER: &[Package] = &[
    (
        "runc",
        &[
            "/usr/sbin/runc",
            "/usr/bin/runc",
            "/usr/local/sbin/runc",
            "/usr/local/bin/runc",
        ],
    ),
    ("nftables", &["/usr/sbin/nft"]),
    ("iproute2", &["/usr/sbin/ip", "/usr/bin/ip", "/sbin/ip"]),
    ("busybox-static", &["/bin/busybox", "/usr/bin/busybox"]),
];

/// What the black-box tests with `kubectl` need besides.
pub(crate) const KUBECTL: &[Package] = &[(
    "kubernetes-client",
    &["/usr/bin/kubectl", "/usr/local/bin/kubectl"],
)];

/// What the tests of stores need besides.
pub(crate) const ETCD: &[Package] = &[("etcd-server", &["/usr/bin/etcd"])];

/// What the tests of the Python client need besides.
pub(crate) const PYTHON: &[Package] = &[("python3-venv", &[])];

/// What the tests of the JavaScript client need besides.
pub(crate) const NODE: &[Package] = &[("nodejs", &[]), ("npm", &[])];

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Installs what is missing, and says so.
pub(crate) fn ensure(packages: &[Package]) -> anyhow::Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|(_, files)| !files.iter().any(|f| Path::new(f).exists()))
        .map(|(p, _)| *p)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !is_root() {
        bail!(
            "these Debian packages are missing: {list}; install them as root with `apt-get install {list}`"
        );
    }
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "these packages are missing, and this is not a Debian machine: {list}; install them by hand"
        );
    }
    eprintln!("installing the Debian packages {list}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    run(&mut apt(&["update", "-qq"]))?;
    let arguments = [
        &["install", "-y", "-qq", "--no-install-recommends"],
        missing.as_slice(),
    ]
    .concat();
    run(&mut apt(&arguments)).with_context(|| format!("cannot install {list}"))
}
