//! How long a pod's sandbox and container take. Needs root, runc, nftables and busybox-static:
//!
//! ```sh
//! sudo target/debug/examples/start_time [PODS [AT ONCE]]
//! ```
//!
//! It prints the median of each step in milliseconds, and the time for all pods together.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use k8s_runtime::{
    ContainerConfig, ContainerRuntime, ImageService, NamespaceMode, SandboxConfig,
    images::{ImageStore, ImageStoreOptions},
    net::{PodNetwork, PodNetworkOptions},
    oci::{OciOptions, OciRuntime},
    testing::busybox_archive,
};

fn main() -> anyhow::Result<()> {
    k8s_runtime::shim::main_if_requested();
    let mut args = std::env::args().skip(1).map(|a| a.parse());
    let pods = args.next().transpose()?.unwrap_or(20);
    let at_once = args.next().transpose()?.unwrap_or(1);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(pods, at_once))
}

async fn measure(pods: usize, at_once: usize) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let images = ImageStore::open(ImageStoreOptions::new(dir.path().join("images")))?;
    let archive = dir.path().join("busybox.tar");
    busybox_archive("busybox", &archive)?;
    let image = images.import(&archive).await?.remove(0);
    let options = PodNetworkOptions::new("100.127.0.0/20".parse()?).bridge("kstarttime");
    let network = Arc::new(PodNetwork::set_up(options).await?);
    let options = OciOptions::new(dir.path().join("runtime")).network(Arc::clone(&network));
    let node = OciRuntime::open(options, images).await?;

    let start = Instant::now();
    let jobs = (0..pods).map(|i| one(&node, &image.id, i, dir.path()));
    let times: Vec<_> = futures::stream::iter(jobs)
        .buffer_unordered(at_once)
        .collect()
        .await;
    let all = start.elapsed();
    let times = times.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let median = |f: fn(&[Duration; 3]) -> Duration| {
        let mut column: Vec<_> = times.iter().map(f).collect();
        column.sort();
        column[column.len() / 2].as_secs_f64() * 1000.0
    };
    let line = format!(
        "sandbox {:.1} ms  create {:.1} ms  start {:.1} ms  together {:.1} ms  all {pods}: {all:?}",
        median(|t| t[0]),
        median(|t| t[1]),
        median(|t| t[2]),
        median(|t| t.iter().sum()),
    );
    eprintln!("{line}");
    if std::env::args().nth(3).is_some() {
        eprintln!("press return to end");
        std::io::stdin().read_line(&mut String::new())?;
    }
    let start = Instant::now();
    node.shut_down().await?;
    eprintln!("removed in {:?}", start.elapsed());
    network.remove().await?;
    Ok(())
}

async fn one(
    node: &OciRuntime,
    image: &str,
    i: usize,
    dir: &std::path::Path,
) -> anyhow::Result<[Duration; 3]> {
    let config = SandboxConfig {
        name: format!("pod-{i}"),
        uid: format!("uid-{i}"),
        hostname: format!("pod-{i}"),
        pid: NamespaceMode::Container,
        cgroup_parent: format!("k8s-start-time/pod{i}"),
        log_directory: dir.join("logs"),
        ..SandboxConfig::default()
    };
    let begin = Instant::now();
    let sandbox = node.run_sandbox(config).await?;
    let made = Instant::now();
    let config = ContainerConfig {
        name: "main".to_owned(),
        image: image.to_owned(),
        command: ["/bin/sleep", "1000"].map(str::to_owned).into(),
        log_path: format!("{i}.log").into(),
        ..ContainerConfig::default()
    };
    let container = node.create_container(&sandbox, config).await?;
    let created = Instant::now();
    node.start_container(&container).await?;
    Ok([made - begin, created - made, created.elapsed()])
}
