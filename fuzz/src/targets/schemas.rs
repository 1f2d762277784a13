//! Definitions of custom resources, the objects they are about, and expressions.

use std::sync::LazyLock;

use k8s_model::{
    ResourceTable,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceDefinition, JSONSchemaProps,
    },
    cel::{self, Program, Scope},
    custom,
    structural::{Rules, Schema},
};
use serde_json::{Value, json};

pub(super) const SCHEMA_WORDS: &[&str] = &[
    "type",
    "properties",
    "items",
    "additionalProperties",
    "required",
    "enum",
    "pattern",
    "default",
    "nullable",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "x-kubernetes-validations",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
    "$ref",
    "$schema",
    "x-kubernetes-embedded-resource",
    "(a+)+$",
    "self.all(x, x == self)",
    "maxItems",
    "multipleOf",
    "array",
    "string",
];
pub(super) const CEL_WORDS: &[&str] = &[
    "self",
    "oldSelf",
    ".all(x, ",
    ".map(x, ",
    ".exists(x, ",
    ".filter(x, ",
    "has(",
    "size(",
    "matches(",
    "'(a+)+$'",
    "?.",
    "[?",
    "optional.of(",
    "quantity('1Gi')",
    "duration('1h')",
    "timestamp('2026-01-01T00:00:00Z')",
    "url('http://a')",
    "ip('10.0.0.1')",
    "cidr('10.0.0.0/8')",
    "format.dns1123Label()",
    " + ",
    " - ",
    " * ",
    " / ",
    " % ",
    " && ",
    " || ",
    " ? ",
    " : ",
    " in ",
    ".split(',')",
    ".replace(",
    ".join()",
    "b'x'",
    "'\\",
    "r\"",
    "1u",
    "1.5e308",
    "semver('1.2.3')",
];

fn definition(schema: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "as.b.c"},
        "spec": {"group": "b.c", "scope": "Namespaced", "names": {"plural": "as", "singular": "a", "kind": "A", "listKind": "AList"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}},
                "additionalPrinterColumns": [{"name": "N", "type": "integer", "jsonPath": ".spec.n"}],
                "schema": {"openAPIV3Schema": schema}}]}})
}

pub(super) fn schema_seeds() -> Vec<Vec<u8>> {
    let spec = json!({"type": "object", "required": ["n"], "properties": {
        "n": {"type": "integer", "format": "int32", "minimum": 0, "maximum": 10, "default": 1, "multipleOf": 2},
        "s": {"type": "string", "pattern": "^a+$", "maxLength": 5, "enum": ["a", "aa"], "nullable": true},
        "l": {"type": "array", "maxItems": 5, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string", "default": "x"}}}},
        "m": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 3}},
        "i": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "e": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        "o": {"type": "object", "properties": {"a": {"type": "string"}}, "oneOf": [{"required": ["a"]}], "not": {"required": ["b"]}}},
        "x-kubernetes-validations": [{"rule": "self.n < 10 && self.n >= oldSelf.n", "message": "m"}]});
    let object = json!({"apiVersion": "b.c/v1", "kind": "A", "metadata": {"name": "x"},
        "spec": {"n": 2, "s": "aa", "l": [{"k": "a"}, {}], "m": {"a": "b"}, "i": 5, "e": {"apiVersion": "v1", "kind": "Pod", "metadata": {}},
            "o": {"a": "x"}, "unknown": {"a": [1, null]}}});
    let schema = json!({"type": "object", "properties": {"spec": spec, "status": {"type": "object", "properties": {"n": {"type": "integer"}}}}});
    vec![
        json!({"definition": definition(schema), "object": object}).to_string().into_bytes(),
        json!({"definition": definition(json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})), "object": object})
            .to_string()
            .into_bytes(),
    ]
}

pub(super) fn schema(input: &[u8]) {
    let Ok(value) = serde_json::from_slice::<Value>(input) else {
        return;
    };
    let Some(row) =
        ResourceTable::builtin().kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
    else {
        return;
    };
    let text = value
        .get("definition")
        .cloned()
        .unwrap_or_default()
        .to_string();
    let Ok(mut definition) = (row.codec.from_json)(text.as_bytes(), &mut |_| {}) else {
        return;
    };
    row.strategy.default(&mut *definition);
    let sound = row.strategy.validate(&*definition).is_empty();
    let Some(definition) = definition.downcast_ref::<CustomResourceDefinition>() else {
        return;
    };
    let object = value.get("object").cloned().unwrap_or_default();
    for version in &definition.spec.versions {
        let Some(props) = version
            .schema
            .as_ref()
            .and_then(|schema| schema.open_api_v3_schema.as_ref())
        else {
            continue;
        };
        // The schemas of definitions that are refused are not used.
        if sound {
            judge(props, &object);
        }
    }
    if !sound {
        return;
    }
    let text = object.to_string();
    for row in custom::rows(definition) {
        if let Ok(mut object) = (row.codec.from_json)(text.as_bytes(), &mut |_| {}) {
            row.strategy.default(&mut *object);
            let _ = row.strategy.validate(&*object);
            let old = object.boxed_clone();
            let _ = row.strategy.validate_update(&*object, &*old);
            if let Some(version) = row.strategy.custom() {
                let _ = version.cells(&*object, jiff::Timestamp::UNIX_EPOCH);
            }
        }
    }
}

fn judge(props: &JSONSchemaProps, object: &Value) {
    let schema = Schema::new(props);
    let mut value = object.clone();
    schema.prune(&mut value, true, &mut |_| {});
    schema.prune_nulls(&mut value);
    schema.default_value(&mut value);
    let defaulted = value.clone();
    schema.default_value(&mut value);
    assert_eq!(value, defaulted, "defaults are final");
    let mut pruned = value.clone();
    schema.prune(&mut pruned, true, &mut |path| {
        panic!("{path} is pruned only later")
    });
    let _ = (
        schema.validate(&value),
        schema.validate_lists(&value),
        schema.validate_embedded(&value),
    );
    let rules = Rules::new(&schema, true);
    let _ = (
        rules.check(&schema, &value, None),
        rules.check(&schema, &value, Some(object)),
    );
}

