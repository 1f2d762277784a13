//! The addresses and ports of Services.

use http::StatusCode;
use k8s_apiserver::ApiServer;
use serde_json::{Value, json};

use crate::common::{call, get, server};

pub(crate) const SERVICES: &str = "/api/v1/namespaces/default/services";

pub(crate) fn service(name: &str, spec: Value) -> Value {
    let mut body =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
    body["spec"]["ports"] = body["spec"]["ports"]
        .as_array()
        .cloned()
        .unwrap_or(vec![json!({"port": 80})])
        .into();
    body
}

#[tokio::test]
async fn services_get_addresses_and_ports_of_their_own() {
    let server = server().await;
    let (status, one) = call(
        &server,
        "POST",
        SERVICES,
        service("one", json!({"type": "NodePort"})),
    )
    .await;
    assert_eq!(status, StatusCode::CREATED, "{one}");
    let ip = one["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(ip.starts_with("10.96."), "{one}");
    assert_eq!(one["spec"]["clusterIPs"], json!([ip]));
    assert_eq!(one["spec"]["ipFamilies"], json!(["IPv4"]));
    let port = one["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
    assert!((30000..=32767).contains(&port));

    let (status, error) = call(
        &server,
        "POST",
        SERVICES,
        service("two", json!({"clusterIP": ip})),
    )
    .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        error["message"].as_str().unwrap().ends_with(&format!(
            "failed to allocate IP {ip}: provided IP is already allocated"
        )),
        "{error}"
    );
    let taken = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    let (_, error) = call(&server, "POST", SERVICES, service("two", taken.clone())).await;
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .ends_with("provided port is already allocated"),
        "{error}"
    );

    let (_, patched) = call(
        &server,
        "PATCH",
        &format!("{SERVICES}/one"),
        json!({"metadata": {"labels": {"a": "b"}}}),
    )
    .await;
    assert_eq!(patched["spec"]["clusterIP"], json!(ip));
    assert_eq!(patched["spec"]["ports"][0]["nodePort"], json!(port));
    // An update that leaves them out keeps them.
    let (status, put) = call(
        &server,
        "PUT",
        &format!("{SERVICES}/one"),
        service("one", json!({"type": "NodePort"})),
    )
    .await;
    assert_eq!(status, StatusCode::OK, "{put}");
    assert_eq!(
        (
            &put["spec"]["clusterIP"],
            &put["spec"]["ports"][0]["nodePort"]
        ),
        (&json!(ip), &json!(port))
    );

    call(&server, "DELETE", &format!("{SERVICES}/one"), json!(null)).await;
    let (status, two) = call(&server, "POST", SERVICES, service("two", taken)).await;
    assert_eq!(status, StatusCode::CREATED, "{two}");
    let (status, three) = call(
        &server,
        "POST",
        SERVICES,
        service("three", json!({"clusterIP": ip})),
    )
    .await;
    assert_eq!(status, StatusCode::CREATED, "{three}");
}

