#!/bin/bash
# Test hosts: booted Debian systems in containers, for the Rust harness and for tests/demo.sh.
#
#   host.sh setup              installs what building and testing need, with apt
#   host.sh rootfs SUITE       builds SUITE's root file system unless it is cached; prints its path
#   host.sh boot NAME SUITE    boots a throw-away host; prints the PID of its init
#   host.sh reboot NAME        restarts it: what is not on its disk is gone
#   host.sh exec NAME CMD...   runs CMD in it, with a clean environment and CMD's exit code
#   host.sh stop NAME          removes it; fine if there is none
#   host.sh guard              reads host names from stdin and stops those hosts at end of file
#
# A host is an overlay on the cached root file system. All its state is under $STATE/NAME, a tmpfs, and all
# its processes are in a cgroup of its own. NETNS_TEST_OWNER is the PID that a host dies with: once that is
# gone, the next boot of any host removes this one. NETNS_TEST_SEED is a folder laid over the root before the boot.
# NETNS_TEST_DISK is a folder for what the host writes, for who measures fsync(2), which costs a tmpfs nothing.
set -euo pipefail
shopt -s nullglob

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
CACHE=${NETNS_TEST_CACHE:-/var/cache/netns-networkd-tests}
STATE=/run/netns-networkd-tests
BOOT_SECONDS=90

say() { echo "host.sh: $*" >&2; }
die() { say "$*"; exit 1; }

need_root() { ((EUID == 0)) || die "not root: run this as root (sudo make ...)"; }

# --- what the machine needs ------------------------------------------------------------------------------

# command:package, in Debian 12 and 13
TOOLS=(
    systemd-nspawn:systemd-container mmdebstrap:mmdebstrap nft:nftables ip:iproute2 ping:iputils-ping
    curl:curl cc:gcc make:make ps:procps flock:util-linux strace:strace perl:perl-base man:man-db groff:groff-base
)

setup() {
    need_root
    local tool missing=()
    for tool in "${TOOLS[@]}"; do
        command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
    done
    [[ -e /usr/share/keyrings/debian-archive-keyring.gpg ]] || missing+=(debian-archive-keyring)
    # cc alone is not enough to link
    [[ -e /usr/include/stdio.h ]] || missing+=(libc6-dev)
    apt_install "${missing[@]}"
    setup_vm
    setup_rust
    check_machine
    need_space "${CARGO_TARGET_DIR:-$REPO/target}" 1000 CARGO_TARGET_DIR
}

