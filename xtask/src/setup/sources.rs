//! The demo's sources, as package registries carry them: pinned by version and SHA-256, fetched by the registries' own clients.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::cache::{Cache, replace};
use crate::command::{capture, command};

/// A wheel of the Zig toolchain: a C compiler, linker and C library for every target in one static program.
struct Wheel {
    file: &'static str,
    platform: &'static str,
    sha256: &'static str,
}

const ZIG_VERSION: &str = "0.13.0";
const WHEELS: &[Wheel] = &[
    Wheel {
        file: "ziglang-x86_64.whl",
        platform: "manylinux_2_12_x86_64",
        sha256: "3ce0c9f16547e5d61b32e0d226926e9a2552ef4b91fccf7ab5ea1a623a77824b",
    },
    Wheel {
        file: "ziglang-aarch64.whl",
        platform: "manylinux_2_17_aarch64",
        sha256: "5714a4d46f9246ba6180a0930e23df2bc8bc26e62b5fe0dc798b4afca1903308",
    },
];

/// C sources that a crate bundles: the crate, the directory in it, the files to keep ("" keeps all).
struct Bundled {
    name: &'static str,
    package: &'static str,
    version: &'static str,
    sha256: &'static str,
    directory: &'static str,
    files: &'static [&'static str],
}

const BUNDLED: &[Bundled] = &[
    Bundled {
        name: "lua",
        package: "lua-src",
        version: "547.0.0",
        sha256: "1edaf29e3517b49b8b746701e5648ccb5785cde1c119062cbabbc5d5cd115e42",
        directory: "lua-5.4.7",
        files: &[],
    },
    Bundled {
        name: "sqlite",
        package: "libsqlite3-sys",
        version: "0.39.1",
        sha256: "14a5f01b87b92705d07b433c06f96cbc764637d81a0bffb5734ce17cf0f9a2b3",
        directory: "sqlite3",
        files: &["sqlite3.c", "sqlite3.h"],
    },
];

/// Fetches wheels and C sources into `sources/`, and lays the shells out as the graph wants them.
pub fn fetch(cache: &Cache) -> Result<()> {
    fs::create_dir_all(cache.path("sources"))?;
    for wheel in WHEELS {
        let product = format!("sources/{}", wheel.file);
        let recipe = format!("{ZIG_VERSION} {}", wheel.sha256);
        cache.step(wheel.file, &recipe, &[&product], || fetch_wheel(cache, wheel))?;
    }
    for bundled in BUNDLED {
        let product = format!("sources/{}", bundled.name);
        let recipe = format!("{} {} {}", bundled.package, bundled.version, bundled.sha256);
        cache.step(bundled.name, &recipe, &[&product], || fetch_bundled(cache, bundled))?;
    }
    for architecture in ["amd64", "arm64"] {
        // A multi-call program must be called by its name: a directory, so that the store path is not that name.
        let program = fs::read(cache.path(&format!("busybox-{architecture}")))?;
        let directory = cache.path(&format!("sources/busybox-{architecture}/bin"));
        fs::create_dir_all(&directory)?;
        if fs::read(directory.join("busybox")).is_ok_and(|there| there == program) {
            continue;
        }
        fs::copy(cache.path(&format!("busybox-{architecture}")), directory.join("busybox"))?;
    }
    Ok(())
}

fn fetch_wheel(cache: &Cache, wheel: &Wheel) -> Result<()> {
    let scratch = cache.scratch(wheel.file)?;
    let requirement = format!("ziglang=={ZIG_VERSION}");
    let mut download =
        command("python3", &["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]);
    download
        .args(["--disable-pip-version-check", "--platform", wheel.platform, "--dest"])
        .arg(&scratch)
        .arg(requirement);
    capture(&mut download)?;
    let Some(found) = fs::read_dir(&scratch)?.next().transpose()? else { bail!("pip downloaded no wheel") };
    check_sha256(&found.path(), wheel.sha256)?;
    replace(&found.path(), &cache.path(&format!("sources/{}", wheel.file)))
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
}

/// A throw-away manifest that wants this one crate; cargo fetches it, and its lock file says the hash of what came.
fn fetch_bundled(cache: &Cache, bundled: &Bundled) -> Result<()> {
    let scratch = cache.scratch(bundled.name)?;
    fs::create_dir_all(scratch.join("src"))?;
    fs::write(scratch.join("src/lib.rs"), "")?;
    let manifest = format!(
        "[package]\nname = \"fetch\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[workspace]\n[dependencies]\n{} = \"={}\"\n",
        bundled.package, bundled.version
    );
    fs::write(scratch.join("Cargo.toml"), manifest)?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let found =
        capture(command(&cargo, &["metadata", "--format-version=1", "--quiet"]).current_dir(&scratch))?;
    let lock = fs::read_to_string(scratch.join("Cargo.lock"))?;
    ensure!(
        lock.contains(&format!("checksum = \"{}\"", bundled.sha256)),
        "{} {} does not have the pinned hash {}",
        bundled.package,
        bundled.version,
        bundled.sha256
    );
    let metadata: Metadata = serde_json::from_str(&found).context("read cargo metadata")?;
    let package = metadata
        .packages
        .iter()
        .find(|package| package.name == bundled.package && package.version == bundled.version);
    let Some(root) = package.and_then(|package| package.manifest_path.parent()) else {
        bail!("cargo metadata does not name {}", bundled.package)
    };
    copy_files(&root.join(bundled.directory), &scratch.join("out"), bundled.files)?;
    replace(&scratch.join("out"), &cache.path(&format!("sources/{}", bundled.name)))
}

fn copy_files(from: &Path, to: &Path, only: &[&str]) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("list {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if only.is_empty() || only.iter().any(|wanted| name == *wanted) {
            // Contents only: a mode or time of the registry's unpacking must not reach the store path.
            fs::write(to.join(&name), fs::read(entry.path())?)?;
        }
    }
    Ok(())
}

fn check_sha256(file: &Path, expected: &str) -> Result<()> {
    let said = capture(&mut command("sha256sum", &[file]))?;
    ensure!(said.starts_with(expected), "{} has SHA-256 {said}, pinned is {expected}", file.display());
    Ok(())
}
