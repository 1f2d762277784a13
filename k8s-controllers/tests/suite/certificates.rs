//! Certificate signing requests: approved by hand or for nodes, and granted by the cluster's
//! authority.

use std::{error::Error, sync::Arc, time::Duration};

use crate::support::{Cluster, client_for, from, until};
use k8s_apiserver::{auth::Identity, pki::Pki};
use k8s_controllers::{CertificateSigner, ControllerManager};
use k8s_model::certificates::{CertificateRequest, check_certificates};
use k8s_openapi::{api::certificates::v1::CertificateSigningRequest, jiff::SignedDuration};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};

struct Signer(Pki);

impl CertificateSigner for Signer {
    fn sign(
        &self,
        request: &CertificateRequest,
        usages: &[String],
        lifetime: Duration,
    ) -> Result<String, Box<dyn Error + Send + Sync>> {
        let lifetime = SignedDuration::try_from(lifetime)?;
        Ok(self.0.sign_request(request, usages, lifetime)?)
    }
}

async fn start() -> (Cluster, tokio::task::JoinHandle<()>) {
    let cluster = Cluster::bare().await;
    let server = cluster.server.clone();
    let manager = ControllerManager::builder(move |name| client_for(&server, name))
        .signer(Arc::new(Signer(Pki::in_memory().unwrap())))
        .build();
    let stop = cluster.stop.clone();
    let running = tokio::spawn(async move {
        manager.run(stop).await;
    });
    (cluster, running)
}

fn request(name: &str, signer: &str, common_name: &str, organization: &str) -> Value {
    let mut params = CertificateParams::default();
    let subject = &mut params.distinguished_name;
    subject.push(DnType::CommonName, common_name);
    subject.push(DnType::OrganizationName, organization);
    let key = KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name, "labels": {"test": "yes"}},
        "spec": {
            "request": k8s_openapi::ByteString(pem.into_bytes()),
            "signerName": signer,
            "usages": ["client auth", "digital signature"],
            "expirationSeconds": 3600,
        },
    })
}

fn condition(sort: &str) -> Value {
    json!({"type": sort, "status": "True", "reason": "Test", "message": "by the test"})
}

fn certificate(request: Option<&CertificateSigningRequest>) -> Option<Vec<u8>> {
    let issued = request?.status.as_ref()?.certificate.clone()?;
    Some(issued.0)
}

#[tokio::test]
async fn what_is_approved_is_granted_and_what_is_denied_is_not() {
    let (cluster, running) = start().await;
    let api = Api::<CertificateSigningRequest>::all(cluster.client.clone());
    let params = PostParams::default();
    let signer = "kubernetes.io/kube-apiserver-client";
    for name in ["yes", "no"] {
        let asked = from(request(name, signer, "jane", "dev"));
        let mut made = api.create(&params, &asked).await.unwrap();
        let sort = if name == "yes" { "Approved" } else { "Denied" };
        let said = from(json!({"conditions": [condition(sort)]}));
        made.status = Some(said);
        let approved: CertificateSigningRequest = api
            .replace_subresource("approval", name, &params, &made)
            .await
            .unwrap();
        assert_eq!(approved.spec.username.as_deref(), Some("system:apiserver"));
    }
    let granted = until(&api, "yes", |request| certificate(request).is_some()).await;
    let pem = certificate(granted.as_ref()).unwrap();
    check_certificates(&pem).unwrap();
    assert_eq!(certificate(api.get("no").await.ok().as_ref()), None);
    cluster.shut_down().await;
    running.await.unwrap();
}

