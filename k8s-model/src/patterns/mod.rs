//! Regular expressions as Go reads them (RE2, <https://pkg.go.dev/regexp/syntax>): the patterns of schemas, and those in
//! expressions.
//!
//! Rust's `regex` has the same engine in mind and another syntax at the edges: brackets nest in its classes, `&&` and `--`
//! mean something there, `\d`, `\w`, `\s` and `\b` know all scripts, a lone `{` is a fault. A pattern is written anew in
//! that syntax before it is compiled. What is wrong with one is told as Go tells it.

mod reader;

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use regex::{Regex, RegexBuilder};

/// How much memory a compiled pattern may take, in bytes.
const SIZE: usize = 10 << 20;
/// How deep a pattern may nest.
const DEPTH: u32 = 250;

/// What is wrong with a pattern: Go's word for it, and the part that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fault<'p>(&'static str, &'p str);

impl fmt::Display for Fault<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error parsing regexp: {}: `{}`", self.0, self.1)
    }
}

/// A pattern that is compiled when a text is first held against it: large definitions have thousands of them, and most
/// are never asked about.
#[derive(Clone, Debug)]
pub struct Pattern(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    written: String,
    /// Nothing of one that is no pattern.
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// A pattern as it is written in a schema.
    pub fn new(written: impl Into<String>) -> Self {
        Pattern(Arc::new(Inner {
            written: written.into(),
            compiled: OnceLock::new(),
        }))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0.written
    }

    /// Whether a text is like that. All are like what is no pattern.
    pub fn is_match(&self, text: &str) -> bool {
        self.compiled().is_none_or(|regex| regex.is_match(text))
    }

    /// Whether it is a pattern at all.
    pub fn is_valid(&self) -> bool {
        self.compiled().is_some()
    }

    fn compiled(&self) -> Option<&Regex> {
        let compiled = self.0.compiled.get_or_init(|| compile(self.as_str()).ok());
        compiled.as_ref()
    }
}

/// Compiles a pattern.
///
/// # Errors
/// With what is wrong, as Go tells it.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    compile_within(pattern, SIZE)
}

