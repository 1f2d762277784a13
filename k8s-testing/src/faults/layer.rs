//! [`FaultLayer`]: faults before any service that a client may use.

use std::{
    collections::HashMap,
    io,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use k8s_apiserver::http::Body;
use k8s_model::status::{self, GroupResource};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use parking_lot::Mutex;
use tower::{Layer, Service};

use super::{Fault, Faults, request::About, tunnel, watch};
use crate::gate::BoxError;

/// How many answers are kept to be given again.
const REMEMBERED: usize = 1024;

/// Puts [`Faults`] before a service that a [`kube::Client`] is made of: an in-process server's, or a
/// connection to a cluster anywhere.
#[derive(Clone, Debug)]
pub struct FaultLayer {
    faults: Faults,
    /// The last answers to reads, by address and wanted form.
    answers: Arc<Mutex<HashMap<String, (http::response::Parts, Bytes)>>>,
}

impl FaultLayer {
    /// A layer with these faults. What it remembers for stale reads is its own.
    pub fn new(faults: &Faults) -> Self {
        FaultLayer {
            faults: faults.clone(),
            answers: Arc::default(),
        }
    }
}

impl<S> Layer<S> for FaultLayer {
    type Service = FaultService<S>;

    fn layer(&self, inner: S) -> FaultService<S> {
        FaultService {
            layer: self.clone(),
            inner,
        }
    }
}

/// A service on whose way things go wrong.
#[derive(Clone, Debug)]
pub struct FaultService<S> {
    layer: FaultLayer,
    inner: S,
}

impl<S, R, B> Service<Request<R>> for FaultService<S>
where
    S: Service<Request<R>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Body>, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let about = About::new(&parts);
        // An object has other answers as a row of a table, or without its spec.
        let form = parts.headers.get(header::ACCEPT);
        let form = form.and_then(|form| form.to_str().ok()).unwrap_or_default();
        let address = format!("{} {form}", parts.uri);
        let layer = self.layer.clone();
        let faults = &layer.faults;
        let is_hit = faults
            .only
            .as_ref()
            .is_none_or(|text| parts.uri.path().contains(&**text));
        if !is_hit {
            let answer = self.inner.call(Request::from_parts(parts, body));
            return async move { Ok(answer.await.map_err(Into::into)?.map(Body::wrap)) }.boxed();
        }
        if faults.fates.is_cut() {
            return async { Err(lost()) }.boxed();
        }
        let turn = faults.fates.turn(&about.text);
        let hits = |fault, chance| {
            let at_most = faults.at_most;
            faults
                .fates
                .hits(fault, chance, at_most, &about.text, turn, None)
        };
        if hits(Fault::LostRequest, faults.chances.lost / 2.0) {
            return async { Err(lost()) }.boxed();
        }
        if about.is_change && hits(Fault::Conflict, faults.chances.conflicts) {
            let resource = GroupResource::new(&about.group, &about.resource);
            let refusal = status::conflict(resource, &about.name, status::OPTIMISTIC_LOCK);
            return async move { refuse(&refusal) }.boxed();
        }
        if about.is_read
            && layer.answers.lock().contains_key(&address)
            && hits(Fault::StaleRead, faults.chances.stale)
            && let Some(before) = layer.remembered(&address)
        {
            return async move { Ok(before) }.boxed();
        }
        let answer = self.inner.call(Request::from_parts(parts, body));
        let cut = faults.fates.until_cut();
        async move {
            let answer = tokio::select! {
                biased;
                () = cut => return Err(lost()),
                answer = answer => answer.map_err(Into::into)?.map(Body::wrap),
            };
            let faults = &layer.faults;
            let hits = |fault, chance| {
                let at_most = faults.at_most;
                faults
                    .fates
                    .hits(fault, chance, at_most, &about.text, turn, None)
            };
            // What was refused has not taken place.
            let has_written = about.is_write && answer.status().is_success();
            if has_written && hits(Fault::ErrorAfterWrite, faults.chances.errors) {
                return refuse(&status::internal_error(
                    "the write took place; this is a fault",
                ));
            }
            if hits(Fault::LostAnswer, faults.chances.lost / 2.0) {
                return Err(lost());
            }
            if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                return tunnel::until_cut(answer, faults).await;
            }
            if about.is_watch && answer.status() == StatusCode::OK {
                return Ok(answer.map(|body| watch::spoil(body, faults.clone(), about.text, turn)));
            }
            if about.is_log && answer.status() == StatusCode::OK {
                return Ok(answer.map(|body| watch::until_cut(body, faults)));
            }
            if about.is_read && faults.chances.stale > 0.0 && answer.status() == StatusCode::OK {
                return layer.remember(address, answer).await;
            }
            Ok(answer)
        }
        .boxed()
    }
}

impl FaultLayer {
    fn remembered(&self, address: &str) -> Option<Response<Body>> {
        let answers = self.answers.lock();
        let (parts, body) = answers.get(address)?;
        Some(Response::from_parts(
            parts.clone(),
            Body::from(body.clone()),
        ))
    }

    async fn remember(
        &self,
        address: String,
        answer: Response<Body>,
    ) -> Result<Response<Body>, BoxError> {
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await?.to_bytes();
        let mut answers = self.answers.lock();
        if answers.len() < REMEMBERED || answers.contains_key(&address) {
            // The oldest that is known: a stale read should show.
            answers
                .entry(address)
                .or_insert_with(|| (parts.clone(), bytes.clone()));
        }
        Ok(Response::from_parts(parts, Body::from(bytes)))
    }
}

/// A connection that was lost.
pub(super) fn lost() -> BoxError {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        "the connection was lost; this is a fault",
    )
    .into()
}

fn refuse(status: &Status) -> Result<Response<Body>, BoxError> {
    let code = status.code.and_then(|code| u16::try_from(code).ok());
    let body = serde_json::to_vec(status)?;
    Ok(Response::builder()
        .status(code.unwrap_or(500))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(body))?)
}
