//! Checks that many kinds share: each takes a value and its path and gives the findings.

use std::{
    collections::{BTreeMap, HashSet},
    hash::Hash,
    net::IpAddr,
    num::IntErrorKind,
};

use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{Condition, LabelSelector, ObjectMeta},
    util::intstr::IntOrString,
};
use serde::Serialize;
use serde_json::Value;

use super::ip_fields;
use crate::{
    field::{self, ErrorList, Path},
    metadata, names,
};

/// What upstream says of a field that may not change.
pub(crate) const IMMUTABLE: &str = "field is immutable";

/// The elements of an optional list.
pub(crate) fn list<T>(values: &Option<Vec<T>>) -> &[T] {
    values.as_deref().unwrap_or_default()
}

/// Of each key, whether it is among those before it. Lists of a hundred thousand elements fit into a request: keys are
/// looked up, not searched for.
pub(crate) fn repeats<K: Hash + Eq>(keys: impl IntoIterator<Item = K>) -> Vec<bool> {
    let mut seen = HashSet::new();
    keys.into_iter().map(|key| !seen.insert(key)).collect()
}

/// The text of an optional string.
pub(crate) fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

/// Whether an optional string is absent or empty.
pub(crate) fn blank(value: &Option<String>) -> bool {
    text(value).is_empty()
}

/// Fills in an optional string that is absent or empty.
pub(crate) fn fill(value: &mut Option<String>, with: &str) {
    if blank(value) {
        *value = Some(with.to_owned());
    }
}

/// Fills in an optional string that is absent: in upstream's types it is a pointer, so that an empty one stays as it is, to be
/// found wrong.
pub(crate) fn fill_absent(value: &mut Option<String>, with: &str) {
    value.get_or_insert_with(|| with.to_owned());
}

/// A value as JSON, for a finding.
pub(crate) fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or(Value::Null)
}

/// One finding per message.
pub(crate) fn messages(path: &Path, value: impl Into<Value>, texts: Vec<String>) -> ErrorList {
    if texts.is_empty() {
        return ErrorList::new();
    }
    let value = value.into();
    texts
        .into_iter()
        .map(|text| field::invalid(path.clone(), value.clone(), text))
        .collect()
}

/// What is told of an annotation, if there is one.
pub(crate) fn annotation_advice(meta: &ObjectMeta, name: &str, told: &str) -> Option<String> {
    let annotated = meta.annotations.as_ref()?.contains_key(name);
    let path = || Path::new("metadata").child("annotations").key(name);
    annotated.then(|| format!("{}: {told}", path()))
}

/// Not below zero.
pub(crate) fn non_negative(value: impl Into<i64>, path: Path) -> ErrorList {
    let value = value.into();
    if value < 0 {
        vec![field::invalid(
            path,
            value,
            "must be greater than or equal to 0",
        )]
    } else {
        ErrorList::new()
    }
}

/// Unchanged.
pub(crate) fn immutable<T: PartialEq + Serialize>(new: &T, old: &T, path: Path) -> ErrorList {
    if same(new, old) {
        ErrorList::new()
    } else {
        vec![field::invalid(path, json(new), IMMUTABLE)]
    }
}

/// Whether two values mean the same: an absent field equals an empty one.
///
/// Upstream's `apiequality.Semantic.DeepEqual`.
pub(crate) fn same<T: PartialEq + Serialize>(a: &T, b: &T) -> bool {
    a == b || prune(json(a)) == prune(json(b))
}

fn prune(value: Value) -> Value {
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .map(|(key, value)| (key, prune(value)))
                .filter(|(_, value)| !empty(value))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(prune).collect()),
        other => other,
    }
}

/// A DNS label (RFC 1123).
pub(crate) fn dns_label(value: &str, path: Path) -> ErrorList {
    messages(&path, value, names::dns_label(value, false))
}

/// A DNS subdomain (RFC 1123).
pub(crate) fn dns_subdomain(value: &str, path: Path) -> ErrorList {
    messages(&path, value, names::dns_subdomain(value, false))
}

