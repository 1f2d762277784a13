//! The command line.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use k8s_controllers::Selection;
use k8s_openapi::jiff::SignedDuration;
use k8s_runtime::images::Mirror;
use k8s_runtime::net::IpCidr;

use super::access::{self, AccessOptions};

/// Kubernetes in one process.
#[derive(Clone, Debug, Parser)]
#[command(name = "cluster", version, about, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run a control plane and its nodes until a signal ends them
    Up(UpOptions),
    /// Run a control plane alone until a signal ends it
    Server(ServerOptions),
    /// Run a node of a cluster that runs elsewhere until a signal ends it
    Node(NodeOptions),
    /// Make a token for a machine to join with, and print the command that does
    Token(TokenOptions),
    /// Save the objects of a cluster to a file, or bring them back
    Snapshot(SnapshotOptions),
    /// Handle the images of a cluster's nodes
    Image(ImageOptions),
    /// Print a kubeconfig for a user of a cluster
    Kubeconfig(KubeconfigOptions),
}

/// Options of `cluster up`.
#[derive(Args, Clone, Debug)]
pub struct UpOptions {
    /// The control plane's.
    #[command(flatten)]
    pub server: ServerOptions,
    /// How many nodes; more than one with `--runtime sim` only
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub nodes: usize,
    /// What runs containers: runc, crun, youki, the path of an OCI runtime, or sim
    #[arg(long, value_name = "RUNTIME", default_value = "runc")]
    pub runtime: RuntimeChoice,
    /// Ask URL for images of registry HOST; may be given more than once
    #[arg(long, value_name = "HOST=URL")]
    pub registry_mirror: Vec<Mirror>,
}

/// Options of `cluster server`, and of the control plane of `cluster up`.
#[derive(Args, Clone, Debug)]
pub struct ServerOptions {
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = "./.cluster")]
    pub data_dir: PathBuf,
    /// Where certificates and keys are; servers of one cluster have the same [default: pki in the
    /// data directory]
    #[arg(long, value_name = "DIR")]
    pub pki: Option<PathBuf>,
    /// Where the API is served; port 0 picks one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6443")]
    pub listen: SocketAddr,
    /// Where the scheduler's metrics are served [default: 127.0.0.1:10259, if it is free]
    #[arg(long, value_name = "ADDR:PORT")]
    pub scheduler_listen: Option<SocketAddr>,
    /// Another name or address at which clients find the server; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub tls_san: Vec<String>,
    /// Where objects are kept: embedded, memory, or etcd=URL[,URL…]
    #[arg(long, value_name = "STORE", default_value = "embedded")]
    pub store: StoreChoice,
    /// Who signed the certificates of etcd's members, a PEM file
    #[arg(long, value_name = "FILE")]
    pub etcd_cafile: Option<PathBuf>,
    /// The certificate to show etcd, a PEM file
    #[arg(long, value_name = "FILE", requires = "etcd_keyfile")]
    pub etcd_certfile: Option<PathBuf>,
    /// The key to that certificate
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    pub etcd_keyfile: Option<PathBuf>,
    /// A file with the line NAME:PASSWORD, if etcd asks for them
    #[arg(long, value_name = "FILE")]
    pub etcd_userfile: Option<PathBuf>,
    /// How long the store keeps history at least, for lists and watches that go on; 0 for ever
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = access::duration)]
    pub etcd_compaction_interval: Duration,
    /// The addresses of pods
    #[arg(long, value_name = "CIDR", default_value = "10.244.0.0/16")]
    pub pod_cidr: IpCidr,
    /// The addresses of Services
    #[arg(long, value_name = "CIDR", default_value = "10.96.0.0/16")]
    pub service_cidr: IpCidr,
    /// The domain of Services' names
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Which objects are encrypted in the store, and with which keys [default: encryption.yaml beside
    /// the certificates, which is made for Secrets where there is none]
    #[arg(long, value_name = "FILE")]
    pub encryption_provider_config: Option<PathBuf>,
    /// How long certificates are good that nodes and others ask for, at most; joined nodes renew theirs in time
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = access::duration)]
    pub cluster_signing_duration: Duration,
    /// Which controllers run here: `*` for all, NAME for one that does, -NAME for one that does not, and - for none; as
    /// upstream's, for clusters whose controllers run elsewhere
    #[arg(
        long,
        value_name = "LIST",
        default_value = "*",
        allow_hyphen_values = true
    )]
    pub controllers: Selection,
    /// Leave out the scheduler, for clusters whose scheduler runs elsewhere
    #[arg(long, conflicts_with = "scheduler_listen")]
    pub disable_scheduler: bool,
    /// How long to serve on, not ready, after the signal to stop
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub shutdown_delay: u64,
    /// What is audited
    #[command(flatten)]
    pub audit: AuditOptions,
    /// Who may use the API, and how much of it at once
    #[command(flatten)]
    pub access: AccessOptions,
}

