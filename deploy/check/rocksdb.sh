#!/usr/bin/env bash
# Checks what deploy/rocksdb.sh does in good and bad situations, with a compiler that compiles nothing.
# Called by check.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
work=$(mktemp -d "${TMPDIR:-/tmp}/brock-rocksdb.XXXXXX")
trap 'rm -rf "$work"' EXIT
export BROCK_CACHE=$work/cache CXX=$work/compiler REFUSED='' CALLS=$work/calls
unset ROCKSDB_LIB_DIR ROCKSDB_STATIC ROCKSDB_COMPILE CXXFLAGS AR RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET

# Refuses the files that match $REFUSED, and copies the others: what a unit includes is then in the library.
cat >"$CXX" <<'COMPILER'
#!/usr/bin/env bash
case $1 in --version | -dumpmachine) echo "a compiler for checks ${EDITION:-}" && exit ;; esac
printf '%s\n' "$*" >>"$CALLS"
sleep "${SLEEP:-0}"
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
units=$(grep -c -- '-c .*unit-[0-9]*\.cc' "$CALLS")
[ "$units" -eq 8 ] && [ "$built" -le 10 ] || fail "$built calls of the compiler: it was built twice, or in small units"
[ "$(grep -c -- '-O3' "$CALLS")" -eq "$built" ] || fail 'a file was compiled without -O3'

# It has every file of the crate's list once, and the one with instructions of its own.
crate=$(cargo metadata --locked --format-version 1 | tr ',' '\n' \
    | sed -n 's|^"manifest_path":"\(.*/librocksdb-sys-[0-9][^/]*\)/Cargo.toml".*|\1|p')
ar p "$first/librocksdb.a" | sed -n 's|^#include "\([a-z_./0-9]*\.cc\)"$|\1|p' | sed 's|^\.\./|util/|' | sort >"$work/has"
own='^util/crc32c\.cc$'
[ "$(uname -m)" = x86_64 ] || own='^util/crc32c(_arm64)?\.cc$'
grep -Ev "$own" "$crate/rocksdb_lib_sources.txt" | sort >"$work/wanted"
diff "$work/wanted" "$work/has" >"$work/said" || fail 'the library has other files than the crate lists'
ar t "$first/librocksdb.a" | grep -qx util-crc32c.o || fail 'the library lacks the checksums'
if [ "$(uname -m)" = x86_64 ]; then
    grep -- '-msse4.2 -mpclmul .*util/crc32c.cc' "$CALLS" >"$work/said" || fail 'the checksums use no instructions of the processor'
    grep -qx 'sse4.2 pclmulqdq' "$first/cpu-features" || fail 'what the library needs of the processor is not listed'
fi

# The command gets the library, and its exit code is the script's.
code=0
deploy/rocksdb.sh sh -c 'echo "$ROCKSDB_LIB_DIR $ROCKSDB_STATIC"; exit 7' >"$work/ran" 2>"$work/said" || code=$?
[ "$code" -eq 7 ] && [ "$(cat "$work/ran")" = "$first 1" ] || fail "the command ended with $code, or without the library"
[ "$(library)" = "$first" ] && [ "$(calls)" -eq "$built" ] || fail 'a library that was there was built again'

# Another option makes another library; the first one stays.
other=$(library CXXFLAGS=-g)
[ "$other" != "$first" ] && [ -s "$first/librocksdb.a" ] || fail 'another option did not make another library'

[ "$(library EDITION=2)" != "$first" ] || fail 'another compiler did not make another library'

# A relative cache is relative to the caller.
(cd "$work" && BROCK_CACHE=cache "$OLDPWD/deploy/rocksdb.sh" 2>"$work/said") | grep -qx "$first" || fail 'a relative cache was elsewhere'

# What a killed build has left is removed; no incomplete library is kept.
rm -rf "$first"
SLEEP=60 setsid deploy/rocksdb.sh >/dev/null 2>&1 &
until compgen -G "$BROCK_CACHE/rocksdb/build.*/unit-*.cc" >/dev/null; do sleep 0.05; done
kill -9 -- "-$!"
[ "$(library)" = "$first" ] || fail 'after a build that was killed there is no library'
[ -z "$(compgen -G "$BROCK_CACHE/rocksdb/build.*")" ] || fail 'what a killed build left is still there'

# A damaged one is replaced.
printf damage >>"$first/librocksdb.a"
[ "$(library)" = "$first" ] || fail 'a damaged library was given up'
expect 'is damaged'
(cd "$first" && sha256sum --check --status sums) || fail 'the damaged library was not replaced'

# A unit that does not compile is compiled file by file.
rm -rf "$first"
[ "$(library REFUSED='*/unit-03.cc')" = "$first" ] || fail 'one unit that does not compile ended it all'
expect 'unit-03 does not compile as one'
files=$(ar t "$first/librocksdb.a" | wc -l)
third=$(grep -c . <(sed -n 's/^unit-03 //p' "$first/description" | tr ' ' '\n'))
[ "$files" -eq $((built - 1 + third)) ] || fail "$files files are in the library, of which unit-03 has $third"

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
ordinary 'RUSTFLAGS choose a processor' CARGO_BUILD_RUSTFLAGS=-Ctarget-cpu=native
ordinary 'the options of the compiler choose a processor' CXXFLAGS=-march=native
ordinary 'another target' CARGO_BUILD_TARGET=aarch64-unknown-linux-musl
ordinary 'ROCKSDB_COMPILE is set' ROCKSDB_COMPILE=1
ordinary 'cannot write to' BROCK_CACHE=/proc

# A crate that was updated, or is used otherwise, has not been compared with the script.
mkdir "$work/bin"
cat >"$work/bin/cargo" <<CARGO
#!/usr/bin/env bash
case \$1 in
    tree) $(command -v cargo) "\$@" | sed "s/lz4-sys/\${FEATURE:-lz4-sys}/" ;;
    metadata) $(command -v cargo) "\$@" | sed "s|$crate|\${CRATE:-$crate}|g" ;;
    *) exit 1 ;;
esac
CARGO
chmod +x "$work/bin/cargo"
mkdir -p "$work/librocksdb-sys-9" && printf '// changed\n' >"$work/librocksdb-sys-9/build.rs"
ordinary 'has the features' PATH="$work/bin:$PATH" FEATURE=snappy
ordinary 'is not the one that deploy/rocksdb.sh follows' PATH="$work/bin:$PATH" CRATE="$work/librocksdb-sys-9"

# What the user has chosen stays.
said=$(ROCKSDB_LIB_DIR=/opt/rocksdb deploy/rocksdb.sh sh -c 'echo "$ROCKSDB_LIB_DIR ${ROCKSDB_STATIC:-}"')
[ "$said" = '/opt/rocksdb ' ] || fail "ROCKSDB_LIB_DIR of the user became '$said'"
