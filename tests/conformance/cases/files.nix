# Outputs as trees: what canonical metadata makes of them, and what a NAR must carry.
l: with l; {
  emptyFile = covers "D2.contents" shell "true > $out" { };
  emptyDirectory = covers "D2.contents" shell "mkdir $out" { };
  emptyNested = covers "D2.contents" shell "mkdir -p $out/a/b/c; true > $out/a/f; ln -s x $out/a/l" { };
  plainFile = covers "D2.contents" shell "printf 'no line end' > $out" { };
  executableFile = covers "D2.modes" shell "printf '#!/bin/sh\\n' > $out; chmod 755 $out" { };
  danglingLink = covers "D2.types" shell "ln -s nowhere/at/all $out" { };
  linkToInput = covers "D2.types D3.everywhere" shell "ln -s ${greeting} $out" { };
  linkToOneself = covers "D2.types D3.itself" shell "ln -s $out $out" { };
  links = covers "D2.types D2.names" shell ''
    mkdir -p $out/d; cd $out
    ln -s / absolute; ln -s ../.. up; ln -s missing dangling; ln -s ${greeting} input; ln -s $out/d own; ln -s d directory; ln -s loop loop
    ln -s 'with space' 'a link'; ln -s "$(printf 'new\nline')" newline; ln -s /nix/store store; ln -s ./d/../d/. odd
  '' { };
  modes = covers "D2.modes" shell ''
    mkdir $out; cd $out
    for m in 000 001 010 100 111 200 400 444 500 555 600 644 666 700 711 755 775 777 1777; do
      echo $m > file$m; chmod $m file$m
      mkdir directory$m; echo x > directory$m/x; chmod $m directory$m
    done
    chmod u+rx directory*
  '' { };
  modesClosed = covers "D2.modes" shell "mkdir -p $out/closed $out/empty; echo x > $out/closed/x; chmod 000 $out/closed/x $out/closed $out/empty" { };
  modesOutside = covers "D2.modes" shell "mkdir $out; echo x > $out/x; chmod 000 $out" { };
  modesSticky = covers "D2.modes" shell "mkdir -p $out/d; chmod 1755 $out/d; chmod 1755 $out" { };
  setIdRefused = covers "C4.set-id" steps [ "touch /build/f" "chmod 4755 /build/f" "chmod 2755 /build/f" "chmod u+s /build" "cp /build/f /build/g; chmod g+s /build/g" "install -m 6755 /build/f /build/h" "stat -c %a /build/f /build/g" ] { };
  worldWritableInside = covers "D2.modes D1.top" shell "mkdir -p $out/d; echo x > $out/d/f; chmod 666 $out/d/f; chmod 777 $out/d" { };
  hardLinks = covers "D2.hard-links" shell "mkdir -p $out/d; cd $out; echo shared > a; ln a b; ln a d/c; chmod 755 d/c; stat -c %h a > links" { };
  hardLinkOutside = covers "D2.hard-links" shell "echo shared > /build/a; ln /build/a $out 2> /dev/null || echo apart > $out; echo more >> /build/a" { };
  hardLinksAcross = covers "D2.hard-links" shell "mkdir $out $other; echo shared > $out/a; ln $out/a $other/b" { outputs = [ "out" "other" ]; };
  hardLinkToLink = covers "D2.hard-links" shell "mkdir $out; cd $out; ln -s target a; ln a b" { };
  oddNames = covers "D2.names" shell ''
    mkdir $out; cd $out
    for name in 'a b' ' ' '-dash' '.hidden' '...' '*' '?' "it's" '"q"' 'back\slash' '$HOME' '~' '#' '%41' 'a:b' 'a~nix~case~hack~1' 'ä' '☃' '😀' 'A' 'a'; do echo "$name" > "$name"; done
    touch "$(printf 'new\nline')" "$(printf 'tab\there')" "$(printf '\001control')" "$(printf 'bad\377utf8')" "$(printf '\177')"
    mkdir .git 'a directory'; touch .git/config 'a directory/.keep'
  '' { };
  sorting = covers "D2.names" shell "mkdir $out; cd $out; for n in b a B A _ - . + 0 9 10 aa a.b a-b a_b a+b ab 'a b' é z Z '~' .a; do [ $n = . ] || echo x > \"$n\"; done" { };
  longNames = covers "D2.names" shell "mkdir $out; cd $out; name=$(printf '%0255d' 7); echo x > $name; mkdir d; ln -s $(printf '%04000d' 7) d/link" { };
  deepTree = covers "D2.depth" shell "mkdir $out; cd $out; for i in $(seq 60); do mkdir d; cd d; done; echo bottom > file" { };
  manyFiles = covers "D2.contents" shell "mkdir $out; cd $out; for i in $(seq 400); do echo $i > file-$i; done" { };
  bigFile = covers "D2.contents" shell "yes 'some text of no weight' | head -c 5000000 > $out" { };
  bigWithReference = covers "D3.chunks D3.itself" shell "{ head -c 262130 /dev/zero; echo ${greeting}; head -c 3000000 /dev/zero; echo $out; } > $out" { };
  sparseFile = covers "D2.contents" shell "truncate -s 9000001 $out" { };
  paddings = covers "D2.contents" shell "mkdir $out; for n in 0 1 7 8 9 15 16 17 4095 4096 4097; do head -c $n /dev/zero | tr '\\0' x > $out/$n; done" { };
  times = covers "D2.times" shell "mkdir $out; cd $out; echo x > a; touch -d '1980-01-01 00:00' a; touch -d '2037-12-31 00:00' .; stat -c %Y ${greeting} ${tree} ${tree}/share > seen" { };
  movedThere = covers "D2.moved" shell "mkdir /build/made; echo x > /build/made/x; mv /build/made $out" { };
  movedFromTemporary = covers "D2.moved C2.tmp" shell "mkdir /tmp/made; echo x > /tmp/made/x; mv /tmp/made $out" { };
  madeTwice = covers "D2.moved" shell "echo x > $out; rm $out; mkdir $out; rmdir $out; echo y > $out" { };
  copiedInput = covers "D2.moved C2.inputs-seen" shell "cp -a ${tree} $out; chmod -R u+w $out; stat -c '%a %u:%g %n' $out/share/text > $out/seen; rm $out/share/greeting" { };
  copiedWithLinks = covers "D2.moved" shell "cp -rL ${tree} $out" { };
  unpacked = covers "D2.moved" shell "mkdir /build/o; cp -r ${tree} /build/t; chmod -R u+w /build/t; tar -c -C /build/t . | tar -x -C /build/o; mv /build/o $out" { };
  linkedTree = covers "D2.types D3.everywhere" shell "mkdir $out; ln -s ${tree}/* $out/" { };
  besides = covers "D1.besides C2.store" shell "echo x > $out; echo y > $out.tmp; mkdir /nix/store/other; echo z > /nix/store/other/z" { };
}
