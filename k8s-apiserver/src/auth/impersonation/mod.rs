//! Impersonation: one user acts as another, if that is allowed.
//!
//! There are two ways of it. The classic one asks whether the user may `impersonate` each thing that the other one is, and
//! then lets them do all that the other one may. The constrained one (KEP-5284) asks, by [`Mode`], whether they may be that
//! (`impersonate:user-info`), and whether they may do this very thing as somebody else (`impersonate-on:user-info:list`).
//! Constrained ones are tried first, each that fits; what worked last for a user is tried before all.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/>.

mod extra;
mod known;
mod metrics;
mod mode;
#[cfg(test)]
mod tests;
mod wish;

use std::time::Duration;

use tokio::time::Instant;

pub(crate) use self::wish::take as take_wish;
use self::{
    known::{Key, Known},
    metrics::Metrics,
    mode::Mode,
};
use super::{AUTHENTICATED, Identity, MASTERS, UNAUTHENTICATED};
use crate::{
    Error,
    authz::{self, Attributes, Authorizer},
    metrics::Writer,
};

/// From how many groups or extra values on it is first asked whether all are allowed; as upstream.
const MANY: usize = 4;

/// How long it is remembered which mode worked for a user, if not crowded out: upstream does not forget by time.
const LAST_KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// The user as whom a request is handled.
#[derive(Debug)]
pub(crate) struct Impersonated {
    pub(crate) user: Identity,
    /// The verb by which it was allowed, if in a constrained mode; for the audit log.
    pub(crate) constraint: Option<&'static str>,
}

/// Decides who may act as whom, and remembers for a while what was allowed.
#[derive(Debug, Default)]
pub(crate) struct Impersonation {
    /// Which mode worked last, by user.
    last: Known<Mode>,
    /// What was allowed, in constrained modes: as whom and what to do.
    requests: Known<()>,
    /// What was allowed, in constrained modes: as whom.
    users: Known<()>,
    metrics: Metrics,
}

/// What goes along while one request is decided.
struct Asked<'a> {
    /// As whom the user wants to act, as the headers say it.
    wanted: &'a Identity,
    /// What they want to do so, as themselves.
    request: Attributes<'a>,
    authorizer: &'a dyn Authorizer,
}

impl Impersonation {
    /// The user as whom a request is to be handled that asks to be `wanted`; `request` is what it asks to do, by the user
    /// that it really comes from.
    ///
    /// # Errors
    /// `403 Forbidden`, with what the first mode says that was tried.
    pub(crate) async fn decide(
        &self,
        wanted: &Identity,
        request: Attributes<'_>,
        authorizer: &dyn Authorizer,
    ) -> Result<Impersonated, Error> {
        let asked = Asked {
            wanted,
            request,
            authorizer,
        };
        let started = Instant::now();
        let found = self.first(&asked).await;
        let mode = found.as_ref().ok().map(|(mode, _)| *mode);
        self.metrics.attempt(mode, started.elapsed());
        let (mode, user) = found?;
        let constraint = mode.is_constrained().then(|| mode.verb());
        Ok(Impersonated { user, constraint })
    }

    pub(crate) fn write_metrics(&self, out: &mut Writer) {
        self.metrics.write(out);
    }

    /// The first mode that allows it, and who the user is by it.
    async fn first(&self, asked: &Asked<'_>) -> Result<(Mode, Identity), Error> {
        let name = Key::of_text(&asked.request.user.name);
        let last = self.last.get(&name);
        let others = Mode::ALL.into_iter().filter(|mode| Some(*mode) != last);
        let mut error = None;
        for mode in last.into_iter().chain(others) {
            match self.check(mode, asked).await {
                Ok(Some(user)) => {
                    if Some(mode) != last {
                        self.last.put(name, mode, LAST_KEPT);
                    }
                    return Ok((mode, user));
                }
                Ok(None) => {}
                Err(e) => error = error.or(Some(e)),
            }
        }
        // The classic mode fits everybody.
        Err(error.unwrap_or_else(|| Error::internal("all impersonation modes failed")))
    }

    /// Who the user is by a mode; `None` where it is not for those.
    async fn check(&self, mode: Mode, asked: &Asked<'_>) -> Result<Option<Identity>, Error> {
        let Asked {
            wanted, request, ..
        } = asked;
        if !mode.fits(wanted, request.user) {
            return Ok(None);
        }
        if !mode.is_constrained() {
            self.allow_user(mode, request.user, asked).await?;
            return Ok(Some(mode.become_of(wanted)));
        }
        // What is remembered of nodes holds for all of them, so that is what must be allowed.
        let on_its_node = (mode == Mode::AssociatedNode).then(|| {
            let any = Identity::user("system:node:*");
            (mode::on_any_node(request.user), any)
        });
        let (user, target) = match &on_its_node {
            Some((user, any)) => (user, any),
            None => (request.user, *wanted),
        };
        let whole = Key::of_request(mode, target, &Attributes { user, ..*request });
        if whole.is_some_and(|key| self.requests.get(&key).is_some()) {
            return Ok(Some(mode.become_of(wanted)));
        }
        let verb = format!("impersonate-on:{}:{}", mode.name(), request.verb);
        let on = Attributes {
            user,
            verb: &verb,
            ..*request
        };
        self.allow(mode, &on, asked.authorizer).await?;
        let key = Key::of_users(mode, target, user);
        if self.users.get(&key).is_none() {
            self.allow_user(mode, user, asked).await?;
            self.users.put(key, (), known::KEPT);
        }
        if let Some(whole) = whole {
            self.requests.put(whole, (), known::KEPT);
        }
        Ok(Some(mode.become_of(wanted)))
    }

