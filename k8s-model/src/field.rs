//! Validation findings with the path of the field at fault.
//!
//! Spelled as upstream's `k8s.io/apimachinery/pkg/util/validation/field`, so that the texts a
//! client sees are the same.

use std::{borrow::Cow, collections::HashSet, fmt, sync::Arc};

use serde_json::Value;

use crate::json::go_text;

/// Where in an object a field is, as in `spec.containers[0].name`.
#[derive(Clone)]
pub struct Path(Text);

/// The text of a path. Validation makes hundreds of them for a pod, and drops them when nothing is wrong: those of
/// usual length take no allocation, and are copied as a whole.
#[derive(Clone)]
enum Text {
    /// So many of the bytes; the others are zero.
    Short(u8, [u8; SHORT]),
    Long(Arc<str>),
    /// What is too long to be copied for each field below it: a key can have a million bytes.
    Below(Arc<Text>, Arc<str>),
}

const SHORT: usize = 54;
/// How long a path may be that is copied as a whole.
const COPIED: usize = 4 << 10;

impl Path {
    /// The path of a top-level field.
    pub fn new(name: &str) -> Self {
        Path::default().with([name])
    }

    /// A field of the object at this path.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        match &self.0 {
            Text::Short(0, _) => Path::new(name),
            // Nearly all of them. Their bytes are copied as a whole, whose length is known beforehand.
            Text::Short(length, bytes) => {
                let mut bytes = *bytes;
                let end = usize::from(*length) + 1 + name.len();
                match bytes.get_mut(usize::from(*length)..end) {
                    Some([dot, rest @ ..]) => {
                        *dot = b'.';
                        rest.copy_from_slice(name.as_bytes());
                        Path(Text::Short(end as u8, bytes))
                    }
                    _ => self.with([".", name]),
                }
            }
            Text::Long(_) | Text::Below(..) => self.with([".", name]),
        }
    }

    /// An element of the list at this path.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(["[", itoa::Buffer::new().format(index), "]"])
    }

    /// An entry of the map at this path.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(["[", key, "]"])
    }

    /// The same path, as that of something below another: what has none is there itself.
    #[must_use]
    pub(crate) fn below(&self, outer: &Path) -> Self {
        match &*self.text() {
            "" => outer.clone(),
            path if path.starts_with('[') => outer.with([path]),
            path => outer.child(path),
        }
    }

    /// The path with some text after it. Put together by hand: formatting takes several times as long.
    fn with<const N: usize>(&self, parts: [&str; N]) -> Self {
        let mut path = self.clone();
        for part in parts {
            path.push(part);
        }
        path
    }

    fn push(&mut self, part: &str) {
        match &mut self.0 {
            Text::Short(length, bytes) => {
                let (from, to) = (*length, usize::from(*length) + part.len());
                match bytes.get_mut(usize::from(from)..to) {
                    Some(rest) => {
                        rest.copy_from_slice(part.as_bytes());
                        *length = to as u8;
                    }
                    None => self.0 = Text::Long([&*self.text(), part].concat().into()),
                }
            }
            Text::Long(text) if text.len() + part.len() <= COPIED => {
                *text = [text, part].concat().into();
            }
            text => *text = Text::Below(Arc::new(text.clone()), part.into()),
        }
    }

    fn len(&self) -> usize {
        let (mut length, mut at) = (0, &self.0);
        while let Text::Below(above, part) = at {
            length += part.len();
            at = above;
        }
        length
            + match at {
                Text::Short(short, _) => usize::from(*short),
                Text::Long(text) => text.len(),
                Text::Below(..) => 0,
            }
    }

    fn text(&self) -> Cow<'_, str> {
        match &self.0 {
            // Put together from strings alone.
            Text::Short(length, bytes) => {
                let text = std::str::from_utf8(&bytes[..usize::from(*length)]);
                text.unwrap_or_default().into()
            }
            Text::Long(text) => Cow::Borrowed(text),
            Text::Below(..) => {
                let (mut parts, mut at) = (Vec::new(), &self.0);
                while let Text::Below(above, part) = at {
                    parts.push(&**part);
                    at = above;
                }
                let above = Path(at.clone());
                let above = above.text();
                parts.push(&above);
                parts.reverse();
                parts.concat().into()
            }
        }
    }
}

