//! [`Versions`]: the other versions of an object. Managers own fields in the version in which they write.

use serde_json::Value;

use super::{
    conflict::ApplyError,
    schema::Shape,
    set::FieldSet,
    tracker::{Tracker, compare},
};

/// Objects in other versions of their kind: managers own fields in the version in which they write.
///
/// A [`Tracker`] asks for another version only if somebody owns fields in it and something has changed.
pub trait Versions: Sync {
    /// The shape of a version; `None` if the kind has no such version (any more). Whoever owned fields in it
    /// owns them no longer.
    fn shape(&self, api_version: &str) -> Option<Shape>;

    /// The object in that version, which is one that has a shape.
    ///
    /// # Errors
    ///
    /// Why it cannot be had in that version, as the client is to be told. Nothing is applied then.
    fn convert(&self, object: &Value, api_version: &str) -> Result<Value, String>;
}

/// A kind with one version.
#[derive(Clone, Copy, Debug, Default)]
pub struct OneVersion;

impl Versions for OneVersion {
    fn shape(&self, _api_version: &str) -> Option<Shape> {
        None
    }

    fn convert(&self, _object: &Value, api_version: &str) -> Result<Value, String> {
        Err(format!("there is no version {api_version}"))
    }
}

/// What a change looks like in other versions, computed when someone asks.
pub(super) struct OtherVersions<'t, F> {
    tracker: &'t Tracker<'t>,
    objects: F,
    known: Vec<(String, Option<Sets>)>,
    failure: Option<ApplyError>,
}

/// What was added or changed, and what was removed.
type Sets = (FieldSet, FieldSet);

impl<'t, F: Fn() -> Option<(Value, Value)>> OtherVersions<'t, F> {
    /// Of a change from the one object to the other, both in the tracker's version.
    pub(super) fn new(tracker: &'t Tracker<'t>, objects: F) -> Self {
        OtherVersions {
            tracker,
            objects,
            known: Vec::new(),
            failure: None,
        }
    }

    /// What was added or changed, and what was removed; `None` if there is no such version.
    pub(super) fn comparison(&mut self, version: &str) -> Option<(&FieldSet, &FieldSet)> {
        let at = match self.known.iter().position(|(v, _)| v == version) {
            Some(at) => at,
            None => {
                let found = self.compute(version);
                self.known.push((version.to_owned(), found));
                self.known.len() - 1
            }
        };
        let (gained, removed) = self.known[at].1.as_ref()?;
        Some((gained, removed))
    }

    /// What went wrong with any version. What was told of it then counts for nothing.
    pub(super) fn failure(self) -> Result<(), ApplyError> {
        self.failure.map_or(Ok(()), Err)
    }

