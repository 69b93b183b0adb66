#!/bin/bash
# The virtual machine: Debian trixie with a kernel, udev and network cards of its own, emulated where there is no KVM.
# For what a container cannot show: VLANs, link types, .link files, names that udev gives, a real reboot.
#
#   vm.sh check                says whether this machine can run it, and if not, why
#   vm.sh image                builds kernel and disk unless they are cached; prints their folder
#   vm.sh boot NAME            boots a throw-away virtual machine, some 15 s
#   vm.sh guest NAME SUITE     boots a host of SUITE in a container there; prints the PID of its init in NAME
#   vm.sh exec NAME CMD...     runs CMD in it, with a clean environment and CMD's exit code; waits for a reboot
#   vm.sh reboot NAME          reboots it, and waits until it is up again
#   vm.sh console NAME         prints what it wrote to its console
#   vm.sh stop NAME            removes it; fine if there is none
#
# host.sh's guard, owner and seed (laid over the root once, before the first boot) are for it, too: to them it is another
# host. NETNS_TEST_ACCEL=kvm makes it fast where KVM works; nobody has tested that.
#
# A guest is a host as host.sh has them, for another systemd on the kernel of the virtual machine, in place of a second machine.
# Those of the suites in NETNS_TEST_GUESTS can be booted. It has ens4 and ens5, too, the two ends of a pair.
#
# Three network cards, all on one wire that leads nowhere else: ens3 is the uplink with an address, ens4 and ens5 are
# nobody's.
set -euo pipefail

# shellcheck source=tests/common/host.sh
source "$(dirname "${BASH_SOURCE[0]}")/host.sh"
CACHE=$CACHE/vm
CHANNEL=$REPO/tests/common/channel.pl
BOOT_SECONDS=600 # emulated, on a machine that runs other tests: many times what it takes alone

say() { echo "vm.sh: $*" >&2; }

check() {
    need_root
    [[ $(uname -m) == x86_64 ]] || die "the virtual machine's Debian is for x86_64, this machine is $(uname -m)"
    local tool
    for tool in qemu-system-x86_64:qemu-system-x86 mkfs.ext4:e2fsprogs; do
        command -v "${tool%%:*}" >/dev/null || die "${tool%%:*} is missing: apt-get install ${tool##*:} (or tests/common/host.sh setup)"
    done
}

# --- kernel and disk: host.sh's way to a root file system, with another recipe ---------------------------

PACKAGES=systemd,systemd-sysv,dbus,udev,linux-image-cloud-amd64,iproute2,iputils-ping,python3-minimal,nftables,procps
PACKAGES+=,wireguard-tools,dnsmasq-base,dhcpcd-base,systemd-container

# ext4 and NVMe are in the kernel, so that it boots without an initrd.
make_rootfs() { # SUITE DIR MIRROR
    INITRD=No mmdebstrap --mode=root --variant=minbase --include="$PACKAGES" \
        --aptopt='Acquire::Check-Valid-Until "false"' --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$1" "$2/root" "$3"
}

customize_rootfs() { # DIR
    local dir=$1 root=$1/root
    chroot "$root" systemctl -q enable systemd-networkd
    # What would use its time, at every boot.
    chroot "$root" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer \
        systemd-pstore.service sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount dev-mqueue.mount \
        getty.target serial-getty@ttyS0.service modprobe@drm.service
    rm -f "$root/etc/hostname"
    : >"$root/etc/machine-id"
    echo 'nameserver 192.0.2.53' >"$root/etc/resolv.conf"
    mkdir -p "$root/var/log/journal" # that of the boot before is there after a reboot

    cat >"$root/usr/lib/systemd/network/20-test-uplink.network" <<-EOF
	[Match]
	Name=ens3
	[Network]
	Address=198.51.100.2/24
	Address=2001:db8:ffff::2/64
	IPv6AcceptRA=no
	EOF
    cat >"$root/usr/lib/systemd/network/20-test-spare.network" <<-EOF
	[Match]
	Name=ens4 ens5
	[Link]
	Unmanaged=yes
	EOF

    # There from the start of a boot to its end, whatever else is stopped.
    install -m755 "$CHANNEL" "$root/usr/lib/channel.pl"
    cat >"$root/usr/lib/systemd/system/channel.service" <<-EOF
	[Unit]
	DefaultDependencies=no
	IgnoreOnIsolate=yes
	[Service]
	ExecStart=/usr/lib/channel.pl serve /dev/vport0p1
	Environment=TMPDIR=/run HOME=/root LANG=C.UTF-8 TERM=dumb
	UnsetEnvironment=INVOCATION_ID JOURNAL_STREAM SYSTEMD_EXEC_PID
	KillMode=process
	Restart=always
	EOF
    mkdir -p "$root/usr/lib/systemd/system/sysinit.target.wants"
    ln -s ../channel.service "$root/usr/lib/systemd/system/sysinit.target.wants/"
    # What the kernel starts first: only the first boot of a disk finds it unseeded.
    cat >"$root/usr/lib/seed-init" <<-'EOF'
	#!/bin/sh
	[ -e /var/lib/seeded ] || {
	    modprobe virtio_blk && mount -t devtmpfs devtmpfs /dev && tar -xf /dev/vda -C / && touch /var/lib/seeded
	    umount /dev
	}
	exec /sbin/init
	EOF
    chmod +x "$root/usr/lib/seed-init"

    mv "$root"/boot/vmlinuz-* "$dir/vmlinuz"
    truncate -s 2G "$dir/disk"
    mkfs.ext4 -q -F -d "$root" "$dir/disk"
    rm -rf --one-file-system "$root"
}

