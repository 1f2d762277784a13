//! Importing and pulling images, without privileges.
#![allow(clippy::unwrap_used, reason = "what fails here fails a test")]

use std::{
    collections::HashMap,
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use k8s_runtime::{
    Error, ImageService, PullErrorKind, RegistryAuth,
    images::{ImageStore, ImageStoreOptions},
    testing::layout_archive,
};
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

fn store(dir: &Path) -> ImageStore {
    ImageStore::open(ImageStoreOptions::new(dir.join("images"))).unwrap()
}

fn sha(data: &[u8]) -> String {
    let hex: String = Sha256::digest(data)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    format!("sha256:{hex}")
}

/// A layer with one file; owned by whoever runs the test, so that no privilege is needed.
fn layer(name: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    tar.append_data(&mut header, name, content).unwrap();
    tar.into_inner().unwrap()
}

fn is_empty(dir: &Path) -> bool {
    ["blobs/sha256", "layers", "tmp"].iter().all(|d| {
        let at = dir.join("images").join(d);
        std::fs::read_dir(at).unwrap().next().is_none()
    })
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let diff_ids: Vec<_> = layers.iter().map(|l| sha(l)).collect();
    let config = serde_json::json!({
        "architecture": arch, "os": "linux",
        "config": {"Cmd": ["/bin/x"], "User": "1000:5"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    config.to_string().into_bytes()
}

fn docker_archive(path: &Path, tags: &[&str], layers: &[&[u8]]) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, data: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, data).unwrap();
    };
    let config = config(layers);
    add("config.json", &config);
    let mut names = Vec::new();
    for (i, layer) in layers.iter().enumerate() {
        names.push(format!("{i}/layer.tar"));
        add(&names[i], layer);
    }
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": tags, "Layers": names}]);
    add("manifest.json", manifest.to_string().as_bytes());
    std::fs::write(path, tar.into_inner().unwrap()).unwrap();
}

#[tokio::test]
async fn layouts_and_docker_archives_are_imported_also_compressed() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let (one, two) = (layer("one", b"1"), layer("two", b"2"));
    let plain = dir.path().join("plain.tar");
    layout_archive("example.test/layout:1", &[one.clone(), two.clone()], &plain).unwrap();
    let data = std::fs::read(&plain).unwrap();
    let gz = dir.path().join("gz");
    let mut encoder = flate2::write::GzEncoder::new(
        std::fs::File::create(&gz).unwrap(),
        flate2::Compression::fast(),
    );
    encoder.write_all(&data).unwrap();
    encoder.finish().unwrap();
    let zst = dir.path().join("zst");
    std::fs::write(&zst, zstd::encode_all(&data[..], 1).unwrap()).unwrap();
    let unpacked = dir.path().join("unpacked");
    tar::Archive::new(&data[..]).unpack(&unpacked).unwrap();
    let mut ids = Vec::new();
    for archive in [&plain, &gz, &zst, &unpacked] {
        let images = store.import(archive).await.unwrap();
        assert_eq!(images[0].repo_tags, ["example.test/layout:1"]);
        assert!(images[0].repo_digests[0].starts_with("example.test/layout@sha256:"));
        ids.push(images[0].id.clone());
    }
    ids.dedup();
    assert_eq!(ids.len(), 1);

    let docker = dir.path().join("docker.tar");
    docker_archive(&docker, &["busy:1", "busy:2"], &[&one, &two]);
    let image = store.import(&docker).await.unwrap().remove(0);
    assert_eq!(
        image.repo_tags,
        ["docker.io/library/busy:1", "docker.io/library/busy:2"]
    );
    assert_eq!((image.uid, image.username.as_str()), (Some(1000), ""));
    // Both images share both layers.
    assert_eq!(
        std::fs::read_dir(dir.path().join("images/layers"))
            .unwrap()
            .count(),
        4
    );
    store.remove("busy:1").await.unwrap();
    assert_eq!(
        store.image(&image.id).await.unwrap().unwrap().repo_tags,
        ["docker.io/library/busy:2"]
    );
    store.remove("busy:2").await.unwrap();
    assert_eq!(store.image(&image.id).await.unwrap(), None);
    store.remove("example.test/layout:1").await.unwrap();
    assert!(is_empty(dir.path()));
}

