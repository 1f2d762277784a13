//! What jobs are refused for, and what they are not.

use serde_json::{Value, json};

use super::*;
use crate::{kinds::typed::Typed, strategy::Strategy};

fn job_with(spec: Value, status: Value) -> Job {
    let mut value = json!({"metadata": {"name": "a", "uid": "u"}, "spec": {
        "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x:1"}]}}}});
    json_patch::merge(&mut value, &json!({"spec": spec}));
    let mut job: Job = serde_json::from_value(value).unwrap();
    JobRules.default(&mut job);
    JobRules.prepare_for_create(&mut job);
    job.status = Some(serde_json::from_value(status).unwrap());
    job
}

fn job(spec: Value) -> Job {
    job_with(spec, json!({}))
}

fn texts(errors: ErrorList) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn found(spec: Value) -> Vec<String> {
    texts(JobRules.validate(&job(spec)))
}

#[test]
fn a_job_selects_its_pods_by_its_uid() {
    let job = job(json!({}));
    assert_eq!(texts(JobRules.validate(&job)), [""; 0]);
    let spec = job.spec.unwrap();
    assert_eq!(
        serde_json::to_value(&spec.selector).unwrap(),
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}})
    );
    assert_eq!((spec.completions, spec.backoff_limit), (Some(1), Some(6)));
    assert_eq!(spec.manual_selector, Some(false));
}

#[test]
fn labels_that_are_made_are_not_chosen() {
    let labelled = |labels: Value| json!({"template": {"metadata": {"labels": labels}}});
    assert_eq!(
        found(labelled(json!({"job-name": "b"})))[0]
            .split(": ")
            .next()
            .unwrap(),
        "spec.template.metadata.labels[job-name]"
    );
    // A job that came to be before there were such labels does not need them.
    let mut old = job(json!({}));
    let spec = old.spec.as_mut().unwrap();
    let labels = json!({"job-name": "a", "controller-uid": "u"});
    spec.template.metadata.as_mut().unwrap().labels = serde_json::from_value(labels).unwrap();
    spec.selector =
        serde_json::from_value(json!({"matchLabels": {"controller-uid": "u"}})).unwrap();
    assert_eq!(texts(JobRules.validate_update(&old, &old)), [""; 0]);
    assert_eq!(JobRules.validate(&old).len(), 2);
}

#[test]
fn a_selector_that_makes_no_sense_is_told_that_alone() {
    let with = |operator: &str| {
        found(json!({"selector": {"matchExpressions": [{"key": "a", "operator": operator}]}}))
    };
    assert_eq!(
        with("Foo"),
        [
            r#"spec.selector.matchExpressions[0].operator: Invalid value: "Foo": not a valid selector operator"#
        ]
    );
    assert!(with("Exists")[0].ends_with("`selector` not auto-generated"));
}

#[test]
fn a_job_does_not_restart_always() {
    assert_eq!(
        found(json!({"template": {"spec": {"restartPolicy": "Always"}}})),
        [
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""
        ]
    );
}

