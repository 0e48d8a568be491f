# Runs one test with the board's program; its output is the result.
. "${0%/*}/tools.sh"
"$program/bin/register" "$test" | tee "$NIX_BUILD_TOP/result"
grep -q '^passed$' "$NIX_BUILD_TOP/result"
cp "$NIX_BUILD_TOP/result" "$out"
