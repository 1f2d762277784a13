//! [`Standard`]: the authenticators as an API server has them.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    AUTHENTICATED, Anonymous, Audiences, Authenticated, AuthenticationError, Authenticator,
    ClientCertificates, Identity, ServiceAccountTokens, Union,
};

/// Where requests may come without credentials unless told otherwise.
pub const ANONYMOUS_PATHS: &[&str] = &["/healthz", "/livez", "/readyz", "/version"];

/// Client certificates, then the tokens of service accounts, then whatever else is added; everybody
/// who is known is also in `system:authenticated`. Who shows nothing is anonymous on a few
/// paths, and nobody elsewhere.
#[derive(Debug)]
pub struct Standard {
    known: Union,
    open: Open,
}

/// Where requests may come without credentials.
#[derive(Debug)]
enum Open {
    /// To these paths, and what is below them.
    Below(Vec<String>),
    /// As a configuration says.
    Configured(Anonymous),
}

impl Standard {
    /// With the tokens of service accounts, if there are any.
    pub fn new(tokens: Option<Arc<ServiceAccountTokens>>) -> Self {
        let mut known: Vec<Arc<dyn Authenticator>> = vec![Arc::new(ClientCertificates)];
        if let Some(tokens) = tokens {
            known.push(tokens);
        }
        Standard {
            known: Union::new(known),
            open: Open::Below(ANONYMOUS_PATHS.iter().map(|p| (*p).to_owned()).collect()),
        }
    }

    /// Asks one more authenticator, before the others.
    #[must_use]
    pub fn with_first(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.known.push_first(authenticator);
        self
    }

    /// Asks one more authenticator, after the others.
    #[must_use]
    pub fn with(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.known.push(authenticator);
        self
    }

    /// Lets requests without credentials to these paths, and to what is below them, through to
    /// the authorizer.
    #[must_use]
    pub fn with_anonymous_paths<P: Into<String>>(
        mut self,
        paths: impl IntoIterator<Item = P>,
    ) -> Self {
        self.open = Open::Below(paths.into_iter().map(Into::into).collect());
        self
    }

    /// Lets requests without credentials through to the authorizer as an
    /// [`AuthenticationConfiguration`](super::AuthenticationConfiguration) says.
    #[must_use]
    pub fn with_anonymous(mut self, anonymous: Anonymous) -> Self {
        self.open = Open::Configured(anonymous);
        self
    }

    /// Who somebody is whom nobody knows.
    fn unknown(
        &self,
        parts: &http::request::Parts,
    ) -> Result<Option<Identity>, AuthenticationError> {
        if super::token::bearer(&parts.headers).is_some() {
            let text = "invalid bearer token".to_owned();
            return Err(AuthenticationError::Invalid(text));
        }
        Ok(self.is_open(parts.uri.path()).then(Identity::anonymous))
    }

    fn is_open(&self, path: &str) -> bool {
        match &self.open {
            Open::Below(paths) => paths.iter().any(|open| {
                path.strip_prefix(open.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }),
            Open::Configured(Anonymous { enabled, paths }) => {
                *enabled && (paths.is_empty() || paths.iter().any(|open| open == path))
            }
        }
    }
}

#[async_trait]
impl Authenticator for Standard {
    async fn authenticate(
        &self,
        parts: &http::request::Parts,
    ) -> Result<Option<Identity>, AuthenticationError> {
        match self.known.authenticate(parts).await? {
            Some(identity) => Ok(Some(grouped(identity))),
            None => self.unknown(parts),
        }
    }

    async fn authenticate_for(
        &self,
        parts: &http::request::Parts,
        audiences: &Audiences<'_>,
    ) -> Result<Option<Authenticated>, AuthenticationError> {
        match self.known.authenticate_for(parts, audiences).await? {
            Some(Authenticated {
                identity,
                audiences,
            }) => Ok(Some(Authenticated {
                identity: grouped(identity),
                audiences,
            })),
            None => Ok(self.unknown(parts)?.map(|identity| Authenticated {
                identity,
                audiences: audiences.wanted().to_vec(),
            })),
        }
    }
}

fn grouped(identity: Identity) -> Identity {
    if identity.is_anonymous() {
        identity
    } else {
        identity.group(AUTHENTICATED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(
        path: &str,
        header: Option<&str>,
    ) -> Result<Option<Identity>, AuthenticationError> {
        let mut request = http::Request::get(path);
        if let Some(value) = header {
            request = request.header("authorization", value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        Standard::new(None).authenticate(&parts).await
    }

    #[tokio::test]
    async fn without_credentials_only_health_and_version_are_open() {
        for path in ["/healthz", "/livez/ping", "/readyz?verbose", "/version"] {
            assert_eq!(ask(path, None).await.unwrap(), Some(Identity::anonymous()));
        }
        for path in ["/api/v1/pods", "/versions", "/metrics", "/"] {
            assert_eq!(ask(path, None).await.unwrap(), None, "{path}");
        }
    }

    #[tokio::test]
    async fn a_configuration_opens_exactly_the_paths_that_it_names() {
        for (enabled, named, path, open) in [
            (true, &["/livez"][..], "/livez", true),
            (true, &["/livez"], "/livez/ping", false),
            (true, &[], "/api/v1/pods", true),
            (false, &[], "/livez", false),
        ] {
            let paths = named.iter().map(|p| (*p).to_owned()).collect();
            let anonymous = Anonymous { enabled, paths };
            let (parts, ()) = http::Request::get(path).body(()).unwrap().into_parts();
            let asked = Standard::new(None).with_anonymous(anonymous);
            let found = asked.authenticate(&parts).await.unwrap();
            assert_eq!(found.is_some(), open, "{path}");
        }
    }

    #[tokio::test]
    async fn a_token_that_nobody_knows_never_becomes_anonymous() {
        assert!(ask("/healthz", Some("Bearer nonsense")).await.is_err());
    }
}