/// The name of a CSI driver.
pub(crate) fn csi_driver_name(name: &str, path: Path) -> ErrorList {
    if name.is_empty() {
        return vec![field::required(path, "")];
    }
    let mut errors = ErrorList::new();
    if name.len() > 63 {
        errors.push(field::too_long(path.clone(), 63));
    }
    errors.extend(messages(
        &path,
        name,
        names::dns_subdomain(&name.to_lowercase(), false),
    ));
    errors
}

/// A qualified name, such as a label's key.
pub(crate) fn qualified_name(value: &str, path: Path) -> ErrorList {
    messages(&path, value, names::qualified_name(value))
}

/// The longest reason and message of a condition, in bytes.
const REASON: usize = 1024;
const MESSAGE: usize = 32 * 1024;

/// The conditions of a status: each of another type, and whole. Upstream's `metav1validation.ValidateConditions`.
pub(crate) fn conditions(all: &[Condition], path: &Path) -> ErrorList {
    let mut errors = ErrorList::new();
    let repeats = repeats(all.iter().map(|condition| &condition.type_));
    for (index, condition) in all.iter().enumerate() {
        let path = path.index(index);
        let sort = condition.type_.as_str();
        if repeats[index] {
            errors.push(field::duplicate(path.child("type"), sort));
        }
        errors.extend(qualified_name(sort, path.child("type")));
        let said = condition.status.as_str();
        let statuses = ["False", "True", "Unknown"];
        if !statuses.contains(&said) {
            errors.push(field::not_supported(path.child("status"), said, &statuses));
        }
        if condition.observed_generation.is_some_and(|seen| seen < 0) {
            let text = "must be greater than or equal to zero";
            let path = path.child("observedGeneration");
            errors.push(field::invalid(path, condition.observed_generation, text));
        }
        if condition.last_transition_time.0 == metadata::UNSET_TIME {
            errors.push(field::required(
                path.child("lastTransitionTime"),
                "must be set",
            ));
        }
        let (reason, at) = (condition.reason.as_str(), path.child("reason"));
        if reason.is_empty() {
            errors.push(field::required(at, "must be set"));
        } else {
            errors.extend(messages(&at, reason, names::condition_reason(reason)));
            if reason.len() > REASON {
                errors.push(field::too_long(at, REASON));
            }
        }
        if condition.message.len() > MESSAGE {
            errors.push(field::too_long(path.child("message"), MESSAGE));
        }
    }
    errors
}

/// Whether a label selector selects nothing in particular.
pub(crate) fn selects_all(selector: &LabelSelector) -> bool {
    selector
        .match_labels
        .as_ref()
        .is_none_or(BTreeMap::is_empty)
        && list(&selector.match_expressions).is_empty()
}

/// Whether a label selector, taken to be valid, matches labels.
pub(crate) fn selector_matches(
    selector: &LabelSelector,
    labels: &BTreeMap<String, String>,
) -> bool {
    selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value))
        && list(&selector.match_expressions).iter().all(|requirement| {
            let values = list(&requirement.values);
            let found = labels.get(&requirement.key);
            match requirement.operator.as_str() {
                "In" => found.is_some_and(|value| values.contains(value)),
                "NotIn" => found.is_none_or(|value| !values.contains(value)),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => false,
            }
        })
}

/// One of a closed set; an empty value is "required".
pub(crate) fn one_of(value: &str, supported: &[&str], path: Path) -> ErrorList {
    if value.is_empty() {
        vec![field::required(path, "")]
    } else {
        one_of_or_empty(value, supported, path)
    }
}

/// One of a closed set; an empty value is "unsupported" unless the set has it.
pub(crate) fn supported(value: &str, supported: &[&str], path: Path) -> ErrorList {
    if supported.contains(&value) {
        ErrorList::new()
    } else {
        vec![field::not_supported(path, value, supported)]
    }
}

/// One of a closed set, or empty.
pub(crate) fn one_of_or_empty(value: &str, values: &[&str], path: Path) -> ErrorList {
    if value.is_empty() {
        ErrorList::new()
    } else {
        supported(value, values, path)
    }
}

/// The transport protocols.
pub(crate) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// A port number.
pub(crate) fn port_number(port: i32, path: Path) -> ErrorList {
    messages(&path, port, names::port_number(i64::from(port)))
}

/// A port by number or name.
pub(crate) fn port_number_or_name(port: &IntOrString, path: Path) -> ErrorList {
    match port {
        IntOrString::Int(number) => port_number(*number, path),
        IntOrString::String(name) => messages(&path, name.as_str(), names::port_name(name)),
    }
}

