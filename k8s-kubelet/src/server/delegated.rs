//! [`Delegate`]: who comes without a certificate of the cluster is known and judged by the API, as
//! upstream's kubelet does with `--authentication-token-webhook` and `--authorization-mode=Webhook`.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use http::{HeaderMap, Method, Request, StatusCode, header};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::debug;

use super::answer::Refusal;
use crate::context::Context;

/// How long the API's word is good. Upstream's own defaults are 2 to 5 minutes and 30 s.
const ALLOWED: Duration = Duration::from_secs(120);
const REFUSED: Duration = Duration::from_secs(30);
/// Beyond this many decisions all are forgotten.
const MOST: usize = 1024;

/// A token, and what it is used for.
type Key = (String, &'static str, &'static [&'static str]);

/// What was decided, and until when it is good.
type Decided = (Instant, Result<(), Refusal>);

/// Asks the API about bearer tokens, and remembers what it said.
#[derive(Debug, Default)]
pub(crate) struct Delegate {
    decided: Mutex<HashMap<Key, Decided>>,
}

impl Delegate {
    /// Whether this request is to be served.
    pub(crate) async fn admit<B>(&self, cx: &Context, request: &Request<B>) -> Result<(), Refusal> {
        let Some(token) = bearer(request.headers()) else {
            return Err(unauthorized());
        };
        let key = (
            token.to_owned(),
            verb(request.method()),
            subresources(request.uri().path()),
        );
        let now = Instant::now();
        if let Some((until, decision)) = self.decided.lock().get(&key)
            && *until > now
        {
            return decision.clone();
        }
        let decision = decide(cx, &key).await.map_err(|error| {
            debug!(%error, "request not judged");
            Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "Authentication error")
        })?;
        let good = if decision.is_ok() { ALLOWED } else { REFUSED };
        let mut decided = self.decided.lock();
        if decided.len() >= MOST {
            decided.clear();
        }
        decided.insert(key, (now + good, decision.clone()));
        decision
    }
}

fn unauthorized() -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "Unauthorized")
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn verb(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        _ => "get",
    }
}

