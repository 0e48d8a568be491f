-- Strings: patterns, formats, packing.
assert(("elsewhere"):rep(3, "-") == "elsewhere-elsewhere-elsewhere")
assert(("key = value"):match("^(%w+)%s*=%s*(%w+)$") == "key")
assert(("%5.2f|%-6s|%x"):format(3.14159, "ab", 255) == " 3.14|ab    |ff")
assert(string.unpack("<i4", string.pack("<i4", -7)) == -7)
local words = {}
for word in ("the board waits for the cluster"):gmatch("%a+") do words[#words + 1] = word end
assert(#words == 6 and utf8.len("größer") == 6)
print("passed")
