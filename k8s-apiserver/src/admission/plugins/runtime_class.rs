//! [`RuntimeClass`]: what a pod's runtime takes for itself, and where it runs.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use k8s_model::quantity::Amount;
use k8s_openapi::{
    api::{
        core::v1::{Pod, PodSpec, Toleration},
        node::v1 as node,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use super::askable;
use crate::{
    Error,
    admission::{
        AdmissionError, AdmissionPlugin, AdmissionRequest, Operation, Step, reader::ObjectReader,
    },
};

/// Gives new pods the overhead, node selector and tolerations of their runtime class, and refuses those that
/// contradict it. See <https://kubernetes.io/docs/concepts/containers/runtime-class/>.
#[derive(Debug)]
pub struct RuntimeClass(Arc<dyn ObjectReader>);

impl RuntimeClass {
    /// Looks classes up there.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        RuntimeClass(reader)
    }

    async fn class(&self, spec: &PodSpec) -> Result<Option<node::RuntimeClass>, AdmissionError> {
        let Some(name) = spec.runtime_class_name.as_deref() else {
            return Ok(None);
        };
        if let Some(text) = askable::refusal(name) {
            let status = Error::unknown(text).into_status();
            return Err(AdmissionError::Status(Box::new(status)));
        }
        match self.0.get::<node::RuntimeClass>("", name).await? {
            Some(class) => Ok(Some(class)),
            None => Err(AdmissionError::forbidden(format!(
                "pod rejected: RuntimeClass {name:?} not found"
            ))),
        }
    }
}

type Quantities = BTreeMap<String, Quantity>;

/// Whether both lists are of the same amounts.
fn same(a: &Quantities, b: &Quantities) -> bool {
    let amounts = |list: &Quantities| -> BTreeMap<String, Option<Amount>> {
        list.iter()
            .map(|(name, quantity)| (name.clone(), Amount::try_from(quantity).ok()))
            .collect()
    };
    amounts(a) == amounts(b)
}

fn overhead(class: Option<&node::RuntimeClass>) -> Option<Quantities> {
    let overhead = class?.overhead.as_ref()?;
    Some(overhead.pod_fixed.clone().unwrap_or_default())
}

fn mismatch() -> AdmissionError {
    AdmissionError::forbidden(
        "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
    )
}

fn set_overhead(spec: &mut PodSpec, class: &node::RuntimeClass) -> Result<(), AdmissionError> {
    let Some(overhead) = overhead(Some(class)) else {
        return Ok(());
    };
    if spec.overhead.as_ref().is_some_and(|o| !same(o, &overhead)) {
        return Err(mismatch());
    }
    spec.overhead = Some(overhead).filter(|overhead| !overhead.is_empty());
    Ok(())
}

fn set_scheduling(spec: &mut PodSpec, class: &node::RuntimeClass) -> Result<(), AdmissionError> {
    let Some(scheduling) = &class.scheduling else {
        return Ok(());
    };
    for (key, wanted) in scheduling.node_selector.iter().flatten() {
        let selector = spec.node_selector.get_or_insert_default();
        if let Some(found) = selector.get(key).filter(|found| *found != wanted) {
            return Err(AdmissionError::forbidden(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {found}"
            )));
        }
        selector.insert(key.clone(), wanted.clone());
    }
    let given = spec.tolerations.take().unwrap_or_default();
    let more = scheduling.tolerations.as_deref().unwrap_or_default();
    spec.tolerations = Some(merged(given, more)).filter(|all| !all.is_empty());
    Ok(())
}

/// Whether all that the other tolerates is tolerated, as upstream judges it: an operator that is left out counts as
/// `Equal` in the one and as nothing in the other.
fn covers(one: &Toleration, other: &Toleration) -> bool {
    fn text(field: &Option<String>) -> &str {
        field.as_deref().unwrap_or_default()
    }
    if one == other {
        return true;
    }
    let (key, effect, operator) = (text(&one.key), text(&one.effect), text(&one.operator));
    let everything = key.is_empty() && operator == "Exists";
    if key != text(&other.key) && !everything || !effect.is_empty() && effect != text(&other.effect)
    {
        return false;
    }
    let lasts = match (one.toleration_seconds, other.toleration_seconds) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(one), Some(other)) => one >= other,
    };
    // Seconds mean something for this effect alone.
    if effect == "NoExecute" && !lasts {
        return false;
    }
    match operator {
        "Exists" => true,
        "" | "Equal" => text(&other.operator) == "Equal" && text(&one.value) == text(&other.value),
        _ => false,
    }
}

/// All of both, without those that others cover.
fn merged(given: Vec<Toleration>, more: &[Toleration]) -> Vec<Toleration> {
    let all: Vec<Toleration> = given.into_iter().chain(more.iter().cloned()).collect();
    let mut kept: Vec<Toleration> = Vec::new();
    for (index, one) in all.iter().enumerate() {
        let later = &all[index + 1..];
        let covered = kept.iter().any(|other| covers(other, one))
            || later.iter().any(|other| other != one && covers(other, one));
        if !covered {
            kept.push(one.clone());
        }
    }
    kept
}

#[async_trait]
impl AdmissionPlugin for RuntimeClass {
    fn name(&self) -> &str {
        "RuntimeClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn steps(&self) -> &[Step] {
        &[Step::Admit, Step::Validate]
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        matches!((group, resource), ("", "pods"))
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        if !request.is("", "pods") {
            return Ok(());
        }
        let Some(pod) = request.object_as_mut::<Pod>() else {
            return Ok(());
        };
        let spec = pod.spec.get_or_insert_default();
        if let Some(class) = self.class(spec).await? {
            set_overhead(spec, &class)?;
            set_scheduling(spec, &class)?;
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        if !request.is("", "pods") {
            return Ok(());
        }
        let pod = request.object_as::<Pod>();
        let Some(spec) = pod.and_then(|pod| pod.spec.as_ref()) else {
            return Ok(());
        };
        let class = self.class(spec).await?;
        let none = Quantities::new();
        match (overhead(class.as_ref()), &spec.overhead) {
            (None, None) => Ok(()),
            (Some(wanted), found) if same(&wanted, found.as_ref().unwrap_or(&none)) => Ok(()),
            (Some(_), _) => Err(mismatch()),
            (None, Some(_)) => Err(AdmissionError::forbidden(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn tolerations_that_others_cover_are_not_repeated() {
        let list = |value: Value| -> Vec<Toleration> { serde_json::from_value(value).unwrap() };
        let given = list(json!([
            {"key": "a", "operator": "Exists"},
            {"key": "b", "value": "1", "effect": "NoSchedule"},
        ]));
        let more = list(json!([
            {"key": "a", "value": "x", "effect": "NoExecute"},
            {"key": "b", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "a", "operator": "Exists"},
            // Neither covers the other: one says no operator, one no key.
            {"key": "c", "value": "1"},
            {"key": "c", "value": "1", "effect": "NoSchedule"},
            {"value": "1", "operator": "Equal"},
            {"key": "d", "value": "1", "operator": "Equal"},
        ]));
        assert_eq!(
            merged(given, &more),
            list(json!([
                {"key": "a", "operator": "Exists"},
                {"key": "b", "operator": "Exists", "effect": "NoSchedule"},
                {"key": "c", "value": "1"},
                {"key": "c", "value": "1", "effect": "NoSchedule"},
                {"value": "1", "operator": "Equal"},
                {"key": "d", "value": "1", "operator": "Equal"},
            ]))
        );
    }
}
