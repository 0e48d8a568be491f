//! What `cargo xtask setup` made: roots, qemu, shells, Jaeger. A missing product fails the test and says how to make it.

use std::path::PathBuf;

use anyhow::{Result, ensure};

/// The cache directory: `ELSEWHERE_CACHE`, or /var/cache/elsewhere.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Default for Cache {
    fn default() -> Self {
        let root = std::env::var_os("ELSEWHERE_CACHE");
        Self { root: root.map_or_else(|| PathBuf::from("/var/cache/elsewhere"), PathBuf::from) }
    }
}

impl Cache {
    /// A product of set-up.
    ///
    /// # Errors
    /// It was not made yet.
    pub fn product(&self, relative: &str) -> Result<PathBuf> {
        let path = self.root.join(relative);
        ensure!(path.exists(), "{} is missing: run `cargo xtask setup` (as root)", path.display());
        Ok(path)
    }

    /// Where runs have their directories: on the cache's file system, whose parents any user may pass.
    #[must_use]
    pub fn runs(&self) -> PathBuf {
        self.root.join("runs")
    }
}
