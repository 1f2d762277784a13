//! ValidatingAdmissionPolicies and MutatingAdmissionPolicies, as clients see them.

use http::StatusCode;
use k8s_apiserver::{
    ApiServer,
    authz::{Attributes, Authorizer, Decision},
};
use serde_json::{Value, json};

use crate::common::hooks::{Answer, Cluster, MUTATING, VALIDATING, config_map, pod, rule};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn made(kind: &str, name: &str, spec: Value) -> (String, Value) {
    let plural = match kind.ends_with("Policy") {
        true => format!("{}ies", kind.to_lowercase().trim_end_matches('y')),
        false => format!("{}s", kind.to_lowercase()),
    };
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": {"name": name}, "spec": spec});
    (format!("{GROUP}/{plural}"), object)
}

async fn make(cluster: &Cluster, kind: &str, name: &str, spec: Value) {
    let (path, object) = made(kind, name, spec);
    cluster.post(&path, object).await.expect(201);
}

/// A policy for config maps, with a validation more that tells when it is in effect.
async fn policy(cluster: &Cluster, name: &str, spec: Value, binding: Value) {
    let mut spec = spec;
    if spec["matchConstraints"].is_null() {
        spec["matchConstraints"] = json!({"resourceRules": [rule(&["*"], "", "configmaps")]});
    }
    make(cluster, "ValidatingAdmissionPolicy", name, spec).await;
    let mut of = binding;
    of["policyName"] = name.into();
    if of["validationActions"].is_null() {
        of["validationActions"] = json!(["Deny"]);
    }
    make(cluster, "ValidatingAdmissionPolicyBinding", name, of).await;
}

/// Waits until a write is refused, and nothing is stored.
async fn refused(cluster: &Cluster, map: Value) -> Answer {
    cluster
        .until("POST", &format!("{MAPS}?dryRun=All"), map, |answer| {
            !answer.code.is_success()
        })
        .await
}

