//! A span for each request.

use async_trait::async_trait;
use bytes::Bytes;
use tower_layer::Layer;
use tracing::{Instrument, Span, debug_span, field::Empty};

use crate::{Committed, Entry, Error, List, Page, Revision, Store, WatchStream, Write};

/// Puts every request in a `tracing` span of level debug, named after the
/// method, with its size and the revision that it led to. Keys are in it, values
/// never.
///
/// A conflict, or a revision that is compacted or yet to come, is an expected
/// outcome and recorded as such; any other error is an event of level warn.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceLayer;

impl<S> Layer<S> for TraceLayer {
    type Service = TracedStore<S>;

    fn layer(&self, inner: S) -> TracedStore<S> {
        TracedStore { inner }
    }
}

/// The store that [`TraceLayer`] makes.
#[derive(Clone, Debug)]
pub struct TracedStore<S> {
    inner: S,
}

/// Notes how a request went.
fn note<T>(
    span: &Span,
    outcome: Result<T, Error>,
    at: impl Fn(&T) -> Option<Revision>,
) -> Result<T, Error> {
    match &outcome {
        Ok(done) => {
            if let Some(revision) = at(done) {
                span.record("revision", revision.0);
            }
        }
        Err(error @ (Error::Conflict { .. } | Error::Compacted { .. } | Error::Future { .. })) => {
            span.record("outcome", tracing::field::display(error));
        }
        Err(error) => {
            span.in_scope(|| tracing::warn!(%error, "the store did not do what it was asked"));
        }
    }
    outcome
}

#[async_trait]
impl<S: Store> Store for TracedStore<S> {
    async fn revision(&self) -> Result<Revision, Error> {
        let span = debug_span!("revision", revision = Empty, outcome = Empty);
        let outcome = self.inner.revision().instrument(span.clone()).await;
        note(&span, outcome, |revision| Some(*revision))
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        let span = debug_span!("get", key = %key.escape_ascii(), revision = Empty, outcome = Empty);
        let outcome = self.inner.get(key, at).instrument(span.clone()).await;
        note(&span, outcome, |entry| {
            entry.as_ref().map(|entry| entry.modified)
        })
    }

    async fn list(&self, list: List) -> Result<Page, Error> {
        let span = debug_span!(
            "list",
            prefix = %list.prefix.escape_ascii(),
            limit = list.limit,
            revision = Empty,
            outcome = Empty,
        );
        let outcome = self.inner.list(list).instrument(span.clone()).await;
        note(&span, outcome, |page| Some(page.revision))
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Committed, Error> {
        let span = debug_span!(
            "commit",
            writes = writes.len(),
            key = writes
                .first()
                .map(|write| tracing::field::display(write.key.escape_ascii())),
            revision = Empty,
            outcome = Empty,
        );
        let outcome = self.inner.commit(writes).instrument(span.clone()).await;
        note(&span, outcome, |done| Some(done.revision))
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<WatchStream, Error> {
        let span = debug_span!(
            "watch",
            prefix = %prefix.escape_ascii(),
            after = after.0,
            revision = Empty,
            outcome = Empty,
        );
        let outcome = self
            .inner
            .watch(prefix, after)
            .instrument(span.clone())
            .await;
        note(&span, outcome, |_| None)
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        let span = debug_span!("compact", revision = revision.0, outcome = Empty);
        let outcome = self.inner.compact(revision).instrument(span.clone()).await;
        note(&span, outcome, |()| None)
    }
}
