//! Admission: which tasks of a plan are there already, and which must be built.
use crate::arena::{ContentIx, TaskIx};
use crate::estimate::Described;
use crate::plan::{Plan, PlanRoot, RootState};
use crate::state::{Class, Phase, Task, TaskOutput};
use crate::{Effect, NewPlan, PlanPart, Root, State};
use alloc::{boxed::Box, collections::BTreeSet, vec::Vec};
use model::{ContentId, PlanId, Requirement, TaskSpec};

/// Tasks whose levels are counted together with their admission; of more with the next event, so that none takes too long.
const LEVELS_AT_ONCE_MAX: usize = 10_000;

impl State {
    /// Takes a part of a plan, for which nothing is done yet: its tasks rest. More of a plan that is admitted is left out.
    pub(crate) fn arrive(&mut self, part: &PlanPart) {
        if self.plans.get(&part.id).is_some_and(|plan| plan.is_whole) {
            return;
        }
        for known in &part.contents {
            self.learn_known(known);
        }
        for binding in &part.bindings {
            self.learn_binding(binding);
        }
        // What that changed concerns the plans before this one.
        self.flush();
        self.plans.entry(part.id).or_insert_with(|| Plan::new(self.now));
        self.add_tasks(part.id, &part.tasks);
    }

    /// Admits a plan. One that is known already is left as it is, and only counted.
    pub(crate) fn admit(&mut self, new: NewPlan) {
        let id = new.id;
        if self.plans.get(&id).is_some_and(|plan| plan.is_whole) {
            return self.out.push(Effect::Admitted { plan: id, counts: self.counts(id) });
        }
        self.out.admitted = Some(id);
        self.arrive(&PlanPart { id, tasks: new.tasks, contents: new.contents, bindings: new.bindings });
        let Some(plan) = self.plans.get_mut(&id) else { return };
        plan.is_whole = true;
        let places: Vec<TaskIx> = plan.tasks.keys().copied().collect();
        for root in &new.roots {
            self.add_root(id, root);
        }
        for place in &places {
            let is_new = self.tasks[*place].phase == Phase::Idle;
            if is_new && self.is_satisfied(*place) {
                self.done(*place, true);
            }
        }
        for (task, failure) in new.failed {
            if let Some(place) = self.task_place(&task)
                && self.tasks[place].phase == Phase::Idle
            {
                self.set_phase(place, Phase::Failed(Box::new(failure)));
            }
        }
        self.start_roots(id);
        self.flush();
        if places.len() > LEVELS_AT_ONCE_MAX {
            self.unlevelled = places;
        } else {
            self.count_levels(&places);
        }
        self.queues.plans.insert(id);
        self.drains_changed = true;
        self.out.push(Effect::Admitted { plan: id, counts: self.counts(id) });
    }

    fn add_tasks(&mut self, id: PlanId, specs: &[TaskSpec]) {
        let mut fresh = Vec::new();
        for spec in specs {
            let known = self.task_place(&spec.id);
            let place = known.unwrap_or_else(|| self.add_task(spec));
            if known.is_none() {
                fresh.push((place, spec));
            }
            self.estimate(place);
            self.join(place, id);
        }
        // Now that every task has a place.
        for (place, spec) in fresh {
            self.add_inputs(place, spec);
        }
    }

    fn add_task(&mut self, spec: &TaskSpec) -> TaskIx {
        let class = self.class(&spec.requirement);
        self.classes[class].tasks_len += 1;
        let mut outputs: Vec<TaskOutput> = Vec::with_capacity(spec.outputs.len());
        for output in &spec.outputs {
            let id = ContentId { domain: spec.id.domain.clone(), path: output.path.clone() };
            let content = self.content(&id);
            let name = output.name.as_str().into();
            outputs.push(TaskOutput { name, content, made: content, bound: Box::default() });
        }
        let made: BTreeSet<ContentIx> = outputs.iter().map(|output| output.content).collect();
        let needs_resolution = spec.needs_resolution;
        let described = Described::new(&spec.id.path, &spec.name, spec.kind);
        let task = Task {
            id: spec.id.clone(),
            described,
            class,
            outputs: outputs.into(),
            needs_resolution,
            ..Task::default()
        };
        let place = self.tasks.insert(task);
        for content in made {
            self.contents[content].makers.push(place);
        }
        self.name_task(place);
        self.claim_bound(place);
        place
    }

    fn class(&mut self, requirement: &Requirement) -> crate::arena::ClassIx {
        if let Some(place) = self.class_places.get(requirement) {
            return *place;
        }
        let place = self.classes.insert(Class { requirement: requirement.clone(), ..Class::default() });
        self.class_places.insert(requirement.clone(), place);
        place
    }

    fn add_inputs(&mut self, place: TaskIx, spec: &TaskSpec) {
        let mut inputs: Vec<ContentIx> =
            spec.input_sources.iter().map(|source| self.content(source)).collect();
        let mut is_malformed = false;
        for input in &spec.input_derivations {
            let maker = self.task_place(&input.task).map(|maker| &self.tasks[maker]);
            for name in &input.outputs {
                let output =
                    maker.and_then(|maker| maker.outputs.iter().find(|output| *output.name == **name));
                match output {
                    Some(output) => inputs.push(output.content),
                    None => is_malformed = true,
                }
            }
        }
        inputs.sort_unstable();
        inputs.dedup();
        let mut inputs_missing = 0;
        for input in &inputs {
            self.contents[*input].users.push(place);
            inputs_missing += u32::from(!self.contents[*input].is_whole);
        }
        let task = &mut self.tasks[place];
        task.inputs = inputs.into();
        task.inputs_missing = inputs_missing;
        task.is_malformed = is_malformed;
    }

    fn add_root(&mut self, id: PlanId, root: &Root) {
        let task = self.task_place(&root.task);
        for name in &root.outputs {
            let output = task.and_then(|task| {
                let outputs = &self.tasks[task].outputs;
                outputs.iter().find(|output| *output.name == **name).map(|output| (task, output.content))
            });
            let Some(plan) = self.plans.get_mut(&id) else { return };
            let Some((task, content)) = output else {
                plan.is_malformed = true;
                continue;
            };
            self.contents[content].roots.push((id, plan.roots.len()));
            let state = RootState::Pending;
            plan.roots.push(PlanRoot { task, output: name.clone(), content, state });
            plan.roots_pending += 1;
        }
    }

    /// What is wanted is there, or on its way into the content store, or demanded.
    fn start_roots(&mut self, id: PlanId) {
        let Some(plan) = self.plans.get(&id) else { return };
        let wanted: BTreeSet<ContentIx> = plan.roots.iter().map(|root| root.content).collect();
        for content in wanted {
            if self.contents[content].is_stored {
                self.settle_roots(content, RootState::Available);
            } else if self.contents[content].is_whole {
                self.pull_closure(content);
            } else {
                self.queues.demanded.push(content);
            }
        }
    }
}