/// The same, with another limit to its memory.
pub(crate) fn compile_within(pattern: &str, size: usize) -> Result<Regex, String> {
    let translated = reader::translate(pattern).map_err(|fault| fault.to_string())?;
    let built = RegexBuilder::new(&translated)
        .size_limit(size)
        .nest_limit(DEPTH)
        .build();
    built.map_err(|error| {
        let text = match error {
            regex::Error::CompiledTooBig(_) => "expression too large",
            _ => "expression nests too deeply",
        };
        Fault(text, pattern).to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Patterns, and what Go says of each; nothing of those that it takes.
    const GO: [(&str, &str); 125] = [
        ("(", "missing closing ): `(`"),
        ("[", "missing closing ]: `[`"),
        ("[a", "missing closing ]: `[a`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"\é", r"invalid escape sequence: `\é`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{2,1}", "invalid repeat count: `{2,1}`"),
        ("[b-a]", "invalid character class range: `b-a`"),
        (r"[a-\d]", r"invalid escape sequence: `\d`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
        (r"\xg", r"invalid escape sequence: `\xg`"),
        (r"\", "trailing backslash at end of expression: ``"),
        ("(?<!a)", "invalid named capture: `(?<!a)`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("a)", "unexpected ): `a)`"),
        ("(a", "missing closing ): `(a`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a*+", "invalid nested repetition operator: `*+`"),
        ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("a{2}*", "invalid nested repetition operator: `{2}*`"),
        ("a|*", "missing argument to repetition operator: `*`"),
        ("(*)", "missing argument to repetition operator: `*`"),
        ("(|+)", "missing argument to repetition operator: `+`"),
        ("(?i)*", "missing argument to repetition operator: `*`"),
        ("a(?i)*", ""),
        ("+a", "missing argument to repetition operator: `+`"),
        ("{2}", "missing argument to repetition operator: `{2}`"),
        ("a{,2}", ""),
        ("a{2", ""),
        ("a{01}", ""),
        ("x{2000000000}", "invalid repeat count: `{2000000000}`"),
        ("(a{100}){11}", "invalid repeat count: `{11}`"),
        ("((a{10}){10}){11}", "invalid repeat count: `{11}`"),
        ("(a{2,}){501}", "invalid repeat count: `{501}`"),
        ("[[:word:]]", ""),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        ("[[:^alpha:]]", ""),
        ("[]", "missing closing ]: `[]`"),
        ("[]a", "missing closing ]: `[]a`"),
        ("[^]", "missing closing ]: `[^]`"),
        ("[^]a]", ""),
        ("[a-", "missing closing ]: `[a-`"),
        ("[a-]", ""),
        ("[-a]", ""),
        ("[a-z", "missing closing ]: `[a-z`"),
        (r"[\", "trailing backslash at end of expression: ``"),
        (r"[\d-z]", ""),
        (r"[a-\pL]", r"invalid escape sequence: `\p`"),
        (r"\pX", r"invalid character class range: `\pX`"),
        (r"\p{Greek}", ""),
        (r"\p{Foo}", r"invalid character class range: `\p{Foo}`"),
        (r"\p{Greek", r"invalid character class range: `\p{Greek`"),
        (r"\p", r"invalid character class range: `\p`"),
        (r"\P{^Greek}", ""),
        (r"[\p{Foo}]", r"invalid character class range: `\p{Foo}`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"\Qab*\E+", ""),
        (r"\Q\E*", "missing argument to repetition operator: `*`"),
        (r"\Q", ""),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000`"),
        (r"\x{}", r"invalid escape sequence: `\x{}`"),
        (r"\x{41", r"invalid escape sequence: `\x{41`"),
        (r"\x4", r"invalid escape sequence: `\x4`"),
        (r"\x", r"invalid escape sequence: `\x`"),
        (r"\07", ""),
        (r"\400", ""),
        ("(?P<n>a)", ""),
        ("(?P<>a)", "invalid named capture: `(?P<>`"),
        ("(?P<n", "invalid named capture: `(?P<n`"),
        ("(?P<n>a", "missing closing ): `(?P<n>a`"),
        ("(?P<a b>c)", "invalid named capture: `(?P<a b>`"),
        ("(?P=n)", "invalid or unsupported Perl syntax: `(?P`"),
        ("(?i", "invalid or unsupported Perl syntax: `(?i`"),
        ("(?", "invalid or unsupported Perl syntax: `(?`"),
        ("(?)", ""),
        ("(?i-s:a)", ""),
        ("(?i-)", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(?--i)", "invalid or unsupported Perl syntax: `(?--`"),
        ("(?z)", "invalid or unsupported Perl syntax: `(?z`"),
        ("(?i:a", "missing closing ): `(?i:a`"),
        ("(?i-s", "invalid or unsupported Perl syntax: `(?i-s`"),
        ("a|b|)", "unexpected ): `a|b|)`"),
        ("()", ""),
        ("(a|b)*", ""),
        ("^*", ""),
        ("$+", ""),
        (r"\b*", ""),
        (r"\B?", ""),
        (r"\Z", r"invalid escape sequence: `\Z`"),
        (r"\z", ""),
        (r"\G", r"invalid escape sequence: `\G`"),
        (r"\k", r"invalid escape sequence: `\k`"),
        ("a{1000}", ""),
        ("(a{1000}){1}", ""),
        ("a{0}", ""),
        ("(a{0}){1000}", ""),
        ("(a{1000}){0}", ""),
        ("a??", ""),
        ("a*?*", "invalid nested repetition operator: `*?*`"),
        ("a+??", "invalid nested repetition operator: `+??`"),
        ("(?:a+)+", ""),
        ("[[:alpha:]", "missing closing ]: `[[:alpha:]`"),
        ("[[:alpha:", "missing closing ]: `[[:alpha:`"),
        ("[a[:digit:]-z]", ""),
        ("é*", ""),
        ("{", ""),
        ("}", ""),
        ("]", ""),
        ("a{1,2}{3", ""),
        ("(?s).", ""),
        ("x{1,1000}", ""),
        ("x{1,1001}", "invalid repeat count: `{1,1001}`"),
        ("x{1001,}", "invalid repeat count: `{1001,}`"),
        (r"[z-\x41]", r"invalid character class range: `z-\x41`"),
        (r"[\Q]", r"invalid escape sequence: `\Q`"),
        (r"\_", ""),
        ("a||b", ""),
        ("(((((", "missing closing ): `(((((`"),
        ("(?P<1a>b)", ""),
        ("(?P<n>a)(?P<n>b)", ""),
        ("[a-b-c]", ""),
        ("[--a]", ""),
        ("[a--]", "invalid character class range: `a--`"),
    ];

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

    /// As Go's own `regexp.Compile` says of them.
    #[test]
    fn faults_are_told_as_go_tells_them() {
        for (pattern, text) in GO {
            let found = compile(pattern).err().unwrap_or_default();
            let found = found.strip_prefix("error parsing regexp: ");
            assert_eq!(found.unwrap_or_default(), text, "{pattern}");
        }
    }

    #[test]
    fn a_pattern_is_compiled_when_it_is_needed() {
        let pattern = Pattern::new("^a+$");
        assert!(pattern.0.compiled.get().is_none());
        let other = pattern.clone();
        assert!(pattern.is_match("aa") && !pattern.is_match("b"));
        assert!(other.0.compiled.get().is_some());
        assert!(Pattern::new("(").is_match("anything"));
        assert!(pattern.is_valid() && !Pattern::new("(").is_valid());
    }

    #[test]
    fn nothing_makes_it_panic() {
        let parts = [
            "[", "]", "\\", "{", "}", "-", "^", ":", "a", "é", "1", ",", "Q", "E", "x", "p", "(",
            ")", "*",
        ];
        let mut random = 7_u64;
        for _ in 0..5_000 {
            let mut pattern = String::new();
            for _ in 0..8 {
                random = random
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                pattern.push_str(parts[(random >> 33) as usize % parts.len()]);
            }
            let _ = compile(&pattern);
        }
    }
}
