//! [`Conversions`]: one object in other versions, for those who compare what it was with what it is to be.
//!
//! Whoever works out who owns which field waits for nobody. A webhook must be waited for. So a conversion that a
//! webhook has not made yet is noted and refused; [`Conversions::made`] asks for what was noted, and then whoever was
//! refused tries once more.

use k8s_model::apply::{Shape, Versions};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Row, row::shape};

/// The other versions of the objects that one write is about.
#[derive(Debug)]
pub(crate) struct Conversions<'r> {
    row: &'r Row,
    asked: Mutex<Asked>,
}

/// What was asked of a webhook.
#[derive(Debug, Default)]
struct Asked {
    made: Vec<(Wanted, Result<Value, String>)>,
    wanted: Vec<Wanted>,
}

/// An object, and the version in which it is wanted.
#[derive(Debug, PartialEq)]
struct Wanted {
    object: Value,
    api_version: String,
}

impl<'r> Conversions<'r> {
    pub(crate) fn new(row: &'r Row) -> Self {
        Conversions {
            row,
            asked: Mutex::default(),
        }
    }

    /// Has made what was wanted and could not be had. Whether there was any such thing: then what came of it before
    /// is of no use.
    pub(super) async fn made(&self) -> bool {
        if !self.row.asks_webhook() {
            return false;
        }
        let mut wanted = std::mem::take(&mut self.asked.lock().wanted);
        let some = !wanted.is_empty();
        while let Some(first) = wanted.first() {
            let api_version = first.api_version.clone();
            let (now, later): (Vec<_>, Vec<_>) =
                (wanted.into_iter()).partition(|wanted| wanted.api_version == api_version);
            wanted = later;
            let objects = now.iter().map(|wanted| with_metadata(&wanted.object));
            let objects = objects.collect();
            let made = Box::pin(self.row.convert_values(objects, &api_version)).await;
            let made: Vec<Result<Value, String>> = match made {
                Ok(made) => (now.iter().zip(made))
                    .map(|(wanted, made)| Ok(as_wanted(&wanted.object, made)))
                    .collect(),
                Err(error) => vec![Err(error.to_string()); now.len()],
            };
            self.asked.lock().made.extend(now.into_iter().zip(made));
        }
        some
    }
}

/// What is left of an object while it is worked out what goes may have no metadata, without which none is converted.
fn with_metadata(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.entry("metadata").or_insert_with(|| json!({}));
    }
    object
}

/// The converted object, without metadata if there was none.
fn as_wanted(object: &Value, mut made: Value) -> Value {
    if object.get("metadata").is_none()
        && let Some(fields) = made.as_object_mut()
    {
        fields.remove("metadata");
    }
    made
}

impl Versions for Conversions<'_> {
    fn shape(&self, api_version: &str) -> Option<Shape> {
        if api_version == self.row.api_version {
            return Some(self.row.shape.clone());
        }
        let mut versions = self.row.versions().iter();
        match versions.find(|other| other.api_version() == api_version) {
            Some(served) => Some(shape(served)),
            None => self.row.custom()?.unserved_shape(api_version).cloned(),
        }
    }

    fn convert(&self, object: &Value, api_version: &str) -> Result<Value, String> {
        if object["apiVersion"] == api_version {
            return Ok(object.clone());
        }
        if !self.row.asks_webhook() {
            return self.row.in_version(object, api_version);
        }
        let mut asked = self.asked.lock();
        let wanted =
            |wanted: &Wanted| wanted.api_version == api_version && wanted.object == *object;
        if let Some((_, made)) = asked.made.iter().find(|(made, _)| wanted(made)) {
            return made.clone();
        }
        if !asked.wanted.iter().any(wanted) {
            asked.wanted.push(Wanted {
                object: object.clone(),
                api_version: api_version.to_owned(),
            });
        }
        Err("a webhook is to be asked".to_owned())
    }
}
