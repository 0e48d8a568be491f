//! Tests of the subordinate id files: what is read, what is skipped, what is said when there are too few.
use super::*;

const TEXT: &str = "other:100000:65536\nbuilder:200000:2\n# note\n1001:300000:10\nbuilder:x:3\nbuilder:5:0\n\
                    builder:4294967295:2\nbuilder:400000\n:1:1\n";

#[test]
fn ranges_are_found_by_name_and_by_number() {
    let check = |user: &str, id: u32, expected: &[(u32, u32)]| {
        let found: Vec<_> = ranges(TEXT, user, id).iter().map(|range| (range.first, range.count)).collect();
        assert_eq!(found, expected, "{user} {id}");
    };
    check("builder", 1001, &[(200_000, 2), (300_000, 10)]);
    check("builder", 7, &[(200_000, 2)]);
    check("other", 7, &[(100_000, 65536)]);
    check("nobody", 7, &[]);
    check("", 7, &[]);
}

#[test]
fn slots_take_one_pair_each_across_ranges() {
    let ids = ids_for_slots(TEXT, "builder:900:3\n", "builder", 1001, 3).unwrap();
    let pairs: Vec<_> = ids.iter().map(|ids| (ids.user, ids.group)).collect();
    assert_eq!(pairs, [(200_000, 900), (200_001, 901), (300_000, 902)]);
}

#[test]
fn too_few_ids_name_the_file_and_the_remedy() {
    let error = ids_for_slots(TEXT, "", "builder", 7, 3).unwrap_err().to_string();
    assert!(error.contains("/etc/subuid gives user builder 2 ") && error.contains("usermod"), "{error}");
    let error = ids_for_slots(TEXT, "", "builder", 7, 2).unwrap_err().to_string();
    assert!(error.contains("/etc/subgid gives user builder 0 "), "{error}");
}
