//! Known answers, all from real Nix: base 32, hashes, store paths, derivations, archives, signatures.
use nix_formats::derivation::{self, derivation_name};
use nix_formats::hash::{Hash, hex, sha256};
use nix_formats::modulo::{self, ModuloHash, VerifyError};
use nix_formats::nar::{Encoder, Event};
use nix_formats::narinfo::PathInfo;
use nix_formats::signature::{PublicKey, SecretKey};
use nix_formats::store_path::{StoreDir, StorePath, fold20};
use nix_formats::{base32, structured};
use std::collections::HashMap;

const SOURCE: (&str, &str) = (
    "/nix/store/zaf5xbcic84zwa1pp9vgac36b5bgf66i-src.tar.gz.drv",
    r#"Derive([("out","/nix/store/m3djwsc1npcjb3qfh0ipww4zcqp765bd-src.tar.gz","sha256","0000000000000000000000000000000000000000000000000000000000000001")],[],[],"x86_64-linux","builtin:fetchurl",[],[("builder","builtin:fetchurl"),("name","src.tar.gz"),("out","/nix/store/m3djwsc1npcjb3qfh0ipww4zcqp765bd-src.tar.gz"),("outputHash","0000000000000000000000000000000000000000000000000000000000000001"),("outputHashAlgo","sha256"),("outputHashMode","flat"),("system","x86_64-linux"),("url","http://example.org/src.tar.gz")])"#,
);
const TREE: (&str, &str) = (
    "/nix/store/zqjq7n1krrv3fz6iz9g0ppwyx5k2mpkb-tree.drv",
    r#"Derive([("out","/nix/store/42w0fdvrafxfyb76rr8bayd7zw3w8ban-tree","r:sha256","a50a5ab6d992f5598edd92105059fae9acfc192981e08bd88534c2167e92526a")],[],[],"x86_64-linux","/bin/sh",["-c","mkdir $out"],[("builder","/bin/sh"),("name","tree"),("out","/nix/store/42w0fdvrafxfyb76rr8bayd7zw3w8ban-tree"),("outputHash","sha256-pQpattmS9VmO3ZIQUFn66az8GSmB4IvYhTTCFn6SUmo="),("outputHashMode","recursive"),("system","x86_64-linux")])"#,
);
const ONE: (&str, &str) = (
    "/nix/store/w51084ksv60sy0fkcb9hz4rxv8rv2avb-one.drv",
    r#"Derive([("out","/nix/store/dmyy8r66h2gpcd7p6lm670kknzqwgcaz-one","r:sha1","da39a3ee5e6b4b0d3255bfef95601890afd80709")],[],[],"x86_64-linux","/bin/sh",["-c","true"],[("builder","/bin/sh"),("name","one"),("out","/nix/store/dmyy8r66h2gpcd7p6lm670kknzqwgcaz-one"),("outputHash","da39a3ee5e6b4b0d3255bfef95601890afd80709"),("outputHashAlgo","sha1"),("outputHashMode","recursive"),("system","x86_64-linux")])"#,
);
const MULTI: (&str, &str) = (
    "/nix/store/nbp1zrqvr5ns74gh756jkiryfn1jhxir-multi.drv",
    r#"Derive([("bin","/nix/store/kx1f3w15cgx31nll9qdgailrl0vnj6qs-multi-bin","",""),("dev","/nix/store/q4inj97gb0lz2i739z4np5pzw1p6p715-multi-dev","",""),("out","/nix/store/wd87c9x6r1bv3ii9zramwgqd4v1yczmy-multi","","")],[],[],"aarch64-linux","/bin/sh",["-c","echo \"q\\\t\r\n\""],[("bin","/nix/store/kx1f3w15cgx31nll9qdgailrl0vnj6qs-multi-bin"),("bs","\\"),("builder","/bin/sh"),("cr","c\rd"),("dev","/nix/store/q4inj97gb0lz2i739z4np5pzw1p6p715-multi-dev"),("dollar","$x ${y}"),("name","multi"),("nl","x\ny"),("out","/nix/store/wd87c9x6r1bv3ii9zramwgqd4v1yczmy-multi"),("outputs","out dev bin"),("system","aarch64-linux"),("tab","a\tb"),("uni","é☃")])"#,
);
const TOP: (&str, &str) = (
    "/nix/store/jzzlb5q0ln190784mccif03fg04mdlw4-top.drv",
    r#"Derive([("out","/nix/store/4320ibl8b7wr48q33ql24hdrlzplvxmq-top","","")],[("/nix/store/nbp1zrqvr5ns74gh756jkiryfn1jhxir-multi.drv",["bin","dev"]),("/nix/store/w51084ksv60sy0fkcb9hz4rxv8rv2avb-one.drv",["out"]),("/nix/store/zaf5xbcic84zwa1pp9vgac36b5bgf66i-src.tar.gz.drv",["out"]),("/nix/store/zqjq7n1krrv3fz6iz9g0ppwyx5k2mpkb-tree.drv",["out"])],["/nix/store/9p0nl625gm5mli8h2xfsgma0zz31g9yc-t.txt"],"aarch64-linux","/nix/store/kx1f3w15cgx31nll9qdgailrl0vnj6qs-multi-bin/bin/x",["/nix/store/m3djwsc1npcjb3qfh0ipww4zcqp765bd-src.tar.gz","/nix/store/q4inj97gb0lz2i739z4np5pzw1p6p715-multi-dev"],[("a","/nix/store/42w0fdvrafxfyb76rr8bayd7zw3w8ban-tree"),("b","/nix/store/dmyy8r66h2gpcd7p6lm670kknzqwgcaz-one"),("builder","/nix/store/kx1f3w15cgx31nll9qdgailrl0vnj6qs-multi-bin/bin/x"),("name","top"),("out","/nix/store/4320ibl8b7wr48q33ql24hdrlzplvxmq-top"),("src","/nix/store/9p0nl625gm5mli8h2xfsgma0zz31g9yc-t.txt"),("system","aarch64-linux")])"#,
);

