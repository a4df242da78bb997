#!/usr/bin/env bash
# Measures a build from nothing: an empty registry of crates, no library of RocksDB, an empty directory for
# the build. Packages of the system and the Rust toolchain stay as they are.
#
#   deploy/first-build.sh make demo
#   deploy/first-build.sh make demo -- make test          the second one after the first
#   deploy/first-build.sh cargo build --package brock-client --release
#
# Prints for each command how long it took and what processor time that was: on a machine that is
# shared, only the latter can be compared.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ "$#" -gt 0 ] || { printf 'usage: first-build.sh COMMAND… [-- COMMAND…]\n' >&2 && exit 2; }

work=$(mktemp -d "${FIRST_BUILD_DIR:-${TMPDIR:-/tmp}}/brock-first.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export CARGO_HOME=$work/cargo BROCK_CACHE=$work/cache CARGO_TARGET_DIR=$work/target
unset ROCKSDB_LIB_DIR ROCKSDB_STATIC

measure() {
    printf '\n%s: from %s, load average %s\n' "$*" "$(date -u +%T)" "$(cut -d' ' -f1-3 /proc/loadavg)" >>"$work/figures"
    TIMEFORMAT='  %0lR, processor time %0lU + %0lS'
    { time "$@" </dev/null >&3 2>&4; } 3>&1 4>&2 2>>"$work/figures"
}

command=()
for word in "$@" --; do
    if [ "$word" != -- ]; then
        command+=("$word")
        continue
    fi
    measure "${command[@]}"
    command=()
done
cat "$work/figures"
