//! What webhooks and policies have to say of connections.

use http::StatusCode;
use serde_json::{Value, json};

use crate::common::hooks::{Answer, Cluster, MUTATING, Webhook, patch, pod, rule};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const POD: &str = "/api/v1/namespaces/default/pods/web";

async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    cluster.post(pods, pod("web")).await.expect(201);
    cluster
}

async fn make(cluster: &Cluster, kind: &str, name: &str, spec: Value) {
    let plural = match kind.strip_suffix('y') {
        Some(stem) => format!("{}ies", stem.to_lowercase()),
        None => format!("{}s", kind.to_lowercase()),
    };
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": {"name": name}, "spec": spec});
    cluster
        .post(&format!("{GROUP}/{plural}"), object)
        .await
        .expect(201);
}

async fn validating(cluster: &Cluster, resource: &str, expression: &str) {
    let spec = json!({"matchConstraints": {"resourceRules": [rule(&["CONNECT"], "", resource)]},
        "validations": [{"expression": expression, "messageExpression": "'not ' + request.kind.kind"}]});
    make(cluster, "ValidatingAdmissionPolicy", "choosy", spec).await;
    let binding = json!({"policyName": "choosy", "validationActions": ["Deny"]});
    make(
        cluster,
        "ValidatingAdmissionPolicyBinding",
        "choosy",
        binding,
    )
    .await;
}

async fn mutating(cluster: &Cluster, resource: &str, mutation: Value) {
    let spec = json!({"reinvocationPolicy": "Never", "mutations": [mutation],
        "matchConstraints": {"resourceRules": [rule(&["CONNECT"], "", resource)]}});
    make(cluster, "MutatingAdmissionPolicy", "changing", spec).await;
    let binding = json!({"policyName": "changing"});
    make(
        cluster,
        "MutatingAdmissionPolicyBinding",
        "changing",
        binding,
    )
    .await;
}

fn json_patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

async fn until(cluster: &Cluster, path: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
    cluster.until("GET", path, Value::Null, wanted).await
}

fn reached(path: &str) -> Value {
    json!(format!("nowhere {path}"))
}

#[tokio::test]
async fn a_policy_may_refuse_a_connection_by_its_options() {
    let cluster = cluster().await;
    validating(
        &cluster,
        "pods/exec",
        "object.command[0] != 'rm' && (!has(object.container) || object.container != 'secret')",
    )
    .await;
    let refused = until(&cluster, &format!("{POD}/exec?command=rm"), |answer| {
        answer.code == StatusCode::UNPROCESSABLE_ENTITY
    })
    .await;
    assert_eq!(
        refused.message(),
        "pods \"web\" is forbidden: ValidatingAdmissionPolicy 'choosy' with binding 'choosy' denied request: not PodExecOptions"
    );
    let good = cluster
        .get(&format!("{POD}/exec?command=ls&stdout=1"))
        .await;
    assert_eq!(
        good.expect(200),
        reached(&format!("{POD}/exec?stdout=true&command=ls"))
    );
    // Whatever is given twice, what was judged is what is done.
    let twice = cluster
        .get(&format!(
            "{POD}/exec?command=ls&container=secret&container=c"
        ))
        .await;
    assert_eq!(twice.code, StatusCode::UNPROCESSABLE_ENTITY);
    let twice = cluster
        .get(&format!(
            "{POD}/exec?command=ls&container=c&container=secret"
        ))
        .await;
    assert_eq!(
        twice.expect(200),
        reached(&format!("{POD}/exec?container=c&command=ls"))
    );
}

#[tokio::test]
async fn a_policy_judges_the_path_of_a_proxy_that_is_asked_for() {
    let cluster = cluster().await;
    let expression = "!has(object.path) || !object.path.startsWith('/admin')";
    validating(&cluster, "pods/proxy", expression).await;
    until(&cluster, &format!("{POD}/proxy/admin/x"), |answer| {
        answer.message().ends_with("not PodProxyOptions")
    })
    .await;
    for hidden in [
        "/proxy/admin?path=/harmless",
        "/proxy%2Fadmin/x",
        "/proxy//admin",
        "/proxy/%61dmin",
    ] {
        let answer = cluster.get(&format!("{POD}{hidden}")).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{hidden}");
    }
    let good = cluster.get(&format!("{POD}/proxy/a%2Fb?path=/admin")).await;
    assert_eq!(
        good.expect(200),
        reached(&format!("{POD}/proxy/a%2Fb?path=/admin"))
    );
}

#[tokio::test]
async fn a_policy_may_change_what_a_connection_does() {
    let cluster = cluster().await;
    let mutation = json_patch(
        "[JSONPatch{op: 'replace', path: '/command', value: ['log', object.command[0]]}, JSONPatch{op: 'add', path: '/container', value: 'c'}]",
    );
    mutating(&cluster, "pods/exec", mutation).await;
    let path = format!("{POD}/exec?command=sh&stdin=true");
    let changed = reached(&format!(
        "{POD}/exec?stdin=true&container=c&command=log&command=sh"
    ));
    until(&cluster, &path, |answer| answer.body == changed).await;
}

