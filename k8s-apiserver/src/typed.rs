//! [`TypedResource`]: a Rust type of your own as a resource.

use std::{any::TypeId, fmt, marker::PhantomData, sync::Arc};

use k8s_model::{
    NoRules, Resource, ResourceTable,
    custom::{Conversion, Functions, KindColumn, KindStrategy, kind_rows},
    field::{self, ErrorList, Path},
};
use k8s_openapi::{
    ClusterResourceScope,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::{
        CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
        CustomResourceDefinitionSpec, CustomResourceDefinitionVersion,
        CustomResourceSubresourceScale, CustomResourceSubresourceStatus,
        CustomResourceSubresources, CustomResourceValidation, JSONSchemaProps, SelectableField,
    },
    jiff::Timestamp,
};
use kube::{
    CustomResourceExt,
    core::schema::{OptionalEnum, OptionalIntOrString, StructuralSchemaRewriter},
};
use schemars::{JsonSchema, generate::SchemaSettings, transform::AddNullable};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// A [`TypedResource`] cannot be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypedResourceError {
    /// The type has a schema that is no schema of a custom resource.
    #[error("the schema of {kind} cannot be used")]
    Schema {
        /// The kind.
        kind: String,
        /// Why not.
        source: serde_json::Error,
    },
    /// What a `CustomResourceDefinition` may not say: a schema that is not structural, a CEL rule that
    /// does not compile, a bad name.
    #[error("{kind} cannot be served: {}", list(.findings))]
    Invalid {
        /// The kind.
        kind: String,
        /// What is wrong, as an API server would tell it of a definition.
        findings: ErrorList,
    },
}

fn list(findings: &ErrorList) -> String {
    let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// A Rust type of your own as a resource, for [`ApiServerBuilder::typed`](crate::ApiServerBuilder::typed):
/// served as if a `CustomResourceDefinition` said so, but there is none, and nobody can change or
/// delete it.
///
/// It has all that a custom resource has: pruning, defaults and validation by the type's schema, CEL
/// rules, discovery, OpenAPI v2 and v3, watches, tables, server-side apply, `status` and `scale`. What a
/// schema cannot say goes into a [`KindStrategy`], in terms of the type. Objects are stored where
/// those of a definition of the same name would be, so a server may go from one to the other.
///
/// ```
/// use k8s_apiserver::{ApiServer, TypedResource, auth::Identity, resources};
/// use k8s_model::{custom::KindStrategy, field::{self, ErrorList, Path}};
/// use kube::{Api, CustomResource, api::PostParams};
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
/// #[kube(group = "example.com", version = "v1", kind = "Lamp", namespaced, shortname = "lp")]
/// struct LampSpec {
///     colour: Option<String>,
///     watts: u32,
/// }
///
/// struct LampRules;
///
/// impl KindStrategy<Lamp> for LampRules {
///     fn default(&self, lamp: &mut Lamp) {
///         lamp.spec.colour.get_or_insert_with(|| "white".to_owned());
///     }
///
///     fn validate(&self, lamp: &Lamp) -> ErrorList {
///         let path = Path::new("spec").child("watts");
///         match lamp.spec.watts {
///             0 => vec![field::invalid(path, 0, "a lamp without power is dark")],
///             _ => Vec::new(),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let lamps = TypedResource::<Lamp>::derived()
///     .strategy(LampRules)
///     .column("Colour", "string", ".spec.colour")
///     .computed("Bright", "boolean", |lamp, _| (lamp.spec.watts > 10).into());
/// let server = ApiServer::builder()
///     .resources(resources::for_custom_resources())
///     .typed(lamps)
///     .build()
///     .await?;
///
/// let lamps: Api<Lamp> = Api::default_namespaced(server.client(Identity::system_masters()));
/// let lamp = |name: &str, watts| Lamp::new(name, LampSpec { colour: None, watts });
/// let made = lamps.create(&PostParams::default(), &lamp("desk", 7)).await?;
/// assert_eq!(made.spec.colour.as_deref(), Some("white"));
///
/// let refused = lamps.create(&PostParams::default(), &lamp("attic", 0)).await.unwrap_err();
/// assert!(refused.to_string().contains("spec.watts: Invalid value: 0: a lamp without power is dark"));
/// # Ok(())
/// # }
/// ```
#[must_use = "it is served once it is handed to a builder"]
pub struct TypedResource<K> {
    definition: Result<CustomResourceDefinition, TypedResourceError>,
    columns: Vec<KindColumn<K>>,
    strategy: Arc<dyn KindStrategy<K>>,
    others: Vec<Other>,
    functions: Functions,
    kind: PhantomData<fn() -> K>,
}

/// Another version of a resource.
struct Other {
    definition: Result<CustomResourceDefinition, TypedResourceError>,
    /// Its rows, and those of the other versions, which do not count.
    rows: Box<Rows>,
}

type Rows = dyn FnOnce(&CustomResourceDefinition, &Conversion) -> Vec<Resource> + Send;

impl<K> fmt::Debug for TypedResource<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.definition.as_ref().map(|d| &d.metadata.name);
        f.debug_struct("TypedResource")
            .field("name", &name)
            .finish_non_exhaustive()
    }
}

