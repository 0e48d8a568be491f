//! The client on a board: run to its end, or started and watched; its peak memory read from outside.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::board::{BOARD_USER, Board, USER_ENVIRONMENT};
use crate::process::{Finished, Process, wait_until};

/// The client's configuration file on a board.
pub const CONFIGURATION: &str = "/etc/elsewhere/client.toml";

/// `elsewhere` as the board's ordinary user.
#[derive(Clone, Debug)]
pub struct Client<'a> {
    board: &'a Board,
    program: String,
    environment: Vec<(String, String)>,
}

/// One derivation's run, as the client announced it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The executor's name.
    pub executor: String,
    /// `native`, `cross` or `emulated`: the first word of the platform.
    pub platform: String,
}

impl<'a> Client<'a> {
    pub(crate) fn new(board: &'a Board, program: String, collector: Option<&str>) -> Self {
        let mut environment: Vec<(String, String)> =
            USER_ENVIRONMENT.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        environment.push(("ELSEWHERE_REPORT_MEMORY".into(), "1".into()));
        if let Some(collector) = collector {
            environment.push(("OTEL_EXPORTER_OTLP_ENDPOINT".into(), collector.to_owned()));
        }
        Self { board, program, environment }
    }

    /// The same with one more variable.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// It does not end within the limit; an exit code is no error here.
    pub fn run(&self, limit: Duration, arguments: &[&str]) -> Result<Finished> {
        let (argv, environment) = self.words(arguments);
        self.board.host.exec_within(limit, BOARD_USER, &argv, &environment)
    }

    /// Starts a command; both its outputs go to the log of that name.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        let (argv, environment) = self.words(arguments);
        self.board.host.service(BOARD_USER, name, &argv, &environment)
    }

    /// Starts a command on a terminal of its own; what is written to [`Process::child`]'s input is typed there.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_on_terminal(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        let (argv, environment) = self.words(arguments);
        let line = format!("exec {}", argv.join(" "));
        // Output to a file as well, which is read here; the file that `script` itself would keep goes nowhere.
        let terminal = ["script", "--quiet", "--flush", "--return", "--command", &line, "/dev/null"];
        self.board.host.service_with_input(BOARD_USER, name, &terminal, &environment)
    }

    fn words<'b>(&'b self, arguments: &[&'b str]) -> (Vec<&'b str>, Vec<(&'b str, &'b str)>) {
        let mut argv = vec![self.program.as_str()];
        argv.extend(arguments);
        let environment = self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        (argv, environment.collect())
    }
}

/// What the client said about where derivations ran: name of the derivation to place, from its `building` lines.
#[must_use]
pub fn placements(said: &str) -> BTreeMap<String, Placed> {
    let placed = said.lines().filter_map(|line| {
        let (derivation, rest) = line.strip_prefix("building '")?.split_once("' on ")?;
        let (executor, platform) = rest.split_once(" (")?;
        let name = derivation.get("/nix/store/".len() + 33..)?.strip_suffix(".drv")?;
        let platform = platform.split(|letter: char| !letter.is_ascii_alphabetic()).next()?;
        Some((name.to_owned(), Placed { executor: executor.to_owned(), platform: platform.to_owned() }))
    });
    placed.collect()
}

/// Waits for words in a process's log, and gives the whole log.
///
/// # Errors
/// They do not come within the limit; the error has the log.
pub fn wait_for_words(process: &mut Process, limit: Duration, words: &str) -> Result<String> {
    let found = wait_until(&format!("the words {words:?}"), limit, || {
        let log = process.log()?;
        if log.contains(words) {
            return Ok(Some(log));
        }
        anyhow::ensure!(process.ended()?.is_none(), "it ended without the words {words:?}");
        Ok(None)
    });
    found.with_context(|| format!("its log:\n{}", process.log().unwrap_or_default()))
}
