//! The command line: `elsewhere build`, `attach`, `cancel`.

mod build;
mod dependents;
mod follow;
mod session;

use crate::config::{Config, Homes, Overrides};
use crate::stdio;
use crate::ui::{Listener, Ui, UiOptions};
use clap::{Args, Parser, Subcommand};
use session::Session;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Builds Nix derivations somewhere else.
///
/// Hands a whole build plan to an Elsewhere cluster, follows it, and imports the results into this machine's Nix store
/// through its nix-daemon. Needs no rights but those of an ordinary user; the cluster's public key must be one of
/// `trusted-public-keys` in /etc/nix/nix.conf.
#[derive(Debug, Parser)]
#[command(name = "elsewhere", version)]
struct CommandLine {
    #[command(flatten)]
    overrides: Overrides,
    /// Never a display that moves, even on a terminal
    #[arg(long, global = true)]
    plain: bool,
    /// Errors and results only
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Say more, and how much memory was used at most
    #[arg(long, short, global = true)]
    verbose: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build derivations, or attributes of a Nix file, and link to the results
    Build(BuildArguments),
    /// Follow a plan that was left running, and import its results
    Attach(PlanArgument),
    /// End a plan at the cluster
    Cancel(PlanArgument),
    /// Build for unmodified Nix, which starts this itself
    ///
    /// In the board's nix.conf:
    ///
    ///     builders = ssh-ng://localhost?remote-program=/path/to/elsewhere%20nix-stdio aarch64-linux,x86_64-linux - 8 1 big-parallel,benchmark -
    ///     builders-use-substitutes = true
    #[command(verbatim_doc_comment)]
    NixStdio(StdioArguments),
}

/// Arguments of `build`.
#[derive(Debug, Args)]
struct BuildArguments {
    /// Derivations (DRV, DRV!out,dev or DRV^*; output `out` if none is named), or Nix files (default: ./default.nix)
    #[arg(value_name = "DRV|FILE")]
    arguments: Vec<OsString>,
    /// Attribute of the Nix files to build
    #[arg(long = "attr", short = 'A', value_name = "ATTR")]
    attributes: Vec<OsString>,
    /// Pass a Nix expression as an argument of the file's function
    #[arg(long, num_args = 2, value_names = ["NAME", "EXPRESSION"], action = clap::ArgAction::Append)]
    arg: Vec<OsString>,
    /// Pass a string as an argument of the file's function
    #[arg(long, num_args = 2, value_names = ["NAME", "STRING"], action = clap::ArgAction::Append)]
    argstr: Vec<OsString>,
    /// Add to Nix's search path
    #[arg(short = 'I', value_name = "PATH", action = clap::ArgAction::Append)]
    include: Vec<OsString>,
    /// Set an option of Nix for the instantiation
    #[arg(long, num_args = 2, value_names = ["NAME", "VALUE"], action = clap::ArgAction::Append)]
    option: Vec<OsString>,
    /// Name of the links to the results
    #[arg(long, short = 'o', value_name = "LINK", default_value = "result", conflicts_with = "no_out_link")]
    out_link: PathBuf,
    /// Make no links: the results can be collected at any time
    #[arg(long)]
    no_out_link: bool,
    /// Show build logs as they come
    #[arg(long, short = 'L')]
    log: bool,
    /// Hand the plan over, print its name and leave; `elsewhere attach` fetches the results
    #[arg(long)]
    detach: bool,
}

/// Arguments of `attach` and `cancel`.
#[derive(Debug, Args)]
struct PlanArgument {
    /// Name of the plan, as `build` said it
    plan: String,
    /// Show build logs as they come
    #[arg(long, short = 'L')]
    log: bool,
}

/// Arguments of `nix-stdio`.
#[derive(Debug, Args)]
struct StdioArguments {
    /// Nix adds it to every program that it talks to
    #[arg(long, hide = true)]
    stdio: bool,
}

/// Parses the command line, does what it says, and gives the exit code.
pub fn main() -> ExitCode {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            let _closed_output = error.print();
            return ExitCode::from(if error.use_stderr() { crate::exit::OTHER } else { 0 });
        }
    };
    let (logs, is_stdio) = match &line.action {
        Action::Build(arguments) => (arguments.log, false),
        Action::Attach(argument) | Action::Cancel(argument) => (argument.log, false),
        Action::NixStdio(_) => (false, true),
    };
    // What Nix shows it gets through the protocol.
    let (quiet, plain) = (line.quiet || is_stdio, line.plain || is_stdio);
    let ui = Ui::new(UiOptions { logs, quiet, plain, for_nix: is_stdio });
    let code = match run(line, &ui) {
        Ok(code) => code,
        Err(error) => {
            ui.error(error.as_ref());
            crate::exit::OTHER
        }
    };
    ExitCode::from(code)
}

fn run(line: CommandLine, ui: &Ui) -> anyhow::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let reports_memory = line.verbose || std::env::var_os("ELSEWHERE_REPORT_MEMORY").is_some();
    let filter = if line.verbose { "info" } else { "warn" };
    let result = runtime.block_on(async {
        let settings = node::telemetry::Settings::from_environment(filter);
        let exports = settings.collector.is_some() || settings.span_file.is_some();
        let telemetry = node::telemetry::init("elsewhere", settings)?;
        let result = session::traced(exports, ui, act(line, ui)).await;
        telemetry.shutdown().await;
        result
    });
    // A thread that reads the terminal cannot be waited for.
    runtime.shutdown_timeout(Duration::ZERO);
    if reports_memory {
        ui.memory(session::peak_memory());
    }
    result
}

async fn act(line: CommandLine, ui: &Ui) -> anyhow::Result<u8> {
    let config = crate::config::load(&line.overrides, &Homes::from_environment())?;
    act_with(config, line.action, ui).await
}

/// Does what the words of a command line say, in the caller's runtime, and gives the exit code; for programs that have a
/// network and boards of their own. The listener hears what a user would see.
///
/// # Errors
/// The words are no command line of ours.
pub async fn perform(config: Config, words: &[&str], listener: Listener) -> Result<u8, clap::Error> {
    let line = CommandLine::try_parse_from(std::iter::once(&"elsewhere").chain(words))?;
    let logs = matches!(&line.action, Action::Build(BuildArguments { log: true, .. }));
    let options = UiOptions { logs, quiet: line.quiet, plain: true, for_nix: false };
    let ui = Ui::to(listener, options);
    Ok(act_with(config, line.action, &ui).await.unwrap_or_else(|error| {
        ui.error(error.as_ref());
        crate::exit::OTHER
    }))
}

async fn act_with(config: Config, action: Action, ui: &Ui) -> anyhow::Result<u8> {
    let session = Session::open(config, ui)?;
    match action {
        Action::Build(arguments) => build::build(&session, arguments).await,
        Action::Attach(argument) => build::attach(&session, &argument.plan, argument.log).await,
        Action::Cancel(argument) => build::cancel(&session, &argument.plan).await,
        Action::NixStdio(StdioArguments { stdio: _ }) => {
            stdio::serve(&session.coordinator, &session.board, ui).await.map(|()| 0)
        }
    }
}
