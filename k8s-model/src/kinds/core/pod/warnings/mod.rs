//! Advice on pods and pod templates.

mod containers;
mod overlaps;
mod ports;
mod selection;
mod volumes;

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::{Pod, PodSpec, PodStatus, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::annotations;
use crate::{
    field::Path,
    kinds::{checks::list, ip_fields, quantities::fractions},
    names,
};

/// What is counted in bytes, and only in whole ones.
const BYTES: [&str; 2] = ["memory", "ephemeral-storage"];

/// Advice on a new pod.
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

/// Advice on the addresses that a pod is said to have.
pub(super) fn status_warnings(status: &PodStatus) -> Vec<String> {
    let path = Path::new("status");
    let of_pod = list(&status.pod_ips).iter().map(|ip| &ip.ip).enumerate();
    let of_pod = of_pod.map(|(index, ip)| (ip, path.child("podIPs").index(index)));
    let of_host = list(&status.host_ips).iter().map(|ip| &ip.ip).enumerate();
    let of_host = of_host.map(|(index, ip)| (ip, path.child("hostIPs").index(index)));
    of_pod
        .chain(of_host)
        .filter_map(|(ip, path)| ip_fields::ip_advice(ip, &path.child("ip")))
        .collect()
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
    let at = path.child("spec");
    selection::of_nodes(spec, &at, &mut out);
    out.extend(annotations::out_of_use(meta, path));
    for (index, volume) in list(&spec.volumes).iter().enumerate() {
        volumes::volume(volume, &at.child("volumes").index(index), &mut out);
    }
    for volume in list(&spec.volumes) {
        overlaps::overlaps(volume, &mut out);
    }
    duplicates(
        list(&spec.host_aliases)
            .iter()
            .map(|alias| alias.ip.as_str()),
        "ip",
        &at.child("hostAliases"),
        &mut out,
    );
    let secrets = list(&spec.image_pull_secrets);
    duplicates(
        secrets.iter().map(|secret| secret.name.as_str()),
        "name",
        &at.child("imagePullSecrets"),
        &mut out,
    );
    for (index, secret) in secrets.iter().enumerate() {
        if secret.name.is_empty() {
            let path = at.child("imagePullSecrets").index(index).child("name");
            out.push(format!("{path}: invalid empty name \"\""));
        }
    }
    fractions(
        spec.overhead.as_ref(),
        &BYTES,
        &at.child("overhead"),
        &mut out,
    );
    out.extend(annotations::seccomp_out_of_use(spec, meta, path));
    containers::containers(spec, meta, path, &mut out);
    ports::ports(spec, &at, &mut out);
    if let Some(seconds) = spec.termination_grace_period_seconds
        && seconds < 0
    {
        out.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            at.child("terminationGracePeriodSeconds")
        ));
    }
    selection::of_pods(spec, &at, &mut out);
    addresses(spec, &at, &mut out);
    out
}

fn addresses(spec: &PodSpec, path: &Path, out: &mut Vec<String>) {
    let dns = spec
        .dns_config
        .iter()
        .flat_map(|dns| list(&dns.nameservers));
    for (index, server) in dns.enumerate() {
        let path = path.child("dnsConfig").child("nameservers").index(index);
        out.extend(ip_fields::ip_advice(server, &path));
    }
    for (index, alias) in list(&spec.host_aliases).iter().enumerate() {
        let path = path.child("hostAliases").index(index).child("ip");
        out.extend(ip_fields::ip_advice(&alias.ip, &path));
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The advice on the template of a workload with that spec and those annotations.
    pub(super) fn told(spec: Value, annotations: Value) -> Vec<String> {
        let mut template = json!({"metadata": {"annotations": annotations},
            "spec": {"containers": [{"name": "c"}]}});
        json_patch::merge(&mut template["spec"], &spec);
        let template: PodTemplateSpec = serde_json::from_value(template).unwrap();
        template_warnings(&template, &Path::new("t"))
    }

    #[test]
    fn addresses_are_to_be_in_their_usual_form() {
        let found = told(
            json!({"dnsConfig": {"nameservers": ["1.2.3.4", "2001:DB8::1"]},
                "hostAliases": [{"ip": "01.2.3.4"}], "terminationGracePeriodSeconds": -1}),
            Value::Null,
        );
        assert_eq!(
            found,
            [
                "t.spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
                r#"t.spec.dnsConfig.nameservers[1]: IPv6 address "2001:DB8::1" should be in RFC 5952 canonical format ("2001:db8::1")"#,
                r#"t.spec.hostAliases[0].ip: non-standard IP address "01.2.3.4" will be considered invalid in a future Kubernetes release: use "1.2.3.4""#,
            ]
        );
    }

    #[test]
    fn a_status_has_addresses_in_their_usual_form() {
        let status = json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "FD00::1"}], "hostIPs": [{"ip": "FD00::2"}]});
        let status: PodStatus = serde_json::from_value(status).unwrap();
        let found = status_warnings(&status);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].starts_with(r#"status.podIPs[1].ip: IPv6 address "FD00::1" should"#),
            "{found:?}"
        );
        assert!(
            found[1].starts_with(r#"status.hostIPs[0].ip: IPv6 address "FD00::2" should"#),
            "{found:?}"
        );
    }

    #[test]
    fn names_that_stand_twice_or_are_none_are_told() {
        let found = told(
            json!({"imagePullSecrets": [{"name": "a"}, {"name": "a"}, {"name": ""}]}),
            Value::Null,
        );
        assert_eq!(
            found,
            [
                r#"t.spec.imagePullSecrets[1].name: duplicate name "a""#,
                r#"t.spec.imagePullSecrets[2].name: invalid empty name """#,
            ]
        );
    }

    #[test]
    fn annotations_that_do_nothing_any_more_are_told_unless_their_fields_are_there() {
        let annotations = json!({
            "security.alpha.kubernetes.io/sysctls": "a=b",
            "seccomp.security.alpha.kubernetes.io/pod": "unconfined",
            "container.seccomp.security.alpha.kubernetes.io/c": "unconfined",
            "container.apparmor.security.beta.kubernetes.io/c": "unconfined",
        });
        let seccomp = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
        let at = "t.metadata.annotations";
        assert_eq!(
            told(json!({}), annotations.clone()),
            [
                format!(
                    "{at}[security.alpha.kubernetes.io/sysctls]: non-functional in v1.11+; use the \"sysctls\" field instead"
                ),
                format!("{at}[seccomp.security.alpha.kubernetes.io/pod]: {seccomp}"),
                format!("{at}[container.seccomp.security.alpha.kubernetes.io/c]: {seccomp}"),
                format!(
                    "{at}[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the \"appArmorProfile\" field instead"
                ),
            ]
        );
        let profile = json!({"type": "Unconfined"});
        let with_fields =
            json!({"securityContext": {"seccompProfile": profile, "appArmorProfile": profile}});
        assert_eq!(
            told(with_fields, annotations)[1..],
            [format!(
                "{at}[container.seccomp.security.alpha.kubernetes.io/c]: {seccomp}"
            )]
        );
    }
}
