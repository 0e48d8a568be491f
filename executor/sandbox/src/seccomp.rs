//! The system call filter as data: classic BPF, written from the list of calls that Nix refuses.
//!
//! Set-id bits in chmod's mode are EPERM, reading and writing of extended attributes is ENOTSUP, all else is allowed.
//! A foreign program under qemu makes host calls, so the filter is always the host's.

/// One instruction of classic BPF, as `struct sock_filter` in linux/filter.h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when true.
    pub jump_true: u8,
    /// Instructions to skip when false.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const ALLOW: u32 = 0x7fff_0000;
/// A call in a convention that the filter does not know would pass it by: the thread dies, as with libseccomp.
const KILL: u32 = 0;
const REFUSE_EPERM: u32 = 0x0005_0001;
const REFUSE_ENOTSUP: u32 = 0x0005_005f;

/// Offsets in `struct seccomp_data`; the low words of arguments, for all our hosts are little endian.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const SET_ID_BITS: u32 = 0o6000;
/// Numbers of the x32 convention are the 64-bit ones with this bit.
const X32_BIT: u32 = 0x4000_0000;

/// One calling convention: its audit name, which bits of a number count, and its numbers.
struct Convention {
    audit: u32,
    number_mask: u32,
    /// Number of the call and index of its mode argument.
    mode_calls: &'static [(u32, u32)],
    attribute_calls: [u32; 6],
}

#[cfg(target_arch = "x86_64")]
const CONVENTIONS: [Convention; 2] = [
    Convention {
        audit: 0xc000_003e,
        number_mask: !X32_BIT,
        mode_calls: &[(90, 1), (91, 1), (268, 2), (452, 2)],
        attribute_calls: [188, 189, 190, 191, 192, 193],
    },
    Convention {
        audit: 0x4000_0003,
        number_mask: u32::MAX,
        mode_calls: &[(15, 1), (94, 1), (306, 2), (452, 2)],
        attribute_calls: [226, 227, 228, 229, 230, 231],
    },
];

#[cfg(target_arch = "aarch64")]
const CONVENTIONS: [Convention; 2] = [
    Convention {
        audit: 0xc000_00b7,
        number_mask: !X32_BIT,
        mode_calls: &[(52, 1), (53, 2), (452, 2)],
        attribute_calls: [5, 6, 7, 8, 9, 10],
    },
    Convention {
        audit: 0x4000_0028,
        number_mask: u32::MAX,
        mode_calls: &[(15, 1), (94, 1), (333, 2), (452, 2)],
        attribute_calls: [226, 227, 228, 229, 230, 231],
    },
];

/// The filter for this host.
pub fn filter() -> Vec<Instruction> {
    let mut program = vec![load(ARCHITECTURE)];
    for convention in &CONVENTIONS {
        // Some thirty instructions: its length fits.
        let section = section(convention);
        let length = u8::try_from(section.len()).unwrap_or(u8::MAX);
        program.push(jump(JUMP_EQUAL, convention.audit, 0, length));
        program.extend(section);
    }
    program.push(give(KILL));
    program
}

fn section(convention: &Convention) -> Vec<Instruction> {
    let mut section = vec![load(NUMBER)];
    if convention.number_mask != u32::MAX {
        section.push(jump(AND, convention.number_mask, 0, 0));
    }
    for (number, argument) in convention.mode_calls {
        section.push(jump(JUMP_EQUAL, *number, 0, 4));
        section.push(load(ARGUMENTS + 8 * argument));
        section.push(jump(JUMP_ANY_BIT, SET_ID_BITS, 0, 1));
        section.push(give(REFUSE_EPERM));
        section.push(give(ALLOW));
    }
    for number in convention.attribute_calls {
        section.push(jump(JUMP_EQUAL, number, 0, 1));
        section.push(give(REFUSE_ENOTSUP));
    }
    section.push(give(ALLOW));
    section
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jump_true: 0, jump_false: 0, operand: offset }
}

fn give(verdict: u32) -> Instruction {
    Instruction { code: RETURN, jump_true: 0, jump_false: 0, operand: verdict }
}

fn jump(code: u16, operand: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code, jump_true, jump_false, operand }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel would.
    fn verdict(audit: u32, number: u32, arguments: [u32; 3]) -> u32 {
        let program = filter();
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let step = program[at];
            at += 1;
            let test = match step.code {
                RETURN => return step.operand,
                AND => {
                    accumulator &= step.operand;
                    continue;
                }
                LOAD => {
                    accumulator = match step.operand {
                        NUMBER => number,
                        ARCHITECTURE => audit,
                        offset => arguments[usize::try_from((offset - ARGUMENTS) / 8).unwrap()],
                    };
                    continue;
                }
                JUMP_EQUAL => accumulator == step.operand,
                JUMP_ANY_BIT => accumulator & step.operand != 0,
                code => panic!("unknown instruction {code:#x}"),
            };
            at += usize::from(if test { step.jump_true } else { step.jump_false });
        }
    }

    #[test]
    fn every_call_of_every_convention_is_judged() {
        for convention in &CONVENTIONS {
            let audit = convention.audit;
            for (number, argument) in convention.mode_calls {
                for (mode, expected) in [
                    (0o4755, REFUSE_EPERM),
                    (0o2755, REFUSE_EPERM),
                    (0o6000, REFUSE_EPERM),
                    (0o1777, ALLOW),
                    (0o755, ALLOW),
                ] {
                    let mut arguments = [0o6777; 3];
                    arguments[usize::try_from(*argument).unwrap()] = mode;
                    assert_eq!(verdict(audit, *number, arguments), expected, "{audit:#x} {number} {mode:o}");
                }
            }
            for number in convention.attribute_calls {
                assert_eq!(verdict(audit, number, [0; 3]), REFUSE_ENOTSUP, "{audit:#x} {number}");
            }
            assert_eq!(verdict(audit, 1, [0o6777; 3]), ALLOW);
            assert_eq!(verdict(audit, u32::MAX, [0o6777; 3]), ALLOW);
        }
    }

    #[test]
    fn other_conventions_die() {
        assert_eq!(verdict(0xc000_00f3, 90, [0; 3]), KILL);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn x32_numbers_are_judged_like_the_others() {
        assert_eq!(verdict(0xc000_003e, X32_BIT | 90, [0, 0o4755, 0]), REFUSE_EPERM);
        assert_eq!(verdict(0xc000_003e, X32_BIT | 188, [0; 3]), REFUSE_ENOTSUP);
    }
}
