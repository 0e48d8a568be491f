//! The oracle: real Nix with its sandbox, in a host with an empty store, emulating with the interpreter that executors use.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::cluster::SANDBOX_SHELL;
use crate::emulation::Interpreter;
use crate::host::{Bind, Host, HostSpec, User};
use crate::lab::Lab;
use crate::nix_store::{NixStore, PathInfo};
use crate::parallel::for_all;

/// How long all builds of one question may take.
const BUILD_LIMIT: Duration = Duration::from_secs(900);

const CONFIGURATION: &str = "build-users-group = nixbld\nsandbox = true\nsubstituters =\nrequire-sigs = false\n\
     max-jobs = 2\nextra-platforms = i686-linux aarch64-linux armv7l-linux riscv64-linux\nlog-lines = 25\nsystem-features = nixos-test benchmark big-parallel\n";
/// What a shell adds to the number of the signal that a command died of.
const SIGNALLED: i32 = 128;
/// Derivations of one command: one that makes Nix abort holds up no more than these.
const DERIVATIONS_TOGETHER: usize = 100;
/// The exit code of a command in which a build ran out of time.
const TIMED_OUT: i32 = 101;

/// In place of what Nix says when it says nothing (2.8 registers fixed outputs that refer to something under another path).
const MISPLACED: &str = "error: the build succeeds, and its output is not valid";

/// What precedes the derivation in errors that end a whole command of many derivations.
const ABORTING: &[&str] = &["while parsing derivation '", "\nerror: derivation '"];

/// A release of real Nix, in the Debian that carries it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Release {
    /// 2.8, of Debian 12.
    Nix2_8,
    /// 2.26, of Debian 13.
    Nix2_26,
    /// 2.34, of Debian sid: the one whose behaviour is ours.
    #[default]
    Nix2_34,
}

impl Release {
    /// From `2.8`, `2.26` or `2.34`.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "2.8" => Ok(Self::Nix2_8),
            "2.26" => Ok(Self::Nix2_26),
            "2.34" => Ok(Self::Nix2_34),
            other => bail!("real Nix {other} is not prepared: name 2.8, 2.26 or 2.34"),
        }
    }

    /// The root of set-up that has it.
    pub(crate) fn root(self) -> &'static str {
        match self {
            Self::Nix2_8 => "roots/bookworm-nix",
            Self::Nix2_26 => "roots/trixie-nix",
            Self::Nix2_34 => "roots/sid",
        }
    }
}

/// What an oracle is made of.
#[derive(Clone, Debug, Default)]
pub struct OracleSpec {
    /// Host name.
    pub name: String,
    /// Which real Nix.
    pub release: Release,
    /// The executors' own emulator files; without them nothing is emulated.
    pub interpreters: Vec<Interpreter>,
    /// What else it sees of the machine.
    pub binds: Vec<Bind>,
    /// Builds see [`SANDBOX_SHELL`] as /bin/sh.
    pub has_shell: bool,
    /// Seconds of silence after which a build is taken to hang for ever; none wait for ever.
    pub silence_max_s: Option<u32>,
    /// More lines for its `nix.conf`.
    pub configuration: String,
}

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
    /// It hangs for ever: killed after the silence of [`OracleSpec`].
    Hangs,
}