fn store() -> StoreDir {
    StoreDir::default()
}

fn verify(
    (path, text): (&str, &str),
    known: &HashMap<StorePath, ModuloHash>,
) -> Result<ModuloHash, VerifyError> {
    let path = store().parse(path).expect("a path");
    let derivation = derivation::parse(text.as_bytes(), &store()).expect("a derivation");
    assert_eq!(derivation.to_aterm(&store()), text.as_bytes(), "{path}");
    modulo::verify(&path, text.as_bytes(), &derivation, &store(), |input| known.get(input).copied())
}

#[test]
fn base_32() {
    let bytes: Vec<u8> = (0..32).collect();
    assert_eq!(base32::encode(&bytes), "07qy3lf1n6hr30bic58l2c91240g1q6hq2qa1440f1h50h1h4080");
    let folded = fold20(&bytes.clone().try_into().expect("32 bytes"));
    assert_eq!(hex(&folded), "141414141c1c1c1c141414140c0d0e0f10111213");
    assert_eq!(base32::encode(&folded), "2c91240g1q6hq50l2ha1q70w3ha1850l");
    assert_eq!(base32::decode::<20>(b"2c91240g1q6hq50l2ha1q70w3ha1850l"), Some(folded));
    // Digits that would overflow, that do not exist, or are too few.
    assert_eq!(base32::decode::<32>(&[b'z'; 52]), None);
    assert_eq!(base32::decode::<20>(b"2c91240g1q6hq50l2ha1q70w3ha1850e"), None);
    assert_eq!(base32::decode::<20>(b"2c"), None);
}

#[test]
fn text_paths() {
    let path = store().text_path("t.txt", &sha256(b"hello"), []).expect("a path");
    assert_eq!(path.base_name(), "9p0nl625gm5mli8h2xfsgma0zz31g9yc-t.txt");
    let contents = format!("see {}", store().display(&path));
    let referring = store().text_path("r.txt", &sha256(contents.as_bytes()), [&path]).expect("a path");
    assert_eq!(referring.base_name(), "c426lska1dcs57a969vcsihm5ddwlbmd-r.txt");
}