    fn compute(&mut self, version: &str) -> Option<Sets> {
        let shape = self.tracker.versions.shape(version)?;
        let (old, new) = (self.objects)()?;
        // Both before either fails: who asks others for conversions asks for both at once.
        let old = self.tracker.versions.convert(&old, version);
        let new = self.tracker.versions.convert(&new, version);
        let (old, new) = match (old, new) {
            (Ok(old), Ok(new)) => (old, new),
            (Err(text), _) | (_, Err(text)) => {
                self.failure.get_or_insert(ApplyError::Conversion(text));
                return Some(Sets::default());
            }
        };
        let mut comparison = compare(&old, &new, &shape);
        self.tracker.exclude(&mut comparison, true);
        Some((
            comparison.added.union(comparison.modified),
            comparison.removed,
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apply::Applied;

    /// In `v1` there is `both`, in `v2` `left` and `right`; `v3` cannot be had, and `v4` is no more.
    struct Halves;

    impl Versions for Halves {
        fn shape(&self, api_version: &str) -> Option<Shape> {
            ["a/v1", "a/v2", "a/v3"]
                .contains(&api_version)
                .then(Shape::unknown_kind)
        }

        fn convert(&self, object: &Value, api_version: &str) -> Result<Value, String> {
            let mut out = object.clone();
            out["apiVersion"] = api_version.into();
            // What is taken out for a moment may be all of it.
            let Some(spec) = out.get_mut("spec").and_then(Value::as_object_mut) else {
                return Ok(out);
            };
            let text = |value: Option<Value>| {
                value
                    .and_then(|v| v.as_str().map(str::to_owned))
                    .unwrap_or_default()
            };
            match api_version {
                "a/v1" => {
                    let (left, right) = (text(spec.remove("left")), text(spec.remove("right")));
                    spec.insert("both".into(), format!("{left}-{right}").into());
                }
                "a/v2" => {
                    let both = text(spec.remove("both"));
                    let (left, right) = both.split_once('-').ok_or("nothing to part")?;
                    spec.insert("left".into(), left.into());
                    spec.insert("right".into(), right.into());
                }
                _ => return Err("it cannot be had".into()),
            }
            Ok(out)
        }
    }

    fn object(api_version: &str, spec: Value) -> Value {
        json!({"apiVersion": api_version, "kind": "A", "metadata": {"name": "x", "uid": "u"}, "spec": spec})
    }

    fn tracker<'a>(manager: &'a str, api_version: &'a str, shape: &'a Shape) -> Tracker<'a> {
        Tracker {
            shape,
            api_version,
            subresource: "",
            manager,
            reset: &[],
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            versions: &Halves,
        }
    }

    fn owners(managed: &[u8]) -> Vec<(String, String, Value)> {
        let entries: Vec<Value> = serde_json::from_slice(managed).unwrap();
        let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
        let fields = |entry: &Value| {
            let mut fields = entry["fieldsV1"]["f:spec"].clone();
            // Without a schema the parent is owned too.
            fields.as_object_mut().unwrap().remove(".");
            fields
        };
        let entries = entries.iter();
        entries
            .map(|e| (text(e, "manager"), text(e, "apiVersion"), fields(e)))
            // Nor does who owned it all lose the parent.
            .filter(|(.., fields)| *fields != json!({}))
            .collect()
    }

    fn applied(manager: &str, spec: Value) -> Applied {
        let live = json!({"apiVersion": "a/v1", "kind": "A"});
        let shape = Shape::unknown_kind();
        let config =
            json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x"}, "spec": spec});
        let tracker = tracker(manager, "a/v1", &shape);
        tracker.apply(live, &config, b"", false).unwrap()
    }

    #[test]
    fn conflicts_are_found_and_told_in_the_owners_version() {
        let shape = Shape::unknown_kind();
        let first = applied("one", json!({"both": "l-r"}));
        let live = object("a/v2", json!({"left": "l", "right": "r"}));
        let config = |right: &str| json!({"apiVersion": "a/v2", "kind": "A", "metadata": {"name": "x"}, "spec": {"right": right}});
        let two = tracker("two", "a/v2", &shape);
        let same = two
            .apply(live.clone(), &config("r"), &first.managed, false)
            .unwrap();
        assert_eq!(same.object, None);
        let expected = [
            ("two".to_owned(), "a/v2".to_owned(), json!({"f:right": {}})),
            ("one".to_owned(), "a/v1".to_owned(), json!({"f:both": {}})),
        ];
        let mut found = owners(&same.managed);
        found.sort_by(|a, b| b.0.cmp(&a.0));
        assert_eq!(found, expected);
        let refused = two.apply(live.clone(), &config("s"), &first.managed, false);
        assert_eq!(
            refused.unwrap_err().to_string(),
            r#"Apply failed with 1 conflict: conflict with "one": .spec.both"#
        );
        let forced = two.apply(live, &config("s"), &first.managed, true).unwrap();
        assert_eq!(owners(&forced.managed), expected[..1]);
    }

    #[test]
    fn what_was_applied_in_another_version_goes_when_it_is_applied_no_more() {
        let shape = Shape::unknown_kind();
        let first = applied("one", json!({"both": "l-r", "more": "1"}));
        let live = object("a/v2", json!({"left": "l", "right": "r", "more": "1"}));
        let config = json!({"apiVersion": "a/v2", "kind": "A", "metadata": {"name": "x"}, "spec": {"left": "l", "right": "r"}});
        let one = tracker("one", "a/v2", &shape);
        let again = one.apply(live, &config, &first.managed, false).unwrap();
        assert_eq!(
            again.object.unwrap()["spec"],
            json!({"left": "l", "right": "r"})
        );
        assert_eq!(
            owners(&again.managed),
            [(
                "one".to_owned(),
                "a/v2".to_owned(),
                json!({"f:left": {}, "f:right": {}})
            )]
        );
    }

    #[test]
    fn updates_take_from_owners_in_any_version() {
        let shape = Shape::unknown_kind();
        let first = applied("one", json!({"both": "l-r", "more": "1"}));
        let old = object("a/v2", json!({"left": "l", "right": "r", "more": "1"}));
        let new = object("a/v2", json!({"left": "l", "right": "s", "more": "1"}));
        let two = tracker("two", "a/v2", &shape);
        let (old, new) = (old.to_string(), new.to_string());
        let managed = two.updated(old.as_bytes(), new.as_bytes(), &first.managed, None);
        assert_eq!(
            owners(&managed.unwrap()),
            [
                ("one".to_owned(), "a/v1".to_owned(), json!({"f:more": {}})),
                ("two".to_owned(), "a/v2".to_owned(), json!({"f:right": {}})),
            ]
        );
    }

    #[test]
    fn owners_in_versions_that_are_no_more_own_nothing_and_those_that_cannot_be_had_are_in_the_way()
    {
        let shape = Shape::unknown_kind();
        let entry = |version: &str| {
            let text = format!(
                r#"[{{"apiVersion":"{version}","fieldsType":"FieldsV1","fieldsV1":{{"f:spec":{{"f:x":{{}}}}}},"manager":"one","operation":"Apply"}}]"#
            );
            text.into_bytes()
        };
        let live = object("a/v1", json!({"both": "l-r"}));
        let config = json!({"apiVersion": "a/v1", "kind": "A", "metadata": {"name": "x"}, "spec": {"x": "1"}});
        let two = tracker("two", "a/v1", &shape);
        let taken = two
            .apply(live.clone(), &config, &entry("a/v4"), false)
            .unwrap();
        assert_eq!(
            owners(&taken.managed),
            [("two".to_owned(), "a/v1".to_owned(), json!({"f:x": {}}))]
        );
        let refused = two
            .apply(live.clone(), &config, &entry("a/v3"), true)
            .unwrap_err();
        assert_eq!(refused, ApplyError::Conversion("it cannot be had".into()));
        assert_eq!(refused.to_status().code, Some(500));
        let new = object("a/v1", json!({"both": "l-s"}));
        let (old, owned) = (live.to_string(), entry("a/v3"));
        let refused = two.updated(old.as_bytes(), new.to_string().as_bytes(), &owned, None);
        assert!(refused.is_err());
        // Nobody asks for what nobody needs.
        let same = two.updated(old.as_bytes(), old.as_bytes(), &owned, None);
        assert!(same.is_ok());
    }
}
