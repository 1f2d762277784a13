//! Names: what may be called what, with upstream's texts.

/// A DNS subdomain (RFC 1123).
pub fn dns_subdomain(_name: &str, _prefix: bool) -> Vec<String> {
    Vec::new()
}