#[test]
fn derivations_verify_from_below() {
    let mut known = HashMap::new();
    for (derivation, modulo) in [
        (SOURCE, "cae166355f210dacefd61f47bb0baf7d5da0a74944140683243b7bd33b250e65"),
        (TREE, "c48994b02d9b5e802dccd7995b535deab21188d8eb59fcdee122d0a1255a330e"),
        (ONE, "3a72add7f4419070843f07bfcf9b2e2714fb330af55deb14f3e774acd8eeab3b"),
        (MULTI, "7ee0448b50d13debd8185723a6ce140eefe8198fbf386bf69b47c14c3ae6e002"),
    ] {
        let hash = verify(derivation, &known).expect("verifies");
        assert_eq!(hex(&hash.0), modulo, "{}", derivation.0);
        known.insert(store().parse(derivation.0).expect("a path"), hash);
    }
    verify(TOP, &known).expect("verifies");
    assert!(matches!(verify(TOP, &HashMap::new()), Err(VerifyError::UnknownInput { .. })));
}

#[test]
fn forged_derivations_are_refused() {
    let none = HashMap::new();
    let other_path = "/nix/store/zaf5xbcic84zwa1pp9vgac36b5bgf66i-multi.drv";
    assert!(matches!(verify((other_path, MULTI.1), &none), Err(VerifyError::WrongPath { .. })));
    // The same derivation claiming another output path, everywhere, under the path that this text really has.
    let forge = |text: &str, from: &str, to: &str| {
        let forged = text.replace(from, to);
        let derivation = derivation::parse(forged.as_bytes(), &store()).expect("a derivation");
        let path = store().text_path("multi.drv", &sha256(forged.as_bytes()), &derivation.references());
        (store().display(&path.expect("a path")), forged)
    };
    let wanted = "wd87c9x6r1bv3ii9zramwgqd4v1yczmy-multi";
    let (path, forged) = forge(MULTI.1, wanted, "0d87c9x6r1bv3ii9zramwgqd4v1yczmy-multi");
    assert!(matches!(verify((&path, &forged), &none), Err(VerifyError::WrongOutput { .. })));
    let (path, forged) =
        forge(TREE.1, "42w0fdvrafxfyb76rr8bayd7zw3w8ban", "02w0fdvrafxfyb76rr8bayd7zw3w8ban");
    assert!(matches!(verify((&path, &forged), &none), Err(VerifyError::WrongOutput { .. })));
    let variable = r#"("out","/nix/store/wd87c9x6r1bv3ii9zramwgqd4v1yczmy-multi"),("outputs""#;
    let (path, forged) = forge(MULTI.1, variable, r#"("out","/nix/store/x"),("outputs""#);
    assert!(matches!(verify((&path, &forged), &none), Err(VerifyError::WrongVariable { .. })));
}

#[test]
fn names_of_derivations() {
    let path = store().parse(TOP.0).expect("a path");
    assert_eq!(derivation_name(&path), Some("top"));
}

#[test]
fn archives() {
    let archive = |events: &[Event<'_>]| {
        let (mut encoder, mut bytes) = (Encoder::new(), Vec::new());
        events.iter().for_each(|event| encoder.write(*event, &mut bytes));
        (bytes.len(), hex(&sha256(&bytes)))
    };
    let file = |contents: &'static [u8], is_executable| {
        let size = contents.len() as u64;
        [Event::File { is_executable, size }, Event::Contents(contents), Event::FileEnd]
    };
    let hello = archive(&file(b"hello", false));
    assert_eq!(hello, (120, "0a430879c266f8b57f4092a0f935cf3facd48bbccde5760d4748ca405171e969".into()));
    let script = archive(&file(b"#!/bin/sh\n", true));
    assert_eq!(script, (160, "6283c1668260f903d1a895c0cd6b822fa4b68762bb0b17cedef2d39d97e26554".into()));
    let empty = archive(&[Event::Directory, Event::DirectoryEnd]);
    assert_eq!(empty, (96, "a50a5ab6d992f5598edd92105059fae9acfc192981e08bd88534c2167e92526a".into()));
    let [open, contents, end] = file(b"x", false);
    let tree = archive(&[
        Event::Directory,
        Event::Entry { name: b"a" },
        open,
        contents,
        end,
        Event::Entry { name: b"b" },
        Event::Symlink { target: b"a" },
        Event::DirectoryEnd,
    ]);
    assert_eq!(tree, (480, "ee2df35a339f47f9d984099f5aaf80eed4800fb8e0f4e628dff6d000fe2d47f2".into()));
}

