//! Effects, performed once their facts are durable.
use super::run::{Beginning, Engine, Step};
use super::{grant, traces};
use crate::journal::Entry;
use crate::knowledge::ContentFacts;
use crate::pull::PullSource;
use crate::resolution;
use crate::session::{End, Order, PrefetchOrder};
use model::{ContentId, ExecutorName, Failure, FailureClass, Outcome, PlanId, StorePath, TaskId};
use scheduler::{Effect, Event, Fact, Grant, GrantedInput, News, Settled};

impl Engine {
    pub(super) fn perform(&mut self, step: Step) {
        match step {
            Step::Open(session) => {
                tracing::info!(executor = %session.executor, data_address = %session.data_address, "executor connected");
                self.sessions.open(session, self.clock.passed());
            }
            Step::Begin(beginning) => self.perform_begin(*beginning),
            Step::Perform(effect) => self.perform_effect(effect),
            Step::Reported(executor, lease, outcome) => self.traces.reported(&executor, lease, outcome),
            Step::Adopt(executor, lease, task) => self.parts.plans.leased(lease, &executor, &task),
            Step::Forget(plan) => self.parts.plans.forget(plan),
            // Who no longer waits does not need the answer.
            Step::Cancelled(done, was_running) => {
                let _ = done.send(was_running);
            }
            Step::Snapshot(plan, done) => {
                let snapshot = self.state.snapshot(plan);
                let view = snapshot.and_then(|snapshot| self.parts.plans.view(plan, snapshot));
                let _ = done.send(view);
            }
        }
    }

    /// What settled tasks have made is known before anybody is told of it.
    pub(super) fn learn(&self, entries: &[Entry]) {
        for entry in entries {
            if let Entry::Fact(Fact::Bound(binding)) = entry {
                self.parts.knowledge.bind(binding.clone());
            }
            if let Entry::Fact(Fact::TaskSettled { settled: Settled::Built { outputs, .. }, .. }) = entry {
                for output in outputs {
                    let facts =
                        ContentFacts { facts: output.facts.clone(), references: output.references.clone() };
                    self.parts.knowledge.insert_content(output.id.clone(), facts);
                }
            }
        }
    }

    fn perform_begin(&mut self, beginning: Beginning) {
        let Beginning { plan, span, done } = beginning;
        self.traces.plan(plan, span);
        self.admissions.extend(done.map(|done| (plan, done)));
    }

    fn perform_effect(&mut self, effect: Effect) {
        match effect {
            // Sorted out before.
            Effect::Record(_) => {}
            Effect::Resolve { task, number, bound } => self.resolve(task, number, &bound),
            Effect::Grant(grant) => self.grant(&grant),
            Effect::Cancel { executor, lease } => self.send(&executor, Order::Cancel(lease)),
            Effect::Acknowledge { executor, lease } => {
                self.parts.plans.released(lease, &executor);
                self.send(&executor, Order::Acknowledge(lease));
            }
            Effect::Pull { content, from, plan } => self.pull(content, from, plan),
            Effect::Admitted { plan, counts } => {
                if let Some(done) = self.admissions.remove(&plan) {
                    let _ = done.send(counts);
                }
            }
            Effect::Ended { plan, last } => self.parts.plans.keep(plan, last),
            Effect::Tell { plan, news } => {
                match &news {
                    News::Task(change) => self.traces.changed(plan, change),
                    News::Finished(summary) => {
                        tracing::info!(
                            %plan,
                            succeeded = summary.succeeded,
                            cancelled = summary.cancelled,
                            built = summary.tasks_built,
                            failed = summary.tasks_failed,
                            duration_ms = summary.duration_ms,
                            bound_ms = summary.bound_ms,
                            "plan ended"
                        );
                        self.traces.plan_ended(plan, summary);
                    }
                    News::RootAvailable { .. } | News::Waiting(_) => {}
                }
                self.parts.plans.tell(plan, news);
            }
            Effect::SetAside { executor, for_ms, reason } => {
                tracing::warn!(%executor, for_ms, reason, "set aside: one attempt after another failed there");
            }
            Effect::Differs { task, output, executor } => {
                tracing::warn!(task = %task.path, %output, %executor, "not reproducible: two executors built other bytes");
            }
            Effect::Prefetch { executor, inputs, plan } => self.prefetch(&executor, &inputs, plan),
            Effect::MayLeave(executor) => self.send(&executor, Order::MayLeave),
            Effect::MayDrop { executor, number, contents } => {
                tracing::debug!(%executor, paths = contents.len(), "may drop what nobody needs there");
                self.send(&executor, Order::MayDrop { number, contents });
            }
            Effect::Evict(executor) => {
                tracing::warn!(%executor, "executor lost: its tasks run elsewhere");
                self.traces.lost(&executor);
                if let Some(entry) = self.roster.lost(&executor) {
                    self.remember(entry);
                }
                self.sessions.end(&executor, End::Lost);
            }
        }
    }

