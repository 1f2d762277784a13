//! What is counted of streams over WebSocket, under upstream's names.

use std::fmt::Display;

use http::StatusCode;

use crate::metrics::{Counts, Writer};

/// What became of streams over WebSocket.
#[derive(Debug, Default)]
pub(super) struct Streams {
    translated: Counts,
    tunnelled: Counts,
    routed: Counts,
}

impl Streams {
    /// An exec or attach that was translated for its kubelet has ended.
    pub(super) fn translated(&self, code: impl Display) {
        self.translated.count(format!("code=\"{code}\""));
    }

    /// A port-forward has been asked of a kubelet by way of a tunnel.
    pub(super) fn tunnelled(&self, code: StatusCode) {
        self.tunnelled.count(format!("code=\"{}\"", code.as_u16()));
    }

    /// A stream goes to its kubelet as it is, or is translated here.
    pub(super) fn routed(&self, subresource: &str, translated: bool) {
        let way = match translated {
            true => "translated_at_apiserver",
            false => "proxied_to_kubelet",
        };
        let labels = format!("proxy_type=\"{way}\",subresource=\"{subresource}\"");
        self.routed.count(labels);
    }

    /// Writes them down, in Prometheus' text format.
    pub(super) fn text(&self) -> String {
        let mut out = Writer::default();
        self.translated.write(
            &mut out,
            "apiserver_stream_translator_requests_total",
            "[ALPHA] Total number of requests that were handled by the StreamTranslatorProxy, which processes streaming RemoteCommand/V5",
        );
        self.tunnelled.write(
            &mut out,
            "apiserver_stream_tunnel_requests_total",
            "[ALPHA] Total number of requests that were handled by the StreamTunnelProxy, which processes streaming PortForward/V2",
        );
        self.routed.write(
            &mut out,
            "apiserver_websocket_streaming_requests_total",
            "[ALPHA] Total number of WebSocket streaming requests (exec/attach/portforward) routed by the API server, labeled by subresource and proxy_type. proxy_type is proxied_to_kubelet when the kubelet handles the request directly; otherwise translated_at_apiserver.",
        );
        out.finish()
    }
}
