-- Queries over the generated rows.
local count = sql("SELECT count(*) AS n FROM readings")[1].n
assert(count == 3 * 4 * 120, count)
for _, row in ipairs(sql([[
  SELECT board, unit, count(*) AS n, round(avg(value), 3) AS mean, max(value) AS top
  FROM readings JOIN sensors ON sensors.id = sensor GROUP BY board, unit ORDER BY board, unit]])) do
  print(row.board, row.unit, row.n, row.mean, row.top)
end
print("passed")
