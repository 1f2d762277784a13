use serde_json::{Value, json};

use crate::{Object, ResourceTable, schema};

fn findings(kind: &str, value: Value) -> Vec<String> {
    let row = ResourceTable::builtin()
        .rows()
        .iter()
        .find(|row| row.group == "admissionregistration.k8s.io" && row.kind == kind);
    let row = row.unwrap();
    let mut object = (row.codec.from_value)(value, &mut |_| {}).unwrap();
    row.strategy.default(&mut *object);
    let found = row.strategy.validate(&*object);
    found.iter().map(ToString::to_string).collect()
}

fn webhook(change: Value) -> Value {
    let mut hook = json!({
        "name": "a.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"service": {"namespace": "ns", "name": "hook", "path": "/a"}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
    });
    for (key, value) in change.as_object().unwrap() {
        hook[key] = value.clone();
    }
    hook
}

fn configuration(hooks: &[Value]) -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "x"}, "webhooks": hooks})
}

fn with(change: Value) -> Vec<String> {
    findings(
        "ValidatingWebhookConfiguration",
        configuration(&[webhook(change)]),
    )
}

#[test]
fn what_a_webhook_does_not_say_is_filled_in() {
    let row = ResourceTable::builtin()
        .rows()
        .iter()
        .find(|row| row.kind == "ValidatingWebhookConfiguration");
    let row = row.unwrap();
    let value = configuration(&[webhook(json!({}))]);
    let mut object: Box<dyn Object> = (row.codec.from_value)(value, &mut |_| {}).unwrap();
    row.strategy.default(&mut *object);
    let hook = object.to_value()["webhooks"][0].clone();
    assert_eq!(hook["failurePolicy"], "Fail");
    assert_eq!(hook["matchPolicy"], "Equivalent");
    assert_eq!(hook["timeoutSeconds"], 10);
    assert_eq!(hook["namespaceSelector"], json!({}));
    assert_eq!(hook["rules"][0]["scope"], "*");
    assert_eq!(hook["clientConfig"]["service"]["port"], 443);
    assert_eq!(with(json!({})), Vec::<String>::new());
}

#[test]
fn webhooks_are_refused_in_upstreams_words() {
    let cases = [
        (
            json!({"name": "a.b"}),
            "webhooks[0].name: Invalid value: \"a.b\": should be a domain with at least three segments separated by dots",
        ),
        (
            json!({"sideEffects": "Some"}),
            "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
        ),
        (
            json!({"sideEffects": ""}),
            "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
        ),
        (
            json!({"timeoutSeconds": 31}),
            "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
        ),
        (
            json!({"clientConfig": {}}),
            "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
        ),
        (
            json!({"clientConfig": {"service": {"namespace": "ns", "name": ""}}}),
            "webhooks[0].clientConfig.service.namespace: Required value",
        ),
        (
            json!({"clientConfig": {"service": {"namespace": "", "name": "hook"}}}),
            "webhooks[0].clientConfig.service.name: Required value",
        ),
        (
            json!({"clientConfig": {"url": "http://x/y"}}),
            "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
        ),
        (
            json!({"admissionReviewVersions": []}),
            "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
        ),
        (
            json!({"admissionReviewVersions": ["v2"]}),
            "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
        ),
        (
            json!({"matchPolicy": "Sometimes"}),
            "webhooks[0].matchPolicy: Unsupported value: \"Sometimes\": supported values: \"Equivalent\", \"Exact\"",
        ),
        (
            json!({"rules": [{"apiGroups": ["", "*"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]}),
            "webhooks[0].rules[0].apiGroups: Invalid value: [\"\",\"*\"]: if '*' is present, must not specify other API groups",
        ),
        (
            json!({"rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["PATCH"], "resources": ["pods"]}]}),
            "webhooks[0].rules[0].operations[0]: Unsupported value: \"PATCH\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"DELETE\", \"UPDATE\"",
        ),
        (
            json!({"rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods/*", "pods/status"]}]}),
            "webhooks[0].rules[0].resources[1]: Invalid value: \"pods/status\": if 'pods/*' is present, must not specify pods/status",
        ),
        (
            json!({"matchConditions": [{"name": "", "expression": "true"}]}),
            "webhooks[0].matchConditions[0].name: Required value",
        ),
        (
            json!({"matchConditions": [{"name": "x", "expression": "1"}]}),
            "webhooks[0].matchConditions[0].expression: Invalid value: \"1\": must evaluate to bool but got int",
        ),
    ];
    for (change, wanted) in cases {
        let found = with(change.clone());
        assert_eq!(found, [wanted], "{change}");
    }
    let twice = configuration(&[webhook(json!({})), webhook(json!({}))]);
    assert_eq!(
        findings("ValidatingWebhookConfiguration", twice),
        ["webhooks[1].name: Duplicate value: \"a.example.com\""]
    );
}

#[test]
fn expressions_that_cannot_be_compiled_are_refused() {
    for source in ["object.x ==", "nobody == 1", "variables.x"] {
        let found = with(json!({"matchConditions": [{"name": "x", "expression": source}]}));
        assert!(
            found.len() == 1 && found[0].contains("compilation failed: ERROR: <input>:1:"),
            "{source}: {found:?}"
        );
    }
    assert_eq!(
        with(json!({"matchConditions": [{"name": "x", "expression":
            "request.userInfo.username != 'a' && authorizer.group('').resource('pods').namespace('x').check('get').allowed()"}]})),
        Vec::<String>::new()
    );
}

fn policy(change: Value) -> Vec<String> {
    let mut spec = json!({
        "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]}]},
        "variables": [{"name": "replicas", "expression": "object.spec.replicas"}],
        "validations": [{"expression": "variables.replicas < 5"}],
    });
    for (key, value) in change.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let value = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "x.example.com"}, "spec": spec});
    findings("ValidatingAdmissionPolicy", value)
}

