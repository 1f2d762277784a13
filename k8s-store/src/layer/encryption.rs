//! AES-GCM for the values below chosen prefixes.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use ring::{
    aead::{self, AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use tower_layer::Layer;

use crate::{
    Change, Committed, Entry, Error, Expect, List, Op, Page, Revision, Store, WatchBatch,
    WatchStream, Write,
};

/// What precedes an encrypted value, before the key's name and a colon. It is
/// upstream's.
const MARK: &[u8] = b"k8s:enc:aesgcm:v1:";

/// Encrypts the values of all keys below some prefixes, each with a nonce of its
/// own, and bound to its key: a value copied to another key cannot be read.
///
/// The format is that of upstream's `aesgcm` provider: the mark
/// `k8s:enc:aesgcm:v1:NAME:`, the nonce, the sealed value. Keys, revisions and
/// sizes stay in the clear. As with upstream, nonces are random, so change the
/// key before it has sealed some 4 billion values.
///
/// To change the key, put the new one first and keep the old one behind it:
/// values are sealed with the first and opened with any. Once everything has been
/// written again, drop the old one.
///
/// A value that no key here has sealed is [`Error::Undecipherable`], and a watch
/// ends with that. So is one that is not sealed at all, unless
/// [`or_plain`](Self::or_plain) says that there may be some.
#[derive(Clone)]
pub struct EncryptionLayer {
    inner: Arc<Ring>,
}

struct Ring {
    prefixes: Vec<Bytes>,
    keys: Vec<EncryptionKey>,
    plain: bool,
    seals: bool,
    random: SystemRandom,
}

/// A key with a name.
#[derive(Clone)]
pub struct EncryptionKey {
    mark: Arc<[u8]>,
    key: Arc<LessSafeKey>,
}

impl EncryptionKey {
    /// A key of 16 or 32 random bytes, for AES-128 or AES-256.
    ///
    /// # Errors
    ///
    /// [`Error::Setup`] if the key is of another length, or the name is empty or
    /// has a colon in it.
    pub fn try_new(name: &str, key: &[u8]) -> Result<Self, Error> {
        let setup = |detail: &str| Error::Setup {
            detail: detail.to_owned(),
        };
        let algorithm: &aead::Algorithm = match key.len() {
            16 => &AES_128_GCM,
            32 => &AES_256_GCM,
            _ => return Err(setup("an encryption key must have 16 or 32 bytes")),
        };
        if name.is_empty() || name.contains(':') {
            return Err(setup(
                "an encryption key's name must not be empty or have a colon in it",
            ));
        }
        let key =
            UnboundKey::new(algorithm, key).map_err(|_| setup("an unusable encryption key"))?;
        Ok(Self {
            mark: [MARK, name.as_bytes(), b":"].concat().into(),
            key: Arc::new(LessSafeKey::new(key)),
        })
    }
}

impl fmt::Debug for EncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptionKey").finish_non_exhaustive()
    }
}

impl EncryptionLayer {
    /// Encrypts below these prefixes. The first key seals, all of them open.
    ///
    /// # Errors
    ///
    /// [`Error::Setup`] without a key, or with two of one name.
    pub fn try_new(
        prefixes: impl IntoIterator<Item = impl Into<Bytes>>,
        keys: Vec<EncryptionKey>,
    ) -> Result<Self, Error> {
        let twice = (1..keys.len()).any(|n| keys[..n].iter().any(|key| key.mark == keys[n].mark));
        if keys.is_empty() || twice {
            return Err(Error::Setup {
                detail: "encryption needs at least one key, each with a name of its own".into(),
            });
        }
        Ok(Self {
            inner: Arc::new(Ring {
                prefixes: prefixes.into_iter().map(Into::into).collect(),
                keys,
                plain: false,
                seals: true,
                random: SystemRandom::new(),
            }),
        })
    }

    /// Values that are not encrypted are read as they are: for data from before
    /// encryption. They are encrypted when they are written next.
    #[must_use]
    pub fn or_plain(self) -> Self {
        self.with(|ring| ring.plain = true)
    }

    /// Values are written as they are, and read either way: for giving up encryption. They are
    /// decrypted when they are written next.
    #[must_use]
    pub fn writing_plain(self) -> Self {
        self.with(|ring| (ring.plain, ring.seals) = (true, false))
    }

    fn with(self, change: impl FnOnce(&mut Ring)) -> Self {
        let mut ring = Ring {
            prefixes: self.inner.prefixes.clone(),
            keys: self.inner.keys.clone(),
            plain: self.inner.plain,
            seals: self.inner.seals,
            random: SystemRandom::new(),
        };
        change(&mut ring);
        Self {
            inner: Arc::new(ring),
        }
    }
}

