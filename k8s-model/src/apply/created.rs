//! [`Created`]: what the creator of an object owns, from the pieces of its JSON.
//!
//! No set of fields is built for it, and of an object of a built-in kind no text is needed.

use std::ops::Range;

use super::{
    schema::{Key, List, Relation, Shape, Treat},
    tape::write_string,
    walk::{Before, keyed},
};
use crate::pieces::{Fate, Nothing, Pieces};

/// Writes, as `FieldsV1`, what of an object its creator owns, while it is told the object.
pub(super) struct Created<'a> {
    /// Whether nobody owns the field at such a path: of the object itself, or of its metadata.
    skip: &'a dyn Fn(&[&[u8]]) -> bool,
    out: &'a mut Vec<u8>,
    /// The objects and lists that have begun.
    open: Vec<Open<'a>>,
    /// Where the next value is.
    place: Place<'a>,
    /// What the last value was, and its JSON if that was to be kept.
    last: Last,
    kept: Option<Vec<u8>>,
    /// What the last element of a list with keys is called, if it has them.
    name: Option<String>,
    is_metadata: bool,
}

/// Where a value is.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Its shape; none within what is owned as a whole.
    shape: Option<&'a Shape>,
    before: Before,
    /// Where what is written of it began, its name too.
    start: usize,
    /// Whether its JSON is to be kept.
    is_kept: bool,
    /// The keys of the list whose element it is.
    keys: &'a [Key],
}

/// An object or list that has begun.
struct Open<'a> {
    treat: Treat<'a>,
    before: Before,
    is_list: bool,
    is_empty: bool,
    /// Where what is written of it began, and where what is in it does.
    start: usize,
    inside: usize,
    /// The field after the last one that was told, in the order of their names.
    next: usize,
    /// Where the member or element is that is being told.
    child: Place<'a>,
    /// The elements of a list that stand for themselves, and where what is owned of each is.
    elements: Vec<(String, Range<usize>)>,
    /// The keys of the list whose element it is, their values as JSON, and which is being told.
    keys: &'a [Key],
    values: Vec<Option<Vec<u8>>>,
    key: Option<usize>,
}

/// What the last value was.
#[derive(Clone, Copy)]
enum Last {
    /// One that is owned as a whole, with nothing in it perhaps.
    Leaf(Option<Nothing>),
    /// One with something in it, and whether any of that is owned.
    Parts(bool),
}

impl<'a> Created<'a> {
    /// What is owned of an object of that shape is appended there.
    pub(super) fn new(
        shape: &'a Shape,
        skip: &'a dyn Fn(&[&[u8]]) -> bool,
        out: &'a mut Vec<u8>,
    ) -> Self {
        let start = out.len();
        Created {
            skip,
            out,
            open: Vec::with_capacity(12),
            place: Place {
                shape: Some(shape),
                before: Before::Zero,
                start,
                is_kept: false,
                keys: &[],
            },
            last: Last::Parts(false),
            kept: None,
            name: None,
            is_metadata: false,
        }
    }

    /// Whether anything is owned.
    pub(super) fn any(&self) -> bool {
        matches!(self.last, Last::Parts(true))
    }

