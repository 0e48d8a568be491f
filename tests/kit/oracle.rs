//! The oracle: real Nix with its sandbox, in a host with an empty store, emulating with the interpreter that executors use.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::host::{Bind, Host, HostSpec, User};
use crate::lab::Lab;
use crate::nix_store::{NixStore, PathInfo};
use crate::parallel::for_all;

/// How long all builds of one question may take.
const BUILD_LIMIT: Duration = Duration::from_secs(900);
/// ELF header of aarch64 programs, and the bits of it that count (the ABI byte and ET_EXEC or ET_DYN do not).
const MAGIC: &str = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00";
const MASK: &str = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff";

const CONFIGURATION: &str = "build-users-group = nixbld\nsandbox = true\nsubstituters =\nrequire-sigs = false\n\
     max-jobs = 2\nextra-platforms = aarch64-linux\nlog-lines = 25\nsystem-features = nixos-test benchmark big-parallel\n\
     sandbox-paths =\n";

/// What precedes the derivation in errors that end a whole command of many derivations.
const ABORTING: &[&str] = &["while parsing derivation '", "\nerror: derivation '"];

/// Real Nix, and what it builds.
#[derive(Debug)]
pub struct Oracle {
    host: Host,
    version: String,
    log: PathBuf,
}

/// How real Nix settled one derivation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Output name to path and what was registered for it.
    Built(BTreeMap<String, (String, PathInfo)>),
    /// The exit code of `nix-store --realise` and its error text.
    Failed {
        /// 1, 100, 101, 102, ...
        exit_code: i32,
        /// All that it wrote on standard error.
        text: String,
    },
}

impl Oracle {
    /// Starts real Nix from set-up's root `sid`. `interpreter` is the executors' own emulator file.
    ///
    /// # Errors
    /// Set-up was not run, or this kernel has no binfmt_misc in user namespaces (Linux 6.7 has).
    pub fn start(lab: &Lab, name: &str, interpreter: Option<&Path>, binds: Vec<Bind>) -> Result<Self> {
        let root = lab.cache().product("roots/sid")?;
        let rules =
            interpreter.map(|file| format!(":elsewhere-oracle:M::{MAGIC}:{MASK}:{}:POF", file.display()));
        let spec = HostSpec { name: name.into(), root, binds, binfmt_rules: rules.into_iter().collect() };
        let host = lab.host(spec).context("start the oracle (emulation needs Linux 6.7 or later)")?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        host.write("/etc/nix/nix.conf", format!("{CONFIGURATION}cores = {cores}\n"), 0o644, User::Root)?;
        let mut oracle = Self { host, version: String::new(), log: lab.logs() };
        oracle.version = oracle.store().version()?;
        Ok(oracle)
    }

    /// The version of real Nix.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Its host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Its store, as root and without a daemon.
    #[must_use]
    pub fn store(&self) -> NixStore<'_> {
        NixStore { host: &self.host, user: User::Root, environment: &[("HOME", "/root"), ("USER", "root")] }
    }

    /// Builds derivations and says how each ended. `outputs` names the output paths of each, by output name.
    ///
    /// # Errors
    /// Nix itself does not work; failing builds are verdicts.
    pub fn build(
        &self,
        outputs: &BTreeMap<String, BTreeMap<String, String>>,
    ) -> Result<BTreeMap<String, Verdict>> {
        self.build_together(outputs.keys().cloned().collect())?;
        let paths: Vec<String> = outputs.values().flat_map(BTreeMap::values).cloned().collect();
        let infos = self.store().path_infos(&paths)?;
        let (built, missing): (Vec<_>, Vec<_>) =
            outputs.iter().partition(|(_, outputs)| outputs.values().all(|path| infos.contains_key(path)));
        let mut verdicts: BTreeMap<String, Verdict> = BTreeMap::new();
        for (derivation, outputs) in built {
            verdicts.insert(derivation.clone(), built_verdict(outputs, &infos)?);
        }
        let alone = for_all(&missing, |(derivation, outputs)| {
            if let Some(failed) = self.failure(derivation)? {
                return Ok(((*derivation).clone(), failed));
            }
            let paths: Vec<String> = outputs.values().cloned().collect();
            let verdict = built_verdict(outputs, &self.store().path_infos(&paths)?);
            Ok(((*derivation).clone(), verdict.with_context(|| format!("outputs of {derivation}"))?))
        })?;
        verdicts.extend(alone);
        Ok(verdicts)
    }

    /// Builds all that can be built. A derivation that Nix refuses to read ends the whole command: it is left out then.
    fn build_together(&self, mut derivations: Vec<String>) -> Result<()> {
        loop {
            let finished = self.store().realise(BUILD_LIMIT, &derivations)?;
            std::fs::write(self.log.join("oracle.builds.log"), &finished.stderr)?;
            if finished.status.code().is_none() {
                bail!("nix-store was killed: {}", finished.stderr);
            }
            let refused = ABORTING.iter().find_map(|words| {
                let (_, rest) = finished.stderr.split_once(words)?;
                rest.split_once('\'').map(|(path, _)| path)
            });
            let Some(refused) = refused else { return Ok(()) };
            let before = derivations.len();
            derivations.retain(|derivation| derivation != refused);
            ensure!(derivations.len() < before, "Nix cannot read {refused}: {}", finished.stderr);
        }
    }

    /// Builds again what was built, and compares, as `nix-store --check` does.
    ///
    /// # Errors
    /// A build gives other bits the second time.
    pub fn check(&self, derivations: &[String]) -> Result<()> {
        let mut argv = vec!["nix-store", "--realise", "--check", "--keep-going"];
        argv.extend(derivations.iter().map(String::as_str));
        let finished = self.store().nix(BUILD_LIMIT, &argv)?;
        let errors: Vec<&str> = finished.stderr.lines().filter(|line| line.starts_with("error:")).collect();
        ensure!(finished.status.success(), "{}:\n{}", finished.status, errors.join("\n"));
        Ok(())
    }

    /// A derivation by itself, when it fails: its exit code and text are not mixed with others'.
    fn failure(&self, derivation: &str) -> Result<Option<Verdict>> {
        let finished = self.store().realise(BUILD_LIMIT, &[derivation.to_owned()])?;
        let exit_code = finished.status.code().context("nix-store was killed")?;
        Ok((exit_code != 0).then_some(Verdict::Failed { exit_code, text: finished.stderr }))
    }
}

fn built_verdict(outputs: &BTreeMap<String, String>, infos: &BTreeMap<String, PathInfo>) -> Result<Verdict> {
    let mut built = BTreeMap::new();
    for (name, path) in outputs {
        let info = infos.get(path).with_context(|| format!("{path} is not valid"))?;
        built.insert(name.clone(), (path.clone(), info.clone()));
    }
    Ok(Verdict::Built(built))
}
