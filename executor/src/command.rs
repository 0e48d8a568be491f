//! The command line of `elsewhere-executor`.
use crate::config::Config;
use crate::{platform, run};
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use node::shutdown::Shutdown;
use node::telemetry;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Builds Nix derivations for an Elsewhere coordinator, without Nix.
///
/// It dials the coordinator named in its configuration, advertises the platforms that it has just proven, and serves
/// the outputs it built. SIGTERM drains: no new builds, running ones are finished, and it leaves when nothing it holds
/// is needed any more. A second SIGTERM stops at once.
#[derive(Debug, Parser)]
#[command(name = "elsewhere-executor", version)]
struct CommandLine {
    #[command(flatten)]
    configured: Configured,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Args)]
struct Configured {
    /// Configuration file (TOML).
    #[arg(
        long,
        global = true,
        env = "ELSEWHERE_EXECUTOR_CONFIG",
        default_value = "/etc/elsewhere/executor.toml"
    )]
    config: PathBuf,
    /// `host:port` of the coordinator, instead of the configured one.
    #[arg(long, global = true, env = "ELSEWHERE_COORDINATOR")]
    coordinator: Option<String>,
    /// Address to serve outputs on, instead of the configured one.
    #[arg(long, global = true, env = "ELSEWHERE_DATA_LISTEN")]
    data_listen: Option<SocketAddr>,
    /// Directory of store, builds and results, instead of the configured one.
    #[arg(long, global = true, env = "ELSEWHERE_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Builds at once, instead of the configured number.
    #[arg(long, global = true, env = "ELSEWHERE_SLOTS")]
    slots: Option<u32>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Take leases and build (the default).
    Run,
    /// Print which platforms would be offered and which not, and why; fail if there are none.
    SelfTest,
    /// Write the self-contained interpreter of a static qemu-user, to be registered elsewhere.
    Interpreter {
        /// The static qemu-user.
        #[arg(long)]
        qemu: PathBuf,
        /// The system that it emulates.
        #[arg(long, default_value = "aarch64-linux")]
        system: String,
        /// The processor model that it shall always emulate; by default the one that executors take for that system.
        #[arg(long)]
        cpu: Option<String>,
        /// Where to write it.
        #[arg(long)]
        output: PathBuf,
    },
}

impl Configured {
    fn load(self) -> anyhow::Result<Config> {
        let mut config: Config = node::config::load(&self.config)?;
        config.coordinator = self.coordinator.unwrap_or(config.coordinator);
        config.data_listen = self.data_listen.unwrap_or(config.data_listen);
        config.state_dir = self.state_dir.unwrap_or(config.state_dir);
        config.slots = self.slots.or(config.slots);
        // Sandboxes are described by absolute paths.
        config.state_dir = std::path::absolute(&config.state_dir).context("find the state directory")?;
        Ok(config)
    }
}

/// Reads the command line and does what it says.
///
/// # Errors
/// Whatever kept it from being done.
pub fn main() -> anyhow::Result<()> {
    let line = CommandLine::parse();
    if let Some(Action::Interpreter { qemu, system, cpu, output }) = line.action {
        let cpu = cpu.or_else(|| platform::usual_model(&system).map(str::to_owned));
        let cpu =
            cpu.with_context(|| format!("no processor model is known for {system}: name one by --cpu"))?;
        return platform::self_contained_file(&qemu, &cpu, &output).map_err(anyhow::Error::msg);
    }
    let config = line.configured.load()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    runtime.block_on(async {
        match line.action {
            Some(Action::SelfTest) => self_test(&config).await,
            _ => {
                let settings = telemetry::Settings::from_environment("info");
                let guard = telemetry::init("elsewhere-executor", settings).context("set up telemetry")?;
                let result = run::run(config, Shutdown::listen(None)?).await;
                guard.shutdown().await;
                result
            }
        }
    })
}

async fn self_test(config: &Config) -> anyhow::Result<()> {
    let capability = run::prove(config).await.capability;
    let mut text = String::new();
    for offer in &capability.offers {
        text.push_str(&format!("offered   {}: {}\n", offer.platform, offer.detail));
    }
    for withheld in &capability.withheld {
        text.push_str(&format!("withheld  {}: {}\n", withheld.platform, withheld.reason));
    }
    text.push_str(&format!("features  {}\nslots     {}\n", capability.features.join(" "), capability.slots));
    std::io::stdout().write_all(text.as_bytes()).context("print the result")?;
    anyhow::ensure!(!capability.offers.is_empty(), "no platform can be offered");
    Ok(())
}