#[tokio::test]
async fn a_node_renews_its_certificate_by_itself() {
    let (cluster, running) = start().await;
    // What a bootstrap sets up.
    let binding: k8s_openapi::api::rbac::v1::ClusterRoleBinding = from(json!({
        "metadata": {"name": "nodes-renew"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
            "name": "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}],
    }));
    let params = PostParams::default();
    let bindings = Api::all(cluster.client.clone());
    bindings.create(&params, &binding).await.unwrap();
    let node = Identity::user("system:node:a").group("system:nodes");
    let api = Api::<CertificateSigningRequest>::all(cluster.server.client(node));
    let signer = "kubernetes.io/kube-apiserver-client-kubelet";
    let asked = from(request("csr-a", signer, "system:node:a", "system:nodes"));
    api.create(&params, &asked).await.unwrap();
    let all = Api::<CertificateSigningRequest>::all(cluster.client.clone());
    let granted = until(&all, "csr-a", |request| certificate(request).is_some()).await;
    let status = granted.unwrap().status.unwrap();
    let approved = &status.conditions.unwrap()[0];
    assert_eq!(approved.reason.as_deref(), Some("AutoApproved"));
    // For another's it may not even ask.
    let asked = from(request("csr-b", signer, "system:node:b", "system:nodes"));
    let refused = api.create(&params, &asked).await.unwrap_err().to_string();
    let said = "can only create a node CSR with CN=system:node:a";
    assert!(refused.contains(said), "{refused}");
    // A request that is not as its signer wants it fails.
    let asked = request(
        "csr-c",
        "kubernetes.io/kubelet-serving",
        "system:node:a",
        "system:nodes",
    );
    let mut made = all.create(&params, &from(asked)).await.unwrap();
    made.status = Some(from(json!({"conditions": [condition("Approved")]})));
    let _: CertificateSigningRequest = all
        .replace_subresource("approval", "csr-c", &params, &made)
        .await
        .unwrap();
    let failed = until(&all, "csr-c", |request| {
        let status = request.and_then(|request| request.status.as_ref());
        let conditions = status.and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Failed"))
    });
    let conditions = failed.await.unwrap().status.unwrap().conditions.unwrap();
    assert_eq!(
        conditions[1].message.as_deref(),
        Some("DNS or IP subjectAltName is required")
    );
    cluster.shut_down().await;
    running.await.unwrap();
}

/// `[sig-auth] Certificates API [Privileged:ClusterAdmin] should support CSR API operations`.
#[tokio::test]
async fn the_api_of_certificate_requests_is_complete() {
    use futures::{StreamExt, TryStreamExt};
    let cluster = Cluster::bare().await;
    let client = cluster.client.clone();
    let groups = client.list_api_groups().await.unwrap().groups;
    assert!(
        groups
            .iter()
            .any(|group| group.name == "certificates.k8s.io"
                && group.versions.iter().any(|version| version.version == "v1"))
    );
    let served = client
        .list_api_group_resources("certificates.k8s.io/v1")
        .await;
    let served = served.unwrap().resources;
    for name in ["", "/approval", "/status"] {
        let name = format!("certificatesigningrequests{name}");
        assert!(
            served.iter().any(|resource| resource.name == name),
            "{name}"
        );
    }
    let api = Api::<CertificateSigningRequest>::all(client);
    let params = PostParams::default();
    let signer = "example.com/e2e";
    for name in ["a", "b", "c"] {
        let asked = from(request(name, signer, "jane", "dev"));
        api.create(&params, &asked).await.unwrap();
    }
    assert_eq!(api.get("a").await.unwrap().spec.signer_name, signer);
    let labelled = ListParams::default().labels("test=yes");
    let listed = api.list(&labelled).await.unwrap();
    assert_eq!(listed.items.len(), 3);
    let version = listed.metadata.resource_version.unwrap();
    let mut events = api
        .watch(&WatchParams::default(), &version)
        .await
        .unwrap()
        .boxed();
    let patch = json!({"metadata": {"annotations": {"patched": "yes"}}});
    let by = PatchParams::default();
    let patched = api.patch("a", &by, &Patch::Merge(patch)).await.unwrap();
    assert_eq!(
        patched.metadata.annotations.as_ref().unwrap()["patched"],
        "yes"
    );
    let mut updated = patched.clone();
    let notes = updated.metadata.annotations.get_or_insert_default();
    notes.insert("updated".to_owned(), "yes".to_owned());
    api.replace("a", &params, &updated).await.unwrap();
    for seen in ["patched", "updated"] {
        let Some(WatchEvent::Modified(event)) = events.try_next().await.unwrap() else {
            panic!("no change was seen");
        };
        assert_eq!(event.metadata.annotations.unwrap()[seen], "yes");
    }
    // Each subresource: read, patched, updated.
    let read: CertificateSigningRequest = api.get_subresource("approval", "a").await.unwrap();
    assert_eq!(read.spec.signer_name, signer);
    let said = json!({"metadata": {"annotations": {"approval": "yes"}},
        "status": {"conditions": [condition("Approved")]}});
    let patch = Patch::Merge(&said);
    let approved: CertificateSigningRequest = api
        .patch_subresource("approval", "a", &by, &patch)
        .await
        .unwrap();
    let mut approved = approved;
    let conditions = approved
        .status
        .as_mut()
        .unwrap()
        .conditions
        .as_mut()
        .unwrap();
    conditions[0].message = Some("again".to_owned());
    let again: CertificateSigningRequest = api
        .replace_subresource("approval", "a", &params, &approved)
        .await
        .unwrap();
    let message = again.status.unwrap().conditions.unwrap()[0].message.clone();
    assert_eq!(message.as_deref(), Some("again"));
    let pki = Pki::in_memory().unwrap();
    let issued = k8s_openapi::ByteString(pki.ca_pem().as_bytes().to_vec());
    let patch = json!({"status": {"certificate": issued}});
    let granted = api
        .patch_status("a", &by, &Patch::Merge(patch))
        .await
        .unwrap();
    assert_eq!(
        certificate(Some(&granted)),
        Some(pki.ca_pem().as_bytes().to_vec())
    );
    let mut failed = api.get_status("a").await.unwrap();
    let status = failed.status.as_mut().unwrap();
    status
        .conditions
        .as_mut()
        .unwrap()
        .push(from(json!({"type": "Stuck", "status": "True"})));
    let stuck = api.replace_status("a", &params, &failed).await.unwrap();
    assert_eq!(stuck.status.unwrap().conditions.unwrap().len(), 2);
    api.delete("a", &DeleteParams::default()).await.unwrap();
    api.delete_collection(&DeleteParams::default(), &labelled)
        .await
        .unwrap();
    assert!(api.list(&labelled).await.unwrap().items.is_empty());
    cluster.shut_down().await;
}
