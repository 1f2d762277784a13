use serde_json::json;

use super::*;

fn run(source: &str, this: &Json) -> Result<String, CelError> {
    let program = Program::parse(source)?;
    let mut budget = CALL_LIMIT;
    let found = program.evaluate(&[("self", value(this, None))], &mut budget)?;
    Ok(match found {
        Val::Bool(b) => b.to_string(),
        Val::Int(n) => n.to_string(),
        Val::String(text) => text.to_string(),
        other => format!("{other:?}"),
    })
}

#[test]
fn expressions_are_true() {
    let this = json!({"a": 1, "b": "text", "list": [3, 1, 2], "map": {"k": "v"}, "n": null,
        "pods": [{"name": "x", "ok": true}, {"name": "y", "ok": false}]});
    for source in [
        "self.a == 1 && self.b != 'x'",
        "self.a + 2 * 3 - 1 == 6",
        "has(self.a) && !has(self.z)",
        "self.list.all(x, x > 0)",
        "self.list.exists(x, x == 2) && self.list.exists_one(x, x == 2)",
        "self.list.map(x, x * 2) == [6, 2, 4]",
        "self.list.filter(x, x > 1).size() == 2",
        "self.pods.filter(p, p.ok).map(p, p.name) == ['x']",
        "'k' in self.map && 3 in self.list && self.map['k'] == 'v'",
        "self.map.all(k, k.startsWith('k'))",
        "size(self.b) == 4 && self.b.contains('ex') && self.b.matches('^t.*t$')",
        "self.n == null",
        "self.list.sum() == 6 && self.list.max() == 3 && ![2, 1].isSorted()",
        "'a,b'.split(',') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b'",
        "'abc'.substring(1, 2) == 'b' && 'abc'.indexOf('c') == 2 && ' x '.trim() == 'x'",
        "'abc'.replace('b', 'x') == 'axc' && 'A'.lowerAscii() == 'a' && 'abc'.charAt(1) == 'b'",
        "'x12y3'.findAll('[0-9]+') == ['12', '3'] && 'x12'.find('[0-9]') == '1'",
        "quantity('1Gi').isGreaterThan(quantity('1000Mi')) && isQuantity('5') && !isQuantity('x')",
        "quantity('500m').add(quantity('500m')).asInteger() == 1",
        "url('https://example.com:80/a?b=c').getHostname() == 'example.com' && isURL('/a') && !isURL('a')",
        "ip('10.0.0.1').family() == 4 && ip('::1').isLoopback() && !isIP('10.0.0')",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3') && !cidr('10.0.0.0/8').containsCIDR('0.0.0.0/0')",
        "duration('1h') > duration('59m') && duration('90s').getMinutes() == 1",
        "timestamp('2024-01-02T03:04:05Z').getFullYear() == 2024",
        "timestamp('2024-01-02T03:04:05Z') + duration('1h') == timestamp('2024-01-02T04:04:05Z')",
        "int('7') == 7 && string(7) == '7' && type(1) == int && double(1) == 1.0",
        "self.a > 5 || self.b == 'text'",
        "self.z.y == 1 || true",
        "!(false && self.z == 1)",
        "self.?z.orValue(5) == 5 && self.?a.hasValue() && optional.of(1).value() == 1",
        "self[?'a'].orValue(0) == 1",
        "sets.contains([1, 2], [2]) && sets.intersects([1], [1, 2])",
        "self.a == 1 ? true : self.z",
        "{'x': 1}.x == 1 && {'x': 1}['x'] == 1",
        "1.5 < 2 && 2 == 2.0 && 2u < 3u",
    ] {
        assert_eq!(run(source, &this), Ok("true".to_owned()), "{source}");
    }
}

#[test]
fn what_goes_wrong_is_told() {
    let this = json!({"a": 1, "list": [1]});
    for (source, text) in [
        ("self.z == 1", "no such key: z"),
        ("self.list[3] == 1", "index out of bounds: 3"),
        ("self.a / 0 == 1", "division by zero"),
        ("9223372036854775807 + self.a == 0", "integer overflow"),
        ("self.a + 'x' == 'x'", "no such overload"),
        ("'x'.matches('(')", "Illegal regex"),
    ] {
        let error = run(source, &this).unwrap_err().to_string();
        assert!(error.starts_with(text), "{source}: {error}");
    }
    assert!(matches!(run("self.", &this), Err(CelError::Syntax(_))));
}

#[test]
fn an_evaluation_has_a_bound() {
    let list: Vec<i32> = (0..2000).collect();
    let this = json!({ "list": list });
    let source = "self.list.all(x, self.list.all(y, x + y >= 0))";
    assert_eq!(run(source, &this), Err(CelError::Cost));
    // What a list gathers grows in place.
    let source = "self.list.map(x, x + 1).size() == 2000";
    assert_eq!(run(source, &this), Ok("true".to_owned()));
}

#[test]
fn schemas_give_types_and_names_that_are_no_identifiers() {
    let schema = Schema::new(&serde_json::from_value(json!({"type": "object", "properties": {
        "when": {"type": "string", "format": "date-time"}, "for": {"type": "string", "format": "duration"},
        "a.b": {"type": "integer"}, "n": {"type": "number"},
    }})).unwrap());
    let this = json!({"when": "2024-01-02T03:04:05Z", "for": "1h", "a.b": 1, "n": 1});
    let run = |source: &str| {
        let program = Program::parse(source).unwrap();
        let found = program.evaluate(&[("self", value(&this, Some(&schema)))], &mut {
            CALL_LIMIT
        });
        matches!(found, Ok(Val::Bool(true)))
    };
    assert!(run("self.when.getHours() == 3"));
    assert!(run("self.__for__ == duration('60m')"));
    assert!(run("self.a__dot__b == 1"));
    assert!(run("self.n / 2.0 == 0.5"));
}

#[test]
fn names_that_nobody_declared_are_found_before() {
    let schema = Schema::new(
        &serde_json::from_value(json!({"type": "object", "properties": {
            "a": {"type": "integer"}, "list": {"type": "array", "items": {"type": "string"}},
        }}))
        .unwrap(),
    );
    let check = |source: &str| {
        let scope = Scope::new().with("self", Some(&schema));
        Program::parse(source).unwrap().check(&scope)
    };
    assert_eq!(check("self.a > 1").unwrap().result, "bool");
    assert_eq!(check("self.a").unwrap().result, "int");
    for (source, text) in [
        ("self.b > 1", "ERROR: <input>:1:5: undefined field 'b'"),
        (
            "other > 1",
            "ERROR: <input>:1:1: undeclared reference to 'other' (in container '')",
        ),
        ("self.a.nothing()", "undeclared reference to 'nothing'"),
    ] {
        let error = check(source).unwrap_err();
        assert!(error.contains(text), "{source}: {error}");
    }
    // An unbounded list looked through for each of its elements costs more than anything may.
    let cost = check("self.list.all(x, self.list.all(y, x == y))")
        .unwrap()
        .cost;
    assert!(cost > 10_000_000, "{cost}");
    let cost = check("self.list.all(x, x.startsWith('a'))").unwrap().cost;
    assert!(cost < 10_000_000, "{cost}");
}
