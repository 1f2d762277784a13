//! Attributes of devices.

use k8s_openapi::{
    api::resource::v1::{Device, DeviceAttribute},
    k8s_if_ge_1_36, k8s_if_le_1_35,
};

use super::{
    lists::shortened,
    names::{self, QUALIFIED},
};
use crate::field::{self, ErrorList, Path};

/// How long a value is at most, in bytes.
const VALUE: usize = 64;

/// Whether an attribute has several values.
pub(super) fn have_lists(device: &Device) -> bool {
    let all = device.attributes.iter().flatten();
    all.flat_map(|(_, one)| lists(one)).any(|(_, is_set)| is_set)
}

k8s_if_ge_1_36! {
    fn lists(attribute: &DeviceAttribute) -> [(&'static str, bool); 4] {
        [
            ("ints", attribute.ints.is_some()),
            ("bools", attribute.bools.is_some()),
            ("strings", attribute.strings.is_some()),
            ("versions", attribute.versions.is_some()),
        ]
    }
}

k8s_if_le_1_35! {
    fn lists(_attribute: &DeviceAttribute) -> [(&'static str, bool); 0] {
        []
    }
}

/// What is wrong with the attributes of a device.
pub(super) fn attributes(device: &Device, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    for (name, one) in device.attributes.iter().flatten() {
        out.extend(names::qualified(name, path));
        out.extend(attribute(one, &path.key(&shortened(name, QUALIFIED))));
    }
    out
}

fn attribute(attribute: &DeviceAttribute, path: &Path) -> ErrorList {
    let mut out = ErrorList::new();
    let is_long = |value: &String| value.len() > VALUE;
    if attribute.string.as_ref().is_some_and(is_long) {
        out.push(field::too_long(path.child("string"), VALUE));
    }
    if let Some(version) = &attribute.version {
        let at = path.child("version");
        if !is_version(version) {
            let text = "must be a string compatible with semver.org spec 2.0.0";
            out.push(field::invalid(at.clone(), version.as_str(), text));
        }
        if is_long(version) {
            out.push(field::too_long(at, VALUE));
        }
    }
    out.extend(exactly_one(attribute, path));
    out
}

/// An attribute has one value, of one type.
fn exactly_one(attribute: &DeviceAttribute, path: &Path) -> Option<field::Error> {
    let types = [
        ("int", attribute.int.is_some()),
        ("bool", attribute.bool.is_some()),
        ("string", attribute.string.is_some()),
        ("version", attribute.version.is_some()),
    ];
    let types = || types.into_iter().chain(lists(attribute));
    let set: Vec<&str> = types().filter_map(|(name, is_set)| is_set.then_some(name)).collect();
    let all: Vec<String> = types().map(|(name, _)| format!("`{name}`")).collect();
    let all = all.join(", ");
    match set.len() {
        0 => {
            let text = format!("must specify one of: {all}");
            Some(field::invalid(path.clone(), "", text))
        }
        1 => None,
        _ => {
            let (value, text) = (set.join(", "), format!("must specify exactly one of: {all}"));
            Some(field::invalid(path.clone(), format!("{{{value}}}"), text))
        }
    }
}

/// Whether a text is a version as in <https://semver.org/spec/v2.0.0.html>.
fn is_version(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_digits = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = |word: &str| {
        !word.is_empty() && is_digits(word) && (word == "0" || !word.starts_with('0'))
    };
    let (text, build) = match text.split_once('+') {
        Some((text, build)) => (text, Some(build)),
        None => (text, None),
    };
    let (numbers, release) = match text.split_once('-') {
        Some((numbers, release)) => (numbers, Some(release)),
        None => (text, None),
    };
    numbers.split('.').count() == 3
        && numbers.split('.').all(is_number)
        && build.is_none_or(|build| build.split('.').all(is_word))
        && release.is_none_or(|release| {
            let mut words = release.split('.');
            words.all(|word| is_word(word) && (!is_digits(word) || is_number(word)))
        })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn found(all: Value) -> Vec<String> {
        let device: Device = serde_json::from_value(json!({"name": "d", "attributes": all})).unwrap();
        let found = attributes(&device, &Path::new("a"));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_attribute_has_one_value() {
        let good = json!({"i": {"int": 0}, "b": {"bool": false}, "s": {"string": ""},
            "example.com/v": {"version": "1.2.3"}});
        assert_eq!(found(good), [""; 0]);
        let all = "`int`, `bool`, `string`, `version`, `ints`, `bools`, `strings`, `versions`";
        assert_eq!(
            found(json!({"x": {}})),
            [format!(r#"a[x]: Invalid value: "": must specify one of: {all}"#)]
        );
        assert_eq!(
            found(json!({"x": {"string": "a", "int": 1}})),
            [format!(r#"a[x]: Invalid value: "{{int, string}}": must specify exactly one of: {all}"#)]
        );
        let long = "a".repeat(65);
        assert_eq!(
            found(json!({"x": {"string": long}})),
            ["a[x].string: Too long: may not be more than 64 bytes"]
        );
        let text = "must be a string compatible with semver.org spec 2.0.0";
        assert_eq!(
            found(json!({"x": {"version": "1.2"}})),
            [format!(r#"a[x].version: Invalid value: "1.2": {text}"#)]
        );
        assert_eq!(
            found(json!({"x": {"version": format!("1.2.3-{long}")}})),
            ["a[x].version: Too long: may not be more than 64 bytes"]
        );
    }

    #[test]
    fn an_attribute_has_a_name_with_or_without_a_domain() {
        let named = |name: &str| found(json!({name: {"int": 1}}));
        for good in ["a", "_B9", "example.com/a", "Example.com/a", &"a".repeat(32)] {
            assert_eq!(named(good), [""; 0], "{good}");
        }
        for (bad, begins) in [
            ("a b", r#"a: Invalid value: "a b": a valid C identifier must"#),
            ("", r#"a: Invalid value: "": a valid C identifier must"#),
            ("/a", r#"a: Invalid value: "": the domain must not be empty"#),
            ("a/", r#"a: Invalid value: "": the name must not be empty"#),
            ("a/b/c", r#"a: Invalid value: "a/b/c": must not contain more than one slash"#),
            ("a_b/c", r#"a: Invalid value: "a_b": a lowercase RFC 1123 subdomain must"#),
            (&"a".repeat(33), "a: Too long: may not be more than 32 bytes"),
            (&format!("{}/a", "a".repeat(64)), "a: Too long: may not be more than 63 bytes"),
        ] {
            let found = named(bad);
            assert!(found.len() == 1 && found[0].starts_with(begins), "{bad}: {found:?}");
        }
        // What is too long is shown in parts.
        let found = found(json!({"a".repeat(97): {}}));
        let shown = format!("a[{}...{}]: Invalid", "a".repeat(47), "a".repeat(46));
        assert!(found.len() == 2 && found[1].starts_with(&shown), "{found:?}");
    }

    #[test]
    fn versions_are_semantic() {
        for good in ["0.0.0", "1.2.3", "10.20.30-alpha.1+build.7", "1.0.0--", "1.0.0+001", "1.0.0-0a.b-c"] {
            assert!(is_version(good), "{good}");
        }
        for bad in [
            "", "1", "1.2", "1.2.3.4", "v1.2.3", "01.2.3", "1.2.3-", "1.2.3+", "1.2.3-01", "1.2.3-a..b",
            "1.2.3+a_b", "1.2.3+a+b", "-1.2.3", " 1.2.3",
        ] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
