//! Certificates and the signing key of a test cluster, made by `cargo xtask certs` as a developer makes them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::host::{Host, User};
use crate::lab::Lab;
use crate::programs::Programs;

/// Where hosts have their certificate, key and authority.
const IN_HOSTS: &str = "/etc/elsewhere";

/// A directory of certificates with one authority.
#[derive(Clone, Debug)]
pub struct Certificates {
    directory: PathBuf,
    xtask: PathBuf,
}

impl Certificates {
    /// A new authority, with a certificate for a coordinator at this address and the cluster's signing key.
    ///
    /// # Errors
    /// xtask fails.
    pub fn new(lab: &Lab, programs: &Programs, name: &str, coordinator: &str) -> Result<Self> {
        let certificates = Self { directory: lab.directory().join(name), xtask: programs.outside("xtask") };
        certificates.make(&["--address", &format!("coordinator={coordinator}")])?;
        Ok(certificates)
    }

    /// Adds what the options of `cargo xtask certs` say; what is there stays.
    ///
    /// # Errors
    /// xtask fails.
    pub fn make(&self, options: &[&str]) -> Result<()> {
        let made =
            Command::new(&self.xtask).args(["certs", "--out"]).arg(&self.directory).args(options).output()?;
        ensure!(made.status.success(), "xtask certs: {}", String::from_utf8_lossy(&made.stderr));
        Ok(())
    }

    /// A file of the directory: `ca.pem`, `NAME.pem`, `NAME.key`, `nix.key`, `nix.pub`.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The cluster's public key, as `trusted-public-keys` has it.
    ///
    /// # Errors
    /// It was not made.
    pub fn public_key(&self) -> Result<String> {
        Ok(fs::read_to_string(self.file("nix.pub")).context("read nix.pub")?.trim().to_owned())
    }

    /// Gives a host a certificate: `ca.pem`, `own.pem` and `own.key` in /etc/elsewhere, the key for its user alone.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn install(&self, host: &Host, name: &str, owner: User) -> Result<()> {
        self.copy("ca.pem", host, "ca.pem", 0o644, owner)?;
        self.install_identity(host, name, owner)
    }

    /// As [`Certificates::install`], but leaves the authority that the host trusts as it is.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn install_identity(&self, host: &Host, name: &str, owner: User) -> Result<()> {
        self.copy(&format!("{name}.pem"), host, "own.pem", 0o644, owner)?;
        self.copy(&format!("{name}.key"), host, "own.key", 0o400, owner)
    }

    fn copy(&self, file: &str, host: &Host, target: &str, mode: u32, owner: User) -> Result<()> {
        let contents = fs::read(self.file(file)).with_context(|| format!("read {file}"))?;
        host.write(&format!("{IN_HOSTS}/{target}"), contents, mode, owner)
    }

    /// The `[tls]` table of a configuration file for what [`Certificates::install`] installed.
    #[must_use]
    pub fn tls_table() -> String {
        format!(
            "[tls]\nauthority = \"{IN_HOSTS}/ca.pem\"\ncertificate = \"{IN_HOSTS}/own.pem\"\nkey = \"{IN_HOSTS}/own.key\"\n"
        )
    }
}