#[tokio::test]
async fn a_port_keeps_its_node_port_by_its_name() {
    let server = server().await;
    let ports =
        json!([{"name": "web", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]);
    let spec = json!({"type": "NodePort", "ports": ports});
    let (status, made) = call(&server, "POST", SERVICES, service("one", spec)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let had = |object: &Value, index: usize| object["spec"]["ports"][index]["nodePort"].clone();
    // Others in other places, but for the names.
    let ports = json!([{"name": "dns", "port": 5353, "protocol": "TCP"}, {"name": "web", "port": 8080},
        {"name": "new", "port": 80}]);
    let spec = json!({"type": "NodePort", "ports": ports});
    let path = format!("{SERVICES}/one");
    let (status, put) = call(&server, "PUT", &path, service("one", spec)).await;
    assert_eq!(status, StatusCode::OK, "{put}");
    assert_eq!(had(&put, 0), had(&made, 1), "{put}");
    assert_eq!(had(&put, 1), had(&made, 0), "{put}");
    assert!(![had(&made, 0), had(&made, 1)].contains(&had(&put, 2)));
}

#[tokio::test]
async fn one_port_over_two_protocols_is_one_node_port_of_a_new_service() {
    let server = server().await;
    let numbers = |object: &Value| -> Vec<i64> {
        let ports = object["spec"]["ports"].as_array().unwrap().iter();
        ports.map(|p| p["nodePort"].as_i64().unwrap()).collect()
    };
    let udp = json!({"name": "udp", "port": 53, "protocol": "UDP"});
    let ports = json!([{"name": "web", "port": 80}, {"name": "tcp", "port": 53}, udp]);
    let spec = json!({"type": "NodePort", "ports": ports});
    let (status, made) = call(&server, "POST", SERVICES, service("one", spec)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let given = numbers(&made);
    assert!(given[1] == given[2] && given[0] != given[1], "{given:?}");
    // A number that is chosen for the later one is the earlier one's, too.
    let mut udp = udp;
    udp["nodePort"] = 30100.into();
    let spec = json!({"type": "NodePort", "ports": [{"name": "tcp", "port": 53}, udp]});
    let (status, made) = call(&server, "POST", SERVICES, service("two", spec)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(numbers(&made), [30100, 30100]);
    // What comes later gets one of its own.
    let ports =
        json!([{"name": "tcp", "port": 53}, {"name": "sctp", "port": 53, "protocol": "SCTP"}]);
    let spec = json!({"type": "NodePort", "ports": ports});
    let path = format!("{SERVICES}/two");
    let (status, put) = call(&server, "PUT", &path, service("two", spec)).await;
    assert_eq!(status, StatusCode::OK, "{put}");
    let given = numbers(&put);
    assert!(given[0] == 30100 && given[1] != 30100, "{given:?}");
}

#[tokio::test]
async fn a_new_services_ports_have_numbers_of_their_own() {
    let server = server().await;
    let spec = |first: Value, second: Value| {
        let (mut first, mut second) = (first, second);
        (first["name"], second["name"]) = ("a".into(), "b".into());
        json!({"type": "NodePort", "ports": [first, second]})
    };
    let taken = json!({"port": 80, "nodePort": 30100});
    for other in [
        json!({"port": 81, "nodePort": 30100}),
        json!({"port": 81, "nodePort": 30100, "protocol": "UDP"}),
    ] {
        let asked = service("one", spec(taken.clone(), other));
        let (status, error) = call(&server, "POST", SERVICES, asked).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{error}");
        assert_eq!(
            error["message"],
            "Service \"one\" is invalid: spec.ports[1].nodePort: Invalid value: 30100: provided port is already allocated"
        );
    }
    let shared = json!({"port": 80, "nodePort": 30100, "protocol": "UDP"});
    let asked = service("one", spec(taken.clone(), shared.clone()));
    let (status, made) = call(&server, "POST", SERVICES, asked).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    // Where somebody else has it, it is the first port's.
    let asked = service("two", spec(json!({"port": 80}), shared));
    let (_, error) = call(&server, "POST", SERVICES, asked).await;
    assert_eq!(
        error["message"],
        "Service \"two\" is invalid: spec.ports[0].nodePort: Invalid value: 30100: provided port is already allocated"
    );
}

#[tokio::test]
async fn a_port_that_is_kept_without_being_handed_out_is_nobody_elses() {
    let server = server().await;
    let balanced = json!({"type": "LoadBalancer", "ports": [{"port": 80, "nodePort": 30100}]});
    let (status, one) = call(&server, "POST", SERVICES, service("one", balanced)).await;
    assert_eq!(status, StatusCode::CREATED, "{one}");
    let path = format!("{SERVICES}/one");
    let without = json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false});
    let (status, put) = call(&server, "PUT", &path, service("one", without)).await;
    assert_eq!(status, StatusCode::OK, "{put}");
    assert_eq!(put["spec"]["ports"][0]["nodePort"], 30100);
    let same = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30100}]});
    let (status, error) = call(&server, "POST", SERVICES, service("two", same.clone())).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{error}");
    call(&server, "DELETE", &path, json!(null)).await;
    let (status, two) = call(&server, "POST", SERVICES, service("two", same)).await;
    assert_eq!(status, StatusCode::CREATED, "{two}");
}

