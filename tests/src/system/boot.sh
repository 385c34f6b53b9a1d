# Runs as the first process of new namespaces. $1: an empty folder, where the root of the new machine is made.
set -eu
base=$1
mount --make-rprivate /
mount -t tmpfs -o mode=0755 gmpscope-test "$base"
mkdir "$base/upper" "$base/work" "$base/root"
mount -t overlay -o "lowerdir=/,upperdir=$base/upper,workdir=$base/work" overlay "$base/root"
cd "$base/root"
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs run
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs tmp
mount -t tmpfs -o mode=0755,nosuid tmpfs dev
for node in null zero full random urandom tty; do
    : > "dev/$node"
    mount --bind "/dev/$node" "dev/$node"
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for stream in 0:stdin 1:stdout 2:stderr; do
    ln -s "/proc/self/fd/${stream%:*}" "dev/${stream#*:}"
done
# Each hierarchy of the host begins, in the new cgroup namespace, at the group that was made for this machine.
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
else
    mount -t tmpfs -o mode=0755,nosuid,nodev,noexec tmpfs sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
    for controller in cpu cpuacct memory pids; do
        mkdir "sys/fs/cgroup/$controller"
        mount -t cgroup -o "$controller" cgroup "sys/fs/cgroup/$controller" || rmdir "sys/fs/cgroup/$controller"
    done
fi
# Only what is needed is started, whatever the host has installed.
: > etc/machine-id
rm -rf etc/systemd/system/*.wants etc/fstab
cat > etc/systemd/system/test-machine.target <<'UNIT'
[Unit]
Description=As much of a machine as the tests need
Wants=systemd-journald.service
After=systemd-journald.service
UNIT
# Debian's scripts ask whether they may start a service; in an image that is being built the answer is no.
rm -f usr/sbin/policy-rc.d
mkdir oldroot
pivot_root . oldroot
cd /
umount -l oldroot
rmdir oldroot
exec env -i container=other LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=test-machine.target --show-status=no