#[test]
fn policies_are_refused_in_upstreams_words() {
    assert_eq!(policy(json!({})), Vec::<String>::new());
    let cases = [
        (
            json!({"validations": []}),
            "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
        ),
        (
            json!({"matchConstraints": null}),
            "spec.matchConstraints: Required value",
        ),
        (
            json!({"matchConstraints": {}}),
            "spec.matchConstraints.resourceRules: Required value",
        ),
        (
            json!({"paramKind": {"apiVersion": "v1"}}),
            "spec.paramKind.kind: Required value",
        ),
        (
            json!({"validations": [{"expression": " "}]}),
            "spec.validations[0].expression: Required value: expression is not specified",
        ),
        (
            json!({"validations": [{"expression": "true", "message": "a\nb"}]}),
            "spec.validations[0].message: Invalid value: \"a\\nb\": must not contain line breaks",
        ),
        (
            json!({"validations": [{"expression": "true", "message": " "}]}),
            "spec.validations[0].message: Invalid value: \" \": must be non-empty if specified",
        ),
        (
            json!({"validations": [{"expression": "true", "messageExpression": "1"}]}),
            "spec.validations[0].messageExpression: Invalid value: \"1\": must evaluate to string but got int",
        ),
        (
            json!({"validations": [{"expression": "true", "reason": "Gone"}]}),
            "spec.validations[0].reason: Unsupported value: \"Gone\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
        ),
        (
            json!({"validations": [{"expression": "true", "reason": ""}]}),
            "spec.validations[0].reason: Unsupported value: \"\": supported values: \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\"",
        ),
        (
            json!({"variables": [{"name": "a b", "expression": "1"}]}),
            "spec.variables[0].name: Invalid value: \"a b\": must be a valid CEL identifier",
        ),
        (
            json!({"variables": [{"name": "namespace", "expression": "1"}]}),
            "spec.variables[0].name: Invalid value: \"namespace\": must be a valid CEL identifier",
        ),
        (
            json!({"matchConstraints": {"objectSelector": {"matchLabels": {"a": "b c"}}}}),
            "spec.matchConstraints.objectSelector.matchLabels: Invalid value: \"b c\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
        ),
        (
            json!({"matchConditions": [{"name": "x", "expression": " 1 "}]}),
            "spec.matchConditions[0].expression: Invalid value: \"1\": must evaluate to bool but got int",
        ),
        (
            json!({"auditAnnotations": [{"key": "a", "valueExpression": " 1 "}]}),
            "spec.auditAnnotations[0].valueExpression: Invalid value: \" 1 \": must evaluate to one of [string null_type] but got int",
        ),
        (
            json!({"auditAnnotations": [{"key": "", "valueExpression": "'a'"}]}),
            "spec.auditAnnotations[0].key: Invalid value: \"x.example.com/\": name part must be non-empty",
        ),
        (
            json!({"variables": [{"name": "a", "expression": "1"}], "validations": [{"expression": "variables.a == 'x'"}]}),
            "spec.validations[0].expression: Invalid value: \"variables.a == 'x'\": compilation failed: ERROR: <input>:1:13: found no matching overload for '_==_' applied to '(int, string)'\n | variables.a == 'x'\n | ............^",
        ),
        (
            json!({"variables": [{"name": "a", "expression": "object.list.map(x, string(x))"}], "validations": [{"expression": "variables.a"}]}),
            "spec.validations[0].expression: Invalid value: \"variables.a\": must evaluate to bool but got list(string)",
        ),
        (
            json!({"validations": [{"expression": "object.spec.paused"}]}),
            "spec.validations[0].expression: Invalid value: \"object.spec.paused\": must evaluate to bool but got dyn",
        ),
        (
            json!({"validations": [{"expression": "request.verb == 'a'"}]}),
            "spec.validations[0].expression: Invalid value: \"request.verb == 'a'\": compilation failed: ERROR: <input>:1:8: undefined field 'verb'\n | request.verb == 'a'\n | .......^",
        ),
        (
            json!({"validations": [{"expression": "true", "messageExpression": "string(authorizer.path('/').check('get').allowed())"}]}),
            "spec.validations[0].messageExpression: Invalid value: \"string(authorizer.path('/').check('get').allowed())\": compilation failed: ERROR: <input>:1:8: undeclared reference to 'authorizer' (in container '')\n | string(authorizer.path('/').check('get').allowed())\n | .......^",
        ),
        (
            json!({"variables": [{"name": "replicas", "expression": "variables.later"}]}),
            "spec.variables[0].expression: Invalid value: \"variables.later\": compilation failed: ERROR: <input>:1:10: undefined field 'later'\n | variables.later\n | .........^",
        ),
    ];
    for (change, wanted) in cases {
        let found = policy(change.clone());
        assert!(found.contains(&wanted.to_owned()), "{change}: {found:?}");
    }
}

