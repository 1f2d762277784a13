//! What upstream refuses is refused, for the same reasons: tables of bad objects of every kind, each with upstream's
//! answer.
//!
//! A table is a list of kinds; a kind has a path, a `base` that is good, and cases. A case sets some fields of the base
//! (by JSON pointers; `null` takes a field away, `{"repeat": [text, n]}` is a long text) and creates that; with `op`, it
//! changes the object or its status. The answer has a code, a reason and causes: reason, field, message. The answer's own
//! message follows from the causes, unless the case says otherwise. A cause counts once, however often it is told.
//!
//! The tables were made by asking Kubernetes 1.26; where a later release says something else, that is what they have.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::wire::{Answer, Wire, cluster};

#[derive(Deserialize)]
struct Kind {
    path: String,
    base: Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    set: serde_json::Map<String, Value>,
    op: Option<String>,
    code: u16,
    reason: Option<String>,
    message: Option<String>,
    #[serde(default)]
    causes: Vec<[String; 3]>,
}

/// A value with its long texts written out.
fn long(value: &Value) -> Value {
    match value {
        Value::Object(fields) => match fields.get("repeat").and_then(Value::as_array) {
            Some(parts) => {
                let times = parts[1].as_u64().unwrap() as usize;
                parts[0].as_str().unwrap().repeat(times).into()
            }
            None => fields.iter().map(|(k, v)| (k.clone(), long(v))).collect(),
        },
        Value::Array(items) => items.iter().map(long).collect(),
        other => other.clone(),
    }
}

fn set(object: &mut Value, changes: &serde_json::Map<String, Value>) {
    for (pointer, value) in changes {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let mut here = &mut *object;
        for part in parent.split('/').skip(1) {
            here = match here {
                Value::Array(items) => &mut items[part.parse::<usize>().unwrap()],
                other => &mut other[part],
            };
        }
        match (here, value) {
            (Value::Array(items), value) => items[name.parse::<usize>().unwrap()] = long(value),
            (Value::Object(fields), Value::Null) => drop(fields.remove(name)),
            (other, value) => other[name] = long(value),
        }
    }
}

