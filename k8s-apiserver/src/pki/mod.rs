//! The cluster's keys and certificates.
//!
//! One authority vouches for everybody: the API server, the kubelets, and whoever holds a client
//! certificate. [`Pki::open_or_create`] keeps what must survive a restart in a folder, under the
//! names that kubeadm uses:
//!
//! | file | what |
//! |---|---|
//! | `ca.crt`, `ca.key` | the authority |
//! | `apiserver.crt`, `apiserver.key` | what the API server shows; made anew when its names change or its end is near |
//! | `apiserver-kubelet-client.crt`, `.key` | what the API server shows to kubelets; made anew when its end is near |
//! | `front-proxy-ca.crt`, `.key` | another authority, for the API server as a proxy |
//! | `front-proxy-client.crt`, `.key` | what the API server shows to the API servers that it passes requests on to; made anew when its end is near |
//! | `sa.key`, `sa.pub` | signs the tokens of service accounts |
//!
//! Everything else is issued on demand and kept by whoever asked for it. Private keys can be
//! read by their owner alone. A server that runs for long looks from time to time whether what it shows
//! [is due](Credential::is_due), and [shows](crate::serve::ServerTls::show) what it is given then.

mod authority;
mod der;
mod error;
mod files;
mod front_proxy;
mod kubeconfig;
mod signing;

use std::{
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::SignedDuration;
use k8s_model::certificates::CertificateRequest;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;

use self::authority::Authority;
pub use self::{
    authority::{Credential, ServerNames},
    error::PkiError,
    front_proxy::FrontProxy,
    kubeconfig::Kubeconfig,
};
use crate::auth::{MASTERS, NODE_PREFIX, NODES};

/// The user that the API server is to a kubelet.
pub const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";

/// The user that the API server is to the API servers that it passes requests on to.
pub const FRONT_PROXY_CLIENT: &str = "front-proxy-client";

/// Where what is shown to kubelets is kept.
const KUBELET_CLIENT_FILE: &str = "apiserver-kubelet-client";

/// The cluster's authority and the keys that belong to the control plane. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pki(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: Option<PathBuf>,
    authority: Authority,
    front_proxy: Authority,
    service_account: SigningKey,
}

/// The key that signs the tokens of service accounts, both halves as PEM.
#[derive(Clone)]
pub struct SigningKey {
    /// The private key, PKCS #8: an ECDSA key on the curve P-256.
    pub private: String,
    /// The public key.
    pub public: String,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    fn new(key: &KeyPair) -> Self {
        SigningKey {
            private: key.serialize_pem(),
            public: key.public_key_pem(),
        }
    }
}

impl ServerNames {
    /// The names that an API server has in its cluster, and the loopback's: `kubernetes` and its
    /// longer forms up to the cluster domain, `localhost`, the service's address, `127.0.0.1`.
    pub fn for_apiserver(cluster_domain: &str, service_ip: Option<IpAddr>) -> Self {
        ServerNames {
            dns: vec![
                "kubernetes".to_owned(),
                "kubernetes.default".to_owned(),
                "kubernetes.default.svc".to_owned(),
                format!("kubernetes.default.svc.{cluster_domain}"),
                "localhost".to_owned(),
            ],
            ips: service_ip
                .into_iter()
                .chain([IpAddr::V4(Ipv4Addr::LOCALHOST)])
                .collect(),
        }
    }

    /// The same and one more: a DNS name or an address.
    #[must_use]
    pub fn with(mut self, name: &str) -> Self {
        match name.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() || self.ips.contains(&ip) => {}
            Ok(ip) => self.ips.push(ip),
            Err(_) if self.dns.iter().any(|n| n == name) => {}
            Err(_) => self.dns.push(name.to_owned()),
        }
        self
    }
}

impl Pki {
    /// A new authority that lives as long as the value: for servers embedded in a program.
    ///
    /// # Errors
    /// Only if the system has no randomness.
    pub fn in_memory() -> Result<Self, PkiError> {
        let (authority, _) = Authority::create("kubernetes")?;
        let (front_proxy, _) = Authority::create("front-proxy-ca")?;
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        Ok(Pki(Arc::new(Inner {
            folder: None,
            authority,
            front_proxy,
            service_account: SigningKey::new(&key),
        })))
    }

