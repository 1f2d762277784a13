//! [`Selectors`]: what narrows a request for many objects (KEP-4601).

use k8s_model::{
    fields,
    labels::{self, Operator},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::http::RequestInfo;

/// The selectors of a `list`, `watch` or `deletecollection`, as far as they can be read: an authorizer may allow of a
/// selection what it does not allow of all. All requirements must be met, so each that is left out asks for more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selectors {
    fields: Vec<fields::Requirement>,
    labels: Vec<labels::Requirement>,
    fields_fault: bool,
    labels_fault: bool,
}

/// One part of a review's `fieldSelector` or `labelSelector`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ReviewRequirement {
    pub(crate) key: String,
    pub(crate) operator: String,
    pub(crate) values: Vec<String>,
}

impl Selectors {
    /// Reads a field selector and a label selector as queries have them; empty ones are none. What cannot be read is
    /// left out.
    pub fn parse(field: &str, label: &str) -> Self {
        let mut out = Selectors::default();
        out.read_fields(field);
        out.read_labels(label);
        out
    }

    /// Those of a request; `None` if it has none.
    pub(crate) fn of(info: &RequestInfo) -> Option<Self> {
        let narrowed = !info.field_selector.is_empty() || !info.label_selector.is_empty();
        narrowed.then(|| Selectors::parse(&info.field_selector, &info.label_selector))
    }

    /// Whether nothing was left out.
    pub(crate) fn is_whole(&self) -> bool {
        !self.fields_fault && !self.labels_fault
    }

    /// Whether there is nothing in them.
    pub fn is_empty(&self) -> bool {
        self == &Selectors::default()
    }

    /// How much text is in them, in bytes.
    pub(super) fn length(&self) -> usize {
        let fields = self.fields.iter().map(|r| r.field.len() + r.value.len());
        let labels = self.labels.iter().map(|r| {
            let values = r.values().iter().map(String::len);
            r.key().len() + values.sum::<usize>()
        });
        fields.chain(labels).sum()
    }

    /// The requirements of fields.
    pub fn fields(&self) -> &[fields::Requirement] {
        &self.fields
    }

    /// The requirements of labels.
    pub fn labels(&self) -> &[labels::Requirement] {
        &self.labels
    }

    /// Whether all objects that are selected have that value in that field.
    pub fn demand(&self, field: &str, value: &str) -> bool {
        let mut fields = self.fields.iter();
        fields.any(|r| r.equals && r.field == field && r.value == value)
    }

    pub(crate) fn read_fields(&mut self, text: &str) {
        match text.parse::<fields::Selector>() {
            Ok(selector) => self.fields = selector.requirements().to_vec(),
            Err(_) => self.fields_fault = true,
        }
    }

    pub(crate) fn read_labels(&mut self, text: &str) {
        match text.parse::<labels::Selector>() {
            Ok(selector) => self.labels = selector.requirements().to_vec(),
            Err(_) => self.labels_fault = true,
        }
    }

    /// Takes a review's requirements of fields; those that make no sense are left out.
    pub(crate) fn take_fields(&mut self, requirements: Vec<ReviewRequirement>) {
        self.fields.clear();
        self.fields_fault = false;
        for mut requirement in requirements {
            let equals = match requirement.operator.as_str() {
                "In" => true,
                "NotIn" => false,
                _ => {
                    self.fields_fault = true;
                    continue;
                }
            };
            match (requirement.values.pop(), requirement.values.is_empty()) {
                (Some(value), true) => self.fields.push(fields::Requirement {
                    field: requirement.key,
                    equals,
                    value,
                }),
                _ => self.fields_fault = true,
            }
        }
    }

