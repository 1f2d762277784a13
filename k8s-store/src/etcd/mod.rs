//! The backend that keeps everything in an etcd cluster.

mod client;
mod fault;
mod keys;
mod lease;
mod proto;
mod txn;
mod watch;

use std::{collections::VecDeque, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch as channel;
use tonic::Status;

use self::{
    client::{Backoff, Client, Kind},
    fault::{Fault, fault},
    keys::Keys,
    lease::Leases,
    proto::{CompactionRequest, Nothing, RangeRequest, RangeResponse, TxnResponse},
    watch::{Connection, Follow},
};
use crate::{Committed, Entry, Error, Limits, List, Op, Page, Revision, Store, WatchStream, Write};

const RANGE: &str = "/etcdserverpb.KV/Range";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";

/// A long list is read in parts of about so many bytes.
const PART_BYTES: usize = 16 << 20;
/// How many entries the first part has.
const FIRST_PART: usize = 500;

/// A store in an etcd cluster: for several API servers that share one.
///
/// Keys are etcd's keys, so what an API server writes below `/registry` lies
/// where upstream's lies. The cluster should be this store's alone: revisions
/// are etcd's, and whoever else writes to it moves them.
///
/// Requests go to one member until that does not answer, and then to the next.
/// Reads are tried again until the time is up. A commit is tried again only if
/// it is certain that it did not happen; otherwise the answer is
/// [`Error::Unavailable`], and it may have happened or not. Watches go on at
/// another member where they left off, for as long as it takes.
///
/// What differs from the other backends:
///
/// - A time to live is rounded up to seconds, and to etcd's shortest lease (two
///   seconds, unless its election timeout was changed). From 20 seconds on, keys
///   share leases and live up to a twentieth (a minute at most) longer.
/// - [`EtcdOptions::writes`] bounds a commit.
/// - Keys from 32 bytes `0xff` on are reserved.
/// - A slow watcher is never disconnected: etcd waits for it, until what it
///   has not seen is compacted.
///
/// Clones are handles to the same connections. There is no task but those of
/// the connections.
///
/// ```no_run
/// use k8s_store::{EtcdOptions, EtcdStore, Store};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), k8s_store::Error> {
/// let members = ["http://10.0.0.1:2379", "http://10.0.0.2:2379"];
/// let store = EtcdStore::connect(EtcdOptions::new(members)).await?;
/// println!("at revision {}", store.revision().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct EtcdStore {
    inner: Arc<Inner>,
}

/// How to set up an [`EtcdStore`].
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdOptions {
    /// The members' client URLs, `http://HOST:PORT` or `https://HOST:PORT`.
    pub endpoints: Vec<String>,
    /// Certificates, for `https`. Default: none.
    pub tls: Option<EtcdTls>,
    /// Name and password, if etcd asks for them. Default: none.
    pub user: Option<(String, String)>,
    /// What precedes each key in etcd. Default: nothing.
    pub root: Bytes,
    /// How long a request may take, however many members it asks. Default: 10
    /// seconds.
    pub timeout: Duration,
    /// How large a write may be. Default: values and batches of 1.5 MiB, as
    /// etcd's `--max-request-bytes`, less 16 KiB for what goes with them.
    pub limits: Limits,
    /// The most writes in a commit, as etcd's `--max-txn-ops`. Default: 128.
    pub writes: usize,
    /// After how long without a batch to ask etcd how far a watch is. Only
    /// members of 3.4.25, 3.5.8 or later are asked; older ones tell by
    /// themselves, every ten minutes. Default: 10 seconds.
    pub progress: Option<Duration>,
}

/// The certificates to talk to etcd with.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// Who signed the members' certificates: one or more, PEM.
    pub authority: Vec<u8>,
    /// The client's certificate and private key, PEM, if etcd asks for them.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl EtcdOptions {
    /// The defaults, for a cluster with these members.
    pub fn new<T: Into<String>>(endpoints: impl IntoIterator<Item = T>) -> Self {
        let most = (1536 << 10) - (16 << 10);
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            tls: None,
            user: None,
            root: Bytes::new(),
            timeout: Duration::from_secs(10),
            limits: Limits {
                value_bytes: most,
                batch_bytes: most,
                ..Limits::default()
            },
            writes: 128,
            progress: Some(Duration::from_secs(10)),
        }
    }
}

impl fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoints)
            .field("tls", &self.tls)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .field("root", &self.root)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls").finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Inner {
    client: Client,
    keys: Keys,
    leases: Leases,
    limits: Limits,
    writes: usize,
    progress: Option<Duration>,
    closed: channel::Sender<bool>,
}

