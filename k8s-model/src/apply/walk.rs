//! Which fields objects have, and in which they differ.

use std::{borrow::Cow, collections::HashMap};

use super::{
    schema::{Key, List, Map, Relation, Shape, Treat},
    set::{Entry, FieldSet},
    tape::Item,
};

/// In what an object differs from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

impl Comparison {
    pub(super) fn is_same(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }

    pub(super) fn sets(&mut self) -> [&mut FieldSet; 3] {
        [&mut self.added, &mut self.modified, &mut self.removed]
    }
}

/// What a value is compared with where it is compared with nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// There is no such field.
    Absent,
    /// There is one that nobody set: upstream's types write it all the same.
    Zero,
}

/// The element of a path to an element of a list, or nothing where the element lacks a key.
pub(super) fn list_element(list: &List, item: Item<'_>) -> Option<String> {
    match &list.relation {
        Relation::Set => {
            let scalar = !item.is_object() && !item.is_array() && !item.is_null();
            scalar.then(|| format!("v:{}", String::from_utf8_lossy(item.bytes())))
        }
        Relation::Keys(keys) if item.is_object() => keyed(keys, |_, key| {
            let value = item.member(key.name.as_bytes())?;
            Some(String::from_utf8_lossy(value.bytes()))
        }),
        Relation::Keys(_) | Relation::Atomic => None,
    }
}

/// The element of a path to an element of a list that has these values of its keys, as JSON; nothing where it lacks one.
pub(super) fn keyed<'v>(
    keys: &[Key],
    value: impl Fn(usize, &Key) -> Option<Cow<'v, str>>,
) -> Option<String> {
    let mut out = String::with_capacity(32);
    out.push_str("k:{");
    for (at, key) in keys.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.extend(["\"", &key.name, "\":"]);
        match value(at, key) {
            Some(value) => out.push_str(&value),
            None => out.push_str(key.default.as_deref()?),
        }
    }
    out.push('}');
    Some(out)
}

fn field_element(item: Item<'_>) -> String {
    let key = item.key();
    let mut out = String::with_capacity(key.len() + 2);
    out.push_str("f:");
    out.push_str(&key);
    out
}

fn treat<'s>(shape: &'s Shape, item: Item<'_>) -> Treat<'s> {
    shape.treat(item.is_object(), item.is_array())
}

/// How many elements are compared one by one.
const SHORT_LIST: usize = 16;

/// The elements of a list that stand for themselves, and those that appear more than once.
fn elements<'t>(list: &List, item: Item<'t>) -> Vec<(String, Vec<Item<'t>>)> {
    let mut out: Vec<(String, Vec<Item<'t>>)> = Vec::new();
    // Most lists are short: a map of what is known is only made for the others.
    let mut known: HashMap<String, usize> = HashMap::new();
    for child in item.children() {
        let Some(element) = list_element(list, child) else {
            continue;
        };
        if out.len() == SHORT_LIST {
            known = out
                .iter()
                .enumerate()
                .map(|(at, (element, _))| (element.clone(), at))
                .collect();
        }
        let at = if out.len() < SHORT_LIST {
            out.iter().position(|(known, _)| *known == element)
        } else {
            known.get(&element).copied()
        };
        match at {
            Some(at) => out[at].1.push(child),
            None => {
                if out.len() >= SHORT_LIST {
                    known.insert(element.clone(), out.len());
                }
                out.push((element, vec![child]));
            }
        }
    }
    out
}

/// What of a value somebody owns who set it where there was nothing (or zero).
pub(super) fn set_where_nothing_was(item: Item<'_>, shape: &Shape, before: Before) -> Entry {
    let absent = before == Before::Absent;
    match treat(shape, item) {
        Treat::Map(map) if !item.is_empty() => {
            let mut entry = Entry {
                member: absent,
                ..Entry::default()
            };
            for child in item.children() {
                let (shape, before) = below(map, child, before);
                let child_entry = set_where_nothing_was(child, shape, before);
                entry.children.put(field_element(child), child_entry);
            }
            entry
        }
        Treat::List(list) if !item.is_empty() => {
            let mut entry = Entry {
                member: absent,
                ..Entry::default()
            };
            for (element, items) in elements(list, item) {
                let child = match items.as_slice() {
                    [one] => set_where_nothing_was(*one, &list.element, Before::Absent),
                    // What is there twice is owned as a whole.
                    _ => Entry::MEMBER,
                };
                entry.children.put(element, child);
            }
            entry
        }
        _ => Entry {
            member: absent || !is_unset(item, shape),
            ..Entry::default()
        },
    }
}

/// Whether it is what upstream writes where nobody set anything: of a list and of what may be anything, which are `null`
/// then, an empty one is not.
fn is_unset(item: Item<'_>, shape: &Shape) -> bool {
    let is_something = item.is_array() || (item.is_object() && shape.is_anything());
    item.is_zero() && !is_something
}

fn below<'m>(map: &'m Map, child: Item<'_>, before: Before) -> (&'m Shape, Before) {
    match map.field(child.raw_key()) {
        Some(field) if field.always => (&field.shape, before),
        Some(field) => (&field.shape, Before::Absent),
        None => (map.below(child.raw_key()), Before::Absent),
    }
}

