//! What the client wants back: encoding and shape, from `Accept`.

use http::{HeaderMap, header};

use super::{options::parse_bool, uri};
use crate::{Error, Result};

/// The media types that are spoken.
pub(crate) const MEDIA_TYPES: [&str; 2] = ["application/json", "application/yaml"];

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Json,
    Yaml,
}

impl Format {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Yaml => "application/yaml",
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

/// What the client wants back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) format: Format,
    pub(crate) shape: Shape,
    pub(crate) pretty: bool,
    pub(crate) gzip: bool,
}

impl Wanted {
    pub(crate) fn new(headers: &HeaderMap, query: Option<&str>) -> Result<Self> {
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
        clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
        for clause in clauses {
            let format = match clause.media_type {
                "application/json" | "*/*" | "application/*" => Format::Json,
                "application/yaml" => Format::Yaml,
                _ => continue,
            };
            let shape = match (clause.shape, clause.group, clause.version) {
                ("", _, _) => Shape::Object,
                ("Table", "meta.k8s.io", "v1" | "v1beta1") => Shape::Table,
                (
                    "PartialObjectMetadata" | "PartialObjectMetadataList",
                    "meta.k8s.io",
                    "v1" | "v1beta1",
                ) => Shape::Metadata,
                _ => continue,
            };
            wanted.format = format;
            wanted.shape = shape;
            return Ok(wanted);
        }
        Err(Error::not_acceptable(&MEDIA_TYPES))
    }
}

struct Clause<'a> {
    media_type: &'a str,
    shape: &'a str,
    group: &'a str,
    version: &'a str,
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
            quality: 1.0,
        };
        for (key, value) in parts.filter_map(|p| p.split_once('=')) {
            match key {
                "as" => clause.shape = value,
                "g" => clause.group = value,
                "v" => clause.version = value,
                "q" => clause.quality = value.parse().unwrap_or(1.0),
                _ => {}
            }
        }
        clause
    }
}

/// Whether the answer is for a person to read: upstream indents for browsers and curl.
fn pretty(headers: &HeaderMap, query: Option<&str>) -> bool {
    if let Some(value) = uri::query_value(query, "pretty") {
        return parse_bool(&value).unwrap_or(true);
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
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        Wanted::new(&headers, None)
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
        assert_eq!(
            wanted("application/vnd.kubernetes.protobuf,application/json")
                .unwrap()
                .format,
            Format::Json
        );
        assert_eq!(wanted("application/yaml").unwrap().format, Format::Yaml);
        assert_eq!(wanted("text/html").unwrap_err().code(), 406);
        assert_eq!(
            wanted("application/json;q=0.5, application/yaml")
                .unwrap()
                .format,
            Format::Yaml
        );
    }
}
