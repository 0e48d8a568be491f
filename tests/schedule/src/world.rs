//! What is true in virtual time and nobody is told: how long a task takes on a host, and what its inputs cost to fetch.
use crate::graph::{Graph, Node};
use crate::scenario::Host;
use model::Platform;

/// Between hosts: 1 Gbit/s.
const HOST_BYTES_PER_S: f64 = 125e6;
/// To a board: 20 Mbit/s.
pub const BOARD_BYTES_PER_S: f64 = 2.5e6;
/// From a decision to the beginning of a build, and from its end to the next decision.
const ROUND_TRIP_S: f64 = 0.002;
/// After which a silent host is known to be lost.
pub const EVICTION_S: f64 = 15.0;

/// The platform of a host that runs a task.
pub fn platform<'a>(host: &'a Host, node: &Node) -> Option<&'a Platform> {
    host.platforms.iter().find(|platform| node.task.requirement.is_met_by(platform))
}

/// Seconds of a build, without its inputs.
pub fn build_s(host: &Host, platform: &Platform, node: &Node) -> f64 {
    let factor = if matches!(platform, Platform::Emulated(_)) { node.cost.emulated_x } else { 1.0 };
    node.cost.native_s * factor / host.speed
}

/// Whether a host is there.
pub fn is_there(host: &Host, at_s: f64) -> bool {
    !host.absent_s.iter().any(|(from, to)| (*from..*to).contains(&at_s))
}

/// Who has what.
pub struct Stores {
    has: Vec<Vec<bool>>,
}

impl Stores {
    /// Nobody has anything that is to be built.
    pub fn new(hosts: usize, nodes: usize) -> Self {
        Self { has: vec![vec![false; nodes]; hosts] }
    }

    /// A host has the outputs of a task.
    pub fn keep(&mut self, host: usize, node: usize) {
        self.has[host][node] = true;
    }

    /// Seconds from a decision until a task has its inputs; the host has them from then on.
    pub fn fetch_s(
        &mut self,
        graph: &Graph,
        host: usize,
        node: usize,
        is_to_build: impl Fn(usize) -> bool,
    ) -> f64 {
        let mut bytes = 0.0;
        for input in &graph.nodes[node].inputs {
            if is_to_build(*input) && !self.has[host][*input] {
                self.has[host][*input] = true;
                bytes += graph.nodes[*input].cost.out_bytes;
            }
        }
        ROUND_TRIP_S + bytes / HOST_BYTES_PER_S
    }
}
