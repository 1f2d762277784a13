//! Subresources that are connections: logs, exec, attach, port-forward, proxies.

use http::{Method, Request, Response};
use k8s_model::Subresource;

use super::Call;
use crate::{
    Error, Result,
    admission::{Operation, more::SentOptions},
    http::{Body, connection, uri},
    registry::{Managed, Row, Target, not_found},
};

pub(crate) async fn serve(
    mut call: Call,
    row: &Row,
    subresource: &Subresource,
    body: Body,
) -> Result<Response<Body>> {
    let info = &call.info;
    let is_proxy = subresource.name == "proxy";
    // Proxies pass on what no verb stands for, too.
    let passed_on = is_proxy && call.parts.method == Method::OPTIONS;
    if !passed_on && !subresource.verbs.contains(&info.verb.as_str()) {
        return Err(Error::method_not_allowed());
    }
    if subresource.name != "log" {
        let uri = admitted(&call, row, subresource).await?;
        call.parts.uri = uri;
        // A WebSocket begins with a GET: who may only read must not run anything (KEP-4006).
        if !is_proxy && call.info.verb != "create" {
            super::allow_create(&call, &call.info.name).await?;
        }
    }
    let target = super::objects::target(&call, row, false);
    // `http:name:port` names a scheme and a port beside the object; only the proxies take that.
    if !is_proxy && call.server.registry.read(&target).await?.is_none() {
        return Err(not_found(&target));
    }
    let Some(connecter) = call.server.connecter(row) else {
        return Err(Error::service_unavailable(
            "the server has no way to the nodes",
        ));
    };
    let rest = call.info.parts.get(3..).unwrap_or_default().join("/");
    let (namespace, name) = (target.namespace.to_owned(), target.name.to_owned());
    let request = Request::from_parts(call.parts, body);
    let response = connecter
        .connect(&namespace, &name, subresource.name, &rest, request)
        .await;
    Ok(response)
}

/// The URI of a connection as admission has it.
async fn admitted(call: &Call, row: &Row, subresource: &Subresource) -> Result<http::Uri> {
    let (original, kind) = (&call.parts.uri, subresource.kind);
    if uri::query_value(original.query(), "dryRun").is_some() {
        return Err(Error::bad_request("dryRun is not supported"));
    }
    let registry = &call.server.registry;
    let sent = connection::parse(kind, &call.info, original.query())?;
    let target = |options| Target {
        options: SentOptions::Connect(options),
        ..super::objects::target(call, row, false)
    };
    let (operation, managed) = (Operation::Connect, Managed::default());
    let changed = registry
        .admit(&target(&sent), operation, None, None, managed)
        .await?
        .connection;
    let options = changed.as_ref().unwrap_or(&sent);
    registry
        .validate(&target(options), operation, None, None, managed)
        .await?;
    connection::rewritten(kind, options, &call.info, original)
}
