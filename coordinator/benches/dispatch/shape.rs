//! Plans of trivial tasks in shapes that real ones have: all on the closure of a toolchain, some side by side, some in chains.
use crate::graph::{Drv, drv};

/// Paths of the toolchain, each with some of the others in its closure.
const TOOLS: usize = 40;
const REFERENCES: usize = 4;
/// Tasks of the mixed plan that only need the toolchain, by group, and steps of its chains.
const GROUPS: usize = 100;
const GROUP_TASKS: usize = 120;
const CHAINS: usize = 80;
const STEPS: usize = 100;

/// Derivations with, by position, what each needs and what its output refers to.
pub struct Plan {
    pub drvs: Vec<Drv>,
    pub inputs: Vec<Vec<usize>>,
    pub references: Vec<Vec<usize>>,
}

impl Plan {
    /// Twenty thousand tasks: wide and deep.
    pub fn mixed() -> Self {
        let mut plan = Self::toolchain("mixed");
        let mut ends = Vec::new();
        for group in 0..GROUPS {
            let tasks: Vec<usize> =
                (0..GROUP_TASKS).map(|task| plan.step(&format!("wide-{group}-{task}"), &[])).collect();
            ends.push(plan.step(&format!("group-{group}"), &tasks));
        }
        ends.extend((0..CHAINS).map(|chain| plan.chain(chain, STEPS)));
        plan.end(&ends);
        plan
    }

    /// So many chains of so many steps.
    pub fn chains(chains: usize, steps: usize) -> Self {
        let mut plan = Self::toolchain("chains");
        let ends: Vec<usize> = (0..chains).map(|chain| plan.chain(chain, steps)).collect();
        plan.end(&ends);
        plan
    }

    fn toolchain(name: &str) -> Self {
        let mut plan = Self { drvs: Vec::new(), inputs: Vec::new(), references: Vec::new() };
        for tool in 0..TOOLS {
            let others: Vec<usize> = (tool.saturating_sub(REFERENCES)..tool).collect();
            plan.add(&format!("{name}-tool-{tool}"), others.clone(), others);
        }
        plan
    }

    fn chain(&mut self, chain: usize, steps: usize) -> usize {
        let first = self.step(&format!("chain-{chain}-0"), &[]);
        (1..steps).fold(first, |before, step| self.step(&format!("chain-{chain}-{step}"), &[before]))
    }

    /// Needs the toolchain and some more, and refers to the toolchain.
    fn step(&mut self, name: &str, more: &[usize]) -> usize {
        let inputs = [&[TOOLS - 1], more].concat();
        self.add(name, inputs, vec![TOOLS - 1])
    }

    /// The root, which refers to nothing: its closure is pulled in no time.
    fn end(&mut self, ends: &[usize]) {
        self.add("root", ends.to_vec(), Vec::new());
    }

    fn add(&mut self, name: &str, inputs: Vec<usize>, references: Vec<usize>) -> usize {
        let made = drv(name, &inputs.iter().map(|input| &self.drvs[*input]).collect::<Vec<_>>(), &[]);
        self.drvs.push(made);
        self.inputs.push(inputs);
        self.references.push(references);
        self.drvs.len() - 1
    }
}
