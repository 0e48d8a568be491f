// The Lua interpreter as the demo needs it: runs one script.
#include <stdio.h>

#include "lauxlib.h"
#include "lua.h"
#include "lualib.h"

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: lua SCRIPT\n");
        return 2;
    }
    lua_State *lua = luaL_newstate();
    if (lua == NULL) {
        fprintf(stderr, "lua: out of memory\n");
        return 1;
    }
    luaL_openlibs(lua);
    int status = luaL_dofile(lua, arguments[1]);
    if (status != LUA_OK) fprintf(stderr, "lua: %s\n", lua_tostring(lua, -1));
    lua_close(lua);
    return status == LUA_OK ? 0 : 1;
}
