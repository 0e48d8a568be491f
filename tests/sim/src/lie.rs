//! What executors say that is not so. What nobody can tell from the truth (other bytes of what nobody has) is not said here.
use crate::bits::Bits;
use crate::common::path;
use crate::world::World;
use model::{BuiltOutput, Outcome};
use scheduler::{Event, LeaseKey};

impl World {
    /// An executor lies about a build of its own, somebody else's, what it runs, or what it has.
    pub fn lie(&mut self, position: usize) -> bool {
        if !self.executors[position].is_up || self.executors[position].is_frozen {
            return false;
        }
        match self.random.below(8) {
            0 => self.steal(position),
            1 => self.claim(position),
            2 => self.invent(position),
            _ => self.lie_about_build(position),
        }
    }

    fn lie_about_build(&mut self, position: usize) -> bool {
        let Some((key, job)) = self.random.pick(&self.executors[position].running).cloned() else {
            return false;
        };
        let task = self.graph.task_places[&job.task];
        let Outcome::Built(mut outputs) = self.graph.truths[task].outcome.clone() else { return false };
        self.falsify(position, task, &mut outputs);
        self.executors[position].finish(key, Outcome::Built(outputs), &[]);
        true
    }

    fn falsify(&mut self, position: usize, task: usize, outputs: &mut Vec<BuiltOutput>) {
        let place = self.random.below(outputs.len());
        let truth = &self.graph.truths[task];
        let is_stored = self.store.has(truth.outputs[place]);
        let mut visible = truth.inputs_closure;
        visible.add_all(&truth.outputs.iter().copied().collect());
        let all: Bits = (0..self.graph.contents.len()).collect();
        let foreign: Vec<usize> = all.without(&visible).iter().collect();
        let foreign = self.random.pick(&foreign).map(|content| self.graph.contents[*content].id.path.clone());
        match (self.random.below(6), foreign) {
            (0, _) => _ = outputs.remove(place),
            (1, _) => outputs.push(outputs[place].clone()),
            (2, _) => outputs[place].facts.references.push(path("nowhere")),
            // An output without a path in its derivation may be whatever its content gives: the shell computes that.
            (3, Some(foreign)) if !self.graph.tasks[task].outputs[place].path.is_promise() => {
                outputs[place].path = foreign;
            }
            (4, _) if is_stored => {
                self.executors[position].has_lied = true;
                outputs[place].facts.nar_sha256[0] ^= 1;
            }
            (_, Some(foreign)) => outputs[place].facts.references.push(foreign),
            _ => outputs.clear(),
        }
    }

    /// It reports what another one builds.
    fn steal(&mut self, position: usize) -> bool {
        let other = self.random.below(self.executors.len());
        let Some((lease, job)) = self.random.pick(&self.executors[other].running).cloned() else {
            return false;
        };
        let executor = &mut self.executors[position];
        if other == position || !executor.is_linked {
            return false;
        }
        let outcome = self.graph.truths[self.graph.task_places[&job.task]].outcome.clone();
        let report = Event::LeaseReported { executor: executor.name.clone(), lease, task: job.task, outcome };
        executor.outbox.push_back(report);
        true
    }

    /// When it dials again, it will claim what it does not have.
    fn claim(&mut self, position: usize) -> bool {
        let random = &mut self.random;
        let claims = self.journal.known.without(&self.executors[position].disk);
        let claims: Bits = claims.iter().filter(|_| random.once_in(4)).collect();
        let executor = &mut self.executors[position];
        if claims.is_empty() || !executor.is_reachable(self.now_ms) {
            return false;
        }
        executor.unlink();
        self.engine.claims[position] = claims;
        let name = self.executors[position].name.clone();
        self.engine.pending.push_back(Event::ExecutorDisconnected(name));
        self.disturb(position);
        true
    }

    /// It says that it runs what nobody leased to it.
    fn invent(&mut self, position: usize) -> bool {
        let executor = &mut self.executors[position];
        if !executor.is_linked {
            return false;
        }
        let id = model::LeaseId(self.settings.first_lease.0 + self.random.below(200) as u64);
        let mut running: Vec<LeaseKey> = executor.running.iter().map(|(key, _)| *key).collect();
        running.push(LeaseKey { id, epoch: model::Epoch(1) });
        executor.outbox.push_back(Event::Heartbeat {
            executor: executor.name.clone(),
            running,
            is_full: false,
        });
        true
    }
}
