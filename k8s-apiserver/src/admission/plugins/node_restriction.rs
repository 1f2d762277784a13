//! [`NodeRestriction`]: a node's agent writes only about its own node and its own pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use k8s_model::{Object, certificates::CertificateRequest};
use k8s_openapi::api::{
    certificates::v1::CertificateSigningRequest,
    core::v1::{Node, PersistentVolumeClaim, Pod},
};

use super::{MIRROR_POD, node_certificates, node_tokens};
use crate::{
    admission::{
        AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step, reader::ObjectReader,
        references::References,
    },
    auth::NODE_PREFIX,
    authz::Authorizer,
};

const LEASES: &str = "kube-node-lease";

/// Limits what users of the group `system:nodes` may write, beyond what the roles say.
///
/// See <https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction>.
#[derive(Debug)]
pub struct NodeRestriction {
    reader: Arc<dyn ObjectReader>,
    authorizer: Option<Arc<dyn Authorizer>>,
}

type Outcome = Result<(), AdmissionError>;

fn refuse(message: impl Into<String>) -> Outcome {
    Err(AdmissionError::forbidden(message))
}

fn node_of(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default()
}

impl NodeRestriction {
    /// Looks pods and nodes up there.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        NodeRestriction {
            reader,
            authorizer: None,
        }
    }

    /// Lets nodes ask also for such tokens of service accounts as the authorizer allows them; see
    /// [KEP-4412](https://kep.k8s.io/4412). Without, only for those that their pods' volumes have.
    #[must_use]
    pub fn with_authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizer = Some(authorizer);
        self
    }

    async fn pod(&self, namespace: &str, name: &str) -> Result<Pod, AdmissionError> {
        self.reader
            .get(namespace, name)
            .await?
            .ok_or_else(|| AdmissionError::NotFound {
                group: String::new(),
                resource: "pods".to_owned(),
                name: name.to_owned(),
            })
    }

    async fn about_pod(&self, node: &str, request: &AdmissionRequest<'_>) -> Outcome {
        match (request.subresource, request.operation) {
            ("", Operation::Create) => match request.object_as::<Pod>() {
                Some(pod) => self.new_pod(node, pod).await,
                None => refuse("unexpected type"),
            },
            ("", Operation::Delete) => {
                let pod = self.pod(request.namespace, request.name).await?;
                if node_of(&pod) == node {
                    return Ok(());
                }
                refuse(format!(
                    "node {node:?} can only delete pods with spec.nodeName set to itself"
                ))
            }
            ("", operation) => refuse(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                operation.as_str()
            )),
            ("status", Operation::Update) => {
                let (Some(old), Some(new)) = (request.old_as::<Pod>(), request.object_as::<Pod>())
                else {
                    return refuse("unexpected type");
                };
                if node_of(old) != node {
                    return refuse(format!(
                        "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
                    ));
                }
                if labels(&old.metadata.labels) != labels(&new.metadata.labels) {
                    return refuse(format!(
                        "node {node:?} cannot update labels through pod status"
                    ));
                }
                let claims = |pod: &Pod| {
                    let status = pod.status.as_ref();
                    let claims = status.and_then(|s| s.resource_claim_statuses.clone());
                    claims.unwrap_or_default()
                };
                if claims(old) != claims(new) {
                    return refuse(format!(
                        "node {node:?} cannot update resource claim statues"
                    ));
                }
                if extended_claims_differ(old, new) {
                    return refuse(format!(
                        "node {node:?} cannot update extended resource claim status"
                    ));
                }
                Ok(())
            }
            ("eviction", Operation::Create) => {
                let name = match (request.name, &request.object) {
                    ("", Some(object)) => object.metadata().name.clone().unwrap_or_default(),
                    (name, _) => name.to_owned(),
                };
                if name.is_empty() {
                    return refuse("could not determine pod from request data");
                }
                let pod = self.pod(request.namespace, &name).await?;
                if node_of(&pod) == node {
                    return Ok(());
                }
                refuse(format!(
                    "node {node} can only evict pods with spec.nodeName set to itself"
                ))
            }
            ("status" | "eviction", operation) => {
                refuse(format!("unexpected operation {:?}", operation.as_str()))
            }
            (other, _) => refuse(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
        }
    }

    async fn new_pod(&self, node: &str, pod: &Pod) -> Outcome {
        let mirror = pod
            .metadata
            .annotations
            .as_ref()
            .is_some_and(|a| a.contains_key(MIRROR_POD));
        if !mirror {
            return refuse(format!(
                "pod does not have {MIRROR_POD:?} annotation, node {node:?} can only create mirror pods"
            ));
        }
        if node_of(pod) != node {
            return refuse(format!(
                "node {node:?} can only create pods with spec.nodeName set to itself"
            ));
        }
        let owner = match pod.metadata.owner_references.as_deref().unwrap_or_default() {
            [] => {
                return refuse(format!(
                    "node {node:?} can only create pods with an owner reference set to itself"
                ));
            }
            [owner] => owner,
            _ => {
                return refuse(format!(
                    "node {node:?} can only create pods with a single owner reference set to itself"
                ));
            }
        };
        if owner.api_version != "v1" || owner.kind != "Node" || owner.name != node {
            return refuse(format!(
                "node {node:?} can only create pods with an owner reference set to itself"
            ));
        }
        if owner.controller != Some(true) {
            return refuse(format!(
                "node {node:?} can only create pods with a controller owner reference set to itself"
            ));
        }
        if owner.block_owner_deletion == Some(true) {
            return refuse(format!(
                "node {node:?} must not set blockOwnerDeletion on an owner reference"
            ));
        }
        let stored: Node =
            self.reader
                .get("", node)
                .await?
                .ok_or_else(|| AdmissionError::NotFound {
                    group: String::new(),
                    resource: "nodes".to_owned(),
                    name: node.to_owned(),
                })?;
        let uid = stored.metadata.uid.unwrap_or_default();
        if owner.uid != uid {
            return refuse(format!(
                "node {node} UID mismatch: expected {} got {uid}",
                owner.uid
            ));
        }
        let references = References::of(pod);
        let found = [
            (references.service_account.is_some(), "a service account"),
            (!references.secrets.is_empty(), "secrets"),
            (!references.config_maps.is_empty(), "configmaps"),
            (trusts_bundles(pod), "clustertrustbundles"),
            (!references.claims.is_empty(), "persistentvolumeclaims"),
            (claims_devices(pod), "resourceclaims"),
        ];
        match found.iter().find(|(found, _)| *found) {
            None => Ok(()),
            Some((_, what)) => refuse(format!(
                "node {node:?} can not create pods that reference {what}"
            )),
        }
    }

    async fn about_token(&self, node: &str, request: &AdmissionRequest<'_>) -> Outcome {
        let Some(object) = &request.object else {
            return refuse("unexpected type");
        };
        let value = object.to_value();
        let bound = &value["spec"]["boundObjectRef"];
        let field = |name: &str| bound[name].as_str().unwrap_or_default();
        if field("apiVersion") != "v1" || field("kind") != "Pod" || field("name").is_empty() {
            return refuse("node requested token not bound to a pod");
        }
        if field("uid").is_empty() {
            return refuse("node requested token with a pod binding without a uid");
        }
        let pod = self.pod(request.namespace, field("name")).await?;
        if pod.metadata.uid.as_deref() != Some(field("uid")) {
            return refuse(format!(
                "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
                field("uid")
            ));
        }
        if node_of(&pod) != node {
            return refuse("node requested token bound to a pod scheduled on a different node");
        }
        let audiences = value["spec"]["audiences"].as_array();
        let audiences = audiences.into_iter().flatten();
        let audiences: Vec<&str> = audiences.filter_map(|a| a.as_str()).collect();
        let authorizer = self.authorizer.as_deref();
        node_tokens::check_audience(&*self.reader, authorizer, &audiences, &pod, request).await
    }
}

