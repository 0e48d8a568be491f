# Chains of derivations whose outputs are addressed by their content. Builds use the executors' own /bin/sh.
let
  plain = name: script: more: derivation ({
    inherit name;
    system = "x86_64-linux";
    builder = "/bin/sh";
    args = [ "-c" script ];
  } // more);
  floating = name: script: plain name script {
    __contentAddressed = true;
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
  };
  step = seconds: number: below:
    floating "floating-${toString number}" "read a <${below}; sleep ${toString seconds}; echo ${toString number} ${below} $out >$out";
  chain = seconds: first: builtins.foldl' (below: number: step seconds number below) first [ 2 3 4 5 ];
  # Depends on the chain, and is addressed by its input all the same.
  over = below: plain "over-floating" "read a <${below}; echo $a ${below} $out >$out" { };
  lower = plain "lower" "echo lower >$out" { };
  first = floating "floating-1" "echo same >$out";
in
{
  quick = over (chain 0 first);
  # Another derivation of the same content: what is above it is the same.
  twin = over (chain 0 (floating "floating-1" "echo same >$out # in other words"));
  # Below it is an output that is addressed by its inputs.
  inherit lower;
  mixed = floating "mixed" "read a <${lower}; echo $a ${lower} $out >$out";
  slow = over (chain 1 first);
}
