#!/usr/bin/env bash
# Checks what deploy/rocksdb.sh does in good and bad situations, with a compiler that compiles nothing.
# Called by check.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$(mktemp -d "${TMPDIR:-/tmp}/brock-rocksdb.XXXXXX")
trap 'rm -rf "$work"' EXIT
export BROCK_CACHE=$work/cache CXX=$work/compiler REFUSED='' CALLS=$work/calls
unset ROCKSDB_LIB_DIR ROCKSDB_STATIC ROCKSDB_COMPILE CXXFLAGS AR RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET

# Refuses the files that match $REFUSED, and copies the others.
cat >"$CXX" <<'COMPILER'
#!/usr/bin/env bash
case $1 in --version | -dumpmachine) echo a compiler for checks && exit ;; esac
printf 'call\n' >>"$CALLS"
while [ "$1" != -c ]; do shift; done
if [ -n "$REFUSED" ] && [[ $2 == $REFUSED ]]; then
    echo "$2: error: refused" >&2
    exit 1
fi
cp "$2" "$4"
COMPILER
chmod +x "$CXX"

fail() {
    printf '%s\n' "$1" >&2
    cat "$work/said" >&2
    exit 1
}

# library [VARIABLE=VALUE…]: runs the script, which prints a directory.
library() { env "$@" deploy/rocksdb.sh 2>"$work/said"; }

# expect TEXT: in what the script has said.
expect() { grep -qF -- "$1" "$work/said" || fail "the script did not say: $1"; }

calls() { wc -l <"$CALLS"; }

# Two at once build it once.
library >"$work/second" &
first=$(library)
wait "$!"
[ "$first" = "$(cat "$work/second")" ] || fail 'two processes found different libraries'
built=$(calls)
[ "$built" -lt 30 ] || fail "$built calls of the compiler: it was built twice, or in small units"
[ "$(library)" = "$first" ] && [ "$(calls)" -eq "$built" ] || fail 'a library that was there was built again'

# Another option makes another library; the first one stays.
other=$(library CXXFLAGS=-g)
[ "$other" != "$first" ] && [ -s "$first/librocksdb.a" ] || fail 'another option did not make another library'

# A damaged one is replaced.
printf damage >>"$first/librocksdb.a"
[ "$(library)" = "$first" ] || fail 'a damaged library was given up'
expect 'is damaged'
(cd "$first" && sha256sum --check --status sums) || fail 'the damaged library was not replaced'

# A unit that does not compile is compiled file by file.
rm -rf "$first"
[ "$(library REFUSED='*/unit-03.cc')" = "$first" ] || fail 'one unit that does not compile ended it all'
expect 'unit-03 does not compile as one'
[ "$(ar t "$first/librocksdb.a" | wc -l)" -gt 20 ] || fail 'the files of the unit are not in the library'

# ordinary REASON [VARIABLE=VALUE…]: the command runs with the crate's own build, and the script says why.
ordinary() {
    local reason=$1
    shift
    env "$@" deploy/rocksdb.sh sh -c 'test -z "${ROCKSDB_LIB_DIR:-}" && echo ran' >"$work/ran" 2>"$work/said" \
        && grep -qx ran "$work/ran" || fail "the command did not run, or not without the library"
    expect "$reason"
}

# Where there can be no library, and nothing half done is left behind.
rm -rf "$first"
ordinary 'RocksDB does not compile with' REFUSED='*'
[ -z "$(compgen -G "$BROCK_CACHE/rocksdb/build.*")" ] && [ ! -e "$first" ] || fail 'an unfinished library was left behind'
ordinary 'is missing' CXX=no-such-compiler
ordinary 'RUSTFLAGS choose a processor' RUSTFLAGS=-Ctarget-cpu=native
ordinary 'another target' CARGO_BUILD_TARGET=aarch64-unknown-linux-musl
ordinary 'ROCKSDB_COMPILE is set' ROCKSDB_COMPILE=1
ordinary 'cannot write to' BROCK_CACHE=/proc

# What the user has chosen stays.
said=$(ROCKSDB_LIB_DIR=/opt/rocksdb deploy/rocksdb.sh sh -c 'echo "$ROCKSDB_LIB_DIR ${ROCKSDB_STATIC:-}"')
[ "$said" = '/opt/rocksdb ' ] || fail "ROCKSDB_LIB_DIR of the user became '$said'"