#[tokio::test]
async fn a_tag_moves_to_the_newer_image() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let archive = dir.path().join("a.tar");
    let mut ids = Vec::new();
    for content in [b"1", b"2"] {
        docker_archive(&archive, &["app:latest"], &[&layer("file", content)]);
        ids.push(store.import(&archive).await.unwrap().remove(0).id);
    }
    assert_eq!(store.image("app").await.unwrap().unwrap().id, ids[1]);
    assert!(
        store
            .image(&ids[0])
            .await
            .unwrap()
            .unwrap()
            .repo_tags
            .is_empty()
    );
}

#[tokio::test]
async fn a_broken_archive_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let good = dir.path().join("good.tar");
    layout_archive(
        "a:1",
        &[layer("one", &[7; 20_000]), layer("two", b"2")],
        &good,
    )
    .unwrap();
    let data = std::fs::read(&good).unwrap();
    let bad = dir.path().join("bad.tar");

    let mut broken: Vec<(String, Vec<u8>)> = vec![
        ("empty".to_owned(), Vec::new()),
        (
            "noise".to_owned(),
            (0..5000u32).map(|i| (i * 7919) as u8).collect(),
        ),
        ("gzip of noise".to_owned(), b"\x1f\x8b\x08nonsense".to_vec()),
        ("another tar".to_owned(), layer("x", b"y")),
    ];
    for cut in [600, 1500, 10_000, data.len() / 2, data.len() - 3000] {
        broken.push((format!("cut at {cut}"), data[..cut].to_vec()));
    }
    // One byte of the first layer and one of the configuration are changed.
    for at in [1024 + 600, data.len() / 2] {
        let mut changed = data.clone();
        changed[at] ^= 0xff;
        broken.push((format!("changed at {at}"), changed));
    }
    for (what, content) in broken {
        std::fs::write(&bad, content).unwrap();
        let result = store.import(&bad).await;
        assert!(
            matches!(result, Err(Error::BrokenArchive(_))),
            "{what}: {result:?}"
        );
        assert!(
            store.images().await.unwrap().is_empty() && is_empty(dir.path()),
            "{what}"
        );
    }
    let mut evil = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(0);
    header.set_entry_type(tar::EntryType::Regular);
    header.as_old_mut().name[..11].copy_from_slice(b"../../evil\0");
    header.set_cksum();
    evil.append(&header, std::io::empty()).unwrap();
    let evil = evil.into_inner().unwrap();
    docker_archive(&bad, &["evil:1"], &[&layer("one", b"1"), &evil]);
    let result = store.import(&bad).await;
    assert!(
        matches!(&result, Err(Error::BrokenArchive(m)) if m.contains("leads out")),
        "{result:?}"
    );
    assert!(is_empty(dir.path()));
    assert!(matches!(
        store.import(&dir.path().join("none")).await,
        Err(Error::Io { .. })
    ));
    assert_eq!(store.import(&good).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_image_for_another_machine_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    let archive = dir.path().join("a.tar");
    docker_archive(&archive, &["app:1"], &[&layer("file", b"1")]);
    let data = std::fs::read(&archive).unwrap();
    let text = data.windows(5).position(|w| w == b"linux").unwrap();
    let mut other = data;
    other[text..text + 5].copy_from_slice(b"plan9");
    std::fs::write(&archive, other).unwrap();
    let result = store.import(&archive).await;
    assert!(
        matches!(result, Err(Error::InvalidImage { .. })),
        "{result:?}"
    );
    assert!(is_empty(dir.path()));
}

