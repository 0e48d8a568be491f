//! A throw-away authority and its certificates, for tests.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};

use crate::tls::{Role, TlsFiles};

/// An authority whose files live in a directory of the test.
pub struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// What to put into a certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// File name without extension.
    pub file: String,
    /// URIs among its names.
    pub uris: Vec<String>,
    /// Whether its time is over.
    pub expired: bool,
    /// Whether it is good for servers too.
    pub serves: bool,
    /// Its number, to revoke it.
    pub serial: u64,
}

impl Certificate {
    /// As the cluster's authority issues it.
    #[must_use]
    pub fn of(role: Role, name: &str) -> Self {
        Self {
            file: format!("{role}-{name}"),
            uris: vec![format!("spiffe://elsewhere/{role}/{name}")],
            expired: false,
            serves: matches!(role, Role::Coordinator | Role::Executor),
            serial: 1,
        }
    }
}

impl Authority {
    /// A new authority in an existing directory.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn new(directory: &Path) -> Result<Self> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "test authority");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let certificate = parameters.self_signed(&key)?;
        let path = directory.join("ca.pem");
        fs::write(&path, certificate.pem()).with_context(|| format!("write {}", path.display()))?;
        Ok(Self { directory: directory.to_path_buf(), issuer: Issuer::new(parameters, key) })
    }

    /// The usual certificate of a role and name.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn issue(&self, role: Role, name: &str) -> Result<TlsFiles> {
        self.certify(&Certificate::of(role, name))
    }

    /// An unusual certificate.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn certify(&self, wanted: &Certificate) -> Result<TlsFiles> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, wanted.file.clone());
        parameters.serial_number = Some(SerialNumber::from(wanted.serial));
        for uri in &wanted.uris {
            parameters.subject_alt_names.push(SanType::URI(uri.as_str().try_into()?));
        }
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if wanted.serves {
            parameters.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if wanted.expired {
            parameters.not_before = date_time_ymd(2000, 1, 1);
            parameters.not_after = date_time_ymd(2001, 1, 1);
        }
        let key = KeyPair::generate()?;
        let signed = parameters.signed_by(&key, &self.issuer)?;
        let file = |extension: &str| self.directory.join(format!("{}.{extension}", wanted.file));
        let files = TlsFiles {
            certificate: file("pem"),
            key: file("key"),
            authority: self.directory.join("ca.pem"),
            revoked: None,
        };
        fs::write(&files.certificate, signed.pem()).context("write a certificate")?;
        fs::write(&files.key, key.serialize_pem()).context("write a key")?;
        Ok(files)
    }

    /// A revocation list with these numbers.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn revoke(&self, serials: &[u64]) -> Result<PathBuf> {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.directory.join("revoked.pem");
        fs::write(&path, list.signed_by(&self.issuer)?.pem()?).context("write a revocation list")?;
        Ok(path)
    }
}
