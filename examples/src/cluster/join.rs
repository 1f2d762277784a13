//! A machine's side of joining: from a token to a node's credentials, as kubelet and kubeadm do it.
//!
//! 1. The cluster says who it is, to anybody, and proves it by the hash that came with the token.
//! 2. The token's bearer asks for a client certificate in the node's name, which is granted by itself.
//! 3. The node makes its Node, with its addresses, and asks for a certificate for its own server.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/kubelet-tls-bootstrapping/>.

use std::{fs, net::Ipv4Addr, path::Path, pin::pin, time::Duration};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_apiserver::pki::{Credential, Kubeconfig};
use k8s_model::certificates::expiry;
use k8s_openapi::{
    api::{
        certificates::v1::CertificateSigningRequest,
        core::v1::{ConfigMap, Node},
    },
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    config::KubeConfigOptions,
    runtime::wait::await_condition,
};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde::Deserialize;
use serde_json::json;

use super::{arguments::NodeOptions, joining, layout::Layout, rotation::Newest};

/// How long a certificate may take to be granted when a node starts.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How long it waits for something without a word.
const SILENCE: Duration = Duration::from_secs(2);

/// A node's way to its cluster.
pub(super) struct Membership {
    /// Where the certificate of its client can be exchanged.
    pub(super) newest: Newest,
    /// That certificate, PEM.
    pub(super) certificate: String,
    /// The authority's certificate, PEM.
    pub(super) authority: String,
    pub(super) networking: Networking,
}

/// The cluster's ranges and names.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Networking {
    pub(super) dns_domain: String,
    pub(super) pod_subnet: String,
    pub(super) service_subnet: String,
}

#[derive(Deserialize)]
struct ClusterConfiguration {
    networking: Networking,
}

/// Joins, or comes back with the credentials of the last time.
pub(super) async fn join(
    options: &NodeOptions,
    name: &str,
    layout: &Layout,
) -> anyhow::Result<Membership> {
    let path = layout.node_kubeconfig();
    if !is_good(&path, name) {
        let config = bootstrap(options, name).await?;
        config
            .write(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut config = load(&text)
        .await
        .with_context(|| path.display().to_string())?;
    // The cluster may be found elsewhere than last time.
    config.cluster_url = options.join.parse().context("--join is no URL")?;
    let authority = config.root_cert.clone().unwrap_or_default();
    let authority = authority
        .first()
        .context("the cluster's authority is missing")?;
    let authority = pem(authority);
    let certificate = shown(&path, name).context("the node's certificate is missing")?;
    let newest = Newest::new(Client::try_from(config)?);
    let networking = networking(&newest.client())
        .await
        .with_context(|| format!("cannot speak to the cluster as {name}"))?;
    Ok(Membership {
        newest,
        certificate: String::from_utf8_lossy(&certificate).into_owned(),
        authority,
        networking,
    })
}

/// A certificate as PEM.
fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64);
    let lines: Vec<_> = lines.map(String::from_utf8_lossy).collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

/// Whether a kubeconfig has a certificate of the node that will do for a while.
fn is_good(path: &Path, name: &str) -> bool {
    let ends = shown(path, name).and_then(|pem| expiry(&pem));
    ends.is_some_and(|ends| ends > Timestamp::now())
}

/// The certificate of the node in a kubeconfig, PEM.
fn shown(path: &Path, name: &str) -> Option<Vec<u8>> {
    let config = kube::config::Kubeconfig::read_from(path).ok()?;
    let mut infos = config.auth_infos.into_iter();
    let info = infos.find(|info| info.name == user(name))?;
    STANDARD
        .decode(info.auth_info?.client_certificate_data?)
        .ok()
}

/// A kubeconfig's text as a configuration of a client.
pub(super) async fn load(text: &str) -> anyhow::Result<kube::Config> {
    let config = kube::config::Kubeconfig::from_yaml(text)?;
    Ok(kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?)
}

/// What a node is as a user.
pub(super) fn user(node: &str) -> String {
    format!("system:node:{node}")
}

/// The subject of a node's certificates.
pub(super) fn subject(node: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, "system:nodes");
    subject.push(DnType::CommonName, user(node));
    subject
}

