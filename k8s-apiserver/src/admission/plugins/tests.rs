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

#[tokio::test]
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
async fn a_node_writes_only_about_itself_and_its_pods() {
    let (memory, reader) = reader();
    let plugin = NodeRestriction::new(reader);
    let user = Identity::user("system:node:a").group(NODES);
    let node = |name: &str, labels: Value| -> core::Node {
        serde_json::from_value(json!({ "metadata": { "name": name, "labels": labels } })).unwrap()
    };
    let attempt = |name| Try {
        name,
        namespace: "",
        user: user.clone(),
        ..Try::create("", "nodes")
    };
    attempt("a")
        .run(
            &plugin,
            &node("a", json!({ "kubernetes.io/arch": "amd64" })),
        )
        .await
        .unwrap();
    let error = attempt("b")
        .run(&plugin, &node("b", json!({})))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"node "a" is not allowed to modify node "b""#
    );
    let restricted = node(
        "a",
        json!({ "node-restriction.kubernetes.io/fips": "true" }),
    );
    attempt("a").run(&plugin, &restricted).await.unwrap_err();
    // A node that the collector takes away could come back as another.
    let old = node("a", json!({}));
    let mut owned = old.clone();
    let owner = json!([{ "apiVersion": "v1", "kind": "Node", "name": "gone", "uid": "1" }]);
    owned.metadata.owner_references = serde_json::from_value(owner).unwrap();
    let update = Try {
        operation: Operation::Update,
        old: Some(&old),
        ..attempt("a")
    };
    let error = update.run(&plugin, &owned).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"node "a" is not allowed to modify ownerReferences"#
    );

    let attempt = Try {
        user: user.clone(),
        ..Try::create("", "pods")
    };
    attempt
        .run(&plugin, &pod(json!({ "nodeName": "a" })))
        .await
        .unwrap_err();
    let (mine, other) = (
        pod(json!({ "nodeName": "a" })),
        pod(json!({ "nodeName": "b" })),
    );
    for (old, allowed) in [(&mine, true), (&other, false)] {
        let attempt = Try {
            operation: Operation::Update,
            subresource: "status",
            old: Some(old),
            user: user.clone(),
            ..Try::create("", "pods")
        };
        assert_eq!(attempt.run(&plugin, old).await.is_ok(), allowed);
        let object = json!({
            "metadata": { "namespace": "ns", "name": "x" },
            "spec": old.spec.as_ref().unwrap(),
        });
        memory.put("", "pods", object);
        let attempt = Try {
            operation: Operation::Delete,
            user: user.clone(),
            ..Try::create("", "pods")
        };
        assert_eq!(attempt.run(&plugin, old).await.is_ok(), allowed);
    }
}

#[tokio::test]
async fn a_node_publishes_its_own_devices_alone() {
    let (_, reader) = reader();
    let plugin = NodeRestriction::new(reader);
    let slice = |node: Value| -> ResourceSlice {
        serde_json::from_value(json!({ "metadata": { "name": "x" }, "spec": {
            "driver": "d", "nodeName": node, "allNodes": node.is_null(),
            "pool": { "name": "p", "generation": 1, "resourceSliceCount": 1 },
        } }))
        .unwrap()
    };
    for (node, allowed) in [
        (json!("a"), true),
        (json!("b"), false),
        (json!(null), false),
    ] {
        let object = slice(node);
        for operation in [Operation::Create, Operation::Update, Operation::Delete] {
            let attempt = Try {
                operation,
                namespace: "",
                user: Identity::user("system:node:a").group(NODES),
                old: (operation != Operation::Create).then_some(&object as &dyn Object),
                ..Try::create("resource.k8s.io", "resourceslices")
            };
            let result = attempt.run(&plugin, &object).await;
            assert_eq!(result.is_ok(), allowed, "{operation:?} {result:?}");
        }
    }
}

