//! Admission: which tasks of a plan are there already, and which must be built.
use crate::arena::{ContentIx, TaskIx};
use crate::estimate::Described;
use crate::plan::{Plan, PlanRoot, RootState};
use crate::state::{Class, Phase, Task, TaskOutput};
use crate::{Effect, NewPlan, Root, State};
use alloc::{collections::BTreeSet, vec::Vec};
use model::{ContentId, PlanId, Requirement, TaskSpec};

impl State {
    /// Admits a plan. One that is known already is left as it is, and only counted.
    pub(crate) fn admit(&mut self, new: NewPlan) {
        let id = new.id;
        if self.plans.contains_key(&id) {
            return self.out.push(Effect::Admitted { plan: id, counts: self.counts(id) });
        }
        for known in &new.contents {
            self.learn_known(known);
        }
        for binding in &new.bindings {
            self.learn_binding(binding);
        }
        // What that changed concerns the plans before this one.
        self.flush();
        self.plans.insert(id, Plan::new(self.now));
        let places = self.add_tasks(id, &new.tasks);
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
            if let Some(place) = self.task_places.get(&task).copied()
                && self.tasks[place].phase == Phase::Idle
            {
                self.set_phase(place, Phase::Failed(failure));
            }
        }
        self.start_roots(id);
        self.flush();
        self.count_levels(&places);
        self.queues.plans.insert(id);
        self.drains_changed = true;
        self.out.admitted = Some(id);
        self.out.push(Effect::Admitted { plan: id, counts: self.counts(id) });
    }

    fn add_tasks(&mut self, id: PlanId, specs: &[TaskSpec]) -> Vec<TaskIx> {
        let mut fresh = Vec::new();
        let mut places = Vec::with_capacity(specs.len());
        for spec in specs {
            let known = self.task_places.get(&spec.id).copied();
            let place = known.unwrap_or_else(|| self.add_task(spec));
            if known.is_none() {
                fresh.push((place, spec));
            }
            self.join(place, id);
            places.push(place);
        }
        // Now that every task has a place.
        for (place, spec) in fresh {
            self.add_inputs(place, spec);
        }
        places
    }

    fn add_task(&mut self, spec: &TaskSpec) -> TaskIx {
        let class = self.class(&spec.requirement);
        self.classes[class].tasks_len += 1;
        let mut outputs: Vec<TaskOutput> = Vec::with_capacity(spec.outputs.len());
        for output in &spec.outputs {
            let id = ContentId { domain: spec.id.domain.clone(), path: output.path.clone() };
            let content = self.content(&id);
            outputs.push(TaskOutput { name: output.name.clone(), content, made: content, bound: Vec::new() });
        }
        let made: BTreeSet<ContentIx> = outputs.iter().map(|output| output.content).collect();
        let needs_resolution = spec.needs_resolution;
        let described = Described::new(&spec.id.path, &spec.name, spec.kind);
        let task =
            Task { id: spec.id.clone(), described, class, outputs, needs_resolution, ..Task::default() };
        let place = self.tasks.insert(task);
        for content in made {
            self.contents[content].makers.push(place);
        }
        self.task_places.insert(spec.id.clone(), place);
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
        let mut inputs = BTreeSet::new();
        for source in &spec.input_sources {
            inputs.insert(self.content(source));
        }
        let mut is_malformed = false;
        for input in &spec.input_derivations {
            let maker = self.task_places.get(&input.task).map(|maker| &self.tasks[*maker]);
            for name in &input.outputs {
                let output = maker.and_then(|maker| maker.outputs.iter().find(|output| output.name == *name));
                match output {
                    Some(output) => _ = inputs.insert(output.content),
                    None => is_malformed = true,
                }
            }
        }
        let mut inputs_missing = 0;
        for input in &inputs {
            self.contents[*input].users.push(place);
            inputs_missing += usize::from(!self.contents[*input].is_whole);
        }
        let task = &mut self.tasks[place];
        task.inputs = inputs.into_iter().collect();
        task.inputs_missing = inputs_missing;
        task.is_malformed = is_malformed;
    }

    fn add_root(&mut self, id: PlanId, root: &Root) {
        let task = self.task_places.get(&root.task).copied();
        for name in &root.outputs {
            let output = task.and_then(|task| {
                let outputs = &self.tasks[task].outputs;
                outputs.iter().find(|output| output.name == *name).map(|output| (task, output.content))
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