impl Oracle {
    /// Starts real Nix from its root of set-up.
    ///
    /// # Errors
    /// Set-up was not run, or this kernel has no binfmt_misc in user namespaces (Linux 6.7 has).
    pub fn start(lab: &Lab, spec: OracleSpec) -> Result<Self> {
        let OracleSpec {
            name,
            release,
            interpreters,
            mut binds,
            has_shell,
            silence_max_s,
            configuration: more,
        } = spec;
        let root = lab.cache().product(release.root()).with_context(|| {
            format!("{release:?}: `cargo xtask conformance --nix VERSION` or `test --long` makes its root")
        })?;
        let shell = lab.cache().product("busybox-amd64")?;
        binds.push(Bind { source: shell, target: SANDBOX_SHELL.into(), writable: false });
        binds.extend(interpreters.iter().map(Interpreter::bind));
        let binfmt_rules = interpreters.iter().map(Interpreter::rule).collect();
        let spec = HostSpec { name, root, binds, binfmt_rules };
        let host = lab.host(spec).context("start the oracle (emulation needs Linux 6.7 or later)")?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let silence = silence_max_s.unwrap_or_default();
        let shell = if has_shell { format!("/bin/sh={SANDBOX_SHELL}") } else { String::new() };
        let configuration = format!(
            "{CONFIGURATION}cores = {cores}\nmax-silent-time = {silence}\nsandbox-paths = {shell}\n{more}"
        );
        host.write("/etc/nix/nix.conf", configuration, 0o644, User::Root)?;
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
        let derivations: Vec<String> = outputs.keys().cloned().collect();
        let mut troubled = BTreeSet::new();
        for some in derivations.chunks(DERIVATIONS_TOGETHER) {
            troubled.extend(self.build_together(some.to_vec())?);
        }
        let is_troubled = |(derivation, outputs): &(&String, &BTreeMap<String, String>)| {
            troubled.contains(*derivation) || outputs.values().any(|path| troubled.contains(path))
        };
        self.forget(outputs.iter().filter(is_troubled).map(|(_, outputs)| outputs))?;
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
            let built = built_verdict(outputs, &self.store().path_infos(&paths)?);
            let misplaced = || Verdict::Failed { exit_code: 0, text: MISPLACED.to_owned() };
            Ok(((*derivation).clone(), built.unwrap_or_else(|_| misplaced())))
        })?;
        verdicts.extend(alone);
        Ok(verdicts)
    }

    /// Builds all that can be built, and says of which paths there was more to read than that they are built. A derivation that
    /// Nix refuses to read ends the whole command: it is left out then.
    fn build_together(&self, mut derivations: Vec<String>) -> Result<BTreeSet<String>> {
        let mut troubled = BTreeSet::new();
        loop {
            let finished = self.store().realise(BUILD_LIMIT, &derivations)?;
            std::fs::write(self.log.join("oracle.builds.log"), &finished.stderr)?;
            troubled.extend(named_in_trouble(&finished.stderr));
            if finished.status.code().is_none() {
                // Old Nix aborts as a whole where one derivation is too much for it: then each goes alone.
                return Ok(troubled);
            }
            let refused = ABORTING.iter().find_map(|words| {
                let (_, rest) = finished.stderr.split_once(words)?;
                rest.split_once('\'').map(|(path, _)| path)
            });
            let Some(refused) = refused else { return Ok(troubled) };
            let before = derivations.len();
            derivations.retain(|derivation| derivation != refused);
            ensure!(derivations.len() < before, "Nix cannot read {refused}: {}", finished.stderr);
        }
    }

    /// Makes outputs invalid: real Nix registers fixed outputs before it checks them, and takes them for built when it is asked again.
    fn forget<'a>(&self, outputs: impl Iterator<Item = &'a BTreeMap<String, String>>) -> Result<()> {
        let paths: Vec<String> = outputs.flat_map(BTreeMap::values).cloned().collect();
        for path in self.store().valid(&paths)? {
            // What others refer to stays, and was built.
            self.store().nix(BUILD_LIMIT, &["nix-store", "--delete", "--ignore-liveness", &path])?;
        }
        Ok(())
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
        let signal = || finished.status.signal().map(|signal| SIGNALLED + signal);
        let exit_code = finished.status.code().or_else(signal).context("nix-store neither exits nor dies")?;
        if exit_code == TIMED_OUT {
            return Ok(Some(Verdict::Hangs));
        }
        Ok((exit_code != 0).then_some(Verdict::Failed { exit_code, text: finished.stderr }))
    }
}

/// Derivations and outputs that Nix names elsewhere than in the list of what it will build and where it begins to.
fn named_in_trouble(said: &str) -> BTreeSet<String> {
    let is_progress = |line: &&str| line.starts_with("building '") || line.starts_with("  /nix/store/");
    let lines = said.lines().filter(|line| !is_progress(line));
    let names = lines.flat_map(|line| line.split('\'')).filter(|word| word.starts_with("/nix/store/"));
    names.map(str::to_owned).collect()
}

fn built_verdict(outputs: &BTreeMap<String, String>, infos: &BTreeMap<String, PathInfo>) -> Result<Verdict> {
    let mut built = BTreeMap::new();
    for (name, path) in outputs {
        let info = infos.get(path).with_context(|| format!("{path} is not valid"))?;
        built.insert(name.clone(), (path.clone(), info.clone()));
    }
    Ok(Verdict::Built(built))
}

#[cfg(test)]
mod tests {
    use super::named_in_trouble;

    #[test]
    fn what_nix_complains_of_is_told_from_what_it_builds() {
        let said = "these 2 derivations will be built:\n  /nix/store/a-a.drv\n  /nix/store/b-b.drv\n\
                    building '/nix/store/a-a.drv'...\nbuilding '/nix/store/b-b.drv'...\n\
                    error: Cannot build '/nix/store/b-b.drv'.\n       Reason: wrong\n\
                    error: path '/nix/store/c-c' is too large\n";
        assert_eq!(Vec::from_iter(named_in_trouble(said)), ["/nix/store/b-b.drv", "/nix/store/c-c"]);
    }
}
