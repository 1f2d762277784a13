//! ConfigMaps, Secrets and tokens that pods refer to.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Debug,
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Secret, ServiceAccount},
};
use kube::{
    Api, Client, Resource,
    api::PostParams,
    runtime::watcher::{self, Event, watcher},
};
use parking_lot::Mutex;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::pod::PodView;

/// Told the UID of a pod whose ConfigMap or Secret changed.
pub(crate) type Changes = mpsc::UnboundedSender<String>;

/// What pods refer to, each object watched only while some pod's volume shows it.
pub(crate) struct Sources {
    client: Client,
    config_maps: Cache<ConfigMap>,
    secrets: Cache<Secret>,
    tokens: Mutex<BTreeMap<TokenKey, Token>>,
}

type TokenKey = (String, String, String, i64);

#[derive(Clone, Debug)]
struct Token {
    token: String,
    refresh: Timestamp,
    expires: Timestamp,
}

#[derive(Deserialize)]
struct TokenAnswer {
    status: TokenStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenStatus {
    token: String,
    expiration_timestamp: Timestamp,
}

/// A token, and how long until it should be replaced.
pub(crate) struct FreshToken {
    pub(crate) token: String,
    pub(crate) refresh_after: Duration,
}

impl Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Sources {
    pub(crate) fn new(client: Client, changes: Changes) -> Self {
        Self {
            config_maps: Cache::new(client.clone(), changes.clone()),
            secrets: Cache::new(client.clone(), changes),
            client,
            tokens: Mutex::default(),
        }
    }

    /// Reads a ConfigMap now.
    pub(crate) async fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ConfigMap>, kube::Error> {
        Api::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await
    }

    /// Reads a Secret now.
    pub(crate) async fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Secret>, kube::Error> {
        Api::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await
    }

    /// A ConfigMap for a volume: from here on the pod is told when it changes.
    pub(crate) async fn follow_config_map(
        &self,
        pod: &PodView,
        name: &str,
    ) -> Result<Option<Arc<ConfigMap>>, kube::Error> {
        self.config_maps.get(pod, name).await
    }

    /// A Secret for a volume: from here on the pod is told when it changes.
    pub(crate) async fn follow_secret(
        &self,
        pod: &PodView,
        name: &str,
    ) -> Result<Option<Arc<Secret>>, kube::Error> {
        self.secrets.get(pod, name).await
    }

    /// Stops following what the pod referred to.
    pub(crate) fn forget(&self, uid: &str) {
        self.config_maps.forget(uid);
        self.secrets.forget(uid);
        self.tokens.lock().retain(|key, _| key.0 != uid);
    }

    /// A token of the pod's service account, bound to the pod; a new one when the last is at 80 %
    /// of its life.
    pub(crate) async fn token(
        &self,
        pod: &PodView,
        audience: &str,
        seconds: i64,
    ) -> Result<FreshToken, kube::Error> {
        let account = pod
            .spec()
            .service_account_name
            .clone()
            .filter(|n| !n.is_empty())
            .unwrap_or_else(|| "default".to_owned());
        let key = (
            pod.uid().to_owned(),
            account.clone(),
            audience.to_owned(),
            seconds,
        );
        let now = Timestamp::now();
        let cached = self.tokens.lock().get(&key).cloned();
        let left =
            |until: Timestamp| Duration::try_from(until.duration_since(now)).unwrap_or_default();
        if let Some(token) = cached.as_ref().filter(|t| t.refresh > now) {
            return Ok(FreshToken {
                token: token.token.clone(),
                refresh_after: left(token.refresh),
            });
        }
        match self.request(pod, &account, audience, seconds).await {
            Ok(token) => {
                let refresh_after = left(token.refresh);
                self.tokens.lock().insert(key, token.clone());
                Ok(FreshToken {
                    token: token.token,
                    refresh_after,
                })
            }
            // The old one is good for a while yet.
            Err(error) => match cached.filter(|t| t.expires > now) {
                Some(token) => {
                    debug!(%error, "token not refreshed");
                    Ok(FreshToken {
                        token: token.token,
                        refresh_after: Duration::from_secs(30),
                    })
                }
                None => Err(error),
            },
        }
    }