/// The subresources of the node any of which is enough for a path (KEP-2862).
fn subresources(path: &str) -> &'static [&'static str] {
    match path.trim_start_matches('/').split('/').next() {
        Some("stats") => &["stats"],
        Some("metrics") => &["metrics"],
        Some("logs") => &["log"],
        Some("spec") => &["spec"],
        Some("healthz") => &["healthz", "proxy"],
        Some("pods" | "runningpods") => &["pods", "proxy"],
        Some("configz") => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

/// A review's answer. As JSON: the Rust types differ between the API levels that this crate
/// supports.
#[derive(Deserialize)]
struct Reviewed<T> {
    status: T,
}

#[derive(Deserialize)]
struct Authenticated {
    #[serde(default)]
    authenticated: bool,
    #[serde(default)]
    user: User,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct User {
    #[serde(rename(serialize = "user"))]
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Authorized {
    #[serde(default)]
    allowed: bool,
}

async fn review<T: DeserializeOwned>(
    cx: &Context,
    path: &str,
    review: &Value,
) -> Result<T, kube::Error> {
    let request = Request::post(path)
        .header(header::CONTENT_TYPE, "application/json")
        .body(review.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    let answer: Reviewed<T> = cx.client.request(request).await?;
    Ok(answer.status)
}

async fn decide(cx: &Context, key: &Key) -> Result<Result<(), Refusal>, kube::Error> {
    let (token, verb, subresources) = key;
    let version = "authentication.k8s.io/v1";
    let path = format!("/apis/{version}/tokenreviews");
    let asked = json!({"apiVersion": version, "kind": "TokenReview", "spec": {"token": token}});
    let known: Authenticated = review(cx, &path, &asked).await?;
    if !known.authenticated {
        return Ok(Err(unauthorized()));
    }
    let user = known.user;
    for subresource in *subresources {
        if allowed(cx, &user, verb, subresource).await? {
            return Ok(Ok(()));
        }
    }
    let (name, list) = (&user.username, subresources.join(" "));
    Ok(Err(Refusal::new(
        StatusCode::FORBIDDEN,
        format!("Forbidden (user={name}, verb={verb}, resource=nodes, subresource(s)=[{list}])"),
    )))
}

async fn allowed(
    cx: &Context,
    user: &User,
    verb: &str,
    subresource: &str,
) -> Result<bool, kube::Error> {
    let version = "authorization.k8s.io/v1";
    let path = format!("/apis/{version}/subjectaccessreviews");
    let mut spec = json!(user);
    spec["resourceAttributes"] = json!({
        "verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource,
        "name": cx.settings.node_name,
    });
    let asked = json!({"apiVersion": version, "kind": "SubjectAccessReview", "spec": spec});
    let answer: Authorized = review(cx, &path, &asked).await?;
    Ok(answer.allowed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_apiserver::{ApiServer, auth::Identity, pki::Pki};
    use k8s_openapi::api::{
        core::v1::ServiceAccount,
        rbac::v1::{ClusterRole, ClusterRoleBinding},
    };
    use k8s_runtime::sim::{SimOptions, SimRuntime};
    use kube::{Api, api::PostParams};
    use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

    use super::*;
    use crate::{Kubelet, TlsOptions, probe::http};

    fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn paths_are_subresources_of_the_node() {
        assert_eq!(subresources("/metrics/resource"), ["metrics"]);
        assert_eq!(subresources("/stats/summary"), ["stats"]);
        assert_eq!(subresources("/pods"), ["pods", "proxy"]);
        assert_eq!(subresources("/exec/ns/p/c"), ["proxy"]);
        assert_eq!(subresources("/metricsx"), ["proxy"]);
        let mut headers = HeaderMap::new();
        assert_eq!(bearer(&headers), None);
        headers.insert(header::AUTHORIZATION, "bearer  abc".parse().unwrap());
        assert_eq!(bearer(&headers), Some("abc"));
        headers.insert(header::AUTHORIZATION, "Basic abc".parse().unwrap());
        assert_eq!(bearer(&headers), None);
    }

    #[tokio::test]
    async fn a_token_may_what_the_api_lets_its_owner_do() {
        let server = ApiServer::builder().build().await.unwrap();
        let admin = server.client(Identity::user("admin").group("system:masters"));
        let post = PostParams::default();
        let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), "default");
        let account = object(json!({"metadata": {"name": "metrics"}}));
        accounts.create(&post, &account).await.unwrap();
        let roles: Api<ClusterRole> = Api::all(admin.clone());
        let role = object(json!({
            "metadata": {"name": "metrics"},
            "rules": [{"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]}],
        }));
        roles.create(&post, &role).await.unwrap();
        let bindings: Api<ClusterRoleBinding> = Api::all(admin.clone());
        let binding = object(json!({
            "metadata": {"name": "metrics"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "metrics"},
            "subjects": [{"kind": "ServiceAccount", "name": "metrics", "namespace": "default"}],
        }));
        bindings.create(&post, &binding).await.unwrap();
        let token: Value = accounts
            .create_subresource("token", "metrics", &post, &json!({
                "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []},
            }))
            .await
            .unwrap();
        let token = token["status"]["token"].as_str().unwrap();

        let pki = Pki::in_memory().unwrap();
        let issued = pki.issue_kubelet_server("a", &[[127, 0, 0, 1].into()]);
        let issued = issued.unwrap();
        let tls = TlsOptions {
            certificate: issued.certificate,
            key: issued.key,
            client_ca: pki.ca_pem().to_owned(),
        };
        let runtime = SimRuntime::new(SimOptions::new("10.1.0.0/24".parse().unwrap())).unwrap();
        let runtime = Arc::new(runtime);
        let dir = tempfile::tempdir().unwrap();
        let node = Identity::user("system:node:a").group("system:nodes");
        let kubelet = Kubelet::builder(server.client(node), runtime.clone(), runtime.images())
            .node_name("a")
            .root_dir(dir.path())
            .listen(([127, 0, 0, 1], 0).into())
            .tls(tls)
            .build()
            .unwrap();
        let port = kubelet.local_addr().unwrap().port();
        let _kubelet = AbortOnDropHandle::new(tokio::spawn(kubelet.run(CancellationToken::new())));

        let get = async |path: &str, token: &str| {
            let target = http::Target {
                tls: true,
                host: "127.0.0.1".to_owned(),
                port,
                path: path.to_owned(),
                headers: vec![("Authorization".to_owned(), format!("Bearer {token}"))],
            };
            let answer = http::get(&target, Duration::from_secs(60)).await.unwrap();
            (answer.status, answer.body)
        };
        for _ in 0..2 {
            let (status, body) = get("/metrics/resource", token).await;
            assert_eq!(status, 200);
            assert!(body.contains("resource_scrape_error 0"), "{body}");
            let refusal = "Forbidden (user=system:serviceaccount:default:metrics, verb=get, resource=nodes, subresource(s)=[pods proxy])";
            assert_eq!(get("/pods", token).await, (403, refusal.to_owned()));
            assert_eq!(
                get("/metrics", "nonsense").await,
                (401, "Unauthorized".to_owned())
            );
        }
    }
}