/// From a token to a kubeconfig of the node.
async fn bootstrap(options: &NodeOptions, name: &str) -> anyhow::Result<Kubeconfig> {
    let (Some(token), Some(hash)) = (&options.token, &options.discovery_token_ca_cert_hash) else {
        bail!(
            "{} has no credentials of {name}: give --token and --discovery-token-ca-cert-hash, as `cluster token` prints them",
            options.data_dir.display()
        );
    };
    let server = &options.join;
    let authority = discover(server, hash)
        .await
        .with_context(|| format!("cannot join {server}"))?;
    let bootstrap =
        Kubeconfig::new(server, &authority).with_token("tls-bootstrap-token-user", token);
    let client = Client::try_from(load(&bootstrap.to_string()).await?)?;
    let credential = certificate(&client, name, &Purpose::Client, PATIENCE)
        .await
        .context("cannot get a certificate for the node")?;
    Ok(Kubeconfig::new(server, &authority).with_client_certificate(&user(name), &credential))
}

/// Who the cluster is that serves there: its authority's certificate, PEM, if that has the hash.
async fn discover(server: &str, hash: &str) -> anyhow::Result<String> {
    let mut config = kube::Config::new(server.parse().context("--join is no URL")?);
    // Whoever answers: what counts is the hash.
    config.accept_invalid_certs = true;
    let info = joining::info(&Client::try_from(config)?).await?;
    let found = joining::hash(&info.authority)?;
    if found != hash {
        bail!(
            "the cluster's authority has the hash {found}, not {hash}: this is another cluster, or somebody in between"
        );
    }
    Ok(pem(&info.authority))
}

/// What a node's certificate is for.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// To say who it is.
    Client,
    /// To be known by its name and this address.
    Server(Ipv4Addr),
}

impl Purpose {
    fn signer(&self) -> &'static str {
        match self {
            Self::Client => "kubernetes.io/kube-apiserver-client-kubelet",
            Self::Server(_) => "kubernetes.io/kubelet-serving",
        }
    }

    fn usages(&self) -> Vec<String> {
        let usage = match self {
            Self::Client => "client auth",
            Self::Server(_) => "server auth",
        };
        vec!["digital signature".to_owned(), usage.to_owned()]
    }

    fn params(&self, node: &str) -> anyhow::Result<CertificateParams> {
        let names = match self {
            Self::Client => Vec::new(),
            Self::Server(ip) => vec![node.to_owned(), ip.to_string()],
        };
        CertificateParams::new(names).with_context(|| format!("{node:?} cannot be a node's name"))
    }
}

/// Asks for a certificate in the node's name and waits until it is granted, but no longer than that.
pub(super) async fn certificate(
    client: &Client,
    node: &str,
    purpose: &Purpose,
    patience: Duration,
) -> anyhow::Result<Credential> {
    let mut params = purpose.params(node)?;
    params.distinguished_name = subject(node);
    let key = KeyPair::generate().context("the system has no randomness")?;
    let asked = params.serialize_request(&key)?.pem()?;
    let mut request = CertificateSigningRequest::default();
    request.metadata.generate_name = Some("node-csr-".to_owned());
    request.spec.request = k8s_openapi::ByteString(asked.into_bytes());
    request.spec.signer_name = purpose.signer().to_owned();
    request.spec.usages = Some(purpose.usages());
    let api = Api::<CertificateSigningRequest>::all(client.clone());
    let made = api.create(&PostParams::default(), &request).await?;
    let made = made.metadata.name.unwrap_or_default();
    let decided = |request: Option<&CertificateSigningRequest>| {
        request.is_some_and(|request| outcome(request).is_some())
    };
    let what = format!(
        "the approval of the request {made} for a certificate by {}: `kubectl certificate approve {made}`, unless the cluster has a controller that does it",
        purpose.signer()
    );
    let decided = patiently(patience, &what, await_condition(api, &made, decided)).await;
    let Some(decided) = decided else {
        bail!(
            "request {made} was not approved within {patience:?}: `kubectl certificate approve {made}`, and try again"
        );
    };
    let certificate = decided?
        .as_ref()
        .and_then(outcome)
        .context("the request was removed")?
        .map_err(|refusal| anyhow::anyhow!("request {made} was refused: {refusal}"))?;
    Ok(Credential {
        certificate,
        key: key.serialize_pem(),
    })
}

