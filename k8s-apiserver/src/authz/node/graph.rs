//! Which node has to do with which objects.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use bytes::Bytes;
use k8s_openapi::api::core::v1::Pod;
use memchr::memmem::Finder;
use parking_lot::RwLock;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};

use crate::admission::{plugins::MIRROR_POD, reader::RawEvent, references::References};

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Secret,
    ConfigMap,
    Claim,
    Volume,
    ServiceAccount,
    Attachment,
    DeviceClaim,
    Pod,
    ResourceSlice,
    PodCertificateRequest,
}

/// Namespace (or nothing) and name.
type Name = (String, String);
type Vertex = (Kind, String, String);

#[derive(Debug)]
struct PodEntry {
    uid: String,
    node: String,
    /// The claims to devices that were made for it.
    made: Vec<MadeClaim>,
    /// How many ephemeral containers it has.
    ephemeral: usize,
    objects: Vec<Vertex>,
}

#[derive(Debug)]
struct VolumeEntry {
    claim: Name,
    secrets: Vec<Name>,
}

/// The relations. An object is a node's if one of the node's pods refers to it; a volume, if it is bound to a
/// claim that is; a volume's secrets, if the volume is.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pods: HashMap<Name, PodEntry>,
    /// By object, how many pods of each node refer to it.
    nodes: HashMap<Vertex, HashMap<String, usize>>,
    volumes: HashMap<String, VolumeEntry>,
    /// The volumes that use a secret.
    secrets: HashMap<Name, HashSet<String>>,
    /// The node that a volume is attached to.
    attachments: HashMap<String, String>,
    /// The node whose resources a slice tells.
    slices: HashMap<String, String>,
    /// The node for whose pod a certificate is asked, by `NAMESPACE/NAME`.
    certificates: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
}

impl Meta {
    /// The name, after its namespace if it has one.
    fn key(self) -> String {
        match self.namespace.as_str() {
            "" => self.name,
            namespace => format!("{namespace}/{}", self.name),
        }
    }
}

