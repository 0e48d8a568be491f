//! The words: what meets a requirement, who sees a domain, which texts are names.
use model::{Capability, Offer, PlanId, Platform, Requirement, System, TrustDomain};
use std::sync::Arc;

fn system(name: &str) -> System {
    System(Arc::from(name))
}

fn requirement(name: &str, target: Option<&str>, features: &[&str]) -> Requirement {
    let features = features.iter().map(|feature| Arc::from(*feature)).collect();
    Requirement { system: system(name), target: target.map(system), features }
}

#[test]
fn a_task_runs_only_where_its_platform_is_offered() {
    let native = Platform::Native(system("x86_64-linux"));
    let emulated = Platform::Emulated(system("aarch64-linux"));
    let cross = Platform::Cross { build: system("x86_64-linux") };
    let builtin = Platform::Builtin;
    let table = [
        (requirement("x86_64-linux", None, &[]), [true, false, false, false]),
        (requirement("aarch64-linux", None, &[]), [false, true, false, false]),
        (requirement("x86_64-linux", Some("aarch64-linux"), &[]), [false, false, true, false]),
        (requirement("aarch64-linux", Some("riscv64-linux"), &[]), [false, false, false, false]),
        (requirement("builtin", None, &[]), [false, false, false, true]),
        (requirement("riscv64-linux", None, &[]), [false, false, false, false]),
    ];
    for (requirement, expected) in table {
        let met = [&native, &emulated, &cross, &builtin].map(|platform| requirement.is_met_by(platform));
        assert_eq!(met, expected, "{requirement}");
    }
}

#[test]
fn features_are_all_needed() {
    let offer = Offer { platform: Platform::Native(system("x86_64-linux")), detail: String::new() };
    let features = vec![Arc::from("big-parallel"), Arc::from("benchmark")];
    let capability = Capability { offers: vec![offer], features, ..Capability::default() };
    for (wanted, expected) in
        [(&[][..], true), (&["big-parallel"], true), (&["big-parallel", "kvm"], false), (&["kvm"], false)]
    {
        let requirement = requirement("x86_64-linux", None, wanted);
        assert_eq!(requirement.platform_in(&capability).is_some(), expected, "{requirement}");
    }
}

#[test]
fn trust_domains() {
    let board = |name: &str| TrustDomain::Board(Arc::from(name));
    for text in ["shared", "board:pi", "board:pi-4.lan"] {
        assert_eq!(TrustDomain::parse(text).map(|domain| domain.to_string()).as_deref(), Some(text));
    }
    for text in ["", "Shared", "board:", "board:a/b", "board:..", "board: x", "executor:x", "board:a\nb"] {
        assert_eq!(TrustDomain::parse(text), None, "{text:?}");
    }
    assert!(TrustDomain::Shared.is_visible_to_board("pi"));
    assert!(board("pi").is_visible_to_board("pi"));
    assert!(!board("pi").is_visible_to_board("pi2"));
    assert_eq!(TrustDomain::Shared.join(&board("pi")), Some(board("pi")));
    assert_eq!(board("a").join(&board("b")), None);
}

#[test]
fn plan_ids_are_32_hexadecimal_digits() {
    let id = PlanId::parse("0123456789abcdef0123456789abcdef").map(|id| id.to_string());
    assert_eq!(id.as_deref(), Some("0123456789abcdef0123456789abcdef"));
    for text in [
        "",
        "0",
        "0123456789abcdef0123456789abcdeg",
        "+123456789abcdef0123456789abcdef",
        "é123456789abcdef0123456789abcde",
    ] {
        assert_eq!(PlanId::parse(text), None, "{text:?}");
    }
}
