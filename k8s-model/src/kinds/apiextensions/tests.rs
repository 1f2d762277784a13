use serde_json::{Value, json};

use super::*;
use crate::{ResourceTable, Strategy};

fn rules() -> &'static dyn Strategy {
    let table = ResourceTable::builtin();
    let row = table.resource("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    &*row.unwrap().strategy
}

fn definition(schema: Value) -> CustomResourceDefinition {
    let mut definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": {"name": "foos.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "foos", "kind": "Foo"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    }))
    .unwrap();
    rules().default(&mut definition);
    rules().prepare_for_create(&mut definition);
    definition
}

fn findings(definition: &CustomResourceDefinition) -> Vec<String> {
    let found = rules().validate(definition);
    found.iter().map(ToString::to_string).collect()
}

fn of_schema(schema: Value) -> Vec<String> {
    let prefix = "spec.validation.openAPIV3Schema";
    findings(&definition(schema))
        .into_iter()
        .map(|text| text.replace(prefix, "S"))
        .collect()
}

#[test]
fn a_plain_definition_is_good_and_gets_its_defaults() {
    let definition = definition(json!({"type": "object"}));
    assert_eq!(findings(&definition), Vec::<String>::new());
    assert_eq!(definition.spec.names.singular.as_deref(), Some("foo"));
    assert_eq!(definition.spec.names.list_kind.as_deref(), Some("FooList"));
    assert_eq!(
        definition.spec.conversion.as_ref().unwrap().strategy,
        "None"
    );
    let stored = definition.status.unwrap().stored_versions;
    assert_eq!(stored.unwrap(), ["v1"]);
}

#[test]
fn names_and_versions_are_held_to_upstreams_rules() {
    let mut wrong = definition(json!({"type": "object"}));
    wrong.metadata.name = Some("bars.example.com".into());
    wrong.spec.scope = "World".into();
    wrong.spec.versions[0].storage = false;
    wrong.spec.names.list_kind = Some("Foo".into());
    for (name, prefix) in [("bars.example.com", false), ("bars-", true)] {
        assert_eq!(
            rules().validate_new_name(&wrong, name, prefix),
            [r#"must be spec.names.plural+"."+spec.group"#]
        );
    }
    let found = findings(&wrong);
    assert_eq!(
        found[..1],
        ["spec.scope: Unsupported value: \"World\": supported values: \"Cluster\", \"Namespaced\"",]
    );
    assert!(found[1].ends_with("must have exactly one version marked as storage version"));
    assert_eq!(
        found[2],
        "spec.names.listKind: Invalid value: \"Foo\": kind and listKind may not be the same"
    );
}

#[test]
fn schemas_must_be_structural() {
    for (schema, expected) in [
        (
            json!({}),
            vec!["S.type: Required value: must not be empty at the root"],
        ),
        (
            json!({"type": "object", "properties": {"a": {}}}),
            vec![
                "S.properties[a].type: Required value: must not be empty for specified object fields",
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "array"}}}),
            vec!["S.properties[a].items: Required value: must be specified"],
        ),
        (
            json!({"type": "object", "anyOf": [{"properties": {"a": {"type": "string"}}}]}),
            vec![
                "S.anyOf[0].properties[a].type: Forbidden: must be empty to be structural",
                "S.properties[a]: Required value: because it is defined in S.anyOf[0].properties[a]",
            ],
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}}),
            vec![
                "S.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified",
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}}}),
            vec![],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true, "items": {"type": "string"}}}}),
            vec![
                "S.properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}}),
            vec![
                "S.properties[a].default: Invalid value: \"string\": S.properties[a].default in body must be of type integer: \"string\"",
            ],
        ),
    ] {
        let found: Vec<String> = of_schema(schema.clone());
        // The text within names the place below the default alone.
        let found: Vec<String> = found
            .iter()
            .map(|f| f.replace(":  in body", ": S.properties[a].default in body"))
            .collect();
        assert_eq!(found, expected, "{schema}");
    }
}

#[test]
fn what_is_no_structural_schema_at_all_is_judged_as_it_was_written() {
    let a = |a: Value| json!({"type": "object", "properties": {"a": a}});
    for (schema, expected) in [
        (
            a(
                json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false, "x-kubernetes-embedded-resource": true}),
            ),
            vec![
                "S.properties[a].x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined",
            ],
        ),
        (
            a(json!({"items": [{}]})),
            vec![
                "S.properties[a].items: Forbidden: items must be a schema object and not an array",
            ],
        ),
        (
            a(
                json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"], "items": []}),
            ),
            vec![
                "S.properties[a].items: Required value: must be specified",
                r#"S.properties[a].items: Invalid value: {"Schema":null,"JSONSchemas":[]}: must only have a single schema if x-kubernetes-list-type is map"#,
            ],
        ),
        (
            a(json!({"$schema": "x"})),
            vec!["S: Invalid value: \"\": OpenAPIV3Schema 'schema' is not supported"],
        ),
    ] {
        assert_eq!(of_schema(schema.clone()), expected, "{schema}");
    }
}

