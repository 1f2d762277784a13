//! Label selectors: what a `labelSelector` query parameter and a `LabelSelector` object select.
//!
//! ```
//! # use k8s_model::labels::Selector;
//! # use std::collections::BTreeMap;
//! let selector: Selector = "app in (web, api), tier!=test".parse()?;
//! let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
//! assert!(selector.matches(&labels));
//! assert_eq!(selector.to_string(), "app in (api,web),tier!=test");
//! # Ok::<(), k8s_model::labels::SelectorError>(())
//! ```

use std::{borrow::Cow, collections::BTreeMap, fmt, str::FromStr};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::{
    field::{self, Path},
    names,
};

/// A selector that cannot be understood, with upstream's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

/// How a requirement compares a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The label is there and its value in the set.
    In,
    /// The label is not there or its value not in the set.
    NotIn,
    /// The label is there and has the value.
    Equals,
    /// The same as [`Operator::Equals`], written `==`.
    DoubleEquals,
    /// The label is not there or has another value.
    NotEquals,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// The label is there and its value a greater integer.
    GreaterThan,
    /// The label is there and its value a smaller integer.
    LessThan,
}

/// One condition of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

impl Requirement {
    /// A requirement, checked.
    ///
    /// # Errors
    ///
    /// Fails if the key or a value cannot be those of a label, or if the operator takes another
    /// number of values.
    pub fn try_new(
        key: impl Into<String>,
        operator: Operator,
        values: Vec<String>,
    ) -> Result<Self, SelectorError> {
        let key = key.into();
        let mut errors = Vec::new();
        let root = Path::default();
        errors.extend(check_key(&key, root.child("key")));
        let path = root.child("values");
        let wrong_count = match operator {
            Operator::In | Operator::NotIn => values
                .is_empty()
                .then_some("for 'in', 'notin' operators, values set can't be empty"),
            Operator::Equals | Operator::DoubleEquals | Operator::NotEquals => {
                (values.len() != 1).then_some("exact-match compatibility requires one single value")
            }
            Operator::Exists | Operator::DoesNotExist => (!values.is_empty())
                .then_some("values set must be empty for exists and does not exist"),
            Operator::GreaterThan | Operator::LessThan => (values.len() != 1)
                .then_some("for 'Gt', 'Lt' operators, exactly one value is required"),
        };
        if let Some(text) = wrong_count {
            errors.push(field::invalid(path.clone(), values.clone(), text));
        }
        for (i, value) in values.iter().enumerate() {
            let compares = matches!(operator, Operator::GreaterThan | Operator::LessThan);
            if compares && value.parse::<i64>().is_err() {
                let text = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(field::invalid(path.index(i), value.as_str(), text));
            }
        }
        for (i, value) in values.iter().enumerate() {
            let complaints = names::label_value(value);
            if !complaints.is_empty() {
                errors.push(field::invalid(
                    path.index(i).key(&key),
                    value.as_str(),
                    complaints.join("; "),
                ));
            }
        }
        if errors.is_empty() {
            Ok(Requirement {
                key,
                operator,
                values,
            })
        } else {
            Err(SelectorError(field::aggregate(&errors)))
        }
    }

    /// The label's key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// How it is compared.
    pub fn operator(&self) -> Operator {
        self.operator
    }

    /// What it is compared with.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Whether a set of labels meets it.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_value(labels.get(&self.key).map(String::as_str))
    }

    /// Whether an object whose label of this key has that value meets it.
    pub fn matches_value(&self, value: Option<&str>) -> bool {
        let has = |value: &str| self.values.iter().any(|v| v == value);
        match self.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => value.is_some_and(has),
            Operator::NotIn | Operator::NotEquals => !value.is_some_and(has),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan | Operator::LessThan => {
                let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
                match (
                    number(value),
                    number(self.values.first().map(String::as_str)),
                ) {
                    (Some(a), Some(b)) if self.operator == Operator::GreaterThan => a > b,
                    (Some(a), Some(b)) => a < b,
                    _ => false,
                }
            }
        }
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = Cow::Borrowed(&self.values);
        if !values.is_sorted() {
            values.to_mut().sort();
        }
        let values = values.join(",");
        let key = &self.key;
        match self.operator {
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

/// A set of requirements that must all be met, or nothing at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    requirements: Vec<Requirement>,
    nothing: bool,
}

