//! Watches: from a snapshot or from any revision that is still known, through selectors.

use std::{
    collections::{HashMap, VecDeque},
    future::poll_fn,
    ops::ControlFlow,
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use futures::{Future, Stream, StreamExt, stream};
use k8s_store::Revision;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Registry, Row, selection::Selection, value::Corrupt};
use crate::{
    Error, Result,
    cache::{Cache, Entry, Event, EventType, Place},
    http::options::{ListOptions, parse_resource_version},
};

/// How often a watcher that asked for bookmarks gets one, at least; as upstream.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// How long before its end a watch gets a last bookmark; as upstream.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);
/// How many changes are taken from the ring at a time, and how many are sent together.
const BATCH: usize = 64;

/// What a watcher is told next.
#[derive(Debug)]
pub(crate) enum Told {
    /// An object was there when the watch began.
    Existing(Arc<Entry>),
    /// An object came, changed or went.
    Change(EventType, Arc<Event>),
    /// The watcher has seen all there is up to a revision.
    Bookmark { revision: u64, initial_end: bool },
    /// The watch cannot go on.
    Failed(Error),
}

/// Writes what a watcher is told, as it wants it.
pub(crate) trait Writer: Send + 'static {
    /// Several events of what is wanted, as one piece.
    fn write(&mut self, want: &Want, told: &[Told]) -> Bytes;

    /// What it shares with all who write the same of the same events; nothing if it remembers what
    /// it wrote before.
    fn manner(&self) -> Option<String>;
}

enum Source {
    /// The ring of the cache.
    Ring(Place),
    /// The store's history, until the ring of the cache takes over.
    History(k8s_store::WatchStream, Arc<Cache>),
}

/// What somebody watches. Watchers who want the same of a row share one.
#[derive(Debug)]
pub(crate) struct Want {
    pub(crate) registry: Arc<Registry>,
    pub(crate) row: Arc<Row>,
    selection: Selection,
    /// What is selected, and how it is written; nothing if it is written for each watcher anew.
    manner: Option<Arc<str>>,
    /// The server shuts down: nothing is sent any more.
    draining: CancellationToken,
}

/// From how many wants on those are forgotten that nobody has any more.
const WANTS: usize = 64;

/// What is watched of a row, by its manner.
#[derive(Debug, Default)]
pub(crate) struct Wants(Mutex<HashMap<Arc<str>, Weak<Want>>>);

impl Wants {
    /// The one of that manner, made if nobody has it.
    fn share(&self, manner: &str, make: impl FnOnce(Arc<str>) -> Want) -> Arc<Want> {
        let mut known = self.0.lock();
        if let Some(want) = known.get(manner).and_then(Weak::upgrade) {
            return want;
        }
        if known.len() >= WANTS {
            known.retain(|_, want| want.strong_count() > 0);
        }
        let manner: Arc<str> = manner.into();
        let want = Arc::new(make(manner.clone()));
        known.insert(manner, Arc::downgrade(&want));
        want
    }
}

/// What a watcher waits for.
#[derive(Clone, Copy)]
enum Wait {
    /// That it is told of further changes in the ring.
    Ring,
    /// What comes next in the history of the store.
    History,
    /// That a webhook converts what is in the queue.
    Conversion,
}

struct Watcher<W> {
    want: Arc<Want>,
    source: Source,
    writer: W,
    queue: VecDeque<Told>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Changes up to here were told or are older than what was asked for.
    seen: u64,
    bookmarks: bool,
    last_bookmark: Instant,
    end: Instant,
    done: bool,
}

