//! `cluster snapshot`: the objects of a cluster in a file.

use std::{
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, anyhow, bail};
use k8s_store::{EmbeddedStore, Error, Inventory, Revision};

use super::{
    arguments::{SnapshotCommand, SnapshotOptions},
    layout::Layout,
    store::advised,
};

/// By how much a restored cluster's revisions are ahead where the clock does not help: more than it can have
/// written since. What upstream's guide to restoring etcd recommends.
const BUMP: u64 = 1_000_000_000;

/// The revision at which a cluster goes on that was saved at another one: later than any that a client can have
/// seen, also if the same file was restored before, here or elsewhere. The time in microseconds is, for no cluster
/// writes a million times a second for years; unless the clock is wrong. `replaced` is the newest revision of what
/// is replaced, where that can be read.
fn later(saved: Revision, replaced: Option<Revision>, now: SystemTime) -> Revision {
    let seen = saved.max(replaced.unwrap_or_default());
    let micros = now.duration_since(UNIX_EPOCH).map_or(0, |t| t.as_micros());
    match u64::try_from(micros) {
        Ok(micros) if micros > seen.0 => Revision(micros),
        _ => Revision(seen.0.saturating_add(BUMP)),
    }
}

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
        bail!(
            "{} holds no embedded store: give --data-dir another; what is in etcd is saved by `etcdctl snapshot save`",
            data_dir.display()
        );
    }
    Ok(store)
}

/// What to do about a file that cannot be restored.
fn about_file(error: Error) -> anyhow::Error {
    match error {
        Error::Corrupt { .. } => {
            anyhow!("{error}: give a file that `cluster snapshot save` wrote, and all of it")
        }
        error => advised(error),
    }
}

fn save(data_dir: &Path, file: &Path) -> anyhow::Result<String> {
    let saved = EmbeddedStore::save(store(data_dir)?, file).map_err(advised)?;
    Ok(format!("saved {}", shown(&saved)))
}

fn restore(data_dir: &Path, file: &Path) -> anyhow::Result<String> {
    // Before anything is moved.
    let saved = EmbeddedStore::check_backup(file)
        .map_err(about_file)?
        .revision;
    fs::create_dir_all(data_dir)
        .with_context(|| format!("cannot make the data directory {}", data_dir.display()))?;
    let layout = Layout::new(&fs::canonicalize(data_dir)?);
    let _claim = layout.claim()?;
    let (store, before) = (layout.store(), layout.store_before_restore());
    let beside = layout.store_restored();
    let mut replaced = None;
    if store.exists() {
        if before.exists() {
            bail!(
                "{} is left from an earlier restore: remove it",
                before.display()
            );
        }
        replaced = EmbeddedStore::check(&store)
            .ok()
            .map(|found| found.revision);
    }
    if beside.exists() {
        // An earlier attempt was interrupted.
        fs::remove_dir_all(&beside)
            .with_context(|| format!("cannot remove {}", beside.display()))?;
    }
    let bump = later(saved, replaced, SystemTime::now()).0 - saved.0;
    let restored = EmbeddedStore::restore(file, &beside, bump).map_err(about_file)?;
    if store.exists() {
        fs::rename(&store, &before).with_context(|| format!("cannot move {}", store.display()))?;
    }
    fs::rename(&beside, &store).with_context(|| format!("cannot move {}", beside.display()))?;
    fs::File::open(data_dir)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot write {}", data_dir.display()))?;
    let kept = if before.exists() {
        format!("; what was there is in {}", before.display())
    } else {
        String::new()
    };
    Ok(format!("restored {}{kept}", shown(&restored)))
}

fn check(data_dir: &Path, file: Option<&Path>) -> anyhow::Result<String> {
    let found = match file {
        Some(file) => EmbeddedStore::check_backup(file).map_err(about_file)?,
        None => EmbeddedStore::check(store(data_dir)?).map_err(advised)?,
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn no_two_restorations_are_at_one_revision_and_none_is_earlier_than_what_was_there() {
        let day = |n: u64| UNIX_EPOCH + Duration::from_hours(24 * n);
        let saved = Revision(5000);
        let first = later(saved, None, day(20_000));
        assert!(first.0 > saved.0 + BUMP);
        // The same file again, a day and many writes later, on a machine that knows nothing of the first time.
        assert!(later(saved, None, day(20_001)).0 > first.0 + 10_000_000_000);
        // The clock stands still, or is far behind.
        let written = Revision(first.0 + 300);
        assert_eq!(later(saved, Some(written), day(20_000)).0, written.0 + BUMP);
        assert_eq!(later(saved, None, UNIX_EPOCH).0, saved.0 + BUMP);
        // A cluster that was restored before is saved and restored again.
        assert!(later(written, None, day(20_000)) > written);
    }
}
