# Several outputs, references, graphs of references, and checks that hold.
l: with l;
let base = path: builtins.unsafeDiscardStringContext (baseNameOf path);
in {
  severalOutputs = shell "mkdir $out $lib $doc; echo $lib > $out/a; echo $doc > $lib/b; echo c > $doc/c" { outputs = [ "out" "lib" "doc" ]; };
  outputsOnThemselves = shell "mkdir $out $lib; echo $lib $out > $out/a; echo $lib > $lib/b" { outputs = [ "out" "lib" ]; };
  outputNamedOtherwise = shell "mkdir $x; echo $x > $x/self; [ -z \"$out\" ]" { outputs = [ "x" ]; };
  outputsUnordered = shell "for o in $outputs; do eval p=\\$$o; echo $o > $p; done" { outputs = [ "zz" "aa" "mm" ]; };
  selfReference = shell "mkdir $out; echo $out/bin > $out/self" { };
  referenceKinds = shell ''
    mkdir $out; cd $out
    echo ${greeting} > text
    ln -s ${letter} link
    touch "$(basename ${tree} | cut -c1-32)"
    echo "$(basename ${pair.lib} | cut -c1-32)" > hash-only
  '' { unused = script; };
  referenceNone = shell "echo ${greeting} | tr a-z A-Z > $out; echo ${greeting} | cut -c1-30 >> $out; echo ${greeting} | gzip -n >> $out" { };
  referenceSplit = shell "printf %s ${greeting} | sed 's/./&\\n/25' > $out" { };
  referenceJoined = shell "printf 'zzzz%szzzz' \"$(basename ${greeting} | cut -c1-32)\" > $out" { };
  referenceUnknown = shell "echo /nix/store/00000000000000000000000000000000-none > $out" { };
  referenceTransitive = shell "cat ${letter} > $out" { };
  referenceToOther = shell "cat ${pair}/needs > $out" { };
  referenceToDerivation = shell "echo $path > $out" { path = pair.drvPath; };
  referenceForgotten = shell "echo $path > $out" { path = builtins.unsafeDiscardStringContext (toString pair); };
  referenceAtEdges = shell ''
    { head -c 65510 /dev/zero; printf %s ${greeting}; head -c 65510 /dev/zero; printf %s ${letter}; } > $out
  '' { };
  nameOdd = name: shell "echo $name > $out" { } "a+b-._?=9";
  nameLong = name: shell "echo $name > $out" { } (builtins.concatStringsSep "" (builtins.genList (n: "n") 200));
  dependsOnAll = shell "cat ${pair}/needs ${pair.lib}/file ${tree}/share/text ${letter} > $out" { };

  graph = shell "cat one two > $out; stat -c '%a %u:%g %s %n' one two >> $out" { exportReferencesGraph = [ "one" letter "two" tree ]; };
  graphOfOutputs = shell "cat graph > $out" { exportReferencesGraph = [ "graph" pair ]; };
  graphOfDerivation = shell "sort graph | uniq -c > $out" { exportReferencesGraph = [ "graph" pair.drvPath ]; };
  graphOfSubPath = shell "cat graph > $out" { exportReferencesGraph = [ "graph" "${tree}/share" ]; };

  allowed = shell "echo ${greeting} $out > $out" { allowedReferences = [ greeting "out" ]; };
  allowedNone = shell "echo nothing > $out" { allowedReferences = [ ]; allowedRequisites = [ ]; };
  allowedRequisites = shell "echo ${letter} $out > $out" { allowedRequisites = [ letter greeting ]; };
  disallowed = shell "echo ${letter} > $out" { disallowedReferences = [ greeting ]; inherit greeting; };
  allowedOutputs = shell "echo $lib > $out; echo > $lib" { outputs = [ "out" "lib" ]; allowedReferences = [ "lib" ]; };
  features = shell "echo big > $out" { requiredSystemFeatures = [ "big-parallel" "benchmark" ]; };
  preferences = shell "echo $preferLocalBuild $allowSubstitutes > $out" { preferLocalBuild = true; allowSubstitutes = false; __noChroot = false; };
}
