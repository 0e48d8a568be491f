# Collects objects into an archive.
. "${0%/*}/tools.sh"
mkdir "$out"
for directory in $objects; do echo "$directory"/*.o; done | tr ' ' '\n' | sed 's|.*/||' | sort >names
for directory in $objects; do cp "$directory"/*.o .; done
"$zig/zig" ar rcsD "$out/lib.a" $(cat names)
