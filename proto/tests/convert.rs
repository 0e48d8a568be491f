//! The door: what a message from the wire must satisfy, and that the way there and back changes nothing.
use model::{Capability, Failure, FailureClass, Outcome, Platform};
use prost::Message;
use proto::convert::{SignedPathInfo, report_outcome};
use proto::v1;

const PATH: &str = "/nix/store/9p0nl625gm5mli8h2xfsgma0zz31g9yc-t.txt";

fn info() -> v1::PathInfo {
    v1::PathInfo {
        id: Some(v1::ContentId { trust_domain: "shared".into(), path: PATH.into() }),
        nar_sha256: vec![7; 32].into(),
        nar_size: 168,
        references: vec![PATH.into()],
        deriver: String::new(),
        content_address: "text:sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic".into(),
        signatures: vec!["k:c2ln".into()],
    }
}

fn refused_field(change: impl FnOnce(&mut v1::PathInfo)) -> Option<&'static str> {
    let mut wire = info();
    change(&mut wire);
    SignedPathInfo::try_from(wire).err().map(|error| error.field)
}

#[test]
fn path_information_is_validated() {
    assert_eq!(refused_field(|_| ()), None);
    assert_eq!(refused_field(|wire| wire.id = None), Some("id"));
    for path in [
        "",
        "/etc/passwd",
        "/nix/store/../x",
        "/nix/store/9p0nl625gm5mli8h2xfsgma0zz31g9yc-",
        "/nix/store/9p0nl625gm5mli8h2xfsgma0zz31g9yc-a/b",
    ] {
        let with_path = |wire: &mut v1::PathInfo| wire.id.as_mut().expect("set above").path = path.into();
        assert_eq!(refused_field(with_path), Some("path"), "{path:?}");
        assert_eq!(refused_field(|wire| wire.references.push(path.into())), Some("references"), "{path:?}");
    }
    let with_domain =
        |wire: &mut v1::PathInfo| wire.id.as_mut().expect("set above").trust_domain = "root".into();
    assert_eq!(refused_field(with_domain), Some("trust_domain"));
    assert_eq!(refused_field(|wire| wire.nar_sha256 = vec![7; 31].into()), Some("nar_sha256"));
    assert_eq!(refused_field(|wire| wire.nar_size = 0), Some("nar_size"));
    assert_eq!(refused_field(|wire| wire.nar_size = u64::MAX), Some("nar_size"));
    assert_eq!(refused_field(|wire| wire.references = vec![PATH.into(); 20_001]), Some("references"));
    assert_eq!(refused_field(|wire| wire.deriver = "x".into()), Some("deriver"));
    assert_eq!(refused_field(|wire| wire.signatures = vec!["x".repeat(513)]), Some("signatures"));
}

#[test]
fn path_information_there_and_back() {
    let domain = SignedPathInfo::try_from(info()).expect("valid");
    assert_eq!(v1::PathInfo::from(&domain), info());
}

#[test]
fn a_message_of_a_later_version_is_understood_as_far_as_it_goes() {
    // An unknown field (number 99, a string) behind a known message.
    let mut bytes = info().encode_to_vec();
    bytes.extend([0x9a, 0x06, 0x02, b'h', b'i']);
    assert_eq!(v1::PathInfo::decode(bytes.as_slice()).expect("decodes"), info());
    // An unknown platform is left out, the known one stays.
    let platform = |kind| Some(v1::Platform { kind, system: "x86_64-linux".into() });
    let offers = [1, 99].map(|kind| v1::Offer { platform: platform(kind), detail: String::new() });
    let capability = v1::Capability { offers: offers.into(), ..v1::Capability::default() };
    let capability = Capability::try_from(capability).expect("valid");
    assert_eq!(capability.offers.len(), 1);
    assert!(matches!(capability.offers[0].platform, Platform::Native(_)));
    // An unknown failure class counts as the executor's trouble.
    let failure =
        Failure::try_from(v1::Failure { failure_class: 99, ..v1::Failure::default() }).expect("valid");
    assert_eq!(failure.class, FailureClass::Infrastructure);
}

#[test]
fn capabilities_are_bounded_and_named() {
    let platform = |system: &str| Some(v1::Platform { kind: 1, system: system.into() });
    let with = |system: &str, slots| {
        let offer = v1::Offer { platform: platform(system), detail: String::new() };
        Capability::try_from(v1::Capability { offers: vec![offer], slots, ..v1::Capability::default() })
    };
    assert!(with("x86_64-linux", 4).is_ok());
    for system in ["", "-", "x86_64 linux", "X86", "a-", "x\n"] {
        assert_eq!(with(system, 4).map_err(|error| error.field), Err("system"), "{system:?}");
    }
    assert_eq!(with("x86_64-linux", 5000).map_err(|error| error.field), Err("slots"));
    let builtin = |system: &str| Platform::try_from(v1::Platform { kind: 4, system: system.into() });
    assert_eq!(builtin("builtin").ok(), Some(Platform::Builtin));
    assert_eq!(builtin("x86_64-linux").map_err(|error| error.field), Err("system"));
    assert_eq!(v1::Platform::from(&Platform::Builtin).system, "builtin");
}

#[test]
fn outcomes_there_and_back() {
    let failure = Failure {
        class: FailureClass::BuildFailed,
        message: "builder failed with exit code 1".into(),
        exit_status: Some(1),
        missing_inputs: Vec::new(),
    };
    let built: SignedPathInfo = info().try_into().expect("valid");
    let output = model::BuiltOutput { name: "out".into(), path: built.id.path, facts: built.facts };
    for outcome in [Outcome::Failed(failure), Outcome::Built(vec![output])] {
        let wire = report_outcome(&model::TrustDomain::Shared, &outcome);
        assert_eq!(Outcome::try_from(wire).expect("valid"), outcome);
    }
    let long = v1::Failure { message: "é".repeat(20_000), ..v1::Failure::default() };
    assert!(Failure::try_from(long).expect("valid").message.len() <= 16 << 10);
}
