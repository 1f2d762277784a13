mod nodes;
mod rights;

use k8s_model::{Object, Resource};
use k8s_openapi::api::{
    core::v1 as core,
    resource::v1::{ResourceClaim, ResourceSlice},
};
use serde_json::{Value, json};

use super::*;
use crate::{
    admission::{AdmissionError, AdmissionRequest, Operation, Warnings, memory::MemoryReader},
    auth::{Identity, NODES},
    authz::{Attributes, Authorizer, Decision},
};

fn resource(group: &str, name: &str) -> &'static Resource {
    k8s_model::resources()
        .iter()
        .find(|r| r.group == group && r.resource == name)
        .expect("a built-in resource")
}

struct Try<'a> {
    operation: Operation,
    resource: (&'a str, &'a str),
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
    user: Identity,
    old: Option<&'a dyn Object>,
}

impl Try<'_> {
    fn create(group: &'static str, resource: &'static str) -> Self {
        Try {
            operation: Operation::Create,
            resource: (group, resource),
            subresource: "",
            namespace: "ns",
            name: "x",
            user: Identity::user("someone"),
            old: None,
        }
    }

    async fn run<K: Object + Clone>(
        &self,
        plugin: &dyn AdmissionPlugin,
        object: &K,
    ) -> Result<K, AdmissionError> {
        let mut request = AdmissionRequest {
            operation: self.operation,
            resource: resource(self.resource.0, self.resource.1),
            subresource: self.subresource,
            namespace: self.namespace,
            name: self.name,
            user: &self.user,
            object: Some(object.boxed_clone()),
            old: self.old,
            dry_run: false,
            warnings: &Warnings::default(),
            more: Default::default(),
        };
        plugin.admit(&mut request).await?;
        plugin.validate(&request).await?;
        // Admission is idempotent.
        let once = request.object_as::<K>().unwrap().to_value();
        plugin.admit(&mut request).await?;
        assert_eq!(request.object_as::<K>().unwrap().to_value(), once);
        Ok(request.object_as::<K>().unwrap().clone())
    }
}

fn pod(spec: Value) -> core::Pod {
    let mut spec = spec;
    if spec["containers"].is_null() {
        spec["containers"] = json!([{ "name": "c" }]);
    }
    serde_json::from_value(json!({ "metadata": { "name": "x" }, "spec": spec })).unwrap()
}

fn reader() -> (MemoryReader, Arc<dyn ObjectReader>) {
    let memory = MemoryReader::default();
    (memory.clone(), Arc::new(memory))
}