#[tokio::test]
async fn what_a_validation_is_against_is_refused_with_its_message_and_reason() {
    let cluster = Cluster::start().await;
    let spec = json!({
        "variables": [
            {"name": "size", "expression": "size(object.data)"},
            {"name": "double", "expression": "variables.size * 2"},
        ],
        "validations": [
            {"expression": "variables.size < 3", "messageExpression": "'too many: ' + string(variables.double)", "reason": "RequestEntityTooLarge"},
            {"expression": "!has(object.data.secret)", "message": "no secrets"},
            {"expression": "object.metadata.name != 'plain'"},
        ],
    });
    policy(&cluster, "size.example.com", spec, json!({})).await;
    let answer = refused(
        &cluster,
        config_map("a", json!({"a": "1", "b": "2", "c": "3"})),
    )
    .await;
    assert_eq!(answer.code, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.body["reason"], "RequestEntityTooLarge");
    assert_eq!(
        answer.message(),
        "configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'size.example.com' with binding 'size.example.com' denied request: too many: 6"
    );
    let answer = cluster
        .post(MAPS, config_map("a", json!({"secret": "1"})))
        .await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(answer.body["reason"], "Invalid");
    assert!(
        answer.message().ends_with("denied request: no secrets"),
        "{}",
        answer.message()
    );
    let answer = cluster
        .post(MAPS, config_map("plain", json!({"a": "1"})))
        .await;
    assert!(
        answer
            .message()
            .ends_with("denied request: failed expression: object.metadata.name != 'plain'"),
        "{}",
        answer.message()
    );
    cluster
        .post(MAPS, config_map("a", json!({"a": "1"})))
        .await
        .expect(201);
    let answer = cluster
        .ask(
            "PATCH",
            &format!("{MAPS}/a"),
            json!({"data": {"secret": "1"}}),
        )
        .await;
    assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn bindings_say_whether_to_deny_or_to_warn() {
    let cluster = Cluster::start().await;
    let spec = json!({"validations": [{"expression": "false", "message": "never"}]});
    let binding = json!({"validationActions": ["Warn", "Audit"]});
    policy(&cluster, "warn.example.com", spec, binding).await;
    let warned = cluster
        .until(
            "POST",
            &format!("{MAPS}?dryRun=All"),
            config_map("a", json!({})),
            |a| !a.warnings.is_empty(),
        )
        .await;
    assert_eq!(warned.code, StatusCode::CREATED);
    assert!(
        warned.warnings[0].contains("Validation failed for ValidatingAdmissionPolicy 'warn.example.com' with binding 'warn.example.com': never"),
        "{warned:?}"
    );
}

#[tokio::test]
async fn parameters_are_found_by_name_and_by_selector() {
    let cluster = Cluster::start().await;
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {"resourceRules": [rule(&["CREATE"], "", "secrets")]},
        "validations": [{"expression": "object.metadata.name.startsWith(params.data.prefix)",
            "messageExpression": "'must begin with ' + params.data.prefix"}],
    });
    let by_name = json!({"paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}});
    policy(&cluster, "named.example.com", spec.clone(), by_name).await;
    let by_selector = json!({"paramRef": {"selector": {"matchLabels": {"limits": "yes"}}, "parameterNotFoundAction": "Allow"}});
    policy(&cluster, "selected.example.com", spec, by_selector).await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret =
        |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    let answer = cluster
        .until("POST", &format!("{secrets}?dryRun=All"), secret("a"), |a| {
            !a.code.is_success()
        })
        .await;
    assert!(
        answer.message().ends_with("failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"),
        "{}", answer.message()
    );
    cluster
        .post(MAPS, config_map("limits", json!({"prefix": "good-"})))
        .await
        .expect(201);
    let mut selected = config_map("other", json!({"prefix": "good-very-"}));
    selected["metadata"]["labels"] = json!({"limits": "yes"});
    cluster.post(secrets, secret("good-a")).await.expect(201);
    cluster.post(MAPS, selected).await.expect(201);
    let answer = cluster.post(secrets, secret("bad")).await;
    assert!(
        answer.message().ends_with("must begin with good-"),
        "{}",
        answer.message()
    );
    let answer = cluster
        .until(
            "POST",
            &format!("{secrets}?dryRun=All"),
            secret("good-b"),
            |a| !a.code.is_success(),
        )
        .await;
    assert!(
        answer.message().ends_with("must begin with good-very-"),
        "{}",
        answer.message()
    );
    cluster
        .post(secrets, secret("good-very-c"))
        .await
        .expect(201);
}

#[tokio::test]
async fn expressions_see_the_request_the_namespace_the_old_object_and_the_authorizer() {
    let cluster = Cluster::start().await;
    let spec = json!({
        "matchConditions": [{"name": "not-exempt", "expression": "!object.metadata.name.startsWith('exempt')"}],
        "validations": [
            {"expression": "request.operation != 'UPDATE' || object.data.size() >= oldObject.data.size()", "message": "shrinks"},
            {"expression": "namespaceObject.metadata.name == request.namespace", "message": "namespace"},
            {"expression": "authorizer.group('').resource('configmaps').namespace('default').check('delete').allowed() && authorizer.requestResource.check('create').allowed()", "message": "may not", "reason": "Forbidden"},
        ],
    });
    policy(&cluster, "all.example.com", spec, json!({})).await;
    // Somebody who may make config maps, and not delete them.
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "maker"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get"]}]});
    cluster
        .post("/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
        .await
        .expect(201);
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "maker"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "maker"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]});
    cluster
        .post(
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            binding,
        )
        .await
        .expect(201);
    cluster
        .post(MAPS, config_map("a", json!({"a": "1", "b": "2"})))
        .await
        .expect(201);
    let answer = cluster
        .until(
            "PATCH",
            &format!("{MAPS}/a?dryRun=All"),
            json!({"data": {"b": null}}),
            |a| !a.code.is_success(),
        )
        .await;
    assert!(
        answer.message().ends_with("denied request: shrinks"),
        "{}",
        answer.message()
    );
    let jane = cluster.user("jane", &[]);
    let ask = |name: &str| {
        let map = config_map(name, json!({"a": "1"}));
        cluster.ask_as(&jane, "POST", MAPS, "application/json", map)
    };
    let answer = ask("by-jane").await;
    assert_eq!(answer.code, StatusCode::FORBIDDEN);
    assert!(
        answer.message().ends_with("denied request: may not"),
        "{}",
        answer.message()
    );
    ask("exempt-by-jane").await.expect(201);
    cluster
        .post(MAPS, config_map("by-admin", json!({"a": "1"})))
        .await
        .expect(201);
}

#[tokio::test]
async fn expressions_about_a_namespace_see_no_namespace_around_it() {
    let cluster = Cluster::start().await;
    let namespaces = "/api/v1/namespaces";
    let space = |name: &str, seen: &str| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"seen": seen}}});
    cluster
        .post(namespaces, space("a", "before"))
        .await
        .expect(201);
    let spec = json!({
        "matchConstraints": {"resourceRules": [rule(&["CREATE", "UPDATE"], "", "namespaces")]},
        "validations": [{"expression": "object.metadata.labels['seen'] != 'now' || namespaceObject != null", "message": "none"}],
    });
    policy(&cluster, "space.example.com", spec, json!({})).await;
    let path = format!("{namespaces}?dryRun=All");
    let refused = |answer: &Answer| answer.message().ends_with("denied request: none");
    cluster
        .until("POST", &path, space("b", "now"), refused)
        .await;
    let now = json!({"metadata": {"labels": {"seen": "now"}}});
    let answer = cluster.ask("PATCH", "/api/v1/namespaces/a", now).await;
    assert!(refused(&answer), "{answer:?}");
}

