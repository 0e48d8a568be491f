# Lets an interpreter that was just built write C.
. "${0%/*}/tools.sh"
mkdir "$out"
"$lua/bin/lua" "$generator" >"$out/$file.c"
wc "$out/$file.c" | sed 's|/.*/||'
