//! The Kubernetes REST front end as a tower::Service.
