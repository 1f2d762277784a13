//! Tables of resources, as `kubectl get` shows them: which columns a kind has, and an object's
//! cells.
//!
//! The columns are upstream's (`pkg/printers/internalversion`), wide ones included; a client
//! leaves those out that it has no use for. The table itself, a `meta.k8s.io` `Table`, is made by
//! the API server.
//!
//! ```
//! use k8s_model::{ResourceTable, api::core::v1::Namespace, k8s_openapi::jiff::Timestamp, printers};
//!
//! let table = ResourceTable::builtin();
//! let resource = table.resource("", "v1", "namespaces").expect("a built-in resource");
//! let names: Vec<_> = printers::columns(resource).iter().map(|column| column.name).collect();
//! assert_eq!(names, ["Name", "Status", "Age"]);
//!
//! let cells = printers::cells(resource, &Namespace::default(), Timestamp::UNIX_EPOCH);
//! assert_eq!(cells.len(), 3);
//! ```

mod cluster;
mod column;
mod config;
mod devices;
mod duration;
mod network;
mod pods;
mod storage;
mod view;
mod workloads;

use jiff::Timestamp;
use k8s_openapi::api::autoscaling::v1::Scale;
use serde_json::Value;

use self::view::View;
pub use self::{column::Column, duration::human_duration};
use crate::{Object, Resource};

/// How a kind is shown.
type Printer = (&'static [Column], fn(&View) -> Vec<Value>);

/// The columns of a resource's table.
pub fn columns(resource: &Resource) -> &'static [Column] {
    printer(resource.group, resource.kind).0
}

/// Whether the table of a resource has columns that only its kind has, or those that every object has.
pub fn has_own(resource: &Resource) -> bool {
    columns(resource) != cluster::OTHER
}

/// An object's cells, one per column. `now` is what ages are counted to.
pub fn cells(resource: &Resource, object: &dyn Object, now: Timestamp) -> Vec<Value> {
    if let Some(pod) = object.downcast_ref() {
        return pods::cells(pod, now);
    }
    if let Some(map) = object.downcast_ref() {
        return config::config_map(map, now);
    }
    if let Some(secret) = object.downcast_ref() {
        return config::secret(secret, now);
    }
    printer(resource.group, resource.kind).1(&View::new(object, now))
}

/// The columns of the table of a `Scale`, which is no resource of its own.
pub fn scale_columns() -> &'static [Column] {
    workloads::SCALE
}

/// A scale's cells, one per column. `now` is what its age is counted to.
pub fn scale_cells(scale: &Scale, now: Timestamp) -> Vec<Value> {
    workloads::scale(&View::new(scale, now))
}

