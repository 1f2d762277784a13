//! The options of a connection, such as `PodExecOptions`: an object to admission, a query to everybody else.

use http::{Uri, uri::PathAndQuery};
use serde_json::{Map, Value};

use super::{info::RequestInfo, uri};
use crate::{Error, Result};

/// What an option is.
#[derive(Clone, Copy, PartialEq)]
enum Sort {
    /// Yes or no.
    Flag,
    /// One text.
    Text,
    /// Texts.
    Texts,
    /// Numbers of ports.
    Ports,
    /// What follows the subresource in the path.
    Path,
}

const STREAMS: [(&str, Sort); 6] = [
    ("stdin", Sort::Flag),
    ("stdout", Sort::Flag),
    ("stderr", Sort::Flag),
    ("tty", Sort::Flag),
    ("container", Sort::Text),
    ("command", Sort::Texts),
];

/// The options of that kind.
fn fields(kind: &str) -> &'static [(&'static str, Sort)] {
    match kind {
        "PodExecOptions" => &STREAMS,
        "PodAttachOptions" => &STREAMS[..5],
        "PodPortForwardOptions" => &[("ports", Sort::Ports)],
        "PodProxyOptions" | "ServiceProxyOptions" | "NodeProxyOptions" => &[("path", Sort::Path)],
        _ => &[],
    }
}

/// Reads the options of a request. Of an option that is given twice, the first counts, as upstream has it.
///
/// # Errors
/// Fails with 400 if a port is none.
pub(crate) fn parse(kind: &str, info: &RequestInfo, query: Option<&str>) -> Result<Value> {
    let mut out = Map::new();
    out.insert("kind".to_owned(), kind.into());
    out.insert("apiVersion".to_owned(), "v1".into());
    for (name, sort) in fields(kind) {
        let first = uri::query_value(query, name);
        let value = match sort {
            Sort::Flag => first
                .is_some_and(|v| v != "0" && !v.eq_ignore_ascii_case("false"))
                .then_some(Value::Bool(true)),
            Sort::Text => first
                .filter(|text| !text.is_empty())
                .map(|text| text.into_owned().into()),
            Sort::Texts => {
                let given: Vec<Value> = all(query, name).map(Value::String).collect();
                Some(match given.is_empty() {
                    true => Value::Null,
                    false => given.into(),
                })
            }
            Sort::Ports => ports(query, name)?,
            Sort::Path => Some(rest(info))
                .filter(|path| !path.is_empty())
                .map(Value::String),
        };
        if let Some(value) = value {
            out.insert((*name).to_owned(), value);
        }
    }
    Ok(Value::Object(out))
}

