//! [`Webhook`]: something that the cluster's server asks.

use std::{convert::Infallible, net::Ipv4Addr, sync::Arc};

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use k8s_apiserver::{
    http::Body,
    pki::{Pki, ServerNames},
    serve::{self, Limits, Server},
};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::Error;

/// The largest review that is taken, in bytes: two objects of the largest size.
const LARGEST: usize = 8 << 20;

/// A webhook at a port of this machine, over TLS, under an authority of its own: for conversions of custom resources,
/// for admission, for authentication and authorization. It is served until the value is dropped.
///
/// This is the one part of a test that needs a socket: the API server speaks to webhooks over the network.
///
/// ```
/// use k8s_openapi::api::core::v1::ConfigMap;
/// use k8s_testing::{TestCluster, Webhook};
/// use kube::{Api, api::PostParams};
/// use serde_json::json;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Refuses all that it is asked about.
/// let webhook = Webhook::serve(|_path, review| json!({
///     "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
///     "response": {"uid": review["request"]["uid"], "allowed": false, "status": {"message": "not today"}},
/// })).await?;
/// let configuration = serde_json::from_value(json!({
///     "metadata": {"name": "strict"},
///     "webhooks": [{
///         "name": "strict.example.com",
///         "clientConfig": webhook.client_config("/validate"),
///         "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}],
///         "admissionReviewVersions": ["v1"],
///         "sideEffects": "None",
///     }],
/// }))?;
///
/// let cluster = TestCluster::builder().start().await?;
/// # use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
/// let configurations: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client());
/// configurations.create(&PostParams::default(), &configuration).await?;
/// let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client());
/// let mut map = ConfigMap::default();
/// map.metadata.name = Some("x".into());
/// // The server asks as soon as it has seen the configuration; what is only tried leaves nothing behind.
/// let dry = PostParams { dry_run: true, ..PostParams::default() };
/// let refused = loop {
///     match maps.create(&dry, &map).await {
///         Ok(_) => tokio::task::yield_now().await,
///         Err(refused) => break refused,
///     }
/// };
/// assert!(refused.to_string().contains("not today"), "{refused}");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Webhook {
    authority: Pki,
    port: u16,
    _server: Server,
}

impl Webhook {
    /// Serves a webhook that answers the path and the review that the server sends with the review to send back.
    ///
    /// `answer` is called from as many tasks as the server asks at once; it must not block.
    ///
    /// # Errors
    ///
    /// [`Error::Webhook`] if there is no port, or no key can be made.
    pub async fn serve(
        answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let authority = Pki::in_memory().map_err(Error::webhook)?;
        let names = ServerNames {
            dns: vec!["localhost".to_owned()],
            ips: vec![Ipv4Addr::LOCALHOST.into()],
        };
        let credential = authority.apiserver(&names).map_err(Error::webhook)?;
        let tls = serve::server_config(&credential, authority.ca_der()).map_err(Error::webhook)?;
        let socket = serve::bind((Ipv4Addr::LOCALHOST, 0).into())
            .await
            .map_err(Error::webhook)?;
        let port = socket.local_addr().map_err(Error::webhook)?.port();
        let answer = Arc::new(answer);
        let service = tower::service_fn(move |request: Request<Incoming>| {
            let answer = answer.clone();
            async move {
                let path = request.uri().path().to_owned();
                let body = Limited::new(request.into_body(), LARGEST).collect().await;
                let review = body
                    .ok()
                    .and_then(|body| serde_json::from_slice(&body.to_bytes()).ok());
                let mut response = Response::default();
                match review {
                    Some(review) => {
                        *response.body_mut() = Body::from(answer(&path, &review).to_string());
                    }
                    None => *response.status_mut() = StatusCode::BAD_REQUEST,
                }
                Ok::<_, Infallible>(response)
            }
        });
        let server =
            serve::serve(service, vec![socket], tls, Limits::default()).map_err(Error::webhook)?;
        Ok(Webhook {
            authority,
            port,
            _server: server,
        })
    }

    /// The `clientConfig` that leads to a path of the webhook, for a definition's conversion as well as for a webhook
    /// of admission: `url` and `caBundle`.
    pub fn client_config(&self, path: &str) -> Value {
        let bundle = ByteString(self.authority.ca_pem().as_bytes().to_vec());
        json!({"url": format!("https://localhost:{}{path}", self.port), "caBundle": bundle})
    }
}
