//! The syntax of Go's regular expressions: what is wrong with a pattern, told in the words of Go's `regexp/syntax`, and
//! the same pattern in the syntax of `regex`.

use std::fmt::Write;

use super::Fault;

/// How often a part may be repeated, all that is in each other together.
const REPEATS: u32 = 1000;

/// The named classes in brackets: `[:alpha:]`.
const CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// Reads a pattern.
pub(super) fn translate(pattern: &str) -> Result<String, Fault<'_>> {
    let mut reader = Reader {
        pattern,
        rest: pattern,
        out: String::with_capacity(pattern.len() + 16),
        groups: vec![Group::default()],
        flags_at: None,
    };
    // What repeats the part before, if that is the last thing that was read.
    let mut repeats = None;
    while let Some(first) = reader.rest.chars().next() {
        let before = reader.rest;
        let mut repeat = None;
        match first {
            '(' if before.starts_with("(?") => reader.flags()?,
            '(' => {
                reader.take(1);
                reader.out.push('(');
                reader.flags_at = None;
                reader.groups.push(Group::default());
            }
            ')' => reader.close()?,
            '|' => {
                reader.take(1);
                reader.out.push('|');
                reader.group().last = None;
                reader.flags_at = None;
            }
            '[' => {
                reader.class()?;
                reader.item();
            }
            '*' | '+' | '?' => {
                let flags = reader.take_flags();
                reader.take(1);
                reader.out.push(first);
                reader.repeated(before, repeats, None)?;
                reader.out.push_str(&flags);
                repeat = Some(before);
            }
            '{' => match counts(before) {
                None => {
                    reader.take(1);
                    reader.out.push_str(r"\{");
                    reader.item();
                }
                Some(counts) => {
                    let text = &before[..counts.length];
                    reader.take(counts.length);
                    let limit = i64::from(REPEATS);
                    let Counts { min, max, .. } = counts;
                    if min < 0 || min > limit || max > limit || (max >= 0 && min > max) {
                        return Err(Fault("invalid repeat count", text));
                    }
                    let flags = reader.take_flags();
                    reader.out.push_str(text);
                    reader.repeated(before, repeats, Some((min, max)))?;
                    reader.out.push_str(&flags);
                    repeat = Some(before);
                }
            },
            '\\' => reader.escape()?,
            other => {
                reader.take(other.len_utf8());
                reader.out.push(other);
                reader.item();
            }
        }
        repeats = repeat;
    }
    if reader.groups.len() > 1 {
        return Err(Fault("missing closing )", pattern));
    }
    Ok(reader.out)
}

/// What is between two parentheses, as far as it is read.
#[derive(Default)]
struct Group {
    /// How often the last part is repeated at most, if there is one that can be.
    last: Option<u32>,
    /// The same of any part.
    most: u32,
}

struct Reader<'p> {
    pattern: &'p str,
    rest: &'p str,
    out: String,
    /// Those that are open, the whole pattern first.
    groups: Vec<Group>,
    /// Where flags are that were set since the last part: a repetition after them is of that part.
    flags_at: Option<usize>,
}

/// What an escape stands for.
enum Escape {
    Char(char),
    /// A part of a class, in the other syntax, and whether it is all but that.
    Set(&'static str, bool),
    /// `\pL`, as it is in the other syntax.
    Same(String),
}

/// `{min,max}`.
struct Counts {
    min: i64,
    /// -1 if there is no bound.
    max: i64,
    length: usize,
}

/// A number, and what follows it; -1 if it is huge. Nothing if there is none, or it begins with zeros.
fn number(text: &str) -> Option<(i64, &str)> {
    let length = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(length);
    if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
        return None;
    }
    let n = match digits.len() {
        ..=8 => digits.parse().ok()?,
        _ => -1,
    };
    Some((n, rest))
}

