# Environment, arguments, files passed beside them.
l: with l; {
  environmentOrder = covers "B1.environment-order B2.attributes" facts "environ" { zebra = "1"; Zebra = "2"; _ = "3"; apple = "4"; };
  environmentValues = covers "B2.attributes B2.defaults" facts "environ" {
    list = [ 1 "two" true ];
    yes = true;
    no = false;
    nothing = null;
    empty = "";
    number = -17;
    lines = "one\ntwo\n";
    quotes = "\"double\" 'single' \\ back \$dollar \t tab";
    unicode = "grüße ☃ 😀";
    path = greeting;
  };
  environmentOverrides = covers "B2.defaults B2.fixed-by-nix B2.last B2.output-checked" facts "environ" {
    HOME = "/elsewhere";
    PATH = "/somewhere";
    NIX_STORE = "none";
    NIX_BUILD_CORES = "99";
    NIX_BUILD_TOP = "top";
    TMPDIR = "t1";
    TEMPDIR = "t2";
    TMP = "t3";
    TEMP = "t4";
    PWD = "/";
    TERM = "dumb";
    NIX_LOG_FD = "7";
    NIX_OUTPUT_CHECKED = "1";
  };
  environmentNames = covers "B1.environment-order B2.attributes" facts "environ" { "with space" = "1"; "a.b" = "2"; "a-b" = "3"; "9x" = "4"; "ä" = "5"; "" = "6"; "x=y" = "7"; };
  environmentLong = covers "B2.attributes" shell "echo \${#long} > $out; env | wc -c >> $out" { long = builtins.concatStringsSep "" (builtins.genList (n: "0123456789") 12000); };
  environmentReplaced = covers "B2.attributes" facts "environ" { __ignoreNulls = true; gone = null; kept = "x"; };
  environmentShell = covers "B1.directory B2.defaults" shell "env | sort > $out; echo ~ >> $out; pwd >> $out" { };
  cores = covers "B2.cores" shell "echo $NIX_BUILD_CORES > $out" { };

  arguments = covers "B1.arguments B1.argument-placeholders" shell "" {
    args = [ "-c" "for a; do echo \"[$a]\"; done > $out; echo $0 >> $out" "zero" "" "a b" "new\nline" "ä☃" "*" "-x" (builtins.placeholder "out") ];
  };
  argumentsNone = named "B1.arguments B1.builder" (name: derivation {
    inherit name system;
    builder = shell "printf '#!${busybox}/bin/sh\\necho $# $0 > $out\\n' > $out; chmod 755 $out" { } "builder-script";
  });
  argumentZero = covers "B1.argument-zero" shell "tr '\\0' '\\n' < /proc/self/cmdline > $out; echo $0 >> $out" { };
  processOneCommandLine = covers "B1.argument-zero C1.process-one" shell "tr '\\0' '\\n' < /proc/1/cmdline > $out" { };

  placeholders = covers "B1.environment-placeholders" shell "{ echo $own; echo $other; env | grep ^name_ | sort; echo $listed; } > $out; echo > $lib" {
    outputs = [ "out" "lib" ];
    own = "${builtins.placeholder "out"}/share";
    other = builtins.placeholder "lib";
    listed = [ (builtins.placeholder "lib") (builtins.placeholder "nonsense") ];
    "name_${builtins.placeholder "out"}" = "in a name";
  };

  passAsFile = covers "B2.pass-as-file B2.pass-as-file-placeholders C2.build" shell ''
    { ls -ln /build | awk '{ print $1, $2, $3, $4, $5, $NF }'; env | sort; for f in /build/.attr-*; do echo "== $f"; cat $f; echo; done; } > $out
  '' { text = "a text\nof two lines"; empty = ""; hole = builtins.placeholder "out"; passAsFile = [ "text" "empty" "hole" "absent" "name" ]; };
  passAsFileBig = covers "B2.pass-as-file" shell "wc -c < $bigPath > $out; md5sum < $bigPath >> $out" {
    big = builtins.concatStringsSep "" (builtins.genList (n: "line ${toString n}\n") 20000);
    passAsFile = "big";
  };
}
