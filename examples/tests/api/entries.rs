//! Every requirement of the areas has a test.

use std::{collections::BTreeSet, fs, path::Path};

use crate::ENTRIES;

/// The requirements as upstream names them, one a line.
const NAMES: &str = include_str!("entries.txt");

/// A file with tests of other programs, and of which requirement each of them is.
type Elsewhere = (&'static str, &'static [(&'static str, &'static str)]);

const ELSEWHERE: &[Elsewhere] = &[
    (
        "tests/conformance/accounts.rs",
        &[
            (
                "[sig-auth] ServiceAccounts should mount an API token into pods",
                "a_pod_gets_token_authority_and_namespace",
            ),
            (
                "[sig-auth] ServiceAccounts should mount projected service account token",
                "a_pod_gets_the_token_that_it_asks_for",
            ),
            (
                "[sig-auth] ServiceAccounts ServiceAccountIssuerDiscovery should support OIDC discovery of service account issuer",
                "a_pods_token_is_verified_by_what_its_issuer_publishes",
            ),
        ],
    ),
    (
        "tests/conformance/applications.rs",
        &[
            (
                "[sig-cli] Kubectl client Guestbook application should create and stop a working application",
                "what_is_written_to_a_guestbook_can_be_read",
            ),
            (
                "[sig-cli] Kubectl client Kubectl logs should be able to retrieve and filter logs",
                "kubectl_filters_logs",
            ),
        ],
    ),
    (
        "../k8s-apiserver/tests/suite/webhooks.rs",
        &[
            (
                "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing mutating webhooks should work",
                "listing_mutating_webhooks_must_work",
            ),
            (
                "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] listing validating webhooks should work",
                "listing_validating_webhooks_must_work",
            ),
            (
                "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a mutating webhook should work",
                "patching_and_updating_a_mutating_webhook_must_take_effect",
            ),
            (
                "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] patching/updating a validating webhook should work",
                "patching_and_updating_a_validating_webhook_must_take_effect",
            ),
            (
                "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny attaching pod",
                "attaching_to_a_pod_must_be_denied",
            ),
            (
                "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny custom resource creation, update and deletion",
                "creation_update_and_deletion_of_custom_resources_must_be_denied",
            ),
            (
                "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny pod and configmap creation",
                "bad_pods_and_config_maps_must_be_denied_and_a_hanging_webhook_must_time_out",
            ),
            (
                "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should deny crd creation",
                "creation_of_definitions_must_be_denied",
            ),
            (
                "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should honor timeout",
                "time_outs_must_be_honoured_as_the_failure_policy_says",
            ),
            (
                "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should include webhook resources in discovery documents",
                "discovery_must_show_the_webhook_configurations",
            ),
            (
                "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate configmap",
                "a_config_map_must_be_mutated_by_one_webhook_after_the_other",
            ),
            (
                "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource",
                "a_custom_resource_must_be_mutated",
            ),
            (
                "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with different stored version",
                "a_custom_resource_whose_stored_version_changes_must_be_mutated",
            ),
            (
                "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate custom resource with pruning",
                "what_a_webhook_adds_to_a_custom_resource_must_be_pruned",
            ),
            (
                "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should mutate pod and apply defaults after mutation",
                "defaults_must_be_applied_to_what_a_webhook_adds_to_a_pod",
            ),
            (
                "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should not be able to mutate or prevent deletion of webhook configuration objects",
                "webhook_configurations_must_not_be_mutated_nor_kept_from_deletion",
            ),
            (
                "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should unconditionally reject operations on fail closed webhook",
                "a_webhook_that_fails_closed_must_reject_everything",
            ),
        ],
    ),
    (
        "../k8s-apiserver/tests/suite/conversion.rs",
        &[
            (
                "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert a non homogeneous list of CRs",
                "a_list_must_hold_what_was_stored_in_either_version",
            ),
            (
                "[sig-api-machinery] CustomResourceConversionWebhook [Privileged:ClusterAdmin] should be able to convert from CR v1 to CR v2",
                "a_custom_resource_of_v1_must_be_read_as_v2",
            ),
        ],
    ),
];

fn tested() -> impl Iterator<Item = &'static str> {
    let here = ENTRIES.iter().copied().flatten().map(|(name, _)| *name);
    let elsewhere = ELSEWHERE.iter().flat_map(|(_, tests)| *tests);
    here.chain(elsewhere.map(|(name, _)| *name))
}

#[test]
fn every_requirement_has_a_test() {
    let tested: BTreeSet<&str> = tested().collect();
    let missing: Vec<&str> = NAMES
        .lines()
        .filter(|name| !tested.contains(name))
        .collect();
    assert!(missing.is_empty(), "no test of:\n{}", missing.join("\n"));
}

#[test]
fn every_test_is_of_one_requirement() {
    let names: BTreeSet<&str> = NAMES.lines().collect();
    let mut seen = BTreeSet::new();
    for name in tested() {
        assert!(names.contains(name), "no requirement is called {name:?}");
        assert!(seen.insert(name), "{name:?} is there twice");
    }
}

#[test]
fn the_tests_of_other_programs_are_there() {
    for (file, tests) in ELSEWHERE {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
        for (name, test) in *tests {
            let is_test = text.contains(&format!("\nasync fn {test}("));
            assert!(is_test, "{file} has no test {test} of {name}");
        }
    }
}
