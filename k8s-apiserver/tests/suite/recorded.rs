//! What kube-apiserver 1.26 was asked, and what it answered: asked here again, in the same order.
//!
//! A step of a table has the method, the path, the user (`admin` unless it says otherwise) and the object; then the
//! answer's code, the message of a refusal (or its causes, where upstream writes Go values into the message), and
//! some fields of the object that came back.

use std::time::Duration;

use http::{Request, StatusCode};
use k8s_apiserver::{ApiServer, auth::Identity};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::common::{server, text};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    method: String,
    path: String,
    #[serde(default)]
    user: String,
    body: Option<Value>,
    code: u16,
    message: Option<String>,
    causes: Option<Value>,
    #[serde(default)]
    see: Map<String, Value>,
}

fn identity(user: &str) -> Identity {
    let (name, group) = match user {
        "" | "admin" => ("admin", "system:masters"),
        "node" => ("system:node:a", "system:nodes"),
        other => (other, "dev"),
    };
    let mut identity = Identity::user(name)
        .group(group)
        .group("system:authenticated");
    identity.uid = if user.is_empty() { "admin" } else { user }.to_owned();
    identity
}

async fn ask(server: &ApiServer, step: &Step) -> (StatusCode, Value) {
    let kind = match step.method.as_str() {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let request = Request::builder()
        .method(step.method.as_str())
        .uri(&step.path)
        .header("content-type", kind)
        .extension(identity(&step.user));
    let body = step.body.as_ref().map(Value::to_string).unwrap_or_default();
    let answer = server
        .handle(request.body(k8s_apiserver::http::Body::from(body)).unwrap())
        .await;
    let (status, text) = text(answer).await;
    (
        status,
        serde_json::from_str(&text).unwrap_or(Value::String(text)),
    )
}

/// What is different from the step's answer.
fn difference(step: &Step, status: StatusCode, answer: &Value) -> Option<String> {
    let mut wrong = Vec::new();
    if status.as_u16() != step.code {
        wrong.push(format!("{status} {}", answer["message"]));
    }
    if let Some(message) = &step.message
        && answer["message"] != message.as_str()
    {
        wrong.push(format!("{} instead of {message:?}", answer["message"]));
    }
    if let Some(causes) = &step.causes {
        let told = answer["details"]["causes"].as_array().into_iter().flatten();
        let told: Vec<Value> = told
            .map(|c| json!([c["field"], c["reason"], null]))
            .collect();
        if json!(told) != *causes {
            wrong.push(format!("{told:?} instead of {causes}"));
        }
    }
    for (path, value) in &step.see {
        let found = answer.pointer(path).unwrap_or(&Value::Null);
        if found != value {
            wrong.push(format!("{path} is {found} instead of {value}"));
        }
    }
    (!wrong.is_empty()).then(|| wrong.join("; "))
}

async fn replay(table: &str) {
    let server = server().await;
    let steps: Vec<Step> = serde_json::from_str(table).unwrap();
    let mut wrong = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        // Roles take a moment to be known: until then less is allowed than upstream allowed.
        let asked = async {
            loop {
                let (status, answer) = ask(&server, step).await;
                let early = status == StatusCode::FORBIDDEN
                    && (step.code != 403 || answer["message"].as_str() != step.message.as_deref());
                if !early {
                    return (status, answer);
                }
                tokio::task::yield_now().await;
            }
        };
        let (status, answer) = match tokio::time::timeout(Duration::from_secs(3), asked).await {
            Ok(told) => told,
            Err(_) => ask(&server, step).await,
        };
        if let Some(difference) = difference(step, status, &answer) {
            let Step { method, path, .. } = step;
            wrong.push(format!("{index} {method} {path}: {difference}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn requests_for_certificates_are_judged_as_upstream_judges_them() {
    replay(include_str!("recorded/certificates.json")).await;
}

#[tokio::test]
async fn pods_get_of_their_runtime_class_what_upstream_gives_them() {
    replay(include_str!("recorded/runtime_classes.json")).await;
}

#[tokio::test]
async fn nobody_gives_away_more_than_upstream_lets_them() {
    replay(include_str!("recorded/escalation.json")).await;
}
