//! Regular expressions as Go reads them (RE2, <https://pkg.go.dev/regexp/syntax>): the patterns of schemas, and those in
//! expressions.
//!
//! Rust's `regex` has the same engine in mind and another syntax at the edges: brackets nest in its classes, `&&` and `--`
//! mean something there, `\d`, `\w`, `\s` and `\b` know all scripts, a lone `{` is a fault. A pattern is written anew in
//! that syntax before it is compiled.

use std::{iter::Peekable, str::Chars};

use regex::{Regex, RegexBuilder};

/// How much memory a compiled pattern may take, in bytes.
const SIZE: usize = 10 << 20;
/// How often a part may be repeated, as Go has it.
const REPEATS: u32 = 1000;

/// Compiles a pattern.
///
/// # Errors
/// With what is wrong, in one line.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    compile_within(pattern, SIZE)
}

/// The same, with another limit to its memory.
pub(crate) fn compile_within(pattern: &str, size: usize) -> Result<Regex, String> {
    let pattern = translate(pattern)?;
    let built = RegexBuilder::new(&pattern).size_limit(size).build();
    built.map_err(|error| error.to_string().replace('\n', " "))
}

/// A pattern in the syntax of `regex`.
fn translate(pattern: &str) -> Result<String, String> {
    let mut reader = Reader {
        rest: pattern.chars().peekable(),
        out: String::with_capacity(pattern.len() + 16),
    };
    while let Some(c) = reader.rest.next() {
        match c {
            '\\' => reader.escape()?,
            '[' => reader.class(pattern)?,
            '{' => reader.repetition()?,
            other => reader.out.push(other),
        }
    }
    Ok(reader.out)
}

struct Reader<'p> {
    rest: Peekable<Chars<'p>>,
    out: String,
}

/// What an escape stands for.
enum Escape {
    Char(char),
    /// A part of a class, in the other syntax, and whether it is all but that.
    Set(&'static str, bool),
    /// Written the same in both: `\pL`.
    Same(String),
}

impl Reader<'_> {
    fn literal(&mut self, c: char) {
        let mut buffer = [0; 4];
        self.out
            .push_str(&regex::escape(c.encode_utf8(&mut buffer)));
    }

    /// What follows a backslash outside of classes.
    fn escape(&mut self) -> Result<(), String> {
        match self.rest.peek() {
            Some('b') => self.out.push_str(r"(?-u:\b)"),
            Some(c @ ('B' | 'A' | 'z')) => {
                self.out.push('\\');
                self.out.push(*c);
            }
            Some('Q') => {
                self.rest.next();
                self.quoted();
                return Ok(());
            }
            _ => {
                match self.escaped()? {
                    Escape::Char(c) => self.literal(c),
                    Escape::Set(set, false) => self.out.push_str(&format!("[{set}]")),
                    Escape::Set(set, true) => self.out.push_str(&format!("[^{set}]")),
                    Escape::Same(text) => self.out.push_str(&text),
                }
                return Ok(());
            }
        }
        self.rest.next();
        Ok(())
    }

    /// All up to `\E` as it is.
    fn quoted(&mut self) {
        while let Some(c) = self.rest.next() {
            if c == '\\' && self.rest.next_if_eq(&'E').is_some() {
                return;
            }
            self.literal(c);
        }
    }