    /// The authority that is kept in the folder; a new one if the folder has none.
    ///
    /// # Errors
    /// If the folder cannot be read or written, or holds something that is not a key or a
    /// certificate, or half of a pair. Such files are left as they are.
    pub fn open_or_create(folder: impl AsRef<Path>) -> Result<Self, PkiError> {
        let folder = folder.as_ref();
        files::folder(folder)?;
        let authority = Self::authority(folder, "ca", "kubernetes")?;
        let front_proxy = Self::authority(folder, "front-proxy-ca", "front-proxy-ca")?;
        let path = folder.join("sa.key");
        let service_account = match files::read(&path)? {
            Some(text) => {
                SigningKey::new(&KeyPair::from_pem(&text).map_err(|_| PkiError::Unusable {
                    path,
                    reason: "not a private key in PEM".to_owned(),
                })?)
            }
            // It was written after the key: whoever has it knows tokens that no other key would be good for.
            None if files::read(&folder.join("sa.pub"))?.is_some() => {
                return Err(PkiError::Unusable {
                    path: folder.join("sa.pub"),
                    reason: "there is no sa.key beside it".to_owned(),
                });
            }
            None => {
                let key = SigningKey::new(&KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?);
                files::write(&path, &key.private, 0o600)?;
                files::write(&folder.join("sa.pub"), &key.public, 0o644)?;
                key
            }
        };
        Ok(Pki(Arc::new(Inner {
            folder: Some(folder.to_owned()),
            authority,
            front_proxy,
            service_account,
        })))
    }

    /// The authority that is kept under the name; a new one if there is none.
    fn authority(folder: &Path, name: &str, common_name: &str) -> Result<Authority, PkiError> {
        let (certificate, private) = (format!("{name}.crt"), format!("{name}.key"));
        let parse = |key: &str| {
            KeyPair::from_pem(key).map_err(|_| PkiError::Unusable {
                path: folder.join(&private),
                reason: "not a private key in PEM".to_owned(),
            })
        };
        let Some(pair) = Self::read_pair(folder, name)? else {
            let authority = match files::read(&folder.join(&private))? {
                // Without its certificate the key is as good as before: what it has signed stays valid.
                Some(key) => Authority::certify(common_name, parse(&key)?)?,
                None => {
                    let (authority, key) = Authority::create(common_name)?;
                    files::write(&folder.join(&private), &key, 0o600)?;
                    authority
                }
            };
            files::write(&folder.join(certificate), &authority.certificate, 0o644)?;
            return Ok(authority);
        };
        let key = parse(&pair.key)?;
        Authority::load(&pair.certificate, key).map_err(|_| PkiError::Unusable {
            path: folder.join(certificate),
            reason: format!("not the certificate of an authority with the key in {private}"),
        })
    }

    /// The client's certificate that is kept under the name; a new one if it is none of that user, or not good for
    /// long. That a start need not write it lets a server start on a full disk.
    fn client(
        &self,
        name: &str,
        authority: &Authority,
        user: &str,
        groups: &[String],
    ) -> Result<Credential, PkiError> {
        let Some(folder) = &self.0.folder else {
            return authority.issue_client(user, groups);
        };
        if let Ok(Some(pair)) = Self::read_pair(folder, name)
            && authority.still_good_client(&pair, user, groups)
        {
            return Ok(pair);
        }
        let pair = authority.issue_client(user, groups)?;
        Self::write_pair(folder, name, &pair)?;
        Ok(pair)
    }