/// In what an object differs from what it was.
pub(super) fn compare(old: Item<'_>, new: Item<'_>, shape: &Shape) -> Comparison {
    let mut difference = Difference::default();
    difference.compare(old, new, shape);
    Comparison {
        added: difference.added.children,
        modified: difference.modified.children,
        removed: difference.removed.children,
    }
}

/// What differs in a value and below it.
#[derive(Default)]
struct Difference {
    added: Entry,
    modified: Entry,
    removed: Entry,
}

impl Difference {
    fn put(&mut self, element: &str, child: Difference) {
        for (ours, theirs) in [
            (&mut self.added, child.added),
            (&mut self.modified, child.modified),
            (&mut self.removed, child.removed),
        ] {
            if !theirs.is_empty() {
                ours.children.put(element.to_owned(), theirs);
            }
        }
    }

    fn compare(&mut self, old: Item<'_>, new: Item<'_>, shape: &Shape) {
        if old.bytes() == new.bytes() {
            return;
        }
        if old.is_empty() && new.is_empty() {
            self.modified.member = true;
            return;
        }
        match (treat(shape, old), treat(shape, new)) {
            (Treat::Map(map), Treat::Map(_)) => self.maps(old, new, map),
            (Treat::List(list), Treat::List(_)) => self.lists(old, new, list),
            // Nothing is a map or a list with nothing in it.
            (Treat::Map(map), _) if new.is_null() => self.maps(old, new, map),
            (_, Treat::Map(map)) if old.is_null() => self.maps(old, new, map),
            (Treat::List(list), _) if new.is_null() => self.lists(old, new, list),
            (_, Treat::List(list)) if old.is_null() => self.lists(old, new, list),
            _ => self.modified.member = true,
        }
    }

    fn maps(&mut self, old: Item<'_>, new: Item<'_>, map: &Map) {
        let mut before = Lookup::new(old);
        for child in new.children() {
            let key = child.raw_key();
            let mut difference = Difference::default();
            match before.take(key) {
                Some(old) => difference.compare(old, child, map.below(key)),
                None => {
                    let (shape, before) = below(map, child, Before::Zero);
                    difference.added = set_where_nothing_was(child, shape, before);
                }
            }
            if !difference.is_empty() {
                self.put(&field_element(child), difference);
            }
        }
        for child in before.rest() {
            let (shape, before) = below(map, child, Before::Zero);
            let removed = set_where_nothing_was(child, shape, before);
            let difference = Difference {
                removed,
                ..Difference::default()
            };
            self.put(&field_element(child), difference);
        }
    }

    fn lists(&mut self, old: Item<'_>, new: Item<'_>, list: &List) {
        let mut before: HashMap<String, Vec<Item<'_>>> = elements(list, old).into_iter().collect();
        for (element, items) in elements(list, new) {
            let mut difference = Difference::default();
            match (before.remove(&element).as_deref(), items.as_slice()) {
                (Some([old]), [new]) => difference.compare(*old, *new, &list.element),
                (Some(old), new) => {
                    let same = old.len() == new.len()
                        && old.iter().zip(new).all(|(a, b)| a.bytes() == b.bytes());
                    difference.modified.member = !same;
                }
                (None, [new]) => {
                    difference.added = set_where_nothing_was(*new, &list.element, Before::Absent);
                }
                (None, _) => difference.added.member = true,
            }
            self.put(&element, difference);
        }
        for (element, items) in before {
            let removed = match items.as_slice() {
                [one] => set_where_nothing_was(*one, &list.element, Before::Absent),
                _ => Entry::MEMBER,
            };
            let difference = Difference {
                removed,
                ..Difference::default()
            };
            self.put(&element, difference);
        }
    }

    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }
}