/// What expressions are about.
static OBJECT: LazyLock<(Schema, Value)> = LazyLock::new(|| {
    let props = json!({"type": "object", "properties": {
        "n": {"type": "integer"}, "s": {"type": "string", "maxLength": 100}, "b": {"type": "boolean"}, "d": {"type": "string", "format": "date-time"},
        "l": {"type": "array", "maxItems": 100, "items": {"type": "string", "maxLength": 10}},
        "m": {"type": "object", "maxProperties": 100, "additionalProperties": {"type": "integer"}}}});
    let props: JSONSchemaProps = serde_json::from_value(props).expect("it is a schema");
    let list: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let value = json!({"n": 5, "s": "a".repeat(100), "b": true, "d": "2026-01-01T00:00:00Z", "l": list, "m": {"a": 1, "b": 2}});
    (Schema::new(&props), value)
});

pub(super) fn cel_seeds() -> Vec<Vec<u8>> {
    [
        "self.n > 3 && self.s.startsWith('a')",
        "self.l.all(x, self.l.exists(y, y == x))",
        "self.m.map(k, self.m[k] * 2).filter(v, v > 1).size() == 2",
        "has(self.d) ? timestamp(self.d) > timestamp('2020-01-01T00:00:00Z') : false",
        "self.s.matches('^(a+)+$')",
        "self.l.map(x, int(x)).sum() / 2 >= self.n % 3",
        "quantity('1.5Gi').isGreaterThan(quantity('100m')) || url('https://a.b/c?d=e').getHost() == 'a.b'",
        "self.?x.orValue({'a': [1, 2.5, b'c', null]}).size() == 0",
        "self.s.split('a').join('b').replace('b', 'c').lowerAscii().indexOf('z') == -1",
        "oldSelf.n == self.n && !(self.b in [true, false]) ? 'x' + string(self.n) == \"x5\" : dyn(1) == 1u",
        "cidr('10.0.0.0/8').containsIP(ip('10.1.2.3')) && isIP('::1') && duration('1h2m') > duration('5s')",
        "[1, 2, 3].all(i, [1, 2, 3].all(j, [1, 2, 3].all(k, i + j + k < 100)))",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(super) fn cel(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let Ok(program) = Program::parse(text) else {
        return;
    };
    let _ = program.mentions("oldSelf");
    let (schema, value) = &*OBJECT;
    let scope = |stored| {
        let scope = Scope::new().with_resource("self", schema);
        scope.with("oldSelf", Some(schema)).stored(stored)
    };
    let checked = program.check(&scope(false));
    assert!(
        checked.is_err() || program.check(&scope(true)).is_ok(),
        "what is new may be stored"
    );
    for schema in [Some(schema), None] {
        let variables = [
            ("self", cel::value(value, schema)),
            ("oldSelf", cel::value(value, schema)),
        ];
        let mut budget = cel::CALL_LIMIT;
        let _ = program.evaluate(&variables, &mut budget);
        assert!(budget <= cel::CALL_LIMIT);
    }
    let typed = program.typed(&scope(true));
    assert!(checked.is_err() || typed.is_ok());
    let Ok(program) = typed else {
        return;
    };
    let variables = [
        ("self", cel::value(value, Some(schema))),
        ("oldSelf", cel::value(value, Some(schema))),
    ];
    let (found, cost) = program.run(&variables, cel::CALL_LIMIT);
    let told = |found: &Result<_, _>| format!("{found:?}");
    let is_over = matches!(found, Err(cel::CelError::Cost));
    assert_eq!(is_over, cost > cel::CALL_LIMIT, "the limit decides");
    if !is_over {
        // What it costs is enough, and one less is not.
        assert_eq!(told(&program.run(&variables, cost).0), told(&found));
        if let Some(less) = cost.checked_sub(1) {
            let (again, _) = program.run(&variables, less);
            assert!(matches!(again, Err(cel::CelError::Cost)), "{again:?}");
        }
    }
}

/// A text, and what matches a pattern in it.
static MATCHING: LazyLock<Program> = LazyLock::new(|| {
    let source = "self.s.matches(self.p) || self.s.findAll(self.p).size() > 0";
    Program::parse(source).expect("it is an expression")
});

pub(super) fn pattern_seeds() -> Vec<Vec<u8>> {
    [
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        r#"^(?P<name>[^()<>@,;:\\"/[\]?={} \t]+){1,3}(?i:x|y)*?$"#,
        r"\Qa.b\E+\x{41}\x41\101\pL\P{^Greek}[[:alpha:]\d_-]\bz\z",
        r"((a{10}){10}){10}|b{,2}|c{2,}|(?s-i).",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

pub(super) fn pattern(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    // No pattern at all.
    if text.is_empty() {
        return;
    }
    let schema = Schema::new(&JSONSchemaProps {
        type_: Some("string".to_owned()),
        pattern: Some(text.to_owned()),
        ..JSONSchemaProps::default()
    });
    let value = json!({"s": "aa.b AB-c1 é\n", "p": text});
    let _ = schema.validate(&value["s"]);
    let variables = [("self", cel::value(&value, None))];
    let (found, _) = MATCHING.run(&variables, cel::CALL_LIMIT);
    let compiled = schema.pattern.is_some_and(|pattern| pattern.is_valid());
    // Expressions have less memory for theirs.
    assert!(compiled || found.is_err(), "one pattern, two answers");
}
