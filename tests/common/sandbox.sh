#!/bin/bash
# Turns a fresh mount, network and PID namespace into a throw-away host, prints its PID as the machine sees
# it, and keeps it until stdin ends. Run as: unshare -n -m -p -u -i -f sandbox.sh
#
# Nothing written to /run, /etc or /var/lib reaches the machine, and no bus or daemon of its can be reached.
set -euo pipefail

read -r pid _ </proc/self/stat # before /proc is our own: the number outside

mount -t proc proc /proc
mount -t sysfs sysfs /sys # /sys/class/net of this network namespace
mount -t tmpfs -o mode=0755 tmpfs /run
mount --make-shared /run # as systemd leaves it on a real host; iproute2's mounts in /run/netns rely on that
mkdir /run/lock
for dir in /etc /var/lib; do
    mkdir -p "/run/.sandbox$dir/upper" "/run/.sandbox$dir/work"
    mount -t overlay -o "lowerdir=$dir,upperdir=/run/.sandbox$dir/upper,workdir=/run/.sandbox$dir/work" overlay "$dir"
done
rm -rf /etc/netns /etc/netns-networkd /var/lib/netns-networkd
rm -rf /etc/systemd/network /etc/systemd/system
mkdir -p /etc/systemd/network /etc/systemd/system
ip link set lo up

echo "$pid"
exec cat >/dev/null
