//! Set-up: everything that the demo and the tests need beside Rust, made once into the cache directory.

pub mod debian;
mod host;
mod jaeger;
mod machine;
mod roots;
mod sources;

use anyhow::Result;

use crate::cache::Cache;
pub use roots::NixVersion;

/// Does all steps, or finds them done. Needs root, a Debian-like host and its package registries.
pub fn run() -> Result<()> {
    let cache = Cache::open()?;
    let _lock = cache.lock()?;
    println!("set-up into {}", cache.path("").display());
    host::install()?;
    host::rust_targets()?;
    let jaeger = jaeger::start_build(&cache)?;
    debian::qemu(&cache)?;
    debian::busybox(&cache)?;
    sources::fetch(&cache)?;
    roots::make(&cache)?;
    jaeger::finish_build(&cache, jaeger)
}

/// The virtual machine of the tier `long`: Debian's kernel and a root for it.
pub fn machine() -> Result<()> {
    let cache = Cache::open()?;
    let _lock = cache.lock()?;
    host::install_for_machine()?;
    machine::make(&cache)
}

/// Roots with other versions of real Nix: the ordinary set-up does without them.
pub fn old_nix(versions: &[NixVersion]) -> Result<()> {
    let cache = Cache::open()?;
    let _lock = cache.lock()?;
    roots::make_old(&cache, versions)
}
