//! Subresources that are connections: logs, exec, attach, port-forward, proxies.

use http::{Request, Response};

use super::Call;
use crate::{
    Error, Result,
    admission::{Operation, more::SentOptions},
    http::Body,
    registry::{Managed, Row, Target, not_found},
};

pub(crate) async fn serve(call: Call, row: &Row, body: Body) -> Result<Response<Body>> {
    let Some(connecter) = call.server.connecter(row) else {
        return Err(Error::service_unavailable(
            "the server has no way to the nodes",
        ));
    };
    let target = Target {
        options: SentOptions::Connect(call.parts.uri.query()),
        ..super::objects::target(&call, row, false)
    };
    if call.info.subresource != "log" {
        let registry = &call.server.registry;
        let (operation, managed) = (Operation::Connect, Managed::default());
        registry
            .admit(&target, operation, None, None, managed)
            .await?;
        registry
            .validate(&target, operation, None, None, managed)
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