/// What is audited, and where to; upstream's flags.
#[derive(Args, Clone, Debug)]
pub struct AuditOptions {
    /// What is recorded of which request, a file with a Policy of audit.k8s.io/v1
    #[arg(long, value_name = "FILE", requires = "audit_log_path")]
    pub audit_policy_file: Option<PathBuf>,
    /// Where it is recorded, one event a line; - for the standard output
    #[arg(long, value_name = "FILE", requires = "audit_policy_file")]
    pub audit_log_path: Option<PathBuf>,
    /// How many days files put aside are kept; 0 for ever
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    pub audit_log_maxage: u32,
    /// How many files put aside are kept; 0 for all
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub audit_log_maxbackup: usize,
    /// The size at which the file is put aside, in megabytes; 0 for 100
    #[arg(long, value_name = "MB", default_value_t = 0)]
    pub audit_log_maxsize: u64,
}

/// Options of `cluster node`.
#[derive(Args, Clone, Debug)]
pub struct NodeOptions {
    /// Where the cluster's API is served: `https://HOST:PORT`
    #[arg(long, value_name = "URL")]
    pub join: String,
    /// The token to join with; needed once
    #[arg(long, value_name = "TOKEN")]
    pub token: Option<String>,
    /// The hash of the key of the cluster's authority, which came with the token
    #[arg(long, value_name = "sha256:HEX", requires = "token")]
    pub discovery_token_ca_cert_hash: Option<String>,
    /// The node's name [default: the machine's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The node's address [default: that of the route to the cluster]
    #[arg(long, value_name = "ADDR")]
    pub node_ip: Option<Ipv4Addr>,
    /// Where everything is kept
    #[arg(long, value_name = "DIR", default_value = "./.cluster")]
    pub data_dir: PathBuf,
    /// What runs containers: runc, crun, youki, the path of an OCI runtime, or sim
    #[arg(long, value_name = "RUNTIME", default_value = "runc")]
    pub runtime: RuntimeChoice,
    /// Ask URL for images of registry HOST; may be given more than once
    #[arg(long, value_name = "HOST=URL")]
    pub registry_mirror: Vec<Mirror>,
}

/// Options of `cluster token`.
#[derive(Args, Clone, Debug)]
pub struct TokenOptions {
    /// The data directory of one of the cluster's servers, which runs
    #[arg(long, value_name = "DIR", default_value = "./.cluster")]
    pub data_dir: PathBuf,
    /// How long the token is good, as in 24h or 30m
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub ttl: SignedDuration,
}

/// Where objects are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreChoice {
    /// On disk, below the data directory.
    Embedded,
    /// In memory: gone when the process ends.
    Memory,
    /// In an etcd cluster with these members, which other servers may share.
    Etcd(Vec<String>),
}

