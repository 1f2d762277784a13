//! [`without_unset`]: what upstream's JSON leaves out.
//!
//! In clients in Go, and so in what upstream stores, an empty list, map or text and a zero are not
//! told from what is not there, unless the field is a pointer or is always written. The table of
//! messages knows which fields those are. It also knows the times without which the types in Rust
//! cannot be: what leaves one out gets a `null`, which the decoder takes for the zero of times. So does a `null` in a list
//! of such types, which is one that leaves out all.

use memchr::memchr2;

use super::{
    MessageType,
    table::{Field, Kind, Message, Special},
};
use crate::pieces::Nothing;

/// How deep messages may lie in each other; what is deeper is left as it is.
const DEPTH: u8 = 100;

/// The JSON of an object without the fields that hold nothing, and with the times that must be there; nothing if it is
/// so already, or if the text is no JSON, which is for the decoder to say.
pub(crate) fn without_unset(message: MessageType, json: &[u8]) -> Option<Vec<u8>> {
    let mut walk = Walk {
        json,
        at: 0,
        edits: Vec::new(),
    };
    walk.space();
    walk.message(message.table(), DEPTH)?;
    if walk.edits.is_empty() {
        return None;
    }
    let mut out = Vec::with_capacity(json.len());
    let mut from = 0;
    for edit in walk.edits {
        out.extend_from_slice(&json[from..edit.start]);
        out.extend_from_slice(edit.text.as_bytes());
        from = edit.end;
    }
    out.extend_from_slice(&json[from..]);
    Some(out)
}

/// One way through the text. Its methods give nothing where it is no JSON.
struct Walk<'j> {
    json: &'j [u8],
    at: usize,
    /// What is to go or to come, in order.
    edits: Vec<Edit>,
}

/// A piece of the text, and what comes in its place.
struct Edit {
    start: usize,
    end: usize,
    text: &'static str,
}

impl Edit {
    fn cut(start: usize, end: usize) -> Self {
        let text = "";
        Edit { start, end, text }
    }
}

impl<'j> Walk<'j> {
    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        if self.peek()? != byte {
            return None;
        }
        self.at += 1;
        self.space();
        Some(())
    }

    /// An object whose members are a message's fields.
    fn message(&mut self, message: &'static Message, depth: u8) -> Option<()> {
        if message.special == Special::SchemaOr {
            // An object is the schema; it is skipped if it is not one.
            let schema = message.fields.iter().find_map(|field| match field.kind {
                Kind::Message(schema) => Some(schema.get()),
                _ => None,
            });
            return match schema {
                Some(schema) => self.message(schema, depth),
                None => self.skip(),
            };
        }
        if message.special != Special::No || self.peek()? != b'{' || depth == 0 {
            return self.skip();
        }
        let (begin, edits) = (self.at + 1, self.edits.len());
        let mut needed = message.needed;
        self.take(b'{')?;
        // Where the comma is that follows the last member that stays.
        let mut comma = None;
        while self.peek()? != b'}' {
            let start = self.at;
            let name = self.text()?;
            self.space();
            self.take(b':')?;
            needed = needed.filter(|text| !is_named(text, name));
            let value = self.at;
            let field = name.filter(|_| self.may_be_unset());
            let field = field.and_then(|name| message.member(std::str::from_utf8(name).ok()?));
            match field {
                Some(field) => self.field(field, depth)?,
                None => self.skip()?,
            }
            let end = self.at;
            let goes = field.is_some_and(|field| is_unset(field, &self.json[value..end]));
            self.space();
            let is_last = self.peek()? != b',';
            let after = self.at;
            if !is_last {
                self.take(b',')?;
                // A comma before the end is for the decoder to refuse.
                if self.peek()? == b'}' {
                    return None;
                }
            }
            match (goes, is_last) {
                (false, _) => comma = Some(after),
                (true, false) => self.edits.push(Edit::cut(start, self.at)),
                (true, true) => {
                    // The comma before it goes too, and with it what went in between.
                    let start = comma.unwrap_or(start);
                    while self.edits.pop_if(|edit| edit.start > start).is_some() {}
                    self.edits.push(Edit::cut(start, end));
                }
            }
            if is_last {
                break;
            }
        }
        if let Some(text) = needed {
            let text = match comma {
                Some(_) => text,
                None => text.trim_end_matches(','),
            };
            let (start, end) = (begin, begin);
            self.edits.insert(edits, Edit { start, end, text });
        }
        self.close(b'}')
    }

    /// Whether the value here, or something in it, may hold nothing: most names need not be looked up.
    fn may_be_unset(&self) -> bool {
        match self.peek() {
            Some(b'{' | b'[' | b'0' | b'f') => true,
            Some(b'"') => self.json.get(self.at + 1) == Some(&b'"'),
            _ => false,
        }
    }

    fn field(&mut self, field: &Field, depth: u8) -> Option<()> {
        match field.kind {
            Kind::Message(message) if !field.repeated => self.message(message.get(), depth - 1),
            Kind::Message(message) if self.peek()? == b'[' => {
                self.take(b'[')?;
                while self.peek()? != b']' {
                    self.element(message.get(), depth - 1)?;
                    self.space();
                    if self.peek()? != b',' {
                        break;
                    }
                    self.take(b',')?;
                }
                self.close(b']')
            }
            Kind::MessageMap(message) if self.peek()? == b'{' => {
                self.take(b'{')?;
                while self.peek()? != b'}' {
                    self.text()?;
                    self.space();
                    self.take(b':')?;
                    self.element(message.get(), depth - 1)?;
                    self.space();
                    if self.peek()? != b',' {
                        break;
                    }
                    self.take(b',')?;
                }
                self.close(b'}')
            }
            _ => self.skip(),
        }
    }

    /// A message in a list or map: nothing is the same there as one without fields.
    fn element(&mut self, message: &'static Message, depth: u8) -> Option<()> {
        let start = self.at;
        self.message(message, depth)?;
        if let Some(text) = message.needed
            && &self.json[start..self.at] == b"null"
        {
            let end = self.at;
            let put = |start, end, text| Edit { start, end, text };
            self.edits.push(put(start, start, "{"));
            self.edits.push(put(start, end, text.trim_end_matches(',')));
            self.edits.push(put(end, end, "}"));
        }
        Some(())
    }

    /// The end of an object or list, without the space behind it.
    fn close(&mut self, byte: u8) -> Option<()> {
        if self.peek()? != byte {
            return None;
        }
        self.at += 1;
        Some(())
    }

    /// A text; nothing within if it has escapes, which no field's name has.
    fn text(&mut self) -> Option<Option<&'j [u8]>> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at + 1;
        let mut end = start;
        let mut plain = true;
        loop {
            end += memchr2(b'"', b'\\', self.json.get(end..)?)?;
            if self.json[end] == b'"' {
                break;
            }
            plain = false;
            end += 2;
        }
        self.at = end + 1;
        Some(plain.then_some(&self.json[start..end]))
    }

    /// Any value.
    fn skip(&mut self) -> Option<()> {
        let mut open = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.text()?;
                }
                b'{' | b'[' => {
                    open += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    open = open.checked_sub(1)?;
                    self.at += 1;
                }
                b' ' | b'\n' | b'\t' | b'\r' | b',' | b':' if open > 0 => self.at += 1,
                byte if byte.is_ascii_alphanumeric() || byte == b'-' => {
                    let rest = &self.json[self.at..];
                    let is_part =
                        |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
                    self.at += rest.iter().take_while(|b| is_part(b)).count();
                }
                _ => return None,
            }
            if open == 0 {
                return Some(());
            }
        }
    }
}