    /// What follows a backslash, in a class or not.
    fn escaped(&mut self) -> Result<Escape, String> {
        let missing = || "trailing backslash at end of expression: ``".to_owned();
        let c = self.rest.next().ok_or_else(missing)?;
        Ok(match c {
            'd' | 'D' => Escape::Set("0-9", c == 'D'),
            'w' | 'W' => Escape::Set("0-9A-Za-z_", c == 'W'),
            's' | 'S' => Escape::Set(r"\t\n\x0c\r\x20", c == 'S'),
            'a' => Escape::Char('\x07'),
            'f' => Escape::Char('\x0c'),
            'n' => Escape::Char('\n'),
            'r' => Escape::Char('\r'),
            't' => Escape::Char('\t'),
            'v' => Escape::Char('\x0b'),
            'p' | 'P' => {
                let mut text = format!("\\{c}");
                let braces = self.rest.peek() == Some(&'{');
                for c in self.rest.by_ref() {
                    text.push(c);
                    if !braces || c == '}' {
                        break;
                    }
                }
                Escape::Same(text)
            }
            'x' => Escape::Char(self.hexadecimal()?),
            '0'..='7' => {
                let mut code = c.to_digit(8).unwrap_or(0);
                let mut digits = 1;
                while digits < 3
                    && let Some(digit) = self.rest.peek().and_then(|c| c.to_digit(8))
                {
                    code = code * 8 + digit;
                    digits += 1;
                    self.rest.next();
                }
                if digits == 1 && c != '0' {
                    return Err(format!("invalid escape sequence: `\\{c}`"));
                }
                Escape::Char(char::from_u32(code).unwrap_or('\0'))
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Escape::Char(c),
            c => return Err(format!("invalid escape sequence: `\\{c}`")),
        })
    }

    /// `7f` or `{10ffff}`, after `\x`.
    fn hexadecimal(&mut self) -> Result<char, String> {
        let braces = self.rest.next_if_eq(&'{').is_some();
        let mut code: u32 = 0;
        let mut digits = 0;
        while (braces || digits < 2)
            && let Some(digit) = self.rest.peek().and_then(|c| c.to_digit(16))
        {
            code = code.saturating_mul(16).saturating_add(digit);
            digits += 1;
            self.rest.next();
        }
        let closed = !braces || self.rest.next_if_eq(&'}').is_some();
        let whole = digits > 0 && (braces || digits == 2) && closed;
        char::from_u32(code)
            .filter(|_| whole)
            .ok_or_else(|| "invalid escape sequence: `\\x`".to_owned())
    }

    /// A class, after its bracket.
    fn class(&mut self, pattern: &str) -> Result<(), String> {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let missing = || format!("missing closing ]: `{pattern}`");
            let c = self.rest.next().ok_or_else(missing)?;
            if c == ']' && !first {
                self.out.push(']');
                return Ok(());
            }
            first = false;
            let from = match c {
                '[' if self.rest.peek() == Some(&':') && self.named() => continue,
                '\\' => match self.escaped()? {
                    Escape::Char(c) => c,
                    Escape::Set(set, false) => {
                        self.out.push_str(set);
                        continue;
                    }
                    Escape::Set(set, true) => {
                        self.out.push_str(&format!("[^{set}]"));
                        continue;
                    }
                    Escape::Same(text) => {
                        self.out.push_str(&text);
                        continue;
                    }
                },
                other => other,
            };
            let to = self.range_end(from, pattern)?;
            self.bound(from);
            if let Some(to) = to {
                self.out.push('-');
                self.bound(to);
            }
        }
    }

    /// A character of a class, in a way that means nothing else.
    fn bound(&mut self, c: char) {
        self.out.push_str(&format!("\\x{{{:x}}}", u32::from(c)));
    }

    /// The end of the range that a character begins, if it begins one.
    fn range_end(&mut self, from: char, pattern: &str) -> Result<Option<char>, String> {
        let mut ahead = self.rest.clone();
        if ahead.next() != Some('-') || matches!(ahead.peek(), Some(']') | None) {
            return Ok(None);
        }
        self.rest = ahead;
        let to = match self.rest.next() {
            Some('\\') => match self.escaped()? {
                Escape::Char(c) => c,
                _ => return Err(format!("invalid character class range: `{pattern}`")),
            },
            Some(c) => c,
            None => return Err(format!("missing closing ]: `{pattern}`")),
        };
        if to < from {
            return Err(format!("invalid character class range: `{from}-{to}`"));
        }
        Ok(Some(to))
    }

