//! The Node authorizer: a kubelet may read what its pods need, and nothing else of the sort.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/node/>. It knows users of the group
//! `system:nodes` whose name is `system:node:NAME`. Secrets, config maps, volumes, volume attachments, resource claims
//! and slices, leases, service-account tokens, requests for certificates of pods, pods and nodes are given out by relation to that node, lists and watches
//! of pods by their field selector (KEP-4601); everything else is as the role `system:node` has it.

mod graph;

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::rbac::v1::PolicyRule;
use parking_lot::RwLock;

use self::graph::{Graph, Kind};
use super::{Attributes, Authorizer, Decision, KnownRules, rbac};
use crate::{
    admission::{follow::Follower, reader::ObjectReader},
    auth::Identity,
};

const LEASES: &str = "kube-node-lease";

/// The authorizer of kubelets.
#[derive(Debug)]
pub struct NodeAuthorizer {
    graph: Arc<RwLock<Graph>>,
    rules: Vec<PolicyRule>,
    follower: Follower,
}

fn unsaid(reason: impl Into<String>) -> Decision {
    Decision::unsaid(reason)
}

impl NodeAuthorizer {
    /// Starts to follow pods, volumes and volume attachments, in tasks that end when the value is dropped.
    pub fn start(reader: &dyn ObjectReader) -> Self {
        let graph = Arc::new(RwLock::new(Graph::default()));
        let mut follower = Follower::new();
        let pods = graph.clone();
        follower.follow(reader, "", "pods", move |event| {
            graph::apply_pod(&pods, event);
        });
        let volumes = graph.clone();
        follower.follow(reader, "", "persistentvolumes", move |event| {
            volumes.write().apply_volume(event);
        });
        let attachments = graph.clone();
        follower.follow(
            reader,
            "storage.k8s.io",
            "volumeattachments",
            move |event| attachments.write().apply_attachment(event),
        );
        let slices = graph.clone();
        follower.follow(reader, "resource.k8s.io", "resourceslices", move |event| {
            slices.write().apply_slice(event);
        });
        let certificates = graph.clone();
        follower.follow(
            reader,
            "certificates.k8s.io",
            "podcertificaterequests",
            move |event| certificates.write().apply_certificate(event),
        );
        let rules = rbac::bootstrap::policy()
            .cluster_roles
            .iter()
            .find(|role| role.metadata.name.as_deref() == Some("system:node"))
            .and_then(|role| role.rules.clone())
            .unwrap_or_default();
        NodeAuthorizer {
            graph,
            rules,
            follower,
        }
    }

    /// Waits until all that is stored is known.
    pub async fn synced(&self) {
        self.follower.synced().await;
    }

    fn related(&self, node: &str, kind: Kind, a: &Attributes<'_>) -> Decision {
        if a.name.is_empty() {
            return unsaid("No Object name found");
        }
        if self.graph.read().relates(node, kind, a.namespace, a.name) {
            Decision::Allow
        } else {
            unsaid(format!(
                "no relationship found between node '{node}' and this object"
            ))
        }
    }

    fn read(&self, node: &str, kind: Kind, a: &Attributes<'_>) -> Decision {
        if !matches!(a.verb, "get" | "list" | "watch") {
            return unsaid("can only read resources of this type");
        }
        if !a.subresource.is_empty() {
            return unsaid("cannot read subresource");
        }
        if a.namespace.is_empty() {
            return unsaid("can only read namespaced object of this type");
        }
        self.related(node, kind, a)
    }

    fn get(&self, node: &str, kind: Kind, a: &Attributes<'_>) -> Decision {
        if a.verb != "get" {
            return unsaid("can only get individual resources of this type");
        }
        if !a.subresource.is_empty() {
            return unsaid("cannot get subresource");
        }
        self.related(node, kind, a)
    }

    fn claim(&self, node: &str, a: &Attributes<'_>) -> Decision {
        if a.subresource != "status" {
            return self.get(node, Kind::Claim, a);
        }
        if !matches!(a.verb, "update" | "patch") {
            return unsaid("can only get/update/patch this type");
        }
        self.related(node, Kind::Claim, a)
    }

