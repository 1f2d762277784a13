//! Advice on pods and pod templates.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{EnvVar, Pod, PodSpec, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    field::Path,
    kinds::{
        checks::list, core::persistent_volume_claim::spec_warnings, node_labels,
        quantities::fractions,
    },
    names,
};

/// What is counted in bytes, and only in whole ones.
const BYTES: [&str; 2] = ["memory", "ephemeral-storage"];

pub(super) fn pod_warnings(pod: &Pod) -> Vec<String> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let wrong = names::dns_label(name, false);
    let mut out = Vec::new();
    if !wrong.is_empty() {
        out.push(format!(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is \
             recommended: [{}]",
            wrong.join(" ")
        ));
    }
    out.extend(warnings(spec, &pod.metadata, &Path::default()));
    out
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
    labels(spec, &spec_path, &mut out);
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
        for (there, name, advice) in [
            (
                volume.photon_persistent_disk.is_some(),
                "photonPersistentDisk",
                "deprecated in v1.11, non-functional in v1.16+",
            ),
            (
                volume.git_repo.is_some(),
                "gitRepo",
                "deprecated in v1.11, and disabled by default in v1.33+",
            ),
            (
                volume.scale_io.is_some(),
                "scaleIO",
                "deprecated in v1.16, non-functional in v1.22+",
            ),
            (
                volume.flocker.is_some(),
                "flocker",
                "deprecated in v1.22, non-functional in v1.25+",
            ),
            (
                volume.storageos.is_some(),
                "storageOS",
                "deprecated in v1.22, non-functional in v1.25+",
            ),
            (
                volume.quobyte.is_some(),
                "quobyte",
                "deprecated in v1.22, non-functional in v1.25+",
            ),
            (
                volume.glusterfs.is_some(),
                "glusterfs",
                "deprecated in v1.25, non-functional in v1.26+",
            ),
        ] {
            if there {
                out.push(format!("{}: {advice}", path.child(name)));
            }
        }
        let template = volume.ephemeral.as_ref();
        if let Some(template) = template.and_then(|volume| volume.volume_claim_template.as_ref()) {
            let path = path.child("ephemeral").child("volumeClaimTemplate");
            out.extend(spec_warnings(&template.spec, &path.child("spec")));
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
        &BYTES,
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
                fractions(
                    resources.limits.as_ref(),
                    &BYTES,
                    &path.child("limits"),
                    &mut out,
                );
                fractions(
                    resources.requests.as_ref(),
                    &BYTES,
                    &path.child("requests"),
                    &mut out,
                );
            }
            environment(list(&container.env), &path.child("env"), &mut out);
        }
    }
    out
}

/// Advice on labels of nodes that have newer names.
fn labels(spec: &PodSpec, path: &Path, out: &mut Vec<String>) {
    for (label, _) in spec.node_selector.iter().flatten() {
        let path = path.child("nodeSelector").key(label);
        out.extend(node_labels::advice(label).map(|advice| format!("{path}: {advice}")));
    }
    let affinity = spec.affinity.as_ref();
    if let Some(affinity) = affinity.and_then(|affinity| affinity.node_affinity.as_ref()) {
        let path = path.child("affinity").child("nodeAffinity");
        let required = &affinity.required_during_scheduling_ignored_during_execution;
        let place = path.child("requiredDuringSchedulingIgnoredDuringExecution");
        let place = place.child("nodeSelectorTerms");
        let terms = required
            .iter()
            .flat_map(|required| &required.node_selector_terms);
        for (at, term) in terms.enumerate() {
            out.extend(node_labels::term(term, &place.index(at)));
        }
        let place = path.child("preferredDuringSchedulingIgnoredDuringExecution");
        let preferred = &affinity.preferred_during_scheduling_ignored_during_execution;
        for (at, term) in list(preferred).iter().enumerate() {
            let path = place.index(at).child("preference");
            out.extend(node_labels::term(&term.preference, &path));
        }
    }
    for (at, spread) in list(&spec.topology_spread_constraints).iter().enumerate() {
        let path = path.child("topologySpreadConstraints").index(at);
        out.extend(node_labels::named(
            &spread.topology_key,
            &path.child("topologyKey"),
        ));
    }
}

/// A variable may stand again if it is made of what it was before.
fn environment(variables: &[EnvVar], path: &Path, out: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (index, EnvVar { name, value, .. }) in variables.iter().enumerate() {
        let is_new = seen.insert(name.as_str());
        let value = value.as_deref().unwrap_or_default();
        if !is_new && !value.contains(&format!("$({name})")) {
            out.push(format!(
                "{}: hides previous definition of {name:?}, which may be dropped when using apply",
                path.index(index),
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
