-- Text functions of both languages over the same rows agree.
for _, row in ipairs(sql("SELECT name, upper(name) AS up, length(name) AS n, hex(name) AS hex FROM boards ORDER BY name")) do
  assert(row.name:upper() == row.up and #row.name == row.n)
  assert(row.name:gsub(".", function(letter) return ("%02X"):format(letter:byte()) end) == row.hex)
  print(row.name, row.up, row.n, row.hex)
end
print("passed")
