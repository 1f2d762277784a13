//! Validation of a container's environment.

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, ObjectFieldSelector, ResourceFieldSelector,
};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{blank, messages, qualified_name, supported, text},
        quantities,
    },
    names,
};

const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// The variables.
pub(super) fn env(variables: &[EnvVar], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, variable) in variables.iter().enumerate() {
        let path = path.index(index);
        if variable.name.is_empty() {
            errors.push(field::required(path.child("name"), ""));
        } else {
            errors.extend(messages(
                &path.child("name"),
                variable.name.as_str(),
                names::relaxed_env_var_name(&variable.name),
            ));
        }
        errors.extend(env_value_from(variable, &path.child("valueFrom")));
    }
    errors
}

fn env_value_from(variable: &EnvVar, path: &Path) -> ErrorList {
    let Some(source) = &variable.value_from else {
        return ErrorList::new();
    };
    let mut errors = ErrorList::new();
    let mut sources = 0;
    if let Some(reference) = &source.field_ref {
        sources += 1;
        errors.extend(field_ref(reference, ENV_FIELDS, &path.child("fieldRef")));
    }
    if let Some(reference) = &source.resource_field_ref {
        sources += 1;
        let path = path.child("resourceFieldRef");
        errors.extend(resource_field_ref(reference, &path, false));
    }
    if let Some(reference) = &source.config_map_key_ref {
        sources += 1;
        let path = path.child("configMapKeyRef");
        errors.extend(key_ref(&reference.name, &reference.key, &path));
    }
    if let Some(reference) = &source.secret_key_ref {
        sources += 1;
        let path = path.child("secretKeyRef");
        errors.extend(key_ref(&reference.name, &reference.key, &path));
    }
    k8s_openapi::k8s_if_ge_1_34! {
        if source.file_key_ref.is_some() {
            sources += 1;
        }
    }
    if sources == 0 {
        errors.push(field::invalid(
            path.clone(),
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ));
    } else if !blank(&variable.value) {
        errors.push(field::invalid(
            path.clone(),
            "",
            "may not be specified when `value` is not empty",
        ));
    } else if sources > 1 {
        errors.push(field::invalid(
            path.clone(),
            "",
            "may not have more than one field specified at a time",
        ));
    }
    errors
}

fn key_ref(name: &str, key: &str, path: &Path) -> ErrorList {
    let mut errors = messages(&path.child("name"), name, names::dns_subdomain(name, false));
    if key.is_empty() {
        errors.push(field::required(path.child("key"), ""));
    } else {
        errors.extend(messages(
            &path.child("key"),
            key,
            names::config_map_key(key),
        ));
    }
    errors
}

/// A field of the pod by path, one of `supported_paths` or a subscripted label or annotation.
pub(super) fn field_ref(
    reference: &ObjectFieldSelector,
    supported_paths: &[&str],
    path: &Path,
) -> ErrorList {
    const CONVERTIBLE: &[&str] = &[
        "metadata.annotations",
        "metadata.labels",
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.serviceAccountName",
        "spec.schedulerName",
        "status.phase",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    let field_path = reference.field_path.as_str();
    let version = text(&reference.api_version);
    if version.is_empty() {
        return vec![field::required(path.child("apiVersion"), "")];
    }
    if field_path.is_empty() {
        return vec![field::required(path.child("fieldPath"), "")];
    }
    let wrong = |reason: String| {
        vec![field::invalid(
            path.child("fieldPath"),
            field_path,
            format!("error converting fieldPath: {reason}"),
        )]
    };
    if version != "v1" {
        return wrong(format!("unsupported pod version: {version}"));
    }
    let subscripted = field_path
        .strip_suffix("']")
        .and_then(|rest| rest.split_once("['"));
    match subscripted {
        Some(("metadata.annotations", key)) => qualified_name(&key.to_lowercase(), path.clone()),
        Some(("metadata.labels", key)) => qualified_name(key, path.clone()),
        Some(_) => wrong(format!(
            "field label does not support subscript: {field_path}"
        )),
        None => {
            let internal = if field_path == "spec.host" {
                "spec.nodeName"
            } else {
                field_path
            };
            if !CONVERTIBLE.contains(&internal) {
                return wrong(format!("field label not supported: {field_path}"));
            }
            supported(internal, supported_paths, path.child("fieldPath"))
        }
    }
}

const RESOURCE_FIELDS: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// A container's resource by name.
pub(super) fn resource_field_ref(
    reference: &ResourceFieldSelector,
    path: &Path,
    in_volume: bool,
) -> ErrorList {
    const SIZES: &[&str] = &[
        "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
    ];
    let mut errors = ErrorList::new();
    let resource = reference.resource.as_str();
    let huge_pages =
        resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
    if in_volume && blank(&reference.container_name) {
        errors.push(field::required(path.child("containerName"), ""));
    } else if resource.is_empty() {
        errors.push(field::required(path.child("resource"), ""));
    } else if !huge_pages {
        errors.extend(supported(resource, RESOURCE_FIELDS, path.child("resource")));
    }
    let Some(divisor) = &reference.divisor else {
        return errors;
    };
    let path = path.child("divisor");
    let Some(amount) = quantities::parse(divisor) else {
        errors.push(quantities::malformed(divisor, path));
        return errors;
    };
    if amount.is_zero() {
        return errors;
    }
    let (allowed, sort): (&[&str], &str) = match resource {
        "limits.cpu" | "requests.cpu" => (&["1m", "1"], "cpu"),
        "limits.memory" | "requests.memory" => (SIZES, "memory"),
        "limits.ephemeral-storage" | "requests.ephemeral-storage" => {
            (SIZES, "local ephemeral storage")
        }
        _ if huge_pages => (SIZES, "hugepages"),
        _ => return errors,
    };
    if !allowed.contains(&divisor.0.as_str()) {
        let values = if sort == "cpu" {
            "1m and 1".to_owned()
        } else {
            SIZES.join(", ")
        };
        errors.push(field::invalid(
            path,
            resource,
            format!("only divisor's values {values} are supported with the {sort} resource"),
        ));
    }
    errors
}

/// What the variables are taken from as a whole.
pub(super) fn env_from(sources: &[EnvFromSource], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    for (index, source) in sources.iter().enumerate() {
        let at = path.index(index);
        let prefix = text(&source.prefix);
        if !prefix.is_empty() {
            errors.extend(messages(
                &at.child("prefix"),
                prefix,
                names::relaxed_env_var_name(prefix),
            ));
        }
        let mut count = 0;
        for (name, reference) in [
            (
                "configMapRef",
                source.config_map_ref.as_ref().map(|r| &r.name),
            ),
            ("secretRef", source.secret_ref.as_ref().map(|r| &r.name)),
        ] {
            let Some(target) = reference else { continue };
            count += 1;
            let path = at.child(name).child("name");
            if target.is_empty() {
                errors.push(field::required(path, ""));
            } else {
                errors.extend(messages(
                    &path,
                    target.as_str(),
                    names::dns_subdomain(target, true),
                ));
            }
        }
        if count == 0 {
            errors.push(field::invalid(
                path.clone(),
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            ));
        } else if count > 1 {
            errors.push(field::invalid(
                path.clone(),
                "",
                "may not have more than one field specified at a time",
            ));
        }
    }
    errors
}
