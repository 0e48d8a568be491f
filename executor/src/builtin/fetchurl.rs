//! `builtin:fetchurl`: one URL becomes the fixed output, as a file or as the tree that its archive describes.
use super::control::Control;
use super::download::{Downloader, refused};
use super::receive::{Chunk, Chunks, Target, make_executable, too_large};
use super::{Stop, Task};
use crate::blocking::blocking;
use crate::build::failure::failure;
use crate::build::log::Piece;
use crate::build::run::LogSink;
use crate::tree;
use model::FailureClass;
use node::backoff::Backoff;
use reqwest::{Response, Url};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Chunks between the network and the disk.
const CHUNKS_IN_FLIGHT: usize = 8;
/// First and longest wait before a server is asked again.
const RETRY_WAITS: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(10)];
/// How often progress is shown.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Why one attempt did not succeed.
enum Attempt {
    Stop(Stop),
    /// The network's or the server's trouble.
    Refused {
        reason: String,
        may_pass: bool,
    },
}

impl From<Stop> for Attempt {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

/// Downloads what a derivation names.
pub async fn perform(task: &Task, downloader: &Downloader, control: &mut Control<'_>) -> Result<(), Stop> {
    if task.derivation.fixed_output().is_none() {
        return Err(Stop::Failed("'builtin:fetchurl' must be a fixed-output or impure derivation".into()));
    }
    let url = String::from_utf8_lossy(task.attribute("url")?).into_owned();
    let unpack = task.derivation.env_is_true("unpack");
    let target = Target {
        path: task.output.clone(),
        unpack,
        xz: unpack && url.ends_with(".xz"),
        bytes_max: downloader.settings().bytes_max,
    };
    let unable = |reason: String| Stop::Failed(format!("unable to download '{url}': {reason}"));
    let parsed = Url::parse(&url).map_err(|error| unable(error.to_string()))?;
    match parsed.scheme() {
        "file" => from_inputs(task, &parsed, &target, control).await.map_err(|stop| named(stop, unable))?,
        "http" | "https" if !task.has_network => {
            let message = "this executor gives fixed outputs no network (`sandbox.fixed_output_network`)";
            return Err(Stop::Own(failure(FailureClass::Infrastructure, message)));
        }
        "http" | "https" => retried(&parsed, &url, &target, downloader, control).await?,
        other => {
            return Err(unable(format!("scheme '{other}' is not supported here: http, https and file are")));
        }
    }
    if task.derivation.env_is_true("executable") {
        let path = target.path.clone();
        blocking(move || make_executable(&path)).await?;
    }
    Ok(())
}

/// A failure says what could not be downloaded.
fn named(stop: Stop, unable: impl Fn(String) -> Stop) -> Stop {
    match stop {
        Stop::Failed(reason) => unable(reason),
        other => other,
    }
}

/// A `file:` URL names something among the inputs: the executor's own files are nobody's business.
async fn from_inputs(task: &Task, url: &Url, target: &Target, control: &mut Control<'_>) -> Result<(), Stop> {
    let path = url.to_file_path().map_err(|()| Stop::Failed("it names another host".into()))?;
    let (view, target) = (task.view.clone(), target.clone());
    let (bell, warnings) = control.aside();
    let copying = blocking(move || {
        // In curl's words, as Nix repeats them: what is no input does not exist.
        let missing = "Could not read a file:// file (37) Could not open file";
        let found = view.find(&path).ok().filter(|found| !found.is_directory);
        let found = found.ok_or_else(|| Stop::Failed(format!("{missing} {}", path.display())))?;
        let mut file = open(&found.host)?;
        let mut checked = Checked { file: &mut file, check: &|| bell.check().is_ok() };
        let received = target.receive(&mut checked);
        // Whoever rang the bell knows why.
        bell.check().and(received)
    });
    let (heard, copied) = tokio::join!(control.repeat(warnings), copying);
    heard.and(copied)
}

fn open(path: &Path) -> Result<std::fs::File, Stop> {
    std::fs::File::open(path).map_err(|error| Stop::disk("open", path, &error))
}

/// A file that stops being read when nobody wants it any more.
struct Checked<'a> {
    file: &'a mut std::fs::File,
    check: &'a dyn Fn() -> bool,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !(self.check)() {
            return Err(io::Error::other("the build was ended"));
        }
        self.file.read(buffer)
    }
}

