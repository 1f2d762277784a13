//! [`FieldSet`]: a set of fields, as `metadata.managedFields` spells it (`FieldsV1`).

use std::{collections::BTreeMap, fmt::Write};

use serde_json::Value;

use super::{
    schema::{Form, Shape},
    tape::{Item, Tape, write_string},
};
use crate::decode::SPELLED;

/// A set of paths to fields.
///
/// A path's elements are spelled as in `FieldsV1`: `f:` and the name of a field, `k:` and the keys
/// of a list's element, `v:` and an element of a list that is a set, `i:` and a position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    pub(super) entries: BTreeMap<String, Entry>,
}

/// What a set says of an element and what is below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Whether the path that ends here is in the set.
    pub(super) member: bool,
    /// What of the paths below is in the set.
    pub(super) children: FieldSet,
}

/// Text that is not `FieldsV1`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a set of fields: {0}")]
pub struct BadFields(pub(super) String);

impl Entry {
    pub(super) const MEMBER: Entry = Entry {
        member: true,
        children: FieldSet {
            entries: BTreeMap::new(),
        },
    };

    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }
}

impl FieldSet {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a path is in it.
    pub fn has(&self, path: &[String]) -> bool {
        let Some((first, rest)) = path.split_first() else {
            return false;
        };
        self.entries.get(first).is_some_and(|entry| {
            if rest.is_empty() {
                entry.member
            } else {
                entry.children.has(rest)
            }
        })
    }

    /// Adds a path.
    pub fn insert(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let entry = self.entries.entry((*first).to_owned()).or_default();
        if rest.is_empty() {
            entry.member = true;
        } else {
            entry.children.insert(rest);
        }
    }

    pub(super) fn put(&mut self, element: String, entry: Entry) {
        if !entry.is_empty() {
            self.entries.insert(element, entry);
        }
    }

    /// What is in either.
    #[must_use]
    pub fn union(mut self, other: FieldSet) -> FieldSet {
        if self.is_empty() {
            return other;
        }
        for (element, theirs) in other.entries {
            let ours = self.entries.entry(element).or_default();
            ours.member |= theirs.member;
            ours.children = std::mem::take(&mut ours.children).union(theirs.children);
        }
        self
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &FieldSet) -> FieldSet {
        let mut out = FieldSet::default();
        for (element, ours) in &self.entries {
            if let Some(theirs) = other.entries.get(element) {
                out.put(
                    element.clone(),
                    Entry {
                        member: ours.member && theirs.member,
                        children: ours.children.intersection(&theirs.children),
                    },
                );
            }
        }
        out
    }

    /// Takes out what is in another set; not what is below it.
    pub fn subtract(&mut self, other: &FieldSet) {
        for (element, theirs) in &other.entries {
            if let Some(ours) = self.entries.get_mut(element) {
                ours.member &= !theirs.member;
                ours.children.subtract(&theirs.children);
                if ours.is_empty() {
                    self.entries.remove(element);
                }
            }
        }
    }

    /// Takes out what is in another set and all that is below it.
    pub fn subtract_below(&mut self, other: &FieldSet) {
        for (element, theirs) in &other.entries {
            if theirs.member {
                self.entries.remove(element);
            } else if let Some(ours) = self.entries.get_mut(element) {
                ours.children.subtract_below(&theirs.children);
                if ours.is_empty() {
                    self.entries.remove(element);
                }
            }
        }
    }

    /// All paths: at each level first what is in the set itself, as upstream tells them. Of paths that are very long in
    /// all, the first: a long key can be above many fields.
    pub fn paths(&self) -> Vec<Vec<String>> {
        let mut out = Vec::new();
        self.collect_paths(&mut Vec::new(), &mut out, &mut { SPELLED });
        out
    }

    fn collect_paths(&self, above: &mut Vec<String>, out: &mut Vec<Vec<String>>, room: &mut usize) {
        for (element, _) in self.entries.iter().filter(|(_, entry)| entry.member) {
            if *room == 0 {
                return;
            }
            above.push(element.clone());
            let length: usize = above.iter().map(String::len).sum();
            *room = room.saturating_sub(length);
            out.push(above.clone());
            above.pop();
        }
        for (element, entry) in &self.entries {
            above.push(element.clone());
            entry.children.collect_paths(above, out, room);
            above.pop();
        }
    }

