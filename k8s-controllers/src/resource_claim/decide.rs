//! What pods and claims mean to each other: the pure core.

use k8s_openapi::{
    api::{
        core::v1::{Pod, PodResourceClaim, PodResourceClaimStatus},
        resource::v1::{
            ResourceClaim, ResourceClaimSpec, ResourceClaimTemplate, ResourceClaimTemplateSpec,
        },
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::common::{
    compat::{get, set},
    owner, pod,
};

/// The annotation of a generated claim with the name that its pod has for it.
const POD_CLAIM: &str = "resource.kubernetes.io/pod-claim-name";
/// The longest start of a generated name: with five random characters it is a label.
const LONGEST_START: usize = 57;

/// Keeps a claim that has devices from going before they are free.
pub(super) const FINALIZER: &str = "resource.kubernetes.io/delete-protection";

/// Which claim a name of a pod stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named<'a> {
    /// A claim that somebody made.
    Given(&'a str),
    /// A claim that was made for the pod.
    Generated(&'a str),
    /// None: it needs none.
    Needless,
    /// One that is not made yet.
    NotMade,
    /// Something that is not known here.
    Unknown,
}

pub(super) fn claims(pod: &Pod) -> &[PodResourceClaim] {
    let spec = pod.spec.as_ref();
    let claims = spec.and_then(|spec| spec.resource_claims.as_deref());
    claims.unwrap_or_default()
}

pub(super) fn statuses(pod: &Pod) -> &[PodResourceClaimStatus] {
    let status = pod.status.as_ref();
    let statuses = status.and_then(|status| status.resource_claim_statuses.as_deref());
    statuses.unwrap_or_default()
}

pub(super) fn name<'a>(pod: &'a Pod, claim: &'a PodResourceClaim) -> Named<'a> {
    if let Some(name) = &claim.resource_claim_name {
        return Named::Given(name);
    }
    if claim.resource_claim_template_name.is_none() {
        return Named::Unknown;
    }
    match statuses(pod).iter().find(|s| s.name == claim.name) {
        None => Named::NotMade,
        Some(status) => match &status.resource_claim_name {
            Some(name) => Named::Generated(name),
            None => Named::Needless,
        },
    }
}

/// The names of all claims of a pod that are made.
pub(super) fn claim_names(pod: &Pod) -> Vec<&str> {
    let names = claims(pod).iter().map(|claim| name(pod, claim));
    names
        .filter_map(|name| match name {
            Named::Given(name) | Named::Generated(name) => Some(name),
            Named::Needless | Named::NotMade | Named::Unknown => None,
        })
        .collect()
}

/// Whether none of a pod's containers runs, or ever will.
pub(super) fn is_done(pod: &Pod) -> bool {
    pod::is_terminal(pod) || (pod.metadata.deletion_timestamp.is_some() && !is_bound(pod))
}

pub(super) fn is_bound(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let node = spec.and_then(|spec| spec.node_name.as_deref());
    node.is_some_and(|node| !node.is_empty())
}

/// Whether something is to be done for a pod, `claim` being what is known of its claims by name.
pub(super) fn needs_work<C: AsRef<ResourceClaim>>(
    pod: &Pod,
    claim: impl Fn(&str) -> Option<C>,
) -> bool {
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    for named in claims(pod) {
        let (found, is_generated) = match name(pod, named) {
            Named::NotMade | Named::Unknown => return true,
            Named::Needless => return false,
            Named::Given(name) => (claim(name), false),
            Named::Generated(name) => (claim(name), true),
        };
        // Whoever is to make the others: what is generated is made here.
        let Some(found) = found else {
            return is_generated;
        };
        if is_generated && !is_for(found.as_ref(), pod) {
            return false;
        }
        if is_bound(pod) && is_unreserved(found.as_ref(), pod) {
            return true;
        }
    }
    false
}

/// Whether a claim was made for a pod.
pub(super) fn is_for(claim: &ResourceClaim, pod: &Pod) -> bool {
    owner::is_controlled_by(&claim.metadata, owner::uid(&pod.metadata))
}

/// Whether a claim has devices and does not list a pod as one that uses them.
pub(super) fn is_unreserved(claim: &ResourceClaim, pod: &Pod) -> bool {
    let status = claim.status.as_ref();
    let reserved = status.and_then(|status| status.reserved_for.as_deref());
    status.is_some_and(|status| status.allocation.is_some())
        && reserved
            .unwrap_or_default()
            .iter()
            .all(|consumer| consumer.uid != owner::uid(&pod.metadata))
}

/// Whether a claim is the one that was made for a name of its pod.
pub(super) fn is_named(claim: &ObjectMeta, name: &str) -> bool {
    pod_claim(claim) == Some(name)
}

/// The name that its pod has for a generated claim.
pub(super) fn pod_claim(claim: &ObjectMeta) -> Option<&str> {
    let annotations = claim.annotations.as_ref()?;
    annotations.get(POD_CLAIM).map(String::as_str)
}

/// The pod that a claim was made for: name and UID.
pub(super) fn owning_pod(claim: &ObjectMeta) -> Option<(&str, &str)> {
    let owner = owner::controller_of(claim)?;
    (owner.api_version == "v1" && owner.kind == "Pod").then_some((&owner.name, &owner.uid))
}

/// The claim for a name of a pod, as its template says.
pub(super) fn generate(pod: &Pod, name: &str, template: &ResourceClaimTemplate) -> ResourceClaim {
    let template: Option<&ResourceClaimTemplateSpec> = get(&template.spec);
    let meta = template.and_then(|template| template.metadata.clone());
    let meta = meta.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(POD_CLAIM.to_owned(), name.to_owned());
    let mut claim = ResourceClaim {
        metadata: ObjectMeta {
            generate_name: Some(name_start(owner::name(&pod.metadata), name)),
            namespace: pod.metadata.namespace.clone(),
            owner_references: Some(vec![owner::controller_ref(pod)]),
            annotations: Some(annotations),
            labels: meta.labels,
            ..Default::default()
        },
        ..Default::default()
    };
    let spec: Option<&ResourceClaimSpec> = template.and_then(|template| get(&template.spec));
    if let Some(spec) = spec {
        claim.spec = set(spec.clone());
    }
    claim
}

/// The start of a generated name: where both are too long, each loses its share.
fn name_start(pod: &str, claim: &str) -> String {
    let whole = format!("{pod}-{claim}-");
    if whole.len() <= LONGEST_START {
        return whole;
    }
    let part = |text: &str| {
        let end = text.len() * LONGEST_START / whole.len();
        text.get(..end).unwrap_or(text).to_owned()
    };
    format!("{}-{}", part(pod), part(claim))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: serde_json::Value) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "default", "uid": "1"},
            "spec": {"containers": [], "resourceClaims": [
                {"name": "own", "resourceClaimTemplateName": "t"},
                {"name": "shared", "resourceClaimName": "c"},
            ]},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn names_stand_for_claims_that_are_made() {
        let fresh = pod(json!({}));
        assert_eq!(name(&fresh, &claims(&fresh)[0]), Named::NotMade);
        assert_eq!(claim_names(&fresh), ["c"]);
        let made =
            pod(json!({"resourceClaimStatuses": [{"name": "own", "resourceClaimName": "p-own-x"}]}));
        assert_eq!(claim_names(&made), ["p-own-x", "c"]);
        let needless = pod(json!({"resourceClaimStatuses": [{"name": "own"}]}));
        assert_eq!(name(&needless, &claims(&needless)[0]), Named::Needless);
    }

    #[test]
    fn generated_names_fit_into_a_label() {
        assert_eq!(name_start("web", "gpu"), "web-gpu-");
        let start = name_start(&"p".repeat(60), &"c".repeat(40));
        assert!(start.len() <= LONGEST_START, "{start}");
        assert!(start.contains("p-c"), "{start}");
    }

    #[test]
    fn a_pod_is_done_when_nothing_of_it_runs_or_will() {
        assert!(!is_done(&pod(json!({"phase": "Running"}))));
        assert!(is_done(&pod(json!({"phase": "Succeeded"}))));
        let mut deleted = pod(json!({}));
        deleted.metadata.deletion_timestamp = Some(crate::common::fixture::time("2026-01-01T00:00:00Z"));
        assert!(is_done(&deleted));
        deleted.spec.get_or_insert_default().node_name = Some("n".to_owned());
        assert!(!is_done(&deleted), "its containers may still run");
    }

    #[test]
    fn a_generated_claim_is_as_its_template_says() {
        let template: ResourceClaimTemplate = serde_json::from_value(json!({
            "metadata": {"name": "t"},
            "spec": {"metadata": {"labels": {"a": "b"}}, "spec": {"devices": {"requests": [{"name": "gpu"}]}}},
        }))
        .unwrap();
        let claim = generate(&pod(json!({})), "own", &template);
        assert_eq!(claim.metadata.generate_name.as_deref(), Some("p-own-"));
        assert_eq!(pod_claim(&claim.metadata), Some("own"));
        assert_eq!(owning_pod(&claim.metadata), Some(("p", "1")));
        assert_eq!(claim.metadata.labels.unwrap()["a"], "b");
        let spec: &ResourceClaimSpec = get(&claim.spec).unwrap();
        let devices = spec.devices.as_ref().unwrap();
        assert_eq!(devices.requests.as_ref().unwrap()[0].name, "gpu");
    }
}
