//! What is said of media types that are not spoken, by upstream's router and behind it; what numbers and nothings become.
//! All of it was asked of v1.26.

use serde_json::{Value, json};

use crate::common::{
    hooks::{Answer, Cluster},
    wire,
};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const LAMPS: &str = "/apis/example.com/v1/namespaces/default/lamps";
const SPOKEN: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

async fn lamps(cluster: &Cluster) {
    let properties = json!({"n": {"type": "number"}, "i": {"type": "integer"}, "s": {"type": "string", "nullable": true},
        "o": {"type": "object", "nullable": true, "properties": {"a": {"type": "string"}}}});
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}});
    cluster
        .define(
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "lamps.example.com"},
            "spec": {"group": "example.com", "scope": "Namespaced",
                "names": {"plural": "lamps", "kind": "Lamp"}, "versions": [version]}}),
        )
        .await;
}

fn lamp(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Lamp", "metadata": {"name": name}, "spec": spec})
}

async fn apply(cluster: &Cluster, who: &str, force: bool, spec: Value) -> Answer {
    let admin = cluster.user("admin", &["system:masters"]);
    let path = format!("{LAMPS}/a?fieldManager={who}&force={force}");
    let kind = "application/apply-patch+yaml";
    cluster
        .ask_as(&admin, "PATCH", &path, kind, lamp("a", spec))
        .await
}

#[tokio::test]
async fn media_types_of_bodies_are_refused_by_the_router_for_patches_alone() {
    let cluster = Cluster::start().await;
    lamps(&cluster).await;
    let admin = cluster.user("admin", &["system:masters"]);
    let send = |method: &'static str, path: String, kind: &'static str| {
        let (cluster, admin) = (&cluster, &admin);
        async move {
            let body = json!({"metadata": {"name": "a"}});
            cluster.ask_as(admin, method, &path, kind, body).await
        }
    };
    let patched = send("PATCH", format!("{MAPS}/a"), "application/json").await;
    assert_eq!(
        (patched.code.as_u16(), patched.message()),
        (415, "415: Unsupported Media Type")
    );
    assert_eq!(patched.body["details"], json!({}));
    let patched = send("PATCH", format!("{LAMPS}/a"), "application/json").await;
    assert!(
        patched
            .message()
            .starts_with("the body of the request was in an unknown format")
    );
    let posted = send("POST", MAPS.to_owned(), "application/xml").await;
    assert!(
        posted
            .message()
            .starts_with("the body of the request was in an unknown format")
    );
    let posted = send("POST", MAPS.to_owned(), "").await;
    posted.expect(201);
}

#[tokio::test]
async fn media_types_of_answers_are_refused_by_the_router_where_there_is_one() {
    let cluster = Cluster::start().await;
    lamps(&cluster).await;
    let router = format!("406: Not Acceptable\n\nAvailable representations: {SPOKEN}");
    let streams = format!(
        "{router}, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
    );
    let behind = format!("only the following media types are accepted: {SPOKEN}");
    let other = "application/json;as=Other;g=meta.k8s.io;v=v1";
    for (path, accept, text) in [
        (MAPS.to_owned(), "text/html", &streams),
        (format!("{MAPS}?watch=1"), "text/html", &streams),
        (format!("{MAPS}/a"), "text/html, application/xml", &router),
        ("/apis/apps/v1".to_owned(), "text/html", &router),
        (MAPS.to_owned(), other, &behind),
        (LAMPS.to_owned(), "text/html", &behind),
        (LAMPS.to_owned(), other, &behind),
        ("/apis".to_owned(), "text/html", &behind),
        ("/apis/example.com/v1".to_owned(), "text/html", &behind),
    ] {
        let answer = cluster.wanting(&path, accept).await;
        assert_eq!(
            (answer.code.as_u16(), answer.message()),
            (406, text.as_str()),
            "{path} {accept}"
        );
    }
}

