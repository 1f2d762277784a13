//! The objects about devices, as far as the scheduler goes by them.
//!
//! Types of their own, and not k8s-openapi's: the API level that a program is built for may be older than they are, while the
//! server that it speaks to is not.

use std::collections::BTreeMap;

use k8s_model::quantity::Amount;
use k8s_openapi::{
    ClusterResourceScope, Metadata, NamespaceResourceScope, Resource,
    api::core::v1::NodeSelector,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident ($kind:literal, $plural:literal, $scope:ty) {$($field:ident: $type:ty,)*})*) => {
        $(
            $(#[$doc])*
            ///
            /// Of the API group `resource.k8s.io/v1`. Read from any of its encodings in JSON:
            ///
            /// ```
            #[doc = concat!("use k8s_scheduler::snapshot::", stringify!($name), ";")]
            #[doc = concat!("let object: ", stringify!($name), " =")]
            ///     serde_json::from_str(r#"{"metadata": {"name": "a"}}"#)?;
            /// # Ok::<(), serde_json::Error>(())
            /// ```
            #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
            #[serde(default, rename_all = "camelCase")]
            pub struct $name {
                pub(crate) metadata: ObjectMeta,
                $(pub(crate) $field: $type,)*
            }

            impl Resource for $name {
                const API_VERSION: &'static str = "resource.k8s.io/v1";
                const GROUP: &'static str = "resource.k8s.io";
                const KIND: &'static str = $kind;
                const VERSION: &'static str = "v1";
                const URL_PATH_SEGMENT: &'static str = $plural;
                type Scope = $scope;
            }

            impl Metadata for $name {
                type Ty = ObjectMeta;

                fn metadata(&self) -> &ObjectMeta {
                    &self.metadata
                }

                fn metadata_mut(&mut self) -> &mut ObjectMeta {
                    &mut self.metadata
                }
            }
        )*
    };
}

kinds! {
    /// Who claims devices, which, and what became of it.
    ResourceClaim("ResourceClaim", "resourceclaims", NamespaceResourceScope) {
        spec: ClaimSpec,
        status: ClaimStatus,
    }
    /// Devices that a driver offers.
    ResourceSlice("ResourceSlice", "resourceslices", ClusterResourceScope) {
        spec: SliceSpec,
    }
    /// A sort of devices.
    DeviceClass("DeviceClass", "deviceclasses", ClusterResourceScope) {
        spec: ClassSpec,
    }
    /// A taint for devices that others have published.
    DeviceTaintRule("DeviceTaintRule", "devicetaintrules", ClusterResourceScope) {
        spec: TaintRuleSpec,
    }
}

