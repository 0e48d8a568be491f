# What a build sees of the world, and what it may not do to it.
l: with l; {
  identity = covers "C1.ids C1.umask C1.host-name C1.maps B1.directory" shell ''
    { id; id -G; umask; pwd; hostname; whoami; cat /proc/sys/kernel/domainname; uname -s; uname -n; cat /proc/self/setgroups; } > $out
    awk '{ print $1, $3 }' /proc/self/uid_map /proc/self/gid_map >> $out
  '' { };
  process = covers "C1.process-one C1.session C1.personality C4.privileges" facts "process" { };
  terminal = covers "C5.terminal" facts "terminal" { };
  descriptors = covers "C1.descriptors C5.terminal" facts "descriptors" { };
  signals = covers "C1.signals" facts "signals" { };
  modesRefused = covers "C4.set-id" facts "modes" { };
  attributesRefused = covers "C4.attributes" facts "attributes" { };
  nodesRefused = covers "C4.nodes" facts "nodes" { };
  privilegesRefused = covers "C4.privileges" facts "privileges" { };
  shellOfHost = named "C2.shell" (name: derivation {
    inherit name system;
    builder = "/bin/sh";
    args = [ "-c" "echo $0 $PATH > $out; ${busybox}/bin/busybox ls -ln /bin | ${busybox}/bin/busybox awk '{ print $1, $3, $4, $NF }' >> $out" ];
  });
  machineOf32Bits = named "C1.personality-32" (name: derivation {
    inherit name;
    system = "i686-linux";
    builder = "${busybox}/bin/sh";
    args = [ "-c" "{ uname -m; cat /proc/self/personality; } > $out" ];
    PATH = "${busybox}/bin";
  });
  childProcess = covers "C1.process-one" shell "report=/build/report ${probe} process; cat /build/report > $out" { };
  status = covers "C1.ids C1.capabilities C1.umask C4.filter" shell ''
    grep -E '^(Umask|Uid|Gid|Groups|NStgid|NSpid|NSpgid|NSsid|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp|SigBlk|SigIgn|Cpus_allowed_list)' /proc/self/status > $out
    grep -E '^(Pid|PPid|Uid|Gid|NoNewPrivs|Seccomp|SigBlk|SigIgn)' /proc/1/status >> $out
    # Signals 32 and 33 belong to the C library: whether they are ignored is whatever the first process of the host was given.
    sed -i 's/^\(SigIgn:.\)........\([08]\)/\1/' $out
  '' { };
  limits = covers "C1.limits" shell "grep -E '^Max (core|cpu|data|resident|locked|address|file locks|nice|realtime|msgqueue)' /proc/self/limits > $out" { };
  namespaces = covers "C1.process-one C1.session" shell ''
    for n in user pid mnt net ipc uts; do readlink /proc/self/ns/$n | tr -d 0-9; done > $out
    sh -c 'echo $$ $PPID' >> $out
    ls /proc | grep -c '^[0-9]' >> $out
    cut -d' ' -f1,4-8 /proc/1/stat >> $out
  '' { };
  accounts = covers "C2.etc" shell "for f in $(find /etc -type f | sort); do echo \"== $f\"; cat $f; done > $out" { };
  listing = covers "C2.root C2.build C2.tmp C2.dev C2.etc C2.proc" shell ''
    {
      stat -c '%A %u:%g %F %n' / /build /dev /etc /nix /nix/store /proc /tmp /dev/shm /dev/pts
      find / -xdev -maxdepth 1 | sort
      stat -c '%A %u:%g %F %n' /etc/* /nix/* | sort -k 4
      stat -c '%A %u:%g %F %t:%T %n' /dev/* | sort -k 5
      for link in fd stdin stdout stderr ptmx; do readlink /dev/$link; done
      stat -L -c '%a %u:%g %t:%T' /dev/ptmx
      ls -A /build /tmp /dev/shm /dev/pts
    } > $out
  '' { };
  storeListing = covers "C2.store C2.inputs-seen" shell "{ ls /nix/store; stat -c '%A %u:%g %h %n' /nix/store/*; } > $out" { inherit letter; refers = tree; };
  mounts = covers "C2.proc C2.tmp C2.dev" shell ''
    awk '$2 !~ "^/nix/store/." { print $2 }' /proc/mounts | sort > $out
    awk '$2 == "/proc" || $2 == "/dev/pts" || $2 == "/dev/shm" { print $2, $3 }' /proc/mounts | sort >> $out
  '' { };
  network = covers "C3.loopback C3.families" shell ''
    {
      cut -d: -f1 /proc/net/dev | tail -n +3
      ip address show; ip route show
      cat /proc/net/if_inet6
      (echo through | nc -l -p 9 >/dev/null 2>&1) || echo low port refused
      nc -w 1 10.88.0.1 80 2>&1 || echo no way out
      ping -c 1 127.0.0.1 >/dev/null 2>&1 && echo loopback answers || echo no raw sockets
    } > $out
  '' { };
  loopback = covers "C3.loopback" shell ''
    echo heard > /build/message
    nc -l -p 4242 < /build/message > /dev/null &
    until nc -w 2 127.0.0.1 4242 > $out 2>/dev/null < /dev/null; do sleep 0.1; done
  '' { };
  reopening = covers "C5.reopen C1.session" shell ''
    echo out > /dev/stdout; echo err > /dev/stderr; echo two > /proc/self/fd/2
    { cat /dev/stdin; cat < /dev/null; stat -L -c '%A %u:%g' /proc/self/fd/2; tty || true; } > $out
    (echo x > /dev/tty) >> $out 2>&1 || echo no terminal >> $out
  '' { };
  devices = covers "C2.dev" steps [
    "head -c 4 /dev/zero | od -An -tx1"
    "echo x > /dev/full"
    "head -c 8 /dev/urandom | wc -c"
    "echo x > /dev/null"
    "echo x > /dev/shm/file; cat /dev/shm/file; df -P /dev/shm | tail -n 1 | cut -c1-5"
    "echo x > /dev/new"
    "rm /dev/null"
    "chmod 600 /dev/null"
  ] { };
  writing = covers "C2.root C2.etc C2.proc C2.store" steps [
    "touch /new" "mkdir /usr" "touch /etc/new" "echo x >> /etc/passwd" "rm /etc/hosts" "touch /dev/x" "touch /nix/x" "mkdir /nix/var"
    "touch /proc/x" "touch /tmp/x" "touch /build/x" "touch /dev/shm/x" "mkdir /nix/store/x" "rm -r /nix/store/x" "rmdir /tmp" "rmdir /build"
    "echo 1 > /proc/sys/kernel/hostname" "echo 0 > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj" "chmod 700 /nix/store" "chmod 777 /"
  ] { };
  changingInputs = covers "C2.inputs-protected" steps [
    "echo x > ${greeting}" "echo x >> ${greeting}" "chmod 777 ${greeting}" "chown 1000 ${greeting}" "touch ${greeting}" "rm -f ${greeting}"
    "mv ${greeting} /nix/store/moved" "ln ${greeting} /build/link" "ln ${greeting} /nix/store/link" "ln -s x /nix/store/symlink && rm /nix/store/symlink"
    "touch ${tree}/new" "chmod 755 ${tree}" "rm ${tree}/share/text" "rm -rf ${tree}" "mv ${tree} /build/tree" "mkdir ${tree}/share/new"
    "ln -sf x ${tree}/bin/link" "touch -h ${tree}/bin/link" "chown -h 1000 ${tree}/bin/link" "mv ${tree}/share ${tree}/other"
    "echo x > ${tree}/bin/program" "cat ${tree}/share/text ${greeting}"
  ] { };
  inputsSeen = covers "C2.inputs-seen" shell ''
    {
      stat -c '%A %u:%g %h %s %Y %F' ${greeting} ${letter} ${tree} ${tree}/bin ${tree}/bin/program ${tree}/share/text
      ls -lnR ${tree} | sed 's/ [A-Z][a-z][a-z] .* / /'
      readlink ${tree}/share/greeting
      cat ${tree}/share/greeting
      ${tree}/bin/program 2>&1 || echo no shell at its place
    } > $out
  '' { };
  inputsPacked = covers "C2.inputs-seen" shell "tar -c -C ${tree} . | tar -tv | grep -v ^l | sort > $out; find ${tree} | sort | cpio -o -H newc 2>/dev/null | wc -c >> $out" { };
  inputIsLink = covers "C2.inputs-seen" shell "{ stat -c '%F %u:%g' $link; readlink $link; cat $link; } > $out" { link = shell "ln -s ${greeting} $out" { } "link"; };
  closureOnly = covers "C2.store" shell "ls /nix/store > $out; cat ${letter} >> $out; [ ! -e $hidden ]" { hidden = builtins.unsafeDiscardStringContext (toString pair.lib); };
  nested = covers "C4.nested" steps [
    "unshare -U true" "unshare -Ur id" "unshare -m true" "unshare -n true" "unshare -p -f true" "mount -t tmpfs none /tmp" "mount --bind /build /tmp" "hostname other"
  ] { };
  backgroundLeft = covers "C1.left-behind" shell "(sleep 1000 > /dev/null 2>&1 < /dev/null &); echo done > $out" { };
  backgroundHolds = covers "C1.left-behind C5.background" shell "sleep 1000 & echo done > $out" { };
  backgroundSession = covers "C1.left-behind" shell "setsid sleep 1000 > /dev/null 2>&1 < /dev/null & echo done > $out" { };
  logOdd = covers "C5.lines C5.control-lines" shell ''printf 'a\r\nb\033[1mbold\033[0m\n\377\000\n@nix {"action":"setPhase","phase":"x"}\nno end' >&2; echo a > $out'' { };
  logNone = covers "C5.lines" shell "exec > /dev/null; echo a > $out" { };
  unprivilegedKill = covers "C1.signals-to-one" steps [ "kill -0 1" "kill -TERM 1; echo alive" "kill -KILL 1; echo alive" "kill -TERM -1; echo alone" ] { };
  shellLimits = covers "C1.limits" steps [ "ulimit -c" "ulimit -s" "ulimit -f" "ulimit -v" "ulimit -c unlimited" "nice" "nice -n -1 true" ] { };
}