recipe_hash() {
    { echo "$PACKAGES"; declare -f make_rootfs customize_rootfs; cat "$CHANNEL"; } | sha256sum | cut -c1-12
}

image() { check; rootfs trixie; }

# A test host's root file system as a disk, beside the one that it was made from.
guest_disk() { # SUITE
    local from disk
    from=$("$REPO/tests/common/host.sh" rootfs "$1")
    disk=$CACHE/guest-${from##*/}
    if [[ ! -e $disk ]]; then
        rm -f "$CACHE/guest-$1-"*
        truncate -s 1G "$disk.$$"
        mkfs.ext4 -q -F -d "$from" "$disk.$$"
        mv "$disk.$$" "$disk"
    fi
    echo "$disk"
}

# --- a virtual machine -----------------------------------------------------------------------------------

boot() { # NAME
    local name=$1 dir=$STATE/$1 image cgroup n guest disk devices=()
    [[ $name =~ ^[a-z][a-z0-9-]{0,50}$ ]] || die "not a name: $name"
    image=$(image)
    remove_stale
    stop "$name"

    trap 'boot_failed "$name"' EXIT
    mkdir -p "$dir"
    mount -t tmpfs -o size=2G,mode=0755 netns-networkd-test "$dir"
    echo "${NETNS_TEST_OWNER:-}" >"$dir/owner"
    mkdir "$dir/seed"
    [[ -z ${NETNS_TEST_SEED:-} ]] || cp -a "$NETNS_TEST_SEED/." "$dir/seed"
    mkdir -p "$dir/seed/etc"
    echo "$name" >"$dir/seed/etc/hostname"
    printf '%s\n' '127.0.0.1 localhost' "127.0.1.1 $name" '::1 localhost' >"$dir/seed/etc/hosts"
    tr -d - </proc/sys/kernel/random/uuid >"$dir/seed/etc/machine-id"
    tar -C "$dir/seed" --owner=0 --group=0 -cf "$dir/seed.tar" .
    rm -rf "$dir/seed"

    n=8
    for guest in ${NETNS_TEST_GUESTS:-}; do
        disk=$(guest_disk "$guest")
        devices+=(-drive "file=$disk,if=none,id=$guest,format=raw,snapshot=on" -device "virtio-blk-pci,drive=$guest,serial=$guest,addr=$n")
        n=$((n + 1))
    done
    for n in 3 4 5; do
        devices+=(-netdev "hubport,id=net$n,hubid=0" -device "virtio-net-pci,netdev=net$n,addr=$n,mac=52:54:00:00:00:0$n,romfile=")
    done
    # A wire that takes every frame, as one with a switch at its end does: cards that are all down make the hub wait.
    devices+=(-netdev "dgram,id=wire,local.type=unix,local.path=$dir/wire,remote.type=unix,remote.path=$dir/nobody"
        -netdev "hubport,id=end,hubid=0,netdev=wire")
    cgroup=$(own_cgroup "$name")
    echo "$cgroup" >"$dir/cgroup"
    mkdir "$CGROUPS$cgroup"
    # A session of its own, as in host.sh. What it writes to its disk goes to a file in TMPDIR that has no name.
    # One processor: with two emulated at once the kernel, which rewrites its own code, now and then dies of an int3. An
    # old one: fewer features, fewer modules. nice: one thread, which all other tests' many would starve.
    TMPDIR=$dir nice -n -10 setsid qemu-system-x86_64 -nodefaults -no-user-config -display none -m 1024 -smp 1 -cpu Nehalem \
        -accel "${NETNS_TEST_ACCEL:-tcg}" "${devices[@]}" -kernel "$image/vmlinuz" \
        -append 'root=/dev/nvme0n1 rw init=/usr/lib/seed-init console=ttyS0 mitigations=off systemd.condition_needs_update=no' \
        -drive "file=$image/disk,if=none,id=disk,format=raw,snapshot=on" -device nvme,drive=disk,serial=disk,addr=6 \
        -drive "file=$dir/seed.tar,if=virtio,format=raw,read-only=on" \
        -chardev "socket,id=channel,path=$dir/channel,server=on,wait=off" -device virtio-serial-pci,addr=2 \
        -device virtserialport,chardev=channel,nr=1 -serial "file:$dir/console" </dev/null >"$dir/qemu" 2>&1 &
    echo $! >"$CGROUPS$cgroup/cgroup.procs"
    disown # no "Killed" from bash when it is
    wait_booted "$name"
    trap - EXIT
}

is_running() { grep -qsx 'populated 1' "$CGROUPS$(cat "$STATE/$1/cgroup" 2>/dev/null)/cgroup.events"; }

# A command that finds nobody at the other end of the channel waits, so each try is cut off.
wait_booted() { # NAME [BOOT-ID]
    local name=$1 state='' deadline=$((SECONDS + BOOT_SECONDS))
    while true; do
        is_running "$name" || die "qemu ended before $name was up: $(<"$STATE/$name/qemu")"
        ! grep -qas 'Kernel panic' "$STATE/$name/console" || die "the kernel of $name panicked"
        ((SECONDS < deadline)) || die "$name did not boot within $BOOT_SECONDS s${state:+ ($state)}"
        # shellcheck disable=SC2016 # for the other shell
        state=$(timeout 60 "$CHANNEL" ask "$STATE/$name/channel" sh -c \
            'grep -qsx "$0" /proc/sys/kernel/random/boot_id || systemctl is-system-running --wait' "${2:-}" 2>/dev/null) || true
        # no part of the boot: udev may still be at work on cards that nothing waits for
        [[ ! $state ]] || timeout 60 "$CHANNEL" ask "$STATE/$name/channel" sh -c \
            'for card in ens3 ens4 ens5; do until test -e /sys/class/net/$card; do sleep 0.1; done; done'
        case $state in
        running) return ;;
        degraded)
            say "$name booted with failed units: $(exec_in "$name" systemctl --failed --plain --no-legend | cut -d' ' -f1 | xargs)"
            return ;;
        esac
        sleep 0.1
    done
}

