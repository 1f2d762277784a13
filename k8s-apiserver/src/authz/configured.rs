//! [`ConfiguredAuthorizers`]: the authorizers of a file, which is read again when it changes.

use std::{path::Path, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use tokio_util::task::AbortOnDropHandle;

use super::{
    AllowMasters, AlwaysAllow, Attributes, AuthorizationConfiguration,
    AuthorizationConfigurationError, Authorizer, Chain, ConfiguredAuthorizer, Decision, KnownRules,
    WebhookAuthorizer, node::NodeAuthorizer, rbac::Rbac,
};
use crate::{
    admission::reader::ObjectReader,
    auth::Identity,
    reload::{PERIOD, Refusal, Reload, Reloads, follow},
};

/// Asks the authorizers that a file with an [`AuthorizationConfiguration`] names.
///
/// The file is looked at every five seconds. A change counts if it is valid, and what was there before goes on if it
/// is not. Webhooks may come, go and change that way; the others that were there at the start must stay. Before all of
/// them, `system:masters` are allowed everything.
#[derive(Debug)]
pub struct ConfiguredAuthorizers {
    current: Arc<ArcSwap<Chain>>,
    reloads: Arc<Reloads>,
    _watching: AbortOnDropHandle<()>,
}

/// What chains are made of.
struct Parts {
    nodes: Arc<NodeAuthorizer>,
    rbac: Arc<Rbac>,
    reader: Arc<dyn ObjectReader>,
}

/// The sorts of authorizers that are there once at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Node,
    Rbac,
    AlwaysAllow,
}

fn sorts(configuration: &AuthorizationConfiguration) -> Vec<Sort> {
    let all = configuration.authorizers.iter();
    all.filter_map(|configured| match configured {
        ConfiguredAuthorizer::Node => Some(Sort::Node),
        ConfiguredAuthorizer::Rbac => Some(Sort::Rbac),
        ConfiguredAuthorizer::AlwaysAllow => Some(Sort::AlwaysAllow),
        ConfiguredAuthorizer::Webhook { .. } => None,
    })
    .collect()
}

impl Parts {
    fn chain(
        &self,
        configuration: AuthorizationConfiguration,
    ) -> Result<Chain, AuthorizationConfigurationError> {
        let all = configuration.authorizers.into_iter().enumerate();
        let all = all.map(|(n, configured)| -> Result<Arc<dyn Authorizer>, _> {
            Ok(match configured {
                ConfiguredAuthorizer::Node => self.nodes.clone(),
                ConfiguredAuthorizer::Rbac => self.rbac.clone(),
                ConfiguredAuthorizer::AlwaysAllow => Arc::new(AlwaysAllow),
                ConfiguredAuthorizer::Webhook { file, options } => {
                    let made = WebhookAuthorizer::from_file(&file, options, self.reader.clone());
                    let made = made.map_err(|e| AuthorizationConfigurationError::Invalid {
                        path: format!("authorizers[{n}].webhook.connectionInfo.kubeConfigFile"),
                        reason: e.to_string(),
                    });
                    Arc::new(made?)
                }
            })
        });
        let masters = Ok(Arc::new(AllowMasters) as Arc<dyn Authorizer>);
        let all = std::iter::once(masters).chain(all);
        Ok(Chain::new(all.collect::<Result<_, _>>()?))
    }
}

impl ConfiguredAuthorizers {
    /// Reads the file, and follows it in a task that ends when the value is dropped. The reader also finds webhooks
    /// that are Services.
    ///
    /// # Errors
    /// If the file cannot be read, or is not valid, or a webhook's file is of no use.
    pub fn from_file(
        path: &Path,
        nodes: Arc<NodeAuthorizer>,
        rbac: Arc<Rbac>,
        reader: Arc<dyn ObjectReader>,
    ) -> Result<Self, AuthorizationConfigurationError> {
        let parts = Parts {
            nodes,
            rbac,
            reader,
        };
        Self::looking_every(PERIOD, path, parts)
    }

    fn looking_every(
        period: Duration,
        path: &Path,
        parts: Parts,
    ) -> Result<Self, AuthorizationConfigurationError> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| AuthorizationConfigurationError::Decode(e.to_string()))?;
        let configuration = AuthorizationConfiguration::parse(&text)?;
        let needed = sorts(&configuration);
        let current = Arc::new(ArcSwap::from_pointee(parts.chain(configuration)?));
        let again = Again {
            parts,
            needed,
            current: current.clone(),
        };
        let reloads = Reloads::of("authorization");
        let following = follow(period, path.to_owned(), text, reloads.clone(), again);
        Ok(ConfiguredAuthorizers {
            current,
            reloads,
            _watching: AbortOnDropHandle::new(tokio::spawn(following)),
        })
    }

    /// How often the file was read again, under upstream's names in Prometheus' format.
    pub fn metrics(&self) -> impl Fn() -> String + Send + Sync + use<> {
        let reloads = self.reloads.clone();
        move || reloads.text()
    }
}

