//! The control plane's side of joining: what a machine must find to become a node.
//!
//! It is what kubeadm leaves in a cluster, under the same names: who the cluster is
//! (`kube-public/cluster-info`, for everybody), its ranges (`kube-system/kubeadm-config`), and leave for
//! the bearers of tokens to ask for a node's certificate. In addition, nodes may read what a proxy
//! needs, and their requests for a server's certificate are approved if they are about themselves;
//! upstream leaves these to an administrator.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::StreamExt;
use k8s_apiserver::pki::Kubeconfig;
use k8s_model::certificates::CertificateRequest;
use k8s_openapi::api::{
    certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition},
    core::v1::{ConfigMap, Node},
    rbac::v1::{ClusterRoleBinding, Role, RoleBinding},
};
use kube::{
    Api, Client,
    api::PostParams,
    runtime::{Controller, controller::Action, watcher},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::{arguments::ServerOptions, dns::upsert};

/// The group of those who join by a token; kubeadm's.
pub(super) const JOINERS: &str = "system:bootstrappers:kubeadm:default-node-token";
/// Where everybody may read who the cluster is.
pub(super) const INFO_PATH: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

const NODES: &str = "system:nodes";
const SERVING: &str = "kubernetes.io/kubelet-serving";
const RETRY: Duration = Duration::from_secs(2);

/// Who the cluster is.
pub(super) struct Info {
    pub(super) server: String,
    /// The authority's certificate, DER.
    pub(super) authority: Vec<u8>,
}

/// Asks who the cluster is.
pub(super) async fn info(client: &Client) -> anyhow::Result<Info> {
    let map = Api::<ConfigMap>::namespaced(client.clone(), "kube-public")
        .get("cluster-info")
        .await?;
    let text = map
        .data
        .as_ref()
        .and_then(|data| data.get("kubeconfig"))
        .context("the cluster does not say who it is")?;
    let config = kube::config::Kubeconfig::from_yaml(text)?;
    let cluster = config.clusters.into_iter().find_map(|c| c.cluster);
    let Some((server, authority)) =
        cluster.and_then(|c| Some((c.server?, c.certificate_authority_data?)))
    else {
        bail!("the cluster does not say who it is");
    };
    let pem = STANDARD.decode(authority)?;
    Ok(Info {
        server,
        authority: der(&pem)?,
    })
}

/// The first certificate of a PEM text.
pub(super) fn der(pem: &[u8]) -> anyhow::Result<Vec<u8>> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).context("not a certificate")?;
    Ok(pem.contents)
}

/// An authority's hash as kubeadm gives it to those who join: of its public key, so that a renewed
/// certificate has the same.
pub(super) fn hash(authority: &[u8]) -> anyhow::Result<String> {
    let (_, certificate) =
        x509_parser::parse_x509_certificate(authority).context("not a certificate")?;
    let digest = Sha256::digest(certificate.public_key().raw);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sha256:{hex}"))
}

/// Publishes what machines need to join, and approves their requests until it is stopped.
pub(super) async fn run(
    admin: Client,
    server: String,
    authority: String,
    options: ServerOptions,
    stop: CancellationToken,
) {
    let published = async {
        while let Err(error) = publish(&admin, &server, &authority, &options).await {
            tracing::warn!(%error, "machines cannot join yet");
            tokio::time::sleep(RETRY).await;
        }
        approve(admin.clone()).await;
    };
    tokio::select! {
        () = published => {}
        () = stop.cancelled() => {}
    }
}

