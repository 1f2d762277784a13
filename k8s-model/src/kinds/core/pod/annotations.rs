//! The annotations that mean something for pods.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{AppArmorProfile, Container, Pod, PodSpec, SeccompProfile},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    containers::{all, all_mut},
    security, volumes,
};
use crate::{
    field::{self, ErrorList, Path},
    kinds::checks::blank,
};

/// Marks a pod that a node agent made of a file of its own.
const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
/// What stands before a container's name.
const CONTAINER_SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// What stands before a container's name.
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

const RUNTIME_DEFAULT: &str = "runtime/default";
const UNCONFINED: &str = "unconfined";
const LOCALHOST: &str = "localhost/";
/// What `runtime/default` of seccomp was called.
const DOCKER_DEFAULT: &str = "docker/default";

/// Whether it stands for a pod that a node agent made of a file of its own.
pub(super) fn is_mirror(meta: &ObjectMeta) -> bool {
    let annotations = meta.annotations.as_ref();
    annotations.is_some_and(|annotations| annotations.contains_key(MIRROR))
}

/// Annotations that did something once, and what to do instead.
const OUT_OF_USE: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
const SECCOMP_OUT_OF_USE: &str =
    "non-functional in v1.27+; use the \"seccompProfile\" field instead";
const APP_ARMOR_OUT_OF_USE: &str =
    "deprecated since v1.30; use the \"appArmorProfile\" field instead";

/// Advice on an annotation, if it is there. The path is that of what has the metadata.
fn told(meta: &ObjectMeta, key: &str, advice: &str, path: &Path) -> Option<String> {
    let all = meta.annotations.as_ref()?;
    let told = || {
        format!(
            "{}: {advice}",
            path.child("metadata").child("annotations").key(key)
        )
    };
    all.contains_key(key).then(told)
}

/// Advice on annotations that do nothing any more.
pub(super) fn out_of_use(meta: &ObjectMeta, path: &Path) -> Vec<String> {
    let all = OUT_OF_USE.iter();
    all.filter_map(|(key, advice)| told(meta, key, advice, path))
        .collect()
}

/// Advice on the pod's seccomp profile, if that is in an annotation alone.
pub(super) fn seccomp_out_of_use(spec: &PodSpec, meta: &ObjectMeta, path: &Path) -> Option<String> {
    let context = spec.security_context.as_ref();
    match context.and_then(|context| context.seccomp_profile.as_ref()) {
        Some(_) => None,
        None => told(meta, SECCOMP, SECCOMP_OUT_OF_USE, path),
    }
}

/// Advice on profiles of a container that are in annotations alone. A pod's own AppArmor profiles are in fields by then.
pub(super) fn of_container_out_of_use(
    container: &Container,
    spec: &PodSpec,
    meta: &ObjectMeta,
    path: &Path,
) -> Vec<String> {
    if meta.annotations.is_none() {
        return Vec::new();
    }
    let (own, pod) = (
        container.security_context.as_ref(),
        spec.security_context.as_ref(),
    );
    let mut out = Vec::new();
    if own.is_none_or(|own| own.seccomp_profile.is_none()) {
        let key = format!("{CONTAINER_SECCOMP}{}", container.name);
        out.extend(told(meta, &key, SECCOMP_OUT_OF_USE, path));
    }
    let is_template = *path != Path::default();
    let has_app_armor = own.is_some_and(|own| own.app_armor_profile.is_some())
        || pod.is_some_and(|pod| pod.app_armor_profile.is_some());
    if is_template && !has_app_armor {
        let key = format!("{APP_ARMOR}{}", container.name);
        out.extend(told(meta, &key, APP_ARMOR_OUT_OF_USE, path));
    }
    out
}

/// Whether the cost of deletion is no number.
pub(super) fn has_bad_deletion_cost(meta: &ObjectMeta) -> bool {
    let annotations = meta.annotations.as_ref();
    let cost = annotations.and_then(|annotations| annotations.get(DELETION_COST));
    cost.is_some_and(|cost| !is_deletion_cost(cost))
}

