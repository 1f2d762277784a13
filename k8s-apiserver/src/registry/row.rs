//! [`Row`]: a served resource together with how it is stored.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use k8s_model::{
    Object, Resource, ResourceTable, Scope,
    apply::Shape,
    custom::{Conversion, CustomObject, Version},
    decode::DecodeError,
    protobuf::MessageType,
    schema::Type,
};
use serde_json::Value;

use super::{
    conversion::Converter,
    key,
    value::{self, Stored},
    watch::Wants,
};
use crate::{Error, Result, webhook::Clients};

/// A served resource together with how it is stored.
#[derive(Debug)]
pub(crate) struct Row {
    /// The resource as it is served.
    pub(crate) resource: Arc<Resource>,
    /// The resource as it is stored.
    pub(crate) storage: Arc<Resource>,
    /// The prefix of its keys.
    pub(crate) prefix: String,
    /// What a list of it begins with.
    pub(crate) list_head: Bytes,
    /// What an item of a list loses: `"apiVersion":…,"kind":…,` and the brace before them.
    pub(crate) type_meta: usize,
    /// The `apiVersion` of its objects.
    pub(crate) api_version: String,
    /// What whoever asks for it is told, if it is deprecated.
    pub(crate) deprecation: Option<&'static str>,
    /// What ownership of fields goes by.
    pub(crate) shape: Shape,
    /// The versions in which the same objects are served.
    versions: Vec<Arc<Resource>>,
    /// The webhook that converts between them, if there is one.
    pub(super) converter: Option<Converter>,
    protobuf: OnceLock<Option<Protobuf>>,
    watchers: AtomicU32,
    /// What is watched of it.
    pub(super) wants: Wants,
}