#[tokio::test]
async fn whole_numbers_are_the_same_however_they_are_written() {
    let cluster = Cluster::start().await;
    lamps(&cluster).await;
    let made = cluster
        .post(LAMPS, lamp("b", json!({"n": 1e3, "i": 1.0})))
        .await
        .expect(201);
    assert_eq!(made["spec"].to_string(), r#"{"i":1,"n":1000}"#);
    let refused = cluster
        .post(
            LAMPS,
            lamp("c", json!({"i": 9_223_372_036_854_775_808_u64})),
        )
        .await;
    assert_eq!(
        refused.message(),
        "Lamp.example.com \"c\" is invalid: spec.i: Invalid value: \"number\": spec.i in body must be of type integer: \"number\""
    );
    apply(&cluster, "one", false, json!({"n": 1}))
        .await
        .expect(201);
    let both = apply(&cluster, "two", false, json!({"n": 1.0}))
        .await
        .expect(200);
    assert_eq!(both["spec"].to_string(), r#"{"n":1}"#);
    assert_eq!(
        both["metadata"]["managedFields"].as_array().unwrap().len(),
        2
    );
}

#[tokio::test]
async fn nothing_is_applied_only_where_it_is_a_value() {
    let cluster = Cluster::start().await;
    lamps(&cluster).await;
    apply(&cluster, "one", false, json!({"n": 1, "s": "x", "o": {}}))
        .await
        .expect(201);
    let refused = apply(&cluster, "two", false, json!({"o": null})).await;
    assert_eq!(
        refused.message(),
        r#"Apply failed with 1 conflict: conflict with "one": .spec.o"#
    );
    let refused = apply(&cluster, "two", true, json!({"n": null})).await;
    assert_eq!(
        (refused.code.as_u16(), refused.message()),
        (
            422,
            "Lamp.example.com \"a\" is invalid: spec.n: Invalid value: \"null\": spec.n in body must be of type number: \"null\""
        )
    );
    let forced = apply(&cluster, "two", true, json!({"o": null, "s": null}))
        .await
        .expect(200);
    assert_eq!(forced["spec"], json!({"n": 1, "s": null, "o": null}));
}

#[tokio::test]
async fn options_that_say_nothing_are_not_taken_for_none() {
    let cluster = Cluster::start().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "generation": 7}});
    let refused = cluster.post(&format!("{MAPS}?dryRun="), map.clone()).await;
    assert_eq!(refused.code, 422, "{refused:?}");
    let made = cluster.post(MAPS, map).await.expect(201);
    assert_eq!(made["metadata"]["generation"], 7);
    let path = format!("{MAPS}/a");
    for body in [
        json!([]),
        json!({"propagationPolicy": ""}),
        json!({"dryRun": [""]}),
    ] {
        let refused = cluster.ask("DELETE", &path, body.clone()).await;
        assert!(refused.code.is_client_error(), "{body} {refused:?}");
        cluster.get(&path).await.expect(200);
    }
    let refused = cluster.ask("PATCH", &path, json!({"metadata": null})).await;
    assert_eq!(
        (refused.code.as_u16(), refused.message()),
        (
            400,
            "the name of the object (a based on URL) was undeterminable: name must be provided"
        )
    );
    let admin = cluster.user("admin", &["system:masters"]);
    let kind = "application/strategic-merge-patch+json";
    let other = json!({"kind": "Other", "apiVersion": "x/v1"});
    cluster
        .ask_as(&admin, "PATCH", &path, kind, other)
        .await
        .expect(200);
}

#[tokio::test]
async fn tables_and_metadata_are_of_the_version_that_is_asked_for() {
    let cluster = Cluster::start().await;
    cluster
        .post(MAPS, json!({"metadata": {"name": "a"}}))
        .await
        .expect(201);
    for version in ["v1", "v1beta1"] {
        let api_version = format!("meta.k8s.io/{version}");
        let wanted = |shape: &str| format!("application/json;as={shape};v={version};g=meta.k8s.io");
        for path in [MAPS.to_owned(), format!("{MAPS}/a")] {
            let table = cluster.wanting(&path, &wanted("Table")).await.expect(200);
            assert_eq!(table["apiVersion"], api_version);
            let object = &table["rows"][0]["object"];
            assert_eq!(object["kind"], "PartialObjectMetadata");
            assert_eq!(object["apiVersion"], api_version);
        }
        let one = wanted("PartialObjectMetadata");
        let one = cluster
            .wanting(&format!("{MAPS}/a"), &one)
            .await
            .expect(200);
        assert_eq!(one["apiVersion"], api_version);
        let all = wanted("PartialObjectMetadataList");
        let all = cluster.wanting(MAPS, &all).await.expect(200);
        assert_eq!(all["apiVersion"], api_version);
        assert_eq!(all["items"][0]["apiVersion"], api_version);
    }
    let newer = "application/json;as=Table;v=v2;g=meta.k8s.io";
    assert_eq!(cluster.wanting(MAPS, newer).await.code.as_u16(), 406);
}

