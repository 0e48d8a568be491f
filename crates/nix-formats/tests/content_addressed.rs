//! Known answers about outputs whose paths are known only after the build, all from real Nix 2.8 and 2.34; properties of rewriting.
use nix_formats::content_address::ContentAddress;
use nix_formats::derivation::{self, Derivation, DerivationError, Method, Output};
use nix_formats::hash::{Hash, HashAlgorithm, Hasher, hex, sha256};
use nix_formats::modulo::{self, ModuloHash, realisation_id};
use nix_formats::nar::{Encoder, Event};
use nix_formats::resolve::{ResolveError, is_needed, resolve, temporary_path};
use nix_formats::rewrite::{Rewriter, SelfHasher};
use nix_formats::store_path::{StoreDir, StorePath};
use proptest::prelude::*;
use std::collections::HashMap;

const UP: (&str, &str) = (
    "vzkgylg8gl6bdpfgrahh6b1mlcqc7wg8-up.drv",
    r#"Derive([("out","","r:sha256","")],[],[],"x86_64-linux","/bin/sh",["-c","echo up > $out"],[("builder","/bin/sh"),("name","up"),("out","/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"),("outputHashAlgo","sha256"),("outputHashMode","recursive"),("system","x86_64-linux")])"#,
);
const MID: (&str, &str) = (
    "r9rn9gphjnmvblrz35bw6qpgnarbddyq-mid.drv",
    r#"Derive([("out","","r:sha256","")],[("/nix/store/vzkgylg8gl6bdpfgrahh6b1mlcqc7wg8-up.drv",["out"])],[],"x86_64-linux","/bin/sh",["-c","read a < /0x839z78fkrpg437k8ddbjgf3g9q188kfq1sg65hk843391d0kqk; echo $a /0x839z78fkrpg437k8ddbjgf3g9q188kfq1sg65hk843391d0kqk $out > $out"],[("builder","/bin/sh"),("name","mid"),("out","/1rz4g4znpzjwh1xymhjpm42vipw92pr73vdgl6xs1hycac8kf2n9"),("outputHashAlgo","sha256"),("outputHashMode","recursive"),("system","x86_64-linux")])"#,
);
const IA: (&str, &str) = (
    "a0yl0b3qp8whbnvfb6ygcnr3jy5y6pb0-ia.drv",
    r#"Derive([("out","","","")],[("/nix/store/r9rn9gphjnmvblrz35bw6qpgnarbddyq-mid.drv",["out"])],[],"x86_64-linux","/bin/sh",["-c","echo /0ls5sfz3h7frplsm2jw1ld1057a2vzzr3prjnh4rk84y52wbqjhb $out > $out"],[("builder","/bin/sh"),("name","ia"),("out",""),("system","x86_64-linux")])"#,
);

fn store() -> StoreDir {
    StoreDir::default()
}

fn path(base_name: &str) -> StorePath {
    StorePath::parse_base_name(base_name).expect("a path")
}

fn parsed((_, text): (&str, &str)) -> Derivation {
    let derivation = derivation::parse(text.as_bytes(), &store()).expect("a derivation");
    assert_eq!(derivation.to_aterm(&store()), text.as_bytes());
    derivation
}

/// An archive of a directory with files.
fn directory(files: &[(&str, &str)]) -> Vec<u8> {
    let (mut encoder, mut bytes) = (Encoder::new(), Vec::new());
    encoder.write(Event::Directory, &mut bytes);
    for (name, contents) in files {
        let size = contents.len() as u64;
        encoder.write(Event::Entry { name: name.as_bytes() }, &mut bytes);
        encoder.write(Event::File { is_executable: false, size }, &mut bytes);
        encoder.write(Event::Contents(contents.as_bytes()), &mut bytes);
        encoder.write(Event::FileEnd, &mut bytes);
    }
    encoder.write(Event::DirectoryEnd, &mut bytes);
    bytes
}