#[test]
fn versions_without_a_schema_or_a_name_are_told_once() {
    let mut wrong = definition(json!({"type": "object"}));
    wrong.spec.versions[0].schema = None;
    let told = "spec.versions[0].schema.openAPIV3Schema: Required value";
    assert_eq!(findings(&wrong), [told]);
    let mut before = wrong.clone();
    before.spec.versions[0].served = false;
    let found = rules().validate_update(&wrong, &before);
    let told = format!("{told}: because otherwise all fields are pruned");
    assert!(
        found.iter().any(|error| error.to_string() == told),
        "{found:?}"
    );
    let mut wrong = definition(json!({"type": "object"}));
    wrong.spec.versions[0].name = String::new();
    let found = findings(&wrong);
    assert!(
        found[0].starts_with("spec.versions[0].name: Invalid value"),
        "{found:?}"
    );
    assert!(
        !found.iter().any(|told| told.starts_with("spec.version:")),
        "{found:?}"
    );
}

#[test]
fn the_default_of_the_root_is_a_resource() {
    let root = |default: Value| json!({"type": "object", "default": default, "properties": {"a": {"type": "string"}}});
    for (default, expected) in [
        (
            json!({}),
            vec![
                "S.default.apiVersion: Required value",
                "S.default.kind: Required value",
            ],
        ),
        (
            json!({"apiVersion": "v1", "kind": "A", "b": 1}),
            vec![
                "S.default: Invalid value: {\"apiVersion\":\"v1\",\"b\":1,\"kind\":\"A\"}: must not have unknown fields",
            ],
        ),
        (json!({"apiVersion": "v1", "kind": "A", "a": "x"}), vec![]),
    ] {
        assert_eq!(of_schema(root(default.clone())), expected, "{default}");
    }
}

#[test]
fn warnings_of_deprecation_can_be_printed() {
    for (text, index) in [
        ("Use v2, \u{e9}\u{301}!", None),
        ("a\nb", Some(1)),
        ("\u{e9}\u{a0}", Some(2)),
        ("ab\u{200b}", Some(2)),
        ("\u{2028}", Some(0)),
    ] {
        let mut definition = definition(json!({"type": "object"}));
        let version = &mut definition.spec.versions[0];
        version.deprecated = Some(true);
        version.deprecation_warning = Some(text.to_owned());
        let why =
            "must only contain printable UTF-8 characters; non-printable character found at index";
        let told = index.map(|index| format!("{why} {index}"));
        let found = rules().validate(&definition);
        let details: Vec<String> = found.into_iter().map(|error| error.detail).collect();
        assert_eq!(details, Vec::from_iter(told), "{text:?}");
    }
}

#[test]
fn only_rules_above_what_is_wrong_are_not_compiled() {
    let rule = json!([{"rule": "self.b"}]);
    let object = |list: Value| json!({"type": "object", "x-kubernetes-validations": rule, "properties": {"list": list}});
    let list =
        |unique: bool| json!({"type": "array", "uniqueItems": unique, "items": {"type": "string"}});
    let found = of_schema(json!({"type": "object", "x-kubernetes-validations": rule,
        "properties": {"good": object(list(false)), "wrong": object(list(true))}}));
    let told: Vec<&str> = found
        .iter()
        .map(|text| text.split_once(": ").unwrap().0)
        .collect();
    assert_eq!(
        told,
        [
            "S.properties[wrong].properties[list].uniqueItems",
            "S.properties[good].x-kubernetes-validations[0].rule",
        ]
    );
}

#[test]
fn list_maps_need_keys_that_are_there() {
    let list = |items: Value, keys: Value| {
        json!({"type": "object", "properties": {"a": {"type": "array", "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": keys, "items": items}}})
    };
    let item =
        json!({"type": "object", "required": ["k"], "properties": {"k": {"type": "string"}}});
    assert_eq!(
        of_schema(list(item.clone(), json!(["k"]))),
        Vec::<String>::new()
    );
    assert_eq!(
        of_schema(list(item, json!(["k", "l"]))),
        [
            "S.properties[a].x-kubernetes-list-map-keys: Invalid value: [\"k\",\"l\"]: entries must all be names of item properties"
        ]
    );
    let optional = json!({"type": "object", "properties": {"k": {"type": "string"}}});
    assert_eq!(
        of_schema(list(optional, json!(["k"]))),
        [
            "S.properties[a].items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
        ]
    );
}

