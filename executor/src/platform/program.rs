//! A tiny static program for each architecture, made byte by byte: the self-test runs it in the sandbox.
//!
//! It writes the 8 bytes of AT_HWCAP from its auxiliary vector to the file that its first argument names: proof that it
//! ran, and of which processor it saw.

/// An architecture that a self-test program exists for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Architecture {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86, which 64-bit kernels may run too.
    I686,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM, which 64-bit kernels of ARM may run too.
    Armv7l,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::X86_64, Self::I686, Self::Aarch64, Self::Armv7l, Self::Riscv64];

    /// The Nix system of Linux on it.
    pub fn system(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-linux",
            Self::I686 => "i686-linux",
            Self::Aarch64 => "aarch64-linux",
            Self::Armv7l => "armv7l-linux",
            Self::Riscv64 => "riscv64-linux",
        }
    }

    /// The one that this program was compiled for, if known.
    pub fn own() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            "riscv64" => Some(Self::Riscv64),
            _ => None,
        }
    }

    /// Whether the processor that this program was compiled for runs its programs, if the kernel does.
    pub fn is_of_own_processor(self) -> bool {
        match Self::own() {
            Some(Self::X86_64) => matches!(self, Self::X86_64 | Self::I686),
            Some(Self::Aarch64) => matches!(self, Self::Aarch64 | Self::Armv7l),
            own => own == Some(self),
        }
    }

    /// Processor flags of the ELF header: version 5 of ARM's binary interface.
    fn flags(self) -> u32 {
        if self == Self::Armv7l { 0x0500_0000 } else { 0 }
    }

    fn machine(self) -> u16 {
        match self {
            Self::X86_64 => 62,
            Self::I686 => 3,
            Self::Aarch64 => 183,
            Self::Armv7l => 40,
            Self::Riscv64 => 243,
        }
    }
}

/// Where the one segment is loaded.
const ADDRESS: u64 = 0x40_0000;
/// Bytes of the ELF header and of the one program header.
const HEADERS_BYTES: u64 = 64 + 56;

/// The whole executable file.
pub fn program(architecture: Architecture) -> Vec<u8> {
    let code = match architecture {
        Architecture::X86_64 => CODE_X86_64,
        Architecture::I686 => return program_of_32_bits(architecture, CODE_I686),
        Architecture::Armv7l => return program_of_32_bits(architecture, CODE_ARMV7L),
        Architecture::Aarch64 => CODE_AARCH64,
        Architecture::Riscv64 => CODE_RISCV64,
    };
    let size = HEADERS_BYTES + u64::try_from(code.len()).unwrap_or(0);
    let mut file = Vec::new();
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0"); // 64-bit, little endian, System V
    for half in [2, architecture.machine()] {
        file.extend(half.to_le_bytes()); // executable, machine
    }
    file.extend(1u32.to_le_bytes()); // version
    for word in [ADDRESS + HEADERS_BYTES, 64, 0] {
        file.extend(u64::to_le_bytes(word)); // entry, program headers, no section headers
    }
    file.extend(architecture.flags().to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes()); // sizes and counts of the headers
    }
    for word in [1u32, 5] {
        file.extend(word.to_le_bytes()); // one segment to load: readable, executable
    }
    for word in [0, ADDRESS, ADDRESS, size, size, 0x1_0000] {
        file.extend(u64::to_le_bytes(word)); // offset, addresses, sizes, alignment (of 64 KiB pages too)
    }
    file.extend(code);
    file
}

