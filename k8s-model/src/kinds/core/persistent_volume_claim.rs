//! The rules of PersistentVolumeClaims.

use k8s_openapi::{
    api::core::v1::{
        PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus,
        PersistentVolumeClaimTemplate, TypedLocalObjectReference, TypedObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde_json::Value;

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{
            annotation_advice, blank, dns_label, dns_subdomain, fill, fill_absent, immutable, json,
            list, same, supported, text,
        },
        difference::difference,
        quantities,
        selectors::{Values, is_bad, selector_of},
        typed::KindRules,
    },
    metadata,
};

/// What told the class of a claim, or of a volume, before there was a field for it.
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

/// Advice for who still tells the class by it.
pub(super) fn class_advice(meta: &ObjectMeta) -> Option<String> {
    let told = "deprecated since v1.8; use \"storageClassName\" attribute instead";
    annotation_advice(meta, CLASS_ANNOTATION, told)
}

fn immutable_class(new: Option<String>, old: Option<String>) -> ErrorList {
    let path = Path::new("metadata").child("annotations");
    immutable(
        &new.unwrap_or_default(),
        &old.unwrap_or_default(),
        path.child(CLASS_ANNOTATION),
    )
}

/// The ways in which a volume can be mounted.
pub(crate) const ACCESS_MODES: &[&str] = &[
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];

/// Defaults a claim's spec, or that of a template.
pub(crate) fn default_spec(spec: &mut PersistentVolumeClaimSpec) {
    fill_absent(&mut spec.volume_mode, "Filesystem");
    let resources = spec.resources.get_or_insert_default();
    quantities::normalize(&mut resources.limits);
    quantities::normalize(&mut resources.requests);
}

/// What a stored spec has that was not always looked at: the new one may go on having it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stored {
    /// Groups that data comes from.
    groups: bool,
    /// A selector that is none.
    selector: bool,
}

impl Stored {
    fn of(spec: &PersistentVolumeClaimSpec) -> Self {
        let [source, reference] = [
            spec.data_source.as_ref().map(|source| &source.api_group),
            spec.data_source_ref
                .as_ref()
                .map(|source| &source.api_group),
        ];
        let mut groups = [source, reference].into_iter().flatten();
        Stored {
            groups: groups.any(Option::is_some),
            selector: spec.selector.as_ref().is_some_and(is_bad),
        }
    }
}

/// Checks a claim's spec, or that of a template.
pub(crate) fn validate_spec(
    spec: &PersistentVolumeClaimSpec,
    stored: Stored,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    if list(&spec.access_modes).is_empty() {
        errors.push(field::required(
            path.child("accessModes"),
            "at least 1 access mode is required",
        ));
    }
    if let Some(selector) = &spec.selector {
        let values = Values::labels_unless(stored.selector);
        errors.extend(selector_of(values, selector, &path.child("selector")));
    }
    errors.extend(access_modes(
        list(&spec.access_modes),
        &path.child("accessModes"),
    ));
    let resources = path.child("resources");
    let storage = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref())
        .and_then(|requests| requests.get("storage"));
    match storage {
        None => errors.push(field::required(resources.key("storage"), "")),
        Some(quantity) => errors.extend(quantities::positive(quantity, resources.key("storage"))),
    }
    if let Some(class) = &spec.storage_class_name
        && !class.is_empty()
    {
        errors.extend(dns_subdomain(class, path.child("storageClassName")));
    }
    if let Some(mode) = &spec.volume_mode {
        errors.extend(supported(
            mode,
            &["Block", "Filesystem"],
            path.child("volumeMode"),
        ));
    }
    errors.extend(data_sources(spec, stored.groups, path));
    if let Some(class) = &spec.volume_attributes_class_name
        && !class.is_empty()
    {
        errors.extend(dns_subdomain(
            class,
            path.child("volumeAttributesClassName"),
        ));
    }
    errors
}