/// Finds the members of an object, the fastest in the order in which they stand.
struct Lookup<'t> {
    items: Vec<Option<Item<'t>>>,
    next: usize,
    by_key: Option<HashMap<&'t [u8], usize>>,
}

impl<'t> Lookup<'t> {
    fn new(object: Item<'t>) -> Self {
        Lookup {
            items: object.children().map(Some).collect(),
            next: 0,
            by_key: None,
        }
    }

    fn take(&mut self, key: &[u8]) -> Option<Item<'t>> {
        // Both objects come from one serializer, so the wanted one is the next or not far.
        let near = self.items.iter().enumerate().skip(self.next).take(4);
        let mut found = near
            .filter(|(_, item)| item.is_some_and(|item| item.raw_key() == key))
            .map(|(at, _)| at)
            .next();
        if found.is_none() {
            let items = &self.items;
            let by_key = self.by_key.get_or_insert_with(|| {
                let some = |(at, item): (usize, &Option<Item<'t>>)| Some(((*item)?.raw_key(), at));
                items.iter().enumerate().filter_map(some).collect()
            });
            found = by_key.get(key).copied();
        }
        let at = found?;
        self.next = at + 1;
        self.items[at].take()
    }

    fn rest(self) -> impl Iterator<Item = Item<'t>> {
        self.items.into_iter().flatten()
    }
}

/// All fields of a value, as whoever applies it owns them.
pub(super) fn fields_of(value: Item<'_>, shape: &Shape) -> FieldSet {
    applied(value, shape).children
}

