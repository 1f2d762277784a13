//! Expressions that select devices.

use k8s_openapi::api::resource::v1::DeviceSelector;

use super::lists::each;
use crate::{
    cel::{Dialect, Program, Scope},
    field::{self, ErrorList, Path},
};

const SELECTORS: usize = 32;
/// How long an expression is at most, in bytes.
const LENGTH: usize = 10 << 10;
/// What one evaluation costs at most.
const COST: u64 = 1_000_000;

/// What is wrong with selectors. Expressions that are `stored` already were good when they came.
pub(super) fn selectors(all: &[DeviceSelector], stored: bool, path: &Path) -> ErrorList {
    each(all, SELECTORS, path, |selector, path| {
        let path = path.child("cel");
        match &selector.cel {
            None => vec![field::required(path, "")],
            Some(_) if stored => ErrorList::new(),
            Some(cel) => expression(&cel.expression, path.child("expression")),
        }
    })
}

fn expression(expression: &str, path: Path) -> ErrorList {
    if expression.len() > LENGTH {
        return vec![field::too_long(path, LENGTH)];
    }
    match cost(expression) {
        Ok(cost) if cost > COST => {
            vec![field::forbidden(path, "too complex, exceeds cost limit")]
        }
        Ok(_) => ErrorList::new(),
        Err(text) => vec![field::invalid(path, expression, text)],
    }
}

/// What it costs at most to ask an expression about a device; or why it cannot say whether that is selected.
fn cost(expression: &str) -> Result<u64, String> {
    let failed = |error: String| format!("compilation failed: {error}");
    let program = Program::parse_as(expression, Dialect::Devices)
        .map_err(|error| failed(error.to_string()))?;
    let estimate = program
        .check(&Scope::new().with_device())
        .map_err(failed)?;
    match estimate.result {
        "bool" | "dyn" => Ok(estimate.cost),
        _ => Err(format!(
            "must evaluate to bool or the unknown type, not {}",
            estimate.full_result
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(expression: &str) -> Vec<String> {
        let all: Vec<DeviceSelector> =
            serde_json::from_value(json!([{"cel": {"expression": expression}}])).unwrap();
        let found = selectors(&all, false, &Path::new("selectors"));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_expression_says_of_a_device_whether_it_is_selected() {
        for good in [
            "device.driver == 'd'",
            "device.attributes['d'].b",
            "device.attributes['d'].model == 'a' || device.attributes['d'].?other.orValue(1) == 2",
            "has(device.attributes['d'].b) && device.attributes['d']['b'].matches('^a.*z$')",
            "'x' in device.attributes['d'] && device.attributes['d'].x.startsWith('y')",
            "device.attributes['d'].version.isGreaterThan(semver('1.2.3'))",
            "device.capacity['d'].m.compareTo(quantity('1Gi')) >= 0",
            "device.capacity['d'].m == quantity('1Gi')",
            "cel.bind(dra, device.attributes['d'], dra.some && dra.other)",
            "device.attributes.exists(domain, domain.startsWith('d'))",
            "device.allowMultipleAllocations == true",
        ] {
            assert_eq!(found(good), [""; 0], "{good}");
        }
        for (bad, why) in [
            ("1", "must evaluate to bool or the unknown type, not int"),
            ("device.driver", "must evaluate to bool or the unknown type, not string"),
            ("devices.a", "undeclared reference to 'devices'"),
            ("device.vendor == 'a'", "undefined field 'vendor'"),
            ("device.capacity['d'].m > 1", "found no matching overload"),
            ("device.", "compilation failed: "),
            ("", "compilation failed: "),
        ] {
            let found = found(bad);
            assert!(found.len() == 1 && found[0].contains(why), "{found:?}");
        }
    }

    #[test]
    fn an_expression_has_a_bound_in_length_and_in_cost() {
        let long = |n: usize| format!("true{}", " ".repeat(n - 4));
        assert_eq!(found(&long(LENGTH)), [""; 0]);
        assert_eq!(
            found(&long(LENGTH + 1)),
            ["selectors[0].cel.expression: Too long: may not be more than 10240 bytes"]
        );
        let attributes = "device.attributes['d']";
        let deep = format!(
            "{attributes}.all(a, {attributes}.all(b, {attributes}.all(c, {attributes}.all(d, a + b + c + d != ''))))"
        );
        assert_eq!(
            found(&deep),
            ["selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit"]
        );
        let all: Vec<DeviceSelector> =
            serde_json::from_value(json!([{"cel": {"expression": deep}}, {}])).unwrap();
        let found = selectors(&all, true, &Path::new("selectors"));
        assert_eq!(found, [field::required(Path::new("selectors[1].cel"), "")]);
    }
}
