//! A Rust type as a resource, with no custom resource definition.
//!
//! Run it with `cargo run -p examples --example typed_resource`: it prints a lamp as the API has it, and how
//! the API refuses to have it painted.

use examples::programs::typed_resource::{server, try_it};

#[tokio::main]
#[expect(clippy::print_stdout, reason = "what the program is for")]
async fn main() -> anyhow::Result<()> {
    let server = server().await?;
    let (lamp, refusal) = try_it(&server).await?;
    println!("{}", serde_json::to_string_pretty(&lamp)?);
    println!("{refusal}");
    Ok(())
}