/// Checks what the annotations say. The cost of deletion may be `any_cost`.
pub(super) fn validate(
    meta: &ObjectMeta,
    spec: &PodSpec,
    any_cost: bool,
    path: &Path,
) -> ErrorList {
    let mut errors = ErrorList::new();
    let annotation = |name: &str| meta.annotations.as_ref().and_then(|map| map.get(name));
    if let Some(value) = annotation(MIRROR)
        && blank(&spec.node_name)
    {
        errors.push(field::invalid(
            path.key(MIRROR),
            value.as_str(),
            "must set spec.nodeName if mirror pod annotation is set",
        ));
    }
    if let Some(value) = annotation(DELETION_COST)
        && !any_cost
        && !is_deletion_cost(value)
    {
        errors.push(field::invalid(
            path.key(DELETION_COST),
            value.as_str(),
            "must be a 32bit integer",
        ));
    }
    for (key, value) in meta.annotations.iter().flatten() {
        if key == SECCOMP || key.starts_with(CONTAINER_SECCOMP) {
            errors.extend(seccomp(value, path.child(key)));
        }
        if let Some(name) = key.strip_prefix(APP_ARMOR) {
            errors.extend(app_armor(name, value, spec, &path.key(key)));
        }
    }
    errors
}

fn is_deletion_cost(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    !value.starts_with('+')
        && (digits == "0" || !digits.starts_with('0'))
        && value.parse::<i32>().is_ok()
}

fn seccomp(profile: &str, path: Path) -> ErrorList {
    match profile.strip_prefix(LOCALHOST) {
        _ if matches!(profile, RUNTIME_DEFAULT | DOCKER_DEFAULT | UNCONFINED) => ErrorList::new(),
        Some(file) => volumes::descending_path(file, path),
        None => vec![field::invalid(
            path,
            profile,
            "must be a valid seccomp profile",
        )],
    }
}

fn app_armor(container: &str, profile: &str, spec: &PodSpec, path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    if !all(spec).any(|(_, _, other)| other.name == container) {
        errors.push(field::invalid(
            path.clone(),
            container,
            "container not found",
        ));
    }
    let is_known = matches!(profile, "" | RUNTIME_DEFAULT | UNCONFINED);
    if !is_known && !profile.starts_with(LOCALHOST) {
        errors.push(field::invalid(
            path.clone(),
            profile,
            format!("invalid AppArmor profile name: {profile:?}"),
        ));
    }
    errors
}

/// The annotations that may not be added, removed or changed, and what all of them say.
pub(super) fn validate_update(new: &Pod, old: &Pod) -> ErrorList {
    let path = Path::new("metadata").child("annotations");
    let what = |key: &str| match key {
        MIRROR => Some("mirror pod annotation"),
        _ if key.starts_with(APP_ARMOR) => Some("AppArmor annotations"),
        _ => None,
    };
    let empty = BTreeMap::new();
    let before = old.metadata.annotations.as_ref().unwrap_or(&empty);
    let after = new.metadata.annotations.as_ref().unwrap_or(&empty);
    let mut errors = ErrorList::new();
    for (key, value) in before {
        if let (false, Some(what)) = (after.get(key) == Some(value), what(key)) {
            let text = format!("may not remove or update {what}");
            errors.push(field::forbidden(path.key(key), text));
        }
    }
    for key in after.keys().filter(|key| !before.contains_key(*key)) {
        if let Some(what) = what(key) {
            let text = format!("may not add {what}");
            errors.push(field::forbidden(path.key(key), text));
        }
    }
    let none = PodSpec::default();
    let spec = new.spec.as_ref().unwrap_or(&none);
    let any_cost = has_bad_deletion_cost(&old.metadata);
    errors.extend(validate(&new.metadata, spec, any_cost, &path));
    errors
}

/// Where a new pod or a template says the same thing by annotation and by field, it says the same.
pub(super) fn match_fields(meta: &ObjectMeta, spec: &PodSpec, path: &Path) -> ErrorList {
    if meta.annotations.is_none() {
        return ErrorList::new();
    }
    let annotation = |key: &str| {
        let annotations = meta.annotations.as_ref();
        annotations.and_then(|annotations| annotations.get(key))
    };
    let mut errors = ErrorList::new();
    let pod = spec.security_context.as_ref();
    let profile = pod.and_then(|context| context.seccomp_profile.as_ref());
    if let (Some(profile), Some(annotation)) = (profile, annotation(SECCOMP)) {
        let at = path.child("securityContext").child("seccompProfile");
        errors.extend(seccomp_match(annotation, profile, &at));
    }
    for (list, index, container) in all(spec) {
        let context = container.security_context.as_ref();
        let profile = context.and_then(|context| context.seccomp_profile.as_ref());
        let key = format!("{CONTAINER_SECCOMP}{}", container.name);
        if let (Some(profile), Some(annotation)) = (profile, annotation(&key)) {
            let at = path.child(list).index(index).child("securityContext");
            errors.extend(seccomp_match(
                annotation,
                profile,
                &at.child("seccompProfile"),
            ));
        }
    }
    if is_of_windows(spec) {
        return errors;
    }
    for (list, index, container) in all(spec) {
        let context = container.security_context.as_ref();
        let own = context.and_then(|context| context.app_armor_profile.as_ref());
        let of_pod = || pod.and_then(|context| context.app_armor_profile.as_ref());
        let key = format!("{APP_ARMOR}{}", container.name);
        if let (Some(profile), Some(annotation)) = (own.or_else(of_pod), annotation(&key)) {
            let at = path.child(list).index(index).child("securityContext");
            let at = at.child("appArmorProfile");
            errors.extend(app_armor_match(annotation, profile, &at));
        }
    }
    errors
}

