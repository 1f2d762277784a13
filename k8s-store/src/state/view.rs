//! What readers and watchers see of a store.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    Head, HistoryLimits, Tree, WatchLimits,
    history::{Before, History, Past},
    registry::{Registry, Watcher},
    watcher::Feed,
};
use crate::{Entry, Error, List, Page, Revision, WatchBatch, WatchStream};

/// Everything that has been committed, and those who watch it.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) head: Head,
    history: History,
    registry: Registry,
    published: Arc<AtomicU64>,
    watch: WatchLimits,
    closed: bool,
}

impl View {
    /// A view of data without any history.
    pub(crate) fn new(head: Head, history: HistoryLimits, watch: WatchLimits) -> Self {
        Self {
            history: History::starting_at(head.revision, history),
            registry: Registry::default(),
            published: Arc::new(AtomicU64::new(head.revision.0)),
            head,
            watch,
            closed: false,
        }
    }

    /// The same data and history, with no watchers yet.
    pub(crate) fn fork(&self) -> Self {
        Self {
            head: self.head.clone(),
            history: self.history.clone(),
            registry: Registry::default(),
            published: Arc::new(AtomicU64::new(self.head.revision.0)),
            watch: self.watch,
            closed: self.closed,
        }
    }

    /// Makes batches known that led to the data in `self.head`.
    pub(crate) fn publish(&mut self, batches: &[WatchBatch]) {
        self.history.extend(batches.iter().cloned());
        for batch in batches {
            self.registry.notify(batch);
        }
        self.published
            .store(self.head.revision.0, Ordering::Release);
    }

    /// Ends every watch, and everything else.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.registry.clear();
    }

    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.closed {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    pub(crate) fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        self.check_open()?;
        match at {
            Some(at) if at != self.head.revision => {
                self.history.check(at, self.head.revision)?;
                Ok(self.history.get(&self.head, key, at))
            }
            _ => Ok(self.head.tree.get(key).map(|record| record.entry.clone())),
        }
    }

    /// A page of what there is now, if it is of a few entries or none.
    ///
    /// As long as a [`Source`] lives, whoever commits copies what it changes. That is not worth it for these, which are
    /// most: for a pod alone, five lists are looked into that hardly ever have anything.
    pub(crate) fn page_of_few(&self, list: &List) -> Result<Option<Page>, Error> {
        self.check_open()?;
        if list.at.is_some_and(|at| at != self.head.revision) {
            return Ok(None);
        }
        let tree = &self.head.tree;
        // Often there is nothing, which needs no counting.
        if !tree.has(&list.prefix) {
            return Ok(Some(Page {
                revision: self.head.revision,
                ..Page::default()
            }));
        }
        let is_short = tree.count(&list.prefix) <= FEW;
        Ok(is_short.then(|| page(tree, &[], self.head.revision, list)))
    }

    /// What a list needs; the work itself is done without the view.
    pub(crate) fn source(&self, at: Option<Revision>) -> Result<Source, Error> {
        self.check_open()?;
        match at {
            Some(at) if at != self.head.revision => {
                self.history.check(at, self.head.revision)?;
                Ok(Source::Past(self.history.past(&self.head, at)))
            }
            _ => Ok(Source::Present(self.head.clone())),
        }
    }

    /// Checks whether history before a revision may be forgotten.
    pub(crate) fn check_compact(&self, revision: Revision) -> Result<(), Error> {
        self.check_open()?;
        self.history.check(revision, self.head.revision)
    }

    pub(crate) fn compact(&mut self, revision: Revision) {
        self.history.compact(revision);
    }

    pub(crate) fn watch(&mut self, prefix: Bytes, after: Revision) -> Result<WatchStream, Error> {
        self.check_open()?;
        self.history.check(after, self.head.revision)?;
        let (sender, receiver) = mpsc::channel(self.watch.buffer.max(1));
        let lagged = Arc::default();
        let feed = Feed {
            prefix: prefix.clone(),
            past: self.history.since(after).cloned().collect::<VecDeque<_>>(),
            seen: after,
            until: self.head.revision,
            receiver,
            lagged: Arc::clone(&lagged),
            published: Arc::clone(&self.published),
            progress: self.watch.progress,
        };
        self.registry.add(prefix, Watcher { sender, lagged });
        Ok(feed.into_stream())
    }
}

/// How many entries are listed while others wait for the view: it takes a microsecond.
const FEW: usize = 16;

/// The data that a list reads.
#[derive(Debug)]
pub(crate) enum Source {
    Present(Head),
    Past(Past),
}

impl Source {
    pub(crate) fn page(self, list: &List) -> Page {
        match self {
            Self::Present(head) => page(&head.tree, &[], head.revision, list),
            Self::Past(past) => page(&past.tree, &past.before(&list.prefix), past.at, list),
        }
    }
}

/// A page of a tree's entries, but of those `before` which are named there.
fn page(tree: &Tree, before: &[Before<'_>], revision: Revision, list: &List) -> Page {
    let prefix = &*list.prefix;
    let from = match &list.after {
        // The smallest key greater than `after` is `after` and a zero byte.
        Some(after) if **after >= *prefix => [after, &[0][..]].concat(),
        _ => prefix.to_vec(),
    };
    let before = &before[before.partition_point(|before| **before.key < *from)..];
    let mut records = tree
        .range_from(&from)
        .map(|record| &record.entry)
        .peekable();
    // Often there is nothing, which needs no counting.
    let now = match records.peek() {
        Some(record) if record.key.starts_with(prefix) => {
            tree.rank_of_end(prefix).saturating_sub(tree.rank(&from))
        }
        _ => 0,
    };
    let gone = before.iter().filter(|before| before.exists).count();
    let back = before.iter().filter(|b| b.entry.is_some()).count();
    let all = (now + back).saturating_sub(gone);
    let count = list.limit.map_or(all, |limit| limit.min(all));

    let mut entries = Vec::with_capacity(count);
    let mut before = before.iter().peekable();
    while entries.len() < count {
        // Whichever comes first; where both have the key, what was before.
        let entry = match (records.peek(), before.peek()) {
            (Some(record), Some(past)) if record.key < *past.key => records.next(),
            (record, Some(past)) => {
                if record.is_some_and(|record| record.key == *past.key) {
                    records.next();
                }
                before.next().and_then(|past| past.entry)
            }
            (_, None) => match records.next() {
                Some(record) => Some(record),
                None => break,
            },
        };
        entries.extend(entry.cloned());
    }
    Page {
        revision,
        entries,
        remaining: all - count,
    }
}
