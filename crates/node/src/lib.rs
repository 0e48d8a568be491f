//! What surrounds the work of every process: configuration, TLS, tower layers, telemetry, tasks, stopping.

pub mod backoff;
pub mod config;
pub mod exit;
pub mod layers;
pub mod net;
pub mod propagate;
pub mod shutdown;
pub mod task;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;
