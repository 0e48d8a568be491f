// A register of board measurements: SQLite in memory, filled from generated tables, asked by a Lua script.
#include <stdio.h>
#include <string.h>

#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"
#include "sqlite3.h"

// Written by source/schema.lua (on the build machine) and source/tables.lua (on the board, emulated).
extern const char *const schema_statements[];
extern const char *const table_rows[];

static int fail(sqlite3 *database, const char *statement) {
    fprintf(stderr, "register: %s: %s\n", statement, sqlite3_errmsg(database));
    return 1;
}

static int execute_all(sqlite3 *database, const char *const *statements) {
    for (; *statements != NULL; statements++) {
        if (sqlite3_exec(database, *statements, NULL, NULL, NULL) != SQLITE_OK) return fail(database, *statements);
    }
    return 0;
}

// sql(statement) in Lua: a list of rows, each a table by column name.
static int sql(lua_State *lua) {
    sqlite3 *database = lua_touserdata(lua, lua_upvalueindex(1));
    sqlite3_stmt *statement = NULL;
    const char *text = luaL_checkstring(lua, 1);
    if (sqlite3_prepare_v2(database, text, -1, &statement, NULL) != SQLITE_OK) {
        return luaL_error(lua, "%s: %s", text, sqlite3_errmsg(database));
    }
    lua_newtable(lua);
    int row = 0, status;
    while ((status = sqlite3_step(statement)) == SQLITE_ROW) {
        lua_newtable(lua);
        for (int column = 0; column < sqlite3_column_count(statement); column++) {
            switch (sqlite3_column_type(statement, column)) {
            case SQLITE_INTEGER: lua_pushinteger(lua, sqlite3_column_int64(statement, column)); break;
            case SQLITE_FLOAT: lua_pushnumber(lua, sqlite3_column_double(statement, column)); break;
            case SQLITE_NULL: lua_pushnil(lua); break;
            default: lua_pushstring(lua, (const char *)sqlite3_column_text(statement, column));
            }
            lua_setfield(lua, -2, sqlite3_column_name(statement, column));
        }
        lua_rawseti(lua, -2, ++row);
    }
    sqlite3_finalize(statement);
    if (status != SQLITE_DONE) return luaL_error(lua, "%s: %s", text, sqlite3_errmsg(database));
    return 1;
}

static int run(sqlite3 *database, const char *script) {
    lua_State *lua = luaL_newstate();
    if (lua == NULL) return fail(database, "start Lua");
    luaL_openlibs(lua);
    lua_pushlightuserdata(lua, database);
    lua_pushcclosure(lua, sql, 1);
    lua_setglobal(lua, "sql");
    int status = luaL_dofile(lua, script);
    if (status != LUA_OK) fprintf(stderr, "register: %s\n", lua_tostring(lua, -1));
    lua_close(lua);
    return status == LUA_OK ? 0 : 1;
}

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: register SCRIPT | --version\n");
        return 2;
    }
    if (strcmp(arguments[1], "--version") == 0) {
        printf("register with SQLite %s and %s\n", sqlite3_libversion(), LUA_RELEASE);
        return 0;
    }
    sqlite3 *database;
    if (sqlite3_open(":memory:", &database) != SQLITE_OK) return fail(database, "open");
    int status = execute_all(database, schema_statements);
    if (status == 0) status = execute_all(database, table_rows);
    if (status == 0) status = run(database, arguments[1]);
    sqlite3_close(database);
    return status;
}
