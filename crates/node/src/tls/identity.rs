//! Who a peer is: role and name from the URI `spiffe://elsewhere/<role>/<name>` in its verified certificate.

use std::fmt;
use std::net::SocketAddr;

use thiserror::Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const PREFIX: &str = "spiffe://elsewhere/";

/// What a peer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Wants results.
    Board,
    /// Builds.
    Executor,
    /// Plans and serves.
    Coordinator,
    /// Looks after the cluster.
    Admin,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Board, Self::Executor, Self::Coordinator, Self::Admin];

    /// As in a certificate.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Board => "board",
            Self::Executor => "executor",
            Self::Coordinator => "coordinator",
            Self::Admin => "admin",
        }
    }

    /// From a certificate.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Role and name of a verified peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PeerIdentity {
    /// What it may do.
    pub role: Role,
    /// Which one it is.
    pub name: String,
}

impl fmt::Display for PeerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.name)
    }
}

/// A peer as its connection shows it; in the extensions of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// From the certificate.
    pub identity: PeerIdentity,
    /// Where it connects from.
    pub address: SocketAddr,
}

/// A certificate that names no role.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum IdentityError {
    /// Not a certificate.
    #[error("read the certificate: {0}")]
    Unreadable(String),
    /// There must be exactly one such name, so that nobody is two.
    #[error("the certificate carries {0} names of the form spiffe://elsewhere/ROLE/NAME instead of one")]
    Count(usize),
    /// The name is not of our form.
    #[error("the certificate's name {0:?} is not spiffe://elsewhere/ROLE/NAME")]
    Malformed(String),
}

impl PeerIdentity {
    /// Reads `spiffe://elsewhere/<role>/<name>`.
    ///
    /// # Errors
    /// The text is something else.
    pub fn parse(uri: &str) -> Result<Self, IdentityError> {
        let malformed = || IdentityError::Malformed(uri.chars().take(200).collect());
        let (role, name) =
            uri.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/')).ok_or_else(malformed)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=64).contains(&name.len())
            && name.bytes().all(plain)
            && name.as_bytes()[0].is_ascii_alphanumeric();
        match Role::parse(role) {
            Some(role) if fits => Ok(Self { role, name: name.to_owned() }),
            _ => Err(malformed()),
        }
    }

    /// Reads it from a certificate (DER) that the caller has verified, or verifies.
    ///
    /// # Errors
    /// It is no certificate, or does not carry exactly one name of ours.
    pub fn from_certificate(certificate: &[u8]) -> Result<Self, IdentityError> {
        let unreadable = |error: &dyn fmt::Display| IdentityError::Unreadable(error.to_string());
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| unreadable(&error))?;
        let names = parsed.subject_alternative_name().map_err(|error| unreadable(&error))?;
        let ours: Vec<&str> = names
            .iter()
            .flat_map(|extension| &extension.value.general_names)
            .filter_map(|name| match name {
                GeneralName::URI(uri) if uri.starts_with("spiffe://") => Some(*uri),
                _ => None,
            })
            .collect();
        match ours.as_slice() {
            [one] => Self::parse(one),
            others => Err(IdentityError::Count(others.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, expected: Option<(Role, &str)>) {
        let found = PeerIdentity::parse(uri).ok();
        let expected = expected.map(|(role, name)| PeerIdentity { role, name: name.to_owned() });
        assert_eq!(found, expected, "{uri}");
    }

    #[test]
    fn only_our_names_are_identities() {
        check("spiffe://elsewhere/board/pi3", Some((Role::Board, "pi3")));
        check("spiffe://elsewhere/executor/a-1.lan", Some((Role::Executor, "a-1.lan")));
        check("spiffe://elsewhere/coordinator/c", Some((Role::Coordinator, "c")));
        check("spiffe://elsewhere/admin/c_d", Some((Role::Admin, "c_d")));
        check("spiffe://elsewhere/root/c", None);
        check("spiffe://elsewhere/board/", None);
        check("spiffe://elsewhere/board/a/b", None);
        check("spiffe://elsewhere/board/a b", None);
        check("spiffe://elsewhere/board/../a", None);
        check("spiffe://other/board/a", None);
        check("https://elsewhere/board/a", None);
        check(&format!("spiffe://elsewhere/board/{}", "x".repeat(65)), None);
    }
}
