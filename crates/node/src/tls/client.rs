//! The client's side: the server's chain must end in our authority, and its role and name must be the expected ones.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    version,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use thiserror::Error;

use super::{IdentityError, PeerIdentity, Role, TlsError, TlsFiles, provider};

/// Whom a client wants to reach.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ExpectedPeer {
    /// It must have this role.
    pub role: Role,
    /// It must have this name; `None` accepts any of that role.
    pub name: Option<String>,
}

impl ExpectedPeer {
    /// The cluster's coordinator, whatever its name.
    #[must_use]
    pub fn coordinator() -> Self {
        Self { role: Role::Coordinator, name: None }
    }

    /// One executor.
    #[must_use]
    pub fn executor(name: &str) -> Self {
        Self { role: Role::Executor, name: Some(name.to_owned()) }
    }

    fn is(&self, identity: &PeerIdentity) -> bool {
        self.role == identity.role && self.name.as_ref().is_none_or(|name| *name == identity.name)
    }
}

/// A server that is someone else.
#[derive(Debug, Error)]
enum WrongPeer {
    #[error("the server's certificate says who it is in no way that is ours: {0}")]
    Unnamed(IdentityError),
    #[error("reached {found}, expected {} {}", expected.role, expected.name.as_deref().unwrap_or("of any name"))]
    Other { found: PeerIdentity, expected: ExpectedPeer },
}

/// TLS settings of a client, from the files as they are now.
///
/// # Errors
/// A file cannot be used.
pub fn client_config(files: &TlsFiles, expected: ExpectedPeer) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let verifier = NamedServer { roots: files.roots()?, expected, provider: provider.clone() };
    let wrong = |source| TlsError::Config { path: files.certificate.clone(), source };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(wrong)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(files.chain()?, files.private_key()?)
        .map_err(wrong)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // The names in our certificates are roles and names, not addresses: nothing to tell the server.
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// Chain, validity and key usage by webpki; who it is by the name that our authority gave it, not by its address.
#[derive(Debug)]
struct NamedServer {
    roots: Arc<RootCertStore>,
    expected: ExpectedPeer,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for NamedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        let refuse = |problem: WrongPeer| {
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(problem))))
        };
        let identity = PeerIdentity::from_certificate(end_entity)
            .map_err(|problem| refuse(WrongPeer::Unnamed(problem)))?;
        if self.expected.is(&identity) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(refuse(WrongPeer::Other { found: identity, expected: self.expected.clone() }))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
