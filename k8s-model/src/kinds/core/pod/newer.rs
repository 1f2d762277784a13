//! What pods have since 1.34, and do not have in earlier versions: rules for starting a container again (KEP-5307), a
//! name for themselves (KEP-4762), and certificates (KEP-4317).

use k8s_openapi::{
    api::core::v1::{Container, EphemeralContainer, PodSpec, VolumeProjection},
    k8s_if_ge_1_34, k8s_if_le_1_33,
};

k8s_if_ge_1_34! {
    use k8s_openapi::api::core::v1::ContainerRestartRule;

    use crate::kinds::checks::{list, text};

    /// Whether an ephemeral container has rules.
    pub(super) fn has_restart_rules(ephemeral: &EphemeralContainer) -> bool {
        !list(&ephemeral.restart_policy_rules).is_empty()
    }

    /// Whether the rules say that a container that ended so is started again.
    pub(super) fn rules_restart(container: &Container, exit_code: i32) -> bool {
        let rules = list(&container.restart_policy_rules);
        let rule = rules.iter().find(|rule| applies(rule, exit_code));
        rule.is_some_and(|rule| matches!(rule.action.as_str(), "Restart" | "RestartAllContainers"))
    }

    fn applies(rule: &ContainerRestartRule, exit_code: i32) -> bool {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let is_there = list(&codes.values).contains(&exit_code);
            match codes.operator.as_str() {
                "In" => is_there,
                "NotIn" => !is_there,
                _ => false,
            }
        })
    }

    /// A pod's own name for itself.
    pub(super) fn hostname_override(spec: &PodSpec) -> Option<&String> {
        spec.hostname_override.as_ref()
    }

    /// Where a certificate for the pod is put, and what of it; nothing if the volume has none.
    pub(super) fn certificate_paths(source: &VolumeProjection) -> Option<[(&'static str, &str); 3]> {
        let certificate = source.pod_certificate.as_ref()?;
        Some([
            ("PodCertificate chain", text(&certificate.certificate_chain_path)),
            ("PodCertificate key", text(&certificate.key_path)),
            ("PodCertificate credential bundle", text(&certificate.credential_bundle_path)),
        ])
    }
}

k8s_if_le_1_33! {
    pub(super) fn has_restart_rules(_ephemeral: &EphemeralContainer) -> bool {
        false
    }

    pub(super) fn rules_restart(_container: &Container, _exit_code: i32) -> bool {
        false
    }

    pub(super) fn hostname_override(_spec: &PodSpec) -> Option<&String> {
        None
    }

    pub(super) fn certificate_paths(
        _source: &VolumeProjection,
    ) -> Option<[(&'static str, &str); 3]> {
        None
    }
}