/// Lets nobody list pods but those of node `a` with the label `app`.
#[derive(Debug)]
struct Choosy;

#[async_trait::async_trait]
impl Authorizer for Choosy {
    async fn authorize(&self, a: &Attributes<'_>) -> Decision {
        let narrow = a.selectors.is_some_and(|selectors| {
            let labels = selectors.labels();
            selectors.demand("spec.nodeName", "a") && labels.iter().any(|l| l.key() == "app")
        });
        match a.verb == "list" && a.resource == "pods" && !narrow {
            true => Decision::no_opinion(),
            false => Decision::Allow,
        }
    }
}

#[tokio::test]
async fn expressions_ask_the_authorizer_about_selections() {
    let builder = ApiServer::builder().authorizer(std::sync::Arc::new(Choosy));
    let cluster = Cluster::start_with(builder).await;
    let ask = |selectors: &str| {
        format!("authorizer.group('').resource('pods'){selectors}.check('list').allowed()")
    };
    let narrow = ask(".fieldSelector('spec.nodeName=a').labelSelector('app')");
    // One expression may ask twice.
    let variables = json!([
        {"name": "wider", "expression": ask(".fieldSelector('spec.nodeName=a')")},
        {"name": "all", "expression": ask("")},
    ]);
    let expression = format!("!({narrow} && !variables.wider && !variables.all)");
    let spec = json!({"variables": variables,
        "validations": [{"expression": expression, "message": "all as it should be"}]});
    policy(&cluster, "choosy.example.com", spec, json!({})).await;
    let answer = refused(&cluster, config_map("a", json!({}))).await;
    assert!(
        answer
            .message()
            .ends_with("denied request: all as it should be"),
        "{}",
        answer.message()
    );
}

#[tokio::test]
async fn failures_end_a_request_unless_the_policy_says_otherwise() {
    let cluster = Cluster::start().await;
    let spec = |policy: &str| json!({"failurePolicy": policy, "validations": [{"expression": "object.nothing == 1"}]});
    policy(&cluster, "ignore.example.com", spec("Ignore"), json!({})).await;
    policy(
        &cluster,
        "fail.example.com",
        spec("Fail"),
        json!({"matchResources": {"objectSelector": {"matchLabels": {"fail": "yes"}}}}),
    )
    .await;
    let mut map = config_map("a", json!({}));
    cluster.post(MAPS, map.clone()).await.expect(201);
    map["metadata"]["labels"] = json!({"fail": "yes"});
    let answer = refused(&cluster, map).await;
    assert!(
        answer.message().ends_with("denied request: expression 'object.nothing == 1' resulted in error: no such key: nothing"),
        "{}", answer.message()
    );
}

#[tokio::test]
async fn what_costs_too_much_is_stopped() {
    let cluster = Cluster::start().await;
    let list: Vec<String> = (0..500).map(|i| format!("'{i}'")).collect();
    let all = format!("[{}]", list.join(","));
    let spec = json!({"validations": [{"expression": format!("{all}.all(a, {all}.all(b, {all}.all(c, a + b != c + 'x')))")}]});
    policy(&cluster, "costly.example.com", spec, json!({})).await;
    let answer = refused(&cluster, config_map("a", json!({}))).await;
    assert!(
        answer
            .message()
            .ends_with("resulted in error: operation cancelled: actual cost limit exceeded"),
        "{}",
        answer.message()
    );
}

async fn mutating(cluster: &Cluster, name: &str, mutations: Value, more: Value) {
    let mut spec = json!({"reinvocationPolicy": "Never", "mutations": mutations,
        "matchConstraints": {"resourceRules": [rule(&["CREATE"], "", "configmaps")]}});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    make(cluster, "MutatingAdmissionPolicy", name, spec).await;
    make(
        cluster,
        "MutatingAdmissionPolicyBinding",
        name,
        json!({"policyName": name}),
    )
    .await;
}

