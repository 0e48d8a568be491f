//! The command line of `elsewhere-coordinator`.
use crate::config::Config;
use crate::run;
use anyhow::Context;
use clap::Parser;
use node::shutdown::Shutdown;
use node::telemetry;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// How long a stop may take before it is enforced.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Admits plans of boards, leases their tasks to executors, keeps what must survive in a journal, serves and signs the results.
///
/// It never builds. Boards (`elsewhere`) and executors (`elsewhere-executor`) connect to its one address with certificates
/// of one authority; `cargo xtask certs` makes them. A minimal configuration:
///
///     listen = "0.0.0.0:7420"
///     state_dir = "/var/lib/elsewhere"
///     signing_key = "/etc/elsewhere/nix.key"      # boards trust its public half
///     [tls]
///     authority = "/etc/elsewhere/ca.pem"
///     certificate = "/etc/elsewhere/coordinator.pem"
///     key = "/etc/elsewhere/coordinator.key"
///
/// SIGTERM stops it within seconds; plans, results and running builds are found again at the next start. SIGHUP reads the
/// certificates again. Logs go to standard error (ELSEWHERE_LOG filters them), spans to OTEL_EXPORTER_OTLP_ENDPOINT or to
/// the file ELSEWHERE_SPAN_FILE.
#[derive(Debug, Parser)]
#[command(name = "elsewhere-coordinator", version, verbatim_doc_comment)]
struct CommandLine {
    /// Configuration file (TOML).
    #[arg(long, env = "ELSEWHERE_COORDINATOR_CONFIG", default_value = "/etc/elsewhere/coordinator.toml")]
    config: PathBuf,
    /// Address to listen on, instead of the configured one.
    #[arg(long, env = "ELSEWHERE_LISTEN")]
    listen: Option<SocketAddr>,
    /// Directory of journal and content store, instead of the configured one.
    #[arg(long, env = "ELSEWHERE_STATE_DIR")]
    state_dir: Option<PathBuf>,
}

/// Reads the command line and runs the coordinator until it is told to stop.
///
/// # Errors
/// What kept it from running.
pub fn main() -> anyhow::Result<()> {
    let line = CommandLine::parse();
    let mut config: Config = node::config::load(&line.config)?;
    config.listen = line.listen.unwrap_or(config.listen);
    config.state_dir = line.state_dir.unwrap_or(config.state_dir);
    config.check().with_context(|| format!("use the configuration {}", line.config.display()))?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        let settings = telemetry::Settings::from_environment("info");
        let guard = telemetry::init("elsewhere-coordinator", settings).context("set up telemetry")?;
        let result = run::run(config, Shutdown::listen(Some(STOP_WAIT))?).await;
        guard.shutdown().await;
        result
    })
}