    /// KEP-4412: what a service account is annotated with goes to those who give credentials for its images.
    fn service_account(&self, node: &str, a: &Attributes<'_>) -> Decision {
        match (a.verb, a.subresource) {
            ("get", "") => self.read(node, Kind::ServiceAccount, a),
            _ => self.token(node, a),
        }
    }

    fn token(&self, node: &str, a: &Attributes<'_>) -> Decision {
        if a.verb != "create" || a.name.is_empty() {
            return unsaid("can only create tokens for individual service accounts");
        }
        if a.subresource != "token" {
            return unsaid("can only create token subresource of serviceaccount");
        }
        self.related(node, Kind::ServiceAccount, a)
    }

    fn lease(node: &str, a: &Attributes<'_>) -> Decision {
        if !is_single(a.verb) {
            return unsaid("can only get, create, update, patch, or delete a node lease");
        }
        if a.namespace != LEASES {
            return unsaid(format!(
                "can only access leases in the {LEASES:?} system namespace"
            ));
        }
        // The name of what is created is not known here; NodeRestriction looks at it.
        if a.verb != "create" && a.name != node {
            return unsaid("can only access node lease with the same name as the requesting node");
        }
        Decision::Allow
    }

    fn csi_node(node: &str, a: &Attributes<'_>) -> Decision {
        if !is_single(a.verb) {
            return unsaid("can only get, create, update, patch, or delete a CSINode");
        }
        if !a.subresource.is_empty() {
            return unsaid("cannot authorize CSINode subresources");
        }
        if a.verb != "create" && a.name != node {
            return unsaid("can only access CSINode with the same name as the requesting node");
        }
        Decision::Allow
    }

