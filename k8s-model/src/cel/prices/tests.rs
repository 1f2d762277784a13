use serde_json::{Value as Json, json};

use crate::{
    cel::{CALL_LIMIT, CelError, Dialect, Program, Scope, Val},
    structural::Schema,
};

/// The schemas, objects, rules and costs of upstream's own test of what evaluations cost.
const UPSTREAM: &str = include_str!("../testdata/prices.txt");

fn cost(source: &str, schema: &Schema, object: &Json) -> (Result<bool, CelError>, u64) {
    let scope = Scope::new().with_resource("self", schema);
    let program = Program::parse(source).unwrap().typed(&scope);
    let program = program.unwrap_or_else(|error| panic!("{source}: {error}"));
    let variables = [("self", Val::of(object, Some(schema)))];
    let (found, cost) = program.run(&variables, CALL_LIMIT);
    let found = found.map(|value| matches!(value, Val::Bool(true)));
    (found, cost)
}

#[test]
fn evaluations_cost_what_they_cost_upstream() {
    let (mut schema, mut object) = (Schema::default(), Json::Null);
    let mut wrong = Vec::new();
    for line in UPSTREAM.lines() {
        match line.split_once(' ') {
            Some(("schema", text)) => {
                schema = Schema::new(&serde_json::from_str(text).unwrap());
            }
            Some(("object", text)) => object = serde_json::from_str(text).unwrap(),
            Some((expected, source)) if !line.starts_with('#') => {
                let (found, cost) = cost(source, &schema, &object);
                if found != Ok(true) || cost != expected.parse::<u64>().unwrap() {
                    wrong.push(format!("{cost} {found:?}: {line}"));
                }
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// By hand from upstream's tables.
#[test]
fn what_the_libraries_do_has_upstreams_prices() {
    let text = json!({"type": "string"});
    let schema = json!({"type": "object", "properties": {"s": text, "either": {"x-kubernetes-int-or-string": true},
        "l": {"type": "array", "items": text}}});
    let schema = Schema::new(&serde_json::from_value(schema).unwrap());
    let long = "a".repeat(95);
    let object = json!({"s": long, "either": long, "l": [long, "bb"]});
    for (source, expected) in [
        // Three of reading, and a tenth of the shorter of the two.
        ("self.s == self.s", 4 + 10),
        ("self.s != ''", 2),
        ("self.s < 'abc'", 2 + 1),
        ("(self.s + self.s).size() > 0", 4 + 19 + 1 + 1),
        // What an expression adds may be of several types: the size does not count.
        ("self.either + self.either != ''", 4 + 1),
        ("self.either < 'b'", 2 + 1),
        ("self.s.contains('aaaaaaaaaaa')", 2 + 10 * 2),
        ("self.s.endsWith('a')", 2 + 1),
        ("self.s.matches('^a+$')", 2 + 10),
        ("self.s.find('aaaaa') == 'aaaaa'", 2 + 10 * 2 + 1),
        ("self.l.join(',') != ''", 2 + 20),
        ("self.l.indexOf('bb') == 1", 2 + 9 + 1),
        ("self.s in self.l", 2 + 2 + 2),
        ("self.s in ['x', 'y'] || true", 2),
        ("'x' in [] || true", 0),
        ("ip('10.0.0.1').isLoopback() || true", 1 + 1),
        ("cidr('10.0.0.0/8').containsIP('10.0.0.1')", 1 + 1 + 1),
        (
            "cidr('10.0.0.0/8').containsCIDR(cidr('10.0.0.0/16'))",
            1 + 2 + 1 + 1 + 1,
        ),
        (
            "!format.dns1123Label().validate('abc').hasValue()",
            1 + 8 + 1 + 1,
        ),
        (
            "url('https://example.com').getHost() == 'example.com'",
            2 + 1 + 2,
        ),
        ("semver('1.2.3').major() == 1", 1 + 1 + 1),
        // A side of a choice that is named is not observed by itself.
        ("(self.s == '' ? self.s : self.l[0]) != ''", 2 + 2),
        ("optional.of(1).hasValue() ? true : false", 2),
        (
            "optional.of(optional.of(1).hasValue() ? 1 : 2).hasValue()",
            4,
        ),
        ("(true ? optional.of(1) : optional.none()).hasValue()", 2),
        ("optional.of(1).optMap(x, 2).hasValue()", 1 + 1 + 1 + 1),
    ] {
        let (found, cost) = cost(source, &schema, &object);
        assert_eq!((found, cost), (Ok(true), expected), "{source}");
    }
}

#[test]
fn what_an_evaluation_may_cost_ends_it() {
    let schema = json!({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "string"}}}});
    let schema = Schema::new(&serde_json::from_value(schema).unwrap());
    let list: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    let object = json!({ "l": list });
    let scope = Scope::new().with("self", Some(&schema));
    let variables = [("self", Val::of(&object, Some(&schema)))];
    let source = "self.l.all(x, self.l.all(y, x != '' || y != ''))";
    let program = Program::parse(source).unwrap().typed(&scope).unwrap();
    let (found, cost) = program.run(&variables, CALL_LIMIT);
    assert_eq!(found.err(), Some(CelError::Cost));
    assert_eq!(cost, CALL_LIMIT + 1);
    // To the unit: each of a thousand costs five, and three come besides.
    let program = Program::parse("self.l.all(x, x == x || true)").unwrap();
    let program = program.typed(&scope).unwrap();
    let (found, cost) = program.run(&variables, CALL_LIMIT);
    assert!(found.is_ok());
    assert!(program.run(&variables, cost).0.is_ok());
    assert_eq!(
        program.run(&variables, cost - 1).0.err(),
        Some(CelError::Cost)
    );
}

/// Upstream takes one for each of these whatever its size, and for nothing else would they end.
#[test]
fn what_is_cheap_and_takes_long_is_ended_too() {
    let texts: Vec<String> = (0..20_000).map(|n| format!("{n:040}")).collect();
    let object = json!({"l": texts, "big": "x".repeat(1 << 20)});
    let variables = [("self", Val::of(&object, None))];
    for source in [
        "self.l.all(x, self.l == self.l)",
        "self.l.all(x, self.big + self.big != '')",
        "self.l.all(x, self.big != x)",
        "self.l.all(x, [self.l, self.l].flatten().size() > 0)",
        "self.l.all(x, self.big.matches(x + 'a?') || true)",
        "self.l.map(x, {x: 1}).all(m, self.l.map(y, y).distinct().size() > 0)",
        "self.l.transformMap(k, v, v).size() == 20000",
    ] {
        let program = Program::parse_as(source, Dialect::Common).unwrap();
        let program = program.typed(&Scope::new().with("self", None)).unwrap();
        let (found, _) = program.run(&variables, 100 * CALL_LIMIT);
        assert_eq!(found.err(), Some(CelError::Cost), "{source}");
    }
    // As many as there are, in a time that does not grow with the list for each.
    for source in [
        "self.l.all(x, self.l.size() == 20000 && self.l[19999] != '' && self.l.exists(y, true))",
        "self.l.all(x, x in ['a', 'b', 'c'] || !(x in ['a', 'b', 'c']))",
    ] {
        let program = Program::parse(source).unwrap();
        let (found, cost) = program.run(&variables, CALL_LIMIT);
        assert!(
            matches!(found, Ok(Val::Bool(true))),
            "{source}: {found:?} {cost}"
        );
    }
}
