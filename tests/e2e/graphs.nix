# Graphs of small steps without a compiler, one for each promise that the tests of whole clusters prove.
{ cache ? "/var/cache/elsewhere", salt ? "", megabytes ? "10", seconds ? "0.5" }:

let
  shell = name: "${builtins.path { inherit name; path = cache + "/sources/${name}"; }}/bin/busybox";
  make = system: busybox: name: script: attributes: derivation ({
    inherit name system;
    builder = busybox;
    args = [ "sh" "-euc" ''
      mkdir "$NIX_BUILD_TOP/tools"
      "$builder" --install -s "$NIX_BUILD_TOP/tools"
      PATH=$NIX_BUILD_TOP/tools
      ${script}
    '' ];
  } // attributes);
  native = make "x86_64-linux" (shell "busybox-amd64");
  emulated = make "aarch64-linux" (shell "busybox-arm64");
  cross = name: native "${name}-aarch64-unknown-linux-musl";
  steps = builder: name: count: map (number: builder "${name}-${toString number}" "sleep 0.5; echo $name > $out" { }) (builtins.genList (n: n + 1) count);
  all = builder: name: inputs: builder name "cat $inputs > $out" { inherit inputs; };

  # One after the other: `count` steps of `seconds` each.
  chain = builder: name: count: seconds: builtins.foldl'
    (input: number: builder "${name}-${toString number}" "echo step ${toString number}; cat $input /dev/null; sleep ${seconds}; echo ${toString number} > $out" { inherit input; })
    ""
    (builtins.genList (n: n + 1) count);
in
{
  # Twelve independent steps of each platform.
  shared = all native "shared" (steps native "native" 12 ++ steps cross "cross" 12 ++ steps emulated "emulated" 12);

  # A native step before a cross step before a native one.
  across = native "across" "cat $input > $out" { input = cross "middle" "cat $input > $out" { input = native "first" "echo first > $out" { }; }; };

  # Intermediates of 4 MB each, and a result that refers to a file of 3 MB and to nothing else.
  heavy =
    let
      intermediate = number: native "intermediate-${toString number}" "head -c 4000000 /dev/urandom > $out" { };
      kept = native "kept" "head -c 3000000 /dev/urandom > $out" { };
    in
    native "heavy" "mkdir $out; cat $inputs | wc -c > $out/size; ln -s $kept $out/kept" { inputs = map intermediate (builtins.genList (n: n) 20); inherit kept; };

  # Half a gigabyte.
  big = native "big" "mkdir $out; for part in 1 2 3 4 5; do yes \"part $part of a result that is large\" | head -c 100000000 > $out/$part; done" { };

  # A hundred lines in ten seconds.
  tale = native "tale" "for line in $(seq 100); do echo \"line $line of the tale\"; sleep 0.1; done; echo > $out" { };

  many = all native "many" (steps native "native" 12);

  # Four at once that sleep for ever.
  several = all native "several" (map (number: native "sleeper-${toString number}" "sleep 600; echo > $out" { }) [ 1 2 3 4 ]);

  # 200,000 numbered lines (10 MB), then bytes that are no text, a line of a megabyte, and one that never ends.
  loud = native "loud" ''
    awk 'BEGIN { for (line = 1; line <= 200000; line++) printf "line %d of a log that goes on and on and on\n", line }'
    printf 'not text: \377\376\n'
    head -c 1000000 /dev/zero | tr '\0' x
    printf '\nthe last line has no end'
    echo loud > $out
  '' { };

  # Steps of some seconds, of which real Nix makes the same: six, six of two of them each, and one of all. `salt` makes them new.
  faulty =
    let
      numbers = builtins.genList (n: n) 6;
      part = number: native "part-${toString number}${salt}"
        "sleep 1.2; awk 'BEGIN { for (n = 0; n < 30000; n++) print n * ${toString (number + 7)} }' > $out" { };
      pair = number: native "pair-${toString number}${salt}" "sleep 0.8; cat $inputs | sha256sum > $out; cat $inputs | tail -c 100000 >> $out"
        { inputs = [ (part number) (part (if number == 5 then 0 else number + 1)) ]; };
    in
    all native "whole${salt}" (map pair numbers);

  # Ten inputs of so many megabytes each that do not shrink, and twelve steps that read all of them.
  readers =
    let
      noise = number: native "noise-${toString number}" "head -c ${megabytes}000000 /dev/urandom > $out" { };
      inputs = map noise (builtins.genList (n: n) 10);
    in
    all native "readers" (map (number: native "reader-${toString number}" "sleep ${seconds}; cat $inputs | wc -c > $out" { inherit inputs; }) (builtins.genList (n: n) 12));

  # Eight of 2 MB, four of two of them each, and one of those four: 26 MB. `salt` makes them new. The other wants the four alone.
  inherit (let
    numbers = builtins.genList (n: n);
    pile = number: native "pile-${toString number}${salt}" "yes $name | head -c 2000000 > $out" { };
    summed = builtins.concatStringsSep "; " [ "cat $inputs | sha256sum > $out" "cat $inputs | tail -c 2000000 >> $out" ];
    pair = number: native "piles-${toString number}${salt}" summed { inputs = map pile [ (2 * number) (2 * number + 1) ]; };
  in {
    piles = native "piles${salt}" summed { inputs = map pair (numbers 4); };
    pilesAgain = all native "piles-again${salt}" (map pair (numbers 4));
  }) piles pilesAgain;

  # A chain of steps of some seconds, and one that reads a file of two megabytes.
  ahead = all native "ahead" [
    (chain native "busy" 2 "4")
    (native "reader" "wc -c < $data/bin/busybox > $out" { data = builtins.path { name = "data"; path = cache + "/sources/busybox-arm64"; }; })
  ];

  slow = chain native "slow" 6 "1.5";
  endless = chain native "endless" 2 "600";
  ordinary = all native "ordinary" [ (chain native "step" 2 "0.1") (chain emulated "step-there" 2 "0.1") (chain cross "step-across" 2 "0.1") ];

  # What a source that is read, changed and read again does.
  withSource = native "with-source" "cat $source > $out" { source = builtins.path { name = "source.txt"; path = ./graphs.nix; }; };

  # `breaks` fails after 40 lines; two depend on it; two have nothing to do with it and are built all the same.
  failing =
    let
      breaks = native "breaks" "for line in $(seq 40); do echo \"line $line of the log\"; done; echo it breaks here >&2; exit 3" { };
      dependent = cross "dependent" "cat $breaks > $out" { inherit breaks; };
    in
    all native "failing" [ (emulated "dependent-of-dependent" "cat $dependent > $out" { inherit dependent; }) (chain native "independent" 2 "1") ];
}