#[tokio::test]
async fn leaving_node_ports_gives_up_all_or_is_refused() {
    let server = server().await;
    let spec = |sort: &str, a: i64, b: i64| json!({"type": sort, "ports": [{"name": "a", "port": 80, "nodePort": a}, {"name": "b", "port": 81, "nodePort": b}]});
    let made = service("one", spec("NodePort", 30100, 30101));
    let (status, made) = call(&server, "POST", SERVICES, made).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let path = format!("{SERVICES}/one");
    let changed = service("one", spec("ClusterIP", 30100, 30102));
    let (status, error) = call(&server, "PUT", &path, changed).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{error}");
    let causes = error["details"]["causes"].as_array().unwrap().iter();
    let fields: Vec<&Value> = causes.map(|cause| &cause["field"]).collect();
    assert_eq!(fields, ["spec.ports[0].nodePort", "spec.ports[1].nodePort"]);
    let left = service("one", spec("ClusterIP", 30101, 30100));
    let (status, put) = call(&server, "PUT", &path, left).await;
    assert_eq!(status, StatusCode::OK, "{put}");
    assert_eq!(put["spec"]["ports"][0]["nodePort"], Value::Null);
    let free = service("two", spec("NodePort", 30100, 30101));
    let (status, two) = call(&server, "POST", SERVICES, free).await;
    assert_eq!(status, StatusCode::CREATED, "{two}");
}

#[tokio::test]
async fn a_port_for_health_checks_stays() {
    let server = server().await;
    let spec = |health: i64| json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": health});
    for (name, health) in [("one", 30100), ("two", 30101)] {
        let (status, made) = call(&server, "POST", SERVICES, service(name, spec(health))).await;
        assert_eq!(status, StatusCode::CREATED, "{made}");
    }
    let path = format!("{SERVICES}/one");
    // In no range, somebody else's, free.
    for health in [80, 30101, 30102] {
        let (status, error) = call(&server, "PUT", &path, service("one", spec(health))).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{error}");
        assert_eq!(
            error["message"],
            "Service \"one\" is invalid: spec.healthCheckNodePort: Forbidden: field is immutable"
        );
    }
    let (status, put) = call(&server, "PUT", &path, service("one", spec(0))).await;
    assert_eq!(status, StatusCode::OK, "{put}");
    assert_eq!(put["spec"]["healthCheckNodePort"], 30100);
}

#[tokio::test]
async fn a_chosen_port_for_health_checks_is_in_the_range_and_nobody_elses() {
    let server = server().await;
    let spec = |node: i64, health: i64| {
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": health,
            "ports": [{"port": 80, "nodePort": node}]})
    };
    let taken = "provided port is already allocated";
    let range = "provided port is not in the valid range. The range of valid ports is 30000-32767";
    let (status, one) = call(
        &server,
        "POST",
        SERVICES,
        service("one", spec(30100, 30101)),
    )
    .await;
    assert_eq!(status, StatusCode::CREATED, "{one}");
    for (node, health, text) in [
        (30200, 80, range),
        (30200, 30100, taken),
        (30200, 30101, taken),
        (30200, 30200, taken),
    ] {
        let asked = service("two", spec(node, health));
        let (status, error) = call(&server, "POST", SERVICES, asked).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{error}");
        let text = format!(
            "Internal error occurred: failed to allocate requested HealthCheck NodePort {health}: {text}"
        );
        assert_eq!(error["message"], text);
        assert_eq!(error["reason"], "InternalError");
    }
    // Nothing of what was refused is taken, and what it has is its own to keep.
    let (status, two) = call(
        &server,
        "POST",
        SERVICES,
        service("two", spec(30200, 30201)),
    )
    .await;
    assert_eq!(status, StatusCode::CREATED, "{two}");
    let path = format!("{SERVICES}/one");
    let (status, put) = call(&server, "PUT", &path, service("one", spec(30102, 30101))).await;
    assert_eq!(status, StatusCode::OK, "{put}");
    // Nor is one of its node ports.
    let plain = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30300}]});
    let (status, three) = call(&server, "POST", SERVICES, service("three", plain)).await;
    assert_eq!(status, StatusCode::CREATED, "{three}");
    let path = format!("{SERVICES}/three");
    let (_, error) = call(&server, "PUT", &path, service("three", spec(30300, 30300))).await;
    assert!(
        error["message"].as_str().unwrap().ends_with(taken),
        "{error}"
    );
}