k8s_openapi::k8s_if_ge_1_34! {
    /// Whether a pod has got another claim for its extended resources (KEP-5004).
    fn extended_claims_differ(old: &Pod, new: &Pod) -> bool {
        let claim = |pod: &Pod| {
            let status = pod.status.as_ref();
            status.and_then(|s| s.extended_resource_claim_status.clone())
        };
        claim(old) != claim(new)
    }
}

k8s_openapi::k8s_if_le_1_33! {
    fn extended_claims_differ(_old: &Pod, _new: &Pod) -> bool {
        false
    }
}

/// Whether a pod has claims to devices, made or not.
fn claims_devices(pod: &Pod) -> bool {
    let claims = pod.spec.as_ref().and_then(|s| s.resource_claims.as_ref());
    claims.is_some_and(|claims| !claims.is_empty())
}

/// Whether a volume of the pod has the contents of trust bundles.
fn trusts_bundles(pod: &Pod) -> bool {
    let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
    let projected = volumes.flat_map(|v| &v.projected);
    let mut sources = projected.flat_map(|p| p.sources.iter().flatten());
    sources.any(|source| source.cluster_trust_bundle.is_some())
}

/// A node asks for certificates in its own name.
fn about_certificate(node: &str, request: &AdmissionRequest<'_>) -> Outcome {
    const SIGNERS: [&str; 2] = [
        "kubernetes.io/kubelet-serving",
        "kubernetes.io/kube-apiserver-client-kubelet",
    ];
    if request.operation != Operation::Create || !request.subresource.is_empty() {
        return Ok(());
    }
    let Some(asked) = request.object_as::<CertificateSigningRequest>() else {
        return refuse("unexpected type");
    };
    if !SIGNERS.contains(&asked.spec.signer_name.as_str()) {
        return Ok(());
    }
    let parsed = match CertificateRequest::parse(&asked.spec.request.0) {
        Ok(parsed) => parsed,
        Err(error) => return refuse(format!("unable to parse csr: {error}")),
    };
    if parsed.common_name == format!("{NODE_PREFIX}{node}") {
        return Ok(());
    }
    refuse(format!(
        "can only create a node CSR with CN={NODE_PREFIX}{node}"
    ))
}

