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
        // A time remembers how far from UTC it was written, but tells its parts in UTC.
        "string(timestamp('2024-01-02T03:04:05.120+02:30')) == '2024-01-02T03:04:05.12+02:30'",
        "string(timestamp('2024-01-02T03:04:05-05:00') + duration('1h')) == '2024-01-02T04:04:05-05:00'",
        "string(timestamp('2024-01-02T03:04:05+00:00')) == '2024-01-02T03:04:05Z'",
        "timestamp('2024-01-02T03:04:05+02:00').getHours() == 1",
        "timestamp('2024-01-02T03:04:05+02:00') == timestamp('2024-01-02T01:04:05Z')",
        "string(timestamp(0)) == '1970-01-01T00:00:00Z' && timestamp('2024-01-02T03:04:05Z').getHours('') == 3",
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
fn the_libraries_do_what_kubernetes_documentation_shows() {
    let this = json!({"names": ["a", "b", "c"], "labels": {"env": "prod", "tier": "web"},
        "envs": [{"name": "Z"}, {"name": "A"}], "n": -3, "x": 2.5, "opt": {"a": 1}});
    for source in [
        // Named formats.
        "!format.dns1123Label().validate('my-label-name').hasValue()",
        "format.dns1123Label().validate('My_Label').value().size() > 0",
        "format.named('dns1123Subdomain').value().validate('apiextensions.k8s.io') == optional.none()",
        "!format.named('nothing').hasValue()",
        "!format.datetime().validate('2022-01-01T00:00:00Z').hasValue()",
        "!format.uuid().validate('123e4567-e89b-12d3-a456-426614174000').hasValue()",
        "format.qualifiedName().validate('a/b/c').hasValue()",
        // Versions.
        "semver('1.2.3').major() == 1 && semver('1.2.3').minor() == 2 && semver('1.2.3').patch() == 3",
        "semver('1.2.3').isLessThan(semver('1.2.4')) && semver('2.0.0').isGreaterThan(semver('1.9.9'))",
        "semver('1.0.0-alpha').compareTo(semver('1.0.0')) == -1 && semver('1.0.0-2').isLessThan(semver('1.0.0-10'))",
        "isSemver('1.0.0') && !isSemver('v1.0') && isSemver('v1.0', true) && !isSemver('01.01.01')",
        "semver('v01.2', true) == semver('1.2.0')",
        // Optional values.
        "self.?opt.optMap(o, o.a + 1).orValue(0) == 2 && !self.?z.optMap(o, o.a).hasValue()",
        "self.?opt.optFlatMap(o, o.?b).orValue(7) == 7",
        "optional.ofNonZeroValue('') == optional.none() && optional.of(1).or(optional.of(2)).value() == 1",
        "optional.unwrap([optional.of(1), optional.none()]) == [1] && [optional.of(2)].unwrapOpt() == [2]",
        "[1, 2].first().value() == 1 && [1, 2].last().value() == 2 && ![].first().hasValue()",
        "{?'a': optional.of(1), ?'b': optional.none()} == {'a': 1} && [?optional.none(), 1] == [1]",
        // Comprehensions with two variables.
        "self.names.all(i, v, i < 3 && v != '') && self.labels.exists(k, v, k == 'env' && v == 'prod')",
        "self.names.existsOne(i, v, i == 1) && !self.names.exists(i, v, i > 2)",
        "self.names.transformList(i, v, i > 0, v + string(i)) == ['b1', 'c2']",
        "self.labels.transformMap(k, v, v + '!') == {'env': 'prod!', 'tier': 'web!'}",
        "self.labels.transformMap(k, v, k == 'env', v) == {'env': 'prod'}",
        "self.names.transformMapEntry(i, v, {v: i}) == {'a': 0, 'b': 1, 'c': 2}",
        // Lists.
        "lists.range(3) == [0, 1, 2] && [1, 2, 3, 4].slice(1, 3) == [2, 3] && [3, 1, 2].sort() == [1, 2, 3]",
        "self.envs.sortBy(e, e.name).map(e, e.name) == ['A', 'Z'] && [1, 2, 2, 1].distinct() == [1, 2]",
        "[[1], [2, 3]].flatten() == [1, 2, 3] && [dyn(1), [dyn(2), [3]]].flatten(2) == [1, 2, 3]",
        "[1, 2].reverse() == [2, 1]",
        "sets.equivalent([1, 1], [1]) && !sets.contains([1], [2]) && sets.intersects(self.names, ['c'])",
        // Texts.
        "'%s is %d years, %.2f m, %x, %b, %o%%'.format([dyn('Ada'), 36, 1.684, 255, 5, 8]) == 'Ada is 36 years, 1.68 m, ff, 101, 10%'",
        "'%s'.format([[dyn(1), 'a', true, null, 1.5, duration('1m')]]) == '[1, \"a\", true, null, 1.500000, duration(\"60s\")]' && '%s'.format([{'b': 1, 'a': 2}]) == '{\"a\":2, \"b\":1}'",
        "'%.3e'.format([1234.5]) == '1.234×10⁰³' && '%e'.format([3.14]) == '3.140000×10⁰⁰' && '%.1e'.format([-0.000999]) == '-1.0×10⁻⁰³'",
        "'%f %.0f %.2f %f'.format([1234567.891, 999.5, -0.005, 0.0]) == '1,234,567.891000 1,000 -0.00 0.000000'",
        "string(1.5) == '1.5' && string(1e6) == '1e+06' && string(1234567.5) == '1.2345675e+06' && string(100000.0) == '100000' && string(0.00001) == '1e-05' && string(-0.25) == '-0.25'",
        "'%X'.format(['hi']) == '6869' && strings.quote('x') == '\"x\"'",
        // Addresses and quantities.
        "ip('192.168.0.1').isGlobalUnicast() && ip.isCanonical('127.0.0.1') && !ip.isCanonical('2001:DB8::abcd')",
        "cidr('192.168.0.0/24').containsIP(ip('192.168.0.1')) && cidr('192.168.0.0/16').containsCIDR('192.168.10.0/24')",
        "cidr('192.168.0.1/24').ip().family() == 4 && cidr('::1/128').prefixLength() == 128 && cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8')",
        "quantity('50k').add(20) == quantity('50020') && quantity('50k').sub(20000) == quantity('30k') && quantity('50000000G').isInteger() == true",
        "quantity('200M').compareTo(quantity('0.2G')) == 0 && quantity('-200').sign() == -1",
        "url('https://user:pass@[::1]:80/path').getHost() == '[::1]:80' && url('https://a.b/c?k=v&k=w').getQuery() == {'k': ['v', 'w']}",
        "'123 abc 456'.findAll('[0-9]*') != [] && 'abc 123'.find('[0-9]+') == '123'",
        "type(semver('1.2.3')) == type(semver('4.5.6'))",
    ] {
        assert_eq!(run(source, &this), Ok("true".to_owned()), "{source}");
        let scope = Scope::new().with("self", None);
        let checked = Program::parse(source).unwrap().check(&scope);
        assert!(checked.is_ok(), "{source}: {checked:?}");
    }
}

