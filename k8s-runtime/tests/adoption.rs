//! What a second run finds of the first. Needs root, runc, nftables and busybox-static.
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

mod common;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use common::Node;
use k8s_runtime::{
    ContainerConfig, ContainerId, ContainerRuntime, ContainerState, ImageService, NamespaceMode,
    SandboxConfig, SandboxId, SandboxState,
};

fn pod(name: &str, dir: &Path) -> SandboxConfig {
    SandboxConfig {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        hostname: name.to_owned(),
        pid: NamespaceMode::Container,
        cgroup_parent: format!("k8s-runtime-test/{}/{name}", std::process::id()),
        log_directory: dir.join("logs").join(name),
        ..SandboxConfig::default()
    }
}

fn container(name: &str, image: &str, script: &str) -> ContainerConfig {
    ContainerConfig {
        name: name.to_owned(),
        image: image.to_owned(),
        command: ["/bin/sh", "-c", script].map(str::to_owned).into(),
        log_path: PathBuf::from(format!("{name}.log")),
        ..ContainerConfig::default()
    }
}

async fn start(node: &Node, sandbox: &SandboxId, config: ContainerConfig) -> ContainerId {
    let id = node
        .runtime
        .create_container(sandbox, config)
        .await
        .unwrap();
    node.runtime.start_container(&id).await.unwrap();
    id
}

async fn until(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..6000 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not happen");
}

async fn end(node: Node) {
    node.runtime.shut_down().await.unwrap();
    node.network.remove().await.unwrap();
}

/// A second program that opens the node, so that the first can be killed: this test binary itself.
fn spawn_first_run(dir: &Path, bridge: &str, cidr: &str) -> std::process::Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "first_run",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("K8S_RUNTIME_TEST_DIR", dir)
        .env("K8S_RUNTIME_TEST_NET", format!("{bridge} {cidr}"))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit());
    command.spawn().unwrap()
}

