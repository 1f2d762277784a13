//! [`KindStrategy`]: the rules of a resource whose objects are a Rust type of your own.

use std::{fmt, marker::PhantomData, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{Column, Conversion, CustomObject, Version, version::rows_with};
use crate::{
    AnyStrategy, Object, Resource, Strategy,
    apply::Shape,
    field::{self, ErrorList, Path},
    intern_all,
};

/// The rules of a resource whose objects are `K`, a type of your own.
///
/// It is asked on every write, after what the type's schema says: unknown fields are pruned, the
/// schema's defaults filled in, types, bounds and CEL rules checked. The machinery counts the
/// generation, keeps the status from writers of the spec and the spec from writers of the status.
/// What is left for you is what a schema cannot say. All methods have a default, so `impl
/// KindStrategy<Lamp> for Rules {}` is a kind without rules of its own.
///
/// # Guarantees an implementation must give
///
/// The methods are pure: no I/O, no clock, no chance. [`default`](Self::default) is idempotent: it
/// is called on objects that were defaulted before.
///
/// # Concurrency
///
/// Calls overlap, from many tasks.
///
/// # Errors
///
/// Findings become the causes of a `422 Invalid`, all of them in one answer. An object that fits the
/// schema and yet is no `K` is refused in the same way, and no rule is asked.
///
/// # Example
///
/// ```
/// use k8s_model::{custom::KindStrategy, field::{self, ErrorList, Path}};
/// # #[derive(serde::Serialize, serde::Deserialize)] struct Lamp { spec: LampSpec }
/// # #[derive(serde::Serialize, serde::Deserialize)] struct LampSpec { colour: String, watts: u32 }
///
/// struct LampRules;
///
/// impl KindStrategy<Lamp> for LampRules {
///     fn default(&self, lamp: &mut Lamp) {
///         if lamp.spec.colour.is_empty() {
///             lamp.spec.colour = "white".to_owned();
///         }
///     }
///
///     fn validate(&self, lamp: &Lamp) -> ErrorList {
///         let path = Path::new("spec").child("watts");
///         match lamp.spec.watts {
///             0 => vec![field::invalid(path, 0, "a lamp without power is dark")],
///             _ => Vec::new(),
///         }
///     }
/// }
/// ```
pub trait KindStrategy<K>: Send + Sync + 'static {
    /// Fills in what is unset and the schema has no default for.
    fn default(&self, _object: &mut K) {}

    /// Drops or sets what a client may not choose on create. The status is gone already, if the
    /// resource has that subresource.
    fn prepare_for_create(&self, _object: &mut K) {}

    /// Checks a new object.
    fn validate(&self, _object: &K) -> ErrorList {
        ErrorList::new()
    }

    /// Drops or sets what a client may not change on update. The status is the old one already, if the
    /// resource has that subresource.
    fn prepare_for_update(&self, _new: &mut K, _old: &K) {}

    /// Checks an update; by default as a new object.
    fn validate_update(&self, new: &K, _old: &K) -> ErrorList {
        self.validate(new)
    }

    /// For an update through `status`, where all but the status is the old one already.
    fn prepare_for_status_update(&self, _new: &mut K, _old: &K) {}

    /// Checks an update through `status`.
    fn validate_status_update(&self, _new: &K, _old: &K) -> ErrorList {
        ErrorList::new()
    }

    /// Advice for the client: each becomes a `Warning` header.
    fn warnings(&self, _object: &K) -> Vec<String> {
        Vec::new()
    }

    /// The values of the fields that a field selector may name besides those of the definition, in
    /// the order of [`selectable_field_names`](Self::selectable_field_names).
    fn selectable_fields(&self, _object: &K) -> Vec<String> {
        Vec::new()
    }

    /// Their names, as in `spec.colour`.
    fn selectable_field_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether an update to a name that does not exist creates it.
    fn allow_create_on_update(&self) -> bool {
        false
    }

    /// Whether an update without `metadata.resourceVersion` is taken as it is; for custom resources it
    /// is not.
    fn allow_unconditional_update(&self) -> bool {
        false
    }

    /// How a name is checked.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        crate::names::dns_subdomain(name, prefix)
    }
}

impl<K> KindStrategy<K> for crate::NoRules {}

/// What stands in a column for an object.
type Cell<K> = dyn Fn(&K, Timestamp) -> Value + Send + Sync;