impl Registry {
    /// Opens a watch. It ends after its time-out, when the server shuts down, after an error, and
    /// when the watcher falls too far behind.
    pub(crate) async fn watch<W: Writer>(
        self: &Arc<Self>,
        row: &Arc<Row>,
        namespace: &str,
        options: &ListOptions,
        writer: W,
        draining: &CancellationToken,
    ) -> Result<impl Stream<Item = Bytes> + Send + 'static + use<W>> {
        let selection = Selection::new(row, namespace, options)?;
        let interest = selection.interest(row);
        let asked = parse_resource_version(&options.resource_version)?;
        let mut queue = VecDeque::new();
        // A watch from nowhere begins with what there is; so does one that says so.
        let snapshot = options
            .send_initial_events
            .unwrap_or(matches!(asked, None | Some(0)));
        let (source, seen) = if snapshot {
            let read = |cache: &Arc<Cache>| cache.follow(&selection.prefix, &interest);
            let (at_least, (entries, place)) = self.caches.read(&row.prefix, asked, read).await?;
            let seen = entries
                .iter()
                .map(|e| e.revision)
                .max()
                .unwrap_or(0)
                .max(at_least);
            for entry in entries {
                if selection.matches_inside(row, &entry)? {
                    queue.push_back(Told::Existing(entry));
                }
            }
            if options.send_initial_events == Some(true) && options.bookmarks {
                queue.push_back(Told::Bookmark {
                    revision: seen,
                    initial_end: true,
                });
            }
            (Source::Ring(place), 0)
        } else {
            let cache = self.caches.get(&row.prefix).await?;
            // `sendInitialEvents=false` without a version is from now on.
            let after = match asked {
                None | Some(0) => self.store.revision().await?.0,
                Some(asked) => asked,
            };
            match cache.follow_after(after, &interest) {
                Some(place) => (Source::Ring(place), after),
                None => match self
                    .store
                    .watch(row.prefix.clone().into(), Revision(after))
                    .await
                {
                    Ok(stream) => (Source::History(stream, cache), after),
                    Err(error) => {
                        queue.push_back(Told::Failed(watch_error(error, after)));
                        (Source::History(stream::empty().boxed(), cache), after)
                    }
                },
            }
        };
        let now = Instant::now();
        let seconds = match options.timeout_seconds {
            // Upstream's `--min-request-timeout`, up to twice that, so that watches do not all end at once. Not by the
            // seed: how many watches there are would decide about UIDs.
            None | Some(0) => 1800 + fastrand::u64(0..1800),
            // Less than none is over at once.
            Some(seconds) => u64::from(u32::try_from(seconds.max(0)).unwrap_or(u32::MAX)),
        };
        // What a webhook converts is written for each watcher anew.
        let manner = writer.manner().filter(|_| !row.asks_webhook());
        let want = |manner| Want {
            registry: self.clone(),
            row: row.clone(),
            selection,
            manner,
            draining: draining.clone(),
        };
        let want = match manner {
            None => Arc::new(want(None)),
            Some(manner) => {
                let selected = [namespace, &options.label_selector, &options.field_selector];
                let manner = format!("{} {manner} {selected:?}", row.api_version);
                row.wants.share(&manner, |manner| want(Some(manner)))
            }
        };
        let watcher = Watcher {
            want,
            source,
            writer,
            queue,
            timer: None,
            seen,
            bookmarks: options.bookmarks,
            last_bookmark: now,
            end: now + Duration::from_secs(seconds),
            done: false,
        };
        // Many wait in here: what is rare and large when it is waited for has a box of its own.
        Ok(stream::unfold(watcher, |mut watcher| async move {
            loop {
                let wait = match watcher.step() {
                    ControlFlow::Break(sent) => return Some((sent?, watcher)),
                    ControlFlow::Continue(wait) => wait,
                };
                match wait {
                    Wait::Ring => watcher.listen().await,
                    Wait::History => Box::pin(watcher.follow()).await,
                    Wait::Conversion => {
                        let bytes = Box::pin(watcher.convert()).await;
                        return Some((bytes, watcher));
                    }
                }
            }
        }))
    }
}

/// What watchers are told, with the objects in a version that can be decoded: see [`Row::settle`].
async fn settle(row: &Row, told: Vec<Told>) -> Vec<Told> {
    let entry = |told: &Told| match told {
        Told::Existing(entry) => Some(entry.clone()),
        Told::Change(kind, event) => event.object(*kind).cloned(),
        Told::Bookmark { .. } | Told::Failed(_) => None,
    };
    let mut entries: Vec<Arc<Entry>> = told.iter().filter_map(entry).collect();
    if let Err(error) = row.settle_entries(&mut entries).await {
        return vec![Told::Failed(error)];
    }
    let mut entries = entries.into_iter();
    let settled = told.into_iter().map(|told| match told {
        Told::Existing(entry) => Told::Existing(entries.next().unwrap_or(entry)),
        Told::Change(kind, event) => match event.object(kind).and_then(|_| entries.next()) {
            Some(entry) => {
                let (now, before) = (Some(entry.clone()), Some(entry));
                Told::Change(kind, Arc::new(Event::new(event.revision, now, before)))
            }
            None => Told::Change(kind, event),
        },
        told => told,
    });
    settled.collect()
}

