//! Encryption of the store: which keys, and where they are.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, bail};
use k8s_apiserver::encryption::{Encrypted, EncryptionConfiguration};
use k8s_store::Store;

/// Encrypts the store as the file says. Where `may_make`, a file that is not there is made, with a new key for
/// Secrets.
///
/// # Errors
/// If the file cannot be read or used, or the store holds what none of its keys opens.
pub(super) async fn encrypt(
    store: Arc<dyn Store>,
    path: &Path,
    may_make: bool,
) -> anyhow::Result<Encrypted> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && may_make => make(path)?,
        read => read.with_context(|| format!("cannot read {}", path.display()))?,
    };
    let shown = || path.display().to_string();
    let mode = fs::metadata(path).with_context(shown)?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others may read the keys that encrypt the store");
    }
    let configuration = EncryptionConfiguration::parse(&text).with_context(shown)?;
    let encrypted = configuration.apply(store);
    match encrypted.check().await {
        Ok(()) => Ok(encrypted),
        Err(k8s_store::Error::Undecipherable { key, .. }) => bail!(
            "no key in {} opens {}: bring the file of the cluster that stored it, or its keys",
            path.display(),
            String::from_utf8_lossy(&key)
        ),
        Err(error) => Err(error).context("cannot read what is encrypted"),
    }
}

/// Makes the file, unless another server is faster; gives what is in it then.
fn make(path: &Path) -> anyhow::Result<String> {
    let text = EncryptionConfiguration::generate()?;
    let beside = path.with_extension(format!("yaml.{}.new", std::process::id()));
    let written = (|| {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        // Unlike a rename, this replaces nothing.
        let linked = fs::hard_link(&beside, path);
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        linked
    })();
    let _ = fs::remove_file(&beside);
    match written {
        Ok(()) => Ok(text),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
        }
        Err(error) => Err(error).with_context(|| format!("cannot make {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_server_makes_the_file_for_its_owner_alone_and_others_take_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("encryption.yaml");
        let made = make(&path).unwrap();
        assert_eq!(make(&path).unwrap(), made);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
