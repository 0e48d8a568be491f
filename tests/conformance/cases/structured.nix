# Structured attributes: the two files, numbers, graphs, checks.
l: with l; {
  structuredJson = covers "B3.json" structured "cat .attrs.json > $out" {
    text = "it's \"quoted\" \\ and\ttabbed\nü ☃ 😀 \u007f";
    list = [ "a" "b c" "it's" [ ] ];
    nested = { a = { b = [ 1 { c = null; } ]; }; empty = { }; };
    yes = true;
    no = false;
    nothing = null;
    "weird key" = 1;
    "a/b\"c" = "slash";
    "" = "empty";
    "é" = "accent";
  };
  structuredShell = covers "B3.shell B3.shell-names B3.shell-arrays B3.shell-tables" structured "cat .attrs.sh > $out" {
    text = "it's \"quoted\" \\ and\ttabbed\nü $HOME \`x\`";
    words = [ "a" "b c" "it's" "" ];
    mixed = [ 1 "two" true false null 3.0 ];
    notSimple = [ [ 1 ] 2 ];
    notWhole = [ 1 0.5 ];
    table = { key = "value"; "odd key" = 1; "it's" = true; };
    tableOfLists = { a = [ 1 ]; };
    none = { };
    nobody = [ ];
    yes = true;
    no = false;
    nothing = null;
    _under = "score";
    "9digit" = "no";
    "with-dash" = "no";
    "with space" = "no";
  };
  structuredNumbers = covers "B3.json-numbers B3.shell-numbers" structured "cat .attrs.json .attrs.sh > $out" {
    zero = 0; small = 42; negative = -7; int31 = 2147483647; int32 = 2147483648; wrapped = 4294967297; below = -2147483649;
    exact = 9007199254740993; largest = 9223372036854775807; smallest = -9223372036854775807;
    one = 1.0; half = 0.5; tenth = 0.1; third = 0.333333; many = 123456.0; hundredThousand = 100000.0; minus = -2.5; nought = 0.0;
    huge = 1.0e100; tiny = 1.0e-7; fifteen = 1.0e15; sixteen = 1.0e16; five = 1.0e-5; four = 1.0e-4; float24 = 16777217; whole = 123456789.0;
  };
  structuredEnvironment = covers "B2.structured B3.files" structured "tr '\\0' '\\n' < /proc/1/environ > $out; ls -A /build >> $out; stat -c '%a %u:%g %n' /build/.attrs.* >> $out" {
    HOME = "/not/taken";
    attribute = "x";
    passAsFile = [ "attribute" ];
    env = { inner = "y"; };
  };
  structuredOutputs = covers "B3.json-outputs" structured "cat .attrs.sh .attrs.json > $out; echo \"$(output lib)\" >> $out; echo > $(output lib)" {
    outputs = [ "out" "lib" ];
    hole = builtins.placeholder "lib";
    holes = [ (builtins.placeholder "out") { deep = builtins.placeholder "lib"; } ];
  };
  structuredGraph = covers "B3.json-graph B3.json-graph-roots B3.json-graph-address" structured "cat .attrs.json > $out" { exportReferencesGraph = { one = [ letter ]; two = [ tree pair ]; "odd name" = greeting; }; };
  structuredGraphReplaces = covers "B3.json-graph" structured "cat .attrs.json .attrs.sh > $out" { one = "replaced"; exportReferencesGraph.one = [ letter ]; };
  structuredGraphOfDerivation = covers "B3.json-graph-derivations" structured "cat .attrs.json > $out" { exportReferencesGraph.drv = [ pair.drvPath ]; };
  structuredChecksHold = covers "B5.checks-of-outputs B5.sizes" structured "echo ${greeting} > $out" {
    outputChecks.out = { maxSize = 4096; maxClosureSize = 8192; allowedReferences = [ greeting ]; disallowedRequisites = [ letter ]; };
  };
  structuredDiscards = covers "B5.discard" structured "echo ${greeting} $out > $out" { unsafeDiscardReferences.out = true; };
  structuredIgnoresPlainChecks = covers "B5.checks-of-outputs" structured "echo ${greeting} > $out" { allowedReferences = [ ]; };
  structuredFixed = covers "D5.fixed-methods B2.structured" structured "echo fixed > $out" { outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = hashOf "sha256" "fixed\n"; };
  structuredUnknownCheck = covers "B5.checks-of-outputs" structured "echo x > $out" { outputChecks.out.unheardOf = 1; outputChecks.absent.maxSize = 1; };
}
