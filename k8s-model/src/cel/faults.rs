//! How it is told what is wrong with an expression: in the words of cel-go, with the line and a mark below the place.

use std::borrow::Cow;

use super::depth;

/// How much of a line is shown at most; upstream's `maxSnippetLength`.
const MAX_LINE: usize = 16_384;
/// How many errors are told, and in how many bytes. Each shows the line that it is in: all of them are the square of a
/// long line.
const ERRORS: usize = 16;
const LENGTH: usize = 16 << 10;

/// A text about a place, and the line that it is in. Lines and columns count from one, columns characters.
pub(super) fn shown(source: &str, line: usize, column: usize, text: &str) -> String {
    let mut out = format!("ERROR: <input>:{line}:{column}: {text}");
    let found = line.checked_sub(1).and_then(|n| source.split('\n').nth(n));
    let Some(found) = found.filter(|found| found.len() <= MAX_LINE) else {
        return out;
    };
    let found = found.replace('\t', " ");
    out.push_str("\n | ");
    out.push_str(&found);
    out.push_str("\n | ");
    let mut chars = found.chars();
    let before = chars.by_ref().take(column.saturating_sub(1));
    // As wide as what is above.
    out.extend(before.map(|c| if c.is_ascii() { '.' } else { '．' }));
    let is_wide = chars.next().is_some_and(|c| !c.is_ascii());
    out.push(if is_wide { '＾' } else { '^' });
    out
}

/// Something wrong, and where: the line and the column.
pub(super) struct Fault {
    at: (usize, usize),
    text: String,
}

impl From<cel::ParseError> for Fault {
    fn from(error: cel::ParseError) -> Self {
        let at = |n: isize| usize::try_from(n).unwrap_or_default();
        Fault {
            at: (at(error.pos.0), at(error.pos.1)),
            text: error.msg,
        }
    }
}

/// An expression with spaces where there are texts in it that do not end, or are spelled as none can be, and what is to
/// tell of those. The parser goes on after them.
pub(super) fn without_unread(source: &str) -> (Cow<'_, str>, Vec<Fault>) {
    let (mut read, mut faults) = (Cow::Borrowed(source), Vec::new());
    while faults.len() < ERRORS
        && let Err(depth::Fault::Text(range)) = depth::check(&read)
    {
        let text = &read[range.clone()];
        faults.push(Fault {
            at: place(&read, range.start),
            text: format!("Syntax error: token recognition error at: '{text}'"),
        });
        let space = |c| if c == '\n' { c } else { ' ' };
        let spaces: String = text.chars().map(space).collect();
        read.to_mut().replace_range(range, &spaces);
    }
    (read, faults)
}

/// The line and column of a byte.
fn place(source: &str, at: usize) -> (usize, usize) {
    let before = &source[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    (line, column)
}

/// The first of what is wrong with an expression, of which the parser has `read` so much.
pub(super) fn told(mut faults: Vec<Fault>, source: &str, read: &str) -> String {
    // What the parser says of a part that it could not read, it has said of the cause.
    let is_cause = |fault: &Fault| !fault.text.starts_with("Incomplete `");
    if faults.iter().any(is_cause) {
        faults.retain(is_cause);
    }
    faults.sort_by_key(|fault| fault.at);
    let mut out = String::new();
    for Fault { at, text } in faults.iter().take(ERRORS) {
        if out.len() > LENGTH {
            break;
        }
        if !out.is_empty() {
            out.push('\n');
        }
        let (line, column) = *at;
        let text = narrowed(text, read, line, column);
        out.push_str(&shown(source, line, column, &text));
    }
    out
}

/// What the parser says of a token that it did not expect. Where an expression is complete it tells all tokens that may
/// go on with it; upstream's tells the one that must come then.
fn narrowed<'m>(text: &'m str, source: &str, line: usize, column: usize) -> Cow<'m, str> {
    let found = text.split_once(" expecting {");
    let goes_on = |(head, set): &(&str, &str)| {
        head.starts_with("Syntax error: mismatched input ") && set.contains("'=='")
    };
    let Some((head, _)) = found.filter(goes_on) else {
        return text.into();
    };
    let place = offset(source, line, column);
    match place.and_then(|end| wanted(&source[..end])) {
        Some(wanted) => format!("{head} expecting {wanted}").into(),
        None => text.into(),
    }
}

/// The byte that is at a place.
fn offset(source: &str, line: usize, column: usize) -> Option<usize> {
    let lines = source.split_inclusive('\n').take(line.checked_sub(1)?);
    let start: usize = lines.map(str::len).sum();
    let rest = &source[start..];
    let column = column.checked_sub(1)?;
    let mut offsets = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    Some(start + offsets.nth(column)?)
}

/// What an expression is in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Nothing,
    Parenthesis,
    Index,
    List,
    Map,
}

