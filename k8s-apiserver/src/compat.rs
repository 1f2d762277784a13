//! Fields that are optional in one API level and required in another: code for both ends of
//! k8s-openapi's range goes through these.

/// A value for a field that may be a `T` or an `Option<T>`.
pub(crate) fn field<T, F: From<T>>(value: T) -> F {
    value.into()
}

/// What is in a field that may be a `T` or an `Option<T>`.
pub(crate) fn value<T: Default>(field: impl Into<Option<T>>) -> T {
    field.into().unwrap_or_default()
}

/// A field that may be a `T` or an `Option<T>`, as an option.
pub(crate) fn get<'a, T: 'a>(field: impl Into<Option<&'a T>>) -> Option<&'a T> {
    field.into()
}