/// An IP address that hosts can have: not unspecified, loopback or link-local.
pub(crate) fn ordinary_ip(value: &str, path: Path) -> ErrorList {
    let Some(ip) = ip_fields::parse(value).map(|ip| ip.to_canonical()) else {
        return vec![field::invalid(path, value, "must be a valid IP address")];
    };
    let mut errors = ErrorList::new();
    if ip.is_unspecified() {
        errors.push(field::invalid(
            path.clone(),
            value,
            format!("may not be unspecified ({value})"),
        ));
    }
    if ip.is_loopback() {
        errors.push(field::invalid(
            path.clone(),
            value,
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ));
    }
    let (link_local, link_local_multicast) = match ip {
        IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(ip) => (
            ip.segments()[0] & 0xffc0 == 0xfe80,
            ip.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    if link_local {
        errors.push(field::invalid(
            path.clone(),
            value,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ));
    }
    if link_local_multicast {
        errors.push(field::invalid(
            path,
            value,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ));
    }
    errors
}

/// Whether a text is an address range such as `10.0.0.0/8`.
pub(crate) fn is_cidr(value: &str) -> bool {
    parse_cidr(value).is_some()
}

/// An address range's address and prefix length.
pub(crate) fn parse_cidr(value: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = value.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    if length.is_empty() || !length.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let length: u8 = length.parse().ok()?;
    (length <= if address.is_ipv4() { 32 } else { 128 }).then_some((address, length))
}

/// Whether a list of addresses has at least one of each family, an IPv4 one however it is written.
pub(crate) fn one_of_each_family(addresses: impl Iterator<Item = IpAddr>) -> bool {
    let (mut four, mut six) = (false, false);
    for address in addresses {
        match ip_fields::is_four(address) {
            true => four = true,
            false => six = true,
        }
    }
    four && six
}

/// A number, or a percentage such as `25%`; neither negative.
pub(crate) fn int_or_percent(value: &IntOrString, path: Path) -> ErrorList {
    match value {
        IntOrString::Int(number) => non_negative(*number, path),
        IntOrString::String(text) if percent(text).is_some() => ErrorList::new(),
        IntOrString::String(text) => vec![field::invalid(
            path,
            text.as_str(),
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. \
             '1%',  or '93%', regex used for validation is '[0-9]+%')",
        )],
    }
}

/// The number in a percentage.
pub(crate) fn percent(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('%')?;
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    integer(digits)
}

/// A number as Go's `Atoi` gives it: what has no room is the last that has.
fn integer(text: &str) -> Option<i64> {
    match text.parse::<i64>() {
        Ok(number) => Some(number),
        Err(error) => match error.kind() {
            IntErrorKind::PosOverflow => Some(i64::MAX),
            IntErrorKind::NegOverflow => Some(i64::MIN),
            _ => None,
        },
    }
}

/// No more than 100 %.
pub(crate) fn at_most_100_percent(value: &IntOrString, path: Path) -> ErrorList {
    match value {
        IntOrString::String(text) if percent(text).is_some_and(|n| n > 100) => {
            vec![field::invalid(
                path,
                text.as_str(),
                "must not be greater than 100%",
            )]
        }
        _ => ErrorList::new(),
    }
}

/// A number as it is, or that of a percentage or of another text; 0 if there is none in it.
pub(crate) fn int_or_percent_value(value: &IntOrString) -> i64 {
    match value {
        IntOrString::Int(number) => (*number).into(),
        IntOrString::String(text) => percent(text).or_else(|| integer(text)).unwrap_or_default(),
    }
}

/// An `IntOrString` as JSON.
pub(crate) fn int_or_string(value: &IntOrString) -> Value {
    match value {
        IntOrString::Int(number) => Value::from(*number),
        IntOrString::String(text) => Value::from(text.as_str()),
    }
}

/// Fills in a string that is absent or empty, and optional at some levels of the API's types.
pub(crate) fn fill_slot(field: &mut impl Slot<String>, with: &str) {
    if slot::<String>(field).is_none_or(|text| text.is_empty()) {
        field.put(with.to_owned());
    }
}

/// A field that is optional at some levels of the API's types and required at others.
pub(crate) trait Slot<T> {
    /// The value, if there is one.
    fn get(&self) -> Option<&T>;
    /// The value, to change, if there is one.
    fn get_mut(&mut self) -> Option<&mut T>;
    /// Sets the value.
    fn put(&mut self, value: T);
}

impl<T> Slot<T> for T {
    fn get(&self) -> Option<&T> {
        Some(self)
    }

    fn get_mut(&mut self) -> Option<&mut T> {
        Some(self)
    }

    fn put(&mut self, value: T) {
        *self = value;
    }
}

impl<T> Slot<T> for Option<T> {
    fn get(&self) -> Option<&T> {
        self.as_ref()
    }

    fn get_mut(&mut self) -> Option<&mut T> {
        self.as_mut()
    }

    fn put(&mut self, value: T) {
        *self = Some(value);
    }
}

/// The value of a field that may or may not be optional.
pub(crate) fn slot<T>(field: &impl Slot<T>) -> Option<&T> {
    field.get()
}

/// The value of a field that may or may not be optional, to change.
pub(crate) fn slot_mut<T>(field: &mut impl Slot<T>) -> Option<&mut T> {
    field.get_mut()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(all: serde_json::Value) -> Vec<String> {
        let all: Vec<Condition> = serde_json::from_value(all).unwrap();
        let found = conditions(&all, &Path::new("conditions"));
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn conditions_are_whole_and_each_of_another_type() {
        let (now, never) = ("2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z");
        let good = json!({"type": "a.b/C", "status": "Unknown", "reason": "R:s", "message": "", "lastTransitionTime": now});
        assert_eq!(found(json!([good])), [""; 0]);
        let bad = json!({"type": "", "status": "true", "reason": "", "message": "", "lastTransitionTime": never,
            "observedGeneration": -1});
        let found = found(json!([good, good, bad]));
        let begins = [
            r#"conditions[1].type: Duplicate value: "a.b/C""#,
            r#"conditions[2].type: Invalid value: "": name part must be non-empty"#,
            r#"conditions[2].type: Invalid value: "": name part must consist of"#,
            r#"conditions[2].status: Unsupported value: "true": supported values: "False", "True", "Unknown""#,
            "conditions[2].observedGeneration: Invalid value: -1: must be greater than or equal to zero",
            "conditions[2].lastTransitionTime: Required value: must be set",
            "conditions[2].reason: Required value: must be set",
        ];
        assert_eq!(found.len(), begins.len(), "{found:?}");
        for (found, begins) in found.iter().zip(begins) {
            assert!(found.starts_with(begins), "{found}");
        }
    }

    #[test]
    fn texts_count_as_the_numbers_in_them() {
        let text = |text: &str| IntOrString::String(text.to_owned());
        for (value, number) in [
            ("5", 5),
            ("-5", -5),
            ("0", 0),
            ("5%", 5),
            ("x", 0),
            ("", 0),
            ("9999999999", 9_999_999_999),
            ("99999999999999999999", i64::MAX),
            ("-99999999999999999999", i64::MIN),
        ] {
            assert_eq!(int_or_percent_value(&text(value)), number, "{value}");
        }
        for percentage in ["101%", "9999999999%", "99999999999999999999%"] {
            let value = text(percentage);
            assert_eq!(int_or_percent(&value, Path::new("a")), []);
            let found = at_most_100_percent(&value, Path::new("a"));
            let told =
                format!(r#"a: Invalid value: "{percentage}": must not be greater than 100%"#);
            assert_eq!(found[0].to_string(), told);
        }
    }

    #[test]
    fn reasons_and_messages_have_an_end() {
        let (reason, message) = ("r".repeat(REASON), "m".repeat(MESSAGE));
        let of = |reason: &str, message: &str| {
            found(
                json!([{"type": "A", "status": "True", "reason": reason, "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]),
            )
        };
        assert_eq!(of(&reason, &message), [""; 0]);
        let found = of(&(reason + "r"), &(message + "m"));
        assert!(
            found[0].starts_with("conditions[0].reason: Too long"),
            "{found:?}"
        );
        assert!(
            found[1].starts_with("conditions[0].message: Too long"),
            "{found:?}"
        );
    }
}
