# The demo's graph: Lua and SQLite for a small aarch64 board, built from what package registries carry, without nixpkgs.
#
#   native    x86_64-linux derivations whose products run there
#   cross     x86_64-linux derivations whose products are for aarch64: they say so in name and configureFlags
#   emulated  aarch64-linux derivations
#
# Attributes: default (everything), parts (each derivation by name), small (seconds, no compiler), fail (one derivation
# fails), big (one output of half a gigabyte). `salt` makes all derivations new ones. `cargo xtask setup` makes `cache`.
{ cache ? "/var/cache/elsewhere", salt ? "" }:

let
  source = name: builtins.path { inherit name; path = cache + "/sources/${name}"; };
  lua = source "lua";
  sqlite = source "sqlite";
  wheel = { x86_64 = source "ziglang-x86_64.whl"; aarch64 = source "ziglang-aarch64.whl"; };

  target = "aarch64-unknown-linux-musl";
  zigTarget = { x86_64 = "x86_64-linux-musl"; aarch64 = "aarch64-linux-musl"; };

  # One derivation: a static busybox as shell and tools, and one script of ./scripts.
  make = system: shell: name: script: attributes:
    derivation ({
      inherit name system salt;
      builder = "${shell}/bin/busybox";
      args = [ "sh" "-eu" "${scripts}/${script}.sh" ];
    } // attributes);
  scripts = builtins.path { name = "demo-scripts"; path = ./scripts; };
  native = make "x86_64-linux" (source "busybox-amd64");
  emulated = make "aarch64-linux" (source "busybox-arm64");
  cross = name: script: attributes:
    native "${name}-${target}" script (attributes // {
      configureFlags = [ "--build=x86_64-unknown-linux-musl" "--host=${target}" ];
    });

  byName = derivations: builtins.listToAttrs (map (value: { inherit (value) name; inherit value; }) derivations);
  values = builtins.attrValues;

  # The compilers: unpacked here, run here (x86_64) or under emulation (aarch64).
  zig = native "zig-0.13.0" "unpack" { wheel = wheel.x86_64; targets = values zigTarget; standardLibrary = true; };
  zigForBoard = native "zig-0.13.0-for-aarch64" "unpack" { wheel = wheel.aarch64; targets = [ zigTarget.aarch64 ]; };

  # The C library and the compiler's run time, once for each target.
  sysroot = native "musl" "sysroot" { inherit zig; target = zigTarget.x86_64; };
  sysrootForBoard = cross "musl" "sysroot" { inherit zig; target = zigTarget.aarch64; };

  luaFiles = {
    lexer = [ "llex" "lzio" "lctype" "lstring" ];
    parser = [ "lparser" "lcode" "lopcodes" ];
    objects = [ "lobject" "ltable" "lfunc" "ltm" ];
    machine = [ "lvm" "ldo" "ldebug" ];
    memory = [ "lgc" "lmem" "lstate" "ldump" "lundump" ];
    interface = [ "lapi" "lauxlib" "linit" "lbaselib" ];
    libraries = [ "ltablib" "lmathlib" "lutf8lib" "lcorolib" "ldblib" ];
    system = [ "lstrlib" "liolib" "loslib" "loadlib" ];
  };
  # Archives, and an interpreter, for one target. `build` is `native` or `cross`.
  luaFor = build: target: sysroot: rec {
    objects = builtins.mapAttrs (group: files: build "lua-${group}" "compile" { inherit zig target files; sources = lua; includes = [ ]; }) luaFiles;
    runner = build "lua-runner" "compile" { inherit zig target; files = [ "runner" ]; sources = ./source; includes = [ lua ]; };
    archive = build "liblua" "archive" { inherit zig; objects = values objects; };
    interpreter = build "lua" "link" { inherit zig sysroot target; program = "lua"; objects = [ runner ]; archives = [ archive ]; };
  };
  here = luaFor native zigTarget.x86_64 sysroot;
  board = luaFor cross zigTarget.aarch64 sysrootForBoard;

  # Generated C: the schema by the native interpreter, the tables by the board's interpreter under emulation.
  schema = native "schema-source" "generate" { lua = here.interpreter; generator = ./source/schema.lua; file = "schema"; };
  tables = emulated "tables-source" "generate" { lua = board.interpreter; generator = ./source/tables.lua; file = "tables"; };

  compileForBoard = name: sources: includes: files:
    cross name "compile" { inherit zig sources includes files; target = zigTarget.aarch64; };
  sqliteForBoard = compileForBoard "sqlite" sqlite [ ] [ "sqlite3" ];
  program = cross "register" "link" {
    inherit zig;
    sysroot = sysrootForBoard;
    target = zigTarget.aarch64;
    program = "register";
    objects = [
      (compileForBoard "register-main" ./source [ lua sqlite ] [ "register" ])
      (compileForBoard "schema" schema [ ] [ "schema" ])
      (compileForBoard "tables" tables [ ] [ "tables" ])
      sqliteForBoard
    ];
    archives = [ board.archive ];
  };

  # A compiler under emulation must give what the cross compiler gives.
  compiledThere = builtins.mapAttrs
    (group: files: emulated "lua-${group}-compiled-there" "compile-same" {
      zig = zigForBoard;
      target = zigTarget.aarch64;
      sources = lua;
      includes = [ ];
      expected = board.objects.${group};
      inherit files;
    })
    { lexer = [ "lzio" ]; objects = [ "lfunc" ]; memory = [ "lmem" ]; interface = [ "linit" ]; };

  # What the board would do with it, under emulation.
  luaTest = name: emulated "test-lua-${name}" "test-lua" { lua = board.interpreter; test = ./source + "/test-${name}.lua"; };
  programTest = name: emulated "test-register-${name}" "test-register" { inherit program; test = ./source + "/test-${name}.sql.lua"; };
  tests = map luaTest [ "strings" "numbers" "tables" "closures" ] ++ map programTest [ "queries" "transactions" "text" ];

  default = emulated "register-with-tests" "bundle" {
    inherit program tests;
    lua = board.interpreter;
    same = values compiledThere;
  };

  parts = byName ([ zig zigForBoard sysroot sysrootForBoard here.runner here.archive here.interpreter board.runner board.archive
    board.interpreter schema tables sqliteForBoard program default ]
    ++ program.objects ++ tests ++ values here.objects ++ values board.objects ++ values compiledThere);

  small = import ./small.nix { inherit native cross emulated; };
in
{
  inherit default parts;
  inherit (small) small fail;
  big = native "big" "big" { wheel = wheel.x86_64; };
}
