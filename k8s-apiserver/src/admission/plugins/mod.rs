//! The admission plugins that upstream's server has on by default, as far as they are here.

mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod object_in_use;
mod priority;
mod service_account;
mod tolerations;

use std::sync::Arc;

pub use self::{
    limit_ranger::LimitRanger,
    namespace_lifecycle::NamespaceLifecycle,
    node_restriction::NodeRestriction,
    object_in_use::StorageObjectInUseProtection,
    priority::Priority,
    service_account::ServiceAccount,
    tolerations::{DefaultTolerationSeconds, TaintNodesByCondition},
};
use super::{AdmissionPlugin, reader::ObjectReader};

/// The annotation of a pod that stands for one of a node's own.
pub(crate) const MIRROR_POD: &str = "kubernetes.io/config.mirror";

/// The plugins of this module, in upstream's order.
pub fn default_plugins(reader: &Arc<dyn ObjectReader>) -> Vec<Arc<dyn AdmissionPlugin>> {
    vec![
        Arc::new(NamespaceLifecycle::new(reader.clone())),
        Arc::new(LimitRanger::new(reader.clone())),
        Arc::new(ServiceAccount::new(reader.clone())),
        Arc::new(NodeRestriction::new(reader.clone())),
        Arc::new(TaintNodesByCondition),
        Arc::new(Priority::new(reader.clone())),
        Arc::new(DefaultTolerationSeconds),
        Arc::new(StorageObjectInUseProtection),
    ]
}

#[cfg(test)]
mod tests;
