//! The bound of a plan: less than this it could not have taken with these executors, whoever placed its tasks.
//!
//! The larger of its longest path and of its work over the most slots that there were, both with what builds took, each as if it had run
//! where builds of its platform take least.
use crate::State;
use crate::estimate::is_emulated;
use crate::state::{Lease, Phase};
use model::PlanId;

impl State {
    /// A task was built: it counts for all plans that want it. Call before its users can be built.
    pub(crate) fn count_for_bound(&mut self, lease: &Lease, took_ms: u64) {
        let least_ms = self.least_ms(lease, took_ms);
        let before_ms = self.tasks[lease.task].inputs.iter().map(|input| {
            let makers = self.contents[*input].makers.iter().map(|maker| &self.tasks[*maker]);
            // Of several that make the same, the one that was built.
            makers.filter(|maker| maker.phase == Phase::Done).map(|maker| maker.path_ms).max().unwrap_or(0)
        });
        let path_ms = before_ms.max().unwrap_or(0).saturating_add(least_ms);
        let slots = self.slots();
        let task = &mut self.tasks[lease.task];
        task.path_ms = path_ms;
        for plan in &task.plans {
            if let Some(plan) = self.plans.get_mut(plan) {
                // What was done before it came, for another plan, cost it nothing.
                let elapsed_ms = self.now.0.saturating_sub(plan.admitted.0);
                plan.work_ms = plan.work_ms.saturating_add(least_ms.min(elapsed_ms));
                plan.path_ms = plan.path_ms.max(path_ms.min(elapsed_ms));
                plan.slots_max = plan.slots_max.max(slots);
            }
        }
    }

    /// Slots of all executors that may get leases.
    fn slots(&self) -> u64 {
        let slots = |executor| {
            let item = &self.executors[executor];
            if item.may_get_leases() { u64::from(item.capability.slots) } else { 0 }
        };
        self.executors.places().map(slots).sum()
    }

    /// What a build would have taken where it takes least, of those that run it the same way.
    fn least_ms(&self, lease: &Lease, took_ms: u64) -> u64 {
        let is_emulated_here = is_emulated(&lease.platform);
        let speed = self.executors[lease.executor].speed();
        let work_ms = self.estimates.off_ms(took_ms, lease.executor, speed, is_emulated_here);
        let eligible = self.classes[self.tasks[lease.task].class].eligible.iter();
        let same = eligible.filter(|(_, platform)| is_emulated(platform) == is_emulated_here);
        let elsewhere = same.map(|(executor, _)| self.on_executor(work_ms, *executor, is_emulated_here));
        elsewhere.fold(took_ms, u64::min)
    }

    /// The bound of a plan so far, in milliseconds.
    pub(crate) fn bound_ms(&self, plan: PlanId) -> u64 {
        let Some(plan) = self.plans.get(&plan) else { return 0 };
        plan.path_ms.max(plan.work_ms / plan.slots_max.max(1))
    }
}