#[test]
fn columns_scale_and_webhooks_are_checked() {
    let mut wrong = definition(json!({"type": "object"}));
    let version = &mut wrong.spec.versions[0];
    version.additional_printer_columns =
        serde_json::from_value(json!([{"name": "A", "type": "text", "jsonPath": "spec.a"}]))
            .unwrap();
    version.subresources = serde_json::from_value(json!({"scale": {
        "specReplicasPath": ".status.replicas", "statusReplicasPath": ".status.replicas"}}))
    .unwrap();
    wrong.spec.conversion = serde_json::from_value(json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v3"], "clientConfig": {"url": "http://example.com"}}}))
    .unwrap();
    assert_eq!(
        findings(&wrong),
        [
            "spec.subresources.scale.specReplicasPath: Invalid value: \".status.replicas\": should be a json path under .spec",
            "spec.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string",
            "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"spec.a\": must be a simple json path starting with .",
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            "spec.conversion.conversionReviewVersions: Invalid value: [\"v3\"]: must include at least one of v1, v1beta1",
        ]
    );
}

#[test]
fn the_groups_of_the_community_need_its_approval() {
    let mut mine = definition(json!({"type": "object"}));
    mine.spec.group = "foo.k8s.io".into();
    mine.metadata.name = Some("foos.foo.k8s.io".into());
    assert_eq!(findings(&mine).len(), 1);
    mine.metadata.annotations = Some(
        [(
            "api-approved.kubernetes.io".to_owned(),
            "unapproved, a test".to_owned(),
        )]
        .into(),
    );
    assert_eq!(findings(&mine), Vec::<String>::new());
}

#[test]
fn what_established_definitions_are_may_not_change() {
    let mut old = definition(json!({"type": "object"}));
    crate::custom::set_condition(
        &mut old,
        "Established",
        true,
        ("", ""),
        crate::metadata::to_second(jiff::Timestamp::UNIX_EPOCH),
    );
    let mut new = old.clone();
    new.spec.scope = "Cluster".into();
    let found = rules().validate_update(&new, &old);
    assert_eq!(
        found[0].to_string(),
        "spec.scope: Invalid value: \"Cluster\": field is immutable"
    );
}

/// As operators' definitions have them: of lists and maps without bounds, some in each other.
#[test]
fn rules_of_what_has_no_bound_are_counted_once_for_each_value() {
    let one_of = "(has(self.a) && !has(self.b)) || (!has(self.a) && has(self.b))";
    let text = json!({"type": "string"});
    let inner = json!({"type": "object", "properties": {"a": text, "b": text},
        "x-kubernetes-validations": [{"rule": one_of}]});
    let nested = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "outer": {"type": "array", "items": {"type": "object", "properties": {
            "list": {"type": "array", "items": inner}}}},
        "capacity": {"type": "object",
            "additionalProperties": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "x-kubernetes-validations": [{"rule": "self.all(x, !(x in ['cpu', 'memory', 'storage', 'pods']))"}]},
    }}}});
    assert_eq!(of_schema(nested), Vec::<String>::new());
    let bounded = json!({"type": "object", "properties": {"spec": {"type": "array", "maxItems": 4000,
        "items": {"type": "array", "maxItems": 4000, "items": {"type": "object", "properties": {"a": text},
            "x-kubernetes-validations": [{"rule": "has(self.a)"}]}}}}});
    let found = of_schema(bounded);
    assert!(
        found[0].contains("exceeds budget by factor of 1.6x"),
        "{found:?}"
    );
}

#[test]
fn rules_must_compile_be_affordable_and_compare_what_can_be_compared() {
    let rule = |rule: &str| json!([{ "rule": rule }]);
    let spec = |rules: Value| {
        json!({"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-validations": rules,
            "properties": {"a": {"type": "integer"}, "list": {"type": "array", "items": {"type": "string"}}}}}})
    };
    assert_eq!(of_schema(spec(rule("self.a > 1"))), Vec::<String>::new());
    let atomic = json!({"type": "object", "properties": {"ref": {"type": "object", "x-kubernetes-map-type": "atomic",
        "properties": {"major": {"type": "integer", "x-kubernetes-validations": rule("self == oldSelf")}}}}});
    assert_eq!(of_schema(atomic), Vec::<String>::new());
    for (schema, text) in [
        (spec(rule("self.b > 1")), "undefined field 'b'"),
        (spec(rule("self.a")), "must evaluate to a bool"),
        (
            spec(rule("self.a == 'x'")),
            "found no matching overload for '_==_' applied to '(int, string)'",
        ),
        (spec(rule("self.a >")), "compilation failed"),
        (
            spec(rule("self.list.all(x, self.list.all(y, x == y))")),
            "S.properties[spec].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "array", "maxItems": 3,
                "items": {"type": "string", "maxLength": 9, "x-kubernetes-validations": rule("self == oldSelf")}}}}),
            "oldSelf cannot be used on the uncorrelatable portion of the schema within spec.validation.openAPIV3Schema.properties[a]",
        ),
    ] {
        let found = findings(&definition(schema.clone())).join("\n");
        assert!(
            found.contains(text)
                || found
                    .replace("spec.validation.openAPIV3Schema", "S")
                    .contains(text),
            "{schema}: {found}"
        );
    }
}