#[tokio::test]
async fn a_table_of_nothing_has_rows_where_its_kind_has_columns_of_its_own() {
    let cluster = Cluster::start().await;
    lamps(&cluster).await;
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
    for (path, rows) in [(PODS, json!([])), (LAMPS, json!([])), (roles, Value::Null)] {
        let found = cluster.wanting(path, table).await.expect(200);
        assert_eq!(found["rows"], rows, "{path}");
        assert!(found.as_object().unwrap().contains_key("rows"));
    }
}

#[tokio::test]
async fn half_characters_become_the_one_that_stands_for_none() {
    let cluster = wire::cluster().await;
    let mut wire = cluster.wire().await;
    let whole = |answer: wire::Answer| answer.json()["data"]["a"].clone();
    let map = br#"{"metadata": {"name": "a"}, "data": {"a": "<\ud800>"}}"#;
    assert_eq!(whole(wire.post(MAPS, map).await), "<\u{fffd}>");
    let path = format!("{MAPS}/a");
    for (kind, patch) in [
        ("merge-patch+json", r#"{"data": {"a": "\udc00m"}}"#),
        (
            "strategic-merge-patch+json",
            r#"{"data": {"a": "\udc00s"}}"#,
        ),
        (
            "json-patch+json",
            r#"[{"op": "replace", "path": "/data/a", "value": "\udc00j"}]"#,
        ),
    ] {
        let header = format!("content-type: application/{kind}\r\n");
        let answer = wire.ask("PATCH", &path, &header, patch.as_bytes()).await;
        let text = whole(answer);
        let text = text.as_str().unwrap_or_default();
        assert!(text.starts_with('\u{fffd}') && text.len() == 4, "{text:?}");
    }
}

#[tokio::test]
async fn the_version_is_indented_for_everybody() {
    let cluster = wire::cluster().await;
    let answer = cluster.wire().await.get("/version").await;
    let text = String::from_utf8(answer.body).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let names = lines.iter().filter_map(|line| line.split_once(':'));
    let names: Vec<&str> = names.map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            r#"  "major""#,
            r#"  "minor""#,
            r#"  "gitVersion""#,
            r#"  "gitCommit""#,
            r#"  "gitTreeState""#,
            r#"  "buildDate""#,
            r#"  "goVersion""#,
            r#"  "compiler""#,
            r#"  "platform""#,
        ]
    );
    assert_eq!((lines[0], lines[10]), ("{", "}"));
}

