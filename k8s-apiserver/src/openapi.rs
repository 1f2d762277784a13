//! `/openapi/v3`: the schemas of all served resources.

use http::Response;

use crate::{
    Result,
    endpoints::Call,
    http::{Body, response},
};

/// The documents, made when first asked for.
#[derive(Debug, Default)]
pub(crate) struct Documents {}

pub(crate) fn serve(_call: &Call, _path: &str) -> Result<Response<Body>> {
    Ok(response::page_not_found())
}
