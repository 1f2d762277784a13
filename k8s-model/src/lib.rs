//! The Kubernetes object model: types, metadata rules, quantities, selectors, patches, defaulting, validation, the table of resources.
