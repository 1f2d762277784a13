//! How deep an expression nests, told before it is parsed: parser and tree are recursive.

use std::ops::Range;

/// How deep an expression may nest; upstream's parser gives up at this depth, too.
pub(super) const MAX: usize = 250;

/// How many brackets and operators there may be in all.
const MOST_TOKENS: usize = 8192;

/// How much stack one level may need, three times as much in a build without optimizations, and what comes before the
/// first.
const LEVEL: usize = if cfg!(debug_assertions) { 192 } else { 64 } << 10;
const BASE: usize = 512 << 10;

/// Runs what follows an expression of that many levels into its depth, with enough stack: an ordinary one finds that
/// where it is.
pub(super) fn with_stack<T>(levels: usize, run: impl FnOnce() -> T) -> T {
    let needed = BASE + levels * LEVEL;
    stacker::maybe_grow(needed, needed + BASE, run)
}

/// How deep an expression nests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Depth {
    /// If it can be parsed.
    pub(super) levels: usize,
    /// If it cannot: the parser passes over what does not fit, a comma or the wrong bracket, and goes on where it is.
    pub(super) of_nonsense: usize,
}

/// Why an expression is not parsed at all.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It nests too deep.
    TooDeep,
    /// A text in it does not end, or is spelled as none can be: from where it begins to the first character that does
    /// not fit, or to the end.
    Text(Range<usize>),
}

/// Whether an expression nests no deeper than it may. Rather too much is counted than too little: brackets, and at
/// each level what stands between two commas or logical operators, as if it were one chain.
pub(super) fn check(source: &str) -> Result<Depth, Fault> {
    let bytes = source.as_bytes();
    // The length of the chain at each level, and of those of all levels.
    let (mut chains, mut total) = (vec![0usize], 0usize);
    let mut depth = Depth::default();
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let next = bytes.get(at + 1).copied();
        let mut grow = 0;
        match byte {
            b'"' | b'\'' => {
                at = after_text(bytes, at).map_err(|to| unread(source, at, to))?;
                continue;
            }
            b'`' => {
                let name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-/ ".contains(byte);
                let len = bytes[at + 1..].iter().take_while(|byte| name(byte)).count();
                if bytes.get(at + 1 + len) != Some(&b'`') {
                    return Err(unread(source, at, at + 1 + len));
                }
                at += len + 2;
                continue;
            }
            b'/' if next == Some(b'/') => {
                at += bytes[at..]
                    .iter()
                    .take_while(|byte| **byte != b'\n')
                    .count();
                continue;
            }
            // Counted outside, where no comma inside forgets it.
            b'(' | b'[' | b'{' => {
                if let Some(chain) = chains.last_mut() {
                    *chain += 1;
                    total += 1;
                }
                depth.of_nonsense += 1;
                chains.push(0);
            }
            b')' | b']' | b'}' if chains.len() > 1 => {
                total -= chains.pop().unwrap_or_default();
            }
            b',' => total -= end_chain(&mut chains),
            b'&' | b'|' if next == Some(byte) => {
                total -= end_chain(&mut chains);
                at += 1;
            }
            b'.' | b'?' | b'+' | b'-' | b'*' | b'/' | b'%' | b'<' | b'>' | b'=' | b'!' => grow = 1,
            _ if is_name(byte) => {
                let len = bytes[at..]
                    .iter()
                    .take_while(|byte| is_name(**byte))
                    .count();
                grow = usize::from(&bytes[at..at + len] == b"in");
                at += len - 1;
            }
            _ => {}
        }
        if let Some(chain) = chains.last_mut() {
            *chain += grow;
        }
        total += grow;
        depth.of_nonsense += grow;
        depth.levels = depth.levels.max(total);
        if total > MAX || depth.of_nonsense > MOST_TOKENS {
            return Err(Fault::TooDeep);
        }
        at += 1;
    }
    Ok(depth)
}

/// Begins a new chain at the innermost level; gives the length of the one that ends.
fn end_chain(chains: &mut [usize]) -> usize {
    chains.last_mut().map(std::mem::take).unwrap_or_default()
}

pub(super) fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn unread(source: &str, from: usize, to: usize) -> Fault {
    let last = source.get(to..).and_then(|rest| rest.chars().next());
    Fault::Text(from..to + last.map_or(0, char::len_utf8))
}

