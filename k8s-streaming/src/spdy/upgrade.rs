//! The handshake: `Upgrade: SPDY/3.1`, with protocols in `X-Stream-Protocol-Version`.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

use crate::handshake::{Refused, has, switch, tokens};

const SPDY: &str = "SPDY/3.1";
const VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// Says in a refusal which protocols would have been taken.
pub const ACCEPTED: HeaderName = HeaderName::from_static("x-accepted-stream-protocol-versions");

/// For exec and attach, with their versions. Clients say which they like best.
pub const REMOTE_COMMAND: [(&str, u8); 4] = [
    ("v4.channel.k8s.io", 4),
    ("v3.channel.k8s.io", 3),
    ("v2.channel.k8s.io", 2),
    ("channel.k8s.io", 1),
];

/// For port-forward.
pub const PORT_FORWARD: [(&str, u8); 1] = [("portforward.k8s.io", 1)];

/// Whether the request wants SPDY.
pub fn is_asked_for(headers: &HeaderMap) -> bool {
    has(headers, &header::CONNECTION, "upgrade") && has(headers, &header::UPGRADE, SPDY)
}

/// Whether the answer agrees to SPDY.
pub fn is_agreed<B>(answer: &Response<B>) -> bool {
    answer.status() == StatusCode::SWITCHING_PROTOCOLS && is_asked_for(answer.headers())
}

/// Makes a request ask for SPDY with one protocol.
pub fn ask(headers: &mut HeaderMap, protocol: &'static str) {
    switch(headers, SPDY);
    headers.insert(VERSION, HeaderValue::from_static(protocol));
}

/// An agreed upgrade: what to answer, and the connection once the answer has been sent.
#[derive(Debug)]
pub struct Upgrade {
    /// The answer, still without a body.
    pub response: Response<()>,
    /// The protocol's version.
    pub version: u8,
    on_upgrade: OnUpgrade,
}

impl Upgrade {
    /// Takes a request's handshake.
    ///
    /// # Errors
    /// 403 with the protocols, if the client knows none of them.
    pub fn accept<B>(
        request: &mut Request<B>,
        supported: &[(&'static str, u8)],
    ) -> Result<Self, Refused> {
        let offered: Vec<&str> = tokens(request.headers(), &VERSION).collect();
        let known = |offer: &&str| supported.iter().find(|(name, _)| name == offer).copied();
        let chosen = offered.iter().find_map(known);
        if chosen.is_none() && !offered.is_empty() {
            let names: Vec<&str> = supported.iter().map(|(name, _)| *name).collect();
            let mut refused = Refused::new(
                StatusCode::FORBIDDEN,
                format!(
                    "unable to upgrade: unable to negotiate protocol: client supports [{}], server accepts [{}]",
                    offered.join(" "),
                    names.join(" ")
                ),
            );
            refused.accepted = names;
            return Err(refused);
        }
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let out = response.headers_mut();
        switch(out, SPDY);
        if let Some((name, _)) = chosen {
            out.insert(VERSION, HeaderValue::from_static(name));
        }
        Ok(Upgrade {
            response,
            // Who names no protocol is from before there were any others.
            version: chosen.map_or(1, |(_, version)| version),
            on_upgrade: hyper::upgrade::on(request),
        })
    }

    /// Splits off the future that yields the connection.
    pub fn into_parts(
        self,
    ) -> (
        Response<()>,
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
        let mut asked = request(&[
            "v5.channel.k8s.io",
            "v3.channel.k8s.io",
            "v4.channel.k8s.io",
        ]);
        assert!(is_asked_for(asked.headers()));
        let upgrade = Upgrade::accept(&mut asked, &REMOTE_COMMAND).ok().unwrap();
        assert_eq!(upgrade.version, 3);
        assert_eq!(upgrade.response.status(), 101);
        assert_eq!(upgrade.response.headers()[VERSION], "v3.channel.k8s.io");
    }

    #[test]
    fn a_client_from_before_protocols_gets_the_first_one() {
        let upgrade = Upgrade::accept(&mut request(&[]), &REMOTE_COMMAND)
            .ok()
            .unwrap();
        assert_eq!(upgrade.version, 1);
        assert!(!upgrade.response.headers().contains_key(VERSION));
    }

    #[test]
    fn unknown_protocols_are_refused_with_the_known_ones() {
        let refusal = Upgrade::accept(&mut request(&["v9.channel.k8s.io"]), &REMOTE_COMMAND)
            .err()
            .unwrap();
        assert_eq!(refusal.status, 403);
        assert_eq!(refusal.accepted.len(), 4);
    }
}
