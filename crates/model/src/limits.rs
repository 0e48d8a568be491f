//! Limits that both ends of the wire keep to, with their units in their names.

/// Version of the protocol that this build speaks; sent in every hello and in `Submit`.
pub const PROTOCOL_VERSION: u32 = 1;
/// Oldest version that this build still understands.
pub const PROTOCOL_VERSION_MIN: u32 = 1;
/// Largest control message, in bytes (a lease with a closure of ten thousand paths).
pub const CONTROL_MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Largest NAR chunk to and from a board, in bytes.
pub const BOARD_CHUNK_BYTES_MAX: usize = 64 << 10;
/// Largest NAR chunk between hosts of the cluster, in bytes.
pub const CLUSTER_CHUNK_BYTES_MAX: usize = 256 << 10;
/// Largest derivation text, in bytes (real ones reach a few hundred kilobytes; an environment of 2 MiB is what the kernel takes).
pub const DERIVATION_BYTES_MAX: usize = 4 << 20;
/// Paths that an executor may ask to drop in one message.
pub const DROPS_ASKED_MAX: usize = 256;
/// Paths that an executor is told to fetch ahead in one message.
pub const PREFETCHED_INPUTS_MAX: usize = 256;
/// Derivations in one plan.
pub const PLAN_DERIVATIONS_MAX: usize = 200_000;
/// Wanted outputs of one plan.
pub const PLAN_ROOTS_MAX: usize = 10_000;
/// Largest NAR, in bytes.
pub const NAR_BYTES_MAX: u64 = 64 << 30;
/// References of one store path.
pub const REFERENCES_MAX: usize = 20_000;
/// Bytes of build log in one message.
pub const LOG_CHUNK_BYTES_MAX: usize = 16 << 10;
/// Bytes of a task's log that the coordinator keeps for its tail.
pub const LOG_TAIL_BYTES_MAX: usize = 64 << 10;
