//! Words for tests: short names for tasks and contents, and a core that checks itself after every event.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test uses its part")]

use model::{
    BootId, BuiltOutput, Capability, ContentId, ExecutorName, Failure, FailureClass, InputDerivation, Kind,
    LeaseId, Offer, Outcome, Output, PathFacts, PlanId, Platform, Requirement, StorePath, System, TaskSpec,
    TrustDomain,
};
use scheduler::{
    Effect, Event, Fact, Grant, Held, Holder, KnownContent, LeaseKey, NewPlan, News, PlanCounts, PlanSummary,
    Root, RunningLease, Settings, State, TaskState, Timestamp, apply,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Settings with round numbers.
pub const SETTINGS: Settings = Settings {
    heartbeat_interval_ms: 1_000,
    eviction_after_ms: 15_000,
    attempts_max: 3,
    first_lease: LeaseId(1_000),
    restart_grace_ms: 0,
    speculates: true,
    set_aside_ms: 60_000,
};

pub fn path(name: &str) -> StorePath {
    StorePath::from_validated(&format!("/nix/store/00000000000000000000000000000000-{name}"))
}

pub fn content(name: &str) -> ContentId {
    ContentId { domain: TrustDomain::Shared, path: path(name) }
}

/// `a` names the derivation `a.drv`.
pub fn task_id(name: &str) -> ContentId {
    content(&format!("{name}.drv"))
}

pub fn system(name: &str) -> System {
    System(Arc::from(name))
}

pub fn native() -> Requirement {
    Requirement { system: system("x86_64-linux"), target: None, features: vec![] }
}

pub fn emulated() -> Requirement {
    Requirement { system: system("aarch64-linux"), target: None, features: vec![] }
}

pub fn cross() -> Requirement {
    Requirement { system: system("x86_64-linux"), target: Some(system("aarch64-linux")), features: vec![] }
}

/// The platform that is meant for one of the requirements above.
pub fn platform(requirement: &Requirement) -> Platform {
    match (&requirement.target, &*requirement.system.0) {
        (Some(_), _) => Platform::Cross { build: requirement.system.clone() },
        (None, "x86_64-linux") => Platform::Native(requirement.system.clone()),
        (None, _) => Platform::Emulated(requirement.system.clone()),
    }
}

pub fn capability(slots: u32, requirements: &[Requirement]) -> Capability {
    let offer = |requirement: &Requirement| Offer { platform: platform(requirement), detail: String::new() };
    Capability { offers: requirements.iter().map(offer).collect(), slots, ..Capability::default() }
}

/// A task with output `out` (path `a` for task `a`), that needs the outputs `out` of others.
pub fn task(name: &str, inputs: &[&str]) -> TaskSpec {
    let input = |input: &&str| InputDerivation { task: task_id(input), outputs: vec!["out".into()] };
    TaskSpec {
        id: task_id(name),
        name: name.into(),
        kind: Kind::Build,
        requirement: native(),
        outputs: vec![Output { name: "out".into(), path: path(name) }],
        input_derivations: inputs.iter().map(input).collect(),
        input_sources: vec![],
        needs_resolution: false,
        is_fixed_output: false,
    }
}

pub fn hash(text: &str) -> [u8; 32] {
    let mut hash = [0_u8; 32];
    for (position, byte) in text.bytes().enumerate() {
        hash[position % 32] = hash[position % 32].wrapping_mul(31).wrapping_add(byte);
    }
    hash
}

/// Bytes of `large-...` and of anything else.
pub fn nar_size(name: &str) -> u64 {
    if name.starts_with("large-") { 50_000_000 } else { 100 }
}

pub fn known(name: &str, references: &[&str], holders: &[Holder]) -> KnownContent {
    KnownContent {
        id: content(name),
        references: references.iter().map(|name| content(name)).collect(),
        nar_sha256: hash(name),
        nar_size: nar_size(name),
        holders: holders.to_vec(),
    }
}

pub fn at(executor: &str) -> Holder {
    Holder::Executor(name(executor))
}

pub fn name(executor: &str) -> ExecutorName {
    ExecutorName(Arc::from(executor))
}

pub fn plan_id(number: u8) -> PlanId {
    PlanId([number; 16])
}

pub fn facts(name: &str, references: &[&str]) -> PathFacts {
    PathFacts {
        nar_sha256: hash(name),
        nar_size: nar_size(name),
        references: references.iter().map(|name| path(name)).collect(),
        deriver: None,
        content_address: None,
    }
}

/// An output: its name, its path, its references.
pub type Named<'a> = (&'a str, &'a str, &'a [&'a str]);

/// Outputs of a build.
pub fn built(outputs: &[Named]) -> Outcome {
    let output = |(output, at, references): &Named| BuiltOutput {
        name: (*output).into(),
        path: path(at),
        facts: facts(at, references),
    };
    Outcome::Built(outputs.iter().map(output).collect())
}

pub fn failed(class: FailureClass, missing: &[&str]) -> Outcome {
    let missing_inputs = missing.iter().map(|name| path(name)).collect();
    Outcome::Failed(Failure { class, message: format!("{class:?}"), exit_status: None, missing_inputs })
}

/// The core with a clock.
pub struct Core {
    pub state: State,
    pub now_ms: u64,
    /// All effects so far.
    pub log: Vec<Effect>,
}

impl Core {
    pub fn new() -> Self {
        Self::with(SETTINGS)
    }

    pub fn with(settings: Settings) -> Self {
        Self { state: State::new(settings), now_ms: 1_000_000, log: vec![] }
    }

    /// Applies an event, checks the invariants, gives the effects.
    pub fn apply(&mut self, event: Event) -> Vec<Effect> {
        let shown = format!("{event:?}");
        let effects = apply(&mut self.state, event, Timestamp(self.now_ms));
        if let Err(problem) = self.state.check_invariants() {
            panic!("{problem}\nafter {shown}\n{effects:#?}");
        }
        let first_other = effects.iter().position(|effect| !matches!(effect, Effect::Record(_)));
        let after = effects.iter().skip(first_other.unwrap_or(effects.len()));
        assert!(after.into_iter().all(|effect| !matches!(effect, Effect::Record(_))), "facts come first");
        self.log.extend(effects.iter().cloned());
        effects
    }

    pub fn connect(&mut self, executor: &str, slots: u32, offers: &[Requirement]) -> Vec<Effect> {
        self.connect_running(executor, 1, slots, offers, &[])
    }

    pub fn connect_running(
        &mut self,
        executor: &str,
        boot: u8,
        slots: u32,
        offers: &[Requirement],
        running: &[RunningLease],
    ) -> Vec<Effect> {
        self.apply(Event::ExecutorConnected {
            executor: name(executor),
            boot: BootId([boot; 16]),
            capability: capability(slots, offers),
            running: running.to_vec(),
        })
    }

    /// A plan whose roots are the outputs `out` of these tasks.
    pub fn admit(
        &mut self,
        number: u8,
        tasks: &[TaskSpec],
        roots: &[&str],
        contents: &[KnownContent],
    ) -> Vec<Effect> {
        let root = |root: &&str| Root { task: task_id(root), outputs: vec!["out".into()] };
        self.apply(Event::PlanAdmitted(NewPlan {
            id: plan_id(number),
            tasks: tasks.to_vec(),
            roots: roots.iter().map(root).collect(),
            contents: contents.to_vec(),
            bindings: vec![],
            failed: vec![],
        }))
    }

    pub fn report(&mut self, grant: &Grant, outcome: Outcome) -> Vec<Effect> {
        self.report_by(&grant.executor.0.clone(), grant.lease, &grant.task.clone(), outcome)
    }

    pub fn report_by(
        &mut self,
        executor: &str,
        lease: LeaseKey,
        task: &ContentId,
        outcome: Outcome,
    ) -> Vec<Effect> {
        let event = Event::LeaseReported { executor: name(executor), lease, task: task.clone(), outcome };
        self.apply(event)
    }

    /// The task's only output is there, and refers to these.
    pub fn build(&mut self, grant: &Grant, references: &[&str]) -> Vec<Effect> {
        let name = task_name(&grant.task);
        self.report(grant, built(&[("out", &name, references)]))
    }

    pub fn heartbeat(&mut self, executor: &str, running: &[LeaseKey]) -> Vec<Effect> {
        self.beat(executor, running, false)
    }

    pub fn beat(&mut self, executor: &str, running: &[LeaseKey], is_full: bool) -> Vec<Effect> {
        let executor = name(executor);
        self.apply(Event::Heartbeat { executor, running: running.to_vec(), is_full })
    }

    /// An executor would like to drop these; gives what it may.
    pub fn would_drop(&mut self, executor: &str, names: &[&str]) -> (Vec<String>, Vec<Effect>) {
        let contents = names.iter().map(|name| content(name)).collect();
        let effects = self.apply(Event::ExecutorWouldDrop { executor: name(executor), number: 7, contents });
        let mut may = vec![];
        for effect in &effects {
            if let Effect::MayDrop { executor: to, number, contents } = effect {
                assert_eq!((to, *number, may.is_empty()), (&name(executor), 7, true));
                may.extend(contents.iter().map(|id| short(&id.path)));
            }
        }
        (may, effects)
    }

    pub fn holds(&mut self, executor: &str, contents: &[KnownContent]) -> Vec<Effect> {
        let held = Held { executor: name(executor), contents: contents.to_vec(), is_last: true };
        self.apply(Event::ExecutorHolds(held))
    }

    /// Time passes, in steps of a heartbeat; those who live say so, with what they run.
    pub fn pass(&mut self, ms: u64, alive: &[(&str, &[LeaseKey])]) -> Vec<Effect> {
        let end = self.now_ms + ms;
        let mut effects = vec![];
        while self.now_ms < end {
            self.now_ms = end.min(self.now_ms + SETTINGS.heartbeat_interval_ms);
            for (executor, running) in alive {
                effects.extend(self.heartbeat(executor, running));
            }
            effects.extend(self.apply(Event::Tick));
        }
        effects
    }

    pub fn stored(&mut self, name: &str) -> Vec<Effect> {
        self.apply(Event::Stored(content(name)))
    }

    /// Answers all pulls, the later ones too.
    pub fn store_all(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        let mut all = vec![];
        let mut new = effects;
        loop {
            let pulled = pulls(&new);
            new.clear();
            if pulled.is_empty() {
                return all;
            }
            for name in pulled {
                new.extend(self.stored(&name));
            }
            all.extend(new.iter().cloned());
        }
    }

    /// Where each task of a plan is, by name.
    pub fn states(&self, number: u8) -> BTreeMap<String, TaskState> {
        let snapshot = self.state.snapshot(plan_id(number)).unwrap();
        snapshot.tasks.iter().map(|change| (task_name(&change.task), change.state)).collect()
    }
}

/// The short name of a derivation.
pub fn task_name(task: &ContentId) -> String {
    short(&task.path).trim_end_matches(".drv").to_owned()
}

pub fn short(path: &StorePath) -> String {
    path.as_str()["/nix/store/00000000000000000000000000000000-".len()..].to_owned()
}

pub fn grants(effects: &[Effect]) -> Vec<Grant> {
    let grant = |effect: &Effect| if let Effect::Grant(grant) = effect { Some(grant.clone()) } else { None };
    effects.iter().filter_map(grant).collect()
}

/// The only lease that was granted.
pub fn grant(effects: &[Effect]) -> Grant {
    let mut all = grants(effects);
    assert_eq!(all.len(), 1, "{effects:#?}");
    all.remove(0)
}

/// Pairs of task and executor.
pub fn granted(effects: &[Effect]) -> Vec<(String, String)> {
    grants(effects).iter().map(|grant| (task_name(&grant.task), grant.executor.0.to_string())).collect()
}

pub fn pulls(effects: &[Effect]) -> Vec<String> {
    let pull = |effect: &Effect| match effect {
        Effect::Pull { content, .. } => Some(short(&content.path)),
        _ => None,
    };
    effects.iter().filter_map(pull).collect()
}

pub fn cancels(effects: &[Effect]) -> Vec<(String, LeaseKey)> {
    let cancel = |effect: &Effect| match effect {
        Effect::Cancel { executor, lease } => Some((executor.0.to_string(), *lease)),
        _ => None,
    };
    effects.iter().filter_map(cancel).collect()
}

/// Without what builds took.
pub fn records(effects: &[Effect]) -> Vec<Fact> {
    let record = |effect: &Effect| match effect {
        Effect::Record(Fact::Measured(_)) => None,
        Effect::Record(fact) => Some(fact.clone()),
        _ => None,
    };
    effects.iter().filter_map(record).collect()
}

pub fn news(effects: &[Effect], number: u8) -> Vec<News> {
    let news = |effect: &Effect| match effect {
        Effect::Tell { plan, news } if *plan == plan_id(number) => Some(news.clone()),
        _ => None,
    };
    effects.iter().filter_map(news).collect()
}

/// What is told of tasks, by name.
pub fn told(effects: &[Effect], number: u8) -> Vec<(String, TaskState)> {
    let task = |news: News| match news {
        News::Task(change) => Some((task_name(&change.task), change.state)),
        _ => None,
    };
    news(effects, number).into_iter().filter_map(task).collect()
}

pub fn finished(effects: &[Effect], number: u8) -> Option<PlanSummary> {
    news(effects, number).into_iter().find_map(|news| match news {
        News::Finished(summary) => Some(summary),
        _ => None,
    })
}

pub fn counts(effects: &[Effect]) -> PlanCounts {
    let counts = |effect: &Effect| match effect {
        Effect::Admitted { counts, .. } => Some(*counts),
        _ => None,
    };
    effects.iter().find_map(counts).unwrap()
}

pub fn counted(total: u32, to_build: u32, held: u32) -> PlanCounts {
    PlanCounts { tasks_total: total, tasks_to_build: to_build, tasks_held: held }
}

/// A task with a requirement of its own.
pub fn requiring(name: &str, inputs: &[&str], requirement: Requirement) -> TaskSpec {
    TaskSpec { requirement, ..task(name, inputs) }
}

/// Independent tasks `t00`, `t01` and so on.
pub fn many(number: usize, requirement: &Requirement) -> (Vec<TaskSpec>, Vec<String>) {
    let names: Vec<String> = (0..number).map(|number| format!("t{number:02}")).collect();
    (names.iter().map(|name| requiring(name, &[], requirement.clone())).collect(), names)
}

pub fn refs(names: &[String]) -> Vec<&str> {
    names.iter().map(String::as_str).collect()
}

pub fn running(grant: &Grant) -> RunningLease {
    RunningLease { lease: grant.lease, task: grant.task.clone(), platform: grant.platform.clone() }
}

/// What is told of requirements that nobody meets.
pub fn waiting(effects: &[Effect], number: u8) -> Vec<(String, u32)> {
    let waiting = |news: News| match news {
        News::Waiting(scheduler::Waiting { requirement, tasks, tasks_total, .. }) => {
            assert!(tasks.len() <= 20 && (tasks_total == 0) == tasks.is_empty());
            Some((requirement.to_string(), tasks_total))
        }
        _ => None,
    };
    news(effects, number).into_iter().filter_map(waiting).collect()
}
