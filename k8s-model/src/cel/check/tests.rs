use serde_json::{Value, json};

use super::{Estimate, Scope};
use crate::{cel::Program, structural::Schema};

fn schema(props: Value) -> Schema {
    Schema::new(&serde_json::from_value(props).unwrap())
}

fn check_with(schema: &Schema, source: &str) -> Result<Estimate, String> {
    let scope = Scope::new()
        .with("self", Some(schema))
        .with("oldSelf", Some(schema));
    Program::parse(source).unwrap().check(&scope)
}

fn everything() -> Schema {
    schema(json!({"type": "object", "properties": {
        "int": {"type": "integer"},
        "double": {"type": "number"},
        "bool": {"type": "boolean"},
        "string": {"type": "string"},
        "short": {"type": "string", "maxLength": 10},
        "kind": {"type": "string", "enum": ["a", "bcd"]},
        "when": {"type": "string", "format": "date-time"},
        "for": {"type": "string", "format": "duration"},
        "bytes": {"type": "string", "format": "byte"},
        "either": {"x-kubernetes-int-or-string": true},
        "strings": {"type": "array", "items": {"type": "string"}},
        "few": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 10}},
        "map": {"type": "object", "additionalProperties": {"type": "integer"}},
        "object": {"type": "object", "properties": {"a": {"type": "integer"}}},
        "other": {"type": "object", "properties": {"a": {"type": "integer"}}},
        "loose": {"x-kubernetes-preserve-unknown-fields": true},
        "objects": {"type": "array", "items": {"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string"}, "value": {"type": "integer"}}}},
    }}))
}

#[test]
fn what_fits_is_given_its_type() {
    let schema = everything();
    for (source, result) in [
        ("self.int", "int"),
        ("self.int + 1 > 2", "bool"),
        ("self.int < self.double", "bool"),
        ("self.int < 2.5", "bool"),
        ("self.string + 'x'", "string"),
        ("self.when.getHours()", "int"),
        ("self.when + self.__for__", "google.protobuf.Timestamp"),
        ("self.when - self.when", "google.protobuf.Duration"),
        ("self.bytes.size()", "int"),
        ("string(self.bytes)", "string"),
        ("self.strings.map(s, s + 'x').join(',')", "string"),
        ("self.strings.filter(s, s != '').size() == 1", "bool"),
        ("self.strings[0].startsWith('x')", "bool"),
        ("self.map['a'] + 1 == 2", "bool"),
        ("self.map.all(k, k.size() > 1 && self.map[k] > 1)", "bool"),
        ("'a' in self.strings || 'a' in self.map", "bool"),
        ("self.objects.exists_one(o, o.name == 'x')", "bool"),
        ("self.objects.map(o, o.value).sum() < 10", "bool"),
        ("self.object == oldSelf.object", "bool"),
        ("self == oldSelf", "bool"),
        (
            "type(self.either) == string ? self.either == '5%' : self.either > 5",
            "bool",
        ),
        ("self.either == 5 || self.either == 'x'", "bool"),
        ("has(self.string) && self.string.matches('^a+$')", "bool"),
        ("[1, 2].all(x, x > 0)", "bool"),
        ("[].size() == 0 && {}.size() == 0", "bool"),
        ("[[]] == [[1]]", "bool"),
        ("quantity('1Gi').isGreaterThan(quantity('1'))", "bool"),
        ("url('https://a/b').getQuery()['x'].size()", "int"),
        ("cidr('10.0.0.0/8').containsIP(ip('10.0.0.1'))", "bool"),
        ("format.dns1123Label().validate('x').hasValue()", "bool"),
        (
            "!format.named('uuid').value().validate(self.string).hasValue()",
            "bool",
        ),
        ("optional.of(self.int).orValue(0)", "int"),
        ("self.?string.orValue('x').size()", "int"),
        ("self.map[?'a'].hasValue()", "bool"),
        ("self.int == null || true", ""),
        ("duration('1h') < self.__for__", "bool"),
        ("self.few.transformList(i, v, i > 0, v).size()", "int"),
        ("sets.contains(self.strings, ['a', 'b'])", "bool"),
        ("dyn(self.int) == 'x'", "bool"),
        ("[dyn(1), 'x'].size()", "int"),
        ("semver('1.2.3').major() > 0", "bool"),
    ] {
        match check_with(&schema, source) {
            Ok(found) => assert_eq!(found.result, result, "{source}"),
            Err(error) => assert!(result.is_empty(), "{source}: {error}"),
        }
    }
}

