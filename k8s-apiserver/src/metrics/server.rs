//! Which of several servers a metric is of.

use std::{fmt::Write, sync::OnceLock};

use sha2::{Digest, Sha256};

/// What metrics have in place of something long: `sha256:` and the digest in hexadecimal digits; nothing for nothing.
pub(crate) fn hashed(data: &[u8]) -> String {
    if data.is_empty() {
        return String::new();
    }
    let mut out = "sha256:".to_owned();
    for byte in Sha256::digest(data) {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// The label `apiserver_id_hash`: of the server's identity, which upstream makes of the machine's name.
pub(crate) fn server_hash() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        hashed(identity(name.trim()).as_bytes())
    })
}

/// The identity of the server on the machine of that name: half of its digest in the digits of base 32.
fn identity(host: &str) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    if host.is_empty() {
        return String::new();
    }
    let digest = Sha256::digest(host);
    let mut out = "apiserver-".to_owned();
    let (mut bits, mut held) = (0u32, 0);
    for byte in &digest[..16] {
        bits = bits << 8 | u32::from(*byte);
        held += 8;
        while held >= 5 {
            held -= 5;
            out.push(char::from(DIGITS[(bits >> held & 31) as usize]));
        }
        bits &= (1 << held) - 1;
    }
    // What is left is filled up with zeros.
    out.push(char::from(DIGITS[(bits << (5 - held) & 31) as usize]));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_by_the_names_of_their_machines() {
        // As kube-apiserver names its Lease on a machine of that name.
        assert_eq!(identity("test"), "apiserver-t6dnbamijr6wlgrp5kqmkwwqcu");
        assert_eq!(identity(""), "");
        assert!(server_hash().is_empty() || server_hash().starts_with("sha256:"));
        assert_eq!(
            hashed(b"abc"),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
