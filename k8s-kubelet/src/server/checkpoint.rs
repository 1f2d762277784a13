//! `/checkpoint`: a running container's state into a file (KEP-2008). No runtime here can do that, which is said in
//! the words that runtimes behind CRI have for it; clients recognise them.

use http::{Response, StatusCode};
use k8s_runtime::ContainerState;

use super::{answer::Refusal, query::Query, service::Body};
use crate::context::Context;

const UNSUPPORTED: &str = "rpc error: code = Unimplemented desc = unknown method CheckpointContainer for service runtime.v1.RuntimeService";

/// Looks the container up as if it were to be saved, and says why it is not.
pub(super) async fn answer(
    cx: &Context,
    (namespace, pod, container): (&str, &str, &str),
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let Some(known) = cx.known(namespace, pod) else {
        return Err(Refusal::not_found("pod does not exist"));
    };
    if known.view.find(container).is_none() {
        let message = format!("container {container} does not exist");
        return Err(Refusal::not_found(message));
    }
    if let Some(timeout) = query.all("timeout").last()
        && timeout.parse::<i64>().is_err()
    {
        return Err(Refusal::not_found(
            "cannot parse value of timeout parameter",
        ));
    }
    let failed = |why: &str| {
        let message = format!("checkpointing of {namespace}/{pod}/{container} failed ({why})");
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    };
    let containers = cx.runtime.containers().await;
    let containers = containers.map_err(|error| failed(&error.to_string()))?;
    let runs = containers.iter().any(|c| {
        c.state == ContainerState::Running
            && c.config.name == container
            && known.sandbox.as_ref() == Some(&c.sandbox)
    });
    Err(failed(&match runs {
        true => UNSUPPORTED.to_owned(),
        false => format!("container {container} not found"),
    }))
}
