# Process 1 of a demo host: puts its root together, enters it, and ends when its standard input does.
# Arguments: name, root file system (read-only), the host's directory; then pairs of source and target to show read-only.
set -eu
name=$1 lower=$2 dir=$3
shift 3
exec 3<&0 </dev/null
hostname "$name"
ip link set lo up
r=$dir/root
mkdir -p "$dir/upper" "$dir/work" "$r"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" "$r"
# A store, and the builds' directories, need a file system that is not an overlay.
for private in nix var/lib/elsewhere tmp; do
    mkdir -p "$dir/private/$private" "$r/$private"
    mount --bind "$dir/private/$private" "$r/$private"
done
chmod 1777 "$r/tmp"
mkdir -p "$r/.outside"
mount -t proc proc "$r/proc"
mount -t tmpfs -o mode=755,size=64m tmpfs "$r/run"
mount -t tmpfs -o mode=755,size=1m tmpfs "$r/dev"
for device in null zero full random urandom tty; do
    : >"$r/dev/$device"
    mount --bind "/dev/$device" "$r/dev/$device"
done
mkdir "$r/dev/pts" "$r/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$r/dev/pts"
mount -t tmpfs -o mode=1777,size=256m tmpfs "$r/dev/shm"
ln -s pts/ptmx "$r/dev/ptmx"
ln -s /proc/self/fd "$r/dev/fd"
for number in 0 1 2; do ln -s "fd/$number" "$r/dev/$(echo stdin stdout stderr | cut -d ' ' -f "$((number + 1))")"; done
while [ $# -ge 2 ]; do
    if [ -d "$1" ]; then mkdir -p "$r$2"; else mkdir -p "$r${2%/*}" && : >"$r$2"; fi
    mount --bind "$1" "$r$2"
    mount -o remount,bind,ro "$r$2"
    shift 2
done
cd "$r"
pivot_root . .outside
umount -l /.outside
echo ready
cat >/dev/null <&3