#[tokio::test]
async fn an_updates_node_port_is_not_taken_for_anything_else() {
    let server = server().await;
    let port = |name: &str, protocol: &str, number: i64| json!({"name": name, "port": 80, "protocol": protocol, "nodePort": number});
    let spec = |ports: Value| {
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30200,
            "ports": ports})
    };
    let made = spec(json!([port("a", "TCP", 30100)]));
    let (status, made) = call(&server, "POST", SERVICES, service("one", made)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    let path = format!("{SERVICES}/one");
    // Neither that of its health checks, nor that of another port of the same protocol.
    let put = async |ports: Value| call(&server, "PUT", &path, service("one", spec(ports))).await;
    let (status, error) = put(json!([port("a", "TCP", 30200)])).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{error}");
    assert_eq!(
        error["message"],
        "Service \"one\" is invalid: spec.ports[0].nodePort: Invalid value: 30200: provided port is already allocated"
    );
    for number in [30100, 30101] {
        let mut other = port("b", "TCP", number);
        other["port"] = 81.into();
        let (status, error) = put(json!([port("a", "TCP", number), other])).await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR, "{error}");
        assert_eq!(
            error["message"],
            format!("duplicate nodePort: {{TCP {number}}}")
        );
        assert_eq!(error.get("reason"), None, "{error}");
    }
    let both = json!([port("a", "TCP", 30101), port("b", "UDP", 30101)]);
    let (status, put) = put(both).await;
    assert_eq!(status, StatusCode::OK, "{put}");
    // The number that went is free again.
    let plain =
        json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30100}]});
    let (status, two) = call(&server, "POST", SERVICES, service("two", plain)).await;
    assert_eq!(status, StatusCode::CREATED, "{two}");
}

#[tokio::test]
async fn headless_and_external_services_have_no_address() {
    let server = server().await;
    let (status, headless) = call(
        &server,
        "POST",
        SERVICES,
        service("h", json!({"clusterIP": "None", "selector": {"a": "b"}})),
    )
    .await;
    assert_eq!(status, StatusCode::CREATED, "{headless}");
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
    let spec = json!({"type": "ExternalName", "externalName": "example.com"});
    let (status, external) = call(&server, "POST", SERVICES, service("e", spec)).await;
    assert_eq!(status, StatusCode::CREATED, "{external}");
    assert!(external["spec"].get("clusterIP").is_none());
}

