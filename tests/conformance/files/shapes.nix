# What a file from anyone may evaluate to: nested sets, lists, derivations that do not evaluate, things that are none.
{ word ? "nothing", other ? "unset" }:
let make = name: derivation { inherit name word other; system = "x86_64-linux"; builder = "/bin/sh"; args = [ "-c" "cat ${./source/text} > $out" ]; };
in {
  plain = make "plain";
  nested.deeper.most = make "most";
  listed = [ (make "first") [ (make "second") 3 ] ];
  several = (make "several") // { outputs = [ "out" ]; };
  throws = throw "on purpose";
  brokenInside = derivation { name = "broken"; system = "x86_64-linux"; builder = throw "only when it is looked at"; };
  badName = make "a name with spaces";
  endless = let again = { inherit again; }; in again;
  text = "no derivation";
  function = x: x;
}
