# Builders of Nix's own: downloads from the inputs and from the test's server, and environments of symlinks.
l: with l;
let
  server = import ../server.nix;
  fetch = attributes: name: derivation ({ inherit name; system = "builtin"; builder = "builtin:fetchurl"; outputHashMode = "flat"; outputHashAlgo = "sha256"; } // attributes);
  served = file: hashMode: more: fetch ({ url = "${server}/${file}"; outputHashMode = hashMode; outputHash = builtins.hashFile "sha256" (../served + "/${file}"); } // more);
  treeNar = builtins.hashFile "sha256" ../served/tree.nar;

  environment = packages: more: name: derivation ({
    inherit name;
    system = "builtin";
    builder = "builtin:buildenv";
    derivations = map (package: [ (package.active or "true") (toString (package.priority or 5)) (toString (builtins.length package.paths)) ] ++ package.paths) packages;
    manifest = greeting;
  } // more);
  one = package: { paths = [ package ]; };
  app = shell ''
    mkdir -p $out/bin $out/share/doc/app $out/share/same $out/nix-support $out/info $out/lib $out/log $out/propagated-build-inputs
    echo app > $out/bin/app; echo app > $out/share/doc/app/read; echo app > $out/share/same/app; echo x > $out/lib/perllocal.pod
    echo x > $out/.hidden; echo x > $out/info/dir; echo x > $out/info/app; echo x > $out/manifest.nix; echo x > $out/manifest.json; echo x > $out/log/x
    echo app > $out/conflict; ln -s nowhere $out/dangling; ln -s bin $out/sbin; ln -s share/doc/app/read $out/linked
  '' { } "app";
  library = shell ''
    mkdir -p $out/bin $out/share/doc/library $out/share/same $out/nix-support $out/info
    echo lib > $out/bin/tool; echo lib > $out/share/doc/library/read; echo lib > $out/share/same/library; echo lib > $out/conflict
    ln -s ${tree} $out/tree; ln -s ${tree}/share $out/more
    mkdir -p $out/sbin; echo lib > $out/sbin/admin; echo ${dependency} > $out/nix-support/propagated-user-env-packages
  '' { } "library";
  dependency = shell ''
    mkdir -p $out/bin $out/nix-support; echo dep > $out/bin/dependency; echo dep > $out/bin/tool; echo dep > $out/conflict
    printf '%s %s\n' ${last} ${tree} > $out/nix-support/propagated-user-env-packages
  '' { } "dependency";
  last = shell "mkdir -p $out/more/empty $out/bin; echo last > $out/bin/last; echo last > $out/more/of-last" { } "last";
  plain = shell "echo plain > $out" { } "plain";
  flatShare = shell "mkdir $out; echo file > $out/share; echo file > $out/extra" { } "flat-share";
  deepExtra = shell "mkdir -p $out/extra; echo deep > $out/extra/deep" { } "deep-extra";
  two = shell "mkdir -p $out/bin $lib/lib; echo two > $out/bin/two; echo two > $lib/lib/two" { outputs = [ "out" "lib" ]; } "two";
  described = environment: shell ''
    cd ${environment}; find . | sort > $out; for link in $(find . -type l | sort); do readlink $link >> $out; done
  '' { };
in {
  fetchInput = named "B6.fetchurl" (fetch { url = "file://${greeting}"; outputHash = hashOf "sha256" "good day\n"; });
  fetchInputBelow = named "B6.fetchurl" (fetch { url = "file://${tree}/bin/link"; outputHash = hashOf "sha256" "text\n"; });
  fetchServed = named "B6.fetchurl" (served "file" "flat" { });
  fetchServedSha512 = named "B6.fetchurl" (fetch { url = "${server}/file"; outputHashAlgo = "sha512"; outputHash = builtins.hashFile "sha512" ../served/file; });
  fetchRedirected = named "B6.fetchurl" (fetch { url = "${server}/directory"; outputHash = builtins.hashFile "sha256" ../served/directory/index.html; });
  fetchOtherSystem = named "B6.fetchurl" (served "file" "flat" { system = "riscv64-linux"; });
  fetchUsed = named "B6.fetchurl" (shell "cat ${served "file" "flat" { } "fetch-used-${arch}"} > $out" { });
  fetchExecutable = named "B6.fetchurl-executable" (fetch { url = "${server}/file"; executable = true; outputHashMode = "recursive"; outputHash = builtins.hashFile "sha256" ../served/executable.nar; });
  fetchUnpacked = named "B6.fetchurl-unpack" (fetch { url = "${server}/tree.nar"; unpack = true; outputHashMode = "recursive"; outputHash = treeNar; });
  fetchUnpackedXz = named "B6.fetchurl-unpack" (fetch { url = "${server}/tree.nar.xz"; unpack = true; outputHashMode = "recursive"; outputHash = treeNar; });
  fetchUnpackedInput = named "B6.fetchurl-unpack" (fetch { url = "file://${builtins.path { name = "tree.nar.xz"; path = ../served/tree.nar.xz; }}"; unpack = true; outputHashMode = "recursive"; outputHash = treeNar; });
  fetchNotUnpacked = named "B6.fetchurl-unpack" (served "tree.nar.xz" "flat" { });
  fetchEmpty = named "B6.fetchurl" (served "empty" "flat" { });

  fetchWrong = named "B6.fetchurl D5.hash" (fetch { url = "${server}/file"; outputHash = hashOf "sha256" "other"; });
  fetchWrongMode = named "B6.fetchurl-executable" (fetch { url = "${server}/file"; executable = true; outputHash = builtins.hashFile "sha256" ../served/file; });
  fetchMissing = named "B6.fetchurl" (fetch { url = "${server}/no-such"; outputHash = hashOf "sha256" "x"; });
  fetchMissingInput = named "B6.fetchurl" (fetch { url = "file://${tree}/no-such"; outputHash = hashOf "sha256" "x"; });
  fetchNotArchive = named "B6.fetchurl-unpack" (fetch { url = "${server}/file"; unpack = true; outputHashMode = "recursive"; outputHash = treeNar; });
  fetchNotXz = named "B6.fetchurl-unpack" (fetch { url = "file://${builtins.path { name = "not.xz"; path = ../served/tree.nar; }}"; unpack = true; outputHashMode = "recursive"; outputHash = treeNar; });
  fetchCutXz = named "B6.fetchurl-unpack" (fetch { url = "${server}/cut.nar.xz"; unpack = true; outputHashMode = "recursive"; outputHash = treeNar; });
  fetchNoUrl = named "B6.fetchurl" (fetch { outputHash = hashOf "sha256" "x"; });
  fetchNotFixed = named "B6.fetchurl" (name: derivation { inherit name; system = "builtin"; builder = "builtin:fetchurl"; url = "file://${greeting}"; });
  builtinSystemOnly = named "B6.system" (shell "echo x > $out" { system = "builtin"; });

  environmentEmpty = named "B6.buildenv" (environment [ ] { });
  environmentOne = named "B6.buildenv" (environment [ (one app) ] { });
  environmentMerged = named "B6.buildenv" (environment [ (one app // { priority = 4; }) (one library) { paths = [ two two.lib ]; } ] { });
  environmentOtherOrder = named "B6.buildenv" (environment [ (one library // { priority = 4; }) { paths = [ two.lib ]; } (one app) ] { });
  environmentInactive = named "B6.buildenv" (environment [ (one app) (one library // { active = "false"; }) ] { });
  environmentTwice = named "B6.buildenv" (environment [ (one app) (one app) (one last) ] { });
  environmentOfPlain = named "B6.buildenv" (environment [ (one plain) (one tree) ] { });
  environmentDescribed = named "B6.buildenv" (described (environment [ (one app // { priority = 1; }) (one library) (one tree) ] { } "environment-described-${arch}"));
  environmentConflict = named "B6.buildenv" (environment [ (one app) (one library) ] { });
  environmentCollision = named "B6.buildenv" (environment [ (one app) (one flatShare // { priority = 6; }) ] { });
  environmentCollisionDeep = named "B6.buildenv" (environment [ (one flatShare) (one deepExtra // { priority = 6; }) ] { });
  environmentNoManifest = named "B6.buildenv" (name: derivation { inherit name; system = "builtin"; builder = "builtin:buildenv"; derivations = [ ]; });
  environmentNothing = named "B6.buildenv" (name: derivation { inherit name; system = "builtin"; builder = "builtin:buildenv"; });
}
