//! Where a control plane keeps its objects.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context, anyhow, bail};
use k8s_store::{EmbeddedStore, Error, EtcdOptions, EtcdStore, EtcdTls, MemoryStore, Store};

use super::{
    arguments::{ServerOptions, StoreChoice},
    layout::Layout,
};

/// A store that was opened, and knows how to be closed.
pub(super) enum Opened {
    Memory(MemoryStore),
    Embedded(EmbeddedStore),
    Etcd(EtcdStore),
}

impl Opened {
    pub(super) async fn open(options: &ServerOptions, layout: &Layout) -> anyhow::Result<Self> {
        match &options.store {
            StoreChoice::Memory => Ok(Self::Memory(MemoryStore::new())),
            StoreChoice::Embedded => {
                let (store, before) = (layout.store(), layout.store_before_restore());
                if !store.exists() && before.exists() {
                    bail!(
                        "a restore was interrupted: run `cluster snapshot restore` again, or move {} to {}",
                        before.display(),
                        store.display()
                    );
                }
                let store = EmbeddedStore::open(store).await.map_err(advised)?;
                Ok(Self::Embedded(store))
            }
            StoreChoice::Etcd(members) => {
                let store = EtcdStore::connect(etcd(options, members)?).await;
                let store =
                    store.with_context(|| format!("cannot use etcd at {}", members.join(", ")))?;
                Ok(Self::Etcd(store))
            }
        }
    }

    pub(super) fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Memory(store) => Arc::new(store.clone()),
            Self::Embedded(store) => Arc::new(store.clone()),
            Self::Etcd(store) => Arc::new(store.clone()),
        }
    }

    pub(super) async fn close(self) -> anyhow::Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Embedded(store) => store.close().await.context("cannot close the store"),
            Self::Etcd(store) => {
                store.close();
                Ok(())
            }
        }
    }
}

/// What is wrong with an embedded store, and what to do about it.
pub(super) fn advised(error: Error) -> anyhow::Error {
    let advice = match &error {
        Error::Corrupt { .. } => "`cluster snapshot restore FILE` brings back what was saved",
        Error::Version { .. } => "use the version of this program that wrote it",
        Error::Locked { .. } => "stop that one, or give --data-dir another",
        _ => return error.into(),
    };
    anyhow!("{error}: {advice}")
}

fn etcd(options: &ServerOptions, members: &[String]) -> anyhow::Result<EtcdOptions> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut etcd = EtcdOptions::new(members.iter().map(String::as_str));
    if let Some(authority) = &options.etcd_cafile {
        let identity = match (&options.etcd_certfile, &options.etcd_keyfile) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            _ => None,
        };
        etcd.tls = Some(EtcdTls {
            authority: read(authority)?,
            identity,
        });
    }
    if let Some(path) = &options.etcd_userfile {
        let text = read(path)?;
        let text = String::from_utf8_lossy(&text);
        let Some((name, password)) = text.trim_end().split_once(':') else {
            bail!("{} must hold the line NAME:PASSWORD", path.display());
        };
        etcd.user = Some((name.to_owned(), password.to_owned()));
    }
    Ok(etcd)
}
