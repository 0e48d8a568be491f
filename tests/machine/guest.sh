# What the virtual machine does, in parts that begin with a line `=== NAME`; `rc NUMBER` is how a command ended.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root USER=root
cd /opt/test || exit 1
part() {
    echo
    echo "=== $1"
}
build() {
    # Not to a terminal: it would be drawn on.
    timeout 600 elsewhere --config /etc/elsewhere/client.toml build --no-out-link --log cases.nix -A "$1" >/run/build.$1 2>&1
    end=$?
    cat /run/build.$1
    echo "rc $end"
}
wait_for() { # what, seconds, command
    what=$1 left=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { echo "waited too long for $what"; return 1; }
        sleep 1
    done
}
service=/sys/fs/cgroup/system.slice/elsewhere-executor.service
begun() { grep -q begun "$1"; }

part host
uname -r
insmod /lib/binfmt_misc.ko && mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc && /lib/systemd/systemd-binfmt
grep -e interpreter -e flags /proc/sys/fs/binfmt_misc/qemu-aarch64
stat -f -c %T /sys/fs/cgroup

part start
nix-daemon --daemon >/run/nix-daemon.log 2>&1 &
systemctl start elsewhere-coordinator elsewhere-executor
wait_for executor 180 grep -q 'executor started' /run/executor.log
grep -e offered -e withheld /run/executor.log
systemctl show elsewhere-executor -p User -p Delegate -p ProtectSystem -p OOMPolicy -p CapabilityBoundingSet
grep -e '^Uid' -e '^CapEff' /proc/$(systemctl show -P MainPID elsewhere-executor)/status

part measured
build measured

part limits
build sleeper &
wait_for sleeper 120 begun /run/build.sleeper
for file in memory.max memory.swap.max memory.oom.group pids.max cpu.weight; do
    echo "$file $(cat $service/build-*/$file)"
done
echo "inside $(cat $service/build-*/cgroup.procs | wc -l) outside $(cat $service/executor/cgroup.procs | wc -l)"
wait %2

for bomb in bombMemory bombFiles bombChild; do
    part $bomb
    build innocent$bomb >/dev/null &
    innocent=$!
    wait_for innocent 120 begun /run/build.innocent$bomb
    build $bomb
    part "$bomb innocent"
    wait $innocent
    cat /run/build.innocent$bomb
done

part bombForks
build bombForks

part plain
build plain
echo "left $(ls -d $service/build-* 2>/dev/null | wc -l)"

part emulated
build emulated
part faults
build faults

part usage
grep 'the builder ended' /run/executor.log

part reported
grep reported /run/coordinator.log

part restart
systemctl kill -s KILL elsewhere-executor
wait_for restart 120 sh -c '[ "$(grep -c "executor started" /run/executor.log)" = 2 ]'
grep -c 'measured by cgroup v2, limited to' /run/executor.log
build again

for unit in self-test-delegated self-test-plain; do
    part $unit
    systemctl start $unit
    echo "rc $?"
    cat /run/$unit.log
done

part stop
systemctl stop elsewhere-executor
ls -d $service 2>&1
ps -eo uid= | awk '$1 >= 100000' | wc -l

part end