/// How a field's profile is at odds with an annotation's.
fn mismatch(
    annotation: &str,
    sort: &str,
    names: &[&str],
    file: Option<&str>,
) -> Option<&'static str> {
    let same_sort = match sort {
        "Unconfined" => annotation == UNCONFINED,
        "RuntimeDefault" => names.contains(&annotation),
        "Localhost" => annotation.starts_with(LOCALHOST),
        _ => true,
    };
    if !same_sort {
        Some("type")
    } else if sort == "Localhost" && file != annotation.strip_prefix(LOCALHOST) {
        Some("localhostProfile")
    } else {
        None
    }
}

fn seccomp_match(annotation: &str, profile: &SeccompProfile, path: &Path) -> Option<field::Error> {
    let file = profile.localhost_profile.as_deref();
    let names = [RUNTIME_DEFAULT, DOCKER_DEFAULT];
    let at = mismatch(annotation, &profile.type_, &names, file)?;
    let what = if at == "type" { "type" } else { "profile" };
    Some(field::forbidden(
        path.child(at),
        format!("seccomp {what} in annotation and field must match"),
    ))
}

fn app_armor_match(
    annotation: &str,
    profile: &AppArmorProfile,
    path: &Path,
) -> Option<field::Error> {
    let file = profile.localhost_profile.as_deref();
    let at = mismatch(annotation, &profile.type_, &[RUNTIME_DEFAULT], file)?;
    let what = if at == "type" { "type" } else { "profile" };
    Some(field::forbidden(
        path.child(at),
        format!("apparmor {what} in annotation and field must match"),
    ))
}

/// Advice on the annotations of a new pod that name AppArmor profiles, as they came: those that [`apply_app_armor`] takes over,
/// and those that name none.
pub(super) fn app_armor_advice(pod: &Pod) -> Vec<String> {
    let (Some(spec), Some(annotations)) = (&pod.spec, &pod.metadata.annotations) else {
        return Vec::new();
    };
    if is_of_windows(spec) {
        return Vec::new();
    }
    let of_pod = profile_of_pod(spec);
    all(spec)
        .filter(|(_, _, container)| {
            let annotation = annotations.get(&format!("{APP_ARMOR}{}", container.name));
            let is_new = |named: &String| {
                let named = profile(named);
                named.is_none() || named != of_pod
            };
            annotation.is_some_and(is_new) && !has_app_armor(container)
        })
        .filter_map(|(_, _, container)| {
            let key = format!("{APP_ARMOR}{}", container.name);
            told(&pod.metadata, &key, APP_ARMOR_OUT_OF_USE, &Path::default())
        })
        .collect()
}

/// Gives the containers of a new pod the AppArmor profiles that its annotations name: node agents look at the fields.
pub(super) fn apply_app_armor(pod: &mut Pod) {
    let (Some(spec), Some(annotations)) = (&mut pod.spec, &pod.metadata.annotations) else {
        return;
    };
    if is_of_windows(spec) {
        return;
    }
    let of_pod = profile_of_pod(spec);
    for container in all_mut(spec) {
        let key = format!("{APP_ARMOR}{}", container.name);
        let named = annotations.get(&key).and_then(|value| profile(value));
        if named.is_none() || named == of_pod || has_app_armor(container) {
            continue;
        }
        let context = container.security_context.get_or_insert_default();
        context.app_armor_profile = named;
    }
}

fn is_of_windows(spec: &PodSpec) -> bool {
    spec.os.as_ref().is_some_and(|os| os.name == "windows")
}

/// The profile of all containers of a pod that have none of their own.
fn profile_of_pod(spec: &PodSpec) -> Option<AppArmorProfile> {
    let context = spec.security_context.as_ref();
    context.and_then(|context| context.app_armor_profile.clone())
}

fn has_app_armor(container: &Container) -> bool {
    let context = container.security_context.as_ref();
    context.is_some_and(|context| context.app_armor_profile.is_some())
}

