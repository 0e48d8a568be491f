//! What every command has: configuration, channels, the board, the user.
use crate::board::Board;
use crate::config::Config;
use crate::remember::Plans;
use crate::rpc::Coordinator;
use crate::ui::Ui;
use node::tls::{ChannelSettings, ExpectedPeer, client_channel_lazy};
use tracing::Instrument;

/// What every command has.
pub(super) struct Session {
    pub(super) config: Config,
    pub(super) coordinator: Coordinator,
    pub(super) board: Board,
    pub(super) plans: Plans,
    pub(super) ui: Ui,
}

/// A board has little memory: what a peer may send ahead is memory here.
const STREAM_WINDOW_BYTES: u32 = 512 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

impl Session {
    /// Reads the certificate; connections are made with the first call.
    pub(super) fn open(config: Config, ui: &Ui) -> anyhow::Result<Self> {
        let channel = |settings| {
            client_channel_lazy(&config.coordinator, &config.tls, ExpectedPeer::coordinator(), settings)
        };
        let bulk = ChannelSettings {
            stream_window_bytes: STREAM_WINDOW_BYTES,
            connection_window_bytes: CONNECTION_WINDOW_BYTES,
            ..ChannelSettings::board_bulk()
        };
        let coordinator = Coordinator::over(channel(ChannelSettings::control())?, channel(bulk)?);
        let board = Board::at(config.daemon_socket.clone());
        let plans = Plans::below(&config.state_home);
        Ok(Self { coordinator, board, plans, ui: ui.clone(), config })
    }
}

/// Runs a command in the root span, below the trace that the environment names.
pub(super) async fn traced<T>(exports: bool, ui: &Ui, command: impl Future<Output = T>) -> T {
    let span = tracing::info_span!("elsewhere build");
    node::propagate::set_parent_from_environment(&span);
    let trace = span.in_scope(node::propagate::trace_id);
    let result = command.instrument(span).await;
    if exports && let Some(trace) = trace {
        ui.note(&format!("trace {trace}"));
    }
    result
}

/// Most memory that this process ever had, in kB, as the kernel says.
pub(super) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
