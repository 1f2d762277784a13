//! Create, update, patch and apply of a custom resource with every type of list and map, against an obvious
//! model: an object is a set of paths with values, and each writer owns some of them.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{ApplyError, OneVersion, Operation, Shape, Tracker, managers::Managers};

/// A path, such as `list/x/v`, and what is there. An element of a list, by itself, has no value.
type Paths = BTreeMap<Vec<String>, String>;
type Writer = (Operation, String);

/// What a writer wants to be there.
#[derive(Clone, Debug, Default)]
struct Spec {
    atomic: Option<u8>,
    set: BTreeSet<String>,
    map: BTreeMap<String, u8>,
    list: BTreeMap<String, (Option<u8>, Option<u8>)>,
}

#[derive(Clone, Debug)]
enum Step {
    /// Leave exactly this.
    Update(u8, Spec),
    /// Put this over what is there.
    Patch(u8, Spec),
    /// Apply this, by force or not.
    Apply(u8, Spec, bool),
}

/// There from the start, in every list and map, and never taken out: what becomes of lists and maps that get
/// empty is another matter.
const KEPT: &str = "kept";

impl Spec {
    fn paths(&self) -> Paths {
        let path = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
        let mut out = Paths::new();
        if let Some(value) = self.atomic {
            out.insert(path(&["atomic"]), value.to_string());
        }
        for element in &self.set {
            out.insert(path(&["set", element]), String::new());
        }
        for (key, value) in &self.map {
            out.insert(path(&["map", key]), value.to_string());
        }
        for (key, (v, w)) in &self.list {
            out.insert(path(&["list", key]), String::new());
            for (name, value) in [("v", v), ("w", w)] {
                if let Some(value) = value {
                    out.insert(path(&["list", key, name]), value.to_string());
                }
            }
        }
        out
    }

    fn with_kept(mut self) -> Self {
        self.set.insert(KEPT.to_owned());
        self.map.insert(KEPT.to_owned(), 0);
        self.list.insert(KEPT.to_owned(), (None, None));
        self
    }
}

/// An object of paths, as it goes over the wire.
fn object(paths: &Paths) -> Value {
    let mut spec = Map::new();
    let mut list: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for (path, value) in paths {
        let number = || value.parse::<u8>().unwrap_or_default();
        match &path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["atomic"] => {
                spec.insert("atomic".to_owned(), json!([number(), 7]));
            }
            ["set", element] => {
                let set = spec.entry("set").or_insert_with(|| json!([]));
                set.as_array_mut().unwrap().push(json!(element));
            }
            ["map", key] => spec.entry("map").or_insert_with(|| json!({}))[*key] = json!(number()),
            ["list", key] => {
                list.entry(key)
                    .or_default()
                    .insert("k".to_owned(), json!(key));
            }
            ["list", key, name] => {
                list.entry(key)
                    .or_default()
                    .insert((*name).to_owned(), json!(number()));
            }
            other => panic!("{other:?}"),
        }
    }
    if !list.is_empty() {
        spec.insert(
            "list".to_owned(),
            list.into_values().map(Value::Object).collect(),
        );
    }
    let mut object = json!({"apiVersion": "b.c/v1", "kind": "A", "metadata": {"name": "x"}});
    if !spec.is_empty() {
        object["spec"] = spec.into();
    }
    object
}

/// What an object that came back says.
fn paths_of(object: &Value) -> Paths {
    let path = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
    let mut out = Paths::new();
    for (name, value) in object["spec"].as_object().into_iter().flatten() {
        match name.as_str() {
            "atomic" => {
                out.insert(path(&["atomic"]), value[0].to_string());
            }
            "set" => {
                for element in value.as_array().unwrap() {
                    let known =
                        out.insert(path(&["set", element.as_str().unwrap()]), String::new());
                    assert_eq!(known, None, "{element} is there twice");
                }
            }
            "map" => {
                for (key, value) in value.as_object().unwrap() {
                    out.insert(path(&["map", key]), value.to_string());
                }
            }
            "list" => {
                for item in value.as_array().unwrap() {
                    let key = item["k"].as_str().expect("an item keeps its key");
                    let known = out.insert(path(&["list", key]), String::new());
                    assert_eq!(known, None, "{key} is there twice");
                    for (name, value) in item
                        .as_object()
                        .unwrap()
                        .iter()
                        .filter(|(name, _)| *name != "k")
                    {
                        out.insert(path(&["list", key, name]), value.to_string());
                    }
                }
            }
            other => panic!("{other}"),
        }
    }
    out
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    live: Paths,
    owned: BTreeMap<Writer, BTreeSet<Vec<String>>>,
}

