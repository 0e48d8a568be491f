//! Resource limits of builds: by cgroup v2 where the self-test has just run in one; else what is not in force is said.
use super::program::Architecture;
use super::self_test::SelfTest;
use crate::blocking::blocking;
use crate::config::Config;
use node::exit::chain;
use sandbox::cgroup::{Cgroup, CgroupError, Hierarchy, Limits};

/// What limits and measures builds.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// Where each build gets a cgroup; none: limits are not in force.
    pub hierarchy: Option<Hierarchy>,
    /// As configured.
    pub limits: Limits,
    /// What is in force, for people.
    pub detail: String,
}

impl Resources {
    /// Memory that all builds share, and what one of them may have, in bytes.
    pub fn memory_bytes(&self) -> (u64, u64) {
        let info = rustix::system::sysinfo();
        let of_machine = info.totalram.saturating_mul(u64::from(info.mem_unit));
        let of_group = self.hierarchy.as_ref().and_then(Hierarchy::memory_bytes_max);
        let all = of_group.map_or(of_machine, |limit| limit.min(of_machine));
        let is_in_force = self.hierarchy.as_ref().is_some_and(|hierarchy| hierarchy.has("memory"));
        let of_build = self.limits.memory_bytes_max.filter(|_| is_in_force);
        (all, of_build.map_or(all, |limit| limit.min(all)))
    }

    /// The cgroup of a slot's next build, where there are any. Blocks while the kernel removes the last one.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn cgroup(&self, slot: usize) -> Result<Option<Cgroup>, CgroupError> {
        let make = |hierarchy: &Hierarchy| hierarchy.make(slot, self.limits);
        self.hierarchy.as_ref().map(make).transpose()
    }
}

/// Takes this executor's cgroup over, and runs the self-test's program in one with the limits of builds.
pub async fn choose(config: &Config, test: &Result<SelfTest, String>) -> Resources {
    let limits = match config.limits.of_cgroups() {
        Ok(limits) => limits,
        Err(error) => {
            let detail = format!("no limits of memory, processes and processors ({})", chain(&error));
            return Resources { detail, ..Resources::default() };
        }
    };
    match prove(config, limits, test).await {
        Ok(hierarchy) => {
            let detail = in_force(limits, &hierarchy.missing());
            Resources { hierarchy: Some(hierarchy), limits, detail }
        }
        Err(reason) => Resources { hierarchy: None, limits, detail: not_in_force(limits, &reason) },
    }
}

async fn prove(
    config: &Config,
    limits: Limits,
    test: &Result<SelfTest, String>,
) -> Result<Hierarchy, String> {
    let test = test.as_ref().map_err(Clone::clone)?;
    let architecture = Architecture::own().ok_or("no self-test program for this machine exists")?;
    let configured = config.sandbox.cgroup.clone();
    let entered = blocking(move || {
        let hierarchy = Hierarchy::enter(configured.as_deref())?;
        let cgroup = hierarchy.make(0, limits)?;
        Ok::<_, CgroupError>((hierarchy, cgroup))
    });
    let (hierarchy, cgroup) = entered.await.map_err(|error| chain(&error))?;
    let ran = test.run_in(architecture, cgroup.path()).await;
    blocking(move || drop(cgroup)).await;
    ran.map(|_| hierarchy).map_err(|reason| format!("in a cgroup of its own {reason}"))
}

/// Each limit that is set, in words, with the controller that keeps it.
fn words(limits: Limits) -> Vec<(&'static str, String)> {
    let memory = limits.memory_bytes_max.map(|bytes| ("memory", format!("{} MiB of memory", bytes >> 20)));
    let processes = limits.processes_max.map(|count| ("pids", format!("{count} processes")));
    let weight = limits.cpu_weight.map(|weight| ("cpu", format!("CPU weight {weight}")));
    [memory, processes, weight].into_iter().flatten().collect()
}

fn in_force(limits: Limits, missing: &[&str]) -> String {
    let (kept, lost): (Vec<_>, Vec<_>) =
        words(limits).into_iter().partition(|(controller, _)| !missing.contains(controller));
    let list =
        |words: Vec<(&str, String)>| words.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(", ");
    let mut text = "measured by cgroup v2".to_owned();
    if !kept.is_empty() {
        text.push_str(&format!(", limited to {}", list(kept)));
    }
    if !lost.is_empty() {
        text.push_str(&format!("; not in force: {}", list(lost)));
    }
    if !missing.is_empty() {
        text.push_str(&format!(" (without the controllers {})", missing.join(", ")));
    }
    text
}

fn not_in_force(limits: Limits, reason: &str) -> String {
    let lost: Vec<_> = words(limits).into_iter().map(|(_, text)| text).collect();
    if lost.is_empty() {
        return format!("measured by wait4 only ({reason})");
    }
    format!("measured by wait4 only; not in force: {} ({reason})", lost.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_force_and_what_is_not_is_said() {
        let all = Limits { memory_bytes_max: Some(1 << 30), processes_max: Some(512), cpu_weight: Some(50) };
        for (limits, missing, expected) in [
            (Limits::default(), &[][..], "measured by cgroup v2"),
            (all, &[], "measured by cgroup v2, limited to 1024 MiB of memory, 512 processes, CPU weight 50"),
            (
                all,
                &["memory", "io"],
                "measured by cgroup v2, limited to 512 processes, CPU weight 50; not in force: 1024 MiB of memory \
                 (without the controllers memory, io)",
            ),
        ] {
            assert_eq!(in_force(limits, missing), expected);
        }
        let none = "this host has no cgroup v2";
        assert_eq!(
            not_in_force(Limits::default(), none),
            "measured by wait4 only (this host has no cgroup v2)"
        );
        let text = not_in_force(all, none);
        assert!(text.contains("not in force: 1024 MiB of memory, 512 processes, CPU weight 50 ("), "{text}");
    }

    #[test]
    fn memory_is_the_machines_where_no_cgroup_says_less() {
        let limits = Limits { memory_bytes_max: Some(1), processes_max: None, cpu_weight: None };
        let (all, of_build) = Resources { limits, ..Resources::default() }.memory_bytes();
        assert!(all > 1 << 20 && of_build == all, "a limit that is not in force counts: {of_build} of {all}");
    }
}