apt_install() {
    (($#)) || return 0
    command -v apt-get >/dev/null || die "no apt-get here: install $* by hand, or use Debian 12 or 13"
    say "installing $*"
    local log
    log=$(mktemp)
    # An unrelated broken repository must not stop us; the install says whether it mattered.
    apt-get -qq update >"$log" 2>&1 || say "apt-get update failed, going on with the package lists there are"
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 \
        install "$@" >>"$log" 2>&1 </dev/null || {
        tail -n 20 "$log" >&2
        die "cannot install $*: look at apt's messages above, all of them are in $log (no network?)"
    }
    rm -f "$log"
}

# Everything else works without it, so its absence is not the end: vm:: tests then say that they were skipped.
setup_vm() {
    "$REPO/tests/common/vm.sh" check 2>/dev/null ||
        (apt_install qemu-system-x86 e2fsprogs) || say "no virtual machine here: going on without its tests"
}

rust_is_new_enough() {
    local have
    have=$(cargo --version 2>/dev/null | cut -d' ' -f2) && at_least "$have" "$1"
}
at_least() { [[ $(printf '%s\n' "$2" "$1" | sort -V | head -n1) == "$2" ]]; }

setup_rust() {
    local want candidate
    want=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$REPO/Cargo.toml")
    rust_is_new_enough "$want" && return
    command -v apt-cache >/dev/null || die "Rust $want or newer is missing: install it from https://rustup.rs"
    candidate=$(apt-cache policy cargo | sed -n 's/^ *Candidate: //p')
    if at_least "${candidate:-0}" "$want"; then
        apt_install cargo rustc
    elif apt-cache policy rustup | grep -q 'Candidate: [0-9]'; then
        apt_install rustup
        rustup -q default stable >&2 ||
            die "cannot download Rust: look at rustup's message above (no network?), then run 'rustup default stable'"
    fi
    rust_is_new_enough "$want" ||
        die "Rust $want or newer is missing and this Debian has ${candidate:-none}: install it from https://rustup.rs"
}

# Says what is wrong before anything is built; each test is cheap.
check_machine() {
    need_root
    local tool
    for tool in "${TOOLS[@]}"; do
        case ${tool%%:*} in cc | make | curl | nft | ping | strace | perl | man | groff) continue ;; esac # not needed to run a host
        command -v "${tool%%:*}" >/dev/null ||
            die "${tool%%:*} is missing: apt-get install ${tool##*:} (or $0 setup)"
    done
    [[ -e $CGROUPS/cgroup.procs ]] ||
        die "no cgroup v2 hierarchy under /sys/fs/cgroup: mount one, or boot without systemd.unified_cgroup_hierarchy=0"
    unshare -n -m -p -f true 2>/dev/null ||
        die "cannot create namespaces: in a container, give it full privileges (docker run --privileged)"
    unshare -n sh -c 'ip link add type bridge && ip link add type veth' 2>/dev/null ||
        die "this kernel cannot create bridge and veth links: modprobe bridge veth"
}

need_space() { # DIR MEGABYTES VARIABLE
    local dir=$1 free
    until [[ -d $dir ]]; do dir=$(dirname "$dir"); done
    free=$(df -Pm "$dir" | awk 'NR == 2 { print $4 }')
    ((free >= $2)) || die "only $free MB free on the disk of $dir, $2 MB needed: make room, or set $3 to a folder on another disk"
}

# --- the root file system --------------------------------------------------------------------------------

PACKAGES=systemd,systemd-sysv,dbus,iproute2,iputils-ping,curl,nginx-light,lighttpd,python3-minimal,nftables,procps,netcat-openbsd,dhcpcd-base,dnsmasq-base
# Not installed, for they would take links: a test that wants them has dpkg unpack what is in $DEBS.
LATER=(ifupdown bridge-utils)
DEBS=/usr/local/share/debs

# $PACKAGES and the functions below are the recipe: a change of any rebuilds every root file system.
# Valid-Until: a mirror that stands still, as build machines often have, is good enough; signatures are checked.
make_rootfs() { # SUITE DIR MIRROR
    mmdebstrap --mode=root --variant=minbase --include="$PACKAGES" \
        --aptopt='Acquire::Check-Valid-Until "false"' --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook="chroot \"\$1\" apt-get clean" \
        --customize-hook="chroot \"\$1\" apt-get -qq -y --no-install-recommends --download-only install ${LATER[*]}" \
        --customize-hook="mkdir -p \"\$1$DEBS\" && cp \"\$1\"/var/cache/apt/archives/*.deb \"\$1$DEBS\"" \
        "$1" "$2" "$3"
}

customize_rootfs() { # DIR
    chroot "$1" systemctl -q enable systemd-networkd
    # Tests and the demo decide when these start.
    chroot "$1" systemctl -q disable nginx lighttpd
    # What would reach for the machine, or use its time.
    chroot "$1" systemctl -q mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer \
        systemd-pstore.service sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount \
        console-getty.service getty.target

    # mmdebstrap copied the machine's.
    rm -f "$1/etc/hostname"
    : >"$1/etc/machine-id"
    # Not reachable: there is no default route, so a lookup fails at once.
    echo 'nameserver 192.0.2.53' >"$1/etc/resolv.conf"

    # An uplink as any server has one, or network-online.target, which nginx wants, waits for two minutes.
    # Its other end is `lan`, the wire, and nobody's. In /usr/lib: /etc/systemd/network stays empty.
    cat >"$1/usr/lib/systemd/network/20-test-uplink.netdev" <<-EOF
	[NetDev]
	Name=eno1
	Kind=veth
	[Peer]
	Name=lan
	EOF
    cat >"$1/usr/lib/systemd/network/20-test-uplink.network" <<-EOF
	[Match]
	Name=eno1
	[Network]
	Address=198.51.100.2/24
	Address=2001:db8:ffff::2/64
	IPv6AcceptRA=no
	EOF
    cat >"$1/usr/lib/systemd/network/20-test-lan.network" <<-EOF
	[Match]
	Name=lan
	[Link]
	RequiredForOnline=no
	[Network]
	LinkLocalAddressing=no
	IPv6AcceptRA=no
	EOF
}

recipe_hash() {
    { echo "$PACKAGES ${LATER[*]} $DEBS"; declare -f make_rootfs customize_rootfs; } | sha256sum | cut -c1-12
}

# The mirror this machine uses itself; apt parses both kinds of sources.list for us.
mirror() {
    local uri
    # shellcheck disable=SC2016 # apt's own variables
    uri=$(apt-get indextargets --format '$(LABEL) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk '$1 == "Debian" && $2 == "main" { print $3; exit }') || true
    echo "${uri:-http://deb.debian.org/debian}"
}

rootfs() { # SUITE
    local suite=$1 target tmp lock log
    case $suite in bookworm | trixie | sid) ;; *) die "no such suite: $suite (bookworm, trixie, sid)" ;; esac
    target=$CACHE/$suite-$(recipe_hash)
    [[ $suite != sid ]] || target+=-$(date +%G%V) # it moves: a new one each week
    if [[ ! -d $target ]]; then
        check_machine
        mkdir -p "$CACHE" 2>/dev/null || die "cannot create $CACHE: set NETNS_TEST_CACHE to a folder that can be written"
        need_space "$CACHE" 700 NETNS_TEST_CACHE
        exec {lock}>"$CACHE/$suite.lock"
        flock -n "$lock" || { say "another run builds $suite, waiting for it"; flock "$lock"; }
    fi
    if [[ ! -d $target ]]; then
        rm -rf --one-file-system "$CACHE/.build-$suite".* # of a build that was killed
        tmp=$(mktemp -d "$CACHE/.build-$suite.XXXXXX") log=$CACHE/$suite.log
        chmod 0755 "$tmp"
        say "building a Debian $suite root file system (once; about 20 s)"
        if ! { make_rootfs "$suite" "$tmp" "$(mirror)" && customize_rootfs "$tmp"; } >"$log" 2>&1 </dev/null; then
            tail -n 20 "$log" >&2
            rm -rf --one-file-system "$tmp"
            explain "$log" "$suite"
        fi
        mv -T "$tmp" "$target"
        remove_old_rootfs "$suite" "$target"
    fi
    [[ -z ${lock:-} ]] || exec {lock}>&-
    echo "$target"
}

