//! `cluster`: Kubernetes in one process, made of the crates of this workspace.

use clap::Parser;
use examples::cluster::{Arguments, run};

// A server's threads allocate for one another all the time; a request costs a tenth less than with the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // A container's minder is this binary again: it must be nothing else.
    k8s_runtime::shim::main_if_requested();
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cluster: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