async fn retried(
    url: &Url,
    shown: &str,
    target: &Target,
    downloader: &Downloader,
    control: &mut Control<'_>,
) -> Result<(), Stop> {
    let attempts_max = downloader.settings().attempts_max.max(1);
    let [first, longest] = RETRY_WAITS;
    let mut backoff = Backoff::new(first, longest, uuid::Uuid::new_v4().as_u64_pair().0);
    for attempt in 1..=attempts_max {
        let (reason, may_pass) = match once(url, target, downloader, control).await {
            Ok(()) => return Ok(()),
            Err(Attempt::Stop(stop)) => {
                return Err(named(stop, |reason| {
                    Stop::Failed(format!("unable to download '{shown}': {reason}"))
                }));
            }
            Err(Attempt::Refused { reason, may_pass }) => (reason, may_pass),
        };
        remove(target.path.clone()).await?;
        let unable = format!("unable to download '{shown}': {reason}");
        if !may_pass || attempt == attempts_max {
            return Err(Stop::Failed(unable));
        }
        let wait = backoff.next_wait();
        let then = format!("retrying in {} ms (attempt {attempt}/{attempts_max})", wait.as_millis());
        control.say(&format!("\x1b[35;1mwarning:\x1b[0m {unable}; {then}\n")).await?;
        control.wait(tokio::time::sleep(wait)).await?;
    }
    Ok(())
}

async fn remove(path: PathBuf) -> Result<(), Stop> {
    let removed = path.clone();
    let result = blocking(move || tree::remove(&removed)).await;
    result.map_err(|error| Stop::disk("remove", &path, &io::Error::other(error)))
}

/// Asks the server once and takes what it sends.
async fn once(
    url: &Url,
    target: &Target,
    downloader: &Downloader,
    control: &mut Control<'_>,
) -> Result<(), Attempt> {
    let opened = control.wait(downloader.open(url)).await?;
    let response =
        opened.map_err(|refused| Attempt::Refused { reason: refused.reason, may_pass: refused.may_pass })?;
    let (sender, receiver) = mpsc::channel(CHUNKS_IN_FLIGHT);
    let receiving = target.clone();
    let receiving = blocking(move || receiving.receive(&mut Chunks::new(receiver)));
    let (forwarded, received) = tokio::join!(forward(response, sender, target.bytes_max, control), receiving);
    // What happened on the network explains the cut-off file that follows from it.
    forwarded?;
    Ok(received?)
}

/// Passes a body on until its end, or until the receiver has enough of it.
async fn forward(
    mut response: Response,
    sender: mpsc::Sender<Chunk>,
    bytes_max: u64,
    control: &mut Control<'_>,
) -> Result<(), Attempt> {
    let (total, mut size) = (response.content_length(), 0u64);
    let mut shown = Instant::now();
    loop {
        let chunk = control.wait(response.chunk()).await?.map_err(|error| {
            let refused = refused(&error);
            Attempt::Refused { reason: refused.reason, may_pass: refused.may_pass }
        })?;
        let Some(chunk) = chunk else { break };
        size = size.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
        if size > bytes_max {
            return Err(too_large(bytes_max).into());
        }
        if control.wait(sender.send(Chunk::Bytes(chunk))).await?.is_err() {
            return Ok(());
        }
        if shown.elapsed() >= PROGRESS_INTERVAL {
            shown = Instant::now();
            control.piece(Piece::Phase(progress(size, total))).await;
        }
    }
    // A receiver that has gone has said why.
    let _gone = control.wait(sender.send(Chunk::End)).await?;
    Ok(())
}

fn progress(size: u64, total: Option<u64>) -> String {
    let mib = |bytes: u64| format!("{}.{}", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20);
    match total {
        Some(total) => format!("{} of {} MiB", mib(size), mib(total)),
        None => format!("{} MiB", mib(size)),
    }
}
