//! Encryption at rest: upstream's `EncryptionConfiguration`, applied to a store.
//!
//! Of upstream's providers there are `aesgcm` and `identity`. The first provider writes, all of them read; so a key
//! is changed in three steps, with a restart of all servers of the cluster after each:
//!
//! 1. add the new key behind the old one, so that every server can read what it will seal;
//! 2. put the new key first: a server that starts [seals again](Encrypted::reseal) what other keys have sealed;
//! 3. remove the old key.
//!
//! One server alone needs no step 1. See <https://kubernetes.io/docs/tasks/administer-cluster/encrypt-data/>.

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_model::ResourceTable;
use k8s_store::{
    List, Store,
    layer::{EncryptedStore, EncryptionKey, EncryptionLayer},
};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use tower::Layer;

use crate::registry::key;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncryptionError {
    /// It is not YAML (or JSON) of a configuration.
    #[error("encryption configuration cannot be decoded: {0}")]
    Decode(String),
    /// It is of another kind or version.
    #[error(
        "encryption configuration is {kind:?} in {api_version:?}, not EncryptionConfiguration in apiserver.config.k8s.io/v1"
    )]
    Kind {
        /// What it says.
        api_version: String,
        /// What it says.
        kind: String,
    },
    /// What it says is not allowed, or cannot be done here.
    #[error("{path}: {reason}")]
    Invalid {
        /// Where, such as `resources[0].providers[1]`.
        path: String,
        /// Why.
        reason: String,
    },
    /// The system gives no random numbers to make a key of.
    #[error("the system gives no random numbers")]
    Random,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    resources: Vec<Resources>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    resources: Vec<String>,
    providers: Vec<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    name: String,
    secret: String,
}

/// Which resources are encrypted in the store, and with which keys.
#[derive(Clone)]
pub struct EncryptionConfiguration {
    rules: Vec<(Vec<String>, EncryptionLayer)>,
}

impl fmt::Debug for EncryptionConfiguration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefixes = self.rules.iter().flat_map(|(prefixes, _)| prefixes);
        f.debug_set().entries(prefixes).finish()
    }
}

/// What a new file begins with.
const HEAD: &str = "\
# Which objects are encrypted in the store, and with which keys. Whoever has a copy of the store and of this file can
# read them: keep the file apart from backups, and never lose it.
#
# To change the key: add a new one as the first (a name of its own, `head -c 32 /dev/urandom | base64`), and restart.
# What the old key sealed is sealed again within moments of the start; then remove the old key. Where several servers
# share the store, first add the new key behind the old one on all of them, and restart them.
";

impl EncryptionConfiguration {
    /// The text of a configuration that encrypts Secrets with a new key, AES-256, and still reads those that were
    /// stored before.
    ///
    /// # Errors
    /// If the system gives no random numbers.
    pub fn generate() -> Result<String, EncryptionError> {
        let mut key = [0; 32];
        SystemRandom::new()
            .fill(&mut key)
            .map_err(|_| EncryptionError::Random)?;
        let secret = STANDARD.encode(key);
        Ok(format!(
            "{HEAD}\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources:
  - secrets
  providers:
  - aesgcm:
      keys:
      - name: key1
        secret: {secret}
  - identity: {{}}
"
        ))
    }

    /// Reads the text of a configuration file.
    ///
    /// # Errors
    /// If it is none, or asks for what is not there: other providers than `aesgcm` and `identity`, wildcards.
    pub fn parse(text: &str) -> Result<Self, EncryptionError> {
        let file: File =
            // Without the lines around the fault: they may be keys, and this is logged.
            serde_saphyr::from_str(text)
                .map_err(|e| EncryptionError::Decode(e.without_snippet().to_string()))?;
        if file.api_version != "apiserver.config.k8s.io/v1"
            || file.kind != "EncryptionConfiguration"
        {
            return Err(EncryptionError::Kind {
                api_version: file.api_version,
                kind: file.kind,
            });
        }
        let mut rules: Vec<(Vec<String>, EncryptionLayer)> = Vec::new();
        for (n, group) in file.resources.iter().enumerate() {
            let mut prefixes = Vec::new();
            for (m, name) in group.resources.iter().enumerate() {
                let prefix = prefix(name).map_err(|reason| EncryptionError::Invalid {
                    path: format!("resources[{n}].resources[{m}]"),
                    reason,
                })?;
                // The first group that names a resource has it.
                if !rules.iter().any(|(taken, _)| taken.contains(&prefix)) {
                    prefixes.push(prefix);
                }
            }
            if let Some(layer) = layer(&group.providers, &prefixes, n)? {
                rules.push((prefixes, layer));
            }
        }
        Ok(EncryptionConfiguration { rules })
    }

