//! Real Nix in a host: instantiating files, asking what is valid, realising, all through its own programs.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::host::{Host, User};
use crate::process::Finished;

/// How long evaluating one file may take.
const EVALUATION_LIMIT: Duration = Duration::from_secs(120);
/// Paths of one command line.
const PATHS_PER_COMMAND: usize = 400;

/// What Nix registered for a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathInfo {
    /// SHA-256 of the NAR in base 16.
    pub nar_hash: String,
    /// Bytes.
    pub nar_size: u64,
    /// Full path of the `.drv` that it was built from; empty for what nobody built.
    pub deriver: String,
    /// Full paths, sorted.
    pub references: Vec<String>,
}

/// Nix of a host, as one user.
#[derive(Clone, Copy, Debug)]
pub struct NixStore<'a> {
    /// Where.
    pub host: &'a Host,
    /// As whom.
    pub user: User,
    /// Environment, for example `NIX_REMOTE`.
    pub environment: &'a [(&'a str, &'a str)],
}

impl NixStore<'_> {
    /// Runs a Nix program.
    ///
    /// # Errors
    /// It does not start or end; an exit code is no error here.
    pub fn nix(&self, limit: Duration, argv: &[&str]) -> Result<Finished> {
        self.host.exec_within(limit, self.user, argv, self.environment)
    }

    /// `nix --version`, the number.
    ///
    /// # Errors
    /// There is no Nix in this host.
    pub fn version(&self) -> Result<String> {
        let said = self.nix(EVALUATION_LIMIT, &["nix-store", "--version"])?.success()?;
        said.rsplit(' ').next().map(str::to_owned).context("nix-store --version says nothing")
    }

    /// Instantiates attributes of a file (all when none is named) and says their `.drv` paths.
    ///
    /// # Errors
    /// The file does not evaluate.
    pub fn instantiate(&self, file: &str, attributes: &[&str], arguments: &[&str]) -> Result<Vec<String>> {
        let mut argv = vec!["nix-instantiate", file];
        for attribute in attributes {
            argv.extend(["-A", attribute]);
        }
        argv.extend(arguments);
        let said = self.nix(EVALUATION_LIMIT, &argv)?.success()?;
        Ok(said.lines().map(|line| line.split('!').next().unwrap_or(line).to_owned()).collect())
    }

    /// Evaluates an expression to JSON.
    ///
    /// # Errors
    /// It does not evaluate, or is no JSON of this shape.
    pub fn evaluate<T: serde::de::DeserializeOwned>(&self, file: &str, arguments: &[&str]) -> Result<T> {
        let mut argv = vec!["nix-instantiate", "--eval", "--strict", "--json", file];
        argv.extend(arguments);
        let said = self.nix(EVALUATION_LIMIT, &argv)?.success()?;
        serde_json::from_str(&said).with_context(|| format!("read what {file} evaluates to"))
    }

    /// Which of these paths are valid, and what is known of them.
    ///
    /// # Errors
    /// Nix cannot say.
    pub fn path_infos(&self, paths: &[String]) -> Result<BTreeMap<String, PathInfo>> {
        let mut infos = BTreeMap::new();
        for chunk in paths.chunks(PATHS_PER_COMMAND) {
            let valid = self.valid(chunk)?;
            if valid.is_empty() {
                continue;
            }
            // The one form that every version of Nix writes alike.
            let mut argv = vec!["nix-store", "--dump-db"];
            argv.extend(valid.iter().map(String::as_str));
            let said = self.nix(EVALUATION_LIMIT, &argv)?.success()?;
            registrations(&said, &mut infos).context("read what nix-store --dump-db says")?;
        }
        Ok(infos)
    }

    /// Writes derivations, and all they are made from, into a directory of this host, for [`NixStore::import_derivations`].
    ///
    /// # Errors
    /// One is not valid.
    pub fn export_derivations(&self, derivations: &[String], directory: &str) -> Result<()> {
        self.copy_derivations("--to", derivations, directory)
    }

    /// Reads derivations from a directory that another host's Nix wrote; content addresses come with them.
    ///
    /// # Errors
    /// It is not there whole.
    pub fn import_derivations(&self, derivations: &[String], directory: &str) -> Result<()> {
        self.copy_derivations("--from", derivations, directory)
    }

    fn copy_derivations(&self, way: &str, derivations: &[String], directory: &str) -> Result<()> {
        let store = format!("file://{directory}?compression=none");
        for chunk in derivations.chunks(PATHS_PER_COMMAND) {
            let mut argv = vec!["nix", "--extra-experimental-features", "nix-command", "copy"];
            argv.extend(["--derivation", "--no-check-sigs", way, &store]);
            argv.extend(chunk.iter().map(String::as_str));
            self.nix(EVALUATION_LIMIT, &argv)?.success()?;
        }
        Ok(())
    }

    /// Which of these paths are valid.
    ///
    /// # Errors
    /// Nix cannot say.
    pub fn valid(&self, paths: &[String]) -> Result<Vec<String>> {
        let mut argv = vec!["nix-store", "--check-validity", "--print-invalid"];
        argv.extend(paths.iter().map(String::as_str));
        let said = self.nix(EVALUATION_LIMIT, &argv)?.success()?;
        let invalid: Vec<&str> = said.lines().collect();
        Ok(paths.iter().filter(|path| !invalid.contains(&path.as_str())).cloned().collect())
    }

    /// The closure of valid paths.
    ///
    /// # Errors
    /// One is not valid.
    pub fn closure(&self, paths: &[String]) -> Result<Vec<String>> {
        let mut argv = vec!["nix-store", "--query", "--requisites"];
        argv.extend(paths.iter().map(String::as_str));
        let said = self.nix(EVALUATION_LIMIT, &argv)?.success()?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// Output paths of a derivation; their names are numbers here.
    ///
    /// # Errors
    /// It is not valid.
    pub fn outputs(&self, derivation: &str) -> Result<BTreeMap<String, String>> {
        let said =
            self.nix(EVALUATION_LIMIT, &["nix-store", "--query", "--outputs", derivation])?.success()?;
        Ok(said.lines().enumerate().map(|(number, path)| (number.to_string(), path.to_owned())).collect())
    }

    /// Every valid path of this store.
    ///
    /// # Errors
    /// Nix cannot say.
    pub fn all(&self) -> Result<Vec<String>> {
        let argv = ["nix", "--extra-experimental-features", "nix-command", "path-info", "--all"];
        let said = self.nix(EVALUATION_LIMIT, &argv)?.success()?;
        Ok(said.lines().map(str::to_owned).collect())
    }

    /// Reads the file contents of paths again, and compares with what is registered.
    ///
    /// # Errors
    /// They differ.
    pub fn verify(&self, paths: &[String]) -> Result<()> {
        let mut argv = vec!["nix-store", "--verify-path"];
        argv.extend(paths.iter().map(String::as_str));
        self.nix(EVALUATION_LIMIT, &argv)?.success().map(drop)
    }

    /// Realises derivations; what fails does not keep the others from being built.
    ///
    /// # Errors
    /// It does not end within the limit; failed builds are no error here.
    pub fn realise(&self, limit: Duration, derivations: &[String]) -> Result<Finished> {
        ensure!(!derivations.is_empty(), "nothing to realise");
        let mut argv = vec!["nix-store", "--realise", "--keep-going", "--no-gc-warning"];
        argv.extend(derivations.iter().map(String::as_str));
        self.nix(limit, &argv)
    }
}

/// Reads paths as `nix-store --register-validity --hash-given` does: path, hash, size, deriver, count and list of references.
fn registrations(text: &str, infos: &mut BTreeMap<String, PathInfo>) -> Result<()> {
    let mut lines = text.lines();
    while let Some(path) = lines.next() {
        let mut field = || lines.next().with_context(|| format!("{path}: its description is cut off"));
        let nar_hash = field()?.to_owned();
        let nar_size = field()?.parse().with_context(|| format!("size of {path}"))?;
        let deriver = field()?.to_owned();
        let count: usize = field()?.parse().with_context(|| format!("count of references of {path}"))?;
        let mut references =
            (0..count).map(|_| field().map(str::to_owned)).collect::<Result<Vec<String>>>()?;
        references.sort();
        infos.insert(path.to_owned(), PathInfo { nar_hash, nar_size, deriver, references });
    }
    Ok(())
}
