//! What holds for the metadata of every object: names, labels, annotations, owners, finalizers,
//! and what an update may not change.
//!
//! The clock and the random source are handed in.

use std::collections::BTreeMap;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, OwnerReference, Time},
    jiff::Timestamp,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    field::{self, ErrorList, Path},
    kinds::difference,
    names,
};

/// The finalizer of a deletion that leaves the dependents alone.
pub const ORPHAN_DEPENDENTS: &str = "orphan";
/// The finalizer of a deletion that waits for the dependents.
pub const DELETE_DEPENDENTS: &str = "foregroundDeletion";
/// How many bytes the keys and values of all annotations may have together.
pub const TOTAL_ANNOTATION_SIZE_LIMIT: usize = 256 * 1024;
/// How many characters the server appends to `metadata.generateName`.
pub const GENERATED_SUFFIX_LENGTH: usize = 5;
/// How long `metadata.generateName` may be before it is cut.
pub const MAX_GENERATED_BASE_LENGTH: usize = 63 - GENERATED_SUFFIX_LENGTH;

/// No vowels, and nothing that is easily misread: upstream's `k8s.io/apimachinery/pkg/util/rand`.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// `length` random characters that are safe in names.
pub fn random_suffix(length: usize, random: &mut fastrand::Rng) -> String {
    (0..length)
        .map(|_| char::from(SUFFIX_ALPHABET[random.usize(..SUFFIX_ALPHABET.len())]))
        .collect()
}

/// A name from `metadata.generateName`: the base, cut where it is too long, and a random suffix.
pub fn generate_name(base: &str, random: &mut fastrand::Rng) -> String {
    let mut end = base.len().min(MAX_GENERATED_BASE_LENGTH);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!(
        "{}{}",
        &base[..end],
        random_suffix(GENERATED_SUFFIX_LENGTH, random)
    )
}

/// A new unique id (a version 4 UUID).
pub fn new_uid(random: &mut fastrand::Rng) -> String {
    let uid = uuid::Builder::from_random_bytes(random.u128(..).to_be_bytes()).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    uid.hyphenated().encode_lower(&mut text).to_owned()
}

/// The time that upstream has where nobody said one, and that types in Rust hold where they cannot do without.
pub const UNSET_TIME: Timestamp = Timestamp::constant(-62_135_596_800, 0);

