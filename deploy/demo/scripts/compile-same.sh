# Compiles like compile.sh, and fails unless every object is what another derivation made.
wanted=$out
out=$NIX_BUILD_TOP/objects
. "${0%/*}/compile.sh"
for file in $files; do
    cmp "$out/$file.o" "$expected/$file.o"
    echo "$file.o is the same, emulated and crossed"
done >"$NIX_BUILD_TOP/report"
cp "$NIX_BUILD_TOP/report" "$wanted"
