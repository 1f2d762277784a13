//! [`AuthenticationConfiguration`]: whose tokens are taken, and who may come without, from a file.
//!
//! See KEP-3331 and
//! <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#using-authentication-configuration>.

mod reload;
mod validate;

use serde::Deserialize;

pub use self::reload::ConfiguredTokens;
pub(super) use self::validate::domain_prefixed;
use super::JwtIssuer;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthenticationConfigurationError {
    /// It is not YAML (or JSON) of a configuration.
    #[error("authentication configuration cannot be decoded: {0}")]
    Decode(String),
    /// What it says is not allowed: all that is wrong, with upstream's paths and words.
    #[error("{0}")]
    Invalid(String),
    /// The file cannot be read.
    #[error("failed to read authentication config file: {0}")]
    Read(#[from] std::io::Error),
}

/// Whose tokens are taken, and who may come without any: upstream's `AuthenticationConfiguration`, as
/// `--authentication-config` names a file with one.
#[derive(Clone, Debug)]
pub struct AuthenticationConfiguration {
    /// The issuers of tokens, each with what is made of them; at most 64.
    pub jwt: Vec<JwtIssuer>,
    /// Requests without credentials; `None` leaves them as they are without a file.
    pub anonymous: Option<Anonymous>,
}

/// Who may come without credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Anonymous {
    /// Whether anybody may.
    pub enabled: bool,
    /// To which paths alone, exactly; none stand for all.
    pub paths: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    jwt: Vec<Jwt>,
    anonymous: Option<AnonymousFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnonymousFile {
    #[serde(default)]
    enabled: bool,
    #[serde(default)]
    conditions: Vec<PathCondition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PathCondition {
    #[serde(default)]
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Jwt {
    issuer: Issuer,
    #[serde(default)]
    claim_validation_rules: Vec<ClaimRule>,
    #[serde(default)]
    claim_mappings: Mappings,
    #[serde(default)]
    user_validation_rules: Vec<UserRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Issuer {
    #[serde(default)]
    url: String,
    #[serde(rename = "discoveryURL", default)]
    discovery_url: String,
    #[serde(default)]
    certificate_authority: String,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default)]
    audience_match_policy: String,
    #[serde(default)]
    egress_selector_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
struct ClaimRule {
    claim: String,
    required_value: String,
    expression: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UserRule {
    expression: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Mappings {
    username: Mapped,
    groups: Mapped,
    uid: Mapped,
    extra: Vec<Extra>,
}

/// A claim or an expression; a UID has no prefix.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Mapped {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Extra {
    key: String,
    value_expression: String,
}

impl AuthenticationConfiguration {
    /// Reads the text of a configuration file, in `v1`, `v1beta1` or `v1alpha1` of `apiserver.config.k8s.io`.
    /// Tokens of `disallowed_issuers`, as that of service accounts, are checked elsewhere: no `jwt` may name them.
    ///
    /// # Errors
    /// If it is none, or says what is not allowed.
    pub fn parse(
        text: &str,
        disallowed_issuers: &[&str],
    ) -> Result<Self, AuthenticationConfigurationError> {
        let file: File = serde_saphyr::from_str(text)
            .map_err(|e| AuthenticationConfigurationError::Decode(e.to_string()))?;
        let version = file.api_version.strip_prefix("apiserver.config.k8s.io/");
        if !matches!(version, Some("v1" | "v1beta1" | "v1alpha1"))
            || file.kind != "AuthenticationConfiguration"
        {
            let reason = format!("{:?} in {:?} is not known", file.kind, file.api_version);
            return Err(AuthenticationConfigurationError::Decode(reason));
        }
        validate::configuration(&file, disallowed_issuers).map_err(|found| {
            AuthenticationConfigurationError::Invalid(k8s_model::field::aggregate(&found))
        })
    }
}

#[cfg(test)]
mod tests;
