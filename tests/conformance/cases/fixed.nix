# Fixed outputs: every algorithm and method; what such a build sees is checked by itself, or shown by failing.
l: with l;
let flat = algorithm: fixed "printf hello > $out" { outputHashAlgo = algorithm; outputHash = hashOf algorithm "hello"; };
in {
  fixedMd5 = coversOne "D5.fixed-methods" flat "md5";
  fixedSha1 = coversOne "D5.fixed-methods" flat "sha1";
  fixedSha256 = coversOne "D5.fixed-methods" flat "sha256";
  fixedSha512 = coversOne "D5.fixed-methods" flat "sha512";
  fixedSri = covers "D5.fixed-methods D2.modes" fixed "printf hello > $out; chmod 600 $out" { outputHashAlgo = null; outputHash = "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="; };
  fixedTree = covers "D5.fixed-methods" fixed "mkdir $out" { outputHashMode = "recursive"; outputHash = "a50a5ab6d992f5598edd92105059fae9acfc192981e08bd88534c2167e92526a"; };
  fixedTreeSha1 = covers "D5.fixed-methods" fixed "mkdir $out" { outputHashMode = "recursive"; outputHashAlgo = "sha1"; outputHash = "6b4e26abccbb6e379585a0130d959458491e025f"; };
  fixedExecutable = covers "D5.fixed-methods" fixed "printf '#!/bin/sh\\n' > $out; chmod 755 $out" { outputHashMode = "recursive"; outputHash = "6283c1668260f903d1a895c0cd6b822fa4b68762bb0b17cedef2d39d97e26554"; };
  fixedUsed = covers "D5.fixed-methods C2.store" shell "cat $file > $out; echo $file >> $out" { file = flat "sha256" "fixed-used-${arch}"; };
  fixedSees = covers "C2.etc-fixed B2.impure-variables B2.output-checked" fixed ''
    [ "$NIX_OUTPUT_CHECKED" = 1 ]
    [ "''${UNSET_ON_PURPOSE-absent}" = "" ]
    [ "$(cat /etc/nsswitch.conf | head -n 1)" = "hosts: files dns" ]
    [ "$(id -u):$(id -g)" = 1000:100 ]
    [ "$(hostname)" = localhost ]
    printf hello > $out
  '' { outputHash = hashOf "sha256" "hello"; impureEnvVars = [ "UNSET_ON_PURPOSE" ]; };
  fixedShows = covers "C2.etc-fixed B2.impure-variables B2.output-checked" fixed "env | sort; ls /etc; stat -c '%a %n' /etc /etc/nsswitch.conf; cat /etc/nsswitch.conf; exit 3" { outputHash = hashOf "sha256" "hello"; impureEnvVars = [ "UNSET_ON_PURPOSE" "HOME" ]; };
  fixedWrong = covers "D5.hash" fixed "printf wrong > $out" { outputHash = hashOf "sha256" "right"; };
  fixedWrongSri = covers "D5.hash" fixed "printf wrong > $out" { outputHashMode = "recursive"; outputHashAlgo = null; outputHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="; };
  fixedWrongMd5 = covers "D5.hash" fixed "printf wrong > $out" { outputHashAlgo = "md5"; outputHash = hashOf "md5" "right"; };
  fixedIsDirectory = covers "D5.flat" fixed "mkdir $out" { outputHash = hashOf "sha256" "x"; };
  fixedIsExecutable = covers "D5.flat" fixed "printf x > $out; chmod 755 $out" { outputHash = hashOf "sha256" "x"; };
  fixedIsLink = covers "D5.flat" fixed "ln -s x $out" { outputHash = hashOf "sha256" "x"; };
  fixedRefers = covers "D5.fixed-refers" fixed "printf ${greeting} > $out" { outputHash = hashOf "sha256" (builtins.unsafeDiscardStringContext greeting); };
  fixedFails = covers "D5.exit" fixed "echo reason; exit 9" { outputHash = hashOf "sha256" "x"; };
}
