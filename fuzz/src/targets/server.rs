//! Requests, as they come in over HTTP, to a whole API server in memory.

use std::cell::RefCell;

use futures::FutureExt;
use http::{Request, header::AUTHORIZATION};
use http_body_util::BodyExt;
use k8s_apiserver::{ApiServer, auth::Identity, http::Body};
use tokio::runtime::{Builder, Runtime};

pub(super) const WORDS: &[&str] = &[
    "GET ",
    "POST ",
    "PUT ",
    "PATCH ",
    "DELETE ",
    "OPTIONS ",
    "/api/v1/",
    "/apis/",
    "namespaces/default/",
    "/status",
    "?watch=1",
    "&limit=-1",
    "&limit=1",
    "&continue=",
    "&resourceVersion=0",
    "&resourceVersionMatch=Exact",
    "&dryRun=All",
    "&fieldManager=x",
    "&force=true",
    "&labelSelector=a",
    "&fieldSelector=metadata.name%3Dx",
    "&timeoutSeconds=1",
    "&pretty=1",
    "&fieldValidation=Strict",
    "&sendInitialEvents=true",
    "&allowWatchBookmarks=true",
    "&propagationPolicy=Orphan",
    "accept: application/json;as=Table;v=v1;g=meta.k8s.io\n",
    "accept: application/vnd.kubernetes.protobuf\n",
    "accept: application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io\n",
    "accept: */*;q=0.1, application/yaml\n",
    "content-type: application/merge-patch+json\n",
    "content-type: application/apply-patch+yaml\n",
    "content-type: application/strategic-merge-patch+json\n",
    "content-type: application/json-patch+json\n",
    "content-type: application/vnd.kubernetes.protobuf\n",
    "content-encoding: gzip\n",
    "accept-encoding: gzip\n",
    "authorization: Bearer eyJhbGciOiJub25lIn0.e30.\n",
    "impersonate-user: x\n",
    "user-agent: a/b\n",
    "%2e%2e/",
    "%00",
];

thread_local! {
    static SERVER: RefCell<(u32, Option<(Runtime, ApiServer)>)> = const { RefCell::new((0, None)) };
}

/// A server does not remember for ever what inputs made.
const REQUESTS_PER_SERVER: u32 = 3000;

fn ask(request: Request<Body>) {
    SERVER.with_borrow_mut(|(count, server)| {
        *count += 1;
        if *count % REQUESTS_PER_SERVER == 0 {
            *server = None;
        }
        let (runtime, server) = server.get_or_insert_with(|| {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime is made");
            let server = runtime
                .block_on(ApiServer::builder().seed(1).build())
                .expect("a server is built");
            (runtime, server)
        });
        runtime.block_on(async {
            let answer = server.handle(request).await;
            let status = answer.status();
            // Of an endless answer, what there is of it.
            let mut body = answer.into_body();
            let mut text = Vec::new();
            while let Some(Some(Ok(frame))) = body.frame().now_or_never() {
                text.extend(frame.into_data().unwrap_or_default());
                assert!(text.len() < 64 << 20, "the answer does not end");
            }
            if status == http::StatusCode::INTERNAL_SERVER_ERROR {
                let text = String::from_utf8_lossy(&text);
                let known = KNOWN_FAULTS.iter().any(|fault| text.contains(fault));
                assert!(known, "an internal error: {text}");
            }
        });
    });
}

/// What upstream calls internal errors, too.
const KNOWN_FAULTS: &[&str] = &[
    "resourceVersion should not be set on objects to be created",
    "strconv.ParseUint",
    "failed to create typed patch object",
];

