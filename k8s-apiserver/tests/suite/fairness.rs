//! Priority and fairness, as clients see it.

use std::time::Duration;

use futures::StreamExt;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use k8s_apiserver::{ApiServer, MaxInFlight, auth::Identity, http::Body};
use serde_json::{Value, json};

use crate::common::{MAPS, call, config_map, get, server, text};

const FLOW: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

async fn ask(
    server: &ApiServer,
    user: &Identity,
    method: &str,
    uri: &str,
    body: Body,
) -> http::Response<Body> {
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .header("content-type", "application/json")
        .extension(user.clone());
    server.handle(request.body(body).unwrap()).await
}

/// Somebody who may do everything, and is not exempt.
async fn alice(server: &ApiServer) -> Identity {
    let group = "rbac.authorization.k8s.io";
    let binding = json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding",
        "metadata": {"name": "alice"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": group, "kind": "User", "name": "alice"}],
    });
    let path = format!("/apis/{group}/v1/clusterrolebindings");
    let (code, said) = call(server, "POST", &path, binding).await;
    assert_eq!(code, StatusCode::CREATED, "{said}");
    let alice = Identity::user("alice").group("system:authenticated");
    while ask(server, &alice, "GET", MAPS, Body::empty())
        .await
        .status()
        != StatusCode::OK
    {
        tokio::task::yield_now().await;
    }
    alice
}

async fn uid(server: &ApiServer, resource: &str, name: &str) -> String {
    let (code, object) = get(server, &format!("{FLOW}/{resource}/{name}")).await;
    assert_eq!(code, StatusCode::OK, "{object}");
    object["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn headers(response: &http::Response<Body>) -> (String, String) {
    let of = |name: &str| {
        let value = response.headers().get(name);
        value.map_or_else(String::new, |v| v.to_str().unwrap().to_owned())
    };
    (
        of("x-kubernetes-pf-flowschema-uid"),
        of("x-kubernetes-pf-prioritylevel-uid"),
    )
}

#[tokio::test]
async fn every_cluster_has_upstreams_objects_and_answers_say_how_they_were_classified() {
    let server = server().await;
    let (_, levels) = get(&server, &format!("{FLOW}/prioritylevelconfigurations")).await;
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|item| item["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names(&levels),
        [
            "catch-all",
            "exempt",
            "global-default",
            "leader-election",
            "node-high",
            "system",
            "workload-high",
            "workload-low"
        ]
    );
    let (_, schemas) = get(&server, &format!("{FLOW}/flowschemas")).await;
    assert_eq!(names(&schemas).len(), 13);
    for schema in schemas["items"].as_array().unwrap() {
        assert_eq!(
            schema["status"]["conditions"][0]["type"], "Dangling",
            "{schema}"
        );
        assert_eq!(schema["status"]["conditions"][0]["status"], "False");
        assert_eq!(schema["metadata"]["generation"], 1);
    }

    let alice = alice(&server).await;
    let admin = Identity::system_masters();
    for (user, schema, level) in [
        (&alice, "global-default", "global-default"),
        (&admin, "exempt", "exempt"),
    ] {
        let answer = ask(&server, user, "GET", MAPS, Body::empty()).await;
        let wanted = (
            uid(&server, "flowschemas", schema).await,
            uid(&server, "prioritylevelconfigurations", level).await,
        );
        assert_eq!(headers(&answer), wanted, "{schema}");
    }
    // Who is refused is told too.
    let nobody = Identity::user("nobody").group("system:authenticated");
    let answer = ask(&server, &nobody, "GET", MAPS, Body::empty()).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(
        headers(&answer).0,
        uid(&server, "flowschemas", "global-default").await
    );
}

#[tokio::test]
async fn what_every_cluster_has_is_not_changed_but_for_what_is_exempt() {
    let server = server().await;
    let schema = format!("{FLOW}/flowschemas/catch-all");
    let (_, mut object) = get(&server, &schema).await;
    object["spec"]["priorityLevelConfiguration"]["name"] = json!("exempt");
    let (code, said) = call(&server, "PUT", &schema, object).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY);
    let message = said["message"].as_str().unwrap();
    assert!(
        message.ends_with(": spec of 'catch-all' must equal the fixed value"),
        "{message}"
    );

    let level = format!("{FLOW}/prioritylevelconfigurations/exempt");
    let (_, mut object) = get(&server, &level).await;
    object["spec"]["exempt"]["nominalConcurrencyShares"] = json!(7);
    let (code, mut object) = call(&server, "PUT", &level, object).await;
    assert_eq!(code, StatusCode::OK, "{object}");
    object["spec"]["exempt"]["lendablePercent"] = json!(101);
    let (code, said) = call(&server, "PUT", &level, object).await;
    assert_eq!(code, StatusCode::UNPROCESSABLE_ENTITY, "{said}");
    assert_eq!(
        get(&server, &level).await.1["spec"]["exempt"],
        json!({"lendablePercent": 0, "nominalConcurrencyShares": 7})
    );
}

