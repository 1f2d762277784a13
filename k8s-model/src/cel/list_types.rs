//! Lists that are sets or maps (`x-kubernetes-list-type`): equal in any order, and merged where they are added.

use std::collections::{HashMap, HashSet};

use serde_json::Value as Json;

use super::{Val, members::Member};
use crate::structural::{ListType, Schema};

/// A list of the data that is a set or a map.
pub(super) struct Merging<'a, 'v> {
    list: &'v [Json],
    items: Option<&'v Schema>,
    /// The fields that tell the elements of a map; none of a set.
    keys: &'a [String],
}

/// What tells an element from others.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Scalars(Vec<Option<Member>>),
    Other(String),
}

impl<'v> Merging<'v, 'v> {
    /// The value, if it is such a list.
    pub(super) fn of(value: &Val<'v>) -> Option<Self> {
        let Val::Json(Json::Array(list), Some(schema)) = value else {
            return None;
        };
        let keys: &[String] = match schema.list_type? {
            ListType::Set => &[],
            ListType::Map => &schema.list_map_keys,
            ListType::Atomic => return None,
        };
        Some(Merging {
            list,
            items: schema.items.as_deref(),
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

    fn elements(&self) -> impl Iterator<Item = Val<'v>> + use<'v> {
        let items = self.items;
        self.list.iter().map(move |json| Val::of(json, items))
    }

    /// Whether another list has the same elements, in whatever order.
    pub(super) fn equals(&self, other: &[Val<'v>]) -> bool {
        if self.list.len() != other.len() {
            return false;
        }
        let own: HashMap<Key, Val<'v>> = self.elements().map(|v| (self.key(&v), v)).collect();
        let mut seen = HashSet::new();
        let all = other.iter().all(|element| {
            let key = self.key(element);
            let is_same = |own: &Val<'v>| self.keys.is_empty() || own.equals(element);
            let found = own.get(&key).is_some_and(is_same);
            seen.insert(key);
            found
        });
        all && seen.len() == own.len()
    }

    /// With the elements of another list: those of a map take the place of what has the same key, and what is new
    /// comes last.
    pub(super) fn plus(&self, other: Vec<Val<'v>>) -> Vec<Val<'v>> {
        let mut out: Vec<Val<'v>> = self.elements().collect();
        let places = out.iter().enumerate();
        let mut places: HashMap<Key, usize> = places
            .map(|(at, element)| (self.key(element), at))
            .collect();
        for element in other {
            let key = self.key(&element);
            match places.get(&key) {
                Some(at) => out[*at] = element,
                None => {
                    places.insert(key, out.len());
                    out.push(element);
                }
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cel::{CALL_LIMIT, Program};

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
        ] {
            let program = Program::parse(source).unwrap();
            let variables = [("self", Val::of(&value, Some(&schema)))];
            let (found, _) = program.run(&variables, CALL_LIMIT);
            assert!(matches!(found, Ok(Val::Bool(true))), "{source}: {found:?}");
        }
    }
}