#[test]
fn what_a_job_asks_for_fits_together() {
    let policy = json!({"rules": [{"action": "Ignore", "onPodConditions": [{"type": "A"}]}]});
    let indexed = |patch: Value| {
        let mut spec = json!({"completionMode": "Indexed", "completions": 3});
        json_patch::merge(&mut spec, &patch);
        spec
    };
    let many = |patch: Value| {
        let mut spec = indexed(json!({"completions": 100_001, "backoffLimitPerIndex": 1}));
        json_patch::merge(&mut spec, &patch);
        spec
    };
    for fine in [
        json!({"podReplacementPolicy": "TerminatingOrFailed"}),
        json!({"podReplacementPolicy": "Failed", "podFailurePolicy": policy}),
        json!({"podFailurePolicy": policy}),
        json!({"managedBy": "example.com/a-b_c"}),
        indexed(json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 3})),
        indexed(json!({"successPolicy": {"rules": [{"succeededIndexes": "0-1"}]}})),
        many(json!({"maxFailedIndexes": 10_000, "parallelism": 10_000})),
    ] {
        assert_eq!(found(fine.clone()), [""; 0], "{fine}");
    }
    let above = "must be less than or equal to 10000 when completions are above 100000 and used with backoff limit per index";
    for (spec, told) in [
        (
            json!({"podReplacementPolicy": "Foo"}),
            r#"podReplacementPolicy: Unsupported value: "Foo": supported values: "Failed", "TerminatingOrFailed""#,
        ),
        (
            json!({"podReplacementPolicy": "TerminatingOrFailed", "podFailurePolicy": policy}),
            r#"podReplacementPolicy: Unsupported value: "TerminatingOrFailed": supported values: "Failed""#,
        ),
        (json!({"managedBy": ""}), "managedBy: Required value"),
        (
            json!({"managedBy": "kueue"}),
            r#"managedBy: Invalid value: "kueue": must be a domain-prefixed path (such as "acme.io/foo")"#,
        ),
        (
            json!({"managedBy": "example.com/a b"}),
            r#"managedBy: Invalid value: "a b": Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')"#,
        ),
        (
            json!({"managedBy": format!("example.com/{}", "a".repeat(52))}),
            "managedBy: Too long: may not be more than 63 bytes",
        ),
        (
            json!({"successPolicy": {"rules": []}}),
            r#"successPolicy: Invalid value: {"Rules":[]}: requires indexed completion mode"#,
        ),
        (
            indexed(json!({"successPolicy": {"rules": [{"succeededCount": 4}]}})),
            "successPolicy.rules[0].succeededCount: Invalid value: 4: must be less than or equal to 3 (the number of specified completions)",
        ),
        (
            json!({"backoffLimitPerIndex": 1}),
            "backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode",
        ),
        (
            indexed(json!({"maxFailedIndexes": 1})),
            "backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
        ),
        (
            indexed(json!({"backoffLimitPerIndex": 1, "maxFailedIndexes": 4})),
            "maxFailedIndexes: Invalid value: 4: must be less than or equal to completions",
        ),
        (
            many(json!({})),
            "maxFailedIndexes: Required value: must be specified when completions is above 100000",
        ),
        (
            many(json!({"maxFailedIndexes": 10_001})),
            &format!("maxFailedIndexes: Invalid value: 10001: {above}"),
        ),
        (
            many(json!({"maxFailedIndexes": 1, "parallelism": 10_001})),
            &format!("parallelism: Invalid value: 10001: {above}"),
        ),
    ] {
        assert_eq!(found(spec.clone()), [format!("spec.{told}")], "{spec}");
    }
    let found = found(many(json!({"maxFailedIndexes": 100_001})));
    assert_eq!(
        found[0],
        "spec.maxFailedIndexes: Invalid value: 100001: must be less than or equal to 100000"
    );
}

#[test]
fn what_is_wrong_with_the_spec_of_a_changed_job_is_told_twice() {
    let mut job = job(json!({"completionMode": "Indexed", "completions": 1, "parallelism": -1}));
    job.metadata.name = Some("a.b".to_owned());
    let errors = Typed(JobRules).validate_update(&job, &job);
    let fields: Vec<String> = errors.iter().map(|error| error.field.to_string()).collect();
    let of_labels = ["job-name", "batch.kubernetes.io/job-name"]
        .map(|label| format!("spec.template.metadata.labels[{label}]"));
    assert_eq!(fields[..2], of_labels);
    assert_eq!(
        fields[2..],
        ["spec.parallelism", "metadata.name", "spec.parallelism"]
    );
}