/// The profile that an annotation means, if it means one.
fn profile(annotation: &str) -> Option<AppArmorProfile> {
    let (sort, file) = match annotation.strip_prefix(LOCALHOST) {
        _ if annotation == UNCONFINED => ("Unconfined", None),
        _ if annotation == RUNTIME_DEFAULT => ("RuntimeDefault", None),
        Some(file) => ("Localhost", Some(file.to_owned())),
        None => return None,
    };
    let profile = Some(AppArmorProfile {
        type_: sort.to_owned(),
        localhost_profile: file,
    });
    let wrong = security::app_armor(&profile, &Path::default());
    profile.filter(|_| wrong.is_empty())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(annotations: Value, spec: Value) -> Pod {
        let mut value = json!({"metadata": {"annotations": annotations}, "spec": {
            "containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}});
        json_patch::merge(&mut value["spec"], &spec);
        serde_json::from_value(value).unwrap()
    }

    fn told(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn app_armor_of(name: &str) -> String {
        format!("{APP_ARMOR}{name}")
    }

    #[test]
    fn profiles_are_known_and_for_containers_that_are_there() {
        let found = |annotations: Value| {
            let pod = pod(annotations, json!({}));
            let path = Path::new("a");
            told(validate(&pod.metadata, &pod.spec.unwrap(), false, &path))
        };
        for value in ["runtime/default", "unconfined", "localhost/x"] {
            assert_eq!(
                found(json!({SECCOMP: value, app_armor_of("c"): value, app_armor_of("i"): value})),
                [""; 0]
            );
        }
        let container = format!("{CONTAINER_SECCOMP}c");
        for (key, value, expected) in [
            (
                SECCOMP,
                "x",
                format!("a.{SECCOMP}: Invalid value: \"x\": must be a valid seccomp profile"),
            ),
            (
                &container,
                "localhost//x",
                format!("a.{container}: Invalid value: \"/x\": must be a relative path"),
            ),
            (
                &app_armor_of("d"),
                "",
                format!("a[{APP_ARMOR}d]: Invalid value: \"d\": container not found"),
            ),
            (
                &app_armor_of("c"),
                "x",
                format!(
                    "a[{APP_ARMOR}c]: Invalid value: \"x\": invalid AppArmor profile name: \"x\""
                ),
            ),
            (
                DELETION_COST,
                "x",
                format!("a[{DELETION_COST}]: Invalid value: \"x\": must be a 32bit integer"),
            ),
            (
                MIRROR,
                "x",
                format!(
                    "a[{MIRROR}]: Invalid value: \"x\": must set spec.nodeName if mirror pod annotation is set"
                ),
            ),
        ] {
            assert_eq!(found(json!({key: value})), [expected]);
        }
    }

    #[test]
    fn what_containers_were_started_with_stays() {
        let node = json!({"nodeName": "n"});
        let changes = |new: Value, old: Value| {
            told(validate_update(
                &pod(new, node.clone()),
                &pod(old, node.clone()),
            ))
        };
        for (key, one, all) in [
            (MIRROR.to_owned(), "mirror pod annotation", ["x", "y"]),
            (
                app_armor_of("c"),
                "AppArmor annotations",
                ["unconfined", "localhost/x"],
            ),
        ] {
            let at = format!("metadata.annotations[{key}]: Forbidden: may not");
            let [first, second] = all.map(|value| json!({&key: value}));
            assert_eq!(changes(first.clone(), first.clone()), [""; 0]);
            assert_eq!(
                changes(first.clone(), json!({})),
                [format!("{at} add {one}")]
            );
            let gone = format!("{at} remove or update {one}");
            for new in [json!({}), second] {
                assert_eq!(changes(new, first.clone()), [gone.as_str()]);
            }
        }
        assert_eq!(changes(json!({"x": "1"}), json!({"x": "2"})), [""; 0]);
    }

    #[test]
    fn annotations_and_fields_say_the_same() {
        let found = |annotations: Value, spec: Value| {
            let pod = pod(annotations, spec);
            told(match_fields(
                &pod.metadata,
                &pod.spec.unwrap(),
                &Path::new("spec"),
            ))
        };
        let context = |name: &str, sort: &str, file: Value| {
            json!({"securityContext":
            {name: {"type": sort, "localhostProfile": file}}})
        };
        for (value, sort, file, at) in [
            ("unconfined", "Unconfined", Value::Null, None),
            ("runtime/default", "RuntimeDefault", Value::Null, None),
            ("localhost/x", "Localhost", "x".into(), None),
            ("unconfined", "RuntimeDefault", Value::Null, Some("type")),
            ("runtime/default", "Unconfined", Value::Null, Some("type")),
            ("unconfined", "Localhost", "x".into(), Some("type")),
            (
                "localhost/y",
                "Localhost",
                "x".into(),
                Some("localhostProfile"),
            ),
        ] {
            let expected = |path: &str, what: &str| {
                at.map(|at| {
                    let part = if at == "type" { "type" } else { "profile" };
                    format!(
                        "{path}.{at}: Forbidden: {what} {part} in annotation and field must match"
                    )
                })
                .into_iter()
                .collect::<Vec<_>>()
            };
            let of_pod = context("seccompProfile", sort, file.clone());
            assert_eq!(
                found(json!({SECCOMP: value}), of_pod),
                expected("spec.securityContext.seccompProfile", "seccomp")
            );
            let of_pod = context("appArmorProfile", sort, file.clone());
            let path = "spec.containers[0].securityContext.appArmorProfile";
            assert_eq!(
                found(json!({app_armor_of("c"): value}), of_pod),
                expected(path, "apparmor")
            );
            let mut of_container = context("seccompProfile", sort, file);
            of_container["name"] = "c".into();
            assert_eq!(
                found(
                    json!({format!("{CONTAINER_SECCOMP}c"): value}),
                    json!({"containers": [of_container]})
                ),
                expected(
                    "spec.containers[0].securityContext.seccompProfile",
                    "seccomp"
                )
            );
        }
        assert_eq!(
            found(
                json!({SECCOMP: "docker/default"}),
                context("seccompProfile", "RuntimeDefault", Value::Null)
            ),
            [""; 0]
        );
    }

    #[test]
    fn annotations_of_which_fields_are_made_are_told() {
        let is_told = |value: &str, spec: Value| {
            let pod = pod(json!({app_armor_of("c"): value}), spec);
            let found = app_armor_advice(&pod);
            let told = format!(
                "metadata.annotations[{}]: {APP_ARMOR_OUT_OF_USE}",
                app_armor_of("c")
            );
            assert!(found.is_empty() || found == [told], "{found:?}");
            !found.is_empty()
        };
        for value in [
            "unconfined",
            "runtime/default",
            "localhost/x",
            "localhost/",
            "",
        ] {
            assert!(is_told(value, json!({})), "{value}");
        }
        let unconfined = json!({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}});
        assert!(!is_told("unconfined", unconfined.clone()));
        for value in ["runtime/default", ""] {
            assert!(is_told(value, unconfined.clone()), "{value}");
        }
        let mut own = unconfined;
        own["name"] = json!("c");
        let own = json!({"containers": [own]});
        for value in ["unconfined", "runtime/default", ""] {
            assert!(!is_told(value, own.clone()), "{value}");
        }
        assert!(!is_told("unconfined", json!({"os": {"name": "windows"}})));
        let mut again = pod(json!({app_armor_of("c"): "unconfined"}), json!({}));
        apply_app_armor(&mut again);
        assert_eq!(app_armor_advice(&again), [""; 0]);
    }

    #[test]
    fn a_new_pods_profiles_stand_in_its_fields() {
        let fields = |annotations: Value, spec: Value| {
            let mut pod = pod(annotations, spec);
            apply_app_armor(&mut pod);
            let once = pod.clone();
            apply_app_armor(&mut pod);
            assert_eq!(pod, once);
            let context = pod.spec.unwrap().containers[0].security_context.clone();
            serde_json::to_value(context).unwrap()
        };
        let key = app_armor_of("c");
        let unconfined = json!({"appArmorProfile": {"type": "Unconfined"}});
        for (value, expected) in [
            ("unconfined", unconfined.clone()),
            (
                "runtime/default",
                json!({"appArmorProfile": {"type": "RuntimeDefault"}}),
            ),
            (
                "localhost/x",
                json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": "x"}}),
            ),
            ("localhost/", Value::Null),
            ("", Value::Null),
        ] {
            assert_eq!(fields(json!({&key: value}), json!({})), expected);
        }
        let annotation = json!({&key: "unconfined"});
        let of_pod = json!({"securityContext": unconfined});
        assert_eq!(fields(annotation.clone(), of_pod), Value::Null);
        let own = json!({"appArmorProfile": {"type": "RuntimeDefault"}});
        let of_container = json!({"containers": [{"name": "c", "securityContext": own}]});
        assert_eq!(fields(annotation.clone(), of_container), own);
        let windows = json!({"os": {"name": "windows"}});
        assert_eq!(fields(annotation, windows), Value::Null);
    }
}
