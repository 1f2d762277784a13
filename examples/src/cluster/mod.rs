//! The `cluster` binary: a control plane and its nodes in one process.
//!
//! - [`Arguments`] is the command line.
//! - `control_plane` wires store, API server, controllers and scheduler.
//! - `renewal` renews the control plane's certificates.
//! - `scheduler` serves the scheduler's metrics.
//! - `node` wires runtime, node agent, proxy, name server (`dns`) and the `routes` to other nodes' pods.
//! - `store` opens what the control plane keeps its objects in; `snapshot` saves and restores that.
//! - `server` starts the control plane alone; `joining` lets machines join it.
//! - `joined` starts a node of such a cluster, `join` gets its credentials, for a token that `token` makes, and
//!   `rotation` renews them.
//! - `up` starts both, waits until they are ready, and stops them.

mod access;
mod arguments;
mod audit;
mod control_plane;
mod dns;
mod encryption;
mod image;
mod join;
mod joined;
mod joining;
mod kubeconfig;
mod layout;
mod node;
mod oidc;
mod renewal;
mod rotation;
mod routes;
mod scheduler;
mod server;
mod signer;
mod snapshot;
mod stop;
mod store;
mod token;
mod up;

pub use arguments::{
    Arguments, Command, NodeOptions, RuntimeChoice, ServerOptions, StoreChoice, UpOptions,
};
pub use layout::runc_root;

use anyhow::Context;

/// Does what the command line says. Returns when it is done; `up` runs until a signal.
///
/// # Errors
///
/// One sentence, fit to be shown, that says what was wrong and what to do about it.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    let filter =
        tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // It would say on the standard error that it cannot write there, and panic if that fails too: the parts of a
        // cluster whose log is on a full disk would end one by one.
        .log_internal_errors(false)
        .init();
    // Dependencies bring another one along, and rustls does not choose. It fails if one was chosen before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Up(options) => up::run(options).await,
            Command::Server(options) => server::run(options).await,
            Command::Node(options) => joined::run(options).await,
            Command::Token(options) => token::run(options).await,
            Command::Snapshot(snapshot) => snapshot::run(snapshot).await,
            Command::Image(image) => image::run(image).await,
            Command::Kubeconfig(kubeconfig) => kubeconfig::run(kubeconfig),
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    result
}
