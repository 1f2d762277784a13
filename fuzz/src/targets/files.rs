//! Files, and what comes over a wire to the node.

use std::{
    cell::RefCell,
    io::Write,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use k8s_runtime::{
    ImageService,
    images::{ImageStore, ImageStoreOptions},
};
use k8s_scheduler::config::{Configuration, Registry};
use k8s_store::{EmbeddedStore, Expect, List, Op, Store, Write as Change};
use serde_json::json;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.with_borrow_mut(|runtime| {
        let runtime = runtime.get_or_insert_with(|| {
            let runtime = Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build();
            runtime.expect("a runtime is made")
        });
        runtime.block_on(future)
    })
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("a directory is made")
}

/// The files of a store with some history.
static STORE: LazyLock<Vec<(PathBuf, Vec<u8>)>> = LazyLock::new(|| {
    let dir = temporary();
    block_on(async {
        let store = EmbeddedStore::open(dir.path())
            .await
            .expect("a store is made");
        for n in 0..20u8 {
            let key = Bytes::from(format!("/k/{}", n % 7));
            let value = Bytes::from(vec![n; usize::from(n) * 9]);
            let op = if n % 5 == 0 {
                Op::Delete
            } else {
                Op::Put { value, ttl: None }
            };
            let change = Change {
                key,
                expect: Expect::Any,
                op,
            };
            store.commit(vec![change]).await.expect("it is written");
        }
        store.close().await.expect("it is closed");
    });
    let mut files = Vec::new();
    collect(dir.path(), dir.path(), &mut files);
    files
});

fn collect(root: &Path, dir: &Path, out: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir)
        .expect("the directory is read")
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, out);
        } else if let (Ok(name), Ok(bytes)) = (path.strip_prefix(root), std::fs::read(&path)) {
            out.push((name.to_owned(), bytes));
        }
    }
    out.sort();
}

/// Which file, and then its content.
pub(super) fn store_seeds() -> Vec<Vec<u8>> {
    let seed = |(n, (_, bytes)): (usize, &(PathBuf, Vec<u8>))| [&[n as u8][..], bytes].concat();
    STORE.iter().enumerate().map(seed).collect()
}

pub(super) fn store(input: &[u8]) {
    let Some((which, content)) = input.split_first() else {
        return;
    };
    let dir = temporary();
    let which = usize::from(*which) % STORE.len().max(1);
    for (n, (name, bytes)) in STORE.iter().enumerate() {
        let path = dir.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("a directory is made");
        }
        std::fs::write(path, if n == which { content } else { bytes }).expect("a file is written");
    }
    block_on(async {
        if let Ok(store) = EmbeddedStore::open(dir.path()).await {
            let page = store
                .list(List::default())
                .await
                .expect("an open store is read");
            for entry in &page.entries {
                let found = store
                    .get(&entry.key, None)
                    .await
                    .expect("an open store is read");
                assert_eq!(found.as_ref(), Some(entry));
            }
            store.close().await.expect("an open store is closed");
        }
    });
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, *content)
            .expect("it is written");
    }
    builder.into_inner().expect("it is written")
}

pub(super) fn image_seeds() -> Vec<Vec<u8>> {
    let hex = |bytes: &[u8]| {
        let digest = Sha256::digest(bytes);
        digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let layer = archive(&[
        ("etc/motd", b"hello"),
        ("etc/.wh.gone", b""),
        ("bin/sh", b"#!"),
    ]);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&layer).expect("it is written");
    let packed = gzip.finish().expect("it is written");
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(&layer))]}})
    .to_string();
    let manifest = json!([{"Config": "config.json", "RepoTags": ["a:1"], "Layers": ["layer.tar"]}])
        .to_string();
    let docker = |layer: &[u8]| {
        archive(&[
            ("manifest.json", manifest.as_bytes()),
            ("config.json", config.as_bytes()),
            ("layer.tar", layer),
        ])
    };
    let blob = |bytes: &[u8], kind: &str| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{}", hex(bytes)), "size": bytes.len()});
    let oci = json!({"schemaVersion": 2, "config": blob(config.as_bytes(), "config.v1+json"),
        "layers": [blob(&packed, "layer.v1.tar+gzip")]})
    .to_string();
    let mut of = blob(oci.as_bytes(), "manifest.v1+json");
    of["annotations"] = json!({"org.opencontainers.image.ref.name": "b:1"});
    let index = json!({"schemaVersion": 2, "manifests": [of]}).to_string();
    let name = |bytes: &[u8]| format!("blobs/sha256/{}", hex(bytes));
    vec![
        docker(&layer),
        docker(&packed),
        archive(&[
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
            ("index.json", index.as_bytes()),
            (&name(oci.as_bytes()), oci.as_bytes()),
            (&name(config.as_bytes()), config.as_bytes()),
            (&name(&packed), &packed),
        ]),
    ]
}

