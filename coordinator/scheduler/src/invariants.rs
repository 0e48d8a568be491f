//! What must hold between events: counted again from scratch. For tests; slow.
use crate::State;
use crate::arena::{ClassIx, ContentIx, ExecutorIx, TaskIx};
use crate::plan::RootState;
use crate::state::{Link, Phase};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

/// Fails with the words that follow, unless something holds.
macro_rules! hold {
    ($condition:expr, $($words:tt)*) => {
        if !$condition {
            return Err(format!($($words)*));
        }
    };
}

impl State {
    /// Checks that everything that is counted or cached agrees with what it was counted from, and that nothing that
    /// could go on stands still.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check_invariants(&self) -> Result<(), String> {
        let queues = &self.queues;
        hold!(queues.turned.is_empty() && queues.demanded.is_empty(), "consequences are left");
        hold!(queues.stored.is_empty() && queues.doomed.is_empty(), "consequences are left");
        self.content_places.values().try_for_each(|content| self.check_content(*content))?;
        self.task_places.values().try_for_each(|task| self.check_task(*task))?;
        self.class_places.values().try_for_each(|class| self.check_class(*class))?;
        self.executors.places().try_for_each(|executor| self.check_executor(executor))?;
        self.check_leases()?;
        self.check_plans()?;
        let in_flight = &self.pulls.in_flight;
        hold!(in_flight.is_disjoint(&self.pulls.wanted), "content is pulled twice");
        hold!(self.pulls.wanted.is_empty() || in_flight.len() == 8, "pulls wait without a reason");
        Ok(())
    }

    fn check_content(&self, place: ContentIx) -> Result<(), String> {
        let item = &self.contents[place];
        let id = &item.id;
        let missing = item.references().iter().filter(|other| !self.contents[**other].is_whole).count();
        let unstored = item.references().iter().filter(|other| !self.contents[**other].is_stored).count();
        hold!(missing == item.references_missing, "{id:?}: {missing} references are missing");
        hold!(unstored == item.references_unstored, "{id:?}: {unstored} references are not stored");
        hold!(item.is_whole == (item.is_available() && missing == 0), "{id:?}: is_whole is wrong");
        let is_stored = item.facts.is_some() && item.in_store && unstored == 0;
        hold!(item.is_stored == is_stored, "{id:?}: is_stored is wrong");
        for holder in &item.holders {
            let executor = &self.executors[*holder];
            hold!(executor.holds.contains(&place), "{id:?}: {} does not hold it", executor.name);
            hold!(executor.link != Link::Lost, "{id:?}: its holder {} is lost", executor.name);
        }
        for reference in item.references() {
            let is_known = self.contents[*reference].referrers.contains(&place);
            hold!(is_known, "{id:?}: a reference does not know of it");
        }
        for task in item.makers.iter().chain(&item.users) {
            hold!(!self.tasks[*task].plans.is_empty(), "{id:?}: a task of no plan makes or uses it");
        }
        let waits = item.users.iter().any(|user| self.tasks[*user].phase.is_waiting());
        if !item.is_whole && (waits || self.has_pending_root(place)) {
            self.check_is_demanded(place)?;
        }
        if item.is_whole && self.has_pending_root(place) {
            self.check_is_pulled(place)?;
        }
        Ok(())
    }

    /// Somebody works on everything below content that is waited for.
    fn check_is_demanded(&self, place: ContentIx) -> Result<(), String> {
        let item = &self.contents[place];
        if item.is_available() {
            let mut missing = item.references().iter().filter(|other| !self.contents[**other].is_whole);
            return missing.try_for_each(|other| self.check_is_demanded(*other));
        }
        let has_maker = item.makers.iter().any(|maker| self.tasks[*maker].phase.is_at_work());
        hold!(has_maker, "{:?} is waited for, and nobody makes it", item.id);
        Ok(())
    }

    fn check_is_pulled(&self, place: ContentIx) -> Result<(), String> {
        let item = &self.contents[place];
        let pulls = &self.pulls;
        let is_under_way =
            [&pulls.wanted, &pulls.in_flight, &pulls.later].iter().any(|set| set.contains(&place));
        hold!(item.in_store || is_under_way, "{:?} is wanted and not pulled", item.id);
        let mut unstored = item.references().iter().filter(|other| !self.contents[**other].is_stored);
        unstored.try_for_each(|other| self.check_is_pulled(*other))
    }

    fn check_task(&self, place: TaskIx) -> Result<(), String> {
        let task = &self.tasks[place];
        let id = &task.id.path;
        hold!(self.task_places.get(&task.id) == Some(&place), "{id}: its place is wrong");
        hold!(!task.plans.is_empty(), "{id}: no plan wants it");
        let missing = task.inputs.iter().filter(|input| !self.contents[**input].is_whole).count();
        hold!(missing == task.inputs_missing, "{id}: {missing} inputs are missing");
        match &task.phase {
            Phase::Waiting => hold!(missing > 0, "{id} waits for nothing"),
            Phase::Ready | Phase::Resolving => {
                hold!(missing == 0, "{id} is ready without {missing} inputs")
            }
            Phase::Running(lease) => {
                let lease = self.leases.get(lease);
                hold!(lease.is_some_and(|lease| lease.task == place), "{id} runs without a lease");
            }
            _ => {}
        }
        let second = task.second.map(|second| self.leases.get(&second));
        let is_of_it = second.is_none_or(|lease| lease.is_some_and(|lease| lease.task == place));
        let runs = matches!(task.phase, Phase::Running(_));
        hold!(is_of_it && (runs || task.second.is_none()), "{id}: its second lease is wrong");
        let is_ready = self.classes[task.class].ready.values().flatten().any(|(_, _, other)| *other == place);
        hold!(is_ready == (task.phase == Phase::Ready), "{id}: the queue of its requirement is wrong");
        for plan in &task.plans {
            let is_known = self.plans.get(plan).is_some_and(|plan| plan.tasks.contains_key(&place));
            hold!(is_known, "{id}: plan {plan} does not know it");
        }
        Ok(())
    }

    fn check_class(&self, place: ClassIx) -> Result<(), String> {
        let class = &self.classes[place];
        let tasks = self.task_places.values().filter(|task| self.tasks[**task].class == place).count();
        hold!(class.tasks_len == tasks, "{}: {tasks} tasks", class.requirement);
        let fits = |executor: &ExecutorIx| {
            let executor = &self.executors[*executor];
            executor.may_get_leases() && class.requirement.platform_in(&executor.capability).is_some()
        };
        let fitting: Vec<_> =
            self.executors.places().filter(fits).map(|place| &self.executors[place]).collect();
        // A task may wait for one that is busy.
        let has_free = fitting.iter().any(|executor| executor.slots_free() > 0);
        let has_busy = fitting.iter().any(|executor| !executor.leases.is_empty());
        let mut ready = class.ready.values().flatten().map(|(_, _, task)| &self.tasks[*task]);
        let is_idle =
            !self.is_in_grace() && has_free && !has_busy && ready.any(|task| task.avoided.is_empty());
        hold!(!is_idle, "{}: a task waits beside a free slot", class.requirement);
        Ok(())
    }

    fn check_executor(&self, place: ExecutorIx) -> Result<(), String> {
        let executor = &self.executors[place];
        for lease in &executor.leases {
            let is_known = self.leases.get(lease).is_some_and(|lease| lease.executor == place);
            hold!(is_known, "{}: lease {lease:?} is not its own", executor.name);
        }
        hold!(
            executor.link != Link::Lost || executor.leases.is_empty(),
            "{}: lost with leases",
            executor.name
        );
        hold!(executor.link != Link::Lost || executor.holds.is_empty(), "{}: lost and holds", executor.name);
        for content in &executor.holds {
            let is_known = self.contents[*content].holders.contains(&place);
            hold!(is_known, "{}: content does not know that it is held", executor.name);
        }
        hold!(executor.holds.is_disjoint(&executor.held_once), "{}: holds again and once", executor.name);
        Ok(())
    }

    fn check_leases(&self) -> Result<(), String> {
        let mut running = BTreeSet::new();
        for (id, lease) in &self.leases {
            hold!(lease.key.id == *id, "lease {id:?} has another name");
            let task = &self.tasks[lease.task];
            let is_its_own = task.phase == Phase::Running(*id) || task.second == Some(*id);
            hold!(is_its_own, "lease {id:?} of a task that does not run");
            let is_first = running.insert((lease.task, lease.executor));
            hold!(is_first, "lease {id:?} of a task that has another at the same executor");
            let executor = &self.executors[lease.executor];
            hold!(executor.leases.contains(id), "lease {id:?} is unknown to {}", executor.name);
        }
        Ok(())
    }

    fn check_plans(&self) -> Result<(), String> {
        for (id, plan) in &self.plans {
            let mut ready = BTreeMap::new();
            let mut open = 0;
            for task in plan.tasks.keys().map(|task| &self.tasks[*task]) {
                hold!(task.plans.contains(id), "plan {id}: {} does not know it", task.id.path);
                open += usize::from(task.phase.is_open());
                if task.phase == Phase::Ready {
                    *ready.entry(task.class).or_insert(0) += 1;
                }
            }
            hold!(open == plan.open, "plan {id}: {open} tasks are open, not {}", plan.open);
            hold!(ready == plan.ready, "plan {id}: counts of ready tasks are wrong");
            let pending = plan.roots.iter().filter(|root| root.state == RootState::Pending).count();
            hold!(pending == plan.roots_pending, "plan {id}: {pending} roots are pending");
            hold!(open > 0 || pending > 0, "plan {id} has not ended");
        }
        Ok(())
    }
}
