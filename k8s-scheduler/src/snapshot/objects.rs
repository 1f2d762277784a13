//! [`Objects`]: what plugins ask about beside nodes and pods.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, LazyLock},
};

use k8s_model::labels::Selector;
use k8s_openapi::{
    api::{
        apps::v1::{ReplicaSet, ReplicaSetSpec, StatefulSet, StatefulSetSpec},
        core::v1::{
            Namespace, PersistentVolume, PersistentVolumeClaim, ReplicationController, Service,
        },
        policy::v1::PodDisruptionBudget,
        storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{DeviceClass, DeviceTaintRule, Devices, ResourceClaim, ResourceSlice};

type Labels = BTreeMap<String, String>;
/// Namespace and name.
pub(super) type Key = (String, String);

static NONE: LazyLock<Labels> = LazyLock::new(Labels::new);

/// One of the objects that bear on scheduling.
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "taken apart at once, never stored"
)]
#[non_exhaustive]
pub enum Object {
    /// Its labels are what namespace selectors select by.
    Namespace(Namespace),
    /// Keeps preemption from evicting too many.
    PodDisruptionBudget(PodDisruptionBudget),
    /// Says which pods to spread by default.
    Service(Service),
    /// Says which pods to spread by default.
    ReplicationController(ReplicationController),
    /// Says which pods to spread by default.
    ReplicaSet(ReplicaSet),
    /// Says which pods to spread by default.
    StatefulSet(StatefulSet),
    /// A volume.
    PersistentVolume(PersistentVolume),
    /// A claim to a volume.
    PersistentVolumeClaim(PersistentVolumeClaim),
    /// Says when claims are bound.
    StorageClass(StorageClass),
    /// Says how many volumes a node takes.
    CsiNode(CSINode),
    /// Says whether capacity is tracked.
    CsiDriver(CSIDriver),
    /// Says where there is room for new volumes.
    CsiStorageCapacity(CSIStorageCapacity),
    /// A claim to devices.
    ResourceClaim(ResourceClaim),
    /// Devices that a driver offers.
    ResourceSlice(ResourceSlice),
    /// A sort of devices.
    DeviceClass(DeviceClass),
    /// Keeps claims from devices.
    DeviceTaintRule(DeviceTaintRule),
}

/// A PodDisruptionBudget.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Its namespace.
    pub namespace: String,
    /// The pods that it protects.
    pub selector: Selector,
    /// How many of them may be evicted now.
    pub allowed: i32,
    /// Those whose eviction is counted already, by name.
    pub disrupted: BTreeSet<String>,
}

/// What plugins ask about beside nodes and pods, by name.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    namespaces: HashMap<String, Labels>,
    budgets: BTreeMap<Key, Arc<Budget>>,
    services: HashMap<String, BTreeMap<String, Labels>>,
    /// Selectors by kind, namespace and name.
    controllers: HashMap<(&'static str, Key), Selector>,
    volumes: BTreeMap<String, Arc<PersistentVolume>>,
    claims: HashMap<Key, Arc<PersistentVolumeClaim>>,
    classes: HashMap<String, Arc<StorageClass>>,
    csi_nodes: HashMap<String, Arc<CSINode>>,
    csi_drivers: HashMap<String, Arc<CSIDriver>>,
    capacities: BTreeMap<Key, Arc<CSIStorageCapacity>>,
    devices: Devices,
}

/// What a change of an object invalidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Nothing,
    /// Namespace selectors select other pods.
    Namespaces,
    /// Pods spread by default among others.
    Selectors,
}

pub(super) fn key(metadata: &ObjectMeta) -> Key {
    (
        metadata.namespace.clone().unwrap_or_default(),
        metadata.name.clone().unwrap_or_default(),
    )
}

