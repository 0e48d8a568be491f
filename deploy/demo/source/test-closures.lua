-- Closures, coroutines, errors that are caught, and a collection.
local function counter() local count = 0; return function() count = count + 1; return count end end
local first, second = counter(), counter()
assert(first() == 1 and first() == 2 and second() == 1)
local squares = coroutine.wrap(function() for number = 1, 3 do coroutine.yield(number * number) end end)
assert(squares() + squares() + squares() == 14)
local ok, message = pcall(error, { code = 7 })
assert(not ok and message.code == 7)
local weak = setmetatable({ {} }, { __mode = "v" })
collectgarbage()
assert(weak[1] == nil)
print("passed")