impl PartialEq for Path {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Path {}

impl Default for Path {
    fn default() -> Self {
        Path(Text::Short(0, [0; SHORT]))
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Path").field(&self.text()).finish()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text();
        f.write_str(if text.is_empty() { "<nil>" } else { &text })
    }
}

/// What is wrong with a field. The wire value is the `reason` of a `Status` cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// `FieldValueNotFound`.
    NotFound,
    /// `FieldValueRequired`.
    Required,
    /// `FieldValueDuplicate`.
    Duplicate,
    /// `FieldValueInvalid`.
    Invalid,
    /// `FieldValueNotSupported`.
    NotSupported,
    /// `FieldValueForbidden`.
    Forbidden,
    /// `FieldValueTooLong`.
    TooLong,
    /// `FieldValueTooMany`.
    TooMany,
    /// `FieldValueTypeInvalid`.
    TypeInvalid,
    /// `InternalError`.
    Internal,
}

impl ErrorType {
    /// The cause's machine-readable reason.
    pub fn reason(self) -> &'static str {
        match self {
            ErrorType::NotFound => "FieldValueNotFound",
            ErrorType::Required => "FieldValueRequired",
            ErrorType::Duplicate => "FieldValueDuplicate",
            ErrorType::Invalid => "FieldValueInvalid",
            ErrorType::NotSupported => "FieldValueNotSupported",
            ErrorType::Forbidden => "FieldValueForbidden",
            ErrorType::TooLong => "FieldValueTooLong",
            ErrorType::TooMany => "FieldValueTooMany",
            ErrorType::TypeInvalid => "FieldValueTypeInvalid",
            ErrorType::Internal => "InternalError",
        }
    }

    fn text(self) -> &'static str {
        match self {
            ErrorType::NotFound => "Not found",
            ErrorType::Required => "Required value",
            ErrorType::Duplicate => "Duplicate value",
            ErrorType::Invalid | ErrorType::TypeInvalid => "Invalid value",
            ErrorType::NotSupported => "Unsupported value",
            ErrorType::Forbidden => "Forbidden",
            ErrorType::TooLong => "Too long",
            ErrorType::TooMany => "Too many",
            ErrorType::Internal => "Internal error",
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorType,
    /// Where.
    pub field: Path,
    /// The value at fault, where it is worth showing. One that is absent is shown as `null`.
    pub value: Option<Value>,
    /// What would be right.
    pub detail: String,
}

impl Error {
    /// The finding without its path: a cause's message.
    pub fn body(&self) -> String {
        let mut out = self.kind.text().to_owned();
        if let Some(value) = &self.value {
            out.push_str(": ");
            match value {
                Value::String(text) => quote(text, &mut out),
                value => out.push_str(&go_text(value)),
            }
        }
        if !self.detail.is_empty() {
            out.push_str(": ");
            out.push_str(&self.detail);
        }
        out
    }
}

/// Writes a text as Go's `%q` shows it.
fn quote(text: &str, out: &mut String) {
    use fmt::Write;
    out.push('"');
    for c in text.chars() {
        let written = match c {
            '"' | '\\' => write!(out, "\\{c}"),
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            '\x07' => out.write_str("\\a"),
            '\x08' => out.write_str("\\b"),
            '\x0b' => out.write_str("\\v"),
            '\x0c' => out.write_str("\\f"),
            '\0'..='\x1f' | '\x7f' => write!(out, "\\x{:02x}", u32::from(c)),
            c if is_unseen(c) => write!(out, "\\u{:04x}", u32::from(c)),
            c => out.write_char(c),
        };
        // A `String` takes all that is written.
        let _ = written;
    }
    out.push('"');
}

/// Whether a character beyond ASCII shows nothing, or a space.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{a0}' | '\u{ad}' | '\u{1680}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
        | '\u{205f}'..='\u{206f}' | '\u{3000}' | '\u{e000}'..='\u{f8ff}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// The findings of one validation, in order.
pub type ErrorList = Vec<Error>;

/// A field that must be set and is not.
pub fn required(field: Path, detail: impl Into<String>) -> Error {
    Error {
        kind: ErrorType::Required,
        field,
        value: None,
        detail: detail.into(),
    }
}

/// A value that is not acceptable.
pub fn invalid(field: Path, value: impl Into<Value>, detail: impl Into<String>) -> Error {
    Error {
        kind: ErrorType::Invalid,
        field,
        value: Some(value.into()),
        detail: detail.into(),
    }
}

/// A value that is not acceptable, and is not shown.
pub(crate) fn invalid_unshown(field: Path, detail: impl Into<String>) -> Error {
    Error {
        kind: ErrorType::Invalid,
        field,
        value: None,
        detail: detail.into(),
    }
}