#[tokio::test]
async fn nothing_is_made_in_a_namespace_that_is_not_there_or_going_away() {
    let (memory, reader) = reader();
    let plugin = NamespaceLifecycle::new(reader);
    let attempt = Try::create("", "configmaps");
    let map = core::ConfigMap::default();
    let error = attempt.run(&plugin, &map).await.unwrap_err();
    assert_eq!(error.to_string(), r#"namespaces "ns" not found"#);
    memory.put(
        "",
        "namespaces",
        json!({ "metadata": { "name": "ns" }, "status": { "phase": "Active" } }),
    );
    attempt.run(&plugin, &map).await.unwrap();
    memory.put(
        "",
        "namespaces",
        json!({ "metadata": { "name": "ns" }, "status": { "phase": "Terminating" } }),
    );
    let AdmissionError::Forbidden { message, causes } =
        attempt.run(&plugin, &map).await.unwrap_err()
    else {
        panic!("not forbidden");
    };
    assert_eq!(
        message,
        "unable to create new content in namespace ns because it is being terminated"
    );
    assert_eq!(causes[0].reason.as_deref(), Some("NamespaceTerminating"));
    let update = Try {
        operation: Operation::Update,
        ..attempt
    };
    update.run(&plugin, &map).await.unwrap();
}

#[tokio::test]
async fn immortal_namespaces_cannot_be_deleted() {
    let (_, reader) = reader();
    let plugin = NamespaceLifecycle::new(reader);
    for (name, allowed) in [("default", false), ("kube-system", false), ("ns", true)] {
        let attempt = Try {
            operation: Operation::Delete,
            name,
            namespace: "",
            ..Try::create("", "namespaces")
        };
        let outcome = attempt.run(&plugin, &core::Namespace::default()).await;
        assert_eq!(outcome.is_ok(), allowed, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_default_account_of_a_new_namespace_is_waited_for() {
    let (memory, reader) = reader();
    let plugin = ServiceAccount::new(reader);
    let attempt = Try::create("", "pods");
    let started = tokio::time::Instant::now();
    let made = async {
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
        let account = json!({ "metadata": { "namespace": "ns", "name": "default" } });
        memory.put("", "serviceaccounts", account);
    };
    let object = pod(json!({}));
    let (admitted, ()) = tokio::join!(attempt.run(&plugin, &object), made);
    assert!(admitted.unwrap().spec.unwrap().volumes.is_some());
    assert!(started.elapsed().as_millis() < 500);
    // Another account is not.
    let started = tokio::time::Instant::now();
    let other = pod(json!({ "serviceAccountName": "other" }));
    let error = attempt.run(&plugin, &other).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"error looking up service account ns/other: serviceaccount "other" not found"#
    );
    assert_eq!(started.elapsed().as_millis(), 0);
    // And no account is for ever.
    memory.delete("", "serviceaccounts", "ns", "default");
    attempt.run(&plugin, &object).await.unwrap_err();
    let waited = started.elapsed().as_millis();
    assert!((900..1800).contains(&waited), "{waited}");
}

#[tokio::test]
async fn what_has_no_name_that_can_be_asked_for_is_not_looked_up() {
    let (_, reader) = reader();
    let attempt = Try::create("", "pods");
    let plugin = ServiceAccount::new(reader.clone());
    let object = pod(json!({ "serviceAccountName": "a/b" }));
    let error = attempt.run(&plugin, &object).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"error looking up service account ns/a/b: invalid resource name "a/b": [may not contain '/']"#
    );
    let plugin = RuntimeClass::new(reader);
    let object = pod(json!({ "runtimeClassName": "" }));
    let error = attempt.run(&plugin, &object).await.unwrap_err();
    let AdmissionError::Status(status) = error else {
        panic!("{error}");
    };
    assert_eq!(status.code, Some(500));
    let told = status.message.as_deref();
    assert_eq!(told, Some("resource name may not be empty"));
}

#[tokio::test(start_paused = true)]
async fn a_pod_gets_the_default_account_and_its_token() {
    let (memory, reader) = reader();
    let plugin = ServiceAccount::new(reader);
    let attempt = Try::create("", "pods");
    let error = attempt.run(&plugin, &pod(json!({}))).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"error looking up service account ns/default: serviceaccount "default" not found"#
    );
    memory.put(
        "",
        "serviceaccounts",
        json!({
            "metadata": { "namespace": "ns", "name": "default" },
            "imagePullSecrets": [{ "name": "registry" }],
        }),
    );
    let admitted = attempt.run(&plugin, &pod(json!({}))).await.unwrap();
    let spec = admitted.spec.unwrap();
    assert_eq!(spec.service_account_name.as_deref(), Some("default"));
    assert_eq!(spec.image_pull_secrets.unwrap()[0].name, "registry");
    let volume = &spec.volumes.as_ref().unwrap()[0];
    assert!(volume.name.starts_with("kube-api-access-"));
    assert_eq!(volume.name.len(), "kube-api-access-".len() + 5);
    let mount = &spec.containers[0].volume_mounts.as_ref().unwrap()[0];
    assert_eq!(mount.name, volume.name);
    assert_eq!(
        mount.mount_path,
        "/var/run/secrets/kubernetes.io/serviceaccount"
    );
    let opted_out = attempt
        .run(
            &plugin,
            &pod(json!({ "automountServiceAccountToken": false })),
        )
        .await
        .unwrap();
    assert!(opted_out.spec.unwrap().volumes.is_none());
}

#[tokio::test]
async fn pods_of_an_account_that_says_so_see_its_secrets_alone() {
    let (memory, reader) = reader();
    let plugin = ServiceAccount::new(reader);
    let mut account = json!({
        "metadata": { "namespace": "ns", "name": "default" },
        "secrets": [{ "name": "own" }],
        "imagePullSecrets": [{ "name": "pull" }],
    });
    memory.put("", "serviceaccounts", account.clone());
    let env = |name: &str| json!([{ "name": "V", "valueFrom": { "secretKeyRef": { "name": name, "key": "k" } } }]);
    let from = |name: &str| json!([{ "secretRef": { "name": name } }]);
    let with = |field: &str, containers: &str, value: Value| {
        let mut container = json!({ "name": "c" });
        container[field] = value;
        let mut spec = json!({ "serviceAccountName": "default" });
        spec[containers] = json!([container]);
        pod(spec)
    };
    let volume =
        |name: &str| pod(json!({ "volumes": [{ "name": "v", "secret": { "secretName": name } }] }));
    let pull = |name: &str| pod(json!({ "imagePullSecrets": [{ "name": name }] }));
    let pods = |secret: &str, pull_secret: &str| {
        vec![
            ("volume with ", volume(secret)),
            ("imagePullSecrets[0].name=", pull(pull_secret)),
            (
                "init container c with envVar V ",
                with("env", "initContainers", env(secret)),
            ),
            (
                "init container c with envFrom ",
                with("envFrom", "initContainers", from(secret)),
            ),
            (
                "container c with envVar V ",
                with("env", "containers", env(secret)),
            ),
            (
                "container c with envFrom ",
                with("envFrom", "containers", from(secret)),
            ),
        ]
    };
    let added = |secret: &str| {
        let containers = "ephemeralContainers";
        [
            (
                "ephemeral container c with envVar V ",
                with("env", containers, env(secret)),
            ),
            (
                "ephemeral container c with envFrom ",
                with("envFrom", containers, from(secret)),
            ),
        ]
    };
    let create = Try::create("", "pods");
    let update = Try {
        operation: Operation::Update,
        subresource: "ephemeralcontainers",
        ..Try::create("", "pods")
    };
    for (_, pod) in pods("others", "others") {
        create.run(&plugin, &pod).await.unwrap();
    }
    for (_, pod) in added("others") {
        update.run(&plugin, &pod).await.unwrap();
    }
    account["metadata"]["annotations"] =
        json!({ "kubernetes.io/enforce-mountable-secrets": "true" });
    memory.put("", "serviceaccounts", account);
    for (_, pod) in pods("own", "pull") {
        create.run(&plugin, &pod).await.unwrap();
    }
    for (_, pod) in added("own") {
        update.run(&plugin, &pod).await.unwrap();
    }
    let refused = |what: &str, error: AdmissionError| {
        let text = error.to_string();
        assert!(
            text.starts_with(what) && text.contains("\"others\" is not allowed"),
            "{text}"
        );
    };
    for (what, pod) in pods("others", "others") {
        refused(what, create.run(&plugin, &pod).await.unwrap_err());
    }
    for (what, pod) in added("others") {
        refused(what, update.run(&plugin, &pod).await.unwrap_err());
        let elsewhere = Try {
            subresource: "status",
            operation: Operation::Update,
            ..Try::create("", "pods")
        };
        elsewhere.run(&plugin, &pod).await.unwrap();
    }
    let nobodys = pod(json!({}));
    let error = update.run(&plugin, &nobodys).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no service account specified for pod ns/x"
    );
}

