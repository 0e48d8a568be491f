# All derivations that a file from anyone evaluates to: itself, in sets and lists, and in sets and lists in those.
# `want` is "names", "all", or the place of one in the list of names. A file that is a function gets those arguments that it names.
{ file, arguments ? "{}", want }:
let
  given = builtins.fromJSON arguments;
  value = import (/. + file);
  depthMax = 8;

  # A name that throws is not there; what it is worth is found out by who asks for it.
  found = depth: name: value:
    let
      tried = builtins.tryEval value;
      inside = tried.value;
      below = child: found (depth + 1) (if name == "" then child else "${name}.${child}");
    in
    if !tried.success || depth > depthMax then [ ]
    else if builtins.isAttrs inside && inside.type or null == "derivation" then [ { name = if name == "" then "it" else name; made = inside; } ]
    else if builtins.isAttrs inside then builtins.concatMap (child: below child inside.${child}) (builtins.attrNames inside)
    else if builtins.isList inside then
      builtins.concatLists (builtins.genList (n: below (toString n) (builtins.elemAt inside n)) (builtins.length inside))
    else [ ];

  called = if builtins.isFunction value then value (builtins.intersectAttrs (builtins.functionArgs value) given) else value;
  all = found 0 "" called;

  describe = one: {
    inherit (one) name;
    case = {
      derivation = builtins.unsafeDiscardStringContext one.made.drvPath;
      outputs = builtins.listToAttrs (map
        (output: { name = output; value = builtins.unsafeDiscardStringContext one.made.${output}.outPath; })
        (one.made.outputs or [ "out" ]));
    };
  };
in
if want == "names" then map (one: one.name) all
else if want == "all" then map describe all
else describe (builtins.elemAt all (builtins.fromJSON want))
