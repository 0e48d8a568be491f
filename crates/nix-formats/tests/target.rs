//! `target_of` against the reviewed labels of a real system, and against names that are not in it.
use nix_formats::target::target_of_name;

#[test]
fn every_derivation_of_a_real_cross_compiled_system() {
    let table = include_str!("data/targets.tsv");
    let (mut rows, mut crossed, mut of_x86) = (0, 0, 0);
    for line in table.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<_> = line.split('\t').collect();
        let [name, system, target, why] = fields[..] else { panic!("not four fields: {line}") };
        let expected = (target != "-").then(|| target.to_owned());
        assert_eq!(target_of_name(name, system), expected, "{name} on {system}: {why}");
        rows += 1;
        crossed += usize::from(expected.is_some());
        of_x86 += usize::from(system == "x86_64-linux");
    }
    assert_eq!((rows, of_x86, crossed), (2048, 526, 46));
}

#[test]
fn names_of_other_releases_and_targets() {
    for (name, system, expected) in [
        ("hello-aarch64-unknown-linux-gnu-2.12.1", "x86_64-linux", Some("aarch64-linux")),
        ("hello-static-aarch64-unknown-linux-musl-2.12.1", "x86_64-linux", Some("aarch64-linux")),
        ("busybox-armv7l-unknown-linux-gnueabihf-1.36.1", "x86_64-linux", Some("armv7l-linux")),
        ("zlib-1.2.11-armv6l-unknown-linux-gnueabihf", "x86_64-linux", Some("armv6l-linux")),
        ("linux-6.6-riscv64-unknown-linux-gnu", "aarch64-linux", Some("riscv64-linux")),
        ("curl-x86_64-w64-mingw32-8.4", "x86_64-linux", Some("x86_64-windows")),
        ("newlib-arm-none-eabi-4.1", "x86_64-linux", Some("armv5tel-none")),
        // A tool that is itself cross-compiled: the last configuration is where it runs.
        (
            "riscv64-unknown-linux-gnu-binutils-aarch64-unknown-linux-gnu-2.40",
            "x86_64-linux",
            Some("aarch64-linux"),
        ),
        // Another C library, the same system.
        ("hello-x86_64-unknown-linux-musl-2.12.1", "x86_64-linux", None),
        ("hello-aarch64-unknown-linux-gnu-2.12.1", "aarch64-linux", None),
        ("aarch64-unknown-linux-gnu-gcc-12.3.0", "x86_64-linux", None),
        ("aarch64-unknown-linux-gnu-binutils-wrapper-2.40", "x86_64-linux", None),
        ("linux-headers-5.5", "x86_64-linux", None),
        ("qemu-aarch64-linux-user", "x86_64-linux", None),
        ("rust-std-1.70-aarch64", "x86_64-linux", None),
        ("source-aarch64-unknown-linux-gnu.tar.xz", "builtin", None),
        ("", "x86_64-linux", None),
    ] {
        assert_eq!(target_of_name(name, system).as_deref(), expected, "{name} on {system}");
    }
}
