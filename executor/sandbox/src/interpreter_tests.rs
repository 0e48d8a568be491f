//! Tests of the interpreter's patch: a small made-up program, what is changed in it, and what is refused.
use super::*;

const ENTRY: u64 = 0x40_1010;

fn put(program: &mut [u8], at: usize, bytes: &[u8]) {
    program[at..at + bytes.len()].copy_from_slice(bytes);
}

/// An ELF file with one segment, one note and some strings: enough for the patch, not for the kernel.
fn program(strings: &[u8]) -> Vec<u8> {
    let mut program = vec![0; HEADER_BYTES + 2 * PROGRAM_HEADER_BYTES];
    put(&mut program, 0, b"\x7fELF\x02\x01\x01");
    put(&mut program, 16, &3_u16.to_le_bytes());
    put(&mut program, 18, &MACHINE_X86_64.to_le_bytes());
    put(&mut program, 24, &ENTRY.to_le_bytes());
    put(&mut program, 32, &64_u64.to_le_bytes());
    put(&mut program, 54, &56_u16.to_le_bytes());
    put(&mut program, 56, &2_u16.to_le_bytes());
    put(&mut program, 64, &TYPE_LOAD.to_le_bytes());
    put(&mut program, 64 + 16, &0x40_0000_u64.to_le_bytes());
    put(&mut program, 64 + 40, &0x5123_u64.to_le_bytes());
    put(&mut program, 64 + 56, &TYPE_NOTE.to_le_bytes());
    program.extend_from_slice(strings);
    program
}

const STRINGS: &[u8] =
    b"\0QEMU_CPU\0QEMU_STRACE\0a QEMU_LOG\0QEMU_AES_decrypt\0QEMU_\0QEMU_LD_PREFIX\0tail QEMU_X";

#[test]
fn the_note_becomes_a_segment_and_the_entry() {
    let old = program(STRINGS);
    let new = self_contained(&old, "cortex-a72").unwrap();
    let header: Vec<u64> = (1..7).map(|index| u64_at(&new, 64 + 56 + index * 8).unwrap()).collect();
    let size = u64::try_from(new.len() - 4096).unwrap();
    assert_eq!(header, [4096, 0x40_6000, 0x40_6000, size, size, 4096]);
    assert_eq!(new[64 + 56..64 + 64], [1, 0, 0, 0, 5, 0, 0, 0]);
    assert_eq!(u64_at(&new, 24), Ok(0x40_6000));
    assert!(new.ends_with(b"-cpu\0cortex-a72\0"));
    let jump = i32::from_le_bytes(bytes_at(&new, 4096 + 55).unwrap());
    assert_eq!(0x40_6000 + 59 + i64::from(jump), i64::try_from(ENTRY).unwrap());
}

#[test]
fn only_whole_names_are_hidden() {
    let new = self_contained(&program(STRINGS), "max").unwrap();
    let at = HEADER_BYTES + 2 * PROGRAM_HEADER_BYTES;
    let expected =
        b"\0=EMU_CPU\0=EMU_STRACE\0a QEMU_LOG\0QEMU_AES_decrypt\0QEMU_\0=EMU_LD_PREFIX\0tail QEMU_X";
    assert_eq!(new[at..at + expected.len()].escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[test]
fn what_is_not_as_expected_is_refused() {
    let check = |change: fn(&mut Vec<u8>), expected: &str| {
        let mut program = program(STRINGS);
        change(&mut program);
        let text = self_contained(&program, "max").unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    };
    check(Vec::clear, "not a 64-bit");
    check(|program| program[4] = 1, "not a 64-bit");
    check(|program| put(program, 18, &183_u16.to_le_bytes()), "machine 183: use the plain one");
    check(|program| put(program, 64, &TYPE_INTERPRETER.to_le_bytes()), "not static");
    check(|program| put(program, 64 + 56, &9_u32.to_le_bytes()), "no note");
    check(
        |program| {
            put(program, 64, &TYPE_NOTE.to_le_bytes());
            put(program, 64 + 56, &TYPE_LOAD.to_le_bytes());
        },
        "before its segments",
    );
    check(|program| put(program, 24, &u64::MAX.to_le_bytes()), "2 GiB");
    check(|program| put(program, 64 + 16, &u64::MAX.to_le_bytes()), "beyond memory");
    check(|program| put(program, 56, &u16::MAX.to_le_bytes()), "ends before");
    check(|program| put(program, 32, &u64::MAX.to_le_bytes()), "ends before");
    check(|program| program.truncate(70), "ends before");
}

#[test]
fn a_program_that_knows_no_variables_is_not_qemu() {
    let error = self_contained(&program(b"\0QEMU_CPU\0"), "max").unwrap_err().to_string();
    assert!(error.contains("QEMU_STRACE"), "{error}");
    let twice = self_contained(&self_contained(&program(STRINGS), "max").unwrap(), "max");
    assert!(twice.is_err(), "a patched file is not patched again");
}

#[test]
fn models_that_are_not_words_are_refused() {
    for model in ["", "a b", "x\0", "\u{e4}", &"m".repeat(65)] {
        assert_eq!(self_contained(&program(STRINGS), model), Err(InterpreterError::Model(model.to_owned())));
    }
    assert!(self_contained(&program(STRINGS), "max,pauth-impdef=on").is_ok());
}
