//! `/version`: which Kubernetes this server speaks.

use serde_json::{Value, json};

/// The minor version of the API level that `k8s_openapi` was built for.
pub(crate) fn minor() -> u32 {
    #[allow(unused_mut, reason = "at 1.33 no line below is left")]
    let mut minor = 33;
    k8s_openapi::k8s_if_ge_1_34! { minor = minor.max(34); }
    k8s_openapi::k8s_if_ge_1_35! { minor = minor.max(35); }
    k8s_openapi::k8s_if_ge_1_36! { minor = minor.max(36); }
    k8s_openapi::k8s_if_ge_1_37! { minor = minor.max(37); }
    minor
}

pub(crate) fn info() -> Value {
    let minor = minor();
    json!({
        "major": "1",
        "minor": minor.to_string(),
        "gitVersion": format!("v1.{minor}.0"),
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, platform()),
    })
}

fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