fn parse(input: &[u8]) -> Option<Request<Body>> {
    let end = input
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .unwrap_or(input.len());
    let (head, body) = (&input[..end], input.get(end + 2..).unwrap_or_default());
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let (method, uri) = first.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(uri);
    for line in lines {
        let (name, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
        request = request.header(name, value[1..].trim_ascii());
    }
    let mut request = request.body(Body::from(body.to_vec())).ok()?;
    if !request.headers().contains_key(AUTHORIZATION) {
        request.extensions_mut().insert(Identity::system_masters());
    }
    Some(request)
}

pub(super) fn request(input: &[u8]) {
    if let Some(request) = parse(input) {
        ask(request);
    }
}

pub(super) fn request_seeds() -> Vec<Vec<u8>> {
    const MAPS: &str = "/api/v1/namespaces/default/configmaps";
    let map = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"a":"b"}},"data":{"k":"v"}}"#;
    let pod = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}],"automountServiceAccountToken":false}}"#;
    let crd = r#"{"metadata":{"name":"as.b.c"},"spec":{"group":"b.c","scope":"Namespaced","names":{"plural":"as","kind":"A"},"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}"#;
    [
        format!("GET {MAPS}?limit=1&labelSelector=a%3Db\naccept: application/json\n\n"),
        format!("GET {MAPS}?watch=1&resourceVersion=1&timeoutSeconds=1\n\n"),
        format!("GET {MAPS}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true\n\n"),
        format!("POST {MAPS}\ncontent-type: application/json\n\n{map}"),
        format!("PUT {MAPS}/a?fieldValidation=Strict\ncontent-type: application/json\n\n{map}"),
        format!("PATCH {MAPS}/a?fieldManager=x&force=true\ncontent-type: application/apply-patch+yaml\n\n{map}"),
        format!("PATCH {MAPS}/a\ncontent-type: application/merge-patch+json\n\n{{\"data\":{{\"k\":null}}}}"),
        format!("PATCH {MAPS}/a\ncontent-type: application/json-patch+json\n\n[{{\"op\":\"add\",\"path\":\"/data/x\",\"value\":\"y\"}}]"),
        format!("PATCH {MAPS}/a\ncontent-type: application/strategic-merge-patch+json\n\n{{\"data\":{{\"$patch\":\"replace\"}}}}"),
        format!("DELETE {MAPS}/a\ncontent-type: application/json\n\n{{\"gracePeriodSeconds\":0,\"preconditions\":{{\"uid\":\"x\"}}}}"),
        format!("DELETE {MAPS}?labelSelector=x\n\n"),
        format!("POST /api/v1/namespaces/default/pods?dryRun=All\ncontent-type: application/json\n\n{pod}"),
        format!("POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions\ncontent-type: application/json\n\n{crd}"),
        "GET /apis/b.c/v1/namespaces/default/as\naccept: application/json;as=Table;v=v1;g=meta.k8s.io\n\n".to_owned(),
        "GET /openapi/v3/api/v1?hash=X\naccept-encoding: gzip\n\n".to_owned(),
        "GET /apis\naccept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json\n\n".to_owned(),
        "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews\ncontent-type: application/json\n\n{\"spec\":{\"resourceAttributes\":{\"verb\":\"get\"}}}".to_owned(),
        "GET /api/v1/namespaces/default/pods/p/log?tailLines=1\n\n".to_owned(),
        "GET /api/v1/namespaces/default/pods/p/exec?command=x&stdin=1\nconnection: upgrade\nupgrade: websocket\n\n".to_owned(),
        "GET /livez?verbose&exclude=x\nauthorization: Bearer eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJ4In0.AAAA\n\n".to_owned(),
        "GET /apis/apps/v1/namespaces/default/deployments/x/scale\nimpersonate-user: a\nimpersonate-extra-x%2fy: z\n\n".to_owned(),
        "PUT /api/v1/namespaces/default/finalize\ncontent-type: application/json\n\n{\"metadata\":{\"name\":\"default\"}}".to_owned(),
    ]
    .map(String::into_bytes)
    .to_vec()
}

pub(super) fn yaml(input: &[u8]) {
    let uri = "/api/v1/namespaces/default/configmaps?dryRun=All";
    let request = Request::post(uri).header("content-type", "application/yaml");
    let mut request = request
        .body(Body::from(input.to_vec()))
        .expect("it is a request");
    request.extensions_mut().insert(Identity::system_masters());
    ask(request);
}

pub(super) fn yaml_seeds() -> Vec<Vec<u8>> {
    let mut laughs = "a0: &a0 [x, x]\n".to_owned();
    for n in 1..40 {
        laughs.push_str(&format!("a{n}: &a{n} [*a{}, *a{}]\n", n - 1, n - 1));
    }
    vec![
        b"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  labels: {a: b}\ndata:\n  k: |\n    v\n  n: \"1\"\n".to_vec(),
        b"metadata: &m\n  name: a\ndata:\n  <<: {a: b}\n  c: !!str 5\n---\nx: 1\n".to_vec(),
        laughs.into_bytes(),
    ]
}