/// A registry that has what is put into it.
#[derive(Default)]
struct Registry {
    files: HashMap<String, (String, Vec<u8>)>,
    /// What `Authorization` must be.
    auth: Option<String>,
    blobs_served: AtomicUsize,
}

impl Registry {
    fn put(&mut self, repository: &str, tag: &str, layers: &[&[u8]]) {
        let config = config(layers);
        let mut blob = |data: &[u8], kind: &str| {
            let digest = sha(data);
            let path = format!("/v2/{repository}/blobs/{digest}");
            self.files.insert(path, (kind.to_owned(), data.to_vec()));
            serde_json::json!({"mediaType": kind, "digest": digest, "size": data.len()})
        };
        let layers: Vec<_> = layers
            .iter()
            .map(|l| {
                let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                gz.write_all(l).unwrap();
                blob(
                    &gz.finish().unwrap(),
                    "application/vnd.oci.image.layer.v1.tar+gzip",
                )
            })
            .collect();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let config = blob(&config, "application/vnd.oci.image.config.v1+json");
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers});
        let manifest = manifest.to_string().into_bytes();
        let arch = if cfg!(target_arch = "aarch64") {
            "arm64"
        } else {
            "amd64"
        };
        let list = "application/vnd.oci.image.index.v1+json";
        let entry = |digest: &str, size: usize, arch: &str| {
            let platform = serde_json::json!({"architecture": arch, "os": "linux"});
            serde_json::json!({"mediaType": kind, "digest": digest, "size": size, "platform": platform})
        };
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": list, "manifests": [
            entry(&sha(b"other"), 5, "s390x"),
            entry(&sha(&manifest), manifest.len(), arch),
        ]});
        let at = |reference: &str| format!("/v2/{repository}/manifests/{reference}");
        let index = index.to_string().into_bytes();
        self.files
            .insert(at(&sha(&manifest)), (kind.to_owned(), manifest));
        self.files
            .insert(at(&sha(&index)), (list.to_owned(), index.clone()));
        self.files.insert(at(tag), (list.to_owned(), index));
    }

    async fn serve(self) -> (String, Arc<Self>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let registry = Arc::new(self);
        let served = Arc::clone(&registry);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&served).connection(stream));
            }
        });
        (address, registry)
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        loop {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                match stream.read_line(&mut line).await {
                    Ok(n) if n > 0 && line.trim().is_empty() => break,
                    Ok(n) if n > 0 => head.push(line.trim().to_owned()),
                    _ => return,
                }
            }
            let path = head[0]
                .split(' ')
                .nth(1)
                .unwrap()
                .split('?')
                .next()
                .unwrap()
                .to_owned();
            let auth = head
                .iter()
                .find_map(|l| l.strip_prefix("authorization: "))
                .map(str::to_owned);
            let answer = match self.files.get(&path) {
                _ if self.auth.is_some() && auth != self.auth => {
                    let body = r#"{"errors":[{"code":"UNAUTHORIZED","message":"who are you"}]}"#;
                    format!(
                        "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Basic realm=\"x\"\r\ncontent-length: {}\r\n\r\n{body}",
                        body.len()
                    )
                    .into_bytes()
                }
                _ if path == "/v2/" => b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec(),
                Some((kind, data)) => {
                    if path.contains("/blobs/") {
                        self.blobs_served.fetch_add(1, Ordering::Relaxed);
                    }
                    let mut out = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ndocker-content-digest: {}\r\ncontent-length: {}\r\n\r\n",
                        path.rsplit('/').next().filter(|d| d.starts_with("sha256:")).map_or_else(|| sha(data), str::to_owned),
                        data.len()
                    )
                    .into_bytes();
                    out.extend(data);
                    out
                }
                None => {
                    let body =
                        r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
                    format!("HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
                }
            };
            if stream.write_all(&answer).await.is_err() {
                return;
            }
            let _ = stream.flush().await;
            let _ = stream.read(&mut []).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pulls_share_the_download() {
    let dir = tempfile::tempdir().unwrap();
    let mut registry = Registry::default();
    let layer = layer("file", &[3; 300_000]);
    registry.put("team/app", "v1", &[&layer]);
    let (address, registry) = registry.serve().await;
    let store = store(dir.path());
    let name = format!("{address}/team/app:v1");
    let pulls = (0..8).map(|_| store.pull(&name, None));
    let images = futures::future::try_join_all(pulls).await.unwrap();
    assert!(images.iter().all(|i| *i == images[0]));
    assert_eq!(images[0].repo_tags, std::slice::from_ref(&name));
    assert_eq!(images[0].repo_digests.len(), 1);
    // The configuration comes with each pull; the layer was fetched once.
    assert_eq!(registry.blobs_served.load(Ordering::Relaxed), 8 + 1);
    let by_digest = store.pull(&images[0].repo_digests[0], None).await.unwrap();
    assert_eq!(by_digest.id, images[0].id);
    let unpacked = std::fs::read_dir(dir.path().join("images/layers"))
        .unwrap()
        .flatten()
        .map(|e| e.path());
    let file = unpacked
        .map(|p| p.join("file"))
        .find(|p| p.exists())
        .unwrap();
    assert_eq!(std::fs::read(file).unwrap(), [3; 300_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_asked_first_and_failures_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut mirror = Registry::default();
    mirror.put("hub/library/app", "latest", &[&layer("file", b"1")]);
    let (mirror, _) = mirror.serve().await;
    let mut private = Registry {
        auth: Some("Basic dTpw".to_owned()),
        ..Registry::default()
    };
    private.put("secret", "1", &[&layer("file", b"2")]);
    let (private, _) = private.serve().await;
    let options = ImageStoreOptions::new(dir.path().join("images"))
        .mirror("docker.io=http://127.0.0.1:9".parse().unwrap())
        .mirror(format!("docker.io=http://{mirror}/hub").parse().unwrap());
    let store = ImageStore::open(options).unwrap();
    let image = store.pull("app", None).await.unwrap();
    assert_eq!(image.repo_tags, ["docker.io/library/app:latest"]);
    assert!(image.repo_digests[0].starts_with("docker.io/library/app@sha256:"));

    let kind = |r: Result<_, Error>| match r {
        Err(Error::PullFailed { kind, .. }) => kind,
        other => panic!("{other:?}"),
    };
    let secret = format!("{private}/secret:1");
    assert_eq!(
        kind(store.pull(&secret, None).await),
        PullErrorKind::Unauthorized
    );
    let auth = |password: &str| RegistryAuth {
        username: "u".to_owned(),
        password: password.to_owned(),
    };
    assert_eq!(
        kind(store.pull(&secret, Some(&auth("wrong"))).await),
        PullErrorKind::Unauthorized
    );
    store.pull(&secret, Some(&auth("p"))).await.unwrap();
    assert_eq!(
        kind(store.pull(&format!("{mirror}/none:1"), None).await),
        PullErrorKind::NotFound
    );
    assert_eq!(
        kind(store.pull("127.0.0.1:9/none:1", None).await),
        PullErrorKind::Network
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_lies_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut registry = Registry::default();
    registry.put("app", "1", &[&layer("file", b"1")]);
    for (path, (kind, data)) in &mut registry.files {
        if path.contains("/blobs/") && kind.ends_with("gzip") {
            *data = layer("file", b"other");
        }
    }
    let (address, _) = registry.serve().await;
    let store = store(dir.path());
    let result = store.pull(&format!("{address}/app:1"), None).await;
    assert!(
        matches!(result, Err(Error::PullFailed { .. })),
        "{result:?}"
    );
    assert!(is_empty(dir.path()) && store.images().await.unwrap().is_empty());
}
