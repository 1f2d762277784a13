//! Subresources that are connections: logs, exec, attach, port-forward, proxies.

use http::{Request, Response};

use super::Call;
use crate::{
    Error, Result,
    admission::Operation,
    http::Body,
    registry::{Row, not_found},
};

pub(crate) async fn serve(call: Call, row: &Row, body: Body) -> Result<Response<Body>> {
    let Some(connecter) = call.server.connecter(row) else {
        return Err(Error::service_unavailable(
            "the server has no way to the nodes",
        ));
    };
    let target = super::objects::target(&call, row, false);
    if call.info.subresource != "log" {
        call.server
            .registry
            .admit(&target, Operation::Connect, None, None)
            .await?;
        call.server
            .registry
            .validate(&target, Operation::Connect, None, None)
            .await?;
    }
    // `http:name:port` names a scheme and a port beside the object; only the proxies take that.
    if call.info.subresource != "proxy" && call.server.registry.read(&target).await?.is_none() {
        return Err(not_found(&target));
    }
    let rest = call.info.parts.get(3..).unwrap_or_default().join("/");
    let (namespace, name) = (target.namespace.to_owned(), target.name.to_owned());
    let subresource = call.info.subresource.clone();
    let request = Request::from_parts(call.parts, body);
    let response = connecter
        .connect(&namespace, &name, &subresource, &rest, request)
        .await;
    Ok(response)
}