/// Checks a template of claims.
pub(crate) fn validate_template(
    template: &PersistentVolumeClaimTemplate,
    path: &Path,
) -> ErrorList {
    let meta = template.metadata.clone().unwrap_or_default();
    let at = path.child("metadata");
    let mut errors = ErrorList::new();
    if let Some(map) = &meta.annotations {
        errors.extend(metadata::validate_annotations(
            map,
            &at.child("annotations"),
        ));
    }
    if let Some(map) = &meta.labels {
        errors.extend(metadata::validate_labels(map, &at.child("labels")));
    }
    if let Value::Object(fields) = json(&meta) {
        for (name, _) in fields {
            if !matches!(name.as_str(), "annotations" | "labels") {
                errors.push(field::forbidden(at.child(&name), "cannot be set"));
            }
        }
    }
    errors.extend(validate_spec(
        &template.spec,
        Stored::default(),
        &path.child("spec"),
    ));
    errors
}

/// Where the data of a new volume comes from: two fields that say the same.
fn data_sources(spec: &PersistentVolumeClaimSpec, had_group: bool, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let mut reference = |group: &Option<String>, kind: &str, name: &str, path: Path| {
        for (value, field_name) in [(name, "name"), (kind, "kind")] {
            if value.is_empty() {
                errors.push(field::required(path.child(field_name), ""));
            }
        }
        if blank(group) && kind != "PersistentVolumeClaim" {
            errors.push(field::invalid(
                path.clone(),
                kind,
                "must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            ));
        }
        if !blank(group) && !had_group {
            errors.extend(dns_subdomain(text(group), path.child("apiGroup")));
        }
    };
    let (old, new) = (&spec.data_source, &spec.data_source_ref);
    let at = path.child("dataSourceRef");
    if let Some(source) = old {
        let at = path.child("dataSource");
        reference(&source.api_group, &source.kind, &source.name, at);
    }
    let mut namespace = None;
    if let Some(source) = new {
        reference(&source.api_group, &source.kind, &source.name, at.clone());
        namespace = source.namespace.as_deref().filter(|text| !text.is_empty());
    }
    if let Some(namespace) = namespace {
        errors.extend(dns_label(namespace, at.child("namespace")));
    }
    if let (Some(old), Some(new)) = (old, new) {
        let text = if namespace.is_some() {
            "may not be specified when dataSourceRef.namespace is specified"
        } else if (&old.api_group, &old.kind, &old.name) != (&new.api_group, &new.kind, &new.name) {
            "must match dataSourceRef"
        } else {
            return errors;
        };
        // Upstream shows a path here, of which nothing is seen.
        errors.push(field::invalid_spelled(path.clone(), "{}", text));
    }
    errors
}

/// Drops what was always ignored in `dataSource`, and fills in one of the two fields from the
/// other (KEP-1495).
fn normalize_data_sources(
    spec: &mut PersistentVolumeClaimSpec,
    old: Option<&PersistentVolumeClaimSpec>,
) {
    let in_use = old.is_some_and(|old| old.data_source.is_some() || old.data_source_ref.is_some());
    if !in_use && spec.data_source_ref.is_none() {
        spec.data_source = spec.data_source.take().filter(|source| {
            matches!(
                (source.kind.as_str(), text(&source.api_group)),
                ("PersistentVolumeClaim", "") | ("VolumeSnapshot", "snapshot.storage.k8s.io")
            )
        });
    }
    match (&spec.data_source, &spec.data_source_ref) {
        (Some(source), None) => {
            spec.data_source_ref = Some(TypedObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
                ..Default::default()
            });
        }
        (None, Some(source)) if blank(&source.namespace) => {
            spec.data_source = Some(TypedLocalObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
            });
        }
        _ => {}
    }
}

/// Known access modes, the exclusive one without another of them.
pub(crate) fn access_modes(modes: &[String], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for mode in modes {
        errors.extend(supported(mode, ACCESS_MODES, path.clone()));
    }
    let others = |mode: &String| mode != "ReadWriteOncePod" && ACCESS_MODES.contains(&&**mode);
    if modes.iter().any(|mode| mode == "ReadWriteOncePod") && modes.iter().any(others) {
        errors.push(field::forbidden(
            path.clone(),
            "may not use ReadWriteOncePod with other access modes",
        ));
    }
    errors
}

/// Advice on a claim, which cannot ask for a part of a byte.
pub(crate) fn spec_warnings(spec: &PersistentVolumeClaimSpec, path: &Path) -> Vec<String> {
    let resources = spec.resources.as_ref();
    let lists = resources.map(|resources| {
        [
            ("requests", resources.requests.as_ref()),
            ("limits", resources.limits.as_ref()),
        ]
    });
    let mut out = Vec::new();
    for (name, list) in lists.into_iter().flatten() {
        let path = path.child("resources").child(name);
        quantities::fractions(list, &["storage"], &path, &mut out);
    }
    out
}

