//! Bootstrap tokens: what a machine joins a cluster with.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/>.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;

use super::{AuthenticationError, Identity, TokenAuthenticator};
use crate::admission::reader::ObjectReader;

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
/// What the user name of every such token begins with.
const USER_PREFIX: &str = "system:bootstrap:";
/// The group of all of them.
const GROUP: &str = "system:bootstrappers";

/// Knows the bearers of tokens `ID.SECRET` (six and sixteen small letters and digits) by the Secrets
/// `bootstrap-token-ID` in `kube-system`: `system:bootstrap:ID`, in `system:bootstrappers` and in the groups that the
/// Secret names. Off unless it is added to the [authenticators](super::Standard::with), as upstream.
#[derive(Debug)]
pub struct BootstrapTokens {
    reader: Arc<dyn ObjectReader>,
}

impl BootstrapTokens {
    /// Reads the Secrets with that.
    pub fn new(reader: Arc<dyn ObjectReader>) -> Self {
        BootstrapTokens { reader }
    }

    /// Who the bearer of the token is; `None` if it is no bootstrap token, or not a good one.
    ///
    /// # Errors
    /// If the Secret cannot be read now.
    pub async fn verify(&self, token: &str) -> Result<Option<Identity>, AuthenticationError> {
        let Some((id, secret)) = parse(token) else {
            return Ok(None);
        };
        let name = format!("bootstrap-token-{id}");
        let found: Option<Secret> = self
            .reader
            .get(NAMESPACE, &name)
            .await
            .map_err(|e| AuthenticationError::Unavailable(e.to_string()))?;
        let identity = found
            .ok_or("there is no such secret")
            .and_then(|found| identity(&found, id, secret, Timestamp::now()));
        Ok(identity
            .inspect_err(|reason| tracing::debug!(secret = name, reason, "bootstrap token refused"))
            .ok())
    }
}

/// The halves of a token.
fn parse(token: &str) -> Option<(&str, &str)> {
    let good = |part: &str, length: usize| {
        part.len() == length
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    token
        .split_once('.')
        .filter(|(id, secret)| good(id, 6) && good(secret, 16))
}

/// Whether a token may say that its bearer is in the group.
fn is_extra_group(group: &str) -> bool {
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    group
        .strip_prefix("system:bootstrappers:")
        .and_then(|rest| rest.as_bytes().split_last())
        .is_some_and(|(last, rest)| {
            fine(*last)
                && rest.len() <= 255
                && rest.iter().all(|b| fine(*b) || matches!(b, b':' | b'-'))
        })
}

/// Compares without telling by its time how much is equal.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (a, b)| acc | (a ^ b)) == 0
}

fn identity(
    found: &Secret,
    id: &str,
    secret: &str,
    now: Timestamp,
) -> Result<Identity, &'static str> {
    let data = |key: &str| -> &[u8] {
        found
            .data
            .as_ref()
            .and_then(|data| data.get(key))
            .map_or(&[], |value| value.0.as_slice())
    };
    if found.metadata.deletion_timestamp.is_some() {
        return Err("the secret is being deleted");
    }
    if found.type_.as_deref() != Some(TYPE) {
        return Err("the secret is of another type");
    }
    if !same(data("token-secret"), secret.as_bytes()) || data("token-id") != id.as_bytes() {
        return Err("it is not the token of the secret");
    }
    let expiration = data("expiration");
    let ends = std::str::from_utf8(expiration)
        .ok()
        .and_then(|text| text.parse::<Timestamp>().ok());
    if !expiration.is_empty() && ends.is_none_or(|ends| ends <= now) {
        return Err("the token has expired");
    }
    if data("usage-bootstrap-authentication") != b"true" {
        return Err("the token is not for authentication");
    }
    let mut identity = Identity::user(format!("{USER_PREFIX}{id}")).group(GROUP);
    let extra = std::str::from_utf8(data("auth-extra-groups")).map_err(|_| "no text")?;
    for group in extra.split(',').filter(|_| !extra.is_empty()) {
        if !is_extra_group(group) {
            return Err("the secret names a group that a token cannot give");
        }
        identity = identity.group(group);
    }
    Ok(identity)
}

#[async_trait]
impl TokenAuthenticator for BootstrapTokens {
    async fn authenticate_token(
        &self,
        token: &str,
    ) -> Result<Option<Identity>, AuthenticationError> {
        self.verify(token).await
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn ask(change: &[(&str, &str)]) -> Result<Identity, &'static str> {
        let mut data = std::collections::BTreeMap::new();
        for (key, value) in [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
        ]
        .iter()
        .chain(change)
        {
            data.insert((*key).to_owned(), ByteString(value.as_bytes().to_vec()));
        }
        let found = Secret {
            type_: Some(TYPE.into()),
            data: Some(data),
            ..Secret::default()
        };
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        identity(&found, "abcdef", "0123456789abcdef", now)
    }

    #[test]
    fn a_good_token_gives_its_name_and_groups() {
        let groups = "system:bootstrappers:a,system:bootstrappers:workers:b-1";
        let identity = ask(&[
            ("auth-extra-groups", groups),
            ("expiration", "2026-01-01T00:00:01Z"),
        ])
        .unwrap();
        assert_eq!(identity.name, "system:bootstrap:abcdef");
        assert_eq!(
            identity.groups,
            [
                "system:bootstrappers",
                "system:bootstrappers:a",
                "system:bootstrappers:workers:b-1"
            ]
        );
    }

    #[test]
    fn a_bad_one_gives_nothing() {
        for change in [
            ("token-secret", "0123456789abcdee"),
            ("token-secret", ""),
            ("token-id", "abcdeg"),
            ("expiration", "2026-01-01T00:00:00Z"),
            ("expiration", "soon"),
            ("usage-bootstrap-authentication", "false"),
            ("auth-extra-groups", "system:masters"),
            ("auth-extra-groups", "system:bootstrappers:a,"),
        ] {
            assert!(ask(&[change]).is_err(), "{change:?}");
        }
    }

    #[test]
    fn only_tokens_of_the_form_are_looked_up() {
        assert!(parse("abcdef.0123456789abcdef").is_some());
        for bad in [
            "abcdef",
            "ABCDEF.0123456789abcdef",
            "abcdef.0123456789abcde",
            "a/../b.0123456789abcdef",
            "",
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }
}
