# What is built in the virtual machine: builds that use, that want too much, and that only look.
let
  make = { arch ? "amd64", system ? "x86_64-linux" }: name: text: let
    busybox = builtins.path { name = "busybox"; path = ./. + "/busybox-${arch}"; };
  in derivation {
    inherit name system;
    builder = "${busybox}/bin/sh";
    args = [ "-c" text ];
    PATH = "${busybox}/bin";
  };
  native = make { };
  innocent = "echo begun; sleep 45; echo > $out";
  foreign = make { arch = "arm64"; system = "aarch64-linux"; };
in
{
  # 100 MiB at one time, by a file in memory.
  measured = native "measured" "dd if=/dev/zero of=/dev/shm/x bs=1M count=100 2>/dev/null; rm /dev/shm/x; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); done; echo > $out";
  bombMemory = native "bomb-memory" "x=0123456789abcdef; while :; do x=$x$x; done; echo > $out";
  bombFiles = native "bomb-files" "dd if=/dev/zero of=/dev/shm/x bs=1M count=1000; echo went on; echo > $out";
  # A child is what grows: the build around it must not go on to a wrong result.
  bombChild = native "bomb-child" "sh -c 'x=0123456789abcdef; while :; do x=$x$x; done'; echo went on; echo > $out";
  bombForks = native "bomb-forks" "bomb() { bomb | bomb & }; bomb; i=0; while [ $i -lt 200 ]; do sleep 60 & i=$((i+1)); done; echo > $out";
  # One beside each bomb.
  innocentbombMemory = native "innocent-1" innocent;
  innocentbombFiles = native "innocent-2" innocent;
  innocentbombChild = native "innocent-3" innocent;
  sleeper = native "sleeper" "echo begun; sleep 20; echo > $out";
  plain = native "plain" "echo > $out";
  again = native "again" "echo > $out";
  emulated = foreign "emulated" "uname -m > $out; cat $out";
  faults = foreign "faults" "echo before; kill -SEGV $$; sleep 300; echo > $out";
}
