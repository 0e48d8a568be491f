# What evaluators and packages hardly ever write: lists with odd white space, text that is none, paths in other forms, outputs
# with names of variables, builders of every kind, inputs of every kind, logs that want to be more than logs.
l: with l;
let
  # Not UTF-8, and visible.
  noText = builtins.substring 199 10 (builtins.readFile ../bytes);
  plain = path: builtins.unsafeDiscardStringContext (toString path);
  formFeed = builtins.fromJSON "\"\\f\"";
  # White space elsewhere, and visible in a message.
  wideSpace = builtins.fromJSON "\"\\u2003\"";
  program = builder: args: name: derivation { inherit name system builder args; };
  made = text: shell text { };
  written = json: name: derivation {
    inherit name system;
    builder = "${busybox}/bin/sh";
    args = [ "-ec" "export PATH=${busybox}/bin; cat .attrs.json .attrs.sh > \"$(sed -n 's/.*\"out\":\"\\([^\"]*\\)\".*/\\1/p' .attrs.json)\"" ];
    __json = json;
  };
  deep = count: builtins.foldl' (inner: n: if n - n / 2 * 2 == 0 then [ inner ] else { a = inner; }) "bottom" (builtins.genList (n: n) count);
  # Every output shows the environment.
  outputsCalled = names: shell ''
    tr '\0' '\n' < /proc/1/environ > /build/environment
    sed -n "s,^[^=]*=\(/nix/store/[a-z0-9]*-$name\(-[^ /]*\)\?\)$,\1,p" /build/environment | sort -u > /build/paths
    while read -r path; do cat /build/environment > $path; done < /build/paths
  '' { outputs = names; };
  oddTree = made ''
    mkdir $out; cd $out
    touch "$(printf 'bad\377name')" "$(printf 'new\nline')" "$(printf '\001')" ' ' '*' 'ä' "$(printf '%0255d' 3)"
    ln -s "$(printf '\377\001target')" link; ln -s / root; mkdir -p a/b/c .hidden; truncate -s 5000001 sparse
    echo exec > x; chmod 755 x; echo plain > p; ln p q
    for i in $(seq 62); do mkdir d; cd d; done; echo bottom > f
  '' "odd-tree";
  runs = made "printf '#!${busybox}/bin/sh\\necho ran \"$@\"\\n' > $out; chmod 755 $out" "runs";
  many = builtins.genList (n: made "echo ${toString n} > $out" "many-${toString n}") 12;
  sources = builtins.genList (n: builtins.toFile "source-${toString n}" "source ${toString n}") 400;
  fails = made "echo first; exit 5" "fails-at-the-bottom";
  fails' = made "echo other; exit 5" "fails-for-a-graph";
  needs = what: name: made "cat ${what} > $out" name;
  said = lines: shell "printf '%s\\n' ${builtins.concatStringsSep " " (map (line: "'@nix ${line}'") lines)}; exit 1" { };
