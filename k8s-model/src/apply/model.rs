//! Apply, update and create against an obvious model of ownership: a map of values, and for each
//! writer the keys that are its own.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{ApplyError, FieldSet, OneVersion, Operation, Shape, Tracker, managers::Managers};
use crate::schema::Type;

type Data = BTreeMap<String, String>;

#[derive(Clone, Debug)]
enum Step {
    /// Leave exactly these values.
    Update(usize, Data),
    /// Apply these values, by force or not.
    Apply(usize, Data, bool),
}

/// The model: obvious, and nothing like the code.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    live: Data,
    owned: BTreeMap<(Operation, usize), BTreeSet<String>>,
}

impl Model {
    fn others(&self, me: (Operation, usize), key: &str) -> bool {
        self.owned
            .iter()
            .any(|(who, keys)| *who != me && keys.contains(key))
    }

    fn lose(&mut self, except: Option<(Operation, usize)>, key: &str) {
        for (who, keys) in &mut self.owned {
            if Some(*who) != except {
                keys.remove(key);
            }
        }
    }

    /// Whether the step is carried out.
    fn step(&mut self, step: &Step) -> bool {
        match step {
            Step::Update(who, data) => {
                let me = (Operation::Update, *who);
                let changed: Vec<String> = data
                    .iter()
                    .filter(|(k, v)| self.live.get(*k) != Some(v))
                    .map(|(k, _)| k.clone())
                    .collect();
                let removed: Vec<String> = self
                    .live
                    .keys()
                    .filter(|k| !data.contains_key(*k))
                    .cloned()
                    .collect();
                for key in removed {
                    self.lose(None, &key);
                }
                for key in changed {
                    self.lose(None, &key);
                    self.owned.entry(me).or_default().insert(key);
                }
                self.live.clone_from(data);
            }
            Step::Apply(who, data, force) => {
                let me = (Operation::Apply, *who);
                let changed: Vec<&String> = data
                    .iter()
                    .filter(|(k, v)| self.live.get(*k) != Some(v))
                    .map(|(k, _)| k)
                    .collect();
                if !force && changed.iter().any(|k| self.others(me, k)) {
                    return false;
                }
                for key in changed {
                    self.lose(Some(me), key);
                }
                let last = self.owned.remove(&me).unwrap_or_default();
                for key in last.iter().filter(|k| !data.contains_key(*k)) {
                    if !self.others(me, key) {
                        self.live.remove(key);
                    }
                }
                self.live.extend(data.clone());
                self.owned.insert(me, data.keys().cloned().collect());
            }
        }
        self.owned.retain(|_, keys| !keys.is_empty());
        true
    }
}

/// The code, on config maps. One value is there from the start and stays: who owned a map keeps the
/// map itself when its last value goes, and is in the way of whoever makes it again.
struct Real {
    object: Value,
    managed: Vec<u8>,
}

const KEPT: &str = "kept";

fn tracker<'a>(manager: &'a str, shape: &'a Shape) -> Tracker<'a> {
    Tracker {
        shape,
        api_version: "v1",
        subresource: "",
        manager,
        reset: &[],
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
        versions: &OneVersion,
    }
}

fn object(data: &Data) -> Value {
    let mut object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "uid": "u"}});
    if !data.is_empty() {
        object["data"] = json!(data);
    }
    object
}

/// As decoding into a type and encoding again has it: without what is nothing.
fn tidy(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, v| !v.is_null());
    }
    value
}

impl Real {
    fn new(shape: &Shape) -> Self {
        let object = object(&Data::from([(KEPT.to_owned(), "1".to_owned())]));
        let managed = tracker("m9", shape).created_json(object.to_string().as_bytes());
        Real { object, managed }
    }

    fn step(&mut self, step: &Step, shape: &Shape) -> Result<(), ApplyError> {
        let (Step::Update(who, _) | Step::Apply(who, ..)) = step;
        let name = format!("m{who}");
        let tracker = tracker(&name, shape);
        match step {
            Step::Update(_, data) => {
                let mut new = object(data);
                new["data"][KEPT] = json!("1");
                let old = self.object.to_string();
                self.managed = tracker
                    .updated(
                        old.as_bytes(),
                        new.to_string().as_bytes(),
                        &self.managed,
                        None,
                    )
                    .unwrap()
                    .into_owned();
                self.object = new;
            }
            Step::Apply(_, data, force) => {
                let mut config = object(data);
                config["metadata"].as_object_mut().unwrap().remove("uid");
                let live = self.object.clone();
                let applied = tracker.apply(live, &config, &self.managed, *force)?;
                if let Some(object) = applied.object {
                    self.object = tidy(object);
                    self.object["metadata"]["uid"] = json!("u");
                }
                self.managed = applied.managed;
            }
        }
        Ok(())
    }

    fn seen(&self) -> Model {
        let owned = Managers::stored(&self.managed)
            .0
            .iter()
            .filter_map(|manager| {
                let set: FieldSet = manager.fields.set();
                let keys: BTreeSet<String> = set
                    .paths()
                    .iter()
                    .filter(|path| path.len() == 2 && path[0] == "f:data")
                    .map(|path| path[1][2..].to_owned())
                    .filter(|key| key != KEPT)
                    .collect();
                let who = manager.name[1..].parse().unwrap();
                (!keys.is_empty()).then_some(((manager.operation, who), keys))
            })
            .collect();
        let mut live: Data = serde_json::from_value(self.object["data"].clone()).unwrap();
        assert_eq!(live.remove(KEPT).as_deref(), Some("1"));
        Model { live, owned }
    }
}

fn data() -> impl Strategy<Value = Data> {
    prop::collection::btree_map("[a-d]", "[12]", 0..4)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3usize, data()).prop_map(|(who, data)| Step::Update(who, data)),
        (0..3usize, data(), any::<bool>())
            .prop_map(|(who, data, force)| Step::Apply(who, data, force)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn ownership_is_as_the_model_has_it(steps in prop::collection::vec(step(), 1..8)) {
        let shape = Shape::Type(Type::of_kind("", "v1", "ConfigMap").unwrap());
        let mut model = Model::default();
        let mut real = Real::new(&shape);
        for step in &steps {
            let expected = model.step(step);
            let done = real.step(step, &shape);
            prop_assert_eq!(done.is_ok(), expected, "{:?} {:?}", step, done);
            prop_assert_eq!(real.seen(), model.clone(), "{:?}", step);
        }
    }

    #[test]
    fn applying_twice_changes_nothing(before in data(), config in data()) {
        let shape = Shape::Type(Type::of_kind("", "v1", "ConfigMap").unwrap());
        let mut real = Real::new(&shape);
        real.step(&Step::Update(0, before), &shape).unwrap();
        let apply = Step::Apply(1, config, true);
        real.step(&apply, &shape).unwrap();
        let (object, managed) = (real.object.clone(), real.managed.clone());
        real.step(&apply, &shape).unwrap();
        prop_assert_eq!(real.object, object);
        prop_assert_eq!(real.managed, managed);
    }
}