/// A watch of a row, until this is dropped.
#[derive(Debug)]
pub(crate) struct Watching(Arc<Row>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How a resource is encoded in protobuf.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protobuf {
    pub(crate) object: MessageType,
    /// What cannot be listed has no list.
    pub(crate) list: Option<MessageType>,
}

impl Row {
    /// How many clients watch it.
    pub(crate) fn watchers(&self) -> u32 {
        self.watchers.load(Ordering::Relaxed)
    }

    /// Counts a watch as long as what is given back lives.
    pub(crate) fn watching(self: &Arc<Self>) -> Watching {
        self.watchers.fetch_add(1, Ordering::Relaxed);
        Watching(self.clone())
    }

    pub(super) fn new(resource: &Arc<Resource>, table: &ResourceTable, clients: &Clients) -> Self {
        let storage = table.storage_row(resource).unwrap_or(resource);
        let api_version = resource.api_version();
        Row {
            resource: resource.clone(),
            storage: storage.clone(),
            prefix: match resource.strategy.custom() {
                Some(_) => key::custom_prefix(resource),
                None => key::prefix(resource),
            },
            list_head: Bytes::from(format!(
                "{{\"kind\":\"{}\",\"apiVersion\":\"{api_version}\",\"metadata\":{{",
                resource.list_kind
            )),
            type_meta: format!(
                "{{\"apiVersion\":\"{api_version}\",\"kind\":\"{}\",",
                resource.kind
            )
            .len(),
            deprecation: deprecation(resource),
            shape: shape(resource),
            api_version,
            converter: (resource.strategy.custom())
                .and_then(|custom| Converter::new(custom, clients)),
            versions: table
                .stored_with(resource)
                .filter(|other| !Arc::ptr_eq(other, resource))
                .cloned()
                .collect(),
            protobuf: OnceLock::new(),
            watchers: AtomicU32::new(0),
            wants: Wants::default(),
        }
    }

    /// How it is encoded in protobuf; nothing for what has no such form.
    pub(crate) fn protobuf(&self) -> Option<Protobuf> {
        *self.protobuf.get_or_init(|| {
            let api_version = self.resource.api_version();
            let object = MessageType::of_kind(&api_version, self.resource.kind)?;
            let list = MessageType::of_kind(&api_version, self.resource.list_kind);
            Some(Protobuf { object, list })
        })
    }

    /// The version of a custom resource that this is, if it is one.
    pub(crate) fn custom(&self) -> Option<&Version> {
        self.resource.strategy.custom()
    }

    /// Whether objects are served in the version in which they are stored.
    pub(crate) fn is_storage_version(&self) -> bool {
        match self.custom() {
            Some(custom) => custom.api_version() == custom.storage_api_version(),
            None => Arc::ptr_eq(&self.resource, &self.storage),
        }
    }

    /// Whether the bytes of a stored object are those that are served.
    pub(crate) fn serves_as_stored(&self, stored: &Stored) -> bool {
        self.is_storage_version()
            && self
                .custom()
                .is_none_or(|custom| custom.fingerprint() == stored.mark())
    }

    /// Whether the bytes of all of these are.
    pub(crate) fn serves_all_as_stored<'s>(
        &self,
        stored: impl IntoIterator<Item = &'s Stored>,
    ) -> bool {
        match self.custom() {
            Some(_) => stored
                .into_iter()
                .all(|stored| self.serves_as_stored(stored)),
            None => self.is_storage_version(),
        }
    }

    /// The other versions in which the same objects are served.
    pub(crate) fn versions(&self) -> &[Arc<Resource>] {
        &self.versions
    }

    pub(crate) fn is_namespaced(&self) -> bool {
        self.resource.scope == Scope::Namespaced
    }

    /// Whether this is that resource of that group.
    pub(crate) fn is(&self, group: &str, resource: &str) -> bool {
        // Plural names tell more resources apart than groups.
        self.resource.resource == resource && self.resource.group == group
    }

    /// A stored object in the served version.
    pub(crate) fn decode(&self, stored: &Stored, revision: u64) -> Result<Box<dyn Object>> {
        self.decode_json(stored.json(), stored.mark(), revision)
    }

    /// A stored object in the served version, without its managed fields: for those who do not
    /// look at them.
    pub(crate) fn decode_bare(&self, stored: &Stored, revision: u64) -> Result<Box<dyn Object>> {
        self.decode_json(&stored.bare(), stored.mark(), revision)
    }

    fn decode_json(&self, json: &[u8], mark: u64, revision: u64) -> Result<Box<dyn Object>> {
        if let Some(custom) = self.custom() {
            let mut object = decode_custom(custom, json, mark)?;
            object.metadata_mut().resource_version = Some(revision.to_string());
            return Ok(Box::new(object));
        }
        let object = (self.storage.codec.from_json)(json, &mut |_| {}).map_err(|e| {
            Error::internal(format_args!(
                "a stored {} cannot be decoded: {e}",
                self.storage.kind
            ))
        })?;
        let mut object = if self.is_storage_version() {
            object
        } else {
            convert(object, &self.storage, &self.resource)?
        };
        object.metadata_mut().resource_version = Some(revision.to_string());
        Ok(object)
    }

    /// An entry of the store in the served version, without its managed fields.
    pub(crate) fn decode_entry(&self, entry: &k8s_store::Entry) -> Result<Box<dyn Object>> {
        self.decode_bare(&Stored::of(entry)?, entry.modified.0)
    }

    /// The bytes of an object for the store, with these managed fields. Leaves its resource version
    /// as it was.
    pub(crate) fn encode(&self, object: &mut Box<dyn Object>, managed: &[u8]) -> Result<Bytes> {
        let version = object.metadata_mut().resource_version.take();
        let value = if let Some(custom) = self.custom() {
            encode_custom(custom, object, managed)?
        } else if self.is_storage_version() {
            value::encode(&mut **object, managed)?
        } else {
            let mut stored = convert(object.boxed_clone(), &self.resource, &self.storage)?;
            value::encode(&mut *stored, managed)?
        };
        object.metadata_mut().resource_version = version;
        Ok(value)
    }

    /// The value tree of an object of one version in another; for those that no webhook converts.
    pub(super) fn in_version(&self, object: &Value, api_version: &str) -> Result<Value, String> {
        if let Some(Conversion::Functions(functions)) = self.custom().map(Version::conversion) {
            return functions.convert(object, api_version);
        }
        let find = |version: &str| {
            (std::iter::once(&self.resource).chain(&self.versions))
                .find(|resource| resource.api_version() == version)
        };
        let from = object["apiVersion"].as_str().unwrap_or_default();
        match (find(from), find(api_version)) {
            (Some(from), Some(to)) => Ok(k8s_model::convert::convert(object.clone(), from, to)),
            // Versions of a definition that are not served differ in the name alone.
            _ if self.custom().is_some() => {
                let mut object = object.clone();
                object["apiVersion"] = api_version.into();
                Ok(object)
            }
            _ => Err(format!("no conversion from {from} to {api_version}")),
        }
    }

    /// The JSON of a stored object in the served version.
    pub(crate) fn json(&self, stored: &Stored, revision: u64) -> Result<Bytes> {
        if self.serves_as_stored(stored) {
            return Ok(stored.with_revision(revision));
        }
        let mut out = Vec::with_capacity(stored.json().len() + 64);
        self.decode(stored, revision)?.write_json(&mut out);
        Ok(Bytes::from(out))
    }
}