    /// Takes a review's requirements of labels; those that make no sense are left out.
    pub(crate) fn take_labels(&mut self, requirements: Vec<ReviewRequirement>) {
        self.labels.clear();
        self.labels_fault = false;
        for requirement in requirements {
            let operator = match requirement.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                _ => {
                    self.labels_fault = true;
                    continue;
                }
            };
            let made = labels::Requirement::try_new(requirement.key, operator, requirement.values);
            match made {
                Ok(made) => self.labels.push(made),
                Err(_) => self.labels_fault = true,
            }
        }
    }

    /// What a review says of selectors that could not be read whole.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut out = Vec::new();
        for (name, fault, some) in [
            ("fieldSelector", self.fields_fault, !self.fields.is_empty()),
            ("labelSelector", self.labels_fault, !self.labels.is_empty()),
        ] {
            if fault {
                let partially = if some { "partially " } else { "" };
                out.push(format!(
                    "spec.resourceAttributes.{name} {partially}ignored due to parse error"
                ));
            }
        }
        out
    }

    /// Puts them into the `resourceAttributes` of a review, as requirements.
    pub(super) fn describe(&self, attributes: &mut Map<String, Value>) {
        let fields = self.fields.iter().map(|requirement| {
            let operator = if requirement.equals { "In" } else { "NotIn" };
            json!({"key": requirement.field, "operator": operator, "values": [requirement.value]})
        });
        let labels = self.labels.iter().filter_map(|requirement| {
            let operator = match requirement.operator() {
                Operator::In | Operator::Equals | Operator::DoubleEquals => "In",
                Operator::NotIn | Operator::NotEquals => "NotIn",
                Operator::Exists => "Exists",
                Operator::DoesNotExist => "DoesNotExist",
                Operator::GreaterThan | Operator::LessThan => return None,
            };
            let mut out = json!({"key": requirement.key(), "operator": operator});
            if !requirement.values().is_empty() {
                out["values"] = json!(requirement.values());
            }
            Some(out)
        });
        for (name, all) in [
            ("fieldSelector", fields.collect::<Vec<_>>()),
            ("labelSelector", labels.collect()),
        ] {
            if !all.is_empty() {
                attributes.insert(name.to_owned(), json!({"requirements": all}));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requirement(key: &str, operator: &str, values: &[&str]) -> ReviewRequirement {
        ReviewRequirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: values.iter().map(|v| (*v).to_owned()).collect(),
        }
    }

    #[test]
    fn selectors_become_the_requirements_of_a_review() {
        let selectors =
            Selectors::parse("spec.nodeName=a,status.phase!=Failed", "app in (x,y),!old");
        assert!(selectors.demand("spec.nodeName", "a"));
        assert!(!selectors.demand("status.phase", "Failed"));
        let mut attributes = Map::new();
        selectors.describe(&mut attributes);
        assert_eq!(
            Value::Object(attributes),
            json!({
                "fieldSelector": {"requirements": [
                    {"key": "spec.nodeName", "operator": "In", "values": ["a"]},
                    {"key": "status.phase", "operator": "NotIn", "values": ["Failed"]},
                ]},
                "labelSelector": {"requirements": [
                    {"key": "app", "operator": "In", "values": ["x", "y"]},
                    {"key": "old", "operator": "DoesNotExist"},
                ]},
            })
        );
    }

    #[test]
    fn what_cannot_be_read_narrows_nothing() {
        let selectors = Selectors::parse("spec.nodeName", "a in (");
        let mut attributes = Map::new();
        selectors.describe(&mut attributes);
        assert!(attributes.is_empty());
        assert_eq!(
            selectors.faults(),
            [
                "spec.resourceAttributes.fieldSelector ignored due to parse error",
                "spec.resourceAttributes.labelSelector ignored due to parse error",
            ]
        );
        let mut selectors = Selectors::default();
        selectors.take_fields(vec![
            requirement("a", "In", &["1"]),
            requirement("b", "In", &["1", "2"]),
            requirement("c", "Exists", &[]),
        ]);
        selectors.take_labels(vec![requirement("a", "Near", &["1"])]);
        assert!(selectors.demand("a", "1") && selectors.fields().len() == 1);
        assert_eq!(
            selectors.faults(),
            [
                "spec.resourceAttributes.fieldSelector partially ignored due to parse error",
                "spec.resourceAttributes.labelSelector ignored due to parse error",
            ]
        );
    }
}
