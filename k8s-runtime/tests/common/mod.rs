//! A node on runc, for tests that have the privileges.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use k8s_runtime::{
    Image, ImageService,
    images::{ImageStore, ImageStoreOptions},
    net::{PodNetwork, PodNetworkOptions},
    oci::{OciOptions, OciRuntime},
    testing::busybox_archive,
};

/// What a node is made of.
pub(crate) struct Node {
    pub(crate) runtime: OciRuntime,
    pub(crate) images: ImageStore,
    pub(crate) network: Arc<PodNetwork>,
    pub(crate) image: Image,
}

/// A bridge name and a pod CIDR that no other test uses, in this process or another.
pub(crate) fn network_options() -> PodNetworkOptions {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let pid = std::process::id() % 4096;
    let n = NEXT.fetch_add(1, Ordering::Relaxed) % 16;
    let (a, b) = (pid >> 4, ((pid & 15) << 4) | n);
    let cidr = format!("100.{}.{b}.0/24", 64 + (a & 63));
    PodNetworkOptions::new(cidr.parse().unwrap()).bridge(format!("kt{}x{n}", std::process::id()))
}

/// Opens a node on a directory.
pub(crate) async fn open(dir: &Path, options: PodNetworkOptions) -> Node {
    let images = ImageStore::open(ImageStoreOptions::new(dir.join("images"))).unwrap();
    let image = match images.image("busybox").await.unwrap() {
        Some(image) => image,
        None => {
            let archive = dir.join("busybox.tar");
            busybox_archive("docker.io/library/busybox:latest", &archive).unwrap();
            images.import(&archive).await.unwrap().remove(0)
        }
    };
    let network = Arc::new(PodNetwork::set_up(options).await.unwrap());
    let options = OciOptions::new(dir.join("runtime"))
        .shim(env!("CARGO_BIN_EXE_k8s-runtime-shim"))
        .network(Arc::clone(&network));
    let runtime = OciRuntime::open(options, images.clone()).await.unwrap();
    Node {
        runtime,
        images,
        network,
        image,
    }
}
