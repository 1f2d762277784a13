//! What is wrong with bytes that are not JSON, in the words of Go's `encoding/json`.

/// How deep the scan follows before it gives up, a little more than the decoder itself.
const MAX_DEPTH: usize = 200;
const END: &str = "unexpected end of JSON input";

/// Why bytes are not JSON, or `None` if they are.
pub fn syntax_error(bytes: &[u8]) -> Option<String> {
    let mut scanner = Scanner { bytes, position: 0 };
    scanner.document().err()
}

struct Scanner<'a> {
    bytes: &'a [u8],
    position: usize,
}

type Scan = Result<(), String>;

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    fn next(&mut self) -> Result<u8, String> {
        let byte = self.peek().ok_or(END)?;
        self.position += 1;
        Ok(byte)
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.position += 1;
        }
    }

    fn next_token(&mut self) -> Result<u8, String> {
        self.blanks();
        self.next()
    }

    fn document(&mut self) -> Scan {
        self.value(0)?;
        self.blanks();
        match self.peek() {
            Some(byte) => invalid(byte, "after top-level value"),
            None => Ok(()),
        }
    }

    fn value(&mut self, depth: usize) -> Scan {
        let token = self.next_token()?;
        if depth > MAX_DEPTH {
            return Err(format!(
                "invalid character {:?} exceeded max depth",
                char::from(token)
            ));
        }
        match token {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string(),
            b't' => self.literal("true"),
            b'f' => self.literal("false"),
            b'n' => self.literal("null"),
            b'-' => match self.next()? {
                b'0' => self.fraction(),
                b'1'..=b'9' => self.integer(),
                byte => invalid(byte, "in numeric literal"),
            },
            b'0' => self.fraction(),
            b'1'..=b'9' => self.integer(),
            byte => invalid(byte, "looking for beginning of value"),
        }
    }

    fn object(&mut self, depth: usize) -> Scan {
        self.blanks();
        if self.peek() == Some(b'}') {
            self.position += 1;
            return Ok(());
        }
        loop {
            match self.next_token()? {
                b'"' => self.string()?,
                byte => return invalid(byte, "looking for beginning of object key string"),
            }
            match self.next_token()? {
                b':' => self.value(depth + 1)?,
                byte => return invalid(byte, "after object key"),
            }
            match self.next_token()? {
                b',' => {}
                b'}' => return Ok(()),
                byte => return invalid(byte, "after object key:value pair"),
            }
        }
    }

    fn array(&mut self, depth: usize) -> Scan {
        self.blanks();
        if self.peek() == Some(b']') {
            self.position += 1;
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            match self.next_token()? {
                b',' => {}
                b']' => return Ok(()),
                byte => return invalid(byte, "after array element"),
            }
        }
    }

    fn string(&mut self) -> Scan {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            let byte = self.next()?;
                            if !byte.is_ascii_hexdigit() {
                                return invalid(byte, "in \\u hexadecimal character escape");
                            }
                        }
                    }
                    byte => return invalid(byte, "in string escape code"),
                },
                byte if byte < 0x20 => return invalid(byte, "in string literal"),
                _ => {}
            }
        }
    }

    fn literal(&mut self, word: &str) -> Scan {
        for expected in word.bytes().skip(1) {
            let byte = self.next()?;
            if byte != expected {
                return invalid(
                    byte,
                    &format!("in literal {word} (expecting {})", quote(expected)),
                );
            }
        }
        Ok(())
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.position += 1;
        }
    }

    fn integer(&mut self) -> Scan {
        self.digits();
        self.fraction()
    }

    fn fraction(&mut self) -> Scan {
        if self.peek() == Some(b'.') {
            self.position += 1;
            match self.next()? {
                b'0'..=b'9' => self.digits(),
                byte => return invalid(byte, "after decimal point in numeric literal"),
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.position += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.position += 1;
            }
            match self.next()? {
                b'0'..=b'9' => self.digits(),
                byte => return invalid(byte, "in exponent of numeric literal"),
            }
        }
        Ok(())
    }
}

fn invalid(byte: u8, context: &str) -> Scan {
    Err(format!("invalid character {} {context}", quote(byte)))
}

/// A byte in single quotes, as Go writes it.
fn quote(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        0..=0x1f | 0x7f => format!("'\\x{byte:02x}'"),
        0x80..=0x9f => format!("'\\u{byte:04x}'"),
        byte => format!("'{}'", char::from(byte)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_place_has_its_words() {
        for (text, expected) in [
            ("", END),
            ("tru", END),
            (
                "trux",
                "invalid character 'x' in literal true (expecting 'e')",
            ),
            (
                "{a",
                "invalid character 'a' looking for beginning of object key string",
            ),
            ("{\"a\",", "invalid character ',' after object key"),
            (
                "{\"a\":1 2",
                "invalid character '2' after object key:value pair",
            ),
            ("[1 2", "invalid character '2' after array element"),
            (
                "[1,]",
                "invalid character ']' looking for beginning of value",
            ),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
            (r#""\x""#, "invalid character 'x' in string escape code"),
            (
                r#""\u12g4""#,
                "invalid character 'g' in \\u hexadecimal character escape",
            ),
            ("-x", "invalid character 'x' in numeric literal"),
            (
                "1.x",
                "invalid character 'x' after decimal point in numeric literal",
            ),
            (
                "1ex",
                "invalid character 'x' in exponent of numeric literal",
            ),
            (
                "apiVersion: v1",
                "invalid character 'a' looking for beginning of value",
            ),
            (
                "'",
                "invalid character '\\'' looking for beginning of value",
            ),
        ] {
            assert_eq!(
                syntax_error(text.as_bytes()).as_deref(),
                Some(expected),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_decoder(text in r#"[\{\}\[\]",:tfn0-9.eE \\u+-]{0,20}"#) {
            let valid = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(syntax_error(text.as_bytes()).is_none(), valid, "{}", text);
        }
    }
}
