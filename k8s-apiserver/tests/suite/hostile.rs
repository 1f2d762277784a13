//! Hostile clients, over TLS: what they send is refused in time and with upstream's status, nothing of it is kept, and
//! the connection goes on where HTTP allows it.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::common::{MAPS, wire::cluster};

fn map(rest: &str) -> Vec<u8> {
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"x"}}{rest}}}"#)
        .into_bytes()
}

#[tokio::test]
async fn bodies_that_are_no_objects_are_refused_and_the_connection_goes_on() {
    let cluster = cluster().await;
    let mut wire = cluster.wire().await;
    let nested = |open: &str, close: &str, depth| {
        map(&format!(
            r#","x":{}1{}"#,
            open.repeat(depth),
            close.repeat(depth)
        ))
    };
    let mut invalid = map(r#","data":{"a":"?"}"#);
    let at = invalid.iter().position(|byte| *byte == b'?').unwrap();
    invalid[at] = 0xff;
    for (what, body) in [
        ("a hundred thousand brackets", b"[".repeat(100_000)),
        ("nested objects in a map", {
            map(&format!(
                r#","data":{}1{}"#,
                r#"{"a":"#.repeat(5_000),
                "}".repeat(5_000)
            ))
        }),
        ("nothing", Vec::new()),
        ("a number", b"5".to_vec()),
        ("a list", b"[]".to_vec()),
        ("half an object", map("")[..30].to_vec()),
        ("an object and more", [map(""), b"x".to_vec()].concat()),
        ("invalid UTF-8", invalid),
        ("control characters", map(",\"data\":{\"a\":\"\u{1}\"}")),
        ("zeros", vec![0; 1000]),
    ] {
        let answer = wire.post(MAPS, &body).await;
        assert_eq!(answer.status, 400, "{what}");
        assert_eq!(answer.json()["reason"], "BadRequest", "{what}");
        assert!(
            answer.message().len() < 1000,
            "{what}: {}",
            answer.message()
        );
    }
    // What lies in fields that nobody knows is passed over, however deep it is.
    let deep = nested("[", "]", 50_000);
    let answer = wire
        .post(&format!("{MAPS}?fieldValidation=Strict"), &deep)
        .await;
    assert_eq!(answer.status, 400);
    wire.is_sound().await;
}

#[tokio::test]
async fn numbers_of_any_size_are_refused_with_the_field_they_are_in() {
    let cluster = cluster().await;
    let mut wire = cluster.wire().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    for number in [
        "99999999999999999999",
        "1e400",
        "-2147483649",
        "1.5",
        &"9".repeat(100_000),
    ] {
        let body = format!(r#"{{"metadata":{{"name":"x"}},"spec":{{"replicas":{number}}}}}"#);
        let answer = wire.post(path, body.as_bytes()).await;
        assert_eq!(answer.status, 400, "{number:.30}");
        assert_eq!(answer.json()["reason"], "BadRequest");
    }
    assert_eq!(wire.get(path).await.json()["items"], json!([]));
}

#[tokio::test]
async fn duplicate_and_unknown_fields_are_treated_as_the_client_wants() {
    let cluster = cluster().await;
    let mut wire = cluster.wire().await;
    let body = map(r#","data":{"a":"1","a":"2"},"nope":1"#);
    let strict = wire
        .post(&format!("{MAPS}?fieldValidation=Strict"), &body)
        .await;
    assert_eq!(strict.status, 400);
    assert_eq!(
        strict.message(),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"nope\", duplicate field \"data.a\""
    );
    wire.is_sound().await;
    for (validation, status) in [("Warn", 201), ("Ignore", 201), ("Nope", 422)] {
        let path = format!("{MAPS}?dryRun=All&fieldValidation={validation}");
        assert_eq!(wire.post(&path, &body).await.status, status, "{validation}");
    }
    wire.is_sound().await;
}

#[tokio::test]
async fn bodies_that_are_too_long_or_never_end_are_not_read_to_the_end() {
    let cluster = cluster().await;
    let mut wire = cluster.wire().await;
    let head = |length: usize| {
        format!(
            "POST {MAPS} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    // Announced too long: refused before anything is sent.
    wire.write(head(1 << 40).as_bytes()).await;
    let answer = wire.answer().await.unwrap();
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["reason"], "RequestEntityTooLarge");
    assert_eq!(
        answer.message(),
        "Request entity too large: limit is 3145728"
    );

    // Too long without a word about it.
    let mut wire = cluster.wire().await;
    let head_of_chunks = format!(
        "POST {MAPS} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    wire.write(head_of_chunks.as_bytes()).await;
    let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
    for _ in 0..64 {
        wire.write(&chunk).await;
    }
    let answer = wire.answer().await.unwrap();
    assert_eq!(answer.status, 413);

    // Less than was announced: nothing is kept.
    let mut wire = cluster.wire().await;
    let body = map("");
    wire.write(head(body.len() + 1).as_bytes()).await;
    wire.write(&body).await;
    wire.stream.shutdown().await.unwrap();
    if let Some(answer) = wire.answer().await {
        assert_eq!(answer.status, 400);
    }
    cluster.wire().await.is_sound().await;
}

#[tokio::test]
async fn compressed_and_self_referring_bodies_do_not_unfold() {
    let cluster = cluster().await;
    let mut wire = cluster.wire().await;
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    bomb.write_all(&vec![b' '; 64 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    let headers = "content-type: application/json\r\ncontent-encoding: gzip\r\n";
    let answer = wire.ask("POST", MAPS, headers, &bomb).await;
    assert_eq!(answer.status, 400);
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let inner = format!("*a{}, ", level - 1).repeat(9);
        laughs.push_str(&format!("a{level}: &a{level} [{inner}]\n"));
    }
    let headers = "content-type: application/yaml\r\n";
    let answer = wire.ask("POST", MAPS, headers, laughs.as_bytes()).await;
    assert_eq!(answer.status, 400);
    let message = answer.message();
    assert!(
        message
            .starts_with("the object provided is unrecognized (must be of type ConfigMap): yaml: "),
        "{message}"
    );
    assert!(!message.contains('\n'), "{message}");
    wire.is_sound().await;
}

#[tokio::test]
async fn patches_that_grow_or_nest_are_refused() {
    let cluster = cluster().await;
    let mut wire = cluster.wire().await;
    let path = "/api/v1/namespaces/default";
    let json = "content-type: application/json-patch+json\r\n";
    // Each step doubles the object.
    let step = json!({"op": "copy", "from": "/metadata", "path": "/metadata/annotations"});
    let steps = Value::from(vec![step; 60]).to_string();
    let answer = wire.ask("PATCH", path, json, steps.as_bytes()).await;
    assert!((400..=422).contains(&answer.status), "{}", answer.status);
    let many = Value::from(vec![json!({"op": "test", "path": "", "value": 1}); 20_000]).to_string();
    let answer = wire.ask("PATCH", path, json, many.as_bytes()).await;
    assert_eq!(answer.status, 413, "{}", answer.message());
    for kind in [
        "merge-patch+json",
        "strategic-merge-patch+json",
        "apply-patch+yaml",
    ] {
        let headers = format!("content-type: application/{kind}\r\n");
        let body = format!("{}1{}", r#"{"a":"#.repeat(20_000), "}".repeat(20_000));
        let target = format!("{path}?fieldManager=x");
        let answer = wire.ask("PATCH", &target, &headers, body.as_bytes()).await;
        assert!(
            (400..=422).contains(&answer.status),
            "{kind}: {}",
            answer.status
        );
    }
    wire.is_sound().await;
}

#[tokio::test]
async fn queries_that_make_no_sense_are_refused() {
    let cluster = cluster().await;
    let mut wire = cluster.wire().await;
    for (query, status) in [
        ("limit=-1", 200),
        ("limit=99999999999999999999", 400),
        ("limit=9223372036854775807", 200),
        ("limit=", 400),
        ("limit=x", 400),
        ("continue=%00%00", 400),
        ("continue=e30", 400),
        ("resourceVersion=-1", 400),
        ("resourceVersion=99999999999999999999999999", 400),
        ("resourceVersionMatch=Exact", 422),
        ("labelSelector=a%20in%20(", 400),
        ("fieldSelector=spec.nope%3Dx", 400),
        ("watch=1&timeoutSeconds=99999999999999999999", 400),
        ("watch=1&timeoutSeconds=x", 400),
        ("watch=1&sendInitialEvents=x", 422),
        ("%zz=%zz&&&=&=", 200),
    ] {
        let answer = wire.get(&format!("{MAPS}?{query}")).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.message());
    }
    let long = format!("{MAPS}?labelSelector=a%20in%20({}c)", "b,".repeat(15_000));
    let answer = wire.get(&long).await;
    assert_eq!(answer.status, 200, "{}", answer.message());
    wire.is_sound().await;
    // Longer than a request's line may be: the connection ends with the answer.
    let longer = format!("{MAPS}?labelSelector={}", "a".repeat(100 << 10));
    let answer = wire.get(&longer).await;
    assert_eq!(answer.status, 414);
}

#[tokio::test]
async fn paths_lead_nowhere_but_where_they_say() {
    let cluster = cluster().await;
    let mut wire = cluster.wire().await;
    for path in [
        "/api/v1/namespaces/default/configmaps/..%2f..%2fsecrets",
        "/api/v1/namespaces/../namespaces",
        "/api/v1/namespaces/default/nodes",
        "/api/v1/namespaces/default/namespaces",
        "/api/v1/namespaces/default/namespaces/kube-system",
        "/apis/rbac.authorization.k8s.io/v1/namespaces/default/clusterroles/admin",
        "/api/v1/configmaps/x",
        "/api/v1/nope",
        "/apis/apps/v9/deployments",
    ] {
        let answer = wire.get(path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(
            answer.message(),
            "the server could not find the requested resource",
            "{path}"
        );
    }
    for path in [
        "/../../etc/passwd",
        "/apis/no.such.group/v1/things",
        "/%2e%2e/x",
        "/.",
    ] {
        assert_eq!(wire.get(path).await.status, 404, "{path}");
    }
    wire.is_sound().await;
}

#[tokio::test]
async fn who_may_do_all_in_a_namespace_may_do_nothing_to_namespaces() {
    let cluster = cluster().await;
    let mut wire = cluster.wire().await;
    let binding = json!({
        "metadata": {"name": "x"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "vera"}],
    });
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let made = wire.post(bindings, binding.to_string().as_bytes()).await;
    assert_eq!(made.status, 201);
    let vera = cluster.pki.issue_client("vera", &["dev"]).unwrap();
    let mut wire = cluster.wire_of(&vera).await;
    let own = "/api/v1/namespaces/default/secrets";
    // The binding is seen a moment later.
    while wire.get(own).await.status != 200 {
        tokio::task::yield_now().await;
    }
    for (method, path, status) in [
        ("GET", "/api/v1/namespaces/default", 200),
        ("GET", "/api/v1/namespaces/kube-system", 403),
        ("DELETE", "/api/v1/namespaces/kube-system", 403),
        ("GET", "/api/v1/namespaces/default/namespaces", 404),
        (
            "GET",
            "/api/v1/namespaces/default/namespaces/kube-system",
            404,
        ),
        (
            "DELETE",
            "/api/v1/namespaces/default/namespaces/kube-system",
            404,
        ),
        ("GET", "/api/v1/namespaces/default/nodes", 404),
        (
            "DELETE",
            "/api/v1/namespaces/default/persistentvolumes",
            404,
        ),
    ] {
        let answer = wire.ask(method, path, "", b"").await;
        assert_eq!(answer.status, status, "{method} {path}");
    }
}

#[tokio::test]
async fn heads_that_are_too_large_end_the_connection() {
    let cluster = cluster().await;
    for head in [
        format!(
            "GET {MAPS} HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n",
            "y".repeat(2 << 20)
        ),
        format!(
            "GET {MAPS} HTTP/1.1\r\nhost: localhost\r\n{}\r\n",
            "x: y\r\n".repeat(100_000)
        ),
        "GET".repeat(1 << 20),
        format!("GET {MAPS} HTTP/9.9\r\n\r\n"),
        format!(
            "GET {MAPS} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n"
        ),
        format!("GET {MAPS} HTTP/1.1\r\nhost: localhost\r\ncontent-length: -5\r\n\r\n"),
        "\u{16}\u{3}\u{1}".repeat(100),
    ] {
        let mut wire = cluster.wire().await;
        wire.write(head.as_bytes()).await;
        match wire.answer().await {
            Some(answer) => assert!((400..=505).contains(&answer.status), "{head:.40}"),
            None => continue,
        }
        assert!(!wire.more().await, "{head:.40}");
    }
    cluster.wire().await.is_sound().await;
}

#[tokio::test]
async fn heads_that_others_may_read_otherwise_are_refused() {
    let cluster = cluster().await;
    for (headers, code, reason) in [
        ("", 400, "400 Bad Request: missing required Host header"),
        ("host: a\r\nhost: b\r\n", 400, "400 Bad Request"),
        (
            "host: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
            501,
            "Unsupported transfer encoding",
        ),
        (
            "host: a\r\ntransfer-encoding: identity, chunked\r\n",
            501,
            "Unsupported transfer encoding",
        ),
    ] {
        let mut wire = cluster.wire().await;
        let head = format!(
            "POST {MAPS} HTTP/1.1\r\n{headers}\r\n0\r\n\r\nGET /api HTTP/1.1\r\nhost: a\r\n\r\n"
        );
        wire.write(head.as_bytes()).await;
        let answer = wire.answer().await.expect("there is an answer");
        assert_eq!(answer.status, code, "{headers}");
        assert_eq!(String::from_utf8_lossy(&answer.body), reason, "{headers}");
        assert!(!wire.more().await, "{headers}");
    }
    let mut wire = cluster.wire().await;
    let head = "GET /version HTTP/1.0\r\n\r\n";
    wire.write(head.as_bytes()).await;
    assert_eq!(wire.answer().await.unwrap().status, 200);
    cluster.wire().await.is_sound().await;
}

#[tokio::test]
async fn streams_that_are_reset_at_once_hurt_nobody() {
    let cluster = cluster().await;
    let stream = cluster.connect(&cluster.admin, b"h2").await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..5_000 {
        let request = Request::get(format!("https://localhost{MAPS}?watch=1"));
        let sent = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap());
        // A stream that nobody waits for is reset.
        if sender.ready().await.is_err() {
            break;
        }
        drop(sent);
    }
    drop(sender);
    connection.abort();
    cluster.wire().await.is_sound().await;

    let stream = cluster.connect(&cluster.admin, b"h2").await;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get(format!("https://localhost{MAPS}"))
        .header("x", "y".repeat(4 << 20))
        .body(Empty::<Bytes>::new())
        .unwrap();
    if let Ok(answer) = sender.send_request(request).await {
        assert_eq!(answer.status(), 431);
        let _ = answer.into_body().collect().await;
    }
    connection.abort();
    cluster.wire().await.is_sound().await;
}

#[tokio::test]
async fn upgrades_and_garbage_after_them_are_refused() {
    let cluster = cluster().await;
    for upgrade in ["websocket", "SPDY/3.1", "h2c", "nonsense"] {
        let mut wire = cluster.wire().await;
        let head = format!(
            "GET /api/v1/namespaces/default/pods/x/exec?command=sh&stdin=true HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: {upgrade}\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        wire.write(head.as_bytes()).await;
        wire.write(&[0xff; 4096]).await;
        let answer = wire.answer().await.expect("there is an answer");
        assert!(
            (400..=503).contains(&answer.status),
            "{upgrade}: {}",
            answer.status
        );
        // Half closed, and gone.
        let _ = wire.stream.shutdown().await;
    }
    cluster.wire().await.is_sound().await;
}