/// Whether a member `"name":…` has that name.
fn is_named(member: &str, name: Option<&[u8]>) -> bool {
    let rest = member.as_bytes().strip_prefix(b"\"");
    rest.zip(name)
        .is_some_and(|(rest, name)| rest.starts_with(name) && rest.get(name.len()) == Some(&b'"'))
}

/// Whether a value is one that its field does not show.
fn is_unset(field: &Field, value: &[u8]) -> bool {
    let is_pair = |open: u8, close: u8| match value {
        [first, inner @ .., last] => {
            *first == open && *last == close && inner.iter().all(u8::is_ascii_whitespace)
        }
        _ => false,
    };
    match field.unset() {
        Some(Nothing::List) => is_pair(b'[', b']'),
        Some(Nothing::Object) => is_pair(b'{', b'}'),
        unset => unset.is_some_and(|unset| Nothing::of(value) == Some(unset)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn without(kind: &str, text: &str) -> Option<Vec<u8>> {
        let (api_version, kind) = kind.rsplit_once(' ').unwrap();
        without_unset(
            MessageType::of_kind(api_version, kind).unwrap(),
            text.as_bytes(),
        )
    }

    fn pod(text: &str) -> Value {
        let without = without("v1 Pod", text);
        let bytes = without.unwrap_or_else(|| text.as_bytes().to_vec());
        serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{e}: {text}"))
    }

    #[test]
    fn what_holds_nothing_goes_and_what_says_something_stays() {
        let found = pod(r#"{
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "labels": { }, "annotations": {"x": ""}, "finalizers": [
            ], "managedFields": []},
            "spec": {
                "hostNetwork": false, "hostname": "", "priority": 0, "nodeSelector": {},
                "containers": [
                    {"args": [], "name": "c", "command": ["", "false"], "ports": [{"hostPort": 0, "containerPort": 0}],
                     "resources": {}, "securityContext": {"privileged": false}, "tty": false}
                ],
                "tolerations": [], "enableServiceLinks": false, "volumes": [{"name": "", "emptyDir": {"medium": ""}}],
                "subdomain": ""
            },
            "status": {}
        }"#);
        assert_eq!(
            found,
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "a", "annotations": {"x": ""}, "managedFields": []},
                "spec": {
                    "priority": 0,
                    "containers": [
                        {"name": "c", "command": ["", "false"], "ports": [{"containerPort": 0}],
                         "resources": {}, "securityContext": {"privileged": false}},
                    ],
                    "enableServiceLinks": false, "volumes": [{"name": "", "emptyDir": {}}],
                },
                "status": {},
            })
        );
    }

    #[test]
    fn a_text_without_such_fields_is_left_alone() {
        for text in [
            r#"{"metadata":{"name":"a"},"spec":{"containers":[{"name":"c"}]}}"#,
            r#"{"spec": {"containers": {}, "nodeSelector": [], "hostname": 0}, "unknown": {"a": []}}"#,
            "{}",
        ] {
            assert_eq!(without("v1 Pod", text), None, "{text}");
        }
    }

    #[test]
    fn no_policies_of_an_autoscaler_are_not_its_default() {
        let text = r#"{"spec":{"behavior":{"scaleUp":{"policies":[]}}}}"#;
        let kind = "autoscaling/v2 HorizontalPodAutoscaler";
        assert_eq!(without(kind, text), None);
    }

    #[test]
    fn a_time_that_is_an_object_is_left_to_the_decoder() {
        let text = r#"{"metadata":{"creationTimestamp":{}}}"#;
        assert_eq!(without("v1 Pod", text), None);
    }

    #[test]
    fn members_go_wherever_they_are() {
        let members = [
            r#""name":"a""#,
            r#""labels":{}"#,
            r#""finalizers":[]"#,
            r#""uid":"""#,
        ];
        for order in 0..24 {
            let mut left: Vec<&str> = members.to_vec();
            let mut number = order;
            let mut chosen = Vec::new();
            for size in (1..=4).rev() {
                chosen.push(left.remove(number % size));
                number /= size;
            }
            for count in 0..=4 {
                let text = format!(r#"{{"metadata": {{ {} }} }}"#, chosen[..count].join(" , "));
                let wanted = match chosen[..count].contains(&members[0]) {
                    true => json!({"metadata": {"name": "a"}}),
                    false => json!({"metadata": {}}),
                };
                assert_eq!(pod(&text), wanted, "{text}");
            }
        }
    }

    #[test]
    fn times_that_must_be_there_are_put_in() {
        let conditions = |items: &str| {
            let text = format!(r#"{{"status":{{"conditions":[{items}]}}}}"#);
            without("policy/v1 PodDisruptionBudget", &text).map(|bytes| {
                let text = String::from_utf8(bytes).unwrap();
                let _: Value = serde_json::from_str(&text).unwrap();
                text.replace(r#"{"status":{"conditions":["#, "")
                    .replace("]}}", "")
            })
        };
        let time = r#""lastTransitionTime":null"#;
        for (items, wanted) in [
            ("{}", format!("{{{time}}}")),
            (
                r#"{ "type" : "a" }"#,
                format!(r#"{{{time}, "type" : "a" }}"#),
            ),
            // Zeros go, and are all there is.
            (r#"{"observedGeneration":0}"#, format!("{{{time}}}")),
            (
                r#"{"type":"a","observedGeneration":0},{"lastTransitionTime":null}"#,
                format!(r#"{{{time},"type":"a"}},{{{time}}}"#),
            ),
            (
                r#"{"lastTransitionTimes":1},{"x":{}}"#,
                format!(r#"{{{time},"lastTransitionTimes":1}},{{{time},"x":{{}}}}"#),
            ),
            ("null", format!("{{{time}}}")),
            (
                r#"null , {"type":"a"}"#,
                format!(r#"{{{time}}} , {{{time},"type":"a"}}"#),
            ),
        ] {
            assert_eq!(conditions(items).as_deref(), Some(&*wanted), "{items}");
        }
        assert_eq!(conditions(r#"{"type":"a","lastTransitionTime":"b"}"#), None);
        assert_eq!(conditions("nul"), None);
    }

    #[test]
    fn what_is_no_json_is_left_to_the_decoder() {
        let text = r#"{"metadata": {"labels": {}, "name": "a\"b"}, "spec": {"containers": [{"args": []}]}}"#;
        for end in 0..text.len() {
            assert_eq!(without("v1 Pod", &text[..end]), None, "{end}");
        }
        for text in [
            r#"{"metadata": {"labels": {},}}"#,
            r#"{"metadata" {}}"#,
            "]",
            "{]",
        ] {
            assert_eq!(without("v1 Pod", text), None, "{text}");
        }
        let deep = r#"{"spec":"#.repeat(100_000);
        assert_eq!(without("v1 Pod", &deep), None);
    }

    #[test]
    fn schemas_lose_what_holds_nothing_too() {
        let text = r#"{"spec": {"versions": [{"schema": {"openAPIV3Schema": {
            "type": "object", "required": [], "default": [], "properties": {
                "a": {"type": "array", "format": "", "items": {"type": "string", "pattern": ""}}
            }}}}]}}"#;
        let without = without("apiextensions.k8s.io/v1 CustomResourceDefinition", text).unwrap();
        let found: Value = serde_json::from_slice(&without).unwrap();
        let schema = &found["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        let wanted = json!({"type": "object", "default": [], "properties": {
            "a": {"type": "array", "items": {"type": "string"}},
        }});
        assert_eq!(*schema, wanted);
    }
}