/// Not a test by itself: the first run of the test below, which kills it.
#[tokio::test]
#[ignore = "the other process of a_killed_programs_containers_are_adopted"]
async fn first_run() {
    let (Ok(dir), Ok(net)) = (
        std::env::var("K8S_RUNTIME_TEST_DIR"),
        std::env::var("K8S_RUNTIME_TEST_NET"),
    ) else {
        return;
    };
    let dir = PathBuf::from(dir);
    let (bridge, cidr) = net.split_once(' ').unwrap();
    let options = k8s_runtime::net::PodNetworkOptions::new(cidr.parse().unwrap()).bridge(bridge);
    let node = common::open(&dir, options).await;
    let sandbox = node.runtime.run_sandbox(pod("a", &dir)).await.unwrap();
    let shared = SandboxConfig {
        pid: NamespaceMode::Pod,
        ..pod("shared", &dir)
    };
    let shared = node.runtime.run_sandbox(shared).await.unwrap();
    let image = node.image.id.clone();
    let count = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done";
    start(&node, &sandbox, container("counts", &image, count)).await;
    let waits = format!(
        "while ! [ -e {}/go ]; do sleep 0.01; done; exit 42",
        "/share"
    );
    let mut waits = container("waits", &image, &waits);
    std::fs::create_dir(dir.join("share")).unwrap();
    waits.mounts.push(k8s_runtime::Mount {
        container_path: "/share".into(),
        host_path: dir.join("share"),
        ..Default::default()
    });
    start(&node, &sandbox, waits).await;
    start(
        &node,
        &shared,
        container("shares", &image, "exec sleep 1000"),
    )
    .await;
    let never = container("never", &image, "exit 0");
    node.runtime
        .create_container(&sandbox, never)
        .await
        .unwrap();
    std::fs::write(dir.join("ready"), "").unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, runc"]
async fn a_killed_programs_containers_are_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let (bridge, cidr) = (format!("ka{}", std::process::id()), "100.126.7.0/24");
    let mut first = spawn_first_run(dir.path(), &bridge, cidr);
    until("the first run", async || dir.path().join("ready").exists()).await;
    first.kill().unwrap();
    first.wait().unwrap();
    // One container ends while nobody is there.
    std::fs::write(dir.path().join("share/go"), "").unwrap();

    let options = k8s_runtime::net::PodNetworkOptions::new(cidr.parse().unwrap()).bridge(&bridge);
    let node = common::open(dir.path(), options).await;
    let all = node.runtime.containers().await.unwrap();
    let by_name: BTreeMap<_, _> = all
        .iter()
        .map(|c| (c.config.name.as_str(), c.clone()))
        .collect();
    assert_eq!(by_name.len(), 4);
    for sandbox in node.runtime.sandboxes().await.unwrap() {
        assert_eq!((sandbox.state, sandbox.ips.len()), (SandboxState::Ready, 1));
    }
    let counts = &by_name["counts"];
    assert_eq!(
        (counts.state, by_name["shares"].state),
        (ContainerState::Running, ContainerState::Running)
    );
    assert_eq!(by_name["never"].state, ContainerState::Created);
    let waits = by_name["waits"].id.clone();
    until("the known exit", async || {
        node.runtime.container(&waits).await.unwrap().exit_code == Some(42)
    })
    .await;

    // The log goes on without a gap.
    let lines = || std::fs::read_to_string(&counts.log_path).unwrap();
    let before = lines().lines().count();
    until("more log", async || lines().lines().count() > before + 3).await;
    for (i, line) in lines().lines().enumerate() {
        assert!(line.ends_with(&format!(" stdout F {i}")), "{line}");
    }
    let said = node
        .runtime
        .exec_sync(&counts.id, &["hostname".to_owned()], None)
        .await
        .unwrap();
    assert_eq!(&said.stdout[..], b"a\n");
    assert_eq!(
        node.runtime.container_stats(&counts.id).await.unwrap().pids,
        2
    );

    // A new pod gets an address of its own.
    let id = node
        .runtime
        .run_sandbox(pod("b", dir.path()))
        .await
        .unwrap();
    let new = node.runtime.sandbox(&id).await.unwrap().ips;
    let taken: Vec<_> = node.runtime.sandboxes().await.unwrap();
    assert_eq!(taken.iter().filter(|s| s.ips == new).count(), 1);

    node.runtime
        .stop_container(&counts.id, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(
        node.runtime.container(&counts.id).await.unwrap().exit_code,
        Some(137)
    );
    end(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, runc"]
async fn a_container_whose_shim_was_killed_has_an_unknown_end() {
    let dir = tempfile::tempdir().unwrap();
    let node = common::open(dir.path(), common::network_options()).await;
    let sandbox = node
        .runtime
        .run_sandbox(pod("a", dir.path()))
        .await
        .unwrap();
    let id = start(
        &node,
        &sandbox,
        container("main", &node.image.id, "exec sleep 1000"),
    )
    .await;
    let pid = node.runtime.container(&id).await.unwrap().pid.unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let shim: i32 = stat
        .rsplit_once(')')
        .unwrap()
        .1
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    let killed = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(shim),
        nix::sys::signal::Signal::SIGKILL,
    );
    killed.unwrap();
    until("the end", async || {
        node.runtime.container(&id).await.unwrap().state == ContainerState::Exited
    })
    .await;
    let status = node.runtime.container(&id).await.unwrap();
    assert_eq!(
        (status.exit_code, status.reason.as_str()),
        (Some(255), "Unknown")
    );
    until("the end of its process", async || {
        !Path::new(&format!("/proc/{pid}")).exists()
    })
    .await;
    end(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, runc"]
async fn nothing_is_left_after_shutting_down() {
    let dir = tempfile::tempdir().unwrap();
    let options = common::network_options();
    let node = common::open(dir.path(), options).await;
    let own = |dir: &Path| {
        let at = dir.canonicalize().unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        mounts
            .lines()
            .filter(|l| l.contains(at.to_str().unwrap()))
            .count()
    };
    let groups = || {
        let roots = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
        let name = format!("k8s-runtime-test/{}", std::process::id());
        roots.filter(|r| r.path().join(&name).exists()).count()
    };
    for name in ["a", "b", "c"] {
        let config = SandboxConfig {
            pid: if name == "c" {
                NamespaceMode::Pod
            } else {
                NamespaceMode::Container
            },
            ..pod(name, dir.path())
        };
        let sandbox = node.runtime.run_sandbox(config).await.unwrap();
        start(
            &node,
            &sandbox,
            container("runs", &node.image.id, "exec sleep 1000"),
        )
        .await;
        start(
            &node,
            &sandbox,
            container("ended", &node.image.id, "exit 1"),
        )
        .await;
        let bad = container("bad", &node.image.id, "");
        let bad = ContainerConfig {
            command: vec!["/none".to_owned()],
            ..bad
        };
        let bad = node.runtime.create_container(&sandbox, bad).await.unwrap();
        assert!(node.runtime.start_container(&bad).await.is_err());
    }
    assert!(own(dir.path()) > 0 && groups() > 0);
    let pids: Vec<u32> = node
        .runtime
        .containers()
        .await
        .unwrap()
        .iter()
        .filter_map(|c| c.pid)
        .collect();
    assert!(pids.len() >= 3);
    node.runtime.shut_down().await.unwrap();
    assert_eq!((own(dir.path()), groups()), (0, 0));
    for kind in ["sandboxes", "containers", "runtime"] {
        let left: Vec<_> = std::fs::read_dir(dir.path().join("runtime").join(kind))
            .unwrap()
            .collect();
        assert!(left.is_empty(), "{kind}: {left:?}");
    }
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
    let bridge = format!("{:?}", node.network);
    node.network.remove().await.unwrap();
    let bridge = bridge.split('"').nth(1).unwrap().to_owned();
    assert!(!Path::new("/sys/class/net").join(&bridge).exists());
    let tables = Command::new("nft")
        .args(["list", "tables"])
        .output()
        .unwrap();
    assert!(!String::from_utf8_lossy(&tables.stdout).contains(&bridge));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, runc"]
async fn a_bridge_that_somebody_removed_comes_back_with_its_pods() {
    let dir = tempfile::tempdir().unwrap();
    let node = common::open(dir.path(), common::network_options()).await;
    let bridge = format!("{:?}", node.network);
    let bridge = bridge.split('"').nth(1).unwrap();
    let ip = |arguments: &[&str]| {
        let output = Command::new("ip").args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let ports = || {
        ip(&["-o", "link", "show", "master", bridge])
            .lines()
            .count()
    };
    node.runtime
        .run_sandbox(pod("a", dir.path()))
        .await
        .unwrap();
    assert_eq!(ports(), 1);
    let addresses = || ip(&["-o", "-4", "address", "show", "dev", bridge]);
    let gateway = node.network.gateway().to_string();
    assert!(addresses().contains(&gateway));
    ip(&["link", "del", bridge]);
    let (b, c) = tokio::join!(
        node.runtime.run_sandbox(pod("b", dir.path())),
        node.runtime.run_sandbox(pod("c", dir.path())),
    );
    assert_ne!(b.unwrap(), c.unwrap());
    assert_eq!(ports(), 3);
    assert!(addresses().contains(&gateway));
    end(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, runc"]
async fn a_directory_is_opened_once() {
    let dir = tempfile::tempdir().unwrap();
    let node = common::open(dir.path(), common::network_options()).await;
    let options = k8s_runtime::oci::OciOptions::new(dir.path().join("runtime"));
    let second = k8s_runtime::oci::OciRuntime::open(options, node.images.clone()).await;
    assert!(second.unwrap_err().to_string().contains("in use"));
    end(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root, runc"]
async fn layers_stay_while_a_container_uses_them() {
    let dir = tempfile::tempdir().unwrap();
    let node = common::open(dir.path(), common::network_options()).await;
    let sandbox = node
        .runtime
        .run_sandbox(pod("a", dir.path()))
        .await
        .unwrap();
    let id = start(
        &node,
        &sandbox,
        container("main", &node.image.id, "exec sleep 1000"),
    )
    .await;
    node.images.remove("busybox").await.unwrap();
    let said = node
        .runtime
        .exec_sync(&id, &["ls".to_owned(), "/bin".to_owned()], None)
        .await
        .unwrap();
    assert!(said.stdout.len() > 100);
    node.runtime.remove_container(&id).await.unwrap();
    node.images.remove("busybox").await.unwrap();
    assert_eq!(
        std::fs::read_dir(dir.path().join("images/layers"))
            .unwrap()
            .count(),
        0
    );
    end(node).await;
}
