#!/usr/bin/env bash
# Makes the packages of this version for this machine's architecture, in $CARGO_TARGET_DIR/package:
#
#   brock_VERSION-1_ARCH.deb             for Debian and Ubuntu: binaries, unit, user, completions, manual pages
#   brock-VERSION-ARCH-linux-gnu.tar.gz  the same files for other systems
#   brock-VERSION.cdx.json               the software bill of materials (CycloneDX)
#   SHA256SUMS                           the checksums of these three
#
# BROCK_BINARIES   a directory with brock and node-admin to package, instead of a release build
#
# Called by `make package`, which installs what it needs, and by deploy/check/package.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

CARGO_DEB_VERSION=3.8.0
CARGO_CYCLONEDX_VERSION=0.5.9

cache=$(realpath -m -- "${BROCK_CACHE:-$HOME/.cache/brock}")
target=$(realpath -m -- "${CARGO_TARGET_DIR:-$cache/target}")
out=$target/package

fail() {
    printf 'package: %s\n' "$@" >&2
    exit 1
}

# tool NAME VERSION: installs it into the cache unless it is there; sets $tool.
tool() {
    local place=$cache/tools/$1-$2
    tool=$place/bin/$1
    [ ! -x "$tool" ] || return 0
    printf 'compiling %s %s into %s\n' "$1" "$2" "$place"
    CARGO_TARGET_DIR=$work/tool cargo install --quiet --locked --version "$2" --root "$place" "$1" </dev/null \
        || fail "cargo could not install $1 $2"
    rm -rf "$work/tool"
}

command -v dpkg-shlibdeps >/dev/null || fail 'dpkg-shlibdeps is missing: install dpkg-dev (make package does)'
version=$(sed -n '/^\[workspace.package\]/,/^$/s/^version = "\(.*\)"/\1/p' Cargo.toml)
# Files are as old as the last commit, so that the same commit makes the same packages.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
work=$(mktemp -d "${TMPDIR:-/tmp}/brock-package.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
tool cargo-deb "$CARGO_DEB_VERSION"
cargo_deb=$tool
tool cargo-cyclonedx "$CARGO_CYCLONEDX_VERSION"
cargo_cyclonedx=$tool

effort=9 compression=()
if [ -n "${BROCK_BINARIES:-}" ]; then
    binaries=$(realpath -- "$BROCK_BINARIES")
    # For a try: larger, and made in seconds.
    effort=1 compression=(--fast --compress-type gz --compress-system)
else
    binaries=$target/release
    deploy/rocksdb.sh cargo build --locked --release --bins
fi

# cargo-deb takes this for the directory of a build. Hard links would keep the time of the original.
stage=$work/stage/release
share=$stage/share
doc=$share/doc/brock
mkdir -p "$stage" "$share/man/man1" "$share/bash-completion/completions" "$share/zsh/vendor-completions" \
    "$share/fish/vendor_completions.d" "$doc"
for name in brock node-admin; do
    # The names of functions stay, for the backtrace of a crash.
    strip --strip-debug -o "$stage/$name" "$binaries/$name"
    "$stage/$name" completion bash >"$share/bash-completion/completions/$name"
    "$stage/$name" completion zsh >"$share/zsh/vendor-completions/_$name"
    "$stage/$name" completion fish >"$share/fish/vendor_completions.d/$name.fish"
    "$stage/$name" man --dir "$share/man/man1" 2>/dev/null
done
gzip -9n "$share"/man/man1/*
# In Debian's format: the text follows its heading, indented.
{ cat deploy/package/copyright && tail -n +5 LICENSE-MIT | sed 's/^$/./; s/^/ /'; } >"$stage/copyright"
cp README.md "$doc/"
gzip -9n <docs/CHANGELOG.md >"$doc/changelog.gz"
# Debian's own, of which this package needs one entry.
maintainer=$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' Cargo.toml)
printf 'brock (%s-1) unstable; urgency=medium\n\n  * Version %s; changelog.gz lists the changes.\n\n -- %s  %s\n' \
    "$version" "$version" "$maintainer" "$(LC_ALL=C date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.Debian.gz"
deploy/package/third-party.sh | gzip -9n >"$doc/third-party-licences.txt.gz"

# The dependencies of the binaries, without what only the build needs.
manifests=$work/manifests
mkdir -p "$manifests"
cp --parents Cargo.toml Cargo.lock src/*/Cargo.toml "$manifests/"
deploy/package/skeleton.sh "$manifests"
"$cargo_cyclonedx" cyclonedx --quiet --quiet --manifest-path "$manifests/Cargo.toml" --format json --spec-version 1.5 \
    --no-build-deps --override-filename bill
rm -rf "$out"
mkdir -p "$out"
# Without the place of the build.
sed "s|path+file://$manifests|path+file:///brock|g" "$manifests/bill.json" >"$out/brock-$version.cdx.json"
cp "$out/brock-$version.cdx.json" "$doc/brock.cdx.json"

arguments=(--no-build --no-strip --locked --package brock --output "$out/" "${compression[@]}")
CARGO_TARGET_DIR=$work/stage "$cargo_deb" "${arguments[@]}" >"$work/log" 2>&1 || fail 'cargo-deb failed:' "$(cat "$work/log")"

name=brock-$version-$(uname -m)-linux-gnu
mkdir -p "$work/$name/bin" "$work/$name/etc/brock" "$work/$name/lib/systemd/system" "$work/$name/lib/sysusers.d"
mv "$stage/brock" "$stage/node-admin" "$work/$name/bin/"
mv "$share" "$work/$name/"
cp LICENSE-MIT LICENSE-APACHE README.md "$work/$name/"
cp deploy/systemd/brock.toml "$work/$name/etc/brock/"
cp deploy/systemd/brock.service "$work/$name/lib/systemd/system/"
cp deploy/systemd/brock.sysusers "$work/$name/lib/sysusers.d/brock.conf"
tar --create --directory "$work" --sort=name --owner=0 --group=0 --numeric-owner --mode=u+w,go+rX,go-w \
    --mtime="@$SOURCE_DATE_EPOCH" "$name" | gzip -n "-$effort" >"$out/$name.tar.gz"

(cd "$out" && sha256sum -- *.deb *.tar.gz *.cdx.json >SHA256SUMS)
printf 'Made in %s:\n' "$out"
cat "$out/SHA256SUMS"
