//! [`Selection`]: which objects a list or watch is about.

use bytes::Bytes;
use k8s_model::{fields, labels};

use super::{Row, key, value::Corrupt};
use crate::{
    Error, Result,
    cache::{Entry, Field, Interest},
    http::options::ListOptions,
};

/// Which objects of a resource a list or watch is about.
#[derive(Debug)]
pub(crate) struct Selection {
    /// What their keys begin with; the whole key where `one` is set.
    pub(crate) prefix: Bytes,
    /// Whether `prefix` is the key of the only object it can be.
    pub(crate) one: bool,
    labels: labels::Selector,
    fields: fields::Selector,
}

impl Selection {
    pub(crate) fn new(row: &Row, namespace: &str, options: &ListOptions) -> Result<Self> {
        let labels: labels::Selector = options
            .label_selector
            .parse()
            .map_err(|e| Error::bad_request(format!("{e}")))?;
        let fields: fields::Selector = options
            .field_selector
            .parse()
            .map_err(|e| Error::bad_request(format!("{e}")))?;
        let fields = stored_fields(row, fields)?;
        let namespace = match fields.required_value("metadata.namespace") {
            Some(selected) if namespace.is_empty() && row.is_namespaced() => selected,
            _ => namespace,
        };
        let name = fields
            .required_value("metadata.name")
            .filter(|n| !n.is_empty());
        let (prefix, one) = match name {
            Some(name) if !row.is_namespaced() || !namespace.is_empty() => (
                key::object_key(&row.prefix, &row.resource, namespace, name),
                true,
            ),
            _ => (
                key::namespace_prefix(&row.prefix, &row.resource, namespace),
                false,
            ),
        };
        Ok(Selection {
            prefix,
            one,
            labels,
            fields,
        })
    }

    /// Which changes may concern it, as far as a look-up can tell.
    pub(crate) fn interest(&self, row: &Row) -> Interest {
        let field = (self.fields.requirements().iter())
            .find(|r| r.equals && !r.field.starts_with("metadata."));
        if self.one {
            Interest::One(self.prefix.clone())
        } else if let Some(field) = field {
            Interest::Field(Field {
                resource: row.storage.clone(),
                name: field.field.clone(),
                value: field.value.clone(),
            })
        } else if self.prefix.len() > row.prefix.len() {
            Interest::Below(self.prefix.clone())
        } else {
            Interest::All
        }
    }

    /// Whether it selects by more than the key.
    pub(crate) fn looks_inside(&self) -> bool {
        !self.labels.is_everything() || !self.fields.is_everything()
    }

    /// Whether it can select anything at all.
    pub(crate) fn is_nothing(&self) -> bool {
        self.labels.is_nothing()
    }

    pub(crate) fn matches_key(&self, key: &Bytes) -> bool {
        if self.one {
            *key == self.prefix
        } else {
            key.starts_with(&self.prefix)
        }
    }

    /// Whether an object whose key matches is selected.
    pub(crate) fn matches_inside(
        &self,
        row: &Row,
        entry: &Entry,
    ) -> std::result::Result<bool, Corrupt> {
        if !self.looks_inside() {
            return Ok(true);
        }
        let (namespace, name) = key::split(&row.prefix, &entry.key);
        let needs_index = !self.labels.is_everything()
            || self
                .fields
                .requirements()
                .iter()
                .any(|r| !r.field.starts_with("metadata."));
        if !needs_index {
            return Ok(self
                .fields
                .matches_with(|field| metadata_field(field, namespace, name)));
        }
        let index = entry.readable_index(&row.storage)?;
        Ok(self.labels.matches_with(|key| index.label(key))
            && self.fields.matches_with(|field| {
                metadata_field(field, namespace, name).or_else(|| index.field(field))
            }))
    }
}

/// The selector with the names that fields have in the stored version.
///
/// # Errors
/// 400 for a field that the resource cannot be selected by.
fn stored_fields(row: &Row, fields: fields::Selector) -> Result<fields::Selector> {
    let known = match row.custom() {
        Some(_) => row.resource.strategy.selectable_field_names(),
        None => row.storage.strategy.selectable_field_names(),
    };
    // Those that can be selected by nothing else have a namespace, though it may be none.
    let has_namespace = row.is_namespaced() || (row.custom().is_none() && known.is_empty());
    let is_known = |field: &str| {
        field == "metadata.name"
            || (field == "metadata.namespace" && has_namespace)
            || known.contains(&field)
    };
    let mut requirements = fields.requirements().to_vec();
    for requirement in &mut requirements {
        let field = requirement.field.clone();
        match k8s_model::convert::field_label(&field, &row.resource) {
            Some(stored) if is_known(&stored) => requirement.field = stored.into_owned(),
            _ if known.is_empty() && row.custom().is_none() => {
                return Err(Error::bad_request(format!(
                    "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                )));
            }
            _ => {
                return Err(Error::bad_request(match row.is("batch", "jobs") {
                    true => format!("field label {field:?} not supported for Job"),
                    false => format!("field label not supported: {field}"),
                }));
            }
        }
    }
    Ok(fields::Selector::new(requirements))
}

fn metadata_field<'a>(field: &str, namespace: &'a str, name: &'a str) -> Option<&'a str> {
    match field {
        "metadata.name" => Some(name),
        "metadata.namespace" => Some(namespace),
        _ => None,
    }
}
