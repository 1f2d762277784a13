//! Validation of volumes that put several things together.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    ClusterTrustBundleProjection, KeyToPath, PodSpec, ProjectedVolumeSource, Volume,
};

use super::{certificate, downward_file, keys, mode, non_reserved_path, required};
use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        certificates::{bundle_name, signer},
        checks::{blank, list},
        difference::{spelled, spelled_selector},
        selectors::label_selector,
    },
};

/// Checks a volume. Tokens in it may be at `any_token_path`.
pub(super) fn validate<'a>(
    source: &'a ProjectedVolumeSource,
    any_token_path: bool,
    path: &Path,
) -> ErrorList {
    let mut errors = mode(source.default_mode, path.child("defaultMode"));
    let mut paths = BTreeSet::new();
    for (index, source) in list(&source.sources).iter().enumerate() {
        let at = path.child("sources").index(index);
        let mut count = 0;
        let mut items = |name: &str, items: &'a [KeyToPath], sort: &str| {
            let at = at.child(sort);
            errors.extend(required(name, at.child("name")));
            errors.extend(keys(items, &at));
            for item in items {
                if !item.path.is_empty() && !paths.insert(item.path.as_str()) {
                    errors.push(field::invalid(
                        path.clone(),
                        name,
                        "conflicting duplicate paths",
                    ));
                }
            }
        };
        if let Some(secret) = &source.secret {
            count += 1;
            items(&secret.name, list(&secret.items), "secret");
        }
        if let Some(map) = &source.config_map {
            count += 1;
            items(&map.name, list(&map.items), "configMap");
        }
        if let Some(downward) = &source.downward_api {
            count += 1;
            for file in list(&downward.items) {
                errors.extend(downward_file(file, &at.child("downwardAPI")));
                if !file.path.is_empty() {
                    errors.extend(repeated(&file.path, &mut paths, path));
                }
            }
        }
        if let Some(token) = &source.service_account_token {
            count += 1;
            let at = at.child("serviceAccountToken").child("expirationSeconds");
            let seconds = token.expiration_seconds.unwrap_or_default();
            if seconds < 10 * 60 {
                errors.push(field::invalid(
                    at,
                    seconds,
                    "may not specify a duration less than 10 minutes",
                ));
            } else if seconds > 1 << 32 {
                errors.push(field::invalid(
                    at,
                    seconds,
                    "may not specify a duration larger than 2^32 seconds",
                ));
            }
            // Upstream tells of the volume what is the source's.
            errors.extend(required(&token.path, path.child("path")));
            if !any_token_path {
                errors.extend(non_reserved_path(&token.path, path.child("path")));
            }
        }
        if let Some(bundle) = &source.cluster_trust_bundle {
            count += 1;
            errors.extend(trust_bundle(bundle, &at.child("clusterTrustBundle")));
            errors.extend(repeated(&bundle.path, &mut paths, path));
        }
        let own = at.child("podCertificate");
        if let Some(found) = certificate::validate(source, &mut paths, &own, path) {
            count += 1;
            errors.extend(found);
        }
        if count > 1 {
            errors.push(field::forbidden(
                at,
                "may not specify more than 1 volume type per source",
            ));
        }
    }
    errors
}

/// Whether tokens are at paths that leave their volume, or that are kept for other things.
pub(in crate::kinds::core::pod) fn has_bad_token_paths(spec: &PodSpec) -> bool {
    let volumes = list(&spec.volumes).iter();
    let sources = volumes
        .filter_map(|volume| volume.projected.as_ref())
        .flat_map(|volume| list(&volume.sources));
    let mut tokens = sources.filter_map(|source| source.service_account_token.as_ref());
    tokens.any(|token| !non_reserved_path(&token.path, Path::default()).is_empty())
}

/// A path that something else in the volume has too.
pub(super) fn repeated<'a>(
    file: &'a str,
    paths: &mut BTreeSet<&'a str>,
    volume: &Path,
) -> Option<field::Error> {
    let is_new = paths.insert(file);
    (!is_new).then(|| field::invalid(volume.clone(), file, "conflicting duplicate paths"))
}

