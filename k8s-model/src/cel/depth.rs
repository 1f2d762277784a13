//! How deep an expression nests, told before it is parsed: parser and tree are recursive.

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
    /// A text in it does not end, or is spelled as none can be; here is where it begins.
    Text(usize),
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
                at = after_text(bytes, at).ok_or(Fault::Text(at))?;
                continue;
            }
            b'`' => {
                let name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_.-/ ".contains(byte);
                let len = bytes[at + 1..].iter().take_while(|byte| name(byte)).count();
                if bytes.get(at + 1 + len) != Some(&b'`') {
                    return Err(Fault::Text(at));
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

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where a text ends that begins with the quote there.
fn after_text(bytes: &[u8], quote: usize) -> Option<usize> {
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
    let triple = bytes[quote..].starts_with(&[mark; 3]);
    let mut at = quote + if triple { 3 } else { 1 };
    loop {
        let rest = &bytes[at..];
        match *rest.first()? {
            byte if byte == mark && !triple => return Some(at + 1),
            _ if triple && rest.starts_with(&[mark; 3]) => return Some(at + 3),
            b'\n' | b'\r' if !triple => return None,
            b'\\' if !raw => at += escape(&rest[1..])? + 1,
            _ => at += 1,
        }
    }
}

/// How long an escape is, after its backslash.
fn escape(rest: &[u8]) -> Option<usize> {
    let digits = |count: usize| {
        let digits = rest.get(1..=count)?;
        digits
            .iter()
            .all(u8::is_ascii_hexdigit)
            .then_some(count + 1)
    };
    match *rest.first()? {
        b'x' | b'X' => digits(2),
        b'u' => digits(4),
        b'U' => digits(8),
        b'0'..=b'3' => {
            let octal = rest
                .get(1..3)?
                .iter()
                .all(|byte| matches!(byte, b'0'..=b'7'));
            octal.then_some(3)
        }
        byte => b"abfnrtv\"'\\?`".contains(&byte).then_some(1),
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
        for source in ["'a", "\"a\nb\"", "'\\q'", "`a(`", "'''a''", "'\\u12'"] {
            assert!(matches!(check(source), Err(Fault::Text(_))), "{source}");
        }
    }
}
