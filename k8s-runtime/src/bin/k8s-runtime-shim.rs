//! The shim by itself, for programs that can't be their own; see [`k8s_runtime::shim`].

fn main() -> std::process::ExitCode {
    k8s_runtime::shim::main_if_requested();
    eprintln!("this program is started by k8s-runtime and does nothing by itself");
    std::process::ExitCode::FAILURE
}
