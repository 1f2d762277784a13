//! Endpoints: the older form of what EndpointSlices say, one object per Service.
//!
//! Mirrors upstream's `pkg/controller/endpoint`. [`subsets`] is the pure core; [`driver`] reads
//! informers and makes the requests.

pub(crate) mod driver;
mod subsets;
