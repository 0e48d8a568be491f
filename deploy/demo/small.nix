# Cut-down graphs without a compiler: every platform in seconds, and one where something fails.
{ native, cross, emulated }:

let
  step = build: name: inputs: build "small-${name}" "small" { inherit inputs; };

  # Native, cross and emulated steps feed one another: four changes of platform along one path, four tasks each.
  n1 = step native "n1" [ ];
  n2 = step native "n2" [ n1 ];
  c1 = step cross "c1" [ n1 ];
  c2 = step cross "c2" [ n2 c1 ];
  e1 = step emulated "e1" [ c1 ];
  e2 = step emulated "e2" [ c2 e1 ];
  n3 = step native "n3" [ e1 ];
  n4 = step native "n4" [ n3 e2 ];
  c3 = step cross "c3" [ e2 ];
  c4 = step cross "c4" [ n4 c3 ];
  e3 = step emulated "e3" [ c3 ];
  e4 = step emulated "e4" [ c4 e3 ];

  failing = native "fails" "fail" { };
in
{
  small = step emulated "all" [ e4 n4 c4 ];

  # `fails` fails; two derivations depend on it; the others have nothing to do with it and must be built.
  fail = step native "fail-all" [ (step emulated "dependent" [ (step cross "direct-dependent" [ failing ]) ]) e2 n2 ];
}
