//! Nodes, namespaces, events, leases, certificates, and other matters of the cluster.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    column::{AGE, Column, NAME, boolean, column as typed, number, text as column, wide},
    duration::human_duration,
    view::{View, get, scalar, text},
};

pub(super) const NODE: &[Column] = &[
    NAME,
    column("Status", "The status of the node"),
    column("Roles", "The roles of the node"),
    AGE,
    column("Version", "The version of the node's agent."),
    wide("Internal-IP", "The node's address inside the cluster."),
    wide("External-IP", "The node's address outside the cluster."),
    wide("OS-Image", "The node's operating system."),
    wide("Kernel-Version", "The node's kernel."),
    wide("Container-Runtime", "The node's container runtime."),
];

pub(super) fn node(view: &View) -> Vec<Value> {
    const ROLE: &str = "node-role.kubernetes.io/";
    let ready = view
        .list("status.conditions")
        .iter()
        .find(|condition| text(condition, "type") == "Ready");
    let mut status = match ready.map(|condition| text(condition, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if view.bool("spec.unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let roles: BTreeSet<String> = view
        .get("metadata")
        .get("labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix(ROLE) {
            Some(role) => Some(role.to_owned()),
            None if key == "kubernetes.io/role" => Some(scalar(value)),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    let roles = if roles.is_empty() {
        "<none>".to_owned()
    } else {
        roles.into_iter().collect::<Vec<_>>().join(",")
    };
    let address = |sort: &str| -> Value {
        let addresses = view.list("status.addresses");
        let found = addresses
            .iter()
            .find(|address| text(address, "type") == sort);
        found
            .map_or("<none>", |address| text(address, "address"))
            .into()
    };
    let info = |name: &str| {
        view.text_or(&format!("status.nodeInfo.{name}"), "<unknown>")
            .to_owned()
    };
    vec![
        view.name(),
        status.into(),
        roles.into(),
        view.age(),
        view.text("status.nodeInfo.kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        info("osImage").into(),
        info("kernelVersion").into(),
        info("containerRuntimeVersion").into(),
    ]
}

pub(super) const NAMESPACE: &[Column] =
    &[NAME, column("Status", "The status of the namespace"), AGE];

pub(super) fn namespace(view: &View) -> Vec<Value> {
    vec![view.name(), view.text("status.phase").into(), view.age()]
}

pub(super) const EVENT: &[Column] = &[
    column("Last Seen", "The time since the event was last seen."),
    column("Type", "Normal or Warning."),
    column("Reason", "Why it happened, in a word."),
    column("Object", "What it happened to."),
    wide("Subobject", "The part that it happened to."),
    wide("Source", "Who says so."),
    column("Message", "What happened."),
    wide("First Seen", "The time since the event was first seen."),
    wide("Count", "How often it was seen."),
    Column {
        priority: 1,
        ..NAME
    },
];

/// Events of either group: the newer one has other names for the same fields.
pub(super) fn event(view: &View) -> Vec<Value> {
    let either = |old: &'static str, new: &'static str| {
        if view.get(old).is_null() { new } else { old }
    };
    let time = |paths: &[&str]| {
        let path = paths.iter().find(|path| view.time(path).is_some());
        path.map_or("<unknown>".to_owned(), |path| view.since(path))
    };
    let first = time(&["firstTimestamp", "deprecatedFirstTimestamp", "eventTime"]);
    let mut last = time(&["lastTimestamp", "deprecatedLastTimestamp"]);
    if last == "<unknown>" {
        last.clone_from(&first);
    }
    let mut count = view.int(either("count", "deprecatedCount"));
    if !view.get("series").is_null() {
        last = view.since("series.lastObservedTime");
        count = view.int("series.count");
    } else if count == 0 {
        count = 1;
    }
    let object = view.get(either("involvedObject", "regarding"));
    let kind = text(object, "kind").to_lowercase();
    let target = match text(object, "name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let source = view.get(either("source", "deprecatedSource"));
    let component = match text(source, "component") {
        "" => view.text(either("reportingComponent", "reportingController")),
        component => component,
    };
    let instance = match text(source, "host") {
        "" => view.text("reportingInstance"),
        host => host,
    };
    let source = if instance.is_empty() {
        component.to_owned()
    } else {
        format!("{component}, {instance}")
    };
    vec![
        last.into(),
        view.text("type").into(),
        view.text("reason").into(),
        target.into(),
        text(object, "fieldPath").into(),
        source.into(),
        view.text(either("message", "note")).trim().into(),
        first.into(),
        count.into(),
        view.name(),
    ]
}

pub(super) const LEASE: &[Column] = &[NAME, column("Holder", "Who holds the lease."), AGE];

pub(super) fn lease(view: &View) -> Vec<Value> {
    vec![
        view.name(),
        view.text("spec.holderIdentity").into(),
        view.age(),
    ]
}

pub(super) const CERTIFICATE_SIGNING_REQUEST: &[Column] = &[
    NAME,
    AGE,
    column("SignerName", "Who is to sign."),
    column("Requestor", "Who asks."),
    column(
        "RequestedDuration",
        "For how long the certificate is to be valid.",
    ),
    column("Condition", "What has become of the request."),
];

pub(super) fn certificate_signing_request(view: &View) -> Vec<Value> {
    let has = |sort: &str| {
        let conditions = view.list("status.conditions");
        conditions
            .iter()
            .any(|condition| text(condition, "type") == sort)
    };
    let mut status = if has("Denied") {
        "Denied"
    } else if has("Approved") {
        "Approved"
    } else {
        "Pending"
    }
    .to_owned();
    if has("Failed") {
        status.push_str(",Failed");
    }
    if !view.text("status.certificate").is_empty() {
        status.push_str(",Issued");
    }
    let duration = match view.get("spec.expirationSeconds").as_i64() {
        Some(seconds) => human_duration(jiff::SignedDuration::from_secs(seconds)),
        None => "<none>".to_owned(),
    };
    vec![
        view.name(),
        view.age(),
        view.text_or("spec.signerName", "<none>").into(),
        view.text("spec.username").into(),
        duration.into(),
        status.into(),
    ]
}

pub(super) const PRIORITY_CLASS: &[Column] = &[
    NAME,
    number("Value", "The priority of its pods."),
    boolean(
        "Global-Default",
        "Whether pods that name no class are in it.",
    ),
    AGE,
    wide("PreemptionPolicy", "Whether its pods may displace others."),
];

pub(super) fn priority_class(view: &View) -> Vec<Value> {
    vec![
        view.name(),
        view.int("value").into(),
        view.bool("globalDefault").into(),
        view.age(),
        view.text_or("preemptionPolicy", "PreemptLowerPriority")
            .into(),
    ]
}

pub(super) const TRUST_BUNDLE: &[Column] = &[
    NAME,
    column("SignerName", "Whose certificates it helps to trust."),
];

pub(super) fn trust_bundle(view: &View) -> Vec<Value> {
    vec![
        view.name(),
        view.text_or("spec.signerName", "<none>").into(),
    ]
}

pub(super) const POD_CERTIFICATE_REQUEST: &[Column] = &[
    NAME,
    column("PodName", "The pod that asks."),
    column("ServiceAccountName", "The service account of the pod."),
    column("NodeName", "The node of the pod."),
    column("SignerName", "Who is to sign."),
    column("State", "What came of it."),
];

pub(super) fn pod_certificate_request(view: &View) -> Vec<Value> {
    let states = ["Denied", "Failed", "Issued"];
    let state = states.into_iter().find(|state| view.has_condition(state));
    let mut out = vec![view.name()];
    for path in [
        "spec.podName",
        "spec.serviceAccountName",
        "spec.nodeName",
        "spec.signerName",
    ] {
        out.push(view.text(path).into());
    }
    out.push(state.unwrap_or("Pending").into());
    out
}

pub(super) const RUNTIME_CLASS: &[Column] = &[
    NAME,
    column("Handler", "The configuration of the node's runtime."),
    AGE,
];

pub(super) fn runtime_class(view: &View) -> Vec<Value> {
    vec![view.name(), view.text("handler").into(), view.age()]
}

pub(super) const COMPONENT_STATUS: &[Column] = &[
    NAME,
    column("Status", "Status of the component conditions"),
    column("Message", "Message of the component conditions"),
    column("Error", "Error of the component conditions"),
];

pub(super) fn component_status(view: &View) -> Vec<Value> {
    let healthy = view
        .list("conditions")
        .iter()
        .find(|condition| text(condition, "type") == "Healthy");
    let of = |name: &str| healthy.map_or("", |condition| text(condition, name));
    let status = match of("status") {
        "True" => "Healthy",
        "" => "Unknown",
        _ => "Unhealthy",
    };
    vec![
        view.name(),
        status.into(),
        of("message").into(),
        of("error").into(),
    ]
}

pub(super) const WEBHOOKS: &[Column] = &[
    NAME,
    number(
        "Webhooks",
        "Webhooks indicates the number of webhooks registered in this configuration",
    ),
    AGE,
];

pub(super) fn webhooks(view: &View) -> Vec<Value> {
    vec![view.name(), view.len("webhooks").into(), view.age()]
}

pub(super) const ADMISSION_POLICY: &[Column] = &[
    NAME,
    number("Validations", "The number of the policy's rules."),
    column(
        "ParamKind",
        "The kind of the objects that parameterize the policy.",
    ),
    AGE,
];

pub(super) fn admission_policy(view: &View) -> Vec<Value> {
    let parameters = match view.text("spec.paramKind.kind") {
        "" => "<unset>".to_owned(),
        kind => format!("{}/{kind}", view.text("spec.paramKind.apiVersion")),
    };
    vec![
        view.name(),
        view.len("spec.validations").into(),
        parameters.into(),
        view.age(),
    ]
}

pub(super) const ADMISSION_POLICY_BINDING: &[Column] = &[
    NAME,
    column("PolicyName", "The policy that is bound."),
    column("ParamRef", "The object that parameterizes it."),
    AGE,
];

pub(super) fn admission_policy_binding(view: &View) -> Vec<Value> {
    let name = view.text("spec.paramRef.name");
    let parameters = if view.get("spec.paramRef").is_null() {
        "<unset>".to_owned()
    } else if name.is_empty() {
        "*".to_owned()
    } else {
        match view.text("spec.paramRef.namespace") {
            "" => name.to_owned(),
            namespace => format!("{namespace}/{name}"),
        }
    };
    vec![
        view.name(),
        view.text("spec.policyName").into(),
        parameters.into(),
        view.age(),
    ]
}

pub(super) const FLOW_SCHEMA: &[Column] = &[
    NAME,
    column("PriorityLevel", "The priority level of its requests."),
    column("MatchingPrecedence", "The lower, the sooner it is tried."),
    column("DistinguisherMethod", "What tells its flows apart."),
    AGE,
    column(
        "MissingPL",
        "references a broken or non-existent PriorityLevelConfiguration",
    ),
];

pub(super) fn flow_schema(view: &View) -> Vec<Value> {
    let dangling = view
        .list("status.conditions")
        .iter()
        .find(|condition| text(condition, "type") == "Dangling");
    vec![
        view.name(),
        view.text("spec.priorityLevelConfiguration.name").into(),
        view.int("spec.matchingPrecedence").into(),
        view.text_or("spec.distinguisherMethod.type", "<none>")
            .into(),
        view.age(),
        dangling
            .map_or("?", |condition| text(condition, "status"))
            .into(),
    ]
}

pub(super) const PRIORITY_LEVEL: &[Column] = &[
    NAME,
    column("Type", "Whether its requests are limited."),
    column(
        "NominalConcurrencyShares",
        "Its share of the server's concurrency.",
    ),
    column("Queues", "The number of its queues."),
    column("HandSize", "How many queues a flow may use."),
    column("QueueLengthLimit", "How long a queue may be."),
    AGE,
];

pub(super) fn priority_level(view: &View) -> Vec<Value> {
    let limited = view.get("spec.limited");
    let or_none = |path: &str| match get(limited, path) {
        Value::Null => "<none>".into(),
        value => value.clone(),
    };
    vec![
        view.name(),
        view.text("spec.type").into(),
        or_none("nominalConcurrencyShares"),
        or_none("limitResponse.queuing.queues"),
        or_none("limitResponse.queuing.handSize"),
        or_none("limitResponse.queuing.queueLengthLimit"),
        view.age(),
    ]
}

/// What a kind without columns of its own shows.
pub(super) const OTHER: &[Column] = &[
    NAME,
    typed("Created At", "date", "When the object was created."),
];

pub(super) fn other(view: &View) -> Vec<Value> {
    vec![view.name(), view.text("metadata.creationTimestamp").into()]
}
