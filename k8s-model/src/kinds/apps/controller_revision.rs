//! The rules of ControllerRevisions.

use k8s_openapi::{api::apps::v1::ControllerRevision, apimachinery::pkg::runtime::RawExtension};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{immutable, non_negative, slot},
        typed::KindRules,
    },
};

/// The rules of ControllerRevisions.
pub(crate) struct ControllerRevisionRules;

impl KindRules for ControllerRevisionRules {
    type Kind = ControllerRevision;

    fn validate(&self, revision: &ControllerRevision) -> ErrorList {
        let mut errors = ErrorList::new();
        let data: Option<&RawExtension> = slot(&revision.data);
        if data.is_none_or(|data| data.0.is_null()) {
            errors.push(field::required(Path::new("data"), "data is mandatory"));
        }
        let number: Option<&i64> = slot(&revision.revision);
        errors.extend(non_negative(
            number.copied().unwrap_or_default(),
            Path::new("revision"),
        ));
        errors
    }

    fn validate_update(&self, new: &ControllerRevision, old: &ControllerRevision) -> ErrorList {
        let mut errors = self.validate(new);
        errors.extend(immutable(&new.data, &old.data, Path::new("data")));
        errors
    }
}
