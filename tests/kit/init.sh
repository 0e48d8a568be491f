# Process 1 of a test host: puts its file systems together, makes them its root, and ends when its standard input does.
# Arguments: name, root file system (read-only), the host's directory, more overlay options. Input: one line, when all is ready.
# The host's directory: upper/ work/ root/, binds (lines "source target ro|rw"), binfmt (rules to register, may be missing).
set -eu
name=$1 lower=$2 dir=$3 options=$4
exec 3<&0 </dev/null
read -r _ <&3
hostname "$name"
ip link set lo up
r=$dir/root
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work$options" "$r"
mkdir -p "$r/.outside" "$r/proc" "$r/sys" "$r/run" "$r/dev"
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
ln -s fd/0 "$r/dev/stdin"
ln -s fd/1 "$r/dev/stdout"
ln -s fd/2 "$r/dev/stderr"
while read -r source target access; do
    if [ -d "$source" ]; then mkdir -p "$r$target"; else mkdir -p "${r}${target%/*}" && : >>"$r$target"; fi
    mount --bind "$source" "$r$target"
    if [ "$access" = ro ]; then mount -o remount,bind,ro "$r$target"; fi
done <"$dir/binds"
cd "$r"
pivot_root . .outside
# Interpreters are named as this host sees them: builds see those names.
if [ -e "/.outside/$dir/binfmt" ]; then
    mkdir /run/binfmt
    mount -t binfmt_misc binfmt_misc /run/binfmt
    while read -r rule; do printf '%s' "$rule" >/run/binfmt/register; done <"/.outside/$dir/binfmt"
fi
umount -l /.outside
echo ready
cat >/dev/null <&3 &
wait $!
