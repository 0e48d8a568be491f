//! What must hold when a world has ended.
use crate::fault::{BOARDS, COORDINATOR, EXECUTORS, Fault, Kind};
use crate::graph::{Work, archive, contents};
use crate::record::{self, Entry, What};
use crate::world::{LATE, World};
use anyhow::Context;
use executor::store::Store;
use model::ContentId;
use nix_formats::store_path::StoreDir;
use scheduler::Holder;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// As the coordinator is set up: without a heartbeat for so long an executor is lost.
const EVICTION: Duration = Duration::from_secs(12);
/// What noticing may take longer: a heartbeat, the engine's tick, a message on its way.
const EVICTION_SLACK: Duration = Duration::from_millis(2_500);

/// A connection that breaks is noticed and opened anew before its executor counts as lost, if there is a way by then.
const RECONNECTS_IN_TIME: Duration = Duration::from_secs(3);

/// Everything that is wrong.
///
/// # Errors
/// What the hosts left on their disks cannot be read.
pub fn all(world: &World) -> anyhow::Result<Vec<String>> {
    let entries = record::all();
    let mut problems = Vec::new();
    results(world, &entries, &mut problems);
    builds(world, &entries, &mut problems);
    logs(&entries, &mut problems);
    losses(world, &entries, &mut problems);
    agreement(world, &entries, &mut problems)?;
    Ok(problems)
}

/// What is counted, to know that it was played.
pub const SEEN: [&str; 6] = [
    "builds begun",
    "builds begun that had been begun before",
    "executors lost",
    "sessions that ended",
    "downloads that went on where they had broken off",
    "times that a user was told of a lost link",
];

/// The numbers of [`SEEN`] in a world.
pub fn seen(entries: &[Entry]) -> String {
    let said = |start: &str| {
        let is_it = |entry: &&Entry| matches!(&entry.what, What::Said(text, _) if text.starts_with(start));
        entries.iter().filter(is_it).count()
    };
    let begun: Vec<&str> = entries
        .iter()
        .filter_map(|entry| if let What::Started(drv, _) = &entry.what { Some(drv.as_str()) } else { None })
        .collect();
    let distinct: BTreeSet<_> = begun.iter().collect();
    let told = |entry: &&Entry| matches!(&entry.what, What::Seen(text) if text.starts_with("the link to the cluster is lost"));
    let numbers = [
        begun.len(),
        begun.len() - distinct.len(),
        said("executor lost"),
        said("session ended"),
        said("a download goes on"),
        entries.iter().filter(told).count(),
    ];
    numbers.map(|number| number.to_string()).join(" ")
}

/// Every plan ended as it had to, and its board has the right bytes.
fn results(world: &World, entries: &[Entry], problems: &mut Vec<String>) {
    let late = world.late_wanted();
    let mut plans = vec![(LATE, &world.daemons[2], &late)];
    plans.extend(
        BOARDS
            .iter()
            .zip(&world.daemons)
            .zip(&world.wanted)
            .map(|((name, daemon), wanted)| (*name, daemon, wanted)),
    );
    for (board, daemon, wanted) in plans {
        if wanted.is_empty() {
            continue;
        }
        let codes: Vec<u8> = entries
            .iter()
            .filter(|entry| entry.host == board)
            .filter_map(|entry| if let What::Exit(code) = entry.what { Some(code) } else { None })
            .collect();
        let expected = if world.succeeds(wanted) { 0 } else { 100 };
        if codes.last() != Some(&expected) {
            problems.push(format!("{board}'s command ended with {codes:?}, not with {expected}"));
        }
        if expected != 0 {
            continue;
        }
        for drv in wanted.iter().map(|root| &world.graph.drvs[*root]) {
            let derivation = nix_formats::derivation::parse(&drv.text, &StoreDir::default()).unwrap();
            let right = archive(&contents(&drv.out, Work::of(&derivation)));
            match daemon.store().paths.get(&drv.out) {
                Some((_, nar)) if *nar == right => {}
                Some(_) => problems.push(format!("{board} has other bytes for {}", drv.out)),
                None => problems.push(format!("{board} does not have {}", drv.out)),
            }
        }
    }
    let twice = world.daemons.iter().zip([BOARDS[0], BOARDS[1], LATE]).filter_map(|(daemon, board)| {
        let store = daemon.store();
        let distinct: BTreeSet<_> = store.imported.iter().collect();
        (distinct.len() < store.imported.len()).then(|| format!("{board} imported a path twice"))
    });
    problems.extend(twice);
}