    /// Whether `user` may be all that the target is.
    async fn allow_user(
        &self,
        mode: Mode,
        user: &Identity,
        asked: &Asked<'_>,
    ) -> Result<(), Error> {
        let wanted = asked.wanted;
        let authorizer = asked.authorizer;
        let base = Attributes {
            user,
            verb: mode.verb(),
            group: "authentication.k8s.io",
            version: "v1",
            resource: "users",
            subresource: "",
            namespace: "",
            name: &wanted.name,
            path: "",
            resource_request: true,
            selectors: None,
        };
        // Users and groups were of the core group once.
        let of_users = match mode.is_constrained() {
            true => base,
            false => Attributes { group: "", ..base },
        };
        let name = mode.name_of(wanted, of_users);
        self.allow(mode, &name, authorizer).await?;
        if !wanted.uid.is_empty() {
            let uid = Attributes {
                resource: "uids",
                name: &wanted.uid,
                ..base
            };
            self.allow(mode, &uid, authorizer).await?;
        }
        let groups = Attributes {
            resource: "groups",
            name: "",
            ..of_users
        };
        self.allow_groups(mode, groups, asked).await?;
        let extra = Attributes {
            resource: "userextras",
            name: "",
            ..base
        };
        self.allow_extra(mode, extra, asked).await
    }

    async fn allow_groups(
        &self,
        mode: Mode,
        base: Attributes<'_>,
        asked: &Asked<'_>,
    ) -> Result<(), Error> {
        let groups = &asked.wanted.groups;
        let named = |name| Attributes { name, ..base };
        if mode.is_constrained() {
            if groups.iter().any(String::is_empty) {
                let text = "impersonating the empty string group is not allowed";
                return Err(authz::denied(&base, text));
            }
            if asked.wanted.in_group(MASTERS) {
                let text = "impersonating the system:masters group is not allowed";
                return Err(authz::denied(&named(MASTERS), text));
            }
            let all = named("*");
            if groups.len() >= MANY && self.allow(mode, &all, asked.authorizer).await.is_ok() {
                return Ok(());
            }
        }
        for group in groups {
            self.allow(mode, &named(group), asked.authorizer).await?;
        }
        Ok(())
    }

    async fn allow_extra(
        &self,
        mode: Mode,
        base: Attributes<'_>,
        asked: &Asked<'_>,
    ) -> Result<(), Error> {
        let extra = &asked.wanted.extra;
        if mode.is_constrained() {
            extra::check(extra).map_err(|text| authz::denied(&base, &text))?;
            let all = Attributes {
                subresource: "*",
                name: "*",
                ..base
            };
            let is_many = extra.values().map(Vec::len).sum::<usize>() >= MANY;
            if is_many && self.allow(mode, &all, asked.authorizer).await.is_ok() {
                return Ok(());
            }
        }
        for (key, values) in extra {
            for value in values {
                let one = Attributes {
                    subresource: key,
                    name: value,
                    ..base
                };
                self.allow(mode, &one, asked.authorizer).await?;
            }
        }
        Ok(())
    }

    /// Asks the authorizer one thing.
    async fn allow(
        &self,
        mode: Mode,
        attributes: &Attributes<'_>,
        authorizer: &dyn Authorizer,
    ) -> Result<(), Error> {
        let started = Instant::now();
        let decision = authorizer.authorize(attributes).await;
        (self.metrics).authorization(mode, decision.is_allowed(), started.elapsed());
        if decision.is_allowed() {
            return Ok(());
        }
        let text = match (decision.error(), decision.reason()) {
            (None, reason) => reason.to_owned(),
            (Some(error), "") => error.to_owned(),
            (Some(error), reason) => format!("{error}: {reason}"),
        };
        Err(authz::denied(attributes, &text))
    }
}

/// The groups of a user of that name who is in `groups`: one tells whether it is known who they are.
fn with_standing(name: &str, mut groups: Vec<String>) -> Vec<String> {
    let has = |wanted: &str| groups.iter().any(|group| group == wanted);
    let missing = match (name == super::ANONYMOUS, has(UNAUTHENTICATED)) {
        (true, false) => Some(UNAUTHENTICATED),
        (false, false) if !has(AUTHENTICATED) => Some(AUTHENTICATED),
        _ => None,
    };
    groups.extend(missing.map(str::to_owned));
    groups
}
