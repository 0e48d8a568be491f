# All cases: { native.NAME and emulated.NAME = { derivation, outputs }; }.
let
  forArchitecture = arch:
    let library = import ./library.nix { inherit arch; };
    in builtins.foldl' (all: file: all // import file library) { } [
      ./environment.nix
      ./sandbox.nix
      ./files.nix
      ./outputs.nix
      ./structured.nix
      ./fixed.nix
      ./failures.nix
      ./emulation.nix
      ./builtins.nix
    ];
  # Process 1 that dies of a fault of its own under qemu hangs for ever, in real Nix too: natively only.
  # /proc/1/cmdline names the emulator's path, which is the emulating host's own business.
  # A 32-bit system is one of x86.
  nativeOnly = [ "processOneCommandLine" "abortsItself" "faultsItself" "machineOf32Bits" ];
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
}