#[tokio::test]
async fn a_custom_resource_names_its_kind_in_every_format() {
    let cluster = Cluster::start().await;
    lamps(&cluster).await;
    let json = "application/json";
    let version =
        "the API version in the data () does not match the expected API version (example.com/v1)";
    let other = r#"Lump.example.com "a" is invalid: kind: Invalid value: "Lump": must be Lamp"#;
    let array = r#"the object provided is unrecognized (must be of type Lamp): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" } (5b315d)"#;
    let mut wire = cluster.wire().await;
    for (kind, body, code, text) in [
        (
            json,
            r#"{"metadata":{"name":"a"}}"#,
            400,
            r#"the object provided is unrecognized (must be of type Lamp): Object 'Kind' is missing in '{"metadata":{"name":"a"}}' ({"metadata":{"name":"a"}})"#,
        ),
        (
            "application/yaml",
            "metadata: {name: a}",
            400,
            "the object provided is unrecognized (must be of type Lamp): Object 'Kind' is missing in 'metadata: {name: a}' (6d657461646174613a207b6e616d653a20617d)",
        ),
        (
            json,
            "null",
            400,
            "the object provided is unrecognized (must be of type Lamp): Object 'Kind' is missing in 'null' (6e756c6c)",
        ),
        (json, r#"{"kind":"Lamp"}"#, 400, version),
        (json, "[1]", 400, array),
        (
            json,
            r#"{"apiVersion":"example.com/v1","kind":"Lump","metadata":{"name":"a"}}"#,
            422,
            other,
        ),
    ] {
        let header = format!("content-type: {kind}\r\n");
        let answer = wire.ask("POST", LAMPS, &header, body.as_bytes()).await;
        assert_eq!((answer.status, &*answer.message()), (code, text), "{body}");
    }
    cluster.post(LAMPS, lamp("a", json!({}))).await.expect(201);
    let path = format!("{LAMPS}/a");
    for (change, code, text) in [
        (json!({"kind": "Lump"}), 422, other),
        (
            json!({"apiVersion": "example.com/v2"}),
            422,
            r#"Lamp.example.com "a" is invalid: apiVersion: Invalid value: "example.com/v2": must be example.com/v1"#,
        ),
        (
            json!({"apiVersion": null}),
            500,
            "Internal error occurred: Object 'apiVersion' is missing in 'object has no apiVersion field'",
        ),
    ] {
        let answer = cluster.ask("PATCH", &path, change.clone()).await;
        let told = (answer.code.as_u16(), answer.message());
        assert_eq!(told, (code, text), "{change}");
    }
    let answer = cluster.ask("PATCH", &path, json!({"kind": null})).await;
    let message = answer.message();
    assert!(message.contains("Object 'Kind' is missing in"), "{message}");
    // Who does not say which version it is that is replaced.
    let answer = cluster.ask("PUT", &path, lamp("a", json!({}))).await;
    assert_eq!(
        answer.message(),
        r#"lamps.example.com "a" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update"#
    );
}

/// Asked of v1.36.
#[tokio::test]
async fn a_body_is_read_if_go_can_read_its_media_type() {
    let cluster = wire::cluster().await;
    let mut wire = cluster.wire().await;
    let body = br#"{"metadata": {"generateName": "a-"}}"#;
    for (kind, code) in [
        ("application/json;", 201),
        ("APPLICATION/json", 201),
        ("application/json; charset=utf-8", 201),
        ("application/json;x=1;X=1", 201),
        ("application/json;;", 415),
        ("application/json;;charset=utf-8", 415),
        ("application/json; ;", 415),
        ("application/json;charset", 415),
        ("application/json;x=1;x=2", 415),
        ("application/json ;x=\"a", 415),
        ("application/json,application/yaml", 415),
        ("json", 415),
    ] {
        let header = format!("content-type: {kind}\r\n");
        let answer = wire.ask("POST", MAPS, &header, body).await;
        assert_eq!(answer.status, code, "{kind}");
        if code == 415 {
            assert_eq!(
                answer.message(),
                "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
            );
        }
    }
    // Of a patch the parameters are nobody's concern.
    let made = wire
        .ask("POST", MAPS, "", br#"{"metadata": {"name": "a"}}"#)
        .await;
    assert_eq!(made.status, 201);
    let header = "content-type: application/merge-patch+json;;\r\n";
    let answer = wire.ask("PATCH", &format!("{MAPS}/a"), header, b"{}").await;
    assert_eq!(answer.status, 200);
    let header = "content-type: application/json;;\r\n";
    let answer = wire
        .ask("DELETE", &format!("{MAPS}/a"), header, b"{}")
        .await;
    assert_eq!(answer.status, 415);
}

#[tokio::test]
async fn yaml_is_read_as_upstream_reads_it() {
    let cluster = wire::cluster().await;
    let mut wire = cluster.wire().await;
    let header = "content-type: application/yaml\r\n";
    let twice = "metadata: {name: a}\ndata:\n  a: x\n  a: 'y'\nfoo: 1\n---\nkind: Other\n";
    let strict = format!("{MAPS}?fieldValidation=Strict");
    let refused = wire.ask("POST", &strict, header, twice.as_bytes()).await;
    assert_eq!(
        (refused.status, &*refused.message()),
        (
            400,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: yaml: unmarshal errors:\n  line 4: key \"a\" already set in map, unknown field \"foo\""
        )
    );
    let made = wire.ask("POST", MAPS, header, twice.as_bytes()).await;
    assert_eq!(
        (made.status, &made.json()["data"]),
        (201, &json!({"a": "y"}))
    );
    let broken = wire.ask("POST", MAPS, header, b"a: b\nc: d: e\n").await;
    assert_eq!(
        broken.message(),
        "the object provided is unrecognized (must be of type ConfigMap): yaml: line 2: mapping values are not allowed in this context (613a20620a633a20643a20650a)"
    );

    let header = "content-type: application/apply-patch+yaml\r\n";
    let applied = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {b: x, b: z}\n";
    let path = format!("{MAPS}/a?fieldManager=test&fieldValidation=");
    let refused = wire
        .ask(
            "PATCH",
            &format!("{path}Strict"),
            header,
            applied.as_bytes(),
        )
        .await;
    assert_eq!(
        refused.message(),
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 4: key \"b\" already set in map"
    );
    let patched = wire
        .ask(
            "PATCH",
            &format!("{path}Ignore"),
            header,
            applied.as_bytes(),
        )
        .await;
    assert_eq!(patched.json()["data"], json!({"a": "y", "b": "z"}));
}
