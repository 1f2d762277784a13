//! [`RequestInfo`]: what a request asks for, read from its method and URL.

use http::Method;
use k8s_model::fields;

use super::uri;

/// What a request asks for, in the API's terms.
///
/// As upstream's `k8s.io/apiserver/pkg/endpoints/request.RequestInfo`: the authorizer decides by
/// it, and the router follows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether it is about a resource, and not about a path such as `/healthz`.
    pub is_resource: bool,
    /// The path, decoded.
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection` or
    /// `proxy`; for a path that is no resource, the method in lower case.
    pub verb: String,
    /// `api` or `apis`.
    pub api_prefix: String,
    /// The group; empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The namespace; empty if none is named.
    pub namespace: String,
    /// The plural name of the resource.
    pub resource: String,
    /// The subresource; empty if none is named.
    pub subresource: String,
    /// The name; empty if none is named.
    pub name: String,
    /// The path's segments from the resource on.
    pub parts: Vec<String>,
    /// The field selector of a `list`, `watch` or `deletecollection`, as it stands in the query.
    pub field_selector: String,
    /// Its label selector.
    pub label_selector: String,
}

const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Reads a request's method and URL.
    pub fn new(method: &Method, uri: &http::Uri) -> Self {
        let query = uri.query();
        let path = uri::decode(uri.path(), false);
        let mut info = RequestInfo {
            path: path.clone().into_owned(),
            ..Default::default()
        };
        if !info.read(method, &path, query) {
            info.verb = method.as_str().to_ascii_lowercase();
        }
        info
    }

    /// Reads what resource the path is about. False if it is none.
    fn read(&mut self, method: &Method, path: &str, query: Option<&str>) -> bool {
        let info = self;
        let parts: Vec<&str> = segments(path).collect();
        if parts.len() < 3 {
            return false;
        }
        let mut rest = match parts[0] {
            "api" => {
                info.api_prefix = "api".into();
                &parts[1..]
            }
            "apis" => {
                if parts.len() < 4 {
                    return false;
                }
                info.api_prefix = "apis".into();
                info.group = parts[1].into();
                &parts[2..]
            }
            _ => return false,
        };
        info.is_resource = true;
        info.version = rest[0].into();
        rest = &rest[1..];

        // `/api/v1/watch/...` and `/api/v1/proxy/...` are the old spelling of a verb.
        let in_path = rest[0] == "watch" || rest[0] == "proxy";
        if in_path {
            if rest.len() < 2 {
                info.is_resource = false;
                return false;
            }
            info.verb = rest[0].into();
            rest = &rest[1..];
        } else {
            info.verb = match *method {
                Method::POST => "create",
                Method::GET | Method::HEAD => "get",
                Method::PUT => "update",
                Method::PATCH => "patch",
                Method::DELETE => "delete",
                _ => "",
            }
            .into();
        }

        if rest[0] == "namespaces"
            && let Some(namespace) = rest.get(1)
        {
            info.namespace = (*namespace).into();
            // `/namespaces/NAME/RESOURCE` is about the resource, unless it is a subresource of
            // the namespace itself.
            if rest.len() > 2 && !NAMESPACE_SUBRESOURCES.contains(&rest[2]) {
                rest = &rest[2..];
            }
        }
        info.parts = rest.iter().map(|part| (*part).to_owned()).collect();
        info.resource = rest[0].into();
        if let Some(name) = rest.get(1) {
            info.name = (*name).into();
        }
        if let Some(subresource) = rest.get(2)
            && info.verb != "proxy"
        {
            info.subresource = (*subresource).into();
        }

        if info.name.is_empty() && info.verb == "get" {
            info.verb = if is_watch(query) { "watch" } else { "list" }.into();
            info.name_from_field_selector(query);
        } else if info.name.is_empty() && info.verb == "watch" {
            info.name_from_field_selector(query);
        } else if info.name.is_empty() && info.verb == "delete" {
            info.verb = "deletecollection".into();
        }
        // Where the path says the verb, selectors narrow only some requests.
        if !in_path && matches!(info.verb.as_str(), "list" | "watch" | "deletecollection") {
            let said = |name| {
                uri::query_value(query, name)
                    .unwrap_or_default()
                    .into_owned()
            };
            info.field_selector = said("fieldSelector");
            info.label_selector = said("labelSelector");
        }
        true
    }

    /// Whether the path says the verb, as in `/api/v1/watch/pods`.
    pub(crate) fn has_verb_in_path(&self) -> bool {
        let mut segments = segments(&self.path).skip(2);
        if self.api_prefix == "apis" {
            segments.next();
        }
        matches!(segments.next(), Some("watch" | "proxy"))
    }

    /// Whether the resource stands below a namespace in the URL, as in `/namespaces/NAME/pods`, and not only
    /// names one, as in `/namespaces/NAME`.
    pub(crate) fn is_in_namespace(&self) -> bool {
        let mut segments = segments(&self.path).skip(2);
        if self.api_prefix == "apis" {
            segments.next();
        }
        let mut first = segments.next();
        if matches!(first, Some("watch" | "proxy")) {
            first = segments.next();
        }
        first == Some("namespaces")
            && segments
                .nth(1)
                .is_some_and(|part| !NAMESPACE_SUBRESOURCES.contains(&part))
    }

    /// Whether the URL has a place for a namespace above the resource, and nothing there, as in `/namespaces//pods`.
    pub(crate) fn lacks_namespace(&self) -> bool {
        self.namespace.is_empty() && self.is_in_namespace()
    }

    /// A list or watch that a field selector narrows to one name is about that name.
    fn name_from_field_selector(&mut self, query: Option<&str>) {
        let Some(selector) = uri::query_value(query, "fieldSelector") else {
            return;
        };
        // It has to be the reading of those who select: a comma, too, can be a part of a value.
        let selector: Result<fields::Selector, _> = selector.parse();
        let named = selector.as_ref().ok();
        let name = named.and_then(|selector| selector.required_value("metadata.name"));
        if let Some(name) = name.filter(|name| {
            !name.is_empty() && !matches!(*name, "." | "..") && !name.contains(['/', '%'])
        }) {
            self.name = name.to_owned();
        }
    }
}

