//! A scheduler plugin of one's own.
//!
//! Run it with `cargo run -p examples --example scheduler_plugin`: it prints the node chosen, and each
//! node's scores by plugin.

#[expect(clippy::print_stdout, reason = "what the program is for")]
fn main() -> anyhow::Result<()> {
    let (node, scores) = examples::programs::scheduler_plugin::place()?;
    println!("the pod goes to {node}");
    for line in scores {
        println!("  {line}");
    }
    Ok(())
}
