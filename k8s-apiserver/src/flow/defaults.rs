//! The FlowSchemas and PriorityLevelConfigurations that every cluster has: upstream's.
//!
//! See <https://kubernetes.io/docs/concepts/cluster-administration/flow-control/#defaults>.

use k8s_openapi::{
    api::flowcontrol::v1::{
        ExemptPriorityLevelConfiguration, FlowDistinguisherMethod, FlowSchema, FlowSchemaSpec,
        GroupSubject, LimitResponse, LimitedPriorityLevelConfiguration, NonResourcePolicyRule,
        PolicyRulesWithSubjects, PriorityLevelConfiguration, PriorityLevelConfigurationReference,
        PriorityLevelConfigurationSpec, QueuingConfiguration, ResourcePolicyRule,
        ServiceAccountSubject, Subject, UserSubject,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    auth::{AUTHENTICATED, MASTERS, NODES, SERVICE_ACCOUNTS, UNAUTHENTICATED},
    compat,
};

/// Whether the object follows the server's idea of it.
pub(super) const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

pub(super) const EXEMPT: &str = "exempt";
pub(super) const CATCH_ALL: &str = "catch-all";

/// The names of what cannot do without, in both kinds.
pub(super) const MANDATORY: [&str; 2] = [EXEMPT, CATCH_ALL];

fn meta(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        annotations: Some([(AUTO_UPDATE.to_owned(), "true".to_owned())].into()),
        ..ObjectMeta::default()
    }
}

/// The priority levels, the mandatory ones first.
pub(super) fn levels() -> Vec<PriorityLevelConfiguration> {
    let exempt = PriorityLevelConfigurationSpec {
        type_: "Exempt".to_owned(),
        exempt: Some(ExemptPriorityLevelConfiguration {
            nominal_concurrency_shares: Some(0),
            lendable_percent: Some(0),
        }),
        ..PriorityLevelConfigurationSpec::default()
    };
    let limited = |shares: i32, lendable: i32, queues: Option<(i32, i32)>| {
        let limited = LimitedPriorityLevelConfiguration {
            nominal_concurrency_shares: Some(shares),
            lendable_percent: Some(lendable),
            limit_response: compat::field(LimitResponse {
                type_: if queues.is_some() { "Queue" } else { "Reject" }.to_owned(),
                queuing: queues.map(|(queues, hand_size)| QueuingConfiguration {
                    queues: Some(queues),
                    hand_size: Some(hand_size),
                    queue_length_limit: Some(50),
                }),
            }),
            ..LimitedPriorityLevelConfiguration::default()
        };
        PriorityLevelConfigurationSpec {
            type_: "Limited".to_owned(),
            limited: Some(limited),
            ..PriorityLevelConfigurationSpec::default()
        }
    };
    [
        (EXEMPT, exempt),
        (CATCH_ALL, limited(5, 0, None)),
        ("system", limited(30, 33, Some((64, 6)))),
        ("node-high", limited(40, 25, Some((64, 6)))),
        ("leader-election", limited(10, 0, Some((16, 4)))),
        ("workload-high", limited(40, 50, Some((128, 6)))),
        ("workload-low", limited(100, 90, Some((128, 6)))),
        ("global-default", limited(20, 50, Some((128, 6)))),
    ]
    .into_iter()
    .map(|(name, spec)| PriorityLevelConfiguration {
        metadata: meta(name),
        spec: compat::field(spec),
        ..PriorityLevelConfiguration::default()
    })
    .collect()
}

fn all() -> Vec<String> {
    vec!["*".to_owned()]
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|v| (*v).to_owned()).collect()
}

fn groups(names: &[&str]) -> Vec<Subject> {
    let subject = |name: &&str| Subject {
        kind: "Group".to_owned(),
        group: Some(GroupSubject {
            name: (*name).to_owned(),
        }),
        ..Subject::default()
    };
    names.iter().map(subject).collect()
}

fn users(names: &[&str]) -> Vec<Subject> {
    let subject = |name: &&str| Subject {
        kind: "User".to_owned(),
        user: Some(UserSubject {
            name: (*name).to_owned(),
        }),
        ..Subject::default()
    };
    names.iter().map(subject).collect()
}