#[test]
fn a_template_may_go_on_with_what_is_forbidden_now() {
    let sysctls = json!([{"name": "net.ipv4.tcp_syncookies", "value": "1"}]);
    let job = job(json!({"template": {"spec": {
        "hostNetwork": true, "securityContext": {"sysctls": sysctls}}}}));
    assert_eq!(JobRules.validate(&job).len(), 1);
    assert_eq!(texts(JobRules.validate_update(&job, &job)), [""; 0]);
}

#[test]
fn the_template_is_immutable() {
    let old = job(json!({}));
    let new = job(json!({"template": {"spec": {"restartPolicy": "OnFailure"}}}));
    let errors = texts(JobRules.validate_update(&new, &old));
    assert!(
        errors[0].starts_with("spec.template: Invalid value: "),
        "{errors:?}"
    );
    assert!(errors[0].ends_with(": field is immutable"), "{errors:?}");
}

#[test]
fn policies_are_immutable_and_shown_as_upstream_shows_them() {
    let indexed = |patch: Value| {
        let mut spec = json!({"completionMode": "Indexed", "completions": 1});
        json_patch::merge(&mut spec, &patch);
        job(spec)
    };
    let failure = |rule: Value| json!({"podFailurePolicy": {"rules": [rule]}});
    let ignored = json!({"action": "Ignore", "onPodConditions": [{"type": "A", "status": "True"}]});
    let failed = json!({"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1, 2]}});
    let success = json!({"successPolicy": {"rules": [{"succeededCount": 1}]}});
    let shown = r#"{"Rules":[{"SucceededIndexes":null,"SucceededCount":1}]}"#;
    let none = json!({});
    for (new, old, told) in [
        (
            failure(ignored.clone()),
            failure(failed.clone()),
            r#"podFailurePolicy: Invalid value: {"Rules":[{"Action":"Ignore","OnExitCodes":null,"OnPodConditions":[{"Type":"A","Status":"True"}]}]}"#,
        ),
        (
            failure(failed),
            failure(ignored),
            r#"podFailurePolicy: Invalid value: {"Rules":[{"Action":"FailJob","OnExitCodes":{"ContainerName":null,"Operator":"In","Values":[1,2]},"OnPodConditions":null}]}"#,
        ),
        (
            success.clone(),
            none.clone(),
            &format!("successPolicy: Invalid value: {shown}"),
        ),
        (none, success, "successPolicy: Invalid value: null"),
    ] {
        assert_eq!(
            texts(JobRules.validate_update(&indexed(new), &indexed(old))),
            [format!("spec.{told}: field is immutable")]
        );
    }
    let codes = failure(json!({"action": "FailJob", "onExitCodes": {"operator": "In"}}));
    assert_eq!(
        found(codes),
        [
            "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: []: at least one value is required"
        ]
    );
}

#[test]
fn a_suspended_job_without_pods_may_run_elsewhere_and_ask_for_more() {
    let spec = |patch: Value| {
        let mut spec = json!({"suspend": true, "template": {"spec": {
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}}}});
        json_patch::merge(&mut spec, &json!({"template": patch}));
        spec
    };
    let container =
        |resources: Value| json!([{"name": "c", "image": "x:1", "resources": resources}]);
    let changes = [
        json!({"spec": {"nodeSelector": {"a": "b"}}}),
        json!({"spec": {"affinity": null}}),
        json!({"spec": {"containers": container(json!({"requests": {"cpu": "2"}}))}}),
        json!({"metadata": {"labels": {"a": "b"}}}),
        json!({"metadata": {"finalizers": ["example.com/a"]}}),
    ];
    let start = "2026-01-01T00:00:00Z";
    let suspended = json!([{"type": "Suspended", "status": "True"}]);
    for (status, may_change) in [
        (json!({}), true),
        (json!({"active": 1}), false),
        (json!({"startTime": start}), false),
        (json!({"startTime": start, "conditions": suspended}), true),
        (
            json!({"startTime": start, "conditions": suspended, "active": 1}),
            false,
        ),
    ] {
        let old = job_with(spec(json!({})), status.clone());
        for change in &changes {
            let errors = JobRules.validate_update(&job(spec(change.clone())), &old);
            assert_eq!(
                errors.is_empty(),
                may_change,
                "{status} {change}: {errors:?}"
            );
        }
    }
    let old = job(spec(json!({})));
    let other = json!({"spec": {"containers": [{"name": "c", "image": "y:1"}]}});
    let errors = texts(JobRules.validate_update(&job(spec(other)), &old));
    assert!(
        errors[0].starts_with("spec.template.spec: Invalid value: "),
        "{errors:?}"
    );
    assert!(errors[0].ends_with(": field is immutable"), "{errors:?}");
}

#[test]
fn an_indexed_job_is_scaled_by_both_numbers() {
    let indexed = |completions: i32, parallelism: i32| {
        job(
            json!({"completionMode": "Indexed", "completions": completions, "parallelism": parallelism}),
        )
    };
    let old = indexed(3, 3);
    assert_eq!(
        texts(JobRules.validate_update(&indexed(2, 2), &old)),
        [""; 0]
    );
    assert_eq!(
        texts(JobRules.validate_update(&indexed(3, 1), &old)),
        [""; 0]
    );
    assert_eq!(
        texts(JobRules.validate_update(&indexed(2, 3), &old)),
        [
            "spec.completions: Invalid value: 2: can only be modified in tandem with spec.parallelism"
        ]
    );
    assert_eq!(
        texts(JobRules.validate_update(&job(json!({"completions": 2})), &job(json!({})))),
        ["spec.completions: Invalid value: 2: field is immutable"]
    );
}

/// The findings about a new status, of a job with that spec.
fn said(spec: Value, old: Value, new: Value) -> Vec<String> {
    let (old, new) = (job_with(spec.clone(), old), job_with(spec, new));
    texts(JobRules.validate_status_update(&new, &old))
}

fn with(conditions: &[&str], rest: Value) -> Value {
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|condition| json!({"type": condition, "status": "True"}))
        .collect();
    let mut status = json!({"conditions": conditions});
    json_patch::merge(&mut status, &rest);
    status
}

