//! Reads paths: each is what stands between the braces of a template.

use serde_json::Value;

use super::{Compare, Filter, Slice, Step, To};

/// How many filters may be in one another.
const DEPTH: usize = 32;

/// The steps of the first part of a template, whose braces have been left out; the others must be good, too.
pub(super) fn template(text: &str) -> Result<Vec<Step>, String> {
    parts(&format!("{{{text}}}"), 0)
}

fn parts(text: &str, depth: usize) -> Result<Vec<Step>, String> {
    if depth > DEPTH {
        return Err("too many filters in one another".to_owned());
    }
    let mut reader = Reader { text, at: 0, depth };
    let mut first = None;
    while let Some(open) = reader.rest().find('{') {
        reader.at += open + 1;
        let steps = reader.part()?;
        first.get_or_insert(steps);
    }
    Ok(first.unwrap_or_default())
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

/// Whether a name ends before a character.
fn ends_name(c: char) -> bool {
    matches!(
        c,
        ' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}'
    )
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphabetic() || c.is_numeric()
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn skip(&mut self, prefix: &str) -> bool {
        let is_there = self.rest().starts_with(prefix);
        if is_there {
            self.at += prefix.len();
        }
        is_there
    }

    /// What stands up to a brace.
    fn part(&mut self) -> Result<Vec<Step>, String> {
        let mut steps = Vec::new();
        loop {
            if self.skip("}") {
                return Ok(steps);
            }
            if self.skip("[?(") {
                steps.push(Step::Filter(self.filter()?));
                continue;
            }
            if self.skip("..") {
                if steps.last() == Some(&Step::Recursive) {
                    return Err("invalid multiple recursive descent".to_owned());
                }
                steps.push(Step::Recursive);
                if self.peek().is_some_and(is_word) {
                    steps.push(self.field());
                }
                continue;
            }
            let from = self.at;
            match self.next() {
                None | Some('\r' | '\n') => return Err("unclosed action".to_owned()),
                Some(' ' | '@' | '$') => {}
                Some('[') => self.array(&mut steps)?,
                Some(quote @ ('"' | '\'')) => steps.push(self.quoted(quote)?),
                Some('.') => steps.push(self.field()),
                Some(c) if matches!(c, '+' | '-') || c.is_numeric() => {
                    self.at = from;
                    steps.push(self.number()?);
                }
                Some(c) if is_word(c) => {
                    self.at = from;
                    let rest = self.rest();
                    let word = &rest[..rest.find(ends_name).unwrap_or(rest.len())];
                    self.at += word.len();
                    steps.push(match word {
                        "true" | "false" => Step::Literal((word == "true").into()),
                        _ => Step::Word,
                    });
                }
                Some(c) => {
                    let code = u32::from(c);
                    return Err(format!(
                        "unrecognized character in action: U+{code:04X} '{c}'"
                    ));
                }
            }
        }
    }

    /// A name, up to what no name has in it.
    fn field(&mut self) -> Step {
        let mut name = String::new();
        while let Some(c) = self.peek().filter(|c| !ends_name(*c)) {
            self.next();
            match c {
                // Another backslash after one goes, too.
                '\\' => name.extend(self.next().filter(|c| *c != '\\')),
                c => name.push(c),
            }
        }
        match name.as_str() {
            "*" => Step::All,
            _ => Step::Field(name),
        }
    }

    fn number(&mut self) -> Result<Step, String> {
        let rest = self.rest();
        let sign = usize::from(rest.starts_with(['+', '-']));
        let digits = rest[sign..].find(|c: char| c != '.' && !c.is_numeric());
        let text = &rest[..digits.map_or(rest.len(), |digits| digits + sign)];
        self.at += text.len();
        let value = match text.parse::<i64>() {
            Ok(whole) => Some(Value::from(whole)),
            Err(_) => text
                .parse::<f64>()
                .ok()
                .filter(|n| n.is_finite())
                .map(Value::from),
        };
        let value = value.ok_or_else(|| format!("cannot parse number {text}"))?;
        Ok(Step::Literal(value))
    }

    fn quoted(&mut self, quote: char) -> Result<Step, String> {
        let from = self.at;
        loop {
            match self.next() {
                None | Some('\n') => return Err("unterminated quoted string".to_owned()),
                Some(c) if c == quote && !self.is_escaped() => break,
                Some(_) => {}
            }
        }
        let inner = &self.text[from..self.at - 1];
        let value = unescaped(inner, quote)
            .ok_or_else(|| format!("unquote string {quote}{inner}{quote} error invalid syntax"))?;
        Ok(Step::Literal(value.into()))
    }

    /// Whether a backslash stands before the quote that was read.
    fn is_escaped(&self) -> bool {
        self.text[..self.at - 1].ends_with('\\')
    }

    /// What stands between brackets, the first of which was read.
    fn array(&mut self, steps: &mut Vec<Step>) -> Result<(), String> {
        const OPEN: &str = "unterminated array";
        let end = self.rest().find([']', '\n']).ok_or(OPEN)?;
        let text = &self.rest()[..end];
        self.at += end;
        if self.next() != Some(']') {
            return Err(OPEN.to_owned());
        }
        if text.contains(',') {
            let each = text.split(',');
            let each =
                each.map(|one| parts(&format!("{{[{}]}}", one.trim_matches(' ')), self.depth + 1));
            steps.push(Step::Union(each.collect::<Result<_, _>>()?));
            return Ok(());
        }
        let quoted = text
            .strip_prefix('\'')
            .and_then(|text| text.strip_suffix('\''));
        if let Some(name) = quoted.filter(|name| !name.contains('\'')) {
            steps.extend(parts(&format!("{{.{name}}}"), self.depth + 1)?);
            return Ok(());
        }
        steps.push(Step::Slice(match text {
            "*" => slice(":")?,
            text => slice(text)?,
        }));
        Ok(())
    }

    /// What stands between `[?(` and `)]`.
    fn filter(&mut self) -> Result<Filter, String> {
        let from = self.at;
        let mut quote = None;
        let mut is_closed = false;
        loop {
            match self.next() {
                None | Some('\n') => return Err("unterminated filter".to_owned()),
                Some(c @ ('"' | '\'')) => match quote {
                    None => quote = Some(c),
                    Some(open) if open == c && !self.is_escaped() => is_closed = true,
                    Some(_) => {}
                },
                Some(')') if quote.is_some() == is_closed => break,
                Some(_) => {}
            }
        }
        let text = &self.text[from..self.at - 1];
        if self.next() != Some(']') {
            return Err("unclosed array expect ]".to_owned());
        }
        let depth = self.depth + 1;
        let within = |text: &str| parts(&format!("{{{text}}}"), depth);
        let is_operator = |c: char| matches!(c, '!' | '<' | '>' | '=');
        let left = &text[..text.find(is_operator).unwrap_or(text.len())];
        let rest = &text[left.len()..];
        let operator = &rest[..rest.find(|c: char| !is_operator(c)).unwrap_or(rest.len())];
        let (operator, right) = match &rest[operator.len()..] {
            // The last sign is what is compared with, then.
            "" => operator.split_at(operator.len().saturating_sub(1)),
            right => (operator, right),
        };
        if left.is_empty() || operator.is_empty() {
            return Ok(Filter {
                left: within(text)?,
                compare: None,
            });
        }
        let how = match operator {
            "==" => Compare::Equal,
            "!=" => Compare::NotEqual,
            "<" => Compare::Less,
            "<=" => Compare::LessOrEqual,
            ">" => Compare::Greater,
            ">=" => Compare::GreaterOrEqual,
            _ => Compare::Unknown,
        };
        Ok(Filter {
            left: within(left)?,
            compare: Some((how, within(right)?)),
        })
    }
}

/// Up to three numbers with colons between them.
fn slice(text: &str) -> Result<Slice, String> {
    let bad = || format!("invalid array index {text}");
    let looks = |part: &str| {
        let digits = part.strip_prefix('-').unwrap_or(part);
        digits.bytes().all(|b| b.is_ascii_digit())
    };
    let parts: Vec<&str> = text.split(':').collect();
    if parts.len() > 3 || !parts.iter().all(|part| looks(part)) {
        return Err(bad());
    }
    let number = |part: Option<&&str>| match part {
        None | Some(&"") => Ok(None),
        Some(part) => match part.parse::<i64>() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(format!("array index {part} is not a number")),
        },
    };
    let from = number(parts.first())?;
    let to = match (parts.get(1), number(parts.get(1))?) {
        (None, _) => To::One,
        (Some(_), None) => To::End,
        (Some(_), Some(at)) => To::Before(at),
    };
    let step = number(parts.get(2))?;
    Ok(Slice { from, to, step })
}

