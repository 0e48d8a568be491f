# The probe's other topics, and all of /proc, /dev and /etc that does not name the host: what a build can find out about where it runs.
l: with l;
let
  fields = names: builtins.concatStringsSep "|" names;
  # Values of /proc/sys, each on a line; those of a host's memory and processors are left out.
  settings = [
    "kernel/hostname" "kernel/domainname" "kernel/ostype" "kernel/osrelease" "kernel/version" "kernel/ngroups_max" "kernel/cap_last_cap" "kernel/overflowuid" "kernel/overflowgid"
    "kernel/randomize_va_space" "kernel/msgmax" "kernel/msgmnb" "kernel/msgmni" "kernel/shmmax" "kernel/shmall" "kernel/shmmni" "kernel/sem" "kernel/shm_rmid_forced" "kernel/pid_max"
    "kernel/yama/ptrace_scope" "kernel/unprivileged_bpf_disabled" "kernel/perf_event_paranoid" "kernel/dmesg_restrict" "kernel/kptr_restrict" "kernel/seccomp/actions_avail"
    "fs/file-max" "fs/nr_open" "fs/pipe-max-size" "fs/mqueue/queues_max" "fs/mqueue/msg_max" "fs/protected_hardlinks" "fs/protected_symlinks" "fs/protected_fifos" "fs/protected_regular" "fs/suid_dumpable"
    "user/max_user_namespaces" "user/max_pid_namespaces" "vm/overcommit_memory" "vm/max_map_count" "vm/mmap_min_addr"
    "net/core/somaxconn" "net/ipv4/ip_local_port_range" "net/ipv4/ping_group_range" "net/ipv4/ip_forward" "net/ipv4/ip_unprivileged_port_start" "net/ipv6/conf/lo/disable_ipv6" "net/unix/max_dgram_qlen"
  ];