fn self_hash(bytes: &[u8], own: &StorePath, chunk: usize) -> (Hash, u64) {
    let mut hasher = SelfHasher::new(HashAlgorithm::Sha256, own);
    bytes.chunks(chunk).for_each(|chunk| hasher.push(chunk));
    hasher.finish()
}

fn rewritten(bytes: &[u8], rewrites: &[(&StorePath, &StorePath)], chunk: usize) -> (Vec<u8>, Vec<u64>) {
    let mut rewriter = Rewriter::new(rewrites.iter().copied());
    let (mut out, mut places) = (Vec::new(), Vec::new());
    for chunk in bytes.chunks(chunk) {
        rewriter.push(chunk, &mut |bytes| out.extend_from_slice(bytes), &mut |place| places.push(place));
    }
    rewriter.finish(&mut |bytes| out.extend_from_slice(bytes));
    (out, places)
}

/// How Nix 2.8 hashed modulo references to itself: their places as well.
fn old_self_hash(bytes: &[u8], own: &StorePath) -> Hash {
    let blank = StorePath::parse_base_name(&format!("{}-x", "0".repeat(32))).expect("a path");
    let (zeros, places) = rewritten(bytes, &[(own, &blank)], 13);
    let zeros: Vec<u8> = {
        let mut zeros = zeros;
        places.iter().for_each(|&place| zeros[usize::try_from(place).expect("small")..][..32].fill(0));
        zeros
    };
    let mut hasher = Hasher::new(HashAlgorithm::Sha256);
    hasher.update(&zeros);
    places.iter().for_each(|place| hasher.update(format!("|{place}").as_bytes()));
    hasher.finish()
}

/// Vector K.7, of Nix 2.8; what Nix 2.34 makes of the same content.
#[test]
fn an_output_that_refers_to_itself_and_to_an_input() {
    let derivation = path("sby4ram7rag70vsqs0v7ca1n5h7lc19a-ca-self.drv");
    let temporary = temporary_path(&store(), &derivation, "out").expect("a path");
    assert_eq!(temporary.base_name(), "f354n03ch7fb18cf2hcgkvzssy3r2s1r-ca-self");
    let input = path("9p0nl625gm5mli8h2xfsgma0zz31g9yc-t.txt");
    let shown = store().display(&temporary);
    let nar = directory(&[
        ("f", &format!("self {shown} and again {shown}\n")),
        ("g", &format!("dep {}\n", store().display(&input))),
    ]);
    assert_eq!(nar.len(), 640);
    let old = old_self_hash(&nar, &temporary);
    assert_eq!(old.hex(), "7888bf6dad70565d129365af18f7212255cf0a16887242b49e285594c7b0c20b");
    let (new, places) = self_hash(&nar, &temporary, 7);
    assert_eq!(places, 2);
    for (hash, own, address, nar_hash) in [
        (
            old,
            "35izpl14gx1j7xpfcvh1favwwcm5j968-ca-self",
            "fixed:r:sha256:02y2n33r8m98kss44wl82q5cym9247viibv5jc95smkhmmnvz23q",
            "sha256-67REtv66OLzx2ffXI+WzfU/IxAJqpz2RuKRG7VKceyA=",
        ),
        (
            new.clone(),
            "8x6k7pznmh9qfarhc03pcbq9wz8126cj-ca-self",
            "fixed:r:sha256:1sabqanjprzpgl2kr757rmbw2mh37vb98vmym24xwjaq5hlsxwa3",
            "sha256-FKAYStmxRK/Nm+eTkSti68lnJI/jjqh3GwR9S5RHxwY=",
        ),
    ] {
        let own = path(own);
        let content_address = ContentAddress::Recursive(hash);
        let references = [input.clone(), temporary.clone()];
        let implied = content_address.implied_path(&store(), "ca-self", &references, &temporary);
        assert_eq!((implied.as_ref(), content_address.to_string().as_str()), (Some(&own), address));
        let (last, places) = rewritten(&nar, &[(&temporary, &own)], 11);
        assert_eq!(places, [248, 310]);
        let hash = Hash::new(HashAlgorithm::Sha256, &sha256(&last)).expect("a hash");
        assert_eq!(hash.sri(), nar_hash);
        // The final content says the same of itself.
        assert_eq!(self_hash(&last, &own, 640).0, new);
    }
}