fn validate(claim: &PersistentVolumeClaim, stored: Stored) -> ErrorList {
    let empty = PersistentVolumeClaimSpec::default();
    let spec = claim.spec.as_ref().unwrap_or(&empty);
    validate_spec(spec, stored, &Path::new("spec"))
}

/// The rules of PersistentVolumeClaims.
pub(crate) struct PersistentVolumeClaimRules;

impl KindRules for PersistentVolumeClaimRules {
    type Kind = PersistentVolumeClaim;

    const CREATE_ON_UPDATE: bool = false;

    fn default(&self, claim: &mut PersistentVolumeClaim) {
        default_spec(claim.spec.get_or_insert_default());
        fill(&mut claim.status.get_or_insert_default().phase, "Pending");
    }

    fn prepare_for_create(&self, claim: &mut PersistentVolumeClaim) {
        claim.status = Some(PersistentVolumeClaimStatus {
            phase: Some("Pending".to_owned()),
            ..PersistentVolumeClaimStatus::default()
        });
        if let Some(spec) = &mut claim.spec {
            normalize_data_sources(spec, None);
        }
    }

    fn validate(&self, claim: &PersistentVolumeClaim) -> ErrorList {
        validate(claim, Stored::default())
    }

    fn warnings(&self, claim: &PersistentVolumeClaim) -> Vec<String> {
        let mut out = Vec::from_iter(class_advice(&claim.metadata));
        let spec = claim.spec.iter();
        out.extend(spec.flat_map(|spec| spec_warnings(spec, &Path::new("spec"))));
        out
    }

    fn prepare_for_update(&self, new: &mut PersistentVolumeClaim, old: &PersistentVolumeClaim) {
        new.status.clone_from(&old.status);
        if let Some(spec) = &mut new.spec {
            normalize_data_sources(spec, old.spec.as_ref());
        }
    }

    fn validate_update(
        &self,
        new: &PersistentVolumeClaim,
        old: &PersistentVolumeClaim,
    ) -> ErrorList {
        let stored = old.spec.as_ref().map(Stored::of).unwrap_or_default();
        let mut errors = validate(new, stored);
        let (Some(new_spec), Some(old_spec)) = (&new.spec, &old.spec) else {
            return errors;
        };
        let path = Path::new("spec");
        let (mut after, mut before) = (new_spec.clone(), old_spec.clone());
        // The volume may be told once.
        if blank(&before.volume_name) {
            before.volume_name.clone_from(&after.volume_name);
        }
        let class = |claim: &PersistentVolumeClaim| {
            let annotations = claim.metadata.annotations.as_ref();
            annotations.and_then(|all| all.get(CLASS_ANNOTATION).cloned())
        };
        let (new_class, old_class) = (class(new), class(old));
        if old_spec.storage_class_name.is_none() && new_spec.storage_class_name.is_some() {
            // So may the class, by the field that took the annotation's place.
            let same = new_spec.storage_class_name == old_class;
            if same || old_class.is_none() {
                after.storage_class_name = None;
            }
            let moved = same && (new_class.is_none() || new_class == old_class);
            if !moved {
                errors.extend(immutable_class(new_class, old_class));
            }
        } else {
            errors.extend(immutable_class(new_class, old_class));
        }
        let status = new.status.clone().unwrap_or_default();
        if text(&status.phase) == "Bound" {
            let requests = |spec: &PersistentVolumeClaimSpec| spec.resources.clone()?.requests;
            let old_size = requests(&before).and_then(|mut all| all.remove("storage"));
            let sizes = after.resources.as_mut().and_then(|r| r.requests.as_mut());
            if let Some(sizes) = sizes {
                sizes.insert("storage".to_owned(), old_size.unwrap_or_default());
            }
            after
                .volume_attributes_class_name
                .clone_from(&before.volume_attributes_class_name);
        }
        if !same(&after, &before) {
            let changes = difference("PersistentVolumeClaimSpec", &before, &after);
            errors.push(field::forbidden(
                path.clone(),
                format!(
                    "spec is immutable after creation except resources.requests and \
                     volumeAttributesClassName for bound claims\n{changes}"
                ),
            ));
        }
        let size = |spec: &PersistentVolumeClaimSpec| {
            let requests = spec.resources.as_ref().and_then(|r| r.requests.clone());
            quantities::amount(requests.as_ref(), "storage")
        };
        let is = quantities::amount(
            old.status.as_ref().and_then(|s| s.capacity.as_ref()),
            "storage",
        );
        // Less than was asked for, if expanding to that failed; but no less than there is.
        if size(new_spec) < size(old_spec) && size(new_spec) <= is {
            errors.push(field::forbidden(
                path.child("resources").child("requests").child("storage"),
                "field can not be less than status.capacity",
            ));
        }
        errors.extend(immutable(
            &new_spec.volume_mode,
            &old_spec.volume_mode,
            Path::new("volumeMode"),
        ));
        let current = old.status.as_ref();
        if current.is_some_and(|s| s.current_volume_attributes_class_name.is_some()) {
            let path = path.child("volumeAttributesClassName");
            match new_spec.volume_attributes_class_name.as_deref() {
                _ if new_spec.volume_attributes_class_name
                    == old_spec.volume_attributes_class_name => {}
                None => errors.push(field::forbidden(
                    path,
                    "update from non-nil value to nil is forbidden",
                )),
                Some("") => errors.push(field::forbidden(
                    path,
                    "update from non-nil value to an empty string is forbidden",
                )),
                Some(_) => {}
            }
        }
        errors
    }