/// The same with the headers of 32 bits.
fn program_of_32_bits(architecture: Architecture, code: &[u8]) -> Vec<u8> {
    const ADDRESS: u32 = 0x40_0000;
    const HEADERS_BYTES: u32 = 52 + 32;
    let size = HEADERS_BYTES + u32::try_from(code.len()).unwrap_or(0);
    let mut file = Vec::new();
    file.extend(b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0"); // 32-bit, little endian, System V
    for half in [2, architecture.machine()] {
        file.extend(half.to_le_bytes()); // executable, machine
    }
    for word in [1, ADDRESS + HEADERS_BYTES, 52, 0, architecture.flags()] {
        file.extend(u32::to_le_bytes(word)); // version, entry, program headers, no section headers, flags
    }
    for half in [52u16, 32, 1, 0, 0, 0] {
        file.extend(half.to_le_bytes()); // sizes and counts of the headers
    }
    for word in [1, 0, ADDRESS, ADDRESS, size, size, 5, 0x1_0000] {
        file.extend(u32::to_le_bytes(word)); // to load: offset, addresses, sizes, readable and executable, alignment
    }
    file.extend(code);
    file
}

/// `open(argv[1], O_WRONLY|O_CREAT|O_TRUNC, 0644)`, `write` of the value of AT_HWCAP, `exit(0)`; `exit(1)` when one fails.
#[rustfmt::skip]
const CODE_X86_64: &[u8] = &[
    0x48, 0x8b, 0x5c, 0x24, 0x10,                    // mov rbx,QWORD PTR [rsp+0x10]
    0x48, 0x8d, 0x7c, 0x24, 0x08,                    // lea rdi,[rsp+0x8]
    0x48, 0x83, 0xc7, 0x08,                          // add rdi,0x8
    0x48, 0x83, 0x7f, 0xf8, 0x00,                    // cmp QWORD PTR [rdi-0x8],0x0
    0x75, 0xf5,                                      // jne a
    0x48, 0x83, 0xc7, 0x08,                          // add rdi,0x8
    0x48, 0x83, 0x7f, 0xf8, 0x00,                    // cmp QWORD PTR [rdi-0x8],0x0
    0x75, 0xf5,                                      // jne 15
    0x48, 0x8b, 0x07,                                // mov rax,QWORD PTR [rdi]
    0x48, 0x85, 0xc0,                                // test rax,rax
    0x74, 0x47,                                      // je 6f
    0x48, 0x83, 0xf8, 0x10,                          // cmp rax,0x10
    0x74, 0x06,                                      // je 34
    0x48, 0x83, 0xc7, 0x10,                          // add rdi,0x10
    0xeb, 0xec,                                      // jmp 20
    0x48, 0x8d, 0x6f, 0x08,                          // lea rbp,[rdi+0x8]
    0x48, 0x89, 0xdf,                                // mov rdi,rbx
    0xbe, 0x41, 0x02, 0x00, 0x00,                    // mov esi,0x241
    0xba, 0xa4, 0x01, 0x00, 0x00,                    // mov edx,0x1a4
    0xb8, 0x02, 0x00, 0x00, 0x00,                    // mov eax,0x2
    0x0f, 0x05,                                      // syscall
    0x85, 0xc0,                                      // test eax,eax
    0x78, 0x1f,                                      // js 6f
    0x89, 0xc7,                                      // mov edi,eax
    0x48, 0x89, 0xee,                                // mov rsi,rbp
    0xba, 0x08, 0x00, 0x00, 0x00,                    // mov edx,0x8
    0xb8, 0x01, 0x00, 0x00, 0x00,                    // mov eax,0x1
    0x0f, 0x05,                                      // syscall
    0x83, 0xf8, 0x08,                                // cmp eax,0x8
    0x75, 0x09,                                      // jne 6f
    0x31, 0xff,                                      // xor edi,edi
    0xb8, 0x3c, 0x00, 0x00, 0x00,                    // mov eax,0x3c
    0x0f, 0x05,                                      // syscall
    0xbf, 0x01, 0x00, 0x00, 0x00,                    // mov edi,0x1
    0xb8, 0x3c, 0x00, 0x00, 0x00,                    // mov eax,0x3c
    0x0f, 0x05,                                      // syscall
];

/// The same in 32 bits; the value is 4 bytes, and 4 of zero follow it.
#[rustfmt::skip]
const CODE_I686: &[u8] = &[
    0x8b, 0x5c, 0x24, 0x08,                          // mov ebx,DWORD PTR [esp+0x8]
    0x8d, 0x74, 0x24, 0x04,                          // lea esi,[esp+0x4]
    0xad,                                            // lods eax,DWORD PTR ds:[esi]
    0x85, 0xc0,                                      // test eax,eax
    0x75, 0xfb,                                      // jne 08
    0xad,                                            // lods eax,DWORD PTR ds:[esi]
    0x85, 0xc0,                                      // test eax,eax
    0x75, 0xfb,                                      // jne 0d
    0x8b, 0x06,                                      // mov eax,DWORD PTR [esi]
    0x83, 0xc6, 0x08,                                // add esi,0x8
    0x85, 0xc0,                                      // test eax,eax
    0x74, 0x38,                                      // je 53
    0x83, 0xf8, 0x10,                                // cmp eax,0x10
    0x75, 0xf2,                                      // jne 12
    0x6a, 0x00,                                      // push 0x0
    0xff, 0x76, 0xfc,                                // push DWORD PTR [esi-0x4]
    0xb9, 0x41, 0x02, 0x00, 0x00,                    // mov ecx,0x241
    0xba, 0xa4, 0x01, 0x00, 0x00,                    // mov edx,0x1a4
    0xb8, 0x05, 0x00, 0x00, 0x00,                    // mov eax,0x5
    0xcd, 0x80,                                      // int 0x80
    0x85, 0xc0,                                      // test eax,eax
    0x78, 0x19,                                      // js 53
    0x89, 0xc3,                                      // mov ebx,eax
    0x89, 0xe1,                                      // mov ecx,esp
    0xba, 0x08, 0x00, 0x00, 0x00,                    // mov edx,0x8
    0xb8, 0x04, 0x00, 0x00, 0x00,                    // mov eax,0x4
    0xcd, 0x80,                                      // int 0x80
    0x83, 0xf8, 0x08,                                // cmp eax,0x8
    0x75, 0x04,                                      // jne 53
    0x31, 0xdb,                                      // xor ebx,ebx
    0xeb, 0x05,                                      // jmp 58
    0xbb, 0x01, 0x00, 0x00, 0x00,                    // mov ebx,0x1
    0xb8, 0x01, 0x00, 0x00, 0x00,                    // mov eax,0x1
    0xcd, 0x80,                                      // int 0x80
];

/// The same for aarch64, with `openat`.
#[rustfmt::skip]
const CODE_AARCH64: &[u8] = &[
    0xf3, 0x0b, 0x40, 0xf9,                          // ldr x19, [sp, #16]
    0xe0, 0x23, 0x00, 0x91,                          // add x0, sp, #0x8
    0x01, 0x84, 0x40, 0xf8,                          // ldr x1, [x0], #8
    0xe1, 0xff, 0xff, 0xb5,                          // cbnz x1, 8
    0x01, 0x84, 0x40, 0xf8,                          // ldr x1, [x0], #8
    0xe1, 0xff, 0xff, 0xb5,                          // cbnz x1, 10
    0x01, 0x00, 0x40, 0xf9,                          // ldr x1, [x0]
    0xc1, 0x02, 0x00, 0xb4,                          // cbz x1, 74
    0x3f, 0x40, 0x00, 0xf1,                          // cmp x1, #0x10
    0x60, 0x00, 0x00, 0x54,                          // b.eq 30
    0x00, 0x40, 0x00, 0x91,                          // add x0, x0, #0x10
    0xfb, 0xff, 0xff, 0x17,                          // b 18
    0x14, 0x20, 0x00, 0x91,                          // add x20, x0, #0x8
    0x60, 0x0c, 0x80, 0x92,                          // mov x0, #0xffffffffffffff9c
    0xe1, 0x03, 0x13, 0xaa,                          // mov x1, x19
    0x22, 0x48, 0x80, 0xd2,                          // mov x2, #0x241
    0x83, 0x34, 0x80, 0xd2,                          // mov x3, #0x1a4
    0x08, 0x07, 0x80, 0xd2,                          // mov x8, #0x38
    0x01, 0x00, 0x00, 0xd4,                          // svc #0x0
    0x40, 0x01, 0xf8, 0xb7,                          // tbnz x0, #63, 74
    0xe1, 0x03, 0x14, 0xaa,                          // mov x1, x20
    0x02, 0x01, 0x80, 0xd2,                          // mov x2, #0x8
    0x08, 0x08, 0x80, 0xd2,                          // mov x8, #0x40
    0x01, 0x00, 0x00, 0xd4,                          // svc #0x0
    0x1f, 0x20, 0x00, 0xf1,                          // cmp x0, #0x8
    0x81, 0x00, 0x00, 0x54,                          // b.ne 74
    0x00, 0x00, 0x80, 0xd2,                          // mov x0, #0x0
    0xa8, 0x0b, 0x80, 0xd2,                          // mov x8, #0x5d
    0x01, 0x00, 0x00, 0xd4,                          // svc #0x0
    0x20, 0x00, 0x80, 0xd2,                          // mov x0, #0x1
    0xa8, 0x0b, 0x80, 0xd2,                          // mov x8, #0x5d
    0x01, 0x00, 0x00, 0xd4,                          // svc #0x0
];

/// The same for 32-bit ARM, with `open`; 4 bytes of zero follow the value's 4.
#[rustfmt::skip]
const CODE_ARMV7L: &[u8] = &[
    0x08, 0x40, 0x9d, 0xe5,                          // ldr r4, [sp, #8]
    0x04, 0x50, 0x8d, 0xe2,                          // add r5, sp, #4
    0x04, 0x00, 0x95, 0xe4,                          // ldr r0, [r5], #4
    0x00, 0x00, 0x50, 0xe3,                          // cmp r0, #0
    0xfc, 0xff, 0xff, 0x1a,                          // bne 8
    0x04, 0x00, 0x95, 0xe4,                          // ldr r0, [r5], #4
    0x00, 0x00, 0x50, 0xe3,                          // cmp r0, #0
    0xfc, 0xff, 0xff, 0x1a,                          // bne 14
    0x08, 0x00, 0x95, 0xe4,                          // ldr r0, [r5], #8
    0x00, 0x00, 0x50, 0xe3,                          // cmp r0, #0
    0x13, 0x00, 0x00, 0x0a,                          // beq 7c
    0x10, 0x00, 0x50, 0xe3,                          // cmp r0, #16
    0xfa, 0xff, 0xff, 0x1a,                          // bne 20
    0x04, 0x00, 0x15, 0xe5,                          // ldr r0, [r5, #-4]
    0x00, 0x10, 0xa0, 0xe3,                          // mov r1, #0
    0x03, 0x00, 0x2d, 0xe9,                          // push {r0, r1}
    0x04, 0x00, 0xa0, 0xe1,                          // mov r0, r4
    0x41, 0x12, 0x00, 0xe3,                          // movw r1, #577
    0x69, 0x2f, 0xa0, 0xe3,                          // mov r2, #420
    0x05, 0x70, 0xa0, 0xe3,                          // mov r7, #5
    0x00, 0x00, 0x00, 0xef,                          // svc 0x00000000
    0x00, 0x00, 0x50, 0xe3,                          // cmp r0, #0
    0x07, 0x00, 0x00, 0xba,                          // blt 7c
    0x0d, 0x10, 0xa0, 0xe1,                          // mov r1, sp
    0x08, 0x20, 0xa0, 0xe3,                          // mov r2, #8
    0x04, 0x70, 0xa0, 0xe3,                          // mov r7, #4
    0x00, 0x00, 0x00, 0xef,                          // svc 0x00000000
    0x08, 0x00, 0x50, 0xe3,                          // cmp r0, #8
    0x01, 0x00, 0x00, 0x1a,                          // bne 7c
    0x00, 0x00, 0xa0, 0xe3,                          // mov r0, #0
    0x00, 0x00, 0x00, 0xea,                          // b 80
    0x01, 0x00, 0xa0, 0xe3,                          // mov r0, #1
    0x01, 0x70, 0xa0, 0xe3,                          // mov r7, #1
    0x00, 0x00, 0x00, 0xef,                          // svc 0x00000000
];

/// The same for riscv64, with `openat`.
#[rustfmt::skip]
const CODE_RISCV64: &[u8] = &[
    0x03, 0x34, 0x01, 0x01,                          // ld s0,16(sp)
    0x93, 0x04, 0x81, 0x00,                          // add s1,sp,8
    0x03, 0xb5, 0x04, 0x00,                          // ld a0,0(s1)
    0x93, 0x84, 0x84, 0x00,                          // add s1,s1,8
    0xe3, 0x1c, 0x05, 0xfe,                          // bnez a0,8
    0x03, 0xb5, 0x04, 0x00,                          // ld a0,0(s1)
    0x93, 0x84, 0x84, 0x00,                          // add s1,s1,8
    0xe3, 0x1c, 0x05, 0xfe,                          // bnez a0,14
    0x93, 0x02, 0x00, 0x01,                          // li t0,16
    0x03, 0xb5, 0x04, 0x00,                          // ld a0,0(s1)
    0x93, 0x84, 0x04, 0x01,                          // add s1,s1,16
    0x63, 0x02, 0x05, 0x04,                          // beqz a0,70
    0xe3, 0x1a, 0x55, 0xfe,                          // bne a0,t0,24
    0x13, 0x05, 0xc0, 0xf9,                          // li a0,-100
    0x93, 0x05, 0x04, 0x00,                          // mv a1,s0
    0x13, 0x06, 0x10, 0x24,                          // li a2,577
    0x93, 0x06, 0x40, 0x1a,                          // li a3,420
    0x93, 0x08, 0x80, 0x03,                          // li a7,56
    0x73, 0x00, 0x00, 0x00,                          // ecall
    0x63, 0x42, 0x05, 0x02,                          // bltz a0,70
    0x93, 0x85, 0x84, 0xff,                          // add a1,s1,-8
    0x13, 0x06, 0x80, 0x00,                          // li a2,8
    0x93, 0x08, 0x00, 0x04,                          // li a7,64
    0x73, 0x00, 0x00, 0x00,                          // ecall
    0x93, 0x02, 0x80, 0x00,                          // li t0,8
    0x63, 0x16, 0x55, 0x00,                          // bne a0,t0,70
    0x13, 0x05, 0x00, 0x00,                          // li a0,0
    0x6f, 0x00, 0x80, 0x00,                          // j 74
    0x13, 0x05, 0x10, 0x00,                          // li a0,1
    0x93, 0x08, 0xd0, 0x05,                          // li a7,93
    0x73, 0x00, 0x00, 0x00,                          // ecall
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::process::Command;

    fn hwcap(architecture: Architecture, emulator: &[&str]) -> u64 {
        let directory = tempfile::tempdir().unwrap();
        let (file, result) = (directory.path().join("program"), directory.path().join("result"));
        std::fs::write(&file, program(architecture)).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = match emulator {
            [] => Command::new(&file),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(&file);
                command
            }
        };
        let status = command.arg(&result).env("SOME", "variable").status().unwrap();
        assert!(status.success(), "{status}");
        u64::from_le_bytes(std::fs::read(result).unwrap().try_into().unwrap())
    }

    #[test]
    fn the_own_program_runs() {
        let own = Architecture::own().expect("the tests run on a known architecture");
        assert_ne!(hwcap(own, &[]), 0);
        if own == Architecture::X86_64 && std::fs::exists("/proc/sys/abi/vsyscall32").unwrap() {
            assert_ne!(hwcap(Architecture::I686, &[]), 0);
        }
    }

    #[test]
    fn foreign_programs_run_under_qemu_and_see_the_processor_that_is_named() {
        for (architecture, program, model, expected) in [
            (Architecture::Aarch64, "qemu-aarch64", "cortex-a72", 0x8fb),
            (Architecture::Armv7l, "qemu-arm", "cortex-a7", 0x1f_b8d7),
            (Architecture::Riscv64, "qemu-riscv64", "sifive-u54", 0x112d),
        ] {
            let qemu = format!("/var/cache/elsewhere/qemu/{program}");
            assert!(Path::new(&qemu).exists(), "{qemu} is missing: run `cargo xtask setup`");
            assert_eq!(hwcap(architecture, &[&qemu, "-cpu", model]), expected, "{model}");
        }
    }
}
