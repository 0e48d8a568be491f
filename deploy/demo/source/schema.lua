-- Writes schema.c: the statements that make the register's tables. Runs on the build machine.
local tables = {
  { "boards", "name TEXT PRIMARY KEY", "cores INTEGER NOT NULL", "memory_megabytes INTEGER NOT NULL" },
  { "sensors", "id INTEGER PRIMARY KEY", "board TEXT NOT NULL REFERENCES boards(name)", "unit TEXT NOT NULL" },
  { "readings", "sensor INTEGER NOT NULL REFERENCES sensors(id)", "minute INTEGER NOT NULL", "value REAL NOT NULL",
    "PRIMARY KEY (sensor, minute)" },
}
print("// Written by schema.lua.")
print("#include <stddef.h>")
print("const char *const schema_statements[] = {")
for _, definition in ipairs(tables) do
  print(("    %q,"):format(("CREATE TABLE %s (%s)"):format(definition[1], table.concat(definition, ", ", 2))))
end
print('    "CREATE INDEX readings_by_minute ON readings (minute)",')
print("    NULL,")
print("};")
