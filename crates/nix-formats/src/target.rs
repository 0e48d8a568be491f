//! `target_of`: which system a derivation's product is for, when that is not the system that it runs on.
//!
//! nixpkgs writes the host platform's configuration (`aarch64-unknown-linux-gnu`) into the name of what it cross-compiles:
//! at the end (up to 2020), or before the version. As a prefix it names a cross *tool*, which runs where it is built.
//! Configure flags do not decide: setup hooks, patches and wrappers carry `--host` too, and some builds know none.
use crate::derivation::Derivation;

/// Processors as the first word of a configuration, with the name that Nix gives the system.
const PROCESSORS: [(&str, &str); 18] = [
    ("aarch64", "aarch64"),
    ("aarch64_be", "aarch64_be"),
    ("arm", "armv5tel"),
    ("armv5tel", "armv5tel"),
    ("armv6l", "armv6l"),
    ("armv7a", "armv7a"),
    ("armv7l", "armv7l"),
    ("i686", "i686"),
    ("loongarch64", "loongarch64"),
    ("mips64el", "mips64el"),
    ("mipsel", "mipsel"),
    ("powerpc64", "powerpc64"),
    ("powerpc64le", "powerpc64le"),
    ("ppc64", "powerpc64"),
    ("riscv32", "riscv32"),
    ("riscv64", "riscv64"),
    ("s390x", "s390x"),
    ("x86_64", "x86_64"),
];

/// The system of the product, when it is not the derivation's own.
pub fn target_of(derivation_name: &str, derivation: &Derivation) -> Option<String> {
    if derivation.is_builtin() {
        return None;
    }
    target_of_name(derivation_name, &derivation.system)
}

/// [`target_of`] by what it reads: the name and the system.
pub fn target_of_name(derivation_name: &str, system: &str) -> Option<String> {
    if system == "builtin" {
        return None;
    }
    let words: Vec<_> = derivation_name.split('-').collect();
    // Not at the first word: there it names a tool. The last one decides, for tools that are themselves cross-compiled.
    let product = (1..words.len()).rev().find_map(|start| configured_system(&words[start..]))?;
    (product != system).then_some(product)
}

/// The system that a configuration at the beginning of these words names.
fn configured_system(words: &[&str]) -> Option<String> {
    let (_, processor) = PROCESSORS.iter().find(|(word, _)| Some(word) == words.first())?;
    let kernel = match words.get(1..)? {
        [_, "linux", abi, ..] if is_abi(abi) => "linux",
        ["linux", abi, ..] if is_abi(abi) => "linux",
        ["w64", "mingw32", ..] => "windows",
        ["apple", kernel, ..] if kernel.starts_with("darwin") => "darwin",
        [_, kernel, ..] if kernel.starts_with("freebsd") => "freebsd",
        [_, "netbsd", ..] => "netbsd",
        ["none", abi, ..] if is_abi(abi) || *abi == "elf" => "none",
        _ => return None,
    };
    Some(format!("{processor}-{kernel}"))
}

fn is_abi(word: &str) -> bool {
    ["gnu", "musl", "uclibc", "eabi", "android", "newlib"].iter().any(|known| word.starts_with(known))
}
