//! What a mutating policy makes of an object.

use k8s_model::{
    apply::{OneVersion, Shape, Tracker, atomics},
    cel::Val,
    patch::{self, PatchError},
};
use serde::Deserialize;
use serde_json::Value;

use super::Policy;
use crate::admission::expressions::{COST_LIMIT, Condition, Expression, Inputs, Judged, Variables};

#[derive(Deserialize)]
struct Source {
    #[serde(default)]
    expression: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    patch_type: String,
    apply_configuration: Option<Source>,
    json_patch: Option<Source>,
}

/// One mutation.
#[derive(Debug, Deserialize)]
#[serde(from = "Wire")]
pub(super) struct Mutation {
    applies: bool,
    expression: Expression,
}

impl From<Wire> for Mutation {
    fn from(wire: Wire) -> Self {
        let applies = wire.patch_type == "ApplyConfiguration";
        let source = match applies {
            true => wire.apply_configuration,
            false => wire.json_patch,
        };
        Mutation {
            applies,
            expression: Expression::new(&source.map(|s| s.expression).unwrap_or_default()),
        }
    }
}

/// What an expression makes.
#[derive(Debug)]
pub(super) enum Change {
    /// A configuration to apply.
    Apply(Value),
    /// A JSON patch.
    Patch(Value),
}

/// What a policy's conditions say.
pub(super) fn applies(policy: &Policy, inputs: &Inputs<'_>) -> Judged {
    Condition::judge(&policy.conditions, &inputs.variables())
}

impl Mutation {
    /// What it makes of a request.
    pub(super) fn evaluate<'v>(
        &self,
        policy: &'v Policy,
        inputs: &Inputs<'v>,
    ) -> Result<Change, String> {
        let variables = Variables::with(&policy.variables, inputs.variables());
        let mut budget = COST_LIMIT;
        let found = self
            .expression
            .evaluate(&variables, &mut budget)
            .map_err(|error| self.expression.failure(&error))?;
        let good = match &found {
            Val::Map(_) => self.applies,
            Val::List(_) => !self.applies,
            _ => false,
        };
        let json = found.to_json().filter(|_| good).ok_or_else(|| {
            let wanted = match self.applies {
                true => "Object",
                false => "a list of JSONPatch",
            };
            format!(
                "expression '{}' resulted in unexpected return type, expected {wanted}",
                self.expression.source
            )
        })?;
        Ok(match self.applies {
            true => Change::Apply(json),
            false => Change::Patch(json),
        })
    }
}

/// The kind of the objects that are changed.
#[derive(Debug)]
pub(super) struct Kind {
    /// What configurations are applied by; options of connections have none.
    pub(super) shape: Option<Shape>,
    pub(super) api_version: String,
    pub(super) now: jiff::Timestamp,
}

impl Change {
    /// The object after it.
    pub(super) fn apply(self, object: &Value, kind: &Kind) -> Result<Value, String> {
        match self {
            Change::Patch(steps) => {
                let (steps, mut object) = (steps.to_string(), object.clone());
                match patch::json(&mut object, steps.as_bytes()) {
                    Ok(()) | Err(PatchError::TestFailed(_)) => Ok(object),
                    Err(error) => Err(format!("JSON Patch: {error}")),
                }
            }
            Change::Apply(configuration) => configure(configuration, object, kind)
                .map_err(|text| format!("error applying patch: {text}")),
        }
    }
}

/// The object with a configuration applied to it.
fn configure(mut configuration: Value, object: &Value, kind: &Kind) -> Result<Value, String> {
    let Some(shape) = &kind.shape else {
        let name = object["kind"].as_str().unwrap_or_default();
        return Err(format!(
            "failed to convert patch object to typed object: no corresponding type for /v1, Kind={name}"
        ));
    };
    let atomics = atomics(&configuration, shape);
    if !atomics.is_empty() {
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            atomics.join(", ")
        ));
    }
    // What an apply says of itself, and nobody may change so.
    for name in ["apiVersion", "kind"] {
        configuration[name] = object[name].clone();
    }
    let meta = &object["metadata"];
    let mut own = configuration["metadata"].take();
    if !own.is_object() {
        own = Value::Object(Default::default());
    }
    for name in ["name", "namespace"] {
        if let Some(value) = meta.get(name) {
            own[name] = value.clone();
        }
    }
    configuration["metadata"] = own;
    let mut object = object.clone();
    let managed = object["metadata"]
        .as_object_mut()
        .and_then(|meta| meta.remove("managedFields"));
    let tracker = Tracker {
        shape,
        api_version: &kind.api_version,
        subresource: "",
        manager: "mutating-admission-policy",
        reset: &[],
        now: kind.now,
        versions: &OneVersion,
    };
    let applied = tracker
        .apply(object.clone(), &configuration, &[], true)
        .map_err(|e| e.to_status().message.unwrap_or_default())?;
    let mut object = applied.object.unwrap_or(object);
    if let Some(managed) = managed {
        object["metadata"]["managedFields"] = managed;
    }
    Ok(object)
}
