# Several outputs, references, graphs of references, and checks that hold.
l: with l;
let base = path: builtins.unsafeDiscardStringContext (baseNameOf path);
in {
  severalOutputs = covers "D1.order" shell "mkdir $out $lib $doc; echo $lib > $out/a; echo $doc > $lib/b; echo c > $doc/c" { outputs = [ "out" "lib" "doc" ]; };
  outputsOnThemselves = covers "D1.order D3.itself" shell "mkdir $out $lib; echo $lib $out > $out/a; echo $lib > $lib/b" { outputs = [ "out" "lib" ]; };
  outputNamedOtherwise = covers "D1.order" shell "mkdir $x; echo $x > $x/self; [ -z \"$out\" ]" { outputs = [ "x" ]; };
  outputsUnordered = covers "D1.order" shell "for o in $outputs; do eval p=\\$$o; echo $o > $p; done" { outputs = [ "zz" "aa" "mm" ]; };
  selfReference = covers "D3.itself" shell "mkdir $out; echo $out/bin > $out/self" { };
  referenceKinds = covers "D3.everywhere" shell ''
    mkdir $out; cd $out
    echo ${greeting} > text
    ln -s ${letter} link
    touch "$(basename ${tree} | cut -c1-32)"
    echo "$(basename ${pair.lib} | cut -c1-32)" > hash-only
  '' { unused = script; };
  referenceNone = covers "D3.windows" shell "echo ${greeting} | tr a-z A-Z > $out; echo ${greeting} | cut -c1-30 >> $out; echo ${greeting} | gzip -n >> $out" { };
  referenceSplit = covers "D3.windows" shell "printf %s ${greeting} | sed 's/./&\\n/25' > $out" { };
  referenceJoined = covers "D3.windows" shell "printf 'zzzz%szzzz' \"$(basename ${greeting} | cut -c1-32)\" > $out" { };
  referenceUnknown = covers "D3.candidates" shell "echo /nix/store/00000000000000000000000000000000-none > $out" { };
  referenceTransitive = covers "D3.candidates" shell "cat ${letter} > $out" { };
  referenceToOther = covers "D3.candidates" shell "cat ${pair}/needs > $out" { };
  referenceToDerivation = covers "D3.candidates" shell "echo $path > $out" { path = pair.drvPath; };
  referenceForgotten = covers "D3.candidates" shell "echo $path > $out" { path = builtins.unsafeDiscardStringContext (toString pair); };
  referenceAtEdges = covers "D3.chunks" shell ''
    { head -c 65510 /dev/zero; printf %s ${greeting}; head -c 65510 /dev/zero; printf %s ${letter}; } > $out
  '' { };
  nameOdd = named "D2.names" (name: shell "echo $name > $out" { } "a+b-._?=9");
  nameLong = named "D2.names" (name: shell "echo $name > $out" { } (builtins.concatStringsSep "" (builtins.genList (n: "n") 200)));
  dependsOnAll = covers "C2.store" shell "cat ${pair}/needs ${pair.lib}/file ${tree}/share/text ${letter} > $out" { };

  graph = covers "B4.file B4.owner" shell "cat one two > $out; stat -c '%a %u:%g %s %n' one two >> $out" { exportReferencesGraph = [ "one" letter "two" tree ]; };
  graphOfOutputs = covers "B4.file" shell "cat graph > $out" { exportReferencesGraph = [ "graph" pair ]; };
  graphOfDerivation = covers "B4.derivations" shell "sort graph | uniq -c > $out" { exportReferencesGraph = [ "graph" pair.drvPath ]; };
  graphOfSubPath = covers "B4.sub-path" shell "cat graph > $out" { exportReferencesGraph = [ "graph" "${tree}/share" ]; };

  allowed = covers "B5.allowed-references" shell "echo ${greeting} $out > $out" { allowedReferences = [ greeting "out" ]; };
  allowedNone = covers "B5.allowed-references B5.allowed-requisites" shell "echo nothing > $out" { allowedReferences = [ ]; allowedRequisites = [ ]; };
  allowedRequisites = covers "B5.allowed-requisites" shell "echo ${letter} $out > $out" { allowedRequisites = [ letter greeting ]; };
  disallowed = covers "B5.disallowed-references" shell "echo ${letter} > $out" { disallowedReferences = [ greeting ]; inherit greeting; };
  allowedOutputs = covers "B5.allowed-references B5.specifiers" shell "echo $lib > $out; echo > $lib" { outputs = [ "out" "lib" ]; allowedReferences = [ "lib" ]; };
  features = covers "B5.features" shell "echo big > $out" { requiredSystemFeatures = [ "big-parallel" "benchmark" ]; };
  preferences = covers "B5.preferences B5.no-chroot" shell "echo $preferLocalBuild $allowSubstitutes > $out" { preferLocalBuild = true; allowSubstitutes = false; __noChroot = false; };
}
