//! What the headers of a request say of who it wants to come from.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{Error, auth::Identity};

const ALL: &str = "impersonate-";
const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// Takes the headers of impersonation away: the user that they ask for, as they say it; `None` if they ask for nobody.
///
/// # Errors
/// `400 Bad Request` if they name groups or other things without a user, or are no text. Upstream passes such bytes on, as
/// names in Go may be any; here nobody has such a name, and somebody else's must not come of it.
pub(crate) fn take(headers: &mut HeaderMap) -> Result<Option<Identity>, Error> {
    // Most requests have none, and are not to pay for it.
    if !headers.keys().any(|name| name.as_str().starts_with(ALL)) {
        return Ok(None);
    }
    let is_ours = |name: &HeaderName| {
        let name = name.as_str();
        matches!(name, USER | GROUP | UID) || name.starts_with(EXTRA)
    };
    let asked: Vec<HeaderName> = headers.keys().filter(|n| is_ours(n)).cloned().collect();
    let first = |name| match headers.get(name) {
        Some(value) => text(name, value),
        None => Ok(String::new()),
    };
    let all = |name: &str| -> Result<Vec<String>, Error> {
        let values = headers.get_all(name).iter();
        values.map(|value| text(name, value)).collect()
    };
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in asked.iter().map(HeaderName::as_str) {
        if let Some(key) = name.strip_prefix(EXTRA) {
            let key = unescape(key).ok_or_else(|| no_text(name))?;
            extra.entry(key).or_default().extend(all(name)?);
        }
    }
    let wanted = Identity {
        name: first(USER)?,
        uid: first(UID)?,
        groups: all(GROUP)?,
        extra,
    };
    for name in asked {
        headers.remove(name);
    }
    if !wanted.name.is_empty() {
        return Ok(Some(wanted));
    }
    if wanted == Identity::default() {
        return Ok(None);
    }
    let wanted = in_go(&wanted);
    Err(Error::bad_request(format!(
        "requested {wanted} without impersonating a user name"
    )))
}

fn text(name: &str, value: &HeaderValue) -> Result<String, Error> {
    let text = std::str::from_utf8(value.as_bytes()).map_err(|_| no_text(name))?;
    Ok(text.to_owned())
}

fn no_text(name: &str) -> Error {
    Error::bad_request(format!("the header {name:?} is not valid UTF-8"))
}

/// A user as Go's `%#v` writes it, which is what upstream answers.
fn in_go(user: &Identity) -> String {
    let list = |texts: &[String]| {
        let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
        format!("[]string{{{}}}", quoted.join(", "))
    };
    let groups = match user.groups.as_slice() {
        [] => "[]string(nil)".to_owned(),
        groups => list(groups),
    };
    let extra: Vec<String> = (user.extra.iter())
        .map(|(key, values)| format!("{key:?}:{}", list(values)))
        .collect();
    let extra = match extra.as_slice() {
        [] => "(nil)".to_owned(),
        extra => format!("{{{}}}", extra.join(", ")),
    };
    let Identity { name, uid, .. } = user;
    format!(
        "&user.DefaultInfo{{Name:{name:?}, UID:{uid:?}, Groups:{groups}, Extra:map[string][]string{extra}}}"
    )
}

/// Decodes `%2f` and the like; what is malformed stays as it is. Nothing if no text comes of it.
fn unescape(key: &str) -> Option<String> {
    let mut out = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            out.push(first);
            rest = tail;
            continue;
        }
        let digit = |at: usize| tail.get(at).and_then(|d| char::from(*d).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Some(key.to_owned());
        };
        // Two digits make a byte.
        out.push((high * 16 + low) as u8);
        rest = &tail[2..];
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn all_is_taken_and_the_rest_stays() {
        let mut headers = headers(&[
            ("impersonate-user", "alice"),
            ("impersonate-user", "bob"),
            ("impersonate-group", "dev"),
            ("impersonate-group", "ops"),
            ("impersonate-uid", "1"),
            ("impersonate-extra-acme.com%2fteam", "x"),
            ("impersonate-extra-acme.com%2fteam", "y"),
            ("impersonate-extra-%41", "z"),
            ("impersonate-extra-50%", "w"),
            ("impersonate-extra-%+1", "v"),
            ("impersonate-whatever", "u"),
            ("accept", "*/*"),
        ]);
        let wanted = take(&mut headers).unwrap().unwrap();
        assert_eq!(wanted.name, "alice");
        assert_eq!(wanted.uid, "1");
        assert_eq!(wanted.groups, ["dev", "ops"]);
        let extra: Vec<_> = wanted.extra.into_iter().collect();
        let pair = |key: &str, values: &[&str]| {
            let values = values.iter().map(|v| (*v).to_owned());
            (key.to_owned(), values.collect::<Vec<_>>())
        };
        assert_eq!(
            extra,
            [
                pair("%+1", &["v"]),
                pair("50%", &["w"]),
                pair("A", &["z"]),
                pair("acme.com/team", &["x", "y"]),
            ]
        );
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "impersonate-whatever"]);
    }

    #[test]
    fn what_is_no_text_is_nobodys_name() {
        let name = HeaderValue::from_bytes(b"al\xffice").unwrap();
        for header in [USER, GROUP, UID, "impersonate-extra-a"] {
            let mut headers = headers(&[("impersonate-user", "alice")]);
            headers.insert(header, name.clone());
            let error = take(&mut headers).unwrap_err();
            assert_eq!((error.code(), error.reason()), (400, "BadRequest"));
            let text = format!("the header {header:?} is not valid UTF-8");
            assert_eq!(error.into_status().message, Some(text));
        }
        let mut headers = headers(&[
            ("impersonate-user", "alice"),
            ("impersonate-extra-a%ff", "x"),
        ]);
        assert_eq!(take(&mut headers).unwrap_err().code(), 400);
        // What is a text stays one.
        headers.clear();
        headers.insert(
            "impersonate-user",
            HeaderValue::from_bytes("é".as_bytes()).unwrap(),
        );
        assert_eq!(take(&mut headers).unwrap().unwrap().name, "é");
    }

    #[test]
    fn who_asks_for_nobody_is_themselves() {
        for pairs in [
            &[][..],
            &[("impersonate-user", "")],
            &[("impersonate-uid", "")],
        ] {
            assert_eq!(take(&mut headers(pairs)).unwrap(), None);
        }
    }

    #[test]
    fn something_without_a_user_is_refused_in_upstreams_words() {
        for (pairs, told) in [
            (
                &[("impersonate-group", "a"), ("impersonate-group", "b")][..],
                r#"Name:"", UID:"", Groups:[]string{"a", "b"}, Extra:map[string][]string(nil)"#,
            ),
            (
                &[("impersonate-uid", "1"), ("impersonate-user", "")],
                r#"Name:"", UID:"1", Groups:[]string(nil), Extra:map[string][]string(nil)"#,
            ),
            (
                &[("impersonate-extra-b", "1"), ("impersonate-extra-a", "")],
                r#"Name:"", UID:"", Groups:[]string(nil), Extra:map[string][]string{"a":[]string{""}, "b":[]string{"1"}}"#,
            ),
            (
                &[("impersonate-group", "")],
                r#"Name:"", UID:"", Groups:[]string{""}, Extra:map[string][]string(nil)"#,
            ),
        ] {
            let error = take(&mut headers(pairs)).unwrap_err();
            assert_eq!((error.code(), error.reason()), (400, "BadRequest"));
            let text = error.into_status().message.unwrap();
            let wanted =
                format!("requested &user.DefaultInfo{{{told}}} without impersonating a user name");
            assert_eq!(text, wanted);
        }
    }
}
