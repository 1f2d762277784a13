//! Watches: from a snapshot or from any revision that is still known, through selectors.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use k8s_store::Revision;
use tokio::{sync::watch, time::Instant};

use super::{Registry, Row, selection::Selection};
use crate::{
    Error, Result,
    cache::{Cache, Cursor, Entry, Event, EventType},
    http::options::{ListOptions, parse_resource_version},
};

/// How often a watcher that asked for bookmarks gets one, at least; as upstream.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long before its end a watch gets a last bookmark; as upstream.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// How many changes are taken from the ring at a time.
const BATCH: usize = 64;

/// What a watcher is told next.
#[derive(Debug)]
pub(crate) enum Told {
    /// An object came, changed or went. `shared` has its bytes where another watcher may have
    /// encoded them already.
    Change {
        event: EventType,
        entry: Arc<Entry>,
        revision: u64,
        shared: Option<Arc<Event>>,
    },
    /// The watcher has seen all there is up to a revision.
    Bookmark { revision: u64, initial_end: bool },
    /// The watch cannot go on.
    Failed(Error),
}

enum Source {
    /// The ring of the cache.
    Ring {
        cursor: Cursor,
        wake: watch::Receiver<u64>,
    },
    /// The store's history, until the ring takes over.
    History(k8s_store::WatchStream),
}

struct Watcher {
    registry: Arc<Registry>,
    row: Arc<Row>,
    selection: Selection,
    cache: Arc<Cache>,
    source: Source,
    queue: VecDeque<Told>,
    events: Vec<Arc<Event>>,
    /// Changes up to here were told or are older than what was asked for.
    seen: u64,
    bookmarks: bool,
    next_bookmark: Instant,
    last_bookmark: Instant,
    end: Instant,
    done: bool,
}

impl Registry {
    /// Opens a watch. It ends after its time-out, when the server shuts down, after an error, and
    /// when the watcher falls too far behind.
    pub(crate) async fn watch(
        self: &Arc<Self>,
        row: &Arc<Row>,
        namespace: &str,
        options: &ListOptions,
    ) -> Result<impl Stream<Item = Told> + Send + 'static + use<>> {
        let selection = Selection::new(row, namespace, options)?;
        let asked = parse_resource_version(&options.resource_version)?;
        let cache = self.caches.get(&row.prefix).await?;
        let mut queue = VecDeque::new();
        // A watch from nowhere begins with what there is; so does one that says so.
        let snapshot = options
            .send_initial_events
            .unwrap_or(matches!(asked, None | Some(0)));
        let wake = cache.subscribe();
        let (source, seen) = if snapshot {
            if asked != Some(0) {
                let newest = self.store.revision().await?.0;
                self.caches.wait_for(newest.max(asked.unwrap_or(0))).await?;
            }
            let at_least = self.caches.applied();
            let (entries, cursor) = if selection.one {
                let (entry, cursor) = cache.get(&selection.prefix);
                (entry.into_iter().collect(), cursor)
            } else {
                cache.snapshot(&selection.prefix)
            };
            let seen = entries
                .iter()
                .map(|e| e.revision)
                .max()
                .unwrap_or(0)
                .max(at_least);
            for entry in entries {
                if selection.matches_inside(row, &entry) {
                    let revision = entry.revision;
                    queue.push_back(Told::Change {
                        event: EventType::Added,
                        entry,
                        revision,
                        shared: None,
                    });
                }
            }
            if options.send_initial_events == Some(true) && options.bookmarks {
                queue.push_back(Told::Bookmark {
                    revision: seen,
                    initial_end: true,
                });
            }
            (Source::Ring { cursor, wake }, 0)
        } else {
            // `sendInitialEvents=false` without a version is from now on.
            let after = match asked {
                None | Some(0) => self.store.revision().await?.0,
                Some(asked) => asked,
            };
            match cache.cursor_after(after) {
                Some(cursor) => (Source::Ring { cursor, wake }, after),
                None => match self
                    .store
                    .watch(row.prefix.clone().into(), Revision(after))
                    .await
                {
                    Ok(stream) => (Source::History(stream), after),
                    Err(error) => {
                        queue.push_back(Told::Failed(watch_error(error, after)));
                        (
                            Source::Ring {
                                cursor: cache.snapshot(&Bytes::from_static(b"\xff")).1,
                                wake,
                            },
                            after,
                        )
                    }
                },
            }
        };
        let now = Instant::now();
        let seconds = options
            .timeout_seconds
            .filter(|s| *s > 0)
            .unwrap_or_else(|| {
                // Upstream's `--min-request-timeout`, up to twice that, so that watches do not all end at once.
                1800 + self.random.lock().u64(0..1800)
            });
        let watcher = Watcher {
            registry: self.clone(),
            row: row.clone(),
            selection,
            cache,
            source,
            queue,
            events: Vec::new(),
            seen,
            bookmarks: options.bookmarks,
            next_bookmark: now + BOOKMARK_EVERY,
            last_bookmark: now,
            end: now + Duration::from_secs(seconds),
            done: false,
        };
        Ok(stream::unfold(watcher, |mut watcher| async move {
            let told = watcher.next().await?;
            Some((told, watcher))
        }))
    }
}