impl Objects {
    pub(super) fn set(&mut self, object: Object) -> Effect {
        match object {
            Object::Namespace(o) => {
                let labels = o.metadata.labels.unwrap_or_default();
                let name = o.metadata.name.unwrap_or_default();
                if self.namespaces.get(&name) == Some(&labels) {
                    return Effect::Nothing;
                }
                self.namespaces.insert(name, labels);
                Effect::Namespaces
            }
            Object::PodDisruptionBudget(o) => {
                let selector = o.spec.as_ref().and_then(|s| s.selector.as_ref());
                let status = o.status.as_ref();
                let budget = Budget {
                    namespace: o.metadata.namespace.clone().unwrap_or_default(),
                    selector: Selector::try_from(selector).unwrap_or_else(|_| Selector::nothing()),
                    allowed: status
                        .and_then(|s| maybe(s.disruptions_allowed))
                        .unwrap_or(0),
                    disrupted: status
                        .and_then(|s| s.disrupted_pods.as_ref())
                        .map(|d| d.keys().cloned().collect())
                        .unwrap_or_default(),
                };
                self.budgets.insert(key(&o.metadata), Arc::new(budget));
                Effect::Nothing
            }
            Object::Service(o) => {
                let (namespace, name) = key(&o.metadata);
                let selector = o.spec.and_then(|s| s.selector).unwrap_or_default();
                let services = self.services.entry(namespace).or_default();
                if services.get(&name) == Some(&selector) {
                    return Effect::Nothing;
                }
                services.insert(name, selector);
                Effect::Selectors
            }
            Object::ReplicationController(o) => {
                let labels = o.spec.and_then(|s| s.selector).unwrap_or_default();
                self.controller(
                    "ReplicationController",
                    &o.metadata,
                    Selector::from_labels(&labels),
                )
            }
            Object::ReplicaSet(o) => {
                let selector = maybe(o.spec).map(|s: ReplicaSetSpec| s.selector);
                self.controller("ReplicaSet", &o.metadata, parsed(selector.as_ref()))
            }
            Object::StatefulSet(o) => {
                let selector = maybe(o.spec).map(|s: StatefulSetSpec| s.selector);
                self.controller("StatefulSet", &o.metadata, parsed(selector.as_ref()))
            }
            Object::PersistentVolume(o) => {
                self.volumes.insert(key(&o.metadata).1, Arc::new(o));
                Effect::Nothing
            }
            Object::PersistentVolumeClaim(o) => {
                self.claims.insert(key(&o.metadata), Arc::new(o));
                Effect::Nothing
            }
            Object::StorageClass(o) => {
                self.classes.insert(key(&o.metadata).1, Arc::new(o));
                Effect::Nothing
            }
            Object::CsiNode(o) => {
                self.csi_nodes.insert(key(&o.metadata).1, Arc::new(o));
                Effect::Nothing
            }
            Object::CsiDriver(o) => {
                self.csi_drivers.insert(key(&o.metadata).1, Arc::new(o));
                Effect::Nothing
            }
            Object::CsiStorageCapacity(o) => {
                self.capacities.insert(key(&o.metadata), Arc::new(o));
                Effect::Nothing
            }
            Object::ResourceClaim(o) => {
                self.devices.set_claim(o);
                Effect::Nothing
            }
            Object::ResourceSlice(o) => {
                self.devices.set_slice(o);
                Effect::Nothing
            }
            Object::DeviceClass(o) => {
                self.devices.set_class(o);
                Effect::Nothing
            }
            Object::DeviceTaintRule(o) => {
                self.devices.set_rule(o);
                Effect::Nothing
            }
        }
    }

    fn controller(
        &mut self,
        kind: &'static str,
        metadata: &ObjectMeta,
        selector: Selector,
    ) -> Effect {
        let key = (kind, key(metadata));
        if self.controllers.get(&key) == Some(&selector) {
            return Effect::Nothing;
        }
        self.controllers.insert(key, selector);
        Effect::Selectors
    }