/// A column that a function fills.
pub struct KindColumn<K> {
    /// Its heading, as in `Ready`.
    pub name: String,
    /// The type of its cells: `string`, `integer`, `number`, `boolean` or `date`.
    pub type_: String,
    /// What it shows.
    pub description: String,
    /// 0 is always shown; 1 only in wide output.
    pub priority: i32,
    /// A cell, and the time to which ages are counted.
    pub cell: Arc<Cell<K>>,
}

impl<K> fmt::Debug for KindColumn<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KindColumn")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The rows of a resource that is defined in a program: as [`rows`](super::rows) of the definition, with rules and
/// columns in terms of a Rust type, and this conversion between its versions. The definition itself is stored nowhere.
pub fn kind_rows<K>(
    definition: &CustomResourceDefinition,
    rules: Arc<dyn KindStrategy<K>>,
    columns: Vec<KindColumn<K>>,
    conversion: &Conversion,
) -> Vec<Resource>
where
    K: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let computed: Vec<Column> = columns
        .into_iter()
        .map(|column| {
            let cell = column.cell;
            let fill = move |object: &Value, now: Timestamp| {
                let object = serde_json::from_value::<K>(object.clone()).ok();
                object.map_or(Value::Null, |object| cell(&object, now))
            };
            Column::computed(
                (column.name, column.type_),
                (column.description, column.priority),
                Arc::new(fill),
            )
        })
        .collect();
    let make = |mut version: Version| {
        version.conversion = conversion.clone();
        let last = version.columns.iter().position(|c| c.name == "Age");
        let last = last.unwrap_or(version.columns.len());
        version.columns.splice(last..last, computed.iter().cloned());
        let own = rules.selectable_field_names();
        let names = intern_all(version.selectable_names.iter().chain(own).copied());
        let version = Arc::new(version);
        let strategy = OfKind {
            version: version.clone(),
            rules: rules.clone(),
            selectable_names: names,
            kind: PhantomData,
        };
        (version, AnyStrategy::Shared(Arc::new(strategy)))
    };
    rows_with(definition, &make)
}

/// The strategy of a version whose objects are also `K`s.
struct OfKind<K> {
    version: Arc<Version>,
    rules: Arc<dyn KindStrategy<K>>,
    selectable_names: &'static [&'static str],
    kind: PhantomData<fn() -> K>,
}

impl<K: Serialize + DeserializeOwned> OfKind<K> {
    fn read(object: &dyn Object) -> Option<K> {
        serde_json::from_value(object.to_value()).ok()
    }

    /// Lets a rule change an object. What it leaves alone stays as it was sent.
    fn change(&self, object: &mut dyn Object, rule: impl FnOnce(&mut K)) {
        let Some(mut kind) = Self::read(object) else {
            return; // Validation will say so.
        };
        let Ok(before) = serde_json::to_value(&kind) else {
            return;
        };
        rule(&mut kind);
        let Ok(Value::Object(mut after)) = serde_json::to_value(&kind) else {
            return;
        };
        let Some(object) = object.downcast_mut::<CustomObject>() else {
            return;
        };
        if before.as_object() == Some(&after) {
            return;
        }
        after.remove("apiVersion");
        after.remove("kind");
        let metadata = after.remove("metadata");
        if let Some(Ok(metadata)) = metadata.map(serde_json::from_value) {
            object.metadata = metadata;
        }
        drop_new_nulls(&mut after, Some(&object.fields));
        object.fields = after;
    }

    /// The schema's findings, or those of a rule if it has none.
    fn check(
        &self,
        found: ErrorList,
        object: &dyn Object,
        rule: impl FnOnce(&K) -> ErrorList,
    ) -> ErrorList {
        if !found.is_empty() {
            return found;
        }
        let value = object.to_value();
        match serde_json::from_value::<K>(value.clone()) {
            Ok(kind) => rule(&kind),
            Err(error) => {
                let path = crate::decode::fault_of::<K>(&value);
                let text = format!("does not fit {}: {error}", self.version.kind());
                let at = at(&value, &path).cloned().unwrap_or_default();
                vec![field::invalid(Path::new(&path), at, text)]
            }
        }
    }
}

