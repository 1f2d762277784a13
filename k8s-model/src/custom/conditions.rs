//! The conditions in a custom resource definition's status.

use k8s_openapi::{
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceDefinition, CustomResourceDefinitionCondition,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::kinds::{approval_state, ca_fault};

/// A condition of a definition.
pub fn condition<'d>(
    definition: &'d CustomResourceDefinition,
    type_: &str,
) -> Option<&'d CustomResourceDefinitionCondition> {
    let conditions = definition.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == type_)
}

/// Whether the webhook of a definition, if it has one, can be trusted: its certificates are some.
pub fn trusts_its_webhook(definition: &CustomResourceDefinition) -> bool {
    let conversion = definition.spec.conversion.as_ref();
    conversion.is_none_or(|conversion| ca_fault(conversion).is_none())
}

/// Whether a condition of a definition holds.
pub fn is_true(definition: &CustomResourceDefinition, type_: &str) -> bool {
    condition(definition, type_).is_some_and(|c| c.status == "True")
}

/// Says whether a definition has the community's approval, if its group is one that needs it (KEP-1111).
pub fn say_approval(definition: &mut CustomResourceDefinition, now: Time) {
    if let Some((holds, reason, message)) = approval_state(definition) {
        let type_ = "KubernetesAPIApprovalPolicyConformant";
        set_condition(definition, type_, holds, (reason, &message), now);
    }
}

/// Sets a condition of a definition. The time of the last transition changes with its status alone.
pub fn set_condition(
    definition: &mut CustomResourceDefinition,
    type_: &str,
    holds: bool,
    (reason, message): (&str, &str),
    now: Time,
) {
    let status = if holds { "True" } else { "False" };
    let conditions = definition
        .status
        .get_or_insert_default()
        .conditions
        .get_or_insert_default();
    let new = CustomResourceDefinitionCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(now),
        ..CustomResourceDefinitionCondition::default()
    };
    match conditions.iter_mut().find(|c| c.type_ == type_) {
        Some(found) if found.status == status => {
            found.reason = new.reason;
            found.message = new.message;
        }
        Some(found) => *found = new,
        None => conditions.push(new),
    }
}
