//! What the client wants back: encoding and shape, from `Accept`.

use http::{HeaderMap, header};

use super::{options::parse_bool, uri};
use crate::{Error, Result};

/// The media types that are spoken: the last one only where a kind has that form, though upstream names it for all.
pub(crate) const MEDIA_TYPES: [&str; 3] = ["application/json", "application/yaml", PROTOBUF];
/// The same for watches.
const STREAM_TYPES: [&str; 2] = [
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

impl Format {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Yaml => "application/yaml",
            Format::Protobuf => PROTOBUF,
        }
    }
}

/// In which shape an object is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As itself.
    #[default]
    Object,
    /// As rows and columns to print.
    Table,
    /// Only its metadata.
    Metadata,
}

/// The version of tables and metadata that is wanted. They are the same in each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MetaVersion {
    #[default]
    V1,
    V1beta1,
}

impl MetaVersion {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "v1" => Some(MetaVersion::V1),
            "v1beta1" => Some(MetaVersion::V1beta1),
            _ => None,
        }
    }

    /// With the group.
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            MetaVersion::V1 => "meta.k8s.io/v1",
            MetaVersion::V1beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

/// A form that not everything has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Protobuf,
    Table,
}

/// What the client wants back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) format: Format,
    pub(crate) shape: Shape,
    pub(crate) meta: MetaVersion,
    pub(crate) pretty: bool,
    pub(crate) gzip: bool,
    /// Metadata of a list were asked for, not those of an object.
    pub(crate) of_list: bool,
}

impl Wanted {
    /// `has` says which forms what is asked for has: custom resources have no protobuf, and what is
    /// never stored is no table.
    pub(crate) fn new(
        headers: &HeaderMap,
        query: Option<&str>,
        has: impl Fn(Form) -> bool,
    ) -> Result<Self> {
        let mut wanted = Wanted {
            pretty: pretty(headers, query),
            gzip: gzip(headers),
            ..Default::default()
        };
        let accept: Vec<&str> = headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .collect();
        if accept.iter().all(|a| a.trim().is_empty()) {
            return Ok(wanted);
        }
        let mut clauses: Vec<Clause<'_>> = accept
            .iter()
            .flat_map(|a| a.split(','))
            .map(Clause::parse)
            .collect();
        // The most wanted first, and of those what is named before what is not.
        clauses.sort_by(|a, b| {
            b.quality
                .total_cmp(&a.quality)
                .then(a.wildcards().cmp(&b.wildcards()))
        });
        for clause in clauses {
            let format = match clause.media_type {
                "application/json" | "*/*" | "application/*" => Format::Json,
                "application/yaml" => Format::Yaml,
                PROTOBUF if has(Form::Protobuf) => Format::Protobuf,
                _ => continue,
            };
            if !matches!(clause.stream, "" | "watch") {
                continue;
            }
            let version = MetaVersion::parse(clause.version);
            let shape = match (clause.shape, clause.group, version) {
                ("", "", None) if clause.version.is_empty() => Shape::Object,
                ("Table", "meta.k8s.io", Some(_))
                    if format != Format::Protobuf && has(Form::Table) =>
                {
                    Shape::Table
                }
                ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", Some(_)) => {
                    Shape::Metadata
                }
                _ => continue,
            };
            wanted.meta = version.unwrap_or_default();
            wanted.format = format;
            wanted.shape = shape;
            wanted.of_list = clause.shape.ends_with("List");
            return Ok(wanted);
        }
        Err(not_acceptable())
    }

    /// Refuses the metadata of an object where there is a list, and of a list where there is an object: of kind `kind`
    /// in `group`, nothing for one that is defined by a custom resource definition.
    pub(crate) fn check_shape(&self, is_list: bool, kind: Option<(&str, &str)>) -> Result<()> {
        if self.shape != Shape::Metadata || self.of_list == is_list {
            return Ok(());
        }
        let list = if is_list { "List" } else { "" };
        let name = match kind {
            Some((group, kind)) => {
                let package = match group.split('.').next() {
                    None | Some("") => "core",
                    Some(package) => package,
                };
                format!("*{package}.{kind}{list}")
            }
            None => format!("*unstructured.Unstructured{list}"),
        };
        Err(Error::not_acceptable_as(if is_list {
            format!(
                "you requested PartialObjectMetadata, but the requested object is a list ({name})"
            )
        } else {
            format!(
                "you requested PartialObjectMetadataList, but the requested object is not a list ({name})"
            )
        }))
    }

    /// The same in JSON, for what has no other form.
    pub(crate) fn as_json(self) -> Self {
        Wanted {
            format: Format::Json,
            ..self
        }
    }

    /// Refuses what a watch cannot be sent as.
    pub(crate) fn check_stream(&self, has_protobuf: bool) -> Result<()> {
        if self.format == Format::Yaml {
            let types = &STREAM_TYPES[..if has_protobuf { 2 } else { 1 }];
            return Err(Error::not_acceptable(types));
        }
        Ok(())
    }
}

/// 406, with what would have been acceptable.
pub(crate) fn not_acceptable() -> Error {
    Error::not_acceptable(&MEDIA_TYPES)
}

/// 406 in the words of upstream's router, which looks at media types without their parameters; nothing if it would let
/// the request pass. Lists have the types of watches too.
pub(crate) fn not_produced(headers: &HeaderMap, lists: bool) -> Option<Error> {
    let produced = |media_type: &str| media_type == "*/*" || MEDIA_TYPES.contains(&media_type);
    let mut wanted = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|clause| Clause::parse(clause).media_type);
    if wanted.any(produced) {
        return None;
    }
    let streams = &STREAM_TYPES[..if lists { 2 } else { 0 }];
    Some(Error::not_produced(&[&MEDIA_TYPES, streams].concat()))
}