fn applied(item: Item<'_>, shape: &Shape) -> Entry {
    match treat(shape, item) {
        Treat::Map(map) => {
            let mut entry = Entry::default();
            for child in item.children() {
                let key = child.raw_key();
                let mut below = applied(child, map.below(key));
                let nothing = child.is_null() || child.bytes() == b"{}";
                below.member |= nothing || map.field(key).is_none();
                entry.children.put(field_element(child), below);
            }
            entry
        }
        Treat::List(list) => {
            let mut entry = Entry::default();
            for (element, items) in elements(list, item) {
                let mut below = match items.as_slice() {
                    [one] => applied(*one, &list.element),
                    _ => Entry::default(),
                };
                below.member = true;
                entry.children.put(element, below);
            }
            entry
        }
        Treat::Leaf => {
            // Nothing in place of a map or a list is nobody's.
            let nothing = item.is_null() && matches!(shape.treat(true, false), Treat::Map(_))
                || item.is_null() && matches!(shape.treat(false, true), Treat::List(_));
            if nothing {
                Entry::default()
            } else {
                Entry::MEMBER
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{apply::tape::Tape, schema::Type};

    fn text(set: &FieldSet) -> Value {
        let mut out = Vec::new();
        set.write(&mut out);
        serde_json::from_slice(&out).unwrap()
    }

    fn shape(group: &str, kind: &str) -> Shape {
        Shape::Type(Type::of_kind(group, "v1", kind).unwrap())
    }

    fn differ(old: &Value, new: &Value, shape: &Shape) -> [Value; 3] {
        let (old, new) = (old.to_string(), new.to_string());
        let (old, new) = (
            Tape::new(old.as_bytes()).unwrap(),
            Tape::new(new.as_bytes()).unwrap(),
        );
        let found = compare(old.root(), new.root(), shape);
        [
            text(&found.added),
            text(&found.modified),
            text(&found.removed),
        ]
    }

    #[test]
    fn objects_differ_field_by_field() {
        let pod = shape("", "Pod");
        let found = differ(
            &json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": [
                {"name": "x", "image": "1"}, {"name": "y"}], "tolerations": [{"key": "a"}]}}),
            &json!({"metadata": {"labels": {"a": "1", "c": "2"}}, "spec": {"containers": [
                {"name": "z", "tty": true}, {"name": "x", "image": "2"}], "tolerations": [{"key": "b"}]}}),
            &pod,
        );
        let [added, modified, removed] = found;
        assert_eq!(
            added,
            json!({"f:metadata": {"f:labels": {"f:c": {}}}, "f:spec": {"f:containers":
                {"k:{\"name\":\"z\"}": {".": {}, "f:name": {}, "f:tty": {}}}}})
        );
        assert_eq!(
            modified,
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"x\"}": {"f:image": {}}}, "f:tolerations": {}}})
        );
        assert_eq!(
            removed,
            json!({"f:metadata": {"f:labels": {"f:b": {}}}, "f:spec": {"f:containers":
                {"k:{\"name\":\"y\"}": {".": {}, "f:name": {}}}}})
        );
    }

    #[test]
    fn a_moved_element_is_the_same_element() {
        let pod = shape("", "Pod");
        let a = json!({"spec": {"containers": [{"name": "x"}, {"name": "y"}]}});
        let b = json!({"spec": {"containers": [{"name": "y"}, {"name": "x"}]}});
        assert_eq!(differ(&a, &b, &pod), [json!({}), json!({}), json!({})]);
    }

    #[test]
    fn a_map_that_becomes_nothing_loses_what_was_in_it() {
        let map = shape("", "ConfigMap");
        let found = differ(&json!({"data": {"a": "1"}}), &json!({"data": null}), &map);
        assert_eq!(
            found,
            [json!({}), json!({}), json!({"f:data": {"f:a": {}}})]
        );
        let found = differ(&json!({"data": {}}), &json!({"data": null}), &map);
        assert_eq!(found, [json!({}), json!({"f:data": {}}), json!({})]);
    }

    #[test]
    fn what_is_there_twice_is_one_value() {
        let pod = shape("", "Pod");
        let env = |v: &str| {
            json!({"spec": {"containers": [{"name": "x", "env": [
                {"name": "a", "value": "1"}, {"name": "a", "value": v}]}]}})
        };
        let [added, modified, removed] = differ(&env("1"), &env("2"), &pod);
        assert_eq!((added, removed), (json!({}), json!({})));
        assert_eq!(
            modified,
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"x\"}":
                {"f:env": {"k:{\"name\":\"a\"}": {}}}}}})
        );
    }

    #[test]
    fn an_applier_owns_leaves_and_elements() {
        let json = json!({"metadata": {"labels": {"a": "1"}, "creationTimestamp": null},
            "spec": {"template": {"spec": {"containers": [{"name": "x", "resources": {}}]}}}})
        .to_string();
        let tape = Tape::new(json.as_bytes()).unwrap();
        assert_eq!(
            text(&fields_of(tape.root(), &shape("apps", "Deployment"))),
            json!({"f:metadata": {"f:creationTimestamp": {}, "f:labels": {"f:a": {}}},
                "f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"x\"}":
                    {".": {}, "f:name": {}, "f:resources": {}}}}}}})
        );
    }

    #[test]
    fn long_lists_are_matched_by_their_keys_too() {
        let pod = shape("", "Pod");
        let containers = |twice: bool| {
            let mut all: Vec<Value> = (0..40).map(|i| json!({"name": format!("c{i}")})).collect();
            if twice {
                all.push(json!({"name": "c3"}));
                all.push(json!({"name": "c30"}));
            }
            json!({"spec": {"containers": all}})
        };
        let [added, modified, removed] = differ(&containers(false), &containers(true), &pod);
        assert_eq!((added, removed), (json!({}), json!({})));
        assert_eq!(
            modified,
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"c3\"}": {}, "k:{\"name\":\"c30\"}": {}}}})
        );
    }

    #[test]
    fn many_members_in_any_order_are_found() {
        let object = |reverse: bool| {
            let mut keys: Vec<usize> = (0..100).collect();
            if reverse {
                keys.reverse();
            }
            let members: Vec<String> = keys.iter().map(|k| format!("\"{k}\":\"v\"")).collect();
            format!("{{\"data\":{{{}}}}}", members.join(","))
        };
        let (a, b) = (object(false), object(true));
        let (a, b) = (
            Tape::new(a.as_bytes()).unwrap(),
            Tape::new(b.as_bytes()).unwrap(),
        );
        assert!(compare(a.root(), b.root(), &shape("", "ConfigMap")).is_same());
    }
}
