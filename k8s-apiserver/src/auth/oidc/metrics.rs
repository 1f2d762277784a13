//! [`JwtMetrics`]: how long tokens of issuers take, and when their keys were fetched.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;

use crate::metrics::{Timings, Writer, hashed, server_hash};

/// Upstream's bounds, in seconds.
const BOUNDS: [f64; 12] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// What there is to measure of the issuers of tokens. Issuers are named by their hashes, as upstream has it.
#[derive(Debug, Default)]
pub(in crate::auth) struct JwtMetrics {
    took: Timings<{ BOUNDS.len() }>,
    /// When keys were last fetched, or could not be, in seconds since 1970; by result and issuer.
    fetched: Mutex<BTreeMap<(&'static str, String), f64>>,
    /// The hash of the keys, by issuer.
    keys: Mutex<BTreeMap<String, String>>,
}

fn result(success: bool) -> &'static str {
    if success { "success" } else { "failure" }
}

impl JwtMetrics {
    /// Counts a token.
    pub(super) fn checked(&self, issuer: &str, success: bool, took: Duration) {
        let labels = format!(
            "jwt_issuer_hash=\"{}\",result=\"{}\"",
            hashed(issuer.as_bytes()),
            result(success)
        );
        self.took.observe(labels, took.as_secs_f64(), &BOUNDS);
    }

    /// Notes that keys were fetched, and which; or that they could not be.
    pub(super) fn fetched(&self, issuer: &str, keys: Option<&[u8]>) {
        let issuer = hashed(issuer.as_bytes());
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0.0, |since| since.as_secs_f64());
        let key = (result(keys.is_some()), issuer.clone());
        self.fetched.lock().insert(key, now);
        if let Some(keys) = keys {
            self.keys.lock().insert(issuer, hashed(keys));
        }
    }

    /// Forgets the keys of issuers that are not there any more.
    pub(in crate::auth) fn keep(&self, issuers: &[&str]) {
        let kept: Vec<String> = issuers.iter().map(|i| hashed(i.as_bytes())).collect();
        self.keys.lock().retain(|issuer, _| kept.contains(issuer));
    }

    /// Under upstream's names, in Prometheus' format.
    pub(in crate::auth) fn text(&self) -> String {
        const PREFIX: &str = "apiserver_authentication_jwt_authenticator";
        let mut out = Writer::default();
        self.took.write(
            &mut out,
            &BOUNDS,
            &format!("{PREFIX}_latency_seconds"),
            "[ALPHA] Latency of jwt authentication operations in seconds. This is the time spent authenticating a token for cache miss only (i.e. when the token is not found in the cache).",
        );
        let server = server_hash();
        let fetched = self.fetched.lock();
        if !fetched.is_empty() {
            out.family(
                &format!("{PREFIX}_jwks_fetch_last_timestamp_seconds"),
                "gauge",
                "[ALPHA] Timestamp of the last successful or failed JWKS fetch split by result, api server identity and jwt issuer for the JWT authenticator.",
            );
        }
        for ((result, issuer), at) in &*fetched {
            let labels = format!(
                "apiserver_id_hash=\"{server}\",jwt_issuer_hash=\"{issuer}\",result=\"{result}\""
            );
            out.sample("", &labels, *at);
        }
        let keys = self.keys.lock();
        if !keys.is_empty() {
            out.family(
                &format!("{PREFIX}_jwks_fetch_last_key_set_info"),
                "gauge",
                "[ALPHA] Information about the last JWKS fetched by the JWT authenticator with hash as label, split by api server identity and jwt issuer.",
            );
        }
        for (issuer, hash) in &*keys {
            let labels = format!(
                "apiserver_id_hash=\"{server}\",hash=\"{hash}\",jwt_issuer_hash=\"{issuer}\""
            );
            out.sample("", &labels, 1.0);
        }
        out.finish()
    }
}