    /// With the fields of objects on the way to a path in the set as well: who takes out all that
    /// was set in an object takes the object out too.
    pub(super) fn with_named_parents(&self, shape: &Shape) -> FieldSet {
        let form = shape.form();
        let mut out = FieldSet::default();
        for (element, entry) in &self.entries {
            let (named, below) = match (&form, element.split_at_checked(2)) {
                (Form::Map(map), Some(("f:", name))) => {
                    let field = map.field(name.as_bytes());
                    let below = field.map(|f| &f.shape).or(map.element.as_ref());
                    (field.is_some(), below.unwrap_or(&Shape::Untyped))
                }
                (Form::List(list), Some(("k:", _))) => (false, &list.element),
                _ => (false, &Shape::Untyped),
            };
            let children = entry.children.with_named_parents(below);
            let member = entry.member || (named && !entry.children.is_empty());
            out.put(element.clone(), Entry { member, children });
        }
        out
    }

    /// What was owned field by field before its type became one value is owned as one value.
    pub(super) fn reconciled(self, shape: &Shape) -> FieldSet {
        let form = shape.form();
        let mut out = FieldSet::default();
        for (element, entry) in self.entries {
            let below = match (&form, element.split_at_checked(2)) {
                (Form::Map(map), Some(("f:", name))) => map.below(name.as_bytes()),
                (Form::List(list), Some(_)) => &list.element,
                _ => &Shape::Untyped,
            };
            let whole = match below.form() {
                Form::Map(map) => map.atomic,
                Form::List(list) => list.is_atomic(),
                _ => false,
            };
            let entry = if whole && !entry.children.is_empty() {
                Entry::MEMBER
            } else {
                Entry {
                    member: entry.member,
                    children: entry.children.reconciled(below),
                }
            };
            out.put(element, entry);
        }
        out
    }

    /// Appends it as `FieldsV1`.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.write_entry(false, out);
    }

    fn write_entry(&self, member: bool, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut first = true;
        if member && !self.is_empty() {
            out.extend_from_slice(b"\".\":{}");
            first = false;
        }
        for (element, entry) in &self.entries {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            write_string(element, out);
            out.push(b':');
            entry.children.write_entry(entry.member, out);
        }
        out.push(b'}');
    }

    /// Reads `FieldsV1` that [`FieldSet::write`] wrote, or any other.
    ///
    /// # Errors
    ///
    /// For anything that is not `FieldsV1`.
    pub fn parse(json: &[u8]) -> Result<FieldSet, BadFields> {
        let bad = || BadFields(String::from_utf8_lossy(json).into_owned());
        let tape = Tape::new(json).ok_or_else(bad)?;
        Ok(read(tape.root())?.children)
    }

    /// Reads `FieldsV1`.
    ///
    /// # Errors
    ///
    /// For anything that is not `FieldsV1`.
    pub fn from_value(value: &Value) -> Result<FieldSet, BadFields> {
        FieldSet::parse(value.to_string().as_bytes())
    }
}

fn read(item: Item<'_>) -> Result<Entry, BadFields> {
    if !item.is_object() {
        let text = String::from_utf8_lossy(item.bytes()).into_owned();
        return Err(BadFields(format!("expected an object, got {text}")));
    }
    let mut entry = Entry::default();
    let mut any = false;
    for child in item.children() {
        any = true;
        if child.raw_key() == b"." {
            entry.member = true;
            continue;
        }
        let element = element(&child.key())?;
        let mut below = read(child)?;
        // Nothing below means that the path itself is meant.
        below.member |= below.children.is_empty();
        entry.children.put(element, below);
    }
    entry.member |= !any;
    Ok(entry)
}

/// An element of a path in its canonical spelling.
fn element(text: &str) -> Result<String, BadFields> {
    let bad = || BadFields(format!("invalid path element {text:?}"));
    let parse = |json: &str| serde_json::from_str::<Value>(json).map_err(|_| bad());
    match text.split_at_checked(2) {
        Some(("f:", _)) => Ok(text.to_owned()),
        Some(("k:", keys)) => match parse(keys)? {
            Value::Object(keys) => Ok(format!("k:{}", Value::Object(keys))),
            _ => Err(bad()),
        },
        Some(("v:", value)) => Ok(format!("v:{}", parse(value)?)),
        Some(("i:", index)) => {
            let index: i64 = index.parse().map_err(|_| bad())?;
            Ok(format!("i:{index}"))
        }
        _ => Err(bad()),
    }
}

/// A path as upstream spells it for people: `.spec.containers[name="a"].image`.
pub(super) fn spell(path: &[String]) -> String {
    path.iter().map(|element| spell_element(element)).collect()
}