impl Watcher {
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(told) = self.queue.pop_front() {
                self.done |= matches!(told, Told::Failed(_));
                return Some(told);
            }
            if self.done {
                return None;
            }
            let progress = self.registry.caches.applied();
            if !self.fill() {
                return None;
            }
            if !self.queue.is_empty() {
                continue;
            }
            let now = Instant::now();
            if now >= self.end {
                return None;
            }
            if self.bookmarks
                && matches!(self.source, Source::Ring { .. })
                && now >= self.bookmark_due()
            {
                self.last_bookmark = now;
                self.next_bookmark = now + BOOKMARK_EVERY;
                return Some(Told::Bookmark {
                    revision: progress.max(self.seen),
                    initial_end: false,
                });
            }
            self.wait().await;
        }
    }

    /// When the next bookmark is due: every minute, and shortly before the end.
    fn bookmark_due(&self) -> Instant {
        let last = self
            .end
            .checked_sub(BOOKMARK_BEFORE_END)
            .unwrap_or(self.end);
        if self.last_bookmark < last {
            self.next_bookmark.min(last)
        } else {
            self.next_bookmark
        }
    }

    /// Takes what is in the ring. False when the watch is over.
    fn fill(&mut self) -> bool {
        let Source::Ring { cursor, wake } = &mut self.source else {
            return true;
        };
        wake.mark_unchanged();
        if self.cache.read(cursor, BATCH, &mut self.events).is_err() {
            tracing::debug!(
                resource = self.row.resource.resource,
                "a slow watcher is disconnected"
            );
            return false;
        }
        if self.events.is_empty() {
            return !self.cache.is_closed();
        }
        for event in self.events.drain(..) {
            if event.revision > self.seen
                && let Some(told) = tell(&self.row, &self.selection, event)
            {
                self.queue.push_back(told);
            }
        }
        true
    }

    async fn wait(&mut self) {
        let bookmark = self.bookmarks.then(|| self.bookmark_due());
        let wake_at = bookmark.map_or(self.end, |b| b.min(self.end));
        match &mut self.source {
            Source::Ring { wake, .. } => {
                tokio::select! {
                    changed = wake.changed() => self.done |= changed.is_err(),
                    () = tokio::time::sleep_until(wake_at) => {}
                }
            }
            Source::History(stream) => {
                let batch = tokio::select! {
                    batch = stream.next() => batch,
                    () = tokio::time::sleep_until(wake_at) => return,
                };
                match batch {
                    Some(Ok(batch)) => {
                        self.take_history(&batch);
                        self.seen = self.seen.max(batch.revision.0);
                        // As soon as the ring reaches back far enough, it takes over.
                        if let Some(cursor) = self.cache.cursor_after(self.seen) {
                            self.source = Source::Ring {
                                cursor,
                                wake: self.cache.subscribe(),
                            };
                        }
                    }
                    Some(Err(error)) => self
                        .queue
                        .push_back(Told::Failed(watch_error(error, self.seen))),
                    None => self.done = true,
                }
            }
        }
    }

    fn take_history(&mut self, batch: &k8s_store::WatchBatch) {
        for change in batch.changes.iter() {
            let parse = |entry: &k8s_store::Entry| Entry::new(entry).ok().map(Arc::new);
            let event = Event::new(
                batch.revision.0,
                change.current.as_ref().and_then(parse),
                change.previous.as_ref().and_then(parse),
            );
            if let Some(told) = tell(&self.row, &self.selection, Arc::new(event)) {
                self.queue.push_back(told);
            }
        }
    }
}

/// What a change looks like through a selector: an object that comes to be selected is added, one
/// that ceases to be is deleted.
fn tell(row: &Row, selection: &Selection, event: Arc<Event>) -> Option<Told> {
    if !selection.matches_key(event.key()) || selection.is_nothing() {
        return None;
    }
    let selected = |entry: &Option<Arc<Entry>>| {
        entry
            .as_ref()
            .is_some_and(|e| selection.matches_inside(row, e))
    };
    let (now, before) = (selected(&event.current), selected(&event.previous));
    let kind = match (before, now) {
        (false, true) => EventType::Added,
        (true, true) => EventType::Modified,
        (true, false) => EventType::Deleted,
        (false, false) => return None,
    };
    let entry = event.object(kind)?.clone();
    Some(Told::Change {
        event: kind,
        entry,
        revision: event.revision,
        shared: Some(event),
    })
}

fn watch_error(error: k8s_store::Error, after: u64) -> Error {
    match error {
        k8s_store::Error::Compacted { oldest, .. } => {
            Error::expired(format!("too old resource version: {after} ({})", oldest.0))
        }
        error => error.into(),
    }
}
