//! What the journal has recorded becomes the state of a new run: plans that live go on, ended ones stay watchable.
use super::holders::RecordedHolders;
use super::roster::Roster;
use super::run::{Beginning, Engine, EngineError};
use super::traces;
use crate::journal::{AdmittedPlan, Entry, RecordedFailure, RecordedPlan};
use crate::knowledge::{Knowledge, KnowledgeError};
use crate::submit::{Known, held, known_contents, resolve};
use cas::ContentStore;
use model::{ContentId, ExecutorName, PlanId, StorePath, TaskId, TrustDomain};
use scheduler::{
    AvailableRoot, Event, Fact, Holder, Measurement, NewPlan, News, PlanSummary, Root, Snapshot, TaskChange,
    TaskState,
};
use std::collections::HashSet;
use thiserror::Error;

/// A plan that cannot go on.
#[derive(Debug, Error)]
#[error("take up plan {plan} again")]
pub struct RestoreError {
    plan: PlanId,
    source: KnowledgeError,
}

impl Engine {
    /// Takes up what earlier runs have recorded, before anything else happens.
    ///
    /// # Errors
    /// The journal failed.
    pub async fn restore(
        &mut self,
        plans: Vec<RecordedPlan>,
        failures: Vec<RecordedFailure>,
        holders: Vec<(ContentId, Holder)>,
        measurements: Vec<Measurement>,
        executors: Vec<ExecutorName>,
    ) -> Result<(), EngineError> {
        self.apply(Event::Remembered(measurements));
        self.recorded_holders = RecordedHolders::new(holders);
        self.roster = Roster::new(executors);
        for recorded in plans {
            let own = own_failures(&recorded, &failures);
            match &recorded.ended {
                Some((summary, _)) => self.restore_ended(&recorded, &own, summary.clone()),
                None => match self.restore_living(&recorded, &own) {
                    Ok(()) => {}
                    Err(error) => self.give_up(&recorded, &own, &error),
                },
            }
        }
        self.settle().await
    }

    fn restore_living(
        &mut self,
        recorded: &RecordedPlan,
        failures: &[&RecordedFailure],
    ) -> Result<(), RestoreError> {
        let plan = &recorded.plan;
        let (knowledge, store) = (self.parts.knowledge.clone(), self.parts.store.clone());
        let failed = |source| RestoreError { plan: plan.id, source };
        let specs = knowledge
            .task_specs(&plan.tasks, |path| source_id(&knowledge, &*store, &plan.board, path))
            .map_err(failed)?;
        let Known { contents, bindings } = known_contents(&knowledge, &*store, &specs).map_err(failed)?;
        let span = traces::resumed_plan_span(plan.id, &plan.board, &plan.trace);
        tracing::info!(parent: &span, plan = %plan.id, board = %plan.board, tasks = specs.len(), "plan taken up again");
        for failure in failures {
            self.parts.plans.restore_tail(&failure.task, failure.log_tail.clone());
        }
        self.watchable(plan);
        let beginning = Beginning { plan: plan.id, span, done: None };
        let failed = failures.iter().map(|known| (known.task.clone(), known.failure.clone()));
        let plan = NewPlan {
            id: plan.id,
            tasks: specs,
            roots: plan.roots.clone(),
            contents,
            bindings,
            failed: failed.collect(),
        };
        self.begin(beginning, plan);
        Ok(())
    }

    fn watchable(&self, plan: &AdmittedPlan) {
        self.parts.plans.begin(plan.id, &plan.board, plan.tasks.len(), false);
        self.parts.plans.want(plan.id, plan.tasks.clone().into(), false);
    }

    /// A plan that ended stays watchable: what failed, what can be fetched, how it ended.
    fn restore_ended(
        &mut self,
        recorded: &RecordedPlan,
        failures: &[&RecordedFailure],
        summary: PlanSummary,
    ) {
        let plan = &recorded.plan;
        self.watchable(plan);
        for failure in failures {
            self.parts.plans.restore_tail(&failure.task, failure.log_tail.clone());
        }
        let snapshot = Snapshot {
            tasks: failures.iter().map(|failure| failed_task(failure)).collect(),
            roots: plan.roots.iter().flat_map(|root| self.available(root)).collect(),
            waiting: Vec::new(),
        };
        self.parts.plans.keep(plan.id, snapshot);
        self.parts.plans.tell(plan.id, News::Finished(summary));
    }

    /// A plan whose facts are gone is cancelled: nobody waits for ever.
    fn give_up(&mut self, recorded: &RecordedPlan, failures: &[&RecordedFailure], error: &RestoreError) {
        tracing::error!(plan = %recorded.plan.id, error = node::exit::chain(error), "plan cancelled");
        let summary = PlanSummary { cancelled: true, ..PlanSummary::default() };
        self.remember(Entry::Fact(Fact::PlanEnded(recorded.plan.id, summary.clone())));
        self.restore_ended(recorded, failures, summary);
    }

    /// Wanted outputs that the content store has.
    fn available(&self, root: &Root) -> Vec<AvailableRoot> {
        let Some(derivation) = self.parts.knowledge.derivation(&root.task.path) else { return Vec::new() };
        let wanted = derivation.outputs.iter().filter(|output| root.outputs.contains(&output.name));
        let available = |output: &model::Output| {
            let id = ContentId { domain: root.task.domain.clone(), path: output.path.clone() };
            let id = self.parts.knowledge.realised(&id)?;
            let known = self.parts.knowledge.content(&id)?;
            let (task, output) = (root.task.clone(), output.name.clone());
            held(&*self.parts.store, &id, &known).then_some(AvailableRoot { task, output, path: id.path })
        };
        wanted.filter_map(available).collect()
    }
}

/// The failures that a plan has seen: those of its tasks, after it was admitted.
fn own_failures<'a>(recorded: &RecordedPlan, failures: &'a [RecordedFailure]) -> Vec<&'a RecordedFailure> {
    let tasks: HashSet<&TaskId> = recorded.plan.tasks.iter().collect();
    let is_own =
        |failure: &&RecordedFailure| failure.position > recorded.position && tasks.contains(&failure.task);
    failures.iter().filter(is_own).collect()
}

/// The content that a board's source is: shared, or else the board's own.
fn source_id(knowledge: &Knowledge, store: &dyn ContentStore, board: &str, path: &StorePath) -> ContentId {
    let resolved = resolve(knowledge, store, board, path).map(|(id, _)| id);
    resolved.unwrap_or_else(|| ContentId { domain: TrustDomain::Shared, path: path.clone() })
}

fn failed_task(failure: &RecordedFailure) -> TaskChange {
    TaskChange {
        task: failure.task.clone(),
        state: TaskState::Failed,
        executor: None,
        platform: None,
        attempt: 0,
        failure: Some(failure.failure.clone()),
        was_held: false,
        duration_ms: 0,
    }
}
