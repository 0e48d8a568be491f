# Links a static program with the C library of its target.
. "${0%/*}/tools.sh"
mkdir -p "$out/bin"
set -- "$sysroot/crt1.o" "$sysroot/crti.o"
for directory in $objects; do set -- "$@" "$directory"/*.o; done
for directory in $archives; do set -- "$@" "$directory/lib.a"; done
set -- "$@" "$sysroot/libc.a" "$sysroot/libcompiler_rt.a" "$sysroot/crtn.o"
"$zig/zig" ld.lld -static -s --gc-sections --build-id=none -o "$out/bin/$program" "$@"