#[test]
fn a_chain_resolves_to_the_derivations_that_nix_builds() {
    let up = |derivation: &StorePath, output: &str| {
        (derivation.base_name() == UP.0 && output == "out")
            .then(|| path("l96jdv4cb8cv9971kql5fssb850apny6-up"))
    };
    let mid = resolve(&parsed(MID), "mid.drv", &store(), up).expect("resolves");
    assert_eq!(mid.path.base_name(), "3z4c6k96xp4v6fjjmdxzvls6hyia82bp-mid.drv");
    assert!(mid.derivation.input_derivations.is_empty() && mid.derivation.has_unknown_paths());
    let realised = |_: &StorePath, _: &str| Some(path("6gjn73hhm2lbr13sn8ii6fbr5skmcbja-mid"));
    let ia = resolve(&parsed(IA), "ia.drv", &store(), realised).expect("resolves");
    assert_eq!(ia.path.base_name(), "xkps6xqh5c005p0nzmw00f0mdj33brs8-ia.drv");
    let expected = path("2bc1k4my0fbd5qq9abvrqg5q6pmsh2g6-ia");
    assert_eq!(ia.derivation.outputs["out"], Output::InputAddressed { path: expected });
    assert_eq!(derivation::parse(&ia.text, &store()).as_ref(), Ok(&ia.derivation));
    let modulo = modulo::verify(&ia.path, &ia.text, &ia.derivation, &store(), |_| None);
    assert!(modulo.is_ok(), "the path is what hash modulo gives: {modulo:?}");
    assert!(matches!(
        resolve(&parsed(IA), "ia.drv", &store(), |_, _| None),
        Err(ResolveError::NotThere { output, .. }) if output == "out"
    ));
    let needed = |derivation| is_needed(&parsed(derivation), |_, _| true);
    assert_eq!([UP, MID, IA].map(needed), [false, true, true]);
}

#[test]
fn realisations_are_called_as_nix_calls_them() {
    let mut known = HashMap::<StorePath, ModuloHash>::new();
    for (derivation, id) in [
        (UP, "sha256:90339bd680e63a1ea1a9c59969f7f0379513599d3d6a296bf697cd89a7d51956!out"),
        (MID, "sha256:5d1ece480d7c87ef94cef4b99ec4ba60315931f26ad44107221dfabaa94e6d5d!out"),
        (IA, "sha256:e0218faf0d3309d6bfd456424849136c67194c14485c89c47fcd0c1edc80e436!out"),
    ] {
        let (own, text) = (path(derivation.0), parsed(derivation));
        let lookup = |input: &StorePath| known.get(input).copied();
        let masked = modulo::masked_hash(&text, &store(), lookup).expect("inputs are known");
        assert_eq!(realisation_id(&masked, "out"), id);
        let modulo =
            modulo::verify(&own, derivation.1.as_bytes(), &text, &store(), lookup).expect("verifies");
        known.insert(own, modulo);
    }
}

