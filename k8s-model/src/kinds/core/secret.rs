//! The rules of Secrets.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret};

use crate::{
    certificates::check_pair,
    field::{self, ErrorList, Path},
    kinds::{
        checks::{fill, immutable, messages, text},
        typed::KindRules,
    },
    names,
};

/// How many bytes a Secret or ConfigMap may hold.
pub(crate) const MAX_SIZE: usize = 1024 * 1024;

const TLS: &str = "kubernetes.io/tls";
const TLS_CERTIFICATE: &str = "tls.crt";
const TLS_KEY: &str = "tls.key";

/// An object marked immutable keeps the mark and its data. `kept` says of each field whether it
/// is the same.
pub(crate) fn frozen((new, old): (Option<bool>, Option<bool>), kept: &[(&str, bool)]) -> ErrorList {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    if old != Some(true) {
        return ErrorList::new();
    }
    [("immutable", new == Some(true))]
        .iter()
        .chain(kept)
        .filter(|(_, same)| !same)
        .map(|(name, _)| field::forbidden(Path::new(name), DETAIL))
        .collect()
}

/// The rules of Secrets.
pub(crate) struct SecretRules;

impl KindRules for SecretRules {
    type Kind = Secret;

    const SELECTABLE: &'static [&'static str] = &["type"];

    fn default(&self, secret: &mut Secret) {
        fill(&mut secret.type_, "Opaque");
        // `stringData` is for writing only: its entries replace those of `data`.
        if let Some(texts) = secret.string_data.take()
            && !texts.is_empty()
        {
            secret.data.get_or_insert_default().extend(
                texts
                    .into_iter()
                    .map(|(key, text)| (key, ByteString(text.into_bytes()))),
            );
        }
    }

    fn validate(&self, secret: &Secret) -> ErrorList {
        let empty = BTreeMap::new();
        let data = secret.data.as_ref().unwrap_or(&empty);
        let path = Path::new("data");
        let mut errors = ErrorList::new();
        for key in data.keys() {
            errors.extend(messages(
                &path.key(key),
                key.as_str(),
                names::config_map_key(key),
            ));
        }
        if data.values().map(|value| value.0.len()).sum::<usize>() > MAX_SIZE {
            errors.push(field::too_long(path.clone(), MAX_SIZE));
        }
        errors.extend(contents(secret, data, &path));
        errors
    }

    fn prepare_for_update(&self, new: &mut Secret, old: &Secret) {
        // A manifest that says nothing of the type means the one that is there.
        if text(&new.type_).is_empty() {
            new.type_.clone_from(&old.type_);
        }
    }

    fn validate_update(&self, new: &Secret, old: &Secret) -> ErrorList {
        let mut errors = immutable(&new.type_, &old.type_, Path::new("type"));
        let kept = new.data.as_ref().filter(|data| !data.is_empty())
            == old.data.as_ref().filter(|data| !data.is_empty());
        errors.extend(frozen((new.immutable, old.immutable), &[("data", kept)]));
        errors.extend(self.validate(new));
        errors
    }

    fn warnings(&self, secret: &Secret) -> Vec<String> {
        if text(&secret.type_) != TLS {
            return Vec::new();
        }
        let part = |name: &str| {
            let value = secret.data.as_ref().and_then(|data| data.get(name));
            value.map_or(&[][..], |value| &value.0)
        };
        let wrong = check_pair(part(TLS_CERTIFICATE), part(TLS_KEY)).err();
        Vec::from_iter(wrong)
    }

    fn selectable(&self, secret: &Secret) -> Vec<String> {
        vec![text(&secret.type_).to_owned()]
    }
}

/// What each type of Secret must hold.
fn contents(secret: &Secret, data: &BTreeMap<String, ByteString>, path: &Path) -> ErrorList {
    let missing = |key: &str| field::required(path.key(key), "");
    let absent = |key: &&str| !data.contains_key(*key);
    match text(&secret.type_) {
        "kubernetes.io/service-account-token" => {
            const NAME: &str = "kubernetes.io/service-account.name";
            let annotations = secret.metadata.annotations.as_ref();
            if annotations
                .and_then(|map| map.get(NAME))
                .is_none_or(String::is_empty)
            {
                return vec![field::required(
                    Path::new("metadata").child("annotations").key(NAME),
                    "",
                )];
            }
            ErrorList::new()
        }
        "kubernetes.io/dockercfg" => json_object(data, ".dockercfg", path),
        "kubernetes.io/dockerconfigjson" => json_object(data, ".dockerconfigjson", path),
        "kubernetes.io/basic-auth" => {
            let keys = ["username", "password"];
            if keys.iter().all(absent) {
                keys.into_iter().map(missing).collect()
            } else {
                ErrorList::new()
            }
        }
        "kubernetes.io/ssh-auth" => {
            const KEY: &str = "ssh-privatekey";
            if data.get(KEY).is_none_or(|value| value.0.is_empty()) {
                return vec![missing(KEY)];
            }
            ErrorList::new()
        }
        TLS => [TLS_CERTIFICATE, TLS_KEY]
            .into_iter()
            .filter(absent)
            .map(missing)
            .collect(),
        _ => ErrorList::new(),
    }
}

fn json_object(data: &BTreeMap<String, ByteString>, key: &str, path: &Path) -> ErrorList {
    let Some(value) = data.get(key) else {
        return vec![field::required(path.key(key), "")];
    };
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&value.0) {
        Ok(_) => ErrorList::new(),
        Err(error) => vec![field::invalid(
            path.key(key),
            "<secret contents redacted>",
            crate::decode::syntax_error(&value.0).unwrap_or_else(|| error.to_string()),
        )],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn secret(value: serde_json::Value) -> Secret {
        let mut secret: Secret = serde_json::from_value(value).unwrap();
        SecretRules.default(&mut secret);
        secret
    }

    #[test]
    fn string_data_becomes_data_and_the_type_is_opaque() {
        let secret = secret(json!({"metadata": {}, "data": {"a": "eA=="},
            "stringData": {"a": "y", "b": "z"}}));
        assert_eq!(
            serde_json::to_value(&secret).unwrap(),
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {}, "type": "Opaque",
                "data": {"a": "eQ==", "b": "eg=="}})
        );
    }

    #[test]
    fn the_type_is_immutable() {
        let old = secret(json!({"metadata": {}}));
        let new = secret(json!({"metadata": {}, "type": "x"}));
        assert_eq!(
            SecretRules.validate_update(&new, &old)[0].to_string(),
            r#"type: Invalid value: "x": field is immutable"#
        );
    }

    #[test]
    fn a_tls_secret_has_both_halves() {
        let errors = SecretRules
            .validate(&secret(json!({"metadata": {}, "type": "kubernetes.io/tls",
                "data": {"tls.crt": ""}})));
        assert_eq!(errors[0].to_string(), "data[tls.key]: Required value");
    }

    #[test]
    fn a_tls_secret_whose_halves_are_no_pair_is_warned_of() {
        let secret = |kind: &str| {
            let halves = json!({"tls.crt": "x", "tls.key": "y"});
            secret(json!({"metadata": {}, "type": kind, "stringData": halves}))
        };
        let (odd, other) = (secret("kubernetes.io/tls"), secret("Opaque"));
        let told = ["tls: failed to find any PEM data in certificate input"];
        assert_eq!(SecretRules.warnings(&odd), told);
        assert_eq!(SecretRules.update_warnings(&odd, &odd), told);
        assert_eq!(SecretRules.warnings(&other), [""; 0]);
    }
}