/// A value that is not acceptable, spelled otherwise than in JSON.
pub(crate) fn invalid_spelled(field: Path, spelled: &str, detail: &str) -> Error {
    match detail {
        "" => invalid_unshown(field, spelled),
        detail => invalid_unshown(field, format!("{spelled}: {detail}")),
    }
}

/// A value that appears twice where it must be unique.
pub fn duplicate(field: Path, value: impl Into<Value>) -> Error {
    Error {
        kind: ErrorType::Duplicate,
        field,
        value: Some(value.into()),
        detail: String::new(),
    }
}

/// A value that appears twice, spelled otherwise than in JSON.
pub(crate) fn duplicate_spelled(field: Path, spelled: String) -> Error {
    Error {
        kind: ErrorType::Duplicate,
        field,
        value: None,
        detail: spelled,
    }
}

/// A field that may not be set here.
pub fn forbidden(field: Path, detail: impl Into<String>) -> Error {
    Error {
        kind: ErrorType::Forbidden,
        field,
        value: None,
        detail: detail.into(),
    }
}

/// Something that could not be found out.
pub(crate) fn internal(field: Path, detail: impl Into<String>) -> Error {
    Error {
        kind: ErrorType::Internal,
        field,
        value: None,
        detail: detail.into(),
    }
}

/// A reference to something that does not exist.
pub fn not_found(field: Path, value: impl Into<Value>) -> Error {
    Error {
        kind: ErrorType::NotFound,
        field,
        value: Some(value.into()),
        detail: String::new(),
    }
}

/// A value outside an enumeration, whose values are told in the given order.
pub fn not_supported(field: Path, value: impl Into<Value>, supported: &[&str]) -> Error {
    let names: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
    Error {
        kind: ErrorType::NotSupported,
        field,
        value: Some(value.into()),
        detail: if names.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", names.join(", "))
        },
    }
}

/// A string or list of bytes that is too long.
pub fn too_long(field: Path, max: usize) -> Error {
    Error {
        kind: ErrorType::TooLong,
        field,
        value: None,
        detail: match max {
            1 => "may not be more than 1 byte".to_owned(),
            max => format!("may not be more than {max} bytes"),
        },
    }
}

/// A string of too many characters.
pub(crate) fn too_many_characters(field: Path, max: usize) -> Error {
    Error {
        kind: ErrorType::TooLong,
        field,
        value: None,
        detail: match max {
            1 => "may not be more than 1 character".to_owned(),
            max => format!("may not be more than {max} characters"),
        },
    }
}

/// A list with too many elements.
pub fn too_many(field: Path, actual: usize, max: usize) -> Error {
    Error {
        kind: ErrorType::TooMany,
        field,
        value: Some(actual.into()),
        detail: match max {
            1 => "must have at most 1 item".to_owned(),
            max => format!("must have at most {max} items"),
        },
    }
}

/// Puts what is declared of fields after what was found by hand, and in the place of what is of the same sort about the same
/// field. Of a value that is not acceptable it must say the same, as more than one thing can be wrong with it.
pub(crate) fn supersede(errors: &mut ErrorList, declared: ErrorList) {
    fn key(error: &Error) -> (ErrorType, String, &str) {
        let detail = match error.kind {
            ErrorType::Invalid => error.detail.as_str(),
            _ => "",
        };
        (error.kind, error.field.to_string(), detail)
    }
    if !errors.is_empty() && !declared.is_empty() {
        let superseded: HashSet<_> = told(&declared).map(key).collect();
        errors.retain(|error| !superseded.contains(&key(error)));
    }
    errors.extend(declared);
}

/// Keeps the first of findings that are the same, and no more than a client is told.
pub fn distinct(errors: &mut ErrorList) {
    errors.truncate(told(errors).count());
    if errors.len() > 1 {
        let mut seen = HashSet::with_capacity(errors.len());
        errors.retain(|error| seen.insert((error.kind, error.to_string())));
    }
}

/// How many bytes of findings a client is told, about.
const TOLD: usize = 64 << 20;

/// The findings that a client is told: all, if it can have sent what they are about. Their paths may be very much longer
/// than that together, where a long key is above many fields.
pub(crate) fn told(errors: &[Error]) -> impl Iterator<Item = &Error> {
    let mut room = TOLD;
    errors.iter().take_while(move |error| {
        let before = room;
        room = room.saturating_sub(error.field.len() + error.detail.len());
        before > 0
    })
}

