//! Advice on pods and pod templates.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Pod, PodSpec, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    field::Path,
    kinds::{
        checks::list,
        quantities::{self, ResourceList},
    },
};

pub(super) fn pod_warnings(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    warnings(spec, &pod.metadata, &Path::default())
}

/// Advice on the template in another kind.
pub(crate) fn template_warnings(template: &PodTemplateSpec, path: &Path) -> Vec<String> {
    let Some(spec) = &template.spec else {
        return Vec::new();
    };
    let empty = ObjectMeta::default();
    warnings(spec, template.metadata.as_ref().unwrap_or(&empty), path)
}

fn warnings(spec: &PodSpec, meta: &ObjectMeta, path: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let spec_path = path.child("spec");
    for (key, advice) in [
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
    ] {
        if meta
            .annotations
            .as_ref()
            .is_some_and(|map| map.contains_key(key))
        {
            let path = path.child("metadata").child("annotations").key(key);
            out.push(format!("{path}: {advice}"));
        }
    }
    for (index, volume) in list(&spec.volumes).iter().enumerate() {
        let path = spec_path.child("volumes").index(index);
        if volume.git_repo.is_some() {
            let path = path.child("gitRepo");
            out.push(format!(
                "{path}: deprecated in v1.11, and disabled by default in v1.33+"
            ));
        }
    }
    duplicates(
        list(&spec.host_aliases)
            .iter()
            .map(|alias| alias.ip.as_str()),
        "ip",
        &spec_path.child("hostAliases"),
        &mut out,
    );
    let secrets = list(&spec.image_pull_secrets);
    duplicates(
        secrets.iter().map(|secret| secret.name.as_str()),
        "name",
        &spec_path.child("imagePullSecrets"),
        &mut out,
    );
    for (index, secret) in secrets.iter().enumerate() {
        if secret.name.is_empty() {
            let path = spec_path
                .child("imagePullSecrets")
                .index(index)
                .child("name");
            out.push(format!("{path}: invalid empty name \"\""));
        }
    }
    fractions(
        spec.overhead.as_ref(),
        &spec_path.child("overhead"),
        &mut out,
    );
    for (containers, name) in [
        (list(&spec.init_containers), "initContainers"),
        (spec.containers.as_slice(), "containers"),
    ] {
        for (index, container) in containers.iter().enumerate() {
            let path = spec_path.child(name).index(index);
            if let Some(resources) = &container.resources {
                let path = path.child("resources");
                fractions(resources.limits.as_ref(), &path.child("limits"), &mut out);
                fractions(
                    resources.requests.as_ref(),
                    &path.child("requests"),
                    &mut out,
                );
            }
            environment(list(&container.env), &path.child("env"), &mut out);
        }
    }
    out
}

fn environment(
    variables: &[k8s_openapi::api::core::v1::EnvVar],
    path: &Path,
    out: &mut Vec<String>,
) {
    for (index, variable) in variables.iter().enumerate() {
        let earlier = variables[..index]
            .iter()
            .rposition(|v| v.name == variable.name);
        if let Some(earlier) = earlier {
            out.push(format!(
                "{}: hides previous definition of {:?}, which may be dropped when using apply",
                path.index(index),
                variables[earlier].name,
            ));
        }
    }
}

fn duplicates<'a>(
    values: impl Iterator<Item = &'a str>,
    name: &str,
    path: &Path,
    out: &mut Vec<String>,
) {
    let mut seen = BTreeSet::new();
    for (index, value) in values.enumerate() {
        if !seen.insert(value) {
            out.push(format!(
                "{}: duplicate {name} {value:?}",
                path.index(index).child(name)
            ));
        }
    }
}

fn fractions(list: Option<&ResourceList>, path: &Path, out: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        let Some(quantity) = list.and_then(|list| list.get(name)) else {
            continue;
        };
        if quantities::parse(quantity).is_some_and(|amount| amount.milli_value() % 1000 != 0) {
            out.push(format!(
                "{}: fractional byte value {:?} is invalid, must be an integer",
                path.key(name),
                quantity.0,
            ));
        }
    }
}
