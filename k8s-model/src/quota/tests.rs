use serde_json::{Value, json};

use super::*;

fn of<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn shown(amounts: &Amounts) -> String {
    let parts: Vec<String> = amounts.iter().map(|(n, a)| format!("{n}={a}")).collect();
    parts.join(" ")
}

fn pod(spec: Value) -> Pod {
    of(json!({"metadata": {"name": "p"}, "spec": spec}))
}

#[test]
fn a_pod_counts_with_what_it_asks_for_until_it_is_over() {
    let mut pod = pod(json!({"containers": [{"name": "c", "resources": {
        "requests": {"cpu": "500m", "memory": "1Gi", "example.com/gpu": "2"},
        "limits": {"cpu": "1", "example.com/gpu": "2"},
    }}]}));
    assert_eq!(
        shown(&Meter::Pods.usage(Counted::Pod(&pod), now())),
        "count/pods=1 cpu=500m limits.cpu=1 memory=1Gi pods=1 requests.cpu=500m \
         requests.example.com/gpu=2 requests.memory=1Gi"
    );
    pod.status.get_or_insert_default().phase = Some("Succeeded".to_owned());
    assert_eq!(
        shown(&Meter::Pods.usage(Counted::Pod(&pod), now())),
        "count/pods=1"
    );
}

#[test]
fn a_service_counts_its_intended_node_ports() {
    let service = |spec| -> Service { of(json!({"metadata": {}, "spec": spec})) };
    let ports = json!([{"port": 1}, {"port": 2, "nodePort": 30000}]);
    for (spec, ports, balancers) in [
        (json!({"type": "ClusterIP", "ports": ports}), 0, 0),
        (json!({"type": "NodePort", "ports": ports}), 2, 0),
        (json!({"type": "LoadBalancer", "ports": ports}), 2, 1),
        (
            json!({"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false}),
            1,
            1,
        ),
    ] {
        let used = Meter::Services.usage(Counted::Service(&service(spec)), now());
        assert_eq!(used["services.nodeports"].value(), ports);
        assert_eq!(used["services.loadbalancers"].value(), balancers);
    }
}

#[test]
fn a_claim_counts_by_class_too() {
    let claim: PersistentVolumeClaim = of(json!({"metadata": {}, "spec": {
        "storageClassName": "gold", "resources": {"requests": {"storage": "10Gi"}},
    }}));
    let used = Meter::Claims.usage(Counted::Claim(&claim), now());
    assert_eq!(
        shown(&used),
        "count/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
         gold.storageclass.storage.k8s.io/requests.storage=10Gi persistentvolumeclaims=1 \
         requests.storage=10Gi"
    );
    assert!(used.keys().all(|name| Meter::Claims.measures(name)));
}

#[test]
fn a_claim_to_devices_counts_what_it_may_get_of_each_class() {
    let used = |requests: Value| {
        let claim: ResourceClaim = of(json!({
            "metadata": {}, "spec": {"devices": {"requests": requests}},
        }));
        let used = Meter::DeviceClaims.usage(Counted::DeviceClaim(&claim), now());
        assert!(used.keys().all(|name| Meter::DeviceClaims.measures(name)));
        let class = |name: &str| {
            let of_class = used.get(&format!("{name}.deviceclass.resource.k8s.io/devices"));
            of_class.map(|amount| amount.value())
        };
        assert_eq!(used["count/resourceclaims.resource.k8s.io"].value(), 1);
        (class("gpu"), class("tpu"))
    };
    let asks = |class: &str, mode: &str, count: i64| json!({"name": "r", "deviceClassName": class, "allocationMode": mode, "count": count});
    let exactly = |request: Value| json!({"name": "r", "exactly": request});
    let first = |requests: &[Value]| json!({"name": "r", "firstAvailable": requests});
    let gpus = |count| asks("gpu", "ExactCount", count);
    let all = asks("gpu", "All", 0);
    let later = asks("gpu", "future-mode", 7);
    let mut admin = gpus(1);
    admin["adminAccess"] = json!(true);
    for (requests, gpu, tpu) in [
        (json!([exactly(gpus(5))]), Some(5), None),
        (json!([exactly(gpus(1)), exactly(gpus(2))]), Some(3), None),
        (json!([exactly(all.clone())]), Some(32), None),
        (json!([exactly(later)]), Some(0), None),
        (json!([exactly(admin)]), Some(1), None),
        (json!([first(&[gpus(2), gpus(1)])]), Some(2), None),
        (
            json!([
                first(&[gpus(1), all, asks("tpu", "All", 0)]),
                exactly(gpus(1))
            ]),
            Some(33),
            Some(32),
        ),
    ] {
        assert_eq!(used(requests.clone()), (gpu, tpu), "{requests}");
    }
    assert_eq!(
        Meter::of("resource.k8s.io", "resourceclaims"),
        Some(Meter::DeviceClaims)
    );
    assert!(!Meter::DeviceClaims.measures("resourceclaims"));
}

#[test]
fn scopes_select_pods() {
    let affine = json!({"containers": [], "affinity": {"podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "z", "namespaces": ["o"]}],
    }}});
    let asking = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]});
    let bounded = json!({"containers": [], "activeDeadlineSeconds": 5});
    let classy = json!({"containers": [], "priorityClassName": "high"});
    let plain = json!({"containers": []});
    let scope = |name: &str, operator: &str, values: &[&str]| ScopedResourceSelectorRequirement {
        scope_name: name.to_owned(),
        operator: operator.to_owned(),
        values: Some(values.iter().map(|v| (*v).to_owned()).collect()),
    };
    for (scope, spec, inside) in [
        (scope("Terminating", "Exists", &[]), &bounded, true),
        (scope("Terminating", "Exists", &[]), &plain, false),
        (scope("NotTerminating", "Exists", &[]), &plain, true),
        (scope("BestEffort", "Exists", &[]), &plain, true),
        (scope("BestEffort", "Exists", &[]), &asking, false),
        (scope("NotBestEffort", "Exists", &[]), &asking, true),
        (scope("PriorityClass", "In", &["high"]), &classy, true),
        (scope("PriorityClass", "NotIn", &["high"]), &classy, false),
        (scope("PriorityClass", "NotIn", &["high"]), &plain, true),
        (scope("PriorityClass", "Exists", &[]), &plain, false),
        (scope("PriorityClass", "DoesNotExist", &[]), &plain, true),
        (
            scope("CrossNamespacePodAffinity", "Exists", &[]),
            &affine,
            true,
        ),
        (
            scope("CrossNamespacePodAffinity", "Exists", &[]),
            &plain,
            false,
        ),
    ] {
        let pod = pod(spec.clone());
        assert_eq!(
            in_scope(std::slice::from_ref(&scope), Counted::Pod(&pod)),
            inside,
            "{scope:?} {spec}"
        );
        assert!(!in_scope(&[scope], Counted::Other));
    }
}