async fn publish(
    admin: &Client,
    server: &str,
    authority: &str,
    options: &ServerOptions,
) -> Result<(), kube::Error> {
    let group = |name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name});
    let metadata = |name: &str, namespace: &str| json!({"name": name, "namespace": namespace});
    let map = |name: &str, namespace: &str, key: &str, text: String| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": metadata(name, namespace), "data": BTreeMap::from([(key, text)]),
        })
    };
    // What a role lets its holders read, and who they are.
    let reading = [
        (
            "kube-public",
            "kubeadm:bootstrap-signer-clusterinfo",
            "cluster-info",
            vec![json!({
                "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:anonymous",
            })],
        ),
        (
            "kube-system",
            "kubeadm:nodes-kubeadm-config",
            "kubeadm-config",
            vec![group(JOINERS), group(NODES)],
        ),
    ];
    for (namespace, name, read, subjects) in reading {
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": metadata(name, namespace),
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [read], "verbs": ["get"]}],
        });
        upsert(
            &Api::<Role>::namespaced(admin.clone(), namespace),
            name,
            role,
        )
        .await?;
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": metadata(name, namespace), "subjects": subjects,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        });
        let api = Api::<RoleBinding>::namespaced(admin.clone(), namespace);
        upsert(&api, name, binding).await?;
    }
    let approving = "system:certificates.k8s.io:certificatesigningrequests:";
    let bindings = [
        (
            "kubeadm:kubelet-bootstrap",
            "system:node-bootstrapper".to_owned(),
            JOINERS,
        ),
        (
            "kubeadm:node-autoapprove-bootstrap",
            format!("{approving}nodeclient"),
            JOINERS,
        ),
        (
            "kubeadm:node-autoapprove-certificate-rotation",
            format!("{approving}selfnodeclient"),
            NODES,
        ),
        (
            "cluster:node-proxier",
            "system:node-proxier".to_owned(),
            NODES,
        ),
    ];
    for (name, role, who) in bindings {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name}, "subjects": [group(who)],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        });
        let api = Api::<ClusterRoleBinding>::all(admin.clone());
        upsert(&api, name, binding).await?;
    }
    let config = configuration(options).to_string();
    let config = map(
        "kubeadm-config",
        "kube-system",
        "ClusterConfiguration",
        config,
    );
    let api = Api::<ConfigMap>::namespaced(admin.clone(), "kube-system");
    upsert(&api, "kubeadm-config", config).await?;
    // Last: who finds this finds all.
    let kubeconfig = Kubeconfig::new(server, authority).to_string();
    let info = map("cluster-info", "kube-public", "kubeconfig", kubeconfig);
    let api = Api::<ConfigMap>::namespaced(admin.clone(), "kube-public");
    upsert(&api, "cluster-info", info).await
}

/// The cluster's configuration as kubeadm keeps it, as far as it concerns nodes.
fn configuration(options: &ServerOptions) -> Value {
    json!({
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "networking": {
            "dnsDomain": options.cluster_domain,
            "podSubnet": options.pod_cidr.to_string(),
            "serviceSubnet": options.service_cidr.to_string(),
        },
    })
}

/// Approves nodes' requests for certificates of their own servers.
async fn approve(admin: Client) {
    let requests = Api::<CertificateSigningRequest>::all(admin.clone());
    Controller::new(requests, watcher::Config::default())
        .run(judge, |_, _, _| Action::requeue(RETRY), Arc::new(admin))
        .for_each(|outcome| async move {
            if let Err(error) = outcome {
                tracing::debug!(%error, "a request for a certificate waits");
            }
        })
        .await;
}

async fn judge(
    request: Arc<CertificateSigningRequest>,
    admin: Arc<Client>,
) -> Result<Action, kube::Error> {
    if request.spec.signer_name != SERVING || !is_open(&request) {
        return Ok(Action::await_change());
    }
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let user = request.spec.username.as_deref().unwrap_or_default();
    let Some(node) = user.strip_prefix("system:node:") else {
        return Ok(Action::await_change());
    };
    let found = Api::<Node>::all((*admin).clone()).get_opt(node).await?;
    if let Err(reason) = is_own(&request, node, found.as_ref()) {
        tracing::warn!(
            request = name,
            node,
            reason,
            "left for an administrator to approve"
        );
        // A node may get the address later that it asks for.
        return Ok(Action::requeue(RETRY));
    }
    let mut approved = (*request).clone();
    let status = approved.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    conditions.push(CertificateSigningRequestCondition {
        type_: "Approved".to_owned(),
        status: "True".to_owned(),
        reason: Some("AutoApproved".to_owned()),
        message: Some("The names and addresses are the node's own.".to_owned()),
        ..Default::default()
    });
    let api = Api::<CertificateSigningRequest>::all((*admin).clone());
    let _: CertificateSigningRequest = api
        .replace_subresource("approval", name, &PostParams::default(), &approved)
        .await?;
    Ok(Action::await_change())
}