#[test]
fn the_last_variable_of_a_name_counts() {
    let twice = |last: &str| {
        policy(
            json!({"variables": [{"name": "replicas", "expression": "'a'"},
            {"name": "replicas", "expression": last}]}),
        )
    };
    assert_eq!(twice("1"), Vec::<String>::new());
    assert_eq!(twice("'b'").len(), 1);
}

#[test]
fn annotations_are_shown_as_they_are_in_go() {
    let annotation = json!({"key": "a", "valueExpression": "'v'"});
    let found = policy(json!({"auditAnnotations": vec![annotation; 21]}));
    let begins = r#"spec.auditAnnotations: Invalid value: [{"Key":"a","ValueExpression":"'v'"},"#;
    assert!(found[0].starts_with(begins), "{found:?}");
    assert!(found[0].ends_with("]: must not have more than 20 auditAnnotations"));
}

#[test]
fn bindings_are_refused_in_upstreams_words() {
    let binding = |spec: Value| {
        let value = json!({"apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "x"}, "spec": spec});
        findings("ValidatingAdmissionPolicyBinding", value)
    };
    assert_eq!(
        binding(json!({"policyName": "p", "validationActions": ["Deny"]})),
        Vec::<String>::new()
    );
    assert_eq!(
        binding(json!({"validationActions": ["Deny", "Warn"], "paramRef": {}})),
        [
            "spec.paramRef: Required value: one of name or selector must be specified",
            "spec.paramRef.parameterNotFoundAction: Required value",
            "spec.validationActions: Invalid value: [\"Deny\",\"Warn\"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
            "spec.policyName: Required value",
        ]
    );
    let params = json!({"name": "p", "parameterNotFoundAction": "Ask"});
    let found = binding(
        json!({"policyName": "p", "paramRef": params, "validationActions": ["Deny", ""],
        "matchResources": {"matchPolicy": "x"}}),
    );
    assert_eq!(
        found,
        [
            r#"spec.paramRef.parameterNotFoundAction: Unsupported value: "Ask": supported values: "Deny", "Allow""#,
            r#"spec.matchResources.matchPolicy: Unsupported value: "x": supported values: "Equivalent", "Exact""#,
            r#"spec.validationActions[1]: Unsupported value: "": supported values: "Audit", "Deny", "Warn""#,
        ]
    );
}

#[test]
fn what_goes_cannot_be_changed() {
    let rules = |operations: Value| json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": operations, "resources": ["pods"]}]);
    let policy = |operations: Value| {
        let spec = json!({"reinvocationPolicy": "Never", "matchConstraints": {"resourceRules": rules(operations)},
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'remove', path: '/x'}]"}}]});
        let value = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": "x"}, "spec": spec});
        findings("MutatingAdmissionPolicy", value)
    };
    let binding = |operations: Value| {
        let spec =
            json!({"policyName": "p", "matchResources": {"resourceRules": rules(operations)}});
        let value = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": "x"}, "spec": spec});
        findings("MutatingAdmissionPolicyBinding", value)
    };
    for good in [json!(["*"]), json!(["CREATE", "UPDATE", "CONNECT"])] {
        assert_eq!(policy(good.clone()), Vec::<String>::new());
        assert_eq!(binding(good), Vec::<String>::new());
    }
    assert_eq!(policy(json!(["CREATE", ""])).len(), 2);
    let text = "Unsupported value: \"DELETE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"";
    assert_eq!(
        policy(json!(["CREATE", "DELETE"])),
        [format!(
            "spec.matchConstraints.resourceRules.operations: {text}"
        )]
    );
    assert_eq!(
        binding(json!(["DELETE"])),
        [format!(
            "spec.matchResources.resourceRules.operations: {text}"
        )]
    );
}

#[test]
fn mutations_are_of_one_type() {
    let mutation = |mutation: Value| {
        let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["pods"]}]);
        let spec = json!({"reinvocationPolicy": "Never", "mutations": [mutation],
            "matchConstraints": {"resourceRules": rules}});
        let value = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingAdmissionPolicy",
            "metadata": {"name": "x"}, "spec": spec});
        findings("MutatingAdmissionPolicy", value)
    };
    let (of, patch) = ("ApplyConfiguration", json!({"expression": "[]"}));
    for (change, wanted) in [
        (
            json!({"patchType": "other", "jsonPatch": patch}),
            vec![
                r#"patchType: Unsupported value: "other": supported values: "ApplyConfiguration", "JSONPatch""#,
            ],
        ),
        (
            json!({"patchType": of, "applyConfiguration": {"expression": " "}}),
            vec!["applyConfiguration.expression: Required value"],
        ),
        (
            json!({"patchType": of, "jsonPatch": patch}),
            vec![
                "applyConfiguration: Required value: must be specified when patchType is ApplyConfiguration",
                r#"jsonPatch: Invalid value: "{jsonPatch}": must not be specified when patchType is ApplyConfiguration"#,
            ],
        ),
    ] {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|text| format!("spec.mutations[0].{text}"))
            .collect();
        assert_eq!(mutation(change.clone()), wanted, "{change}");
    }
}

