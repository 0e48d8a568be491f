# One small step: the text of all inputs, and a line of its own with a checksum of them.
. "${0%/*}/tools.sh"
for input in $inputs; do cat "$input"; done | sort -u >text
echo "$name on $(uname -m): $(sha256sum <text | cut -c 1-16)" | tee -a text
cp text "$out"
