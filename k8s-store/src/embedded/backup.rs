//! A store in one file, and back; and whether all of it can be read.
//!
//! A backup is a snapshot: see `docs/design.md`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, UNIX_EPOCH},
};

use super::{
    EmbeddedStore,
    directory::{self, Directory},
    log::Log,
    recovery, snapshot,
};
use crate::{
    Error, HistoryLimits, Revision, WatchLimits,
    state::{Clock, Head, Timer},
};

/// What a store or a backup holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inventory {
    /// The newest revision.
    pub revision: Revision,
    /// How many keys there are.
    pub keys: usize,
    /// The sum of the lengths of keys and values, in bytes.
    pub bytes: u64,
}

impl Inventory {
    fn of(head: &Head) -> Self {
        let records = head.tree.iter();
        let lengths = records.map(|record| record.entry.key.len() + record.entry.value.len());
        Self {
            revision: head.revision,
            keys: head.tree.len(),
            bytes: lengths.map(|length| length as u64).sum(),
        }
    }
}

/// How often to begin again when the store was changed while it was read.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

impl EmbeddedStore {
    /// Writes all data at the newest revision to a file, which replaces any of
    /// that name. Commits and reads go on meanwhile.
    ///
    /// History is not in it. [`restore`](Self::restore) brings it back.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`], and [`Error::Io`] on the file.
    pub async fn backup(&self, file: impl AsRef<Path>) -> Result<Inventory, Error> {
        let head = {
            let view = self.handle.shared.view.read();
            view.check_open()?;
            view.head.clone()
        };
        let file = file.as_ref().to_owned();
        tokio::task::spawn_blocking(move || write(&file, &head))
            .await
            .unwrap_or(Err(Error::Closed))
    }

    /// Like [`backup`](Self::backup), from outside: the directory may be open
    /// in another process, or not at all. Blocks the thread.
    ///
    /// Everything acknowledged before the call is in the file.
    ///
    /// # Errors
    ///
    /// [`Error::Version`], [`Error::Corrupt`] and [`Error::Io`].
    pub fn save(dir: impl AsRef<Path>, file: impl AsRef<Path>) -> Result<Inventory, Error> {
        write(file.as_ref(), &read(dir.as_ref())?)
    }

    /// Makes a directory with the data of a backup. Blocks the thread.
    ///
    /// Its revision is `bump` more than the backup's, and history begins there.
    /// So nobody who has seen the store after the backup was made takes old for
    /// new: choose more than it can have had commits since. The keys keep the
    /// revisions that they had.
    ///
    /// The directory must be missing or empty. It is made as a whole or not at
    /// all.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] if the backup is damaged or none, [`Error::Version`] if it is of a later
    /// format, [`Error::Locked`] if somebody else restores to the same place, [`Error::Io`].
    pub fn restore(
        file: impl AsRef<Path>,
        dir: impl AsRef<Path>,
        bump: u64,
    ) -> Result<Inventory, Error> {
        let dir = dir.as_ref();
        let mut head = snapshot::read(file.as_ref(), None)?.head;
        head.revision = Revision(head.revision.0.saturating_add(bump));

        let mut staging = dir.as_os_str().to_owned();
        staging.push(".restoring");
        let staging = PathBuf::from(staging);
        let io = Error::io(&staging);
        match fs::remove_dir_all(&staging) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => {}
        }
        let directory = Directory::lock(&staging)?;
        snapshot::write(
            &directory.snapshot(head.revision),
            &head,
            &AtomicBool::new(false),
        )?;
        Log::create(&directory, Revision(head.revision.0 + 1))?;
        directory.seal()?;
        fs::rename(&staging, dir).map_err(Error::io(dir))?;
        directory::sync_dir(directory::parent(dir))?;
        Ok(Inventory::of(&head))
    }

    /// Reads all that a store's directory holds and checks it against its
    /// checksums. Changes nothing; the directory may be open. Blocks the thread.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] names the file and where in it; [`Error::Version`],
    /// [`Error::Io`].
    pub fn check(dir: impl AsRef<Path>) -> Result<Inventory, Error> {
        Ok(Inventory::of(&read(dir.as_ref())?))
    }

    /// The same for a backup.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`], [`Error::Version`], [`Error::Io`].
    pub fn check_backup(file: impl AsRef<Path>) -> Result<Inventory, Error> {
        Ok(Inventory::of(&snapshot::read(file.as_ref(), None)?.head))
    }
}

fn write(file: &Path, head: &Head) -> Result<Inventory, Error> {
    snapshot::write(file, head, &AtomicBool::new(false))?;
    Ok(Inventory::of(head))
}