    pub(super) fn remove(&mut self, object: &Object) -> Effect {
        match object {
            Object::Namespace(o) => {
                self.namespaces.remove(&key(&o.metadata).1);
                return Effect::Namespaces;
            }
            Object::PodDisruptionBudget(o) => drop(self.budgets.remove(&key(&o.metadata))),
            Object::Service(o) => {
                let (namespace, name) = key(&o.metadata);
                if let Some(services) = self.services.get_mut(&namespace) {
                    services.remove(&name);
                }
                return Effect::Selectors;
            }
            Object::ReplicationController(o) => {
                return self.forget("ReplicationController", &o.metadata);
            }
            Object::ReplicaSet(o) => return self.forget("ReplicaSet", &o.metadata),
            Object::StatefulSet(o) => return self.forget("StatefulSet", &o.metadata),
            Object::PersistentVolume(o) => drop(self.volumes.remove(&key(&o.metadata).1)),
            Object::PersistentVolumeClaim(o) => drop(self.claims.remove(&key(&o.metadata))),
            Object::StorageClass(o) => drop(self.classes.remove(&key(&o.metadata).1)),
            Object::CsiNode(o) => drop(self.csi_nodes.remove(&key(&o.metadata).1)),
            Object::CsiDriver(o) => drop(self.csi_drivers.remove(&key(&o.metadata).1)),
            Object::CsiStorageCapacity(o) => drop(self.capacities.remove(&key(&o.metadata))),
            Object::ResourceClaim(o) => self.devices.unset_claim(o),
            Object::ResourceSlice(o) => self.devices.unset_slice(o),
            Object::DeviceClass(o) => self.devices.unset_class(o),
            Object::DeviceTaintRule(o) => self.devices.unset_rule(o),
        }
        Effect::Nothing
    }

    fn forget(&mut self, kind: &'static str, metadata: &ObjectMeta) -> Effect {
        self.controllers.remove(&(kind, key(metadata)));
        Effect::Selectors
    }

    /// The labels of a namespace; none if it is not known.
    pub fn namespace_labels(&self, namespace: &str) -> &BTreeMap<String, String> {
        self.namespaces.get(namespace).unwrap_or(&NONE)
    }

    /// All disruption budgets.
    pub fn budgets(&self) -> impl Iterator<Item = &Arc<Budget>> {
        self.budgets.values()
    }

    /// The selectors of the Services of a namespace that have one.
    pub fn services(&self, namespace: &str) -> impl Iterator<Item = &BTreeMap<String, String>> {
        let services = self.services.get(namespace).into_iter();
        services
            .flat_map(BTreeMap::values)
            .filter(|s| !s.is_empty())
    }

    /// The selector of a ReplicationController, ReplicaSet or StatefulSet.
    pub fn controller_selector(
        &self,
        kind: &'static str,
        namespace: &str,
        name: &str,
    ) -> Option<&Selector> {
        self.controllers
            .get(&(kind, (namespace.to_owned(), name.to_owned())))
    }

    /// A volume.
    pub fn volume(&self, name: &str) -> Option<&Arc<PersistentVolume>> {
        self.volumes.get(name)
    }

    /// All volumes, by name.
    pub fn volumes(&self) -> impl Iterator<Item = &Arc<PersistentVolume>> {
        self.volumes.values()
    }

    /// A claim.
    pub fn claim(&self, namespace: &str, name: &str) -> Option<&Arc<PersistentVolumeClaim>> {
        self.claims.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// A storage class.
    pub fn class(&self, name: &str) -> Option<&Arc<StorageClass>> {
        self.classes.get(name)
    }

    /// What CSI drivers say of a node.
    pub fn csi_node(&self, name: &str) -> Option<&Arc<CSINode>> {
        self.csi_nodes.get(name)
    }

    /// A CSI driver.
    pub fn csi_driver(&self, name: &str) -> Option<&Arc<CSIDriver>> {
        self.csi_drivers.get(name)
    }

    /// Devices, and who has them.
    pub(crate) fn devices(&self) -> &Devices {
        &self.devices
    }

    /// Where there is room for new volumes.
    pub fn capacities(&self) -> impl Iterator<Item = &Arc<CSIStorageCapacity>> {
        self.capacities.values()
    }
}

fn parsed(
    selector: Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>,
) -> Selector {
    Selector::try_from(selector).unwrap_or_else(|_| Selector::nothing())
}

/// What is in a field that is optional in some API levels and required in others.
fn maybe<T>(field: impl Into<Option<T>>) -> Option<T> {
    field.into()
}