    /// `[:alpha:]` and its like, after the bracket. False if it is none of them.
    fn named(&mut self) -> bool {
        let ahead: String = self.rest.clone().take(12).collect();
        let Some(end) = ahead.find(":]") else {
            return false;
        };
        let name = &ahead[..end + 2];
        self.out.push('[');
        self.out.push_str(name);
        let length = name.chars().count();
        self.rest.by_ref().take(length).for_each(drop);
        true
    }

    /// `{1,2}`, after its brace; anything else stands for itself.
    fn repetition(&mut self) -> Result<(), String> {
        let ahead: String = self
            .rest
            .clone()
            .take_while(|c| *c != '}')
            .take(24)
            .collect();
        let closed = self.rest.clone().nth(ahead.chars().count()) == Some('}');
        let (least, most) = ahead.split_once(',').unwrap_or((&ahead, "0"));
        let is_number = |text: &str| text.chars().all(|c| c.is_ascii_digit());
        if !closed || least.is_empty() || !is_number(least) || !is_number(most) {
            self.out.push_str(r"\{");
            return Ok(());
        }
        let counts = [least, most].map(|n| n.parse::<u32>().unwrap_or(0));
        let too_many = [least, most].iter().any(|n| n.len() > 5);
        let falls = ahead.contains(',') && !most.is_empty() && counts[1] < counts[0];
        if too_many || falls || counts.iter().any(|n| *n > REPEATS) {
            return Err(format!("invalid repeat count: `{{{ahead}}}`"));
        }
        self.out.push('{');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, matching, other) in [
            (r#"^[^()<>@,;:\\"\/[\]?={} \t\x7f\x00]+$"#, "name", "na[me"),
            (r"^[\w-.]+$", "a-b.c", "a b"),
            (r"^[a&&b]+$", "a&b", "c"),
            (r"^[a~~b+--]+$", "a~-b", "d"),
            (r"^[]a]+$", "]a", "b"),
            (r"^[^]a]+$", "b", "]"),
            (r"^[-a]+$", "-a", "b"),
            (r"^[a-]+$", "a-", "b"),
            (r"^\d+$", "12", "١٢"),
            (r"^\w+$", "aZ_9", "é"),
            (r"^\S+$", "a\u{a0}", "a b"),
            (r"^[\D]+$", "ab", "1"),
            (r"^[[:alpha:]_]+$", "a_", "1"),
            (r"^\Qa.b\E+$", "a.bb", "axb"),
            (r"^\101\x42\x{43}$", "ABC", "abc"),
            (r"^\_\-\/\<$", "_-/<", "x"),
            (r"^${x}$|^a{,2}$", "a{,2}", "aa"),
            (r"^a{2}$", "aa", "a"),
            (r"^a{1,}b{0,1}$", "aa", "bb"),
            (r"^\pL\p{Greek}$", "éα", "1α"),
            (r"^(?i)straße$", "STRAßE", "x"),
            (r"a\b", "a b", "ab"),
            (r"^(?P<x>a|b)\z", "a", "c"),
        ] {
            let regex = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert!(regex.is_match(matching), "{pattern} {matching}");
            assert!(!regex.is_match(other), "{pattern} {other}");
        }
    }

    #[test]
    fn what_is_no_pattern_in_go_is_none_here() {
        for pattern in [
            "(", "[a", r"\1", r"\8", r"\é", r"a{1001}", "a{2,1}", "[b-a]", r"[a-\d]", "(?=a)",
            r"\xg", "\\", "(?<!a)", "*",
        ] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn nothing_makes_it_panic() {
        let parts = [
            "[", "]", "\\", "{", "}", "-", "^", ":", "a", "é", "1", ",", "Q", "E", "x", "p", "(",
            ")", "*",
        ];
        let mut random = 7_u64;
        for _ in 0..20_000 {
            let mut pattern = String::new();
            for _ in 0..8 {
                random = random
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                pattern.push_str(parts[(random >> 33) as usize % parts.len()]);
            }
            let _ = translate(&pattern);
        }
    }
}
