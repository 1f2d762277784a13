//! The conformance kit: one named test for each promise of the traits' documentation.
//!
//! A backend proves itself with a function that makes a fresh node and three macros, each of which
//! expands to one `#[tokio::test]` per promise:
//!
//! ```
//! use std::sync::Arc;
//!
//! use k8s_runtime::{sim::{SimOptions, SimRuntime}, testing::Fixture, ImageService};
//!
//! async fn fresh() -> Fixture {
//!     let runtime = SimRuntime::new(SimOptions::new("10.9.0.0/24".parse().unwrap())).unwrap();
//!     let images = runtime.images();
//!     let image = images.pull("busybox", None).await.unwrap();
//!     Fixture::new(Arc::new(runtime), images, image, std::env::temp_dir())
//! }
//!
//! // What every backend promises, also one that runs nothing.
//! k8s_runtime::runtime_conformance!(fresh());
//! k8s_runtime::image_conformance!(fresh());
//! // What a backend promises that runs processes:
//! // k8s_runtime::process_conformance!(fresh(), #[ignore = "needs root"]);
//! # fn main() {}
//! ```

mod busybox;
mod fixture;
#[doc(hidden)]
pub mod image;
mod macros;
#[doc(hidden)]
pub mod process;
#[doc(hidden)]
pub mod runtime;

pub use busybox::{busybox_archive, layout_archive};
pub use fixture::Fixture;
#[doc(hidden)]
pub use fixture::run;