/// Bundles of authorities' certificates: one by its name, or those of a signer.
fn trust_bundle(bundle: &ClusterTrustBundleProjection, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    match (&bundle.name, &bundle.signer_name) {
        (Some(_), Some(_)) => errors.push(field::invalid_spelled(
            path.clone(),
            &spelled("ClusterTrustBundleProjection", bundle),
            "only one of name and signerName may be used",
        )),
        (Some(name), None) => {
            let at = path.child("name");
            if name.is_empty() {
                let text = "must be a valid object name";
                errors.push(field::required(at.clone(), text));
            }
            let signer = name.rsplit_once(':').map_or("", |(signer, _)| signer);
            for text in bundle_name(name, &signer.replace(':', "/")) {
                let text = format!("not a valid clustertrustbundlename: {text}");
                errors.push(field::invalid(at.clone(), name.as_str(), text));
            }
            if let Some(selector) = &bundle.label_selector {
                errors.push(field::invalid_spelled(
                    path.child("labelSelector"),
                    &spelled_selector(selector),
                    "labelSelector must be unset if name is specified",
                ));
            }
        }
        (None, Some(name)) => {
            let at = path.child("signerName");
            if name.is_empty() {
                let text = "must be a valid signer name";
                errors.push(field::required(at.clone(), text));
            }
            errors.extend(signer(name, &at));
            if let Some(selector) = &bundle.label_selector {
                errors.extend(label_selector(selector, &path.child("labelSelector")));
            }
        }
        (None, None) => errors.push(field::required(
            path.clone(),
            "either name or signerName must be specified",
        )),
    }
    errors.extend(required(&bundle.path, path.child("path")));
    errors.extend(non_reserved_path(&bundle.path, path.child("path")));
    errors
}