/// Where a text ends that begins with the quote there, or what is first that cannot be in it.
pub(super) fn after_text(bytes: &[u8], quote: usize) -> Result<usize, usize> {
    let mark = bytes[quote];
    let before = &bytes[..quote];
    let name = before
        .iter()
        .rev()
        .take_while(|byte| is_name(**byte))
        .count();
    let raw = matches!(
        &before[quote - name..],
        b"r" | b"R" | b"br" | b"bR" | b"Br" | b"BR"
    );
    // What is nothing else begins with an empty one, or with a name.
    if bytes[quote..].starts_with(&[mark; 3]) {
        return Ok(end_of(bytes, quote, 3, raw).unwrap_or(quote + 2));
    }
    match end_of(bytes, quote, 1, raw) {
        Err(_) if raw => end_of(bytes, quote, 1, false),
        end => end,
    }
}

/// The same of a text between so many quotes.
fn end_of(bytes: &[u8], quote: usize, quotes: usize, raw: bool) -> Result<usize, usize> {
    let mark = &bytes[quote..quote + quotes];
    let mut at = quote + quotes;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            _ if bytes[at..].starts_with(mark) => return Ok(at + quotes),
            b'\n' | b'\r' if quotes == 1 => return Err(at),
            b'\\' if !raw => match escape(&bytes[at + 1..]) {
                Ok(len) => at += len + 1,
                Err(len) => return Err(at + 1 + len),
            },
            _ => at += 1,
        }
    }
    Err(at)
}

/// How long an escape is, after its backslash, or how much of it is right.
fn escape(rest: &[u8]) -> Result<usize, usize> {
    let digits = |count: usize, is_digit: fn(&u8) -> bool| {
        let rest = rest.iter().skip(1).take(count);
        match rest.take_while(|byte| is_digit(byte)).count() {
            good if good == count => Ok(count + 1),
            good => Err(good + 1),
        }
    };
    match rest.first() {
        Some(b'x' | b'X') => digits(2, u8::is_ascii_hexdigit),
        Some(b'u') => digits(4, u8::is_ascii_hexdigit),
        Some(b'U') => digits(8, u8::is_ascii_hexdigit),
        Some(b'0'..=b'3') => digits(2, |byte| matches!(byte, b'0'..=b'7')),
        Some(byte) if b"abfnrtv\"'\\?`".contains(byte) => Ok(1),
        _ => Err(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_expressions_are_not_deep() {
        for source in [
            "self.minReplicas <= self.replicas && self.replicas <= self.maxReplicas",
            r#"self.list.all(x, x.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') || x in ["a", 'b', r'\d', b"c"])"#,
            "self.a == '''it's\n\"quoted\"''' ? \"\\u00e9\\x41\\101\" : `x-y/z` // and (((",
            &vec!["self.a.b.c == 1"; 500].join(" && "),
            &format!("x in [{}]", vec!["1 + 2"; 5_000].join(", ")),
        ] {
            assert!(check(source).is_ok(), "{source:.60}");
        }
    }

    #[test]
    fn the_parser_may_pass_over_what_does_not_fit() {
        let source = "(],".repeat(2000);
        assert_eq!(check(&source).unwrap().of_nonsense, 2000);
        assert!(super::super::Program::parse(&source).is_err());
    }

    #[test]
    fn every_way_to_nest_is_counted() {
        for unit in [
            "(",
            "[",
            "{",
            "!",
            "-",
            "a.",
            "a[",
            "a+",
            "a?b:",
            "f(",
            "a in ",
            "a<",
            "(a,",
            "[1,",
            "('\\'' + ",
            "(r'\\' + ",
        ] {
            assert_eq!(check(&unit.repeat(1_000)), Err(Fault::TooDeep), "{unit}");
        }
        for (source, text) in [
            ("1 + 'a", "'a"),
            ("\"a\nb\"", "\"a\n"),
            ("'\\q'", "'\\q"),
            ("`a(`", "`a("),
            ("'''a''b", "'b"),
            ("'''a", "'a"),
            ("r'a", "'a"),
            ("'\\u12é'", "'\\u12é"),
            ("'\\", "'\\"),
        ] {
            let Err(Fault::Text(range)) = check(source) else {
                panic!("{source}");
            };
            assert_eq!(&source[range], text, "{source}");
        }
    }
}
