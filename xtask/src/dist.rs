//! `cargo xtask dist`: the released programs in one tarball.

use std::fs;

use anyhow::{Context, Result};

use crate::command::{capture, command, run};

/// The board's client: static, for both architectures.
const CLIENT_TARGETS: &[&str] = &["aarch64-unknown-linux-musl", "x86_64-unknown-linux-musl"];
/// A cluster's programs, for this machine's architecture: package and binary.
const CLUSTER: &[(&str, &str)] = &[
    ("coordinator", "elsewhere-coordinator"),
    ("executor", "elsewhere-executor"),
    ("sandbox", "elsewhere-launcher"),
];

/// Builds with profile `dist` and packs `target/dist/elsewhere-VERSION.tar.zst`.
pub fn make() -> Result<()> {
    let root = crate::repository();
    let cargo = |arguments: &[&str]| run(command("cargo", arguments).current_dir(&root));
    for target in CLIENT_TARGETS {
        println!("dist: client for {target}");
        cargo(&["build", "--profile", "dist", "-p", "client", "--bin", "elsewhere", "--target", target])?;
    }
    println!("dist: coordinator, executor, launcher");
    let mut arguments = vec!["build", "--profile", "dist"];
    for (package, binary) in CLUSTER {
        arguments.extend(["-p", package, "--bin", binary]);
    }
    cargo(&arguments)?;

    let built = crate::target_directory();
    let name = format!("elsewhere-{}", env!("CARGO_PKG_VERSION"));
    let directory = built.join("dist").join(&name);
    crate::cache::remove(&directory)?;
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let copy = |from: std::path::PathBuf, to: &str| {
        fs::copy(&from, directory.join(to))
            .with_context(|| format!("copy {} into the distribution", from.display()))
    };
    for target in CLIENT_TARGETS {
        copy(built.join(target).join("dist/elsewhere"), &format!("elsewhere-{target}"))?;
    }
    for (_, binary) in CLUSTER {
        copy(built.join("dist").join(binary), binary)?;
    }
    for document in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
        copy(root.join(document), document)?;
    }
    let archive = built.join("dist").join(format!("{name}.tar.zst"));
    let (parent, file) = (built.join("dist"), archive.to_string_lossy().into_owned());
    capture(
        command(
            "tar",
            &["--zstd", "--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-cf", &file, &name],
        )
        .current_dir(parent),
    )?;
    println!("{}: {} bytes", archive.display(), archive.metadata()?.len());
    Ok(())
}
