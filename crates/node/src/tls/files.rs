//! Certificate, key and authority, read from PEM files whenever they are needed, so that they can be replaced.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use serde::Deserialize;
use thiserror::Error;

/// Where this process finds who it is and whom it trusts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Own certificate chain, PEM.
    pub certificate: PathBuf,
    /// Own private key, PEM.
    pub key: PathBuf,
    /// The authority that issues every certificate of the cluster, PEM.
    pub authority: PathBuf,
    /// Certificates that it has revoked, PEM; servers refuse them.
    #[serde(default)]
    pub revoked: Option<PathBuf>,
}

/// TLS that cannot be set up.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file is missing or holds something else.
    #[error("read {what} from {path}")]
    Read {
        /// What should be in there.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls_pki_types::pem::Error,
    },
    /// A file holds none.
    #[error("{path} holds no {what}")]
    Empty {
        /// What should be in there.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The authority cannot verify anyone.
    #[error("use the authority and its revocations")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// Certificate and key do not fit, or a setting is refused.
    #[error("use the certificate {path} and its key")]
    Config {
        /// The certificate.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The own certificate says nothing about who this is.
    #[error("read who this is from {path}")]
    Identity {
        /// The certificate.
        path: PathBuf,
        /// Why not.
        source: super::IdentityError,
    },
}

impl TlsFiles {
    /// Who the own certificate says that this is.
    ///
    /// # Errors
    /// It cannot be read or names no role.
    pub fn identity(&self) -> Result<super::PeerIdentity, TlsError> {
        let chain = self.chain()?;
        super::PeerIdentity::from_certificate(chain.first().map_or(&[][..], |first| first.as_ref()))
            .map_err(|source| TlsError::Identity { path: self.certificate.clone(), source })
    }

    pub(super) fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        read_all("certificate", &self.certificate)
    }

    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_file(&self.key).map_err(|source| TlsError::Read {
            what: "private key",
            path: self.key.clone(),
            source,
        })
    }

    pub(super) fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in read_all("certificate", &self.authority)? {
            roots
                .add(certificate)
                .map_err(|source| TlsError::Config { path: self.authority.clone(), source })?;
        }
        Ok(Arc::new(roots))
    }

    pub(super) fn revocations(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        self.revoked.as_deref().map_or(Ok(Vec::new()), |path| read_all("revocation list", path))
    }
}

fn read_all<T: PemObject>(what: &'static str, path: &Path) -> Result<Vec<T>, TlsError> {
    let attempt = |source| TlsError::Read { what, path: path.to_path_buf(), source };
    let found: Vec<T> =
        T::pem_file_iter(path).map_err(attempt)?.collect::<Result<_, _>>().map_err(attempt)?;
    if found.is_empty() {
        return Err(TlsError::Empty { what, path: path.to_path_buf() });
    }
    Ok(found)
}
