//! Who a request comes from, as an authenticating proxy says in its headers.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/authentication/#authenticating-proxy>.

use async_trait::async_trait;
use http::HeaderMap;

use super::{AuthenticationError, Authenticator, Identity, PeerCertificates};
use crate::http::uri;

/// What the headers begin with that [`RequestHeaders`] reads by default. No request keeps them.
const RESERVED: &str = "x-remote-";

/// Believes the headers of proxies that show a certificate of the front proxy's authority; upstream's
/// `--requestheader-*`. The listener must know that authority:
/// [`ServerTls::with_front_proxy`](crate::serve::ServerTls::with_front_proxy).
#[derive(Clone, Debug)]
pub struct RequestHeaders {
    /// The common names that the proxy's certificate may have; none for any.
    pub allowed_names: Vec<String>,
    /// The headers with the user's name: the first that is there counts.
    pub username_headers: Vec<String>,
    /// The headers with the user's UID: the first that is there counts.
    pub uid_headers: Vec<String>,
    /// The headers with groups: all of them count.
    pub group_headers: Vec<String>,
    /// What the names of headers begin with that say more about the user.
    pub extra_header_prefixes: Vec<String>,
}

impl RequestHeaders {
    /// Reads `X-Remote-User`, `X-Remote-Uid`, `X-Remote-Group` and `X-Remote-Extra-…` of proxies with one of these names.
    pub fn new<N: Into<String>>(allowed_names: impl IntoIterator<Item = N>) -> Self {
        let one = |name: &str| vec![name.to_owned()];
        RequestHeaders {
            allowed_names: allowed_names.into_iter().map(Into::into).collect(),
            username_headers: one("X-Remote-User"),
            uid_headers: one("X-Remote-Uid"),
            group_headers: one("X-Remote-Group"),
            extra_header_prefixes: one("X-Remote-Extra-"),
        }
    }

    fn read(&self, headers: &HeaderMap) -> Option<Identity> {
        let values = |name: &str| -> Vec<String> {
            let all = headers.get_all(name.trim().to_ascii_lowercase());
            all.iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .filter(|value| !value.is_empty())
                .collect()
        };
        let first = |names: &[String]| {
            names
                .iter()
                .find_map(|name| values(name).into_iter().next())
        };
        let mut identity = Identity::user(first(&self.username_headers)?);
        identity.uid = first(&self.uid_headers).unwrap_or_default();
        identity.groups = self
            .group_headers
            .iter()
            .flat_map(|name| values(name))
            .collect();
        for prefix in &self.extra_header_prefixes {
            let prefix = prefix.trim().to_ascii_lowercase();
            for (name, value) in headers {
                // Names of headers are in lower case here.
                if let Some(key) = name.as_str().strip_prefix(&prefix) {
                    let key = uri::decode(key, false).into_owned();
                    let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                    identity.extra.entry(key).or_default().push(value);
                }
            }
        }
        Some(identity)
    }
}

#[async_trait]
impl Authenticator for RequestHeaders {
    async fn authenticate(
        &self,
        parts: &http::request::Parts,
    ) -> Result<Option<Identity>, AuthenticationError> {
        let peer = parts.extensions.get::<PeerCertificates>();
        let Some(peer) = peer.filter(|peer| peer.is_front_proxy()) else {
            return Ok(None);
        };
        peer.check()?;
        if !self.allowed_names.is_empty() {
            let name = peer.common_name()?;
            if !self.allowed_names.iter().any(|allowed| allowed == name) {
                return Err(AuthenticationError::Invalid(format!(
                    "x509: subject with cn={name} is not in the allowed list"
                )));
            }
        }
        Ok(self.read(&parts.headers))
    }
}

/// Removes what a proxy says: nobody behind this server is to take it for this server's word.
pub(crate) fn strip(headers: &mut HeaderMap) {
    if !headers
        .keys()
        .any(|name| name.as_str().starts_with(RESERVED))
    {
        return;
    }
    let names: Vec<_> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(RESERVED))
        .cloned()
        .collect();
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Pki;

    async fn ask(peer: Option<PeerCertificates>) -> Result<Option<Identity>, AuthenticationError> {
        let mut request = http::Request::get("/")
            .header("X-Remote-User", "alice")
            .header("X-Remote-Uid", "u1")
            .header("X-Remote-Group", "dev")
            .header("X-Remote-Group", "ops")
            .header("X-Remote-Extra-Acme.com%2Fproject", "one")
            .header("X-Remote-Extra-Acme.com%2Fproject", "two");
        if let Some(peer) = peer {
            request = request.extension(peer);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let found = RequestHeaders::new(["proxy"]).authenticate(&parts).await;
        strip(&mut parts.headers);
        assert!(parts.headers.is_empty());
        found
    }

    #[tokio::test]
    async fn only_a_proxy_of_that_authority_and_name_is_believed() {
        let pki = Pki::in_memory().unwrap();
        let peer = |name: &str, client: bool, proxy: bool| {
            let certificate = pki.issue_client::<&str>(name, &[]).unwrap();
            let chain = [certificate.certificate_der().unwrap()];
            Some(PeerCertificates::vouched_for(chain, client, proxy))
        };
        let alice = ask(peer("proxy", false, true)).await.unwrap().unwrap();
        assert_eq!((alice.name.as_str(), alice.uid.as_str()), ("alice", "u1"));
        assert_eq!(alice.groups, ["dev", "ops"]);
        assert_eq!(alice.extra["acme.com/project"], ["one", "two"]);
        assert_eq!(ask(None).await.unwrap(), None);
        assert_eq!(ask(peer("proxy", true, false)).await.unwrap(), None);
        let error = ask(peer("mallory", false, true)).await.unwrap_err();
        assert!(
            error
                .to_string()
                .contains("cn=mallory is not in the allowed list")
        );
    }
}
