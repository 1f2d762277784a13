//! Fields that are optional in one API level and required in another.
//!
//! k8s-openapi took over upstream's changed markers with 1.37: `spec` of the workload kinds lost
//! its `Option`, their conditions' `type` and `status` gained one. These helpers read and write
//! both forms, so that the crate builds at every level that k8s-openapi supports.

/// A field as an `Option`, whichever it is.
pub(crate) fn get<'a, T: 'a>(field: impl Into<Option<&'a T>>) -> Option<&'a T> {
    field.into()
}

/// A string field, whichever it is; empty when unset.
pub(crate) fn text<'a>(field: impl Into<Option<&'a String>>) -> &'a str {
    field.into().map_or("", String::as_str)
}

/// A field to change, whichever it is; nothing when unset.
pub(crate) fn get_mut<'a, T: 'a>(field: impl Into<Option<&'a mut T>>) -> Option<&'a mut T> {
    field.into()
}

/// A value in the form that the field has.
pub(crate) fn set<T, F: From<T>>(value: T) -> F {
    F::from(value)
}
