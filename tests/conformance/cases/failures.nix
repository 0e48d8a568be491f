# Builds that must fail, each in real Nix's own words.
l: with l;
let
  program = builder: name: derivation { inherit name system builder; };
  program' = topic: name: derivation { inherit name system; builder = probe; args = [ topic ]; };
  both = [ "out" "lib" ];
in {
  exitOne = covers "D5.exit" shell "exit 1" { };
  exitOther = covers "D5.exit C5.lines" shell "echo before; echo and error >&2; exit 42" { };
  exitMany = covers "D5.exit C5.lines" shell "seq 100; exit 3" { };
  exitPartly = covers "D5.exit D1.failed" shell "mkdir $out; echo x > $out/x; exit 7" { };
  killedChild = covers "D5.exit" shell "sh -c 'kill -KILL $$'; exit $?" { };
  abortsItself = coversOne "D5.signal H2.fault-of-one" program' "crash";
  faultsItself = coversOne "D5.signal H2.fault-of-one" program' "segfault";
  notFound = covers "D5.exit" shell "no-such-program" { };
  silent = covers "C5.close D5.signal" shell "exec > /dev/null 2>&1; sleep 2; echo late > $out" { };

  outputMissing = covers "D1.missing" shell "true" { };
  outputMissingOne = covers "D1.missing" shell "mkdir $out" { outputs = both; };
  outputWritable = covers "D1.top" shell "mkdir $out; chmod 777 $out" { };
  outputFileWritable = covers "D1.top" shell "echo x > $out; chmod 664 $out" { };
  outputFifo = covers "D2.types" shell "mkfifo $out" { };
  insideFifo = covers "D2.types" shell "mkdir $out; mkfifo $out/fifo" { };
  insideWhiteout = covers "D2.types" shell "mkdir $out; mknod $out/whiteout c 0 0" { };
  insideSocket = covers "D2.types" shell "report=/build/r ${probe} nodes; mkdir $out; mv /build/socket $out/" { };
  outputCycle = covers "D1.cycle" shell "mkdir $out $lib; echo $lib > $out/a; echo $out > $lib/b" { outputs = both; };
  outputTooDeep = covers "D2.depth" shell "mkdir $out; cd $out; for i in $(seq 70); do mkdir d; cd d; done" { };

  notAllowed = covers "B5.allowed-references" shell "echo ${greeting} > $out" { allowedReferences = [ letter ]; };
  notAllowedSelf = covers "B5.allowed-references" shell "echo $out > $out" { allowedReferences = [ ]; };
  notAllowedRequisite = covers "B5.allowed-requisites" shell "echo ${letter} > $out" { allowedRequisites = [ letter ]; };
  disallowedReference = covers "B5.disallowed-references" shell "echo ${greeting} > $out" { disallowedReferences = [ greeting ]; };
  disallowedRequisite = covers "B5.disallowed-requisites" shell "echo ${letter} > $out" { disallowedRequisites = [ greeting ]; };
  disallowedSelf = covers "B5.disallowed-references" shell "echo $out > $out" { disallowedReferences = [ "out" ]; };
  specifierUnknown = covers "B5.specifiers" shell "echo x > $out" { allowedReferences = [ "nope" ]; };
  structuredTooBig = covers "B5.sizes" structured "echo ${greeting} > $out" { outputChecks.out.maxSize = 100; };
  structuredClosureTooBig = covers "B5.sizes" structured "echo ${letter} > $out" { outputChecks.out.maxClosureSize = 300; };
  structuredNotAllowed = covers "B5.checks-of-outputs" structured "echo ${greeting} > $out" { outputChecks.out.allowedReferences = [ ]; };
  structuredSelfNotAllowed = covers "B5.checks-of-outputs" structured "echo $out > $out" { outputChecks.out.allowedReferences = [ ]; };

  graphOdd = covers "B4.odd" shell "true" { exportReferencesGraph = [ "one" ]; };
  graphName = covers "B4.file-name" shell "true" { exportReferencesGraph = [ "1/x" letter ]; };
  graphOutside = covers "B4.outside" shell "true" { exportReferencesGraph = [ "one" "/nix/store/00000000000000000000000000000000-none" ]; };

  builderMissing = coversOne "B1.not-executable" program "${busybox}/bin/no-such-builder";
  builderIsDirectory = coversOne "B1.not-executable" program "${busybox}/bin";
  builderNotExecutable = coversOne "B1.not-executable" program greeting;
  builderHasNoInterpreter = coversOne "B1.not-executable" program script;
  builderIsNoProgram = coversOne "B1.not-executable" program (shell "echo nothing > $out; chmod 755 $out" { } "no-program");
  builderOutside = coversOne "B1.not-executable" program "/usr/bin/sh";
  builderRelative = coversOne "B1.not-executable B1.builder" program "sh";
  builderUnknownBuiltin = coversOne "B6.unknown" program "builtin:no-such";
  environmentTooLong = covers "B1.too-long" shell "true" { long = builtins.concatStringsSep "" (builtins.genList (n: "0123456789") 14000); };
  featuresMissing = covers "B5.features-missing" shell "echo x > $out" { requiredSystemFeatures = [ "no-such-feature" ]; };
  hostDependenciesRefused = covers "B5.impure-host-dependencies" shell "echo x > $out" { __impureHostDeps = [ "/bin" ]; };
  structuredTypeOfCheck = covers "B5.types" structured "echo x > $out" { outputChecks.out.allowedReferences = "out"; };
  structuredTypeOfSize = covers "B5.types" structured "echo x > $out" { outputChecks.out.maxSize = "1"; };
  structuredTypeOfFeatures = covers "B5.types" structured "echo x > $out" { requiredSystemFeatures = "big-parallel"; };
  structuredTypeOfDiscards = covers "B5.types" structured "echo x > $out" { unsafeDiscardReferences.out = 1; };
  chrootRefused = covers "B5.no-chroot" shell "true" { __noChroot = true; };
  dependencyFails = covers "D5.dependency" shell "cat ${shell "echo first; exit 5" { } "fails-below"} > $out" { };

  logControl = covers "C5.control-lines" shell ''
    echo first
    printf '%s\n' '@nix not json' '@nix {}' '@nix []' '@nix {"action":"other"}' '@nix {"action":"setPhase"}' '@nix {"action":"setPhase","phase":"install"}' '@nix{"action":"setPhase","phase":"x"}' ' @nix {}' '@nix' '@nix '
    echo last; exit 1
  '' { };
  logMessages = covers "C5.control-lines" shell ''
    printf '%s\n' '@nix {"action":"msg","level":1,"msg":"a warning"}' '@nix {"action":"start","id":7,"level":3,"type":105,"text":"not this kind","fields":[]}' '@nix {"action":"stop","id":7}' '@nix {"action":"result","id":9,"type":101,"fields":["x"]}'
    echo last; exit 1
  '' { };
  logCarriage = covers "C5.lines" shell "printf 'longer\\rx\\n\\rfour\\n10%%\\r50%%\\r100%%\\ndone\\n'; exit 1" { };
  logCarriageLast = covers "C5.lines" shell "printf 'one\\rtwo\\r\\nthree\\r\\r\\nfour\\r\\n'; exit 1" { };
  logLong = covers "C5.lines" shell "head -c 60000 /dev/zero | tr '\\0' x; echo; head -c 5000 /dev/zero | tr '\\0' y; exit 1" { };
  logBytes = covers "C5.lines" shell "printf '\\001\\007\\033[31mred\\033[0m \\033]0;title\\007 \\177\\n\\ttab\\tb\\nüber\\n'; exit 1" { };
  logUnfinished = covers "C5.lines" shell "printf 'no end'; exit 1" { };
  logEmptyLines = covers "C5.lines" shell "echo; echo; echo x; echo; echo ' indented '; echo; exit 1" { };
}