/// What is between the slashes of a path, but for those around it. They are short, so that to look at their bytes one by
/// one takes a third of what `str::split` does.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    let path = path.trim_matches('/');
    let mut rest = (!path.is_empty()).then_some(path);
    std::iter::from_fn(move || {
        let text = rest?;
        let end = text.bytes().position(|byte| byte == b'/');
        let (segment, after) = match end {
            Some(end) => (&text[..end], Some(&text[end + 1..])),
            None => (text, None),
        };
        rest = after;
        Some(segment)
    })
}

/// Whether `watch` is set.
fn is_watch(query: Option<&str>) -> bool {
    uri::query_value(query, "watch").is_some_and(|value| super::options::flag(&value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_what_splitting_gives() {
        for path in ["", "/", "//", "a", "/a", "a/", "/api/v1//pods/é/", "é/é"] {
            let mut split: Vec<&str> = path.trim_matches('/').split('/').collect();
            if split == [""] {
                split.clear();
            }
            assert_eq!(segments(path).collect::<Vec<_>>(), split, "{path}");
        }
    }

    #[test]
    fn a_selection_is_about_a_name_if_it_selects_that_alone() {
        let name = |query: &str| {
            let uri = format!("/api/v1/namespaces/ns/secrets?{query}");
            info(Method::GET, &uri).name
        };
        assert_eq!(name("fieldSelector=metadata.name%3Da"), "a");
        assert_eq!(name("fieldSelector=type%3Db,metadata.name%3D%3Da"), "a");
        assert_eq!(name("fieldSelector=metadata.name%3Da&fieldSelector="), "a");
        assert_eq!(name("fieldSelector=&fieldSelector=metadata.name%3Da"), "");
        // Here the name is a part of a value that no secret has, and all secrets are selected.
        let hidden = r"type!%3Db%5C,metadata.name%3Da";
        assert_eq!(name(&format!("fieldSelector={hidden}")), "");
        assert_eq!(name("fieldSelector=metadata.name!%3Da"), "");
        assert_eq!(name("fieldSelector=metadata.name%3D.."), "");
    }

    fn info(method: Method, uri: &str) -> RequestInfo {
        RequestInfo::new(&method, &uri.parse().unwrap())
    }

    #[test]
    fn nothing_between_slashes_is_a_segment_too() {
        // Clients that are told no namespace ask for `/namespaces//pods`, and mean all.
        let told = |path| {
            let info = info(Method::GET, path);
            (info.verb, info.namespace, info.resource, info.name)
        };
        let pods = told("/api/v1/pods");
        assert_eq!(told("/api/v1/namespaces//pods"), pods);
        assert_eq!(told("//api/v1/namespaces//pods//"), pods);
        let deployments = told("/apis/apps/v1/deployments");
        assert_eq!(told("/apis/apps/v1/namespaces//deployments"), deployments);
        for path in ["/api/v1/namespaces/", "/api/v1/namespaces//"] {
            assert_eq!(told(path), told("/api/v1/namespaces"));
        }
        for (path, wanted) in [
            ("/api/v1//pods", ["get", "", "", "pods"]),
            ("/api//v1/pods", ["get", "", "v1", "pods"]),
            ("/api/v1/namespaces/a//pods", ["get", "a", "", "pods"]),
            ("/api/v1/namespaces/a/pods//log", ["list", "a", "pods", ""]),
        ] {
            let (verb, namespace, resource, name) = told(path);
            assert_eq!([&*verb, &*namespace, &*resource, &*name], wanted, "{path}");
        }
    }

    #[test]
    fn what_narrows_a_request_for_many_objects_is_read() {
        let query = "fieldSelector=spec.nodeName%3Da&labelSelector=b";
        for (method, path, narrowed) in [
            (Method::GET, "/api/v1/pods?", true),
            (Method::GET, "/api/v1/pods?watch=1&", true),
            (Method::DELETE, "/api/v1/namespaces/n/pods?", true),
            (Method::GET, "/api/v1/watch/pods?", false),
            (Method::GET, "/api/v1/namespaces/n/pods/p?", false),
            (Method::POST, "/api/v1/namespaces/n/pods?", false),
        ] {
            let info = info(method, &format!("{path}{query}"));
            let (fields, labels) = match narrowed {
                true => ("spec.nodeName=a", "b"),
                false => ("", ""),
            };
            assert_eq!(info.field_selector, fields, "{path}");
            assert_eq!(info.label_selector, labels, "{path}");
        }
    }

    #[test]
    fn resources_are_told_from_paths() {
        for (method, uri, verb, group, namespace, resource, subresource, name) in [
            (
                Method::GET,
                "/api/v1/namespaces",
                "list",
                "",
                "",
                "namespaces",
                "",
                "",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/other",
                "get",
                "",
                "other",
                "namespaces",
                "",
                "other",
            ),
            (
                Method::PUT,
                "/api/v1/namespaces/other/finalize",
                "update",
                "",
                "other",
                "namespaces",
                "finalize",
                "other",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/other/pods",
                "list",
                "",
                "other",
                "pods",
                "",
                "",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/other/pods?watch=true",
                "watch",
                "",
                "other",
                "pods",
                "",
                "",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/other/pods/foo/status",
                "get",
                "",
                "other",
                "pods",
                "status",
                "foo",
            ),
            (
                Method::DELETE,
                "/api/v1/namespaces/other/pods",
                "deletecollection",
                "",
                "other",
                "pods",
                "",
                "",
            ),
            (
                Method::GET,
                "/api/v1/watch/namespaces/other/pods/foo",
                "watch",
                "",
                "other",
                "pods",
                "",
                "foo",
            ),
            (
                Method::PATCH,
                "/apis/apps/v1/namespaces/x/deployments/d/scale",
                "patch",
                "apps",
                "x",
                "deployments",
                "scale",
                "d",
            ),
            (
                Method::GET,
                "/apis/rbac.authorization.k8s.io/v1/clusterroles",
                "list",
                "rbac.authorization.k8s.io",
                "",
                "clusterroles",
                "",
                "",
            ),
            (
                Method::GET,
                "/api/v1/pods?fieldSelector=metadata.name%3Dfoo",
                "list",
                "",
                "",
                "pods",
                "",
                "foo",
            ),
        ] {
            let i = info(method, uri);
            assert!(i.is_resource, "{uri}");
            assert_eq!(
                (
                    i.verb.as_str(),
                    i.group.as_str(),
                    i.namespace.as_str(),
                    i.resource.as_str(),
                    i.subresource.as_str(),
                    i.name.as_str()
                ),
                (verb, group, namespace, resource, subresource, name),
                "{uri}"
            );
        }
        for uri in [
            "/",
            "/healthz",
            "/api",
            "/api/v1",
            "/apis",
            "/apis/apps",
            "/apis/apps/v1",
            "/openapi/v3/api/v1",
        ] {
            assert!(!info(Method::GET, uri).is_resource, "{uri}");
        }
    }
}
