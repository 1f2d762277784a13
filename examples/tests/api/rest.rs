//! Requests as they go over the wire: paths and JSON, so that a test says what a client would see.

use std::{pin::Pin, time::Duration};

use futures::{AsyncBufRead, AsyncBufReadExt};
use http::Request;
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde_json::{Value, json};

/// How long anything may take; a hundred times what it takes on a quiet machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const JSON_PATCH: &str = "application/json-patch+json";

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
}

/// A user's connection to the API server. Its methods fail the test where the server refuses,
/// except for [`Rest::send`] and [`Rest::refused`].
#[derive(Clone)]
pub(crate) struct Rest(Client);

impl Rest {
    pub(crate) fn new(client: Client) -> Self {
        Self(client)
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string().into_bytes()),
        };
        let request = request.body(body).expect("a request");
        let answer = self.0.send(request);
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let answer = answer.expect("an answer in time").expect("an answer");
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.expect("a whole answer").to_bytes();
        Answer {
            status: parts.status.as_u16(),
            text: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    async fn ask(&self, method: &str, path: &str, kind: &str, body: &Value) -> Value {
        let answer = self
            .send(method, path, &[("content-type", kind)], body)
            .await;
        let good = (200..300).contains(&answer.status);
        assert!(good, "{method} {path} {body}: {}", answer.text);
        answer.json()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.ask("GET", path, JSON, &Value::Null).await
    }

    /// The items of a list.
    pub(crate) async fn list(&self, path: &str) -> Vec<Value> {
        items(self.get(path).await)
    }

    pub(crate) async fn create(&self, path: &str, object: Value) -> Value {
        self.ask("POST", path, JSON, &object).await
    }

    pub(crate) async fn replace(&self, path: &str, object: &Value) -> Value {
        self.ask("PUT", path, JSON, object).await
    }

    /// A merge patch.
    pub(crate) async fn merge(&self, path: &str, patch: Value) -> Value {
        self.ask("PATCH", path, MERGE, &patch).await
    }

    pub(crate) async fn patch(&self, path: &str, kind: &str, patch: Value) -> Value {
        self.ask("PATCH", path, kind, &patch).await
    }

    /// Changes an object as often as it takes until nobody else did meanwhile.
    pub(crate) async fn change(&self, path: &str, change: impl Fn(&mut Value)) -> Value {
        loop {
            let mut object = self.get(object_of(path)).await;
            change(&mut object);
            let answer = self
                .send("PUT", path, &[("content-type", JSON)], &object)
                .await;
            match answer.status {
                200 => return answer.json(),
                409 => {}
                _ => panic!("PUT {path} {object}: {}", answer.text),
            }
        }
    }

    pub(crate) async fn delete(&self, path: &str) -> Value {
        self.ask("DELETE", path, JSON, &Value::Null).await
    }

    /// Deletes with a propagation policy.
    pub(crate) async fn delete_as(&self, path: &str, policy: &str) -> Value {
        let options =
            json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy});
        self.ask("DELETE", path, JSON, &options).await
    }

    /// Deletes without a grace period.
    pub(crate) async fn delete_now(&self, path: &str) -> Value {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
        self.ask("DELETE", path, JSON, &options).await
    }

    /// Does what must be refused; gives the Status.
    pub(crate) async fn refused(&self, method: &str, path: &str, body: Value) -> Value {
        let headers = [("content-type", JSON)];
        let answer = self.send(method, path, &headers, &body).await;
        let bad = answer.status >= 400;
        assert!(bad, "{method} {path} {body} was let in: {}", answer.text);
        answer.json()
    }

    pub(crate) async fn watch(&self, path: &str) -> Watch {
        let sign = if path.contains('?') { '&' } else { '?' };
        let request = Request::get(format!("{path}{sign}watch=true"));
        let request = request.body(Vec::new()).expect("a request");
        let stream = self.0.request_stream(request).await;
        let stream = stream.unwrap_or_else(|e| panic!("watch {path}: {e}"));
        Watch(Box::pin(stream))
    }

    /// Waits until the object at a path is there and as a condition wants it.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let (collection, name) = split(path);
        let mut last = Value::Null;
        let waiting = async {
            loop {
                let query = format!("{collection}?fieldSelector=metadata.name%3D{name}");
                let mut watch = self.watch(&query).await;
                while let Some((kind, object)) = watch.read().await {
                    if kind != "DELETED" && wanted(&object) {
                        return object;
                    }
                    last = object;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(object) => object,
            Err(_) => panic!("{path} stays {last}"),
        }
    }

    /// Waits until a list is as a condition wants it.
    pub(crate) async fn settles(
        &self,
        path: &str,
        wanted: impl Fn(&[Value]) -> bool,
    ) -> Vec<Value> {
        let sign = if path.contains('?') { '&' } else { '?' };
        let mut last = Vec::new();
        let waiting = async {
            loop {
                let list = self.get(path).await;
                let revision = list["metadata"]["resourceVersion"].as_str();
                let query = format!(
                    "{path}{sign}resourceVersion={}",
                    revision.expect("a version")
                );
                last = items(list);
                if wanted(&last) {
                    return;
                }
                self.watch(&query).await.read().await;
            }
        };
        let settled = tokio::time::timeout(PATIENCE, waiting).await.is_ok();
        assert!(settled, "{path} stays {last:#?}");
        last
    }

    /// Waits until there is nothing at a path, or another object.
    pub(crate) async fn gone(&self, path: &str, uid: &Value) {
        let (collection, name) = split(path);
        let query = format!("{collection}?fieldSelector=metadata.name%3D{name}");
        self.settles(&query, |found| {
            found.iter().all(|object| object["metadata"]["uid"] != *uid)
        })
        .await;
    }

    /// Asks again and again until an answer that is no object is as wanted: documents that are made
    /// of many objects follow them within moments, and nothing tells when.
    pub(crate) async fn eventually(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                let document = self.get(path).await;
                if wanted(&document) {
                    return document;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let document = tokio::time::timeout(PATIENCE, waiting).await;
        document.unwrap_or_else(|_| panic!("{path} does not become what it should"))
    }
}

/// The events of a watch.
pub(crate) struct Watch(Pin<Box<dyn AsyncBufRead + Send>>);

impl Watch {
    /// The next event, unless the watch has ended.
    pub(crate) async fn read(&mut self) -> Option<(String, Value)> {
        let mut line = String::new();
        self.0.read_line(&mut line).await.expect("an event");
        if line.is_empty() {
            return None;
        }
        let mut event: Value = serde_json::from_str(&line).expect("JSON");
        let kind = event["type"].as_str().expect("a type").to_owned();
        Some((kind, event["object"].take()))
    }

    /// The next event, which must come.
    pub(crate) async fn next(&mut self) -> (String, Value) {
        let event = tokio::time::timeout(PATIENCE, self.read()).await;
        event.expect("an event in time").expect("an event")
    }

    /// Reads the next event, which must be of that kind and have that object. A deleted object is
    /// at a revision of its own, so only its name is compared.
    pub(crate) async fn brings(&mut self, kind: &str, object: &Value) {
        let (seen, found) = self.next().await;
        assert_eq!(seen, kind, "{found}");
        if kind == "DELETED" {
            assert_eq!(found["metadata"]["name"], object["metadata"]["name"]);
        } else {
            assert_eq!(found, *object);
        }
    }

    /// Reads until an event is of that kind and its object as wanted.
    pub(crate) async fn until(&mut self, kind: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let (seen, object) = self.next().await;
            if seen == kind && wanted(&object) {
                return object;
            }
        }
    }
}

fn items(mut list: Value) -> Vec<Value> {
    match list["items"].take() {
        Value::Array(items) => items,
        other => panic!("not a list: {other}"),
    }
}

/// A path without its subresource.
fn object_of(path: &str) -> &str {
    let subresource = path
        .rsplit_once('/')
        .filter(|(_, last)| ["approval", "finalize", "scale", "status"].contains(last));
    subresource.map_or(path, |(object, _)| object)
}

fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').expect("the path of an object")
}
