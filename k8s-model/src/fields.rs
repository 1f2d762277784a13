//! Field selectors: what a `fieldSelector` query parameter selects.
//!
//! ```
//! # use k8s_model::fields::Selector;
//! let selector: Selector = "status.phase=Running,spec.nodeName!=".parse()?;
//! assert!(selector.matches_with(|field| match field {
//!     "status.phase" => Some("Running"),
//!     "spec.nodeName" => Some("node-1"),
//!     _ => None,
//! }));
//! # Ok::<(), k8s_model::fields::SelectorError>(())
//! ```

use std::{fmt, str::FromStr};

/// A selector that cannot be understood, with upstream's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SelectorError {
    /// A term without an operator.
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term {
        /// The whole selector.
        selector: String,
        /// The term.
        term: String,
    },
    /// A backslash before something that needs none.
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// A `=` in a value, without a backslash.
    #[error("invalid field selector: unescaped character in value: {}", *.0 as u32)]
    Unescaped(char),
}

/// One condition of a selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    /// The field, as in `spec.nodeName`.
    pub field: String,
    /// Whether the value must be this one (`true`) or must not.
    pub equals: bool,
    /// The value.
    pub value: String,
}

/// A set of requirements that must all be met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

impl Selector {
    /// Selects every object.
    pub fn everything() -> Self {
        Selector::default()
    }

    /// Selects what meets all of the requirements.
    pub fn new(requirements: Vec<Requirement>) -> Self {
        Selector { requirements }
    }

    /// Selects what has this value in that field.
    pub fn one(field: impl Into<String>, value: impl Into<String>) -> Self {
        Selector::new(vec![Requirement {
            field: field.into(),
            equals: true,
            value: value.into(),
        }])
    }

    /// Whether it selects every object.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The requirements.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// The one value that it demands of a field, if there is one.
    pub fn required_value(&self, field: &str) -> Option<&str> {
        let mut requirements = self.requirements.iter();
        requirements
            .find(|r| r.equals && r.field == field)
            .map(|r| r.value.as_str())
    }

    /// Whether it selects an object, given a way to look its fields up. A field that is not there
    /// is empty.
    pub fn matches_with<'a>(&self, field: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements
            .iter()
            .all(|r| (field(&r.field).unwrap_or("") == r.value) == r.equals)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let operator = if requirement.equals { "=" } else { "!=" };
            write!(
                f,
                "{comma}{}{operator}{}",
                requirement.field,
                escape(&requirement.value)
            )?;
        }
        Ok(())
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut terms: Vec<&str> = split_terms(text);
        terms.sort_unstable();
        let mut requirements = Vec::new();
        for term in terms.into_iter().filter(|term| !term.is_empty()) {
            let (field, equals, value) = split_term(term).ok_or_else(|| SelectorError::Term {
                selector: text.to_owned(),
                term: term.to_owned(),
            })?;
            let value = unescape(value)?;
            // Upstream has it that nothing equals nothing, and asks no more.
            if field.is_empty() && value.is_empty() {
                continue;
            }
            requirements.push(Requirement {
                field: field.to_owned(),
                equals,
                value,
            });
        }
        Ok(Selector { requirements })
    }
}

/// A value with a backslash before each `\`, `,` and `=`.
pub fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '\\' | ',' | '=') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(SelectorError::Escape(format!("\\{c}"))),
                None => return Err(SelectorError::Escape("\\".to_owned())),
            },
            ',' | '=' => return Err(SelectorError::Unescaped(c)),
            c => out.push(c),
        }
    }
    Ok(out)
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    for (i, _) in term.char_indices() {
        let rest = &term[i..];
        for (operator, equals) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..i], equals, value));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_three_operators_are_read() {
        let selector: Selector = "b!=2,a=1,c==3,".parse().unwrap();
        assert_eq!(selector.to_string(), "a=1,b!=2,c=3");
        assert_eq!(selector.required_value("c"), Some("3"));
        assert_eq!(selector.required_value("b"), None);
        for text in ["", "=", "==,", "!="] {
            assert!(text.parse::<Selector>().unwrap().is_everything(), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_selector_gets_upstreams_text() {
        for (text, expected) in [
            ("a", "invalid selector: 'a'; can't understand 'a'"),
            (
                "a=b=c",
                "invalid field selector: unescaped character in value: 61",
            ),
            (
                r"a=\x",
                r"invalid field selector: invalid escape sequence: \x",
            ),
            (
                r"a=b\",
                r"invalid field selector: invalid escape sequence: \",
            ),
        ] {
            assert_eq!(
                text.parse::<Selector>().unwrap_err().to_string(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn an_absent_field_is_empty() {
        let none = |_: &str| None;
        assert!("a=".parse::<Selector>().unwrap().matches_with(none));
        assert!("a!=b".parse::<Selector>().unwrap().matches_with(none));
        assert!(!"a=b".parse::<Selector>().unwrap().matches_with(none));
    }

    proptest! {
        #[test]
        fn any_value_survives_escaping(value in ".*", equals in any::<bool>()) {
            let selector = Selector::new(vec![Requirement { field: "a.b".into(), equals, value }]);
            prop_assert_eq!(selector.to_string().parse::<Selector>().unwrap(), selector);
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Selector>();
        }
    }
}