/// The token that must come after an expression at the end of a text, for what is open there.
fn wanted(before: &str) -> Option<&'static str> {
    let bytes = before.as_bytes();
    // With how many `?` that have no `:` yet.
    let mut open = vec![(Open::Nothing, 0_usize)];
    let (mut at, mut after_operand) = (0, false);
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied();
        let questions = open.last_mut().map(|(_, questions)| questions)?;
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' | b'\x0c' => {}
            b'/' if next == Some(b'/') => {
                at += bytes[at..].iter().take_while(|b| **b != b'\n').count();
                continue;
            }
            b'"' | b'\'' => {
                at = depth::after_text(bytes, at).ok()?;
                after_operand = true;
                continue;
            }
            b'`' => {
                at += 2 + bytes[at + 1..].iter().take_while(|b| **b != b'`').count();
                after_operand = true;
                continue;
            }
            b'(' | b'[' | b'{' => {
                let of = match byte {
                    b'(' => Open::Parenthesis,
                    b'{' => Open::Map,
                    _ if after_operand => Open::Index,
                    _ => Open::List,
                };
                open.push((of, 0));
                after_operand = false;
            }
            b')' | b']' | b'}' => {
                open.pop();
                after_operand = true;
            }
            b'?' => {
                *questions += usize::from(after_operand);
                after_operand = false;
            }
            b':' => {
                *questions = questions.saturating_sub(1);
                after_operand = false;
            }
            _ if depth::is_name(byte) => {
                let rest = bytes[at..].iter();
                let len = rest.take_while(|b| depth::is_name(**b)).count();
                after_operand = &bytes[at..at + len] != b"in";
                at += len;
                continue;
            }
            _ => after_operand = false,
        }
        at += 1;
    }
    match *open.last()? {
        (Open::Map, _) => Some("':'"),
        (_, questions) if questions > 0 => Some("':'"),
        (Open::Nothing, _) => Some("<EOF>"),
        (Open::Parenthesis, _) => Some("')'"),
        (Open::Index, _) => Some("']'"),
        (Open::List, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::cel::Program;

    fn fault(source: &str) -> String {
        Program::parse(source).unwrap_err().to_string()
    }

    const EXPRESSION: &str = "expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

    #[test]
    fn marks_are_as_wide_as_what_is_above() {
        let told = format!(
            "ERROR: <input>:1:1: Syntax error: token recognition error at: 'é'\n | é\n | ＾\nERROR: <input>:1:2: Syntax error: mismatched input '<EOF>' {EXPRESSION}\n | é\n | ．^"
        );
        assert_eq!(fault("é"), told);
        let scope = crate::cel::Scope::new();
        let program = Program::parse("'é' == \"a\tb\" ||\n\tb").unwrap();
        let told =
            "ERROR: <input>:2:2: undeclared reference to 'b' (in container '')\n |  b\n | .^";
        assert_eq!(program.check(&scope).unwrap_err(), told);
        let program = Program::parse("'é' + b == ''").unwrap();
        let told = "ERROR: <input>:1:7: undeclared reference to 'b' (in container '')\n | 'é' + b == ''\n | .．....^";
        assert_eq!(program.check(&scope).unwrap_err(), told);
    }

    #[test]
    fn texts_that_do_not_end_are_told_with_what_is_wrong_beside_them() {
        let told = format!(
            "ERROR: <input>:1:6: Syntax error: token recognition error at: ''b'\n | a == 'b\n | .....^\nERROR: <input>:1:8: Syntax error: mismatched input '<EOF>' {EXPRESSION}\n | a == 'b\n | .......^"
        );
        assert_eq!(fault("a == 'b"), told);
        let told = "ERROR: <input>:1:3: Syntax error: token recognition error at: ''\\q'\n | a '\\q' b\n | ..^\nERROR: <input>:1:6: Syntax error: token recognition error at: '' b'\n | a '\\q' b\n | .....^";
        assert_eq!(fault("a '\\q' b"), told);
        assert!(fault(&"'\n".repeat(20_000)).len() < 300_000);
    }

    #[test]
    fn what_must_come_is_told_and_not_all_that_may() {
        for (source, wanted) in [
            (
                "a b",
                "1:3: Syntax error: extraneous input 'b' expecting <EOF>",
            ),
            (
                "a b c",
                "1:3: Syntax error: mismatched input 'b' expecting <EOF>",
            ),
            (
                "f(a) b c",
                "1:6: Syntax error: mismatched input 'b' expecting <EOF>",
            ),
            (
                "a ? b : c d e",
                "1:11: Syntax error: mismatched input 'd' expecting <EOF>",
            ),
            (
                "a[b ? [c] : '(' ] d e",
                "1:19: Syntax error: mismatched input 'd' expecting <EOF>",
            ),
            (
                "(a b c)",
                "1:4: Syntax error: mismatched input 'b' expecting ')'",
            ),
            (
                "f(a, b c d)",
                "1:8: Syntax error: mismatched input 'c' expecting ')'",
            ),
            (
                "a[b c d]",
                "1:5: Syntax error: mismatched input 'c' expecting ']'",
            ),
            (
                "a ? b ] d",
                "1:7: Syntax error: mismatched input ']' expecting ':'",
            ),
            (
                "{a ] c}",
                "1:4: Syntax error: mismatched input ']' expecting ':'",
            ),
            (
                "[a b c]",
                "1:4: Syntax error: mismatched input 'b' expecting {']', ','}",
            ),
        ] {
            let found = fault(source);
            let begins = format!("ERROR: <input>:{wanted}\n");
            assert!(found.starts_with(&begins), "{source}: {found}");
        }
        assert!(fault("a ==").contains(EXPRESSION));
    }
}