    /// Puts the encryption before a store.
    pub fn apply(&self, store: Arc<dyn Store>) -> Encrypted {
        let mut encrypted = Encrypted {
            store,
            layers: Vec::new(),
        };
        for (prefixes, layer) in &self.rules {
            let layer = Arc::new(layer.layer(encrypted.store.clone()));
            encrypted.store = layer.clone();
            encrypted.layers.push((prefixes.clone(), layer));
        }
        encrypted
    }
}

/// Where the store keeps the objects of a resource that is named as `secrets` or `widgets.example.com`.
fn prefix(name: &str) -> Result<String, String> {
    if name.contains('*') {
        return Err("wildcards are not supported: name the resources".to_owned());
    }
    let (resource, group) = name.split_once('.').unwrap_or((name, ""));
    let mut rows = ResourceTable::builtin().rows().iter();
    match rows.find(|row| row.resource == resource && row.group == group) {
        Some(row) => Ok(key::prefix(row)),
        None if group.is_empty() => Err(format!("there is no resource {name:?}")),
        None => Ok(format!("/registry/{group}/{resource}/")),
    }
}

fn layer(
    providers: &[serde_json::Map<String, serde_json::Value>],
    prefixes: &[String],
    n: usize,
) -> Result<Option<EncryptionLayer>, EncryptionError> {
    let mut keys = Vec::new();
    let (mut plain, mut plain_first) = (false, false);
    for (m, provider) in providers.iter().enumerate() {
        let invalid = |reason: String| EncryptionError::Invalid {
            path: format!("resources[{n}].providers[{m}]"),
            reason,
        };
        let mut settings = provider.iter();
        let (Some((kind, value)), None) = (settings.next(), settings.next()) else {
            return Err(invalid("a provider has one setting, its kind".into()));
        };
        match kind.as_str() {
            "identity" => {
                plain = true;
                plain_first |= keys.is_empty();
            }
            "aesgcm" => {
                let read = Keys::deserialize(value).map_err(|e| invalid(e.to_string()))?;
                for key in read.keys {
                    let secret = STANDARD.decode(key.secret.trim());
                    let secret =
                        secret.map_err(|_| invalid(format!("key {:?} is not base64", key.name)))?;
                    let made = EncryptionKey::try_new(&key.name, &secret);
                    keys.push(made.map_err(|e| invalid(e.to_string()))?);
                }
            }
            other => {
                return Err(invalid(format!(
                    "provider {other:?} is not supported: there are aesgcm and identity"
                )));
            }
        }
    }
    if keys.is_empty() {
        return match plain {
            true => Ok(None),
            false => Err(EncryptionError::Invalid {
                path: format!("resources[{n}].providers"),
                reason: "there is none".into(),
            }),
        };
    }
    let made = EncryptionLayer::try_new(prefixes.iter().cloned(), keys);
    let layer = made.map_err(|e| EncryptionError::Invalid {
        path: format!("resources[{n}].providers"),
        reason: e.to_string(),
    })?;
    Ok(Some(match (plain_first, plain) {
        (true, _) => layer.writing_plain(),
        (false, true) => layer.or_plain(),
        (false, false) => layer,
    }))
}

type Layered = Arc<EncryptedStore<Arc<dyn Store>>>;

/// A store of which a part is encrypted.
#[derive(Clone, Debug)]
pub struct Encrypted {
    store: Arc<dyn Store>,
    layers: Vec<(Vec<String>, Layered)>,
}

/// Whose objects live for an hour, and go by themselves.
const SHORT_LIVED: &str = "/registry/events/";

