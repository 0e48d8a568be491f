-- Tables: sorting, removing, metatables.
local list = {}
for index = 1, 2000 do list[index] = (index * 7919) % 2003 end
table.sort(list)
for index = 2, #list do assert(list[index - 1] <= list[index]) end
assert(table.remove(list) == 2002 and table.concat({ 1, 2, 3 }, "+") == "1+2+3")
local vector = setmetatable({}, { __index = function(_, key) return key * 2 end, __len = function() return 9 end })
assert(vector[21] == 42 and #vector == 9)
print("passed")
