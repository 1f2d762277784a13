//! What runs pods: the groups `apps` and `batch`, and ReplicationControllers.

use serde_json::Value;

use super::{
    column::{AGE, CONTAINERS, Column, IMAGES, NAME, SELECTOR, boolean, number, text as column},
    duration::human_duration,
    view::{View, labels, selector},
};

pub(super) const REPLICAS: &[Column] = &[
    NAME,
    number("Desired", "The number of pods that are wanted."),
    number("Current", "The number of pods that exist."),
    number("Ready", "The number of pods that are ready."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn replicas(view: &View, selected: String) -> Vec<Value> {
    let [names, images] = view.containers("spec.template.spec.containers");
    vec![
        view.name(),
        view.int("spec.replicas").into(),
        view.int("status.replicas").into(),
        view.int("status.readyReplicas").into(),
        view.age(),
        names,
        images,
        selected.into(),
    ]
}

pub(super) fn replica_set(view: &View) -> Vec<Value> {
    replicas(view, selector(view.get("spec.selector")))
}

pub(super) fn replication_controller(view: &View) -> Vec<Value> {
    replicas(view, labels(view.get("spec.selector")))
}

pub(super) const SCALE: &[Column] = &[
    // Upstream does not mark it as a name.
    Column { format: "", ..NAME },
    number("Desired", "The number of instances that are wanted."),
    number("Available", "The number of instances that exist."),
    AGE,
];

pub(super) fn scale(view: &View) -> Vec<Value> {
    vec![
        view.name(),
        view.int("spec.replicas").into(),
        view.int("status.replicas").into(),
        view.age(),
    ]
}

pub(super) const DEPLOYMENT: &[Column] = &[
    NAME,
    column("Ready", "Number of the pod with ready state"),
    column(
        "Up-to-date",
        "The number of pods that have the current template.",
    ),
    column(
        "Available",
        "The number of pods that have been ready for long enough.",
    ),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) fn deployment(view: &View) -> Vec<Value> {
    let [names, images] = view.containers("spec.template.spec.containers");
    let ready = view.int("status.readyReplicas");
    vec![
        view.name(),
        format!("{ready}/{}", view.int("spec.replicas")).into(),
        view.int("status.updatedReplicas").into(),
        view.int("status.availableReplicas").into(),
        view.age(),
        names,
        images,
        selector(view.get("spec.selector")).into(),
    ]
}

pub(super) const STATEFUL_SET: &[Column] = &[
    NAME,
    column("Ready", "Number of the pod with ready state"),
    AGE,
    CONTAINERS,
    IMAGES,
];

pub(super) fn stateful_set(view: &View) -> Vec<Value> {
    let [names, images] = view.containers("spec.template.spec.containers");
    let ready = view.int("status.readyReplicas");
    vec![
        view.name(),
        format!("{ready}/{}", view.int("spec.replicas")).into(),
        view.age(),
        names,
        images,
    ]
}

pub(super) const DAEMON_SET: &[Column] = &[
    NAME,
    number("Desired", "The number of nodes that should run the pod."),
    number(
        "Current",
        "The number of nodes that run the pod and should.",
    ),
    number("Ready", "The number of nodes where the pod is ready."),
    number(
        "Up-to-date",
        "The number of nodes that run the current template.",
    ),
    number(
        "Available",
        "The number of nodes where the pod has been ready for long enough.",
    ),
    column("Node Selector", "The labels of the nodes that run the pod."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) fn daemon_set(view: &View) -> Vec<Value> {
    let [names, images] = view.containers("spec.template.spec.containers");
    vec![
        view.name(),
        view.int("status.desiredNumberScheduled").into(),
        view.int("status.currentNumberScheduled").into(),
        view.int("status.numberReady").into(),
        view.int("status.updatedNumberScheduled").into(),
        view.int("status.numberAvailable").into(),
        labels(view.get("spec.template.spec.nodeSelector")).into(),
        view.age(),
        names,
        images,
        selector(view.get("spec.selector")).into(),
    ]
}

pub(super) const JOB: &[Column] = &[
    NAME,
    column("Status", "Status of the job."),
    column(
        "Completions",
        "The number of pods that have succeeded, of those wanted.",
    ),
    column("Duration", "Time required to complete the job."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) fn job(view: &View) -> Vec<Value> {
    let [names, images] = view.containers("spec.template.spec.containers");
    let succeeded = view.int("status.succeeded");
    let parallelism = view.int("spec.parallelism");
    let completions = match view.get("spec.completions").as_i64() {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    };
    let duration = view.time("status.startTime").map(|start| {
        let end = view.time("status.completionTime").unwrap_or(view.now);
        human_duration(end.duration_since(start))
    });
    vec![
        view.name(),
        job_status(view).into(),
        completions.into(),
        duration.unwrap_or_default().into(),
        view.age(),
        names,
        images,
        selector(view.get("spec.selector")).into(),
    ]
}

fn job_status(view: &View) -> &'static str {
    if view.has_condition("Complete") {
        "Complete"
    } else if view.has_condition("Failed") {
        "Failed"
    } else if view.is_deleted() {
        "Terminating"
    } else if view.has_condition("Suspended") {
        "Suspended"
    } else if view.has_condition("FailureTarget") {
        "FailureTarget"
    } else if view.has_condition("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

pub(super) const CRON_JOB: &[Column] = &[
    NAME,
    column("Schedule", "When jobs are made, in cron's notation."),
    column("Timezone", "The time zone of the schedule."),
    boolean("Suspend", "Whether no more jobs are made."),
    number("Active", "The number of jobs that run."),
    column("Last Schedule", "The time since the last job was made."),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

pub(super) fn cron_job(view: &View) -> Vec<Value> {
    let [names, images] = view.containers("spec.jobTemplate.spec.template.spec.containers");
    let suspend = match view.get("spec.suspend").as_bool() {
        Some(true) => "True",
        Some(false) => "False",
        None => "<unset>",
    };
    let last = match view.time("status.lastScheduleTime") {
        Some(_) => view.since("status.lastScheduleTime"),
        None => "<none>".to_owned(),
    };
    vec![
        view.name(),
        view.text("spec.schedule").into(),
        view.text_or("spec.timeZone", "<none>").into(),
        suspend.into(),
        view.len("status.active").into(),
        last.into(),
        view.age(),
        names,
        images,
        selector(view.get("spec.jobTemplate.spec.selector")).into(),
    ]
}

pub(super) const CONTROLLER_REVISION: &[Column] = &[
    NAME,
    column("Controller", "Controller of the object"),
    column("Revision", "The number of the state that it keeps."),
    AGE,
];

pub(super) fn controller_revision(view: &View) -> Vec<Value> {
    let owner = view
        .list("metadata.ownerReferences")
        .iter()
        .find(|owner| super::view::get(owner, "controller").as_bool() == Some(true));
    let controller = owner.map_or("<none>".to_owned(), |owner| {
        let kind = super::view::text(owner, "kind").to_lowercase();
        let name = super::view::text(owner, "name");
        match super::view::text(owner, "apiVersion").split_once('/') {
            Some((group, _)) => format!("{kind}.{group}/{name}"),
            None => format!("{kind}/{name}"),
        }
    });
    vec![
        view.name(),
        controller.into(),
        view.int("revision").into(),
        view.age(),
    ]
}

pub(super) const POD_TEMPLATE: &[Column] = &[
    NAME,
    column("Containers", "Names of each container in the template."),
    column(
        "Images",
        "Images referenced by each container in the template.",
    ),
    column("Pod Labels", "The labels for the pod template."),
];

pub(super) fn pod_template(view: &View) -> Vec<Value> {
    let [names, images] = view.containers("template.spec.containers");
    vec![
        view.name(),
        names,
        images,
        labels(view.get("template.metadata.labels")).into(),
    ]
}

pub(super) const HORIZONTAL_POD_AUTOSCALER: &[Column] = &[
    NAME,
    column("Reference", "What is scaled."),
    column("Targets", "Each metric as it is and as it should be."),
    column("MinPods", "The least number of pods."),
    column("MaxPods", "The greatest number of pods."),
    column("Replicas", "The number of pods."),
    AGE,
];

pub(super) fn horizontal_pod_autoscaler(view: &View) -> Vec<Value> {
    let target = format!(
        "{}/{}",
        view.text("spec.scaleTargetRef.kind"),
        view.text("spec.scaleTargetRef.name")
    );
    let least = match view.get("spec.minReplicas").as_i64() {
        Some(least) => least.to_string(),
        None => "<unset>".to_owned(),
    };
    vec![
        view.name(),
        target.into(),
        metrics(view).into(),
        least.into(),
        view.int("spec.maxReplicas").into(),
        view.int("status.currentReplicas").into(),
        view.age(),
    ]
}

fn metrics(view: &View) -> String {
    use super::view::{first_few, get, scalar, text};
    // Version 1 knows of the processor alone.
    if let Some(target) = view.get("spec.targetCPUUtilizationPercentage").as_i64() {
        return match view.get("status.currentCPUUtilizationPercentage").as_i64() {
            Some(current) => format!("cpu: {current}%/{target}%"),
            None => format!("cpu: <unknown>/{target}%"),
        };
    }
    let statuses = view.list("status.currentMetrics");
    let items: Vec<String> = view
        .list("spec.metrics")
        .iter()
        .enumerate()
        .map(|(index, spec)| {
            let (field, named) = match text(spec, "type") {
                "Resource" => ("resource", true),
                "ContainerResource" => ("containerResource", true),
                "Pods" => ("pods", false),
                "Object" => ("object", false),
                "External" => ("external", false),
                _ => return "<unknown type>".to_owned(),
            };
            let target = get(spec, &format!("{field}.target"));
            let status = statuses.get(index).unwrap_or(&Value::Null);
            let current = get(status, &format!("{field}.current"));
            let show = |value: &Value| match value {
                Value::Null => "<unknown>".to_owned(),
                value => scalar(value),
            };
            let (now, wanted) = if !get(target, "averageValue").is_null() {
                (
                    show(get(current, "averageValue")),
                    scalar(get(target, "averageValue")),
                )
            } else if named {
                let percent = |value: &Value, other: &str| match value.as_i64() {
                    Some(percent) => format!("{percent}%"),
                    None => other.to_owned(),
                };
                (
                    percent(get(current, "averageUtilization"), "<unknown>"),
                    percent(get(target, "averageUtilization"), "<auto>"),
                )
            } else {
                (show(get(current, "value")), scalar(get(target, "value")))
            };
            let average =
                matches!(field, "object" | "external") && !get(target, "averageValue").is_null();
            let name = text(spec, &format!("{field}.name"));
            let prefix = if named {
                format!("{name}: ")
            } else {
                String::new()
            };
            format!(
                "{prefix}{now}/{wanted}{}",
                if average { " (avg)" } else { "" }
            )
        })
        .collect();
    first_few(&items, 2, ", ", "<none>")
}

pub(super) const POD_DISRUPTION_BUDGET: &[Column] = &[
    NAME,
    column(
        "Min Available",
        "The minimum number of pods that must be available.",
    ),
    column(
        "Max Unavailable",
        "The maximum number of pods that may be unavailable.",
    ),
    number(
        "Allowed Disruptions",
        "Calculated number of pods that may be disrupted at this time.",
    ),
    AGE,
];

pub(super) fn pod_disruption_budget(view: &View) -> Vec<Value> {
    let bound = |path: &str| match view.get(path) {
        Value::Null => "N/A".to_owned(),
        value => super::view::scalar(value),
    };
    vec![
        view.name(),
        bound("spec.minAvailable").into(),
        bound("spec.maxUnavailable").into(),
        view.int("status.disruptionsAllowed").into(),
        view.age(),
    ]
}
