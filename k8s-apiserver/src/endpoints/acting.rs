//! As whom a request is handled.

use http::request::Parts;

use crate::{
    Result,
    audit::Trail,
    auth::{Identity, take_wish},
    authz::{Attributes, Selectors},
    http::RequestInfo,
    server::Inner,
};

/// The user as whom the request is to be handled: the one that its headers ask for, or `user` if they ask for none. Takes
/// those headers away.
///
/// # Errors
/// `400` if the headers make no sense, `403` if the user may not.
pub(super) async fn acting(
    server: &Inner,
    user: Identity,
    parts: &mut Parts,
    info: &RequestInfo,
    trail: Option<&Trail>,
) -> Result<Identity> {
    let Some(wanted) = take_wish(&mut parts.headers)? else {
        return Ok(user);
    };
    let selectors = Selectors::of(info);
    let request = Attributes::of(&user, info, selectors.as_ref());
    let decided = (server.impersonation).decide(&wanted, request, &*server.authorizer);
    // In a box: few requests need the room.
    let impersonated = Box::pin(decided).await?;
    if let Some(trail) = trail {
        trail.impersonated(&impersonated.user, impersonated.constraint);
    }
    Ok(impersonated.user)
}
