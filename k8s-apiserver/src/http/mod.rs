//! HTTP around the registry: what a request asks for, and how the answer is written.

pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod deadline;
pub(crate) mod gzip;
pub(crate) mod info;
pub(crate) mod media_type;
pub(crate) mod negotiate;
pub(crate) mod options;
pub(crate) mod response;
pub(crate) mod trace;
mod unread;
pub(crate) mod uri;

pub use body::Body;
pub use info::RequestInfo;
