//! Heartbeats: what they say of leases that are there, lost, or on their way.
use crate::common::*;
use model::{Epoch, LeaseId};
use scheduler::{LeaseKey, TaskState};

#[test]
fn heartbeats_reconcile_leases() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let lease = grant(&core.admit(1, &[task("a", &[])], &["a"], &[]));
    let unknown = LeaseKey { id: LeaseId(5), epoch: Epoch(1) };
    let effects = core.heartbeat("x1", &[lease.lease, unknown]);
    assert_eq!(cancels(&effects), [("x1".into(), unknown)]);
    // Young leases may still be on their way.
    for _ in 0..5 {
        assert!(core.heartbeat("x1", &[]).is_empty());
    }
    core.heartbeat("x1", &[lease.lease]);
    core.now_ms += 2_001;
    assert!(core.heartbeat("x1", &[]).is_empty());
    core.heartbeat("x1", &[lease.lease]);
    assert!(core.heartbeat("x1", &[]).is_empty());
    core.now_ms += 2_000;
    let again = grant(&core.heartbeat("x1", &[]));
    assert_eq!((again.attempt, again.lease.epoch), (2, Epoch(2)));
    assert_eq!(cancels(&core.heartbeat("x1", &[lease.lease, again.lease])), [("x1".into(), lease.lease)]);
}

#[test]
fn a_lease_on_a_slow_link_is_not_given_to_another() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    core.connect("x2", 1, &[native()]);
    grant(&core.admit(1, &[task("a", &[])], &["a"], &[]));
    let beat = |core: &mut Core| {
        core.now_ms += SETTINGS.heartbeat_interval_ms;
        [core.heartbeat("x1", &[]), core.heartbeat("x2", &[])].concat()
    };
    let beats = SETTINGS.eviction_after_ms / SETTINGS.heartbeat_interval_ms;
    for _ in 0..beats {
        assert!(beat(&mut core).is_empty());
    }
    // But no order is waited for longer than a silent executor is.
    let effects = [beat(&mut core), beat(&mut core)].concat();
    assert_eq!(grants(&effects).len(), 1);
}

#[test]
fn heartbeats_from_before_a_lease_lose_it_not_however_many_are_heard_at_once() {
    let mut core = Core::new();
    core.connect("x1", 1, &[native()]);
    let lease = grant(&core.admit(1, &[task("a", &[])], &["a"], &[])).lease;
    core.now_ms += 60_000;
    for _ in 0..5 {
        core.heartbeat("x1", &[]);
    }
    assert_eq!(core.states(1)["a"], TaskState::Running);
    core.heartbeat("x1", &[lease]);
    // It is lost if it is left out for as long as two heartbeats take.
    let mut granted_at = None;
    for beat in 1..=4 {
        core.now_ms += SETTINGS.heartbeat_interval_ms;
        let effects = core.heartbeat("x1", &[]);
        granted_at = granted_at.or((!grants(&effects).is_empty()).then_some(beat));
    }
    assert_eq!(granted_at, Some(3));
}