#[test]
fn signatures() {
    let secret =
        "test-1:vZkE9tGaSlh8ujYldgBn1eIVsScNiQQhFgH+dC4kzgOhXc1f8mAVzYMg+/t7SUsaQdU/a3jpa3RmM7qpqfh5cA==";
    let public = "test-1:oV3NX/JgFc2DIPv7e0lLGkHVP2t46Wt0ZjO6qan4eXA=";
    let expected =
        "test-1:VYRId1QaF5TLZDHbTdiBFV5UDHkEYvv2SzaZiFjcYKHNx2ZyVLX3oYrWTrUflwYqfVzU6P4PdKeHPYCW/OxPDA==";
    let secret = SecretKey::parse(secret).expect("a key");
    assert_eq!(secret.public_key().to_string(), public);
    let nar = Hash::parse("sha256:1rxalnkjhpjfpm6k2x3snvxc78vliac449ndag8rhwjrh4w6y887").expect("a hash");
    let path = |name: &str| StorePath::parse_base_name(name).expect("a path");
    let mut info = PathInfo {
        path: path("c426lska1dcs57a969vcsihm5ddwlbmd-r.txt"),
        nar_sha256: nar.digest().try_into().expect("32 bytes"),
        nar_size: 168,
        references: vec![path("9p0nl625gm5mli8h2xfsgma0zz31g9yc-t.txt")],
        deriver: None,
        content_address: None,
        signatures: Vec::new(),
    };
    info.sign(&store(), &secret);
    assert_eq!(info.signatures, [expected]);
    assert!(info.is_signed_by(&store(), &[PublicKey::parse(public).expect("a key")]));
    info.nar_size += 1;
    assert!(!info.is_signed_by(&store(), &[secret.public_key()]));
    info.signatures = vec![expected.replace("test-1", "test-2"), "x".into(), "test-1:AAAA".into()];
    assert!(!info.is_signed_by(&store(), &[secret.public_key()]));
}

#[test]
fn structured_numbers() {
    for (input, json, shell) in [
        ("1.0", "1.0", Some("1")),
        ("1e100", "1e+100", Some("-2147483648")),
        ("1e-7", "1e-07", None),
        ("123456789.123", "123456789.123", Some("123456789")),
        ("1e15", "1e+15", Some("-2147483648")),
        ("100000.0", "100000.0", Some("100000")),
        ("1e-5", "1e-05", None),
        ("0.0001", "0.0001", None),
        ("9007199254740993", "9007199254740993", Some("1")),
        ("16777217", "16777217", Some("16777217")),
        ("2147483648", "2147483648", Some("-2147483648")),
        ("9223372036854775807", "9223372036854775807", Some("-1")),
        ("0.1", "0.1", None),
        ("-0.0", "-0.0", Some("0")),
        ("-7", "-7", Some("-7")),
    ] {
        let text = format!("{{\"k\":{input}}}");
        let value = structured::Value::parse(text.as_bytes()).expect("JSON");
        assert_eq!(String::from_utf8_lossy(&value.to_json()), format!("{{\"k\":{json}}}"));
        let script = structured::attributes_script(value.as_object().expect("an object"));
        assert_eq!(script, shell.map(|shell| format!("declare k={shell}\n")).unwrap_or_default(), "{input}");
    }
}

#[test]
fn attributes_nested_as_deep_as_nix_reads_them_fit_a_small_stack() {
    let text = |depth: usize| [b"[".repeat(depth), b"]".repeat(depth)].concat();
    let read = std::thread::Builder::new().stack_size(512 << 10).spawn(move || {
        let value = structured::Value::parse(&text(1000)).expect("a thousand levels");
        let again = structured::Value::parse(&value.clone().to_json());
        (again == Ok(value), structured::Value::parse(&text(100_000)).is_err())
    });
    assert_eq!(read.expect("a thread").join().expect("no overflow"), (true, true));
}
