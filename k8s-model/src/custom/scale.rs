//! [`ScalePaths`]: where the `scale` subresource of a custom resource finds its numbers.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceSubresourceScale;
use serde_json::{Map, Value};

use crate::{
    decode::go_type_of,
    field::{self, ErrorList, Path},
    patch::spell_go,
};

/// Where the `scale` subresource finds its numbers: the names of fields on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    spec_replicas: Vec<String>,
    status_replicas: Vec<String>,
    selector: Option<Vec<String>>,
}

fn names(path: &str) -> Vec<String> {
    path.trim_start_matches('.')
        .split('.')
        .map(str::to_owned)
        .collect()
}

fn at<'v>(fields: &'v Map<String, Value>, path: &[String]) -> Option<&'v Value> {
    let (first, rest) = path.split_first()?;
    rest.iter()
        .try_fold(fields.get(first)?, |value, name| value.get(name))
}

/// What upstream says if something on the way is no object.
fn in_the_way(fields: &Map<String, Value>, path: &[String]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    let mut value = fields.get(first)?;
    for (at, name) in rest.iter().enumerate() {
        value = match value {
            Value::Null => return None,
            Value::Object(fields) => fields.get(name)?,
            other => {
                return Some(format!(
                    ".{} accessor error: {} is of the type {}, expected map[string]interface{{}}",
                    path[..at + 2].join("."),
                    spell_go(other),
                    go_type_of(other)
                ));
            }
        };
    }
    None
}

impl ScalePaths {
    pub(super) fn new(scale: &CustomResourceSubresourceScale) -> Self {
        ScalePaths {
            spec_replicas: names(&scale.spec_replicas_path),
            status_replicas: names(&scale.status_replicas_path),
            selector: scale
                .label_selector_path
                .as_deref()
                .filter(|path| !path.is_empty())
                .map(names),
        }
    }

    /// How many replicas are wanted; `None` where nothing is said.
    pub fn spec_replicas(&self, fields: &Map<String, Value>) -> Option<i64> {
        at(fields, &self.spec_replicas)?.as_i64()
    }

    /// How many replicas there are; 0 where nothing is said.
    pub fn status_replicas(&self, fields: &Map<String, Value>) -> i64 {
        at(fields, &self.status_replicas)
            .and_then(Value::as_i64)
            .unwrap_or(0)
    }

    /// What selects the replicas; empty where nothing is said.
    pub fn selector<'v>(&self, fields: &'v Map<String, Value>) -> &'v str {
        self.selector
            .as_ref()
            .and_then(|path| at(fields, path)?.as_str())
            .unwrap_or_default()
    }

    /// `spec` and `replicas`, or whatever are the names of the fields on the way to the number that is wanted.
    pub fn spec_names(&self) -> &[String] {
        &self.spec_replicas
    }

    /// `.spec.replicas`, or wherever the number is.
    pub fn spec_path(&self) -> String {
        format!(".{}", self.spec_replicas.join("."))
    }

    /// Says how many replicas are wanted. False if something else is in the way.
    pub fn set_spec_replicas(&self, fields: &mut Map<String, Value>, replicas: i32) -> bool {
        let Some((last, way)) = self.spec_replicas.split_last() else {
            return false;
        };
        let mut fields = fields;
        for name in way {
            let next = fields
                .entry(name.clone())
                .or_insert_with(|| Value::Object(Map::new()));
            match next {
                Value::Object(next) => fields = next,
                _ => return false,
            }
        }
        fields.insert(last.clone(), replicas.into());
        true
    }

    pub(super) fn validate(&self, fields: &Map<String, Value>, spec: bool) -> ErrorList {
        let mut out = ErrorList::new();
        let mut number = |path: &[String]| {
            let spelled = Path::new(&format!(".{}", path.join(".")));
            if let Some(text) = in_the_way(fields, path) {
                out.push(field::invalid(spelled, 0, text));
                return;
            }
            match at(fields, path) {
                None => {}
                Some(Value::Number(n)) if n.is_i64() || n.is_u64() => {
                    let n = n.as_i64().unwrap_or(i64::MAX);
                    if n < 0 {
                        let text = "should be a non-negative integer";
                        out.push(field::invalid(spelled, n, text));
                    } else if n > i64::from(i32::MAX) {
                        let text = format!("should be less than or equal to {}", i32::MAX);
                        out.push(field::invalid(spelled, n, text));
                    }
                }
                Some(other) => {
                    let text = format!(
                        ".{} accessor error: {} is of the type {}, expected int64",
                        path.join("."),
                        spell_go(other),
                        go_type_of(other)
                    );
                    out.push(field::invalid(spelled, 0, text));
                }
            }
        };
        if spec {
            number(&self.spec_replicas);
        }
        number(&self.status_replicas);
        if let Some(path) = &self.selector
            && let Some(text) = in_the_way(fields, path)
        {
            out.push(field::invalid(
                Path::new(&format!(".{}", path.join("."))),
                "",
                text,
            ));
        } else if let Some(path) = &self.selector
            && let Some(other) = at(fields, path).filter(|value| !value.is_string())
        {
            let spelled = format!(".{}", path.join("."));
            let text = format!(
                "{spelled} accessor error: {} is of the type {}, expected string",
                spell_go(other),
                go_type_of(other)
            );
            out.push(field::invalid(Path::new(&spelled), "", text));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_in_the_way_of_a_number_is_told() {
        let paths = ScalePaths::new(&CustomResourceSubresourceScale {
            spec_replicas_path: ".spec.replicas".to_owned(),
            status_replicas_path: ".status.size.now".to_owned(),
            label_selector_path: Some(".status.selector".to_owned()),
        });
        let told = |object: Value| -> Vec<String> {
            let found = paths.validate(object.as_object().unwrap(), true);
            found.iter().map(ToString::to_string).collect()
        };
        assert_eq!(told(json!({"spec": null, "status": {}})), [""; 0]);
        assert_eq!(
            told(json!({"spec": 5, "status": []})),
            [
                ".spec.replicas: Invalid value: 0: .spec.replicas accessor error: 5 is of the type int64, expected map[string]interface{}",
                ".status.size.now: Invalid value: 0: .status.size accessor error: [] is of the type []interface {}, expected map[string]interface{}",
                ".status.selector: Invalid value: \"\": .status.selector accessor error: [] is of the type []interface {}, expected map[string]interface{}",
            ]
        );
    }
}