pub(super) fn spell_element(element: &str) -> String {
    let mut out = String::new();
    match element.split_at_checked(2) {
        Some(("f:", name)) => {
            let _ = write!(out, ".{name}");
        }
        Some(("k:", keys)) => {
            let keys: BTreeMap<String, Value> = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let _ = write!(out, "[{}]", keys.join(","));
        }
        Some(("v:", value)) => {
            let _ = write!(out, "[={value}]");
        }
        Some((_, index)) => {
            let _ = write!(out, "[{index}]");
        }
        None => {}
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(set: &FieldSet) -> String {
        let mut out = Vec::new();
        set.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn parse(text: &str) -> FieldSet {
        FieldSet::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn long_paths_are_told_a_few_times() {
        let long = "x".repeat(1 << 20);
        let fields: Vec<String> = (0..10_000).map(|i| format!("\"f:k{i}\":{{}}")).collect();
        let set = parse(&format!("{{\"f:{long}\":{{{}}}}}", fields.join(",")));
        let paths = set.paths();
        assert!((1..10).contains(&paths.len()), "{}", paths.len());
        assert_eq!(paths[0][1], "f:k0");
    }

    #[test]
    fn fields_v1_is_read_and_written() {
        let spelled = r#"{"f:metadata":{"f:labels":{".":{},"f:a":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"x\"}":{".":{},"f:image":{}}},"f:finalizers":{"v:\"a\"":{}}}}"#;
        let set = parse(spelled);
        assert_eq!(text(&set), spelled);
        let paths: Vec<String> = set.paths().iter().map(|p| spell(p)).collect();
        assert_eq!(
            paths,
            [
                ".metadata.labels",
                ".metadata.labels.a",
                r#".spec.containers[name="x"]"#,
                r#".spec.containers[name="x"].image"#,
                r#".spec.finalizers[="a"]"#,
            ]
        );
    }

    #[test]
    fn keys_are_read_in_any_order() {
        let other = parse(r#"{"f:ports":{"k:{\"protocol\":\"TCP\", \"containerPort\":80}":{}}}"#);
        assert_eq!(
            spell(&other.paths()[0]),
            r#".ports[containerPort=80,protocol="TCP"]"#
        );
    }

    #[test]
    fn what_is_not_fields_v1_is_refused() {
        for text in [
            "[]",
            "{\"x\":{}}",
            "{\"f:a\":1}",
            "{\"k:1\":{}}",
            "{",
            "{\"i:x\":{}}",
        ] {
            assert!(FieldSet::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn below_a_path_is_not_the_path() {
        let mut set = parse(r#"{"f:a":{".":{},"f:b":{}}}"#);
        set.subtract(&parse(r#"{"f:a":{}}"#));
        assert_eq!(text(&set), r#"{"f:a":{"f:b":{}}}"#);
        set.subtract_below(&parse(r#"{"f:a":{}}"#));
        assert!(set.is_empty());
    }

    fn sets() -> impl Strategy<Value = FieldSet> {
        let path = prop::collection::vec("[abc]", 1..4);
        prop::collection::vec(path, 0..6).prop_map(|paths| {
            let mut set = FieldSet::default();
            for path in paths {
                let path: Vec<String> = path.iter().map(|e| format!("f:{e}")).collect();
                set.insert(&path.iter().map(String::as_str).collect::<Vec<_>>());
            }
            set
        })
    }

    proptest! {
        #[test]
        fn the_operations_are_those_of_sets_of_paths(a in sets(), b in sets()) {
            use std::collections::BTreeSet;
            let paths = |s: &FieldSet| s.paths().into_iter().collect::<BTreeSet<_>>();
            let (pa, pb) = (paths(&a), paths(&b));
            prop_assert_eq!(paths(&a.clone().union(b.clone())), &pa | &pb);
            prop_assert_eq!(paths(&a.intersection(&b)), &pa & &pb);
            let mut difference = a.clone();
            difference.subtract(&b);
            prop_assert_eq!(paths(&difference), &pa - &pb);
            let mut below = a.clone();
            below.subtract_below(&b);
            let expected: BTreeSet<_> = pa.iter()
                .filter(|p| !pb.iter().any(|q| p.starts_with(q))).cloned().collect();
            prop_assert_eq!(paths(&below), expected);
            prop_assert_eq!(FieldSet::parse(text(&a).as_bytes()).unwrap(), a);
        }
    }
}