#[tokio::test]
async fn nothing_is_handed_out_to_a_service_of_a_family_that_there_is_not() {
    let server = server().await;
    let both = json!(["10.96.0.5", "fd00::5"]);
    for (families, policy, field) in [
        (
            json!(["IPv4", "IPv6"]),
            "PreferDualStack",
            "spec.ipFamilies[1]",
        ),
        (
            json!(["IPv4", "IPv6"]),
            "RequireDualStack",
            "spec.ipFamilyPolicy",
        ),
        (json!(["IPv4"]), "PreferDualStack", "spec.clusterIPs[1]"),
        (json!(null), "PreferDualStack", "spec.clusterIPs[1]"),
    ] {
        let spec = json!({"clusterIP": "10.96.0.5", "clusterIPs": both,
            "ipFamilies": families, "ipFamilyPolicy": policy});
        let (status, error) = call(&server, "POST", SERVICES, service("s", spec)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{error}");
        assert_eq!(error["details"]["causes"][0]["field"], field, "{error}");
    }
    let six = service("s", json!({"clusterIP": "fd00::5"}));
    let (_, error) = call(&server, "POST", SERVICES, six).await;
    assert_eq!(
        error["message"],
        "Service \"s\" is invalid: spec.clusterIPs[0]: Invalid value: [\"fd00::5\"]: IPv6 is not configured on this cluster"
    );
    let twice = json!({"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "10.96.0.6"]});
    let (status, error) = call(&server, "POST", SERVICES, service("s", twice)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{error}");
}

#[tokio::test]
async fn services_that_come_at_once_get_different_addresses() {
    let server = server().await;
    let made = futures::future::join_all((0..50).map(|i| {
        let server = server.clone();
        async move {
            call(
                &server,
                "POST",
                SERVICES,
                service(&format!("s{i}"), json!({"type": "NodePort"})),
            )
            .await
            .1
        }
    }))
    .await;
    let ips: std::collections::BTreeSet<_> = made
        .iter()
        .map(|s| s["spec"]["clusterIP"].as_str().unwrap())
        .collect();
    let ports: std::collections::BTreeSet<_> = made
        .iter()
        .map(|s| s["spec"]["ports"][0]["nodePort"].as_i64().unwrap())
        .collect();
    assert_eq!((ips.len(), ports.len()), (50, 50));
}

/// The samples of the allocators on the page of metrics.
async fn allocator_samples(server: &ApiServer) -> Vec<String> {
    let (_, page) = get(server, "/metrics").await;
    let page = page.as_str().unwrap().to_owned();
    let lines = page
        .lines()
        .filter(|line| line.starts_with("kube_apiserver_"));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn what_is_handed_out_and_what_is_left_is_told() {
    let server = server().await;
    let before = allocator_samples(&server).await;
    let ports = "kube_apiserver_nodeport_allocator_allocated_ports 0";
    assert!(before.iter().any(|line| line == ports), "{before:?}");
    let dry = format!("{SERVICES}?dryRun=All");
    let wanted = service("one", json!({"type": "NodePort"}));
    assert_eq!(call(&server, "POST", &dry, wanted.clone()).await.0, 201);
    assert_eq!(call(&server, "POST", SERVICES, wanted).await.0, 201);
    let chosen = json!({"type": "NodePort", "clusterIP": "10.96.3.4",
        "ports": [{"port": 80, "nodePort": 30_003}]});
    let two = service("two", chosen);
    assert_eq!(call(&server, "POST", SERVICES, two).await.0, 201);
    let three = service("three", json!({"clusterIP": "10.96.3.4"}));
    assert_eq!(call(&server, "POST", SERVICES, three).await.0, 422);
    let taken = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_003}]});
    let three = service("three", taken);
    assert_eq!(call(&server, "POST", SERVICES, three).await.0, 422);
    let after = allocator_samples(&server).await;
    for expected in [
        "clusterip_allocator_allocation_total{cidr=\"10.96.0.0/16\",scope=\"static\"} 1",
        "clusterip_allocator_allocation_errors_total{cidr=\"10.96.0.0/16\",scope=\"static\"} 1",
        "nodeport_allocator_allocated_ports 2",
        "nodeport_allocator_available_ports 2766",
        "nodeport_allocator_allocation_total{scope=\"dynamic\"} 1",
        "nodeport_allocator_allocation_total{scope=\"static\"} 1",
        "nodeport_allocator_allocation_errors_total{scope=\"static\"} 1",
    ] {
        let expected = format!("kube_apiserver_{expected}");
        assert!(after.contains(&expected), "{expected} among {after:?}");
    }
    // The time of each that was had: not of the one that nobody got, nor that of the dry run.
    let allocator = "kube_apiserver_clusterip_allocator_allocation";
    let sum = |begin: &str| -> u64 {
        let begin = format!("{allocator}_{begin}");
        let found = after.iter().filter(|line| line.starts_with(&begin));
        found
            .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
            .sum()
    };
    let had = sum("total{");
    assert!(had >= 2, "{after:?}");
    let label = "cidr=\"10.96.0.0/16\"";
    assert_eq!(sum(&format!("duration_seconds_count{{{label}}}")), had);
    let all = format!("duration_seconds_bucket{{{label},le=\"10\"}}");
    assert_eq!(sum(&all), had);
    let gauge = |samples: &[String], name: &str| {
        let name = format!("kube_apiserver_clusterip_allocator_{name}{{cidr=\"10.96.0.0/16\"}} ");
        let found = samples.iter().find_map(|line| line.strip_prefix(&name));
        found.map(|value| value.parse::<u64>().unwrap()).unwrap()
    };
    let both = |samples| gauge(samples, "allocated_ips") + gauge(samples, "available_ips");
    assert_eq!(both(&after), 65_534);
    assert_eq!(
        gauge(&after, "allocated_ips"),
        gauge(&before, "allocated_ips") + 2
    );
}
