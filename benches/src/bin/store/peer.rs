//! An etcd to compare with.

use std::{
    fs::File,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
};

/// One member, which ends with this value.
pub(crate) struct Peer {
    process: Child,
    url: String,
}

impl Peer {
    pub(crate) fn start(program: &Path, folder: &Path) -> anyhow::Result<Self> {
        let held = [
            TcpListener::bind("127.0.0.1:0")?,
            TcpListener::bind("127.0.0.1:0")?,
        ];
        let [url, peer] =
            [&held[0], &held[1]].map(|l| l.local_addr().map(|a| format!("http://{a}")));
        let (url, peer) = (url?, peer?);
        drop(held);
        let log = File::create(folder.join("etcd.log"))?;
        let process = Command::new(program)
            .arg("--data-dir")
            .arg(folder.join("etcd"))
            .args([
                "--listen-client-urls",
                &url,
                "--advertise-client-urls",
                &url,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(["--quota-backend-bytes", "8589934592"])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { process, url })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
