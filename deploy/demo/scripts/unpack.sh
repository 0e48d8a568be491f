# Unpacks what the demo needs of a Zig wheel: the program, and the headers of the targets.
. "${0%/*}/tools.sh"
set -- 'ziglang/zig' 'ziglang/lib/include/*' 'ziglang/lib/std/std.zig' \
    'ziglang/lib/libc/include/generic-musl/*' 'ziglang/lib/libc/include/any-linux-any/*'
for target in $targets; do
    architecture=${target%%-*}
    [ "$architecture" != x86_64 ] || set -- "$@" 'ziglang/lib/libc/include/x86-linux-any/*'
    set -- "$@" "ziglang/lib/libc/include/$architecture-linux-musl/*" "ziglang/lib/libc/include/$architecture-linux-any/*"
done
# Only who builds a C library needs its sources and Zig's own library.
[ -z "${standardLibrary-}" ] || set -- "$@" 'ziglang/lib/std/*' 'ziglang/lib/libc/musl/*' 'ziglang/lib/compiler_rt*' 'ziglang/lib/c.zig'
unzip -q "$wheel" "$@"
chmod +x ziglang/zig
mv ziglang "$out"
