//! The rules of VolumeAttachments.

use k8s_openapi::api::storage::v1::{VolumeAttachment, VolumeError};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{dns_subdomain, immutable, messages, text},
        declared::Declared,
        typed::KindRules,
    },
    metadata, names,
};

/// The rules of VolumeAttachments.
pub(crate) struct VolumeAttachmentRules;

/// How long a driver's name may be.
const LONGEST_NAME: usize = 63;
/// How long an error's text may be.
const LONGEST_ERROR: usize = 1024;
/// How large what a driver says of an attachment may be.
const LARGEST_METADATA: usize = 256 * 1024;

fn volume_error(error: &Option<VolumeError>, path: &Path) -> ErrorList {
    let long = error
        .as_ref()
        .is_some_and(|error| text(&error.message).len() > LONGEST_ERROR);
    if long {
        vec![field::too_long(path.child("message"), LONGEST_ERROR)]
    } else {
        ErrorList::new()
    }
}

fn status(attachment: &VolumeAttachment) -> ErrorList {
    let path = Path::new("status");
    let Some(status) = &attachment.status else {
        return ErrorList::new();
    };
    let mut errors = ErrorList::new();
    let size: usize = status
        .attachment_metadata
        .iter()
        .flatten()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if size > LARGEST_METADATA {
        let path = path.child("attachmentMetadata");
        errors.push(field::too_long(path, LARGEST_METADATA));
    }
    errors.extend(volume_error(
        &status.attach_error,
        &path.child("attachError"),
    ));
    errors.extend(volume_error(
        &status.detach_error,
        &path.child("detachError"),
    ));
    errors
}

impl KindRules for VolumeAttachmentRules {
    type Kind = VolumeAttachment;

    const METADATA: (usize, usize) = (1, 0);

    const UNCONDITIONAL_UPDATE: bool = false;

    fn prepare_for_create(&self, attachment: &mut VolumeAttachment) {
        attachment.status = Some(Default::default());
    }

    fn validate(&self, attachment: &VolumeAttachment) -> ErrorList {
        let path = Path::new("spec");
        let spec = &attachment.spec;
        let mut errors = ErrorList::new();
        let source = path.child("source");
        const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
        match (
            &spec.source.inline_volume_spec,
            &spec.source.persistent_volume_name,
        ) {
            (None, None) => errors.push(field::required(source, ONE)),
            (Some(_), Some(_)) => errors.push(field::forbidden(source, ONE)),
            (None, Some(name)) => {
                if name.is_empty() {
                    errors.push(field::required(
                        source.child("persistentVolumeName"),
                        "must specify non empty persistentVolumeName",
                    ));
                }
            }
            (Some(_), None) => {}
        }
        errors.extend(dns_subdomain(&spec.node_name, path.child("nodeName")));
        errors.extend(status(attachment));
        // What the first version did not ask for comes last.
        if let Some(name) = &spec.source.persistent_volume_name {
            let source = path.child("source").child("persistentVolumeName");
            errors.extend(dns_subdomain(name, source));
        }
        errors
    }

    fn prepare_for_update(&self, new: &mut VolumeAttachment, old: &VolumeAttachment) {
        new.status.clone_from(&old.status);
    }

    fn validate_update(&self, new: &VolumeAttachment, old: &VolumeAttachment) -> ErrorList {
        let mut errors = self.validate(new);
        errors.extend(immutable(&new.spec, &old.spec, Path::new("spec")));
        errors
    }

    fn declared(&self, new: &VolumeAttachment, old: Option<&VolumeAttachment>) -> ErrorList {
        let before = old.map(|old| &old.spec);
        let spec = Declared::of(&new.spec, before, Path::new("spec"));
        spec.immutable().then(|spec, path| {
            // It is new, or it would not stay as it is.
            let attacher = Declared::of(&spec.attacher, None, path.child("attacher"));
            attacher.required(String::is_empty).then(|name, path| {
                let wrong = names::dns_subdomain_of_any_case(name);
                let mut errors = messages(&path, name.as_str(), wrong);
                if name.chars().count() > LONGEST_NAME {
                    errors.push(field::too_many_characters(path, LONGEST_NAME));
                }
                errors
            })
        })
    }

    fn prepare_for_status_update(&self, new: &mut VolumeAttachment, old: &VolumeAttachment) {
        new.spec = old.spec.clone();
        metadata::reset_for_status(&mut new.metadata, &old.metadata);
    }

    fn validate_status_update(&self, new: &VolumeAttachment, _old: &VolumeAttachment) -> ErrorList {
        status(new)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn attachment(source: Value) -> VolumeAttachment {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {
            "attacher": "example.com", "nodeName": "n", "source": source,
        }}))
        .unwrap()
    }

    fn texts(errors: ErrorList) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_attachment_names_one_volume_and_keeps_it() {
        let rules = VolumeAttachmentRules;
        assert_eq!(
            texts(rules.validate(&attachment(json!({})))),
            [
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"
            ]
        );
        let (one, two) = (
            attachment(json!({"persistentVolumeName": "one"})),
            attachment(json!({"persistentVolumeName": "two"})),
        );
        assert!(rules.validate(&one).is_empty());
        let found = texts(rules.validate_update(&two, &one));
        assert!(found[0].ends_with("field is immutable"), "{found:?}");
    }

    #[test]
    fn what_is_said_of_an_attachment_is_bounded() {
        let mut long = attachment(json!({"persistentVolumeName": "one"}));
        let error = VolumeError {
            message: Some("x".repeat(1025)),
            ..Default::default()
        };
        long.status.get_or_insert_default().attach_error = Some(error);
        assert_eq!(
            texts(VolumeAttachmentRules.validate_status_update(&long, &long)),
            ["status.attachError.message: Too long: may not be more than 1024 bytes"]
        );
    }
}