explain() { # LOG SUITE
    local why="look at mmdebstrap's messages above, all of them are in $1"
    case $(<"$1") in
    *'No space left'* | *'enough free space'*) why="the disk is full: make room, or set NETNS_TEST_CACHE to another disk" ;;
    *NO_PUBKEY* | *'is not signed'*) why="this machine lacks $2's signing key: apt-get install debian-archive-keyring" ;;
    *'Failed to fetch'* | *'Could not resolve'* | *'Temporary failure'* | *'Unable to connect'* | *'Could not connect'*)
        why="the mirror $(mirror) does not answer: is there a network?" ;;
    esac
    die "cannot build the $2 root file system: $why"
}

remove_old_rootfs() { # SUITE CURRENT
    local old
    for old in "$CACHE/$1-"*; do
        # another checkout's host may stand on it
        [[ $old == "$2" ]] || grep -qF "lowerdir=$old," /proc/self/mountinfo || rm -rf --one-file-system "$old"
    done
}

# --- a host ----------------------------------------------------------------------------------------------

CGROUPS=/sys/fs/cgroup
[[ ! -d $CGROUPS/unified ]] || CGROUPS=$CGROUPS/unified

# Two containers in one cgroup would share the one systemd makes below it, and each would kill the other's
# services, so every host gets its own, below ours where that can be seen.
own_cgroup() { # NAME
    local path
    path=$(sed -n 's/^0:://p' /proc/self/cgroup)
    [[ $path != /..* && -d $CGROUPS$path ]] || path=
    echo "${path%/}/netns-networkd-test-$1"
}

# Every booted systemd takes about ten inotify instances, and root on all hosts together has 128; without one, path units and
# mounts fail at boot. Only ever raised.
raise_limits() {
    local limit=/proc/sys/fs/inotify/max_user_instances
    (($(<$limit) >= 4096)) || echo 4096 >$limit || true
}

