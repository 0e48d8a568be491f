//! What is made of measurements, to the millisecond.
use super::*;
use crate::arena::Place;
use alloc::format;
use model::System;

const FAST: u64 = 2000;
const USUAL: u64 = 1000;
const MIB: u64 = 1 << 20;

fn executors() -> [ExecutorIx; 2] {
    [0, 1].map(ExecutorIx::at)
}

fn described(name: &str) -> Described {
    let path = StorePath::from_validated(&format!("/nix/store/{name}.drv"));
    Described::new(&path, name, Kind::Build)
}

#[test]
fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
    let cases: [(&[u64], u64); 5] =
        [(&[], 0), (&[7], 7), (&[9, 1], 5), (&[1, 100, 3], 3), (&[8, 2, 4, 1_000], 6)];
    for (samples, expected) in cases {
        assert_eq!(median(samples.iter().copied()), expected, "{samples:?}");
    }
}

#[test]
fn only_the_newest_samples_count() {
    let mut samples = Samples::default();
    assert_eq!(samples.known(), None);
    (0..SAMPLES_MAX).for_each(|_| samples.push(10));
    (0..SAMPLES_MAX / 2).for_each(|_| samples.push(30));
    assert_eq!((samples.last.len(), samples.known()), (SAMPLES_MAX, Some(20)), "half of each");
    samples.push(30);
    assert_eq!(samples.known(), Some(30));
}

#[test]
fn a_version_begins_with_a_dash_that_no_letter_follows() {
    let cases = [
        ("gcc-13.2.0", "gcc"),
        ("gcc-wrapper-13.2.0", "gcc-wrapper"),
        ("libx11", "libx11"),
        ("a-", "a-"),
        ("-1", ""),
        ("python3.11-six-1.16", "python3.11-six"),
        ("x-_y", "x"),
        ("", ""),
    ];
    for (name, expected) in cases {
        assert_eq!(package(name), expected, "{name}");
    }
}

#[test]
fn ratios_are_thousandths_within_reason() {
    assert_eq!([ratio(3, 2), ratio(1, 1), ratio(0, 5), ratio(9, 0)], [1_500, 1_000, 1, 9_000]);
    assert_eq!(ratio(u64::MAX, 1), 1_000_000);
    assert_eq!((scaled(3, 2_500), unscaled(5, 2_500), unscaled(5, 0)), (7, 2, 5_000));
    assert_eq!([advertised(USUAL), advertised(FAST), advertised(0)], [1_000, 500, 100_000]);
}

#[test]
fn nobody_knows_then_the_kind_then_the_package_then_the_version_then_the_derivation() {
    let mut estimates = Estimates::default();
    let asked = described("p-1.0");
    assert_eq!((asked.kind(), estimates.is_known(asked)), (Kind::Build, false));
    assert_eq!(estimates.work_ms(asked, false), 25_000);
    assert_eq!(estimates.work_ms(asked, true), 225_000, "nine times under emulation");
    for number in 0..KIND_SAMPLES_MIN {
        assert_eq!(estimates.work_ms(asked, false), 25_000, "{number} of a kind are too few");
        estimates.remember(described(&format!("other{number}-1")), false, 4_000);
    }
    assert_eq!((estimates.work_ms(asked, false), estimates.is_known(asked)), (4_000, false));
    estimates.remember(described("p-0.9"), false, 5_000);
    assert_eq!((estimates.work_ms(asked, false), estimates.is_known(asked)), (5_000, true));
    let same_version = Described::new(&StorePath::from_validated("/nix/store/q.drv"), "p-1.0", Kind::Build);
    estimates.remember(same_version, false, 6_000);
    assert_eq!(estimates.work_ms(asked, false), 6_000);
    estimates.remember(asked, false, 7_000);
    assert_eq!(estimates.work_ms(asked, false), 7_000);
    assert_eq!(estimates.work_ms(asked, true), 63_000);
    estimates.remember(asked, true, 20_000);
    assert_eq!((estimates.work_ms(asked, false), estimates.work_ms(asked, true)), (7_000, 20_000));
    // Of one that only ran emulated, a ninth is believed natively; and nothing takes no time at all.
    estimates.remember(described("e-1"), true, 18_000);
    assert_eq!(estimates.work_ms(described("e-2"), false), 2_000);
    estimates.remember(described("n-1"), false, 0);
    assert_eq!(estimates.work_ms(described("n-1"), false), LEAST_MS);
}

#[test]
fn kinds_are_believed_to_differ_and_to_differ_under_emulation() {
    let estimates = Estimates::default();
    let path = StorePath::from_validated("/nix/store/a.drv");
    let ms = |kind, is_emulated| estimates.work_ms(Described::new(&path, "a", kind), is_emulated);
    let kinds = [Kind::Tiny, Kind::Fetch, Kind::Build, Kind::Heavy];
    assert_eq!(kinds.map(|kind| ms(kind, false)), [120, 1_500, 25_000, 900_000]);
    assert_eq!(kinds.map(|kind| ms(kind, true)), [1_920, 1_500, 225_000, 8_100_000]);
    assert_eq!(kinds.map(|kind| Described::new(&path, "a", kind).kind()), kinds);
    assert!(is_emulated(&Platform::Emulated(System("aarch64-linux".into()))));
    assert!(!is_emulated(&Platform::Builtin));
}