    fn slice(&self, node: &str, a: &Attributes<'_>) -> Decision {
        if !a.subresource.is_empty() {
            return unsaid("cannot authorize ResourceSlice subresources");
        }
        match a.verb {
            // What is created is not known here; NodeRestriction looks at it.
            "create" => Decision::Allow,
            "get" | "update" | "patch" | "delete" => self.related(node, Kind::ResourceSlice, a),
            "watch" | "list" | "deletecollection" if demands(a, "nodeName", node) => {
                Decision::Allow
            }
            "watch" | "list" | "deletecollection" => unsaid(
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => unsaid(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    /// KEP-4317: a kubelet asks for certificates for its pods, and follows what becomes of that.
    fn pod_certificate(&self, node: &str, a: &Attributes<'_>) -> Decision {
        if !a.subresource.is_empty() {
            return unsaid("nodes may not access subresources of PodCertificateRequests");
        }
        match a.verb {
            // What is created is not known here; NodeRestriction looks at it.
            "create" => Decision::Allow,
            "get" => self.related(node, Kind::PodCertificateRequest, a),
            "list" | "watch" if demands(a, "spec.nodeName", node) => Decision::Allow,
            "list" | "watch" => unsaid(
                "can only list/watch podcertificaterequests with spec.nodeName field selector",
            ),
            _ => unsaid("nodes may only create, get, list and watch PodCertificateRequests"),
        }
    }

    /// NodeRestriction limits what is written to the node's own object.
    fn node(node: &str, a: &Attributes<'_>) -> Decision {
        match (a.subresource, a.verb) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Decision::Allow,
            // By name, and not by what is stored: a kubelet looks for its node before it makes it.
            ("", "get" | "list" | "watch") => match a.name {
                name if name == node => Decision::Allow,
                "" => unsaid(format!(
                    "node '{node}' cannot read all nodes, only its own Node object"
                )),
                name => unsaid(format!(
                    "node '{node}' cannot read '{name}', only its own Node object"
                )),
            },
            _ => Decision::no_opinion(),
        }
    }

    /// NodeRestriction limits what is written to pods of the node.
    fn pod(&self, node: &str, a: &Attributes<'_>) -> Decision {
        match (a.subresource, a.verb) {
            ("", "get") => self.get(node, Kind::Pod, a),
            ("", "list" | "watch") if demands(a, "spec.nodeName", node) => Decision::Allow,
            ("", "list" | "watch") if !a.name.is_empty() => self.related(node, Kind::Pod, a),
            ("", "list" | "watch") => {
                unsaid("can only list/watch pods with spec.nodeName field selector")
            }
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                Decision::Allow
            }
            _ => Decision::no_opinion(),
        }
    }
}

/// Whether only what has that value in that field is asked for.
fn demands(a: &Attributes<'_>, field: &str, value: &str) -> bool {
    a.selectors
        .is_some_and(|selectors| selectors.demand(field, value))
}

fn is_single(verb: &str) -> bool {
    matches!(verb, "get" | "create" | "update" | "patch" | "delete")
}

#[async_trait]
impl Authorizer for NodeAuthorizer {
    async fn authorize(&self, a: &Attributes<'_>) -> Decision {
        let Some(node) = a.user.as_node() else {
            return Decision::no_opinion();
        };
        if a.resource_request {
            match (a.group, a.resource) {
                ("", "secrets") => return self.read(node, Kind::Secret, a),
                ("", "configmaps") => return self.read(node, Kind::ConfigMap, a),
                ("", "persistentvolumeclaims") => return self.claim(node, a),
                ("", "persistentvolumes") => return self.get(node, Kind::Volume, a),
                ("resource.k8s.io", "resourceclaims") => {
                    return self.get(node, Kind::DeviceClaim, a);
                }
                ("storage.k8s.io", "volumeattachments") => {
                    return self.get(node, Kind::Attachment, a);
                }
                ("", "serviceaccounts") => return self.service_account(node, a),
                ("coordination.k8s.io", "leases") => return Self::lease(node, a),
                ("storage.k8s.io", "csinodes") => return Self::csi_node(node, a),
                ("", "nodes") => return Self::node(node, a),
                ("", "pods") => return self.pod(node, a),
                ("resource.k8s.io", "resourceslices") => return self.slice(node, a),
                ("certificates.k8s.io", "podcertificaterequests") => {
                    return self.pod_certificate(node, a);
                }
                _ => {}
            }
        }
        if self.rules.iter().any(|rule| rbac::allows(rule, a)) {
            Decision::Allow
        } else {
            Decision::no_opinion()
        }
    }

    fn rules(&self, user: &Identity, _namespace: &str) -> KnownRules {
        match user.as_node() {
            None => KnownRules::default(),
            Some(_) => KnownRules {
                incomplete: true,
                errors: vec!["node authorizer does not support user rule resolution".to_owned()],
                ..KnownRules::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{admission::memory::MemoryReader, auth::NODES, authz::Selectors};

    fn ask<'a>(
        user: &'a Identity,
        verb: &'a str,
        resource: &'a str,
        name: &'a str,
    ) -> Attributes<'a> {
        let (group, resource) = resource.rsplit_once('|').unwrap_or(("", resource));
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            user,
            verb,
            group,
            version: "v1",
            resource,
            subresource,
            namespace: "ns",
            name,
            path: "",
            resource_request: true,
            selectors: None,
        }
    }

    fn pod(node: &str) -> Value {
        json!({
            "metadata": { "namespace": "ns", "name": "p", "uid": "1" },
            "spec": {
                "nodeName": node,
                "serviceAccountName": "sa",
                "imagePullSecrets": [{ "name": "pull" }],
                "resourceClaims": [
                    { "name": "g", "resourceClaimName": "given" },
                    { "name": "m", "resourceClaimTemplateName": "t" },
                ],
                "containers": [{
                    "name": "c",
                    "envFrom": [{ "configMapRef": { "name": "env" } }],
                }],
                "volumes": [
                    { "name": "s", "secret": { "secretName": "mounted" } },
                    { "name": "d", "persistentVolumeClaim": { "claimName": "data" } },
                ],
            },
            "status": { "resourceClaimStatuses": [{ "name": "m", "resourceClaimName": "made" }] },
        })
    }

    async fn becomes(authorizer: &NodeAuthorizer, attributes: &Attributes<'_>, allowed: bool) {
        let wait = async {
            while authorizer.authorize(attributes).await.is_allowed() != allowed {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), wait)
            .await
            .expect("the graph follows the store");
    }

    #[tokio::test]
    async fn a_node_reads_what_its_pods_refer_to_while_they_are_there() {
        let reader = MemoryReader::default();
        reader.put("", "pods", pod("a"));
        reader.put(
            "",
            "persistentvolumes",
            json!({
                "metadata": { "name": "pv" },
                "spec": { "claimRef": { "namespace": "ns", "name": "data" } },
            }),
        );
        let authorizer = NodeAuthorizer::start(&reader);
        authorizer.synced().await;
        let a = Identity::user("system:node:a").group(NODES);
        let b = Identity::user("system:node:b").group(NODES);
        let cases = [
            ("get", "secrets", "pull"),
            ("watch", "secrets", "mounted"),
            ("get", "configmaps", "env"),
            ("get", "persistentvolumeclaims", "data"),
            ("get", "persistentvolumes", "pv"),
            ("create", "serviceaccounts/token", "sa"),
            ("get", "serviceaccounts", "sa"),
            ("get", "resource.k8s.io|resourceclaims", "given"),
            ("get", "resource.k8s.io|resourceclaims", "made"),
        ];
        for (verb, resource, name) in cases {
            let of_a = authorizer.authorize(&ask(&a, verb, resource, name)).await;
            assert!(of_a.is_allowed(), "{resource} {name}: {of_a:?}");
            let of_b = authorizer.authorize(&ask(&b, verb, resource, name)).await;
            assert!(!of_b.is_allowed(), "{resource} {name}");
        }
        let other = authorizer
            .authorize(&ask(&a, "get", "secrets", "other"))
            .await;
        assert_eq!(
            other.reason(),
            "no relationship found between node 'a' and this object"
        );
        // What is added to look into a pod may refer to more.
        let mut debugged = pod("a");
        let from = json!([{ "secretRef": { "name": "debug" } }]);
        debugged["spec"]["ephemeralContainers"] = json!([{ "name": "d", "envFrom": from }]);
        reader.put("", "pods", debugged);
        becomes(&authorizer, &ask(&a, "get", "secrets", "debug"), true).await;
        reader.delete("", "pods", "ns", "p");
        for (verb, resource, name) in cases {
            becomes(&authorizer, &ask(&a, verb, resource, name), false).await;
        }
        reader.put("", "pods", pod(""));
        reader.put("", "pods", pod("b"));
        becomes(&authorizer, &ask(&b, "get", "secrets", "pull"), true).await;
    }

    #[tokio::test]
    async fn a_volumes_secrets_are_the_nodes_if_it_is_the_node_that_uses_them() {
        let reader = MemoryReader::default();
        reader.put("", "pods", pod("a"));
        let names = [
            "controllerPublishSecretRef",
            "controllerExpandSecretRef",
            "nodePublishSecretRef",
            "nodeStageSecretRef",
            "nodeExpandSecretRef",
        ];
        let mut csi = json!({ "driver": "d", "volumeHandle": "h" });
        for name in names {
            csi[name] = json!({ "namespace": "ns", "name": name });
        }
        let claim = json!({ "namespace": "ns", "name": "data" });
        let volume =
            json!({ "metadata": { "name": "pv" }, "spec": { "claimRef": claim, "csi": csi } });
        reader.put("", "persistentvolumes", volume);
        let authorizer = NodeAuthorizer::start(&reader);
        authorizer.synced().await;
        let a = Identity::user("system:node:a").group(NODES);
        for name in names {
            let decision = authorizer.authorize(&ask(&a, "get", "secrets", name)).await;
            assert_eq!(decision.is_allowed(), name.starts_with("node"), "{name}");
        }
    }

    #[tokio::test]
    async fn a_mirror_pod_gives_its_node_nothing() {
        let reader = MemoryReader::default();
        let mut mirror = pod("a");
        mirror["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "x" });
        reader.put("", "pods", mirror);
        let authorizer = NodeAuthorizer::start(&reader);
        authorizer.synced().await;
        let a = Identity::user("system:node:a").group(NODES);
        for (verb, resource, name, allowed) in [
            ("get", "pods", "p", true),
            ("get", "secrets", "mounted", false),
            ("get", "configmaps", "env", false),
            ("get", "persistentvolumeclaims", "data", false),
            ("create", "serviceaccounts/token", "sa", false),
            ("get", "serviceaccounts", "sa", false),
            ("get", "serviceaccounts", "other", false),
            ("get", "resource.k8s.io|resourceclaims", "given", false),
        ] {
            let decision = authorizer.authorize(&ask(&a, verb, resource, name)).await;
            assert_eq!(decision.is_allowed(), allowed, "{resource} {name}");
        }
    }

    k8s_openapi::k8s_if_ge_1_34! {
        #[tokio::test]
        async fn a_node_reads_the_claim_that_is_made_for_resources_of_its_pod_later() {
            let reader = MemoryReader::default();
            let mut pod = pod("a");
            reader.put("", "pods", pod.clone());
            let authorizer = NodeAuthorizer::start(&reader);
            authorizer.synced().await;
            let a = Identity::user("system:node:a").group(NODES);
            let asked = ask(&a, "get", "resource.k8s.io|resourceclaims", "extended");
            assert!(!authorizer.authorize(&asked).await.is_allowed());
            pod["status"]["extendedResourceClaimStatus"] =
                json!({ "resourceClaimName": "extended", "requestMappings": [] });
            reader.put("", "pods", pod);
            becomes(&authorizer, &asked, true).await;
        }
    }

    #[tokio::test]
    async fn a_node_asks_for_certificates_of_pods_and_sees_its_own_requests() {
        let reader = MemoryReader::default();
        let asked = |namespace: &str, node: &str| json!({ "metadata": { "namespace": namespace, "name": "r" }, "spec": { "nodeName": node } });
        let (group, resource) = ("certificates.k8s.io", "podcertificaterequests");
        reader.put(group, resource, asked("ns", "a"));
        let authorizer = NodeAuthorizer::start(&reader);
        authorizer.synced().await;
        let (a, b) = ["a", "b"]
            .map(|n| Identity::user(format!("system:node:{n}")).group(NODES))
            .into();
        let requests = "certificates.k8s.io|podcertificaterequests";
        let status = "certificates.k8s.io|podcertificaterequests/status";
        for (user, verb, resource, name, fields, allowed) in [
            (&a, "create", requests, "", "", true),
            (&a, "get", requests, "r", "", true),
            (&b, "get", requests, "r", "", false),
            (&a, "list", requests, "", "spec.nodeName=a", true),
            (&a, "watch", requests, "", "spec.nodeName=b", false),
            (&a, "list", requests, "", "", false),
            (&a, "update", requests, "r", "", false),
            (&a, "delete", requests, "r", "", false),
            (&a, "update", status, "r", "", false),
        ] {
            let selectors = Selectors::parse(fields, "");
            let attributes = Attributes {
                selectors: Some(&selectors),
                ..ask(user, verb, resource, name)
            };
            let decision = authorizer.authorize(&attributes).await;
            assert_eq!(
                decision.is_allowed(),
                allowed,
                "{} {verb} {fields}",
                user.name
            );
        }
        reader.put(group, resource, asked("other", "b"));
        let theirs = Attributes {
            namespace: "other",
            ..ask(&b, "get", requests, "r")
        };
        becomes(&authorizer, &theirs, true).await;
        let ours = ask(&a, "get", requests, "r");
        assert!(authorizer.authorize(&ours).await.is_allowed());
    }

    #[tokio::test]
    async fn a_node_lists_what_is_selected_by_its_name_and_nothing_else() {
        let reader = MemoryReader::default();
        let mut pod = pod("a");
        pod["spec"]["resourceClaims"] =
            json!([{ "name": "r", "resourceClaimName": "claim" }, { "name": "t" }]);
        pod["status"] = json!({
            "resourceClaimStatuses": [{ "name": "t", "resourceClaimName": "made" }],
        });
        reader.put("", "pods", pod);
        for (name, node) in [
            ("mine", json!("a")),
            ("theirs", json!("b")),
            ("nobodys", json!(null)),
        ] {
            let mut slice = json!({ "metadata": { "name": name }, "spec": {} });
            if !node.is_null() {
                slice["spec"]["nodeName"] = node;
            }
            reader.put("resource.k8s.io", "resourceslices", slice);
        }
        let authorizer = NodeAuthorizer::start(&reader);
        authorizer.synced().await;
        let a = Identity::user("system:node:a").group(NODES);
        let slices = "resource.k8s.io|resourceslices";
        let no_selector = "can only list/watch pods with spec.nodeName field selector";
        let no_slice_selector =
            "can only list/watch/deletecollection resourceslices with nodeName field selector";
        let unrelated = "no relationship found between node 'a' and this object";
        for (verb, resource, name, fields, refused) in [
            ("list", "pods", "", "spec.nodeName=a", None),
            (
                "watch",
                "pods",
                "",
                "spec.nodeName=a,status.phase!=Failed",
                None,
            ),
            ("list", "pods", "", "spec.nodeName=b", Some(no_selector)),
            ("list", "pods", "", "spec.nodeName!=a", Some(no_selector)),
            ("watch", "pods", "p", "metadata.name=p", None),
            ("watch", "pods", "q", "metadata.name=q", Some(unrelated)),
            ("get", "pods", "p", "", None),
            ("get", "pods", "q", "", Some(unrelated)),
            ("get", "nodes", "a", "", None),
            ("watch", "nodes", "a", "metadata.name=a", None),
            (
                "get",
                "nodes",
                "b",
                "",
                Some("node 'a' cannot read 'b', only its own Node object"),
            ),
            (
                "list",
                "nodes",
                "",
                "",
                Some("node 'a' cannot read all nodes, only its own Node object"),
            ),
            ("get", "resource.k8s.io|resourceclaims", "claim", "", None),
            ("get", "resource.k8s.io|resourceclaims", "made", "", None),
            (
                "get",
                "resource.k8s.io|resourceclaims",
                "other",
                "",
                Some(unrelated),
            ),
            ("create", slices, "", "", None),
            ("update", slices, "mine", "", None),
            ("update", slices, "theirs", "", Some(unrelated)),
            ("get", slices, "nobodys", "", Some(unrelated)),
            ("deletecollection", slices, "", "nodeName=a", None),
            (
                "deletecollection",
                slices,
                "",
                "nodeName=b",
                Some(no_slice_selector),
            ),
        ] {
            let selectors = Selectors::parse(fields, "");
            let asked = Attributes {
                selectors: Some(&selectors),
                ..ask(&a, verb, resource, name)
            };
            let decision = authorizer.authorize(&asked).await;
            assert_eq!(decision.is_allowed(), refused.is_none(), "{asked:?}");
            assert_eq!(decision.reason(), refused.unwrap_or_default(), "{asked:?}");
        }
    }

    #[tokio::test]
    async fn a_node_has_its_own_lease_and_the_rules_of_nodes() {
        let reader = MemoryReader::default();
        let authorizer = NodeAuthorizer::start(&reader);
        let a = Identity::user("system:node:a").group(NODES);
        let lease = Attributes {
            namespace: LEASES,
            ..ask(&a, "update", "coordination.k8s.io|leases", "a")
        };
        assert!(authorizer.authorize(&lease).await.is_allowed());
        let other = Attributes { name: "b", ..lease };
        assert!(!authorizer.authorize(&other).await.is_allowed());
        for (verb, resource, allowed) in [
            ("list", "pods", false),
            ("patch", "nodes/status", true),
            ("create", "pods/eviction", true),
            ("list", "nodes", false),
            ("list", "services", true),
            ("list", "secrets", false),
            ("delete", "nodes", false),
        ] {
            let decision = authorizer.authorize(&ask(&a, verb, resource, "")).await;
            assert_eq!(decision.is_allowed(), allowed, "{verb} {resource}");
        }
        let alice = Identity::user("alice");
        let decision = authorizer.authorize(&ask(&alice, "list", "pods", "")).await;
        assert_eq!(decision, Decision::no_opinion());
    }
}