    fn read_pair(folder: &Path, name: &str) -> Result<Option<Credential>, PkiError> {
        let certificate = files::read(&folder.join(format!("{name}.crt")))?;
        let key = files::read(&folder.join(format!("{name}.key")))?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => Ok(Some(Credential { certificate, key })),
            // A key without its certificate is what a crash between the two writes leaves.
            (None, _) => Ok(None),
            (Some(_), None) => Err(PkiError::Unusable {
                path: folder.join(format!("{name}.crt")),
                reason: format!("there is no {name}.key beside it"),
            }),
        }
    }

    /// Keeps what the authority has issued. If it gets lost, it is issued again.
    fn write_pair(folder: &Path, name: &str, pair: &Credential) -> Result<(), PkiError> {
        files::write_replaceable(&folder.join(format!("{name}.key")), &pair.key, 0o600)?;
        files::write_replaceable(
            &folder.join(format!("{name}.crt")),
            &pair.certificate,
            0o644,
        )
    }

    /// The authority's certificate, PEM: what clients are to trust.
    pub fn ca_pem(&self) -> &str {
        &self.0.authority.certificate
    }

    /// The authority's certificate.
    pub fn ca_der(&self) -> &CertificateDer<'static> {
        &self.0.authority.der
    }

    /// The API server's own certificate, for those names. In a folder it is kept, and made anew
    /// only if its names are others or it has less than thirty days left.
    ///
    /// # Errors
    /// If a name is no DNS name, or the folder cannot be written.
    pub fn apiserver(&self, names: &ServerNames) -> Result<Credential, PkiError> {
        let Some(folder) = &self.0.folder else {
            return self.0.authority.issue_server("kube-apiserver", None, names);
        };
        if let Ok(Some(pair)) = Self::read_pair(folder, "apiserver")
            && self.0.authority.still_good(&pair, names)
        {
            return Ok(pair);
        }
        let pair = self
            .0
            .authority
            .issue_server("kube-apiserver", None, names)?;
        Self::write_pair(folder, "apiserver", &pair)?;
        Ok(pair)
    }

    /// A new certificate, good for a year, for a client: the user and the groups that it is in.
    ///
    /// # Errors
    /// Only if the system has no randomness.
    pub fn issue_client<G: AsRef<str>>(
        &self,
        user: &str,
        groups: &[G],
    ) -> Result<Credential, PkiError> {
        let groups: Vec<String> = groups.iter().map(|g| g.as_ref().to_owned()).collect();
        self.0.authority.issue_client(user, &groups)
    }

    /// A new client certificate for a kubelet.
    ///
    /// # Errors
    /// Only if the system has no randomness.
    pub fn issue_kubelet_client(&self, node: &str) -> Result<Credential, PkiError> {
        self.issue_client(&format!("{NODE_PREFIX}{node}"), &[NODES])
    }

    /// A new certificate for the server of a kubelet: the node's name and addresses.
    ///
    /// # Errors
    /// If the node's name is no DNS name.
    pub fn issue_kubelet_server(&self, node: &str, ips: &[IpAddr]) -> Result<Credential, PkiError> {
        let names = ServerNames {
            dns: vec![node.to_owned()],
            ips: ips.to_vec(),
        };
        self.0
            .authority
            .issue_server(&format!("{NODE_PREFIX}{node}"), Some(NODES), &names)
    }

    /// A certificate, PEM, for what a request asks for, good for the usages (as upstream spells them:
    /// `client auth`, `digital signature`, …) and so long, but no longer than the authority's own. Whether the
    /// request may be granted is the caller's to say.
    ///
    /// # Errors
    /// Only if the authority's key cannot sign.
    pub fn sign_request(
        &self,
        request: &CertificateRequest,
        usages: &[String],
        lifetime: SignedDuration,
    ) -> Result<String, PkiError> {
        let now = jiff::Timestamp::now();
        self.0.authority.sign(request, usages, lifetime, now)
    }

    /// What the API server shows to kubelets. In a folder it is kept, and made anew only if it has less than thirty
    /// days left.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn kubelet_client(&self) -> Result<Credential, PkiError> {
        let groups = [MASTERS.to_owned()];
        let authority = &self.0.authority;
        self.client(KUBELET_CLIENT_FILE, authority, KUBELET_CLIENT, &groups)
    }

    /// What the API server shows to the API servers that it passes requests on to, and by which authority they
    /// know it. In a folder it is kept, and made anew only if it has less than thirty days left.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn front_proxy(&self) -> Result<FrontProxy, PkiError> {
        let authority = &self.0.front_proxy;
        Ok(FrontProxy {
            client_ca: self.ca_pem().to_owned(),
            ca: authority.certificate.clone(),
            client: self.client(FRONT_PROXY_CLIENT, authority, FRONT_PROXY_CLIENT, &[])?,
        })
    }

    /// The key that signs the tokens of service accounts.
    pub fn service_account_key(&self) -> &SigningKey {
        &self.0.service_account
    }

    /// A kubeconfig for a new client certificate.
    ///
    /// # Errors
    /// Only if the system has no randomness.
    pub fn kubeconfig<G: AsRef<str>>(
        &self,
        server: &str,
        user: &str,
        groups: &[G],
    ) -> Result<Kubeconfig, PkiError> {
        Ok(Kubeconfig::new(server, self.ca_pem())
            .with_client_certificate(user, &self.issue_client(user, groups)?))
    }
}

#[cfg(test)]
mod tests;