fn labels(labels: &Option<BTreeMap<String, String>>) -> BTreeMap<&str, &str> {
    labels
        .iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect()
}

/// The labels that differ and are not the node's to set.
fn forbidden_labels(new: &Node, old: Option<&Node>) -> Vec<String> {
    let new = labels(&new.metadata.labels);
    let old = old
        .map(|old| labels(&old.metadata.labels))
        .unwrap_or_default();
    let keys: BTreeSet<&str> = new.keys().chain(old.keys()).copied().collect();
    keys.into_iter()
        .filter(|key| new.get(key) != old.get(key) && is_forbidden_label(key))
        .map(str::to_owned)
        .collect()
}

fn is_forbidden_label(key: &str) -> bool {
    const RESTRICTED: &str = "node-restriction.kubernetes.io";
    /// Upstream's `k8s.io/kubelet/pkg/apis`: what a kubelet sets itself.
    const OWN: &[&str] = &[
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    ];
    const OWN_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];
    let Some((domain, _)) = key.split_once('/') else {
        return false;
    };
    let within = |parent: &str| {
        domain
            .strip_suffix(parent)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if within(RESTRICTED) {
        return true;
    }
    let own = OWN.contains(&key) || OWN_DOMAINS.iter().any(|parent| within(parent));
    (within("kubernetes.io") || within("k8s.io")) && !own
}

fn about_node(node: &str, request: &AdmissionRequest<'_>) -> Outcome {
    // The path of a create has no name.
    let name = match (request.name, &request.object) {
        ("", Some(object)) => object.metadata().name.as_deref().unwrap_or_default(),
        (name, _) => name,
    };
    if name != node {
        return refuse(format!(
            "node {node:?} is not allowed to modify node {name:?}"
        ));
    }
    let Some(new) = request.object_as::<Node>() else {
        return Ok(());
    };
    let source = |node: &Node| node.spec.as_ref().and_then(|s| s.config_source.clone());
    let taints = |node: &Node| {
        node.spec
            .as_ref()
            .and_then(|spec| spec.taints.clone())
            .unwrap_or_default()
    };
    match request.operation {
        Operation::Create => {
            if source(new).is_some() {
                return refuse(format!(
                    "node {node:?} is not allowed to create pods with a non-nil configSource"
                ));
            }
            let forbidden = forbidden_labels(new, None);
            if !forbidden.is_empty() {
                return refuse(format!(
                    "node {node:?} is not allowed to set the following labels: {}",
                    forbidden.join(", ")
                ));
            }
        }
        Operation::Update => {
            let Some(old) = request.old_as::<Node>() else {
                return refuse("unexpected type");
            };
            if source(new).is_some() && source(new) != source(old) {
                return refuse(format!(
                    "node {node:?} is not allowed to update configSource to a new non-nil configSource"
                ));
            }
            if taints(new) != taints(old) {
                return refuse(format!("node {node:?} is not allowed to modify taints"));
            }
            // Or it would go with an owner that is not there, and come back with other taints (CVE-2025-5187).
            let owners = |node: &Node| node.metadata.owner_references.clone().unwrap_or_default();
            if owners(new) != owners(old) {
                return refuse(format!(
                    "node {node:?} is not allowed to modify ownerReferences"
                ));
            }
            let forbidden = forbidden_labels(new, Some(old));
            if !forbidden.is_empty() {
                return refuse(format!(
                    "is not allowed to modify labels: {}",
                    forbidden.join(", ")
                ));
            }
        }
        _ => {}
    }
    Ok(())
}