boot() { # NAME SUITE
    local name=$1 dir=$STATE/$1 lower
    [[ $name =~ ^[a-z][a-z0-9-]{0,50}$ ]] || die "not a host name: $name"
    check_machine
    lower=$(rootfs "$2")
    remove_stale
    stop "$name"
    raise_limits

    # shellcheck disable=SC2064 # now: it is local
    trap "boot_failed $name" EXIT
    mkdir -p "$dir"
    if [[ -n ${NETNS_TEST_DISK:-} ]]; then
        mount --bind "$NETNS_TEST_DISK" "$dir"
    else
        mount -t tmpfs -o size=1G,mode=0755 netns-networkd-test "$dir"
    fi
    echo "${NETNS_TEST_OWNER:-}" >"$dir/owner"
    mkdir "$dir/upper" "$dir/work" "$dir/root"
    mount -t overlay -o "lowerdir=$lower,upperdir=$dir/upper,workdir=$dir/work" netns-networkd-test "$dir/root" ||
        die "cannot mount an overlay: does this kernel have overlayfs (modprobe overlay)?"
    echo "$name" >"$dir/root/etc/hostname"
    printf '%s\n' '127.0.0.1 localhost' "127.0.1.1 $name" '::1 localhost' >"$dir/root/etc/hosts"
    tr -d - </proc/sys/kernel/random/uuid >"$dir/root/etc/machine-id"
    [[ -z ${NETNS_TEST_SEED:-} ]] || cp -a "$NETNS_TEST_SEED/." "$dir/root"

    own_cgroup "$name" >"$dir/cgroup"
    mkdir "$CGROUPS$(<"$dir/cgroup")"
    power_on "$name"
    trap - EXIT
    cat "$dir/init"
}

# nspawn ends where its container restarts, and has somebody else start it again.
reboot() { # NAME
    need_root
    exec_in "$1" systemctl reboot || true # it may take us with it
    local nspawn deadline=$((SECONDS + BOOT_SECONDS))
    nspawn=$(<"$STATE/$1/nspawn")
    while kill -0 "$nspawn" 2>/dev/null; do
        ((SECONDS < deadline)) || die "host $1 does not shut down: look at $STATE/$1/console"
        sleep 0.05
    done
    remove_mounts_of_nspawn "$1"
    power_on "$1"
}

power_on() { # NAME
    local name=$1 dir=$STATE/$1 nspawn init='' state='' deadline=$((SECONDS + BOOT_SECONDS))
    (
        echo "$BASHPID" >"$CGROUPS$(<"$dir/cgroup")/cgroup.procs"
        # A session of its own: Ctrl-C is for whoever started us, and they stop the host in good order.
        # Never the machine's clock or modules, whatever else a host may do.
        exec env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 SYSTEMD_NSPAWN_LOCK=0 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network \
            setsid systemd-nspawn -D "$dir/root" --boot --private-network --register=no --keep-unit -M "$name" \
            --console=pipe --capability=all --drop-capability=CAP_SYS_TIME,CAP_SYS_MODULE --link-journal=no \
            --resolv-conf=off --timezone=off
    ) </dev/null >"$dir/console" 2>&1 &
    nspawn=$!
    echo "$nspawn" >"$dir/nspawn"
    disown # no "Killed" from bash when it is

    while true; do
        kill -0 "$nspawn" 2>/dev/null || die "systemd-nspawn ended before host $name was up"
        ((SECONDS < deadline)) || die "host $name did not boot within $BOOT_SECONDS s${state:+ ($state)}"
        if [[ -z $init ]]; then
            init=$(find_init "$nspawn")
        else
            # before its PID 1 listens this fails at once, after that it waits for us
            state=$(enter "$init" timeout $((deadline - SECONDS + 1)) systemctl is-system-running --wait 2>/dev/null) || true
            case $state in
            running) break ;;
            degraded)
                say "host $name booted with failed units: $(enter "$init" systemctl --failed --plain --no-legend | cut -d' ' -f1 | xargs)"
                break ;;
            esac
        fi
        sleep 0.05
    done
    echo "$init" >"$dir/init"
}

