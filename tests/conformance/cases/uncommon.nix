# Outputs that few builds make: many, odd, empty, linked to each other, sparse, deep, special.
l: with l;
let
  names = first: count: builtins.genList (n: "${first}${toString n}") count;
  many = names "o" 40;
in {
  manyOutputs = covers "D1.order D3.itself" shell "last=; for o in $outputs; do eval p=\\$$o; mkdir $p; echo \"$o $last\" > $p/file; last=$p; done" { outputs = many; };
  outputNames = covers "D1.order B2.attributes" shell ''
    tr '\0' '\n' < /proc/1/environ | sed -n 's/^.*=\(\/nix\/store\/[^/ ]*-odd-output-names-[^ ]*\)$/\1/p' | sort > /build/paths
    while read -r path; do cat /build/paths > "$path"; done < /build/paths
    wc -l < /build/paths >> "$(head -n 1 /build/paths)"
  '' { name = "odd-output-names"; outputs = [ "a+b" "x.y" "p-q" "_u" "9" "Z?" "i=j" ]; };
  outputsLinkEachOther = covers "D1.order D2.types" shell "ln -s $lib $out; ln -s $doc/x $lib; mkdir $doc; ln -s nowhere $doc/x" { outputs = [ "out" "lib" "doc" ]; };
  outputsLinkThemselves = covers "D3.itself D2.types" shell "ln -s $out/a/b $out; ln -s $lib $lib" { outputs = [ "out" "lib" ]; };
  outputsAllEmpty = covers "D1.order D2.contents" shell "true > $out; mkdir $lib; true > $doc; chmod 755 $doc" { outputs = [ "out" "lib" "doc" ]; };
  outputsShareFiles = covers "D2.hard-links" shell ''
    mkdir $out $lib; echo shared > $out/a; ln $out/a $lib/a; ln $out/a $lib/b; echo $lib > $out/r; ln $out/r $lib/r; chmod 755 $lib/b
  '' { outputs = [ "out" "lib" ]; };
  outputIsLinkToFileOfOther = covers "D2.hard-links D1.order" shell "echo same > $out; ln $out $lib; ln $out /build/x 2> /dev/null || ln $out /tmp/x" { outputs = [ "out" "lib" ]; };
  outputsMoved = covers "D2.moved" shell "mkdir $out; echo x > $out/x; mv $out $lib; mkdir $out; echo y > $out/y" { outputs = [ "out" "lib" ]; };
  hardLinksFromOutside = covers "D2.hard-links" shell "mkdir $out; echo x > /tmp/x; ln /tmp/x $out/x; echo y > /nix/store/y; ln /nix/store/y $out/y; chmod 600 /tmp/x" { };
  hardLinkToInput = covers "D2.hard-links C2.inputs-protected" steps [ "ln ${greeting} $out.x" "mkdir /tmp/d; ln ${tree}/share/text /tmp/d/x" "ln -P ${tree}/share/greeting /tmp/d/l" "ln /etc/passwd /tmp/d/p" "ln /dev/null /tmp/d/n" ] { };

  sparseLarge = covers "D2.contents" shell "truncate -s 67108864 $out; echo ${greeting} | dd of=$out bs=1 seek=50000001 conv=notrunc 2> /dev/null" { };
  sparseMany = covers "D2.contents" shell "mkdir $out; for n in 1 7 8 9 4095 4096 65536 1048577; do truncate -s $n $out/$n; done; truncate -s 0 $out/empty" { };
  filesMany = covers "D2.contents D2.names" shell "mkdir -p $out/d; cd $out; seq 1 6000 | xargs touch; cd d; seq 1 3000 | xargs mkdir" { };
  directoriesWide = covers "D2.contents" shell "mkdir $out; cd $out; for a in 0 1 2 3 4 5 6 7 8 9; do for b in 0 1 2 3 4 5 6 7 8 9; do mkdir -p $a/$b; echo $a$b > $a/$b/f; ln -s ../$a $a/$b/l; done; done" { };
  deepest = covers "D2.depth" shell "mkdir $out; cd $out; for i in $(seq 62); do mkdir d; cd d; done; ln -s x link; mkdir empty; echo x > file" { };
  deepestDirectory = covers "D2.depth" shell "mkdir $out; cd $out; for i in $(seq 63); do mkdir d; cd d; done" { };
  pathLong = covers "D2.depth D2.names" shell "mkdir $out; cd $out; n=$(printf '%0200d' 5); for i in $(seq 18); do mkdir $n; cd $n; done; echo bottom > file" { };
  nameBytes = covers "D2.names" shell ''
    mkdir $out; cd $out
    for byte in 001 002 010 011 012 015 033 040 042 047 052 072 077 134 177 200 240 300 377; do n=$(printf "x\\$byte."); echo $byte > "$n"; mkdir "d$n"; ln -s "$n" "l$n"; done
  '' { };
  nameUnits = covers "D2.names" shell ''
    mkdir $out; cd $out
    touch "$(printf 'e\314\201')" "$(printf '\303\251')" "$(printf '\355\240\200')" "$(printf '\360\237\230\200')" "$(printf '\302')" "$(printf '\300\257')" "$(printf '\357\273\277')"
    touch .. . ... .... '. ' '.. ' ' .' -- -n -e '~' '!' '@' "$(printf %0255d 1)" "$(printf '\303\251%.0s' $(seq 127))"
  '' { };
  linkTargets = covers "D2.types D2.names" shell ''
    mkdir $out; cd $out
    for byte in 001 011 012 033 040 134 200 377; do ln -s "$(printf "t\\$byte.")" "l$byte"; done
    ln -s "$(printf '%04095d' 1)" longest; ln -s . dot; ln -s .. up; ln -s / root; ln -s // roots; ln -s /nix/store/ slash; ln -s "$out/" self
    ln -s "${builtins.unsafeDiscardStringContext greeting}x" almost; ln -s "x${greeting}" prefixed
  '' { };
  linksHaveLinks = covers "D2.hard-links D2.types" shell "mkdir $out; cd $out; ln -s target a; ln -P a b || ln -s target b; ln -s ${greeting} c; ln -P c d || ln -s ${greeting} d" { };
  timesOdd = covers "D2.times" shell "mkdir $out; cd $out; for t in 0 1 2147483647 4294967296 1000000000; do echo $t > $t; touch -d @$t $t; done; ln -s x l; touch -h -d @0 l; touch -d @5 ." { };
  modesEvery = covers "D2.modes" shell "mkdir $out; cd $out; for o in 0 1 2 3 4 5 6 7; do for g in 0 1 4 7; do echo > $o$g$o; chmod $o$g$o $o$g$o; mkdir d$o$g$g; chmod $o$g$g d$o$g$g; done; done" { };
  modesByMask = covers "D2.modes C1.umask" shell "umask 000; mkdir $out; cd $out; echo > open; mkdir directory; umask 777; echo > closed; mkdir none; umask 022; chmod 755 ." { };
  setIdMade = coversOne "D2.modes C4.set-id" makes "makes";
  executableKinds = covers "D2.modes" shell "mkdir $out; cd $out; for m in 100 500 700 544 744 755 111 011 001 010 644; do cp ${busybox}/bin/busybox $m; chmod $m $m; done" { };
  removedAndMade = covers "D2.moved" shell "for i in 1 2 3; do mkdir -p $out/$i; rm -r $out; ln -s x $out; rm $out; done; echo last > $out" { };
  openWhileDone = covers "D2.moved C1.left-behind" shell "mkdir $out; echo x > $out/x; (exec 3>> $out/x; sleep 100 > /dev/null 2>&1 < /dev/null) & sleep 0.1; echo y > $out/y" { };
  currentDirectoryGone = covers "D2.moved B1.directory" shell "mkdir $out; cd $out; echo x > x; rmdir /build 2>> x || echo kept >> x" { };
  buildDirectoryFull = covers "C2.build D1.besides" shell "mkdir -p d/e/f; echo x > d/e/f/x; chmod 000 d/e/f d; mkfifo fifo; ln -s / root; echo x > $out" { };
  temporaryLeft = covers "C2.tmp D1.besides" shell "mkdir -p /tmp/a/b; chmod 000 /tmp/a; mkfifo /tmp/fifo; ln -s / /tmp/root; touch /nix/store/left; echo x > $out" { };

  fifoInside = covers "D2.types" shell "mkdir -p $out/a/b; mkfifo $out/a/b/pipe" { };
  socketIsOutput = covers "D2.types" shell "report=/build/r ${probe} nodes; mv /build/socket $out 2> /dev/null || cp /build/r $out" { };
  fifoInSecond = covers "D2.types" shell "mkdir $out $lib; mkfifo $lib/pipe" { outputs = [ "out" "lib" ]; };
  tooDeepInSecond = covers "D2.depth" shell "mkdir $out $lib; cd $lib; for i in $(seq 64); do mkdir d; cd d; done; echo > x" { outputs = [ "out" "lib" ]; };
  depthOfFile = covers "D2.depth" shell "mkdir $out; cd $out; for i in $(seq 63); do mkdir d; cd d; done; echo x > file" { };
  writableSecond = covers "D1.top" shell "mkdir $out $lib; chmod 775 $lib" { outputs = [ "out" "lib" ]; };
  missingSecond = covers "D1.missing" shell "mkdir $aa $zz" { outputs = [ "zz" "mm" "aa" ]; };
  missingAll = covers "D1.missing" shell "true" { outputs = [ "zz" "mm" "aa" ]; };
  missingIsDangling = covers "D1.missing" shell "ln -s $lib $out" { outputs = [ "out" "lib" ]; };
  cycleOfThree = covers "D1.cycle" shell "mkdir $a $b $c; echo $b > $a/f; echo $c > $b/f; echo $a > $c/f" { outputs = [ "a" "b" "c" ]; };
  cycleWithTail = covers "D1.cycle" shell "mkdir $a $b $c $d; echo $b > $a/f; echo $c > $b/f; echo $d > $c/f; echo $b > $d/f" { outputs = [ "a" "b" "c" "d" ]; };
  cycleByLinks = covers "D1.cycle" shell "ln -s $lib $out; ln -s $out $lib" { outputs = [ "out" "lib" ]; };
  failsWithOutputs = covers "D1.failed" shell "mkdir $out; mkfifo $out/f; chmod 777 $out; exit 4" { outputs = [ "out" "lib" ]; };
}