fn about_claim(node: &str, request: &AdmissionRequest<'_>) -> Outcome {
    if request.subresource != "status" {
        return refuse("may only update PVC status");
    }
    if request.operation != Operation::Update {
        return refuse(format!(
            "unexpected operation {:?}",
            request.operation.as_str()
        ));
    }
    let (Some(old), Some(new)) = (
        request.old_as::<PersistentVolumeClaim>(),
        request.object_as::<PersistentVolumeClaim>(),
    ) else {
        return refuse("unexpected type");
    };
    let comparable = |claim: &PersistentVolumeClaim| {
        let mut claim = claim.clone();
        claim.metadata.resource_version = None;
        claim.metadata.managed_fields = None;
        let status = claim.status.get_or_insert_default();
        status.capacity = None;
        status.conditions = None;
        status.allocated_resources = None;
        status.allocated_resource_statuses = None;
        claim
    };
    if comparable(old) != comparable(new) {
        return refuse(format!(
            "node {node:?} is not allowed to update fields other than status.capacity and status.conditions"
        ));
    }
    Ok(())
}

/// Slices of devices: those that can be used on the node alone.
fn about_slice(node: &str, request: &AdmissionRequest<'_>) -> Outcome {
    let is_own = |object: &dyn Object| {
        let value = object.to_value();
        value["spec"]["nodeName"].as_str() == Some(node)
    };
    let whose = "ResourceSlice with the same NodeName as the requesting node";
    match (request.operation, &request.object, request.old) {
        (Operation::Create, Some(new), _) if !is_own(&**new) => {
            refuse(format!("can only create {whose}"))
        }
        // Where it can be used never changes.
        (Operation::Update, _, Some(old)) if !is_own(old) => {
            refuse(format!("can only update {whose}"))
        }
        (Operation::Delete, _, Some(old)) if !is_own(old) => {
            refuse(format!("can only delete {whose}"))
        }
        _ => Ok(()),
    }
}

/// The name of the object that is written, also where the path has none.
fn named<'a>(request: &'a AdmissionRequest<'_>) -> &'a str {
    match (&request.operation, &request.object) {
        (Operation::Create, Some(object)) => Object::metadata(&**object)
            .name
            .as_deref()
            .unwrap_or_default(),
        _ => request.name,
    }
}

#[async_trait]
impl AdmissionPlugin for NodeRestriction {
    fn name(&self) -> &str {
        "NodeRestriction"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    fn steps(&self) -> &[Step] {
        &[Step::Admit]
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Outcome {
        match request.user.as_node() {
            // In a box: few who write are nodes.
            Some(node) => Box::pin(self.of_node(node, request)).await,
            None => Ok(()),
        }
    }
}

impl NodeRestriction {
    async fn of_node(&self, node: &str, request: &AdmissionRequest<'_>) -> Outcome {
        let resource = request.resource;
        match (resource.group, resource.resource) {
            ("", "pods") => self.about_pod(node, request).await,
            ("", "nodes") => about_node(node, request),
            ("", "persistentvolumeclaims") => about_claim(node, request),
            ("", "serviceaccounts") => {
                if request.operation == Operation::Create && request.subresource == "token" {
                    self.about_token(node, request).await
                } else {
                    Ok(())
                }
            }
            ("coordination.k8s.io", "leases") => {
                if request.namespace != LEASES {
                    refuse(format!(
                        "can only access leases in the {LEASES:?} system namespace"
                    ))
                } else if named(request) != node {
                    refuse("can only access node lease with the same name as the requesting node")
                } else {
                    Ok(())
                }
            }
            ("certificates.k8s.io", "certificatesigningrequests") => {
                about_certificate(node, request)
            }
            ("certificates.k8s.io", "podcertificaterequests") => {
                node_certificates::check(&*self.reader, node, request).await
            }
            ("storage.k8s.io", "csinodes") if named(request) != node => {
                refuse("can only access CSINode with the same name as the requesting node")
            }
            ("resource.k8s.io", "resourceslices") => about_slice(node, request),
            _ => Ok(()),
        }
    }
}
