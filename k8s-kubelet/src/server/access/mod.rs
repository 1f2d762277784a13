//! [`Delegate`]: who the clients are, and what they may, as upstream's kubelet finds out with a client CA,
//! `--authentication-token-webhook` and `--authorization-mode=Webhook`: certificates tell by themselves
//! who shows them, the API knows whose a token is, and judges both.

mod memory;
mod review;
mod user;

use std::{fmt, time::Duration};

use http::{HeaderMap, Method, Request, StatusCode, header};
use serde_json::json;
use tracing::debug;

use self::{
    memory::Memory,
    review::{Authenticated, Authorized, review},
    user::User,
};
use super::{answer::Refusal, tls::Peer};
use crate::context::Context;

/// How long the API's word is good: upstream's defaults.
pub(super) const KNOWN: Duration = Duration::from_secs(120);
pub(super) const ALLOWED: Duration = Duration::from_secs(300);
pub(super) const REFUSED: Duration = Duration::from_secs(30);

/// Asks the API about clients, and remembers what it said.
#[derive(Debug, Default)]
pub(crate) struct Delegate {
    owners: Memory<String, Option<User>>,
    judged: Memory<Wish, bool>,
}

impl Delegate {
    /// Whether this request is to be served.
    pub(crate) async fn admit<B>(
        &self,
        cx: &Context,
        peer: &Peer,
        request: &Request<B>,
    ) -> Result<(), Refusal> {
        let user = match peer.certificate() {
            Some(certificate) => Some(User::from(certificate)),
            None => self.owner(cx, request.headers()).await,
        };
        let Some(user) = user else {
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized"));
        };
        let mut wish = Wish {
            user,
            verb: verb(request.method()),
            subresource: "",
        };
        let subresources = subresources(request.uri().path());
        for subresource in subresources {
            wish.subresource = subresource;
            match self.allowed(cx, &wish).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    debug!(%error, "request not judged");
                    let message =
                        format!("Authorization error ({wish}, subresource={subresource})");
                    return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message));
                }
            }
        }
        let list = subresources.join(" ");
        let message = format!("Forbidden ({wish}, subresource(s)=[{list}])");
        Err(Refusal::new(StatusCode::FORBIDDEN, message))
    }

    /// Whose token the request has.
    async fn owner(&self, cx: &Context, headers: &HeaderMap) -> Option<User> {
        let token = bearer(headers)?.to_owned();
        if let Some(owner) = self.owners.get(&token) {
            return owner;
        }
        let answer = review(
            cx,
            "authentication.k8s.io",
            "TokenReview",
            json!({"token": token}),
        );
        let known: Authenticated = match answer.await {
            Ok(known) => known,
            Err(error) => {
                debug!(%error, "token not reviewed");
                return None;
            }
        };
        let owner = known.authenticated.then_some(known.user);
        self.owners.put(token, owner.clone(), KNOWN);
        owner
    }

    async fn allowed(&self, cx: &Context, wish: &Wish) -> Result<bool, kube::Error> {
        if let Some(allowed) = self.judged.get(wish) {
            return Ok(allowed);
        }
        let mut spec = json!(wish.user);
        spec["resourceAttributes"] = json!({
            "verb": wish.verb, "version": "v1", "resource": "nodes", "subresource": wish.subresource,
            "name": cx.settings.node_name,
        });
        let answer = review(cx, "authorization.k8s.io", "SubjectAccessReview", spec);
        let Authorized { allowed } = answer.await?;
        let good = if allowed { ALLOWED } else { REFUSED };
        self.judged.put(wish.clone(), allowed, good);
        Ok(allowed)
    }
}

/// What somebody wants to do with the node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wish {
    user: User,
    verb: &'static str,
    subresource: &'static str,
}

impl fmt::Display for Wish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, verb) = (&self.user.username, self.verb);
        write!(f, "user={name}, verb={verb}, resource=nodes")
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

/// The subresources of the node any of which is enough for a path (KEP-2862).
fn subresources(path: &str) -> &'static [&'static str] {
    match path.trim_start_matches('/').split('/').next() {
        Some("stats") => &["stats"],
        Some("metrics") => &["metrics"],
        Some("logs") => &["log"],
        Some("checkpoint") => &["checkpoint"],
        Some("healthz") => &["healthz", "proxy"],
        Some("pods" | "runningpods") => &["pods", "proxy"],
        Some("configz") => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

#[cfg(test)]
mod tests;
