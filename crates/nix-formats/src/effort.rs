//! `effort_of`: how much work a derivation looks like, by what it says of itself.
use crate::derivation::Derivation;

/// How much work a derivation looks like.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Effort {
    /// A text or a handful of links: it prefers to be built where it is wanted.
    Tiny,
    /// A download, or anything else whose output is fixed.
    Fetch,
    /// A package.
    Build,
    /// A compiler, a kernel, a browser.
    Heavy,
}

/// Packages that take a quarter of an hour and more on any machine.
const HEAVY: [&str; 37] = [
    "binutils",
    "boost",
    "chromium",
    "clang",
    "cmake",
    "erlang",
    "firefox",
    "gcc",
    "gdb",
    "ghc",
    "glibc",
    "go",
    "grub",
    "gtk",
    "guile",
    "icedtea",
    "icu4c",
    "libreoffice",
    "linux",
    "llvm",
    "mesa",
    "mysql",
    "nodejs",
    "openblas",
    "opencv",
    "openjdk",
    "perl",
    "php",
    "postgresql",
    "python",
    "qemu",
    "qtbase",
    "ruby",
    "rustc",
    "systemd",
    "thunderbird",
    "webkitgtk",
];

/// How much work a derivation looks like.
pub fn effort_of(name: &str, derivation: &Derivation) -> Effort {
    if derivation.fixed_output().is_some() {
        return Effort::Fetch;
    }
    let is_set = |attribute: &str| derivation.environment.contains_key(attribute.as_bytes());
    if derivation.env_is_true("preferLocalBuild") || is_set("text") || derivation.is_builtin() {
        return Effort::Tiny;
    }
    if derivation.required_features().iter().any(|feature| feature == "big-parallel") || is_heavy(name) {
        return Effort::Heavy;
    }
    Effort::Build
}

/// A known name, or one of its versions (`python3`, `qt5`), and then a version: not a library for it.
fn is_heavy(name: &str) -> bool {
    let Some((package, version)) = name.split_once('-') else { return false };
    let package = package.trim_end_matches(|character: char| character.is_ascii_digit());
    version.starts_with(|character: char| character.is_ascii_digit()) && HEAVY.binary_search(&package).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heavy_packages_are_known_by_name_and_version() {
        assert!(HEAVY.is_sorted());
        for name in ["gcc-9.3.0", "python3-3.7.8", "linux-5.4.58", "glibc-2.31", "nodejs-12.18.2"] {
            assert!(is_heavy(name), "{name}");
        }
        for name in [
            "gcc-wrapper-9.3.0",
            "python3.7-six-1.15",
            "hello-2.10",
            "linux-headers-5.5",
            "gcc",
            "perl5.30.3-Net-DBus-1.2.0",
        ] {
            assert!(!is_heavy(name), "{name}");
        }
    }
}
