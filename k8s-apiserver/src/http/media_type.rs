//! Media types as Go's `mime.ParseMediaType` reads them: who sends parameters that are none is not understood.

use std::collections::HashMap;

/// The media type in the value of a `Content-Type`, in lower case; nothing if it, or a parameter of it, cannot be read.
pub(crate) fn parse(value: &[u8]) -> Option<String> {
    let value = std::str::from_utf8(value).ok()?.trim_end();
    let (kind, parameters) = value.split_at(value.find(';').unwrap_or(value.len()));
    let kind = kind.trim().to_ascii_lowercase();
    let (of, below) = kind.split_once('/').unwrap_or((&kind, "x"));
    (is_token(of) && is_token(below) && are_parameters(parameters)).then_some(kind)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_in_token)
}

fn is_in_token(byte: u8) -> bool {
    byte.is_ascii_graphic() && !is_special(byte)
}

fn is_special(byte: u8) -> bool {
    br#"()<>@,;:\"/[]?="#.contains(&byte)
}

/// Whether these are parameters, each after a semicolon, and none with two values. One semicolon may stand at the end.
fn are_parameters(mut rest: &str) -> bool {
    let mut known: HashMap<String, String> = HashMap::new();
    loop {
        rest = rest.trim_start();
        if matches!(rest, "" | ";") {
            return true;
        }
        let Some((name, value, after)) = parameter(rest) else {
            return false;
        };
        let before = known.get(&name.to_ascii_lowercase());
        if before.is_some_and(|before| *before != value) {
            return false;
        }
        known.insert(name.to_ascii_lowercase(), value);
        rest = after;
    }
}

/// The first parameter: its name, its value, and what follows it.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (name, rest) = token(text.strip_prefix(';')?.trim_start())?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    match rest.strip_prefix('"') {
        Some(quoted) => {
            let (value, rest) = unquoted(quoted)?;
            Some((name, value, rest))
        }
        None => {
            let (value, rest) = token(rest)?;
            Some((name, value.to_owned(), rest))
        }
    }
}

fn token(text: &str) -> Option<(&str, &str)> {
    let end = text.bytes().position(|byte| !is_in_token(byte));
    let (token, rest) = text.split_at(end.unwrap_or(text.len()));
    (!token.is_empty()).then_some((token, rest))
}

/// What is before the quotation mark that ends a text, and what follows that.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text.chars();
    loop {
        match rest.next()? {
            '"' => return Some((value, rest.as_str())),
            '\r' | '\n' => return None,
            // A backslash before other characters is itself, as in the paths of Windows.
            '\\' if rest.as_str().bytes().next().is_some_and(is_special) => {
                value.extend(rest.next());
            }
            other => value.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_go_reads_is_read_and_nothing_else() {
        for (value, wanted) in [
            ("application/json", Some("application/json")),
            ("Application/JSON ", Some("application/json")),
            ("application/json;", Some("application/json")),
            ("application/json ; ", Some("application/json")),
            ("application/json; charset=utf-8", Some("application/json")),
            (
                "application/json;charset=\"utf\\\"-8\" ; x=1;",
                Some("application/json"),
            ),
            ("application/json;x=1;X=1", Some("application/json")),
            ("application/json;x=\"\"", Some("application/json")),
            ("text", Some("text")),
            ("application/json;;", None),
            ("application/json;;charset=utf-8", None),
            ("application/json; ;", None),
            ("application/json;charset", None),
            ("application/json;charset=", None),
            ("application/json;charset=\"utf-8", None),
            ("application/json;x=1;x=2", None),
            ("application/json,application/yaml", None),
            ("application/", None),
            ("/json", None),
            ("application/json x", None),
            ("", None),
        ] {
            assert_eq!(parse(value.as_bytes()).as_deref(), wanted, "{value:?}");
        }
        assert_eq!(parse(b"application/json;x=\xff"), None);
    }
}