impl fmt::Debug for EncryptionLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptionLayer")
            .field("prefixes", &self.prefixes)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for EncryptionLayer {
    type Service = EncryptedStore<S>;

    fn layer(&self, inner: S) -> EncryptedStore<S> {
        EncryptedStore {
            inner,
            ring: Arc::clone(&self.inner),
        }
    }
}

/// The store that [`EncryptionLayer`] makes.
#[derive(Clone, Debug)]
pub struct EncryptedStore<S> {
    inner: S,
    ring: Arc<Ring>,
}

impl<S: Store> EncryptedStore<S> {
    /// Writes again what lies below the prefix and is not sealed with the first key: what was
    /// sealed with another, or not at all. Says how many values that were; watchers see a
    /// change of each, to the same value. What somebody else writes in the meantime is left
    /// alone.
    ///
    /// Not for keys with a time to live, which they would lose.
    ///
    /// # Errors
    ///
    /// As [`Store::list`] and [`Store::commit`]; what was written until then stays written.
    pub async fn reseal(&self, prefix: impl Into<Bytes>) -> Result<usize, Error> {
        let mut list = List {
            prefix: prefix.into(),
            limit: Some(500),
            ..List::default()
        };
        let mut count = 0;
        loop {
            let page = self.inner.list(list.clone()).await?;
            list.after = page.entries.last().map(|entry| entry.key.clone());
            for entry in page.entries {
                if !self.ring.covers(&entry.key) || self.ring.is_fresh(&entry.value) {
                    continue;
                }
                let entry = self.ring.open(entry)?;
                let write = Write {
                    key: entry.key,
                    expect: Expect::Modified(entry.modified),
                    op: Op::Put {
                        value: entry.value,
                        ttl: None,
                    },
                };
                match self.commit(vec![write]).await {
                    Ok(_) => count += 1,
                    Err(Error::Conflict { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            if page.remaining == 0 {
                return Ok(count);
            }
        }
    }
}

impl Ring {
    fn covers(&self, key: &[u8]) -> bool {
        self.prefixes.iter().any(|prefix| key.starts_with(prefix))
    }

    /// Whether the value is as it would be written now.
    fn is_fresh(&self, value: &[u8]) -> bool {
        match self.seals {
            true => value.starts_with(&self.keys[0].mark),
            false => !value.starts_with(MARK),
        }
    }

    fn seal(&self, key: &[u8], value: &[u8]) -> Result<Bytes, Error> {
        let with = &self.keys[0];
        let failed = |_| Error::Setup {
            detail: "the system has no random numbers, or the value is too long to encrypt".into(),
        };
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(failed)?;
        let head = with.mark.len() + NONCE_LEN;
        let mut sealed = Vec::with_capacity(head + value.len() + aead::MAX_TAG_LEN);
        sealed.extend_from_slice(&with.mark);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(value);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = with
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(key), &mut sealed[head..])
            .map_err(failed)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed.into())
    }

    fn open(&self, mut entry: Entry) -> Result<Entry, Error> {
        if !self.covers(&entry.key) {
            return Ok(entry);
        }
        let broken = |detail| Error::Undecipherable {
            key: entry.key[..].into(),
            detail,
        };
        if !entry.value.starts_with(MARK) {
            return if self.plain {
                Ok(entry)
            } else {
                Err(broken("it is not encrypted"))
            };
        }
        let found = self
            .keys
            .iter()
            .find(|key| entry.value.starts_with(&key.mark));
        let with = found.ok_or_else(|| broken("there is no key of that name"))?;
        let sealed = &entry.value[with.mark.len()..];
        let (nonce, sealed) = sealed
            .split_first_chunk()
            .ok_or_else(|| broken("it is cut short"))?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut value = sealed.to_vec();
        let length = with
            .key
            .open_in_place(nonce, Aad::from(&entry.key[..]), &mut value)
            .map_err(|_| broken("it was changed, or sealed with another key of that name"))?
            .len();
        value.truncate(length);
        entry.value = value.into();
        Ok(entry)
    }

    fn open_some(&self, entry: Option<Entry>) -> Result<Option<Entry>, Error> {
        entry.map(|entry| self.open(entry)).transpose()
    }

    fn open_batch(&self, batch: WatchBatch) -> Result<WatchBatch, Error> {
        if !batch.changes.iter().any(|change| self.covers(&change.key)) {
            return Ok(batch);
        }
        let changes = batch.changes.iter().map(|change| {
            Ok(Change {
                key: change.key.clone(),
                current: self.open_some(change.current.clone())?,
                previous: self.open_some(change.previous.clone())?,
            })
        });
        Ok(WatchBatch {
            changes: changes.collect::<Result<Arc<[_]>, Error>>()?,
            ..batch
        })
    }
}

#[async_trait]
impl<S: Store> Store for EncryptedStore<S> {
    async fn revision(&self) -> Result<Revision, Error> {
        self.inner.revision().await
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<Option<Entry>, Error> {
        self.ring.open_some(self.inner.get(key, at).await?)
    }

    async fn list(&self, list: List) -> Result<Page, Error> {
        let page = self.inner.list(list).await?;
        let entries = page.entries.into_iter().map(|entry| self.ring.open(entry));
        Ok(Page {
            entries: entries.collect::<Result<_, _>>()?,
            ..page
        })
    }

    async fn commit(&self, mut writes: Vec<Write>) -> Result<Committed, Error> {
        for write in &mut writes {
            if let Op::Put { value, .. } = &mut write.op
                && self.ring.seals
                && self.ring.covers(&write.key)
            {
                *value = self.ring.seal(&write.key, value)?;
            }
        }
        match self.inner.commit(writes).await {
            Ok(done) => {
                let previous = done.previous.into_iter();
                // The commit has happened: what it replaced need not be legible.
                let previous = previous.map(|entry| self.ring.open_some(entry).unwrap_or_default());
                Ok(Committed {
                    previous: previous.collect(),
                    ..done
                })
            }
            Err(Error::Conflict {
                key,
                expected,
                actual,
            }) => Err(Error::Conflict {
                key,
                expected,
                actual: self.ring.open_some(actual)?,
            }),
            Err(error) => Err(error),
        }
    }

    async fn watch(&self, prefix: Bytes, after: Revision) -> Result<WatchStream, Error> {
        let stream = self.inner.watch(prefix, after).await?;
        let ring = Arc::clone(&self.ring);
        let opened = stream.scan(false, move |ended, batch| {
            let batch = batch.and_then(|batch| ring.open_batch(batch));
            // A watch ends after its first error, whosesoever that is.
            let next = (!*ended).then_some(batch);
            *ended |= matches!(next, Some(Err(_)));
            std::future::ready(next)
        });
        Ok(opened.boxed())
    }

    async fn compact(&self, revision: Revision) -> Result<(), Error> {
        self.inner.compact(revision).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    fn put(key: &'static str, value: &'static str) -> Vec<Write> {
        vec![Write {
            key: key.into(),
            expect: Expect::Any,
            op: Op::Put {
                value: value.into(),
                ttl: None,
            },
        }]
    }

    fn key(name: &str, byte: u8) -> EncryptionKey {
        EncryptionKey::try_new(name, &[byte; 32]).unwrap()
    }

    fn layer(keys: Vec<EncryptionKey>) -> EncryptionLayer {
        EncryptionLayer::try_new(["/secrets/"], keys).unwrap()
    }

    #[tokio::test]
    async fn values_below_the_prefixes_are_unreadable_without_the_layer() {
        let plain = MemoryStore::new();
        let store = layer(vec![key("a", 1)]).layer(plain.clone());
        for at in ["/secrets/x", "/secrets/y", "/pods/x"] {
            store.commit(put(at, "hush")).await.unwrap();
            let entry = store.get(at.as_bytes(), None).await.unwrap().unwrap();
            assert_eq!(entry.value, "hush");
        }
        let raw = |at: &'static str| {
            let plain = plain.clone();
            async move { plain.get(at.as_bytes(), None).await.unwrap().unwrap().value }
        };
        let (x, y) = (raw("/secrets/x").await, raw("/secrets/y").await);
        assert!(x.starts_with(b"k8s:enc:aesgcm:v1:a:") && !x.ends_with(b"hush"));
        assert_ne!(x[20..], y[20..], "each has its own nonce");
        assert_eq!(raw("/pods/x").await, "hush");
    }

    #[tokio::test]
    async fn a_new_key_seals_while_the_old_one_still_opens() {
        let plain = MemoryStore::new();
        let old = layer(vec![key("a", 1)]).layer(plain.clone());
        old.commit(put("/secrets/x", "1")).await.unwrap();
        let both = layer(vec![key("b", 2), key("a", 1)]).layer(plain.clone());
        let done = both.commit(put("/secrets/y", "2")).await.unwrap();
        assert_eq!(
            both.get(b"/secrets/x", None).await.unwrap().unwrap().value,
            "1"
        );
        let new = layer(vec![key("b", 2)]).layer(plain.clone());
        assert_eq!(
            new.get(b"/secrets/y", None).await.unwrap().unwrap().value,
            "2"
        );
        let error = new.get(b"/secrets/x", None).await.unwrap_err();
        assert!(matches!(error, Error::Undecipherable { .. }), "{error}");

        let mut watch = new
            .watch(Bytes::new(), Revision(done.revision.0 - 2))
            .await
            .unwrap();
        assert!(matches!(
            watch.next().await,
            Some(Err(Error::Undecipherable { .. }))
        ));
        assert!(watch.next().await.is_none());
        // The store stays usable.
        new.commit(put("/secrets/x", "3")).await.unwrap();
        assert_eq!(
            new.get(b"/secrets/x", None).await.unwrap().unwrap().value,
            "3"
        );
    }

    #[tokio::test]
    async fn changed_moved_and_wrongly_keyed_values_are_told_apart_from_good_ones() {
        let plain = MemoryStore::new();
        let store = layer(vec![key("a", 1)]).layer(plain.clone());
        store.commit(put("/secrets/x", "1")).await.unwrap();
        let sealed = plain.get(b"/secrets/x", None).await.unwrap().unwrap().value;
        let mut flipped = sealed.to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        for (at, value) in [
            ("/secrets/flipped", Bytes::from(flipped)),
            ("/secrets/short", sealed.slice(..25)),
            ("/secrets/moved", sealed.clone()),
            ("/secrets/plain", "1".into()),
        ] {
            let mut write = put(at, "");
            write[0].op = Op::Put { value, ttl: None };
            plain.commit(write).await.unwrap();
            let error = store.get(at.as_bytes(), None).await.unwrap_err();
            assert!(
                matches!(error, Error::Undecipherable { .. }),
                "{at}: {error}"
            );
        }
        let wrong = layer(vec![key("a", 9)]).layer(plain.clone());
        let error = wrong.get(b"/secrets/x", None).await.unwrap_err();
        assert!(matches!(error, Error::Undecipherable { .. }), "{error}");
        let lenient = layer(vec![key("a", 1)]).or_plain().layer(plain);
        let found = lenient.get(b"/secrets/plain", None).await.unwrap();
        assert_eq!(found.unwrap().value, "1");
    }

    #[tokio::test]
    async fn resealing_leaves_nothing_for_the_old_key_or_for_none() {
        let plain = MemoryStore::new();
        plain.commit(put("/secrets/p", "0")).await.unwrap();
        let old = layer(vec![key("a", 1)]).layer(plain.clone());
        old.commit(put("/secrets/x", "1")).await.unwrap();
        let both = layer(vec![key("b", 2), key("a", 1)])
            .or_plain()
            .layer(plain.clone());
        both.commit(put("/secrets/y", "2")).await.unwrap();
        assert_eq!(both.reseal("/secrets/").await.unwrap(), 2);
        assert_eq!(both.reseal("/secrets/").await.unwrap(), 0);
        let new = layer(vec![key("b", 2)]);
        for (at, value) in [
            ("/secrets/p", "0"),
            ("/secrets/x", "1"),
            ("/secrets/y", "2"),
        ] {
            let sealed = new.clone().layer(plain.clone());
            let entry = sealed.get(at.as_bytes(), None).await.unwrap().unwrap();
            assert_eq!(entry.value, value);
        }
        let off = new.writing_plain().layer(plain.clone());
        assert_eq!(off.reseal("/secrets/").await.unwrap(), 3);
        let entry = plain.get(b"/secrets/x", None).await.unwrap().unwrap();
        assert_eq!(entry.value, "1");
    }

    #[test]
    fn keys_must_have_the_right_length_and_names_of_their_own() {
        let key_of = |name: &str, bytes: &[u8]| EncryptionKey::try_new(name, bytes).map(|_| ());
        let layer_of = |keys| EncryptionLayer::try_new(["/"], keys).map(|_| ());
        for (refused, why) in [
            (key_of("a", &[]), "16 or 32 bytes"),
            (key_of("a", &[1; 15]), "16 or 32 bytes"),
            (key_of("a", &[1; 24]), "16 or 32 bytes"),
            (key_of("a", &[1; 33]), "16 or 32 bytes"),
            (key_of("", &[1; 16]), "must not be empty"),
            (key_of("a:b", &[1; 16]), "colon"),
            (layer_of(vec![]), "at least one key"),
            (
                layer_of(vec![key("a", 1), key("a", 2)]),
                "a name of its own",
            ),
        ] {
            let Err(Error::Setup { detail }) = refused else {
                panic!("{why}: {refused:?}");
            };
            assert!(detail.contains(why), "{detail}");
        }
    }
}