fn apply(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn json_patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

#[tokio::test]
async fn configurations_are_applied_and_patches_carried_out() {
    let cluster = Cluster::start().await;
    let mutations = json!([
        apply(
            "Object{metadata: Object.metadata{labels: {'policy': variables.label}}, data: {'applied': 'yes'}}"
        ),
        json_patch(
            "[JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('patched'), value: object.metadata.labels['policy']}]"
        ),
    ]);
    let variables =
        json!({"variables": [{"name": "label", "expression": "'of-' + object.metadata.name"}]});
    mutating(&cluster, "all.example.com", mutations, variables).await;
    let made = cluster
        .until(
            "POST",
            &format!("{MAPS}?dryRun=All"),
            config_map("a", json!({"a": "1"})),
            |a| a.body["data"]["applied"] == "yes",
        )
        .await;
    assert_eq!(
        made.body["data"],
        json!({"a": "1", "applied": "yes", "patched": "of-a"})
    );
    assert_eq!(made.body["metadata"]["labels"]["policy"], "of-a");
}

#[tokio::test]
async fn a_mutation_sees_the_defaults_of_what_the_one_before_it_has_added() {
    let cluster = Cluster::start().await;
    let mutations = json!([
        json_patch(
            "[JSONPatch{op: 'add', path: '/spec/containers/-', value: Object.spec.containers{name: 'more', image: 'more:1'}}]"
        ),
        apply(
            "Object{metadata: Object.metadata{annotations: {'seen': object.spec.containers[1].terminationMessagePath}}}"
        ),
    ]);
    let pods = json!({"matchConstraints": {"resourceRules": [rule(&["CREATE"], "", "pods")]}});
    mutating(&cluster, "more.example.com", mutations, pods).await;
    let path = "/api/v1/namespaces/default/pods?dryRun=All";
    let made = cluster
        .until("POST", path, pod("a"), |a| {
            !a.body["spec"]["containers"][1].is_null()
        })
        .await;
    assert_eq!(
        made.body["metadata"]["annotations"]["seen"],
        "/dev/termination-log"
    );
}

#[tokio::test]
async fn policies_see_what_others_have_made_and_are_evaluated_again() {
    let cluster = Cluster::start().await;
    let first = json!([json_patch(
        "has(object.data.second) ? [JSONPatch{op: 'add', path: '/data/again', value: 'yes'}] : []"
    )]);
    mutating(
        &cluster,
        "a.example.com",
        first,
        json!({"reinvocationPolicy": "IfNeeded"}),
    )
    .await;
    let second = json!([json_patch(
        "[JSONPatch{op: 'add', path: '/data/second', value: 'yes'}]"
    )]);
    mutating(&cluster, "b.example.com", second, json!({})).await;
    let made = cluster
        .until(
            "POST",
            &format!("{MAPS}?dryRun=All"),
            config_map("a", json!({"a": "1"})),
            |a| a.body["data"]["second"] == "yes" && a.body["data"]["again"] == "yes",
        )
        .await;
    assert_eq!(made.body["data"]["a"], "1");
}

#[tokio::test]
async fn policies_are_selected_by_the_object_as_it_came() {
    let cluster = Cluster::start().await;
    let label = json!([apply(
        "Object{metadata: Object.metadata{labels: {'picked': 'yes'}}}"
    )]);
    mutating(&cluster, "a.example.com", label, json!({})).await;
    let data = json!([json_patch(
        "[JSONPatch{op: 'add', path: '/data/second', value: 'yes'}]"
    )]);
    let matching = json!({"matchConstraints": {
        "resourceRules": [rule(&["CREATE"], "", "configmaps")],
        "objectSelector": {"matchLabels": {"picked": "yes"}},
    }});
    mutating(&cluster, "b.example.com", data, matching).await;
    let path = format!("{MAPS}?dryRun=All");
    let map = config_map("a", json!({"a": "1"}));
    let mut picked = map.clone();
    picked["metadata"]["labels"] = json!({"picked": "yes"});
    // Both are in effect.
    cluster
        .until("POST", &path, picked, |a| a.body["data"]["second"] == "yes")
        .await;
    let made = cluster
        .until("POST", &path, map, |a| {
            a.body["metadata"]["labels"]["picked"] == "yes"
        })
        .await;
    assert_eq!(made.body["data"], json!({"a": "1"}));
}

#[tokio::test]
async fn a_mutation_that_fails_ends_the_request() {
    let cluster = Cluster::start().await;
    let mutations = json!([json_patch(
        "[JSONPatch{op: 'remove', path: '/data/nothing'}]"
    )]);
    mutating(&cluster, "fails.example.com", mutations, json!({})).await;
    let answer = refused(&cluster, config_map("a", json!({"a": "1"}))).await;
    assert!(
        answer.message().starts_with(
            "policy 'fails.example.com' with binding 'fails.example.com' denied request: JSON Patch: "
        ),
        "{}",
        answer.message()
    );
    assert_eq!(answer.code, StatusCode::FORBIDDEN);
    assert_eq!(answer.body["reason"], "Invalid");
}

#[tokio::test]
async fn a_mutation_that_may_fail_leaves_the_others_alone() {
    let cluster = Cluster::start().await;
    let mutations = json!([
        json_patch("[JSONPatch{op: 'add', path: '/data/first', value: '1'}]"),
        json_patch("[JSONPatch{op: 'remove', path: '/data/nothing'}]"),
        json_patch(
            "[JSONPatch{op: 'test', path: '/data/a', value: '2'}, JSONPatch{op: 'add', path: '/data/never', value: '1'}]"
        ),
        json_patch("[JSONPatch{op: 'add', path: '/data/last', value: '1'}]"),
    ]);
    let ignore = json!({"failurePolicy": "Ignore"});
    mutating(&cluster, "some.example.com", mutations, ignore).await;
    let made = cluster
        .until(
            "POST",
            &format!("{MAPS}?dryRun=All"),
            config_map("a", json!({"a": "1"})),
            |a| !a.body["data"]["first"].is_null(),
        )
        .await;
    assert_eq!(
        made.body["data"],
        json!({"a": "1", "first": "1", "last": "1"})
    );
}

#[tokio::test]
async fn what_all_policies_say_of_what_goes_is_nothing_where_they_change_things() {
    let cluster = Cluster::start().await;
    let all = json!({"matchConstraints": {"resourceRules": [rule(&["*"], "", "configmaps")]}});
    let mutations = json!([json_patch(
        "[JSONPatch{op: 'add', path: '/data/by', value: request.operation}]"
    )]);
    mutating(&cluster, "all.example.com", mutations, all).await;
    let mut made = config_map("a", json!({"a": "1"}));
    made["metadata"] = json!({"generateName": "a-"});
    let made = cluster
        .until("POST", MAPS, made, |a| a.body["data"]["by"] == "CREATE")
        .await;
    let name = made.body["metadata"]["name"].as_str().unwrap();
    cluster.delete(&format!("{MAPS}/{name}")).await.expect(200);
}

#[tokio::test]
async fn a_configuration_may_not_have_what_is_one_value() {
    let cluster = Cluster::start().await;
    let mutations = json!([apply(
        "Object{spec: Object.spec{nodeSelector: {'disk': 'fast'}}}"
    )]);
    let pods = json!({"matchConstraints": {"resourceRules": [rule(&["CREATE"], "", "pods")]}});
    mutating(&cluster, "atomic.example.com", mutations, pods).await;
    let pods = "/api/v1/namespaces/default/pods?dryRun=All";
    let answer = cluster
        .until("POST", pods, pod("a"), |a| !a.code.is_success())
        .await;
    assert!(
        answer.message().ends_with("denied request: error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.nodeSelector"),
        "{}",
        answer.message()
    );
}

#[tokio::test]
async fn policies_themselves_are_beyond_their_own_reach() {
    let cluster = Cluster::start().await;
    let spec = json!({"matchConstraints": {"resourceRules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]}]},
        "validations": [{"expression": "false"}]});
    policy(&cluster, "everything.example.com", spec, json!({})).await;
    refused(&cluster, config_map("a", json!({}))).await;
    // What is only asked is beyond it, too; what others are asked by is not.
    let attributes = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    for (path, review) in [
        ("authentication.k8s.io/v1/selfsubjectreviews", json!({})),
        (
            "authorization.k8s.io/v1/selfsubjectaccessreviews",
            attributes,
        ),
    ] {
        let answer = cluster.post(&format!("/apis/{path}"), review).await;
        answer.expect(201);
    }
    for path in [VALIDATING, MUTATING] {
        let hooks = json!({"metadata": {"name": "hooks"}, "webhooks": []});
        let answer = cluster.post(path, hooks).await;
        assert_eq!(answer.code, StatusCode::UNPROCESSABLE_ENTITY, "{answer:?}");
        assert!(
            answer
                .message()
                .ends_with("denied request: failed expression: false"),
            "{}",
            answer.message()
        );
    }
    let path = format!("{GROUP}/validatingadmissionpolicybindings/everything.example.com");
    cluster.delete(&path).await.expect(200);
    cluster
        .until(
            "POST",
            &format!("{MAPS}?dryRun=All"),
            config_map("a", json!({})),
            |a| a.code == 201,
        )
        .await;
}
