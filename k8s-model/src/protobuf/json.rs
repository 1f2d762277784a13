//! [`write_json`]: JSON as upstream's servers write it.
//!
//! Types in Go say by the tags of their fields what is left out where nothing is set, and what is written as `null`,
//! `{}`, `0` or an empty text. Types in Rust leave out what is `None` and write everything else. The table of
//! messages knows the tags, so what is written here has the fields that upstream's JSON has.

use std::io::Write;

use serde::{
    Serialize, Serializer,
    ser::{
        Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
        SerializeTuple, SerializeTupleStruct, SerializeTupleVariant,
    },
};
use serde_json::Error;

use super::{
    table::{Field, Kind, Message, Special, message_of},
    unset::is_unset,
};
use crate::json::write_text;

/// What `serde_json` calls a piece of JSON that is kept as it came, `RawValue`, and the one field of it.
const RAW: &str = "$serde_json::private::RawValue";

/// Appends the JSON of an object of that kind. A kind without a message is written as its type has it.
pub(crate) fn write_json<T: Serialize + 'static>(
    api_version: &str,
    kind: &str,
    object: &T,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let message = message_of::<T>(api_version, kind);
    object.serialize(Writer { out, message })
}

/// One value, of that message if it is one.
struct Writer<'o> {
    out: &'o mut Vec<u8>,
    message: Option<&'static Message>,
}

/// What is in an object, a list or a variant that has been begun.
struct Inner<'o> {
    out: &'o mut Vec<u8>,
    message: Option<&'static Message>,
    /// The next of the message's fields, in the order of their names.
    next: usize,
    end: &'static str,
}

/// Appends a text, a number or the like.
fn plain<T: Serialize>(out: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    serde_json::to_writer(out, value)
}

fn comma(out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'{' | b'[')) {
        out.push(b',');
    }
}

/// Appends the name of a field that needs no escapes.
fn name(name: &str, out: &mut Vec<u8>) {
    out.reserve(name.len() + 4);
    comma(out);
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// Appends those of the fields from `start` to before `end` that are always written: there is nothing in them.
fn missing(message: &'static Message, start: usize, end: usize, out: &mut Vec<u8>) {
    for (_, field) in message
        .always_written(start)
        .take_while(|(at, _)| *at < end)
    {
        name(field.name, out);
        nothing(field, out);
    }
}

/// Appends what is written for a field that was not set.
fn nothing(field: &Field, out: &mut Vec<u8>) {
    let text: &[u8] = match field.kind {
        _ if field.pointer || field.repeated => b"null",
        Kind::String => b"\"\"",
        Kind::Bool => b"false",
        Kind::Integer | Kind::Double => b"0",
        Kind::Bytes | Kind::StringMap | Kind::BytesMap | Kind::MessageMap(_) => b"null",
        Kind::Message(message) => match message.get().special {
            Special::No => {
                out.push(b'{');
                missing(message.get(), 0, usize::MAX, out);
                b"}"
            }
            Special::Duration => b"\"0s\"",
            Special::Quantity => b"\"0\"",
            Special::IntOrString => b"0",
            _ => b"null",
        },
    };
    out.extend_from_slice(text);
}

/// Takes back or corrects a field that begins at `start`, its value at `value`, if there is nothing in it.
fn settle(field: &Field, start: usize, value: usize, out: &mut Vec<u8>) {
    // An empty version keeps the place of one.
    if field.name != "resourceVersion" && is_unset(field, &out[value..]) {
        out.truncate(start);
    } else if field.always && !field.pointer && matches!(out[value..], [b'[', b']'] | [b'{', b'}'])
    {
        let is_map = matches!(
            field.kind,
            Kind::StringMap | Kind::BytesMap | Kind::MessageMap(_)
        );
        if field.repeated || is_map {
            out.truncate(value);
            out.extend_from_slice(b"null");
        }
    }
}

impl<'o> Writer<'o> {
    fn begin(self, start: &str, end: &'static str) -> Inner<'o> {
        self.out.extend_from_slice(start.as_bytes());
        Inner {
            out: self.out,
            message: self.message,
            next: 0,
            end,
        }
    }

    /// Begins `{"variant":`.
    fn begin_variant(self, variant: &str) -> Result<Writer<'o>, Error> {
        self.out.push(b'{');
        plain(self.out, &variant)?;
        self.out.push(b':');
        Ok(Writer {
            out: self.out,
            message: None,
        })
    }
}

impl Inner<'_> {
    fn end(self) -> Result<(), Error> {
        self.out.extend_from_slice(self.end.as_bytes());
        Ok(())
    }

    fn element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        comma(self.out);
        value.serialize(Writer {
            out: self.out,
            message: self.message,
        })
    }

    /// Appends a field's name, and those before it that are not set. The field, if it is in the table.
    fn begin_field(&mut self, key: &'static str) -> Result<(Option<&'static Field>, usize), Error> {
        let found = self.message.and_then(|message| {
            let after = message.position_from(self.next, key);
            let at = after.or_else(|| message.position(key))?;
            if at >= self.next {
                missing(message, self.next, at, self.out);
                self.next = at + 1;
            }
            message.in_order(at)
        });
        let start = self.out.len();
        if found.is_some() {
            name(key, self.out);
        } else {
            comma(self.out);
            plain(self.out, &key)?;
            self.out.push(b':');
        }
        Ok((found, start))
    }

    fn field<T: ?Sized + Serialize>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        if key == RAW {
            let text = serde_json::to_value(value)?;
            let text = text.as_str().unwrap_or("null");
            self.out.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        let (field, start) = self.begin_field(key)?;
        let at = self.out.len();
        value.serialize(Writer {
            out: self.out,
            message: field.and_then(Field::message),
        })?;
        if let Some(field) = field {
            settle(field, start, at, self.out);
        }
        Ok(())
    }
}