const START: &str = "2026-01-01T00:00:00Z";
const END: &str = "2026-01-01T00:01:00Z";

fn complete(rest: Value) -> Value {
    let mut status = with(
        &["SuccessCriteriaMet", "Complete"],
        json!({"startTime": START, "completionTime": END, "succeeded": 1}),
    );
    json_patch::merge(&mut status, &rest);
    status
}

#[test]
fn a_status_comes_to_an_end_as_it_should() {
    let failed = with(&["FailureTarget", "Failed"], json!({"startTime": START}));
    for (old, new) in [
        (json!({"startTime": START}), complete(json!({}))),
        (json!({"startTime": START}), failed.clone()),
        (failed.clone(), failed),
        (
            json!({}),
            json!({"active": 2, "ready": 1, "startTime": START}),
        ),
        // What was wrong already is not what this is about.
        (
            json!({"active": 1, "ready": 2}),
            json!({"active": 1, "ready": 2, "succeeded": 1}),
        ),
        (
            with(&["Complete"], json!({})),
            with(&["Complete"], json!({"succeeded": 1})),
        ),
    ] {
        assert_eq!(
            said(json!({}), old.clone(), new.clone()),
            [""; 0],
            "{old} {new}"
        );
    }
}

#[test]
fn a_job_that_asks_for_nothing_may_end_before_it_begins() {
    let ended = complete(json!({"startTime": null, "succeeded": 0}));
    let said = |spec: Value| said(spec, json!({}), ended.clone());
    let told = ["status.startTime: Required value: startTime is required for finished job"];
    assert_eq!(said(json!({"suspend": true, "completions": 0})), [""; 0]);
    assert_eq!(said(json!({"suspend": true, "completions": 1})), told);
    assert_eq!(said(json!({"completions": 0})), told);
}