/// What whoever asks for a deprecated kind is told: upstream's `APILifecycleDeprecated`.
fn deprecation(resource: &Resource) -> Option<&'static str> {
    match (resource.group, resource.version, resource.resource) {
        ("", "v1", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+"),
        ("", "v1", "endpoints") => {
            Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        }
        _ => None,
    }
}

/// What ownership of the fields of a resource's objects goes by.
pub(crate) fn shape(resource: &Resource) -> Shape {
    let built_in =
        || Type::of_kind(resource.group, resource.version, resource.kind).map(Shape::Type);
    let shape = resource.strategy.shape().or_else(built_in);
    shape.unwrap_or_else(Shape::unknown_kind)
}

/// What is stored in a version that the definition has no more.
pub(super) fn no_version(api_version: &str) -> Error {
    Error::unknown(format!(
        "request to convert CR from an invalid group/version: {api_version}"
    ))
}

/// A stored custom resource: as the schema of its version is now, in the version that is served.
fn decode_custom(custom: &Version, json: &[u8], mark: u64) -> Result<CustomObject> {
    let mut object = custom.decode_stored(json).map_err(|error| match error {
        DecodeError::WrongKind { api_version, .. } if !custom.has_version(&api_version) => {
            no_version(&api_version)
        }
        error => {
            let kind = custom.kind();
            Error::internal(format_args!("a stored {kind} cannot be decoded: {error}"))
        }
    })?;
    if !custom.is_settled(object.api_version(), mark) {
        custom.settle(&mut object);
    }
    if object.api_version() != custom.api_version() {
        object = (custom.converted(object, custom.api_version())).map_err(Error::unknown)?;
    }
    Ok(object)
}

/// The bytes of a custom resource for the store, in the stored version.
fn encode_custom(custom: &Version, object: &mut Box<dyn Object>, managed: &[u8]) -> Result<Bytes> {
    if custom.api_version() == custom.storage_api_version() {
        return Ok(value::encode_marked(
            &mut **object,
            managed,
            custom.fingerprint(),
        )?);
    }
    let Some(object) = object.downcast_ref::<CustomObject>() else {
        return Err(Error::internal("not a custom resource"));
    };
    let other = custom.converted(object.clone(), custom.storage_api_version());
    let mut other = other.map_err(Error::unknown)?;
    let mark = custom.mark_of_converted();
    Ok(value::encode_marked(&mut other, managed, mark)?)
}

/// An object in another version of its resource.
pub(crate) fn convert(
    object: Box<dyn Object>,
    from: &Resource,
    to: &Resource,
) -> Result<Box<dyn Object>> {
    let value = k8s_model::convert::convert(object.to_value(), from, to);
    (to.codec.from_value)(value, &mut |_| {}).map_err(Error::internal)
}
