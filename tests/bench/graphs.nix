# What the benchmarks build: `run` makes every run's derivations new.
{ cache ? "/var/cache/elsewhere", run }:

let
  busybox = name: "${builtins.path { inherit name; path = cache + "/sources/${name}"; }}/bin/busybox";
  make = system: busybox: name: script: attributes: derivation ({
    inherit name system run;
    builder = busybox;
    args = [ "sh" "-c" script ];
  } // attributes);
  all = system: busybox: script: count: make system busybox "all" "echo done > $out" {
    inputs = map (number: make system busybox "step-${toString number}" script { }) (builtins.genList (n: n) count);
  };
in
{
  trivial = all "x86_64-linux" (busybox "busybox-amd64") "echo $name > $out" 200;
  # Each step needs the one before: what a small update looks like.
  chain = builtins.foldl'
    (before: number: make "x86_64-linux" (busybox "busybox-amd64") "step-${toString number}" "echo $name > $out" { inherit before; })
    "nothing"
    (builtins.genList (n: n) 100);
  # Four programs that compute, each for some seconds under emulation.
  emulated = all "aarch64-linux" (busybox "busybox-arm64")
    "n=0; while [ $n -lt 300000 ]; do n=$((n + 1)); done; echo $n > $out" 4;
}