#[test]
fn an_executor_is_as_fast_as_it_says_until_its_builds_say_more() {
    let [one, other] = executors();
    let mut estimates = Estimates::default();
    let task = described("t-1");
    // Nothing was known of it: what it took on a fast one takes twice as long on most, and says nothing about the executor.
    assert_eq!(estimates.learn(task, (one, FAST, false), 1_000), 2_000);
    assert_eq!(estimates.on_ms(2_000, one, FAST, false), 1_000);
    assert_eq!(estimates.on_ms(2_000, other, USUAL, false), 2_000);
    assert_eq!(estimates.on_ms(1, other, USUAL, false), LEAST_MS);
    // Its word weighs as much as four builds.
    for number in 0..BELIEF {
        let task = described(&format!("p{number}-1"));
        estimates.remember(task, false, 1_000);
        estimates.learn(task, (one, FAST, false), 3_000);
    }
    let slowness = estimates.slowness(one, FAST, false);
    assert_eq!(slowness, (500 + 3_000) / 2);
    // It has not emulated yet: what is known of it natively counts there, too.
    assert_eq!(estimates.slowness(one, FAST, true), slowness);
    assert_eq!(estimates.slowness(other, FAST, true), 500);
    assert_eq!(estimates.off_ms(1_750, one, FAST, false), 1_000);
}

#[test]
fn emulation_is_learned_from_what_ran_both_ways() {
    let [one, _] = executors();
    let mut estimates = Estimates::default();
    assert_eq!(estimates.emulation(Kind::Build), EMULATION);
    // Eight packages that take a second natively, and four under emulation.
    for number in 0..2 * BELIEF {
        let task = described(&format!("p{number}-1"));
        estimates.remember(task, false, 1_000);
        estimates.learn(task, (one, USUAL, true), 4_000);
    }
    let (emulation, slowness) = (estimates.emulation(Kind::Build), estimates.slowness(one, USUAL, true));
    assert!(emulation < EMULATION && slowness < USUAL, "{emulation} {slowness}");
    assert!(
        (3_000..9_000).contains(&(emulation * slowness / UNIT)),
        "{emulation} {slowness}: together four times"
    );
    assert_eq!(estimates.emulation(Kind::Heavy), EMULATION, "other kinds are other things");
    assert_eq!(estimates.slowness(one, USUAL, false), slowness);
    let unknown = described("unknown");
    assert_eq!(estimates.work_ms(unknown, true), scaled(estimates.work_ms(unknown, false), emulation));
}

#[test]
fn fetching_takes_what_it_took_and_little_says_nothing() {
    let [one, other] = executors();
    let mut estimates = Estimates::default();
    assert_eq!(estimates.fetch_ms(one, 10 * USUAL_RATE), 10);
    estimates.fetched(one, MIB - 1, 1_000_000);
    assert_eq!(estimates.fetch_ms(one, 10 * USUAL_RATE), 10, "too little");
    estimates.fetched(one, MIB, 1_024);
    assert_eq!((estimates.fetch_ms(one, MIB), estimates.fetch_ms(other, MIB)), (1_024, 10));
    estimates.fetched(other, MIB, 0);
    assert_eq!(estimates.fetch_ms(other, 3 * MIB), 3, "in no time: in a millisecond");
    estimates.fetched(other, MIB, u64::MAX);
    estimates.fetched(other, MIB, u64::MAX);
    assert_eq!(estimates.fetch_ms(other, MIB), MIB, "never a division by nothing");
}

#[test]
fn peaks_of_memory_fade_and_leave_head_room() {
    let mut estimates = Estimates::default();
    let (task, newer) = (described("m-1"), described("m-2"));
    estimates.needed_memory(task, 800);
    assert_eq!(estimates.memory_bytes(task), 0, "never built");
    estimates.remember(task, false, 1_000);
    assert_eq!(estimates.memory_bytes(task), 0, "nobody knows");
    estimates.needed_memory(task, 800);
    assert_eq!((estimates.memory_bytes(task), estimates.memory_bytes(newer)), (1_000, 1_000));
    estimates.needed_memory(task, 0);
    assert_eq!(estimates.memory_bytes(task), 1_000, "0 is no measurement");
    estimates.needed_memory(task, 8);
    assert_eq!(estimates.memory_bytes(task), 875, "an eighth less");
    estimates.needed_memory(task, 1_600);
    assert_eq!(estimates.memory_bytes(task), 2_000);
    // It was not enough: with head room it comes to what was wanted, and never to less than was known.
    estimates.needs_memory(task, 4_000);
    assert_eq!(estimates.memory_bytes(task), 4_000);
    estimates.needs_memory(task, 10);
    assert_eq!(estimates.memory_bytes(task), 4_000);
}

#[test]
fn what_was_measured_is_counted_and_what_is_oldest_forgotten() {
    let mut estimates = Estimates::default();
    assert_eq!(estimates.measured(), 0);
    let restored = Measurement {
        derivation: StorePath::from_validated("/nix/store/p-1.drv"),
        name: "p-1".into(),
        kind: Kind::Build,
        is_emulated: false,
        work_ms: 3_000,
        memory_bytes: 400,
    };
    estimates.restore(&[restored]);
    let task = described("p-1");
    assert_eq!((estimates.work_ms(task, false), estimates.memory_bytes(task)), (3_000, 500));
    let measured = estimates.measured();
    assert!(measured > 1);
    // Each has three names, all different.
    let others = SUBJECTS_MAX / 3 - 1;
    let other = |number: usize| described(&format!("other{number}x-1"));
    (0..others).for_each(|number| estimates.remember(other(number), false, 1_000));
    assert!(estimates.is_known(task) && estimates.measured() > measured);
    estimates.remember(task, false, 3_000);
    (others..others + 4).for_each(|number| estimates.remember(other(number), false, 1_000));
    assert!(estimates.is_known(task), "it was measured again since");
    assert!(!estimates.is_known(other(0)) && estimates.is_known(other(others)));
    assert_eq!((estimates.subjects.len(), estimates.ages.len()), (SUBJECTS_MAX, SUBJECTS_MAX));
}