fn counts(text: &str) -> Option<Counts> {
    let (mut min, rest) = number(text.strip_prefix('{')?)?;
    let (max, rest) = match rest.strip_prefix(',') {
        None => (min, rest),
        Some(rest) if rest.starts_with('}') => (-1, rest),
        Some(rest) => {
            let (max, rest) = number(rest)?;
            if max < 0 {
                min = -1;
            }
            (max, rest)
        }
    };
    let rest = rest.strip_prefix('}')?;
    Some(Counts {
        min,
        max,
        length: text.len() - rest.len(),
    })
}

impl<'p> Reader<'p> {
    fn take(&mut self, bytes: usize) -> &'p str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        taken
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.take(c.len_utf8());
        Some(c)
    }

    fn group(&mut self) -> &mut Group {
        if self.groups.is_empty() {
            self.groups.push(Group::default());
        }
        let at = self.groups.len() - 1;
        &mut self.groups[at]
    }

    /// A part is read.
    fn item(&mut self) {
        self.repeatable(1);
    }

    fn take_flags(&mut self) -> String {
        let at = self.flags_at.take();
        at.map_or_else(String::new, |at| self.out.split_off(at))
    }

    fn repeatable(&mut self, times: u32) {
        self.flags_at = None;
        let group = self.group();
        group.last = Some(times);
        group.most = group.most.max(times);
    }

    fn literal(&mut self, c: char) {
        let mut buffer = [0; 4];
        self.out
            .push_str(&regex::escape(c.encode_utf8(&mut buffer)));
        self.item();
    }

    /// After a repetition, at `before`: what it repeats, and that it is none of a repetition.
    fn repeated(
        &mut self,
        before: &'p str,
        repeats: Option<&'p str>,
        counts: Option<(i64, i64)>,
    ) -> Result<(), Fault<'p>> {
        if self.rest.starts_with('?') {
            self.take(1);
            self.out.push('?');
        }
        let until = |from: &'p str, rest: &str| &from[..from.len() - rest.len()];
        if let Some(first) = repeats {
            let text = until(first, self.rest);
            return Err(Fault("invalid nested repetition operator", text));
        }
        let text = until(before, self.rest);
        let Some(inner) = self.group().last else {
            return Err(Fault("missing argument to repetition operator", text));
        };
        let Some((min, max)) = counts else {
            return Ok(());
        };
        let times = match (min, max) {
            (_, 0) => 0,
            (min, -1) => min,
            (_, max) => max,
        };
        let times = u32::try_from(times).unwrap_or(u32::MAX);
        let all = match times {
            0 => 1,
            times => times.saturating_mul(inner),
        };
        if (min >= 2 || max >= 2) && all > REPEATS {
            return Err(Fault("invalid repeat count", text));
        }
        self.repeatable(all);
        Ok(())
    }

    /// `)`.
    fn close(&mut self) -> Result<(), Fault<'p>> {
        self.take(1);
        if self.groups.len() < 2 {
            return Err(Fault("unexpected )", self.pattern));
        }
        let most = self.groups.pop().map_or(1, |group| group.most.max(1));
        self.out.push(')');
        self.repeatable(most);
        Ok(())
    }

    /// `(?P<name>`, `(?<name>`, `(?i)`, `(?i-s:` and so on.
    fn flags(&mut self) -> Result<(), Fault<'p>> {
        let start = self.rest;
        let name = match start.strip_prefix("(?P<") {
            Some(name) if !name.is_empty() => Some(name),
            _ => start.strip_prefix("(?<").filter(|name| !name.is_empty()),
        };
        if let Some(name) = name {
            let Some(end) = name.find('>') else {
                return Err(Fault("invalid named capture", start));
            };
            let is_word = |c: char| c == '_' || c.is_ascii_alphanumeric();
            let capture = start.len() - name.len() + end + 1;
            if end == 0 || !name[..end].chars().all(is_word) {
                return Err(Fault("invalid named capture", &start[..capture]));
            }
            self.take(capture);
            // Names may begin with digits there, and be there twice; nobody asks for them.
            self.out.push('(');
            self.flags_at = None;
            self.groups.push(Group::default());
            return Ok(());
        }
        self.take(2);
        let (mut negative, mut saw) = (false, false);
        while let Some(c) = self.next() {
            match c {
                'i' | 'm' | 's' | 'U' => saw = true,
                '-' if !negative => (negative, saw) = (true, false),
                ':' | ')' if !negative || saw => {
                    let text = &start[..start.len() - self.rest.len()];
                    if c == ':' {
                        self.groups.push(Group::default());
                        self.out.push_str(text);
                        self.flags_at = None;
                    } else if text != "(?)" {
                        self.flags_at.get_or_insert(self.out.len());
                        self.out.push_str(text);
                    }
                    return Ok(());
                }
                _ => break,
            }
        }
        let text = &start[..start.len() - self.rest.len()];
        Err(Fault("invalid or unsupported Perl syntax", text))
    }

    /// A backslash outside of classes.
    fn escape(&mut self) -> Result<(), Fault<'p>> {
        match self.rest[1..].chars().next() {
            Some('b') => self.out.push_str(r"(?-u:\b)"),
            Some('B') => self.out.push_str(r"(?:\B)"),
            Some('A') => self.out.push_str(r"\A"),
            Some('z') => self.out.push_str(r"\z"),
            Some('C') => return Err(Fault("invalid escape sequence", &self.rest[..2])),
            Some('Q') => {
                self.take(2);
                let (text, rest) = match self.rest.split_once(r"\E") {
                    Some((text, rest)) => (text, rest),
                    None => (self.rest, ""),
                };
                text.chars().for_each(|c| self.literal(c));
                self.rest = rest;
                return Ok(());
            }
            _ => {
                match self.escaped()? {
                    Escape::Char(c) => self.literal(c),
                    Escape::Set(set, false) => self.push(format_args!("[{set}]")),
                    Escape::Set(set, true) => self.push(format_args!("[^{set}]")),
                    Escape::Same(text) => self.out.push_str(&text),
                }
                self.item();
                return Ok(());
            }
        }
        self.take(2);
        self.item();
        Ok(())
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = self.out.write_fmt(text);
    }

    /// A backslash and what follows it, in a class or not.
    fn escaped(&mut self) -> Result<Escape, Fault<'p>> {
        let start = self.rest;
        self.take(1);
        let Some(c) = self.next() else {
            return Err(Fault("trailing backslash at end of expression", ""));
        };
        let found = match c {
            'p' | 'P' => return self.script(start).map(Escape::Same),
            'd' | 'D' => return Ok(Escape::Set("0-9", c == 'D')),
            'w' | 'W' => return Ok(Escape::Set("0-9A-Za-z_", c == 'W')),
            's' | 'S' => return Ok(Escape::Set(r"\t\n\x0c\r\x20", c == 'S')),
            'a' => Some('\x07'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            'x' => self.hexadecimal(),
            '0'..='7' => self.octal(c),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(c),
            _ => None,
        };
        found.map(Escape::Char).ok_or_else(|| {
            let text = &start[..start.len() - self.rest.len()];
            Fault("invalid escape sequence", text)
        })
    }

    fn octal(&mut self, first: char) -> Option<char> {
        let digit = |text: &str| text.chars().next().and_then(|c| c.to_digit(8));
        if first != '0' && digit(self.rest).is_none() {
            return None;
        }
        let mut code = first.to_digit(8)?;
        for _ in 0..2 {
            let Some(more) = digit(self.rest) else {
                break;
            };
            self.take(1);
            code = code * 8 + more;
        }
        char::from_u32(code)
    }

    /// `7f` or `{10ffff}`, after `\x`.
    fn hexadecimal(&mut self) -> Option<char> {
        let first = self.next()?;
        if first != '{' {
            let second = self.next();
            let (high, low) = (first.to_digit(16)?, second?.to_digit(16)?);
            return char::from_u32(high * 16 + low);
        }
        let (mut code, mut digits) = (0_u32, 0);
        loop {
            let c = self.next()?;
            if c == '}' {
                break;
            }
            code = code.checked_mul(16)?.checked_add(c.to_digit(16)?)?;
            if code > u32::from(char::MAX) {
                return None;
            }
            digits += 1;
        }
        // What is no character by itself is in no text.
        char::from_u32(code)
            .or(Some(char::REPLACEMENT_CHARACTER))
            .filter(|_| digits > 0)
    }

    /// `\pL`, `\p{Greek}`, `\P{^Greek}`, after the letter.
    fn script(&mut self, start: &'p str) -> Result<String, Fault<'p>> {
        let wrong = |text| Err(Fault("invalid character class range", text));
        let mut negative = start.starts_with(r"\P");
        let name = match self.next() {
            None => return wrong(start),
            Some('{') => match self.rest.split_once('}') {
                Some((name, rest)) => {
                    self.rest = rest;
                    name
                }
                None => return wrong(start),
            },
            Some(c) => &start[2..2 + c.len_utf8()],
        };
        let text = &start[..start.len() - self.rest.len()];
        let name = match name.strip_prefix('^') {
            Some(name) => {
                negative = !negative;
                name
            }
            None => name,
        };
        let is_name = !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_- ".contains(c));
        let letter = if negative { 'P' } else { 'p' };
        let same = format!("\\{letter}{{{name}}}");
        match is_name && regex::Regex::new(&same).is_ok() {
            true => Ok(same),
            false => wrong(text),
        }
    }

    /// A class, with its brackets.
    fn class(&mut self) -> Result<(), Fault<'p>> {
        let start = self.rest;
        self.take(1);
        self.out.push('[');
        if self.rest.starts_with('^') {
            self.take(1);
            self.out.push('^');
        }
        let mut first = true;
        loop {
            if self.rest.starts_with(']') && !first {
                self.take(1);
                self.out.push(']');
                return Ok(());
            }
            first = false;
            if self.rest.starts_with("[:") && self.named()? {
                continue;
            }
            let range = self.rest;
            let from = match self.class_char(start)? {
                Escape::Char(c) => c,
                Escape::Set(set, false) => {
                    self.out.push_str(set);
                    continue;
                }
                Escape::Set(set, true) => {
                    self.push(format_args!("[^{set}]"));
                    continue;
                }
                Escape::Same(text) => {
                    self.out.push_str(&text);
                    continue;
                }
            };
            let mut to = None;
            let after = self.rest.strip_prefix('-');
            if after.is_some_and(|after| !after.is_empty() && !after.starts_with(']')) {
                self.take(1);
                let before = self.rest;
                let end = match self.class_char(start)? {
                    Escape::Char(end) => end,
                    // A range ends in one character.
                    _ => {
                        let length = 1 + before[1..].chars().next().map_or(0, char::len_utf8);
                        return Err(Fault("invalid escape sequence", &before[..length]));
                    }
                };
                if end < from {
                    let text = &range[..range.len() - self.rest.len()];
                    return Err(Fault("invalid character class range", text));
                }
                to = Some(end);
            }
            self.bound(from);
            if let Some(to) = to {
                self.out.push('-');
                self.bound(to);
            }
        }
    }

    fn class_char(&mut self, class: &'p str) -> Result<Escape, Fault<'p>> {
        if self.rest.starts_with('\\') {
            return self.escaped();
        }
        let c = self.next().ok_or(Fault("missing closing ]", class))?;
        Ok(Escape::Char(c))
    }

    /// A character of a class, in a way that means nothing else.
    fn bound(&mut self, c: char) {
        self.push(format_args!("\\x{{{:x}}}", u32::from(c)));
    }

    /// `[:alpha:]` and its like. False if it is none of them.
    fn named(&mut self) -> Result<bool, Fault<'p>> {
        let Some(end) = self.rest[2..].find(":]") else {
            return Ok(false);
        };
        let text = self.take(end + 4);
        let name = &text[2..end + 2];
        if !CLASSES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(Fault("invalid character class range", text));
        }
        self.out.push_str(text);
        Ok(true)
    }
}
