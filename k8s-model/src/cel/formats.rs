//! Kubernetes' library of named formats: `format.dns1123Label().validate(text)`.

use std::rc::Rc;

use super::{CelError, Val};
use crate::{names, structural::format_fits};

type Found<'v> = Result<Val<'v>, CelError>;

/// A format of texts, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format(&'static str);

/// The formats that there are.
static NAMES: [&str; 13] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

/// Whether `format` has a function of that name.
pub(super) fn is_function(name: &str) -> bool {
    name == "named" || NAMES.contains(&name)
}

fn named(name: &str) -> Option<Format> {
    let found = NAMES.iter().find(|known| **known == name);
    found.map(|name| Format(name))
}

/// `format.named("…")`, `format.dns1123Label()` and so on.
pub(super) fn library<'v>(name: &str, args: &[Val<'v>]) -> Found<'v> {
    match (name, args) {
        ("named", [Val::String(name)]) => {
            let found = named(name).map(|format| Rc::new(Val::Format(format)));
            Ok(Val::Optional(found))
        }
        (name, []) => named(name).map(Val::Format).ok_or(CelError::NoOverload),
        _ => Err(CelError::NoOverload),
    }
}

impl Format {
    /// How long the regular expression that tells it is taken to be, where prices go by that.
    pub(super) fn longest_pattern(self) -> u64 {
        match self.0 {
            "dns1123Label" | "dns1035Label" | "dns1123LabelPrefix" | "dns1035LabelPrefix" => 30,
            "dns1123Subdomain" | "qualifiedName" | "dns1123SubdomainPrefix" => 60,
            "labelValue" => 40,
            "uri" => 1103,
            "uuid" => 70,
            "byte" => 84,
            _ => 71,
        }
    }

    /// What is wrong with a text; nothing if it has the format.
    fn problems(self, text: &str) -> Vec<String> {
        let checked = |fits: bool, problem: &str| match fits {
            true => Vec::new(),
            false => vec![problem.to_owned()],
        };
        match self.0 {
            "dns1123Label" => names::dns_label(text, false),
            "dns1123Subdomain" => names::dns_subdomain(text, false),
            "dns1035Label" => names::dns1035(text, false),
            "qualifiedName" => names::qualified_name(text),
            "dns1123LabelPrefix" => names::dns_label(text, true),
            "dns1123SubdomainPrefix" => names::dns_subdomain(text, true),
            "dns1035LabelPrefix" => names::dns1035(text, true),
            "labelValue" => names::label_value(text),
            "uri" => checked(format_fits("uri", text), "invalid URI for request"),
            "uuid" => checked(format_fits("uuid", text), "does not match the UUID format"),
            "byte" => checked(format_fits("byte", text), "invalid base64"),
            "date" => checked(format_fits("date", text), "invalid date"),
            _ => checked(format_fits("datetime", text), "invalid datetime"),
        }
    }

    /// `format.validate(text)`: nothing if it has the format, else what is wrong.
    pub(super) fn validate<'v>(self, text: &str) -> Val<'v> {
        let problems = self.problems(text);
        let list = || {
            problems
                .iter()
                .map(|problem| problem.as_str().into())
                .collect()
        };
        Val::Optional((!problems.is_empty()).then(|| Rc::new(Val::List(Rc::new(list())))))
    }
}
