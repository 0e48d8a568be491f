# What all cases share: inputs, and derivations around a shell script or the probe program, for one architecture.
{ arch }:
rec {
  inherit arch;
  system = { amd64 = "x86_64-linux"; arm64 = "aarch64-linux"; armhf = "armv7l-linux"; riscv64 = "riscv64-linux"; }.${arch};
  busybox = builtins.path { name = "busybox"; path = ./.. + "/busybox-${arch}"; };
  probe = builtins.path { name = "probe"; path = ./.. + "/probe-${arch}"; };
  attempts = builtins.path { name = "attempts"; path = ./.. + "/attempts-${arch}"; };
  script = builtins.path { name = "script"; path = ./.. + "/script"; };

  # Inputs: a file, a file that refers to it, and derivations for a tree and for two outputs.
  greeting = builtins.toFile "greeting" "good day\n";
  letter = builtins.toFile "letter" "it begins with ${greeting}\n";
  tree = shell ''
    mkdir -p $out/bin $out/share/empty
    echo text > $out/share/text
    printf '#!/bin/sh\necho ran\n' > $out/bin/program
    chmod 755 $out/bin/program
    ln -s ../share/text $out/bin/link
    ln -s ${greeting} $out/share/greeting
  '' { } "tree";
  pair = shell ''
    mkdir $out $lib
    echo "$lib" > $out/needs
    echo alone > $lib/file
  '' { outputs = [ "out" "lib" ]; } "pair";

  # Which rules (../rules.toml) a case is about, before the function that makes it: one of two arguments, of one, or none.
  covers = rules: make: first: second: named rules (make first second);
  coversOne = rules: make: first: named rules (make first);
  named = rules: make: name: make name // { rules = builtins.filter builtins.isString (builtins.split " +" rules); };

  # A derivation that runs a shell script; -e, so that what is not expected to fail must not.
  shell = text: extra: name: derivation ({
    inherit name system;
    builder = "${busybox}/bin/sh";
    args = [ "-ec" text ];
    PATH = "${busybox}/bin";
  } // extra);

  # The same, for scripts whose steps may fail: each step's end is part of the output.
  steps = lines: extra: shell (''
    export LC_ALL=C
    try() { echo "\$ $*"; end=0; sh -c "$*" 2>&1 || end=$?; echo "= $end"; }
    {
  '' + builtins.concatStringsSep "" (map (line: "try '${line}'\n") lines) + ''
    } > /build/report
    cat /build/report > $out
  '') extra;

  # Facts of one topic of the probe, which is process 1.
  facts = topic: extra: name: derivation ({ inherit name system; builder = probe; args = [ topic ]; } // extra);

  # What the probe makes in its output.
  makes = topic: name: derivation { inherit name system; builder = probe; args = [ topic ]; report = "/build/report"; };

  # Structured attributes: the shell finds its outputs in .attrs.sh, as any builder has to.
  structured = text: extra: name: derivation ({
    inherit name system;
    __structuredAttrs = true;
    builder = "${busybox}/bin/sh";
    args = [ "-ec" ''
      export PATH=${busybox}/bin
      output() { sed -n "s,.*\['$1'\]='\([^']*\)'.*,\1,p" .attrs.sh; }
      out=$(output out)
      ${text}
    '' ];
  } // extra);

  # Fixed outputs: the text that the hashes below are of.
  fixed = text: extra: shell text ({ outputHashMode = "flat"; outputHashAlgo = "sha256"; } // extra);
  hashOf = algorithm: text: builtins.hashString algorithm text;
}
