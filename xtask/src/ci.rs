//! `cargo xtask ci`: all that must be green before a change lands. `.ci/run` calls it and nothing else.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::cache::Cache;
use crate::command::{capture, command, run};
use crate::{setup, test, tidy};

const DENY_VERSION: &str = "0.20.2";

/// Cheap checks first; the first failure ends it.
pub fn check() -> Result<()> {
    let started = Instant::now();
    let cargo = |arguments: &[&str]| {
        println!("\n== cargo {}", arguments.join(" "));
        run(command("cargo", arguments).current_dir(crate::repository()))
    };
    cargo(&["fmt", "--all", "--check"])?;
    // Compilers for C sources of dependencies come with set-up: before anything is compiled.
    setup::run()?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    println!("\n== tidy");
    tidy::run()?;
    println!("\n== cargo deny");
    run(&mut deny()?)?;
    println!("\n== test");
    test::run(&test::Request { long: false, filter: None })?;
    println!("\nci: green in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// cargo-deny, built once into the cache from the registry.
fn deny() -> Result<Command> {
    let cache = Cache::open()?;
    cache.step("cargo-deny", DENY_VERSION, &["cargo-deny/bin/cargo-deny"], || {
        let (root, target) = (cache.path("cargo-deny"), cache.scratch("cargo-deny")?);
        // A debug build without the advisory database's transports: it checks one lock file, and compiles in half the time.
        let mut install =
            command("cargo", &["install", "cargo-deny", "--locked", "--debug", "--quiet", "--force"]);
        install.args(["--version", &format!("={DENY_VERSION}"), "--no-default-features", "--root"]).arg(root);
        // Outside the repository, whose pinned toolchain and settings are not meant for it.
        install.env("CARGO_TARGET_DIR", &target).current_dir(cache.path(""));
        capture(&mut install)?;
        crate::cache::remove(&target)
    })?;
    let program = cache.path("cargo-deny/bin/cargo-deny");
    let mut check =
        command(program.to_str().context("name cargo-deny's path in UTF-8")?, &["--all-features", "check"]);
    check.args(["licenses", "bans", "sources"]).current_dir(crate::repository());
    Ok(check)
}