#[test]
fn kinds_of_outputs_are_read_and_refused() {
    let with = |field: &str, hash: &str| {
        let text = UP.1.replace(r#""out","","r:sha256","""#, &format!(r#""out","","{field}","{hash}""#));
        derivation::parse(text.as_bytes(), &store()).map(|derivation| derivation.outputs["out"].clone())
    };
    for (field, method, algorithm) in [
        ("r:sha256", Method::Recursive, HashAlgorithm::Sha256),
        ("sha256", Method::Flat, HashAlgorithm::Sha256),
        ("r:sha512", Method::Recursive, HashAlgorithm::Sha512),
        ("sha1", Method::Flat, HashAlgorithm::Sha1),
        ("r:md5", Method::Recursive, HashAlgorithm::Md5),
    ] {
        assert_eq!(with(field, ""), Ok(Output::Floating { method, algorithm }), "{field}");
    }
    assert_eq!(with("r:sha256", "impure"), Ok(Output::Impure));
    for (field, hash) in
        [("text:sha256", ""), ("git:sha1", ""), ("r:blake3", ""), ("x", ""), ("sha256", "impure")]
    {
        let refused = with(field, hash);
        assert!(matches!(refused, Err(DerivationError::Unsupported(_))), "{field} {hash}: {refused:?}");
    }
    let dynamic = UP.1.replace("Derive(", r#"DrvWithVersion("xp-dyn-drv","#);
    assert!(matches!(derivation::parse(dynamic.as_bytes(), &store()), Err(DerivationError::Unsupported(_))));
}

proptest! {
    /// Whatever is between them, hash parts are replaced one for one; what is not one stays.
    #[test]
    fn rewriting_is_the_same_wherever_chunks_are_cut(
        between in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6),
        chunk in 1_usize..80,
    ) {
        let [one, other] = [path("f354n03ch7fb18cf2hcgkvzssy3r2s1r-x"), path("1354n03ch7fb18cf2hcgkvzssy3r2s1r-x")];
        let [to, elsewhere] = [path("9p0nl625gm5mli8h2xfsgma0zz31g9yc-x"), path("2p0nl625gm5mli8h2xfsgma0zz31g9yc-x")];
        let (mut text, mut expected, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (index, piece) in between.iter().enumerate() {
            let (from, into) = if index % 2 == 0 { (&one, &to) } else { (&other, &elsewhere) };
            text.extend_from_slice(piece);
            expected.extend_from_slice(piece);
            places.push(text.len() as u64);
            text.extend_from_slice(from.hash_part().as_bytes());
            expected.extend_from_slice(into.hash_part().as_bytes());
        }
        let rewrites = [(&one, &to), (&other, &elsewhere)];
        let (out, found) = rewritten(&text, &rewrites, chunk);
        prop_assert_eq!(&out, &expected);
        prop_assert_eq!(found, places);
        let (back, _) = rewritten(&out, &[(&to, &one), (&elsewhere, &other)], chunk + 1);
        prop_assert_eq!(back, text.clone());
        let whole = self_hash(&text, &one, text.len());
        prop_assert_eq!(self_hash(&text, &one, chunk), whole);
    }

    /// A stream that says its own name gives the same hash whatever that name is.
    #[test]
    fn a_self_hash_does_not_depend_on_the_name(
        before in "[a-z0-9/ -]{0,50}", after in "[a-z0-9/ -]{0,50}", chunk in 1_usize..70,
    ) {
        let names = [path("f354n03ch7fb18cf2hcgkvzssy3r2s1r-x"), path("9p0nl625gm5mli8h2xfsgma0zz31g9yc-x")];
        let hashes = names.clone().map(|own| {
            let text = format!("{before}/{}-{after}/{}", own.hash_part(), own.hash_part());
            self_hash(text.as_bytes(), &own, chunk)
        });
        prop_assert_eq!(&hashes[0], &hashes[1]);
        prop_assert_eq!(hashes[0].1, 2);
    }
}

/// Nothing but a hash in base 16 is of interest here.
#[test]
fn rewriting_nothing_hashes_as_ever() {
    let nar = directory(&[("a", "x")]);
    let (hash, places) = self_hash(&nar, &path("f354n03ch7fb18cf2hcgkvzssy3r2s1r-x"), 5);
    assert_eq!((hash.hex(), places), (hex(&sha256(&nar)), 0));
}