impl<W: Writer> Watcher<W> {
    /// What is there to be sent, or nothing at the end; what to wait for if there is neither.
    fn step(&mut self) -> ControlFlow<Option<Bytes>, Wait> {
        loop {
            if self.want.draining.is_cancelled() {
                return ControlFlow::Break(None);
            }
            if !self.queue.is_empty() {
                if self.want.row.asks_webhook() {
                    return ControlFlow::Continue(Wait::Conversion);
                }
                let told = self.take_queue();
                return ControlFlow::Break(Some(self.write(&told)));
            }
            if self.done {
                return ControlFlow::Break(None);
            }
            let now = Instant::now();
            let progress = self.want.registry.caches.applied();
            let bookmark = self.bookmarks && now >= self.bookmark_due();
            let bookmark = bookmark && self.catch_up();
            match self.read_on() {
                Some(bytes) if bytes.is_empty() => continue,
                Some(bytes) => return ControlFlow::Break(Some(bytes)),
                None if self.done || now >= self.end => return ControlFlow::Break(None),
                None => {}
            }
            if bookmark {
                self.last_bookmark = now;
                let bookmark = Told::Bookmark {
                    revision: progress.max(self.seen),
                    initial_end: false,
                };
                return ControlFlow::Break(Some(self.write(&[bookmark])));
            }
            // Whoever begins to drain wakes all after that: those who have read on before it are woken, and those who
            // do after it see it here.
            if self.want.draining.is_cancelled() {
                return ControlFlow::Break(None);
            }
            self.set_timer();
            return ControlFlow::Continue(match self.source {
                Source::Ring(_) => Wait::Ring,
                Source::History(..) => Wait::History,
            });
        }
    }

    /// Writes what is told. After an error there is no more.
    fn write(&mut self, told: &[Told]) -> Bytes {
        self.done |= told.iter().any(|told| matches!(told, Told::Failed(_)));
        self.writer.write(&self.want, told)
    }

    /// Some of what waits to be told.
    fn take_queue(&mut self) -> Vec<Told> {
        let some = self.queue.len().min(BATCH);
        let told: Vec<Told> = self.queue.drain(..some).collect();
        if self.queue.is_empty() {
            // It may have been long, and most of the time there is nothing.
            self.queue = VecDeque::new();
        }
        told
    }

    /// When the next bookmark is due: every minute, and shortly before the end.
    fn bookmark_due(&self) -> Instant {
        let last = self
            .end
            .checked_sub(BOOKMARK_BEFORE_END)
            .unwrap_or(self.end);
        let next = self.last_bookmark + BOOKMARK_EVERY;
        if self.last_bookmark < last {
            next.min(last)
        } else {
            next
        }
    }

    /// Has what comes next be everything in the ring, as a bookmark must come after it. False if another source is
    /// read still.
    fn catch_up(&mut self) -> bool {
        match &mut self.source {
            Source::Ring(place) => {
                place.catch_up();
                true
            }
            Source::History(..) => false,
        }
    }

    /// What is next in the ring, which may be nothing that is selected. None if it has no more.
    fn read_on(&mut self) -> Option<Bytes> {
        let Source::Ring(place) = &mut self.source else {
            return None;
        };
        // Who watches the same as others is mostly at the same place as they, too: what the first of
        // them writes of it serves all.
        if let Some(manner) = &self.want.manner
            && let Some(written) = place.written(manner, self.seen)
        {
            return Some(written);
        }
        let from = place.next();
        let mut events = Vec::new();
        if place.read(BATCH, &mut events).is_err() {
            let resource = self.want.row.resource.resource;
            tracing::debug!(resource, "a slow watcher is disconnected");
            self.done = true;
            return None;
        }
        let Some(first) = events.first().map(|event| event.revision) else {
            self.done |= place.cache.is_closed();
            return None;
        };
        let mut told: Vec<Told> = (events.into_iter())
            .filter(|event| event.revision > self.seen)
            .filter_map(|event| tell(&self.want.row, &self.want.selection, event))
            .collect();
        if let Some(at) = told.iter().position(|told| matches!(told, Told::Failed(_))) {
            told.truncate(at + 1);
            self.queue.extend(told);
            return Some(Bytes::new());
        }
        let bytes = if told.is_empty() {
            Bytes::new()
        } else if self.want.row.asks_webhook() {
            // That takes time: it is told from the queue.
            self.queue.extend(told);
            return Some(Bytes::new());
        } else {
            self.writer.write(&self.want, &told)
        };
        if let Some(manner) = self.want.manner.as_ref().filter(|_| first > self.seen) {
            place.keep(manner, from, first, &bytes);
        }
        Some(bytes)
    }

