//! The rules of ServiceAccounts.

use k8s_openapi::api::core::v1::{ObjectReference, ServiceAccount};

use crate::kinds::{checks::annotation_advice, typed::KindRules};

/// Says that pods of the account mount no secrets but those that it names.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

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

    fn warnings(&self, account: &ServiceAccount) -> Vec<String> {
        let told =
            "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets";
        Vec::from_iter(annotation_advice(&account.metadata, ENFORCE, told))
    }

    /// Who had the annotation before has been told.
    fn update_warnings(&self, new: &ServiceAccount, old: &ServiceAccount) -> Vec<String> {
        if self.warnings(old).is_empty() {
            self.warnings(new)
        } else {
            Vec::new()
        }
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

    #[test]
    fn who_begins_to_enforce_mountable_secrets_is_advised_not_to() {
        let account = |annotations: serde_json::Value| -> ServiceAccount {
            let metadata = json!({"name": "a", "annotations": annotations});
            serde_json::from_value(json!({"metadata": metadata})).unwrap()
        };
        let (old, new) = (account(json!({})), account(json!({ENFORCE: "false"})));
        let told = [
            "metadata.annotations[kubernetes.io/enforce-mountable-secrets]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets",
        ];
        let rules = ServiceAccountRules;
        assert_eq!(rules.warnings(&old), [""; 0]);
        assert_eq!(rules.warnings(&new), told);
        assert_eq!(rules.update_warnings(&new, &old), told);
        assert_eq!(rules.update_warnings(&new, &new), [""; 0]);
        assert_eq!(rules.update_warnings(&old, &new), [""; 0]);
    }
}
