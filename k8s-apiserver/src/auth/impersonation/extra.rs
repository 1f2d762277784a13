//! What keys and values constrained impersonation takes for extra fields.

use std::collections::BTreeMap;

use k8s_model::field::{self, Path};

use crate::auth::configuration::domain_prefixed;

/// Whether they are well formed; the classic mode does not ask.
///
/// # Errors
/// Upstream's text.
pub(super) fn check(extra: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
    for (key, values) in extra {
        if key.is_empty() {
            return Err("impersonating the empty string key in extra is not allowed".to_owned());
        }
        let mut found = Vec::new();
        domain_prefixed(key, &Path::new("extra").child("key"), &mut found);
        if !found.is_empty() {
            let text = field::aggregate(&found);
            return Err(format!(
                "impersonating an invalid key in extra is not allowed: {text}"
            ));
        }
        if *key != key.to_lowercase() {
            return Err(format!(
                "impersonating a non-lowercase key in extra is not allowed: {key:?}"
            ));
        }
        if values.is_empty() {
            return Err("impersonating empty values in extra is not allowed".to_owned());
        }
        if values.iter().any(String::is_empty) {
            return Err("impersonating the empty string value in extra is not allowed".to_owned());
        }
    }
    Ok(())
}