#[test]
fn updates_say_which_version_they_are_of() {
    let rows = ResourceTable::builtin().rows().iter();
    let all: Vec<_> = rows
        .filter(|row| row.group == "admissionregistration.k8s.io")
        .collect();
    assert!(!all.is_empty());
    for row in all {
        assert!(!row.strategy.allow_unconditional_update(), "{row:?}");
    }
}

#[test]
fn names_of_what_manifests_say_are_reserved() {
    const WHY: &str = "names ending with \".static.k8s.io\" are reserved for static manifest-based configurations and cannot be managed via the API";
    let rows = ResourceTable::builtin().rows().iter();
    for row in rows.filter(|row| row.group == "admissionregistration.k8s.io") {
        let object = |name: &str| {
            let api_version = format!("{}/{}", row.group, row.version);
            let value =
                json!({"apiVersion": api_version, "kind": row.kind, "metadata": {"name": name}});
            let mut object = (row.codec.from_value)(value, &mut |_| {}).unwrap();
            row.strategy.default(&mut *object);
            object
        };
        let of_name = |object: &dyn Object| -> Vec<String> {
            let errors = row.strategy.validate(object).into_iter();
            let errors = errors.filter(|error| error.field.to_string() == "metadata.name");
            errors.map(|error| error.to_string()).collect()
        };
        let advice = format!("metadata.name: {WHY}");
        let (reserved, other) = (object("a.static.k8s.io"), object("static.k8s.io"));
        let refusal = format!("metadata.name: Invalid value: \"a.static.k8s.io\": {WHY}");
        let (refused, warned, kept): (&[_], &[_], &[_]) = match schema::MINOR {
            ..36 => (&[], &[], &[]),
            36 => (
                &[],
                std::slice::from_ref(&advice),
                std::slice::from_ref(&advice),
            ),
            37.. => (&[refusal], &[], &[advice]),
        };
        assert_eq!(of_name(&*reserved), refused, "{}", row.kind);
        assert_eq!(row.strategy.warnings(&*reserved), warned);
        assert_eq!(row.strategy.update_warnings(&*reserved, &*reserved), kept);
        let errors = row.strategy.validate_update(&*reserved, &*reserved);
        let mut fields = errors.iter().map(|error| error.field.to_string());
        assert!(!fields.any(|field| field == "metadata.name"));
        assert!(of_name(&*other).is_empty());
        assert!(row.strategy.update_warnings(&*other, &*other).is_empty());
    }
}