#[test]
fn each_use_has_the_functions_that_upstream_gives_it() {
    let this = json!({"names": ["a", "b", "c"]});
    let check = |source: &str, dialect, scope: Scope<'_>| {
        let program = Program::parse_as(source, dialect).unwrap();
        program.check(&scope.with("self", None))
    };
    let (common, devices) = (Dialect::Common, Dialect::Devices);
    // Not in any of upstream's environments, though cel-go has them.
    for source in [
        "math.greatest(1, 2) == 2",
        "'gums'.reverse() == 'smug'",
        "base64.encode(b'a') == ''",
        "regex.replace('a', 'b', 'c') == ''",
    ] {
        let error = check(source, devices, Scope::new()).unwrap_err();
        assert!(
            error.contains("undeclared reference") || error.contains("found no matching overload"),
            "{source}: {error}"
        );
    }
    // Variables are for selectors of devices.
    let bind = "cel.bind(xs, [1, 2], cel.bind(y, 3, xs + [y])) == [1, 2, 3]";
    assert!(check(bind, devices, Scope::new()).is_ok());
    let error = check(bind, common, Scope::new()).unwrap_err();
    assert!(error.contains("undeclared reference to 'cel'"), "{error}");
    let program = Program::parse_as(bind, devices).unwrap();
    let mut budget = CALL_LIMIT;
    assert!(matches!(
        program.evaluate(&[], &mut budget),
        Ok(Val::Bool(true))
    ));
    // Keys of patches are for mutations.
    let escape = "jsonpatch.escapeKey('k8s.io/my~label') == 'k8s.io~1my~0label'";
    assert!(check(escape, common, Scope::new().with_objects()).is_ok());
    assert!(check(escape, common, Scope::new()).is_err());
    assert_eq!(run(escape, &this), Ok("true".to_owned()));
    // Of the newest version: expressions that are stored have it already.
    let includes = "self.names.includes('b') && !self.names.includes('z') && 'a'.includes('a')";
    assert!(check(includes, common, Scope::new().stored(true)).is_ok());
    let error = check(includes, common, Scope::new()).unwrap_err();
    assert!(
        error.contains("undeclared reference to 'includes'"),
        "{error}"
    );
    assert_eq!(run(includes, &this), Ok("true".to_owned()));
}

