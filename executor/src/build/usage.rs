//! What a build used, and whether it ended for want of memory: from what the launcher and its cgroup tell. Pure.
use super::run::Ended;
use crate::lease::Usage;
use sandbox::cgroup::{Limits, Used};
use sandbox::protocol::Finished;

/// What was used: by cgroups where they tell, else as the kernel counted for process 1.
pub fn usage(finished: Option<&Finished>, used: Option<&Used>) -> Option<Usage> {
    let milliseconds = |microseconds: u64| microseconds / 1000;
    let counted = finished.map(|finished| Usage {
        memory_bytes_peak: finished.resident_bytes_max,
        user_ms: milliseconds(finished.user_microseconds),
        system_ms: milliseconds(finished.system_microseconds),
        read_bytes: finished.read_bytes,
        written_bytes: finished.written_bytes,
        is_of_all: false,
    });
    let Some(used) = used else { return counted };
    let counted = counted.unwrap_or_default();
    Some(Usage {
        memory_bytes_peak: used.memory_bytes_peak.unwrap_or(counted.memory_bytes_peak),
        user_ms: used.user_microseconds.map_or(counted.user_ms, milliseconds),
        system_ms: used.system_microseconds.map_or(counted.system_ms, milliseconds),
        read_bytes: used.read_bytes.unwrap_or(counted.read_bytes),
        written_bytes: used.written_bytes.unwrap_or(counted.written_bytes),
        is_of_all: used.memory_bytes_peak.is_some(),
    })
}

/// How a build ended: a failure with processes that were killed for want of memory is one of memory.
pub fn judge(ended: Ended, used: Option<&Used>, limits: Limits) -> Ended {
    let failed_by_itself =
        matches!(ended, Ended::Exited(_) | Ended::Signalled(_)) && ended != Ended::Exited(0);
    if failed_by_itself && used.is_some_and(|used| used.memory_kills > 0) {
        return Ended::OutOfMemory { limit_bytes: limits.memory_bytes_max };
    }
    ended
}

/// The limit of processes, when the build wanted more.
pub fn processes_refused_at(used: Option<&Used>, limits: Limits) -> Option<u64> {
    used.filter(|used| used.processes_refused > 0).and(limits.processes_max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sandbox::protocol::{Cause, End};

    #[test]
    fn cgroups_tell_of_all_processes_and_process_1_of_itself() {
        let finished = Finished {
            end: End::Exit(0),
            cause: Cause::Itself,
            user_microseconds: 2000,
            system_microseconds: 3999,
            resident_bytes_max: 5,
            read_bytes: 512,
            written_bytes: 0,
        };
        let counted = Usage {
            memory_bytes_peak: 5,
            user_ms: 2,
            system_ms: 3,
            read_bytes: 512,
            written_bytes: 0,
            is_of_all: false,
        };
        assert_eq!(usage(None, None), None);
        assert_eq!(usage(Some(&finished), None), Some(counted));
        let used = Used { memory_bytes_peak: Some(70), user_microseconds: Some(9000), ..Used::default() };
        let expected = Usage { memory_bytes_peak: 70, user_ms: 9, is_of_all: true, ..counted };
        assert_eq!(usage(Some(&finished), Some(&used)), Some(expected));
    }

    #[test]
    fn only_a_failure_is_one_of_memory() {
        let limits = Limits { memory_bytes_max: Some(64), processes_max: Some(9), cpu_weight: None };
        let killed = Used { memory_kills: 2, processes_refused: 1, ..Used::default() };
        let out = Ended::OutOfMemory { limit_bytes: Some(64) };
        for (ended, used, expected) in [
            (Ended::Signalled(9), Some(&killed), out.clone()),
            (Ended::Exited(137), Some(&killed), out),
            (Ended::Exited(0), Some(&killed), Ended::Exited(0)),
            (Ended::Cancelled, Some(&killed), Ended::Cancelled),
            (Ended::Signalled(9), Some(&Used::default()), Ended::Signalled(9)),
            (Ended::Signalled(9), None, Ended::Signalled(9)),
        ] {
            assert_eq!(judge(ended, used, limits), expected);
        }
        assert_eq!(processes_refused_at(Some(&killed), limits), Some(9));
        assert_eq!(processes_refused_at(Some(&Used::default()), limits), None);
    }
}
