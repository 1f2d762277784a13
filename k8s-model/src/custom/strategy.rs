//! What custom resources do on the way of an object: [`Strategy`] of [`Version`].

use std::collections::BTreeSet;

use serde_json::Value;

use super::{CustomObject, Version};
use crate::{
    Object, Strategy,
    apply::Shape,
    field::{self, ErrorList, ErrorType},
    names,
};

impl Strategy for Version {
    fn custom(&self) -> Option<&Version> {
        Some(self)
    }

    fn shape(&self) -> Option<Shape> {
        Some(self.shape.clone())
    }

    fn default(&self, object: &mut dyn Object) {
        let Some(object) = object.downcast_mut::<CustomObject>() else {
            return;
        };
        let mut value = Value::Object(std::mem::take(&mut object.fields));
        self.schema.default_value(&mut value);
        if let Value::Object(mut fields) = value {
            for head in ["apiVersion", "kind", "metadata"] {
                fields.remove(head);
            }
            object.fields = fields;
        }
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn spec_changed(&self, new: &dyn Object, old: &dyn Object) -> bool {
        match (
            new.downcast_ref::<CustomObject>(),
            old.downcast_ref::<CustomObject>(),
        ) {
            (Some(new), Some(old)) => new.fields != old.fields,
            _ => false,
        }
    }

    fn prepare_for_create(&self, object: &mut dyn Object) {
        if let Some(object) = object
            .downcast_mut::<CustomObject>()
            .filter(|_| self.status)
        {
            object.fields.remove("status");
            // As it will be read.
            self.default(object);
        }
    }

    fn validate(&self, object: &dyn Object) -> ErrorList {
        self.check(object, None, true, &mut Vec::new())
    }

    fn prepare_for_update(&self, new: &mut dyn Object, old: &dyn Object) {
        let (Some(new), Some(old)) = (
            new.downcast_mut::<CustomObject>().filter(|_| self.status),
            old.downcast_ref::<CustomObject>(),
        ) else {
            return;
        };
        match old.fields.get("status") {
            Some(status) => new.fields.insert("status".to_owned(), status.clone()),
            None => new.fields.remove("status"),
        };
    }

    fn validate_update(&self, new: &dyn Object, old: &dyn Object) -> ErrorList {
        self.check(new, Some(old), true, &mut Vec::new())
    }

    fn prepare_for_status_update(&self, new: &mut dyn Object, old: &dyn Object) {
        let (Some(new), Some(old)) = (
            new.downcast_mut::<CustomObject>(),
            old.downcast_ref::<CustomObject>(),
        ) else {
            return;
        };
        let status = new.fields.remove("status");
        let managed = new.metadata.managed_fields.take();
        let version = new.metadata.resource_version.take();
        *new = old.clone();
        new.metadata.managed_fields = managed;
        new.metadata.resource_version = version;
        match status {
            Some(status) => new.fields.insert("status".to_owned(), status),
            None => new.fields.remove("status"),
        };
    }

    fn validate_status_update(&self, new: &dyn Object, old: &dyn Object) -> ErrorList {
        self.check(new, Some(old), false, &mut Vec::new())
    }

    fn check_update(
        &self,
        subresource: &str,
        new: &dyn Object,
        old: &dyn Object,
        excused: &mut Vec<String>,
    ) -> ErrorList {
        self.check(new, Some(old), subresource.is_empty(), excused)
    }

    fn warnings(&self, object: &dyn Object) -> Vec<String> {
        finalizers(object, None)
    }

    fn update_warnings(&self, new: &dyn Object, old: &dyn Object) -> Vec<String> {
        finalizers(new, Some(old))
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn selectable_fields(&self, object: &dyn Object) -> Vec<(&'static str, String)> {
        if self.all_selectable.is_empty() {
            return Vec::new();
        }
        let value = object.to_value();
        self.all_selectable
            .iter()
            .map(|(name, path)| {
                let text = match path.first(&value) {
                    Some(Value::String(text)) => text.clone(),
                    None | Some(Value::Null) => String::new(),
                    Some(other) => other.to_string(),
                };
                (*name, text)
            })
            .collect()
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        self.selectable_names
    }

    fn has_selectable_fields(&self) -> bool {
        !self.all_selectable.is_empty()
    }
}

/// Advice on the names of finalizers that are new, as upstream's `validateKubeFinalizerName`.
fn finalizers(new: &dyn Object, old: Option<&dyn Object>) -> Vec<String> {
    const STANDARD: [&str; 3] = ["orphan", "foregroundDeletion", "kubernetes"];
    let of = |object: &dyn Object| -> BTreeSet<String> {
        let finalizers = object.metadata().finalizers.iter().flatten();
        finalizers.cloned().collect()
    };
    let known = old.map(of).unwrap_or_default();
    let mut out = Vec::new();
    for name in of(new).difference(&known) {
        let says = |text: &str| format!("metadata.finalizers: {name:?}: {text}");
        let texts = names::qualified_name(name);
        out.extend(texts.iter().map(|text| says(text)));
        if name.contains('/') || STANDARD.contains(&name.as_str()) {
            continue;
        }
        let path = if name.contains('.') {
            " including a path (/)"
        } else {
            ""
        };
        out.push(says(&format!(
            "prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other finalizer writers"
        )));
    }
    out
}

impl Version {
    /// What is wrong with an object, or with how it takes the place of another: as a whole, or with its status alone.
    fn check(
        &self,
        new: &dyn Object,
        old: Option<&dyn Object>,
        whole: bool,
        excused: &mut Vec<String>,
    ) -> ErrorList {
        let Some(object) = new.downcast_ref::<CustomObject>() else {
            return ErrorList::new();
        };
        let value = new.to_value();
        let before = old.map(|old| old.to_value());
        let mut out = match whole {
            true => self.schema.validate_change(&value, before.as_ref()),
            false => (self.schema).validate_field("status", &value, before.as_ref()),
        };
        if let Some(scale) = &self.scale {
            out.extend(scale.validate(&object.fields, whole));
        }
        if whole {
            out.extend(self.schema.validate_embedded(&value));
        }
        let repeated = self.schema.validate_lists(&value);
        let was_so = !repeated.is_empty()
            && before
                .as_ref()
                .is_some_and(|old| !self.schema.validate_lists(old).is_empty());
        if !was_so {
            out.extend(repeated);
        }
        if self.rules.is_empty() {
            return out;
        }
        // A rule may rely on types, required fields and bounds.
        let blocked = out.iter().any(|error| {
            matches!(
                error.kind,
                ErrorType::NotSupported
                    | ErrorType::Required
                    | ErrorType::TooLong
                    | ErrorType::TooMany
                    | ErrorType::TypeInvalid
            )
        });
        if blocked {
            let text = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            out.push(field::invalid(field::Path::default(), Value::Null, text));
        } else {
            let found = self.rules.check(&self.schema, &value, before.as_ref());
            out.extend(found.errors);
            excused.extend(found.excused.iter().map(ToString::to_string));
        }
        out
    }
}