/// Whether a fault may cost builds that go on, or what an executor alone holds.
fn may_lose(world: &World, fault: &Fault) -> bool {
    let is_of_executor = EXECUTORS.iter().any(|executor| fault.touches(executor));
    let lasts = fault.until - fault.from;
    match &fault.kind {
        Kind::Killed(_) | Kind::PowerLoss(_) => is_of_executor,
        // Connections do not outlive what is lost for ever.
        Kind::Cut(_) | Kind::OneWay(..) | Kind::Breaking(_) => {
            // What is opened anew through a slow link takes long.
            let is_slow = world.faults.iter().any(|other| {
                matches!(other.kind, Kind::Slow(..))
                    && other.from < fault.until + EVICTION
                    && fault.from < other.until
            });
            (is_of_executor || fault.touches(COORDINATOR)) && (lasts > RECONNECTS_IN_TIME || is_slow)
        }
        Kind::Held(_) | Kind::Frozen(_) => {
            (is_of_executor || fault.touches(COORDINATOR)) && lasts > EVICTION - EVICTION_SLACK
        }
        Kind::Flapping(_) => false,
        // Connecting takes two round trips, and where bytes are fetched it may take 5 s.
        Kind::Slow(_, latency) => is_of_executor && *latency > Duration::from_millis(1_200),
    }
}

/// Nothing is built more often than faults explain, and nothing at all for the late board.
fn builds(world: &World, entries: &[Entry], problems: &mut Vec<String>) {
    let losing = world.faults.iter().filter(|fault| may_lose(world, fault)).count();
    let allowed = 1 + losing + usize::from(world.speculates && losing > 0);
    let mut started: BTreeMap<&str, usize> = BTreeMap::new();
    let late = entries.iter().position(|entry| entry.host == LATE && matches!(entry.what, What::Fault(_)));
    for (index, entry) in entries.iter().enumerate() {
        if let What::Started(drv, _) = &entry.what {
            *started.entry(drv).or_default() += 1;
            if late.is_some_and(|late| index > late) {
                problems
                    .push(format!("{drv} is built again for a board that comes later: its result was lost"));
            }
        }
    }
    // Each plan tries again what failed for another.
    let failed = |drv: &str| {
        let is_it = |entry: &Entry| matches!(&entry.what, What::Ended(of, how) if of == drv && how.starts_with("BuildFailed"));
        entries.iter().any(is_it)
    };
    for (drv, times) in started {
        if times > allowed && !failed(drv) {
            problems.push(format!("{drv} was built {times} times, {losing} faults explain {allowed}"));
        }
    }
}

/// Within one command a user sees no line of an attempt twice, and none is left out unless that is said, whatever links broke.
fn logs(entries: &[Entry], problems: &mut Vec<String>) {
    for board in BOARDS {
        // Of each derivation: the last line seen of its present attempt, and whose that is.
        let mut seen: BTreeMap<String, (u64, String)> = BTreeMap::new();
        for entry in entries {
            match &entry.what {
                What::Exit(_) if entry.host == board => seen.clear(),
                What::Fault(text) if text.contains(&format!("(\"{board}\")")) => seen.clear(),
                What::Seen(text) if entry.host == board => {
                    if text.contains("a part of the log is missing") {
                        // Nor is it told which attempt comes next.
                        seen.clear();
                    } else if let Some(drv) = text.strip_prefix("building '") {
                        seen.remove(&name(drv.split('\'').next().unwrap_or_default()));
                    }
                    let Some((name, rest)) = text.split_once("> line ") else { continue };
                    let Some((number, executor)) = rest.split_once(" of ") else { continue };
                    let number: u64 = number.parse().unwrap_or(u64::MAX);
                    // An executor that comes back goes on with an attempt of its own.
                    if let Some((last, _)) = seen.get(name).filter(|(_, of)| of == executor) {
                        if *last >= number {
                            problems.push(format!("{board} sees line {number} of {name} after line {last}"));
                        } else if *last + 1 < number {
                            problems.push(format!(
                                "{board} sees line {number} of {name} after line {last}, and is not told"
                            ));
                        }
                    }
                    seen.insert(name.to_owned(), (number, executor.to_owned()));
                }
                _ => {}
            }
        }
    }
}

fn name(drv: &str) -> String {
    drv.split_once('-').map_or(drv, |(_, name)| name).trim_end_matches(".drv").to_owned()
}

