//! Validation of volumes that put several things together.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{KeyToPath, ProjectedVolumeSource, Volume};

use super::{downward_file, keys, mode, required};
use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::{blank, list},
};

pub(super) fn validate(source: &ProjectedVolumeSource, path: &Path) -> ErrorList {
    let mut errors = mode(source.default_mode, path.child("defaultMode"));
    let mut paths = BTreeSet::new();
    for (index, source) in list(&source.sources).iter().enumerate() {
        let at = path.child("sources").index(index);
        let mut count = 0;
        let mut items = |name: &str, items: &[KeyToPath], sort: &str| {
            let at = at.child(sort);
            errors.extend(required(name, at.child("name")));
            errors.extend(keys(items, &at));
            for item in items {
                if !item.path.is_empty() && !paths.insert(item.path.clone()) {
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
                if !file.path.is_empty() && !paths.insert(file.path.clone()) {
                    errors.push(field::invalid(
                        path.clone(),
                        file.path.as_str(),
                        "conflicting duplicate paths",
                    ));
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
            errors.extend(required(&token.path, path.child("path")));
        }
        if source.cluster_trust_bundle.is_some() {
            count += 1;
        }
        if count > 1 {
            errors.push(field::forbidden(
                at,
                "may not specify more than 1 volume type",
            ));
        }
    }
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