/// Reads a directory that somebody may be writing to.
fn read(dir: &Path) -> Result<Head, Error> {
    let mut tries = 0;
    loop {
        let directory = Directory::peek(dir)?;
        let timer = Timer::new(Clock::starting_at(UNIX_EPOCH));
        let found = recovery::read(
            &directory,
            HistoryLimits::default(),
            WatchLimits::default(),
            &timer,
        );
        match found {
            Ok(found) => return Ok(found.view.head),
            // A file was removed, or was written to while it was read.
            Err(error @ (Error::Io { .. } | Error::Corrupt { .. })) => {
                tries += 1;
                if tries == TRIES {
                    return Err(error);
                }
                thread::sleep(PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{EmbeddedOptions, Expect, List, Op, Store, Write};

    fn put(key: String, value: String) -> Write {
        Write {
            key: key.into(),
            expect: Expect::Any,
            op: Op::Put {
                value: value.into(),
                ttl: None,
            },
        }
    }

    async fn filled(dir: &Path, count: usize) -> EmbeddedStore {
        let store = EmbeddedStore::open(dir).await.unwrap();
        for n in 0..count {
            store
                .commit(vec![put(format!("k{n}"), format!("v{n}"))])
                .await
                .unwrap();
        }
        store
    }

    #[tokio::test]
    async fn a_restored_store_has_the_data_and_later_revisions() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to, file) = (
            dir.path().join("a"),
            dir.path().join("b"),
            dir.path().join("f"),
        );
        let store = filled(&from, 100).await;
        let before = store.list(List::default()).await.unwrap();
        let saved = store.backup(&file).await.unwrap();
        assert_eq!((saved.revision, saved.keys), (Revision(101), 100));
        store
            .commit(vec![put("k1".into(), "later".into())])
            .await
            .unwrap();

        let restored = EmbeddedStore::restore(&file, &to, 1000).unwrap();
        assert_eq!(restored.revision, Revision(1101));
        let store = EmbeddedStore::open(&to).await.unwrap();
        let after = store.list(List::default()).await.unwrap();
        assert_eq!(
            (after.revision, after.entries),
            (Revision(1101), before.entries)
        );
        // Whoever saw the store after the backup was made has to list again.
        let stale = store.watch(Bytes::new(), Revision(102)).await.map(|_| ());
        assert!(matches!(stale, Err(Error::Compacted { .. })), "{stale:?}");
        let done = store
            .commit(vec![put("k1".into(), "x".into())])
            .await
            .unwrap();
        assert_eq!(done.revision, Revision(1102));
        store.close().await.unwrap();
        assert_eq!(EmbeddedStore::check(&to).unwrap().revision, Revision(1102));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_store_can_be_saved_from_outside_while_it_is_written_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let options = EmbeddedOptions {
            // Files come and go all the time.
            snapshot_after: 4000,
            ..EmbeddedOptions::default()
        };
        let store = EmbeddedStore::open_with(&path, options).await.unwrap();
        let writer = tokio::spawn({
            let store = store.clone();
            async move {
                for n in 0.. {
                    let write = put(format!("k{}", n % 50), format!("{n}"));
                    if store.commit(vec![write]).await.is_err() {
                        return;
                    }
                }
            }
        });
        for n in 0..20 {
            let before = store.revision().await.unwrap();
            let (path, file) = (path.clone(), dir.path().join(format!("f{n}")));
            let saved = tokio::task::spawn_blocking(move || {
                let saved = EmbeddedStore::save(&path, &file)?;
                assert_eq!(EmbeddedStore::check_backup(&file)?, saved);
                Ok::<_, Error>(saved)
            });
            assert!(saved.await.unwrap().unwrap().revision >= before);
        }
        store.close().await.unwrap();
        writer.await.unwrap();
    }

    #[tokio::test]
    async fn damage_is_found_in_a_store_and_in_a_backup_and_nothing_is_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, file) = (dir.path().join("a"), dir.path().join("f"));
        let store = filled(&path, 20).await;
        store.backup(&file).await.unwrap();
        store.close().await.unwrap();
        drop(store);
        let log = path.join("0000000000000002.log");
        for file in [&log, &file] {
            let whole = fs::read(file).unwrap();
            let mut bytes = whole.clone();
            bytes[whole.len() / 2] ^= 1;
            fs::write(file, &bytes).unwrap();
        }
        let found = EmbeddedStore::check(&path);
        assert!(matches!(found, Err(Error::Corrupt { file, .. }) if file == log));
        let to = dir.path().join("b");
        let restored = EmbeddedStore::restore(&file, &to, 1);
        assert!(
            matches!(restored, Err(Error::Corrupt { .. })),
            "{restored:?}"
        );
        assert!(!to.exists());
    }

    #[tokio::test]
    async fn a_backup_of_a_later_format_is_told_from_a_damaged_one() {
        let dir = tempfile::tempdir().unwrap();
        let (path, file) = (dir.path().join("a"), dir.path().join("f"));
        filled(&path, 3).await.backup(&file).await.unwrap();
        let mut bytes = fs::read(&file).unwrap();
        bytes[7] += 1;
        fs::write(&file, &bytes).unwrap();
        let error = EmbeddedStore::restore(&file, dir.path().join("b"), 1).unwrap_err();
        let (found, supported) = match &error {
            Error::Version {
                found, supported, ..
            } => (found.as_str(), *supported),
            other => panic!("{other}"),
        };
        assert_eq!((found, supported), ("2", 1));
    }

    #[tokio::test]
    async fn a_store_is_not_restored_over() {
        let dir = tempfile::tempdir().unwrap();
        let (path, file) = (dir.path().join("a"), dir.path().join("f"));
        let store = filled(&path, 3).await;
        store.backup(&file).await.unwrap();
        drop(store);
        let restored = EmbeddedStore::restore(&file, &path, 1);
        assert!(matches!(restored, Err(Error::Io { .. })), "{restored:?}");
        assert_eq!(EmbeddedStore::check(&path).unwrap().revision, Revision(4));
    }
}
