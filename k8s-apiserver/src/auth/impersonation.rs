//! Impersonation: one user acts as another, if that is allowed.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation>.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName};

use super::{AUTHENTICATED, Identity, UNAUTHENTICATED};
use crate::{
    Error,
    authz::{self, Attributes, Authorizer},
};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";

/// One thing that the user wants to be, and how it is asked about.
struct Wish {
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: String,
    namespace: String,
    name: String,
}

impl Wish {
    fn core(resource: &'static str, name: &str) -> Self {
        Wish {
            group: "",
            version: "",
            resource,
            subresource: String::new(),
            namespace: String::new(),
            name: name.to_owned(),
        }
    }

    fn authentication(resource: &'static str, subresource: &str, name: &str) -> Self {
        Wish {
            group: "authentication.k8s.io",
            version: "v1",
            subresource: subresource.to_owned(),
            ..Wish::core(resource, name)
        }
    }
}

/// The user as whom the request is to be handled: the one that its headers ask for, or `user` if they ask
/// for none; and whether they do. Takes those headers away.
///
/// # Errors
/// `403 Forbidden` if the user may not, `500` (as upstream) if the headers name groups or other
/// things without a user.
pub async fn impersonate(
    user: Identity,
    headers: &mut HeaderMap,
    authorizer: &dyn Authorizer,
) -> Result<(Identity, bool), Error> {
    let asked: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            name == USER || name == GROUP || name == UID || name.starts_with(EXTRA)
        })
        .cloned()
        .collect();
    if asked.is_empty() {
        return Ok((user, false));
    }
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let all = |headers: &HeaderMap, name: &str| -> Vec<String> {
        headers.get_all(name).iter().map(text).collect()
    };
    let name = headers.get(USER).map(text).unwrap_or_default();
    let uid = headers.get(UID).map(text).unwrap_or_default();
    let mut groups = all(headers, GROUP);
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for header in &asked {
        if let Some(key) = header.as_str().strip_prefix(EXTRA) {
            extra
                .entry(unescape(key))
                .or_default()
                .extend(all(headers, header.as_str()));
        }
    }
    for header in asked {
        headers.remove(header);
    }
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok((user, false));
        }
        return Err(Error::internal(
            "requested groups, a UID or extra fields without impersonating a user",
        ));
    }

    let mut target = Identity::user(name.clone());
    let mut wishes = Vec::new();
    match target.as_service_account() {
        Some((namespace, account)) => {
            wishes.push(Wish {
                namespace: namespace.to_owned(),
                ..Wish::core("serviceaccounts", account)
            });
        }
        None => wishes.push(Wish::core("users", &name)),
    }
    for group in &groups {
        wishes.push(Wish::core("groups", group));
    }
    for (key, values) in &extra {
        for value in values {
            wishes.push(Wish::authentication("userextras", key, value));
        }
    }
    if !uid.is_empty() {
        wishes.push(Wish::authentication("uids", "", &uid));
    }
    for wish in &wishes {
        let attributes = Attributes {
            user: &user,
            verb: "impersonate",
            group: wish.group,
            version: wish.version,
            resource: wish.resource,
            subresource: &wish.subresource,
            namespace: &wish.namespace,
            name: &wish.name,
            path: "",
            resource_request: true,
            selectors: None,
        };
        let decision = authorizer.authorize(&attributes).await;
        if !decision.is_allowed() {
            return Err(authz::denied(&attributes, decision.reason()));
        }
    }

    if groups.is_empty()
        && let Some((namespace, account)) = target.as_service_account()
    {
        groups = Identity::service_account(namespace, account, "").groups;
    }
    let has = |wanted: &str| groups.iter().any(|group| group == wanted);
    let missing = match (target.is_anonymous(), has(UNAUTHENTICATED)) {
        (true, false) => Some(UNAUTHENTICATED),
        (false, false) if !has(AUTHENTICATED) => Some(AUTHENTICATED),
        _ => None,
    };
    groups.extend(missing.map(str::to_owned));
    target.groups = groups;
    target.uid = uid;
    target.extra = extra;
    Ok((target, true))
}

/// Decodes `%2f` and the like; what is malformed stays as it is.
fn unescape(key: &str) -> String {
    let mut out = Vec::with_capacity(key.len());
    let mut rest = key.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let decoded = (first == b'%')
            .then(|| tail.get(..2))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match decoded {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None if first == b'%' => return key.to_owned(),
            None => {
                out.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| key.to_owned())
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::authz::Decision;

    /// Allows what is in the list, as `resource/name`.
    #[derive(Debug)]
    struct Only(&'static [&'static str]);

    #[async_trait]
    impl Authorizer for Only {
        async fn authorize(&self, a: &Attributes<'_>) -> Decision {
            let wish = format!("{}/{}", a.resource, a.name);
            if a.verb == "impersonate" && self.0.contains(&wish.as_str()) {
                Decision::Allow
            } else {
                Decision::no_opinion()
            }
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[tokio::test]
    async fn who_may_becomes_the_other_and_the_headers_are_gone() {
        let mut headers = headers(&[
            ("impersonate-user", "alice"),
            ("impersonate-group", "dev"),
            ("impersonate-extra-acme.com%2fteam", "x"),
            ("accept", "*/*"),
        ]);
        let allowed = Only(&["users/alice", "groups/dev", "userextras/x"]);
        let (alice, _) = impersonate(Identity::user("root"), &mut headers, &allowed)
            .await
            .unwrap();
        assert_eq!(alice.name, "alice");
        assert_eq!(alice.groups, ["dev", "system:authenticated"]);
        assert_eq!(alice.extra["acme.com/team"], ["x"]);
        assert_eq!(headers.len(), 1);
    }

    #[tokio::test]
    async fn who_may_not_is_told_so_in_upstreams_words() {
        let mut headers = headers(&[("impersonate-user", "alice")]);
        let error = impersonate(Identity::user("bob"), &mut headers, &Only(&[]))
            .await
            .unwrap_err();
        assert_eq!(error.code(), 403);
        assert_eq!(
            error.status().message.as_deref(),
            Some(
                r#"users "alice" is forbidden: User "bob" cannot impersonate resource "users" in API group "" at the cluster scope"#
            )
        );
    }

    #[tokio::test]
    async fn a_service_account_brings_its_groups() {
        let mut headers = headers(&[("impersonate-user", "system:serviceaccount:ns:sa")]);
        let (account, _) = impersonate(
            Identity::user("root"),
            &mut headers,
            &Only(&["serviceaccounts/sa"]),
        )
        .await
        .unwrap();
        assert!(account.in_group("system:serviceaccounts:ns"));
        assert!(account.in_group(AUTHENTICATED));
    }

    #[tokio::test]
    async fn a_group_without_a_user_is_refused() {
        let mut headers = headers(&[("impersonate-group", "dev")]);
        let error = impersonate(Identity::user("root"), &mut headers, &Only(&["groups/dev"]))
            .await
            .unwrap_err();
        assert_eq!(error.code(), 500);
    }
}
