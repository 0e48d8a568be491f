//! HTTP for `builtin:fetchurl`: TLS by rustls, redirects, and which failures may pass.
use crate::config::Downloads;
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Redirects that are followed.
const REDIRECTS_MAX: usize = 10;
/// Bytes of a refusal's text that are repeated.
const REFUSAL_BYTES_MAX: usize = 1024;

/// Why no download is possible here at all.
#[derive(Debug, Error)]
pub enum DownloaderError {
    /// The certificate authorities.
    #[error("read certificate authorities from '{path}'", path = path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rustls_pki_types::pem::Error,
    },
    /// TLS.
    #[error("set up TLS for downloads")]
    Tls(#[from] rustls::Error),
    /// The client.
    #[error("set up the HTTP client")]
    Client(#[from] reqwest::Error),
}

/// Why one attempt gave no bytes, or not all.
#[derive(Debug)]
pub struct Refused {
    /// What happened.
    pub reason: String,
    /// Whether asking again may help.
    pub may_pass: bool,
}

/// Downloads for all builds of the executor.
#[derive(Clone, Debug)]
pub struct Downloader {
    client: Client,
    settings: Downloads,
    authorities: usize,
}

impl Downloader {
    /// With the certificate authorities of a PEM file; without one, no HTTPS server is trusted.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn new(settings: Downloads, certificates: Option<&Path>) -> Result<Self, DownloaderError> {
        let mut roots = RootCertStore::empty();
        if let Some(path) = certificates {
            let wrong = |source| DownloaderError::Certificates { path: path.to_owned(), source };
            let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(wrong)?.collect();
            // Bundles carry certificates that no library accepts any more.
            roots.add_parsable_certificates(all.map_err(wrong)?);
        }
        let authorities = roots.len();
        let tls = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("elsewhere-executor/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::limited(REDIRECTS_MAX))
            .connect_timeout(Duration::from_secs(settings.connect_timeout_s))
            .read_timeout(Duration::from_secs(settings.stalled_timeout_s))
            // A board's URL is asked for once: nothing to keep connections for.
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self { client, settings, authorities })
    }

    /// Its limits.
    pub fn settings(&self) -> Downloads {
        self.settings
    }

    /// How many certificate authorities are trusted.
    pub fn authorities(&self) -> usize {
        self.authorities
    }

    /// Asks a server, following redirects.
    pub(super) async fn open(&self, url: &Url) -> Result<Response, Refused> {
        let response = self.client.get(url.clone()).send().await.map_err(|error| refused(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let mut reason = format!("HTTP error {}", status.as_u16());
        let text = refusal(response).await;
        if !text.trim().is_empty() {
            reason.push_str(&format!("\n\nresponse body:\n\n{}", text.trim_end()));
        }
        Err(Refused { reason, may_pass: may_pass(status) })
    }
}

/// The beginning of what a server says with its refusal.
async fn refusal(mut response: Response) -> String {
    let mut text = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = REFUSAL_BYTES_MAX.saturating_sub(text.len());
        text.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if text.len() >= REFUSAL_BYTES_MAX {
            break;
        }
    }
    // It goes into a log that people read on terminals.
    String::from_utf8_lossy(&text).chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

/// Which statuses a later attempt may change.
fn may_pass(status: StatusCode) -> bool {
    match status.as_u16() {
        408 | 429 => true,
        501 | 505 | 511 => false,
        code => code >= 500,
    }
}

/// What the client says of a failure, innermost cause first: that is what people can do something about.
pub fn refused(error: &reqwest::Error) -> Refused {
    let mut causes = Vec::new();
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        causes.push(error);
        cause = error.source();
    }
    let is_tls = |error: &&(dyn Error + 'static)| error.is::<rustls::Error>() || is_wrapped_tls(*error);
    let untrusted = causes.iter().any(is_tls);
    let innermost = causes.last().map_or_else(String::new, ToString::to_string);
    let reason = match () {
        () if error.is_redirect() => format!("{innermost} (at most {REDIRECTS_MAX} are followed)"),
        () if error.is_timeout() => "the server does not answer".to_owned(),
        () if error.is_connect() => format!("cannot connect: {innermost}"),
        () => innermost,
    };
    Refused { reason, may_pass: !(untrusted || error.is_redirect() || error.is_builder()) }
}

/// rustls hides in an `io::Error`, or in one inside another: their sources skip it.
fn is_wrapped_tls(error: &(dyn Error + 'static)) -> bool {
    let mut error = error;
    while let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        error = inner;
    }
    error.is::<rustls::Error>()
}