#[derive(Deserialize)]
struct PodHead {
    metadata: Meta,
    #[serde(default)]
    spec: PodSpecHead,
    #[serde(default)]
    status: PodStatusHead,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct PodStatusHead {
    #[serde(default)]
    resource_claim_statuses: Vec<MadeClaim>,
    /// The claim to devices that containers ask for as resources (KEP-5004).
    extended_resource_claim_status: Option<MadeClaim>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct MadeClaim {
    #[serde(default)]
    resource_claim_name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct PodSpecHead {
    #[serde(default)]
    node_name: String,
    /// They may come later, and refer to more.
    #[serde(default)]
    ephemeral_containers: Vec<IgnoredAny>,
}

#[derive(Deserialize)]
struct Volume {
    metadata: Meta,
    spec: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct OfNode {
    metadata: Meta,
    spec: OfNodeSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfNodeSpec {
    #[serde(default)]
    node_name: String,
}

fn decode<T: DeserializeOwned>(json: &Bytes, what: &str) -> Option<T> {
    serde_json::from_slice(json)
        .inspect_err(|error| tracing::error!(%error, what, "stored object cannot be decoded"))
        .ok()
}

/// Takes in an event about objects that name a node in their spec.
fn follow(nodes: &mut HashMap<String, String>, event: RawEvent, what: &str) {
    let read = |json: &Bytes| decode::<OfNode>(json, what);
    match event {
        RawEvent::Snapshot(all) => {
            *nodes = all
                .iter()
                .filter_map(read)
                .map(|object| (object.metadata.key(), object.spec.node_name))
                .collect();
        }
        RawEvent::Applied(json) => {
            if let Some(object) = read(&json) {
                nodes.insert(object.metadata.key(), object.spec.node_name);
            }
        }
        RawEvent::Deleted(json) => {
            if let Some(object) = read(&json) {
                nodes.remove(&object.metadata.key());
            }
        }
    }
}

/// What an event says of a pod, read without the lock: most events change nothing here.
enum Change {
    Nothing,
    Put(Name, Box<PodEntry>),
    Remove(Name),
}

/// What is to be found in pods that have a node. Made once: to make it takes longer than to look.
static NODE_NAME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"nodeName\":"));

fn change(graph: &RwLock<Graph>, json: &Bytes) -> Change {
    // A pod without a node is none of the graph's business, and a pod that has one keeps it: most pods
    // are seen first without, and need not be decoded for that.
    if NODE_NAME.find(json).is_none() {
        return Change::Nothing;
    }
    let Some(head) = decode::<PodHead>(json, "pod") else {
        return Change::Nothing;
    };
    let name = (head.metadata.namespace, head.metadata.name);
    let node = head.spec.node_name;
    let ephemeral = head.spec.ephemeral_containers.len();
    let mut made = head.status.resource_claim_statuses;
    made.extend(head.status.extended_resource_claim_status);
    {
        let graph = graph.read();
        match graph.pods.get(&name) {
            // What a pod refers to cannot be changed once it has a node, but for claims that are made for it and
            // ephemeral containers.
            Some(known)
                if known.uid == head.metadata.uid
                    && known.node == node
                    && known.made == made
                    && known.ephemeral == ephemeral =>
            {
                return Change::Nothing;
            }
            None if node.is_empty() => return Change::Nothing,
            Some(_) if node.is_empty() => return Change::Remove(name),
            _ => {}
        }
    }
    let Some(pod) = decode::<Pod>(json, "pod") else {
        return Change::Nothing;
    };
    // Mirror pods a node makes itself: none may give it anything, not even where no plugin looks at what it makes.
    let annotations = pod.metadata.annotations.as_ref();
    let references = match annotations.is_some_and(|all| all.contains_key(MIRROR_POD)) {
        true => References::default(),
        false => References::of(&pod),
    };
    let mut objects = Vec::new();
    let mut add = |kind: Kind, names: Vec<String>| {
        objects.extend(names.into_iter().map(|n| (kind, name.0.clone(), n)));
    };
    add(Kind::Secret, references.secrets.into_iter().collect());
    add(
        Kind::ConfigMap,
        references.config_maps.into_iter().collect(),
    );
    add(Kind::Claim, references.claims.into_iter().collect());
    add(
        Kind::DeviceClaim,
        references.device_claims.into_iter().collect(),
    );
    add(
        Kind::ServiceAccount,
        references.service_account.into_iter().collect(),
    );
    let entry = PodEntry {
        uid: head.metadata.uid,
        node,
        made,
        ephemeral,
        objects,
    };
    Change::Put(name, Box::new(entry))
}

/// Takes in an event about pods.
pub(super) fn apply_pod(graph: &RwLock<Graph>, event: RawEvent) {
    match event {
        RawEvent::Snapshot(all) => {
            let fresh = RwLock::new(Graph::default());
            let changes: Vec<Change> = all.iter().map(|json| change(&fresh, json)).collect();
            let mut graph = graph.write();
            graph.pods.clear();
            graph.nodes.clear();
            changes.into_iter().for_each(|change| graph.apply(change));
        }
        RawEvent::Applied(json) => {
            let change = change(graph, &json);
            if !matches!(change, Change::Nothing) {
                graph.write().apply(change);
            }
        }
        RawEvent::Deleted(json) => {
            if let Some(head) = decode::<PodHead>(&json, "pod") {
                let name = (head.metadata.namespace, head.metadata.name);
                graph.write().apply(Change::Remove(name));
            }
        }
    }
}

impl Graph {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Nothing => {}
            Change::Put(name, entry) => {
                self.remove_pod(&name);
                for object in &entry.objects {
                    let nodes = self.nodes.entry(object.clone()).or_default();
                    *nodes.entry(entry.node.clone()).or_default() += 1;
                }
                self.pods.insert(name, *entry);
            }
            Change::Remove(name) => self.remove_pod(&name),
        }
    }

    fn remove_pod(&mut self, name: &Name) {
        let Some(entry) = self.pods.remove(name) else {
            return;
        };
        for object in &entry.objects {
            let Some(nodes) = self.nodes.get_mut(object) else {
                continue;
            };
            if let Some(count) = nodes.get_mut(&entry.node) {
                *count -= 1;
                if *count == 0 {
                    nodes.remove(&entry.node);
                }
            }
            if nodes.is_empty() {
                self.nodes.remove(object);
            }
        }
    }

    pub(super) fn apply_volume(&mut self, event: RawEvent) {
        match event {
            RawEvent::Snapshot(all) => {
                self.volumes.clear();
                self.secrets.clear();
                for json in &all {
                    self.put_volume(json);
                }
            }
            RawEvent::Applied(json) => self.put_volume(&json),
            RawEvent::Deleted(json) => {
                if let Some(volume) = decode::<Volume>(&json, "persistentvolume") {
                    self.remove_volume(&volume.metadata.name);
                }
            }
        }
    }

    fn put_volume(&mut self, json: &Bytes) {
        let Some(volume) = decode::<Volume>(json, "persistentvolume") else {
            return;
        };
        let name = volume.metadata.name;
        self.remove_volume(&name);
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let Some(claim) = volume.spec.get("claimRef") else {
            return;
        };
        let claim = (text(&claim["namespace"]), text(&claim["name"]));
        let mut secrets = Vec::new();
        for (source, value) in &volume.spec {
            // Those of the driver's controller are none of the node's business.
            let references = [
                "secretRef",
                "nodePublishSecretRef",
                "nodeStageSecretRef",
                "nodeExpandSecretRef",
            ];
            for reference in references.iter().filter_map(|key| value.get(*key)) {
                let namespace = match text(&reference["namespace"]) {
                    none if none.is_empty() => claim.0.clone(),
                    namespace => namespace,
                };
                secrets.push((namespace, text(&reference["name"])));
            }
            if source == "azureFile" {
                let namespace = match text(&value["secretNamespace"]) {
                    none if none.is_empty() => claim.0.clone(),
                    namespace => namespace,
                };
                secrets.push((namespace, text(&value["secretName"])));
            }
        }
        for secret in &secrets {
            self.secrets
                .entry(secret.clone())
                .or_default()
                .insert(name.clone());
        }
        self.volumes.insert(name, VolumeEntry { claim, secrets });
    }

    fn remove_volume(&mut self, name: &str) {
        let Some(entry) = self.volumes.remove(name) else {
            return;
        };
        for secret in entry.secrets {
            if let Some(volumes) = self.secrets.get_mut(&secret) {
                volumes.remove(name);
                if volumes.is_empty() {
                    self.secrets.remove(&secret);
                }
            }
        }
    }

    pub(super) fn apply_attachment(&mut self, event: RawEvent) {
        follow(&mut self.attachments, event, "volumeattachment");
    }

    pub(super) fn apply_slice(&mut self, event: RawEvent) {
        follow(&mut self.slices, event, "resourceslice");
    }

    pub(super) fn apply_certificate(&mut self, event: RawEvent) {
        follow(&mut self.certificates, event, "podcertificaterequest");
    }

    /// Whether the object is one of the node's.
    pub(super) fn relates(&self, node: &str, kind: Kind, namespace: &str, name: &str) -> bool {
        let direct = |kind: Kind, namespace: &str, name: &str| {
            self.nodes
                .get(&(kind, namespace.to_owned(), name.to_owned()))
                .is_some_and(|nodes| nodes.contains_key(node))
        };
        let volume = |name: &str| {
            self.volumes
                .get(name)
                .is_some_and(|v| direct(Kind::Claim, &v.claim.0, &v.claim.1))
        };
        match kind {
            Kind::Attachment => self.attachments.get(name).is_some_and(|n| n == node),
            Kind::ResourceSlice => self.slices.get(name).is_some_and(|n| n == node),
            Kind::PodCertificateRequest => self
                .certificates
                .get(&format!("{namespace}/{name}"))
                .is_some_and(|n| n == node),
            Kind::Pod => self
                .pods
                .get(&(namespace.to_owned(), name.to_owned()))
                .is_some_and(|pod| pod.node == node),
            Kind::Volume => volume(name),
            Kind::Secret => {
                direct(kind, namespace, name)
                    || self
                        .secrets
                        .get(&(namespace.to_owned(), name.to_owned()))
                        .is_some_and(|volumes| volumes.iter().any(|v| volume(v)))
            }
            _ => direct(kind, namespace, name),
        }
    }
}
