//! `/version`: which Kubernetes this server speaks.

use serde::Serialize;

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

/// What `/version` answers, in upstream's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Info {
    pub(crate) major: &'static str,
    pub(crate) minor: String,
    pub(crate) git_version: String,
    pub(crate) git_commit: &'static str,
    pub(crate) git_tree_state: &'static str,
    pub(crate) build_date: &'static str,
    /// Whoever looks for Go's version finds the Rust that this needs.
    pub(crate) go_version: &'static str,
    pub(crate) compiler: &'static str,
    pub(crate) platform: String,
}

/// Who packages the server says in the environment of the compiler which commit it is of (`GIT_COMMIT`) and when it was
/// built (`BUILD_DATE`).
pub(crate) fn info() -> Info {
    let minor = minor();
    Info {
        major: "1",
        minor: minor.to_string(),
        git_version: format!("v1.{minor}.0"),
        git_commit: option_env!("GIT_COMMIT").unwrap_or("unknown"),
        git_tree_state: "clean",
        build_date: option_env!("BUILD_DATE").unwrap_or("1970-01-01T00:00:00Z"),
        go_version: concat!("rust", env!("CARGO_PKG_RUST_VERSION")),
        compiler: "rustc",
        platform: format!("{}/{}", std::env::consts::OS, platform()),
    }
}

fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
