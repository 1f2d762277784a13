//! The listener.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    KubeletService,
    access::Delegate,
    tls::{Acceptor, ServerTls},
};
use crate::context::Context;

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Serves until `stop`; connections that are open then go on until this future is dropped.
pub(crate) async fn listen(
    cx: Arc<Context>,
    listener: std::net::TcpListener,
    mut tls: ServerTls,
    stop: CancellationToken,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return warn!(%error, "not listening"),
    };
    let service = KubeletService::new(cx.clone());
    let delegate = Arc::new(Delegate::default());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (cx, delegate) = (cx.clone(), delegate.clone());
                    let tls = tls.acceptor().clone();
                    connections.spawn(serve(cx, service.clone(), delegate, stream, tls));
                }
                Err(error) => {
                    // Out of file descriptors, for example: give others time to close some.
                    debug!(%error, "connection not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn serve(
    cx: Arc<Context>,
    service: KubeletService,
    delegate: Arc<Delegate>,
    stream: TcpStream,
    tls: Acceptor,
) {
    let _ = stream.set_nodelay(true);
    let (stream, peer) = match tokio::time::timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(error)) => return debug!(%error, "TLS handshake failed"),
        Err(_) => return,
    };
    let peer = Arc::new(peer);
    let handle = service_fn(move |request: Request<Incoming>| {
        let (cx, service) = (cx.clone(), service.clone());
        let (delegate, peer) = (delegate.clone(), peer.clone());
        async move {
            Ok::<_, Infallible>(match delegate.admit(&cx, &peer, &request).await {
                Ok(()) => service.answer(request).await,
                Err(refusal) => refusal.into(),
            })
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(30))
        .serve_connection(TokioIo::new(stream), handle)
        .with_upgrades();
    if let Err(error) = connection.await {
        debug!(%error, "connection ended");
    }
}
