#!/bin/bash
# make demo: two web servers on one host, both on port 80, each at its own addresses, from nine lines of TOML.
#
# The host is Debian trixie in a container, made for this and thrown away. This machine only gets the packages
# that host.sh setup names. BIN=path takes a binary that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."

HOST_SH=tests/common/host.sh
NAME=demo-$$
export NETNS_TEST_OWNER=$$
STEPS=8
step=0 title='' bold='' plain='' booted=''
[[ ! -t 1 ]] || bold=$'\e[1m' plain=$'\e[0m'

step() {
    step=$((step + 1)) title=$*
    echo
    echo "${bold}[$step/$STEPS] $title$plain"
}

host() { "$HOST_SH" exec "$NAME" "$@"; }

# Runs a command on the host the way a reader of this could, and shows it.
show() {
    echo "${bold}demo# $*$plain"
    host bash -euo pipefail -c "$*"
}

finish() {
    local code=$?
    trap '' INT TERM
    if ((code == 130)); then
        echo 'interrupted' >&2
    elif ((code != 0)); then
        echo >&2
        echo "The demo failed in step $step of $STEPS: $title" >&2
        [[ -z $booted ]] || {
            echo "What the host's journal says:" >&2
            host journalctl -b -n 25 --no-pager -o cat >&2 || true
        }
    fi
    "$HOST_SH" stop "$NAME" || true
    exit "$code"
}

((EUID == 0)) || { echo 'make demo needs root, for the container: sudo make demo' >&2; exit 1; }
trap finish EXIT
trap 'exit 130' INT TERM

step 'What this machine needs'
"$HOST_SH" setup
echo 'all there'

step 'Building'
if [[ -z ${BIN:-} ]]; then
    make build || { echo 'make build failed: look at the messages above (no network for the crates?)' >&2; exit 1; }
    BIN=${CARGO_TARGET_DIR:-target}/release/netns-networkd
fi
ls -lh "$BIN"
SECONDS=0

step 'Booting a throw-away Debian trixie host'
"$HOST_SH" boot "$NAME" trixie >/dev/null
booted=yes
show 'systemctl --version | head -n 1; systemctl is-active systemd-networkd'

step 'Installing on it: make install'
make -s install PREFIX=/usr DESTDIR="/run/netns-networkd-tests/$NAME/root" BIN="$BIN"
show 'systemctl daemon-reload; netns-networkd --version'

step 'One file, and netns-networkd sync'
host sh -c 'mkdir -p /etc/netns-networkd; cat >/etc/netns-networkd/demo.toml' <<'EOF'
[bridge.br-demo]
addresses = ["10.80.0.1/24", "fd80::1/64"]

[namespace.web]
services = ["nginx.service"]
interface.eth0 = { bridge = "br-demo", addresses = ["10.80.0.2/24", "fd80::2/64"] }

[namespace.wiki]
services = ["lighttpd.service"]
interface.eth0 = { bridge = "br-demo", addresses = ["10.80.0.3/24", "fd80::3/64"] }
EOF
show cat /etc/netns-networkd/demo.toml
show netns-networkd sync

step 'Starting nginx and lighttpd, and fetching a page from each'
show systemctl start nginx lighttpd
# lighttpd counts as started before it listens
for url in http://10.80.0.2/ 'http://[fd80::2]/' http://10.80.0.3/ 'http://[fd80::3]/'; do
    show "curl -gsS --retry 5 --retry-connrefused $url | grep -o '<title>.*</title>'"
done

step 'What is where'
show ip netns list
show 'ip -n web -br address; ip -n wiki -br address'
show ip -br link show master br-demo
show "systemctl list-units --no-legend --plain 'netns@*' nginx.service lighttpd.service"
for netns in web wiki; do
    show "ps -o pid=,args= -p \"\$(ip netns pids $netns | paste -sd,)\""
done
# the exit code of status is about drift
! host netns-networkd status --help >/dev/null 2>&1 || show 'netns-networkd status || true'

step 'A namespace goes with its last service'
show systemctl stop nginx lighttpd
# systemd stops netns@ after it has answered
# shellcheck disable=SC2016
host timeout 20 bash -c 'while [[ $(ip netns list) ]]; do sleep 0.1; done' || title='web and wiki are still there'
show 'ip netns list; ip -br link show master br-demo'
[[ -z $(host ip netns list) ]]
echo '(nothing left)'

echo
echo "${bold}Done in $SECONDS s after the build; the host is thrown away.$plain"
