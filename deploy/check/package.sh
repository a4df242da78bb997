#!/usr/bin/env bash
# Makes the packages from binaries that are there, installs the .deb in a fresh Debian that systemd has booted,
# and does there what a new operator does: certificates, the unit, the first record; then an upgrade, and the
# removal. Called by check.sh as root:
#
#   package.sh TOOLS BINARIES   the directory for the cached Debian, the directory of brock and node-admin
set -euo pipefail
tools=$(realpath -m -- "$1") binaries=$(realpath -- "$2")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

SUITE=bookworm
# Besides what every Debian has.
INCLUDE=systemd,systemd-sysv

work=$(mktemp -d "${TMPDIR:-/tmp}/brock-package-check.XXXXXX")
nspawn=''
finish() {
    [ -z "$nspawn" ] || { kill -TERM "$nspawn" && wait "$nspawn"; } 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Fresh each time, from an archive that is made once.
debian() {
    local base root=$work/root
    base=$tools/debian-$SUITE-$(sha256sum <<<"$INCLUDE" | cut -c1-12).tar
    if [ ! -e "$base" ]; then
        printf 'making a Debian %s in %s\n' "$SUITE" "$base"
        debootstrap --variant=minbase --include="$INCLUDE" "$SUITE" "$root" >"$work/debootstrap.log" 2>&1 \
            || fail "debootstrap failed: $(tail -n 5 "$work/debootstrap.log")"
        rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
        mkdir -p "$tools"
        tar --create --directory "$root" --one-file-system --numeric-owner . >"$base.new"
        mv "$base.new" "$base"
        rm -rf "$root"
    fi
    mkdir "$root"
    tar --extract --directory "$root" --numeric-owner --file "$base"
}

# inside COMMAND…: runs it in the booted Debian, as root.
inside() {
    nsenter --target "$init" --mount --uts --ipc --net --pid --root --wd \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 "$@"
}

boot() {
    local command=(systemd-nspawn --quiet --directory="$work/root" --boot --private-network --link-journal=no
        --machine="brock-check-$$" --console=pipe) deadline=$((SECONDS + 60))
    # Where no systemd runs, none can give the container a unit.
    [ -d /run/systemd/system ] || command+=(--register=no --keep-unit)
    "${command[@]}" >"$work/console" 2>&1 </dev/null &
    nspawn=$!
    until init=$(cat "/proc/$nspawn/task/$nspawn/children" 2>/dev/null) && init=${init%% *} && [ -n "$init" ] \
        && inside systemctl is-active --quiet multi-user.target 2>/dev/null; do
        kill -0 "$nspawn" 2>/dev/null && [ "$SECONDS" -lt "$deadline" ] || fail 'Debian did not boot:' "$(tail -n 20 "$work/console")"
        sleep 0.2
    done
}

# The package as an earlier version.
older() {
    dpkg-deb --raw-extract "$1" "$work/older"
    sed -i 's/^Version: .*/Version: 0.0.1-1/' "$work/older/DEBIAN/control"
    dpkg-deb -Zgzip -z1 --build "$work/older" "$2" >/dev/null
    rm -rf "$work/older"
}

BROCK_BINARIES=$binaries CARGO_TARGET_DIR=$work deploy/package.sh
(cd "$work/package" && sha256sum --check --quiet SHA256SUMS) || fail 'the checksums are wrong'
deb=("$work"/package/*.deb) archive=("$work"/package/*.tar.gz) bill=("$work"/package/*.cdx.json)
tar --extract --file "${archive[0]}" --directory "$work"
unpacked=("$work"/brock-*)
"${unpacked[0]}/bin/brock" --version || fail 'the archive has no brock that runs'
python3 - "${bill[0]}" <<'PYTHON' || fail 'the bill of materials is not complete'
import json, sys
bill = json.load(open(sys.argv[1], encoding="utf-8"))
names = {component["name"] for component in bill["components"]}
lacks = {"brock-core", "librocksdb-sys", "tonic", "rustls", "aws-lc-rs"} - names
unlicensed = [component["name"] for component in bill["components"] if not component.get("licenses")]
sys.exit(f"lacks {lacks}" if lacks or len(names) < 200 else f"no licence: {unlicensed}" if unlicensed else 0)
PYTHON

debian
cp "${deb[0]}" "$work/root/root/new.deb"
older "${deb[0]}" "$work/root/root/old.deb"
boot
inside bash -euxs <<'INSIDE' || fail "the last command failed; the unit says:" "$(inside journalctl --no-pager --unit brock --lines 40)"
cd /root
apt_install() { DEBIAN_FRONTEND=noninteractive apt-get --quiet=2 --no-install-recommends install "$@" </dev/null; }
# status_is STATE: of the unit.
status_is() { [ "$(systemctl show --property=ActiveState --value brock)" = "$1" ]; }
apt_install ./old.deb

# Installed, not started: a node without certificates cannot run.
status_is inactive
[ "$(systemctl is-enabled brock)" = disabled ]
[ "$(stat -c '%U:%G %a' /etc/brock/certs)" = 'root:brock 750' ]
[ "$(id -gn brock)" = brock ]
ls /usr/share/man/man1/brock.1.gz /usr/share/man/man1/node-admin-record-put.1.gz /usr/share/doc/brock/copyright \
    /usr/share/doc/brock/third-party-licences.txt.gz /usr/share/bash-completion/completions/node-admin \
    /usr/share/zsh/vendor-completions/_brock /usr/share/fish/vendor_completions.d/brock.fish
grep -q '^ Permission is hereby granted' /usr/share/doc/brock/copyright
bash -c '. /usr/share/bash-completion/completions/brock && complete -p brock'

# One node, as docs/guides/systemd.md sets it up.
brock cert ca --certs-dir ca --ca-key ca.key
for holder in node admin; do install -D -m 0644 ca/ca.crt $holder/ca.crt; done
brock cert node --certs-dir node --ca-key ca.key --node-id node-1 --host localhost --host 127.0.0.1
brock cert admin --certs-dir admin --ca-key ca.key --name operator
install -m 0440 -g brock node/ca.crt node/node.crt node/node.key /etc/brock/certs/
sed -i 's/^join = .*/join = []/' /etc/brock/brock.toml
brock config check --config /etc/brock/brock.toml
systemctl enable --quiet --now brock
status_is active
export NODE_ADMIN_CERTS_DIR=/root/admin NODE_ADMIN_NODE_ADDRESSES=127.0.0.1:20004
KEY=$(head -c 32 /dev/urandom | sha256sum | cut -c1-64)
echo '{"encrypted_access_grant": "aGVsbG8="}' | node-admin record put "$KEY"
node-admin record show "$KEY" --local
# What takes an operator's signature.
node-admin --output json status | grep -q '"mode": *"distributed"'
node-admin record delete "$(printf gone | sha256sum | cut -c1-64)" --ahead --yes

# The user's, and no one else's: not its data, and not its memory.
pid=$(systemctl show --property=MainPID --value brock)
[ "$(stat -c %U /proc/$pid)" = brock ]
[ "$(stat -c %U /proc/$pid/environ)" = root ]
[ "$(stat -c '%U %a' /var/lib/brock)" = 'brock 700' ]
grep -q 'Max core file size *0 *0 ' /proc/$pid/limits
systemctl reload brock
brock health
exec 3<>/dev/tcp/127.0.0.1/20005
printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&3
grep '^process_open_fds [1-9]' <&3

# An upgrade restarts the node, and keeps its settings and its records.
apt_install ./new.deb
status_is active
[ "$(systemctl show --property=MainPID --value brock)" != "$pid" ]
grep -qxF 'join = []' /etc/brock/brock.toml
node-admin record show "$KEY" --local

# What is removed, and what stays.
apt-get --quiet=2 --yes purge brock
status_is inactive
[ ! -e /usr/bin/brock ] && [ ! -e /etc/brock/brock.toml ] && [ ! -e /etc/systemd/system/multi-user.target.wants/brock.service ]
[ -s /etc/brock/certs/node.key ] && [ -e /var/lib/brock/node/superblock.json ] && id brock
apt_install ./new.deb
sed -i 's/^join = .*/join = []/' /etc/brock/brock.toml
systemctl start brock
node-admin record show "$KEY" --local
systemctl stop brock
status_is inactive
INSIDE
