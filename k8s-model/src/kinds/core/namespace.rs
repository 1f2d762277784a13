//! The rules of Namespaces.

use k8s_openapi::api::core::v1::{Namespace, NamespaceStatus};

use crate::{
    field::{self, ErrorList, Path},
    kinds::{
        checks::{fill, list, messages, text},
        typed::KindRules,
    },
    names,
};

/// Keeps a namespace until the namespace controller has emptied it.
const FINALIZER: &str = "kubernetes";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The rules of Namespaces.
pub(crate) struct NamespaceRules;

fn label_with_name(namespace: &mut Namespace) {
    if let Some(name) = namespace
        .metadata
        .name
        .clone()
        .filter(|name| !name.is_empty())
    {
        namespace
            .metadata
            .labels
            .get_or_insert_default()
            .insert(NAME_LABEL.to_owned(), name);
    }
}

impl KindRules for NamespaceRules {
    type Kind = Namespace;

    const SELECTABLE: &'static [&'static str] = &["status.phase"];

    fn default(&self, namespace: &mut Namespace) {
        label_with_name(namespace);
        fill(
            &mut namespace.status.get_or_insert_default().phase,
            "Active",
        );
    }

    fn prepare_for_create(&self, namespace: &mut Namespace) {
        label_with_name(namespace);
        namespace.status = Some(NamespaceStatus {
            phase: Some("Active".to_owned()),
            ..NamespaceStatus::default()
        });
        let finalizers = namespace
            .spec
            .get_or_insert_default()
            .finalizers
            .get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
    }

    fn validate(&self, namespace: &Namespace) -> ErrorList {
        finalizers(namespace, |path, _| path.clone())
    }

    fn prepare_for_update(&self, new: &mut Namespace, old: &Namespace) {
        new.spec.clone_from(&old.spec);
        new.status.clone_from(&old.status);
        label_with_name(new);
    }

    fn prepare_for_status_update(&self, new: &mut Namespace, old: &Namespace) {
        new.spec.clone_from(&old.spec);
    }

    fn validate_status_update(&self, new: &Namespace, _old: &Namespace) -> ErrorList {
        let path = Path::new("status").child("Phase");
        let phase = new.status.as_ref().map_or("", |status| text(&status.phase));
        let (wanted, when) = if new.metadata.deletion_timestamp.is_none() {
            ("Active", "empty")
        } else {
            ("Terminating", "not empty")
        };
        if phase == wanted {
            return ErrorList::new();
        }
        vec![field::invalid(
            path,
            phase,
            format!("may only be '{wanted}' if `deletionTimestamp` is {when}"),
        )]
    }

    fn prepare_for_subresource_update(
        &self,
        subresource: &str,
        new: &mut Namespace,
        old: &Namespace,
    ) {
        match subresource {
            "finalize" => new.status.clone_from(&old.status),
            _ => self.prepare_for_status_update(new, old),
        }
    }

    fn validate_subresource_update(
        &self,
        subresource: &str,
        new: &Namespace,
        old: &Namespace,
    ) -> ErrorList {
        match subresource {
            "finalize" => finalizers(new, Path::index),
            _ => self.validate_status_update(new, old),
        }
    }

    fn selectable(&self, namespace: &Namespace) -> Vec<String> {
        let phase = namespace
            .status
            .as_ref()
            .map_or("", |status| text(&status.phase));
        vec![phase.to_owned()]
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        names::dns_label(name, prefix)
    }
}

/// That finalizers have names that can be theirs; `place` says where one of them is.
fn finalizers(namespace: &Namespace, place: fn(&Path, usize) -> Path) -> ErrorList {
    let path = Path::new("spec").child("finalizers");
    let finalizers = namespace.spec.as_ref().map(|spec| list(&spec.finalizers));
    let mut errors = ErrorList::new();
    for (i, finalizer) in finalizers.unwrap_or_default().iter().enumerate() {
        let path = place(&path, i);
        errors.extend(messages(
            &path,
            finalizer.as_str(),
            names::qualified_name(finalizer),
        ));
        let standard = matches!(
            finalizer.as_str(),
            FINALIZER | "orphan" | "foregroundDeletion"
        );
        if !finalizer.contains('/') && !standard {
            errors.push(field::invalid(
                path,
                finalizer.as_str(),
                "name is neither a standard finalizer name nor is it fully qualified",
            ));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_namespace_is_active_labelled_and_held_by_its_finalizer() {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some("a".to_owned());
        NamespaceRules.default(&mut namespace);
        NamespaceRules.prepare_for_create(&mut namespace);
        assert_eq!(
            serde_json::to_value(&namespace).unwrap(),
            serde_json::json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}})
        );
    }

    #[test]
    fn finalizers_are_told_by_their_places_where_they_are_put() {
        let namespace: Namespace = serde_json::from_value(
            serde_json::json!({"spec": {"finalizers": ["kubernetes", "x"]}}),
        )
        .unwrap();
        let rules = NamespaceRules;
        let told = rules.validate_subresource_update("finalize", &namespace, &namespace);
        assert_eq!(told[0].field.to_string(), "spec.finalizers[1]");
        assert_eq!(
            rules.validate(&namespace)[0].field.to_string(),
            "spec.finalizers"
        );
    }
}