fn all<'q>(query: Option<&'q str>, name: &'q str) -> impl Iterator<Item = String> + 'q {
    uri::query_pairs(query)
        .filter(move |(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

fn ports(query: Option<&str>, name: &str) -> Result<Option<Value>> {
    let mut out = Vec::new();
    for given in all(query, name) {
        for port in given.split(',') {
            let port: u16 = port.parse().map_err(|_| {
                let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
                let fault = match digits {
                    true => "value out of range",
                    false => "invalid syntax",
                };
                Error::bad_request(format!(
                    "cannot convert to []int32: strconv.ParseUint: parsing {port:?}: {fault}"
                ))
            })?;
            out.push(Value::from(port));
        }
    }
    Ok((!out.is_empty()).then_some(Value::Array(out)))
}

/// What follows the subresource, with a slash before it, and with one behind it if the request has one.
fn rest(info: &RequestInfo) -> String {
    let mut rest = info.parts.get(3..).unwrap_or_default().join("/");
    if !rest.is_empty() && !rest.starts_with('/') {
        rest.insert(0, '/');
    }
    if info.path.ends_with('/') && !rest.ends_with('/') {
        rest.push('/');
    }
    rest
}

/// Options that somebody has changed, if they are some of that kind.
///
/// # Errors
/// Fails, with the reason, if they are not.
pub(crate) fn checked(kind: &str, changed: Value) -> Result<Value, String> {
    let Value::Object(mut given) = changed else {
        return Err(format!("{kind} must be an object"));
    };
    let mut out = Map::new();
    for (name, of) in [("kind", kind), ("apiVersion", "v1")] {
        if given.remove(name).is_some_and(|found| found != of) {
            return Err(format!("{name} must be {of}"));
        }
        out.insert(name.to_owned(), of.into());
    }
    for (name, sort) in fields(kind) {
        let given = given.remove(*name).unwrap_or_default();
        let fits = match (&given, sort) {
            (Value::Null, _) => true,
            (Value::Bool(_), Sort::Flag) => true,
            (Value::String(_), Sort::Text | Sort::Path) => true,
            (Value::Array(items), Sort::Texts) => items.iter().all(Value::is_string),
            (Value::Array(items), Sort::Ports) => {
                let port = |item: &Value| item.as_u64().and_then(|n| u16::try_from(n).ok());
                items.iter().all(|item| port(item).is_some())
            }
            _ => false,
        };
        if !fits {
            return Err(format!("json: cannot unmarshal into field {kind}.{name}"));
        }
        let empty = given.is_null() || given == false || given == "";
        if !empty || *sort == Sort::Texts {
            out.insert((*name).to_owned(), given);
        }
    }
    match given.keys().next() {
        Some(name) => Err(format!("strict decoding error: unknown field {name:?}")),
        None => Ok(Value::Object(out)),
    }
}

/// The request's URI with these options in place of its own: who serves the connection gets what was admitted and nothing
/// else. Of a proxy, the query is its backend's.
///
/// # Errors
/// Fails with 400 if no URI can have them.
pub(crate) fn rewritten(
    kind: &str,
    options: &Value,
    info: &RequestInfo,
    original: &Uri,
) -> Result<Uri> {
    if fields(kind).is_empty() {
        return Ok(original.clone());
    }
    let path = original.path();
    let is_proxy = fields(kind).iter().any(|(_, sort)| *sort == Sort::Path);
    let target = if is_proxy {
        let (before, written) = halves(info, path);
        let wanted = options["path"].as_str().unwrap_or_default();
        let written = match wanted == rest(info) {
            true => written,
            false if wanted.is_empty() || wanted.starts_with('/') => escaped(wanted, true),
            false => format!("/{}", escaped(wanted, true)),
        };
        let query = original.query().map(|query| format!("?{query}"));
        format!("{before}{written}{}", query.unwrap_or_default())
    } else {
        match query(kind, options) {
            query if query.is_empty() => path.to_owned(),
            query => format!("{path}?{query}"),
        }
    };
    let path: PathAndQuery = target
        .parse()
        .map_err(|e| Error::bad_request(format!("invalid options of a connection: {e}")))?;
    let mut parts = original.clone().into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(Error::internal)
}

fn query(kind: &str, options: &Value) -> String {
    let mut out = Vec::new();
    let mut add = |name: &str, value: &str| {
        out.push(format!("{name}={}", escaped(value, false)));
    };
    for (name, _) in fields(kind) {
        match &options[*name] {
            Value::Bool(true) => add(name, "true"),
            Value::String(text) => add(name, text),
            Value::Array(items) => {
                for item in items {
                    match item {
                        Value::String(text) => add(name, text),
                        other => add(name, &other.to_string()),
                    }
                }
            }
            _ => {}
        }
    }
    out.join("&")
}

/// The part of a path up to the subresource, as it is to be written, and what follows it, as it was written. An escaped
/// slash parts names too: whoever counts them later must not find others.
fn halves(info: &RequestInfo, path: &str) -> (String, String) {
    let parts: Vec<&str> = info.path.trim_matches('/').split('/').collect();
    let behind = info.parts.len().saturating_sub(3);
    let named = parts.len().saturating_sub(behind);
    let mut before = String::new();
    let mut left = 0;
    for part in parts[..named].iter().filter(|part| !part.is_empty()) {
        before.push('/');
        before.push_str(&escaped(part, true));
        left += 1;
    }
    // A slash is one character, or three if it is escaped.
    let (bytes, mut at) = (path.as_bytes(), 0);
    let slash = |at: usize| match bytes.get(at) {
        Some(b'/') => 1,
        Some(b'%')
            if bytes
                .get(at + 1..at + 3)
                .is_some_and(|hex| hex.eq_ignore_ascii_case(b"2f")) =>
        {
            3
        }
        _ => 0,
    };
    while left > 0 && at < bytes.len() {
        while slash(at) > 0 {
            at += slash(at);
        }
        while at < bytes.len() && slash(at) == 0 {
            at += 1;
        }
        left -= 1;
    }
    let rest = path.get(at + slash(at)..).unwrap_or_default();
    let between = if slash(at) > 0 { "/" } else { "" };
    (before, format!("{between}{rest}"))
}

/// A text as a URI may have it.
fn escaped(text: &str, path: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b'/' | b':' | b'@' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b','
            | b';' | b'='
                if path =>
            {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn info(path: &str) -> RequestInfo {
        RequestInfo::new(&http::Method::GET, &path.parse().unwrap())
    }

    fn of(kind: &str, target: &str) -> Result<Value> {
        let uri: Uri = target.parse().unwrap();
        parse(kind, &info(target), uri.query())
    }

    const POD: &str = "/api/v1/namespaces/ns/pods/web";

    #[test]
    fn of_an_option_that_is_given_twice_the_first_counts() {
        let exec = format!(
            "{POD}/exec?stdin&tty=0&stderr=FALSE&command=sh&command=-c&container=a&container=b&path=x"
        );
        assert_eq!(
            of("PodExecOptions", &exec).unwrap(),
            json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdin": true, "container": "a", "command": ["sh", "-c"]})
        );
        let attach = of("PodAttachOptions", &exec).unwrap();
        assert_eq!(attach.get("command"), None);
        let none = of("PodExecOptions", &format!("{POD}/exec")).unwrap();
        assert_eq!(none.get("command"), Some(&Value::Null));
    }

    #[test]
    fn a_port_that_is_none_is_refused() {
        let forward = |query: &str| {
            of(
                "PodPortForwardOptions",
                &format!("{POD}/portforward?{query}"),
            )
        };
        assert_eq!(
            forward("ports=80,81&ports=82").unwrap()["ports"],
            json!([80, 81, 82])
        );
        let error = forward("ports=70000").unwrap_err();
        assert_eq!(
            error.status().message.as_deref(),
            Some(
                "cannot convert to []int32: strconv.ParseUint: parsing \"70000\": value out of range"
            )
        );
    }

    #[test]
    fn the_path_of_a_proxy_is_what_follows_it_and_no_parameter() {
        let cases = [
            ("", None),
            ("/", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/a/", Some("/a/")),
        ];
        for (rest, path) in cases {
            let options = of("PodProxyOptions", &format!("{POD}/proxy{rest}?path=/other")).unwrap();
            assert_eq!(options["path"].as_str(), path, "{rest}");
        }
    }

    #[test]
    fn who_serves_the_connection_gets_what_was_admitted() {
        let target = format!("{POD}/exec?container=a&container=b&command=x&more=1");
        let uri: Uri = target.parse().unwrap();
        let options = json!({"container": "c d", "command": ["sh", "a&b"], "stdin": true});
        let uri = rewritten("PodExecOptions", &options, &info(&target), &uri).unwrap();
        assert_eq!(
            uri,
            format!("{POD}/exec?stdin=true&container=c%20d&command=sh&command=a%26b").as_str()
        );
    }

    #[test]
    fn a_proxy_that_nobody_redirects_gets_its_path_as_it_was_written() {
        let target = format!("{POD}/proxy/a%2Fb//c?q=1");
        let uri: Uri = target.parse().unwrap();
        let same = of("PodProxyOptions", &target).unwrap();
        let kept = rewritten("PodProxyOptions", &same, &info(&target), &uri).unwrap();
        assert_eq!(kept, uri);
        let other = json!({"path": "/x y/z"});
        let moved = rewritten("PodProxyOptions", &other, &info(&target), &uri).unwrap();
        assert_eq!(moved, format!("{POD}/proxy/x%20y/z?q=1").as_str());
    }

    #[test]
    fn what_is_admitted_of_a_proxys_path_is_what_it_gets_however_it_is_written() {
        for (written, rest) in [
            ("/pods/web/proxy/a/b", "/a/b"),
            ("/pods/web/proxy%2Fa/b", "/a/b"),
            ("/pods%2fweb/proxy/a%2Fb", "/a%2Fb"),
            ("/pods/web/proxy/a//b/", "/a//b/"),
            ("/pods/web/proxy//a%2F/b", "//a%2F/b"),
        ] {
            let target = format!("/api/v1/namespaces/ns{written}?q=1");
            let options = of("PodProxyOptions", &target).unwrap();
            let read = rest.replace("%2F", "/");
            // As upstream: one slash is there or put there.
            assert_eq!(options["path"], read.replacen("//a", "/a", 1));
            let uri: Uri = target.parse().unwrap();
            let uri = rewritten("PodProxyOptions", &options, &info(&target), &uri).unwrap();
            assert_eq!(uri, format!("{POD}/proxy{rest}?q=1").as_str());
        }
    }

    #[test]
    fn changed_options_must_be_of_their_kind() {
        let good = json!({"command": ["a"], "tty": false, "container": ""});
        assert_eq!(
            checked("PodExecOptions", good).unwrap(),
            json!({"kind": "PodExecOptions", "apiVersion": "v1", "command": ["a"]})
        );
        for bad in [
            json!({"command": "a"}),
            json!({"tty": 1}),
            json!({"other": 1}),
            json!({"kind": "Pod"}),
            json!([]),
        ] {
            assert!(checked("PodExecOptions", bad.clone()).is_err(), "{bad}");
        }
    }
}
