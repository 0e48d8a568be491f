# Says a few lines, then fails as a compiler would.
. "${0%/*}/tools.sh"
for number in $(seq 1 15); do echo "line $number of a build that fails"; done
echo "error: this derivation is made to fail" >&2
exit 3
