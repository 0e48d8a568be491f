//! The board's own Nix: connections to its daemon, and the texts of its derivations.
use model::{StorePath, limits};
use nix_daemon::Connection;
use nix_formats::derivation::{Derivation, parse};
use nix_formats::nar::{Event, Tokenizer};
use nix_formats::store_path::StoreDir;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use thiserror::Error;
use tokio::net::UnixStream;

/// A connection to the board's daemon.
pub type Daemon = Connection<UnixStream>;

/// Why something of the board's store could not be read.
#[derive(Debug, Error)]
pub enum Error {
    /// The daemon, or the way to it.
    #[error(transparent)]
    Daemon(#[from] nix_daemon::Error),
    /// The file is there and cannot be read.
    #[error("read {path}")]
    File {
        /// The derivation.
        path: StorePath,
        /// Why.
        source: io::Error,
    },
    /// Not a derivation that can be built elsewhere.
    #[error("{path}: {problem}")]
    Derivation {
        /// The derivation.
        path: StorePath,
        /// What is wrong with it.
        problem: String,
    },
}

/// The board's store.
#[derive(Debug, Clone)]
pub struct Board {
    socket: PathBuf,
}

impl Board {
    /// The store behind a daemon's socket.
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// A new connection.
    pub async fn connect(&self) -> Result<Daemon, nix_daemon::Error> {
        Connection::open(&self.socket).await
    }

    /// The text of a derivation: from the file where it can be read, otherwise from the daemon.
    pub async fn derivation_text(&self, path: &StorePath) -> Result<Vec<u8>, Error> {
        let limit = limits::DERIVATION_BYTES_MAX as u64;
        let text = match File::open(path.as_str()) {
            Ok(file) => {
                let mut text = Vec::new();
                // Derivations are small files of the local disk: not worth a thread.
                #[expect(clippy::disallowed_methods, reason = "what is read is limited by take()")]
                let read = file.take(limit + 1).read_to_end(&mut text);
                read.map_err(|source| Error::File { path: path.clone(), source })?;
                text
            }
            // A board whose store is elsewhere, or that is not for everyone's eyes.
            Err(_) => self.derivation_from_daemon(path).await?,
        };
        if text.len() as u64 > limit {
            return Err(Error::Derivation {
                path: path.clone(),
                problem: format!("is larger than {limit} bytes"),
            });
        }
        Ok(text)
    }

    async fn derivation_from_daemon(&self, path: &StorePath) -> Result<Vec<u8>, Error> {
        let refuse = |problem: &str| Error::Derivation { path: path.clone(), problem: problem.to_owned() };
        let mut daemon = self.connect().await?;
        let mut export = daemon.nar_from_path(path.as_str()).await?;
        let mut tokenizer = Tokenizer::new();
        let mut text = Vec::new();
        let mut is_file = true;
        while let Some(chunk) = export.chunk().await? {
            let pushed = tokenizer.push(&chunk, |event| match event {
                Event::Contents(bytes) => text.extend_from_slice(bytes),
                Event::File { .. } | Event::FileEnd => {}
                _ => is_file = false,
            });
            pushed.map_err(|error| refuse(&error.to_string()))?;
            if !is_file {
                return Err(refuse("is not a file"));
            }
            if text.len() > limits::DERIVATION_BYTES_MAX {
                break;
            }
        }
        Ok(text)
    }

    /// A derivation.
    pub async fn derivation(&self, path: &StorePath) -> Result<Derivation, Error> {
        let text = self.derivation_text(path).await?;
        parse(&text, &StoreDir::default())
            .map_err(|error| Error::Derivation { path: path.clone(), problem: error.to_string() })
    }
}
