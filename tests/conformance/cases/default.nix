# All cases: { native.NAME, emulated.NAME (aarch64), armv7l.NAME and riscv64.NAME = { derivation, outputs }; }.
let
  forArchitecture = arch: of arch (files ++ [ ./builtins.nix ]);
  of = arch:
    let
      library = import ./library.nix { inherit arch; };
      # A name that stood twice would hide a case.
      join = all: file: let new = import file library; twice = builtins.attrNames (builtins.intersectAttrs all new); in
        if twice == [ ] then all // new else throw "cases with one name: ${toString twice}";
    in builtins.foldl' join { };
  files = [
    ./environment.nix
    ./sandbox.nix
    ./files.nix
    ./outputs.nix
    ./structured.nix
    ./fixed.nix
    ./failures.nix
    ./emulation.nix
    ./uncommon.nix
    ./attributes.nix
    ./unusual.nix
    ./attempts.nix
    ./probe.nix
  ];
  # Nix's own builders run no program that could be emulated: twice is enough.
  foreign = kind: arch: builtins.mapAttrs (describe kind) (removeAttrs (of arch files) nativeOnly);
  # Process 1 that dies of a fault of its own under qemu hangs for ever, in real Nix too: natively only.
  # A 32-bit system is one of x86. Where its program's stack is, qemu decides anew each time.
  nativeOnly = [ "abortsItself" "faultsItself" "machineOf32Bits" ] ++ [ "endsIllegally" "endsByAddress" "endsByStack" "endsByDivision" "endsByBus" "addresses" "addressesOfChild" ];
  # Other names, or the fixed outputs of both kinds were the same paths.
  describe = kind: name: make:
    let made = make "${name}-${kind}";
    in {
      rules = made.rules or [ ];
      derivation = builtins.unsafeDiscardStringContext made.drvPath;
      outputs = builtins.listToAttrs (map
        (output: { name = output; value = builtins.unsafeDiscardStringContext made.${output}.outPath; })
        (made.outputs or [ "out" ]));
    };
in
{
  native = builtins.mapAttrs (describe "native") (forArchitecture "amd64");
  emulated = builtins.mapAttrs (describe "emulated") (removeAttrs (forArchitecture "arm64") nativeOnly);
  armv7l = foreign "armv7l" "armhf";
  riscv64 = foreign "riscv64" "riscv64";
}
