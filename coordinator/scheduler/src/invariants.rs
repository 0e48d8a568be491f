//! What must hold between events: counted again from scratch. For tests; each item is looked at once, so that worlds of a hundred
//! tasks can be checked after every event.
use crate::State;
use crate::arena::{ClassIx, ContentIx, ExecutorIx, Marks, Place, TaskIx};
use crate::plan::{Plan, RootState};
use crate::state::{Content, Link, Phase};
use alloc::{format, string::String, vec, vec::Vec};
use model::PlanId;

/// Fails with the words that follow, unless something holds.
macro_rules! hold {
    ($condition:expr, $($words:tt)*) => {
        if !$condition {
            return Err(format!($($words)*));
        }
    };
}

/// Pairs that are kept at both ends, as a sum of mixed numbers: equal sums are equal sets.
#[derive(Default)]
struct Pairs {
    here: u64,
    there: u64,
}

/// What stands for an item among its like.
fn number(item: impl Place) -> u64 {
    u64::try_from(item.position()).unwrap_or(u64::MAX)
}

fn plan_number(plan: PlanId) -> u64 {
    plan.0.iter().fold(0, |sum, byte| sum << 7 ^ sum >> 57 ^ u64::from(*byte))
}

fn mixed(left: u64, right: u64) -> u64 {
    let mixed = left.wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(31) ^ right;
    let mixed = mixed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

impl Pairs {
    fn here(&mut self, left: u64, right: u64) {
        self.here = self.here.wrapping_add(mixed(left, right));
    }

    fn there(&mut self, left: u64, right: u64) {
        self.there = self.there.wrapping_add(mixed(left, right));
    }

    fn agree(&self) -> bool {
        self.here == self.there
    }
}

/// Where one look has been.
struct Look {
    /// Contents that were found to be worked on, and to be pulled, with everything below them.
    is_demanded: Vec<bool>,
    is_fetched: Vec<bool>,
    work: Vec<ContentIx>,
}

impl Look {
    fn at(state: &State) -> Self {
        let contents = state.contents.places_len();
        Self { is_demanded: vec![false; contents], is_fetched: vec![false; contents], work: Vec::new() }
    }
}

impl State {
    /// Checks that everything that is counted or cached agrees with what it was counted from, and that nothing that
    /// could go on stands still.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.check_some(|_| true)?;
        self.check_sums()?;
        self.check_pairs()
    }

    /// Checks what is counted or cached of contents and tasks at some places, and that those do not stand still.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check_some(&self, is_looked_at: impl Fn(usize) -> bool) -> Result<(), String> {
        self.check_briefly()?;
        let mut look = Look::at(self);
        let mut contents = self.contents_here(&is_looked_at);
        contents.try_for_each(|content| self.check_content(content, &mut look))?;
        let mut tasks = self.tasks_here(&is_looked_at);
        tasks.try_for_each(|task| self.check_task(task, &mut look))
    }

    /// In the order of places: the way through memory that takes least.
    fn contents_here(&self, is_looked_at: impl Fn(usize) -> bool) -> impl Iterator<Item = ContentIx> {
        let places = self.contents.places().filter(move |place| is_looked_at(place.position()));
        places.filter(|place| !self.contents[*place].id.path.as_str().is_empty())
    }

    fn tasks_here(&self, is_looked_at: impl Fn(usize) -> bool) -> impl Iterator<Item = TaskIx> {
        let places = self.tasks.places().filter(move |place| is_looked_at(place.position()));
        places.filter(|place| !self.tasks[*place].id.path.as_str().is_empty())
    }

    /// Checks what is counted over all tasks, and their queues.
    ///
    /// # Errors
    /// What does not agree.
    fn check_sums(&self) -> Result<(), String> {
        let (mut ready, mut wanted) = <(Pairs, Pairs)>::default();
        let mut counts = vec![0; self.classes.places_len()];
        for place in self.tasks_here(|_| true) {
            let task = &self.tasks[place];
            counts[task.class.position()] += 1;
            if task.phase == Phase::Ready {
                ready.here(number(task.class), number(place));
            }
            task.plans.iter().for_each(|plan| wanted.here(number(place), plan_number(*plan)));
        }
        for class in self.class_places.values() {
            self.check_class(*class, counts[class.position()], &mut ready)?;
        }
        hold!(ready.agree(), "the queue of a requirement is wrong");
        self.plans.iter().try_for_each(|(id, plan)| self.check_plan(*id, plan, &mut wanted))?;
        hold!(wanted.agree(), "a task and a plan that wants it do not know of each other");
        Ok(())
    }

    /// Checks that what is kept at both ends agrees: names, references, holders, users.
    ///
    /// # Errors
    /// What does not agree.
    pub fn check_pairs(&self) -> Result<(), String> {
        for place in self.task_names.iter() {
            let id = &self.tasks[place].id;
            hold!(self.task_place(id) == Some(place), "{}: its place is wrong", id.path);
        }
        hold!(
            self.contents_here(|_| true).count() == self.content_names.iter().count(),
            "content has no name"
        );
        hold!(self.tasks_here(|_| true).count() == self.task_names.iter().count(), "a task has no name");
        let (mut references, mut holders, mut users) = <(Pairs, Pairs, Pairs)>::default();
        for place in self.contents_here(|_| true) {
            let item = &self.contents[place];
            item.references().iter().for_each(|reference| references.here(number(*reference), number(place)));
            item.referrers.iter().for_each(|referrer| references.there(number(place), number(*referrer)));
            item.holders.iter().for_each(|holder| holders.here(number(place), number(*holder)));
            item.users.iter().for_each(|user| users.here(number(place), number(*user)));
        }
        for executor in self.executors.places() {
            let holds = &self.executors[executor].holds;
            holds.iter().for_each(|content| holders.there(number(*content), number(executor)));
        }
        for task in self.tasks_here(|_| true) {
            self.tasks[task].inputs.iter().for_each(|input| users.there(number(*input), number(task)));
        }
        hold!(references.agree(), "a reference and its content do not know of each other");
        hold!(holders.agree(), "content and its holder do not know of each other");
        hold!(users.agree(), "content and a task that uses it do not know of each other");
        Ok(())
    }

    /// Checks leases, pulls, and that no task waits beside a free slot: enough after an event that had no effect.
    ///
    /// # Errors
    /// What does not hold.
    pub fn check_briefly(&self) -> Result<(), String> {
        let queues = &self.queues;
        hold!(queues.turned.is_empty() && queues.demanded.is_empty(), "consequences are left");
        hold!(queues.stored.is_empty() && queues.doomed.is_empty(), "consequences are left");
        hold!(queues.unused.is_empty(), "consequences are left");
        self.check_leases()?;
        self.executors.places().try_for_each(|executor| self.check_executor(executor))?;
        self.class_places.values().try_for_each(|class| self.check_is_busy(*class))?;
        let in_flight = &self.pulls.in_flight;
        hold!(in_flight.is_disjoint(&self.pulls.wanted), "content is pulled twice");
        hold!(self.pulls.wanted.is_empty() || in_flight.len() == 8, "pulls wait without a reason");
        Ok(())
    }

    fn check_content(&self, place: ContentIx, look: &mut Look) -> Result<(), String> {
        let item = &self.contents[place];
        let (mut missing, mut unstored) = (0, 0);
        for reference in item.references() {
            missing += u32::from(!self.contents[*reference].is_whole);
            unstored += u32::from(!self.contents[*reference].is_stored);
        }
        let id = &item.id;
        hold!(missing == item.references_missing, "{id:?}: {missing} references are missing");
        hold!(unstored == item.references_unstored, "{id:?}: {unstored} references are not stored");
        hold!(item.is_whole == (item.is_available() && missing == 0), "{id:?}: is_whole is wrong");
        let is_stored = item.facts.is_some() && item.in_store && unstored == 0;
        hold!(item.is_stored == is_stored, "{id:?}: is_stored is wrong");
        for holder in &item.holders {
            let executor = &self.executors[*holder];
            hold!(executor.link != Link::Lost, "{id:?}: its holder {} is lost", executor.name);
        }
        let is_named = !(item.makers.is_empty() && item.users.is_empty() && item.referrers.is_empty());
        let is_there = item.in_store && !id.path.is_promise() || !item.holders.is_empty();
        let was_held = || self.executors.places().any(|one| self.executors[one].held_once.contains(&place));
        let is_needed = is_named || is_there || !item.roots.is_empty() || self.pulls.has(place) || was_held();
        hold!(is_needed, "{id:?}: nobody has, names or wants it, and it is remembered");
        let mut waits = false;
        for user in &item.users {
            let task = &self.tasks[*user];
            hold!(!task.plans.is_empty(), "{id:?}: a task of no plan uses it");
            waits |= task.phase.is_waiting();
        }
        for maker in &item.makers {
            hold!(!self.tasks[*maker].plans.is_empty(), "{id:?}: a task of no plan makes it");
        }
        if item.is_whole && (item.is_stored || item.roots.is_empty()) {
            return Ok(());
        }
        let is_wanted = self.has_pending_root(place);
        if !item.is_whole && (waits || is_wanted) {
            self.check_is_demanded(place, look)?;
        }
        if item.is_whole && is_wanted {
            self.check_is_pulled(place, look)?;
        }
        Ok(())
    }

    /// Somebody works on everything below content that is waited for.
    fn check_is_demanded(&self, place: ContentIx, look: &mut Look) -> Result<(), String> {
        look.work.push(place);
        while let Some(place) = look.work.pop() {
            if core::mem::replace(&mut look.is_demanded[place.position()], true) {
                continue;
            }
            let item: &Content = &self.contents[place];
            if item.is_available() {
                let missing = item.references().iter().filter(|other| !self.contents[**other].is_whole);
                look.work.extend(missing);
            } else {
                let has_maker = item.makers.iter().any(|maker| self.tasks[*maker].phase.is_at_work());
                hold!(has_maker, "{:?} is waited for, and nobody makes it", item.id);
            }
        }
        Ok(())
    }

    /// Everything below content that a plan wants is in the content store or on its way there.
    fn check_is_pulled(&self, place: ContentIx, look: &mut Look) -> Result<(), String> {
        look.work.push(place);
        while let Some(place) = look.work.pop() {
            if core::mem::replace(&mut look.is_fetched[place.position()], true) {
                continue;
            }
            let item = &self.contents[place];
            let is_under_way = item.in_store || self.pulls.has(place);
            hold!(is_under_way, "{:?} is wanted and not pulled", item.id);
            let unstored = item.references().iter().filter(|other| !self.contents[**other].is_stored);
            look.work.extend(unstored);
        }
        Ok(())
    }

    fn check_task(&self, place: TaskIx, look: &mut Look) -> Result<(), String> {
        let task = &self.tasks[place];
        let id = &task.id.path;
        hold!(!task.plans.is_empty(), "{id}: no plan wants it");
        let mut missing = 0;
        for input in &task.inputs {
            missing += u32::from(!self.contents[*input].is_whole);
        }
        hold!(missing == task.inputs_missing, "{id}: {missing} inputs are missing");
        match &task.phase {
            Phase::Waiting => hold!(missing > 0, "{id} waits for nothing"),
            Phase::Ready | Phase::Resolving => {
                hold!(missing == 0, "{id} is ready without {missing} inputs");
            }
            // Another one builds what this one waits for.
            Phase::Shared => {
                let made = task.outputs.iter().map(|output| output.made);
                let mut missing = made.filter(|made| !self.contents[*made].is_whole);
                missing.try_for_each(|made| self.check_is_demanded(made, look))?;
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
        Ok(())
    }

    fn check_class(&self, place: ClassIx, tasks: usize, ready: &mut Pairs) -> Result<(), String> {
        let class = &self.classes[place];
        hold!(class.tasks_len == tasks, "{}: {tasks} tasks", class.requirement);
        for (plan, line) in &class.ready {
            for (level, _, task) in line {
                ready.there(number(place), number(*task));
                let item = &self.tasks[*task];
                let is_in_line = item.plans.first() == Some(plan) && item.level == level.0;
                hold!(is_in_line, "{}: it waits in another line", item.id.path);
            }
        }
        Ok(())
    }

    /// Whether a task waits for no input whose holder may come back.
    fn may_begin(&self, task: TaskIx) -> bool {
        let mut closure = self.closure_with(&mut Marks::default(), &self.tasks[task].inputs);
        closure.retain(|content| !self.contents[*content].id.path.is_promise());
        let mut places = self.executors.places();
        places.all(|executor| self.is_in_reach(&closure, executor))
    }

    /// No task that may go anywhere waits beside a free slot.
    fn check_is_busy(&self, place: ClassIx) -> Result<(), String> {
        let class = &self.classes[place];
        let mut ready = class.ready.values().flatten();
        let is_held_back = self.is_in_grace() || !self.unlevelled.is_empty();
        if is_held_back || !ready.any(|(_, _, task)| self.tasks[*task].past().avoided.is_empty()) {
            return Ok(());
        }
        let (mut has_free, mut has_busy) = (false, false);
        for executor in self.executors.places() {
            let executor = &self.executors[executor];
            if executor.may_get_leases() && class.requirement.platform_in(&executor.capability).is_some() {
                has_free |= executor.slots_free() > 0;
                // A task may wait for one that is busy.
                has_busy |= !executor.leases.is_empty();
            }
        }
        if !has_free || has_busy {
            return Ok(());
        }
        let mut ready = class.ready.values().flatten();
        let is_idle =
            ready.any(|(_, _, task)| self.tasks[*task].past().avoided.is_empty() && self.may_begin(*task));
        hold!(!is_idle, "{}: a task waits beside a free slot", class.requirement);
        Ok(())
    }

    fn check_executor(&self, place: ExecutorIx) -> Result<(), String> {
        let executor = &self.executors[place];
        for lease in &executor.leases {
            let is_known = self.leases.get(lease).is_some_and(|lease| lease.executor == place);
            hold!(is_known, "{}: lease {lease:?} is not its own", executor.name);
        }
        let is_idle = executor.leases.is_empty() && executor.holds.is_empty();
        hold!(executor.link != Link::Lost || is_idle, "{}: lost, and has leases or holds", executor.name);
        hold!(executor.holds.is_disjoint(&executor.held_once), "{}: holds again and once", executor.name);
        Ok(())
    }

    fn check_leases(&self) -> Result<(), String> {
        for (id, lease) in &self.leases {
            hold!(lease.key.id == *id, "lease {id:?} has another name");
            // A task names one lease, or two: none has more.
            let task = &self.tasks[lease.task];
            let is_first = task.phase == Phase::Running(*id);
            hold!(is_first != (task.second == Some(*id)), "lease {id:?} of a task that does not run it");
            if !is_first && let Phase::Running(first) = &task.phase {
                let is_alone = self.leases.get(first).is_none_or(|first| first.executor != lease.executor);
                hold!(is_alone, "lease {id:?} of a task that has another at the same executor");
            }
            let executor = &self.executors[lease.executor];
            hold!(executor.leases.contains(id), "lease {id:?} is unknown to {}", executor.name);
        }
        Ok(())
    }

    fn check_plan(&self, id: PlanId, plan: &Plan, wanted: &mut Pairs) -> Result<(), String> {
        let mut ready = vec![0; self.classes.places_len()];
        let mut open = 0;
        for place in plan.tasks.keys() {
            wanted.there(number(*place), plan_number(id));
            let task = &self.tasks[*place];
            open += usize::from(task.phase.is_open());
            ready[task.class.position()] += usize::from(task.phase == Phase::Ready);
        }
        hold!(open == plan.open, "plan {id}: {open} tasks are open, not {}", plan.open);
        let counted: usize = plan.ready.values().sum();
        let agree = plan.ready.iter().all(|(class, count)| ready[class.position()] == *count && *count > 0);
        let is_right = agree && counted == ready.iter().sum::<usize>();
        hold!(is_right, "plan {id}: counts of ready tasks are wrong");
        let pending = plan.roots.iter().filter(|root| root.state == RootState::Pending).count();
        hold!(pending == plan.roots_pending, "plan {id}: {pending} roots are pending");
        hold!(!plan.is_whole || open > 0 || pending > 0, "plan {id} has not ended");
        Ok(())
    }
}