    /// Appends that, after a comma if one is needed here.
    fn next(&mut self, start: &[u8]) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.extend_from_slice(start);
    }

    /// The place of a value within what is owned as a whole.
    fn within(&self) -> Place<'a> {
        Place {
            shape: None,
            before: Before::Absent,
            start: self.out.len(),
            is_kept: false,
            keys: &[],
        }
    }

    /// Finishes what is owned of the last value, at its place: takes back what was written of it, if none of it is.
    fn own(&mut self, place: Place<'_>, nothing: Option<Nothing>) {
        // Lists and what may be anything are `null` where nobody set them: empty ones are not.
        let is_unset = match nothing {
            Some(Nothing::Object) => !place.shape.is_some_and(Shape::is_anything),
            nothing => nothing.is_some_and(|nothing| nothing != Nothing::List),
        };
        match self.last {
            Last::Leaf(_) if place.before == Before::Absent || !is_unset => {
                self.out.extend_from_slice(b"{}");
            }
            Last::Parts(true) => {}
            Last::Leaf(_) | Last::Parts(false) => self.out.truncate(place.start),
        }
    }

    /// What the last element of such a list is called; nothing if it lacks a key.
    fn element_name(&mut self, list: &List) -> Option<String> {
        match (&list.relation, self.last) {
            (Relation::Keys(_), _) => self.name.take(),
            // Of an object or a list no text is kept.
            (Relation::Set, Last::Leaf(nothing)) if nothing != Some(Nothing::Null) => {
                let kept = self.kept.take()?;
                Some(["v:", &String::from_utf8_lossy(&kept)].concat())
            }
            _ => None,
        }
    }

    /// Appends what is owned of the elements of a list, in the order of their names.
    fn write_elements(&mut self, inside: usize, mut elements: Vec<(String, Range<usize>)>) {
        let told = self.out.split_off(inside);
        elements.sort_by(|a, b| a.0.cmp(&b.0));
        for same in elements.chunk_by(|a, b| a.0 == b.0) {
            let [(name, first), rest @ ..] = same else {
                continue;
            };
            // What is there twice is owned as a whole.
            let owned = match rest {
                [] => &told[first.start - inside..first.end - inside],
                _ => b"{}",
            };
            if owned.is_empty() {
                continue;
            }
            self.next(b"");
            write_string(name, self.out);
            self.out.push(b':');
            self.out.extend_from_slice(owned);
        }
    }
}

