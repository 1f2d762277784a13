//! A kube-rs controller against a control plane inside its own process.
//!
//! Run it with `cargo run -p examples --example kube_controller`: it boots an API server in memory,
//! makes a Namespace, breaks what the controller made in it, and prints the ConfigMap as it was put right.

use examples::programs::kube_controller::{controller, provoke};
use futures::StreamExt;
use k8s_apiserver::{ApiServer, auth::Identity};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "what the program is for")]
async fn main() -> anyhow::Result<()> {
    let server = ApiServer::builder().build().await?;
    let client = server.client(Identity::system_masters());
    let running = tokio::spawn(controller(client.clone()).for_each(|_| async {}));
    let config_map = provoke(client, "garden").await?;
    running.abort();
    println!("{}", serde_json::to_string_pretty(&config_map)?);
    Ok(())
}