impl<K> TypedResource<K>
where
    K: kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// A type of which all but the schema is told here: subresources, columns, short names. Group,
    /// version, kind, plural name and scope are those of [`kube::Resource`], the schema that of
    /// [`JsonSchema`], brought into the form of a `CustomResourceDefinition` as kube's derive does it. What it
    /// says of `metadata` counts for nothing.
    pub fn new() -> Self
    where
        K: JsonSchema,
        K::Scope: 'static,
    {
        let kind = K::kind(&()).into_owned();
        let definition = schema_of::<K>()
            .map(|schema| define::<K>(schema))
            .map_err(|source| TypedResourceError::Schema { kind, source });
        TypedResource::of(definition)
    }

    /// A type with `derive(CustomResource)`, which says everything in its attributes.
    pub fn derived() -> Self
    where
        K: CustomResourceExt,
    {
        TypedResource::of(Ok(K::crd()))
    }

    fn of(definition: Result<CustomResourceDefinition, TypedResourceError>) -> Self {
        TypedResource {
            definition,
            columns: Vec::new(),
            strategy: Arc::new(NoRules),
            others: Vec::new(),
            functions: Functions::new(K::api_version(&())),
            kind: PhantomData,
        }
    }

    /// The rules that the schema cannot say. Without, there are none.
    pub fn strategy(mut self, strategy: impl KindStrategy<K>) -> Self {
        self.strategy = Arc::new(strategy);
        self
    }

    /// Changes the definition in any way that has no method here.
    pub fn define(mut self, change: impl FnOnce(&mut CustomResourceDefinition)) -> Self {
        if let Ok(definition) = &mut self.definition {
            change(definition);
        }
        self
    }

    fn version(self, change: impl FnOnce(&mut CustomResourceDefinitionVersion)) -> Self {
        self.define(|definition| {
            if let Some(version) = definition.spec.versions.first_mut() {
                change(version);
            }
        })
    }

    /// Names for the command line, as in `lp`.
    pub fn short_names<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names = names.into_iter().map(str::to_owned).collect();
        self.define(|definition| definition.spec.names.short_names = Some(names))
    }

    /// Named sets of resources that it is in, such as `all`.
    pub fn categories<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names = names.into_iter().map(str::to_owned).collect();
        self.define(|definition| definition.spec.names.categories = Some(names))
    }

    /// A column of the table that `kubectl get` shows, with the value at a JSON path. `type_` is `string`,
    /// `integer`, `number`, `boolean` or `date`.
    pub fn column(self, name: &str, type_: &str, json_path: &str) -> Self {
        let column = CustomResourceColumnDefinition {
            name: name.to_owned(),
            type_: type_.to_owned(),
            json_path: json_path.to_owned(),
            ..CustomResourceColumnDefinition::default()
        };
        self.version(|version| {
            let columns = version.additional_printer_columns.get_or_insert_default();
            columns.push(column);
        })
    }

    /// A column that a function fills; it is told the time too, which ages are counted to. These
    /// columns come after those with paths, and before one that is called `Age`.
    pub fn computed(
        mut self,
        name: &str,
        type_: &str,
        cell: impl Fn(&K, Timestamp) -> Value + Send + Sync + 'static,
    ) -> Self {
        self.columns.push(KindColumn {
            name: name.to_owned(),
            type_: type_.to_owned(),
            description: String::new(),
            priority: 0,
            cell: Arc::new(cell),
        });
        self
    }

    /// A field that a field selector may name, as in `.spec.colour`.
    pub fn selectable_field(self, json_path: &str) -> Self {
        let field = SelectableField {
            json_path: json_path.to_owned(),
        };
        self.version(|version| {
            version
                .selectable_fields
                .get_or_insert_default()
                .push(field)
        })
    }

    /// The subresource `status`, which keeps writers of spec and status apart.
    pub fn status(self) -> Self {
        let status = CustomResourceSubresourceStatus(json!({}));
        self.version(|version| {
            let all: &mut CustomResourceSubresources = version.subresources.get_or_insert_default();
            all.status = Some(status);
        })
    }

    /// The subresource `scale`: where the wanted and the present number of replicas are, and the
    /// selector of the replicas as text.
    pub fn scale(self, wanted: &str, present: &str, selector: Option<&str>) -> Self {
        let scale = CustomResourceSubresourceScale {
            spec_replicas_path: wanted.to_owned(),
            status_replicas_path: present.to_owned(),
            label_selector_path: selector.map(str::to_owned),
        };
        self.version(|version| {
            let all: &mut CustomResourceSubresources = version.subresources.get_or_insert_default();
            all.scale = Some(scale);
        })
    }

    /// Serves the same objects in another version too, which is a Rust type of its own: with its own schema, rules, columns and
    /// subresources. Group, kind, plural name and scope must be the same. Objects are stored as `K`; the functions convert
    /// them when they are read or written as `V`. An object's metadata goes along by itself.
    ///
    /// Everything that has to do with versions is as with a definition: discovery, watches of each version, who owns which field
    /// in which version.
    ///
    /// ```
    /// use k8s_apiserver::{ApiServer, TypedResource, auth::Identity};
    /// use kube::{Api, api::PostParams};
    ///
    /// mod v1 {
    ///     use kube::CustomResource;
    ///     use schemars::JsonSchema;
    ///     use serde::{Deserialize, Serialize};
    ///
    ///     #[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
    ///     #[kube(group = "example.com", version = "v1", kind = "Lamp", namespaced)]
    ///     pub struct LampSpec {
    ///         pub watts: u32,
    ///     }
    /// }
    /// mod v2 {
    ///     use kube::CustomResource;
    ///     use schemars::JsonSchema;
    ///     use serde::{Deserialize, Serialize};
    ///
    ///     #[derive(CustomResource, Clone, Debug, Deserialize, Serialize, JsonSchema)]
    ///     #[kube(group = "example.com", version = "v2", kind = "Lamp", namespaced)]
    ///     pub struct LampSpec {
    ///         pub milliwatts: u32,
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let lamps = TypedResource::<v2::Lamp>::derived().served_as(
    ///     TypedResource::<v1::Lamp>::derived(),
    ///     |old| v2::Lamp::new("", v2::LampSpec { milliwatts: old.spec.watts * 1000 }),
    ///     |new| v1::Lamp::new("", v1::LampSpec { watts: new.spec.milliwatts / 1000 }),
    /// );
    /// let server = ApiServer::builder().typed(lamps).build().await?;
    /// let client = server.client(Identity::system_masters());
    ///
    /// let old: Api<v1::Lamp> = Api::default_namespaced(client.clone());
    /// old.create(&PostParams::default(), &v1::Lamp::new("desk", v1::LampSpec { watts: 7 })).await?;
    /// let new: Api<v2::Lamp> = Api::default_namespaced(client);
    /// assert_eq!(new.get("desk").await?.spec.milliwatts, 7000);
    /// # Ok(())
    /// # }
    /// ```
    pub fn served_as<V>(
        mut self,
        other: TypedResource<V>,
        to_stored: impl Fn(V) -> K + Send + Sync + 'static,
        from_stored: impl Fn(K) -> V + Send + Sync + 'static,
    ) -> Self
    where
        V: kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let api_version = V::api_version(&());
        self.functions = self.functions.with(api_version, to_stored, from_stored);
        let (strategy, columns) = (other.strategy, other.columns);
        self.others.push(Other {
            definition: other.definition,
            rows: Box::new(move |definition, conversion| {
                kind_rows(definition, strategy, columns, conversion)
            }),
        });
        self
    }

    /// The rows for the table of resources.
    pub(crate) fn into_rows(self) -> Result<Vec<Arc<Resource>>, TypedResourceError> {
        let mut definition = self.definition?;
        let (mut others, mut findings) = (Vec::new(), ErrorList::new());
        for other in self.others {
            let theirs = other.definition?.spec;
            let path = Path::new("spec").child("names");
            let text = "must be the same in all versions";
            let (ours, names) = (&definition.spec, &theirs.names);
            if (&ours.group, &ours.scope) != (&theirs.group, &theirs.scope)
                || (&ours.names.plural, &ours.names.kind) != (&names.plural, &names.kind)
            {
                findings.push(field::invalid(path, names.plural.as_str(), text));
            }
            let mut served = Vec::new();
            for mut version in theirs.versions {
                version.storage = false;
                served.push(version.name.clone());
                definition.spec.versions.push(version);
            }
            others.push((served, other.rows));
        }
        let table = ResourceTable::builtin();
        if let Some(row) = table.kind("apiextensions.k8s.io", "v1", "CustomResourceDefinition") {
            row.strategy.default(&mut definition);
            findings.extend(row.strategy.validate(&definition));
        }
        if !findings.is_empty() {
            let kind = definition.spec.names.kind;
            return Err(TypedResourceError::Invalid { kind, findings });
        }
        let conversion = match others.is_empty() {
            true => Conversion::None,
            false => Conversion::Functions(Arc::new(self.functions)),
        };
        let mut rows = kind_rows(&definition, self.strategy, self.columns, &conversion);
        for (served, make) in others {
            for made in make(&definition, &conversion) {
                let own = served.iter().any(|version| version == made.version);
                let row = rows.iter_mut().find(|row| row.version == made.version);
                if let Some(row) = row.filter(|_| own) {
                    *row = made;
                }
            }
        }
        Ok(rows.into_iter().map(Arc::new).collect())
    }
}