/// Refuses requests for anything but the one media type that there is at a path.
pub(crate) fn not_produced_but(headers: &HeaderMap, media_type: &'static str) -> Option<Error> {
    let mut wanted = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .filter(|value| !value.is_empty())
        .flat_map(|value| value.split(','))
        .map(|clause| Clause::parse(clause).media_type)
        .peekable();
    let fits = wanted.peek().is_none() || wanted.any(|it| it == "*/*" || it == media_type);
    (!fits).then(|| Error::not_produced(&[media_type]))
}

struct Clause<'a> {
    media_type: &'a str,
    shape: &'a str,
    group: &'a str,
    version: &'a str,
    stream: &'a str,
    quality: f32,
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let mut clause = Clause {
            media_type: parts.next().unwrap_or_default(),
            shape: "",
            group: "",
            version: "",
            stream: "",
            quality: 1.0,
        };
        for (key, value) in parts.filter_map(|p| p.split_once('=')) {
            match key {
                "as" => clause.shape = value,
                "g" => clause.group = value,
                "v" => clause.version = value,
                "stream" => clause.stream = value,
                "q" => clause.quality = value.parse().unwrap_or(1.0),
                _ => {}
            }
        }
        clause
    }

    /// How much is left open.
    fn wildcards(&self) -> usize {
        self.media_type.matches('*').count()
    }
}

/// Whether the answer is for a person to read: upstream indents for browsers and curl.
fn pretty(headers: &HeaderMap, query: Option<&str>) -> bool {
    let asked = uri::query_value(query, "pretty").filter(|value| !value.is_empty());
    if let Some(value) = asked {
        return parse_bool(&value).unwrap_or(false);
    }
    headers
        .get(header::USER_AGENT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|agent| {
            ["curl", "Wget", "Mozilla/5.0"]
                .iter()
                .any(|a| agent.starts_with(a))
        })
}

fn gzip(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| {
            v.split(',')
                .any(|e| e.split(';').next().is_some_and(|e| e.trim() == "gzip"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(accept: &'static str) -> Result<Wanted> {
        wanted_of(accept, true)
    }

    fn wanted_of(accept: &'static str, has_protobuf: bool) -> Result<Wanted> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        Wanted::new(&headers, None, |form| {
            form != Form::Protobuf || has_protobuf
        })
    }

    #[test]
    fn kubectl_gets_its_table_and_falls_back() {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(wanted(accept).unwrap().shape, Shape::Table);
        assert_eq!(
            wanted("application/json;as=Other;v=v1;g=meta.k8s.io,application/json")
                .unwrap()
                .shape,
            Shape::Object
        );
        // Tables have no protobuf form.
        let accept =
            "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json";
        let table = wanted(accept).unwrap();
        assert_eq!((table.format, table.shape), (Format::Json, Shape::Object));
    }

    #[test]
    fn the_most_wanted_format_that_there_is_wins() {
        let format = |accept| wanted(accept).map(|w| w.format);
        for (accept, expected) in [
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Format::Protobuf,
            ),
            (
                "application/vnd.kubernetes.protobuf;stream=watch",
                Format::Protobuf,
            ),
            ("application/yaml", Format::Yaml),
            ("application/json;q=0.5, application/yaml", Format::Yaml),
            (
                "application/json;q=0.5, application/vnd.kubernetes.protobuf;q=0.4",
                Format::Json,
            ),
            ("*/*, application/vnd.kubernetes.protobuf", Format::Protobuf),
            (
                "application/json;stream=other, application/yaml",
                Format::Yaml,
            ),
        ] {
            assert_eq!(format(accept).unwrap(), expected, "{accept}");
        }
        let custom = wanted_of(
            "application/vnd.kubernetes.protobuf,application/json",
            false,
        );
        assert_eq!(custom.unwrap().format, Format::Json);
    }

    #[test]
    fn metadata_of_a_list_are_not_those_of_an_object() {
        let wanted = |shape: &str| {
            let accept = format!("application/json;as={shape};v=v1;g=meta.k8s.io");
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            Wanted::new(&headers, None, |_| true).unwrap()
        };
        let (one, list) = (
            wanted("PartialObjectMetadata"),
            wanted("PartialObjectMetadataList"),
        );
        let role = Some(("rbac.authorization.k8s.io", "Role"));
        assert!(one.check_shape(false, role).is_ok() && list.check_shape(true, role).is_ok());
        assert!(wanted("Table").check_shape(true, role).is_ok());
        let told = |wanted: Wanted, is_list, kind| {
            wanted.check_shape(is_list, kind).unwrap_err().to_string()
        };
        assert_eq!(
            told(one, true, role),
            "you requested PartialObjectMetadata, but the requested object is a list (*rbac.RoleList)"
        );
        assert_eq!(
            told(list, false, Some(("", "Pod"))),
            "you requested PartialObjectMetadataList, but the requested object is not a list (*core.Pod)"
        );
        assert!(told(one, true, None).ends_with("(*unstructured.UnstructuredList)"));
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_what_can() {
        let refused = |accept, protobuf| wanted_of(accept, protobuf).unwrap_err().to_string();
        assert_eq!(
            refused("text/html", true),
            "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        );
        assert_eq!(
            refused("application/vnd.kubernetes.protobuf", false),
            "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        );
        let mut headers = HeaderMap::new();
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        headers.insert(header::ACCEPT, table.parse().unwrap());
        let error = Wanted::new(&headers, None, |form| form != Form::Table);
        assert!(
            error
                .unwrap_err()
                .to_string()
                .starts_with("only the following")
        );
        let yaml = wanted("application/yaml").unwrap();
        assert_eq!(
            yaml.check_stream(true).unwrap_err().to_string(),
            "only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
        );
    }
}
