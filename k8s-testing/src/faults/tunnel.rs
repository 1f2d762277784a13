//! Tunnels that end when nothing gets through any more: exec, attach, port-forward, and watches over WebSocket.

use bytes::Bytes;
use futures::future;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Empty;
use hyper::{
    body::Incoming,
    client, server,
    service::service_fn,
    upgrade::{self, OnUpgrade},
};
use hyper_util::rt::TokioIo;
use k8s_apiserver::http::Body;
use tokio::{io::copy_bidirectional, sync::mpsc};

use super::{Faults, layer::lost};
use crate::gate::BoxError;

/// Bytes that a tunnel holds in each direction.
const PIPE: usize = 64 * 1024;

/// An answer whose tunnel, if it has one, ends with a cut.
pub(super) async fn until_cut(
    mut answer: Response<Body>,
    faults: &Faults,
) -> Result<Response<Body>, BoxError> {
    let Some(far) = answer.extensions_mut().remove::<OnUpgrade>() else {
        return Ok(answer);
    };
    let (client, near) = ends().await?;
    let cut = faults.fates.until_cut();
    tokio::spawn(async move {
        let joined = async {
            let (near, far) = future::try_join(near, far).await?;
            let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
            copy_bidirectional(&mut near, &mut far).await?;
            Ok::<(), BoxError>(())
        };
        tokio::select! {
            biased;
            () = cut => {}
            Err(error) = joined => tracing::debug!(error, "a tunnel failed"),
            else => {}
        }
    });
    answer.extensions_mut().insert(client);
    Ok(answer)
}

/// The two ends of a tunnel within the process. What promises one is made by hyper alone, of a connection of its own.
async fn ends() -> Result<(OnUpgrade, OnUpgrade), BoxError> {
    let (near, far) = tokio::io::duplex(PIPE);
    let (sender, mut served) = mpsc::channel(1);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let taken = sender.try_send(upgrade::on(&mut request));
        let mut answer = Response::new(Empty::<Bytes>::new());
        *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        answer.headers_mut().extend(tunnel());
        // There is one request, and somebody who waits for it.
        future::ready(taken.map(|()| answer).map_err(|_| lost()))
    });
    let serving = server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
    tokio::spawn(serving.with_upgrades());
    let (mut asker, asking) = client::conn::http1::handshake(TokioIo::new(near)).await?;
    tokio::spawn(asking.with_upgrades());
    let mut request = Request::new(Empty::<Bytes>::new());
    request.headers_mut().extend(tunnel());
    let mut answer = asker.send_request(request).await?;
    let far = served.recv().await.ok_or_else(lost)?;
    Ok((upgrade::on(&mut answer), far))
}

/// What either side says to change to a tunnel.
fn tunnel() -> [(HeaderName, HeaderValue); 2] {
    [(header::CONNECTION, "upgrade"), (header::UPGRADE, "tunnel")]
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_tunnel_carries_bytes_both_ways_until_it_is_cut_and_then_ends_on_both_sides() {
        let faults = Faults::seeded(1);
        let (promised, server) = ends().await.unwrap();
        let mut answer = Response::new(Body::empty());
        answer.extensions_mut().insert(promised);
        let mut answer = until_cut(answer, &faults).await.unwrap();
        let client = upgrade::on(&mut answer);
        let (client, server) = future::try_join(client, server).await.unwrap();
        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
        let mut read = [0; 4];
        client.write_all(b"ping").await.unwrap();
        server.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"ping");
        server.write_all(b"pong").await.unwrap();
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"pong");
        faults.cut();
        assert_eq!(client.read(&mut read).await.unwrap(), 0);
        assert_eq!(server.read(&mut read).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn an_answer_without_a_tunnel_stays_as_it_is() {
        let answer = until_cut(Response::new(Body::empty()), &Faults::seeded(1)).await;
        assert!(answer.unwrap().extensions().get::<OnUpgrade>().is_none());
    }
}
