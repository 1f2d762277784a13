//! What the fuzz targets read with; no part of the API.

/// Reads a webhook's answer to an `AdmissionReview`.
pub fn admission_answer(bytes: &[u8]) {
    crate::admission::fuzz_answer(bytes);
}

/// Reads a webhook's answer to a `ConversionReview`.
pub fn conversion_answer(bytes: &[u8]) {
    crate::registry::fuzz_conversion(bytes);
}

/// Reads a kubeconfig that says where a webhook is.
pub fn kubeconfig(text: &str) {
    crate::webhook::fuzz_kubeconfig(text);
}