    fn prepare_for_status_update(
        &self,
        new: &mut PersistentVolumeClaim,
        old: &PersistentVolumeClaim,
    ) {
        new.spec.clone_from(&old.spec);
    }

    fn validate_status_update(
        &self,
        new: &PersistentVolumeClaim,
        _: &PersistentVolumeClaim,
    ) -> ErrorList {
        let path = Path::new("status").child("capacity");
        let capacity = new.status.as_ref().and_then(|s| s.capacity.as_ref());
        let amounts = capacity.into_iter().flatten();
        let amounts = amounts.filter_map(|(resource, quantity)| {
            let amount = quantities::parse(quantity)?.value();
            Some((resource, amount))
        });
        amounts
            .filter(|(_, amount)| *amount < 0)
            .map(|(resource, amount)| {
                let text = "must be a valid resource quantity";
                field::invalid(path.key(resource), amount, text)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(phase: &str, spec: &Value) -> PersistentVolumeClaim {
        let mut claim = json!({
            "metadata": {"name": "c"},
            "spec": {"accessModes": ["ReadWriteOnce"], "volumeName": "v", "storageClassName": "s",
                "resources": {"requests": {"storage": "5Gi"}}},
            "status": {"phase": phase, "capacity": {"storage": "2Gi"}, "currentVolumeAttributesClassName": "gold"},
        });
        json_patch::merge(&mut claim["spec"], spec);
        serde_json::from_value(claim).unwrap()
    }

    /// What is wrong with a change of a claim, without what would change.
    fn refusals(phase: &str, before: Value, after: Value) -> Vec<String> {
        let (old, new) = (claim(phase, &before), claim(phase, &after));
        let errors = PersistentVolumeClaimRules.validate_update(&new, &old);
        let first = |error: &field::Error| error.to_string().lines().next().unwrap().to_owned();
        errors.iter().map(first).collect()
    }

    #[test]
    fn a_status_has_no_negative_capacity() {
        let (mut new, old) = (claim("Bound", &json!({})), claim("Bound", &json!({})));
        let rules = PersistentVolumeClaimRules;
        assert_eq!(rules.validate_status_update(&new, &old), []);
        let capacity = json!({"storage": "-1", "a": "1"});
        new.status.get_or_insert_default().capacity = serde_json::from_value(capacity).unwrap();
        let errors = rules.validate_status_update(&new, &old);
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let told = "status.capacity[storage]: Invalid value: -1: must be a valid resource quantity";
        assert_eq!(texts, [told]);
    }

    #[test]
    fn the_exclusive_access_mode_is_without_another() {
        let found = |spec: Value| {
            let found = PersistentVolumeClaimRules.validate(&claim("Pending", &spec));
            let begin = |error: &field::Error| {
                error
                    .to_string()
                    .split(": supported")
                    .next()
                    .unwrap()
                    .to_owned()
            };
            found.iter().map(begin).collect::<Vec<_>>()
        };
        let modes = |modes: Value| found(json!({"accessModes": modes}));
        let alone =
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes";
        let unknown = r#"spec.accessModes: Unsupported value: "X""#;
        assert_eq!(
            modes(json!(["ReadWriteOncePod", "ReadWriteOncePod"])),
            [""; 0]
        );
        assert_eq!(modes(json!(["ReadWriteOncePod", "X"])), [unknown]);
        assert_eq!(
            modes(json!(["ReadWriteOncePod", "X", "ReadWriteOnce"])),
            [unknown, alone]
        );
        // Selectors are looked at before modes, but after whether there are any.
        let selector = json!({"matchExpressions": [{"key": "a", "operator": "X"}]});
        let operator = r#"spec.selector.matchExpressions[0].operator: Invalid value: "X": not a valid selector operator"#;
        assert_eq!(
            found(json!({"accessModes": ["X"], "selector": selector})),
            [operator, unknown]
        );
        let none = found(json!({"accessModes": [], "selector": selector}));
        assert_eq!(
            none,
            [
                "spec.accessModes: Required value: at least 1 access mode is required",
                operator
            ]
        );
    }

    const SPEC: &str = "spec: Forbidden: spec is immutable after creation except resources.requests and \
                        volumeAttributesClassName for bound claims";

    #[test]
    fn bound_claims_may_ask_for_other_sizes_and_attributes() {
        let size = |size: &str| json!({"resources": {"requests": {"storage": size}}});
        assert_eq!(refusals("Bound", json!({}), size("9Gi")), [""; 0]);
        // Less than was asked for, as expanding to that failed.
        assert_eq!(refusals("Bound", json!({}), size("3Gi")), [""; 0]);
        assert_eq!(
            refusals("Bound", json!({}), size("2Gi")),
            [
                "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"
            ]
        );
        assert_eq!(refusals("Pending", json!({}), size("9Gi")), [SPEC]);
        let limits = json!({"resources": {"limits": {"storage": "9Gi"}}});
        assert_eq!(refusals("Bound", json!({}), limits), [SPEC]);
        let class = |class: &str| json!({"volumeAttributesClassName": class});
        assert_eq!(refusals("Bound", class("gold"), class("tin")), [""; 0]);
        assert_eq!(refusals("Pending", class("gold"), class("tin")), [SPEC]);
        assert_eq!(
            refusals("Bound", class("gold"), json!({})),
            [
                "spec.volumeAttributesClassName: Forbidden: update from non-nil value to nil is forbidden"
            ]
        );
    }

    #[test]
    fn a_class_is_told_in_its_field() {
        let size = |size: &str| json!({"resources": {"requests": {"storage": size}}});
        let rules = PersistentVolumeClaimRules;
        let mut claim = claim("Pending", &size("1500m"));
        let fraction = "spec.resources.requests[storage]: fractional byte value \"1500m\" is invalid, must be an integer";
        assert_eq!(rules.warnings(&claim), [fraction]);
        claim.metadata.annotations = Some([(CLASS_ANNOTATION.to_owned(), String::new())].into());
        let class = "metadata.annotations[volume.beta.kubernetes.io/storage-class]: deprecated since v1.8; use \"storageClassName\" attribute instead";
        assert_eq!(rules.warnings(&claim), [class, fraction]);
        assert_eq!(rules.update_warnings(&claim, &claim), [class, fraction]);
    }

    #[test]
    fn a_class_may_be_told_once() {
        let none = || json!({"storageClassName": null});
        assert_eq!(refusals("Pending", none(), json!({})), [""; 0]);
        assert_eq!(refusals("Pending", json!({}), none()), [SPEC]);
        let other = json!({"storageClassName": "t"});
        assert_eq!(refusals("Pending", json!({}), other), [SPEC]);
        // The annotation goes with what it said.
        let mut old = claim("Pending", &none());
        let mut new = claim("Pending", &json!({}));
        let annotated =
            |class: &str| Some([(CLASS_ANNOTATION.to_owned(), class.to_owned())].into());
        old.metadata.annotations = annotated("s");
        let told = |new: &_, old: &_| PersistentVolumeClaimRules.validate_update(new, old).len();
        assert_eq!(told(&new, &old), 0);
        new.metadata.annotations = annotated("s");
        assert_eq!(told(&new, &old), 0);
        new.metadata.annotations = annotated("t");
        assert_eq!(told(&new, &old), 1);
    }
}