/// The findings as one text: `a`, or `[a, b]`, each only once.
pub fn aggregate(errors: &[Error]) -> String {
    let all: Vec<String> = told(errors).map(Error::to_string).collect();
    // A document can have a hundred thousand faults.
    let mut seen = HashSet::with_capacity(all.len());
    let texts: Vec<&str> = all
        .iter()
        .map(String::as_str)
        .filter(|text| seen.insert(*text))
        .collect();
    match texts.as_slice() {
        [one] => (*one).to_owned(),
        _ => format!("[{}]", texts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_go_quotes_them() {
        let text = "é\"\\/\n\u{1}\u{7}\u{b}\u{7f}\u{200b}\u{a0}\u{1f600}";
        let error = invalid(Path::new("a"), text, "no");
        let told = r#"a: Invalid value: "é\"\\/\n\x01\a\v\x7f\u200b\u00a0😀": no"#;
        assert_eq!(error.to_string(), told);
    }

    #[test]
    fn values_beside_texts_are_told_as_go_writes_json() {
        let told = |value: Value| invalid(Path::new("a"), value, "no").to_string();
        assert_eq!(told(None::<String>.into()), "a: Invalid value: null: no");
        let list = serde_json::json!(["<"]);
        assert_eq!(told(list), r#"a: Invalid value: ["\u003c"]: no"#);
    }

    #[test]
    fn what_is_declared_takes_the_place_of_what_is_the_same() {
        let a = || Path::new("a");
        let mut errors = vec![
            required(a(), "by hand"),
            invalid(a(), "A", "no"),
            invalid(a(), "A", "field is immutable"),
            required(Path::new("b"), ""),
        ];
        let declared = [
            required(a(), ""),
            invalid(a(), Value::Null, "field is immutable"),
        ];
        supersede(&mut errors, declared.to_vec());
        let texts: Vec<String> = errors.iter().map(Error::to_string).collect();
        assert_eq!(
            texts,
            [
                r#"a: Invalid value: "A": no"#,
                "b: Required value",
                "a: Required value",
                "a: Invalid value: null: field is immutable",
            ]
        );
    }

    #[test]
    fn a_long_path_is_not_copied_for_each_field_below_it() {
        let long = Path::new("a").key(&"x".repeat(1 << 20));
        let errors: Vec<Error> = (0..200_000)
            .map(|index| required(long.index(index).child("b"), ""))
            .collect();
        assert_eq!(errors[7].field, long.index(7).child("b"));
        assert_ne!(errors[7].field, long.index(8).child("b"));
        assert!(errors[7].field.to_string().ends_with("xx][7].b"));
        assert_eq!(errors[7].field.len(), errors[7].field.to_string().len());
        // Nor told for each.
        assert!(aggregate(&errors).len() <= TOLD + (8 << 20));
    }

    #[test]
    fn a_path_of_any_length_is_its_parts() {
        for length in 0..3 * SHORT {
            let name = "n".repeat(length);
            let path = Path::new("a").child(&name).index(7).child("b").key("k");
            assert_eq!(path.to_string(), format!("a.{name}[7].b[k]"));
            assert_eq!(path.len(), path.to_string().len());
        }
        assert_eq!(Path::default().child("a").to_string(), "a");
    }

    #[test]
    fn many_findings_are_told_once_each() {
        let found = |i: usize| invalid(Path::new("a"), i, "no");
        let errors: Vec<Error> = (0..200_000).chain(0..200_000).map(found).collect();
        let told = aggregate(&errors);
        assert_eq!(told.matches(", ").count(), 199_999);
        assert!(told.starts_with("[a: Invalid value: 0: no, a: Invalid value: 1: no, "));
        let mut twice = vec![found(1), found(2), found(1)];
        distinct(&mut twice);
        assert_eq!(twice, [found(1), found(2)]);
    }

    #[test]
    fn a_path_says_where_however_long_it_is() {
        let (mut path, mut text) = (Path::default(), String::new());
        assert_eq!(path.to_string(), "<nil>");
        for index in 0..20 {
            path = path.child("spec").index(index).key("ä");
            let dot = if index == 0 { "" } else { "." };
            text = format!("{text}{dot}spec[{index}][ä]");
            assert_eq!(path.to_string(), text);
            assert_eq!(path, Path::new(&text));
        }
    }
}
