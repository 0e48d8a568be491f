# Compiles the C files named in $files, each to an object.
. "${0%/*}/tools.sh"
mkdir "$out"
flags=
for directory in $includes; do flags="$flags -I$directory"; done
# Relative names and no debug information: the object does not know where it was made.
cd "$sources"
for file in $files; do
    echo "$target: $file.c"
    "$zig/zig" cc -target "$target" -std=gnu99 -O1 -g0 $flags ${defines-} -c "$file.c" -o "$out/$file.o"
done