in {
  calls = covers "C4.privileges C4.filter" facts "calls" { };
  callsOfChild = covers "C4.privileges C4.filter" shell "report=/build/report ${probe} calls; cat /build/report > $out" { };
  sockets = covers "C3.families" facts "sockets" { };
  limitsAll = covers "C1.limits" facts "limits" { };
  processStatus = covers "C1.ids C1.capabilities C1.signals C4.filter C1.process-one" shell ''
    grep -E '^(${fields [ "Name" "Umask" "State" "Tgid" "Ngid" "Pid" "PPid" "TracerPid" "Uid" "Gid" "FDSize" "Groups" "NStgid" "NSpid" "NSpgid" "NSsid" "Kthread" "Threads" "SigPnd" "ShdPnd" "SigBlk" "SigIgn" "SigCgt" "CapInh" "CapPrm" "CapEff" "CapBnd" "CapAmb" "NoNewPrivs" "Seccomp" "Seccomp_filters" "Speculation_Store_Bypass" "SpeculationIndirectBranch" "Cpus_allowed_list" "Mems_allowed_list" "THP_enabled" "untag_mask" ]}):' /proc/1/status > $out
    # As in `status`.
    sed -i 's/^\(SigIgn:.\)........\([08]\)/\1/' $out
  '' { };
  processFiles = covers "C1.process-one C2.proc" shell ''
    {
      for f in comm cmdline environ setgroups uid_map gid_map projid_map oom_score_adj oom_adj coredump_filter loginuid sessionid personality timerslack_ns timens_offsets wchan autogroup attr/current cpuset; do
        echo "== $f"; tr '\0' '\n' < /proc/1/$f 2>&1 | sed 's/^\( *[0-9]*\) *[0-9]* *\([0-9]*\)$/\1 \2/' || true
      done
      readlink /proc/1/cwd /proc/1/root; cut -d' ' -f1-9,19 /proc/1/stat
    } > $out 2>&1
  '' { };
  processDirectory = covers "C2.proc" shell ''
    { ls -ln /proc/1 | awk '{ print $1, $3, $4, $9 }' | sed 1d; ls /proc/1/task /proc/1/ns /proc/1/net; } > $out
  '' { };
  processTop = covers "C2.proc" shell "ls -ln /proc | awk 'NR > 1 && $9 !~ /^[0-9]/ { print $1, $3, $4, $9 }' > $out" { };
  settingsRead = covers "C2.proc C1.host-name" shell ''
    for f in ${builtins.concatStringsSep " " settings}; do echo "$f $(cat /proc/sys/$f 2>&1)"; done > $out
    ls -ln /proc/sys /proc/sys/kernel /proc/sys/fs | awk '{ print $1, $3, $4, $9 }' >> $out
  '' { };
  mountOptions = covers "C2.proc C2.store C2.dev C2.tmp" shell ''
    awk '$5 !~ "^/nix/store/." { shared = ""; for (n = 7; $n != "-"; n++) { sub(":.*", "", $n); shared = shared " " $n } print $5, $6 shared }' /proc/self/mountinfo | sort > $out
    awk '$5 ~ "^/nix/store/." { shared = ""; for (n = 7; $n != "-"; n++) { sub(":.*", "", $n); shared = shared " " $n } print $6 shared }' /proc/self/mountinfo | sort -u >> $out
    awk '$5 ~ "^/(proc|dev/pts|dev/shm)$" { for (n = 7; $n != "-"; n++); print $5, $(n + 1), $(n + 3) }' /proc/self/mountinfo | sort >> $out
  '' { inherit letter; refers = tree; };
  devicesAll = covers "C2.dev C5.terminal" shell ''
    {
      find /dev -exec stat -c '%A %u:%g %t:%T %F %n' {} + | sort -k 5; stat -f -c '%T %b %s' /dev/shm | cut -d' ' -f1; df -P /dev/shm | awk 'END { print ($2 > 1000) }'
      stat -L -c '%A %u:%g %t' /dev/stdout /dev/stdin /dev/fd/2; readlink /proc/self/fd/0 /proc/self/fd/1 | sed 's/[0-9]*$//'
      for f in full random zero null; do (head -c 1 /dev/$f | wc -c) 2>&1; done
    } > $out
  '' { };
  etcAll = covers "C2.etc" shell "find /etc -exec stat -c '%A %u:%g %s %F %n' {} + | sort -k 5 > $out; for f in /etc/*; do echo \"== $f\"; od -c $f; done >> $out" { };
  rootAll = covers "C2.root C2.build C2.tmp" shell ''
    find / -path /proc -prune -o -path '/nix/store/*/*' -prune -o -path '/dev/pts/*' -prune -o -exec stat -c '%A %u:%g %n' {} + > /build/listing 2>&1
    sort -k 3 /build/listing > $out
  '' { };
  networkAll = covers "C3.loopback C3.families" shell ''
    {
      for f in dev route if_inet6 tcp udp arp packet; do echo "== $f"; cat /proc/net/$f 2>&1; done; awk '{ print $1 }' /proc/net/protocols; ls /proc/net
      ip address; ip route show table all | sort; ip -6 route show table all | sort; ip rule; ip link | grep -c mtu
      for address in 127.0.0.1 127.1.2.3 0.0.0.0 ::1 10.88.0.1 8.8.8.8; do echo "== $address"; nc -w 1 $address 9 < /dev/null 2>&1 || true; done
      nslookup localhost 2>&1 | head -n 1; wget -T 1 -O - http://localhost/ 2>&1 || true; ping -c 1 -W 1 127.0.0.1 2>&1 | head -n 1
    } > $out 2>&1
  '' { };
  timeAndPlace = covers "B1.directory" shell "{ date -d @0; cat /etc/localtime; echo \${TZ-unset} \${LANG-unset} \${USER-unset} \${SHELL-unset}; locale; } > $out 2>&1 || true" { };
  signalsSent = covers "C1.signals-to-one D5.exit" shell ''
    for s in HUP INT QUIT ILL TRAP ABRT BUS FPE USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS; do
      sh -c "kill -$s \$\$; echo lived" > /build/said 2>&1; echo "$s $? $(cat /build/said)"
    done > $out 2>&1
  '' { };
  exitCodes = covers "D5.exit" shell "for n in 0 1 2 126 127 128 137 255 256 257; do sh -c \"exit $n\"; echo $n $?; done > $out || true; sh -c /nothing >> $out 2>&1 || echo $? >> $out; /build >> $out 2>&1 || echo $? >> $out" { };
}
