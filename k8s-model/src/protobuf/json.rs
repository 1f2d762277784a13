//! [`write_json`]: JSON as upstream's servers write it.
//!
//! Types in Go say by the tags of their fields what is left out where nothing is set, and what is written as `null`,
//! `{}`, `0` or an empty text. Types in Rust leave out what is `None` and write everything else. The table of
//! messages knows the tags, so what is written here has the fields that upstream's JSON has.
//!
//! [`tell_json`] goes the same way for one who has no need of the text. Both are one serializer: another one would be
//! code of its own for each type.

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
    sink::{Mark, Sink, comma, inside},
    table::{Field, Members, Message, message_of},
};
use crate::{json::write_text, pieces::Pieces};

/// What `serde_json` calls a piece of JSON that is kept as it came, `RawValue`, and the one field of it.
const RAW: &str = "$serde_json::private::RawValue";

/// Appends the JSON of an object of that kind. A kind without a message is written as its type has it.
pub(crate) fn write_json<T: Serialize + 'static>(
    api_version: &str,
    kind: &str,
    object: &T,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    write_to(api_version, kind, object, Sink::Json(out))
}

/// Tells the same piece by piece.
///
/// # Errors
/// If there is JSON in it that is kept as it came, or an enum with values in its variants: these are not told.
pub(crate) fn tell_json<T: Serialize + 'static>(
    api_version: &str,
    kind: &str,
    object: &T,
    pieces: &mut dyn Pieces,
) -> Result<(), Error> {
    write_to(api_version, kind, object, Sink::Pieces(pieces))
}

fn write_to<T: Serialize + 'static>(
    api_version: &str,
    kind: &str,
    object: &T,
    mut sink: Sink<'_>,
) -> Result<(), Error> {
    let message = message_of::<T>(api_version, kind);
    let sink = &mut sink;
    object.serialize(Writer { sink, message })
}

/// One value, of that message if it is one.
struct Writer<'o, 's> {
    sink: &'o mut Sink<'s>,
    message: Option<&'static Message>,
}

/// What is in an object, a list or a variant that has been begun.
struct Inner<'o, 's> {
    sink: &'o mut Sink<'s>,
    /// What each value in a list or a map is.
    message: Option<&'static Message>,
    /// The fields of an object that is a message, and the next of them.
    members: Option<&'static Members>,
    next: usize,
    end: &'static str,
    /// Whether the value of the key is to be told.
    is_wanted: bool,
}

impl<'o, 's> Writer<'o, 's> {
    fn begin(self, start: &str, end: &'static str) -> Inner<'o, 's> {
        self.sink.begin(start);
        Inner {
            sink: self.sink,
            message: self.message,
            members: None,
            next: 0,
            end,
            is_wanted: true,
        }
    }

    /// Begins `{"variant":`.
    fn begin_variant(self, variant: &str) -> Result<Self, Error> {
        let out = self.sink.only_text()?;
        out.push(b'{');
        write_text(variant, out);
        out.push(b':');
        let message = None;
        Ok(Writer { message, ..self })
    }
}

impl Inner<'_, '_> {
    fn end(self) -> Result<(), Error> {
        self.sink.end(self.end);
        Ok(())
    }

    fn element<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        match self.sink {
            Sink::Json(out) => comma(out),
            Sink::Pieces(pieces) => pieces.element(),
        }
        value.serialize(Writer {
            sink: self.sink,
            message: self.message,
        })?;
        if let Sink::Pieces(pieces) = self.sink {
            pieces.element_ends();
        }
        Ok(())
    }

    /// Begins the field of a message of that name, after those before it that are not set. Nothing if it has none;
    /// no mark if the value is not wanted.
    fn begin_member(&mut self, key: &str) -> Option<(&'static Field, Option<Mark>)> {
        let members = self.members?;
        let after = members.position_from(self.next, key);
        let at = after.or_else(|| members.position(key))?;
        let member = members.get(at)?;
        if at >= self.next {
            self.sink.missing(members, self.next, at);
            self.next = at + 1;
        }
        Some((&member.field, self.sink.begin_member(members, member)))
    }

    fn field<T: ?Sized + Serialize>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        if key == RAW {
            let text = serde_json::to_value(value)?;
            let text = text.as_str().unwrap_or("null");
            self.sink.only_text()?.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        let Some((field, mark)) = self.begin_member(key) else {
            return self.other_field(key, value);
        };
        if let Some(mark) = mark {
            value.serialize(Writer {
                sink: self.sink,
                message: field.message(),
            })?;
            self.sink.end_member(field, &mark);
        }
        Ok(())
    }

    /// A field that no message has.
    fn other_field<T: ?Sized + Serialize>(&mut self, key: &str, value: &T) -> Result<(), Error> {
        if self.sink.begin_other(key) {
            value.serialize(Writer {
                sink: self.sink,
                message: None,
            })?;
            self.sink.end_other();
        }
        Ok(())
    }
}

