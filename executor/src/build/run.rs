//! Runs one sandbox through the launcher: feeds it the Spec, follows its log and its end, and ends it when asked or
//! when a limit is passed.
use super::clock::Clock;
use super::launcher::Launcher;
use super::log::{Piece, Splitter};
use crate::lease::Limits;
use sandbox::protocol::{self, Cause, EVENT_BYTES_MAX, End, Event, Finished, ProtocolError};
use sandbox::spec::Request;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use tokio::time::Instant;

/// Bytes of log read at once.
const LOG_READ_BYTES: usize = 16 << 10;
/// How long the launcher may take to end a sandbox and hand its files back.
const KILL_WAIT: Duration = Duration::from_secs(60);
/// A time that does not come.
const NEVER: Duration = Duration::from_secs(10 * 365 * 86_400);

/// How a builder ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// By itself.
    Exited(i32),
    /// By a signal.
    Signalled(i32),
    /// Killed: it wrote nothing for too long.
    SilentTooLong {
        /// The limit.
        limit_s: u64,
    },
    /// Killed: it took too long.
    TimedOut {
        /// The limit.
        limit_s: u64,
    },
    /// Killed: it wrote too much.
    LogTooLong {
        /// The limit.
        limit_bytes: u64,
    },
    /// Killed: there was no more memory for it.
    OutOfMemory {
        /// Its limit; none when the whole machine had no more.
        limit_bytes: Option<u64>,
    },
    /// Killed: the disk was nearly full.
    OutOfDisk {
        /// What was left.
        free_bytes: u64,
        /// What is to be left.
        reserve_bytes: u64,
    },
    /// Killed: nobody wants it.
    Cancelled,
}