    fn send(&mut self, executor: &ExecutorName, order: Order) {
        if !self.sessions.send(executor, order) {
            self.again.push_back(Event::ExecutorDisconnected(executor.clone()));
        }
    }

    /// Says what a derivation comes to, and what is known of that.
    fn resolve(&mut self, task: TaskId, number: u64, bound: &[(StorePath, StorePath)]) {
        let resolution = resolution::resolution(&task, bound, &self.parts.knowledge, &*self.parts.store);
        let resolution = resolution.map(|mut resolution| {
            for content in &mut resolution.contents {
                content.holders.extend(self.holders_of_last_run(&content.id));
            }
            resolution
        });
        let resolution = resolution.map_err(|error| {
            tracing::error!(task = %task.path, error = node::exit::chain(&error), "not resolved");
            let message = node::exit::chain(&error);
            let class = FailureClass::InputRejected;
            Failure { class, message, exit_status: None, missing_inputs: Vec::new() }
        });
        self.again.push_back(Event::Resolved { task, number, resolution });
    }

    fn grant(&mut self, grant: &Grant) {
        let trace = self.traces.leased(grant);
        tracing::debug!(
            executor = %grant.executor,
            name = traces::name(&grant.task),
            platform = %grant.platform,
            lease = grant.lease.id.0,
            attempt = grant.attempt,
            is_speculative = grant.is_speculative,
            "leased"
        );
        let order = grant::order(grant, &self.parts.knowledge, &self.sessions, trace, self.parts.limits);
        match order {
            Ok(order) => {
                if grant.is_speculative {
                    self.parts.plans.leased_second(grant.lease, &grant.executor, &grant.task);
                } else {
                    self.parts.plans.leased(grant.lease, &grant.executor, &grant.task);
                }
                self.send(&grant.executor, Order::Lease(Box::new(order)));
            }
            Err(error) => {
                // It cannot be built by anybody: facts that should be there are not.
                tracing::error!(task = %grant.task.path, %error, "cannot make a lease");
                self.again.push_back(Event::LeaseReported {
                    executor: grant.executor.clone(),
                    lease: grant.lease,
                    task: grant.task.clone(),
                    outcome: Outcome::Failed(Failure {
                        class: FailureClass::InputRejected,
                        message: error.to_string(),
                        exit_status: None,
                        missing_inputs: Vec::new(),
                    }),
                });
            }
        }
    }

    fn prefetch(&mut self, executor: &ExecutorName, inputs: &[GrantedInput], plan: PlanId) {
        match grant::inputs(inputs, &self.parts.knowledge, &self.sessions) {
            Ok(inputs) => {
                let trace = node::propagate::of(&self.traces.of_plan(Some(plan)));
                self.send(executor, Order::Prefetch(PrefetchOrder { inputs, trace }));
            }
            // The lease will say so again, and count.
            Err(error) => tracing::error!(%executor, %error, "cannot say what may be fetched"),
        }
    }

    fn pull(&mut self, content: ContentId, from: Vec<ExecutorName>, plan: Option<PlanId>) {
        let source = |name: &ExecutorName| {
            let address = self.sessions.address(name)?.to_string();
            Some(PullSource { name: name.clone(), address })
        };
        let reachable: Vec<_> = from.iter().filter_map(source).collect();
        if reachable.is_empty() {
            // Tried again when time has passed: nobody has refused.
            self.again.push_back(Event::PullFailed { content, from: Vec::new() });
        } else {
            self.traces.of_plan(plan).in_scope(|| self.parts.puller.pull(content, reachable));
        }
    }
}