exec_in() { # NAME CMD...
    is_running "$1" || die "no virtual machine $1"
    "$CHANNEL" ask "$STATE/$1/channel" "${@:2}"
}

# Always a fresh one. The seed is the virtual machine's own.
guest() { # NAME SUITE
    # shellcheck disable=SC2016 # for the other shell
    timeout $BOOT_SECONDS "$CHANNEL" ask "$STATE/$1/channel" bash -euc '
        suite=$0 root=/run/guests/$0
        systemctl stop guest-$suite 2>/dev/null || true
        mkdir -p $root
        mountpoint -q $root || mount /dev/disk/by-id/virtio-$suite $root
        tar -xf /dev/vda -C $root
        systemd-run --quiet --collect --unit=guest-$suite -p Delegate=yes -p KillMode=mixed -E SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 \
            -E SYSTEMD_NSPAWN_LOCK=0 -E SYSTEMD_NSPAWN_API_VFS_WRITABLE=network systemd-nspawn -D $root --boot --volatile=overlay \
            --private-network --register=no --keep-unit -M $suite --console=pipe --capability=all --link-journal=no \
            --drop-capability=CAP_SYS_TIME,CAP_SYS_MODULE --resolv-conf=off --timezone=off
        nspawn=$(systemctl show -P MainPID guest-$suite)
        until init=$(pgrep -P $nspawn -x systemd); do kill -0 $nspawn; sleep 0.1; done
        until [[ $(nsenter -t $init -a systemctl is-system-running --wait 2>/dev/null) =~ ^(running|degraded)$ ]]; do
            kill -0 $init
            sleep 0.1
        done
        nsenter -t $init -a ip link add ens4 type veth peer name ens5
        echo $init' "$2"
}

reboot() { # NAME
    local id
    id=$(exec_in "$1" cat /proc/sys/kernel/random/boot_id)
    exec_in "$1" systemctl --no-block reboot
    wait_booted "$1" "$id"
}

main() {
    case ${1:-} in
    check) check ;;
    image) image ;;
    boot) boot "${2:?NAME}" </dev/null ;;
    guest) guest "${2:?NAME}" "${3:?SUITE}" </dev/null ;;
    exec) exec_in "${2:?NAME}" "${@:3}" ;;
    reboot) reboot "${2:?NAME}" </dev/null ;;
    console) cat "$STATE/${2:?NAME}/console" ;;
    stop) need_root; stop "${2:?NAME}" ;;
    *) usage >&2; exit 2 ;;
    esac
    exit
}
main "$@"