impl Model {
    fn lose(&mut self, path: &[String], except: &Writer) {
        for (_, owned) in self
            .owned
            .iter_mut()
            .filter(|(writer, _)| *writer != except)
        {
            owned.remove(path);
        }
    }

    fn changed(&self, wanted: &Paths) -> Vec<Vec<String>> {
        let differs = |(path, value): &(&Vec<String>, &String)| self.live.get(*path) != Some(value);
        wanted
            .iter()
            .filter(differs)
            .map(|(path, _)| path.clone())
            .collect()
    }

    fn update(&mut self, me: Writer, wanted: Paths) {
        let gone: Vec<_> = self
            .live
            .keys()
            .filter(|path| !wanted.contains_key(*path))
            .cloned()
            .collect();
        for path in gone {
            for owned in self.owned.values_mut() {
                owned.remove(&path);
            }
        }
        for path in self.changed(&wanted) {
            self.lose(&path, &me);
            self.owned.entry(me.clone()).or_default().insert(path);
        }
        self.live = wanted;
    }

    /// Who else owns what would change, if that is in the way.
    fn apply(
        &mut self,
        me: Writer,
        wanted: Paths,
        force: bool,
    ) -> Result<(), BTreeSet<Vec<String>>> {
        let changed = self.changed(&wanted);
        let others = |model: &Self, path: &[String]| {
            let mut others = model.owned.iter().filter(|(writer, _)| **writer != me);
            others.any(|(_, owned)| owned.contains(path))
        };
        let conflicts: BTreeSet<_> = changed
            .iter()
            .filter(|path| others(self, path))
            .cloned()
            .collect();
        if !conflicts.is_empty() && !force {
            return Err(conflicts);
        }
        for path in &changed {
            self.lose(path, &me);
        }
        let last = self.owned.remove(&me).unwrap_or_default();
        for path in last.iter().filter(|path| !wanted.contains_key(*path)) {
            // An element goes with all that is in it unless somebody else owns the element itself, whoever
            // owns what is in it: upstream's way, too.
            if !others(self, path) {
                self.live.retain(|live, _| !live.starts_with(path));
                for owned in self.owned.values_mut() {
                    owned.retain(|owned| !owned.starts_with(path));
                }
            }
        }
        self.owned.insert(me, wanted.keys().cloned().collect());
        self.live.extend(wanted);
        Ok(())
    }

    fn tidy(mut self) -> Self {
        self.owned.retain(|_, owned| !owned.is_empty());
        self
    }
}

fn shape() -> Shape {
    Shape::from_structural(
        &json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "atomic": {"type": "array", "x-kubernetes-list-type": "atomic", "items": {"type": "integer"}},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {"type": "object", "additionalProperties": {"type": "integer"}},
            "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items":
                {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}, "w": {"type": "integer"}}}},
        }}}}),
    )
}

struct Real {
    object: Value,
    managed: Vec<u8>,
}

fn tracker<'a>(manager: &'a str, shape: &'a Shape) -> Tracker<'a> {
    Tracker {
        shape,
        api_version: "b.c/v1",
        subresource: "",
        manager,
        reset: &[],
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
        versions: &OneVersion,
    }
}

/// A path of `FieldsV1` in the model's words; none for what the model leaves out: keys and the way there.
fn plain(path: &[String]) -> Option<Vec<String>> {
    let (first, path) = path.split_first()?;
    if first != "f:spec" {
        return None;
    }
    let element = |text: &String| match text.split_at(2) {
        ("f:", name) => name.to_owned(),
        ("v:", value) => serde_json::from_str(value).unwrap(),
        ("k:", keys) => serde_json::from_str::<Value>(keys).unwrap()["k"]
            .as_str()
            .unwrap()
            .to_owned(),
        other => panic!("{other:?}"),
    };
    let out: Vec<String> = path.iter().map(element).collect();
    let left_out = out.is_empty()
        || (out.len() == 1 && out[0] != "atomic")
        || (out.len() == 3 && out[2] == "k");
    (!left_out).then_some(out)
}

impl Real {
    fn update(&mut self, manager: &str, wanted: &Paths, shape: &Shape) {
        let new = object(wanted);
        let (before, after) = (self.object.to_string(), new.to_string());
        let managed = tracker(manager, shape).updated(
            before.as_bytes(),
            after.as_bytes(),
            &self.managed,
            None,
        );
        self.managed = managed.unwrap().into_owned();
        self.object = new;
    }