#[tokio::test]
async fn a_policy_may_send_a_proxy_elsewhere() {
    let cluster = cluster().await;
    let mutation = json_patch("[JSONPatch{op: 'replace', path: '/path', value: '/in a/b'}]");
    mutating(&cluster, "pods/proxy", mutation).await;
    let path = format!("{POD}/proxy/x/y?q=1");
    let changed = reached(&format!("{POD}/proxy/in%20a/b?q=1"));
    until(&cluster, &path, |answer| answer.body == changed).await;
}

#[tokio::test]
async fn options_of_connections_are_nothing_to_apply_to() {
    let cluster = cluster().await;
    let mutation = json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{container: 'c'}"}});
    mutating(&cluster, "pods/exec", mutation).await;
    let refused = until(&cluster, &format!("{POD}/exec?command=sh"), |answer| {
        answer.code == StatusCode::FORBIDDEN
    })
    .await;
    assert_eq!(
        refused.message(),
        "policy 'changing' with binding 'changing' denied request: error applying patch: failed to convert patch object to typed object: no corresponding type for /v1, Kind=PodExecOptions"
    );
    assert_eq!(refused.body["reason"], "Invalid");
    assert_eq!(
        refused.body["details"]["causes"],
        json!([{"message": refused.message()}])
    );
}

#[tokio::test]
async fn options_that_make_no_sense_end_the_request() {
    let cluster = cluster().await;
    let mutation = json_patch("[JSONPatch{op: 'add', path: '/tty', value: 'yes'}]");
    mutating(&cluster, "pods/exec", mutation).await;
    until(&cluster, &format!("{POD}/exec?command=sh"), |answer| {
        answer.code == StatusCode::INTERNAL_SERVER_ERROR
    })
    .await;
}

#[tokio::test]
async fn a_webhook_may_change_what_a_connection_does() {
    let cluster = cluster().await;
    let hook = Webhook::admission(|_, _| {
        Some(patch(
            json!([{"op": "add", "path": "/container", "value": "c"}]),
        ))
    })
    .await;
    let rules = json!({"rules": [rule(&["CONNECT"], "", "pods/attach")]});
    let hooks = [hook.hook("/attach", rules)];
    cluster.install(&hook, MUTATING, "changing", &hooks).await;
    let answer = cluster.get(&format!("{POD}/attach?stdin=1")).await;
    assert_eq!(
        answer.expect(200),
        reached(&format!("{POD}/attach?stdin=true&container=c"))
    );
    let asked = hook.asked("/attach");
    assert_eq!(
        asked[0]["request"]["object"],
        json!({"kind": "PodAttachOptions", "apiVersion": "v1", "stdin": true})
    );
}

#[tokio::test]
async fn connections_take_no_dry_run_no_other_methods_and_no_impossible_ports() {
    let cluster = cluster().await;
    let dry = cluster.get(&format!("{POD}/exec?dryRun=All")).await;
    assert_eq!(
        (dry.code, dry.message()),
        (StatusCode::BAD_REQUEST, "dryRun is not supported")
    );
    for method in ["PUT", "DELETE"] {
        let path = format!("{POD}/exec?command=sh");
        let answer = cluster.ask(method, &path, Value::Null).await;
        assert_eq!(answer.code, StatusCode::METHOD_NOT_ALLOWED);
    }
    let port = cluster.get(&format!("{POD}/portforward?ports=0x50")).await;
    assert_eq!(port.code, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn who_may_only_get_a_connection_may_not_run_anything_in_it() {
    let cluster = cluster().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let grant = async |user: &str, verbs: &[&str]| {
        let role = json!({"metadata": {"name": user}, "rules": [{"apiGroups": [""], "verbs": verbs,
            "resources": ["pods/exec", "pods/attach", "pods/portforward", "pods/proxy"]}]});
        let path = format!("{rbac}/roles");
        cluster.post(&path, role).await.expect(201);
        let binding = json!({"metadata": {"name": user},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
        let path = format!("{rbac}/rolebindings");
        cluster.post(&path, binding).await.expect(201);
    };
    grant("reader", &["get"]).await;
    grant("writer", &["get", "create"]).await;
    let (reader, writer) = (cluster.user("reader", &[]), cluster.user("writer", &[]));
    let get = async |who, path: &str| {
        let path = format!("{POD}/{path}");
        let asked = cluster.ask_as(who, "GET", &path, "application/json", Value::Null);
        asked.await
    };
    for path in ["exec?command=sh", "attach", "portforward"] {
        let refused = get(&reader, path).await;
        assert_eq!(refused.code, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(refused.message(), "pods \"web\" is forbidden: ");
        assert_eq!(get(&writer, path).await.code, StatusCode::OK, "{path}");
    }
    // Of proxies that is not asked, as upstream has it.
    assert_eq!(get(&reader, "proxy/").await.code, StatusCode::OK);
}
