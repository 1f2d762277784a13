//! For which pods a node may ask for certificates (KEP-4317).

use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};

use super::MIRROR_POD;
use crate::admission::{AdmissionError, AdmissionRequest, Operation, reader::ObjectReader};

/// Refuses a PodCertificateRequest of a node that is not about one of its running pods, with the identity that the pod
/// really has.
pub(super) async fn check(
    reader: &dyn ObjectReader,
    node: &str,
    request: &AdmissionRequest<'_>,
) -> Result<(), AdmissionError> {
    if request.operation != Operation::Create || !request.subresource.is_empty() {
        return Ok(());
    }
    let refuse = |text: String| Err(AdmissionError::forbidden(text));
    let Some(object) = &request.object else {
        return refuse("unexpected type".to_owned());
    };
    let object = object.to_value();
    let asked = |name: &str| object["spec"][name].as_str().unwrap_or_default();
    let (name, namespace) = (asked("podName"), request.namespace);
    if asked("nodeName") != node {
        return refuse(format!(
            "PodCertificateRequest.Spec.NodeName={:?}, which is not the requesting node {node:?}",
            asked("nodeName")
        ));
    }
    let differs = |what: &str, told: &str, found: &str| {
        refuse(format!(
            "PodCertificateRequest for pod \"{namespace}/{name}\" contains {what} ({told:?}) that differs from the running pod's ({found:?})"
        ))
    };
    let pod: Option<Pod> = reader.get(namespace, name).await?;
    let Some(pod) = pod else {
        return refuse(format!(
            "PodCertificateRequest for pod \"{namespace}/{name}\", which does not exist"
        ));
    };
    let text = |text: Option<String>| text.unwrap_or_default();
    let uid = text(pod.metadata.uid);
    if uid != asked("podUID") {
        return differs("a pod UID", asked("podUID"), &uid);
    }
    let spec = pod.spec.unwrap_or_default();
    let on = text(spec.node_name);
    if on != node {
        return refuse(format!(
            "pod \"{namespace}/{name}\" is bound to node {on:?}, not to the requesting node {node:?}"
        ));
    }
    let annotations = pod.metadata.annotations.unwrap_or_default();
    if annotations.contains_key(MIRROR_POD) {
        return refuse(format!("pod \"{namespace}/{name}\" is a mirror pod"));
    }
    let account = text(spec.service_account_name);
    if account != asked("serviceAccountName") {
        let told = asked("serviceAccountName");
        return differs("a service account name", told, &account);
    }
    let found: Option<ServiceAccount> = reader.get(namespace, &account).await?;
    let uid = text(found.and_then(|account| account.metadata.uid));
    if uid.is_empty() || uid != asked("serviceAccountUID") {
        return differs("a service account UID", asked("serviceAccountUID"), &uid);
    }
    let found: Option<Node> = reader.get("", node).await?;
    let uid = text(found.and_then(|node| node.metadata.uid));
    if uid.is_empty() || uid != asked("nodeUID") {
        return differs("a node UID", asked("nodeUID"), &uid);
    }
    Ok(())
}
