//! [`trust_anchors`]: what a bundle of authorities' certificates may hold.

use std::collections::BTreeMap;

use super::pem;

/// What is wrong with a bundle: it must hold certificates of authorities, each once, and no other blocks.
pub(crate) fn trust_anchors(text: &[u8]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut seen: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    let mut rest = text;
    for index in 0.. {
        let Some((block, tail)) = pem::first(rest) else {
            break;
        };
        rest = tail;
        match problem(&block) {
            Some(problem) => problems.push(format!("entry {index} {problem}")),
            None => seen.entry(block.der).or_default().push(index),
        }
    }
    if !problems.is_empty() {
        return problems;
    }
    if seen.is_empty() {
        return vec!["at least one trust anchor must be provided".to_owned()];
    }
    let repeated = seen.into_values().filter(|indices| indices.len() > 1);
    repeated
        .map(|indices| {
            let indices: Vec<String> = indices.iter().map(ToString::to_string).collect();
            format!("duplicate trust anchor (indices [{}])", indices.join(" "))
        })
        .collect()
}

fn problem(block: &pem::Block<'_>) -> Option<String> {
    if block.label != b"CERTIFICATE" {
        let label = String::from_utf8_lossy(block.label);
        return Some(format!("has bad block type: {label}"));
    }
    if block.headers {
        return Some("has PEM block headers".to_owned());
    }
    match x509_parser::parse_x509_certificate(&block.der) {
        Ok(([], certificate)) if certificate.is_ca() => None,
        Ok(([], _)) => Some("does not have the CA bit set".to_owned()),
        _ => Some("does not parse as X.509".to_owned()),
    }
}
