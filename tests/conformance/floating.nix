# Derivations whose outputs are addressed by their content, and what depends on them: { NAME = { derivation, fails }; }.
{ arch }:
let
  system = if arch == "amd64" then "x86_64-linux" else "aarch64-linux";
  busybox = if arch == "amd64" then ./busybox-amd64 else ./busybox-arm64;
  text = builtins.toFile "text" "hello";
  make = name: script: more: derivation ({
    name = "${name}-${arch}";
    inherit system;
    builder = "${busybox}/bin/sh";
    args = [ "-c" "export PATH=${busybox}/bin; ${script}" ];
  } // more);
  floating = name: script: more: make name script ({
    __contentAddressed = true;
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
  } // more);
  hashed = mode: algorithm: floating "${mode}-${algorithm}" "printf hello >$out" {
    outputHashMode = mode;
    outputHashAlgo = algorithm;
  };
  up = floating "up" "echo up >$out" { };
  other = floating "up" "echo up >$out # otherwise" { };
  mid = upper: floating "mid" "read a <${upper}; echo $a ${upper} $out >$out" { };
  top = floating "top" "mkdir $out; cp ${mid up} $out/copy; ln -s ${mid up} $out/link; echo $out >$out/itself" { };
  three = floating "three" ''
    mkdir $out $bin
    echo "$lib $lib" >$lib
    ln -s $lib $bin/lib
    echo $bin >$bin/itself
    echo "$bin $lib $out ${text}" >$out/all
  '' { outputs = [ "out" "bin" "lib" ]; };
  input = make "input" "read a <${mid up}; echo $a $out ${up} >$out" { };
  structured = floating "structured" ''
    out=$(sed 's/.*"out":"\([^"]*\)".*/\1/' $NIX_ATTRS_JSON_FILE)
    dev=$(sed 's/.*"dev":"\([^"]*\)".*/\1/' $NIX_ATTRS_JSON_FILE)
    cat $NIX_ATTRS_JSON_FILE $NIX_ATTRS_SH_FILE >$out
    echo "$dev" >$dev
  '' { __structuredAttrs = true; outputs = [ "out" "dev" ]; list = [ "${up}" "b" ]; a.b = "${mid up}"; exportReferencesGraph.graph = [ "${mid up}" ]; };
  good = {
    itself = floating "itself" ''
      mkdir $out
      echo "self $out and again $out" >$out/f
      ln -s $out/f $out/link
      base=''${out#/nix/store/}
      mkdir $out/names; echo >$out/names/''${base%%-*}-x
      head -c 300000 /dev/zero >$out/large; printf %s $out >>$out/large; head -c 300000 /dev/zero >>$out/large
      echo dep ${text} >$out/g
      echo '#!${busybox}/bin/sh' >$out/program; chmod 755 $out/program
    '' { };
    inherit up top three input structured;
    mid = mid up;
    midOfOther = mid other;
    flat = hashed "flat" "sha256";
    flat512 = hashed "flat" "sha512";
    flat1 = hashed "flat" "sha1";
    flat5 = hashed "flat" "md5";
    tree512 = hashed "recursive" "sha512";
    tree1 = hashed "recursive" "sha1";
    tree5 = hashed "recursive" "md5";
    inputOfInput = make "input-of-input" "echo ${input} >$out" { };
    inputsOutputs = make "inputs-outputs" "echo ${three.lib} $out >$out; echo ${three} $out >$dev" { outputs = [ "out" "dev" ]; };
    structuredInput = make "structured-input" ''
      out=$(sed 's/.*"out":"\([^"]*\)".*/\1/' $NIX_ATTRS_JSON_FILE)
      cat $NIX_ATTRS_JSON_FILE >$out
    '' {
      __structuredAttrs = true;
      from = "${up}";
    };
    files = floating "files" "cat $textPath graph >$out" {
      text = "${mid up} ${builtins.placeholder "out"}";
      passAsFile = [ "text" ];
      exportReferencesGraph = [ "graph" top ];
    };
    fixed = make "fixed" "cat ${up} >$out" {
      outputHashMode = "flat";
      outputHashAlgo = "sha256";
      outputHash = builtins.hashString "sha256" "up\n";
    };
    allowed = floating "allowed" "echo ${up} $out >$out" { allowedReferences = [ up "out" ]; };
    empty = floating "empty" "mkdir $out" { };
  };
  bad = {
    disallowed = floating "disallowed" "echo ${mid up} >$out" { disallowedRequisites = [ up ]; };
    flatRefers = floating "flat-refers" "echo ${up} >$out" { outputHashMode = "flat"; };
    flatItself = floating "flat-itself" "echo $out >$out" { outputHashMode = "flat"; };
    treeRefers = floating "tree-refers" "echo ${up} >$out" { outputHashAlgo = "sha512"; };
    flatDirectory = floating "flat-directory" "mkdir $out" { outputHashMode = "flat"; };
    order = floating "order" "mkdir $out; base=\${out#/nix/store/}; echo >$out/\${base%%-*}-x; for i in 0 4 8 a d h l p s w z; do echo >$out/$i; done; echo $out >$out/self" { };
    exits = floating "exits" "echo ${up}; exit 3" { };
    exitsAlone = floating "exits-alone" "echo log; exit 3" { };
    inputExits = make "input-exits" "echo ${up}; exit 4" { };
    missing = floating "missing" "echo $dev >$out" { outputs = [ "out" "dev" ]; };
    cycle = floating "cycle" "echo $dev >$out; echo $out >$dev" { outputs = [ "out" "dev" ]; };
  };
in
builtins.mapAttrs (name: made: builtins.unsafeDiscardStringContext made.drvPath) (if arch == "amd64" then good else { inherit (good) itself top three input flat; })
// (if arch == "amd64" then builtins.listToAttrs (map (name: { name = "bad-${name}"; value = builtins.unsafeDiscardStringContext bad.${name}.drvPath; }) (builtins.attrNames bad)) else { })