/// An `Option` that is written as null is one that is not set, unless somebody sent a null.
pub(super) fn drop_new_nulls(after: &mut Map<String, Value>, before: Option<&Map<String, Value>>) {
    after.retain(|name, value| {
        let before = before.and_then(|before| before.get(name));
        match value {
            Value::Null => before.is_some_and(Value::is_null),
            Value::Object(fields) => {
                drop_new_nulls(fields, before.and_then(Value::as_object));
                true
            }
            Value::Array(elements) => {
                let before = before.and_then(Value::as_array);
                for (at, element) in elements.iter_mut().enumerate() {
                    if let Value::Object(fields) = element {
                        let before = before.and_then(|before| before.get(at)?.as_object());
                        drop_new_nulls(fields, before);
                    }
                }
                true
            }
            _ => true,
        }
    });
}

/// The value at a path such as `spec.list[0].field`, as far as it is spelled so.
fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    let mut pointer = String::new();
    for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
        pointer.push('/');
        pointer.push_str(part.trim_end_matches(']'));
    }
    value.pointer(&pointer)
}

impl<K: Serialize + DeserializeOwned + 'static> Strategy for OfKind<K> {
    fn custom(&self) -> Option<&Version> {
        Some(&self.version)
    }

    fn shape(&self) -> Option<Shape> {
        self.version.shape()
    }

    fn default(&self, object: &mut dyn Object) {
        self.version.default(object);
        self.change(object, |kind| self.rules.default(kind));
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn spec_changed(&self, new: &dyn Object, old: &dyn Object) -> bool {
        self.version.spec_changed(new, old)
    }

    fn prepare_for_create(&self, object: &mut dyn Object) {
        self.version.prepare_for_create(object);
        self.change(object, |kind| self.rules.prepare_for_create(kind));
    }

    fn validate(&self, object: &dyn Object) -> ErrorList {
        let found = self.version.validate(object);
        self.check(found, object, |kind| self.rules.validate(kind))
    }

    fn prepare_for_update(&self, new: &mut dyn Object, old: &dyn Object) {
        self.version.prepare_for_update(new, old);
        if let Some(old) = Self::read(old) {
            self.change(new, |new| self.rules.prepare_for_update(new, &old));
        }
    }

    fn validate_update(&self, new: &dyn Object, old: &dyn Object) -> ErrorList {
        self.check_update("", new, old, &mut Vec::new())
    }

    fn prepare_for_status_update(&self, new: &mut dyn Object, old: &dyn Object) {
        self.version.prepare_for_status_update(new, old);
        if let Some(old) = Self::read(old) {
            self.change(new, |new| self.rules.prepare_for_status_update(new, &old));
        }
    }

    fn validate_status_update(&self, new: &dyn Object, old: &dyn Object) -> ErrorList {
        self.check_update("status", new, old, &mut Vec::new())
    }

    fn check_update(
        &self,
        subresource: &str,
        new: &dyn Object,
        old: &dyn Object,
        excused: &mut Vec<String>,
    ) -> ErrorList {
        let found = self.version.check_update(subresource, new, old, excused);
        self.check(found, new, |new| match (Self::read(old), subresource) {
            (Some(old), "") => self.rules.validate_update(new, &old),
            (Some(old), _) => self.rules.validate_status_update(new, &old),
            // It was stored before the type became what it is.
            (None, "") => self.rules.validate(new),
            (None, _) => ErrorList::new(),
        })
    }

    fn warnings(&self, object: &dyn Object) -> Vec<String> {
        let mut out = self.version.warnings(object);
        if let Some(kind) = Self::read(object) {
            out.extend(self.rules.warnings(&kind));
        }
        out
    }

    fn update_warnings(&self, new: &dyn Object, old: &dyn Object) -> Vec<String> {
        let mut out = self.version.update_warnings(new, old);
        if let Some(kind) = Self::read(new) {
            out.extend(self.rules.warnings(&kind));
        }
        out
    }

    fn allow_create_on_update(&self) -> bool {
        self.rules.allow_create_on_update()
    }

    fn allow_unconditional_update(&self) -> bool {
        self.rules.allow_unconditional_update()
    }

    fn selectable_fields(&self, object: &dyn Object) -> Vec<(&'static str, String)> {
        let mut out = self.version.selectable_fields(object);
        let own = self.rules.selectable_field_names();
        if !own.is_empty()
            && let Some(kind) = Self::read(object)
        {
            out.extend(own.iter().copied().zip(self.rules.selectable_fields(&kind)));
        }
        out
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        self.selectable_names
    }

    fn has_selectable_fields(&self) -> bool {
        self.version.has_selectable_fields() || !self.selectable_names.is_empty()
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        self.rules.validate_name(name, prefix)
    }
}
