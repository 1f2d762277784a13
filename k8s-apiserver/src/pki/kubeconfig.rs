//! [`Kubeconfig`]: the file that tells `kubectl` where the server is and who one is.

use std::{fmt, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Credential, PkiError, files};

/// A kubeconfig of one cluster and one user, with the certificates inside. Its `Display` is the YAML.
#[derive(Clone)]
pub struct Kubeconfig {
    server: String,
    ca: String,
    cluster: String,
    user: String,
    namespace: Option<String>,
    credential: Option<Credential>,
    token: Option<String>,
}

impl fmt::Debug for Kubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubeconfig")
            .field("server", &self.server)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl Kubeconfig {
    /// A kubeconfig without a user, for the server at that URL and the authority (PEM) that vouches for
    /// it.
    pub fn new(server: impl Into<String>, ca: impl Into<String>) -> Self {
        Kubeconfig {
            server: server.into(),
            ca: ca.into(),
            cluster: "kubernetes".to_owned(),
            user: "default".to_owned(),
            namespace: None,
            credential: None,
            token: None,
        }
    }

    /// The user shows a client certificate.
    #[must_use]
    pub fn with_client_certificate(mut self, user: &str, credential: &Credential) -> Self {
        self.user = user.to_owned();
        self.credential = Some(credential.clone());
        self
    }

    /// The user shows a token.
    #[must_use]
    pub fn with_token(mut self, user: &str, token: impl Into<String>) -> Self {
        self.user = user.to_owned();
        self.token = Some(token.into());
        self
    }

    /// The namespace of commands that name none.
    #[must_use]
    pub fn with_namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// Writes the file, readable by its owner alone.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), PkiError> {
        files::write(path.as_ref(), &self.to_string(), 0o600)
    }
}

/// A JSON string is a YAML string, whatever is in it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl fmt::Display for Kubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cluster = quoted(&self.cluster);
        let user = quoted(&self.user);
        let context = quoted(&format!("{}@{}", self.user, self.cluster));
        writeln!(f, "apiVersion: v1")?;
        writeln!(f, "kind: Config")?;
        writeln!(f, "clusters:")?;
        writeln!(f, "- name: {cluster}")?;
        writeln!(f, "  cluster:")?;
        writeln!(f, "    server: {}", quoted(&self.server))?;
        writeln!(
            f,
            "    certificate-authority-data: {}",
            STANDARD.encode(&self.ca)
        )?;
        writeln!(f, "users:")?;
        writeln!(f, "- name: {user}")?;
        if self.credential.is_none() && self.token.is_none() {
            writeln!(f, "  user: {{}}")?;
        } else {
            writeln!(f, "  user:")?;
        }
        if let Some(credential) = &self.credential {
            writeln!(
                f,
                "    client-certificate-data: {}",
                STANDARD.encode(&credential.certificate)
            )?;
            writeln!(
                f,
                "    client-key-data: {}",
                STANDARD.encode(&credential.key)
            )?;
        }
        if let Some(token) = &self.token {
            writeln!(f, "    token: {}", quoted(token))?;
        }
        writeln!(f, "contexts:")?;
        writeln!(f, "- name: {context}")?;
        writeln!(f, "  context:")?;
        writeln!(f, "    cluster: {cluster}")?;
        writeln!(f, "    user: {user}")?;
        if let Some(namespace) = &self.namespace {
            writeln!(f, "    namespace: {}", quoted(namespace))?;
        }
        writeln!(f, "current-context: {context}")
    }
}
