//! Events of the server's own loops.

use std::borrow::Cow;

use k8s_model::{Object, metadata};
use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};

use crate::registry::{Internal, Registry};

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Happening {
    pub(super) reason: Cow<'static, str>,
    /// What was being done; nothing for an event of the older form.
    pub(super) action: &'static str,
    pub(super) note: String,
}

/// Writes a warning about an object. One that cannot be written is logged, and that is all.
pub(super) async fn warn(
    registry: &Registry,
    component: &'static str,
    about: ObjectReference,
    happening: Happening,
) {
    let Happening {
        reason,
        action,
        note,
    } = happening;
    tracing::warn!(
        component,
        object.kind = about.kind,
        object.namespace = about.namespace,
        object.name = about.name,
        object.reason = &*reason,
        note,
        "a warning about an object"
    );
    let Some(row) = registry.stored_row("", "events") else {
        return;
    };
    let now = registry.now();
    // Events about what is in no namespace are in this one.
    let namespace = about.namespace.clone().filter(|n| !n.is_empty());
    let namespace = namespace.unwrap_or_else(|| "default".to_owned());
    let name = event_name(&about, registry.fork_random().u64(..));
    let is_old = action.is_empty();
    let text = |text: &str| Some(text.to_owned());
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: about,
        reason: text(&reason),
        message: Some(note),
        type_: text("Warning"),
        action: text(action).filter(|_| !is_old),
        event_time: (!is_old).then_some(MicroTime(now)),
        reporting_component: text(component),
        reporting_instance: text(component),
        source: is_old.then(|| EventSource {
            component: text(component),
            host: None,
        }),
        count: is_old.then_some(1),
        first_timestamp: is_old.then(|| metadata::to_second(now)),
        last_timestamp: is_old.then(|| metadata::to_second(now)),
        ..Event::default()
    };
    let mut event: Box<dyn Object> = Box::new(event);
    row.resource.strategy.default(&mut *event);
    let internal = Internal::new();
    let target = internal.target(&row, &namespace, &name);
    if let Err(error) = registry.create(&target, event).await {
        tracing::warn!(%error, component, "an event could not be written");
    }
}

/// A name that nobody else has, made of the object's.
fn event_name(about: &ObjectReference, random: u64) -> String {
    let name = about.name.as_deref().unwrap_or_default();
    // An IPv6 address is no name of an event.
    match name.contains(':') {
        true => format!("ip-{}.{random:016x}", name.replace(':', "-")),
        false => format!("{name}.{random:016x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_events_are_names() {
        for (name, expected) in [
            ("10.0.0.1", "10.0.0.1.00000000000000ff"),
            ("::1", "ip---1.00000000000000ff"),
        ] {
            let about = ObjectReference {
                name: Some(name.to_owned()),
                ..ObjectReference::default()
            };
            let name = event_name(&about, 255);
            assert_eq!(name, expected);
            assert!(k8s_model::names::dns_subdomain(&name, false).is_empty());
        }
    }
}
