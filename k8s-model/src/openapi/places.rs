//! The documents of what is in no group version.

use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
};

use bytes::Bytes;
use serde_json::json;

use super::{
    META, SCHEMAS, collect, document,
    operations::{group_tag, groups, operation_base, read},
};
use crate::{
    ResourceTable,
    schema::{self, Type},
};

const OPENID_CONFIGURATION: &str = ".well-known/openid-configuration";
const JWKS: &str = "openid/v1/jwks";
const VERSION: &str = "version";

/// The paths below `/openapi/v3/` of what is in no group version: `api`, `apis`, `apis/apps`, `version` and where keys of
/// tokens are told. Groups that have custom resources alone are not told, as upstream does it.
pub fn places(table: &ResourceTable) -> Vec<String> {
    let mut out: Vec<String> = [OPENID_CONFIGURATION, JWKS, VERSION, "apis"]
        .map(str::to_owned)
        .into();
    let rows = table.rows().iter();
    let built_in = rows.filter(|row| row.strategy.custom().is_none());
    let names: BTreeSet<&str> = built_in.map(|row| row.group).collect();
    out.extend(names.into_iter().map(|group| match group {
        "" => "api".to_owned(),
        group => format!("apis/{group}"),
    }));
    out
}

/// A value that changes when the document of such a path does.
pub fn place_hash(path: &str) -> String {
    let mut hasher = DefaultHasher::new();
    let version = env!("CARGO_PKG_VERSION");
    (path, version, schema::MINOR, schema::fingerprint()).hash(&mut hasher);
    format!("{:016X}", hasher.finish())
}

/// The document of one of the [places()], or nothing if there is no such place.
pub fn place(table: &ResourceTable, path: &str) -> Option<Bytes> {
    if !places(table).iter().any(|place| place == path) {
        return None;
    }
    let meta = |name: &str| Some(format!("{META}.{name}"));
    let text = || json!({"type": "string"});
    let (item, ty) = match path {
        "api" => (
            groups(
                "core",
                "getCoreAPIVersions",
                "get available API versions",
                "APIVersions",
            ),
            meta("APIVersions"),
        ),
        "apis" => (
            groups(
                "apis",
                "getAPIVersions",
                "get available API versions",
                "APIGroupList",
            ),
            meta("APIGroupList"),
        ),
        VERSION => {
            let name = "apimachinery.pkg.version.Info";
            let answer = json!({"$ref": format!("{SCHEMAS}{name}")});
            let types = &["application/json"];
            (
                read(
                    VERSION,
                    "getCodeVersion",
                    "get the version of the code",
                    answer,
                    types,
                ),
                Some(name.to_owned()),
            )
        }
        OPENID_CONFIGURATION => (
            read(
                "WellKnown",
                "getServiceAccountIssuerOpenIDConfiguration",
                "get the OIDC discovery document of the issuer of service accounts' tokens",
                text(),
                &["application/json"],
            ),
            None,
        ),
        JWKS => (
            read(
                "openid",
                "getServiceAccountIssuerOpenIDKeyset",
                "get the keys by which tokens of service accounts are checked, as a JSON Web Key Set",
                text(),
                &["application/jwk-set+json"],
            ),
            None,
        ),
        path => {
            let tag = group_tag(path.strip_prefix("apis/")?);
            let id = format!("get{}APIGroup", operation_base(&tag));
            (
                groups(&tag, &id, "get information of a group", "APIGroup"),
                meta("APIGroup"),
            )
        }
    };
    let mut types = BTreeSet::new();
    collect(ty.and_then(|name| Type::named(&name)), &mut types);
    let paths = std::iter::once((format!("/{path}/"), item));
    Some(document(table, paths, &types, &[]))
}