#[tokio::test]
async fn devices_of_others_are_for_labelled_namespaces() {
    let (memory, reader) = reader();
    let plugin = DeviceAdminAccess::new(reader);
    let claim = |admin: bool| -> ResourceClaim {
        let request =
            json!({ "name": "r", "exactly": { "deviceClassName": "c", "adminAccess": admin } });
        let spec = json!({ "devices": { "requests": [request] } });
        serde_json::from_value(json!({ "metadata": { "name": "x" }, "spec": spec })).unwrap()
    };
    let attempt = Try::create("resource.k8s.io", "resourceclaims");
    memory.put("", "namespaces", json!({ "metadata": { "name": "ns" } }));
    attempt.run(&plugin, &claim(false)).await.unwrap();
    let error = attempt.run(&plugin, &claim(true)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "ResourceClaim.resource.k8s.io \"x\" is invalid: spec.devices.requests[0].exactly.adminAccess: Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace"
    );
    let labels = json!({ "resource.kubernetes.io/admin-access": "true" });
    memory.put(
        "",
        "namespaces",
        json!({ "metadata": { "name": "ns", "labels": labels } }),
    );
    attempt.run(&plugin, &claim(true)).await.unwrap();
}

/// Allows what is named so: `verb resource/subresource namespace name`.
#[derive(Debug)]
struct Grants(&'static [&'static str]);

#[async_trait::async_trait]
impl Authorizer for Grants {
    async fn authorize(&self, a: &Attributes<'_>) -> Decision {
        let (resource, sub) = (a.resource, a.subresource);
        let asked = format!("{} {resource}/{sub} {} {}", a.verb, a.namespace, a.name);
        match self.0.contains(&asked.trim_end()) {
            true => Decision::Allow,
            false => Decision::no_opinion(),
        }
    }
}

#[tokio::test]
async fn what_a_claim_has_is_for_those_to_say_who_may_bind_or_drive() {
    let claim = |status: Value| -> ResourceClaim {
        serde_json::from_value(json!({ "metadata": { "name": "x" }, "spec": {}, "status": status }))
            .unwrap()
    };
    let allocation = |nodes: Value| {
        json!({ "nodeSelector": { "nodeSelectorTerms": [{ "matchFields": [
            { "key": "metadata.name", "operator": "In", "values": nodes },
        ] }] } })
    };
    let device = |driver: &str, data: &str| json!({ "driver": driver, "pool": "p", "device": "d", "data": { "a": data } });
    let one = allocation(json!(["n"]));
    let reserved = json!([{ "resource": "pods", "name": "p", "uid": "1" }]);
    let account = |node: &str| {
        let mut account = Identity::service_account("ns", "driver", "u");
        let key = "authentication.kubernetes.io/node-name".to_owned();
        account.extra.insert(key, vec![node.to_owned()]);
        account
    };
    let user = Identity::user("someone");
    let bind = "changing status.allocation or status.reservedFor requires resource=\"resourceclaims/binding\", verb=\"update\" permission: resourceclaims.resource.k8s.io is forbidden: User \"someone\" cannot update resource \"resourceclaims/binding\" in API group \"resource.k8s.io\" at the cluster scope";
    let drive = "changing status.devices requires resource=\"resourceclaims/driver\", verb=\"[arbitrary-node:update]\" permission: resourceclaims.resource.k8s.io \"a\" is forbidden: User \"someone\" cannot arbitrary-node:update resource \"resourceclaims/driver\" in API group \"resource.k8s.io\" in the namespace \"ns\"";
    let here = json!({ "allocation": one, "devices": [device("a", "1")] });
    let told = json!({ "allocation": one, "devices": [device("a", "2")] });
    let gone = json!({ "allocation": one, "devices": [] });
    let both = json!({ "allocation": one, "devices": [device("a", "2"), device("b", "1")] });
    let wide =
        json!({ "allocation": allocation(json!(["n", "m"])), "devices": [device("a", "1")] });
    let wider =
        json!({ "allocation": allocation(json!(["n", "m"])), "devices": [device("a", "2")] });
    let binding = &["update resourceclaims/binding"][..];
    let anywhere = &["arbitrary-node:update resourceclaims/driver ns a"][..];
    let associated = &["associated-node:update resourceclaims/driver ns a"][..];
    for (user, grants, old, new, refused) in [
        (
            &user,
            &[][..],
            json!({}),
            json!({ "reservedFor": [] }),
            None,
        ),
        (
            &user,
            &[],
            json!({}),
            json!({ "allocation": one }),
            Some(bind),
        ),
        (
            &user,
            &[],
            json!({}),
            json!({ "reservedFor": reserved }),
            Some(bind),
        ),
        (
            &user,
            anywhere,
            here.clone(),
            json!({ "devices": [device("a", "1")] }),
            Some(bind),
        ),
        (
            &user,
            binding,
            json!({}),
            json!({ "allocation": one, "reservedFor": reserved }),
            None,
        ),
        (&user, binding, here.clone(), told.clone(), Some(drive)),
        (&user, associated, here.clone(), told.clone(), Some(drive)),
        (&user, anywhere, here.clone(), told.clone(), None),
        (&user, anywhere, here.clone(), gone.clone(), None),
        (&user, binding, here.clone(), gone, Some(drive)),
        (&account("n"), associated, here.clone(), told.clone(), None),
        (&account("n"), anywhere, here.clone(), told.clone(), None),
        (
            &account("m"),
            associated,
            here.clone(),
            told,
            Some("verb=\"[arbitrary-node:update]\""),
        ),
        (
            &account("n"),
            associated,
            here,
            both,
            Some(
                "verb=\"[associated-node:update arbitrary-node:update]\" permission: resourceclaims.resource.k8s.io \"b\"",
            ),
        ),
        (
            &account("n"),
            associated,
            wide,
            wider,
            Some("verb=\"[arbitrary-node:update]\""),
        ),
    ] {
        let (old, new) = (claim(old), claim(new));
        let plugin = DeviceStatus::new(Arc::new(Grants(grants)));
        let attempt = Try {
            operation: Operation::Update,
            subresource: "status",
            user: user.clone(),
            old: Some(&old),
            ..Try::create("resource.k8s.io", "resourceclaims")
        };
        let result = attempt.run(&plugin, &new).await;
        match (result, refused) {
            (Ok(_), None) => {}
            (Err(error), Some(text)) => {
                assert!(error.to_string().contains(text), "{error}");
                let AdmissionError::Status(status) = error else {
                    panic!("{error:?}");
                };
                assert_eq!(status.code, Some(422));
            }
            (result, _) => panic!("{grants:?} {new:?} {result:?}"),
        }
    }
}