/// A moment as it is kept in objects: to the second.
pub fn to_second(now: Timestamp) -> Time {
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// Sets what the server alone decides about a new object: its name if it is to be generated, its
/// UID, its time of creation; and that it is not being deleted.
///
/// `metadata.generation` and `metadata.resourceVersion` are left to the caller.
pub fn prepare_for_create(meta: &mut ObjectMeta, now: Timestamp, random: &mut fastrand::Rng) {
    meta.deletion_timestamp = None;
    meta.deletion_grace_period_seconds = None;
    meta.self_link = None;
    if meta.name.as_deref().is_none_or(str::is_empty)
        && let Some(base) = meta
            .generate_name
            .as_deref()
            .filter(|base| !base.is_empty())
    {
        meta.name = Some(generate_name(base, random));
    }
    meta.creation_timestamp = Some(to_second(now));
    meta.uid = Some(new_uid(random));
}

/// Takes from `old` what an update cannot change, and what it may leave out.
///
/// `metadata.generation` becomes the old one; the caller counts it up where the spec changes.
pub fn prepare_for_update(new: &mut ObjectMeta, old: &ObjectMeta) {
    new.generation = old.generation;
    new.self_link = None;
    if new.uid.as_deref().is_none_or(str::is_empty) {
        new.uid.clone_from(&old.uid);
    }
    new.creation_timestamp.clone_from(&old.creation_timestamp);
    if old.deletion_timestamp.is_some() {
        new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    }
    if new.deletion_grace_period_seconds.is_none() {
        new.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    }
}

/// For a status that may change no metadata: takes all of it from `old`, but the version that the update is based on and who owns
/// which fields.
pub(crate) fn keep(new: &mut ObjectMeta, old: &ObjectMeta) {
    let managed = new.managed_fields.take();
    let version = new.resource_version.take();
    new.clone_from(old);
    new.managed_fields = managed;
    new.resource_version = version;
}

/// For a status that may change no labels and the like (upstream's `ResetObjectMetaForStatus`).
pub(crate) fn reset_for_status(new: &mut ObjectMeta, old: &ObjectMeta) {
    new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    new.generation = old.generation;
    new.labels.clone_from(&old.labels);
    new.annotations.clone_from(&old.annotations);
    new.finalizers.clone_from(&old.finalizers);
    new.owner_references.clone_from(&old.owner_references);
}

/// Checks the metadata of a new object, after its name was generated (upstream's
/// `ValidateObjectMeta`).
///
/// `name_rule` is the kind's own, see [`Strategy::validate_name`](crate::Strategy::validate_name).
pub fn validate(
    meta: &ObjectMeta,
    namespaced: bool,
    name_rule: &dyn Fn(&str, bool) -> Vec<String>,
    path: &Path,
) -> ErrorList {
    let mut out = Vec::new();
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let generate_name = text(&meta.generate_name);
    if !generate_name.is_empty() {
        complain(
            &mut out,
            &path.child("generateName"),
            &generate_name,
            name_rule(&generate_name, true),
        );
    }
    let name = text(&meta.name);
    if name.is_empty() {
        out.push(field::required(
            path.child("name"),
            "name or generateName is required",
        ));
    } else {
        complain(
            &mut out,
            &path.child("name"),
            &name,
            name_rule(&name, false),
        );
    }
    let namespace = text(&meta.namespace);
    if !namespaced {
        if !namespace.is_empty() {
            out.push(field::forbidden(
                path.child("namespace"),
                "not allowed on this type",
            ));
        }
    } else if namespace.is_empty() {
        out.push(field::required(path.child("namespace"), ""));
    } else {
        complain(
            &mut out,
            &path.child("namespace"),
            &namespace,
            names::dns_label(&namespace, false),
        );
    }
    if let Some(generation) = meta.generation.filter(|generation| *generation < 0) {
        out.push(field::invalid(
            path.child("generation"),
            generation,
            "must be greater than or equal to 0",
        ));
    }
    out.extend(validate_common(meta, path));
    let finalizers = meta.finalizers.as_deref().unwrap_or_default();
    out.extend(validate_finalizers(finalizers, &path.child("finalizers")));
    out.extend(validate_managed_fields(meta, path));
    out
}

/// Checks the metadata of an update (upstream's `ValidateObjectMetaUpdate`).
///
/// `new` carries the resource version that the update is based on; the caller fills in the
/// current one where the kind allows updates without.
pub fn validate_update(new: &ObjectMeta, old: &ObjectMeta, path: &Path) -> ErrorList {
    let mut out = Vec::new();
    if old.deletion_timestamp.is_some() {
        let before = old.finalizers.as_deref().unwrap_or_default();
        let mut added: Vec<&String> = new
            .finalizers
            .iter()
            .flatten()
            .filter(|finalizer| !before.contains(finalizer))
            .collect();
        added.sort();
        added.dedup();
        if !added.is_empty() {
            let list: Vec<String> = added
                .iter()
                .map(|finalizer| format!("{finalizer:?}"))
                .collect();
            out.push(field::forbidden(
                path.child("finalizers"),
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    list.join(", ")
                ),
            ));
        }
    }
    if new.resource_version.as_deref().is_none_or(str::is_empty) {
        out.push(field::invalid(
            path.child("resourceVersion"),
            "",
            "must be specified for an update",
        ));
    }
    if new.generation.unwrap_or(0) < old.generation.unwrap_or(0) {
        out.push(field::invalid(
            path.child("generation"),
            new.generation.unwrap_or(0),
            "must not be decremented",
        ));
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    const IMMUTABLE: &str = "field is immutable";
    let times = [
        (
            "creationTimestamp",
            &new.creation_timestamp,
            &old.creation_timestamp,
        ),
        (
            "deletionTimestamp",
            &new.deletion_timestamp,
            &old.deletion_timestamp,
        ),
    ];
    let mut immutable = |name: &str, new: Value, old: Value| {
        if new != old {
            out.push(field::invalid(path.child(name), new, IMMUTABLE));
        }
    };
    immutable("name", text(&new.name).into(), text(&old.name).into());
    immutable(
        "namespace",
        text(&new.namespace).into(),
        text(&old.namespace).into(),
    );
    immutable("uid", text(&new.uid).into(), text(&old.uid).into());
    for (name, new, _) in times.into_iter().filter(|(_, new, old)| new != old) {
        let path = path.child(name);
        out.push(match new {
            Some(Time(time)) => field::invalid(path, time.to_string(), IMMUTABLE),
            None => field::invalid(path, Value::Null, IMMUTABLE),
        });
    }
    let grace = &new.deletion_grace_period_seconds;
    if *grace != old.deletion_grace_period_seconds {
        let path = path.child("deletionGracePeriodSeconds");
        out.push(field::invalid(path, value(grace), IMMUTABLE));
    }
    out.extend(validate_common(new, path));
    out.extend(validate_managed_fields(new, path));
    out
}

fn validate_common(meta: &ObjectMeta, path: &Path) -> ErrorList {
    let mut out = Vec::new();
    if let Some(labels) = &meta.labels {
        out.extend(validate_labels(labels, &path.child("labels")));
    }
    if let Some(annotations) = &meta.annotations {
        out.extend(validate_annotations(
            annotations,
            &path.child("annotations"),
        ));
    }
    if let Some(owners) = &meta.owner_references {
        out.extend(validate_owner_references(
            owners,
            &path.child("ownerReferences"),
        ));
    }
    out
}

/// Checks keys and values of labels.
pub fn validate_labels(labels: &BTreeMap<String, String>, path: &Path) -> ErrorList {
    let mut out = Vec::new();
    for (key, value) in labels {
        complain(&mut out, path, key, names::qualified_name(key));
        complain(&mut out, path, value, names::label_value(value));
    }
    out
}

/// Checks the keys of annotations, and how many bytes they have in all.
pub fn validate_annotations(annotations: &BTreeMap<String, String>, path: &Path) -> ErrorList {
    let mut out = Vec::new();
    for key in annotations.keys() {
        // Qualified names, except that the prefix may be in upper case.
        complain(
            &mut out,
            path,
            key,
            names::qualified_name(&key.to_lowercase()),
        );
    }
    let size: usize = annotations
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if size > TOTAL_ANNOTATION_SIZE_LIMIT {
        out.push(field::too_long(path.clone(), TOTAL_ANNOTATION_SIZE_LIMIT));
    }
    out
}

/// Checks owner references; at most one of them is the controller.
pub fn validate_owner_references(owners: &[OwnerReference], path: &Path) -> ErrorList {
    let mut out = Vec::new();
    let mut controller: Option<String> = None;
    for owner in owners {
        let version = match owner.api_version.split_once('/') {
            Some((_, version)) if !version.contains('/') => version,
            Some(_) => "",
            None => &owner.api_version,
        };
        let mut check = |empty: bool, name: &str, value: &str, text: &str| {
            if empty {
                out.push(field::invalid(path.child(name), value, text));
            }
        };
        check(
            version.is_empty(),
            "apiVersion",
            &owner.api_version,
            "version must not be empty",
        );
        check(
            owner.kind.is_empty(),
            "kind",
            &owner.kind,
            "must not be empty",
        );
        check(
            owner.name.is_empty(),
            "name",
            &owner.name,
            "must not be empty",
        );
        check(owner.uid.is_empty(), "uid", &owner.uid, "must not be empty");
        if owner.api_version == "v1" && owner.kind == "Event" {
            out.push(field::invalid_spelled(
                path.clone(),
                &difference::spelled("OwnerReference", owner),
                "/v1, Kind=Event is disallowed from being an owner",
            ));
        }
        if owner.controller == Some(true) {
            let name = format!("{}/{}", owner.kind, owner.name);
            if let Some(first) = &controller {
                out.push(field::invalid_spelled(
                    path.clone(),
                    &difference::spelled_list("OwnerReference", Some(owners)),
                    &format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                    ),
                ));
            } else {
                controller = Some(name);
            }
        }
    }
    out
}