/// What upstream's `suppressPerExpressionCost` and its environments for stored expressions are for.
#[test]
fn what_a_definition_has_already_is_excused() {
    let schema = |rule: &str, extra: &str| {
        json!({"type": "object", "description": extra, "properties": {
            "list": {"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": [{"rule": rule}]}}})
    };
    let changed = |rule: &str, extra: &str, old: &str| {
        let (old, mut new) = (definition(schema(old, "")), definition(schema(rule, extra)));
        new.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
        let found = rules().validate_update(&new, &old);
        let texts = found.iter().map(|error| error.detail.clone());
        texts.collect::<Vec<_>>()
    };
    // The schema is what it was: what each rule costs does not matter, what all cost does.
    let dear = "self.all(x, x.matches('^[a-z]{3}$'))";
    assert!(changed(dear, "", "true")[0].starts_with("estimated rule cost exceeds budget"));
    assert!(changed(dear, "more", dear)[0].starts_with("estimated rule cost exceeds budget"));
    let of_all = changed(dear, "", dear);
    assert!(
        of_all
            .iter()
            .all(|text| text.contains("for entire OpenAPIv3 schema")),
        "{of_all:?}"
    );
    let dear = "self.all(x, x != 'abcdefghijklmnopqrstu' && x != 'bcdefghijklmnopqrstuv')";
    assert!(changed(dear, "", "true")[0].starts_with("estimated rule cost exceeds budget"));
    assert_eq!(changed(dear, "", dear), Vec::<String>::new());
    // What new rules may not call yet, those that are there may, whatever else changes.
    let includes = "self.size() > 99 || self.includes('a')";
    assert!(changed(includes, "", "true")[0].contains("undeclared reference to 'includes'"));
    assert_eq!(changed(includes, "more", includes).len(), 0);
    // A message has a list of its own.
    let with_message = |message: &str| {
        let rule = json!([{"rule": "self.size() > 0", "messageExpression": message}]);
        definition(json!({"type": "object", "properties": {
            "list": {"type": "array", "maxItems": 9, "items": {"type": "string", "maxLength": 9}, "x-kubernetes-validations": rule}}}))
    };
    let includes = "self.includes('a') ? 'a' : 'b'";
    let found = rules().validate_update(&with_message(includes), &with_message("'a'"));
    assert!(
        found[0]
            .detail
            .contains("}: messageExpression compilation failed: ")
    );
    let found = rules().validate_update(&with_message(includes), &with_message(includes));
    assert!(found.is_empty());
}

#[test]
fn what_a_rule_blames_must_be_there() {
    let found = |rule: Value| {
        let mut rule = rule;
        rule["rule"] = "true".into();
        of_schema(json!({"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-validations": [rule],
            "properties": {"a": {"type": "integer"}}}}}))
        .into_iter()
        .map(|text| text.replace("S.properties[spec].x-kubernetes-validations[0].", ""))
        .collect::<Vec<_>>()
    };
    assert_eq!(found(json!({"fieldPath": ".a"})), Vec::<String>::new());
    for (rule, text) in [
        (
            json!({"fieldPath": ".b"}),
            "fieldPath: Invalid value: \".b\": must be a valid path",
        ),
        (
            json!({"fieldPath": "a"}),
            "fieldPath: Invalid value: \"a\": must be a valid path",
        ),
        (
            json!({"fieldPath": " "}),
            "fieldPath: Invalid value: \" \": must be non-empty if specified",
        ),
        (
            json!({"messageExpression": " "}),
            "messageExpression: Required value: messageExpression must be non-empty if specified",
        ),
        (
            json!({"reason": "x"}),
            "reason: Unsupported value: \"x\": supported values: \"FieldValueDuplicate\", \"FieldValueForbidden\", \"FieldValueInvalid\", \"FieldValueRequired\"",
        ),
        (
            json!({"message": "a\nb"}),
            "message: Invalid value: \"a\\nb\": must not contain line breaks",
        ),
    ] {
        let all = found(rule);
        assert!(all.contains(&text.to_owned()), "{all:?}");
    }
}
