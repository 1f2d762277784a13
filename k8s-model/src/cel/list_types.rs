//! Lists that are sets or maps (`x-kubernetes-list-type`): equal in any order, and merged where they are added.

use std::collections::{HashMap, HashSet};

use serde_json::Value as Json;

use super::{CelError, Val, members::Member};
use crate::structural::ListType;

/// A list that is a set or a map: one of the data, or what came of adding another to it.
#[derive(Clone, Debug)]
pub struct Merged<'v> {
    pub(super) elements: Vec<Val<'v>>,
    /// The fields that tell the elements of a map; none of a set.
    keys: &'v [String],
}

/// What tells an element from others.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Scalars(Vec<Option<Member>>),
    Other(String),
}

impl<'v> Merged<'v> {
    /// The value, if it is such a list.
    pub(super) fn of(value: &Val<'v>) -> Option<Self> {
        let (list, schema) = match value {
            Val::Json(Json::Array(list), Some(schema)) => (list, schema),
            Val::Merged(merged) => return Some((**merged).clone()),
            _ => return None,
        };
        let keys: &[String] = match schema.list_type? {
            ListType::Set => &[],
            ListType::Map => &schema.list_map_keys,
            ListType::Atomic => return None,
        };
        let items = schema.items.as_deref();
        Some(Merged {
            elements: list.iter().map(|json| Val::of(json, items)).collect(),
            keys,
        })
    }

    fn key(&self, element: &Val<'v>) -> Key {
        if !self.keys.is_empty() {
            let fields = self.keys.iter().map(|key| element.entry(key));
            return Key::Scalars(fields.map(|field| Member::of(&field?)).collect());
        }
        match Member::of(element) {
            Some(member) => Key::Scalars(vec![Some(member)]),
            None => Key::Other(match element {
                Val::Json(json, _) => json.to_string(),
                other => format!("{other:?}"),
            }),
        }
    }

    /// Refuses sets of anything that has parts, which cannot be compared and added as sets.
    pub(super) fn check(&self, other: &[Val<'v>]) -> Result<(), CelError> {
        let is_whole = |value: &Val<'v>| value.elements().is_none() && value.entries().is_none();
        if !self.keys.is_empty() || self.elements.iter().chain(other).all(is_whole) {
            return Ok(());
        }
        let text = "listSet operations are only supported on lists of scalar values";
        Err(CelError::Failed(text.to_owned()))
    }

    /// Whether another list has the same elements, in whatever order.
    pub(super) fn equals(&self, other: &[Val<'v>]) -> bool {
        if self.elements.len() != other.len() {
            return false;
        }
        let own: HashMap<Key, &Val<'v>> = self.elements.iter().map(|v| (self.key(v), v)).collect();
        let mut seen = HashSet::new();
        let all = other.iter().all(|element| {
            let key = self.key(element);
            let is_same = |own: &&Val<'v>| self.keys.is_empty() || own.equals(element);
            let found = own.get(&key).is_some_and(is_same);
            seen.insert(key);
            found
        });
        all && seen.len() == own.len()
    }

    /// With the elements of another list: those of a map take the place of what has the same key, what is in a set
    /// already is passed over, and the rest comes last, in its own order.
    pub(super) fn plus(mut self, other: Vec<Val<'v>>) -> Self {
        let places = self.elements.iter().enumerate();
        let mut places: HashMap<Key, usize> = places
            .map(|(at, element)| (self.key(element), at))
            .collect();
        for element in other {
            let key = self.key(&element);
            match places.get(&key) {
                Some(at) if !self.keys.is_empty() => self.elements[*at] = element,
                Some(_) => {}
                None => {
                    // As upstream: what is twice in the other list of a map comes twice.
                    if self.keys.is_empty() {
                        places.insert(key, self.elements.len());
                    }
                    self.elements.push(element);
                }
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        cel::{CALL_LIMIT, Program},
        structural::Schema,
    };

    #[test]
    fn sets_and_maps_are_compared_in_any_order_and_merged() {
        let element = json!({"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}});
        let map = json!({"type": "array", "items": element, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]});
        let text = json!({"type": "string"});
        let set = json!({"type": "array", "items": text, "x-kubernetes-list-type": "set"});
        let plain = json!({"type": "array", "items": text});
        let schema = json!({"type": "object", "properties": {"m": map, "n": map, "s": set, "t": set, "l": plain}});
        let schema = Schema::new(&serde_json::from_value(schema).unwrap());
        let value = json!({
            "m": [{"k": "a", "v": 1}, {"k": "b", "v": 2}],
            "n": [{"k": "b", "v": 2}, {"k": "a", "v": 1}],
            "s": ["a", "b"], "t": ["b", "a"], "l": ["a", "b"],
        });
        for source in [
            "self.s == self.t && self.s == ['b', 'a'] && self.s != ['a', 'c'] && self.s != ['a', 'a']",
            "self.l == ['a', 'b'] && self.l != ['b', 'a'] && ['b', 'a'] != self.s",
            "self.m == self.n && self.m == [self.m[1], self.m[0]] && self.m != [self.m[0], self.m[0]]",
            "(self.s + ['c', 'b']) == ['a', 'b', 'c'] && self.s + self.t == ['a', 'b']",
            "self.l + ['a'] == ['a', 'b', 'a']",
            "(self.m + [{'k': 'a', 'v': 9}, {'k': 'c', 'v': 3}]).map(e, e.v) == [9, 2, 3]",
            // What was added up is a set or a map, too.
            "(self.s + ['c']) == ['c', 'b', 'a'] && (self.s + ['c']) + ['a'] == ['a', 'b', 'c']",
            "(self.s + ['d', 'c', 'd']).map(e, e) == ['a', 'b', 'd', 'c']",
            "(self.m + self.n) == self.n && (self.m + [{'k': 'c'}, {'k': 'c'}]).size() == 4",
            "(self.m + self.n)[0].k == 'a' && (self.s + self.t)[1] == 'b' && size(self.s + self.t) == 2",
            "'c' in (self.s + ['c']) && type(self.s + []) == list && (self.s + []).exists(e, e == 'b')",
        ] {
            let program = Program::parse(source).unwrap();
            let variables = [("self", Val::of(&value, Some(&schema)))];
            let (found, _) = program.run(&variables, CALL_LIMIT);
            assert!(matches!(found, Ok(Val::Bool(true))), "{source}: {found:?}");
        }
    }

    #[test]
    fn sets_of_what_has_parts_are_not_compared() {
        let items = json!({"type": "array", "items": {"type": "string"}});
        let set = json!({"type": "array", "items": items, "x-kubernetes-list-type": "set"});
        let schema = json!({"type": "object", "properties": {"s": set}});
        let schema = Schema::new(&serde_json::from_value(schema).unwrap());
        let value = json!({"s": [["a"]]});
        for source in [
            "self.s == self.s",
            "self.s != [['a']]",
            "self.s + [['b']] == []",
        ] {
            let program = Program::parse(source).unwrap();
            let variables = [("self", Val::of(&value, Some(&schema)))];
            let (found, _) = program.run(&variables, CALL_LIMIT);
            let text = "listSet operations are only supported on lists of scalar values";
            assert_eq!(found.unwrap_err().to_string(), text, "{source}");
        }
    }
}