pub(super) fn image(input: &[u8]) {
    let dir = temporary();
    let file = dir.path().join("archive.tar");
    std::fs::write(&file, input).expect("a file is written");
    let store = ImageStore::open(ImageStoreOptions::new(dir.path().join("images")))
        .expect("a store is made");
    block_on(async {
        let _ = store.import(&file).await;
    });
    drop(store);
    // Nothing is written beside the store, whatever the names in the archive.
    let mut there: Vec<_> = std::fs::read_dir(dir.path())
        .expect("the directory is read")
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    there.sort();
    assert_eq!(there, ["archive.tar", "images"]);
}

pub(super) fn scheduler_seeds() -> Vec<Vec<u8>> {
    vec![
        b"apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\nparallelism: 4\nprofiles:\n\
          - schedulerName: a\n  plugins:\n    score:\n      disabled: [{name: '*'}]\n      enabled: [{name: NodeResourcesFit, weight: 5}]\n  \
          pluginConfig:\n  - name: NodeResourcesFit\n    args:\n      scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}]}\n"
            .to_vec(),
        b"{\"apiVersion\": \"kubescheduler.config.k8s.io/v1\", \"kind\": \"KubeSchedulerConfiguration\", \"leaderElection\": \
          {\"leaderElect\": true, \"leaseDuration\": \"15s\"}, \"podMaxBackoffSeconds\": 10, \"extenders\": []}"
            .to_vec(),
    ]
}

pub(super) fn scheduler(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input)
        && let Err(error) = Configuration::parse(text, &Registry::default())
    {
        let _ = error.to_string();
    }
}

pub(super) fn spdy_seeds() -> Vec<Vec<u8>> {
    // Header blocks without compression: a stored block each.
    let block = |headers: &[(&str, &str)]| {
        let mut text = (headers.len() as u32).to_be_bytes().to_vec();
        for part in headers.iter().flat_map(|(name, value)| [name, value]) {
            text.extend((part.len() as u32).to_be_bytes());
            text.extend(part.bytes());
        }
        let length = text.len() as u16;
        let mut out = vec![0x78, 0xbb, 0xe3, 0xc6, 0xa7, 0xc2, 0];
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(text);
        out
    };
    let open = |stream: u32, headers: &[(&str, &str)]| {
        let mut body = stream.to_be_bytes().to_vec();
        body.extend([0; 6]);
        body.extend(block(headers));
        let mut frame = vec![0x80, 3, 0, 1, 0];
        frame.extend(&(body.len() as u32).to_be_bytes()[1..]);
        frame.extend(body);
        frame
    };
    vec![
        open(
            1,
            &[("streamtype", "error"), ("port", "80"), ("requestid", "0")],
        ),
        [
            open(1, &[("streamtype", "stdin")]),
            vec![0, 0, 0, 1, 1, 0, 0, 3, b'a', b'b', b'c'],
        ]
        .concat(),
        vec![
            0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1, 0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0,
            0,
        ],
    ]
}

pub(super) fn spdy(input: &[u8]) {
    k8s_streaming::fuzz_spdy(input);
}

/// Frames as clients mask them.
pub(super) fn websocket_seeds() -> Vec<Vec<u8>> {
    let frame = |first: u8, payload: &[u8]| {
        let mask = [1, 2, 3, 4];
        let mut out = vec![first];
        match payload.len() {
            short @ ..126 => out.push(0x80 | short as u8),
            long => {
                out.push(0x80 | 126);
                out.extend((long as u16).to_be_bytes());
            }
        }
        out.extend(mask);
        out.extend(
            payload
                .iter()
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
        out
    };
    vec![
        // Bytes for a stream, its size, and that it ends.
        [
            frame(0x82, b"\0ls\n"),
            frame(0x82, b"\x04{\"Width\":80,\"Height\":24}"),
            frame(0x82, b"\xff\0"),
            frame(0x88, b"\x03\xe8"),
        ]
        .concat(),
        [
            frame(0x81, b"0bHM="),
            frame(0x89, b"ping"),
            frame(0x81, b"4e30="),
        ]
        .concat(),
        // One message in three frames, with a ping between.
        [
            frame(0x02, b"\0a"),
            frame(0x89, b""),
            frame(0x00, &[b'x'; 300]),
            frame(0x80, b"z"),
        ]
        .concat(),
    ]
}

pub(super) fn websocket(input: &[u8]) {
    block_on(k8s_streaming::fuzz_websocket(input));
}