# nspawn's child, once it is systemd: before that it may still stand on the machine's own files.
find_init() { # NSPAWN
    local pid
    for pid in $(ps -o pid= --ppid "$1"); do
        case $(readlink "/proc/$pid/exe") in */systemd/systemd) echo "$pid" ;; esac
    done
}

boot_failed() { # NAME
    say "host $1 failed to boot; the end of its console:"
    tail -n 40 "$STATE/$1/console" >&2 || true
    stop "$1"
}

enter() { # PID CMD...
    local pid=$1
    shift
    nsenter -t "$pid" -a -- /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" "$@"
}

exec_in() { # NAME CMD...
    local name=$1 pid
    shift
    pid=$(cat "$STATE/$name/init" 2>/dev/null) || die "no host $name"
    # The PID may be another's by now; entering that would run CMD on the machine itself.
    grep -qs "netns-networkd-test-$name/payload" "/proc/$pid/cgroup" || die "host $name is not running"
    enter "$pid" "$@"
}

stop() { # NAME
    local name=$1 dir=$STATE/$1 cgroup deadline=$((SECONDS + 10)) v1 mount
    [[ -n $name && $name != */* ]] || die "not a host name: $name"
    cgroup=$(cat "$dir/cgroup" 2>/dev/null) || cgroup=$(own_cgroup "$name")
    if [[ -d $CGROUPS$cgroup ]]; then
        # All of them at once and by cgroup, never by a PID that may be another's. Needs Linux 5.14.
        echo 1 >"$CGROUPS$cgroup/cgroup.kill"
        # The last process takes a moment to go, and rmdir is EBUSY until it is gone.
        while ! find "$CGROUPS$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null; do
            [[ -d $CGROUPS$cgroup ]] || break
            ((SECONDS < deadline)) || die "processes of host $name do not end: look at $CGROUPS$cgroup"
            sleep 0.02
        done
        # on a machine with cgroup v1, nspawn makes its groups there too
        for v1 in /sys/fs/cgroup/*"$cgroup"; do
            find "$v1" -depth -type d -exec rmdir {} + 2>/dev/null || true
        done
    fi
    remove_mounts_of_nspawn "$name"
    [[ -d $dir ]] || return 0
    # Another stop may be at it too: what counts is that it is gone.
    for mount in "$dir/root" "$dir"; do
        ! mountpoint -q "$mount" || umount "$mount" 2>/dev/null || umount -l "$mount" 2>/dev/null || true
    done
    rmdir "$dir" "$STATE" 2>/dev/null || true
    [[ ! -d $dir ]] || die "cannot remove host $name: look at what uses $dir"
}

# What nspawn leaves when it is killed; from systemd 256 on it refuses to start while the second is there.
remove_mounts_of_nspawn() { # NAME
    local mount
    for mount in /run/systemd/nspawn/{propagate,unix-export}/"$1"; do
        umount -l "$mount" 2>/dev/null || true
        rmdir "$mount" 2>/dev/null || true
    done
}

remove_stale() {
    local file owner name
    for file in "$STATE"/*/owner; do
        owner=$(cat "$file" 2>/dev/null) || continue
        name=$(basename "${file%/owner}")
        [[ -z $owner || -d /proc/$owner ]] || { say "removing host $name, left by a run that was killed"; stop "$name"; }
    done
}

# The runner holds the other end of stdin, so this ends whenever the runner does, however it does.
guard() {
    trap '' INT TERM HUP
    local name names=()
    while read -r name; do names+=("$name"); done
    for name in "${names[@]}"; do (stop "$name") || true; done
}

usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; }

main() {
    case ${1:-} in
    setup) setup ;;
    rootfs) rootfs "${2:?SUITE}" ;;
    boot) boot "${2:?NAME}" "${3:?SUITE}" ;;
    reboot) reboot "${2:?NAME}" ;;
    exec) exec_in "${2:?NAME}" "${@:3}" ;;
    stop) need_root; stop "${2:?NAME}" ;;
    guard) guard ;;
    *) usage >&2; exit 2 ;;
    esac
    # bash reads a script as it goes: an edit during a test run must not be read
    exit
}
[[ ${BASH_SOURCE[0]} != "$0" ]] || main "$@" # vm.sh takes the functions