/// Why there was no build to speak of: this executor's own trouble.
#[derive(Debug, Error)]
pub enum RunError {
    /// The launcher cannot be started.
    #[error("cannot start the launcher '{path}'", path = path.display())]
    Start {
        /// The launcher.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It cannot be spoken with.
    #[error("cannot speak with the launcher")]
    Protocol(#[from] ProtocolError),
    /// Its pipes broke.
    #[error("the pipes of the launcher broke")]
    Pipe(#[source] std::io::Error),
    /// It could not make the sandbox.
    #[error("cannot {step}{} for the sandbox: {message}", quoted(path))]
    Sandbox {
        /// What was attempted.
        step: String,
        /// On what.
        path: String,
        /// What happened.
        message: String,
    },
    /// It ended without a word.
    #[error("the launcher ended without saying how the build ended ({status}){words}")]
    Silent {
        /// Its own end.
        status: String,
        /// What it wrote instead of events.
        words: String,
    },
}

fn quoted(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!(" '{path}'") }
}

/// What ran.
#[derive(Debug)]
pub struct Run {
    /// How it ended.
    pub ended: Ended,
    /// What it used; `None` when the launcher was killed too.
    pub finished: Option<Finished>,
    /// An object in an output that the build's user does not own: the output's host path and the path in it.
    pub foreign: Option<(String, String)>,
}

/// Takes the log. Waiting here holds the build up: that is the back-pressure.
pub trait LogSink {
    /// The next piece.
    fn piece(&mut self, piece: Piece) -> impl Future<Output = ()> + Send;
}

/// Gives the request to the launcher that waits, or to a new one, and follows it to its end, or until `stop` says how it
/// ends.
///
/// # Errors
/// This executor's own trouble; what a build does is in the result.
pub async fn run(
    launcher: &Path,
    waiting: Option<Launcher>,
    request: &Request,
    limits: Limits,
    stop: impl Future<Output = Ended>,
    log: &mut impl LogSink,
) -> Result<Run, RunError> {
    let request = protocol::encode_request(request)?;
    tokio::pin!(stop);
    if let Some(waiting) = waiting {
        let followed = follow(waiting, &request, limits, stop.as_mut(), log).await?;
        if followed.events.taken || followed.stopped.is_some() {
            return followed.judge();
        }
        // Nothing was done for the build: a new one may have more luck, and if not, its reason is the build's.
        let reason = followed.judge().err().map(|error| node::exit::chain(&error));
        tracing::warn!(reason, "the launcher that waited is of no use: another one is started");
    }
    follow(Launcher::start(launcher)?, &request, limits, stop, log).await?.judge()
}

/// What a launcher did.
struct Followed {
    events: Events,
    stopped: Option<Ended>,
    /// Its own end; empty when its last event has told all there is to know.
    status: String,
}

async fn follow(
    launcher: Launcher,
    request: &[u8],
    limits: Limits,
    stop: impl Future<Output = Ended>,
    log: &mut impl LogSink,
) -> Result<Followed, RunError> {
    let Launcher { mut child, mut stdin, stdout, stderr } = launcher;
    // A launcher that dies early breaks the pipe; its events say more than that.
    let _ = stdin.write_all(request).await;
    let mut following = Following {
        stdin: Some(stdin),
        log_bytes: 0,
        splitter: Splitter::default(),
        stopped: None,
        log_bytes_max: limits.log_bytes_max,
        clock: Clock::new(limits),
        give_up: None,
    };
    let mut events = Events::default();
    following.follow(stdout, stderr, stop, log, &mut events).await?;
    let Following { stopped, give_up, .. } = following;
    if events.finished.is_some() {
        // All that is left is its own end, for which nobody need wait.
        node::task::spawn("end of a launcher", async move {
            if let Err(error) = end(&mut child, false).await {
                tracing::warn!(error = node::exit::chain(&error), "a launcher's end was not seen");
            }
        });
        return Ok(Followed { events, stopped, status: String::new() });
    }
    let gave_up = give_up.is_some_and(|time| time <= Instant::now());
    let status = end(&mut child, gave_up).await?.to_string();
    Ok(Followed { events, stopped, status })
}

/// Waits for the launcher's own end.
async fn end(child: &mut Child, gave_up: bool) -> Result<std::process::ExitStatus, RunError> {
    if !gave_up && let Ok(status) = tokio::time::timeout(KILL_WAIT, child.wait()).await {
        return status.map_err(RunError::Pipe);
    }
    child.kill().await.map_err(RunError::Pipe)?;
    child.wait().await.map_err(RunError::Pipe)
}

struct Following {
    /// Open as long as the sandbox may run.
    stdin: Option<ChildStdin>,
    log_bytes: u64,
    splitter: Splitter,
    stopped: Option<Ended>,
    log_bytes_max: Option<u64>,
    clock: Clock,
    /// When a launcher that was told to stop is killed.
    give_up: Option<Instant>,
}

impl Following {
    async fn follow(
        &mut self,
        mut stdout: ChildStdout,
        stderr: ChildStderr,
        stop: impl Future<Output = Ended>,
        log: &mut impl LogSink,
        events: &mut Events,
    ) -> Result<(), RunError> {
        tokio::pin!(stop);
        let mut lines = BufReader::new(stderr);
        let mut line = Vec::new();
        let mut buffer = vec![0; LOG_READ_BYTES];
        let (mut log_open, mut events_open) = (true, true);
        while log_open || (events_open && events.finished.is_none()) {
            tokio::select! {
                count = stdout.read(&mut buffer), if log_open => match count.map_err(RunError::Pipe)? {
                    0 => log_open = false,
                    count => self.output(&buffer[..count], log).await,
                },
                read = read_line(&mut lines, &mut line), if events_open => {
                    events_open = read.map_err(RunError::Pipe)?;
                    if events_open {
                        events.take(&line);
                        line.clear();
                    }
                },
                ended = &mut stop, if self.stopped.is_none() => self.stop(ended),
                () = tokio::time::sleep_until(self.next_limit()) => {
                    if self.give_up.is_some() {
                        break;
                    }
                    self.limit_passed();
                },
            }
        }
        for piece in self.splitter.finish() {
            log.piece(piece).await;
        }
        Ok(())
    }

    async fn output(&mut self, bytes: &[u8], log: &mut impl LogSink) {
        if self.stopped.is_some() {
            return;
        }
        self.log_bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if let Some(limit_bytes) = self.log_bytes_max.filter(|limit| self.log_bytes > *limit) {
            return self.stop(Ended::LogTooLong { limit_bytes });
        }
        for piece in self.splitter.push(bytes) {
            log.piece(piece).await;
        }
        // After the sink took it: the time that we were waiting for others is not the build's silence.
        self.clock.heard();
    }

    /// Closes the launcher's stdin, which kills the sandbox.
    fn stop(&mut self, ended: Ended) {
        self.stopped = Some(ended);
        self.stdin = None;
        self.give_up = Some(Instant::now() + KILL_WAIT);
    }

    fn next_limit(&self) -> Instant {
        self.give_up.or(self.clock.next()).unwrap_or_else(|| Instant::now() + NEVER)
    }

    fn limit_passed(&mut self) {
        if let Some(ended) = self.clock.passed() {
            self.stop(ended);
        }
    }
}

/// Reads one line of bounded length; says whether there was one.
async fn read_line(lines: &mut BufReader<ChildStderr>, line: &mut Vec<u8>) -> std::io::Result<bool> {
    // Cancel-safe: what was read so far stays in `line`.
    let room = (EVENT_BYTES_MAX + 1).saturating_sub(line.len());
    let mut bounded = lines.take(u64::try_from(room).unwrap_or(0));
    bounded.read_until(b'\n', line).await?;
    Ok(!line.is_empty())
}

/// What the launcher said.
#[derive(Default)]
struct Events {
    /// A launcher that waited has the request.
    taken: bool,
    finished: Option<Finished>,
    reclaimed: bool,
    failed: Option<RunError>,
    foreign: Option<(String, String)>,
    /// Lines that are no events: a panic, a dynamic linker's complaint.
    words: String,
}

impl Events {
    fn take(&mut self, line: &[u8]) {
        match protocol::parse_event(line) {
            Ok(Event::Taken) => self.taken = true,
            Ok(Event::Started { pid, setup_microseconds }) => {
                tracing::debug!(pid, setup_microseconds, "the sandbox runs");
            }
            Ok(Event::ForeignOwner { tree, path }) => self.foreign = Some((tree, path)),
            Ok(Event::Reclaimed) => self.reclaimed = true,
            Ok(Event::Finished(finished)) => self.finished = Some(finished),
            Ok(Event::Failed { step, path, message }) => {
                self.failed = Some(RunError::Sandbox { step, path, message });
            }
            Err(_) if self.words.len() < 4096 => {
                self.words.push_str(if self.words.is_empty() { ": " } else { "; " });
                self.words.push_str(String::from_utf8_lossy(&line[..line.len().min(1024)]).trim());
            }
            Err(_) => {}
        }
    }
}

impl Followed {
    fn judge(self) -> Result<Run, RunError> {
        let Self { events, stopped, status } = self;
        let Events { finished, reclaimed, failed, foreign, words, .. } = events;
        let ended = match (stopped, &finished, failed) {
            (Some(ended), _, _) => ended,
            (None, _, Some(failed)) => return Err(failed),
            (None, Some(Finished { end: End::Exit(status), cause: Cause::Itself, .. }), None) => {
                Ended::Exited(*status)
            }
            (None, Some(Finished { end: End::Signal(signal), .. }), None) => Ended::Signalled(*signal),
            // It closed its log: Nix kills it.
            (None, Some(_), None) => Ended::Signalled(9),
            (None, None, None) if reclaimed => Ended::Exited(0),
            (None, None, None) => return Err(RunError::Silent { status, words }),
        };
        Ok(Run { ended, finished, foreign })
    }
}
