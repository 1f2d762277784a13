//! [`ObjectReader`]: what the server's own parts read of the stored objects.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use k8s_openapi::Resource;
use serde::de::DeserializeOwned;

/// A stored object could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The store failed.
    #[error("objects cannot be read: {0}")]
    Unavailable(String),
    /// The server does not serve such a resource, so there can be none of its objects.
    #[error("no resource {0}")]
    NotServed(String),
    /// The stored bytes are not an object of the kind.
    #[error("stored {resource} {namespace}/{name} cannot be decoded")]
    Decode {
        /// The plural name of the resource.
        resource: String,
        /// The object's namespace, or empty.
        namespace: String,
        /// The object's name.
        name: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// One step of [`ObjectReader::watch_raw`]. Objects are JSON in their storage version, with
/// `metadata.resourceVersion`.
#[derive(Clone, Debug)]
pub enum RawEvent {
    /// All objects as they are now. Comes first, and again whenever changes were missed.
    Snapshot(Vec<Bytes>),
    /// An object was made or changed.
    Applied(Bytes),
    /// An object is gone; this is how it last was.
    Deleted(Bytes),
}

/// Reads stored objects without authorization, for the server's own parts: authenticators,
/// authorizers, admission plugins, the way to the kubelet.
///
/// # Guarantees
/// [`get_raw`](ObjectReader::get_raw) and [`list_raw`](ObjectReader::list_raw) see every write that was acknowledged before the
/// call. [`watch_raw`](ObjectReader::watch_raw) starts with a snapshot and then gives each change once and in
/// order; after a gap it gives a new snapshot. It ends only with the server. What
/// [`recent_raw`](ObjectReader::recent_raw) gives is as new as all writes of this server that were acknowledged before
/// the call, unless nothing is heard of the store for a second.
#[async_trait]
pub trait ObjectReader: Debug + Send + Sync {
    /// The JSON of one object; `None` if there is none. `namespace` is empty for
    /// cluster-scoped resources.
    async fn get_raw(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Bytes>, ReadError>;

    /// The JSON of one object as it was a moment ago, if it is at hand: it is not asked of the store, and so can be had
    /// while that is away. `None` says nothing about whether there is one.
    async fn recent_raw(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Bytes>, ReadError> {
        let _ = (group, resource, namespace, name);
        Ok(None)
    }

    /// The JSON of each object in the namespace, or in all namespaces if it is empty.
    async fn list_raw(
        &self,
        group: &str,
        resource: &str,
        namespace: &str,
    ) -> Result<Vec<Bytes>, ReadError>;

    /// The objects in all namespaces and all their changes from now on.
    fn watch_raw(&self, group: &str, resource: &str) -> BoxStream<'static, RawEvent>;
}

fn decoded<K: Resource + DeserializeOwned>(
    json: Option<Bytes>,
    namespace: &str,
    name: &str,
) -> Result<Option<K>, ReadError> {
    let decoded = json.map(|json| serde_json::from_slice(&json)).transpose();
    decoded.map_err(|source| ReadError::Decode {
        resource: K::URL_PATH_SEGMENT.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        source,
    })
}

impl dyn ObjectReader + '_ {
    /// The object as a `K`; `None` if there is none.
    pub async fn get<K: Resource + DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<K>, ReadError> {
        let json = self.get_raw(K::GROUP, K::URL_PATH_SEGMENT, namespace, name);
        decoded(json.await?, namespace, name)
    }

    /// The object as a `K` as it was a moment ago, if it is at hand.
    pub async fn recent<K: Resource + DeserializeOwned>(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<K>, ReadError> {
        let json = self.recent_raw(K::GROUP, K::URL_PATH_SEGMENT, namespace, name);
        decoded(json.await?, namespace, name)
    }

    /// The objects in the namespace, or in all namespaces if it is empty.
    pub async fn list<K: Resource + DeserializeOwned>(
        &self,
        namespace: &str,
    ) -> Result<Vec<K>, ReadError> {
        self.list_raw(K::GROUP, K::URL_PATH_SEGMENT, namespace)
            .await?
            .iter()
            .map(|json| {
                serde_json::from_slice(json).map_err(|source| ReadError::Decode {
                    resource: K::URL_PATH_SEGMENT.to_owned(),
                    namespace: namespace.to_owned(),
                    name: String::new(),
                    source,
                })
            })
            .collect()
    }
}