/// A pod without a service account can not ask for its token.
pub(in crate::kinds::core::pod) fn tokens_need_an_account(
    volumes: &[Volume],
    service_account: &Option<String>,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    if !blank(service_account) {
        return errors;
    }
    for (index, volume) in volumes.iter().enumerate() {
        let sources = volume
            .projected
            .iter()
            .flat_map(|source| list(&source.sources));
        for (source_index, source) in sources.enumerate() {
            if source.service_account_token.is_some() {
                let path = path.index(index).child("projected").child("sources");
                errors.push(field::forbidden(
                    path.index(source_index).child("serviceAccountToken"),
                    "must not be specified when serviceAccountName is not set",
                ));
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(sources: Value) -> Vec<String> {
        let volume = serde_json::from_value(json!({"sources": sources})).unwrap();
        let found = validate(&volume, false, &Path::new("v"));
        found.iter().map(ToString::to_string).collect()
    }

    /// What is wrong with a sole source, by the field of the source.
    fn found_in(sort: &str, source: Value) -> Vec<String> {
        let at = format!("v.sources[0].{sort}");
        let found = found(json!([{sort: source}]));
        found.iter().map(|text| text.replace(&at, "~")).collect()
    }

    #[test]
    fn bundles_are_named_or_a_signers() {
        let bundle = |source: Value| found_in("clusterTrustBundle", source);
        let selector = json!({"matchLabels": {"a": "b c"}});
        for good in [
            json!({"name": "roots", "path": "p"}),
            json!({"name": "example.com:ca:roots", "path": "p"}),
            json!({"signerName": "example.com/ca", "path": "p", "labelSelector": {}}),
        ] {
            assert_eq!(bundle(good), [""; 0]);
        }
        assert_eq!(
            bundle(json!({"path": ""})),
            [
                "~: Required value: either name or signerName must be specified",
                "~.path: Required value",
            ]
        );
        assert_eq!(
            bundle(json!({"name": "a", "signerName": "b", "path": "/p"})),
            [
                r#"~: Invalid value: {"Name":"a","SignerName":"b","LabelSelector":null,"Optional":null,"Path":"/p","User":null}: only one of name and signerName may be used"#,
                r#"~.path: Invalid value: "/p": must be a relative path"#,
            ]
        );
        let named = bundle(json!({"name": "", "path": "p", "labelSelector": selector}));
        assert_eq!(
            named[0],
            "~.name: Required value: must be a valid object name"
        );
        assert!(
            named[1].starts_with(
                r#"~.name: Invalid value: "": not a valid clustertrustbundlename: a lowercase RFC 1123 subdomain"#
            ),
            "{named:?}"
        );
        assert_eq!(
            named[2..],
            [
                r#"~.labelSelector: Invalid value: {"matchLabels":{"a":"b c"}}: labelSelector must be unset if name is specified"#
            ]
        );
        assert_eq!(
            bundle(json!({"name": ":a", "path": "p"})),
            [
                r#"~.name: Invalid value: ":a": not a valid clustertrustbundlename: ClusterTrustBundle without signer name must not have ":" in its name"#
            ]
        );
        let signed = bundle(json!({"signerName": "", "path": "p", "labelSelector": selector}));
        assert_eq!(
            signed[..2],
            [
                "~.signerName: Required value: must be a valid signer name",
                "~.signerName: Required value",
            ]
        );
        assert!(signed[2].starts_with("~.labelSelector.matchLabels: Invalid value"));
    }

    #[test]
    fn certificates_have_a_signer_a_key_and_a_place() {
        let certificate = |source: Value| found_in("podCertificate", source);
        let good = json!({"signerName": "example.com/ca", "keyType": "ED25519", "keyPath": "k",
            "maxExpirationSeconds": 7862400, "userAnnotations": {"example.com/a": "b"}});
        assert_eq!(certificate(good.clone()), [""; 0]);
        assert_eq!(
            certificate(json!({"signerName": "", "keyType": "RSA2048",
                "userAnnotations": {"a": "b"}, "maxExpirationSeconds": 3599})),
            [
                "~.signerName: Required value",
                r#"~.userAnnotations: Invalid value: "a": all keys must be domain-prefixed"#,
                r#"~.keyType: Unsupported value: "RSA2048": supported values: "RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519""#,
                "~.maxExpirationSeconds: Invalid value: 3599: if provided, maxExpirationSeconds must be >= 3600",
                "~: Required value: specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
            ]
        );
        let mut long = good.clone();
        long["maxExpirationSeconds"] = json!(7862401);
        assert_eq!(
            certificate(long),
            [
                "~.maxExpirationSeconds: Invalid value: 7862401: if provided, maxExpirationSeconds must be <= 7862400"
            ]
        );
        let mut own = good.clone();
        own["signerName"] = json!("kubernetes.io/ca");
        assert_eq!(
            certificate(own),
            [
                "~.maxExpirationSeconds: Invalid value: 7862400: if provided, maxExpirationSeconds must be <= 86400"
            ]
        );
        let mut twice = good;
        twice["certificateChainPath"] = json!("k");
        twice["credentialBundlePath"] = json!("../c");
        assert_eq!(
            certificate(twice),
            [
                r#"~.credentialBundlePath: Invalid value: "../c": must not contain '..'"#,
                r#"v: Invalid value: "k": conflicting duplicate paths"#,
            ]
        );
    }

    #[test]
    fn each_source_is_one_thing_and_each_path_is_there_once() {
        let bundle = json!({"name": "roots", "path": "p"});
        let certificate =
            json!({"signerName": "example.com/ca", "keyType": "ED25519", "keyPath": "p"});
        assert_eq!(
            found(json!([{"clusterTrustBundle": bundle, "podCertificate": certificate}])),
            [
                r#"v: Invalid value: "p": conflicting duplicate paths"#,
                "v.sources[0]: Forbidden: may not specify more than 1 volume type per source",
            ]
        );
        let nowhere = json!({"clusterTrustBundle": {"name": "roots", "path": ""}});
        let repeated = r#"v: Invalid value: "": conflicting duplicate paths"#;
        assert_eq!(found(json!([nowhere, nowhere])).last().unwrap(), repeated);
    }
}
