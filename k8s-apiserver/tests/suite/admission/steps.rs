//! For what plugins are called.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_apiserver::admission::{
    AdmissionError, AdmissionPlugin, AdmissionRequest, Companions, Operation, Step,
};
use parking_lot::Mutex;

use super::*;

/// Notes what it is called for.
#[derive(Debug, Default)]
struct Notes {
    steps: Option<[Step; 1]>,
    resource: &'static str,
    called: Arc<Mutex<Vec<(Step, String)>>>,
}

impl Notes {
    fn note(&self, step: Step, request: &AdmissionRequest<'_>) {
        let resource = request.resource.resource.to_owned();
        self.called.lock().push((step, resource));
    }
}

#[async_trait]
impl AdmissionPlugin for Notes {
    fn name(&self) -> &str {
        "Notes"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    fn steps(&self) -> &[Step] {
        match &self.steps {
            Some(steps) => steps,
            None => &[Step::Admit, Step::Validate, Step::Accompany],
        }
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        group.is_empty() && (self.resource.is_empty() || self.resource == resource)
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        self.note(Step::Admit, request);
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        self.note(Step::Validate, request);
        Ok(())
    }

    async fn accompany(
        &self,
        request: &AdmissionRequest<'_>,
    ) -> Result<Companions, AdmissionError> {
        self.note(Step::Accompany, request);
        Ok(Companions::default())
    }
}

#[tokio::test]
async fn a_plugin_is_called_for_what_it_says_and_nothing_else() {
    let (all, one) = (Notes::default(), Notes::default());
    let one = Notes {
        steps: Some([Step::Validate]),
        resource: "secrets",
        ..one
    };
    let called = [all.called.clone(), one.called.clone()];
    let plugins: Vec<Arc<dyn AdmissionPlugin>> = vec![Arc::new(all), Arc::new(one)];
    let server = ApiServer::builder().admission(plugins).build().await;
    let server = server.unwrap();
    called.iter().for_each(|called| called.lock().clear());
    for resource in ["configmaps", "secrets"] {
        let uri = format!("/api/v1/namespaces/default/{resource}");
        make(&server, &uri, json!({"metadata": {"name": "x"}})).await;
    }
    let steps = [Step::Admit, Step::Validate, Step::Accompany];
    let wanted = ["configmaps", "secrets"].map(|r| steps.map(|step| (step, r.to_owned())));
    assert_eq!(*called[0].lock(), wanted.concat());
    let wanted = [(Step::Validate, "secrets".to_owned())];
    assert_eq!(*called[1].lock(), wanted);
    server.shutdown().await;
}

/// Keeps what is asked of it, and refuses to delete.
#[derive(Clone, Debug, Default)]
struct Guard(Arc<Mutex<Vec<Value>>>);

#[async_trait]
impl AdmissionPlugin for Guard {
    fn name(&self) -> &str {
        "Guard"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Delete)
    }

    fn concerns(&self, group: &str, resource: &str) -> bool {
        group.is_empty() && resource == "pods"
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> Result<(), AdmissionError> {
        let object = request.object.as_deref();
        let value = object.map_or(Value::Null, |object| object.to_value());
        self.0.lock().push(value);
        Ok(())
    }
}

#[tokio::test]
async fn nobody_is_asked_twice_about_one_end_nor_shown_what_the_server_writes() {
    let guard = Guard::default();
    let plugins: Vec<Arc<dyn AdmissionPlugin>> = vec![Arc::new(guard.clone())];
    let server = ApiServer::builder().admission(plugins).build().await;
    let server = server.unwrap();
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p", "uid": "u", "selfLink": "/x",
            "creationTimestamp": "2020-01-01T00:00:00Z"},
        "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    make(&server, pods, pod).await;
    let seen = guard.0.lock().pop().unwrap();
    for field in ["uid", "selfLink"] {
        assert_eq!(seen["metadata"].get(field), None, "{seen}");
    }
    let created = &seen["metadata"]["creationTimestamp"];
    assert_eq!(*created, Value::Null);
    let one = format!("{pods}/p");
    for _ in 0..2 {
        let (code, answer) = call(&server, "DELETE", &one, Value::Null).await;
        assert_eq!(code, StatusCode::OK, "{answer}");
    }
    assert_eq!(*guard.0.lock(), [Value::Null]);
    let (code, _) = call(&server, "DELETE", &one, json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(code, StatusCode::OK);
    assert_eq!(guard.0.lock().len(), 2);
    server.shutdown().await;
}
