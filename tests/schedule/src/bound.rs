//! What no scheduler could beat, who knew everything: the longest path, the work over the hosts, and both together.
use std::collections::{BTreeMap, BTreeSet};

use crate::graph::Graph;
use crate::list::root_bytes;
use crate::scenario::Run;
use crate::world::{BOARD_BYTES_PER_S, build_s, platform};

/// Prices that are tried for the hosts, one after another.
const ROUNDS: usize = 40;

/// The lower bound of a run in which these tasks were built, in seconds. Of several derivations that make the same output one is
/// built, and which one is not questioned here: what the others would have needed may not have been built at all.
pub fn bound_s(graph: &Graph, run: &Run, built: &BTreeSet<usize>) -> f64 {
    let takes = |place: usize| -> Vec<f64> {
        let node = &graph.nodes[place];
        let on = |host| platform(host, node).map_or(f64::INFINITY, |platform| build_s(host, platform, node));
        run.hosts.iter().map(on).collect()
    };
    let least: Vec<f64> =
        (0..graph.nodes.len()).map(|place| takes(place).into_iter().fold(f64::INFINITY, f64::min)).collect();
    let order = order(graph, built);
    let mut earliest = vec![0.0_f64; graph.nodes.len()];
    for place in &order {
        let wanting = run.plans.iter().filter(|plan| plan.tasks.contains(place));
        let arrival_s = wanting.map(|plan| plan.arrival_s).fold(f64::INFINITY, f64::min);
        let end_s = |maker: &usize| earliest[*maker] + least[*maker];
        let ends = inputs(graph, built, *place);
        let ends = ends.iter().map(|makers| makers.iter().map(end_s).fold(f64::INFINITY, f64::min));
        earliest[*place] = ends.fold(arrival_s, f64::max);
    }
    let mut tails = vec![0.0_f64; graph.nodes.len()];
    for place in order.iter().rev() {
        for makers in inputs(graph, built, *place) {
            // Of several, nobody waits for the last.
            if let [input] = makers[..] {
                tails[input] = tails[input].max(tails[*place] + least[*place]);
            }
        }
    }
    let through = |place: &usize| earliest[*place] + least[*place] + tails[*place];
    let path = order.iter().map(through).fold(0.0, f64::max);
    let takes: Vec<Vec<f64>> = order.iter().map(|place| takes(*place)).collect();
    let of = |limits: &[f64]| -> Vec<f64> { order.iter().map(|place| limits[*place]).collect() };
    let windows = [of(&earliest), of(&tails)]
        .map(|limits| window(run, &takes, &limits))
        .into_iter()
        .fold(0.0, f64::max);
    path.max(windows) + root_bytes(graph, run) / BOARD_BYTES_PER_S
}

/// For each input of a task that was built: who made it, several if they began before one of them had ended.
pub fn inputs(graph: &Graph, built: &BTreeSet<usize>, place: usize) -> Vec<Vec<usize>> {
    let makers = |input: &usize| -> Vec<usize> {
        let all = [input].into_iter().chain(&graph.nodes[*input].alternatives);
        all.copied().filter(|maker| built.contains(maker)).collect()
    };
    graph.nodes[place].inputs.iter().map(makers).filter(|makers| !makers.is_empty()).collect()
}

/// What was built, each after what it needs.
pub fn order(graph: &Graph, built: &BTreeSet<usize>) -> Vec<usize> {
    let mut users: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut missing: BTreeMap<usize, usize> = BTreeMap::new();
    for place in built {
        let inputs: BTreeSet<usize> = inputs(graph, built, *place).into_iter().flatten().collect();
        missing.insert(*place, inputs.len());
        inputs.into_iter().for_each(|input| users.entry(input).or_default().push(*place));
    }
    let mut order: Vec<usize> =
        missing.iter().filter(|(_, missing)| **missing == 0).map(|(place, _)| *place).collect();
    let mut next = 0;
    while let Some(place) = order.get(next).copied() {
        next += 1;
        for user in users.get(&place).into_iter().flatten() {
            if let Some(missing) = missing.get_mut(user) {
                *missing -= 1;
                if *missing == 0 {
                    order.push(*user);
                }
            }
        }
    }
    order
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