impl Encrypted {
    /// The store, for [`ApiServerBuilder::store`](crate::ApiServerBuilder::store): values are sealed on their way in,
    /// and opened on their way out.
    pub fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// Reads all that is encrypted.
    ///
    /// # Errors
    /// [`k8s_store::Error::Undecipherable`] if the configuration lacks a key that is needed.
    pub async fn check(&self) -> Result<(), k8s_store::Error> {
        for prefix in self.layers.iter().flat_map(|(prefixes, _)| prefixes) {
            let mut list = List {
                prefix: prefix.clone().into(),
                limit: Some(500),
                ..List::default()
            };
            loop {
                let page = self.store.list(list.clone()).await?;
                list.after = page.entries.last().map(|entry| entry.key.clone());
                if page.remaining == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Writes again what is not as it would be written now: sealed with another key than the first, or not at all, or
    /// sealed where that has been given up. Says how many objects that were. Events are left as they are: they live
    /// for an hour.
    ///
    /// # Errors
    /// As the store's; what was written until then stays.
    pub async fn reseal(&self) -> Result<usize, k8s_store::Error> {
        let mut count = 0;
        for (prefixes, layer) in &self.layers {
            for prefix in prefixes.iter().filter(|p| *p != SHORT_LIVED) {
                count += layer.reseal(prefix.clone()).await?;
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use k8s_store::MemoryStore;
    use serde_json::json;

    use super::*;
    use crate::ApiServer;

    #[test]
    fn a_fault_in_the_text_is_told_without_the_keys_around_it() {
        let text = EncryptionConfiguration::generate().unwrap();
        let (_, after) = text.split_once("secret: ").unwrap();
        let (secret, _) = after.split_once('\n').unwrap();
        let broken = text.replace("- identity: {}", "- identity: {");
        let error = EncryptionConfiguration::parse(&broken).unwrap_err();
        let told = error.to_string();
        assert!(matches!(error, EncryptionError::Decode(_)), "{told}");
        assert!(!told.contains(secret), "{told}");
    }

    const SECRETS: &str = "/api/v1/namespaces/default/secrets";

    async fn send(server: &ApiServer, method: &str, path: &str, body: String) -> (u16, String) {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .extension(crate::auth::Identity::system_masters())
            .body(crate::http::Body::from(body));
        let answer = server.handle(request.unwrap()).await;
        let status = answer.status().as_u16();
        let bytes = http_body_util::BodyExt::collect(answer.into_body()).await;
        let bytes = bytes.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn raw(store: &MemoryStore, name: &str) -> Vec<u8> {
        let key = format!("/registry/secrets/default/{name}");
        let entry = store.get(key.as_bytes(), None).await.unwrap().unwrap();
        entry.value.to_vec()
    }

    fn has(haystack: &[u8], needle: &str) -> bool {
        haystack
            .windows(needle.len())
            .any(|w| w == needle.as_bytes())
    }

    #[tokio::test]
    async fn secrets_stored_before_are_sealed_and_all_are_served_as_they_were() {
        let plain = MemoryStore::new();
        let secret = |name: &str| {
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"k": "aHVzaC1odXNo"}})
                .to_string()
        };
        let open = ApiServer::builder().store(Arc::new(plain.clone()));
        let open = open.build().await.unwrap();
        assert_eq!(send(&open, "POST", SECRETS, secret("a")).await.0, 201);
        open.shutdown().await;
        assert!(has(&raw(&plain, "a").await, "aHVzaC1odXNo"));

        let text = EncryptionConfiguration::generate().unwrap();
        let configuration = EncryptionConfiguration::parse(&text).unwrap();
        let encrypted = configuration.apply(Arc::new(plain.clone()));
        encrypted.check().await.unwrap();
        let server = ApiServer::builder().store(encrypted.store());
        let server = server.build().await.unwrap();
        assert_eq!(send(&server, "POST", SECRETS, secret("b")).await.0, 201);
        assert_eq!(encrypted.reseal().await.unwrap(), 1);
        for name in ["a", "b"] {
            let raw = raw(&plain, name).await;
            assert!(raw.starts_with(b"k8s:enc:aesgcm:v1:key1:"));
            assert!(!has(&raw, "aHVzaC1odXNo"));
            let (code, text) =
                send(&server, "GET", &format!("{SECRETS}/{name}"), String::new()).await;
            assert_eq!(code, 200);
            assert!(text.contains("aHVzaC1odXNo"));
        }
        server.shutdown().await;

        let other = EncryptionConfiguration::generate().unwrap();
        let other = EncryptionConfiguration::parse(&other).unwrap();
        let error = other.apply(Arc::new(plain)).check().await.unwrap_err();
        assert!(matches!(error, k8s_store::Error::Undecipherable { .. }));
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_its_place() {
        let parse = |resources: serde_json::Value| {
            let text = json!({
                "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
                "resources": resources,
            });
            EncryptionConfiguration::parse(&text.to_string()).map_err(|e| e.to_string())
        };
        let key = |secret: &str| json!({"aesgcm": {"keys": [{"name": "a", "secret": secret}]}});
        let good = key("AAAAAAAAAAAAAAAAAAAAAA==");
        for (resources, said) in [
            (json!(["*.*"]), "resources[0].resources[0]: wildcards"),
            (json!(["nothing"]), "resources[0].resources[0]: there is no"),
        ] {
            let error = parse(json!([{"resources": resources, "providers": [good]}]));
            assert!(error.unwrap_err().starts_with(said));
        }
        for (providers, said) in [
            (
                json!([{"kms": {}}]),
                "resources[0].providers[0]: provider \"kms\" is not supported",
            ),
            (json!([key("AAAA")]), "resources[0].providers[0]: "),
            (
                json!([key("?")]),
                "resources[0].providers[0]: key \"a\" is not base64",
            ),
            (json!([good, good]), "resources[0].providers: "),
            (json!([]), "resources[0].providers: there is none"),
        ] {
            let error = parse(json!([{"resources": ["secrets"], "providers": providers}]));
            let error = error.unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
        let fine = json!([{"resources": ["secrets", "widgets.example.com"], "providers": [{"identity": {}}, good]}]);
        assert!(parse(fine).is_ok());
    }
}
