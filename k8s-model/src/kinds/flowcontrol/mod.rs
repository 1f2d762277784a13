//! The group `flowcontrol.apiserver.k8s.io`: FlowSchemas and PriorityLevelConfigurations.

mod levels;
mod mandatory;
mod schemas;

pub(crate) use self::{levels::PriorityLevelConfigurationRules, schemas::FlowSchemaRules};
use super::checks::repeats;
use crate::field::{self, ErrorList, Path};

/// The types of a status's conditions: each has one, and each another.
fn condition_types<'a>(types: impl Iterator<Item = Option<&'a String>>) -> ErrorList {
    let types: Vec<&str> = types.map(|sort| sort.map_or("", String::as_str)).collect();
    let path = Path::new("status").child("conditions");
    let repeats = repeats(&types);
    let mut errors = ErrorList::new();
    for (index, sort) in types.into_iter().enumerate() {
        let path = path.index(index).child("type");
        if repeats[index] {
            errors.push(field::duplicate(path.clone(), sort));
        }
        if sort.is_empty() {
            errors.push(field::required(path, "must not be empty"));
        }
    }
    errors
}
