//! The certificate authority, and what it issues.

use std::net::IpAddr;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SigningKey, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use super::{PkiError, der};

const CA_YEARS: i16 = 10;
const LEAF_DAYS: i64 = 365;

/// A certificate and its private key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The certificate, alone, without the authority's.
    pub certificate: String,
    /// The private key, PKCS #8.
    pub key: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").finish_non_exhaustive()
    }
}

impl Credential {
    /// Whether the certificate is to be renewed: it has less than thirty days left, or is none.
    pub fn is_due(&self) -> bool {
        let Ok(der) = self.certificate_der() else {
            return true;
        };
        x509_parser::parse_x509_certificate(&der).map_or(true, |(_, parsed)| is_due(&parsed))
    }

    /// The certificate in the form that rustls takes.
    ///
    /// # Errors
    /// If the text is no certificate.
    pub fn certificate_der(&self) -> Result<CertificateDer<'static>, rustls_pki_types::pem::Error> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes())
    }

    /// The private key in the form that rustls takes.
    ///
    /// # Errors
    /// If the text is no private key.
    pub fn key_der(&self) -> Result<PrivateKeyDer<'static>, rustls_pki_types::pem::Error> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes())
    }
}

/// The names and addresses that a server's certificate is good for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerNames {
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
}

pub(super) struct Authority {
    pub(super) certificate: String,
    pub(super) der: CertificateDer<'static>,
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) subject: Vec<u8>,
    pub(super) key_identifier: Vec<u8>,
    pub(super) not_after: jiff::Timestamp,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Sets the validity, from yesterday (for clocks that are a little off) for so many days.
pub(super) fn validity(params: &mut CertificateParams, days: i64) {
    let today = now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let date = |days: i64| {
        let date = today
            .checked_add(jiff::Span::new().days(days))
            .unwrap_or(today);
        date_time_ymd(date.year().into(), date.month() as u8, date.day() as u8)
    };
    params.not_before = date(-1);
    params.not_after = date(days);
}

fn named(common_name: &str, organisation: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organisation) = organisation {
        name.push(DnType::OrganizationName, organisation);
    }
    name.push(DnType::CommonName, common_name);
    name
}