    /// Has the timer tell of the next bookmark or of the end.
    fn set_timer(&mut self) {
        let tells = self.bookmarks && matches!(self.source, Source::Ring(_));
        let bookmark = tells.then(|| self.bookmark_due());
        let wake_at = bookmark.map_or(self.end, |b| b.min(self.end));
        // One for the whole watch: timers are kept in a place that all threads share.
        let new = || Box::pin(sleep_until(wake_at));
        let timer = self.timer.get_or_insert_with(new);
        if timer.deadline() != wake_at {
            timer.as_mut().reset(wake_at);
        }
    }

    async fn listen(&mut self) {
        if let (Source::Ring(place), Some(timer)) = (&mut self.source, &mut self.timer) {
            let mut changed = pin!(place.changed());
            let changed = poll_fn(move |cx| match timer.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(true),
                Poll::Pending => changed.as_mut().poll(cx).map(|changed| changed.is_ok()),
            });
            self.done |= !changed.await;
        }
    }

    /// What is in the queue, as a webhook converts it.
    async fn convert(&mut self) -> Bytes {
        let told = self.take_queue();
        let told = settle(&self.want.row, told).await;
        self.write(&told)
    }

    async fn follow(&mut self) {
        let (Source::History(stream, cache), Some(timer)) = (&mut self.source, &mut self.timer)
        else {
            return;
        };
        let batch = tokio::select! {
            batch = stream.next() => batch,
            () = timer => return,
            () = self.want.draining.cancelled() => return,
        };
        let cache = cache.clone();
        match batch {
            Some(Ok(batch)) => {
                self.take_history(&batch);
                self.seen = self.seen.max(batch.revision.0);
                // As soon as the ring reaches back far enough, it takes over.
                let interest = self.want.selection.interest(&self.want.row);
                if let Some(place) = cache.follow_after(self.seen, &interest) {
                    self.source = Source::Ring(place);
                }
            }
            Some(Err(error)) => self
                .queue
                .push_back(Told::Failed(watch_error(error, self.seen))),
            None => self.done = true,
        }
    }

    fn take_history(&mut self, batch: &k8s_store::WatchBatch) {
        for change in batch.changes.iter() {
            let parse = |entry: &k8s_store::Entry| Entry::new(entry).map(Arc::new);
            let (revision, previous) = (batch.revision.0, change.previous.as_ref().map(parse));
            let event = match change.current.as_ref().map(parse).transpose() {
                Ok(current) => Event::new(revision, current, previous.and_then(Result::ok)),
                Err(error) => Event::unreadable(revision, change.key.clone(), error),
            };
            let Some(told) = tell(&self.want.row, &self.want.selection, Arc::new(event)) else {
                continue;
            };
            let last = matches!(told, Told::Failed(_));
            self.queue.push_back(told);
            if last {
                return;
            }
        }
    }
}

/// What a change looks like through a selector: an object that comes to be selected is added, one
/// that ceases to be is deleted. What cannot be read may be selected, and is not gone: it ends the watch.
fn tell(row: &Row, selection: &Selection, event: Arc<Event>) -> Option<Told> {
    if !selection.matches_key(event.key()) || selection.is_nothing() {
        return None;
    }
    if let Some(fault) = event.fault() {
        return Some(Told::Failed(unknown(fault)));
    }
    let selected = |entry: &Option<Arc<Entry>>| match entry {
        Some(entry) => selection.matches_inside(row, entry),
        None => Ok(false),
    };
    let now = match selected(&event.current) {
        Ok(now) => now,
        Err(error) => return Some(Told::Failed(unknown(&error))),
    };
    // Who heard of it before could read it.
    let before = selected(&event.previous).unwrap_or(false);
    let kind = match (before, now) {
        (false, true) => EventType::Added,
        (true, true) => EventType::Modified,
        (true, false) => EventType::Deleted,
        (false, false) => return None,
    };
    event.object(kind)?;
    Some(Told::Change(kind, event))
}

/// That nobody can tell what changed. The watcher is to list again, which says the same as long as it is so: from where
/// it was it would come to this change for ever.
fn unknown(error: &Corrupt) -> Error {
    Error::expired(error.to_string())
}

fn watch_error(error: k8s_store::Error, after: u64) -> Error {
    match error {
        k8s_store::Error::Compacted { oldest, .. } => {
            Error::expired(format!("too old resource version: {after} ({})", oldest.0))
        }
        error => error.into(),
    }
}