struct Again {
    parts: Parts,
    needed: Vec<Sort>,
    current: Arc<ArcSwap<Chain>>,
}

#[async_trait]
impl Reload for Again {
    async fn reload(&mut self, text: &str) -> Result<(), Refusal> {
        let never = |error: AuthorizationConfigurationError| Refusal::Never(error.to_string());
        let read = AuthorizationConfiguration::parse(text).map_err(never)?;
        let found = sorts(&read);
        let missing: Vec<_> = self.needed.iter().filter(|s| !found.contains(s)).collect();
        if !missing.is_empty() {
            let text = format!("authorizers: authorizers of the types {missing:?} are required");
            return Err(Refusal::Never(text));
        }
        // A webhook's file may still come.
        let chain = self.parts.chain(read);
        let chain = chain.map_err(|error| Refusal::NotYet(error.to_string()))?;
        self.current.store(Arc::new(chain));
        Ok(())
    }
}

#[async_trait]
impl Authorizer for ConfiguredAuthorizers {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        self.current.load_full().authorize(attributes).await
    }

    async fn explain(&self, attributes: &Attributes<'_>) -> String {
        self.current.load_full().explain(attributes).await
    }

    fn rules(&self, user: &Identity, namespace: &str) -> KnownRules {
        self.current.load_full().rules(user, namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admission::memory::MemoryReader,
        auth::MASTERS,
        authz::{FailurePolicy, WebhookAuthorizerOptions},
    };

    const START: &str = "
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- {type: RBAC, name: rbac}
";

    fn read_a_pod(user: &Identity) -> Attributes<'_> {
        Attributes {
            user,
            verb: "get",
            group: "",
            version: "v1",
            resource: "pods",
            subresource: "",
            namespace: "ns",
            name: "p",
            path: "",
            resource_request: true,
            selectors: None,
        }
    }

    fn parts() -> Parts {
        let reader: Arc<dyn ObjectReader> = Arc::new(MemoryReader::default());
        Parts {
            nodes: Arc::new(NodeAuthorizer::start(&*reader)),
            rbac: Arc::new(Rbac::start(&*reader)),
            reader,
        }
    }

    #[tokio::test]
    async fn masters_are_allowed_before_a_webhook_that_refuses_all_is_asked() {
        let path = std::env::temp_dir().join(format!("hook-{}.yaml", uuid::Uuid::new_v4()));
        // Nobody listens at port 1.
        let text = "{current-context: c, contexts: [{name: c, context: {cluster: h}}], clusters: [{name: h, cluster: {server: 'https://127.0.0.1:1/'}}]}";
        std::fs::write(&path, text).unwrap();
        let options = WebhookAuthorizerOptions {
            timeout: Duration::from_millis(100),
            failure_policy: FailurePolicy::Deny,
            ..WebhookAuthorizerOptions::default()
        };
        let file = path.clone();
        let authorizers = vec![
            ConfiguredAuthorizer::Webhook { file, options },
            ConfiguredAuthorizer::Rbac,
        ];
        let chain = parts().chain(AuthorizationConfiguration { authorizers });
        let chain = chain.unwrap();
        std::fs::remove_file(path).unwrap();
        let master = Identity::user("admin").group(MASTERS);
        assert!(chain.authorize(&read_a_pod(&master)).await.is_allowed());
        let alice = Identity::user("alice");
        assert!(!chain.authorize(&read_a_pod(&alice)).await.is_allowed());
    }

    #[tokio::test]
    async fn a_changed_file_counts_if_it_is_valid_and_keeps_what_was_there() {
        let name = format!("authorization-{}.yaml", uuid::Uuid::new_v4());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, START).unwrap();
        let period = Duration::from_millis(10);
        let authorizers = ConfiguredAuthorizers::looking_every(period, &path, parts()).unwrap();
        let alice = Identity::user("alice");
        let attributes = read_a_pod(&alice);
        let metrics = authorizers.metrics();
        let total = |status: &str| {
            let text = metrics();
            let sample = format!(
                "apiserver_authorization_config_controller_automatic_reloads_total{{apiserver_id_hash=\"{}\",status=\"{status}\"}} ",
                crate::metrics::server_hash()
            );
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(&sample)?.parse::<u32>().ok())
        };
        let becomes = async |status: &str, count: u32| {
            let wait = async {
                while total(status).unwrap_or(0) < count {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(30), wait)
                .await
                .unwrap();
        };
        let allowed = async || authorizers.authorize(&attributes).await.is_allowed();
        assert!(!allowed().await);
        let open = format!("{START}- {{type: AlwaysAllow, name: open}}\n");
        for (n, bad) in [
            open.replace("RBAC", "Node"),
            open.replace("Always", "Never"),
        ]
        .iter()
        .enumerate()
        {
            std::fs::write(&path, bad).unwrap();
            becomes("failure", u32::try_from(n).unwrap() + 1).await;
            assert!(!allowed().await);
        }
        std::fs::write(&path, open).unwrap();
        becomes("success", 1).await;
        assert!(allowed().await);
        std::fs::remove_file(&path).unwrap();
    }
}