in {
  listSeparators = covers "B2.pass-as-file" shell "env | sort > $out; ls -A >> $out" { passAsFile = "a${formFeed}b c\r\n\td"; a = "1"; b = "2"; c = "3"; d = "4"; "a${formFeed}b" = "5"; };
  listSeparatorsOfChecks = covers "B5.specifiers" shell "echo ${greeting} > $out" { allowedReferences = "${plain greeting}${wideSpace}${plain letter}"; };
  noTextInFeatures = covers "B5.features-missing" shell "echo x > $out" { requiredSystemFeatures = "big-parallel ${noText}"; };
  noTextInGraph = covers "B4.file-name" shell "echo x > $out" { exportReferencesGraph = "a${noText} ${plain greeting}"; };
  noTextInChecks = covers "B5.specifiers" shell "echo x > $out" { allowedReferences = noText; };
  noTextInHostDependencies = covers "B5.impure-host-dependencies" shell "echo x > $out" { __impureHostDeps = "/${noText}"; };
  noTextInVariables = covers "B2.impure-variables" fixed "tr '\\0' '\\n' < /proc/1/environ | od -c; exit 1" { impureEnvVars = "A${noText} B"; outputHash = hashOf "sha256" "x"; };
  noTextPassed = covers "B2.pass-as-file" shell "ls -A > $out; tr '\\0' '\\n' < /proc/1/environ >> $out" { passAsFile = "x ${noText}"; x = noText; };
  hostDependencyRelative = covers "B5.impure-host-dependencies" shell "echo x > $out" { __impureHostDeps = "bin"; };
  structuredHostDependencyRelative = covers "B5.impure-host-dependencies" structured "echo x > $out" { __impureHostDeps = [ "bin" "/bin" ]; };

  specifierEndsInSlash = covers "B5.specifiers" shell "echo ${greeting} > $out" { allowedReferences = [ "${greeting}/" ]; };
  specifierHasDots = covers "B5.specifiers" shell "echo ${greeting} > $out" { allowedReferences = [ "/nix/./store//${baseNameOf greeting}/." ]; };
  specifierGoesUp = covers "B5.specifiers" shell "echo ${greeting} > $out" { allowedReferences = [ "/nix/store/x/../${baseNameOf greeting}" ]; };
  specifierIsStore = covers "B5.specifiers" shell "echo x > $out" { disallowedReferences = [ "/nix/store" ]; };
  specifierTooShort = covers "B5.specifiers" shell "echo x > $out" { disallowedRequisites = [ "/nix/store/abc" ]; };
  specifierHashOnly = covers "B5.specifiers" shell "echo x > $out" { disallowedReferences = [ (builtins.substring 11 32 (plain greeting)) ]; };
  specifierIsDerivation = covers "B5.specifiers B5.disallowed-references" shell "echo $path > $out" { path = builtins.unsafeDiscardOutputDependency pair.drvPath; disallowedReferences = [ (builtins.unsafeDiscardOutputDependency pair.drvPath) ]; };
  graphHasSlashes = covers "B4.outside" shell "true" { exportReferencesGraph = [ "g" "/nix/store//${baseNameOf greeting}" ]; };
  graphHasDots = covers "B4.outside" shell "true" { exportReferencesGraph = [ "g" "/nix/store/./${baseNameOf greeting}" ]; };
  graphGoesUp = covers "B4.sub-path" shell "cat g > $out" { exportReferencesGraph = [ "g" "/nix/store/${baseNameOf greeting}/../x" ]; };
  # Real Nix puts the outputs into the graph if they happen to be there; these never are.
  graphOfUnbuilt = covers "B4.derivations" shell "cat g > $out" { exportReferencesGraph = [ "g" (builtins.unsafeDiscardOutputDependency fails'.drvPath) ]; };
  # Here they are, since another input needed them; but they are no inputs of this derivation.
  graphOfDerivationReferred = covers "B4.derivations" shell "cat g > $out" { exportReferencesGraph = [ "g" (shell "echo $path > $out" { path = pair.drvPath; } "refers-to-derivation") ]; };
  structuredGraphOfUnbuilt = covers "B3.json-graph-derivations" structured "cat .attrs.json > $out" { exportReferencesGraph.g = builtins.unsafeDiscardOutputDependency fails'.drvPath; };
  derivationAsInput = covers "D3.candidates C2.store" shell "cat $path > $out; echo $path >> $out; ls /nix/store >> $out" { path = builtins.unsafeDiscardOutputDependency pair.drvPath; };
  structuredGraphOfItself = covers "B3.json-graph" structured "cat .attrs.json .attrs.sh > $out" { exportReferencesGraph = { exportReferencesGraph = [ letter ]; PATH = greeting; "" = [ greeting ]; }; };
  structuredKeysPlaceholders = covers "B3.json-outputs" structured "cat .attrs.json .attrs.sh > $out" { ${builtins.placeholder "out"} = 1; table.${builtins.placeholder "out"} = builtins.placeholder "lib"; };
  structuredDeep = covers "B3.json" structured "cat .attrs.json > $out" { deep = deep 1000; };

  jsonLargeNumbers = coversOne "B3.json-numbers B3.shell-numbers" written "{\"a\":18446744073709551615,\"b\":18446744073709551616,\"c\":-9223372036854775808,\"d\":-9223372036854775809,\"e\":123456789012345678901234567890}";
  jsonNul = coversOne "B3.json B3.shell" written "{\"a\":\"x\\u0000y\"}";
  jsonSpaces = coversOne "B3.json" written " { \"b\" : [ 1 , 2 ] ,\n\t\"a\" : { } } ";
  jsonDoubled = coversOne "B3.json" written "{\"a\":1,\"a\":2,\"b\":{\"c\":1,\"c\":[]}}";
  jsonEscaped = coversOne "B3.json" written "{\"a\":\"\\/\\b\\f\\u00e9\\u2028\\u007f\\ud83d\\ude00\"}";
  jsonOutputs = coversOne "B3.json-outputs" written "{\"outputs\":[\"out\"],\"builder\":\"x\",\"system\":\"y\"}";

  outputsLikeDefaults = coversOne "B2.defaults B2.fixed-by-nix" outputsCalled [ "out" "HOME" "NIX_STORE" "TMPDIR" "TERM" ];
  outputsLikePassed = coversOne "B2.pass-as-file" outputsCalled [ "passAsFile" "impureEnvVars" "z" ];
  outputsLikeAllowed = coversOne "B5.allowed-references" outputsCalled [ "allowedReferences" "z" ];
  outputsLikeGraph = coversOne "B4.odd" outputsCalled [ "exportReferencesGraph" "z" ];
  outputsLikeFeatures = coversOne "B5.features-missing" outputsCalled [ "requiredSystemFeatures" "z" ];
  outputsLikeOptions = coversOne "B5.no-chroot B2.structured" outputsCalled [ "__structuredAttrs" "preferLocalBuild" "__noChroot" "z" ];

  builderTooLong = covers "B1.not-executable" program ("/" + builtins.concatStringsSep "" (builtins.genList (n: "b") 5000)) [ ];
  builderPartTooLong = covers "B1.not-executable" program ("/nix/store/" + builtins.concatStringsSep "" (builtins.genList (n: "b") 300)) [ ];
  builderIsLoop = covers "B1.not-executable" program (made "ln -s $out $out" "loop") [ ];
  builderIsDevice = covers "B1.not-executable" program "/dev/null" [ ];
  builderIsCut = covers "B1.not-executable" program (made "head -c 100 ${busybox}/bin/busybox > $out; chmod 755 $out" "cut") [ ];
  builderIsZeros = covers "B1.not-executable" program (made "{ head -c 24 ${busybox}/bin/busybox; head -c 4000 /dev/zero; } > $out; chmod 755 $out" "zeros") [ ];
  builderIsScript = covers "B1.builder B1.arguments" program runs [ "a" "" "b c" ];
  builderIsLink = covers "B1.builder B1.argument-zero" program (made "ln -s ${busybox}/bin/sh $out" "link-to-shell") [ "-c" "echo $0 > $out" ];
  builderNamesNothing = covers "B1.not-executable" program (made "printf '#!/no/such\\n' > $out; chmod 755 $out" "names-nothing") [ ];
  builderNamesTooMuch = covers "B1.not-executable" program (made "{ printf '#!${busybox}/bin/sh -'; head -c 400 /dev/zero | tr '\\0' x; echo; } > $out; chmod 755 $out" "names-too-much") [ ];

  inputsOdd = covers "C2.inputs-seen D2.names" shell "cp -a ${oddTree} $out; chmod u+w $out; cd ${oddTree}; find . -exec stat -c '%A %u:%g %Y %F %n' {} + | sort > $out/listing" { };
  inputsOfAllKinds = covers "C2.inputs-seen C2.store" shell ''
    for i in ${made "ln -s ${greeting} $out" "to-file"} ${made "ln -s /nowhere $out" "to-nowhere"} ${made "ln -s ${oddTree} $out" "to-directory"} ${runs} ${made "true > $out" "nothing"} ${made "mkdir $out" "empty"}; do
      stat -c '%A %u:%g %s %F' $i; readlink $i || true; ls -A $i/ 2>&1 || true
    done > $out
    ${runs} a b >> $out
  '' { };
  inputsMany = covers "C2.store B4.file" shell "cat $many > $out; ls /nix/store | wc -l >> $out; cat $sources | md5sum >> $out; cat g >> $out" {
    inherit many sources;
    exportReferencesGraph = [ "g" (shell "for path in $many $sources; do echo $path; done > $out" { inherit many sources; } "refers-to-many") ];
  };

  dependencyChain = covers "D5.dependency" shell "cat ${needs (needs fails "middle") "upper"} > $out" { };
  dependencyDiamond = covers "D5.dependency" shell "cat ${needs fails "left"} ${needs fails "right"} > $out" { };
  dependencyMissesOutput = covers "D5.dependency D1.missing" shell "cat ${shell "mkdir $out" { outputs = [ "out" "lib" ]; } "misses-output"} > $out" { };
  dependencyRefused = covers "D5.dependency B5.allowed-references" shell "cat ${shell "echo $out > $out" { allowedReferences = [ ]; } "refused"} > $out" { };
  dependencyNeedsFeature = covers "D5.dependency B5.features-missing" shell "cat ${shell "mkdir $out" { requiredSystemFeatures = [ "no-such-feature" ]; } "needs-feature"} > $out" { };

  logStarts = coversOne "C5.control-lines" said [
    ''{"action":"start","id":1,"level":0,"type":101,"text":"getting","fields":["x",5]}'' ''{"action":"start","id":1,"level":4,"type":101,"text":"four"}'' ''{"action":"start","id":2,"level":0,"type":101,"text":""}''
    ''{"action":"start","id":true,"level":0,"type":101,"text":"x"}'' ''{"action":"start","id":9,"type":101,"text":"x"}'' ''{"action":"start","id":9,"level":0,"type":101}'' ''{"action":"start","level":0,"type":101,"text":"x"}''
    ''{"action":"start","id":9,"level":0,"type":105,"text":"x"}'' ''{"action":"start","id":9,"level":0,"type":"101","text":"x"}'' ''{"action":"start","id":9,"level":0,"type":101.9,"text":"one\ntwo"}'' ''{"action":"start"}''
  ];
  logResults = coversOne "C5.control-lines" said [ ''{"action":"result","id":77,"type":"x"}'' ''{"action":"result","id":"x"}'' ''{"action":"result"}'' ''{"action":"stop","id":1.5}'' ''{"action":"stop","id":[]}'' ''{"action":"stop"}'' ''{"action":"unknown","id":"x"}'' ];
  logSays = coversOne "C5.control-lines" said [
    ''{"action":"msg","level":3.9,"msg":"three"}'' ''{"action":"msg","level":4,"msg":"four"}'' ''{"action":"msg","level":-1,"msg":"minus"}'' ''{"action":"msg","level":1e99,"msg":"huge"}'' ''{"action":"msg","level":4294967296,"msg":"wraps"}''
    ''{"action":"msg","level":true,"msg":"x"}'' ''{"action":"msg","level":null,"msg":"x"}'' ''{"action":"msg","level":0,"msg":"one\ntwo\n"}'' ''{"action":"msg","level":0,"msg":"x","msg":"last"}'' ''{"action":"msg","level":0,"msg":"end"} '' ''{"action":"msg","level":0,"msg":"r\rx"}''
  ];
  logPhases = coversOne "C5.control-lines" said [ ''{"a":1}'' ''{"action":null}'' ''{"action":["msg"]}'' ''{"action":"setPhase","phase":null}'' ''{"action":"setPhase","phase":5}'' ''{"action":"setPhase","phase":"a","phase":"b"}'' ''{"action":"setPhase","phase":""}'' "{" "1 2" "null" ];
  logAfterReturn = covers "C5.control-lines C5.lines" shell ''printf 'x\r@nix {"action":"stop","id":5}\n'; printf '\r@nix {"action":"stop","id":5}\nend\n'; printf '@nix {"action":"stop","id":5}\rshown\n'; exit 1'' { };
  logSequences = covers "C5.lines" shell "printf 'a\\033[31mb\\033[0m\\n\\033[1;38;5;200mc\\033[m\\n\\033[2Kd\\n\\033]8;;http://x\\033\\\\\\\\e\\033]8;;\\033\\\\\\\\\\nf\\n\\033[\\ng\\033[3\\nh\\n'; exit 1" { };
  logHeld = covers "C5.background C5.lines" shell "sleep 100 & setsid sh -c 'sleep 0.5; echo late' & echo early; exit 1" { };
}
