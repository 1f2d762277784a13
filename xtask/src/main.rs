//! Workspace tasks: `cargo xtask demo`, `cargo xtask test` and the steps that it is made of.

use clap::{Parser, Subcommand};

mod clients;
mod codegen;
mod demo;
mod packages;
mod process;
mod test;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of this workspace")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Boot a cluster, run a web application on it, show that it works, and clean up
    Demo {
        /// Leave the cluster running until Ctrl-C, for kubectl
        #[arg(long)]
        keep: bool,
    },
    /// Run all checks and tests
    Test,
    /// Check the formatting
    Fmt,
    /// Run clippy
    Lint,
    /// Build the libraries at the oldest Kubernetes level that they support
    Oldest,
    /// Build the documentation and run its examples
    Doc,
    /// Run the tests that need no privileges
    TestUnprivileged,
    /// Run the tests that need root
    TestPrivileged,
    /// Run the micro-benchmarks
    Bench,
    /// Write the generated files of k8s-model anew
    Codegen {
        /// Only tell whether they are up to date
        #[arg(long)]
        check: bool,
        /// A folder with upstream's Go modules `api`, `apimachinery`, `apiextensions-apiserver` and
        /// `kube-aggregator`: the table of protobuf fields is made from them
        #[arg(long, value_name = "DIR")]
        upstream: Option<std::path::PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Demo { keep } => demo::run(keep),
        Task::Test => test::all(),
        Task::Fmt => test::fmt(),
        Task::Lint => test::lint(),
        Task::Oldest => test::oldest(),
        Task::Doc => test::doc(),
        Task::TestUnprivileged => test::unprivileged(),
        Task::TestPrivileged => test::privileged(),
        Task::Bench => test::bench(),
        Task::Codegen { check, upstream } => codegen::run(check, upstream.as_deref()),
    }
}
