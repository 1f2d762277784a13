//! The rules of ServiceAccounts.

use k8s_openapi::api::core::v1::{ObjectReference, ServiceAccount};

use crate::kinds::typed::KindRules;

/// The rules of ServiceAccounts: their metadata's alone. Of the secrets that they name nothing is kept but the names.
pub(crate) struct ServiceAccountRules;

impl KindRules for ServiceAccountRules {
    type Kind = ServiceAccount;

    fn prepare_for_create(&self, account: &mut ServiceAccount) {
        for secret in account.secrets.iter_mut().flatten() {
            *secret = ObjectReference {
                name: secret.name.take(),
                ..ObjectReference::default()
            };
        }
    }

    fn prepare_for_update(&self, new: &mut ServiceAccount, _: &ServiceAccount) {
        self.prepare_for_create(new);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_named_and_no_more() {
        let secrets = json!([{"name": "s", "namespace": "n", "uid": "u"}]);
        let account = json!({"metadata": {"name": "a"}, "secrets": secrets});
        let mut account: ServiceAccount = serde_json::from_value(account).unwrap();
        let old = account.clone();
        ServiceAccountRules.prepare_for_update(&mut account, &old);
        let kept = serde_json::to_value(&account.secrets).unwrap();
        assert_eq!(kept, json!([{"name": "s"}]));
    }
}