impl<K> Default for TypedResource<K>
where
    K: kube::Resource<DynamicType = ()> + Serialize + DeserializeOwned + Send + Sync + 'static,
    K: JsonSchema,
    K::Scope: 'static,
{
    fn default() -> Self {
        TypedResource::new()
    }
}

/// The definition that a type without a derive would have.
fn define<K>(schema: JSONSchemaProps) -> CustomResourceDefinition
where
    K: kube::Resource<DynamicType = ()>,
    K::Scope: 'static,
{
    let (group, kind) = (K::group(&()).into_owned(), K::kind(&()).into_owned());
    let plural = K::plural(&()).into_owned();
    let cluster = TypeId::of::<K::Scope>() == TypeId::of::<ClusterResourceScope>();
    let mut definition = CustomResourceDefinition::default();
    definition.metadata.name = Some(format!("{plural}.{group}"));
    definition.spec = CustomResourceDefinitionSpec {
        group,
        names: CustomResourceDefinitionNames {
            singular: Some(kind.to_lowercase()),
            list_kind: Some(format!("{kind}List")),
            kind,
            plural,
            ..CustomResourceDefinitionNames::default()
        },
        scope: if cluster { "Cluster" } else { "Namespaced" }.to_owned(),
        versions: vec![CustomResourceDefinitionVersion {
            name: K::version(&()).into_owned(),
            served: true,
            storage: true,
            schema: Some(CustomResourceValidation {
                open_api_v3_schema: Some(schema),
            }),
            ..CustomResourceDefinitionVersion::default()
        }],
        ..CustomResourceDefinitionSpec::default()
    };
    definition
}

/// A type's schema, as kube's derive makes it, without what all objects have.
fn schema_of<K: JsonSchema>() -> Result<JSONSchemaProps, serde_json::Error> {
    let generator = SchemaSettings::openapi3()
        .with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        })
        .with_transform(AddNullable::default())
        .with_transform(StructuralSchemaRewriter)
        .with_transform(OptionalEnum)
        .with_transform(OptionalIntOrString)
        .into_generator();
    let mut schema = serde_json::to_value(generator.into_root_schema_for::<K>())?;
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove("apiVersion");
        properties.remove("kind");
        properties.insert("metadata".to_owned(), json!({"type": "object"}));
    }
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !matches!(name.as_str(), Some("apiVersion" | "kind" | "metadata")));
    }
    serde_json::from_value(schema)
}