/// Checks the names of finalizers.
pub fn validate_finalizers(finalizers: &[String], path: &Path) -> ErrorList {
    let mut out = Vec::new();
    for finalizer in finalizers {
        complain(&mut out, path, finalizer, names::qualified_name(finalizer));
    }
    let has = |name: &str| finalizers.iter().any(|finalizer| finalizer == name);
    if has(ORPHAN_DEPENDENTS) && has(DELETE_DEPENDENTS) {
        out.push(field::invalid(
            path.clone(),
            value(&finalizers),
            format!("finalizer {ORPHAN_DEPENDENTS} and {DELETE_DEPENDENTS} cannot be both set"),
        ));
    }
    out
}

/// Checks that finalizers have a domain in their names, unless they are Kubernetes' own. Upstream does it
/// for most built-in kinds and not for custom resources.
pub(crate) fn validate_finalizer_domains(finalizers: &[String], path: &Path) -> ErrorList {
    let known = ["kubernetes", ORPHAN_DEPENDENTS, DELETE_DEPENDENTS];
    let mut out = Vec::new();
    for (index, finalizer) in finalizers.iter().enumerate() {
        if !finalizer.contains('/') && !known.contains(&finalizer.as_str()) {
            out.push(field::invalid(
                path.index(index),
                finalizer.as_str(),
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    out
}

fn validate_managed_fields(meta: &ObjectMeta, path: &Path) -> ErrorList {
    let mut out = Vec::new();
    let path = path.child("managedFields");
    for (i, entry) in meta.managed_fields.iter().flatten().enumerate() {
        out.extend(validate_managed_fields_entry(entry, &path.index(i)));
    }
    out
}

fn validate_managed_fields_entry(entry: &ManagedFieldsEntry, path: &Path) -> ErrorList {
    let mut out = Vec::new();
    let operation = entry.operation.as_deref().unwrap_or_default();
    if !matches!(operation, "Apply" | "Update") {
        out.push(field::invalid(
            path.child("operation"),
            operation,
            "must be `Apply` or `Update`",
        ));
    }
    if let Some(fields_type) = entry
        .fields_type
        .as_deref()
        .filter(|t| !t.is_empty() && *t != "FieldsV1")
    {
        out.push(field::invalid(
            path.child("fieldsType"),
            fields_type,
            "must be `FieldsV1`",
        ));
    }
    out.extend(validate_field_manager(
        entry.manager.as_deref().unwrap_or_default(),
        &path.child("manager"),
    ));
    if entry
        .subresource
        .as_deref()
        .is_some_and(|subresource| subresource.len() > 256)
    {
        out.push(field::too_long(path.child("subresource"), 256));
    }
    out
}

/// Checks the name of a field manager, as in the `fieldManager` query parameter.
pub fn validate_field_manager(manager: &str, path: &Path) -> ErrorList {
    let mut out = Vec::new();
    if manager.len() > 128 {
        out.push(field::too_long(path.clone(), 128));
    }
    for (position, c) in manager.char_indices().filter(|(_, c)| !is_print(*c)) {
        out.push(field::invalid(
            path.clone(),
            manager,
            format!(
                "invalid character U+{:04X} (at position {position})",
                u32::from(c)
            ),
        ));
    }
    out
}

/// Go's `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols, and the space of ASCII.
pub(crate) fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return c == ' ' || c.is_ascii_graphic();
    }
    // What must be escaped to be seen; a mark is seen if there is something for it to be on.
    let seen = String::from_iter(['a', c]);
    !c.is_whitespace() && seen.escape_debug().eq(seen.chars())
}

fn complain(out: &mut ErrorList, path: &Path, value: &str, complaints: Vec<String>) {
    out.extend(
        complaints
            .into_iter()
            .map(|complaint| field::invalid(path.clone(), value, complaint)),
    );
}

fn value<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn managers_are_named_in_what_can_be_printed() {
        let problems = |name| validate_field_manager(name, &Path::new("fieldManager")).len();
        for name in [
            "kubectl-client-side-apply",
            "a b\\\"'",
            "größe",
            "e\u{301}",
            "管理",
            "✓",
        ] {
            assert_eq!(problems(name), 0, "{name}");
        }
        for name in [
            "a\n", "\u{200b}", "a\u{a0}b", "\u{7f}", "\u{2028}", "\u{fffe}",
        ] {
            assert_eq!(problems(name), 1, "{name:?}");
        }
        assert_eq!(problems(&"m".repeat(129)), 1);
    }

    fn texts(errors: &ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn named(name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.into()),
            resource_version: Some("1".into()),
            ..Default::default()
        }
    }

    #[test]
    fn a_generated_name_is_the_base_and_five_safe_characters() {
        let mut random = fastrand::Rng::with_seed(7);
        let name = generate_name("web-", &mut random);
        assert_eq!(name.len(), 9);
        assert!(name.starts_with("web-"));
        assert!(name.bytes().skip(4).all(|b| SUFFIX_ALPHABET.contains(&b)));
        assert_eq!(generate_name(&"a".repeat(100), &mut random).len(), 63);
        assert_eq!(
            generate_name("web-", &mut fastrand::Rng::with_seed(1)),
            generate_name("web-", &mut fastrand::Rng::with_seed(1)),
        );
    }

    #[test]
    fn a_new_object_gets_name_uid_and_time() {
        let mut meta = ObjectMeta {
            generate_name: Some("web-".into()),
            deletion_grace_period_seconds: Some(3),
            ..Default::default()
        };
        let now: Timestamp = "2026-01-02T03:04:05.678Z".parse().unwrap();
        prepare_for_create(&mut meta, now, &mut fastrand::Rng::with_seed(7));
        assert_eq!(meta.name.unwrap().len(), 9);
        assert_eq!(meta.uid.unwrap().as_bytes()[14], b'4');
        assert_eq!(meta.deletion_grace_period_seconds, None);
        assert_eq!(
            meta.creation_timestamp.unwrap().0.to_string(),
            "2026-01-02T03:04:05Z"
        );
    }

    #[test]
    fn names_are_required_and_namespaces_match_the_scope() {
        let rule = |name: &str, prefix: bool| names::dns_subdomain(name, prefix);
        let path = Path::new("metadata");
        assert_eq!(
            texts(&validate(&ObjectMeta::default(), true, &rule, &path)),
            [
                "metadata.name: Required value: name or generateName is required",
                "metadata.namespace: Required value"
            ]
        );
        let mut meta = named("a");
        meta.namespace = Some("x".into());
        assert!(validate(&meta, true, &rule, &path).is_empty());
        assert_eq!(
            texts(&validate(&meta, false, &rule, &path)),
            ["metadata.namespace: Forbidden: not allowed on this type"]
        );
    }

    #[test]
    fn one_owner_controls() {
        let owner = |name: &str| OwnerReference {
            api_version: "apps/v1".into(),
            kind: "ReplicaSet".into(),
            name: name.into(),
            uid: "u".into(),
            controller: Some(true),
            ..Default::default()
        };
        let path = Path::new("ownerReferences");
        assert!(validate_owner_references(&[owner("a")], &path).is_empty());
        let found = texts(&validate_owner_references(&[owner("a"), owner("b")], &path));
        assert_eq!(found.len(), 1);
        assert!(found[0].ends_with(
            "Only one reference can have Controller set to true. Found \"true\" in references for ReplicaSet/a and ReplicaSet/b"
        ));
    }

    #[test]
    fn an_update_may_not_rename_or_add_finalizers_late() {
        let old = ObjectMeta {
            uid: Some("1".into()),
            deletion_timestamp: Some(to_second(Timestamp::UNIX_EPOCH)),
            finalizers: Some(vec!["a/b".into()]),
            ..named("a")
        };
        let mut new = ObjectMeta {
            finalizers: Some(vec!["c/d".into(), "a/b".into()]),
            ..named("b")
        };
        prepare_for_update(&mut new, &old);
        assert_eq!(
            texts(&validate_update(&new, &old, &Path::new("metadata"))),
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{\"c/d\"}",
                "metadata.name: Invalid value: \"b\": field is immutable",
            ]
        );
    }

    #[test]
    fn times_are_told_as_in_json() {
        let old = ObjectMeta {
            uid: Some("1".into()),
            ..named("a")
        };
        let new = ObjectMeta {
            resource_version: Some("1".into()),
            deletion_timestamp: Some(to_second(Timestamp::UNIX_EPOCH)),
            deletion_grace_period_seconds: Some(5),
            ..old.clone()
        };
        assert_eq!(
            texts(&validate_update(&new, &old, &Path::new("metadata"))),
            [
                "metadata.deletionTimestamp: Invalid value: \"1970-01-01T00:00:00Z\": field is immutable",
                "metadata.deletionGracePeriodSeconds: Invalid value: 5: field is immutable",
            ]
        );
    }

    #[test]
    fn annotations_have_a_total_limit() {
        let annotations = BTreeMap::from([("Example.com/a".to_owned(), "x".repeat(256 * 1024))]);
        assert_eq!(
            texts(&validate_annotations(
                &annotations,
                &Path::new("annotations")
            )),
            ["annotations: Too long: may not be more than 262144 bytes"]
        );
    }
}