/// What is different from what upstream answers.
fn judge(answer: &Answer, kind: &Kind, case: &Case) -> Result<(), String> {
    let body = answer.json();
    let mut causes: Vec<[String; 3]> = Vec::new();
    for cause in body["details"]["causes"].as_array().into_iter().flatten() {
        let text = |name: &str| cause[name].as_str().unwrap_or_default().to_owned();
        let cause = [text("reason"), text("field"), text("message")];
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    let found = (answer.status, body["reason"].as_str(), causes);
    let expected = (case.code, case.reason.as_deref(), case.causes.clone());
    if found != expected {
        return Err(format!("{found:#?}\ninstead of\n{expected:#?}"));
    }
    let message = body["message"].as_str().unwrap_or_default();
    let told: Vec<String> = (case.causes.iter())
        .map(|[_, field, message]| format!("{field}: {message}"))
        .collect();
    let of_causes = match &told[..] {
        [] => String::new(),
        [one] => format!(" is invalid: {one}"),
        several => format!(" is invalid: [{}]", several.join(", ")),
    };
    let agrees = match &case.message {
        Some(expected) => message == expected,
        None => message.ends_with(&of_causes),
    };
    let of_kind = body["details"]["kind"].as_str().unwrap_or_default();
    if !agrees || (case.code == 422 && !of_kind.is_empty() && of_kind != kind.base["kind"]) {
        return Err(format!(
            "of {of_kind}: {message}\ninstead of {:?}",
            case.message
        ));
    }
    Ok(())
}

async fn put(wire: &mut Wire, path: &str, case: &Case) -> Answer {
    let on = match case.op.as_deref() {
        Some("status") => format!("{path}/status"),
        _ => path.to_owned(),
    };
    // A controller may have changed it in between.
    for _ in 0..50 {
        let mut object = wire.get(path).await.json();
        set(&mut object, &case.set);
        let body = object.to_string();
        let kind = "content-type: application/json\r\n";
        let answer = wire.ask("PUT", &on, kind, body.as_bytes()).await;
        if !answer.message().contains("the object has been modified") || answer.status == case.code
        {
            return answer;
        }
    }
    panic!("{path} does not come to rest");
}

/// An object without what controllers add.
async fn settled(wire: &mut Wire, path: &str) -> Value {
    wire.get(path).await.json()["spec"].clone()
}

async fn names(wire: &mut Wire, path: &str) -> Vec<String> {
    let list = wire.get(path).await.json();
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let name = |item: &Value| {
        item["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    items.iter().map(name).collect()
}

async fn refuses(table: &str) {
    let kinds: Vec<Kind> = serde_json::from_str(table).unwrap();
    let cluster = cluster().await;
    // One connection for all of it: each refusal leaves it fit for the next request.
    let mut wire = cluster.wire().await;
    let account = json!({"metadata": {"name": "default"}}).to_string();
    wire.post(
        "/api/v1/namespaces/default/serviceaccounts",
        account.as_bytes(),
    )
    .await;
    let mut wrong = Vec::new();
    for kind in &kinds {
        let before = names(&mut wire, &kind.path).await;
        let (new, changed): (Vec<&Case>, Vec<&Case>) =
            kind.cases.iter().partition(|case| case.op.is_none());
        for case in new {
            let mut object = kind.base.clone();
            set(&mut object, &case.set);
            let answer = wire.post(&kind.path, object.to_string().as_bytes()).await;
            if let Err(text) = judge(&answer, kind, case) {
                wrong.push(format!("{} {:?}: {text}", kind.path, case.set));
            }
        }
        if before != names(&mut wire, &kind.path).await {
            wrong.push(format!("{}: something was kept", kind.path));
        }
        if changed.is_empty() {
            continue;
        }
        let made = wire
            .post(&kind.path, kind.base.to_string().as_bytes())
            .await;
        assert_eq!(made.status, 201, "{}: {}", kind.path, made.message());
        let name = made.json()["metadata"]["name"].clone();
        let path = format!("{}/{}", kind.path, name.as_str().unwrap());
        let spec = settled(&mut wire, &path).await;
        for case in changed {
            let answer = put(&mut wire, &path, case).await;
            if let Err(text) = judge(&answer, kind, case) {
                wrong.push(format!("{path} {:?} {:?}: {text}", case.op, case.set));
            }
        }
        if spec != settled(&mut wire, &path).await {
            wrong.push(format!("{path}: it was changed"));
        }
        let policy = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"});
        let headers = "content-type: application/json\r\n";
        wire.ask("DELETE", &path, headers, policy.to_string().as_bytes())
            .await;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

macro_rules! refuses {
    ($($test:ident: $file:literal,)*) => {
        $(#[tokio::test]
        async fn $test() {
            refuses(include_str!(concat!("refusals/", $file, ".json"))).await;
        })*
    };
}

refuses! {
    bad_objects_of_the_core_group_are_refused: "core",
    bad_pods_are_refused: "pods",
    bad_volumes_are_refused: "volumes",
    bad_services_and_endpoints_are_refused: "services",
    bad_workloads_are_refused: "apps",
    bad_jobs_are_refused: "batch",
    bad_autoscalers_are_refused: "autoscaling",
    bad_disruption_budgets_are_refused: "policy",
    bad_ingresses_and_network_policies_are_refused: "networking",
    bad_roles_and_bindings_are_refused: "rbac",
    bad_cluster_objects_are_refused: "cluster",
    bad_storage_objects_are_refused: "storage",
    bad_webhook_configurations_are_refused: "admission",
    bad_definitions_are_refused: "apiextensions",
    bad_flow_control_is_refused: "flowcontrol",
    bad_reviews_and_requests_are_refused: "reviews",
}