fn is_open(request: &CertificateSigningRequest) -> bool {
    let conditions = request.status.as_ref().and_then(|s| s.conditions.as_ref());
    !conditions
        .into_iter()
        .flatten()
        .any(|c| matches!(c.type_.as_str(), "Approved" | "Denied" | "Failed"))
}

/// Whether a node asks for a certificate of its own server, for names and addresses that it has.
fn is_own(
    request: &CertificateSigningRequest,
    node: &str,
    found: Option<&Node>,
) -> Result<(), &'static str> {
    let groups = request.spec.groups.iter().flatten();
    if !groups.into_iter().any(|group| group == NODES) {
        return Err("the user is no node");
    }
    let asked =
        CertificateRequest::parse(&request.spec.request.0).map_err(|_| "no request is in it")?;
    if Some(&asked.common_name) != request.spec.username.as_ref() {
        return Err("it is about somebody else");
    }
    asked.check_kubelet_serving(request.spec.usages.as_deref().unwrap_or_default())?;
    let addresses = found
        .and_then(|node| node.status.as_ref())
        .and_then(|status| status.addresses.as_ref())
        .ok_or("the node has no addresses")?;
    let has = |wanted: &str| addresses.iter().any(|a| a.address == wanted);
    let names = asked.dns_names.iter().all(|name| name == node || has(name));
    let ips = asked.ip_addresses.iter().all(|ip| has(&ip.to_string()));
    if names && ips {
        Ok(())
    } else {
        Err("not all names and addresses are the node's own")
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn node(ip: &str) -> Node {
        let node = json!({"status": {"addresses": [{"type": "InternalIP", "address": ip}]}});
        serde_json::from_value(node).unwrap()
    }

    fn request(user: &str, names: &[&str]) -> CertificateSigningRequest {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = super::super::join::subject("a");
        let key = KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let mut request = CertificateSigningRequest::default();
        request.spec.signer_name = SERVING.to_owned();
        request.spec.username = Some(user.to_owned());
        request.spec.groups = Some(vec![NODES.to_owned()]);
        request.spec.usages = Some(vec!["digital signature".into(), "server auth".into()]);
        request.spec.request = ByteString(pem.into_bytes());
        request
    }

    #[test]
    fn a_node_gets_a_certificate_for_its_own_names_and_addresses_alone() {
        let own = request("system:node:a", &["a", "10.0.0.7"]);
        assert_eq!(is_own(&own, "a", Some(&node("10.0.0.7"))), Ok(()));
        assert!(is_own(&own, "a", Some(&node("10.0.0.8"))).is_err());
        assert!(is_own(&own, "a", None).is_err());
        for (user, names) in [
            ("system:node:b", ["a", "10.0.0.7"]),
            ("system:node:a", ["b", "10.0.0.7"]),
            ("system:node:a", ["kubernetes", "10.0.0.7"]),
        ] {
            let other = request(user, &names);
            let name = user.trim_start_matches("system:node:");
            assert!(is_own(&other, name, Some(&node("10.0.0.7"))).is_err());
        }
        let mut stranger = own.clone();
        stranger.spec.groups = None;
        assert!(is_own(&stranger, "a", Some(&node("10.0.0.7"))).is_err());
    }
}