#[test]
fn a_job_that_failed_was_about_to() {
    let spec = json!({"completionMode": "Indexed", "completions": 1, "backoffLimitPerIndex": 1});
    let failed = |indexes: Value| {
        with(
            &["Failed"],
            json!({"startTime": START, "failedIndexes": indexes}),
        )
    };
    let told = "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition";
    let (old, new) = (failed(Value::Null), failed("0".into()));
    assert_eq!(said(spec.clone(), old.clone(), new), [told]);
    assert_eq!(said(spec.clone(), old.clone(), old.clone()), [""; 0]);
    let about_to = with(&["FailureTarget", "Failed"], json!({"startTime": START}));
    let disabled = "status.conditions: Invalid value: cannot disable the terminal FailureTarget=True condition";
    assert_eq!(said(spec, about_to, old), [disabled]);
}

#[test]
fn a_status_does_not_contradict_itself() {
    for (new, told) in [
        (
            complete(json!({"completionTime": null})),
            "completionTime: Required value: completionTime is required for Complete jobs",
        ),
        (
            json!({"completionTime": END}),
            r#"completionTime: Invalid value: "2026-01-01T00:01:00Z": cannot set completionTime when there is no Complete=True condition"#,
        ),
        (
            complete(json!({"startTime": "2026-01-02T00:00:00Z"})),
            r#"completionTime: Invalid value: "2026-01-01T00:01:00Z": must be equal to or after `startTime`"#,
        ),
        (
            complete(json!({"startTime": null})),
            "startTime: Required value: startTime is required for finished job",
        ),
        (
            with(&["Failed"], json!({"startTime": START})),
            "conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            with(
                &["Complete"],
                json!({"startTime": START, "completionTime": END}),
            ),
            "conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
        (
            with(&["SuccessCriteriaMet", "FailureTarget"], json!({})),
            "conditions: Invalid value: cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ),
        (
            complete(json!({"active": 1})),
            "active: Invalid value: 1: active>0 is invalid for finished job",
        ),
        (
            complete(json!({"terminating": 1})),
            "terminating: Invalid value: 1: terminating>0 is invalid for finished job",
        ),
        (
            complete(json!({"uncountedTerminatedPods": {"succeeded": ["a"]}})),
            r#"uncountedTerminatedPods: Invalid value: {"Succeeded":["a"],"Failed":null}: must be empty for finished job"#,
        ),
        (
            json!({"ready": 1}),
            "ready: Invalid value: 1: cannot set more ready pods than active",
        ),
        (
            json!({"uncountedTerminatedPods": {"succeeded": ["a"], "failed": ["a"]}}),
            r#"uncountedTerminatedPods.failed[0]: Duplicate value: "a""#,
        ),
        (
            json!({"completedIndexes": "0"}),
            r#"completedIndexes: Invalid value: "0": cannot set non-empty completedIndexes when non-indexed completion mode"#,
        ),
        (
            json!({"failedIndexes": ""}),
            r#"failedIndexes: Invalid value: "": cannot set non-null failedIndexes when backoffLimitPerIndex is null"#,
        ),
    ] {
        let told = format!("status.{told}");
        assert_eq!(said(json!({}), json!({}), new.clone()), [told], "{new}");
    }
    let both = with(
        &["FailureTarget", "Failed", "SuccessCriteriaMet", "Complete"],
        json!({"startTime": START, "completionTime": END}),
    );
    let rules = [
        "Complete=True and Failed=true",
        "Complete=True and FailureTarget=true",
        "SuccessCriteriaMet=True and Failed=true",
        "SuccessCriteriaMet=True and FailureTarget=true",
    ];
    assert_eq!(
        said(json!({}), json!({}), both),
        rules.map(|rule| format!("status.conditions: Invalid value: cannot set {rule} conditions"))
    );
}

#[test]
fn indexes_of_a_status_are_those_of_the_job() {
    let spec = json!({"completionMode": "Indexed", "completions": 5, "backoffLimitPerIndex": 1});
    let now = |new: Value| said(spec.clone(), json!({}), new);
    let fine = json!({"completedIndexes": "0,2-4", "failedIndexes": "1"});
    assert_eq!(now(fine), [""; 0]);
    for (new, told) in [
        (
            json!({"completedIndexes": "5"}),
            r#"completedIndexes: Invalid value: "5": error parsing completedIndexes: too large index: "5""#,
        ),
        (
            json!({"failedIndexes": "2,1"}),
            r#"failedIndexes: Invalid value: "2,1": error parsing failedIndexes: non-increasing order, previous: 2, current: 1"#,
        ),
        (
            json!({"completedIndexes": "0-2", "failedIndexes": "2-3"}),
            r#"failedIndexes: Invalid value: "2-3": failedIndexes and completedIndexes overlap at index: 2"#,
        ),
    ] {
        assert_eq!(now(new), [format!("status.{told}")]);
    }
    // They may have been of a job with more.
    let old = json!({"completedIndexes": "7"});
    assert_eq!(said(spec, old.clone(), old), [""; 0]);
}

#[test]
fn what_a_status_said_for_good_stays() {
    let spec = json!({"completions": 3});
    for (old, new, told) in [
        (
            with(&["FailureTarget"], json!({})),
            json!({}),
            "conditions: Invalid value: cannot disable the terminal FailureTarget=True condition",
        ),
        (
            with(&["SuccessCriteriaMet"], json!({})),
            json!({}),
            "conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
        ),
        (
            json!({"failed": 2}),
            json!({"failed": 1}),
            "failed: Invalid value: 1: cannot decrease the failed counter",
        ),
        (
            json!({"succeeded": 2}),
            json!({}),
            "succeeded: Invalid value: 0: cannot decrease the succeeded counter",
        ),
        (
            json!({"startTime": START}),
            json!({}),
            "startTime: Invalid value: null: field is immutable for unsuspended job once set",
        ),
        (
            with(&["Suspended"], json!({"startTime": START})),
            json!({"startTime": END}),
            r#"startTime: Invalid value: "2026-01-01T00:01:00Z": field is immutable for unsuspended job once set"#,
        ),
        (
            complete(json!({})),
            complete(json!({"completionTime": "2026-01-01T00:02:00Z"})),
            r#"completionTime: Invalid value: "2026-01-01T00:02:00Z": field is immutable"#,
        ),
        (
            with(&["Complete"], json!({})),
            with(
                &["Complete", "SuccessCriteriaMet"],
                json!({"startTime": null}),
            ),
            "conditions: Invalid value: cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
        ),
    ] {
        let told = format!("status.{told}");
        let found = said(spec.clone(), old.clone(), new.clone());
        assert_eq!(found, [told], "{old} {new}");
    }
    // Suspending a job forgets when it began, and scaling one down what it did.
    let start = json!({"startTime": START});
    assert_eq!(said(json!({"suspend": true}), start, json!({})), [""; 0]);
    let suspended = with(&["Suspended"], json!({"startTime": START}));
    let resumed =
        json!({"startTime": END, "conditions": [{"type": "Suspended", "status": "False"}]});
    assert_eq!(said(json!({}), suspended, resumed), [""; 0]);
    let scaled = json!({"completionMode": "Indexed", "completions": 3, "parallelism": 3});
    assert_eq!(
        said(scaled, json!({"succeeded": 3}), json!({"succeeded": 2})),
        [""; 0]
    );
    let policy = json!({"completionMode": "Indexed", "completions": 1,
        "successPolicy": {"rules": [{"succeededCount": 1}]}});
    let old = with(&["Complete"], json!({}));
    assert_eq!(
        said(policy, old.clone(), old),
        [
            "status.conditions: Invalid value: cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"
        ]
    );
}
