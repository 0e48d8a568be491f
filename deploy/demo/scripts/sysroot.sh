# The first link for a target builds the C library and the compiler's run time: keep them, so that nobody does it again.
. "${0%/*}/tools.sh"
mkdir "$out"
echo 'int main(void) { return 0; }' >empty.c
"$zig/zig" cc -target "$target" -O2 -static -s -v empty.c -o empty 2>log || { cat log; exit 1; }
grep '^ld.lld .* -o empty ' log | tail -n 1 | tr ' ' '\n' >words
for file in crt1.o crti.o crtn.o libc.a libcompiler_rt.a; do
    cp "$(grep "/$file\$" words)" "$out/$file"
done
