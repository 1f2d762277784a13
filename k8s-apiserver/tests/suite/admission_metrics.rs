//! What `/metrics` and the audit log say of webhooks and policies.

use k8s_apiserver::{ApiServer, audit::Policy};
use serde_json::{Value, json};

use crate::{
    audit::Kept,
    common::{
        get,
        hooks::{Cluster, MUTATING, VALIDATING, Webhook, allow, config_map, deny, patch, rule},
    },
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn page(cluster: &Cluster) -> String {
    let (_, page) = get(&cluster.server, "/metrics").await;
    page.as_str().unwrap().to_owned()
}

/// What the sample of that name has whose labels are all of these.
fn sample(page: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let mut lines = page.lines().filter(|line| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('{'))
    });
    let line = lines.find(|line| labels.iter().all(|label| line.contains(label)))?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[tokio::test]
async fn calls_of_webhooks_are_counted_by_how_they_end() {
    let hook = Webhook::admission(|path, request| {
        let named = |name: &str| request["object"]["metadata"]["name"] == name;
        Some(match path {
            "/add" if named("changed") => {
                patch(json!([{"op": "add", "path": "/data/added", "value": "yes"}]))
            }
            "/judge" if named("refused") => {
                let mut refusal = deny("no");
                refusal["status"]["code"] = json!(418);
                refusal
            }
            "/broken" => json!({"allowed": true, "patchType": "JSONPatch"}),
            _ => allow(),
        })
    })
    .await;
    let kept = Kept::default();
    let policy = "{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [\
        {level: Metadata, verbs: [update]}, {level: Request}]}";
    let builder = ApiServer::builder().audit(Policy::parse(policy).unwrap(), kept.clone());
    let cluster = Cluster::start_with(builder).await;
    let maps = |operations: &[&str]| {
        json!({"rules": [rule(operations, "", "configmaps")],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}})
    };
    let mut open = maps(&["CREATE"]);
    open["failurePolicy"] = json!("Ignore");
    let changing = [
        hook.hook("/add", maps(&["CREATE", "UPDATE"])),
        hook.hook("/broken", open),
    ];
    cluster
        .install(&hook, MUTATING, "changing", &changing)
        .await;
    let judging = [hook.hook("/judge", maps(&["CREATE"]))];
    cluster
        .install(&hook, VALIDATING, "judging", &judging)
        .await;
    let map = |name: &str| config_map(name, json!({"a": "1"}));
    cluster.post(MAPS, map("changed")).await.expect(201);
    assert_eq!(cluster.post(MAPS, map("refused")).await.code.as_u16(), 418);
    let put = format!("{MAPS}/changed");
    cluster.ask("PUT", &put, map("changed")).await.expect(200);

    let page = page(&cluster).await;
    let requests =
        |labels: &[&str]| sample(&page, "apiserver_admission_webhook_request_total", labels);
    let (add, broken, judge) = (
        "name=\"add.example.com\"",
        "name=\"broken.example.com\"",
        "name=\"judge.example.com\"",
    );
    let create = "operation=\"CREATE\"";
    let ok = "code=\"200\"";
    let (admit, validating) = ("type=\"admit\"", "type=\"validating\"");
    let kept_on = "rejected=\"false\"";
    assert_eq!(requests(&[add, admit, create, ok, kept_on]), Some(2.0));
    assert_eq!(
        requests(&[add, admit, "operation=\"UPDATE\"", ok, kept_on]),
        Some(1.0)
    );
    assert_eq!(
        requests(&[broken, admit, create, "code=\"503\"", kept_on]),
        Some(2.0)
    );
    assert_eq!(
        requests(&[
            judge,
            validating,
            create,
            "code=\"418\"",
            "rejected=\"true\""
        ]),
        Some(1.0)
    );
    let rejected = sample(
        &page,
        "apiserver_admission_webhook_rejection_count",
        &[
            judge,
            "error_type=\"no_error\"",
            "rejection_code=\"418\"",
            validating,
        ],
    );
    assert_eq!(rejected, Some(1.0));
    let open = "apiserver_admission_webhook_fail_open_count";
    assert_eq!(sample(&page, open, &[broken, admit]), Some(2.0));
    let took = "apiserver_admission_webhook_admission_duration_seconds_count";
    assert_eq!(sample(&page, took, &[add, admit, create]), Some(2.0));

    cluster.server.shutdown().await;
    let annotations = |verb: &str, name: &str| {
        let events = kept.of(verb);
        let of = |e: &&Value| {
            e["objectRef"]["name"] == name
                && e["objectRef"]["namespace"] == "default"
                && e["stage"] == "ResponseComplete"
        };
        events.iter().rfind(of).unwrap()["annotations"].clone()
    };
    let place = "patch.webhook.admission.k8s.io/round_0_index_0";
    let made = annotations("create", "changed");
    let said: Value = serde_json::from_str(made[place].as_str().unwrap()).unwrap();
    assert_eq!(
        said,
        json!({
            "configuration": "changing", "webhook": "add.example.com", "patchType": "JSONPatch",
            "patch": [{"op": "add", "path": "/data/added", "value": "yes"}],
        })
    );
    let mutated = made["mutation.webhook.admission.k8s.io/round_0_index_0"].as_str();
    let mutated: Value = serde_json::from_str(mutated.unwrap()).unwrap();
    assert_eq!(mutated["mutated"], true);
    let open = &made["failed-open.mutation.webhook.admission.k8s.io/round_0_index_1"];
    assert_eq!(open, "broken.example.com");
    // A log without objects has no patches either.
    let updated = annotations("update", "changed");
    assert_eq!(updated.get(place), None);
    assert!(updated["mutation.webhook.admission.k8s.io/round_0_index_0"].is_string());
}

