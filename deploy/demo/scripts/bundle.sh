# What the board asked for: both programs and the results of their tests, by reference.
. "${0%/*}/tools.sh"
mkdir -p "$out/bin" "$out/share/tests"
ln -s "$program/bin/register" "$lua/bin/lua" "$out/bin/"
for file in $tests $same; do
    name=${file#*-}
    ln -s "$file" "$out/share/tests/$name"
done
"$out/bin/register" --version
