//! Any target, chosen by the environment: `K8S_FUZZ_TARGET=cel cargo +nightly fuzz run any --fuzz-dir fuzz/libfuzzer`.
#![no_main]

use std::sync::LazyLock;

use k8s_fuzz::{Target, target};

static TARGET: LazyLock<&'static Target> = LazyLock::new(|| {
    let name = std::env::var("K8S_FUZZ_TARGET").expect("K8S_FUZZ_TARGET names a target");
    target(&name).unwrap_or_else(|| panic!("no target {name}"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));