    async fn request(
        &self,
        pod: &PodView,
        account: &str,
        audience: &str,
        seconds: i64,
    ) -> Result<Token, kube::Error> {
        // As JSON: the Rust type differs between the API levels that this crate supports.
        let request = serde_json::json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {
                "audiences": if audience.is_empty() { vec![] } else { vec![audience] },
                "expirationSeconds": seconds,
                "boundObjectRef": {
                    "apiVersion": "v1", "kind": "Pod", "name": pod.name(), "uid": pod.uid(),
                },
            },
        });
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), pod.namespace());
        let asked = Timestamp::now();
        let answer: TokenAnswer = api
            .create_subresource("token", account, &PostParams::default(), &request)
            .await?;
        let status = answer.status;
        let expires = status.expiration_timestamp;
        let life = expires.duration_since(asked).as_secs().max(10);
        // 80 % of its life, less up to 10 s so that not all pods come at once.
        let refresh = life * 4 / 5 - i64::from(fastrand::u8(0..10)).min(life / 10);
        Ok(Token {
            token: status.token,
            refresh: asked
                .saturating_add(jiff::SignedDuration::from_secs(refresh))
                .unwrap_or(expires),
            expires,
        })
    }
}

/// One kind of object, by namespace and name.
struct Cache<K> {
    client: Client,
    changes: Changes,
    entries: Mutex<HashMap<(String, String), Entry<K>>>,
}

impl<K> Debug for Cache<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

struct Entry<K> {
    value: watch::Receiver<Option<Option<Arc<K>>>>,
    pods: Arc<Mutex<HashSet<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl<K> Cache<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + PartialEq
        + 'static,
{
    fn new(client: Client, changes: Changes) -> Self {
        Self {
            client,
            changes,
            entries: Mutex::default(),
        }
    }

    async fn get(&self, pod: &PodView, name: &str) -> Result<Option<Arc<K>>, kube::Error> {
        let namespace = pod.namespace();
        let mut value = self.follow(pod.uid(), namespace, name);
        let wait = async {
            value
                .wait_for(Option::is_some)
                .await
                .ok()
                .and_then(|v| (*v).clone().flatten())
        };
        if let Ok(Some(object)) = tokio::time::timeout(Duration::from_secs(10), wait).await {
            return Ok(Some(object));
        }
        // Perhaps it was made a moment ago.
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        Ok(api.get_opt(name).await?.map(Arc::new))
    }

    fn follow(
        &self,
        uid: &str,
        namespace: &str,
        name: &str,
    ) -> watch::Receiver<Option<Option<Arc<K>>>> {
        let mut entries = self.entries.lock();
        let entry = entries
            .entry((namespace.to_owned(), name.to_owned()))
            .or_insert_with(|| {
                let (sender, value) = watch::channel(None);
                let pods: Arc<Mutex<HashSet<String>>> = Arc::default();
                let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
                let task = tokio::spawn(run(
                    api,
                    name.to_owned(),
                    sender,
                    pods.clone(),
                    self.changes.clone(),
                ));
                Entry {
                    value,
                    pods,
                    _task: AbortOnDropHandle::new(task),
                }
            });
        entry.pods.lock().insert(uid.to_owned());
        entry.value.clone()
    }

    fn forget(&self, uid: &str) {
        self.entries.lock().retain(|_, entry| {
            let mut pods = entry.pods.lock();
            pods.remove(uid);
            !pods.is_empty()
        });
    }
}

async fn run<K>(
    api: Api<K>,
    name: String,
    sender: watch::Sender<Option<Option<Arc<K>>>>,
    pods: Arc<Mutex<HashSet<String>>>,
    changes: Changes,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + PartialEq + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher(api, config));
    let mut listed = None;
    let mut delay = Duration::from_millis(100);
    let set = |value: Option<Arc<K>>| {
        let first = sender.borrow().is_none();
        let changed = sender.send_if_modified(|old| {
            let differs = old.as_ref().is_none_or(|o| *o != value);
            *old = Some(value);
            differs
        });
        if changed && !first {
            for uid in pods.lock().iter() {
                // The kubelet is gone when nobody listens.
                let _ = changes.send(uid.clone());
            }
        }
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                delay = Duration::from_millis(100);
                match event {
                    Event::Init => listed = None,
                    Event::InitApply(object) => listed = Some(Arc::new(object)),
                    Event::InitDone => set(listed.take()),
                    Event::Apply(object) => set(Some(Arc::new(object))),
                    Event::Delete(_) => set(None),
                }
            }
            Err(error) => {
                debug!(%error, "watch of a pod's source broke");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(Duration::from_secs(10));
            }
        }
    }
}