/// A text as Go reads it between such quotes; nothing if it cannot stand there.
fn unescaped(text: &str, quote: char) -> Option<String> {
    let mut out = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == quote {
            return None;
        }
        if c != '\\' {
            out.extend(c.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        let escape = chars.next()?;
        let mut code = |radix, count: usize, first: Option<char>| {
            let mut digits = first.into_iter().chain(chars.by_ref());
            (0..count).try_fold(0u32, |sum, _| {
                let digit = digits.next()?.to_digit(radix)?;
                sum.checked_mul(radix)?.checked_add(digit)
            })
        };
        match escape {
            'a' => out.push(7),
            'b' => out.push(8),
            'f' => out.push(12),
            'n' => out.push(b'\n'),
            'r' => out.push(b'\r'),
            't' => out.push(b'\t'),
            'v' => out.push(11),
            '\\' => out.push(b'\\'),
            'x' => out.push(u8::try_from(code(16, 2, None)?).ok()?),
            '0'..='7' => out.push(u8::try_from(code(8, 3, Some(escape))?).ok()?),
            'u' | 'U' => {
                let count = if escape == 'u' { 4 } else { 8 };
                let c = char::from_u32(code(16, count, None)?)?;
                out.extend(c.encode_utf8(&mut [0; 4]).bytes());
            }
            c if c == quote => out.push(u8::try_from(u32::from(c)).ok()?),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&out).into_owned())
}
