//! `serviceaccounts/token`: new tokens.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use k8s_model::{Object, field};
use k8s_openapi::{
    api::{authentication::v1 as authentication, core::v1 as core},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status},
};
use serde::Deserialize;
use serde_json::json;

use super::{CreateOnly, filled, refused};
use crate::{
    Error,
    admission::reader::{ObjectReader, ReadError},
    audit,
    auth::{Identity, ObjectClaim, ServiceAccountTokens, TokenSpec},
};

const GROUP: &str = "authentication.k8s.io";
const KIND: &str = "TokenRequest";
const DEFAULT: i64 = 3600;
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;
/// What pods ask for by default. Programs that read the token only once would fail after that hour, so
/// upstream makes these last a year, and notes uses after the hour.
const POD_DEFAULT: i64 = 3607;
const POD_EXTENDED: i64 = 365 * 24 * 3600;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    audiences: Option<Vec<String>>,
    expiration_seconds: Option<i64>,
    bound_object_ref: Option<Bound>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Bound {
    kind: String,
    api_version: String,
    name: String,
    uid: String,
}

/// Answers `serviceaccounts/token`: a token for the service account.
#[derive(Debug)]
pub struct TokenRequest {
    tokens: Arc<ServiceAccountTokens>,
    reader: Arc<dyn ObjectReader>,
}

/// What a token is bound to, of the objects named.
#[derive(Default)]
struct Bindings {
    pod: Option<ObjectClaim>,
    node: Option<ObjectClaim>,
    secret: Option<ObjectClaim>,
}

impl TokenRequest {
    /// Signs with those tokens' key, and looks the objects up there.
    pub fn new(tokens: Arc<ServiceAccountTokens>, reader: Arc<dyn ObjectReader>) -> Self {
        TokenRequest { tokens, reader }
    }

    async fn bind(&self, namespace: &str, account: &str, bound: &Bound) -> Result<Bindings, Error> {
        let missing = |resource: &str| Error::not_found("", resource, &bound.name);
        let mut bindings = Bindings::default();
        let uid;
        // The version is not looked at, only the group.
        let group = bound
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        let is_known = group.is_empty() && matches!(&*bound.kind, "Pod" | "Secret" | "Node");
        if is_known && bound.name.is_empty() {
            return Err(Error::bad_request("Name parameter required."));
        }
        match (group, bound.kind.as_str()) {
            ("", "Pod") => {
                let pod: core::Pod = self
                    .reader
                    .get(namespace, &bound.name)
                    .await
                    .map_err(unreadable)?
                    .ok_or_else(|| missing("pods"))?;
                let spec = pod.spec.unwrap_or_default();
                if spec.service_account_name.as_deref() != Some(account) {
                    return Err(Error::bad_request(format!(
                        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
                    )));
                }
                let claim = claim(&pod.metadata);
                uid = claim.uid.clone();
                bindings.pod = Some(claim);
                if let Some(name) = spec.node_name.filter(|name| !name.is_empty()) {
                    let node: Option<core::Node> =
                        self.reader.get("", &name).await.map_err(unreadable)?;
                    let uid = node.and_then(|n| n.metadata.uid).unwrap_or_default();
                    bindings.node = Some(ObjectClaim { name, uid });
                }
            }
            ("", "Secret") => {
                let secret: core::Secret = self
                    .reader
                    .get(namespace, &bound.name)
                    .await
                    .map_err(unreadable)?
                    .ok_or_else(|| missing("secrets"))?;
                let claim = claim(&secret.metadata);
                uid = claim.uid.clone();
                bindings.secret = Some(claim);
            }
            ("", "Node") => {
                let node: core::Node = self
                    .reader
                    .get("", &bound.name)
                    .await
                    .map_err(unreadable)?
                    .ok_or_else(|| missing("nodes"))?;
                let claim = claim(&node.metadata);
                uid = claim.uid.clone();
                bindings.node = Some(claim);
            }
            (_, kind) => {
                let version = &bound.api_version;
                let kind = match version.split_once('/') {
                    Some((group, version)) => format!("{group}/{version}, Kind={kind}"),
                    None => format!("/{version}, Kind={kind}"),
                };
                return Err(Error::bad_request(format!(
                    "cannot bind token to object of type {kind}"
                )));
            }
        }
        if !bound.uid.is_empty() && bound.uid != uid {
            return Err(k8s_model::status::conflict(
                k8s_model::status::GroupResource::new("", &bound.kind),
                &bound.name,
                &format!(
                    "the UID in the bound object reference ({}) does not match the UID in record. The object might have been deleted and then recreated",
                    bound.uid
                ),
            )
            .into());
        }
        Ok(bindings)
    }