async fn until(server: &ApiServer, uri: &str, is: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..10_000 {
        let (_, object) = get(server, uri).await;
        if is(&object) {
            return object;
        }
        tokio::task::yield_now().await;
    }
    panic!("{uri} never became so: {}", get(server, uri).await.1);
}

#[tokio::test]
async fn a_schema_without_its_level_is_dangling_until_the_level_is_there() {
    let server = server().await;
    let schema = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
        "metadata": {"name": "mine"},
        "spec": {
            "priorityLevelConfiguration": {"name": "my-level"}, "matchingPrecedence": 3,
            "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "alice"}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}],
            }],
        },
    });
    let (code, said) = call(&server, "POST", &format!("{FLOW}/flowschemas"), schema).await;
    assert_eq!(code, StatusCode::CREATED, "{said}");
    let mine = format!("{FLOW}/flowschemas/mine");
    let condition = |object: &Value| object["status"]["conditions"][0].clone();
    let dangling = until(&server, &mine, |o| condition(o)["status"] == "True").await;
    assert_eq!(condition(&dangling)["reason"], "NotFound");
    assert_eq!(
        condition(&dangling)["message"],
        "This FlowSchema references the PriorityLevelConfiguration object named \"my-level\" but there is no such object"
    );
    let alice = alice(&server).await;
    let answer = ask(&server, &alice, "GET", MAPS, Body::empty()).await;
    let default = uid(&server, "flowschemas", "global-default").await;
    assert_eq!(headers(&answer).0, default, "it is not used");

    let level = json!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "my-level"},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}},
    });
    let levels = format!("{FLOW}/prioritylevelconfigurations");
    let (code, said) = call(&server, "POST", &levels, level).await;
    assert_eq!(code, StatusCode::CREATED, "{said}");
    let found = until(&server, &mine, |o| condition(o)["status"] == "False").await;
    assert_eq!(condition(&found)["reason"], "Found");
    let own = uid(&server, "flowschemas", "mine").await;
    let answer = ask(&server, &alice, "GET", MAPS, Body::empty()).await;
    assert_eq!(headers(&answer).0, own);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_much_waits_its_turn_and_is_refused_when_the_queue_is_full() {
    let server = ApiServer::builder()
        .seed(1)
        .max_in_flight(MaxInFlight {
            reading: 1,
            mutating: 1,
        })
        .build()
        .await
        .unwrap();
    let alice = alice(&server).await;
    // One seat, one queue, of one.
    let levels = format!("{FLOW}/prioritylevelconfigurations");
    let patch = json!({"spec": {"limited": {"lendablePercent": 0, "borrowingLimitPercent": 0, "limitResponse": {"queuing": {
        "queues": 1, "handSize": 1, "queueLengthLimit": 1,
    }}}}});
    let (code, said) = call(&server, "PATCH", &format!("{levels}/global-default"), patch).await;
    assert_eq!(code, StatusCode::OK, "{said}");
    // A write that takes long holds the seat; the next one waits for it, and the one after that finds no place.
    let (sender, body) = futures::channel::mpsc::unbounded::<bytes::Bytes>();
    let post = |body: Body| {
        let (server, alice) = (server.clone(), alice.clone());
        tokio::spawn(async move { ask(&server, &alice, "POST", MAPS, body).await })
    };
    // Until the change has come through, there is more room.
    let refused = loop {
        let holding = post(Body::from_stream(futures::stream::pending()));
        let waiting = post(Body::from_stream(futures::stream::pending()));
        tokio::time::sleep(Duration::from_millis(10)).await;
        let answer = tokio::time::timeout(
            Duration::from_secs(1),
            ask(&server, &alice, "GET", MAPS, Body::empty()),
        )
        .await;
        holding.abort();
        waiting.abort();
        let _ = futures::join!(holding, waiting);
        match answer {
            Ok(answer) if answer.status() == StatusCode::TOO_MANY_REQUESTS => break answer,
            _ => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    // The wait becomes longer with each second in which several were refused.
    let wait: u64 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=32).contains(&wait), "{wait}");
    assert!(!headers(&refused).0.is_empty() && !headers(&refused).1.is_empty());
    let (_, said) = text(refused).await;
    assert_eq!(said, "Too many requests, please try again later.\n");

    let holding = post(Body::from_stream(body.map(Ok)));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let waiting = post(Body::from(config_map("second").to_string()));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(!waiting.is_finished(), "there is no seat");
    // Administrators, health checks and watches that run are not concerned.
    assert_eq!(get(&server, MAPS).await.0, StatusCode::OK);
    let health = ask(&server, &alice, "GET", "/readyz", Body::empty()).await;
    assert_eq!(health.status(), StatusCode::OK);
    let first = config_map("first").to_string();
    sender.unbounded_send(first.into()).unwrap();
    drop(sender);
    assert_eq!(holding.await.unwrap().status(), StatusCode::CREATED);
    assert_eq!(waiting.await.unwrap().status(), StatusCode::CREATED);

    let (_, metrics) = get(&server, "/metrics").await;
    let metrics = metrics.as_str().unwrap();
    for wanted in [
        "apiserver_flowcontrol_rejected_requests_total{flow_schema=\"global-default\",priority_level=\"global-default\",reason=\"queue-full\"} ",
        "apiserver_flowcontrol_nominal_limit_seats{priority_level=\"global-default\"} 1\n",
        "apiserver_flowcontrol_current_executing_requests{flow_schema=\"global-default\",priority_level=\"global-default\"} 0\n",
        "apiserver_flowcontrol_current_inqueue_requests{flow_schema=\"global-default\",priority_level=\"global-default\"} 0\n",
        "apiserver_flowcontrol_current_executing_seats{priority_level=\"global-default\"} 0\n",
    ] {
        assert!(metrics.contains(wanted), "{wanted}: {metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_too_long_is_refused() {
    let server = ApiServer::builder()
        .max_in_flight(MaxInFlight {
            reading: 1,
            mutating: 1,
        })
        .build()
        .await
        .unwrap();
    let alice = alice(&server).await;
    let seats: Vec<_> = (0..40)
        .map(|_| {
            let (server, alice) = (server.clone(), alice.clone());
            tokio::spawn(async move {
                let body = Body::from_stream(futures::stream::pending());
                ask(&server, &alice, "POST", MAPS, body).await
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let started = tokio::time::Instant::now();
    let answer = ask(&server, &alice, "GET", MAPS, Body::empty()).await;
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(started.elapsed().as_secs(), 15);
    seats.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_watch_takes_a_seat_only_until_it_has_begun() {
    let server = ApiServer::builder()
        .max_in_flight(MaxInFlight {
            reading: 1,
            mutating: 1,
        })
        .build()
        .await
        .unwrap();
    let alice = alice(&server).await;
    let watch = format!("{MAPS}?watch=1");
    let mut watches = Vec::new();
    for _ in 0..20 {
        let answer = ask(&server, &alice, "GET", &watch, Body::empty()).await;
        assert_eq!(answer.status(), StatusCode::OK);
        watches.push(answer);
    }
    let (_, metrics) = get(&server, "/metrics").await;
    let running = "apiserver_longrunning_requests{component=\"apiserver\",group=\"\",resource=\"configmaps\",scope=\"namespace\",subresource=\"\",verb=\"WATCH\",version=\"v1\"} 20\n";
    assert!(metrics.as_str().unwrap().contains(running), "{metrics}");
    drop(watches);
}

#[tokio::test]
async fn a_list_that_nobody_reads_gives_its_seats_back_with_its_body() {
    let server = server().await;
    let alice = alice(&server).await;
    for n in 0..3 {
        call(&server, "POST", MAPS, config_map(&format!("m{n}"))).await;
    }
    let answer = ask(&server, &alice, "GET", MAPS, Body::empty()).await;
    let body = answer.into_body();
    drop(body);
    let answer = ask(&server, &alice, "GET", MAPS, Body::empty()).await;
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(bytes.len() > 100);
    for _ in 0..10_000 {
        let (_, metrics) = get(&server, "/metrics").await;
        let idle = "apiserver_flowcontrol_current_executing_requests{flow_schema=\"global-default\",priority_level=\"global-default\"} 0\n";
        if metrics.as_str().unwrap().contains(idle) {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("seats are still taken");
}

#[tokio::test]
async fn without_it_there_are_plain_limits() {
    let server = ApiServer::builder()
        .priority_and_fairness(false)
        .max_in_flight(MaxInFlight {
            reading: 1,
            mutating: 1,
        })
        .build()
        .await
        .unwrap();
    let alice = alice(&server).await;
    let holding = {
        let (server, alice) = (server.clone(), alice.clone());
        tokio::spawn(async move {
            let body = Body::from_stream(futures::stream::pending());
            ask(&server, &alice, "POST", MAPS, body).await
        })
    };
    let refused = loop {
        let body = Body::from(config_map("x").to_string());
        let answer = ask(&server, &alice, "POST", MAPS, body).await;
        if answer.status() == StatusCode::TOO_MANY_REQUESTS {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(headers(&refused), (String::new(), String::new()));
    holding.abort();
}

/// The rows of a table of flow control, each by the names of its columns.
async fn dump(server: &ApiServer, table: &str) -> Vec<std::collections::BTreeMap<String, String>> {
    let admin = Identity::system_masters();
    let uri = format!("/debug/api_priority_and_fairness/dump_{table}");
    let answer = ask(server, &admin, "GET", &uri, Body::empty()).await;
    assert_eq!(
        answer.headers()["content-type"],
        "text/plain; charset=utf-8"
    );
    let (code, page) = text(answer).await;
    assert_eq!(code, StatusCode::OK, "{page}");
    let mut lines = page.lines();
    let cells = |line: &str| -> Vec<String> {
        line.split(',').map(|cell| cell.trim().to_owned()).collect()
    };
    let header = cells(lines.next().unwrap());
    let row = |line: &str| {
        let cells = cells(line);
        assert_eq!(cells.len(), header.len(), "{line}");
        header.iter().cloned().zip(cells).collect()
    };
    lines.map(row).collect()
}

#[tokio::test(start_paused = true)]
async fn levels_queues_and_requests_are_shown_in_upstreams_tables() {
    let server = ApiServer::builder()
        .seed(1)
        .max_in_flight(MaxInFlight {
            reading: 1,
            mutating: 1,
        })
        .build()
        .await
        .unwrap();
    let alice = alice(&server).await;
    let post = || {
        let (server, alice) = (server.clone(), alice.clone());
        let body = Body::from_stream(futures::stream::pending());
        tokio::spawn(async move { ask(&server, &alice, "POST", MAPS, body).await })
    };
    let asked: Vec<_> = (0..8).map(|_| post()).collect();
    tokio::time::sleep(Duration::from_millis(10)).await;

    let levels = dump(&server, "priority_levels").await;
    let names: Vec<&str> = levels
        .iter()
        .map(|row| &*row["PriorityLevelName"])
        .collect();
    assert_eq!(
        names,
        [
            "catch-all",
            "exempt",
            "global-default",
            "leader-election",
            "node-high",
            "system",
            "workload-high",
            "workload-low"
        ]
    );
    let number = |text: &str| text.parse::<usize>().unwrap();
    let busy = &levels[2];
    let (waiting, served) = (
        number(&busy["WaitingRequests"]),
        number(&busy["ExecutingRequests"]),
    );
    assert_eq!(waiting + served, 8, "{busy:?}");
    assert!(waiting > 0 && served > 0, "{busy:?}");
    assert_eq!(
        (&*busy["IsIdle"], &*busy["IsQuiescing"]),
        ("false", "false")
    );
    assert!(number(&busy["DispatchedRequests"]) >= served);
    assert_eq!(&*levels[4]["IsIdle"], "true");
    // It serves the request that asks.
    assert_eq!(&*levels[1]["ExecutingRequests"], "1");

    let queues = dump(&server, "queues").await;
    let of_level = queues
        .iter()
        .filter(|row| row["PriorityLevelName"] == "global-default");
    let of_level: Vec<_> = of_level.collect();
    let sum = |column: &str| {
        of_level
            .iter()
            .map(|row| number(&row[column]))
            .sum::<usize>()
    };
    assert_eq!(sum("PendingRequests"), waiting);
    assert_eq!(sum("ExecutingRequests"), served);
    assert_eq!(sum("SeatsInUse"), served);
    assert_eq!(
        (sum("InitialSeatsSum"), sum("MaxSeatsSum")),
        (waiting, waiting)
    );
    let in_use = of_level
        .iter()
        .find(|row| row["PendingRequests"] != "0")
        .unwrap();
    assert!(in_use["TotalWorkSum"].ends_with("ss") && in_use["TotalWorkSum"] != "0.00000000ss");
    let active = of_level
        .iter()
        .filter(|row| row["PendingRequests"] != "0")
        .count();
    assert_eq!(number(&busy["ActiveQueues"]), active);

    let requests = dump(&server, "requests?includeRequestDetails=1").await;
    let (exempt, limited): (Vec<_>, Vec<_>) =
        (requests.iter()).partition(|row| row["PriorityLevelName"] == "exempt");
    assert_eq!(exempt.len(), 1);
    assert_eq!(&*exempt[0]["QueueIndex"], "-1");
    assert_eq!(
        exempt[0]["APIPath"],
        "/debug/api_priority_and_fairness/dump_requests"
    );
    assert_eq!(limited.len(), 8, "{limited:?}");
    for row in &limited {
        for (column, value) in [
            ("FlowSchemaName", "global-default"),
            ("FlowDistingsher", "alice"),
            ("InitialSeats", "1"),
            ("UserName", "alice"),
            ("Verb", "create"),
            ("APIPath", MAPS),
            ("Namespace", "default"),
            ("Name", ""),
            ("APIVersion", "v1"),
            ("Resource", "configmaps"),
            ("SubResource", ""),
        ] {
            assert_eq!(row[column], value, "{column} of {row:?}");
        }
        let waits = row["StartTime"] == "0001-01-01T00:00:00Z";
        assert_eq!(row["RequestIndexInQueue"] == "-1", !waits, "{row:?}");
    }
    let waits =
        |row: &&&std::collections::BTreeMap<String, String>| row["RequestIndexInQueue"] != "-1";
    assert_eq!(limited.iter().filter(waits).count(), waiting);
    let brief = dump(&server, "requests").await;
    assert_eq!(brief.len(), 9);
    assert!(!brief[0].contains_key("UserName"));

    // Who goes is there no more, whether they waited or not.
    for request in &asked {
        request.abort();
    }
    futures::future::join_all(asked).await;
    let left = dump(&server, "requests").await;
    assert_eq!(left.len(), 1, "{left:?}");
    let levels = dump(&server, "priority_levels").await;
    assert_eq!(number(&levels[2]["CancelledRequests"]), waiting);
    let admin = Identity::system_masters();
    for path in ["dump_queues/", "dump_", ""] {
        let uri = format!("/debug/api_priority_and_fairness/{path}");
        let answer = ask(&server, &admin, "GET", &uri, Body::empty()).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
}
