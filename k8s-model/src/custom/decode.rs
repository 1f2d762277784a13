//! JSON to [`CustomObject`]s.

use serde_json::{Map, Value};

use super::{CustomObject, Version};
use crate::{
    Object,
    decode::{self, DecodeError},
    structural::{Schema, metadata_fault},
};

/// What may be in an object of one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accept {
    /// What a client sends: this version, or none named.
    Request,
    /// What was applied: as a request, and `null` is what it says.
    Applied,
    /// What is stored: any version of the definition.
    Stored,
}

impl Version {
    /// Decodes what a client sent. Calls `unknown` with each field that the schema does not know.
    pub(super) fn decode(
        &self,
        bytes: &[u8],
        unknown: &mut dyn FnMut(String),
    ) -> Result<Box<dyn Object>, DecodeError> {
        let fields = read(bytes)?;
        self.check_head(&fields)?;
        Ok(Box::new(self.object(fields, Accept::Request, unknown)?))
    }

    /// Refuses what is of no kind, or of another than this.
    fn check_head(&self, fields: &Map<String, Value>) -> Result<(), DecodeError> {
        let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
        match (text("apiVersion"), text("kind")) {
            (_, "") => Err(DecodeError::NoKind),
            (api_version, kind) if api_version == self.api_version && kind == self.kind => Ok(()),
            (api_version, kind) => Err(DecodeError::Undefined {
                api_version: api_version.to_owned(),
                kind: kind.to_owned(),
                expected_api_version: self.api_version.to_owned(),
                expected_kind: self.kind.to_owned(),
            }),
        }
    }

    /// The same, of a value tree.
    pub(super) fn decode_value(
        &self,
        value: Value,
        unknown: &mut dyn FnMut(String),
    ) -> Result<Box<dyn Object>, DecodeError> {
        let Value::Object(fields) = value else {
            let fault = decode::type_meta_fault(&value);
            return Err(DecodeError::Syntax(fault.unwrap_or_default()));
        };
        Ok(Box::new(self.object(fields, Accept::Request, unknown)?))
    }

    /// Decodes what applying a configuration has made of an object. As upstream, this drops no `null` that the schema does
    /// not allow: it is for validation to refuse it.
    ///
    /// # Errors
    /// If it is no object of this version.
    pub fn decode_applied(&self, bytes: &[u8]) -> Result<CustomObject, DecodeError> {
        self.object(read(bytes)?, Accept::Applied, &mut |_| {})
    }

    /// Decodes what was stored, in whichever version of the definition that was. Drops and
    /// defaults nothing: see [`Version::settle`].
    ///
    /// # Errors
    /// If it is no object of any version.
    pub fn decode_stored(&self, bytes: &[u8]) -> Result<CustomObject, DecodeError> {
        self.object(read(bytes)?, Accept::Stored, &mut |_| {})
    }

    /// Makes an object that was stored fit the schema of its version: drops what that does not know, and fills in what it
    /// has defaults for.
    pub fn settle(&self, object: &mut CustomObject) {
        self.fit(object, |schema, value| {
            prune(schema, value);
            schema.default_value(value);
        });
    }

    /// Drops what the schema of an object's version does not know.
    pub fn prune(&self, object: &mut CustomObject) {
        self.fit(object, prune);
    }

    fn fit(&self, object: &mut CustomObject, change: impl FnOnce(&Schema, &mut Value)) {
        let mut value = Value::Object(std::mem::take(&mut object.fields));
        change(self.schema_of(object.api_version), &mut value);
        if let Value::Object(mut fields) = value {
            // The schema may have a default for what is not its to say.
            fields.retain(|name, _| !is_head(name));
            object.fields = fields;
        }
    }

    fn object(
        &self,
        mut fields: Map<String, Value>,
        accept: Accept,
        unknown: &mut dyn FnMut(String),
    ) -> Result<CustomObject, DecodeError> {
        let mut head = |name: &str| match fields.remove(name) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(DecodeError::Syntax(format!(
                "json: cannot unmarshal value into Go struct field .{name} of type string"
            ))),
        };
        let (api_version, kind) = (head("apiVersion")?, head("kind")?);
        let known = match accept {
            Accept::Request | Accept::Applied if api_version.is_empty() => Some(self.api_version),
            Accept::Request | Accept::Applied => {
                Some(self.api_version).filter(|v| *v == api_version)
            }
            Accept::Stored => self.named(&api_version),
        };
        let Some(api_version) = known.filter(|_| kind.is_empty() || kind == self.kind) else {
            let api_version = if api_version.is_empty() {
                self.api_version.to_owned()
            } else {
                api_version
            };
            return Err(DecodeError::WrongKind {
                api_version,
                kind: if kind.is_empty() {
                    self.kind.to_owned()
                } else {
                    kind
                },
                expected_api_version: self.api_version.to_owned(),
                expected_kind: self.kind.to_owned(),
            });
        };
        let metadata = match fields.remove("metadata") {
            None | Some(Value::Null) => Default::default(),
            Some(metadata) => decode::metadata(&metadata, unknown).map_err(|error| {
                match metadata_fault(&metadata) {
                    Some(message) => DecodeError::Value {
                        path: "metadata".to_owned(),
                        message,
                    },
                    None => error,
                }
            })?,
        };
        if accept != Accept::Stored {
            let mut value = Value::Object(fields);
            self.schema.prune(&mut value, true, unknown);
            self.schema.prune_metadata(&mut value, unknown);
            if accept == Accept::Request {
                self.schema.prune_nulls(&mut value);
                let coerced = self.schema.coerce_embedded(&mut value);
                coerced.map_err(|error| DecodeError::Value {
                    path: error.field.to_string(),
                    message: error.to_string(),
                })?;
            }
            decode::whole_numbers(&mut value);
            fields = match value {
                Value::Object(fields) => fields,
                _ => Map::new(),
            };
        }
        Ok(CustomObject {
            api_version,
            kind: self.kind,
            metadata,
            fields,
        })
    }
}

fn prune(schema: &Schema, value: &mut Value) {
    schema.prune(value, true, &mut |_| {});
    schema.prune_metadata(value, &mut |_| {});
    schema.prune_nulls(value);
}

fn is_head(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

fn read(bytes: &[u8]) -> Result<Map<String, Value>, DecodeError> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Null) => Ok(Map::new()),
        Ok(document) => match (decode::type_meta_fault(&document), document) {
            (None, Value::Object(fields)) => Ok(fields),
            (fault, _) => Err(DecodeError::Syntax(fault.unwrap_or_default())),
        },
        Err(error) => Err(DecodeError::Syntax(
            decode::syntax_error(bytes).unwrap_or_else(|| error.to_string()),
        )),
    }
}
