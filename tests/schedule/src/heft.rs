//! HEFT with true durations, which nobody knows before the end: how near the bound a schedule gets at all.
use std::collections::BTreeSet;

use crate::bound;
use crate::graph::Graph;
use crate::list::root_bytes;
use crate::scenario::Run;
use crate::world::{BOARD_BYTES_PER_S, build_s, platform};

/// One slot: taken from, until; in order.
type Slot = Vec<(f64, f64)>;

/// Seconds until all plans have what they want on their boards, when these tasks are placed by what they really take, each
/// where it ends first, the one with the longest way to the end first.
pub fn makespan_s(graph: &Graph, run: &Run, built: &BTreeSet<usize>) -> f64 {
    let takes = |place: usize, host: usize| {
        let (node, host) = (&graph.nodes[place], &run.hosts[host]);
        platform(host, node).map_or(f64::INFINITY, |platform| build_s(host, platform, node))
    };
    let hosts = 0..run.hosts.len();
    let least = |place: usize| hosts.clone().map(|host| takes(place, host)).fold(f64::INFINITY, f64::min);
    let inputs = |place: usize| bound::inputs(graph, built, place);
    let order = bound::order(graph, built);
    let mut levels = vec![0.0_f64; graph.nodes.len()];
    for place in order.iter().rev() {
        levels[*place] += least(*place);
        for makers in inputs(*place) {
            for maker in makers {
                levels[maker] = levels[maker].max(levels[*place]);
            }
        }
    }
    let mut queue = order.clone();
    queue.sort_by(|a, b| levels[*b].total_cmp(&levels[*a]));
    let mut ends = vec![f64::INFINITY; graph.nodes.len()];
    let mut slots: Vec<Vec<Slot>> = run.hosts.iter().map(|host| vec![Slot::new(); host.slots]).collect();
    let mut last = 0.0_f64;
    for place in queue {
        let wanting = run.plans.iter().filter(|plan| plan.tasks.contains(&place));
        let arrival = wanting.map(|plan| plan.arrival_s).fold(f64::INFINITY, f64::min);
        let there =
            |makers: &Vec<usize>| makers.iter().map(|maker| ends[*maker]).fold(f64::INFINITY, f64::min);
        let ready = inputs(place).iter().map(there).fold(arrival, f64::max);
        let mut best = (f64::INFINITY, 0, 0, 0.0);
        for (host, of_host) in slots.iter().enumerate() {
            let takes = takes(place, host);
            if takes.is_finite() {
                for (slot, taken) in of_host.iter().enumerate() {
                    let begin = gap(taken, ready, takes);
                    if begin + takes < best.0 {
                        best = (begin + takes, host, slot, begin);
                    }
                }
            }
        }
        let (end, host, slot, begin) = best;
        let taken = &mut slots[host][slot];
        let at = taken.partition_point(|(from, _)| *from < begin);
        taken.insert(at, (begin, end));
        ends[place] = end;
        last = last.max(end);
    }
    last + root_bytes(graph, run) / BOARD_BYTES_PER_S
}

/// When a slot is free for so long, not before it is ready.
fn gap(taken: &Slot, ready: f64, takes: f64) -> f64 {
    let first = taken.partition_point(|(_, until)| *until <= ready);
    let mut begin = ready;
    for (from, until) in &taken[first..] {
        if begin + takes <= *from {
            return begin;
        }
        begin = begin.max(*until);
    }
    begin
}
