//! The self-contained interpreter: a copy of a static qemu that always runs one CPU model and reads no QEMU_ variable.
//!
//! A launcher in front of qemu cannot work (the kernel pins only the registered file), and a QEMU_CPU in the
//! environment would be visible to the build and settable by it. So the copy carries a few instructions before its
//! entry point that put `-cpu MODEL` into its own argument vector. ELF as in the System V ABI, x86-64 supplement.
use thiserror::Error;

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const PAGE_BYTES: u64 = 4096;
const MACHINE_X86_64: u16 = 62;
const TYPE_LOAD: u32 = 1;
const TYPE_INTERPRETER: u32 = 3;
const TYPE_NOTE: u32 = 4;
const FLAGS_READ_EXECUTE: u32 = 5;
const CPU_MODEL_BYTES_MAX: usize = 64;
/// Variables that every qemu-user knows: when they are not in the file, it is not the file we think it is.
const EXPECTED_NAMES: [&[u8]; 2] = [b"QEMU_CPU", b"QEMU_STRACE"];

/// Why no self-contained interpreter can be made; use the plain one and say so.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InterpreterError {
    /// Not a little-endian 64-bit ELF file.
    #[error("the interpreter is not a 64-bit little-endian ELF program")]
    NotElf,
    /// Another processor's program: there the plain interpreter must do.
    #[error(
        "a self-contained interpreter is not supported for programs of ELF machine {machine}: use the plain one"
    )]
    NotSupported {
        /// The ELF machine number of the file.
        machine: u16,
    },
    /// It would need a loader that the sandbox does not have.
    #[error("the interpreter is not static: install the static qemu-user")]
    NotStatic,
    /// Anything else that is not as in the versions this was proven with.
    #[error("the interpreter is not as expected: {0}")]
    Unexpected(&'static str),
    /// Not a CPU model.
    #[error("the CPU model {0:?} is not one to 64 letters, digits and `-_.,=`")]
    Model(String),
}