#[test]
fn the_libraries_refuse_what_upstream_refuses() {
    let this = json!({"list": [1, 2]});
    for (source, text) in [
        (
            "semver('1.2') == semver('1.2.0')",
            "No Major.Minor.Patch elements found",
        ),
        (
            "[1, 2].slice(1, 3) == []",
            "cannot slice(1, 3), list is length 2",
        ),
        (
            "[1, 'a'].sort() == []",
            "list elements must have the same type",
        ),
        ("[1].flatten(-1) == [1]", "level must be non-negative"),
        (
            "{'a': 1, 'b': 2}.transformMapEntry(k, v, {'x': v}) == {}",
            "insert failed: key x already exists",
        ),
        (
            "'%d'.format(['a']) == ''",
            "error during formatting: decimal clause can only be used on integers, was given string",
        ),
        (
            "optional.none().value() == 1",
            "optional.none() dereference",
        ),
    ] {
        let error = run(source, &this).unwrap_err().to_string();
        assert_eq!(error, text, "{source}");
    }
    for source in ["cel.bind(1, 2, 3) == 3", "self.list.all(i, i, true)"] {
        let found = Program::parse_as(source, Dialect::Devices);
        assert!(matches!(found, Err(CelError::Syntax(_))), "{source}");
    }
    // What is made of a number has a bound, and what is gathered costs.
    assert_eq!(
        run("lists.range(100000000).size() == 1", &this),
        Err(CelError::Cost)
    );
    let wide: Vec<i32> = (0..3000).collect();
    let this = json!({ "list": wide });
    assert_eq!(
        run("self.list.distinct().size() == 1", &this),
        Err(CelError::Cost)
    );
    let source = "self.list.transformMap(i, v, v).size() == 3000";
    assert_eq!(run(source, &this), Ok("true".to_owned()));
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
        (
            "'x'.matches('(')",
            "error parsing regexp: missing closing ): `(`",
        ),
        (
            "'x'.find('[') == ''",
            "Illegal regex: error parsing regexp: missing closing ]: `[`",
        ),
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
}

#[test]
fn a_long_line_of_nonsense_is_told_briefly() {
    for source in ["é".repeat(30_000), "a ".repeat(30_000), ")".repeat(60_000)] {
        let error = Program::parse(&source).unwrap_err().to_string();
        assert!(error.len() < 300_000, "{}", error.len());
    }
}

#[test]
fn what_is_no_time_is_told_as_cel_tells_it() {
    for text in [
        "2024-01-02",
        "2024-01-02 03:04:05Z",
        "2024-01-02t03:04:05z",
        "2024-02-30T00:00:00Z",
    ] {
        let error = run("string(timestamp(self))", &json!(text)).unwrap_err();
        let expected = "type conversion error from 'string' to 'google.protobuf.Timestamp'";
        assert_eq!(error.to_string(), expected, "{text}");
    }
    let error = run("string(timestamp(-62135596801))", &Json::Null).unwrap_err();
    assert_eq!(error.to_string(), "timestamp overflow");
}
