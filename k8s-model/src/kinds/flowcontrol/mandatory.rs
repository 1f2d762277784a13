//! What every cluster has, and nobody may change: the FlowSchemas and PriorityLevelConfigurations `exempt` and `catch-all`.

use k8s_openapi::api::flowcontrol::v1::{FlowSchemaSpec, PriorityLevelConfigurationSpec};
use serde_json::{Value, json};

pub(super) const EXEMPT: &str = "exempt";
const CATCH_ALL: &str = "catch-all";

/// The spec of the schema of this name, if every cluster has it.
pub(super) fn schema(name: &str) -> Option<FlowSchemaSpec> {
    let spec = match name {
        EXEMPT => json!({
            "matchingPrecedence": 1,
            "priorityLevelConfiguration": {"name": EXEMPT},
            "rules": [everything(&["system:masters"])],
        }),
        CATCH_ALL => json!({
            "matchingPrecedence": 10_000,
            "priorityLevelConfiguration": {"name": CATCH_ALL},
            "distinguisherMethod": {"type": "ByUser"},
            "rules": [everything(&["system:unauthenticated", "system:authenticated"])],
        }),
        _ => return None,
    };
    serde_json::from_value(spec).ok()
}

/// All requests of some groups.
fn everything(groups: &[&str]) -> Value {
    let subject = |group: &&str| json!({"kind": "Group", "group": {"name": group}});
    let subjects: Vec<Value> = groups.iter().map(subject).collect();
    json!({
        "subjects": subjects,
        "resourceRules": [{
            "verbs": ["*"],
            "apiGroups": ["*"],
            "resources": ["*"],
            "clusterScope": true,
            "namespaces": ["*"],
        }],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

/// The spec of the priority level of this name, if every cluster has it.
pub(super) fn level(name: &str) -> Option<PriorityLevelConfigurationSpec> {
    let spec = match name {
        EXEMPT => json!({
            "type": "Exempt",
            "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0},
        }),
        CATCH_ALL => json!({
            "type": "Limited",
            "limited": {
                "nominalConcurrencyShares": 5,
                "lendablePercent": 0,
                "limitResponse": {"type": "Reject"},
            },
        }),
        _ => return None,
    };
    serde_json::from_value(spec).ok()
}