fn system_accounts(names: &[&str]) -> Vec<Subject> {
    let subject = |name: &&str| Subject {
        kind: "ServiceAccount".to_owned(),
        service_account: Some(ServiceAccountSubject {
            namespace: "kube-system".to_owned(),
            name: (*name).to_owned(),
        }),
        ..Subject::default()
    };
    names.iter().map(subject).collect()
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> ResourcePolicyRule {
    ResourcePolicyRule {
        verbs: owned(verbs),
        api_groups: vec![group.to_owned()],
        resources: owned(resources),
        namespaces: Some(all()),
        cluster_scope: cluster.then_some(true),
    }
}

fn about(subjects: Vec<Subject>, resources: Vec<ResourcePolicyRule>) -> PolicyRulesWithSubjects {
    PolicyRulesWithSubjects {
        subjects,
        resource_rules: Some(resources),
        non_resource_rules: None,
    }
}

fn everything(subjects: Vec<Subject>) -> PolicyRulesWithSubjects {
    PolicyRulesWithSubjects {
        non_resource_rules: Some(vec![NonResourcePolicyRule {
            verbs: all(),
            non_resource_urls: all(),
        }]),
        ..about(subjects, vec![resources(&["*"], "*", &["*"], true)])
    }
}

/// The schemas, in order of precedence.
pub(super) fn schemas() -> Vec<FlowSchema> {
    const CONTROLLERS: &str = "system:kube-controller-manager";
    const SCHEDULER: &str = "system:kube-scheduler";
    const BY_USER: &str = "ByUser";
    const BY_NAMESPACE: &str = "ByNamespace";
    const ELECTION: &[&str] = &["get", "create", "update"];
    let everybody = || groups(&[UNAUTHENTICATED, AUTHENTICATED]);
    let leases = |verbs: &[&str]| resources(verbs, "coordination.k8s.io", &["leases"], false);
    let both = |mut one: Vec<Subject>, other: Vec<Subject>| {
        one.extend(other);
        one
    };
    let probes = PolicyRulesWithSubjects {
        subjects: everybody(),
        resource_rules: None,
        non_resource_rules: Some(vec![NonResourcePolicyRule {
            verbs: owned(&["get"]),
            non_resource_urls: owned(&["/healthz", "/readyz", "/livez"]),
        }]),
    };
    let deciders = || users(&[CONTROLLERS, SCHEDULER]);
    let endpoints = ["endpoint-controller", "endpointslicemirroring-controller"];
    let every_account = || system_accounts(&["*"]);
    [
        (EXEMPT, EXEMPT, 1, "", everything(groups(&[MASTERS]))),
        ("probes", EXEMPT, 2, "", probes),
        (
            "system-leader-election",
            "leader-election",
            100,
            BY_USER,
            about(both(deciders(), every_account()), vec![leases(ELECTION)]),
        ),
        (
            "endpoint-controller",
            "workload-high",
            150,
            BY_USER,
            about(
                both(users(&[CONTROLLERS]), system_accounts(&endpoints)),
                vec![resources(ELECTION, "", &["endpoints"], false)],
            ),
        ),
        (
            "workload-leader-election",
            "leader-election",
            200,
            BY_USER,
            about(
                every_account(),
                vec![
                    resources(ELECTION, "", &["endpoints", "configmaps"], false),
                    leases(ELECTION),
                ],
            ),
        ),
        (
            "system-node-high",
            "node-high",
            400,
            BY_USER,
            about(
                groups(&[NODES]),
                vec![
                    resources(&["*"], "", &["nodes", "nodes/status"], true),
                    leases(&["*"]),
                ],
            ),
        ),
        (
            "system-nodes",
            "system",
            500,
            BY_USER,
            everything(groups(&[NODES])),
        ),
        (
            "kube-controller-manager",
            "workload-high",
            800,
            BY_NAMESPACE,
            everything(users(&[CONTROLLERS])),
        ),
        (
            "kube-scheduler",
            "workload-high",
            800,
            BY_NAMESPACE,
            everything(users(&[SCHEDULER])),
        ),
        (
            "kube-system-service-accounts",
            "workload-high",
            900,
            BY_NAMESPACE,
            everything(every_account()),
        ),
        (
            "service-accounts",
            "workload-low",
            9000,
            BY_USER,
            everything(groups(&[SERVICE_ACCOUNTS])),
        ),
        (
            "global-default",
            "global-default",
            9900,
            BY_USER,
            everything(everybody()),
        ),
        (
            CATCH_ALL,
            CATCH_ALL,
            10000,
            BY_USER,
            everything(everybody()),
        ),
    ]
    .into_iter()
    .map(
        |(name, level, precedence, distinguisher, rule)| FlowSchema {
            metadata: meta(name),
            spec: compat::field(FlowSchemaSpec {
                priority_level_configuration: PriorityLevelConfigurationReference {
                    name: level.to_owned(),
                },
                matching_precedence: Some(precedence),
                distinguisher_method: (!distinguisher.is_empty()).then(|| {
                    FlowDistinguisherMethod {
                        type_: distinguisher.to_owned(),
                    }
                }),
                rules: Some(vec![rule]),
            }),
            ..FlowSchema::default()
        },
    )
    .collect()
}

#[cfg(test)]
mod tests {
    use k8s_model::{Object, ResourceTable};

    use super::*;

    #[test]
    fn all_of_them_are_taken() {
        let table = ResourceTable::builtin();
        let check = |resource: &str, object: &dyn Object| {
            let row = table.resource("flowcontrol.apiserver.k8s.io", "v1", resource);
            let found = row.unwrap().strategy.validate(object);
            assert!(found.is_empty(), "{resource}: {found:?}");
        };
        for level in levels() {
            check("prioritylevelconfigurations", &level);
        }
        for schema in schemas() {
            check("flowschemas", &schema);
        }
    }
}
