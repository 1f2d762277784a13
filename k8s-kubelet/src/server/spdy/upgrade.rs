//! The handshake: `Upgrade: SPDY/3.1`, with protocols in `X-Stream-Protocol-Version`.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use super::super::{
    answer::{Refusal, full},
    service::Body,
};

const SPDY: &str = "SPDY/3.1";
const VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// For exec and attach, with their versions. Clients say which they like best.
pub(crate) const REMOTE_COMMAND: [(&str, u8); 4] = [
    ("v4.channel.k8s.io", 4),
    ("v3.channel.k8s.io", 3),
    ("v2.channel.k8s.io", 2),
    ("channel.k8s.io", 1),
];

/// For port-forward.
pub(crate) const PORT_FORWARD: [(&str, u8); 1] = [("portforward.k8s.io", 1)];

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .filter(|v| !v.is_empty())
}

/// Whether the request wants SPDY.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    tokens(headers, header::CONNECTION).any(|t| t.eq_ignore_ascii_case("upgrade"))
        && tokens(headers, header::UPGRADE).any(|t| t.eq_ignore_ascii_case(SPDY))
}

/// An agreed upgrade: what to answer, and the connection once the answer has been sent.
pub(crate) struct Upgrade {
    pub(crate) response: Response<Body>,
    /// The protocol's version.
    pub(crate) version: u8,
    on_upgrade: OnUpgrade,
}

impl Upgrade {
    /// Takes a request's handshake.
    ///
    /// # Errors
    /// An answer of 403 that names the protocols, if the client knows none of them.
    pub(crate) fn accept<B>(
        mut request: Request<B>,
        supported: &[(&'static str, u8)],
    ) -> Result<Self, Box<Response<Body>>> {
        let offered: Vec<&str> = tokens(request.headers(), VERSION).collect();
        let known = |offer: &&str| supported.iter().find(|(name, _)| name == offer).copied();
        let chosen = offered.iter().find_map(known);
        if chosen.is_none() && !offered.is_empty() {
            let names: Vec<&str> = supported.iter().map(|(name, _)| *name).collect();
            let mut response = Response::from(Refusal::new(
                StatusCode::FORBIDDEN,
                format!(
                    "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
                    offered.join(" "),
                    names.join(" ")
                ),
            ));
            for name in names {
                let name = HeaderValue::from_static(name);
                response.headers_mut().append(ACCEPTED, name);
            }
            return Err(Box::new(response));
        }
        let mut response = Response::new(full(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let out = response.headers_mut();
        out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        out.insert(header::UPGRADE, HeaderValue::from_static(SPDY));
        if let Some((name, _)) = chosen {
            out.insert(VERSION, HeaderValue::from_static(name));
        }
        Ok(Upgrade {
            response,
            // Who names no protocol is from before there were any others.
            version: chosen.map_or(1, |(_, version)| version),
            on_upgrade: hyper::upgrade::on(&mut request),
        })
    }

    /// Splits off the future that yields the connection.
    pub(crate) fn into_parts(
        self,
    ) -> (
        Response<Body>,
        u8,
        impl Future<Output = Option<TokioIo<Upgraded>>> + Send + use<>,
    ) {
        let io = async move {
            let upgraded = self.on_upgrade.await;
            upgraded
                .inspect_err(|error| tracing::debug!(%error, "upgrade failed"))
                .ok()
                .map(TokioIo::new)
        };
        (self.response, self.version, io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(protocols: &[&'static str]) -> Request<()> {
        let mut request = Request::post("/exec/ns/pod/c")
            .header("connection", "Upgrade")
            .header("upgrade", "SPDY/3.1")
            .body(())
            .unwrap();
        for protocol in protocols {
            let value = HeaderValue::from_static(protocol);
            request.headers_mut().append(VERSION, value);
        }
        request
    }

    #[test]
    fn the_clients_favourite_among_the_known_protocols_is_chosen() {
        let asked = request(&[
            "v5.channel.k8s.io",
            "v3.channel.k8s.io",
            "v4.channel.k8s.io",
        ]);
        assert!(is_asked_for(asked.headers()));
        let upgrade = Upgrade::accept(asked, &REMOTE_COMMAND).ok().unwrap();
        assert_eq!(upgrade.version, 3);
        assert_eq!(upgrade.response.status(), 101);
        assert_eq!(upgrade.response.headers()[VERSION], "v3.channel.k8s.io");
    }

    #[test]
    fn a_client_from_before_protocols_gets_the_first_one() {
        let upgrade = Upgrade::accept(request(&[]), &REMOTE_COMMAND).ok().unwrap();
        assert_eq!(upgrade.version, 1);
        assert!(!upgrade.response.headers().contains_key(VERSION));
    }

    #[test]
    fn unknown_protocols_are_refused_with_the_known_ones() {
        let refusal = Upgrade::accept(request(&["v9.channel.k8s.io"]), &REMOTE_COMMAND)
            .err()
            .unwrap();
        assert_eq!(refusal.status(), 403);
        assert_eq!(refusal.headers().get_all(ACCEPTED).iter().count(), 4);
    }
}