macro_rules! plain {
    ($($method:ident: $type:ty,)*) => {$(
        fn $method(self, value: $type) -> Result<(), Error> {
            plain(self.out, &value)
        }
    )*};
}

impl<'o> Serializer for Writer<'o> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Inner<'o>;
    type SerializeTuple = Inner<'o>;
    type SerializeTupleStruct = Inner<'o>;
    type SerializeTupleVariant = Inner<'o>;
    type SerializeMap = Inner<'o>;
    type SerializeStruct = Inner<'o>;
    type SerializeStructVariant = Inner<'o>;

    plain! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
        serialize_f32: f32,
        serialize_char: char,
        serialize_bytes: &[u8],
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        write_text(value, self.out);
        Ok(())
    }

    /// Whole numbers have no fraction, whatever their type: `1`, not `1.0`.
    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        const WHOLE: f64 = 1e21;
        if value.fract() == 0.0 && value.abs() < WHOLE {
            write!(self.out, "{value}").map_err(Error::io)
        } else {
            plain(self.out, &value)
        }
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.out.extend_from_slice(b"null");
        Ok(())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let Writer { out, message } = self.begin_variant(variant)?;
        value.serialize(Writer {
            out: &mut *out,
            message,
        })?;
        out.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<Inner<'o>, Error> {
        Ok(self.begin("[", "]"))
    }

    fn serialize_tuple(self, _length: usize) -> Result<Inner<'o>, Error> {
        Ok(self.begin("[", "]"))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _length: usize,
    ) -> Result<Inner<'o>, Error> {
        Ok(self.begin("[", "]"))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Inner<'o>, Error> {
        Ok(self.begin_variant(variant)?.begin("[", "]}"))
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Inner<'o>, Error> {
        Ok(self.begin("{", "}"))
    }

    fn serialize_struct(self, name: &'static str, _length: usize) -> Result<Inner<'o>, Error> {
        if name == RAW {
            let message = None;
            return Ok(Writer { message, ..self }.begin("", ""));
        }
        let message = self.message.and_then(Message::as_object);
        Ok(Writer { message, ..self }.begin("{", "}"))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Inner<'o>, Error> {
        Ok(self.begin_variant(variant)?.begin("{", "}}"))
    }
}

macro_rules! lists {
    ($($trait:ident::$method:ident,)*) => {$(
        impl $trait for Inner<'_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
                self.element(value)
            }

            fn end(self) -> Result<(), Error> {
                Inner::end(self)
            }
        }
    )*};
}

lists! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
}

impl SerializeMap for Inner<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), Error> {
        comma(self.out);
        let at = self.out.len();
        key.serialize(Writer {
            out: self.out,
            message: None,
        })?;
        match self.out.get(at) {
            Some(b'"') => {}
            Some(b'0'..=b'9' | b'-' | b't' | b'f') => {
                self.out.insert(at, b'"');
                self.out.push(b'"');
            }
            _ => return Err(Error::custom("key must be a string")),
        }
        self.out.push(b':');
        Ok(())
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(Writer {
            out: self.out,
            message: self.message,
        })
    }

    fn end(self) -> Result<(), Error> {
        Inner::end(self)
    }
}

impl SerializeStruct for Inner<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.field(key, value)
    }

    fn end(self) -> Result<(), Error> {
        if let Some(message) = self.message {
            missing(message, self.next, usize::MAX, self.out);
        }
        Inner::end(self)
    }
}