impl FromStr for StoreChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "embedded" => Ok(StoreChoice::Embedded),
            "memory" => Ok(StoreChoice::Memory),
            _ => match text.strip_prefix("etcd=") {
                Some(urls) if !urls.is_empty() => Ok(StoreChoice::Etcd(
                    urls.split(',').map(str::to_owned).collect(),
                )),
                _ => Err("not a store: give `embedded`, `memory` or `etcd=URL[,URL…]`".into()),
            },
        }
    }
}

/// What runs containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeChoice {
    /// An OCI runtime: a name to be found in `PATH`, or a path.
    Oci(PathBuf),
    /// Nothing: containers are simulated.
    Sim,
}

impl FromStr for RuntimeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "sim" => Ok(RuntimeChoice::Sim),
            "runc" | "crun" | "youki" => Ok(RuntimeChoice::Oci(text.into())),
            path if path.starts_with('/') => Ok(RuntimeChoice::Oci(path.into())),
            _ => Err("not a runtime: give `runc`, `crun`, `youki`, `sim` or the full path of an OCI runtime".into()),
        }
    }
}

/// Options of `cluster snapshot`.
#[derive(Args, Clone, Debug)]
pub struct SnapshotOptions {
    /// What to do.
    #[command(subcommand)]
    pub command: SnapshotCommand,
}

/// What to do with a cluster's objects. All of it concerns the embedded store: etcd has tools of
/// its own.
#[derive(Clone, Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Write all objects to a file; the cluster may run
    Save {
        /// The cluster's data directory
        #[arg(long, value_name = "DIR", default_value = "./.cluster")]
        data_dir: PathBuf,
        /// The file to write
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Replace all objects by a file's; the cluster must not run
    Restore {
        /// The cluster's data directory
        #[arg(long, value_name = "DIR", default_value = "./.cluster")]
        data_dir: PathBuf,
        /// The file to read
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// See whether all that is stored can be read; the cluster may run
    Check {
        /// The cluster's data directory
        #[arg(long, value_name = "DIR", default_value = "./.cluster")]
        data_dir: PathBuf,
        /// A file to check instead
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// Options of `cluster image`.
#[derive(Args, Clone, Debug)]
pub struct ImageOptions {
    /// What to do with images.
    #[command(subcommand)]
    pub command: ImageCommand,
}

/// What to do with images.
#[derive(Clone, Debug, Subcommand)]
pub enum ImageCommand {
    /// Take images from archives: OCI layouts or Docker archives
    Import {
        /// The cluster's data directory
        #[arg(long, value_name = "DIR", default_value = "./.cluster")]
        data_dir: PathBuf,
        /// The archives
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// List images
    Ls {
        /// The cluster's data directory
        #[arg(long, value_name = "DIR", default_value = "./.cluster")]
        data_dir: PathBuf,
    },
}

/// Options of `cluster kubeconfig`.
#[derive(Args, Clone, Debug)]
pub struct KubeconfigOptions {
    /// The cluster's data directory
    #[arg(long, value_name = "DIR", default_value = "./.cluster")]
    pub data_dir: PathBuf,
    /// The user's name
    #[arg(long, value_name = "NAME")]
    pub user: String,
    /// A group that the user is in; may be given more than once
    #[arg(long, value_name = "NAME")]
    pub group: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn runtimes_are_names_or_full_paths() {
        assert_eq!("sim".parse(), Ok(RuntimeChoice::Sim));
        assert_eq!(
            "/opt/runtime".parse(),
            Ok(RuntimeChoice::Oci("/opt/runtime".into()))
        );
        assert!("docker".parse::<RuntimeChoice>().is_err());
        let two = StoreChoice::Etcd(vec!["http://a:1".into(), "http://b:2".into()]);
        assert_eq!("etcd=http://a:1,http://b:2".parse(), Ok(two));
        assert!("etcd".parse::<StoreChoice>().is_err());
        assert!("etcd=".parse::<StoreChoice>().is_err());
    }
}
