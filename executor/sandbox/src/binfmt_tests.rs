//! Tests of the binfmt_misc rules: known lines, refused rules, the host's entries.
use super::*;

#[test]
fn lines_are_what_the_kernel_documents() {
    let line =
        rule_for("aarch64-linux").unwrap().with_interpreter("/q/qemu-aarch64").register_line().unwrap();
    let expected = concat!(
        r":aarch64:M:0:\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:",
        r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:/q/qemu-aarch64:POF"
    );
    assert_eq!(String::from_utf8(line).unwrap(), expected);
}

#[test]
fn systems_differ_in_class_and_machine() {
    let cases = [
        ("aarch64-linux", 2, 0xb7),
        ("armv7l-linux", 1, 0x28),
        ("armv6l-linux", 1, 0x28),
        ("riscv64-linux", 2, 0xf3),
    ];
    for (system, class, machine) in cases {
        let rule = rule_for(system).unwrap();
        assert_eq!((rule.magic[4], rule.magic[18]), (class, machine), "{system}");
    }
    assert_eq!(rule_for("x86_64-linux"), None);
    assert_eq!(rule_for("aarch64-darwin"), None);
}

#[test]
fn rules_that_would_break_the_line_are_refused() {
    let good = rule_for("riscv64-linux").unwrap().with_interpreter("/q");
    let check = |change: fn(&mut Rule), expected: &str| {
        let mut rule = good.clone();
        change(&mut rule);
        let text = rule.register_line().unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    };
    check(|rule| rule.name = "a:b".into(), "a:b");
    check(|rule| rule.name = String::new(), "name");
    check(|rule| rule.mask = ByteString::from("x"), "mask of 1");
    check(|rule| rule.magic = ByteString::default(), "magic of 0");
    check(|rule| rule.interpreter = "relative".into(), "relative");
    check(|rule| rule.interpreter = "/a:b".into(), "/a:b");
    check(|rule| rule.interpreter = format!("/{}", "x".repeat(127)).into(), "127");
}

#[test]
fn host_entries_are_read() {
    let entry = |first: &str, flags: &str, magic: &str| {
        format!(
            "{first}\ninterpreter /usr/bin/qemu-aarch64-static\nflags: {flags}\noffset 0\nmagic {magic}\nmask ffffffffffffff00fffffffffffffffffeffffff\n"
        )
    };
    let aarch64 = "7f454c460201010000000000000000000200b700";
    let template = rule_for("aarch64-linux").unwrap();
    let read = |text: &str| parse_registration(text, &template);
    let found = read(&entry("enabled", "POF", aarch64)).unwrap();
    assert_eq!(found.interpreter, "/usr/bin/qemu-aarch64-static");
    assert!(found.pinned && found.keeps_argument_zero);
    assert!(!read(&entry("enabled", "P", aarch64)).unwrap().pinned);
    assert_eq!(read(&entry("disabled", "POF", aarch64)), None);
    assert_eq!(read(&entry("enabled", "POF", "7f454c460201010000000000000000000200f300")), None);
    assert_eq!(
        read("enabled\ninterpreter /x\nflags: F\noffset 0\nmagic 7f454c46\n"),
        None,
        "every ELF file is not ours"
    );
    assert_eq!(read("enabled\ninterpreter /x\nflags: F\nextension .jar\n"), None);
    assert_eq!(read(""), None);
}