macro_rules! plain {
    ($($method:ident: $type:ty,)*) => {$(
        fn $method(self, value: $type) -> Result<(), Error> {
            self.sink.plain(&value)
        }
    )*};
}

impl<'o, 's> Serializer for Writer<'o, 's> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Inner<'o, 's>;
    type SerializeTuple = Inner<'o, 's>;
    type SerializeTupleStruct = Inner<'o, 's>;
    type SerializeTupleVariant = Inner<'o, 's>;
    type SerializeMap = Inner<'o, 's>;
    type SerializeStruct = Inner<'o, 's>;
    type SerializeStructVariant = Inner<'o, 's>;

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
        self.sink.text(value);
        Ok(())
    }

    /// Whole numbers have no fraction, whatever their type: `1`, not `1.0`.
    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        const WHOLE: f64 = 1e21;
        if value.fract() != 0.0 || value.abs() >= WHOLE {
            return self.sink.plain(&value);
        }
        match self.sink {
            Sink::Json(out) => write!(out, "{value}").map_err(Error::io)?,
            Sink::Pieces(pieces) => pieces.plain(value.to_string().as_bytes()),
        }
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.sink.null();
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
        let Writer { sink, message } = self.begin_variant(variant)?;
        value.serialize(Writer {
            sink: &mut *sink,
            message,
        })?;
        sink.only_text()?.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<Inner<'o, 's>, Error> {
        Ok(self.begin("[", "]"))
    }

    fn serialize_tuple(self, _length: usize) -> Result<Inner<'o, 's>, Error> {
        Ok(self.begin("[", "]"))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _length: usize,
    ) -> Result<Inner<'o, 's>, Error> {
        Ok(self.begin("[", "]"))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Inner<'o, 's>, Error> {
        Ok(self.begin_variant(variant)?.begin("[", "]}"))
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Inner<'o, 's>, Error> {
        Ok(self.begin("{", "}"))
    }

    fn serialize_struct(self, name: &'static str, _length: usize) -> Result<Inner<'o, 's>, Error> {
        if name == RAW {
            self.sink.only_text()?;
            return Ok(self.begin("", ""));
        }
        let message = self.message.and_then(Message::as_object);
        let mut inner = self.begin("{", "}");
        inner.members = message.map(Message::members);
        Ok(inner)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Inner<'o, 's>, Error> {
        Ok(self.begin_variant(variant)?.begin("{", "}}"))
    }
}

macro_rules! lists {
    ($($trait:ident::$method:ident,)*) => {$(
        impl $trait for Inner<'_, '_> {
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

/// Appends a key of a map: a text, or a number or boolean as one.
fn write_key<T: ?Sized + Serialize>(key: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    let at = out.len();
    let sink = &mut Sink::Json(out);
    let message = None;
    key.serialize(Writer { sink, message })?;
    match out.get(at) {
        Some(b'"') => {}
        Some(b'0'..=b'9' | b'-' | b't' | b'f') => {
            out.insert(at, b'"');
            out.push(b'"');
        }
        _ => return Err(Error::custom("key must be a string")),
    }
    Ok(())
}

impl SerializeMap for Inner<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), Error> {
        match self.sink {
            Sink::Json(out) => {
                comma(out);
                write_key(key, out)?;
                out.push(b':');
            }
            Sink::Pieces(pieces) => {
                let mut name = Vec::with_capacity(32);
                write_key(key, &mut name)?;
                self.is_wanted = pieces.member(inside(&name));
            }
        }
        Ok(())
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), Error> {
        if self.is_wanted {
            value.serialize(Writer {
                sink: self.sink,
                message: self.message,
            })?;
            self.sink.end_other();
        }
        Ok(())
    }

    fn end(self) -> Result<(), Error> {
        Inner::end(self)
    }
}

impl SerializeStruct for Inner<'_, '_> {
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
        if let Some(members) = self.members {
            self.sink.missing(members, self.next, usize::MAX);
        }
        Inner::end(self)
    }
}

impl SerializeStructVariant for Inner<'_, '_> {
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
