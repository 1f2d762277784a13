//! What a request is about.

use http::{Method, request::Parts};

/// What a request is about, as far as faults care.
#[derive(Clone, Debug)]
pub(super) struct About {
    /// Its method and path.
    pub(super) text: String,
    pub(super) is_watch: bool,
    /// Whether it reads a log: that may go on for ever.
    pub(super) is_log: bool,
    pub(super) is_read: bool,
    pub(super) is_write: bool,
    /// Whether it changes what is there.
    pub(super) is_change: bool,
    pub(super) group: String,
    pub(super) resource: String,
    pub(super) name: String,
}

impl About {
    pub(super) fn new(parts: &Parts) -> Self {
        let path = parts.uri.path();
        let watch = parts.uri.query().is_some_and(|query| {
            query
                .split('&')
                .any(|pair| matches!(pair, "watch=true" | "watch=1"))
        });
        let mut words = path.trim_matches('/').split('/');
        let group = match words.next() {
            Some("apis") => words.next().unwrap_or_default(),
            _ => "",
        };
        let mut rest: Vec<&str> = words.skip(1).collect();
        if rest.len() > 2 && rest[0] == "namespaces" {
            rest.drain(..2);
        }
        let text = |at: usize| rest.get(at).copied().unwrap_or_default().to_owned();
        let upgrades = parts.headers.contains_key(http::header::UPGRADE);
        let method = &parts.method;
        let is_log = method == Method::GET && rest.get(2) == Some(&"log");
        let is_watch = method == Method::GET && watch;
        About {
            text: format!("{method} {path}{}", if is_watch { " (watch)" } else { "" }),
            is_watch,
            is_log,
            is_read: method == Method::GET && !watch && !upgrades && !is_log,
            is_write: [Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(method)
                && !upgrades,
            is_change: [Method::PUT, Method::PATCH].contains(method),
            group: group.to_owned(),
            resource: text(0),
            name: text(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_taken_apart() {
        for (path, expected) in [
            ("/api/v1/namespaces/default/pods/x", ("", "pods", "x")),
            (
                "/apis/apps/v1/namespaces/a/deployments/x/status",
                ("apps", "deployments", "x"),
            ),
            ("/api/v1/nodes/n", ("", "nodes", "n")),
            ("/api/v1/namespaces/default", ("", "namespaces", "default")),
            ("/api", ("", "", "")),
        ] {
            let request = http::Request::put(path).body(()).unwrap();
            let about = About::new(&request.into_parts().0);
            let found = (
                about.group.as_str(),
                about.resource.as_str(),
                about.name.as_str(),
            );
            assert_eq!(found, expected, "{path}");
        }
    }
}