#[tokio::test]
async fn what_policies_lead_to_is_counted() {
    let cluster = Cluster::start().await;
    let group = "/apis/admissionregistration.k8s.io/v1";
    let constraints = json!({"resourceRules": [rule(&["*"], "", "configmaps")]});
    let make = async |plural: &str, kind: &str, name: &str, spec: Value| {
        let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": name}, "spec": spec});
        cluster
            .post(&format!("{group}/{plural}"), object)
            .await
            .expect(201);
    };
    for (name, failure, expression, actions) in [
        (
            "against",
            "Fail",
            "!has(object.data.bad)",
            &["Deny", "Audit"][..],
        ),
        ("broken", "Ignore", "object.data.absent == 'x'", &["Deny"]),
    ] {
        let spec = json!({"matchConstraints": constraints, "failurePolicy": failure,
            "validations": [{"expression": expression}]});
        make(
            "validatingadmissionpolicies",
            "ValidatingAdmissionPolicy",
            name,
            spec,
        )
        .await;
        let spec = json!({"policyName": name, "validationActions": actions});
        let kind = "ValidatingAdmissionPolicyBinding";
        make("validatingadmissionpolicybindings", kind, name, spec).await;
    }
    let bad = config_map("bad", json!({"bad": "1"}));
    let refused = |a: &crate::common::hooks::Answer| !a.code.is_success();
    let dry = format!("{MAPS}?dryRun=All");
    cluster.until("POST", &dry, bad, refused).await;
    let page = page(&cluster).await;
    let checks = |labels: &[&str]| {
        sample(
            &page,
            "apiserver_validating_admission_policy_check_total",
            labels,
        )
    };
    for action in ["deny", "audit"] {
        let labels = [
            "policy=\"against\"",
            "policy_binding=\"against\"",
            "error_type=\"no_error\"",
            &format!("enforcement_action=\"{action}\""),
        ];
        assert!(checks(&labels) >= Some(1.0), "{action}: {page}");
    }
    let ignored = [
        "policy=\"broken\"",
        "error_type=\"invalid_error\"",
        "enforcement_action=\"allow\"",
    ];
    let ignored = async {
        loop {
            cluster
                .post(&dry, config_map("fine", json!({"a": "1"})))
                .await
                .expect(201);
            let name = "apiserver_validating_admission_policy_check_total";
            let page = crate::admission_metrics::page(&cluster).await;
            if sample(&page, name, &ignored).is_some() {
                break;
            }
        }
    };
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, ignored).await.unwrap();
}

#[tokio::test]
async fn match_conditions_are_timed_and_counted() {
    let hook = Webhook::admission(|_, _| Some(allow())).await;
    let cluster = Cluster::start_with(ApiServer::builder()).await;
    let when = |expressions: &[&str]| {
        let conditions: Vec<Value> = expressions
            .iter()
            .enumerate()
            .map(|(i, e)| json!({"name": format!("c{i}"), "expression": e}))
            .collect();
        json!({"rules": [rule(&["CREATE"], "", "configmaps")], "failurePolicy": "Ignore",
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}},
            "matchConditions": conditions})
    };
    let hooks = [
        hook.hook("/always", when(&["true"])),
        hook.hook("/never", when(&["object.data.a == '2'"])),
        hook.hook(
            "/wrong",
            when(&["object.data.b == '2'", "object.data.c == '2'"]),
        ),
        hook.hook("/plain", when(&[])),
    ];
    cluster.install(&hook, VALIDATING, "judging", &hooks).await;
    let map = config_map("m", json!({"a": "1"}));
    cluster.post(MAPS, map).await.expect(201);
    let page = page(&cluster).await;
    let of = |name: &str, hook: &str| {
        let name = format!("apiserver_admission_match_condition_{name}");
        let hook = format!("name=\"{hook}.example.com\"");
        let labels = [
            hook.as_str(),
            "kind=\"webhook\"",
            "operation=\"CREATE\"",
            "type=\"validating\"",
        ];
        sample(&page, &name, &labels)
    };
    for (hook, took, excluded, errors) in [
        ("always", Some(1.0), None, None),
        ("never", Some(1.0), Some(1.0), None),
        ("wrong", Some(1.0), None, Some(2.0)),
        ("plain", None, None, None),
    ] {
        let took = (of("evaluation_seconds_count", hook), took);
        assert_eq!(took.0.is_some(), took.1.is_some(), "{hook}");
        assert_eq!(of("exclusions_total", hook).is_some(), excluded.is_some());
        let found = of("evaluation_errors_total", hook);
        assert!(
            found.is_none() == errors.is_none() && found.unwrap_or(2.0) >= 2.0,
            "{hook}"
        );
    }
}
