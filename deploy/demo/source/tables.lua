-- Writes tables.c: rows of made-up measurements, always the same. Runs with the board's interpreter, under emulation.
local boards = { { "kitchen", 4, 1024 }, { "garden", 4, 512 }, { "attic", 1, 512 } }
local units = { "celsius", "percent", "lux", "hectopascal" }
local rows = {}
local function add(...) rows[#rows + 1] = string.format(...) end

local state = 42
local function random(limit) -- a linear congruence: the same on every machine
  state = (state * 1103515245 + 12345) % 2147483648
  return state // 65536 % limit
end

local sensor = 0
for _, board in ipairs(boards) do
  add("INSERT INTO boards VALUES ('%s', %d, %d)", table.unpack(board))
  for _, unit in ipairs(units) do
    sensor = sensor + 1
    add("INSERT INTO sensors VALUES (%d, '%s', '%s')", sensor, board[1], unit)
    for minute = 0, 119 do
      add("INSERT INTO readings VALUES (%d, %d, %.2f)", sensor, minute, random(10000) / 100)
    end
  end
end

print("// Written by tables.lua.")
print("#include <stddef.h>")
print("const char *const table_rows[] = {")
for _, row in ipairs(rows) do print(("    %q,"):format(row)) end
print("    NULL,")
print("};")
