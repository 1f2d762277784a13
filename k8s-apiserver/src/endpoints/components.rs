//! `componentstatuses`: asked when somebody asks, and never stored.

use std::sync::Arc;

use futures::future::join_all;
use http::{Response, StatusCode};
use k8s_model::{Object, fields, labels};

use super::{Call, lists, render};
use crate::{
    Error, Result,
    components::Component,
    http::{Body, options::ListOptions},
    registry::Row,
};

/// `get` and `list`, which is all that there is.
pub(crate) async fn serve(call: &Call, row: &Arc<Row>) -> Result<Response<Body>> {
    let components = &call.server.components;
    if call.info.verb == "get" {
        let name = call.info.name.as_str();
        let found = components.iter().find(|(known, _)| known == name);
        let (_, component) = found.ok_or_else(|| Error::not_found("", "componentstatus", name))?;
        let status = component.health().await.status(name);
        return render::object(call, row, StatusCode::OK, &status);
    }
    let options = ListOptions::parse(call.parts.uri.query(), false)?;
    let labels: labels::Selector =
        (options.label_selector.parse()).map_err(|e| Error::bad_request(format!("{e}")))?;
    let fields: fields::Selector =
        (options.field_selector.parse()).map_err(|e| Error::bad_request(format!("{e}")))?;
    let selects = |name: &str| {
        labels.matches_with(|_| None)
            && fields.matches_with(|field| match field {
                "metadata.name" => Some(name),
                _ => Some(""),
            })
    };
    if let Some(other) = (fields.requirements().iter())
        .find(|r| !matches!(r.field.as_str(), "metadata.name" | "metadata.namespace"))
    {
        let field = &other.field;
        return Err(Error::bad_request(format!(
            "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
        )));
    }
    let asked = components.iter().map(|(name, component)| async move {
        let component: &dyn Component = &**component;
        component.health().await.status(name)
    });
    // Whom to ask is chosen first: nobody waits for those that are not wanted.
    let chosen = (components.iter().zip(asked)).filter(|((name, _), _)| selects(name));
    let statuses = join_all(chosen.map(|(_, asked)| asked)).await;
    let objects = statuses
        .into_iter()
        .map(|status| Box::new(status) as Box<dyn Object>);
    lists::of_objects(call, row, objects.collect())
}
