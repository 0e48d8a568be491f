# Builds that must fail, each in real Nix's own words.
l: with l;
let
  program = builder: name: derivation { inherit name system builder; };
  program' = topic: name: derivation { inherit name system; builder = probe; args = [ topic ]; };
  both = [ "out" "lib" ];
in {
  exitOne = shell "exit 1" { };
  exitOther = shell "echo before; echo and error >&2; exit 42" { };
  exitMany = shell "seq 100; exit 3" { };
  exitPartly = shell "mkdir $out; echo x > $out/x; exit 7" { };
  killedChild = shell "sh -c 'kill -KILL $$'; exit $?" { };
  abortsItself = program' "crash";
  faultsItself = program' "segfault";
  notFound = shell "no-such-program" { };
  silent = shell "exec > /dev/null 2>&1; sleep 2; echo late > $out" { };

  outputMissing = shell "true" { };
  outputMissingOne = shell "mkdir $out" { outputs = both; };
  outputWritable = shell "mkdir $out; chmod 777 $out" { };
  outputFileWritable = shell "echo x > $out; chmod 664 $out" { };
  outputFifo = shell "mkfifo $out" { };
  insideFifo = shell "mkdir $out; mkfifo $out/fifo" { };
  insideWhiteout = shell "mkdir $out; mknod $out/whiteout c 0 0" { };
  insideSocket = shell "report=/build/r ${probe} nodes; mkdir $out; mv /build/socket $out/" { };
  outputCycle = shell "mkdir $out $lib; echo $lib > $out/a; echo $out > $lib/b" { outputs = both; };
  outputTooDeep = shell "mkdir $out; cd $out; for i in $(seq 70); do mkdir d; cd d; done" { };

  notAllowed = shell "echo ${greeting} > $out" { allowedReferences = [ letter ]; };
  notAllowedSelf = shell "echo $out > $out" { allowedReferences = [ ]; };
  notAllowedRequisite = shell "echo ${letter} > $out" { allowedRequisites = [ letter ]; };
  disallowedReference = shell "echo ${greeting} > $out" { disallowedReferences = [ greeting ]; };
  disallowedRequisite = shell "echo ${letter} > $out" { disallowedRequisites = [ greeting ]; };
  disallowedSelf = shell "echo $out > $out" { disallowedReferences = [ "out" ]; };
  specifierUnknown = shell "echo x > $out" { allowedReferences = [ "nope" ]; };
  structuredTooBig = structured "echo ${greeting} > $out" { outputChecks.out.maxSize = 100; };
  structuredClosureTooBig = structured "echo ${letter} > $out" { outputChecks.out.maxClosureSize = 300; };
  structuredNotAllowed = structured "echo ${greeting} > $out" { outputChecks.out.allowedReferences = [ ]; };
  structuredSelfNotAllowed = structured "echo $out > $out" { outputChecks.out.allowedReferences = [ ]; };

  graphOdd = shell "true" { exportReferencesGraph = [ "one" ]; };
  graphName = shell "true" { exportReferencesGraph = [ "1/x" letter ]; };
  graphOutside = shell "true" { exportReferencesGraph = [ "one" "/nix/store/00000000000000000000000000000000-none" ]; };

  builderMissing = program "${busybox}/bin/no-such-builder";
  builderIsDirectory = program "${busybox}/bin";
  builderNotExecutable = program greeting;
  builderHasNoInterpreter = program script;
  builderIsNoProgram = program (shell "echo nothing > $out; chmod 755 $out" { } "no-program");
  builderOutside = program "/bin/sh";
  builderRelative = program "sh";
  builderUnknownBuiltin = program "builtin:no-such";
  environmentTooLong = shell "true" { long = builtins.concatStringsSep "" (builtins.genList (n: "0123456789") 14000); };
  chrootRefused = shell "true" { __noChroot = true; };
  dependencyFails = shell "cat ${shell "echo first; exit 5" { } "fails-below"} > $out" { };
}
