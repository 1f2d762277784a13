//! The generated table of messages.

use std::{collections::HashMap, sync::LazyLock};

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    String,
    Bool,
    Integer,
    Double,
    Bytes,
    Message(&'static str),
    StringMap,
    BytesMap,
    MessageMap(&'static str),
}

/// A field of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// Its name in JSON; `+` if the fields of its message are its parent's.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) repeated: bool,
}

/// The fields of a message by number.
pub(super) type Message = HashMap<u32, Field>;

static TABLE: LazyLock<HashMap<&'static str, Message>> = LazyLock::new(|| {
    include_str!("../generated/protobuf.txt")
        .lines()
        .filter_map(message)
        .collect()
});

/// The message of that name.
pub(super) fn find(name: &str) -> Option<&'static Message> {
    TABLE.get(name)
}

/// The message of a kind: the last part of its name, in the package of its group and version. Names
/// are in lower case throughout.
pub(super) fn of_kind(api_version: &str, kind: &str) -> Option<&'static str> {
    let (group, version) = api_version.split_once('/').unwrap_or(("core", api_version));
    let package = match group {
        "apiextensions.k8s.io" => "apiextensions_apiserver.pkg.apis.apiextensions".to_owned(),
        "apiregistration.k8s.io" => "kube_aggregator.pkg.apis.apiregistration".to_owned(),
        _ => format!("api.{}", group.split('.').next().unwrap_or(group)),
    };
    let own = format!("{package}.{version}.{kind}").to_ascii_lowercase();
    let meta = format!("apimachinery.pkg.apis.meta.v1.{kind}").to_ascii_lowercase();
    [own, meta]
        .iter()
        .find_map(|name| TABLE.get_key_value(name.as_str()).map(|(name, _)| *name))
}

fn message(line: &'static str) -> Option<(&'static str, Message)> {
    if line.starts_with('#') {
        return None;
    }
    let mut words = line.split(' ');
    let name = words.next()?;
    Some((name, words.filter_map(field).collect()))
}

fn field(word: &'static str) -> Option<(u32, Field)> {
    let (name, rest) = word.split_once('=')?;
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    let (number, kind) = rest.split_at(end);
    let repeated = kind.starts_with('*');
    let kind = match kind.trim_start_matches('*') {
        "s" => Kind::String,
        "b" => Kind::Bool,
        "i" => Kind::Integer,
        "d" => Kind::Double,
        "y" => Kind::Bytes,
        "S" => Kind::StringMap,
        "Y" => Kind::BytesMap,
        other => match other.split_once(':')? {
            ("m", message) => Kind::Message(message),
            (_, message) => Kind::MessageMap(message),
        },
    };
    Some((
        number.parse().ok()?,
        Field {
            name,
            kind,
            repeated,
        },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_that_a_field_names_is_there() {
        for (name, message) in TABLE.iter() {
            for field in message.values() {
                if let Kind::Message(inner) | Kind::MessageMap(inner) = field.kind {
                    assert!(find(inner).is_some(), "{name}.{} is a {inner}", field.name);
                }
            }
        }
    }
}
