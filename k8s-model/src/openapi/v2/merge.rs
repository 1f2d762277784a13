//! Documents of v2 that other servers have written, and what becomes of them beside this one's: as upstream's aggregator
//! merges them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

const DEFINITION: &str = "#/definitions/";
const KINDS: &str = "x-kubernetes-group-version-kind";
/// How deep a document's values may nest.
const DEPTH: usize = 128;

/// A document of another server: the paths that it answers for this one, and the schemas that those need.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Foreign {
    paths: Map<String, Value>,
    definitions: Map<String, Value>,
}

impl Foreign {
    /// Takes from a document what is below `/apis/`, with the definitions that it needs. Defaults are left out, and what is
    /// named among the document's parameters and responses stands where it is used.
    pub fn new(document: Value) -> Self {
        let Value::Object(mut document) = document else {
            return Foreign::default();
        };
        let mut section = |name: &str| match document.remove(name) {
            Some(Value::Object(members)) => members,
            _ => Map::new(),
        };
        let (mut paths, mut definitions) = (section("paths"), section("definitions"));
        let shared = [
            ("#/parameters/", section("parameters")),
            ("#/responses/", section("responses")),
        ];
        paths.retain(|_, item| item.is_object());
        definitions.retain(|_, definition| definition.is_object());
        paths.values_mut().for_each(|item| inline(item, &shared, 0));
        definitions.values_mut().for_each(|d| prune_defaults(d, 0));
        let mut foreign = Foreign { paths, definitions };
        foreign.keep(|path| path.starts_with("/apis/"));
        foreign
    }

    /// Whether it has no paths.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// What definitions are there.
    pub(super) fn names(&self) -> impl Iterator<Item = &String> {
        self.definitions.keys()
    }

    /// Keeps some paths. Definitions go that were needed, and are not any more.
    fn keep(&mut self, keep: impl Fn(&str) -> bool) {
        let before = self.needed();
        self.paths.retain(|path, _| keep(path));
        let after = self.needed();
        let gone: BTreeSet<String> = before.difference(&after).cloned().collect();
        self.definitions.retain(|name, _| !gone.contains(name));
    }

    /// The definitions that paths lead to, at once or by way of others.
    fn needed(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open: Vec<&Value> = self.paths.values().collect();
        while let Some(value) = open.pop() {
            match value {
                Value::Array(list) => open.extend(list),
                Value::Object(members) => {
                    if let Some(name) = reference(members)
                        && found.insert(name.to_owned())
                    {
                        open.extend(self.definitions.get(name));
                    }
                    open.extend(members.values());
                }
                _ => {}
            }
        }
        found
    }

    fn rename(&mut self, renames: &BTreeMap<String, String>) {
        if renames.is_empty() {
            return;
        }
        let definitions = std::mem::take(&mut self.definitions);
        self.definitions = definitions
            .into_iter()
            .map(|(name, value)| (renames.get(&name).cloned().unwrap_or(name), value))
            .collect();
        let all = self.paths.values_mut().chain(self.definitions.values_mut());
        let mut open: Vec<&mut Value> = all.collect();
        while let Some(value) = open.pop() {
            match value {
                Value::Array(list) => open.extend(list),
                Value::Object(members) => {
                    let new = reference(members).and_then(|name| renames.get(name));
                    if let Some(new) = new {
                        members.insert("$ref".into(), format!("{DEFINITION}{new}").into());
                    }
                    open.extend(members.values_mut());
                }
                _ => {}
            }
        }
    }

