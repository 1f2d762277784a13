//! The rules of ServiceAccounts.

use k8s_openapi::api::core::v1::ServiceAccount;

use crate::kinds::typed::KindRules;

/// The rules of ServiceAccounts: their metadata's alone.
pub(crate) struct ServiceAccountRules;

impl KindRules for ServiceAccountRules {
    type Kind = ServiceAccount;
}