impl Default for Selector {
    fn default() -> Self {
        Selector::everything()
    }
}

impl Selector {
    /// Selects every object.
    pub fn everything() -> Self {
        Selector {
            requirements: Vec::new(),
            nothing: false,
        }
    }

    /// Selects no object.
    pub fn nothing() -> Self {
        Selector {
            requirements: Vec::new(),
            nothing: true,
        }
    }

    /// Selects what meets all of the requirements.
    pub fn new(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Selector {
            requirements,
            nothing: false,
        }
    }

    /// Selects what has all of these labels, without a check of keys and values.
    pub fn from_labels(labels: &BTreeMap<String, String>) -> Self {
        let equals = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.clone()],
        };
        Selector {
            requirements: labels.iter().map(equals).collect(),
            nothing: false,
        }
    }

    /// Whether it selects every object.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether it can select no object whatever its labels.
    pub fn is_nothing(&self) -> bool {
        self.nothing
    }

    /// Whether it selects an object with these labels.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|requirement| requirement.matches(labels))
    }

    /// Whether it selects an object, given a way to look its labels up.
    pub fn matches_with<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing
            && self
                .requirements
                .iter()
                .all(|r| r.matches_value(label(&r.key)))
    }

    /// The requirements, sorted by key.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }

    /// The one value that it demands of a label, if there is exactly one.
    pub fn required_value(&self, key: &str) -> Option<&str> {
        let requirement = self
            .requirements
            .iter()
            .find(|requirement| requirement.key == key)?;
        match (requirement.operator, requirement.values.as_slice()) {
            (Operator::Equals | Operator::DoubleEquals | Operator::In, [value]) => Some(value),
            _ => None,
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl TryFrom<&LabelSelector> for Selector {
    type Error = SelectorError;

    fn try_from(selector: &LabelSelector) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::try_new(
                key,
                Operator::Equals,
                vec![value.clone()],
            )?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => {
                    return Err(SelectorError(format!(
                        "{other:?} is not a valid label selector operator"
                    )));
                }
            };
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(Requirement::try_new(&expression.key, operator, values)?);
        }
        Ok(Selector::new(requirements))
    }
}

impl TryFrom<Option<&LabelSelector>> for Selector {
    type Error = SelectorError;

    /// No selector selects nothing; an empty one selects everything.
    fn try_from(selector: Option<&LabelSelector>) -> Result<Self, SelectorError> {
        selector.map_or_else(|| Ok(Selector::nothing()), Selector::try_from)
    }
}