/// Declares types of the API that are read, all of whose fields may be absent.
macro_rules! read {
    ($($(#[$doc:meta])* $name:ident {$($(#[$attribute:meta])* $field:ident: $type:ty,)*})*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
            #[serde(default, rename_all = "camelCase")]
            pub(crate) struct $name {
                $($(#[$attribute])* pub(crate) $field: $type,)*
            }
        )*
    };
}

/// The same of those that are written too.
macro_rules! written {
    ($($(#[$doc:meta])* $name:ident {$($(#[$attribute:meta])* $field:ident: $type:ty,)*})*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
            #[serde(default, rename_all = "camelCase")]
            pub(crate) struct $name {
                $(
                    $(#[$attribute])*
                    #[serde(skip_serializing_if = "is_default")]
                    pub(crate) $field: $type,
                )*
            }
        )*
    };
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

read! {
    ClaimSpec { devices: DeviceClaim, }
    DeviceClaim {
        requests: Vec<DeviceRequest>,
        constraints: Vec<Constraint>,
        config: Vec<Configuration>,
    }
    DeviceRequest {
        name: String,
        exactly: Option<Wanted>,
        first_available: Vec<Wanted>,
    }
    /// A request, or one of several that are as good.
    Wanted {
        /// Of those that are as good.
        name: String,
        device_class_name: String,
        selectors: Vec<Selector>,
        allocation_mode: String,
        count: i64,
        admin_access: Option<bool>,
        tolerations: Vec<Toleration>,
        capacity: Capacities,
    }
    Selector { cel: Option<Cel>, }
    Cel { expression: String, }
    Capacities { requests: BTreeMap<String, Size>, }
    Constraint {
        requests: Vec<String>,
        match_attribute: Option<String>,
        distinct_attribute: Option<String>,
    }
    ClaimStatus {
        allocation: Option<Allocation>,
        reserved_for: Vec<Consumer>,
        devices: Vec<DeviceStatus>,
    }
    /// What a driver says of a device that it gave away.
    DeviceStatus {
        driver: String,
        pool: String,
        device: String,
        conditions: Vec<Condition>,
    }
    Condition {
        #[serde(rename = "type")]
        type_: String,
        status: String,
    }
    SliceSpec {
        driver: String,
        pool: Pool,
        node_name: String,
        node_selector: Option<NodeSelector>,
        all_nodes: bool,
        per_device_node_selection: bool,
        devices: Vec<Device>,
        shared_counters: Vec<CounterSet>,
    }
    Pool {
        name: String,
        generation: i64,
        resource_slice_count: i64,
    }
    Device {
        name: String,
        attributes: BTreeMap<String, Attribute>,
        capacity: BTreeMap<String, DeviceCapacity>,
        consumes_counters: Vec<Consumption>,
        node_name: String,
        node_selector: Option<NodeSelector>,
        all_nodes: bool,
        taints: Vec<Taint>,
        binds_to_node: bool,
        binding_conditions: Vec<String>,
        binding_failure_conditions: Vec<String>,
        allow_multiple_allocations: Option<bool>,
    }
    /// One of them is set.
    Attribute {
        bool: Option<bool>,
        int: Option<i64>,
        string: Option<String>,
        version: Option<String>,
    }
    DeviceCapacity {
        value: Size,
        request_policy: Option<RequestPolicy>,
    }
    RequestPolicy {
        default: Option<Size>,
        valid_values: Vec<Size>,
        valid_range: Option<ValidRange>,
    }
    ValidRange {
        min: Option<Size>,
        max: Option<Size>,
        step: Option<Size>,
    }
    Taint {
        key: String,
        value: String,
        effect: String,
    }
    CounterSet {
        name: String,
        counters: BTreeMap<String, Counter>,
    }
    Counter { value: Size, }
    Consumption {
        counter_set: String,
        counters: BTreeMap<String, Counter>,
    }
    ClassSpec {
        selectors: Vec<Selector>,
        config: Vec<Configuration>,
    }
    TaintRuleSpec {
        device_selector: Option<TaintSelector>,
        taint: Taint,
    }
    TaintSelector {
        driver: Option<String>,
        pool: Option<String>,
        device: Option<String>,
    }
}

written! {
    Allocation {
        devices: Given,
        node_selector: Option<NodeSelector>,
        allocation_timestamp: Option<Time>,
    }
    Given {
        results: Vec<GivenDevice>,
        config: Vec<Configuration>,
    }
    GivenDevice {
        request: String,
        driver: String,
        pool: String,
        device: String,
        admin_access: Option<bool>,
        tolerations: Vec<Toleration>,
        binding_conditions: Vec<String>,
        binding_failure_conditions: Vec<String>,
        #[serde(rename = "shareID")]
        share_id: Option<String>,
        consumed_capacity: BTreeMap<String, Size>,
    }
    Configuration {
        /// Of those in an allocation: whose it is.
        source: String,
        requests: Vec<String>,
        opaque: Value,
    }
    Toleration {
        key: String,
        operator: String,
        value: String,
        effect: String,
        toleration_seconds: Option<i64>,
    }
    Consumer {
        api_group: String,
        resource: String,
        name: String,
        uid: String,
    }
}

/// A quantity. What is none counts as nothing: the API takes no such object.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Eq, Ord)]
pub(crate) struct Size(pub(crate) Amount);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match Value::deserialize(deserializer)? {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Ok(Self(Amount::parse(&text).unwrap_or_default()))
    }
}

impl Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl Toleration {
    /// Whether it is about such a taint. What the taint's effect means is another matter.
    pub(crate) fn tolerates(&self, taint: &Taint) -> bool {
        let holds = |wanted: &String, is: &String| wanted.is_empty() || wanted == is;
        holds(&self.effect, &taint.effect)
            && holds(&self.key, &taint.key)
            && match self.operator.as_str() {
                "" | "Equal" => self.value == taint.value,
                "Exists" => true,
                _ => false,
            }
    }
}

impl DeviceRequest {
    /// What is asked for: one thing, or several of which the first that there is will do.
    pub(crate) fn alternatives(&self) -> &[Wanted] {
        match &self.exactly {
            Some(exactly) => std::slice::from_ref(exactly),
            None => &self.first_available,
        }
    }
}

impl ResourceClaim {
    pub(crate) fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    pub(crate) fn namespace(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    pub(crate) fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    /// `namespace/name`.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}", self.namespace(), self.name())
    }

    pub(crate) fn is_reserved_for(&self, uid: &str) -> bool {
        self.status.reserved_for.iter().any(|c| c.uid == uid)
    }
}