/// An executor of which nothing is heard is lost in time; none is lost for nothing.
fn losses(world: &World, entries: &[Entry], problems: &mut Vec<String>) {
    let lost: Vec<_> = entries
        .iter()
        .filter_map(|entry| match &entry.what {
            What::Said(text, executor) if text.starts_with("executor lost") => {
                Some((entry.at, executor.as_str()))
            }
            _ => None,
        })
        .collect();
    for (at, executor) in &lost {
        let explains = |fault: &&Fault| {
            fault.from < *at
                && may_lose(world, fault)
                && (fault.touches(executor) || fault.touches(COORDINATOR))
        };
        if world.faults.iter().find(explains).is_none() {
            problems
                .push(format!("{executor} is lost at {:.1} s, and no fault explains it", at.as_secs_f64()));
        }
    }
    for fault in &world.faults {
        let (Kind::Cut(hosts), true) = (&fault.kind, fault.until - fault.from > EVICTION + EVICTION_SLACK)
        else {
            continue;
        };
        let disturbs = |other: &Fault| {
            other != fault
                && other.from < fault.from + EVICTION + EVICTION_SLACK
                && fault.from < other.until + Duration::from_secs(25)
        };
        if hosts.contains(&COORDINATOR)
            || world.faults.iter().any(disturbs)
            || fault.from < Duration::from_secs(3)
        {
            continue;
        }
        for executor in EXECUTORS.iter().filter(|executor| hosts.contains(executor)) {
            let until = fault.from + EVICTION + EVICTION_SLACK;
            let is_found =
                |(at, name): &(Duration, &str)| name == executor && *at > fault.from && *at <= until;
            if !lost.iter().any(is_found) {
                problems.push(format!(
                    "{executor} is silent from {:.1} s on, and not lost in time",
                    fault.from.as_secs_f64()
                ));
            }
        }
    }
}

/// What the coordinator has written down of executors is there.
fn agreement(world: &World, entries: &[Entry], problems: &mut Vec<String>) -> anyhow::Result<()> {
    let (_journal, _thread, recorded) =
        coordinator::journal::open(&world.directory.join("coordinator")).context("read the journal")?;
    for plan in recorded.plans.iter().filter(|plan| plan.ended.is_none()) {
        problems
            .push(format!("plan {} of {} has not ended for the coordinator", plan.plan.id, plan.plan.board));
    }
    let mut stores: BTreeMap<&str, Store> = BTreeMap::new();
    for executor in EXECUTORS {
        let directory = world.directory.join(executor).join("store");
        let opened = (0..1_000).find_map(|_| match Store::open(&directory, true) {
            Ok(store) => Some(store),
            Err(_) => {
                std::thread::sleep(Duration::from_millis(2));
                None
            }
        });
        stores.insert(executor, opened.with_context(|| format!("open the store of {executor}"))?);
    }
    let holders: Vec<&(ContentId, Holder)> = recorded.holders.iter().collect();
    for (content, holder) in &holders {
        let Holder::Executor(name) = holder else { continue };
        let Some(store) = stores.get(&*name.0) else { continue };
        if store.get(content).is_none() {
            problems.push(format!(
                "the coordinator believes that {} holds {}, and it does not",
                name.0, content.path
            ));
        }
    }
    for (executor, store) in &stores {
        for (content, _) in store.held() {
            // What it has fetched it tells with its next session; what it made, the coordinator acknowledged.
            let drv = world.graph.drvs.iter().find(|drv| drv.out == content.path.as_str());
            let is_made = |entry: &&Entry| match &entry.what {
                What::Ended(path, how) => {
                    entry.host == **executor && how == "built" && drv.is_some_and(|drv| drv.path == *path)
                }
                _ => false,
            };
            let is_output = entries.iter().any(|entry| is_made(&entry));
            // Who could not be reached for it is not believed to have it, until its next session.
            let is_doubted = |entry: &Entry| match &entry.what {
                What::Said(text, _) => {
                    (text.starts_with("input not fetched") || text.starts_with("not pulled"))
                        && text.contains(content.path.as_str())
                }
                _ => false,
            };
            if entries.iter().any(is_doubted) {
                continue;
            }
            let is_known = holders.iter().any(|(id, holder)| {
                *id == content && matches!(holder, Holder::Executor(name) if *name.0 == **executor)
            });
            if is_output && !is_known {
                problems
                    .push(format!("{executor} holds {}, and the coordinator does not know", content.path));
            }
        }
    }
    Ok(())
}
