//! `cluster snapshot`: the objects of a cluster in a file.

use std::{fs, path::Path};

use anyhow::{Context, bail};
use k8s_store::{EmbeddedStore, Inventory};

use super::{
    arguments::{SnapshotCommand, SnapshotOptions},
    layout::Layout,
};

/// By how much a restored cluster's revisions are ahead of the saved one's: more than it can have
/// written since. What upstream's guide to restoring etcd recommends.
const BUMP: u64 = 1_000_000_000;

pub(super) async fn run(options: SnapshotOptions) -> anyhow::Result<()> {
    let text = tokio::task::spawn_blocking(move || match options.command {
        SnapshotCommand::Save { data_dir, file } => save(&data_dir, &file),
        SnapshotCommand::Restore { data_dir, file } => restore(&data_dir, &file),
        SnapshotCommand::Check { data_dir, file } => check(&data_dir, file.as_deref()),
    });
    print(&text.await.context("cannot wait for the disk")??);
    Ok(())
}

fn store(data_dir: &Path) -> anyhow::Result<std::path::PathBuf> {
    let store = Layout::new(data_dir).store();
    if !store.exists() {
        bail!("{} holds no embedded store", data_dir.display());
    }
    Ok(store)
}

fn save(data_dir: &Path, file: &Path) -> anyhow::Result<String> {
    let saved = EmbeddedStore::save(store(data_dir)?, file)?;
    Ok(format!("saved {}", shown(&saved)))
}

fn restore(data_dir: &Path, file: &Path) -> anyhow::Result<String> {
    // Before anything is moved.
    EmbeddedStore::check_backup(file)?;
    fs::create_dir_all(data_dir)
        .with_context(|| format!("cannot make the data directory {}", data_dir.display()))?;
    let layout = Layout::new(&fs::canonicalize(data_dir)?);
    let _claim = layout.claim()?;
    let (store, before) = (layout.store(), layout.store_before_restore());
    if store.exists() {
        if before.exists() {
            bail!(
                "{} is left from an earlier restore: remove it",
                before.display()
            );
        }
        fs::rename(&store, &before).with_context(|| format!("cannot move {}", store.display()))?;
    }
    let restored = EmbeddedStore::restore(file, &store, BUMP)?;
    let kept = if before.exists() {
        format!("; what was there is in {}", before.display())
    } else {
        String::new()
    };
    Ok(format!("restored {}{kept}", shown(&restored)))
}

fn check(data_dir: &Path, file: Option<&Path>) -> anyhow::Result<String> {
    let found = match file {
        Some(file) => EmbeddedStore::check_backup(file)?,
        None => EmbeddedStore::check(store(data_dir)?)?,
    };
    Ok(format!("in order: {}", shown(&found)))
}

fn shown(found: &Inventory) -> String {
    format!(
        "{} objects, {} bytes, at revision {}",
        found.keys, found.bytes, found.revision
    )
}

#[expect(clippy::print_stdout, reason = "what the command was run for")]
fn print(text: &str) {
    println!("{text}");
}