    /// What it adds: paths that nobody before it had, and definitions, with new names where others of that name
    /// say something else. `names` are those of all definitions so far; `kept` has those that are in question.
    pub(super) fn beside(
        mut self,
        paths: &mut BTreeSet<String>,
        names: &mut BTreeSet<String>,
        kept: &mut Map<String, Value>,
    ) -> Map<String, Value> {
        if self.paths.keys().any(|path| paths.contains(path)) {
            self.keep(|path| !paths.contains(path));
        }
        if self.paths.is_empty() {
            return Map::new();
        }
        let mut renames = BTreeMap::new();
        let mut taken: BTreeSet<String> = BTreeSet::new();
        for (name, definition) in &self.definitions {
            let same = |name: &str| kept.get(name).is_none_or(|other| alike(other, definition));
            if same(name) {
                continue;
            }
            let free = |new: &String| {
                !names.contains(new) && !taken.contains(new) && !self.definitions.contains_key(new)
            };
            let mut tries = (2..).map(|n| format!("{name}_v{n}"));
            let new = tries.find(|new| free(new) || kept.contains_key(new) && same(new));
            if let Some(new) = new {
                taken.insert(new.clone());
                renames.insert(name.clone(), new);
            }
        }
        self.rename(&renames);
        for (name, definition) in self.definitions {
            match kept.get_mut(&name) {
                Some(before) => unite_kinds(before, definition),
                None => {
                    kept.insert(name.clone(), definition);
                }
            }
            names.insert(name);
        }
        paths.extend(self.paths.keys().cloned());
        self.paths
    }
}

/// The definition that a schema refers to.
fn reference(schema: &Map<String, Value>) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix(DEFINITION)
}

/// Whether both say the same, kinds apart.
fn alike(a: &Value, b: &Value) -> bool {
    let (Value::Object(a), Value::Object(b)) = (a, b) else {
        return a == b;
    };
    let length = |m: &Map<String, Value>| m.len() - usize::from(m.contains_key(KINDS));
    length(a) == length(b)
        && a.iter()
            .all(|(key, value)| key == KINDS || b.get(key) == Some(value))
}

/// Adds the kinds of one definition to another's.
fn unite_kinds(into: &mut Value, mut from: Value) {
    let Some(Value::Array(more)) = from.get_mut(KINDS).map(Value::take) else {
        return;
    };
    let Some(into) = into.as_object_mut() else {
        return;
    };
    let Some(kinds) = into
        .entry(KINDS)
        .or_insert_with(|| Value::Array(Vec::new()))
        .as_array_mut()
    else {
        return;
    };
    let before = kinds.len();
    for kind in more {
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    if kinds.len() > before {
        kinds.sort_by_cached_key(|kind| {
            let text = |key: &str| kind[key].as_str().unwrap_or_default().to_owned();
            format!("{}/{}.{}", text("group"), text("version"), text("kind"))
        });
    }
}

/// Puts what is named elsewhere in the document in the places where it is named.
fn inline(value: &mut Value, shared: &[(&str, Map<String, Value>)], depth: usize) {
    if depth > DEPTH {
        return;
    }
    let named = value
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|reference| {
            let mut all = shared.iter();
            all.find_map(|(prefix, members)| members.get(reference.strip_prefix(prefix)?))
        });
    if let Some(named) = named {
        *value = named.clone();
        return;
    }
    match value {
        Value::Array(list) => list.iter_mut().for_each(|v| inline(v, shared, depth + 1)),
        Value::Object(members) => members
            .values_mut()
            .for_each(|v| inline(v, shared, depth + 1)),
        _ => {}
    }
}

/// Takes the defaults out of a schema.
fn prune_defaults(schema: &mut Value, depth: usize) {
    let Some(schema) = schema.as_object_mut().filter(|_| depth <= DEPTH) else {
        return;
    };
    schema.remove("default");
    for key in ["items", "additionalProperties", "not"] {
        if let Some(below) = schema.get_mut(key) {
            prune_defaults(below, depth + 1);
        }
    }
    for key in ["properties", "patternProperties", "definitions"] {
        let below = schema.get_mut(key).and_then(Value::as_object_mut);
        for below in below.into_iter().flat_map(Map::values_mut) {
            prune_defaults(below, depth + 1);
        }
    }
    for key in ["items", "allOf", "anyOf", "oneOf"] {
        let below = schema.get_mut(key).and_then(Value::as_array_mut);
        for below in below.into_iter().flatten() {
            prune_defaults(below, depth + 1);
        }
    }
}