/// A copy of `program` (a static x86-64 qemu-user) that always emulates `cpu_model`.
pub fn self_contained(program: &[u8], cpu_model: &str) -> Result<Vec<u8>, InterpreterError> {
    let model_ok = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.,=".contains(&byte);
    if cpu_model.is_empty() || cpu_model.len() > CPU_MODEL_BYTES_MAX || !cpu_model.bytes().all(model_ok) {
        return Err(InterpreterError::Model(cpu_model.to_owned()));
    }
    let layout = Layout::read(program)?;
    let mut copy = program.to_vec();
    hide_variables(&mut copy)?;
    copy.resize(usize::try_from(layout.offset).map_err(|_| TOO_LARGE)?, 0);
    let code = prologue(layout.address, layout.entry, cpu_model)?;
    let code_bytes = u64::try_from(code.len()).map_err(|_| TOO_LARGE)?;
    copy.extend_from_slice(&code);

    let header = &mut copy[layout.note_at..layout.note_at + PROGRAM_HEADER_BYTES];
    header[0..4].copy_from_slice(&TYPE_LOAD.to_le_bytes());
    header[4..8].copy_from_slice(&FLAGS_READ_EXECUTE.to_le_bytes());
    for (at, value) in [
        (8, layout.offset),
        (16, layout.address),
        (24, layout.address),
        (32, code_bytes),
        (40, code_bytes),
        (48, PAGE_BYTES),
    ] {
        header[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    copy[24..32].copy_from_slice(&layout.address.to_le_bytes());
    Ok(copy)
}

const TOO_LARGE: InterpreterError = InterpreterError::Unexpected("larger than memory");
const TRUNCATED: InterpreterError = InterpreterError::Unexpected("it ends before its headers do");

/// Where things are and where the new code goes.
struct Layout {
    entry: u64,
    /// File position of the note's program header, which becomes ours.
    note_at: usize,
    /// File position of the new code.
    offset: u64,
    /// Address of the new code, above all others.
    address: u64,
}

impl Layout {
    fn read(program: &[u8]) -> Result<Self, InterpreterError> {
        if program.len() < HEADER_BYTES || program[..6] != *b"\x7fELF\x02\x01" {
            return Err(InterpreterError::NotElf);
        }
        let machine = u16_at(program, 18)?;
        if machine != MACHINE_X86_64 {
            return Err(InterpreterError::NotSupported { machine });
        }
        if usize::from(u16_at(program, 54)?) != PROGRAM_HEADER_BYTES {
            return Err(InterpreterError::Unexpected("its program headers have another size"));
        }
        let table = usize::try_from(u64_at(program, 32)?).map_err(|_| TRUNCATED)?;
        let (mut note_at, mut last_load_at, mut top) = (None, None, 0_u64);
        for index in 0..usize::from(u16_at(program, 56)?) {
            let at = table.checked_add(index * PROGRAM_HEADER_BYTES).ok_or(TRUNCATED)?;
            match u32_at(program, at)? {
                TYPE_INTERPRETER => return Err(InterpreterError::NotStatic),
                TYPE_LOAD => {
                    let end = u64_at(program, at + 16)?.checked_add(u64_at(program, at + 40)?);
                    top = top.max(end.ok_or(InterpreterError::Unexpected("a segment ends beyond memory"))?);
                    last_load_at = Some(at);
                }
                TYPE_NOTE => note_at = Some(at),
                _ => {}
            }
            u64_at(program, at + 48)?;
        }
        let note_at =
            note_at.ok_or(InterpreterError::Unexpected("it has no note whose header could be used"))?;
        // The kernel wants segments in the order of their addresses, and ours is the highest.
        if last_load_at.is_none_or(|load_at| load_at > note_at) {
            return Err(InterpreterError::Unexpected("its notes come before its segments"));
        }
        let page_up = |value: u64| value.checked_next_multiple_of(PAGE_BYTES);
        let offset = page_up(u64::try_from(program.len()).map_err(|_| TOO_LARGE)?).ok_or(TOO_LARGE)?;
        let address = page_up(top).ok_or(InterpreterError::Unexpected("a segment ends beyond memory"))?;
        Ok(Self { entry: u64_at(program, 24)?, note_at, offset, address })
    }
}

/// Makes every NUL-delimited `QEMU_NAME` a name that no ordinary variable has.
fn hide_variables(program: &mut [u8]) -> Result<(), InterpreterError> {
    let mut found = [false; EXPECTED_NAMES.len()];
    let mut at = 0;
    while let Some(next) = program[at..].windows(6).position(|window| window == b"\0QEMU_") {
        let start = at + next + 1;
        let length = program[start..].iter().position(|byte| *byte == 0).unwrap_or(0);
        let name = &program[start..start + length];
        let name_ok = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
        if length > 5 && name.iter().all(name_ok) {
            for (seen, expected) in found.iter_mut().zip(EXPECTED_NAMES) {
                *seen |= name == expected;
            }
            program[start] = b'=';
        }
        at = start;
    }
    if found.contains(&false) {
        return Err(InterpreterError::Unexpected("it does not name QEMU_CPU and QEMU_STRACE"));
    }
    Ok(())
}

/// The instructions before the old entry point. At entry the stack is argc, argv\[0\], argv\[1\], ...: argc + 2 and
/// argv\[0\] move down by 16 bytes, and the gap takes two pointers. All else is as the kernel left it.
fn prologue(address: u64, entry: u64, cpu_model: &str) -> Result<Vec<u8>, InterpreterError> {
    const SIZE: usize = 60;
    const OPTION: &[u8] = b"-cpu\0";
    let mut code: Vec<u8> = Vec::with_capacity(SIZE + OPTION.len() + cpu_model.len() + 1);
    code.extend_from_slice(&[0x48, 0x8b, 0x04, 0x24]); // mov rax, [rsp]
    code.extend_from_slice(&[0x48, 0x83, 0xc0, 0x02]); // add rax, 2
    code.extend_from_slice(&[0x48, 0x8b, 0x4c, 0x24, 0x08]); // mov rcx, [rsp + 8]
    code.extend_from_slice(&[0x48, 0x83, 0xec, 0x10]); // sub rsp, 16
    code.extend_from_slice(&[0x48, 0x89, 0x04, 0x24]); // mov [rsp], rax
    code.extend_from_slice(&[0x48, 0x89, 0x4c, 0x24, 0x08]); // mov [rsp + 8], rcx
    push_relative(&mut code, &[0x48, 0x8d, 0x05], SIZE)?; // lea rax, [rip + option]
    code.extend_from_slice(&[0x48, 0x89, 0x44, 0x24, 0x10]); // mov [rsp + 16], rax
    push_relative(&mut code, &[0x48, 0x8d, 0x05], SIZE + OPTION.len())?; // lea rax, [rip + model]
    code.extend_from_slice(&[0x48, 0x89, 0x44, 0x24, 0x18]); // mov [rsp + 24], rax
    code.extend_from_slice(&[0x31, 0xc0, 0x31, 0xc9]); // xor eax, eax; xor ecx, ecx
    code.push(0xe9); // jmp entry
    let after =
        address.checked_add(59).ok_or(InterpreterError::Unexpected("a segment ends beyond memory"))?;
    let distance = i128::from(entry) - i128::from(after);
    let distance = i32::try_from(distance)
        .map_err(|_| InterpreterError::Unexpected("its entry point is further than 2 GiB from its end"))?;
    code.extend_from_slice(&distance.to_le_bytes());
    code.resize(SIZE, 0x90);
    code.extend_from_slice(OPTION);
    code.extend_from_slice(cpu_model.as_bytes());
    code.push(0);
    Ok(code)
}

/// An instruction that ends in the distance from its own end to `target`.
fn push_relative(code: &mut Vec<u8>, instruction: &[u8], target: usize) -> Result<(), InterpreterError> {
    code.extend_from_slice(instruction);
    let distance = i32::try_from(target - (code.len() + 4)).map_err(|_| TOO_LARGE)?;
    code.extend_from_slice(&distance.to_le_bytes());
    Ok(())
}

fn bytes_at<const N: usize>(program: &[u8], at: usize) -> Result<[u8; N], InterpreterError> {
    let end = at.checked_add(N).ok_or(TRUNCATED)?;
    let slice = program.get(at..end).ok_or(TRUNCATED)?;
    slice.try_into().map_err(|_| TRUNCATED)
}

fn u16_at(program: &[u8], at: usize) -> Result<u16, InterpreterError> {
    Ok(u16::from_le_bytes(bytes_at(program, at)?))
}

fn u32_at(program: &[u8], at: usize) -> Result<u32, InterpreterError> {
    Ok(u32::from_le_bytes(bytes_at(program, at)?))
}

fn u64_at(program: &[u8], at: usize) -> Result<u64, InterpreterError> {
    Ok(u64::from_le_bytes(bytes_at(program, at)?))
}

#[cfg(test)]
#[path = "interpreter_tests.rs"]
mod tests;
