//! The rules of each built-in kind, by group.

mod apps;
pub(crate) mod checks;
pub(crate) mod core;
mod quantities;
mod typed;

use self::typed::Typed;
use crate::{NoRules, Strategy};

/// The rules of a kind. All versions of a kind share them.
pub(crate) fn strategy(group: &str, kind: &str) -> &'static dyn Strategy {
    match (group, kind) {
        ("", "ConfigMap") => &Typed(core::config_map::ConfigMapRules),
        ("", "Namespace") => &Typed(core::namespace::NamespaceRules),
        ("", "Node") => &Typed(core::node::NodeRules),
        ("", "PersistentVolumeClaim") => {
            &Typed(core::persistent_volume_claim::PersistentVolumeClaimRules)
        }
        ("", "Pod") => &Typed(core::pod::PodRules),
        ("", "Secret") => &Typed(core::secret::SecretRules),
        ("", "Service") => &Typed(core::service::ServiceRules),
        ("", "ServiceAccount") => &Typed(core::service_account::ServiceAccountRules),
        ("apps", "Deployment") => &Typed(apps::deployment::DeploymentRules),
        ("apps", "ReplicaSet") => &Typed(apps::replica_set::ReplicaSetRules),
        _ => &NoRules,
    }
}
