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

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use parking_lot::Mutex;
    use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};

    use super::*;
    use crate::{Expect, MemoryStore, Op, testing::FaultyStore};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[tokio::test]
    async fn each_request_is_a_span_with_its_outcome_and_without_values() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::DEBUG)
            .with_span_events(FmtSpan::CLOSE)
            .with_ansi(false)
            .with_writer(lines.clone())
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let inner = Arc::new(FaultyStore::new(Arc::new(MemoryStore::new())));
        let store = TraceLayer.layer(inner.clone());
        let create = || {
            vec![Write {
                key: "a".into(),
                expect: Expect::Absent,
                op: Op::Put {
                    value: "hush".into(),
                    ttl: None,
                },
            }]
        };
        store.commit(create()).await.unwrap();
        store.commit(create()).await.unwrap_err();
        store.get(b"a", None).await.unwrap();
        store.get(b"a", Some(Revision(9))).await.unwrap_err();
        store.list(List::default()).await.unwrap();
        store.revision().await.unwrap();
        drop(store.watch(Bytes::new(), Revision(1)).await.unwrap());
        store.compact(Revision(2)).await.unwrap();
        inner.refuse_commits(1);
        store.commit(create()).await.unwrap_err();
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        for part in [
            "commit{writes=1 key=a revision=2}",
            "commit{writes=1 key=a outcome=conflict on key a: expected no entry, found revision 2}",
            "get{key=a revision=2}",
            "get{key=a outcome=revision 9 is in the future, the newest is 2}",
            "list{prefix= revision=2}",
            "revision{revision=2}",
            "watch{prefix= after=1}",
            "compact{revision=2}",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let warnings: Vec<_> = text.lines().filter(|l| l.contains(" WARN ")).collect();
        assert_eq!(warnings.len(), 1, "only what nobody expects: {warnings:?}");
        assert!(
            warnings[0].contains("the store is read-only"),
            "{warnings:?}"
        );
        assert!(!text.contains("hush"), "{text}");
    }
}