impl EtcdStore {
    /// Connects to a cluster and makes sure that it answers.
    ///
    /// # Errors
    ///
    /// [`Error::Setup`] if the options make no sense, [`Error::Denied`] if etcd
    /// does not let the user in, [`Error::Unavailable`] if it does not answer.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn connect(options: EtcdOptions) -> Result<Self, Error> {
        let store = Self {
            inner: Arc::new(Inner {
                client: Client::new(&options)?,
                keys: Keys::below(options.root),
                leases: Leases::default(),
                limits: options.limits,
                writes: options.writes,
                progress: options.progress,
                closed: channel::Sender::new(false),
            }),
        };
        store.revision().await?;
        Ok(store)
    }

    /// Ends every watch with [`Error::Closed`]; whatever is asked after gets
    /// the same. Closing twice is fine.
    pub fn close(&self) {
        self.inner.closed.send_replace(true);
    }
}

impl Inner {
    fn check_open(&self) -> Result<(), Error> {
        if *self.closed.borrow() {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    async fn revision(&self) -> Result<Revision, Error> {
        // Any key will do.
        let request = RangeRequest {
            key: self.keys.tick(),
            count_only: true,
            ..RangeRequest::default()
        };
        let answer = self
            .client
            .call::<_, RangeResponse>(RANGE, request, Kind::Read);
        Ok(revision(&answer.await.map_err(fault::error)?))
    }

    async fn range(
        &self,
        request: RangeRequest,
        at: Option<Revision>,
    ) -> Result<RangeResponse, Error> {
        self.check_open()?;
        // etcd reads the newest revision if asked for 0.
        let too_old = at == Some(Revision(0));
        let request = RangeRequest {
            revision: at.map_or(0, txn::number).max(i64::from(too_old)),
            ..request
        };
        let answer = self.client.call(RANGE, request, Kind::Read).await;
        match (answer, at) {
            (Ok(_), Some(requested)) if too_old => Err(Error::Compacted {
                requested,
                oldest: Revision(1),
            }),
            (Ok(answer), _) => Ok(answer),
            (Err(status), Some(requested)) => Err(self.explain(status, requested).await),
            (Err(status), None) => Err(fault::error(status)),
        }
    }

    /// What was wrong with a revision.
    async fn explain(&self, status: Status, requested: Revision) -> Error {
        match fault(&status) {
            Fault::Compacted => match self.oldest(requested).await {
                Ok(oldest) => Error::Compacted { requested, oldest },
                Err(error) => error,
            },
            Fault::Future => match self.revision().await {
                Ok(current) => Error::Future { requested, current },
                Err(error) => error,
            },
            _ => fault::error(status),
        }
    }

    /// The oldest revision that can be read, seen from one that cannot.
    async fn oldest(&self, from: Revision) -> Result<Revision, Error> {
        // Only a watch is told.
        let mut backoff = Backoff::default();
        let mut tries = 0;
        loop {
            let asked = Connection::open(self, &[], from);
            let status = match asked.await {
                Ok(connection) => {
                    if let Some(oldest) = connection.oldest().await {
                        return Ok(oldest);
                    }
                    Status::unavailable("etcd does not say what it has compacted")
                }
                Err(status) => status,
            };
            tries += 1;
            if tries == 10 {
                return Err(fault::error(status));
            }
            tokio::time::sleep(backoff.step()).await;
        }
    }

    /// One pass over the range of a list. `None`: it was compacted midway.
    async fn page(&self, list: &List) -> Result<Option<Page>, Error> {
        let mut page = Page {
            revision: list.at.unwrap_or_default(),
            ..Page::default()
        };
        let mut at = list.at;
        let mut part = FIRST_PART;
        let mut after = list.after.clone();
        loop {
            let left = list.limit.map(|limit| limit - page.entries.len());
            let wanted = left.unwrap_or(usize::MAX).min(part);
            let (key, range_end) = self.keys.range(&list.prefix, after.as_deref());
            if key >= range_end {
                // Nothing lies there, and etcd takes such a range for another.
                page.revision = match list.at {
                    Some(at) => self.check(at).await.map(|_| at)?,
                    None => self.revision().await?,
                };
                return Ok(Some(page));
            }
            let request = RangeRequest {
                key,
                range_end,
                limit: i64::try_from(wanted).unwrap_or(i64::MAX),
                count_only: wanted == 0,
                ..RangeRequest::default()
            };
            let answer = match self.range(request, at).await {
                Ok(answer) => answer,
                Err(Error::Compacted { .. }) if list.at.is_none() && at.is_some() => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            if at.is_none() {
                page.revision = revision(&answer);
                at = Some(page.revision);
            }
            let got = answer.kvs.len();
            page.remaining = usize::try_from(answer.count)
                .unwrap_or(0)
                .saturating_sub(got);
            let bytes: usize = answer
                .kvs
                .iter()
                .map(|kv| kv.key.len() + kv.value.len())
                .sum();
            let entries = answer
                .kvs
                .into_iter()
                .filter_map(|kv| txn::entry(&self.keys, kv));
            page.entries.extend(entries);
            if page.remaining == 0 || got == 0 || left == Some(got) {
                return Ok(Some(page));
            }
            part = (PART_BYTES / (bytes / got).max(1)).clamp(FIRST_PART, 50_000);
            after = page.entries.last().map(|entry| entry.key.clone());
        }
    }

    /// Makes sure that a revision can be read; returns the newest.
    async fn check(&self, at: Revision) -> Result<Revision, Error> {
        let request = RangeRequest {
            key: self.keys.tick(),
            count_only: true,
            ..RangeRequest::default()
        };
        Ok(revision(&self.range(request, Some(at)).await?))
    }

    /// A watch that misses nothing even if the history since is compacted at
    /// once, unless somebody writes while it begins.
    async fn watch_from_now(
        &self,
        prefix: &[u8],
        now: Revision,
    ) -> Result<Option<Connection>, Error> {
        let next = Revision(now.0.saturating_add(1));
        let Ok(connection) = Connection::open(self, prefix, next).await else {
            return Ok(None);
        };
        let begun = connection.begun().await;
        if begun.is_some() && self.check(now).await? == now {
            return Ok(begun);
        }
        // It may have begun behind what was written: then a deletion at `next`
        // could be compacted before its turn, without a word.
        Ok(Connection::open(self, prefix, now).await.ok())
    }

    async fn leases(&self, writes: &[Write]) -> Result<Vec<i64>, Error> {
        let mut leases = Vec::new();
        for write in writes {
            if let Op::Put { ttl: Some(ttl), .. } = &write.op {
                leases.push(self.leases.lease(&self.client, *ttl).await?);
            }
        }
        Ok(leases)
    }
}

fn revision(answer: &RangeResponse) -> Revision {
    txn::unsigned(answer.header.as_ref().map_or(0, |header| header.revision))
}

#[async_trait]
impl Store for EtcdStore {
    async fn revision(&self) -> Result<Revision, Error> {
        self.inner.check_open()?;
        self.inner.revision().await
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        let request = RangeRequest {
            key: self.inner.keys.own(key),
            ..RangeRequest::default()
        };
        if request.key.is_empty() {
            // No key is, and etcd does not want to hear of it.
            return match at {
                Some(at) => self.inner.check(at).await.map(|_| None),
                None => self.inner.check_open().map(|()| None),
            };
        }
        let answer = self.inner.range(request, at).await?;
        let kv = answer.kvs.into_iter().next();
        Ok(kv.and_then(|kv| txn::entry(&self.inner.keys, kv)))
    }

    async fn list(&self, list: List) -> Result<Page, Error> {
        loop {
            if let Some(page) = self.inner.page(&list).await? {
                return Ok(page);
            }
        }
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Committed, Error> {
        let inner = &self.inner;
        inner.check_open()?;
        inner.limits.check(&writes)?;
        for write in &writes {
            Keys::check(&write.key)?;
        }
        let mut renewed = false;
        loop {
            let leases = inner.leases(&writes).await?;
            let txn = txn::encode(&inner.keys, &writes, &leases);
            if txn.success.len() > inner.writes {
                return Err(Error::TooManyWrites {
                    writes: writes.len(),
                    limit: inner.writes - (txn.success.len() - writes.len()),
                });
            }
            let answer = inner.client.call::<_, TxnResponse>(TXN, txn, Kind::Write);
            match answer.await {
                Ok(answer) => return txn::decode(&inner.keys, &writes, answer),
                Err(status) if fault(&status) == Fault::Lease && !renewed => {
                    renewed = true;
                    inner.leases.forget();
                }
                Err(status) => return Err(fault::error(status)),
            }
        }
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<WatchStream, Error> {
        let inner = &self.inner;
        inner.check_open()?;
        // A watch would only tell later, and wait for the future.
        let current = inner.check(after).await?;
        let connection = if after == current {
            inner.watch_from_now(&prefix, after).await?
        } else {
            Connection::open(inner, &prefix, after).await.ok()
        };
        let follow = Follow {
            inner: Arc::clone(inner),
            prefix,
            seen: after,
            connection,
            ready: VecDeque::new(),
            backoff: Backoff::default(),
        };
        Ok(follow.into_stream())
    }

    async fn compact(&self, requested: Revision) -> Result<(), Error> {
        let inner = &self.inner;
        inner.check_open()?;
        if requested == Revision(0) {
            return inner.check(requested).await.map(|_| ());
        }
        let request = CompactionRequest {
            revision: txn::number(requested),
        };
        // Twice is as good as once.
        let answer = inner
            .client
            .call::<_, Nothing>(COMPACT, request, Kind::Read);
        let Err(status) = answer.await else {
            return Ok(());
        };
        // etcd does not compact twice at one revision.
        if fault(&status) == Fault::Compacted && inner.check(requested).await.is_ok() {
            return Ok(());
        }
        Err(inner.explain(status, requested).await)
    }
}
