# Fixed outputs: every algorithm and method; what such a build sees is checked by itself, or shown by failing.
l: with l;
let
  # The NAR of a file that names the greeting.
  hashOfReference = "17d8dba3433bd39b1c13107053169b8293a89a1b7950a4bf8fe9bc29cd189424";
  flat = algorithm: fixed "printf hello > $out" { outputHashAlgo = algorithm; outputHash = hashOf algorithm "hello"; };
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
  fixedRefersTree = covers "D5.fixed-refers" fixed "printf %s ${greeting} > $out" { outputHashMode = "recursive"; outputHash = hashOfReference; };
  fixedRefersTreeWrong = covers "D5.fixed-refers D5.hash" fixed "mkdir $out; echo ${greeting} > $out/a" { outputHashMode = "recursive"; outputHash = hashOf "sha256" "x"; };
  fixedSelfTree = covers "D5.hash-itself D3.itself" fixed "mkdir $out; echo $out > $out/a; ln -s $out $out/b" { outputHashMode = "recursive"; outputHash = hashOf "sha256" "x"; };
  fixedSelfTreeSha512 = covers "D5.hash D3.itself" fixed "mkdir $out; echo $out > $out/a" { outputHashMode = "recursive"; outputHashAlgo = "sha512"; outputHash = hashOf "sha512" "x"; };
  fixedSelfFlat = covers "D5.hash D5.fixed-refers D3.itself" fixed "printf %s $out > $out" { outputHash = hashOf "sha256" "x"; };
  fixedSelfFlatForgotten = covers "D5.hash-itself B5.discard" structured "printf '%s at the end' $out > $out" { unsafeDiscardReferences.out = true; outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = hashOf "sha256" "x"; };
  fixedForgets = covers "D5.fixed-refers B5.discard" structured "printf %s ${greeting} > $out" { unsafeDiscardReferences.out = true; outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = hashOf "sha256" (builtins.unsafeDiscardStringContext greeting); };
  fixedForgetsTree = covers "D5.fixed-refers B5.discard" structured "printf %s ${greeting} > $out" { unsafeDiscardReferences.out = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; outputHash = hashOfReference; };
  fixedChecked = covers "B5.allowed-references D5.fixed-methods" fixed "printf hello > $out" { outputHash = hashOf "sha256" "hello"; allowedReferences = [ ]; disallowedRequisites = [ greeting ]; };
  fixedTooBig = covers "B5.sizes" structured "printf hello > $out" { outputChecks.out.maxSize = 1; outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = hashOf "sha256" "hello"; };
  fixedEmptyHash = covers "D5.hash" fixed "printf hello > $out" { outputHash = ""; };
  fixedBase32 = covers "D5.fixed-methods" fixed "printf hello > $out" { outputHash = "094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic"; };
  fixedEmpty = covers "D5.fixed-methods" fixed "true > $out" { outputHash = hashOf "sha256" ""; };
  fixedLinkTree = covers "D5.hash D2.types" fixed "ln -s x $out" { outputHashMode = "recursive"; outputHash = hashOf "sha256" "x"; };
  fixedMissing = covers "D1.missing" fixed "true" { outputHash = hashOf "sha256" "x"; };
  fixedWritable = covers "D1.top" fixed "printf x > $out; chmod 666 $out" { outputHash = hashOf "sha256" "x"; };
  fixedFifo = covers "D2.types" fixed "mkfifo $out" { outputHash = hashOf "sha256" "x"; };
  fixedSignal = covers "D5.signal" fixed "exec > /dev/null 2>&1; sleep 5" { outputHash = hashOf "sha256" "x"; };
  fixedStructuredVariables = covers "B2.impure-variables B2.structured" structured "tr '\\0' '\\n' < /proc/1/environ; exit 3" { impureEnvVars = [ "UNSET_ON_PURPOSE" "NIX_LOG_FD" "TMPDIR" ]; outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = hashOf "sha256" "x"; };
  fixedVariablesOdd = covers "B2.impure-variables" fixed "tr '\\0' '\\n' < /proc/1/environ; exit 3" { impureEnvVars = "UNSET_A  UNSET-B\n\tTERM PWD out é"; outputHash = hashOf "sha256" "x"; };
  variablesOfOrdinary = covers "B2.impure-variables" facts "environ" { impureEnvVars = [ "HOME" "UNSET_ON_PURPOSE" ]; };
  fixedProcess = covers "C1.ids C4.filter C2.etc-fixed" fixed ''
    {
      grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/self/status; id; hostname; ls /etc; ls -ld /etc | cut -c1-10
      awk '{ print $5 }' /proc/1/mountinfo | grep -v -e /etc/ | sort; cut -d: -f1 /proc/net/dev | tail -n +3 | grep lo
    } >&2; exit 3
  '' { outputHash = hashOf "sha256" "x"; };
}
