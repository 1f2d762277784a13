//! Advice on files that a volume puts over each other.

use k8s_openapi::api::core::v1::{Volume, VolumeProjection};

use crate::kinds::{
    checks::{list, text},
    core::pod::newer,
};

/// Where a volume puts a file.
struct Placed<'v> {
    path: &'v str,
    /// What it is of, where that may be several things.
    source: Option<String>,
}

impl<'v> Placed<'v> {
    fn of(source: &str, path: &'v str) -> Self {
        Placed {
            path,
            source: Some(source.to_owned()),
        }
    }

    fn shown(&self) -> String {
        match &self.source {
            Some(source) => format!("{:?} ({source})", self.path),
            None => format!("{:?}", self.path),
        }
    }

    /// Whether one of two is at the place of the other, or in a directory there.
    fn overlaps(&self, other: &Placed<'_>) -> bool {
        let [one, other] = [self, other].map(|placed| placed.path.trim_end_matches('/'));
        let is_below = |path: &str, place: &str| {
            let rest = path.strip_prefix(place);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !one.is_empty() && !other.is_empty() && (is_below(one, other) || is_below(other, one))
    }
}

pub(super) fn overlaps(volume: &Volume, out: &mut Vec<String>) {
    let plain = |path| Placed { path, source: None };
    if let Some(map) = &volume.config_map {
        let files = list(&map.items).iter().map(|item| plain(&item.path));
        tell(volume, &format!("ConfigMap {:?}", map.name), files, out);
    }
    if let Some(secret) = &volume.secret {
        let files = list(&secret.items).iter().map(|item| plain(&item.path));
        let about = format!("Secret {:?}", text(&secret.secret_name));
        tell(volume, &about, files, out);
    }
    if let Some(downward) = &volume.downward_api {
        let files = list(&downward.items).iter().map(|item| plain(&item.path));
        tell(volume, "DownwardAPI", files, out);
    }
    if let Some(projected) = &volume.projected {
        let mut files = Vec::new();
        for source in list(&projected.sources) {
            match of_source(source) {
                Some(more) => files.extend(more),
                None => out.push(format!(
                    "volume {:?} (Projected) has no sources provided",
                    volume.name
                )),
            }
        }
        tell(volume, "Projected", files, out);
    }
}

/// What a source puts where; nothing if it is none.
fn of_source(source: &VolumeProjection) -> Option<Vec<Placed<'_>>> {
    if let Some(map) = &source.config_map {
        let about = format!("ConfigMap {:?}", map.name);
        let items = list(&map.items).iter();
        return Some(items.map(|item| Placed::of(&about, &item.path)).collect());
    }
    if let Some(secret) = &source.secret {
        let about = format!("Secret {:?}", secret.name);
        let items = list(&secret.items).iter();
        return Some(items.map(|item| Placed::of(&about, &item.path)).collect());
    }
    if let Some(downward) = &source.downward_api {
        let items = list(&downward.items).iter();
        let files = items.map(|item| Placed::of("DownwardAPI", &item.path));
        return Some(files.collect());
    }
    if let Some(token) = &source.service_account_token {
        return Some(vec![Placed::of("ServiceAccountToken", &token.path)]);
    }
    if let Some(bundle) = &source.cluster_trust_bundle {
        let name = bundle.name.as_ref().or(bundle.signer_name.as_ref());
        let name = name.map_or("", String::as_str);
        let about = format!("ClusterTrustBundle {name:?}");
        return Some(vec![Placed::of(&about, &bundle.path)]);
    }
    let certificate = newer::certificate_paths(source)?.into_iter();
    let certificate = certificate.filter(|(_, path)| !path.is_empty());
    Some(
        certificate
            .map(|(about, path)| Placed::of(about, path))
            .collect(),
    )
}

/// Each file is compared with all that come before it.
fn tell<'v>(
    volume: &Volume,
    about: &str,
    files: impl IntoIterator<Item = Placed<'v>>,
    out: &mut Vec<String>,
) {
    let mut earlier: Vec<Placed<'_>> = Vec::new();
    for file in files {
        let clashes = earlier.iter().filter(|other| file.overlaps(other));
        out.extend(clashes.map(|other| {
            format!(
                "volume {:?} ({about}): overlapping paths: {} with {}",
                volume.name,
                file.shown(),
                other.shown()
            )
        }));
        earlier.push(file);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::told;

    fn found(mut volume: Value) -> Vec<String> {
        volume["name"] = json!("v");
        told(json!({"volumes": [volume]}), Value::Null)
    }

    fn items(paths: &[&str]) -> Value {
        paths
            .iter()
            .map(|path| json!({"key": "k", "path": path}))
            .collect()
    }

    #[test]
    fn files_at_one_place_or_below_another_are_told() {
        let map =
            |paths: &[&str]| found(json!({"configMap": {"name": "m", "items": items(paths)}}));
        assert_eq!(map(&["a", "b", "ab", "c/a"]), [""; 0]);
        let begins = r#"volume "v" (ConfigMap "m"): overlapping paths:"#;
        assert_eq!(
            map(&["a/b", "a", "a/b/c"]),
            [
                format!(r#"{begins} "a" with "a/b""#),
                format!(r#"{begins} "a/b/c" with "a/b""#),
                format!(r#"{begins} "a/b/c" with "a""#),
            ]
        );
        let secret = found(json!({"secret": {"secretName": "s", "items": items(&["a/", "a"])}}));
        assert_eq!(
            secret,
            [r#"volume "v" (Secret "s"): overlapping paths: "a" with "a/""#]
        );
        let field = json!({"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}});
        let downward = found(json!({"downwardAPI": {"items": [field, field]}}));
        assert_eq!(
            downward,
            [r#"volume "v" (DownwardAPI): overlapping paths: "l" with "l""#]
        );
    }

    #[test]
    fn files_of_several_sources_are_compared() {
        let sources = |sources: Value| found(json!({"projected": {"sources": sources}}));
        let token = json!({"serviceAccountToken": {"path": "token"}});
        let map = json!({"configMap": {"name": "m", "items": items(&["token/ca.crt"])}});
        let bundle = json!({"clusterTrustBundle": {"signerName": "a/b", "path": "token"}});
        let whole = json!({"secret": {"name": "s"}});
        assert_eq!(sources(json!([token, whole])), [""; 0]);
        let begins = r#"volume "v" (Projected): overlapping paths:"#;
        assert_eq!(
            sources(json!([token, map, bundle, {}])),
            [
                r#"volume "v" (Projected) has no sources provided"#.to_owned(),
                format!(
                    r#"{begins} "token/ca.crt" (ConfigMap "m") with "token" (ServiceAccountToken)"#
                ),
                format!(
                    r#"{begins} "token" (ClusterTrustBundle "a/b") with "token" (ServiceAccountToken)"#
                ),
                format!(
                    r#"{begins} "token" (ClusterTrustBundle "a/b") with "token/ca.crt" (ConfigMap "m")"#
                ),
            ]
        );
    }
}