    async fn answer(
        &self,
        namespace: &str,
        name: &str,
        object: Box<dyn Object>,
    ) -> Result<serde_json::Value, Error> {
        let mut request = object.to_value();
        let spec: Spec = serde_json::from_value(request["spec"].clone()).unwrap_or_default();
        let meta = object.metadata();
        let mut found = field::ErrorList::new();
        let metadata = field::Path::new("metadata");
        let differs = |given: &Option<String>, wanted: &str| {
            let given = given.as_deref().unwrap_or_default();
            !given.is_empty() && given != wanted
        };
        if differs(&meta.namespace, namespace) {
            return Err(Error::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        if differs(&meta.name, name) {
            found.push(field::invalid(
                metadata.child("name"),
                meta.name.as_deref().unwrap_or_default(),
                "must match the service account name if specified",
            ));
        }
        if !found.is_empty() {
            return Err(Error::invalid_kind(GROUP, KIND, name, &found));
        }
        let account: core::ServiceAccount = self
            .reader
            .get(namespace, name)
            .await
            .map_err(unreadable)?
            .ok_or_else(|| Error::not_found("", "serviceaccounts", name))?;
        let seconds = spec.expiration_seconds.unwrap_or(DEFAULT);
        let path = field::Path::new("spec").child("expirationSeconds");
        if seconds < SHORTEST {
            let text = "may not specify a duration less than 10 minutes";
            found.push(field::invalid(path, seconds, text));
        } else if seconds > LONGEST {
            let text = "may not specify a duration larger than 2^32 seconds";
            found.push(field::invalid(path, seconds, text));
        }
        if !found.is_empty() {
            return Err(Error::invalid_kind(GROUP, KIND, "", &found));
        }
        let bindings = match &spec.bound_object_ref {
            Some(bound) => self.bind(namespace, name, bound).await?,
            None => Bindings::default(),
        };
        let api = self.tokens.api_audiences();
        let asked = spec.audiences.unwrap_or_default();
        let audiences = if asked.is_empty() {
            api.to_vec()
        } else {
            asked
        };
        let now = self.tokens.now();
        let after = |seconds| now + SignedDuration::from_secs(seconds);
        let extended = bindings.pod.is_some()
            && seconds == POD_DEFAULT
            && audiences.iter().all(|audience| api.contains(audience));
        let id = uuid::Uuid::new_v4().to_string();
        audit::annotate(
            "authentication.kubernetes.io/issued-credential-id",
            format!("JTI={id}"),
        );
        let spec = TokenSpec {
            namespace: namespace.to_owned(),
            service_account: claim(&account.metadata),
            pod: bindings.pod,
            node: bindings.node,
            secret: bindings.secret,
            audiences: audiences.clone(),
            expires: after(if extended { POD_EXTENDED } else { seconds }),
            warn_after: extended.then(|| after(seconds)),
        };
        let token = self.tokens.issue_as(spec, id).map_err(Error::internal)?;
        let second = |t: jiff::Timestamp| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        request["metadata"]["name"] = name.into();
        request["metadata"]["namespace"] = namespace.into();
        request["metadata"]["creationTimestamp"] = second(now).into();
        request["spec"]["audiences"] = json!(audiences);
        request["spec"]["expirationSeconds"] = seconds.into();
        request["status"] = json!({
            "token": token,
            "expirationTimestamp": second(after(seconds)),
        });
        Ok(request)
    }
}

fn claim(meta: &ObjectMeta) -> ObjectClaim {
    ObjectClaim {
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
    }
}

fn unreadable(error: ReadError) -> Error {
    Error::internal(error)
}

#[async_trait]
impl CreateOnly for TokenRequest {
    fn default(&self, object: &mut dyn Object) {
        let mut value = object.to_value();
        let seconds = &mut value["spec"]["expirationSeconds"];
        if seconds.is_null() {
            *seconds = DEFAULT.into();
            let request = object.downcast_mut::<authentication::TokenRequest>();
            if let (Some(request), Ok(filled)) = (request, serde_json::from_value(value)) {
                *request = filled;
            }
        }
    }

    async fn create(
        &self,
        _user: &Identity,
        namespace: &str,
        name: &str,
        object: Box<dyn Object>,
    ) -> Result<Box<dyn Object>, Box<Status>> {
        match self.answer(namespace, name, object).await {
            Ok(answer) => filled::<authentication::TokenRequest>(answer),
            Err(error) => refused(error),
        }
    }
}
