//! What no scheduler could beat, who knew everything: the longest path, the work over the hosts, and both together.
use std::collections::BTreeSet;

use crate::graph::Graph;
use crate::list::root_bytes;
use crate::scenario::Run;
use crate::world::{BOARD_BYTES_PER_S, build_s, platform};

/// Prices that are tried for the hosts, one after another.
const ROUNDS: usize = 40;

/// The lower bound of a run, in seconds. What only one of several ways to a fixed output needs is not counted at all.
pub fn bound_s(graph: &Graph, run: &Run) -> f64 {
    let all: BTreeSet<usize> = run.plans.iter().flat_map(|plan| plan.tasks.iter().copied()).collect();
    let takes = |place: usize| -> Vec<f64> {
        let node = &graph.nodes[place];
        let on = |host| platform(host, node).map_or(f64::INFINITY, |platform| build_s(host, platform, node));
        run.hosts.iter().map(on).collect()
    };
    let least: Vec<f64> =
        (0..graph.nodes.len()).map(|place| takes(place).into_iter().fold(f64::INFINITY, f64::min)).collect();
    let mut earliest = earliest(graph, run, &all, &least);
    let needed = needed(graph, run);
    for place in &needed {
        let others = graph.nodes[*place].alternatives.iter().map(|other| earliest[*other]);
        earliest[*place] = others.fold(earliest[*place], f64::min);
    }
    let mut tails = vec![0.0_f64; graph.nodes.len()];
    for place in needed.iter().rev() {
        let users = graph.nodes[*place].users.iter().filter(|user| needed.contains(user));
        let of_user = |user: &usize| match graph.nodes[*user].alternatives.is_empty() {
            true => tails[*user] + least[*user],
            false => 0.0,
        };
        tails[*place] = users.map(of_user).fold(0.0, f64::max);
    }
    let through = |place: &usize| earliest[*place] + least[*place] + tails[*place];
    let path = needed.iter().map(through).fold(0.0, f64::max);
    let takes: Vec<Vec<f64>> = needed.iter().map(|place| takes(*place)).collect();
    let of = |limits: &[f64]| -> Vec<f64> { needed.iter().map(|place| limits[*place]).collect() };
    let windows = [of(&earliest), of(&tails)]
        .map(|limits| window(run, &takes, &limits))
        .into_iter()
        .fold(0.0, f64::max);
    path.max(windows) + root_bytes(graph, run) / BOARD_BYTES_PER_S
}

/// What is needed whichever way a fixed output comes: of several makers the cheapest alone.
fn needed(graph: &Graph, run: &Run) -> BTreeSet<usize> {
    let mut needed = BTreeSet::new();
    for plan in &run.plans {
        let mut work = vec![plan.root];
        while let Some(place) = work.pop() {
            let node = &graph.nodes[place];
            let is_there = node.alternatives.iter().any(|other| needed.contains(other));
            if is_there || !plan.tasks.contains(&place) || !needed.insert(place) {
                continue;
            }
            if node.alternatives.is_empty() {
                work.extend(&node.inputs);
            }
        }
    }
    // The cheapest stands for all, so that this stays a bound.
    let cheapest = |place: usize| {
        let node = &graph.nodes[place];
        let all = node.alternatives.iter().copied().chain([place]);
        all.min_by(|a, b| graph.nodes[*a].cost.native_s.total_cmp(&graph.nodes[*b].cost.native_s))
            .unwrap_or(place)
    };
    needed.into_iter().map(cheapest).collect()
}

/// When each task could begin if there were hosts without end, of the fastest kind for each.
fn earliest(graph: &Graph, run: &Run, all: &BTreeSet<usize>, least: &[f64]) -> Vec<f64> {
    let mut begins = vec![f64::INFINITY; graph.nodes.len()];
    let mut missing: Vec<usize> = vec![0; graph.nodes.len()];
    let mut is_there = vec![false; graph.nodes.len()];
    let mut ends: BTreeSet<(u64, usize)> = BTreeSet::new();
    let as_key = |seconds: f64| seconds.to_bits();
    for place in all {
        missing[*place] = graph.nodes[*place].inputs.iter().filter(|input| all.contains(input)).count();
        let wanting = run.plans.iter().filter(|plan| plan.tasks.contains(place));
        begins[*place] = wanting.map(|plan| plan.arrival_s).fold(f64::INFINITY, f64::min);
        if missing[*place] == 0 {
            ends.insert((as_key(begins[*place] + least[*place]), *place));
        }
    }
    while let Some((end, place)) = ends.pop_first() {
        let end_s = f64::from_bits(end);
        let node = &graph.nodes[place];
        for made in node.alternatives.iter().chain([&place]) {
            if std::mem::replace(&mut is_there[*made], true) {
                continue;
            }
            for user in graph.nodes[*made].users.iter().filter(|user| all.contains(user)) {
                missing[*user] -= 1;
                begins[*user] = begins[*user].max(end_s);
                if missing[*user] == 0 {
                    ends.insert((as_key(begins[*user] + least[*user]), *user));
                }
            }
        }
    }
    begins
}

/// The largest, over times, of that time and the work that cannot begin before it (or: must be followed by as much).
fn window(run: &Run, takes: &[Vec<f64>], limits: &[f64]) -> f64 {
    let mut times: Vec<f64> = limits.to_vec();
    times.sort_by(f64::total_cmp);
    times.dedup();
    let step = times.len().div_ceil(64).max(1);
    let of = |from: &f64| {
        let chosen: Vec<&Vec<f64>> =
            takes.iter().zip(limits).filter(|(_, limit)| *limit >= from).map(|(takes, _)| takes).collect();
        from + area(run, &chosen)
    };
    times.iter().step_by(step).map(of).fold(0.0, f64::max)
}

/// The least time in which the hosts could do this work if it could be cut: the dual of the linear programme, which is a bound
/// whatever the prices of the hosts are; better prices give a better one.
fn area(run: &Run, takes: &[&Vec<f64>]) -> f64 {
    let slots: Vec<f64> =
        run.hosts.iter().map(|host| f64::from(u32::try_from(host.slots).unwrap_or(u32::MAX))).collect();
    let worth = |prices: &[f64]| {
        let total: f64 = prices.iter().zip(&slots).map(|(price, slots)| price * slots).sum();
        let cheapest = |takes: &&Vec<f64>| {
            let priced = takes.iter().zip(prices).filter(|(takes, _)| takes.is_finite());
            priced.map(|(takes, price)| takes * price).fold(f64::INFINITY, f64::min)
        };
        takes.iter().map(cheapest).filter(|cost| cost.is_finite()).sum::<f64>() / total
    };
    let mut prices: Vec<f64> = run.hosts.iter().map(|host| host.speed).collect();
    let mut best = worth(&prices);
    let mut factor = 2.0_f64;
    for _ in 0..ROUNDS {
        let mut is_better = false;
        for host in 0..prices.len() {
            for change in [factor, 1.0 / factor] {
                let mut changed = prices.clone();
                changed[host] *= change;
                let value = worth(&changed);
                if value > best {
                    (best, prices, is_better) = (value, changed, true);
                }
            }
        }
        if !is_better {
            factor = factor.sqrt();
        }
    }
    best
}