    fn apply(
        &mut self,
        manager: &str,
        wanted: &Paths,
        force: bool,
        shape: &Shape,
    ) -> Result<(), ApplyError> {
        let live = self.object.clone();
        let applied = tracker(manager, shape).apply(live, &object(wanted), &self.managed, force)?;
        self.object = applied.object.unwrap_or(self.object.take());
        self.managed = applied.managed;
        Ok(())
    }

    fn seen(&self) -> Model {
        let managers = Managers::stored(&self.managed);
        let owned = managers.0.iter().map(|manager| {
            let paths = manager.fields.set().paths();
            let owned = paths.iter().filter_map(|path| plain(path)).collect();
            (
                (manager.operation, manager.name.clone().into_owned()),
                owned,
            )
        });
        Model {
            live: paths_of(&self.object),
            owned: owned.collect(),
        }
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    let number = || prop::option::of(1..3u8);
    (
        prop::option::of(1..3u8),
        prop::collection::btree_set("[a-c]", 0..3),
        prop::collection::btree_map("[a-c]", 1..3u8, 0..3),
        prop::collection::btree_map("[a-c]", (number(), number()), 0..3),
    )
        .prop_map(|(atomic, set, map, list)| Spec {
            atomic,
            set,
            map,
            list,
        })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3u8, spec()).prop_map(|(who, spec)| Step::Update(who, spec)),
        (0..3u8, spec()).prop_map(|(who, spec)| Step::Patch(who, spec)),
        (0..3u8, spec(), any::<bool>())
            .prop_map(|(who, spec, force)| Step::Apply(who, spec, force)),
        (0..3u8, spec(), any::<bool>())
            .prop_map(|(who, spec, force)| Step::Apply(who, spec, force)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn lists_and_maps_are_owned_as_the_model_has_it(first in spec(), steps in prop::collection::vec(step(), 1..8)) {
        let shape = shape();
        let first = first.with_kept().paths();
        let made = object(&first);
        let mut real = Real { managed: tracker("maker", &shape).created_json(made.to_string().as_bytes()), object: made };
        let mut model = Model { owned: [((Operation::Update, "maker".to_owned()), first.keys().cloned().collect())].into(), live: first };
        prop_assert_eq!(real.seen(), model.clone());
        for step in &steps {
            match step {
                Step::Update(who, spec) => {
                    let (name, wanted) = (format!("m{who}"), spec.clone().with_kept().paths());
                    real.update(&name, &wanted, &shape);
                    model.update((Operation::Update, name), wanted);
                }
                Step::Patch(who, spec) => {
                    let (name, mut wanted) = (format!("m{who}"), model.live.clone());
                    wanted.extend(spec.paths());
                    real.update(&name, &wanted, &shape);
                    model.update((Operation::Update, name), wanted);
                }
                Step::Apply(who, spec, force) => {
                    let (name, wanted) = (format!("m{who}"), spec.paths());
                    let done = real.apply(&name, &wanted, *force, &shape);
                    match (done, model.apply((Operation::Apply, name), wanted, *force)) {
                        (Ok(()), Ok(())) => {}
                        (Err(ApplyError::Conflicts(found)), Err(expected)) => {
                            let found: BTreeSet<_> = found.iter().filter_map(|conflict| plain(&conflict.path)).collect();
                            prop_assert_eq!(found, expected, "{:?}", step);
                        }
                        (real, model) => prop_assert!(false, "{:?}: {:?}, and the model {:?}", step, real, model),
                    }
                }
            }
            model = model.tidy();
            prop_assert_eq!(real.seen(), model.clone(), "{:?}", step);
        }
    }

    #[test]
    fn applying_the_same_again_changes_nothing(
        first in spec(), other in spec(), second in spec(), empty in prop::collection::btree_set(0..4usize, 0..4),
    ) {
        let shape = shape();
        let mut live = object(&Paths::new());
        let mut managed = Vec::new();
        let mut last = object(&second.paths());
        for (name, nothing) in ["set", "map", "list", "atomic"].into_iter().zip([json!([]), json!({}), json!([]), json!([])]).enumerate()
            .filter_map(|(at, pair)| empty.contains(&at).then_some(pair))
        {
            if last["spec"].get(name).is_none() {
                last["spec"][name] = nothing;
            }
        }
        for (name, config) in [("a", object(&first.paths())), ("b", object(&other.paths())), ("a", last)] {
            let tracker = tracker(name, &shape);
            let applied = tracker.apply(live.clone(), &config, &managed, true).unwrap();
            live = applied.object.unwrap_or(live);
            managed = applied.managed;
            let again = tracker.apply(live.clone(), &config, &managed, false).unwrap();
            prop_assert_eq!(again.object, None, "{}", config);
            prop_assert_eq!(&again.managed, &managed, "{}", config);
        }
    }
}