impl SerializeStructVariant for Inner<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: ?Sized + Serialize>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.field(key, value)
    }

    fn end(self) -> Result<(), Error> {
        Inner::end(self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;
    use crate::ResourceTable;

    /// What is written for an object that came as this.
    fn written(object: Value) -> String {
        let text = |name: &str| object[name].as_str().unwrap().to_owned();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        let row = ResourceTable::builtin()
            .kind(group, version, &kind)
            .unwrap();
        let mut out = Vec::new();
        (row.codec.from_json)(object.to_string().as_bytes(), &mut |_| {})
            .unwrap()
            .write_json(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn check(object: Value, wanted: &str) {
        assert_eq!(written(object), wanted);
    }

    #[test]
    fn fields_that_are_always_written_are_there_when_nobody_set_them() {
        check(
            json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"}, "involvedObject": {}}),
            r#"{"apiVersion":"v1","kind":"Event","eventTime":null,"firstTimestamp":null,"involvedObject":{},"lastTimestamp":null,"metadata":{"name":"a"},"reportingComponent":"","reportingInstance":"","source":{}}"#,
        );
        check(
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "a"}}),
            r#"{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"name":"a"},"spec":{},"status":{"currentHealthy":0,"desiredHealthy":0,"disruptionsAllowed":0,"expectedPods":0}}"#,
        );
        check(
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"schedule": "@daily", "jobTemplate": {
                "spec": {"template": {"spec": {"containers": [{"name": "c"}]}}}}}}),
            r#"{"apiVersion":"batch/v1","kind":"CronJob","metadata":{},"spec":{"jobTemplate":{"metadata":{},"spec":{"template":{"metadata":{},"spec":{"containers":[{"name":"c","resources":{}}]}}}},"schedule":"@daily"},"status":{}}"#,
        );
        check(
            json!({"apiVersion": "v1", "kind": "Node", "status": {"images": [{"sizeBytes": 1}], "conditions": [
                {"type": "Ready", "status": "True"}]}}),
            concat!(
                r#"{"apiVersion":"v1","kind":"Node","metadata":{},"spec":{},"status":{"conditions":"#,
                r#"[{"lastHeartbeatTime":null,"lastTransitionTime":null,"status":"True","type":"Ready"}],"#,
                r#""daemonEndpoints":{"kubeletEndpoint":{"Port":0}},"images":[{"names":null,"sizeBytes":1}],"#,
                r#""nodeInfo":{"architecture":"","bootID":"","containerRuntimeVersion":"","kernelVersion":"","#,
                r#""kubeProxyVersion":"","kubeletVersion":"","machineID":"","operatingSystem":"","osImage":"","#,
                r#""systemUUID":""}}}"#,
            ),
        );
        // A pointer, and a field beside those of an inlined struct.
        check(
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [], "volumes": [
                {"name": "v", "projected": {"sources": []}}, {"emptyDir": {}}]}}),
            r#"{"apiVersion":"v1","kind":"Pod","metadata":{},"spec":{"containers":null,"volumes":[{"name":"v","projected":{"sources":null}},{"emptyDir":{},"name":""}]},"status":{}}"#,
        );
    }

    #[test]
    fn an_empty_list_that_is_always_written_is_null() {
        for rules in [json!([]), json!(null)] {
            check(
                json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "rules": rules}),
                r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{},"rules":null}"#,
            );
        }
    }

    #[test]
    fn an_empty_resource_version_keeps_its_place() {
        let mut map = k8s_openapi::api::core::v1::ConfigMap::default();
        map.metadata.resource_version = Some(String::new());
        map.metadata.managed_fields = Some(Vec::new());
        let mut out = Vec::new();
        write_json("v1", "ConfigMap", &map, &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"managedFields":[],"resourceVersion":""}}"#
        );
    }

    #[test]
    fn required_fields_of_types_in_rust_go_where_upstream_leaves_them_out() {
        check(
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "imagePullSecrets": [{}]}),
            r#"{"apiVersion":"v1","kind":"ServiceAccount","imagePullSecrets":[{}],"metadata":{}}"#,
        );
    }

    #[test]
    fn a_type_without_a_message_is_written_as_it_is() {
        #[derive(Serialize)]
        enum Shape {
            Unit,
            New(u8),
            Pair(u8, u8),
            Named { a: Option<u8> },
        }
        #[derive(Serialize)]
        struct Any {
            #[serde(rename = "a\"b")]
            quoted: (),
            shapes: Vec<Shape>,
            numbers: BTreeMap<i8, f64>,
            flags: BTreeMap<bool, (char, f32)>,
            empty: [u8; 0],
            #[serde(flatten)]
            more: BTreeMap<&'static str, Value>,
        }
        let any = Any {
            quoted: (),
            shapes: vec![
                Shape::Unit,
                Shape::New(1),
                Shape::Pair(1, 2),
                Shape::Named { a: None },
            ],
            numbers: BTreeMap::from([(-1, 1.0), (0, 1.5), (1, f64::NAN)]),
            flags: BTreeMap::from([(true, ('\n', 0.5))]),
            empty: [],
            more: BTreeMap::from([("x", json!({"y": [1, {}]}))]),
        };
        let mut out = Vec::new();
        write_json("example.com/v1", "Any", &any, &mut out).unwrap();
        let mut wanted = serde_json::to_value(&any).unwrap();
        wanted["numbers"]["-1"] = json!(1);
        assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), wanted);
        let unnamed = BTreeMap::from([((), 1)]);
        assert!(write_json("example.com/v1", "Any", &unnamed, &mut out).is_err());
    }

    #[test]
    fn json_that_was_kept_as_it_came_is_written_so() {
        #[derive(Serialize)]
        struct Kept {
            any: Box<serde_json::value::RawValue>,
            after: u8,
        }
        let any = serde_json::value::to_raw_value(&json!({"b": [1.5, null]})).unwrap();
        let mut out = Vec::new();
        write_json("example.com/v1", "Kept", &Kept { any, after: 1 }, &mut out).unwrap();
        assert_eq!(out, br#"{"any":{"b":[1.5,null]},"after":1}"#);
    }
}
