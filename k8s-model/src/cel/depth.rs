//! How deep an expression nests, told before it is parsed: parser and tree are recursive.

/// How deep an expression may nest; upstream's parser gives up at this depth, too.
pub(super) const MAX: usize = 250;

/// How much stack the deepest expression may need, and how much there must be left to begin without another.
const STACK: usize = 32 << 20;
const RED_ZONE: usize = 1 << 20;

/// Runs what follows an expression into its depth, with enough stack.
pub(super) fn with_stack<T>(run: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(RED_ZONE, STACK, run)
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
pub(super) fn check(source: &str) -> Result<(), Fault> {
    let bytes = source.as_bytes();
    // The length of the chain at each level, and of those of all levels.
    let (mut chains, mut total) = (vec![0usize], 0usize);
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
        if total > MAX {
            return Err(Fault::TooDeep);
        }
        at += 1;
    }
    Ok(())
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
            assert_eq!(check(source), Ok(()), "{source:.60}");
        }
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