/// Waits for something to come about, but no longer than that; says what it waits for if it takes a while. Nothing if it
/// waited in vain.
async fn patiently<T>(
    patience: Duration,
    what: &str,
    comes_about: impl Future<Output = T>,
) -> Option<T> {
    let mut comes_about = pin!(comes_about);
    let silence = SILENCE.min(patience);
    if let Ok(result) = tokio::time::timeout(silence, &mut comes_about).await {
        return Some(result);
    }
    let rest = patience - silence;
    tracing::warn!("waiting, for at most {patience:?}, for {what}");
    tokio::time::timeout(rest, comes_about).await.ok()
}

/// What came of a request: the certificate, or why there is none.
fn outcome(request: &CertificateSigningRequest) -> Option<Result<String, String>> {
    let status = request.status.as_ref()?;
    if let Some(pem) = status.certificate.as_ref().filter(|pem| !pem.0.is_empty()) {
        return Some(Ok(String::from_utf8_lossy(&pem.0).into_owned()));
    }
    let conditions = status.conditions.iter().flatten();
    let refusal = conditions
        .into_iter()
        .find(|c| matches!(c.type_.as_str(), "Denied" | "Failed"))?;
    Some(Err(refusal.message.clone().unwrap_or_default()))
}

async fn networking(client: &Client) -> anyhow::Result<Networking> {
    let map = Api::<ConfigMap>::namespaced(client.clone(), "kube-system")
        .get("kubeadm-config")
        .await?;
    let text = map
        .data
        .as_ref()
        .and_then(|data| data.get("ClusterConfiguration"))
        .context("kube-system/kubeadm-config has no ClusterConfiguration")?;
    let config: ClusterConfiguration = serde_saphyr::from_str(text)?;
    Ok(config.networking)
}

/// Makes the Node, tells its addresses, and waits for the range of its pods.
pub(super) async fn register(
    client: &Client,
    name: &str,
    ip: Ipv4Addr,
    patience: Duration,
) -> anyhow::Result<String> {
    let api = Api::<Node>::all(client.clone());
    let mut node = Node::default();
    node.metadata.name = Some(name.to_owned());
    match api.create(&PostParams::default(), &node).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error).with_context(|| format!("cannot make the Node {name}")),
    }
    let addresses = json!([
        {"type": "InternalIP", "address": ip.to_string()},
        {"type": "Hostname", "address": name},
    ]);
    let patch = Patch::Strategic(json!({"status": {"addresses": addresses}}));
    api.patch_status(name, &PatchParams::default(), &patch)
        .await
        .context("cannot tell the node's addresses")?;
    let range = |node: Option<&Node>| pod_cidr(node).is_some();
    let what = format!("a range of addresses for the pods of {name}, in its `spec.podCIDR`");
    let waiting = patiently(patience, &what, await_condition(api, name, range)).await;
    let Some(found) = waiting else {
        bail!("{name} got no range of addresses for its pods within {patience:?}");
    };
    pod_cidr(found?.as_ref()).context("the Node was removed")
}

fn pod_cidr(node: Option<&Node>) -> Option<String> {
    node?.spec.as_ref()?.pod_cidr.clone()
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use k8s_apiserver::{ApiServer, auth::Identity};
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[tokio::test]
    async fn who_waits_for_others_says_for_what() {
        let server = ApiServer::builder().build().await.unwrap();
        let identity = Identity::user(user("a")).group("system:nodes");
        let client = server.client(identity);
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().with_writer(lines.clone());
        let _here = tracing::subscriber::set_default(subscriber.finish());
        let patience = Duration::from_millis(100);

        // Nobody signs here.
        let purpose = Purpose::Server([192, 0, 2, 7].into());
        let asked = certificate(&client, "a", &purpose, patience).await;
        let error = asked.unwrap_err().to_string();
        let request = error.split(' ').nth(1).unwrap();
        assert!(request.starts_with("node-csr-"), "{error}");
        let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let wanted = format!(
            "waiting, for at most 100ms, for the approval of the request {request} for a certificate by kubernetes.io/kubelet-serving"
        );
        assert!(said.contains(&wanted), "{said}");

        lines.0.lock().unwrap().clear();
        let registered = register(&client, "a", [192, 0, 2, 7].into(), patience);
        assert!(registered.await.is_err());
        let said = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(
            said.contains("for the pods of a, in its `spec.podCIDR`"),
            "{said}"
        );
        // What comes soon is waited for in silence.
        lines.0.lock().unwrap().clear();
        assert_eq!(patiently(PATIENCE, "nothing", async { 1 }).await, Some(1));
        assert!(lines.0.lock().unwrap().is_empty());
    }
}