#[tokio::test]
async fn signers_are_for_those_to_speak_for_who_may() {
    let bundle =
        |labels: Value, owned: bool| -> k8s_openapi::api::certificates::v1::ClusterTrustBundle {
            let mut bundle = json!({ "metadata": { "name": "x", "labels": labels },
            "spec": { "signerName": "a.b/c", "trustBundle": "" } });
            if owned {
                bundle["metadata"]["ownerReferences"] =
                    json!([{ "apiVersion": "v1", "kind": "Node", "name": "n", "uid": "1" }]);
            }
            serde_json::from_value(bundle).unwrap()
        };
    let (plain, labelled, owned) = (
        bundle(json!({}), false),
        bundle(json!({ "a": "b" }), false),
        bundle(json!({}), true),
    );
    let mut nobodys = plain.clone();
    nobodys.spec.signer_name = None;
    let refusal = "user not permitted to attest for signerName \"a.b/c\"";
    for (grants, old, new, allowed) in [
        (&[][..], None, &plain, false),
        (&[], None, &nobodys, true),
        (&[], Some(&plain), &labelled, false),
        (&[], Some(&plain), &owned, true),
        (&["sign signers/  a.b/c"], None, &plain, false),
        (&["attest signers/  a.b/d"], None, &plain, false),
        (&["attest signers/  a.b/c"], None, &plain, true),
        (&["attest signers/  a.b/*"], Some(&plain), &labelled, true),
    ] {
        let attempt = Try {
            operation: match old {
                Some(_) => Operation::Update,
                None => Operation::Create,
            },
            namespace: "",
            old: old.map(|old| old as &dyn Object),
            ..Try::create("certificates.k8s.io", "clustertrustbundles")
        };
        let plugin = ClusterTrustBundleAttest::new(Arc::new(Grants(grants)));
        match attempt.run(&plugin, new).await {
            Ok(_) => assert!(allowed, "{grants:?}"),
            Err(error) => assert_eq!((allowed, &*error.to_string()), (false, refusal)),
        }
    }
    let request = |chain: &str| -> k8s_openapi::api::certificates::v1::PodCertificateRequest {
        let spec = json!({ "signerName": "a.b/c", "podName": "p", "podUID": "1", "serviceAccountName": "s",
            "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "stubPKCS10Request": "" });
        let status = json!({ "certificateChain": chain });
        serde_json::from_value(
            json!({ "metadata": { "name": "x" }, "spec": spec, "status": status }),
        )
        .unwrap()
    };
    let old = request("");
    for (grants, chain, allowed) in [
        (&[][..], "pem", false),
        (&[], "", true),
        (&["attest signers/  a.b/c"], "pem", false),
        (&["sign signers/  a.b/c"], "pem", true),
        (&["sign signers/  a.b/*"], "pem", true),
    ] {
        let attempt = Try {
            operation: Operation::Update,
            subresource: "status",
            old: Some(&old),
            ..Try::create("certificates.k8s.io", "podcertificaterequests")
        };
        let plugin = PodCertificateSigning::new(Arc::new(Grants(grants)));
        match attempt.run(&plugin, &request(chain)).await {
            Ok(_) => assert!(allowed, "{grants:?}"),
            Err(error) => {
                let text = "spec.signerName: Forbidden: User \"someone\" is not permitted to \"sign\" for signer \"a.b/c\"";
                assert!(!allowed && error.to_string().contains(text), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn policies_read_nothing_for_those_who_may_not() {
    use k8s_openapi::api::admissionregistration::v1::{
        ValidatingAdmissionPolicy as Policy, ValidatingAdmissionPolicyBinding as Binding,
    };
    const GROUP: &str = "admissionregistration.k8s.io";
    let (memory, reader) = reader();
    let policy = |version: &str, kind: &str| json!({ "metadata": { "name": "x" }, "spec": { "paramKind": { "apiVersion": version, "kind": kind } } });
    let plain = json!({ "metadata": { "name": "x" }, "spec": {} });
    let secrets = policy("v1", "Secret");
    memory.put(GROUP, "validatingadmissionpolicies", secrets.clone());
    let all = &["get secrets/ * *"][..];
    let one = &["get secrets/ kube-system s"][..];
    let every = &["get */ * *"][..];
    for (grants, old, new, allowed) in [
        (&[][..], None, &plain, true),
        (&[], None, &secrets, false),
        (one, None, &secrets, false),
        (all, None, &secrets, true),
        (&[], Some(&secrets), &secrets, true),
        (&[], Some(&plain), &secrets, false),
        (all, Some(&secrets), &policy("v1", "ConfigMap"), false),
        (all, None, &policy("a.b/v1", "Unknown"), false),
        (every, None, &policy("a.b/v1", "Unknown"), true),
    ] {
        let new: Policy = serde_json::from_value(new.clone()).unwrap();
        let old: Option<Policy> = old.map(|old| serde_json::from_value(old.clone()).unwrap());
        let attempt = Try {
            operation: match old {
                Some(_) => Operation::Update,
                None => Operation::Create,
            },
            namespace: "",
            old: old.as_ref().map(|old| old as &dyn Object),
            ..Try::create(GROUP, "validatingadmissionpolicies")
        };
        let plugin = PolicyParams::new(reader.clone(), Arc::new(Grants(grants)));
        match attempt.run(&plugin, &new).await {
            Ok(_) => assert!(allowed, "{grants:?} {new:?}"),
            Err(error) => {
                let text = "spec.paramKind: Forbidden: user &{someone  [] map[]} must have \"get\" permission on all objects of the referenced paramKind (kind=";
                assert!(!allowed && error.to_string().contains(text), "{error}");
            }
        }
    }
    let binding = |policy: &str, name: &str| {
        json!({ "metadata": { "name": "x" }, "spec": { "policyName": policy,
        "paramRef": { "name": name, "namespace": "kube-system" } } })
    };
    let bound = json!({ "metadata": { "name": "x" }, "spec": { "policyName": "x" } });
    for (grants, old, new, allowed) in [
        (&[][..], None, &bound, true),
        (&[], None, &binding("x", "s"), false),
        (one, None, &binding("x", "s"), true),
        (one, None, &binding("x", "t"), false),
        (one, None, &binding("other", "s"), false),
        (
            &["get */ kube-system s"],
            None,
            &binding("other", "s"),
            true,
        ),
        (&[], Some(&binding("x", "s")), &binding("x", "s"), true),
        (&[], Some(&binding("x", "s")), &binding("x", "t"), false),
        (&[], Some(&binding("other", "s")), &binding("x", "s"), false),
    ] {
        let new: Binding = serde_json::from_value(new.clone()).unwrap();
        let old: Option<Binding> = old.map(|old| serde_json::from_value(old.clone()).unwrap());
        let attempt = Try {
            operation: match old {
                Some(_) => Operation::Update,
                None => Operation::Create,
            },
            namespace: "",
            old: old.as_ref().map(|old| old as &dyn Object),
            ..Try::create(GROUP, "validatingadmissionpolicybindings")
        };
        let plugin = PolicyParams::new(reader.clone(), Arc::new(Grants(grants)));
        match attempt.run(&plugin, &new).await {
            Ok(_) => assert!(allowed, "{grants:?} {new:?}"),
            Err(error) => {
                let text = "spec.paramRef: Forbidden: user &{someone  [] map[]} does not have \"get\" permission on the object referenced by paramRef";
                assert!(!allowed && error.to_string().contains(text), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn devices_of_others_are_given_to_labelled_namespaces_alone() {
    let (memory, reader) = reader();
    let plugin = DeviceAdminAccess::new(reader);
    let claim = |admin: Value| -> ResourceClaim {
        let result = json!({ "request": "r", "driver": "d", "pool": "p", "device": "d", "adminAccess": admin });
        let status = json!({ "allocation": { "devices": { "results": [result] } } });
        serde_json::from_value(json!({ "metadata": { "name": "x" }, "spec": {}, "status": status }))
            .unwrap()
    };
    let (plain, admin) = (claim(json!(null)), claim(json!(true)));
    let label = |labels: Value| {
        let namespace = json!({ "metadata": { "name": "ns", "labels": labels } });
        memory.put("", "namespaces", namespace);
    };
    label(json!({}));
    let attempt = |old| Try {
        operation: Operation::Update,
        subresource: "status",
        old: Some(old),
        ..Try::create("resource.k8s.io", "resourceclaims")
    };
    let error = attempt(&plain).run(&plugin, &admin).await.unwrap_err();
    let text = "status.allocation.devices.results[0].adminAccess: Forbidden: admin access to devices requires";
    assert!(error.to_string().contains(text), "{error}");
    attempt(&plain).run(&plugin, &plain).await.unwrap();
    attempt(&admin).run(&plugin, &admin).await.unwrap();
    label(json!({ "resource.kubernetes.io/admin-access": "true" }));
    attempt(&plain).run(&plugin, &admin).await.unwrap();
}

#[tokio::test]
async fn a_node_asks_for_tokens_that_its_pods_volumes_have_or_that_it_may_have() {
    let (memory, reader) = reader();
    let volumes = json!([
        { "name": "t", "projected": { "sources": [
            { "serviceAccountToken": { "path": "t", "audience": "vault" } },
        ] } },
        { "name": "d", "persistentVolumeClaim": { "claimName": "data" } },
    ]);
    memory.put(
        "",
        "pods",
        json!({
            "metadata": { "namespace": "ns", "name": "p", "uid": "1" },
            "spec": { "nodeName": "a", "serviceAccountName": "x", "containers": [], "volumes": volumes },
        }),
    );
    let claim = json!({ "metadata": { "namespace": "ns", "name": "data" }, "spec": { "volumeName": "pv" } });
    memory.put("", "persistentvolumeclaims", claim);
    let volume = json!({ "metadata": { "name": "pv" }, "spec": { "csi": { "driver": "d", "volumeHandle": "h" } } });
    memory.put("", "persistentvolumes", volume);
    let driver = json!({ "metadata": { "name": "d" }, "spec": { "tokenRequests": [{ "audience": "cloud" }] } });
    memory.put("storage.k8s.io", "csidrivers", driver);
    let group = "rbac.authorization.k8s.io";
    let role = json!({ "metadata": { "name": "pulls" }, "rules": [{
        "apiGroups": [""], "resources": ["registry"], "verbs": ["request-serviceaccounts-token-audience"],
        "resourceNames": ["x"],
    }] });
    memory.put(group, "clusterroles", role);
    let binding = json!({
        "metadata": { "name": "pulls" },
        "roleRef": { "kind": "ClusterRole", "name": "pulls" },
        "subjects": [{ "kind": "Group", "name": NODES }],
    });
    memory.put(group, "clusterrolebindings", binding);
    let rbac = crate::authz::rbac::Rbac::start(&*reader);
    rbac.synced().await;
    let plugin = NodeRestriction::new(reader).with_authorizer(Arc::new(rbac));
    let ask = async |audiences: Value| {
        let request: k8s_openapi::api::authentication::v1::TokenRequest =
            serde_json::from_value(json!({ "spec": {
                "audiences": audiences,
                "boundObjectRef": { "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1" },
            } }))
            .unwrap();
        let attempt = Try {
            subresource: "token",
            user: Identity::user("system:node:a").group(NODES),
            ..Try::create("", "serviceaccounts")
        };
        let done = attempt.run(&plugin, &request).await;
        done.map(|_| ()).map_err(|e| e.to_string())
    };
    for audience in ["vault", "cloud", "registry"] {
        ask(json!([audience])).await.unwrap();
    }
    let refused = ask(json!(["other"])).await.unwrap_err();
    assert_eq!(
        refused,
        r#"audience "other" not found in pod spec volume, system:node:a is not authorized to request tokens for this audience"#
    );
    assert_eq!(
        ask(json!(["vault", "cloud"])).await.unwrap_err(),
        "node may only request 0 or 1 audiences"
    );
    assert!(ask(json!([])).await.is_err(), "no volume has such a token");
}

#[tokio::test]
async fn a_node_asks_for_its_own_certificates() {
    let (_, reader) = reader();
    let plugin = NodeRestriction::new(reader);
    let user = || Identity::user("system:node:a").group(NODES);
    for (subject, allowed) in [("system:node:a", true), ("system:node:b", false)] {
        let mut params = rcgen::CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, subject);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        for (signer, allowed) in [
            ("kubernetes.io/kubelet-serving", allowed),
            ("example.com/other", true),
        ] {
            let mut asked =
                k8s_openapi::api::certificates::v1::CertificateSigningRequest::default();
            asked.spec.signer_name = signer.to_owned();
            asked.spec.request.0 = pem.clone().into_bytes();
            let attempt = Try {
                namespace: "",
                user: user(),
                ..Try::create("certificates.k8s.io", "certificatesigningrequests")
            };
            let done = attempt.run(&plugin, &asked).await;
            let refused = done.err().map(|e| e.to_string());
            let said = "can only create a node CSR with CN=system:node:a".to_owned();
            assert_eq!(refused, (!allowed).then_some(said), "{subject} {signer}");
        }
    }
}

#[tokio::test]
async fn a_node_makes_no_pods_with_claims_and_gives_none_to_pods() {
    let (memory, reader) = reader();
    memory.put(
        "",
        "nodes",
        json!({ "metadata": { "name": "a", "uid": "n" } }),
    );
    let plugin = NodeRestriction::new(reader);
    let user = || Identity::user("system:node:a").group(NODES);
    let mirror = |spec: Value| {
        let mut pod = pod(spec);
        pod.metadata.annotations = Some([(MIRROR_POD.to_owned(), "x".to_owned())].into());
        pod.metadata.owner_references = Some(vec![
            serde_json::from_value(json!({
                "apiVersion": "v1", "kind": "Node", "name": "a", "uid": "n", "controller": true,
            }))
            .unwrap(),
        ]);
        pod
    };
    let bundle = json!([{ "name": "t", "projected": { "sources": [
        { "clusterTrustBundle": { "name": "b", "path": "p" } },
    ] } }]);
    for (more, refused) in [
        (json!({}), None),
        (
            json!({ "resourceClaims": [{ "name": "r", "resourceClaimName": "c" }] }),
            Some("resourceclaims"),
        ),
        (json!({ "volumes": bundle }), Some("clustertrustbundles")),
    ] {
        let mut spec = more;
        spec["nodeName"] = "a".into();
        let attempt = Try {
            user: user(),
            ..Try::create("", "pods")
        };
        let done = attempt.run(&plugin, &mirror(spec)).await;
        let said = done.err().map(|e| e.to_string());
        let wanted =
            refused.map(|what| format!(r#"node "a" can not create pods that reference {what}"#));
        assert_eq!(said, wanted);
    }
    let old = pod(json!({ "nodeName": "a" }));
    let mut new = old.clone();
    let status = json!({ "resourceClaimStatuses": [{ "name": "r", "resourceClaimName": "c" }] });
    new.status = serde_json::from_value(status).unwrap();
    let attempt = Try {
        operation: Operation::Update,
        subresource: "status",
        old: Some(&old),
        user: user(),
        ..Try::create("", "pods")
    };
    let error = attempt.run(&plugin, &new).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"node "a" cannot update resource claim statues"#
    );
    let mut new = old.clone();
    let status = json!({ "extendedResourceClaimStatus": { "resourceClaimName": "c", "requestMappings": [] } });
    new.status = serde_json::from_value(status).unwrap();
    let attempt = Try {
        operation: Operation::Update,
        subresource: "status",
        old: Some(&old),
        user: user(),
        ..Try::create("", "pods")
    };
    let error = attempt.run(&plugin, &new).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"node "a" cannot update extended resource claim status"#
    );
}

#[tokio::test]
async fn a_node_asks_for_certificates_of_its_running_pods_alone() {
    let (memory, reader) = reader();
    let object =
        |name: &str, uid: &str| json!({"metadata": {"namespace": "ns", "name": name, "uid": uid}});
    memory.put(
        "",
        "nodes",
        json!({"metadata": {"name": "a", "uid": "n-1"}}),
    );
    memory.put("", "serviceaccounts", object("sa", "sa-1"));
    for (name, node, mirror) in [("p", "a", false), ("q", "b", false), ("m", "a", true)] {
        let mut pod = object(name, &format!("{name}-1"));
        pod["spec"] = json!({"nodeName": node, "serviceAccountName": "sa", "containers": []});
        if mirror {
            pod["metadata"]["annotations"] = json!({MIRROR_POD: "x"});
        }
        memory.put("", "pods", pod);
    }
    let plugin = NodeRestriction::new(reader);
    for (change, refused) in [
        (json!({}), None),
        (
            json!({"nodeName": "b"}),
            Some("which is not the requesting node \"a\""),
        ),
        (
            json!({"podName": "none"}),
            Some("pod \"ns/none\", which does not exist"),
        ),
        (
            json!({"podUID": "p-0"}),
            Some("contains a pod UID (\"p-0\")"),
        ),
        (
            json!({"podName": "q", "podUID": "q-1"}),
            Some("is bound to node \"b\""),
        ),
        (
            json!({"podName": "m", "podUID": "m-1"}),
            Some("is a mirror pod"),
        ),
        (
            json!({"serviceAccountName": "root"}),
            Some("a service account name (\"root\")"),
        ),
        (
            json!({"serviceAccountUID": "sa-0"}),
            Some("a service account UID (\"sa-0\")"),
        ),
        (json!({"nodeUID": "n-0"}), Some("a node UID (\"n-0\")")),
    ] {
        let mut spec = json!({
            "signerName": "example.com/s", "podName": "p", "podUID": "p-1", "nodeName": "a", "nodeUID": "n-1",
            "serviceAccountName": "sa", "serviceAccountUID": "sa-1", "stubPKCS10Request": "",
        });
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone();
        }
        let asked: k8s_openapi::api::certificates::v1::PodCertificateRequest =
            serde_json::from_value(json!({"metadata": {"name": "r"}, "spec": spec})).unwrap();
        let attempt = Try {
            user: Identity::user("system:node:a").group(NODES),
            ..Try::create("certificates.k8s.io", "podcertificaterequests")
        };
        let done = attempt.run(&plugin, &asked).await;
        let said = done.err().map(|e| e.to_string());
        match (said, refused) {
            (None, None) => {}
            (Some(said), Some(text)) if said.contains(text) => {}
            (said, refused) => panic!("{said:?} instead of {refused:?}"),
        }
    }
}
