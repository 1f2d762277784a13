//! The group `scheduling.k8s.io`: PriorityClasses.

use k8s_openapi::api::scheduling::v1::PriorityClass;

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{fill_absent, immutable, one_of, slot, text},
        typed::KindRules,
    },
};

const SYSTEM: &str = "system-";
const HIGHEST_OF_USERS: i32 = 1_000_000_000;
const OF_THE_SYSTEM: &[(&str, i32)] = &[
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];

/// The rules of PriorityClasses.
pub(crate) struct PriorityClassRules;

fn value(class: &PriorityClass) -> i32 {
    let value: Option<&i32> = slot(&class.value);
    value.copied().unwrap_or_default()
}

impl KindRules for PriorityClassRules {
    type Kind = PriorityClass;

    const METADATA: (usize, usize) = (0, 1);

    const GENERATION: bool = true;

    fn default(&self, class: &mut PriorityClass) {
        fill_absent(&mut class.preemption_policy, "PreemptLowerPriority");
    }

    fn validate(&self, class: &PriorityClass) -> ErrorList {
        let mut errors = ErrorList::new();
        let name = text(&class.metadata.name);
        if name.starts_with(SYSTEM) {
            let problem = match OF_THE_SYSTEM.iter().find(|(known, _)| *known == name) {
                None => Some(format!("{name} is not a known system priority class")),
                Some((_, known)) if *known != value(class) => {
                    Some(format!("value of {name} PriorityClass must be {known}"))
                }
                Some(_) if class.global_default == Some(true) => Some(format!(
                    "globalDefault of {name} PriorityClass must be false"
                )),
                Some(_) => None,
            };
            if let Some(problem) = problem {
                errors.push(field::forbidden(
                    Path::new("metadata").child("name"),
                    format!(
                        "priority class names with '{SYSTEM}' prefix are reserved for system use only. error: {problem}"
                    ),
                ));
            }
        } else if value(class) > HIGHEST_OF_USERS {
            errors.push(field::forbidden(
                Path::new("value"),
                format!("maximum allowed value of a user defined priority is {HIGHEST_OF_USERS}"),
            ));
        }
        if let Some(policy) = &class.preemption_policy {
            errors.extend(one_of(
                policy,
                &["PreemptLowerPriority", "Never"],
                Path::new("preemptionPolicy"),
            ));
        }
        errors
    }

    fn validate_update(&self, new: &PriorityClass, old: &PriorityClass) -> ErrorList {
        let mut errors = ErrorList::new();
        if value(new) != value(old) {
            errors.push(field::forbidden(
                Path::new("value"),
                "may not be changed in an update.",
            ));
        }
        errors.extend(immutable(
            &new.preemption_policy,
            &old.preemption_policy,
            Path::new("preemptionPolicy"),
        ));
        errors
    }
}
