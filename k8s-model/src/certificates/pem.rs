//! [`Block`]: PEM as Go reads it, in which upstream's words about requests and certificates are spoken.

use base64::{Engine, engine::general_purpose::STANDARD};

/// One block of PEM.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    /// What is between `-----BEGIN ` and `-----`.
    pub(super) label: &'a [u8],
    /// Whether there are lines `Key: value` before the contents.
    pub(super) headers: bool,
    /// The contents.
    pub(super) der: Vec<u8>,
}

const BEGIN: &[u8] = b"\n-----BEGIN ";
const END: &[u8] = b"\n-----END ";
const DASHES: &[u8] = b"-----";

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|at| at == wanted)
}

/// The first line, without the blanks at its end, and what comes after it.
fn line(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| *byte == b'\n');
    let (line, rest) = match end {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, &[][..]),
    };
    (line.trim_ascii_end(), rest)
}

/// The first block of a text, and what comes after it. What only begins like a block is passed over.
pub(super) fn first(text: &[u8]) -> Option<(Block<'_>, &[u8])> {
    let mut rest = text;
    // How much of the text is left from the end on that was found last: it is looked for once, however many blocks
    // begin before it.
    let mut end_left = usize::MAX;
    loop {
        // A block begins a line.
        rest = match rest.strip_prefix(&BEGIN[1..]) {
            Some(rest) => rest,
            None => &rest[find(rest, BEGIN)? + BEGIN.len()..],
        };
        let (first, mut body) = line(rest);
        rest = body;
        let Some(label) = first.strip_suffix(DASHES) else {
            continue;
        };
        let mut headers = false;
        loop {
            if body.is_empty() {
                return None;
            }
            let (first, next) = line(body);
            if !first.contains(&b':') {
                break;
            }
            headers = true;
            body = next;
        }
        rest = body;
        // Without contents its end comes at once.
        let (contents, end) = match body.strip_prefix(&END[1..]) {
            Some(end) if !headers => (&[][..], end),
            _ => {
                if end_left > body.len() {
                    // Without one nothing that begins later has one.
                    end_left = body.len() - find(body, END)?;
                }
                let at = body.len() - end_left;
                (&body[..at], &body[at + END.len()..])
            }
        };
        let end = end.strip_prefix(label).and_then(|e| e.strip_prefix(DASHES));
        let Some((blank, after)) = end.map(line) else {
            continue;
        };
        // What is another block's beginning is no contents; that is seen at once.
        if contents.contains(&b'-') {
            continue;
        }
        let packed: Vec<u8> = contents
            .iter()
            .copied()
            .filter(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
            .collect();
        let (true, Ok(der)) = (blank.is_empty(), STANDARD.decode(packed)) else {
            continue;
        };
        let block = Block {
            label,
            headers,
            der,
        };
        return Some((block, after));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(text: &str) -> Option<String> {
        let (block, _) = first(text.as_bytes())?;
        Some(String::from_utf8_lossy(block.label).into_owned())
    }

    #[test]
    fn a_block_is_found_wherever_a_line_begins_with_it() {
        let good = "-----BEGIN A B-----\nAAEC\n-----END A B-----\n";
        let (block, rest) = first(good.as_bytes()).unwrap();
        assert_eq!((block.label, block.headers), (&b"A B"[..], false));
        assert_eq!(block.der, [0, 1, 2]);
        assert!(rest.is_empty());
        assert_eq!(label(&format!("text\n{good}more")).as_deref(), Some("A B"));
        assert_eq!(label(&format!("text {good}")), None);
        // What is broken is passed over.
        for broken in [
            "-----BEGIN X\n",
            "-----BEGIN X-----\nAA\n-----END Y-----\n",
            "-----BEGIN X-----\n!!\n-----END X-----\n",
            "-----BEGIN X-----\nAAEC\n-----END X----- and\n",
        ] {
            assert_eq!(label(broken), None, "{broken}");
            let both = format!("{broken}{good}");
            assert_eq!(label(&both).as_deref(), Some("A B"), "{both}");
        }
        let empty = "-----BEGIN X-----\n-----END X-----";
        assert_eq!(label(empty).as_deref(), Some("X"));
    }

    #[test]
    fn blocks_that_never_end_are_passed_over_in_one_go() {
        let good = "-----BEGIN A-----\nAAEC\n-----END A-----\n";
        for (end, found) in [
            ("", None),
            ("-----END Y-----\n", None),
            ("-----END X-----\n", Some("X")),
        ] {
            let text = "-----BEGIN X-----\nAAAA\n".repeat(60_000) + end;
            assert_eq!(label(&text).as_deref(), found);
            let both = format!("{text}{good}");
            assert_eq!(label(&both).as_deref(), found.or(Some("A")));
        }
    }

    #[test]
    fn lines_with_a_colon_before_the_contents_are_headers() {
        let text = "-----BEGIN X-----\nKey: value\n\nAAEC\n-----END X-----\n";
        assert!(first(text.as_bytes()).unwrap().0.headers);
    }
}
