//! Tokens in Secrets: without a time or an audience, good as long as the Secret has them.

use std::sync::atomic::Ordering;

use jiff::{civil::Date, tz::TimeZone};
use k8s_openapi::{
    api::core::v1::{Secret, ServiceAccount},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{
    ObjectClaim, ServiceAccountTokens, TokenKeyError, VerifiedToken, common, invalid, unavailable,
};
use crate::{
    audit,
    auth::{AuthenticationError, Identity, SERVICE_ACCOUNT_PREFIX},
};

/// The issuer of such tokens, wherever they were made.
const ISSUER: &str = "kubernetes/serviceaccount";
/// Where a token is kept in a Secret.
const KEY: &str = "token";
/// The label of Secrets that says on which day their token was last used.
pub(crate) const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
/// The label of Secrets whose tokens are good no more, because nobody has used them for long.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

const AUTOMATIC: &str = "Use tokens from the TokenRequest API or manually created secret-based tokens instead of auto-generated secret-based tokens.";
/// How many uses wait to be written down; more are seen again with the next use.
const WAITING: usize = 128;

/// A Secret whose token was used on a day that it does not say yet.
#[derive(Debug)]
pub(crate) struct UsedSecret {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) day: Date,
}

/// Whether the label is there already: that day's, or, since machines' clocks differ, the next day's.
pub(crate) fn is_written_down(meta: &ObjectMeta, today: Date) -> bool {
    let used = meta.labels.as_ref().and_then(|all| all.get(LAST_USED));
    let used: Option<Date> = used.and_then(|used| used.parse().ok());
    used.is_some_and(|used| used == today || Some(used) == today.tomorrow().ok())
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct LegacyClaims {
    iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
    sub: String,
}

/// Checks that a Secret is there and has that token.
fn is_kept(secret: Option<Secret>, token: &str) -> Result<Secret, AuthenticationError> {
    let secret = secret
        .filter(|secret| secret.metadata.deletion_timestamp.is_none())
        .ok_or_else(|| invalid("service account token has been invalidated"))?;
    let kept = secret.data.as_ref().and_then(|data| data.get(KEY));
    if kept.is_none_or(|kept| kept.0 != token.as_bytes()) {
        return Err(invalid(
            "service account token does not match server's copy",
        ));
    }
    Ok(secret)
}

/// Checks that a service account is there and is the one that is meant.
fn is_that(
    account: Option<ServiceAccount>,
    claims: &LegacyClaims,
) -> Result<ServiceAccount, AuthenticationError> {
    let (namespace, name) = (&claims.namespace, &claims.account);
    let account = account.ok_or_else(|| invalid(format!("serviceaccount {name:?} not found")))?;
    if account.metadata.deletion_timestamp.is_some() {
        let text = format!("service account {namespace}/{name} has been deleted");
        return Err(invalid(text));
    }
    let uid = account.metadata.uid.as_deref().unwrap_or_default();
    if uid != claims.uid {
        return Err(invalid(format!(
            "service account UID ({uid}) does not match claim ({})",
            claims.uid
        )));
    }
    Ok(account)
}

impl ServiceAccountTokens {
    /// A token that lasts as long as it is in that Secret, as `token`: for who fills Secrets of the type
    /// `kubernetes.io/service-account-token`.
    ///
    /// # Errors
    /// Only if the system has no randomness.
    pub fn issue_for_secret(
        &self,
        namespace: &str,
        account: ObjectClaim,
        secret: &str,
    ) -> Result<String, TokenKeyError> {
        self.sign(&LegacyClaims {
            iss: ISSUER.to_owned(),
            namespace: namespace.to_owned(),
            secret: secret.to_owned(),
            sub: format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{}", account.name),
            account: account.name,
            uid: account.uid,
        })
    }

    /// Checks a token whose signature is good.
    pub(super) async fn verify_legacy(
        &self,
        token: &str,
        claims: &LegacyClaims,
        audiences: &[String],
    ) -> Result<VerifiedToken, AuthenticationError> {
        if claims.iss != ISSUER {
            return Err(invalid("invalid bearer token"));
        }
        for (claim, name) in [
            (&claims.namespace, "namespace"),
            (&claims.secret, "secretName"),
            (&claims.account, "serviceAccountName"),
            (&claims.uid, "serviceAccountUID"),
        ] {
            if claim.is_empty() {
                return Err(invalid(format!("{name} claim is missing")));
            }
        }
        let (namespace, name) = (claims.namespace.as_str(), claims.account.as_str());
        if claims.sub != format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}") {
            return Err(invalid("sub claim is invalid"));
        }
        // It says for nobody that it is, so it is for the API server.
        let audiences = common(self.api_audiences(), audiences)?;
        let recent = self.reader.recent(namespace, &claims.secret).await;
        let secret = match is_kept(recent.map_err(unavailable)?, token) {
            Ok(secret) => secret,
            Err(_) => {
                let newest = self.reader.get(namespace, &claims.secret).await;
                is_kept(newest.map_err(unavailable)?, token)?
            }
        };
        let recent = self.reader.recent(namespace, name).await;
        let account = match is_that(recent.map_err(unavailable)?, claims) {
            Ok(account) => account,
            Err(_) => {
                let newest = self.reader.get(namespace, name).await;
                is_that(newest.map_err(unavailable)?, claims)?
            }
        };
        let labels = secret.metadata.labels.as_ref();
        if labels
            .and_then(|labels| labels.get(INVALID_SINCE))
            .is_some_and(|since| !since.is_empty())
        {
            audit::annotate_early(
                "authentication.k8s.io/legacy-token-invalidated",
                format!("{}/{namespace}", claims.secret),
            );
            self.uses.invalidated.fetch_add(1, Ordering::Relaxed);
            self.write_down(namespace, &secret.metadata);
            return Err(invalid(format!(
                "the token in secret {namespace}/{secret} for service account {namespace}/{name} has been marked invalid. Use tokens from the TokenRequest API or manually created secret-based tokens, or remove the '{INVALID_SINCE}' label from the secret to temporarily allow use of this token",
                secret = claims.secret
            )));
        }
        let mut named = account.secrets.iter().flatten();
        let automatic = named.any(|reference| reference.name.as_ref() == Some(&claims.secret));
        let (key, uses) = if automatic {
            ("legacy-token-autogenerated-secret", &self.uses.automatic)
        } else {
            ("legacy-token-manual-secret", &self.uses.manual)
        };
        audit::annotate_early(
            &format!("authentication.k8s.io/{key}"),
            claims.secret.clone(),
        );
        uses.fetch_add(1, Ordering::Relaxed);
        self.write_down(namespace, &secret.metadata);
        audit::annotate_early("authentication.k8s.io/legacy-token", claims.sub.clone());
        self.uses.legacy.fetch_add(1, Ordering::Relaxed);
        Ok(VerifiedToken {
            identity: Identity::service_account(namespace, name, &claims.uid),
            audiences,
            warning: automatic.then_some(AUTOMATIC),
        })
    }

    /// Has it written down that the Secret's token was used today, unless that was done.
    fn write_down(&self, namespace: &str, secret: &ObjectMeta) {
        let day = self.now().to_zoned(TimeZone::UTC).date();
        if is_written_down(secret, day) {
            return;
        }
        if let Some(diary) = &*self.diary.read() {
            let _ = diary.try_send(UsedSecret {
                namespace: namespace.to_owned(),
                name: secret.name.clone().unwrap_or_default(),
                uid: secret.uid.clone().unwrap_or_default(),
                day,
            });
        }
    }

    /// The Secrets whose tokens are used, for who writes that down; nobody else gets them from now on.
    pub(crate) fn used_secrets(&self) -> mpsc::Receiver<UsedSecret> {
        let (sender, receiver) = mpsc::channel(WAITING);
        *self.diary.write() = Some(sender);
        receiver
    }
}