fn printer(group: &str, kind: &str) -> Printer {
    match (group, kind) {
        ("", "Pod") => (pods::COLUMNS, cluster::other),
        ("", "ConfigMap") => (config::CONFIG_MAP, cluster::other),
        ("", "Secret") => (config::SECRET, cluster::other),
        ("", "ComponentStatus") => (cluster::COMPONENT_STATUS, cluster::component_status),
        ("", "Endpoints") => (network::ENDPOINTS, network::endpoints),
        ("" | "events.k8s.io", "Event") => (cluster::EVENT, cluster::event),
        ("", "Namespace") => (cluster::NAMESPACE, cluster::namespace),
        ("", "Node") => (cluster::NODE, cluster::node),
        ("", "PersistentVolume") => (storage::PERSISTENT_VOLUME, storage::persistent_volume),
        ("", "PersistentVolumeClaim") => (
            storage::PERSISTENT_VOLUME_CLAIM,
            storage::persistent_volume_claim,
        ),
        ("", "PodTemplate") => (workloads::POD_TEMPLATE, workloads::pod_template),
        ("", "ReplicationController") => (workloads::REPLICAS, workloads::replication_controller),
        ("", "ResourceQuota") => (config::RESOURCE_QUOTA, config::resource_quota),
        ("", "Service") => (network::SERVICE, network::service),
        ("", "ServiceAccount") => (config::SERVICE_ACCOUNT, config::service_account),
        ("admissionregistration.k8s.io", kind) => match kind {
            "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => {
                (cluster::WEBHOOKS, cluster::webhooks)
            }
            "ValidatingAdmissionPolicy" => (cluster::ADMISSION_POLICY, cluster::admission_policy),
            "ValidatingAdmissionPolicyBinding" => (
                cluster::ADMISSION_POLICY_BINDING,
                cluster::admission_policy_binding,
            ),
            _ => (cluster::OTHER, cluster::other),
        },
        ("apiregistration.k8s.io", "APIService") => (network::API_SERVICE, network::api_service),
        ("apps", "ControllerRevision") => (
            workloads::CONTROLLER_REVISION,
            workloads::controller_revision,
        ),
        ("apps", "DaemonSet") => (workloads::DAEMON_SET, workloads::daemon_set),
        ("apps", "Deployment") => (workloads::DEPLOYMENT, workloads::deployment),
        ("apps", "ReplicaSet") => (workloads::REPLICAS, workloads::replica_set),
        ("apps", "StatefulSet") => (workloads::STATEFUL_SET, workloads::stateful_set),
        ("autoscaling", "HorizontalPodAutoscaler") => (
            workloads::HORIZONTAL_POD_AUTOSCALER,
            workloads::horizontal_pod_autoscaler,
        ),
        ("batch", "CronJob") => (workloads::CRON_JOB, workloads::cron_job),
        ("batch", "Job") => (workloads::JOB, workloads::job),
        ("certificates.k8s.io", "CertificateSigningRequest") => (
            cluster::CERTIFICATE_SIGNING_REQUEST,
            cluster::certificate_signing_request,
        ),
        ("coordination.k8s.io", "Lease") => (cluster::LEASE, cluster::lease),
        ("discovery.k8s.io", "EndpointSlice") => (network::ENDPOINT_SLICE, network::endpoint_slice),
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => {
            (cluster::FLOW_SCHEMA, cluster::flow_schema)
        }
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => {
            (cluster::PRIORITY_LEVEL, cluster::priority_level)
        }
        ("networking.k8s.io", "Ingress") => (network::INGRESS, network::ingress),
        ("networking.k8s.io", "IngressClass") => (network::INGRESS_CLASS, network::ingress_class),
        ("networking.k8s.io", "IPAddress") => (network::IP_ADDRESS, network::ip_address),
        ("networking.k8s.io", "NetworkPolicy") => {
            (network::NETWORK_POLICY, network::network_policy)
        }
        ("networking.k8s.io", "ServiceCIDR") => (network::SERVICE_CIDR, network::service_cidr),
        ("node.k8s.io", "RuntimeClass") => (cluster::RUNTIME_CLASS, cluster::runtime_class),
        ("policy", "PodDisruptionBudget") => (
            workloads::POD_DISRUPTION_BUDGET,
            workloads::pod_disruption_budget,
        ),
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => {
            (config::ROLE_BINDING, config::role_binding)
        }
        ("scheduling.k8s.io", "PriorityClass") => {
            (cluster::PRIORITY_CLASS, cluster::priority_class)
        }
        ("certificates.k8s.io", "ClusterTrustBundle") => {
            (cluster::TRUST_BUNDLE, cluster::trust_bundle)
        }
        ("certificates.k8s.io", "PodCertificateRequest") => (
            cluster::POD_CERTIFICATE_REQUEST,
            cluster::pod_certificate_request,
        ),
        ("resource.k8s.io", "ResourceClaim") => (devices::CLAIM, devices::claim),
        ("resource.k8s.io", "ResourceSlice") => (devices::SLICE, devices::slice),
        ("resource.k8s.io", "DeviceClass" | "ResourceClaimTemplate") => {
            (devices::NAME_AND_AGE, devices::name_and_age)
        }
        ("storage.k8s.io", "VolumeAttributesClass") => (
            storage::VOLUME_ATTRIBUTES_CLASS,
            storage::volume_attributes_class,
        ),
        ("storagemigration.k8s.io", "StorageVersionMigration") => {
            (storage::STORAGE_MIGRATION, storage::storage_migration)
        }
        ("storage.k8s.io", "CSIDriver") => (storage::CSI_DRIVER, storage::csi_driver),
        ("storage.k8s.io", "CSINode") => (storage::CSI_NODE, storage::csi_node),
        ("storage.k8s.io", "CSIStorageCapacity") => {
            (storage::CSI_STORAGE_CAPACITY, storage::csi_storage_capacity)
        }
        ("storage.k8s.io", "StorageClass") => (storage::STORAGE_CLASS, storage::storage_class),
        ("storage.k8s.io", "VolumeAttachment") => {
            (storage::VOLUME_ATTACHMENT, storage::volume_attachment)
        }
        _ => (cluster::OTHER, cluster::other),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::{
        apps::v1::Deployment,
        core::v1::{Event, Node, Service},
        networking::v1::IPAddress,
    };
    use serde_json::json;

    use super::*;
    use crate::ResourceTable;

    fn row<K: Object + serde::de::DeserializeOwned>(
        (group, version, resource): (&str, &str, &str),
        value: Value,
    ) -> Vec<String> {
        let resource = ResourceTable::builtin()
            .resource(group, version, resource)
            .unwrap();
        let object: K = serde_json::from_value(value).unwrap();
        let now = "2024-01-01T00:10:00Z".parse().unwrap();
        let cells = cells(resource, &object, now);
        assert_eq!(cells.len(), columns(resource).len());
        cells.iter().map(view::scalar).collect()
    }

    fn meta(name: &str) -> Value {
        json!({"name": name, "creationTimestamp": "2024-01-01T00:00:00Z"})
    }

    #[test]
    fn every_resource_has_as_many_cells_as_columns() {
        for resource in ResourceTable::builtin()
            .rows()
            .iter()
            .filter(|resource| resource.is_stored())
        {
            let json = json!({"apiVersion": resource.api_version(), "kind": resource.kind});
            let bytes = serde_json::to_vec(&json).unwrap();
            let Ok(object) = (resource.codec.from_json)(&bytes, &mut |_| {}) else {
                continue;
            };
            let cells = cells(resource, &*object, Timestamp::UNIX_EPOCH);
            assert_eq!(cells.len(), columns(resource).len(), "{resource:?}");
        }
    }

    #[test]
    fn a_deployment_shows_its_progress_and_template() {
        let row = row::<Deployment>(
            ("apps", "v1", "deployments"),
            json!({
                "metadata": meta("web"),
                "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"},
                    "matchExpressions": [{"key": "tier", "operator": "In", "values": ["b", "a"]}]},
                    "template": {"spec": {"containers": [{"name": "a", "image": "x"},
                        {"name": "b", "image": "y"}]}}},
                "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2},
            }),
        );
        assert_eq!(
            row,
            [
                "web",
                "2/3",
                "3",
                "2",
                "10m",
                "a,b",
                "x,y",
                "app=web,tier in (a,b)"
            ]
        );
    }

    #[test]
    fn a_service_shows_addresses_and_ports() {
        let row = row::<Service>(
            ("", "v1", "services"),
            json!({
                "metadata": meta("web"),
                "spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
                    "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}],
                    "selector": {"app": "web"}},
            }),
        );
        assert_eq!(
            row,
            [
                "web",
                "NodePort",
                "10.0.0.1",
                "<none>",
                "80:30080/TCP",
                "10m",
                "app=web"
            ]
        );
    }

    #[test]
    fn an_address_shows_whose_it_is() {
        for (parent, shown) in [
            (
                json!({"resource": "services", "namespace": "n", "name": "s"}),
                "services/n/s",
            ),
            (
                json!({"group": "g.io", "resource": "Gateways", "namespace": "n", "name": "g"}),
                "gateways.g.io/n/g",
            ),
            (json!({"resource": "nodes", "name": "n"}), "nodes/n"),
        ] {
            let row = row::<IPAddress>(
                ("networking.k8s.io", "v1", "ipaddresses"),
                json!({"metadata": meta("10.0.0.1"), "spec": {"parentRef": parent}}),
            );
            assert_eq!(row, ["10.0.0.1", shown, "10m"]);
        }
    }

    #[test]
    fn a_node_shows_status_and_roles() {
        let mut node = json!({"metadata": meta("n"), "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.1.0.1"}]}});
        node["metadata"]["labels"] = json!({"node-role.kubernetes.io/control-plane": ""});
        let row = row::<Node>(("", "v1", "nodes"), node);
        assert_eq!(
            row[1..4],
            ["Ready,SchedulingDisabled", "control-plane", "10m"]
        );
        assert_eq!(row[5..7], ["10.1.0.1", "<none>"]);
    }

    #[test]
    fn an_event_shows_what_happened_to_what() {
        let row = row::<Event>(
            ("", "v1", "events"),
            json!({
                "metadata": meta("e"), "type": "Normal", "reason": "Scheduled", "message": "done ",
                "involvedObject": {"kind": "Pod", "name": "a"}, "count": 2,
                "lastTimestamp": "2024-01-01T00:09:00Z", "firstTimestamp": "2024-01-01T00:08:00Z",
                "source": {"component": "scheduler"},
            }),
        );
        assert_eq!(
            row,
            [
                "60s",
                "Normal",
                "Scheduled",
                "pod/a",
                "",
                "scheduler",
                "done",
                "2m",
                "2",
                "e"
            ]
        );
    }
}
