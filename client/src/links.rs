//! `./result`: links to the outputs, each a root of the garbage collector.
use crate::board::Daemon;
use model::StorePath;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a link was not made.
#[derive(Debug, Error)]
pub enum Error {
    /// Something else has that name.
    #[error("cannot create symlink '{}'; already exists", link.display())]
    Occupied {
        /// The link.
        link: PathBuf,
    },
    /// The file system refused.
    #[error("make the link {}", link.display())]
    File {
        /// The link.
        link: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A daemon takes paths as text.
    #[error("the path of the link {} is not UTF-8", link.display())]
    NotText {
        /// The link.
        link: PathBuf,
    },
    /// The board's daemon refused.
    #[error(transparent)]
    Daemon(#[from] nix_daemon::Error),
}

/// Links to an output and registers the link. Only a link into the store is replaced.
pub async fn link(daemon: &mut Daemon, link: &Path, output: &StorePath) -> Result<(), Error> {
    let text = link.to_str().ok_or_else(|| Error::NotText { link: link.to_owned() })?;
    make(link, output)?;
    daemon.add_indirect_root(text).await?;
    Ok(())
}

fn make(link: &Path, output: &StorePath) -> Result<(), Error> {
    let failed = |source| Error::File { link: link.to_owned(), source };
    match fs::symlink_metadata(link) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(directory) = link.parent() {
                fs::create_dir_all(directory).map_err(failed)?;
            }
        }
        Err(error) => return Err(failed(error)),
        Ok(_) if fs::read_link(link).is_ok_and(|target| target.starts_with("/nix/store")) => {}
        Ok(_) => return Err(Error::Occupied { link: link.to_owned() }),
    }
    // Made beside it and renamed, so that there is a link at every moment.
    let mut name = link.file_name().map(ToOwned::to_owned).unwrap_or_default();
    name.push(format!(".tmp-{}", std::process::id()));
    let part = link.with_file_name(name);
    symlink(output.as_str(), &part).map_err(failed)?;
    fs::rename(&part, link).map_err(|source| {
        let _already_failed = fs::remove_file(&part);
        failed(source)
    })
}
