//! A disk that is really full. Run with
//! `cargo nextest run -p k8s-store --run-ignored only` as root.
//!
//! The test starts itself again in a mount namespace of its own, in which a
//! temporary directory is a tmpfs of one mebibyte; it goes with the process.

use std::{fs, path::Path, process::Command};

use k8s_store::{EmbeddedOptions, EmbeddedStore, Error, Expect, List, Op, Revision, Store, Write};

const DIRECTORY: &str = "K8S_STORE_FULL_DISK_TEST_DIRECTORY";
const TEST: &str = "a_full_disk_refuses_commits_loses_nothing_and_heals";

async fn full(dir: &Path) -> Result<(), Error> {
    let options = EmbeddedOptions {
        // Snapshots meet the full disk as well.
        snapshot_after: 300 << 10,
        ..EmbeddedOptions::default()
    };
    let filler = dir.join("filler");
    fs::write(&filler, vec![1; 300 << 10]).map_err(|_| Error::Closed)?;
    let data = dir.join("data");
    let store = EmbeddedStore::open_with(&data, options).await?;
    let put = |n: u64| {
        let op = Op::Put {
            value: vec![7; 5000].into(),
            ttl: None,
        };
        let key = format!("k{n:04}").into();
        vec![Write {
            key,
            expect: Expect::Absent,
            op,
        }]
    };
    // A snapshot that ends in between gives room back, so that a refusal may be
    // followed by a commit. What is full for good refuses again and again.
    let (mut acknowledged, mut refused) = (0, 0);
    while refused < 20 {
        match store.commit(put(acknowledged)).await {
            Ok(_) => (acknowledged, refused) = (acknowledged + 1, 0),
            Err(Error::ReadOnly { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(acknowledged > 50, "{acknowledged} went in");
    assert_eq!(store.revision().await?, Revision(acknowledged + 1));

    fs::remove_file(&filler).map_err(|_| Error::Closed)?;
    store.commit(put(acknowledged)).await?;
    let before = store.list(List::default()).await?;
    assert_eq!(before.entries.len() as u64, acknowledged + 1);
    store.close().await?;
    let store = EmbeddedStore::open_with(&data, options).await?;
    assert_eq!(store.list(List::default()).await?, before);
    Ok(())
}

#[tokio::test]
#[ignore = "needs root to mount a tmpfs"]
async fn a_full_disk_refuses_commits_loses_nothing_and_heals() {
    if let Some(dir) = std::env::var_os(DIRECTORY) {
        return full(Path::new(&dir)).await.unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=1m tmpfs \"${DIRECTORY}\" && exec \"$0\" --ignored --exact {TEST}"
    );
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env(DIRECTORY, dir.path())
        .status()
        .unwrap();
    assert!(status.success());
}