impl Authority {
    /// A new authority, and its private key as PEM.
    pub(super) fn create(common_name: &str) -> Result<(Self, String), PkiError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let text = key.serialize_pem();
        Ok((Self::certify(common_name, key)?, text))
    }

    /// The authority with that key, and a new certificate for it.
    pub(super) fn certify(common_name: &str, key: KeyPair) -> Result<Self, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = named(common_name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
        ];
        params.subject_alt_names = vec![SanType::DnsName(common_name.try_into()?)];
        validity(&mut params, i64::from(CA_YEARS) * 365);
        let certificate = params.self_signed(&key)?;
        Self::load(&certificate.pem(), key)
    }

    /// The authority with that certificate and key.
    pub(super) fn load(certificate: &str, key: KeyPair) -> Result<Self, PkiError> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&der)
            .map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
        if !parsed.is_ca() || parsed.public_key().raw != key.subject_public_key_info() {
            return Err(rcgen::Error::CouldNotParseCertificate.into());
        }
        let subject = parsed.subject().as_raw().to_vec();
        let key_identifier = parsed
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => {
                    Some(id.0.to_vec())
                }
                _ => None,
            })
            .unwrap_or_default();
        let not_after = parsed.validity().not_after.timestamp();
        let not_after = jiff::Timestamp::from_second(not_after).unwrap_or(jiff::Timestamp::MAX);
        let issuer = Issuer::from_ca_cert_der(&der, key)?;
        Ok(Authority {
            certificate: certificate.to_owned(),
            der: der.into_owned(),
            issuer,
            subject,
            key_identifier,
            not_after,
        })
    }

    /// A certificate for a server of those names, which may also act as a client.
    pub(super) fn issue_server(
        &self,
        common_name: &str,
        organisation: Option<&str>,
        names: &ServerNames,
    ) -> Result<Credential, PkiError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(common_name, organisation);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        for name in &names.dns {
            params
                .subject_alt_names
                .push(SanType::DnsName(name.as_str().try_into()?));
        }
        for ip in &names.ips {
            params.subject_alt_names.push(SanType::IpAddress(*ip));
        }
        validity(&mut params, LEAF_DAYS);
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Credential {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// A certificate for a client: the user and the groups that it is in.
    pub(super) fn issue_client(
        &self,
        user: &str,
        groups: &[String],
    ) -> Result<Credential, PkiError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let from = now() - jiff::SignedDuration::from_hours(24);
        let until = now() + jiff::SignedDuration::from_hours(24 * LEAF_DAYS);
        let mut serial = uuid::Uuid::new_v4().into_bytes();
        serial[0] &= 0x7f;
        let body = der::sequence(&[
            &der::element(0xa0, &der::integer(&[2])),
            &der::integer(&serial),
            &der::ecdsa_with_sha256(),
            &self.subject,
            &der::sequence(&[&der::time(from), &der::time(until)]),
            &der::name(user, groups),
            &key.subject_public_key_info(),
            &der::client_extensions(&self.key_identifier),
        ]);
        let signature = self.issuer.key().sign(&body)?;
        let certificate = der::sequence(&[
            &body,
            &der::ecdsa_with_sha256(),
            &der::bit_string(&signature),
        ]);
        Ok(Credential {
            certificate: der::pem("CERTIFICATE", &certificate),
            key: key.serialize_pem(),
        })
    }

    /// Whether this authority issued the certificate, for all those names, and it is good for another
    /// thirty days.
    pub(super) fn still_good(&self, credential: &Credential, names: &ServerNames) -> bool {
        self.is_good(credential, |parsed| {
            let Ok(Some(alternatives)) = parsed.subject_alternative_name() else {
                return false;
            };
            let mut found = ServerNames::default();
            for name in &alternatives.value.general_names {
                match name {
                    GeneralName::DNSName(name) => found.dns.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => {
                        let ip = match bytes.len() {
                            4 => <[u8; 4]>::try_from(*bytes).map(IpAddr::from),
                            _ => <[u8; 16]>::try_from(*bytes).map(IpAddr::from),
                        };
                        found.ips.extend(ip);
                    }
                    _ => {}
                }
            }
            found == *names
        })
    }

    /// Whether this authority issued the certificate, to that user in those groups, and it is good for another
    /// thirty days.
    pub(super) fn still_good_client(
        &self,
        credential: &Credential,
        user: &str,
        groups: &[String],
    ) -> bool {
        self.is_good(credential, |parsed| {
            let subject = parsed.subject();
            let names = subject.iter_common_name().map(|name| name.as_str());
            let found = subject.iter_organization().map(|name| name.as_str());
            names.eq([Ok(user)]) && found.eq(groups.iter().map(|group| Ok(group.as_str())))
        })
    }

    /// Whether this authority issued the certificate to the key, it fits, and it is good for another thirty days.
    fn is_good(
        &self,
        credential: &Credential,
        fits: impl FnOnce(&X509Certificate<'_>) -> bool,
    ) -> bool {
        let Ok(der) = credential.certificate_der() else {
            return false;
        };
        let Ok(key) = KeyPair::from_pem(&credential.key) else {
            return false;
        };
        let Ok((_, parsed)) = x509_parser::parse_x509_certificate(&der) else {
            return false;
        };
        let Ok((_, authority)) = x509_parser::parse_x509_certificate(&self.der) else {
            return false;
        };
        parsed
            .verify_signature(Some(authority.public_key()))
            .is_ok()
            && parsed.public_key().raw == key.subject_public_key_info()
            && !is_due(&parsed)
            && fits(&parsed)
    }
}

/// Whether it has less than thirty days left.
fn is_due(certificate: &X509Certificate<'_>) -> bool {
    let soon = now() + jiff::SignedDuration::from_hours(24 * 30);
    certificate.validity().not_after.timestamp() <= soon.as_second()
}
