//! Root file systems for the hosts of the demo and the tests: executors without Nix, boards and the oracle with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::cache::{Cache, remove, replace};
use crate::command::{capture, command};
use crate::setup::debian::{KEYRING, mirror, validity_options};

/// A root: its Debian release, packages, and whether Nix belongs in it.
struct Root {
    name: &'static str,
    suite: &'static str,
    packages: &'static str,
    nix: bool,
}

const ROOTS: &[Root] = &[
    Root {
        name: "bookworm-executor",
        suite: "bookworm",
        packages: "uidmap,busybox-static,ca-certificates,iproute2,procps",
        nix: false,
    },
    Root {
        name: "sid",
        suite: "sid",
        packages: "nix-bin,busybox-static,ca-certificates,iproute2,procps",
        nix: true,
    },
];

/// Versions of real Nix beside the one that boards have, each in the Debian that carries it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum NixVersion {
    /// Debian 12's.
    #[value(name = "2.8")]
    Nix2_8,
    /// Debian 13's.
    #[value(name = "2.26")]
    Nix2_26,
    /// Debian sid's, which every set-up makes.
    #[value(name = "2.34")]
    Nix2_34,
}

impl NixVersion {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Nix2_8, Self::Nix2_26, Self::Nix2_34];

    /// As it is written.
    pub fn version(self) -> &'static str {
        match self {
            Self::Nix2_8 => "2.8",
            Self::Nix2_26 => "2.26",
            Self::Nix2_34 => "2.34",
        }
    }

    fn root(self) -> Option<Root> {
        let (name, suite) = match self {
            Self::Nix2_8 => ("bookworm-nix", "bookworm"),
            Self::Nix2_26 => ("trixie-nix", "trixie"),
            Self::Nix2_34 => return None,
        };
        Some(Root { name, suite, packages: "nix-bin,busybox-static,ca-certificates,iproute2", nix: true })
    }
}

/// The unprivileged user that executors run as, and its subordinate ids.
const EXECUTOR_PASSWD: &str = "elsewhere:x:990:990:Elsewhere executor:/var/lib/elsewhere:/usr/sbin/nologin\n";
const EXECUTOR_GROUP: &str = "elsewhere:x:990:\n";
const EXECUTOR_SUBIDS: &str = "elsewhere:100000:65536\n";

/// Makes the roots that are missing.
pub fn make(cache: &Cache) -> Result<()> {
    fs::create_dir_all(cache.path("roots"))?;
    // Tests enter a root as an unprivileged user: every directory above it must be passable.
    fs::set_permissions(cache.path("roots"), fs::Permissions::from_mode(0o755))?;
    ROOTS.iter().try_for_each(|root| make_step(cache, root))
}

/// Makes the roots of other versions of Nix that are missing.
pub fn make_old(cache: &Cache, versions: &[NixVersion]) -> Result<()> {
    versions.iter().filter_map(|version| version.root()).try_for_each(|root| make_step(cache, &root))
}

fn make_step(cache: &Cache, root: &Root) -> Result<()> {
    let recipe = format!("{} {} nix={} 1", root.suite, root.packages, root.nix);
    let product = format!("roots/{}", root.name);
    cache.step(root.name, &recipe, &[&product], || make_one(cache, root))
}

fn make_one(cache: &Cache, root: &Root) -> Result<()> {
    let scratch = cache.scratch(root.name)?;
    let directory = scratch.join("root");
    bootstrap(root.suite, root.packages, &directory)?;
    finish(&directory, root.nix)?;
    if !root.nix {
        ensure!(!directory.join("usr/bin/nix-store").exists(), "the executors' root has Nix in it");
    }
    replace(&directory, &cache.path(&format!("roots/{}", root.name)))
}

/// A Debian of few packages in a directory.
pub fn bootstrap(suite: &str, packages: &str, directory: &Path) -> Result<()> {
    let target = directory.to_string_lossy().into_owned();
    let mut bootstrap = command("mmdebstrap", &["--variant=minbase", "--mode=root", "--quiet"]);
    for option in validity_options()? {
        bootstrap.arg(format!("--aptopt={}", option.replacen('=', " \"", 1) + "\""));
    }
    bootstrap.arg(format!("--keyring={KEYRING}")).arg(format!("--include={packages}")).args([
        suite,
        &target,
        &format!("deb [signed-by={KEYRING}] {} {suite} main", mirror()?),
    ]);
    capture(&mut bootstrap).map(drop)
}

/// Accounts, mount points, and nothing left of the package manager's downloads.
fn finish(root: &Path, nix: bool) -> Result<()> {
    if nix {
        build_users(root)?
    } else {
        executor_user(root)?
    }
    for directory in ["nix", "proc", "sys", "dev", "run", "tmp", "etc/nix", "var/empty"] {
        fs::create_dir_all(root.join(directory))?;
    }
    for leftover in ["etc/apt/sources.list", "etc/apt/sources.list.d", "var/lib/apt/lists", "var/cache/apt"] {
        remove(&root.join(leftover))?;
    }
    Ok(())
}

/// The user that executors run as.
pub fn executor_user(root: &Path) -> Result<()> {
    append(root, "etc/passwd", EXECUTOR_PASSWD)?;
    append(root, "etc/group", EXECUTOR_GROUP)?;
    append(root, "etc/subuid", EXECUTOR_SUBIDS)?;
    append(root, "etc/subgid", EXECUTOR_SUBIDS)?;
    fs::create_dir_all(root.join("var/lib/elsewhere"))?;
    std::os::unix::fs::chown(root.join("var/lib/elsewhere"), Some(990), Some(990))?;
    Ok(())
}

/// Nix builds as these users; Debian's package leaves making them to the administrator.
pub fn build_users(root: &Path) -> Result<()> {
    let groups = fs::read_to_string(root.join("etc/group"))?;
    if groups.lines().any(|line| line.starts_with("nixbld:")) {
        return Ok(());
    }
    let names: Vec<String> = (1..=16).map(|number| format!("nixbld{number}")).collect();
    append(root, "etc/group", &format!("nixbld:x:30000:{}\n", names.join(",")))?;
    for (index, name) in names.iter().enumerate() {
        append(
            root,
            "etc/passwd",
            &format!("{name}:x:{}:30000::/var/empty:/usr/sbin/nologin\n", 30001 + index),
        )?;
    }
    Ok(())
}

fn append(root: &Path, file: &str, text: &str) -> Result<()> {
    let path = root.join(file);
    let mut contents = if path.exists() { fs::read_to_string(&path)? } else { String::new() };
    contents.push_str(text);
    fs::write(&path, contents).with_context(|| format!("write {}", path.display()))
}
