# What a processor and its emulation show: the same facts for a native build are the machine's own.
l: with l; {
  processor = covers "H2.machine" facts "processor" { };
  processorSteered = covers "H2.steering" facts "processor" { QEMU_CPU = "max"; QEMU_STRACE = "1"; QEMU_LD_PREFIX = "/nix"; QEMU_LOG = "in_asm"; };
  steeringIsVisible = covers "H2.steering" facts "environ" { QEMU_CPU = "max"; QEMU_STRACE = "1"; QEMU_GUEST_BASE = "x"; };
  steeringChildren = covers "H2.steering" shell ''
    export QEMU_STRACE=1 QEMU_CPU=neoverse-n1 QEMU_LOG_FILENAME=/build/log
    ${probe} processor > /build/own 2> /build/errors
    env -u out ${probe} processor > /build/facts 2>> /build/errors
    cat /build/facts /build/errors > $out
    ls /build >> $out
  '' { };
  nothingOfTheEmulator = covers "H2.machine" shell ''
    {
      find / -xdev -iname '*qemu*' 2> /dev/null || true
      find /proc/sys/fs -iname '*binfmt*' -o -iname '*qemu*' 2> /dev/null || true
      ls -a / /dev
      ls -a /proc/sys/fs/binfmt_misc 2>&1 || true
      readlink /proc/self/exe
      awk 'NF > 5 { print $6 }' /proc/self/maps | sort -u | grep -v '^\[' || true
      cat /proc/self/cmdline | tr '\0' ' '
      env | grep -i qemu || echo none
    } > $out
  '' { };
  machine = covers "H2.machine" shell "uname -m > $out; cat /proc/sys/kernel/arch >> $out 2>&1 || true; arch >> $out" { };
  executeOnly = covers "H2.execute" shell ''
    cp ${busybox}/bin/busybox /build/echo
    chmod 111 /build/echo
    /build/echo executed > $out
  '' { };
  multiCall = covers "H2.execute" shell ''
    cp ${busybox}/bin/busybox /build/busybox
    ln -s busybox /build/basename
    /build/basename /a/b/c > $out
    (exec -a dirname /build/busybox /a/b/c) >> $out 2>&1 || echo $? >> $out
  '' { };
  interpreterScript = covers "H2.execute H2.faults" shell ''
    cp ${script} /build/script
    cd /build; PATH=$PATH:/build
    ./script >> $out 2>&1 || echo $? >> $out
    (sh -c 'kill -SEGV $$') >> $out 2>&1 || echo $? >> $out
    (sh -c 'kill -ABRT $$') >> $out 2>&1 || echo $? >> $out
    (${probe} crash) >> $out 2>&1 || echo $? >> $out
    ls /build >> $out
  '' { };
}
