# Attributes that few derivations have: extreme sizes, bytes that are no text, numbers of every form, large graphs, checks of every kind.
l: with l;
let
  range = count: builtins.genList (n: n) count;
  repeated = text: count: builtins.concatStringsSep "" (builtins.genList (n: text) count);
  # Not UTF-8, every byte but NUL.
  bytes = builtins.readFile ../bytes;
  raw = builder: args: extra: name: derivation ({ inherit name system builder args; PATH = "${busybox}/bin"; } // extra);
  # The text of structured attributes as it is, whatever an evaluator would make of values.
  written = json: text: extra: name: derivation ({ inherit name system; builder = "${busybox}/bin/sh"; args = [ "-ec" "export PATH=${busybox}/bin; ${text}" ]; __json = json; } // extra);

  # Numbers as they come: seventeen digits and any exponent, from a generator that always gives the same.
  next = state: builtins.bitAnd (state * 1103515245 + 12345) 2147483647;
  step = state: let a = next state; b = next a; c = next b; in {
    state = c;
    text = "${if builtins.bitAnd c 1 == 1 then "-" else ""}${toString (1 + a / 240000000)}.${toString a}${toString b}e${toString (c / 3600000 - 298)}";
  };
  doubles = count: seed: (builtins.foldl' (all: n: let one = step all.state; in { inherit (one) state; list = all.list ++ [ one.text ]; }) { state = seed; list = [ ]; } (range count)).list;
  # The same digits near 1, where the decimal form is printed.
  plainDoubles = count: seed: map (text: builtins.head (builtins.split "e" text)) (doubles count seed);

  # A closure of many small files, some of which refer to others.
  leaf = n: builtins.toFile "leaf-${toString n}" "leaf ${toString n}\n";
  branch = n: builtins.toFile "branch-${toString n}" (builtins.concatStringsSep "\n" (map (m: leaf (n * 10 + m)) (range 10)));
  forest = builtins.toFile "forest" (builtins.concatStringsSep "\n" (map branch (range 25)));
  chain = builtins.foldl' (below: n: builtins.toFile "link-${toString n}" "${toString n} on ${below}") greeting (range 120);
in {
  bytesInValue = covers "B2.attributes" facts "environ" { value = bytes; };
  bytesInFile = covers "B2.pass-as-file" shell "md5sum < $valuePath > $out; od -c $valuePath >> $out" { value = bytes; passAsFile = "value"; };
  bytesInArgument = covers "B1.arguments" shell "" { args = [ "-c" "printf '%s' \"$1\" | od -c > $out" "x" bytes ]; };
  bytesInScript = covers "B1.arguments" shell "printf '%s' '${builtins.replaceStrings [ "'" ] [ "" ] bytes}' | od -c > $out" { };
  variablesMany = covers "B1.environment-order B2.attributes" facts "environ" (builtins.listToAttrs (map (n: { name = "v${toString (n * 7919)}"; value = toString n; }) (range 2000)));
  variableNamesOdd = covers "B1.environment-order B2.attributes" facts "environ" { "=" = "1"; "==" = "2"; "a\nb" = "3"; " " = "4"; "\t" = "5"; "é=" = "6"; "PATH " = "7"; "_" = "8"; "__" = "9"; "-" = "10"; "Path" = "11"; "PATHPath" = "12"; };
  variableAlmostTooLong = covers "B1.too-long B2.attributes" shell "echo \${#long} > $out" { long = repeated "0123456789abcdef" 8191; };
  argumentsMany = covers "B1.arguments" shell "" { args = [ "-c" "echo $# > $out; echo \"$@\" | md5sum >> $out" "x" ] ++ map toString (range 9000); };
  argumentTooLong = covers "B1.too-long" shell "" { args = [ "-c" "echo x > $out" (repeated "0123456789abcdef" 8192) ]; };
  argumentsTooMany = covers "B1.too-long" shell "" { args = [ "-c" "echo x > $out" ] ++ map (n: repeated "0123456789abcdef" 6000) (range 25); };
  argumentsOdd = covers "B1.arguments" shell "" { args = [ "-c" "tr '\\0' '|' < /proc/1/cmdline | sed 's,/nix/store/,,g' > $out" "" " " "\n" "--" "-" "'" "\"" "\\" "$out" "\${out}" "`id`" "*" "~" "\t\r" "é" ]; };
  placeholdersUnknown = covers "B1.argument-placeholders B1.environment-placeholders" shell "" {
    args = [ "-c" "{ echo $1 $2 $3; env | sort; } > $out" "x" (builtins.placeholder "lib") (builtins.placeholder "") "${builtins.placeholder "out"}${builtins.placeholder "out"}" ];
    cut = builtins.substring 0 52 (builtins.placeholder "out");
    doubled = "/${builtins.placeholder "out"}/";
  };
  builderHasPlaceholder = covers "B1.builder B1.not-executable" (raw (builtins.placeholder "out")) [ "x" ] { };
  builderEndsInSlash = covers "B1.builder B1.not-executable" (raw "${busybox}/bin/sh/") [ ] { };
  builderIsRoot = covers "B1.builder B1.not-executable" (raw "/") [ ] { };
  builderHasDots = covers "B1.builder B1.argument-zero" (raw "${busybox}/bin/../bin/./sh") [ "-c" "echo $0 > $out" ] { };
  builderHasSpaces = covers "B1.builder B1.argument-zero" (raw "${shell "mkdir $out; ln -s ${busybox}/bin/sh \"$out/a b\"" { } "spaces"}/a b") [ "-c" "echo \"$0\" > $out" ] { };
  builderIsOtherArchitecture = covers "B1.not-executable" (raw greeting) [ ] { system = "x86_64-darwin"; };
  systemUnknown = covers "B5.features-missing" shell "echo x > $out" { system = "nonsense"; };
  nameOfDots = named "B2.attributes" (name: shell "echo $name > $out" { } "x.y..z-");
  nameOfSigns = named "B2.attributes" (name: shell "echo $name > $out" { } "+-?=_.+");
  nameDigits = named "B2.attributes" (name: shell "echo $name > $out" { } "9");
  nameLongest = named "D2.names" (name: shell "echo $name > $out; echo > $l" { outputs = [ "out" "l" ]; } (repeated "n" 205));
  attributesOfNix = covers "B2.attributes" facts "environ" { outputs = [ "out" ]; __ignoreNulls = true; __structuredAttrs = false; preferLocalBuild = ""; allowSubstitutes = ""; requiredSystemFeatures = ""; allowedReferences = "\n\t "; meta = "x"; };

  passAsFileSizes = covers "B2.pass-as-file" shell "for f in $emptyPath $onePath $linesPath $largePath; do wc -c < $f; md5sum < $f; done > $out; ls -ln /build | awk '{ print $1, $3, $4, $5, $NF }' >> $out" {
    empty = ""; one = "x"; lines = "\n\n"; large = repeated "0123456789abcdef" 100000; passAsFile = [ "empty" "one" "lines" "large" ];
  };
  passAsFileNames = covers "B2.pass-as-file" shell "{ tr '\\0' '\\n' < /proc/1/environ; ls -A /build; } > \${out:-$(cat $outPath)}" {
    "a b" = "1"; "é" = "2"; "-x" = "3"; HOME = "/4"; TMPDIR = "5"; xPath = "6"; x = "7"; passAsFile = "x  HOME\n-x é\tTMPDIR passAsFile builder system outputs x";
  };
  passAsFileMany = covers "B2.pass-as-file" shell "cat /build/.attr-* | sort | md5sum > $out; ls -A /build | wc -l >> $out" (builtins.listToAttrs (map (n: { name = "f${toString n}"; value = "value ${toString n}\n"; }) (range 300)) // { passAsFile = map (n: "f${toString n}") (range 300); });

  graphLarge = covers "B4.file" shell "md5sum < all > $out; wc -l < all >> $out; head -n 40 all >> $out; cat deep >> $out" { exportReferencesGraph = [ "all" forest "deep" chain ]; };
  graphNames = covers "B4.file B4.file-name" shell "ls -A /build > $out; cat a.b-c_D9 _x >> $out" { exportReferencesGraph = [ "a.b-c_D9" letter "_x" greeting "_x" letter ]; };
  graphNameOfDots = covers "B4.file-name" shell "true" { exportReferencesGraph = [ ".." greeting ]; };
  graphNameEndsInDots = covers "B4.file-name" shell "ls -A > $out; cat a.. >> $out" { exportReferencesGraph = [ "a.." greeting ]; };
  graphNameOfAttributes = covers "B4.file-name B2.pass-as-file" shell "cat env-vars > $out" { exportReferencesGraph = [ "env-vars" greeting ]; };
  graphNotInStore = covers "B4.outside" shell "true" { exportReferencesGraph = [ "one" "/etc/passwd" ]; };
  graphNotAPath = covers "B4.outside" shell "true" { exportReferencesGraph = [ "one" "nothing" ]; };
  graphOfStore = covers "B4.outside" shell "true" { exportReferencesGraph = [ "one" "/nix/store" ]; };
  graphOfBadName = covers "B4.outside" shell "true" { exportReferencesGraph = [ "one" "/nix/store/xyz" ]; };
  graphOfOwnOutput = covers "B4.outside" shell "true" { exportReferencesGraph = [ "one" (builtins.placeholder "out") ]; };

  numbersScientific = covers "B3.json-numbers B3.shell-numbers" structured "cat .attrs.json .attrs.sh > $out" { list = map builtins.fromJSON (doubles 500 1); };
  numbersPlain = covers "B3.json-numbers B3.shell-numbers" structured "cat .attrs.json .attrs.sh > $out" (builtins.listToAttrs (map (text: { name = "n${builtins.replaceStrings [ "." "-" ] [ "_" "m" ] text}"; value = builtins.fromJSON text; }) (plainDoubles 200 7)) // { list = map builtins.fromJSON (plainDoubles 500 5); });
  numbersWritten = covers "B3.json-numbers B3.shell-numbers" structured "cat .attrs.json .attrs.sh > $out" {
    list = builtins.fromJSON "[0,-0,0.0,-0.0,1e0,1E5,1e+5,1e-5,1.0e22,1e23,123456789012345680,1234567890123456789012,0.1,0.12345678901234567,5e-324,2.2250738585072014e-308,1.7976931348623157e308,4.35,9007199254740993.0,4503599627370496.5,0.0001,0.00001,123456789012345.6,999999999999999.9,9999999999999999.0,1e15,1e14,1e16,-1e-7,-2147483649,4294967296,9223372036854775807,-9223372036854775808]";
    a = builtins.fromJSON "1e15"; b = builtins.fromJSON "2147483520.0"; c = builtins.fromJSON "-2147483904.0"; d = builtins.fromJSON "3000000000"; e = builtins.fromJSON "16777217.5"; f = builtins.fromJSON "-0.0"; g = builtins.fromJSON "-5"; h = builtins.fromJSON "8388608.5"; i = builtins.fromJSON "0.99999999999"; j = builtins.fromJSON "4294967295";
  };
  textsStructured = covers "B3.json B3.shell" structured "cat .attrs.json .attrs.sh > $out" {
    controls = builtins.fromJSON "\"\\u0001\\u0008\\u000b\\u000c\\u001b\\u001f\\u007f\\u0080\\u00a0\\u2028\\u2029\\ufeff\\uffff\\ud83d\\ude00\""; quotes = "'''\"\"\"\\\\"; newline = "\n"; empty = ""; dollars = "$(id) `id` \${x} !!";
    large = repeated "0123456789abcdef" 20000; list = [ "" "\n" "'" "-e" "*" ]; table = { "" = ""; "]" = "["; "'" = "'\""; "a\nb" = "\n"; "é" = "é"; };
    keys = { "\n" = 1; "'" = 2; "\\" = 3; "\"" = 4; " " = 5; "☃" = 6; };
  };
  namesStructured = covers "B3.shell-names B3.json" structured "cat .attrs.sh .attrs.json > $out" ({ "if" = 1; "PATH" = "x"; "A" = 1; "a" = 2; "_" = 3; "_1" = 4; "a1" = 5; "a.b" = 6; "a b" = 7; "é" = 8; "A-B" = 9; "a\n" = 10; "out" = "mine"; "outputs" = [ "out" ]; "declare" = 11; });
  nestingStructured = covers "B3.json B3.shell-arrays B3.shell-tables" structured "cat .attrs.json .attrs.sh > $out" {
    deep = builtins.foldl' (inner: n: if n - n / 2 * 2 == 0 then [ inner ] else { a = inner; }) "bottom" (range 60);
    lists = [ [ ] [ [ ] ] ]; emptyTable = { }; tables = { a = { }; }; mixed = [ { } ]; nulls = [ null null ]; nullTable = { a = null; b = [ ]; }; floats = [ 1.5 2.0 ]; floatTable = { a = 2.0; b = 1.5; }; large = range 3000;
  };
  jsonWritten = covers "B2.structured B3.json" (written "{\"b\":1,\"a\":\"x\"}") "cat .attrs.json .attrs.sh > \"$(sed -n 's/.*\"out\":\"\\([^\"]*\\)\".*/\\1/p' .attrs.json)\"" { };
  jsonWrittenBeside = covers "B2.structured B3.json" (written "{\"a\":\"x\",\"name\":\"y\"}") "{ cat .attrs.json .attrs.sh; tr '\\0' '\\n' < /proc/1/environ; ls -A; } > \"$(sed -n 's/.*\"out\":\"\\([^\"]*\\)\".*/\\1/p' .attrs.json)\"" { beside = "z"; passAsFile = "beside"; };
  outputsOfStructured = covers "B3.json-outputs D1.order" structured "for o in a-b _c z; do cat .attrs.json > \"$(sed -n \"s/.*\\\"$o\\\":\\\"\\([^\\\"]*\\)\\\".*/\\1/p\" .attrs.json)\"; done; cat .attrs.sh >> \"$(output out)\"" { outputs = [ "out" "a-b" "z" "_c" ]; };
  structuredGraphLarge = covers "B3.json-graph" structured "md5sum < .attrs.json > $out; cut -c1-20000 .attrs.json >> $out" { exportReferencesGraph = { all = [ forest ]; deep = chain; both = [ [ greeting ] [ [ tree ] ] ]; }; };
  structuredGraphOfOutputs = covers "B3.json-graph B3.json-outputs" structured "cat .attrs.json .attrs.sh > $out" { exportReferencesGraph.outputs = [ letter ]; };
  structuredGraphNone = covers "B3.json-graph" structured "cat .attrs.json .attrs.sh > $out" { exportReferencesGraph = { none = [ ]; deeper = [ [ ] [ ] ]; }; };
  structuredGraphSubPath = covers "B3.json-graph-roots" structured "cat .attrs.json > $out" { exportReferencesGraph.a = "${tree}/bin/link"; };
  structuredGraphNumber = covers "B3.json-graph-roots B5.types" structured "cat .attrs.json > $out" { exportReferencesGraph.a = [ 1 ]; };
  structuredGraphNull = covers "B3.json-graph-roots B5.types" structured "cat .attrs.json > $out" { exportReferencesGraph.a = null; };
  structuredGraphTable = covers "B3.json-graph-roots B5.types" structured "cat .attrs.json > $out" { exportReferencesGraph.a = { b = greeting; }; };
  structuredGraphList = covers "B3.json-graph B5.types" structured "cat .attrs.json > $out" { exportReferencesGraph = [ "a" greeting ]; };
  structuredGraphOutside = covers "B4.outside B3.json-graph" structured "cat .attrs.json > $out" { exportReferencesGraph.a = [ "/nix/store/00000000000000000000000000000000-none" ]; };
  structuredGraphNotInStore = covers "B4.outside B3.json-graph" structured "cat .attrs.json > $out" { exportReferencesGraph.a = [ "/etc" ]; };
  structuredPassAsFile = covers "B2.structured B2.pass-as-file" structured "ls -A /build > $out; cat .attrs.json >> $out" { passAsFile = [ "big" ]; big = "x"; };

  checksByOutput = covers "B5.checks-of-outputs B5.sizes" structured "echo ${greeting} > $out; echo ${letter} > $(output lib); echo > $(output doc)" {
    outputs = [ "out" "lib" "doc" ];
    outputChecks = {
      out = { allowedReferences = [ greeting "lib" "out" ]; allowedRequisites = [ greeting "out" ]; disallowedReferences = [ letter "doc" ]; maxSize = 200; };
      lib = { disallowedReferences = [ greeting ]; allowedRequisites = [ greeting letter "lib" ]; };
      doc = { allowedReferences = [ ]; allowedRequisites = [ "doc" ]; maxClosureSize = 120; };
    };
  };
  checksSecondFails = covers "B5.checks-of-outputs" structured "echo x > $out; echo ${letter} > $(output lib)" { outputs = [ "out" "lib" ]; outputChecks.lib.disallowedRequisites = [ greeting ]; outputChecks.out.maxSize = 1000; };
  checksOtherOutput = covers "B5.checks-of-outputs B5.specifiers" structured "echo $(output lib) > $out; echo x > $(output lib)" { outputs = [ "out" "lib" ]; outputChecks.out.disallowedReferences = [ "lib" ]; };
  checksRequisitesSelf = covers "B5.checks-of-outputs" structured "echo x > $out" { outputChecks.out.allowedRequisites = [ ]; };
  checksDisallowSelf = covers "B5.checks-of-outputs" structured "echo x > $out" { outputChecks.out.disallowedRequisites = [ "out" ]; };
  checksUnknownOutput = covers "B5.specifiers" structured "echo x > $out" { outputChecks.out.allowedReferences = [ "lib" ]; };
  checksOfAbsentOutput = covers "B5.checks-of-outputs B5.types" structured "echo x > $out" { outputChecks.absent.maxSize = "large"; };
  checksAreList = covers "B5.types" structured "echo x > $out" { outputChecks = [ ]; };
  checksAreNull = covers "B5.types" structured "echo x > $out" { outputChecks = null; };
  checksOfOutputAreList = covers "B5.types" structured "echo x > $out" { outputChecks.out = [ ]; };
  checksHaveNull = covers "B5.types" structured "echo x > $out" { outputChecks.out.allowedReferences = null; };
  checksHaveNumber = covers "B5.types" structured "echo x > $out" { outputChecks.out.disallowedReferences = [ 1 ]; };
  sizeNegative = covers "B5.sizes" structured "echo x > $out" { outputChecks.out.maxSize = -1; };
  sizeFraction = covers "B5.sizes" structured "echo x > $out" { outputChecks.out.maxSize = 100.5; };
  sizeFractionEnough = covers "B5.sizes" structured "echo x > $out" { outputChecks.out.maxSize = 120.9; };
  sizeExact = covers "B5.sizes" structured "printf x > $out" { outputChecks.out.maxSize = 120; };
  sizeZero = covers "B5.sizes" structured "printf x > $out" { outputChecks.out.maxSize = 0; };
  sizeNull = covers "B5.sizes B5.types" structured "echo x > $out" { outputChecks.out.maxClosureSize = null; };
  sizeTrue = covers "B5.sizes B5.types" structured "echo x > $out" { outputChecks.out.maxSize = true; };
  discardsSecond = covers "B5.discard" structured "echo ${greeting} > $out; echo ${greeting} $out > $(output lib)" { outputs = [ "out" "lib" ]; unsafeDiscardReferences = { lib = true; out = false; absent = true; }; };
  discardsTrue = covers "B5.discard B5.types" structured "echo x > $out" { unsafeDiscardReferences = true; };
  discardsNull = covers "B5.discard B5.types" structured "echo x > $out" { unsafeDiscardReferences = null; };
  discardsPlain = covers "B5.discard" shell "echo ${greeting} > $out" { unsafeDiscardReferences = true; };
  checksPlainOdd = covers "B5.specifiers B5.allowed-references" shell "echo ${greeting} $out > $out" { allowedReferences = "  ${greeting}\n\tout ${greeting} "; disallowedReferences = ""; disallowedRequisites = [ ]; };
  checksPlainMany = covers "B5.allowed-requisites B5.disallowed-requisites" shell "echo ${letter} $lib > $out; echo $lib > $lib" { outputs = [ "out" "lib" ]; allowedRequisites = [ letter greeting "lib" ]; disallowedRequisites = [ "out" tree ]; };
  checksSubPath = covers "B5.specifiers" shell "echo x > $out" { allowedReferences = [ "${tree}/bin" ]; };
  checksNoPath = covers "B5.specifiers" shell "echo x > $out" { disallowedReferences = [ "/etc" ]; };
  checksPlaceholder = covers "B5.specifiers" shell "echo $out > $out" { allowedReferences = [ (builtins.placeholder "out") ]; };
  checksDisallowOther = covers "B5.disallowed-references" shell "echo $lib > $out; echo x > $lib" { outputs = [ "out" "lib" ]; disallowedReferences = [ "lib" ]; };
  checksManyBad = covers "B5.allowed-references" shell "echo ${letter} ${greeting} ${script} $out > $out" { allowedReferences = [ greeting ]; };

  structuredNoChroot = covers "B5.no-chroot" structured "echo x > $out" { __noChroot = true; };
  structuredNoChrootFalse = covers "B5.no-chroot" structured "echo x > $out" { __noChroot = false; };
  structuredNoChrootText = covers "B5.no-chroot B5.types" structured "echo x > $out" { __noChroot = "1"; };
  structuredHostDependencies = covers "B5.impure-host-dependencies" structured "echo x > $out" { __impureHostDeps = [ "/usr/lib" "/bin/sh" ]; };
  structuredHostDependenciesNone = covers "B5.impure-host-dependencies" structured "echo x > $out" { __impureHostDeps = [ ]; };
  structuredHostDependenciesText = covers "B5.impure-host-dependencies B5.types" structured "echo x > $out" { __impureHostDeps = "/bin/sh"; };
  structuredProfile = covers "B5.types" structured "echo x > $out" { __sandboxProfile = "(allow default)"; __darwinAllowLocalNetworking = true; };
  structuredProfileNumber = covers "B5.types" structured "echo x > $out" { __sandboxProfile = 1; };
  structuredNetworkingText = covers "B5.types" structured "echo x > $out" { __darwinAllowLocalNetworking = "yes"; };
  structuredPreferences = covers "B5.types B5.preferences" structured "echo x > $out" { preferLocalBuild = true; allowSubstitutes = false; };
  structuredPreferencesText = covers "B5.types B5.preferences" structured "echo x > $out" { preferLocalBuild = "1"; };
  structuredSubstitutesNumber = covers "B5.types B5.preferences" structured "echo x > $out" { allowSubstitutes = 0; };
  structuredFeatures = covers "B5.features" structured "echo x > $out" { requiredSystemFeatures = [ "big-parallel" ]; };
  structuredFeaturesMissing = covers "B5.features-missing" structured "echo x > $out" { requiredSystemFeatures = [ "no-such-feature" ]; };
  structuredFeaturesNumber = covers "B5.types" structured "echo x > $out" { requiredSystemFeatures = [ 1 ]; };
  structuredFeaturesNull = covers "B5.types" structured "echo x > $out" { requiredSystemFeatures = null; };
  structuredVariablesText = covers "B5.types B2.impure-variables" structured "echo x > $out" { impureEnvVars = "X"; };
  structuredPassAsFileText = covers "B5.types B2.pass-as-file" structured "cat .attrs.json > $out" { passAsFile = "x"; };
  structuredIgnoredChecksText = covers "B5.types B5.checks-of-outputs" structured "echo ${greeting} > $out" { allowedReferences = "x"; disallowedRequisites = 1; };
  plainBooleans = covers "B5.no-chroot B5.preferences" shell "echo $__noChroot $preferLocalBuild > $out" { __noChroot = "0"; preferLocalBuild = "yes"; allowSubstitutes = "maybe"; };
  featureKvm = covers "B5.features-missing" shell "ls -l /dev/kvm > $out" { requiredSystemFeatures = [ "kvm" ]; };
  featureUidRange = covers "B5.features-missing" shell "id > $out" { requiredSystemFeatures = [ "uid-range" ]; };
  featureRecursive = covers "B5.features-missing" shell "id > $out" { requiredSystemFeatures = [ "recursive-nix" ]; };
  featureTest = covers "B5.features" shell "id > $out" { requiredSystemFeatures = "nixos-test  benchmark\nbig-parallel"; };
}