#[test]
fn what_does_not_fit_is_told_as_upstream_tells_it() {
    let schema = everything();
    for (source, text) in [
        (
            "self.int == 'x'",
            "1:10: found no matching overload for '_==_' applied to '(int, string)'",
        ),
        (
            "self.string + 1 == 'x'",
            "found no matching overload for '_+_' applied to '(string, int)'",
        ),
        (
            "self.string.startsWith(3)",
            "found no matching overload for 'startsWith' applied to 'string.(int)'",
        ),
        (
            "size(self.int) > 1",
            "found no matching overload for 'size' applied to '(int)'",
        ),
        (
            "!self.string",
            "found no matching overload for '!_' applied to '(string)'",
        ),
        (
            "self.int && self.bool",
            "expected type 'bool' but found 'int'",
        ),
        (
            "self.bool ? 1 : 'x'",
            "found no matching overload for '_?_:_' applied to '(bool, int, string)'",
        ),
        (
            "self.strings == ['a', 1]",
            "expected type 'string' but found 'int'",
        ),
        (
            "self.strings.all(s, s > 1)",
            "found no matching overload for '_>_' applied to '(string, int)'",
        ),
        (
            "self.strings.all(s, s)",
            "expected type 'bool' but found 'string'",
        ),
        (
            "self.string.all(c, true)",
            "expression of type 'string' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        ("self.int.x", "type 'int' does not support field selection"),
        (
            "self.string == null",
            "found no matching overload for '_==_' applied to '(string, null)'",
        ),
        (
            "1 in self.strings",
            "found no matching overload for '@in' applied to '(int, list(string))'",
        ),
        (
            "self.map[1] == 1",
            "found no matching overload for '_[_]' applied to '(map(string, int), int)'",
        ),
        (
            "self.object == self.other",
            "found no matching overload for '_==_'",
        ),
        ("self.loose == 1", "undefined field 'loose'"),
        ("self.metadata.name == 'x'", "undefined field 'metadata'"),
        (
            "nothing(1)",
            "undeclared reference to 'nothing' (in container '')",
        ),
        (
            "self.string.sum() == 1",
            "found no matching overload for 'sum' applied to 'string.()'",
        ),
    ] {
        let error = check_with(&schema, source).unwrap_err();
        assert!(error.contains(text), "{source}: {error}");
    }
    // All that is wrong is told, each fault once.
    let error = check_with(&schema, "self.x == 1 && self.y == 2").unwrap_err();
    assert!(error.contains("'x'") && error.contains("'y'"), "{error}");
    assert_eq!(error.matches("ERROR").count(), 2, "{error}");
}

#[test]
fn a_resource_has_a_name_whatever_its_schema_says() {
    let schema = everything();
    let check = |source: &str| {
        let scope = Scope::new()
            .with_resource("self", &schema)
            .with_optional("oldSelf", "self");
        Program::parse(source).unwrap().check(&scope)
    };
    assert_eq!(check("self.metadata.name == 'x'").unwrap().result, "bool");
    assert_eq!(
        check("self.kind + self.apiVersion").unwrap().result,
        "string"
    );
    assert!(
        check("self.metadata.labels.size() > 0")
            .unwrap_err()
            .contains("undefined field 'labels'")
    );
    assert_eq!(
        check("oldSelf.hasValue() && oldSelf.value().int < self.int")
            .unwrap()
            .result,
        "bool"
    );
    assert_eq!(check("oldSelf.?int.orValue(1)").unwrap().result, "int");
    assert!(check("oldSelf == self").is_err());
}

/// The numbers are those of upstream's estimator, added up by hand.
#[test]
fn what_an_expression_may_cost_is_what_upstream_says() {
    let schema = everything();
    for (source, cost) in [
        // Whether there is a field costs what its owner costs.
        ("has(self.string)", 1),
        ("self.int == 5", 2),
        ("!has(self.string) || self.short == 'abc'", 2 + 3),
        // Of two ways only the dearer one is gone.
        ("self.bool ? self.int == 1 : true", 2 + 2),
        ("self.short.contains('abcdefghijk')", 2 + 4 * 2),
        ("self.short.matches('abcd')", 2 + 5),
        ("self.kind == 'abcdef'", 2 + 1),
        ("type(self.either) == string", 2 + 1 + 1),
        (
            "self.few.all(x, x.startsWith('abc'))",
            2 + 1 + 5 * (2 + 1 + 1 + 1),
        ),
        ("'abc' in self.few", 2 + 5),
        ("[1, 2].size() == 2", 10 + 1 + 1),
        ("optional.of('a').optMap(v, v == 'value').hasValue()", 18),
        (
            "optional.of([1, 2, 3, 4, 5]).optMap(v, v.size()).hasValue()",
            38,
        ),
        ("self.strings.size() < 5", 2 + 1 + 1),
        // A list of texts of two bytes at least, and a comma.
        ("self.strings.all(x, true)", 2 + 1 + 1_048_575 * (2 + 1)),
        // Each has `{"name":""}` at least.
        ("self.objects.all(x, true)", 2 + 1 + 241_978 * (2 + 1)),
        ("self.map.all(k, true)", 2 + 1 + 449_389 * (2 + 1)),
    ] {
        let found = check_with(&schema, source).unwrap();
        assert_eq!(found.cost, cost, "{source}");
    }
    let each_for_each = "self.strings.all(x, self.strings.all(y, x == y))";
    assert!(check_with(&schema, each_for_each).unwrap().cost > 10_000_000);
}

#[test]
fn types_that_grow_without_end_are_not_followed() {
    // Each name stands for a map from the one before to itself.
    let mut source = "c".to_owned();
    for at in (0..40).rev() {
        source = format!("cel.bind(v{}, {{v{at}: v{at}}}, {source})", at + 1);
    }
    let source = format!("cel.bind(v0, {{1: 1}}, {})", source.replace("c)", "v40)"));
    if let Ok(program) = Program::parse_as(&source, crate::cel::Dialect::Devices) {
        let _ = program.check(&Scope::new());
    }
    let mut source = String::from("[]");
    for _ in 0..60 {
        source = format!("[{source}]");
    }
    let program = Program::parse(&format!("{source} == {source}")).unwrap();
    assert!(program.check(&Scope::new()).is_ok());
}
