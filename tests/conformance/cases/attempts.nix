# What programs try: terminals, namespaces, files, networks, processes, and violent ends.
l: with l;
let
  tries = topic: extra: name: derivation ({ inherit name system; builder = attempts; args = [ topic ]; } // extra);
  ends = how: name: derivation { inherit name system; builder = attempts; args = [ "end" how ]; };
  byChild = topic: shell "report=/build/report ${attempts} ${topic}; cat /build/report > $out";
in {
  terminalTried = covers "C5.terminal C1.session" tries "terminal" { };
  terminalTriedByChild = coversOne "C5.terminal C1.session" (byChild "terminal") { };
  namespacesTried = covers "C4.nested C4.privileges" tries "namespaces" { };
  filesTried = covers "C2.build C2.tmp C2.store C2.root C2.dev" tries "files" { };
  filesTriedByChild = coversOne "C2.build C2.tmp C2.store C2.root C2.dev" (byChild "files") { };
  networkTried = covers "C3.loopback C3.families" tries "network" { };
  processesTried = covers "C1.signals-to-one C1.limits C4.privileges" tries "processes" { };
  addresses = covers "C1.personality B1.builder" tries "addresses" { };
  addressesOfChild = coversOne "C1.personality" (byChild "addresses") { };

  endsIllegally = coversOne "D5.signal" ends "illegal";
  endsByAddress = coversOne "D5.signal" ends "address";
  endsByStack = coversOne "D5.signal" ends "stack";
  endsByDivision = coversOne "D5.signal" ends "division";
  endsByBus = coversOne "D5.signal" ends "bus";
  endsByTime = coversOne "D5.signal C1.limits" ends "time";
  endsByFilter = coversOne "D5.signal C4.filter" ends "filter";
  endsStrictly = coversOne "D5.signal C4.filter" ends "strict";
  endsInThread = coversOne "D5.exit" ends "thread";
  ends100 = coversOne "D5.exit" ends "100";
  ends101 = coversOne "D5.exit" ends "101";
  ends102 = coversOne "D5.exit" ends "102";
  ends104 = coversOne "D5.exit" ends "104";
  ends255 = coversOne "D5.exit" ends "255";
  ends256 = coversOne "D1.missing" ends "256";
  endsOfChildren = covers "H2.faults D5.exit" shell ''
    for how in illegal address stack bus filter strict thread 3; do end=0; ${attempts} end $how > /dev/null 2>&1 || end=$?; echo "$how $end"; done > $out
  '' { };

  terminalControls = covers "C1.session C5.terminal" shell ''
    exec 3<> /proc/self/fd/1; tty <&3 || true
    (echo heard > /dev/tty) 2>&1 || echo none
    setsid sh -c 'exec 3<> /proc/self/fd/1; echo heard > /dev/tty' || echo none
    exit 2
  '' { };
  terminalModes = covers "C5.terminal" shell "stty -F /proc/self/fd/2 -a > $out; stty -F /proc/self/fd/1 echo icanon rows 9 columns 20; stty -F /proc/self/fd/1 -a >> $out" { };
  terminalRead = covers "C5.terminal" shell "for fd in 1 2; do timeout 1 cat <&$fd > /build/read || echo $fd $?; done > $out 2>&1; wc -c < /build/read >> $out" { };
  mountsNested = covers "C4.nested" shell ''
    set +e
    {
      unshare -Urm sh -c 'mount -t tmpfs x /tmp && touch /tmp/x && ls /tmp; mount --bind ${greeting} /etc/passwd && cat /etc/passwd; touch ${tree}/x; umount /nix/store'
      unshare -Urpf --mount-proc sh -c 'echo $$; cat /proc/1/comm'
      unshare -Urn ip link; unshare -Uru sh -c 'hostname h; hostname'
    } > $out 2>&1
  '' { };
  machinesChosen = covers "C1.personality H2.machine" shell "{ uname -m; linux32 uname -m; linux64 uname -m; setarch linux32 -R cat /proc/self/personality; } > $out 2>&1 || echo $? >> $out" { };
  procWritten = covers "C2.proc C4.privileges" shell ''
    for f in sys/vm/drop_caches sysrq-trigger sys/kernel/core_pattern sys/net/ipv4/ip_forward sys/user/max_user_namespaces sys/kernel/ns_last_pid 1/coredump_filter 1/oom_score_adj 1/comm kmsg kcore; do
      (echo 0 > /proc/$f) 2>&1 || echo $f $?; (head -c 1 /proc/$f > /dev/null) 2>&1 || echo $f $?
    done > $out 2>&1
  '' { };
}
