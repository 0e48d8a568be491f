//! The cache directory: what set-up makes once, each product with a stamp that says by which recipe it was made.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};

const DEFAULT: &str = "/var/cache/elsewhere";

/// `ELSEWHERE_CACHE`, or /var/cache/elsewhere.
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// Opens the cache, making its directory.
    pub fn open() -> Result<Self> {
        let root = std::env::var_os("ELSEWHERE_CACHE").map_or_else(|| PathBuf::from(DEFAULT), PathBuf::from);
        fs::create_dir_all(root.join("stamps"))
            .with_context(|| format!("make the cache directory {} (set-up runs as root)", root.display()))?;
        Ok(Self { root })
    }

    /// A path inside the cache.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// Makes a product, or finds that it was already made by this recipe. `recipe` names every input that matters.
    pub fn step(
        &self,
        name: &str,
        recipe: &str,
        products: &[&str],
        make: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let stamp = self.root.join("stamps").join(name);
        let made = fs::read_to_string(&stamp).is_ok_and(|text| text == recipe);
        if made && products.iter().all(|product| self.path(product).exists()) {
            println!("  {name:<20} there already");
            return Ok(());
        }
        println!("  {name:<20} ...");
        let started = Instant::now();
        make().with_context(|| format!("set-up step {name}"))?;
        fs::write(&stamp, recipe).with_context(|| format!("write {}", stamp.display()))?;
        println!("  {name:<20} made in {:.1} s", started.elapsed().as_secs_f64());
        Ok(())
    }

    /// An empty directory to work in, below the cache so that renames stay on one file system.
    pub fn scratch(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join("scratch").join(name);
        remove(&path)?;
        fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(path)
    }

    /// Held while set-up runs: two set-ups at once wait for each other.
    pub fn lock(&self) -> Result<File> {
        let path = self.root.join("lock");
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        if file.try_lock().is_err() {
            println!("  waiting for another set-up that holds {}", path.display());
            file.lock().with_context(|| format!("lock {}", path.display()))?;
        }
        Ok(file)
    }
}

/// Removes a file or a tree; nothing there is fine.
pub fn remove(path: &Path) -> Result<()> {
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("look at {}", path.display())),
    };
    if found.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
        .with_context(|| format!("remove {}", path.display()))
}

/// Puts a finished product in its place in one step.
pub fn replace(from: &Path, to: &Path) -> Result<()> {
    remove(to)?;
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    }
    fs::rename(from, to).with_context(|| format!("rename {} to {}", from.display(), to.display()))
}
