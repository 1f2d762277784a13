//! Port-forward over WebSocket: its messages carry the bytes of SPDY, which the kubelet speaks (KEP-4006).

use bytes::BytesMut;
use http::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use k8s_streaming::{
    channel::FINISH,
    spdy::upgrade,
    websocket::{Socket, TUNNEL, Upgrade, split},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    ByteStream,
    forward::{BUFFER, Forwarder, answered, dialing, exchange, outgoing, passed_on, refused},
};
use crate::{Error, http::Body};

impl Forwarder {
    /// Has ports forwarded by whoever speaks SPDY at the other end of the stream. A refusal is the answer.
    pub(super) async fn tunnel(
        &self,
        stream: Box<dyn ByteStream>,
        host: &str,
        path_and_query: &str,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Error> {
        let broken = StatusCode::INTERNAL_SERVER_ERROR;
        let agreed = Upgrade::accept(&mut request, &[TUNNEL]).map_err(|error| {
            self.streams.tunnelled(broken);
            refused(error)
        })?;
        let (mut parts, _) = request.into_parts();
        passed_on(&mut parts.headers, false);
        for name in [
            header::AUTHORIZATION,
            header::SEC_WEBSOCKET_KEY,
            header::SEC_WEBSOCKET_VERSION,
            header::SEC_WEBSOCKET_EXTENSIONS,
            header::SEC_WEBSOCKET_PROTOCOL,
        ] {
            parts.headers.remove(name);
        }
        parts.method = Method::POST;
        upgrade::ask(&mut parts.headers, upgrade::PORT_FORWARD[0].0);
        let outgoing = outgoing(parts, host, path_and_query, Body::empty())?;
        let answer = exchange(stream, outgoing, self.cut()).await;
        let mut answer = answer.map_err(dialing)?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.streams.tunnelled(answer.status());
            return Ok(answered(answer));
        }
        if !upgrade::is_agreed(&answer) {
            self.streams.tunnelled(broken);
            return Err(Error::internal(
                "unable to upgrade: missing upgrade headers in response",
            ));
        }
        self.streams.tunnelled(StatusCode::SWITCHING_PROTOCOLS);
        let (response, _, socket) = agreed.into_parts();
        let backend = hyper::upgrade::on(&mut answer);
        self.spawn(async move {
            if let (Some(socket), Ok(backend)) = tokio::join!(socket, backend) {
                copy(socket, TokioIo::new(backend)).await;
            }
        });
        Ok(response.map(|()| Body::empty()))
    }
}

/// Copies bytes both ways until either side is done.
async fn copy(socket: Socket, backend: impl AsyncRead + AsyncWrite) {
    let (out, mut incoming, writer) = split(socket, TUNNEL);
    let (mut from, mut to) = tokio::io::split(backend);
    let upwards = async {
        let mut open = true;
        while let Some(data) = incoming.next_raw().await {
            // A backend that takes no more may still have something to say.
            open = open && to.write_all(&data).await.is_ok() && to.flush().await.is_ok();
        }
        let _ = to.shutdown().await;
    };
    let downwards = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(BUFFER);
            match from.read_buf(&mut buffer).await {
                Ok(n) if n > 0 && out.send_raw(buffer.split().freeze()).await.is_ok() => {}
                _ => break,
            }
        }
    };
    let client_left = tokio::select! {
        () = upwards => true,
        () = downwards => false,
    };
    if !client_left {
        out.close().await;
        drop(out);
        let rest = async { while incoming.next_raw().await.is_some() {} };
        let finishing = async { tokio::join!(rest, writer) };
        let _ = tokio::time::timeout(FINISH, finishing).await;
    }
}