impl Pieces for Created<'_> {
    fn text(&mut self, text: &str) {
        self.last = Last::Leaf(text.is_empty().then_some(Nothing::Text));
        if self.place.is_kept {
            let mut json = Vec::with_capacity(text.len() + 2);
            write_string(text, &mut json);
            self.kept = Some(json);
        }
    }

    fn plain(&mut self, json: &[u8]) {
        self.last = Last::Leaf(Nothing::of(json));
        if self.place.is_kept {
            self.kept = Some(json.to_vec());
        }
    }

    fn begin(&mut self, is_list: bool) {
        let place = self.place;
        let treat = match place.shape {
            Some(shape) => shape.treat(!is_list, is_list),
            None => Treat::Leaf,
        };
        let start = self.out.len();
        match (treat, place.before) {
            (Treat::Leaf, _) => {}
            (_, Before::Absent) => self.out.extend_from_slice(b"{\".\":{}"),
            (_, Before::Zero) => self.out.push(b'{'),
        }
        let keys = if is_list { &[] } else { place.keys };
        self.open.push(Open {
            treat,
            before: place.before,
            is_list,
            is_empty: true,
            start,
            inside: self.out.len(),
            next: 0,
            child: place,
            elements: Vec::new(),
            keys,
            values: vec![None; keys.len()],
            key: None,
        });
    }

    fn end(&mut self) {
        let Some(open) = self.open.pop() else {
            return;
        };
        if !open.keys.is_empty() {
            self.name = keyed(open.keys, |at, _| {
                let value = open.values.get(at)?.as_deref()?;
                Some(String::from_utf8_lossy(value))
            });
        }
        let nothing = if open.is_list {
            Nothing::List
        } else {
            Nothing::Object
        };
        self.last = match open.treat {
            Treat::Leaf => Last::Leaf(open.is_empty.then_some(nothing)),
            _ if open.is_empty => {
                self.out.truncate(open.start);
                Last::Leaf(Some(nothing))
            }
            treat => {
                if matches!(treat, Treat::List(_)) {
                    self.write_elements(open.inside, open.elements);
                }
                let owned = self.out.len() > open.start + 1;
                if owned {
                    self.out.push(b'}');
                } else {
                    self.out.truncate(open.start);
                }
                Last::Parts(owned)
            }
        };
    }

    fn member(&mut self, name: &[u8]) -> bool {
        let within = self.within();
        let depth = self.open.len();
        let Some(open) = self.open.last_mut() else {
            return false;
        };
        let is_skipped = match depth {
            1 => (self.skip)(&[name]),
            2 if self.is_metadata => (self.skip)(&[b"metadata", name]),
            _ => false,
        };
        if is_skipped {
            open.is_empty = false;
            return false;
        }
        if depth == 1 {
            self.is_metadata = name == b"metadata";
        }
        if !open.keys.is_empty() {
            let is = |key: &Key| key.name.as_bytes() == name;
            open.key = open.keys.iter().position(is);
        }
        let mut place = within;
        place.is_kept = open.key.is_some();
        if let Treat::Map(map) = open.treat {
            let at = map.position_from(open.next, name);
            open.next = at.map_or(open.next, |at| at + 1);
            place.shape = Some(match at.and_then(|at| map.fields.get(at)) {
                Some(field) => {
                    if field.always {
                        place.before = open.before;
                    }
                    &field.shape
                }
                None => map.element.as_ref().unwrap_or(&Shape::Untyped),
            });
        }
        open.child = place;
        self.place = place;
        if place.shape.is_some() {
            self.next(b"\"f:");
            self.out.extend_from_slice(name);
            self.out.extend_from_slice(b"\":");
        }
        true
    }

    fn member_ends(&mut self, fate: Fate) {
        let Some(open) = self.open.last_mut() else {
            return;
        };
        let place = open.child;
        if fate == Fate::Goes {
            return self.out.truncate(place.start);
        }
        open.is_empty = false;
        if let Some(value) = open.key.take().and_then(|key| open.values.get_mut(key)) {
            *value = self.kept.take();
        }
        if place.shape.is_some() {
            let nothing = match (self.last, fate) {
                (_, Fate::Null) => Some(Nothing::Null),
                (Last::Leaf(nothing), _) => nothing,
                (Last::Parts(_), _) => None,
            };
            self.own(place, nothing);
        }
    }

    fn element(&mut self) {
        let mut place = self.within();
        (self.name, self.kept) = (None, None);
        let Some(open) = self.open.last_mut() else {
            return;
        };
        if let Treat::List(list) = open.treat {
            place.shape = Some(&list.element);
            match &list.relation {
                Relation::Set => place.is_kept = true,
                Relation::Keys(keys) => place.keys = keys,
                Relation::Atomic => {}
            }
        }
        open.child = place;
        self.place = place;
    }

    fn element_ends(&mut self) {
        let Some(open) = self.open.last_mut() else {
            return;
        };
        open.is_empty = false;
        let (place, Treat::List(list)) = (open.child, open.treat) else {
            return;
        };
        let Some(name) = self.element_name(list) else {
            return self.out.truncate(place.start);
        };
        let nothing = self.nothing();
        self.own(place, nothing);
        let owned = place.start..self.out.len();
        if let Some(open) = self.open.last_mut() {
            open.elements.push((name, owned));
        }
    }

    fn nothing(&self) -> Option<Nothing> {
        match self.last {
            Last::Leaf(nothing) => nothing,
            Last::Parts(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::{
        super::{
            FieldSet, OneVersion, Tracker, reset_fields,
            tape::Tape,
            walk::{Comparison, set_where_nothing_was},
        },
        *,
    };
    use crate::{Object, ResourceTable, schema::Type};

    /// The object that came as this, if it is one of a built-in kind, and that kind's group, version and resource.
    fn decoded(object: &Value) -> Option<(Box<dyn Object>, [&'static str; 3])> {
        let api_version = object["apiVersion"].as_str()?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let row = ResourceTable::builtin().kind(group, version, object["kind"].as_str()?)?;
        let decoded = (row.codec.from_json)(object.to_string().as_bytes(), &mut |_| {}).ok()?;
        Some((decoded, [row.group, row.version, row.resource]))
    }

    /// What its creator owns: as it is told, and from its text. Is what an updater owns who sets all of it.
    fn both(object: &Value) -> Option<[String; 2]> {
        let (object, [group, version, resource]) = decoded(object)?;
        let shape = Shape::Type(Type::of_kind(group, version, object.kind())?);
        let tracker = Tracker {
            shape: &shape,
            api_version: object.api_version(),
            subresource: "",
            manager: "tester",
            reset: reset_fields(group, resource, "", true),
            now: Timestamp::UNIX_EPOCH,
            versions: &OneVersion,
        };
        let mut json = Vec::new();
        object.write_json(&mut json);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let [told, written] = [
            text(tracker.created(&*object)),
            text(tracker.created_json(&json)),
        ];
        let tape = Tape::new(&json).unwrap();
        let mut set = Comparison {
            added: set_where_nothing_was(tape.root(), &shape, Before::Zero).children,
            ..Comparison::default()
        };
        tracker.exclude(&mut set, true);
        let mut fields = Vec::new();
        set.added.write(&mut fields);
        if set.added.is_empty() {
            assert_eq!(written, "");
        } else {
            assert!(written.contains(&text(fields)), "{written}");
        }
        Some([told, written])
    }

    fn check(object: &Value) {
        let [told, written] = both(object).unwrap();
        assert_eq!(told, written, "{object}");
    }

    /// An object of each kind with all its fields set, as upstream encodes them.
    fn goldens() -> Vec<Value> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire");
        let files = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path());
        files
            .filter(|file| file.extension().is_some_and(|e| e == "json"))
            .map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
            .collect()
    }

    #[test]
    fn a_creator_owns_what_upstream_says() {
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"creationTimestamp": "x", "labels": {"app": "a"}, "name": "a", "namespace": "b"},
            "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "a"}},
                "strategy": {"rollingUpdate": {"maxSurge": "25%"}, "type": "RollingUpdate"},
                "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [
                    {"image": "i", "name": "c", "ports": [{"containerPort": 80, "protocol": "TCP"}], "resources": {}}],
                    "securityContext": {}, "tolerations": []}}},
            "status": {"replicas": 1},
        })
        .to_string();
        let tape = Tape::new(deployment.as_bytes()).unwrap();
        let shape = Shape::Type(Type::of_kind("apps", "v1", "Deployment").unwrap());
        let skip = |path: &[&[u8]]| {
            matches!(path, [b"apiVersion" | b"kind" | b"status"])
                || matches!(
                    path,
                    [b"metadata", b"name" | b"namespace" | b"creationTimestamp"]
                )
        };
        let mut out = Vec::new();
        let mut created = Created::new(&shape, &skip, &mut out);
        tape.root().tell(&mut created);
        assert!(created.any());
        let expected = json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:replicas": {}, "f:selector": {},
                "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}}, "f:type": {}},
                "f:template": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {
                    "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {},
                        "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}":
                            {".": {}, "f:containerPort": {}, "f:protocol": {}}},
                        "f:resources": {}}},
                    "f:securityContext": {}, "f:tolerations": {}}}},
        });
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), expected);
        // And in bytes as a set is written.
        let set = FieldSet::parse(&out).unwrap();
        let mut again = Vec::new();
        set.write(&mut again);
        assert_eq!(out, again);
    }

    #[test]
    fn every_field_of_every_kind_is_owned_as_by_its_text() {
        let mut told = 0;
        for object in goldens() {
            if let Some([ours, written]) = both(&object) {
                assert_eq!(ours, written, "{object}");
                told += usize::from(ours.len() > 100);
            }
        }
        assert!(told >= 40, "only {told} kinds");
    }

    #[test]
    fn creators_own_what_kube_apiserver_has_them_own() {
        let owned = |object: Value, path: &str| {
            let [told, written] = both(&object).unwrap();
            assert_eq!(told, written);
            let managed: Value = serde_json::from_str(&told).unwrap();
            managed[0]["fieldsV1"].pointer(path).cloned()
        };
        let revision = |data: Value| json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": "r"}, "data": data, "revision": 1});
        // Anything is owned as a whole, even if nothing is in it.
        for data in [json!({"a": 1}), json!({})] {
            assert_eq!(owned(revision(data), "/f:data"), Some(json!({})));
        }
        // What is required and yet left out where nobody set it is there for having been set.
        let address = json!({"apiVersion": "networking.k8s.io/v1", "kind": "IPAddress", "metadata": {"name": "10.0.0.1"},
            "spec": {"parentRef": {"resource": "services", "name": "s"}}});
        let parent = json!({".": {}, "f:name": {}, "f:resource": {}});
        assert_eq!(owned(address, "/f:spec/f:parentRef"), Some(parent));
        let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}});
        let actions = json!({".": {}, "v:\"Deny\"": {}});
        assert_eq!(owned(binding, "/f:spec/f:validationActions"), Some(actions));
    }

    #[test]
    fn elements_are_in_the_order_of_their_keys_and_twice_is_whole() {
        let pod = |containers: Value| {
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"b\"": "1", "a": ""},
                "finalizers": ["z", "a", "z"], "ownerReferences": [{"uid": "1", "apiVersion": "v1", "kind": "x", "name": ""}]},
                "spec": {"containers": containers, "tolerations": []}})
        };
        check(&pod(json!([])));
        check(&pod(json!([{}])));
        check(&pod(
            json!([{"name": "b"}, {"name": "a", "resources": {}}, {"name": ""}, {"image": "x"}]),
        ));
        check(&pod(
            json!([{"name": "a"}, {"name": "b"}, {"name": "a", "tty": false}]),
        ));
        check(&pod(json!([{"name": "a", "ports": [
            {"containerPort": 2}, {"containerPort": 1, "protocol": "UDP"}, {"containerPort": 1}, {}],
            "env": [{"name": "é\n"}, {"name": "a", "value": ""}], "resources": {"limits": {"cpu": "0"}}}])));
    }

    #[test]
    fn what_is_told_in_no_pieces_is_owned_by_its_text() {
        // A definition's schema has JSON that is kept as it came.
        check(
            &json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "a.b"}, "spec": {"group": "b", "scope": "Namespaced", "names": {"kind": "A", "plural": "a"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "default": {"a": [1, null, {}]}, "enum": [1, "a"],
                "properties": {"x": {"items": {"type": "string"}, "additionalProperties": false}}}}}]}}),
        );
    }

    /// The object without some of its members and elements, and with nothing in others.
    fn worn(value: &Value, dice: &mut impl FnMut() -> u8) -> Value {
        let whole = |value: &Value, dice: &mut dyn FnMut() -> u8| match (value, dice() % 8) {
            (Value::String(_), 0) => json!(""),
            (Value::Number(_), 0) => json!(0),
            (Value::Bool(_), 0) => json!(false),
            (Value::Object(_), 0) => json!({}),
            (Value::Array(_), 0) => json!([]),
            _ => value.clone(),
        };
        match whole(value, dice) {
            Value::Object(map) => {
                let kept = map.iter().filter_map(|(name, value)| {
                    let stays =
                        matches!(name.as_str(), "apiVersion" | "kind") || !dice().is_multiple_of(8);
                    stays.then(|| (name.clone(), worn(value, dice)))
                });
                Value::Object(kept.collect::<Vec<_>>().into_iter().collect())
            }
            Value::Array(list) => {
                let mut out = Vec::new();
                for value in &list {
                    for _ in 0..dice() % 3 {
                        out.push(worn(value, dice));
                    }
                }
                Value::Array(out)
            }
            plain => plain,
        }
    }

    #[test]
    fn objects_with_anything_left_out_are_owned_as_by_their_text() {
        let mut decoded = 0;
        for (seed, object) in goldens().iter().cycle().take(2_000).enumerate() {
            let mut random = fastrand::Rng::with_seed(seed as u64);
            let mut made = worn(object, &mut || random.u8(..));
            for name in ["apiVersion", "kind"] {
                made[name] = object[name].clone();
            }
            if let Some([told, written]) = both(&made) {
                assert_eq!(told, written, "{made}");
                decoded += 1;
            }
        }
        assert!(decoded > 500, "only {decoded} could be decoded");
    }
}
