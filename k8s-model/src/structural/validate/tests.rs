use serde_json::json;

use super::*;

fn findings(schema: Value, value: Value) -> Vec<String> {
    let schema = Schema::new(&serde_json::from_value(schema).unwrap());
    let found = schema.validate(&value);
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn findings_are_upstreams() {
    let object = |property: Value| json!({"type": "object", "properties": {"a": property}});
    for (schema, value, expected) in [
        (
            object(json!({"type": "integer"})),
            json!({"a": "x"}),
            "a: Invalid value: \"string\": a in body must be of type integer: \"string\"",
        ),
        (
            object(json!({"type": "strng"})),
            json!({"a": "x"}),
            "a: Invalid value: \"string\": a in body must be of type strng: \"string\"",
        ),
        (
            object(json!({"type": "strng", "format": "date-time"})),
            json!({"a": "x"}),
            "a: Invalid value: \"x\": a in body must be of type date-time: \"x\"",
        ),
        (
            object(json!({"type": "string", "maxLength": -1})),
            json!({"a": "x"}),
            "a: Too long: value is too long",
        ),
        (
            object(json!({"type": "array", "maxItems": -1})),
            json!({"a": []}),
            "a: Too many: 0: has too many items",
        ),
        (
            object(json!({"type": "string"})),
            json!({"a": null}),
            "a: Invalid value: \"null\": a in body must be of type string: \"null\"",
        ),
        (
            object(json!({"x-kubernetes-int-or-string": true})),
            json!({"a": true}),
            "a: Invalid value: \"boolean\": a in body must be of type integer,string: \"boolean\"",
        ),
        (
            object(json!({"type": "integer", "maximum": 10.0})),
            json!({"a": 11}),
            "a: Invalid value: 11: a in body should be less than or equal to 10",
        ),
        (
            object(json!({"type": "number", "minimum": 0.5, "exclusiveMinimum": true})),
            json!({"a": 0.5}),
            "a: Invalid value: 0.5: a in body should be greater than 0.5",
        ),
        (
            object(json!({"type": "string", "pattern": "^b+$"})),
            json!({"a": "x"}),
            "a: Invalid value: \"x\": a in body should match '^b+$'",
        ),
        (
            object(json!({"type": "string", "minLength": 2})),
            json!({"a": "x"}),
            "a: Invalid value: \"x\": a in body should be at least 2 chars long",
        ),
        (
            object(json!({"type": "string", "format": "ipv4"})),
            json!({"a": "x"}),
            "a: Invalid value: \"x\": a in body must be of type ipv4: \"x\"",
        ),
        (
            object(json!({"type": "string", "format": "date-time"})),
            json!({"a": 5}),
            "a: Invalid value: \"int64\": a in body must be of type date-time: \"int64\"",
        ),
        (
            object(json!({"type": "integer", "format": "int32"})),
            json!({"a": true}),
            "a: Invalid value: \"\": a in body must be of type int32: \"\"",
        ),
        (
            object(json!({"type": "integer", "format": "uint8"})),
            json!({"a": 1.5}),
            "a: Invalid value: \"number\": a in body must be of type integer: \"number\"",
        ),
        (
            object(json!({"type": "boolean", "format": "int32"})),
            json!({"a": {}}),
            "a: Invalid value: \"object\": a in body must be of type boolean: \"object\"",
        ),
        (
            object(json!({"type": "string", "format": "colour"})),
            json!({"a": false}),
            "a: Invalid value: \"boolean\": a in body must be of type string: \"boolean\"",
        ),
        (
            object(json!({"type": "string", "format": "date-time"})),
            json!({"a": "2024-01-02T03:04Z"}),
            "a: Invalid value: \"2024-01-02T03:04Z\": a in body must be of type date-time: \"2024-01-02T03:04Z\"",
        ),
        (
            object(json!({"type": "string", "nullable": true, "enum": ["b", "c"]})),
            json!({"a": null}),
            "a: Unsupported value: \"null\": supported values: \"b\", \"c\"",
        ),
        (
            object(json!({"type": "string", "nullable": true, "enum": ["b", null]})),
            json!({"a": null}),
            "a: Unsupported value: \"null\": supported values: \"b\", \"null\"",
        ),
        (
            object(json!({"type": "string", "maxLength": 1, "pattern": "^b+$"})),
            json!({"a": "xx"}),
            "a: Too long: may not be more than 1 byte",
        ),
        (
            object(
                json!({"type": "object", "minProperties": 2, "required": ["b"],
                "additionalProperties": {"type": "integer"}}),
            ),
            json!({"a": {"c": "x"}}),
            "a: Invalid value: 1: a in body should have at least 2 properties",
        ),
        (
            object(json!({"type": "object", "maxProperties": 1, "required": ["b"]})),
            json!({"a": {"c": 1, "d": 2}}),
            "a: Too many: 2: must have at most 1 item",
        ),
        (
            object(json!({"type": "object", "additionalProperties": false})),
            json!({"a": {"c": 1}}),
            "a: Invalid value: \"c\": a.c in body is a forbidden property",
        ),
        (
            object(json!({"type": "array", "items": {"type": "string"}, "maxItems": 1})),
            json!({"a": ["x", "y"]}),
            "a: Too many: 2: must have at most 1 item",
        ),
        (
            object(json!({"type": "array", "items": {"type": "string"}})),
            json!({"a": ["x", 1]}),
            "a[1]: Invalid value: \"integer\": a[1] in body must be of type string: \"integer\"",
        ),
        (
            json!({"type": "object", "required": ["b"]}),
            json!({}),
            "b: Required value",
        ),
        (
            object(json!({"type": "object", "minProperties": 1})),
            json!({"a": {}}),
            "a: Invalid value: 0: a in body should have at least 1 properties",
        ),
        (
            object(json!({"type": "string", "not": {"enum": ["x"]}})),
            json!({"a": "x"}),
            "<nil>: Invalid value: \"\": \"a\" must not validate the schema (not)",
        ),
    ] {
        assert_eq!(findings(schema, value), [expected]);
    }
}

#[test]
fn of_null_only_its_type_and_the_values_are_asked() {
    for schema in [
        json!({"type": "string", "nullable": true, "minLength": 1, "pattern": "^b+$"}),
        json!({"type": "string", "nullable": true, "anyOf": [{"enum": ["b"]}], "not": {"enum": ["c"]}}),
    ] {
        let schema = json!({"type": "object", "properties": {"a": schema}});
        assert_eq!(findings(schema, json!({"a": null})), [""; 0]);
    }
}

#[test]
fn alternatives_tell_what_comes_closest() {
    let schema =
        json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b", "c"]}]});
    assert_eq!(
        findings(schema.clone(), json!({})),
        [
            "<nil>: Invalid value: \"\": \"\" must validate one and only one schema (oneOf). Found none valid",
            "a: Required value",
        ]
    );
    assert_eq!(
        findings(schema, json!({"a": 1, "b": 1, "c": 1})),
        [
            "<nil>: Invalid value: \"\": \"\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ]
    );
}

#[test]
fn long_paths_are_not_spelled_out_for_all_that_is_below_them() {
    let schema = json!({"type": "object", "additionalProperties": {"type": "array", "items":
        {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}}});
    let long = "x".repeat(1 << 20);
    let good = json!({ &*long: vec![json!({"a": 1}); 100_000] });
    assert_eq!(findings(schema.clone(), good), [""; 0]);
    let bad = json!({ &*long: vec![json!({}); 100_000] });
    let told = findings(schema, bad);
    assert!(
        told[0].ends_with("xx[0].a: Required value"),
        "{}",
        &told[0][told[0].len() - 40..]
    );
    assert!((FEW..200).contains(&told.len()), "{}", told.len());
}

#[test]
fn what_does_not_change_is_not_judged_again() {
    let schema = Schema::new(&serde_json::from_value(json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1}, "b": {"type": "string"},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 1.0}}}},
    }})).unwrap());
    let old = json!({"a": "too long", "list": [{"k": "x", "v": 9}]});
    let new =
        json!({"a": "too long", "b": "new", "list": [{"k": "y", "v": 1}, {"k": "x", "v": 9}]});
    assert!(schema.validate_change(&new, Some(&old)).is_empty());
    let new = json!({"a": "too long", "list": [{"k": "x", "v": 8}]});
    assert_eq!(schema.validate_change(&new, Some(&old)).len(), 1);
}