/// Checks a `LabelSelector` in an object (upstream's `ValidateLabelSelector`).
pub fn validate(selector: &LabelSelector, path: &Path) -> field::ErrorList {
    let mut out = Vec::new();
    if let Some(labels) = &selector.match_labels {
        out.extend(crate::metadata::validate_labels(
            labels,
            &path.child("matchLabels"),
        ));
    }
    for (i, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let path = path.child("matchExpressions").index(i);
        let values = expression.values.as_deref().unwrap_or_default();
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => out.push(field::required(
                path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => out.push(field::forbidden(
                path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => out.push(field::invalid(
                path.child("operator"),
                other,
                "not a valid selector operator",
            )),
        }
        for complaint in names::qualified_name(&expression.key) {
            out.push(field::invalid(
                path.child("key"),
                expression.key.as_str(),
                complaint,
            ));
        }
        for (j, value) in values.iter().enumerate() {
            for complaint in names::label_value(value) {
                out.push(field::invalid(
                    path.child("values").index(j),
                    value.as_str(),
                    complaint,
                ));
            }
        }
    }
    out
}

fn check_key(key: &str, path: Path) -> Option<field::Error> {
    let complaints = names::qualified_name(key);
    (!complaints.is_empty()).then(|| field::invalid(path, key, complaints.join("; ")))
}

impl FromStr for Selector {
    type Err = SelectorError;

    /// Reads the form of the `labelSelector` query parameter.
    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Parser {
            tokens: scan(text),
            position: 0,
        }
        .selector()
        .map(Selector::new)
        .map_err(SelectorError)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A key, a value, `in` or `notin`.
    Word(String),
    /// An operator, a parenthesis or a comma.
    Symbol(&'static str),
    /// What is neither, with upstream's text.
    Error(String),
    End,
}

impl Token {
    fn literal(&self) -> &str {
        match self {
            Token::Word(text) | Token::Error(text) => text,
            Token::Symbol(text) => text,
            Token::End => "",
        }
    }

    fn starts_requirement(&self) -> bool {
        matches!(self, Token::Word(_) | Token::Symbol("!"))
    }
}

const SYMBOLS: [&str; 9] = [")", ",", "!", "==", "=", ">", "<", "!=", "("];

fn is_symbol(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn scan(text: &str) -> Vec<Token> {
    let mut out = Vec::new();
    let mut rest = text.trim_start_matches(is_blank);
    // A zero byte ends the text, as it does upstream.
    while let Some(first) = rest.chars().next().filter(|c| *c != '\0') {
        let length = if is_symbol(first) {
            let two = rest
                .char_indices()
                .nth(2)
                .map_or(rest.len(), |(end, _)| end);
            let symbol = SYMBOLS
                .iter()
                .find(|symbol| **symbol == &rest[..two])
                .or_else(|| SYMBOLS.iter().find(|symbol| **symbol == &rest[..1]));
            match symbol {
                Some(symbol) => {
                    out.push(Token::Symbol(symbol));
                    symbol.len()
                }
                None => {
                    out.push(Token::Error(format!(
                        "error expected: keyword found '{first}'"
                    )));
                    first.len_utf8()
                }
            }
        } else {
            let end = rest
                .find(|c| is_symbol(c) || is_blank(c) || c == '\0')
                .unwrap_or(rest.len());
            out.push(Token::Word(rest[..end].to_owned()));
            end
        };
        rest = rest[length..].trim_start_matches(is_blank);
    }
    out.push(Token::End);
    out
}

/// Upstream's recursive descent, with its texts.
struct Parser {
    tokens: Vec<Token>,
    position: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.position.min(self.tokens.len() - 1)]
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.position += 1;
        token
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, String> {
        let mut out = Vec::new();
        loop {
            match self.peek() {
                token if token.starts_requirement() => {
                    let requirement = self
                        .requirement()
                        .map_err(|e| format!("unable to parse requirement: {e}"))?;
                    out.push(requirement);
                    match self.next() {
                        Token::End => return Ok(out),
                        Token::Symbol(",") => {
                            let token = self.peek();
                            if !token.starts_requirement() {
                                return Err(format!(
                                    "found '{}', expected: identifier after ','",
                                    token.literal()
                                ));
                            }
                        }
                        token => {
                            return Err(format!(
                                "found '{}', expected: ',' or 'end of string'",
                                token.literal()
                            ));
                        }
                    }
                }
                Token::End => return Ok(out),
                token => {
                    return Err(format!(
                        "found '{}', expected: !, identifier, or 'end of string'",
                        token.literal()
                    ));
                }
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let mut token = self.next();
        let negated = token == Token::Symbol("!");
        if negated {
            token = self.next();
        }
        let Token::Word(key) = token else {
            return Err(format!("found '{}', expected: identifier", token.literal()));
        };
        if let Some(error) = check_key(&key, Path::default()) {
            return Err(error.to_string());
        }
        // Upstream forgets the `!` when an operator follows the key, and so does not complain.
        let alone = matches!(self.peek(), Token::End | Token::Symbol(","));
        let (operator, values) = if negated {
            (Operator::DoesNotExist, Vec::new())
        } else if alone {
            (Operator::Exists, Vec::new())
        } else {
            let operator = self.operator()?;
            let mut values = match operator {
                Operator::In | Operator::NotIn => self.value_set()?,
                _ => vec![self.value()?],
            };
            values.sort();
            values.dedup();
            (operator, values)
        };
        Requirement::try_new(key, operator, values).map_err(|e| e.to_string())
    }

    fn operator(&mut self) -> Result<Operator, String> {
        let token = self.next();
        Ok(match &token {
            Token::Symbol("=") => Operator::Equals,
            Token::Symbol("==") => Operator::DoubleEquals,
            Token::Symbol("!=") => Operator::NotEquals,
            Token::Symbol(">") => Operator::GreaterThan,
            Token::Symbol("<") => Operator::LessThan,
            Token::Word(word) if word == "in" => Operator::In,
            Token::Word(word) if word == "notin" => Operator::NotIn,
            token => {
                return Err(format!(
                    "found '{}', expected: in, notin, =, ==, !=, gt, lt",
                    token.literal()
                ));
            }
        })
    }

    fn value(&mut self) -> Result<String, String> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(String::new());
        }
        match self.next() {
            Token::Word(value) => Ok(value),
            token => Err(format!("found '{}', expected: identifier", token.literal())),
        }
    }

    fn value_set(&mut self) -> Result<Vec<String>, String> {
        let token = self.next();
        if token != Token::Symbol("(") {
            return Err(format!("found '{}' expected: '('", token.literal()));
        }
        match self.peek() {
            Token::Symbol(")") => {
                self.next();
                return Ok(vec![String::new()]);
            }
            Token::Word(_) | Token::Symbol(",") => {}
            token => {
                return Err(format!(
                    "found '{}', expected: ',', ')' or identifier",
                    token.literal()
                ));
            }
        }
        let mut out = Vec::new();
        loop {
            match self.next() {
                Token::Word(value) => {
                    out.push(value);
                    match self.peek() {
                        Token::Symbol(",") => {}
                        Token::Symbol(")") => break,
                        token => {
                            return Err(format!(
                                "found '{}', expected: ',' or ')'",
                                token.literal()
                            ));
                        }
                    }
                }
                Token::Symbol(",") => {
                    if out.is_empty() {
                        out.push(String::new());
                    }
                    match self.peek() {
                        Token::Symbol(")") => {
                            out.push(String::new());
                            break;
                        }
                        Token::Symbol(",") => {
                            self.next();
                            out.push(String::new());
                        }
                        _ => {}
                    }
                }
                token => {
                    return Err(format!(
                        "found '{}', expected: ',', or identifier",
                        token.literal()
                    ));
                }
            }
        }
        self.next();
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn parse(text: &str) -> Selector {
        text.parse().unwrap()
    }

    #[test]
    fn every_form_is_read_and_written() {
        for (text, expected) in [
            ("", ""),
            ("a", "a"),
            ("!a", "!a"),
            ("a=b", "a=b"),
            ("a == b", "a==b"),
            ("a!=b,c", "a!=b,c"),
            ("z,a in (c,b,c)", "a in (b,c),z"),
            ("a notin (,b)", "a notin (,b)"),
            ("a in ()", "a in ()"),
            ("a>1, b<2", "a>1,b<2"),
            ("a=", "a="),
            ("in in (in,notin)", "in in (in,notin)"),
            ("example.com/a=b", "example.com/a=b"),
            (" a = b ", "a=b"),
        ] {
            assert_eq!(parse(text).to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_selector_gets_upstreams_text() {
        for (text, expected) in [
            (
                ",",
                "found ',', expected: !, identifier, or 'end of string'",
            ),
            ("a,", "found '', expected: identifier after ','"),
            (
                "a b",
                "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
            ),
            (
                "a in b",
                "unable to parse requirement: found 'b' expected: '('",
            ),
            (
                "a in (b",
                "unable to parse requirement: found '', expected: ',' or ')'",
            ),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            (
                "a==!",
                "unable to parse requirement: found '!', expected: identifier",
            ),
            (
                "!",
                "unable to parse requirement: found '', expected: identifier",
            ),
        ] {
            assert_eq!(
                text.parse::<Selector>().unwrap_err().to_string(),
                expected,
                "{text}"
            );
        }
        let text = "a_=b".parse::<Selector>().unwrap_err().to_string();
        assert!(text.starts_with(
            "unable to parse requirement: <nil>: Invalid value: \"a_\": name part must"
        ));
        let text = "a=b_".parse::<Selector>().unwrap_err().to_string();
        assert!(text.starts_with(
            "unable to parse requirement: values[0][a]: Invalid value: \"b_\": a valid label"
        ));
        let text = "a>b".parse::<Selector>().unwrap_err().to_string();
        assert!(text.contains("values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer"));
    }

    #[test]
    fn absent_labels_match_negations_only() {
        let none = labels(&[]);
        for text in ["!a", "a!=b", "a notin (b)", ""] {
            assert!(parse(text).matches(&none), "{text}");
        }
        for text in ["a", "a=b", "a=", "a in (b)", "a>1", "a<1"] {
            assert!(!parse(text).matches(&none), "{text}");
        }
        assert!(parse("a>1,a<3").matches(&labels(&[("a", "2")])));
        assert!(!parse("a>1").matches(&labels(&[("a", "x")])));
    }

    #[test]
    fn no_selector_object_selects_nothing_and_an_empty_one_everything() {
        assert!(Selector::try_from(None).unwrap().is_nothing());
        assert!(
            Selector::try_from(&LabelSelector::default())
                .unwrap()
                .is_everything()
        );
        assert!(!Selector::nothing().matches(&labels(&[])));
    }

    #[test]
    fn the_object_form_matches_as_the_text_does() {
        let selector: LabelSelector = serde_json::from_value(serde_json::json!({
            "matchLabels": {"app": "web"},
            "matchExpressions": [
                {"key": "tier", "operator": "NotIn", "values": ["test"]},
                {"key": "zone", "operator": "Exists"},
            ],
        }))
        .unwrap();
        let selector = Selector::try_from(&selector).unwrap();
        assert_eq!(selector.to_string(), "app=web,tier notin (test),zone");
        assert_eq!(selector.required_value("app"), Some("web"));
        let bad: LabelSelector = serde_json::from_value(serde_json::json!({
            "matchExpressions": [{"key": "a", "operator": "Near"}],
        }))
        .unwrap();
        assert_eq!(
            Selector::try_from(&bad).unwrap_err().to_string(),
            "\"Near\" is not a valid label selector operator"
        );
    }

    proptest! {
        #[test]
        fn writing_and_reading_keeps_the_selector(
            terms in prop::collection::vec(("[a-c]", 0..6_usize, prop::collection::vec("[x-z]?", 1..4)), 0..4),
            object in prop::collection::btree_map("[a-c]", "[x-z]?", 0..4),
        ) {
            let selector = Selector::new(terms.into_iter().map(|(key, operator, mut values)| {
                let operator = [
                    Operator::In, Operator::NotIn, Operator::Equals,
                    Operator::NotEquals, Operator::Exists, Operator::DoesNotExist,
                ][operator];
                match operator {
                    Operator::Exists | Operator::DoesNotExist => values.clear(),
                    Operator::Equals | Operator::NotEquals => values.truncate(1),
                    _ => {
                        values.sort();
                        values.dedup();
                    }
                }
                Requirement::try_new(key, operator, values).unwrap()
            }).collect());
            let again: Selector = selector.to_string().parse().unwrap();
            prop_assert_eq!(again.to_string(), selector.to_string());
            prop_assert_eq!(again.matches(&object), selector.matches(&object));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Selector>();
        }
    }
}