#[test]
fn a_quota_on_cpu_or_memory_demands_that_containers_say_how_much() {
    let pod = pod(json!({"containers": [
        {"name": "b", "resources": {"requests": {"cpu": "1"}}},
        {"name": "a"},
    ]}));
    let limited = ["limits.memory", "pods", "requests.cpu"];
    assert_eq!(
        Meter::Pods
            .check_constraints(limited, Counted::Pod(&pod))
            .unwrap_err(),
        "must specify limits.memory for: a,b; requests.cpu for: a"
    );
    assert_eq!(
        Meter::Pods.check_constraints(["pods"], Counted::Pod(&pod)),
        Ok(())
    );
}

#[test]
fn a_pod_that_says_how_much_it_takes_as_a_whole_need_not_say_it_of_its_containers() {
    let limited = ["limits.memory", "requests.cpu"];
    for (resources, exempt) in [
        (json!({"requests": {"cpu": "1"}}), true),
        (json!({"limits": {"memory": "1Gi"}}), true),
        (json!({"requests": {"hugepages-2Mi": "2Mi"}}), true),
        (json!({"requests": {"ephemeral-storage": "1Gi"}}), false),
        (json!({"requests": {}}), false),
        (json!({}), false),
    ] {
        let pod = pod(json!({"containers": [{"name": "a"}], "resources": resources}));
        let checked = Meter::Pods.check_constraints(limited, Counted::Pod(&pod));
        assert_eq!(checked.is_ok(), exempt, "{resources}");
    }
}

#[test]
fn a_quota_is_charged_up_to_its_limit() {
    let quota: ResourceQuota = of(json!({
        "metadata": {"name": "q"},
        "status": {"hard": {"cpu": "1", "pods": "2"}, "used": {"cpu": "500m", "pods": "1"}},
    }));
    let more = |cpu: &str| {
        Amounts::from([
            ("cpu".to_owned(), Amount::parse(cpu).unwrap()),
            ("pods".to_owned(), ONE),
            ("memory".to_owned(), ONE),
        ])
    };
    assert_eq!(
        shown(&charge(&quota, &more("500m")).unwrap()),
        "cpu=1 pods=2"
    );
    assert_eq!(
        charge(&quota, &more("600m")).unwrap_err(),
        "exceeded quota: q, requested: cpu=600m, used: cpu=500m, limited: cpu=1"
    );
}

#[test]
fn names_say_what_is_counted() {
    assert_eq!(
        counted_resource("count/deployments.apps"),
        Some(("apps", "deployments"))
    );
    assert_eq!(counted_resource("secrets"), Some(("", "secrets")));
    assert_eq!(
        counted_resource("count/widgets.a.example.com"),
        Some(("a.example.com", "widgets"))
    );
    for name in [
        "count/resourceclaims.resource.k8s.io",
        "gpu.deviceclass.resource.k8s.io/devices",
    ] {
        assert_eq!(
            counted_resource(name),
            Some(("resource.k8s.io", "resourceclaims"))
        );
    }
    assert_eq!(counted_resource("count/pods"), None);
    assert_eq!(counted_resource("requests.cpu"), None);
    assert_eq!(counted_resource("count/events"), None);
    assert_eq!(
        Meter::of("", "configmaps"),
        Some(Meter::Count(vec![
            "count/configmaps".to_owned(),
            "configmaps".to_owned()
        ]))
    );
    assert_eq!(Meter::of("events.k8s.io", "events"), None);
}
