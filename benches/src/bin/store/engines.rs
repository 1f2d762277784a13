//! Other engines in the place of the embedded store's log: one thread that writes what has come in
//! the meantime, and waits for the disk, for 64 writers and for one.

use std::{
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use fjall::{Database, KeyspaceCreateOptions, PersistMode};

use crate::{VALUE, figure, key, micros};

const FOR: Duration = Duration::from_secs(5);
const TABLE: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("data");

/// Writes a group of keys such that it is on disk.
trait Engine: Send + 'static {
    fn commit(&mut self, group: &[usize]) -> anyhow::Result<()>;
}

struct Redb(redb::Database);

impl Engine for Redb {
    fn commit(&mut self, group: &[usize]) -> anyhow::Result<()> {
        let transaction = self.0.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for n in group {
                table.insert(key(*n).as_bytes(), &[b'v'; VALUE][..])?;
            }
        }
        Ok(transaction.commit()?)
    }
}

struct Fjall(Database, fjall::Keyspace);

impl Engine for Fjall {
    fn commit(&mut self, group: &[usize]) -> anyhow::Result<()> {
        let mut batch = self.0.batch();
        for n in group {
            batch.insert(&self.1, key(*n), [b'v'; VALUE]);
        }
        batch.commit()?;
        Ok(self.0.persist(PersistMode::SyncData)?)
    }
}

pub(crate) fn measure(folder: &Path) -> anyhow::Result<()> {
    let redb = redb::Database::create(folder.join("redb")).context("redb")?;
    run("redb", Redb(redb))?;
    let fjall = Database::builder(folder.join("fjall"))
        .open()
        .context("fjall")?;
    let keyspace = fjall.keyspace("data", KeyspaceCreateOptions::default)?;
    run("fjall", Fjall(fjall, keyspace))
}

fn run(name: &str, mut engine: impl Engine) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for n in 0..2_000 {
        let begun = Instant::now();
        engine.commit(&[n])?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    figure(
        &format!("{name}: one writer, p50"),
        micros(times[times.len() / 2]),
        "",
    );

    let (sender, receiver) = mpsc::channel::<(usize, mpsc::Sender<()>)>();
    let begun = Instant::now();
    let writers: Vec<_> = (0..64)
        .map(|writer| {
            let sender = sender.clone();
            thread::spawn(move || {
                let mut count = 0;
                while begun.elapsed() < FOR {
                    let (done, answer) = mpsc::channel();
                    if sender.send(((writer + 64 * count) % 50_000, done)).is_err()
                        || answer.recv().is_err()
                    {
                        break;
                    }
                    count += 1;
                }
                count
            })
        })
        .collect();
    drop(sender);
    while let Ok(first) = receiver.recv() {
        let group: Vec<_> = std::iter::once(first).chain(receiver.try_iter()).collect();
        let keys: Vec<_> = group.iter().map(|(n, _)| *n).collect();
        engine.commit(&keys)?;
        for (_, done) in group {
            let _ = done.send(());
        }
    }
    let count: usize = writers
        .into_iter()
        .filter_map(|writer| writer.join().ok())
        .sum();
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    figure(
        &format!("{name}: durable puts, 64 writers"),
        format!("{rate:.0} /s"),
        "",
    );
    Ok(())
}