#[tokio::test]
async fn a_pod_tolerates_unwell_nodes_for_a_while() {
    let attempt = Try::create("", "pods");
    let plain = attempt
        .run(&DefaultTolerationSeconds, &pod(json!({})))
        .await
        .unwrap();
    let tolerations = plain.spec.unwrap().tolerations.unwrap();
    assert_eq!(tolerations.len(), 2);
    assert!(
        tolerations
            .iter()
            .all(|t| t.toleration_seconds == Some(300))
    );
    let stubborn = attempt
        .run(
            &DefaultTolerationSeconds,
            &pod(json!({ "tolerations": [{ "operator": "Exists" }] })),
        )
        .await
        .unwrap();
    assert_eq!(stubborn.spec.unwrap().tolerations.unwrap().len(), 1);
}

#[tokio::test]
async fn a_pods_priority_is_that_of_its_class() {
    let (memory, reader) = reader();
    let plugin = Priority::new(reader);
    let attempt = Try::create("", "pods");
    let plain = attempt.run(&plugin, &pod(json!({}))).await.unwrap();
    let spec = plain.spec.unwrap();
    assert_eq!(spec.priority, Some(0));
    assert_eq!(
        spec.preemption_policy.as_deref(),
        Some("PreemptLowerPriority")
    );
    memory.put(
        "scheduling.k8s.io",
        "priorityclasses",
        json!({ "metadata": { "name": "high" }, "value": 1000, "preemptionPolicy": "Never" }),
    );
    let high = pod(json!({ "priorityClassName": "high" }));
    let spec = attempt.run(&plugin, &high).await.unwrap().spec.unwrap();
    assert_eq!(spec.priority, Some(1000));
    assert_eq!(spec.preemption_policy.as_deref(), Some("Never"));
    let error = attempt
        .run(&plugin, &pod(json!({ "priorityClassName": "none" })))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "no PriorityClass with name none was found"
    );
    attempt
        .run(
            &plugin,
            &pod(json!({ "priorityClassName": "high", "priority": 7 })),
        )
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_limit_range_fills_in_and_refuses() {
    let (memory, reader) = reader();
    memory.put(
        "",
        "limitranges",
        json!({
            "metadata": { "namespace": "ns", "name": "l" },
            "spec": { "limits": [{
                "type": "Container",
                "default": { "cpu": "500m" },
                "defaultRequest": { "cpu": "100m" },
                "max": { "cpu": "1" },
            }]},
        }),
    );
    let plugin = LimitRanger::new(reader);
    let attempt = Try::create("", "pods");
    let admitted = attempt.run(&plugin, &pod(json!({}))).await.unwrap();
    assert_eq!(
        admitted.metadata.annotations.unwrap()["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    );
    let resources = admitted.spec.unwrap().containers[0]
        .resources
        .clone()
        .unwrap();
    assert_eq!(resources.limits.unwrap()["cpu"].0, "500m");
    let big = pod(json!({ "containers": [{
        "name": "c", "resources": { "limits": { "cpu": "2" }, "requests": { "cpu": "1" } },
    }]}));
    let error = attempt.run(&plugin, &big).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "maximum cpu usage per Container is 1, but limit is 2"
    );
}

#[tokio::test]
async fn a_limit_range_looks_at_all_of_a_pod_and_at_what_becomes_of_it() {
    let (memory, reader) = reader();
    let limits = json!([{ "type": "Pod", "max": { "cpu": "1" } }]);
    memory.put(
        "",
        "limitranges",
        json!({ "metadata": { "namespace": "ns", "name": "l" }, "spec": { "limits": limits } }),
    );
    let plugin = LimitRanger::new(reader);
    let create = Try::create("", "pods");
    let container = |cpu: &str| json!({ "name": "c", "resources": { "limits": { "cpu": cpu }, "requests": { "cpu": cpu } } });
    let sidecar = |cpu: &str| {
        let mut sidecar = container(cpu);
        sidecar["restartPolicy"] = "Always".into();
        sidecar
    };
    let half = pod(json!({ "containers": [container("500m")] }));
    create.run(&plugin, &half).await.unwrap();
    let beside = pod(
        json!({ "containers": [container("500m")], "overhead": { "cpu": "5" },
        "initContainers": [container("1"), sidecar("500m")] }),
    );
    create.run(&plugin, &beside).await.unwrap();
    for (spec, limit) in [
        (
            json!({ "containers": [container("500m"), container("600m")] }),
            "1100m",
        ),
        (
            json!({ "containers": [container("500m")], "initContainers": [sidecar("1")] }),
            "1500m",
        ),
        (
            json!({ "containers": [container("500m")], "initContainers": [sidecar("500m"), container("1")] }),
            "1500m",
        ),
        (
            json!({ "containers": [container("500m")], "resources": { "limits": { "cpu": "2" } } }),
            "2",
        ),
    ] {
        let error = create.run(&plugin, &pod(spec)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("maximum cpu usage per Pod is 1, but limit is {limit}")
        );
    }
    let two = pod(json!({ "containers": [container("2")] }));
    for (subresource, refused) in [("resize", true), ("", false), ("status", false)] {
        let update = Try {
            operation: Operation::Update,
            subresource,
            old: Some(&half),
            ..Try::create("", "pods")
        };
        let outcome = update.run(&plugin, &two).await;
        assert_eq!(outcome.is_err(), refused, "{subresource}");
    }
}

#[tokio::test]
async fn a_pod_is_not_resized_beyond_its_node() {
    let (memory, reader) = reader();
    let plugin = PodResizeValidator::new(reader);
    let node = |name: &str, labels: Value| {
        json!({ "metadata": { "name": name, "labels": labels },
            "status": { "allocatable": { "cpu": "2", "memory": "1Gi" } } })
    };
    let linux = json!({ "kubernetes.io/os": "linux" });
    memory.put("", "nodes", node("linux", linux));
    memory.put("", "nodes", node("old", json!({})));
    let windows = json!({ "kubernetes.io/os": "windows" });
    memory.put("", "nodes", node("windows", windows));
    let resized = |node: Value, cpu: &str, bytes: &str| {
        let requests = json!({ "cpu": cpu, "memory": bytes });
        let container = json!({ "name": "c", "resources": { "requests": requests } });
        pod(json!({ "nodeName": node, "containers": [container] }))
    };
    let cpu = "cpu, requested: 2500, allocatable: 2000";
    let memory = "memory, requested: 2147483648, allocatable: 1073741824";
    let short = "node didn't have enough allocatable resources:";
    let capacity = Some("NodeCapacity");
    for (name, new, refused, cause) in [
        (json!("linux"), ("2", "1Gi"), String::new(), None),
        (json!("old"), ("2", "1Gi"), String::new(), None),
        (json!(null), ("9", "9Gi"), String::new(), None),
        (
            json!("linux"),
            ("2500m", "1Gi"),
            format!("{short} {cpu}"),
            capacity,
        ),
        (
            json!("old"),
            ("1", "2Gi"),
            format!("{short} {memory}"),
            capacity,
        ),
        (
            json!("linux"),
            ("2500m", "2Gi"),
            format!("{short} {cpu}; {memory}"),
            capacity,
        ),
        (
            json!("windows"),
            ("1", "1Mi"),
            r#"pod resize is only supported on linux nodes, node "windows" is "windows""#
                .to_owned(),
            Some("UnsupportedPlatform"),
        ),
        (
            json!("gone"),
            ("1", "1Mi"),
            r#"node "gone" not found"#.to_owned(),
            None,
        ),
    ] {
        let (old, new) = (
            resized(name.clone(), "100m", "1Mi"),
            resized(name, new.0, new.1),
        );
        let update = Try {
            operation: Operation::Update,
            subresource: "resize",
            old: Some(&old),
            ..Try::create("", "pods")
        };
        match update.run(&plugin, &new).await {
            Ok(_) => assert_eq!(refused, ""),
            Err(AdmissionError::Forbidden { message, causes }) => {
                assert_eq!(message, refused);
                let found = causes.first().and_then(|cause| cause.reason.as_deref());
                assert_eq!(found, cause, "{message}");
            }
            Err(other) => panic!("{other}"),
        }
        // What is as it was is not looked at, nor is what is no resize.
        let same = Try {
            old: Some(&new),
            ..update
        };
        same.run(&plugin, &new).await.unwrap();
        let plain = Try {
            subresource: "",
            old: Some(&old),
            ..same
        };
        plain.run(&plugin, &new).await.unwrap();
    }
}
