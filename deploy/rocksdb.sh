#!/usr/bin/env bash
# Compiles RocksDB once for every profile, and runs a cargo command that links it:
#
#   deploy/rocksdb.sh COMMAND…   runs COMMAND with ROCKSDB_LIB_DIR and ROCKSDB_STATIC set
#   deploy/rocksdb.sh            prints the directory of the library
#
# The crate librocksdb-sys carries RocksDB's source and compiles its 342 files one by one, again for each
# profile. This script compiles the same files with the same options in a few large units, which
# takes less than half the time, into $BROCK_CACHE/rocksdb/<version>-<key>/librocksdb.a. The key is made of
# everything that decides what the library is. CRC checksums use the processor's instructions, which
# the crate leaves out; `cpu-features` beside the library lists what it needs, build.rs reads it.
#
# Where the library cannot be built the script says why and runs COMMAND all the same: the crate then
# compiles RocksDB itself.
#
# BROCK_CACHE          where the library is kept (~/.cache/brock)
# CXX, CXXFLAGS, AR    the compiler, more options for it, the archiver
# CARGO_BUILD_JOBS     how many units are compiled at once (one for each core that has the memory)
# ROCKSDB_LIB_DIR, ROCKSDB_COMPILE   are respected: the script then does nothing but run COMMAND
set -euo pipefail
# A relative one is relative to where the script was started.
store=$(realpath -m -- "${BROCK_CACHE:-$HOME/.cache/brock}")/rocksdb
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The options below follow this build script, with these features. After an update of the crate it
# compiles RocksDB itself until the two have been compared and the sum here is the new one.
BUILD_SCRIPT_SHA256=2dbb97b102a2c13f0192ee75a49d4fc0f84fa0692ac9ffc84d364a7a28b472a3
FEATURES=bindgen-runtime,lz4,lz4-sys,static,zstd,zstd-sys

# Fewer units mean less work in all, but more memory and less in parallel. RocksDB keeps its files fit for
# this (`make unity_test` there).
UNITS=8
# What the compiler needs for such a unit at most.
UNIT_MEMORY_MIB=1700

command=("$@")
read -ra compiler <<<"${CXX:-c++}"
archiver=${AR:-ar}
build=''

say() { printf 'rocksdb: %s\n' "$*" >&2; }

clean_up() {
    local process
    # Each job is a process group, so that its compilers end with it.
    for process in $(jobs -p); do kill -- "-$process" 2>/dev/null || true; done
    [ -z "$build" ] || rm -rf "$build"
    build=''
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Replaces this script by the command, or prints the directory where there is no command.
proceed() {
    clean_up
    exec 9>&-
    [ "${#command[@]}" -eq 0 ] || exec "${command[@]}"
    printf '%s\n' "$ROCKSDB_LIB_DIR"
    exit
}

# ordinary REASON: proceeds without the library.
ordinary() {
    say "$1: the crate librocksdb-sys compiles RocksDB itself, which takes more than twice as long"
    [ "${#command[@]}" -gt 0 ] || exit 1
    proceed
}

have() { command -v "$1" >/dev/null 2>&1; }

# What the library would not fit.
check_target() {
    [ "$(uname -s)" = Linux ] || ordinary 'this is not Linux'
    case $(uname -m) in x86_64 | aarch64) ;; *) ordinary "the processor is $(uname -m)" ;; esac
    case " ${CARGO_BUILD_TARGET:+--target } ${command[*]} " in
        *' --target '* | *' --target='*) ordinary 'the build is for another target' ;;
    esac
    case "$(env | grep -E '^CARGO_(BUILD|TARGET_.*)_RUSTFLAGS=' || true)${RUSTFLAGS:-}${CARGO_ENCODED_RUSTFLAGS:-}" in
        *target-cpu* | *target-feature*) ordinary 'RUSTFLAGS choose a processor' ;;
    esac
    case " ${CXXFLAGS:-} ${compiler[*]} " in *' -march='* | *' -mcpu='*) ordinary 'the options of the compiler choose a processor' ;; esac
    local tool
    for tool in cargo rustc "${compiler[0]}" "$archiver"; do have "$tool" || ordinary "$tool is missing"; done
}

# Sets $crate, $lz4 and $zstd to the directories of the sources, and $version.
find_sources() {
    local metadata features host
    host=$(rustc -vV | sed -n 's/^host: //p')
    metadata=$(cargo metadata --locked --format-version 1 --filter-platform "$host" | tr ',' '\n') \
        || ordinary 'cargo metadata failed'
    crate=$(directory_of librocksdb-sys) lz4=$(directory_of lz4-sys) zstd=$(directory_of zstd-sys)
    features=$(cargo tree --locked -e normal -p librocksdb-sys --depth 0 --prefix none -f '{p}|{f}') \
        || ordinary 'cargo tree failed'
    version=${features#* v} version=${version%%|*} features=${features##*|}
    [ "$features" = "$FEATURES" ] || ordinary "librocksdb-sys has the features $features, not $FEATURES"
    sha256sum --check --status <<<"$BUILD_SCRIPT_SHA256  $crate/build.rs" \
        || ordinary "the build script of librocksdb-sys $version is not the one that deploy/rocksdb.sh follows"
}

# directory_of CRATE, from $metadata.
directory_of() { sed -n "s|^\"manifest_path\":\"\(.*/$1-[0-9][^/]*\)/Cargo.toml\".*|\1|p" <<<"$metadata" | head -n1; }

# As the crates librocksdb-sys and cc choose them for the release profile, without warnings. Sets $options, $includes,
# $crc_options, $crc_files and $cpu_features.
choose_options() {
    options=(-O3 -std=c++20 -fPIC -ffunction-sections -fdata-sections -w -include cstdint
        -DNDEBUG=1 -DLZ4=1 -DZSTD=1 -DHAVE_ALIGNED_NEW -DHAVE_UINT128_EXTENSION
        -DOS_LINUX -DROCKSDB_PLATFORM_POSIX -DROCKSDB_LIB_IO_POSIX -DROCKSDB_SCHED_GETCPU_PRESENT
        -DROCKSDB_AUXV_GETAUXVAL_PRESENT -DROCKSDB_FALLOCATE_PRESENT -DROCKSDB_RANGESYNC_PRESENT)
    # shellcheck disable=SC2206 # words on purpose
    options+=(${CXXFLAGS:-})
    # Relative to the crate, so that the paths in messages are as short as the crate's own.
    includes=(-Irocksdb/include -Irocksdb -Irocksdb/third-party/gtest-1.8.1/fused-src
        -I"$lz4/liblz4/lib" -I"$zstd/zstd/lib" -I.)
    case $(uname -m) in
        x86_64)
            crc_files=(util/crc32c.cc) crc_options=(-msse4.2 -mpclmul)
            cpu_features='sse4.2 pclmulqdq'
            ;;
        aarch64)
            # RocksDB asks this processor at run time whether it has them.
            crc_files=(util/crc32c.cc util/crc32c_arm64.cc) crc_options=(-march=armv8-a+crc+crypto)
            cpu_features=''
            ;;
    esac
}

# listed FILE NAME…: whether the file is among the names.
listed() {
    local file=$1 name
    shift
    for name in "$@"; do [ "$name" != "$file" ] || return 0; done
    return 1
}

# Prints a line for each unit: its name, and its files relative to rocksdb/.
plan() {
    local file total lines=0 number=1 unit=()
    total=$(cd "$crate/rocksdb" && sed 's|^util/build_version.cc|../build_version.cc|' ../rocksdb_lib_sources.txt \
        | xargs cat | wc -l)
    while read -r file; do
        # The crate has a finished version of it.
        [ "$file" != util/build_version.cc ] || file=../build_version.cc
        ! listed "$file" "${crc_files[@]}" || continue
        unit+=("$file")
        lines=$((lines + $(wc -l <"$crate/rocksdb/$file")))
        [ "$lines" -ge $((total * number / UNITS)) ] || continue
        printf 'unit-%02d %s\n' "$((number++))" "${unit[*]}"
        unit=()
    done <"$crate/rocksdb_lib_sources.txt"
    [ "${#unit[@]}" -eq 0 ] || printf 'unit-%02d %s\n' "$number" "${unit[*]}"
    for file in "${crc_files[@]}"; do printf '%s %s\n' "$(name_of "$file")" "$file"; done
}

# name_of FILE: without directories, as files of one name are in several.
name_of() { sed 's|^\.\./||; s|\.cc$||; s|/|-|g' <<<"$1"; }

compile() { (cd "$crate" && "${compiler[@]}" "${options[@]}" "${includes[@]}" "$@"); }

# compile_file FILE
compile_file() {
    local more=()
    ! listed "$1" "${crc_files[@]}" || more=("${crc_options[@]}")
    compile "${more[@]}" -c "rocksdb/$1" -o "$build/$(name_of "$1").o"
}

# compile_unit NAME FILE…: in one go; file by file where that fails.
compile_unit() {
    local name=$1 file log=$build/$1.log
    shift
    if [ "$#" -gt 1 ]; then
        printf '#include "%s"\n' "$@" >"$build/$name.cc"
        ! compile -c "$build/$name.cc" -o "$build/$name.o" 2>"$log" || return 0
        say "$name does not compile as one, its $# files follow one by one: $(grep -m1 'error' "$log" || tail -n1 "$log")"
        rm -f "$build/$name.o"
    fi
    for file in "$@"; do compile_file "$file" 2>"$log" || { touch "$build/$name.failed" && return 1; }; done
}

# One for each core that has the memory.
count_jobs() {
    local cores memory
    cores=$(nproc)
    memory=$(($(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo) / 1024 / UNIT_MEMORY_MIB))
    [ "$memory" -ge "$cores" ] || cores=$((memory > 1 ? memory : 1))
    printf '%s\n' "${CARGO_BUILD_JOBS:-$cores}"
}

compile_all() {
    local jobs running=0 unit finished=0 started=$SECONDS
    jobs=$(count_jobs)
    set -m
    say "compiling RocksDB ${version#*+}, ${#units[@]} units, $jobs at once"
    for unit in "${units[@]}" ''; do
        while [ "$running" -ge "$jobs" ] || { [ -z "$unit" ] && [ "$running" -gt 0 ]; }; do
            # Also one that was killed has not compiled its unit.
            wait -n || return 1
            running=$((running - 1)) finished=$((finished + 1))
            say "$finished of ${#units[@]} units, $((SECONDS - started)) s"
        done
        [ -n "$unit" ] || break
        # shellcheck disable=SC2086 # a name and files, without spaces
        compile_unit $unit 9>&- &
        running=$((running + 1))
    done
}

# Complete in $directory, or not there at all.
build_library() {
    local failed library
    build=$(mktemp -d "$store/build.XXXXXX") && library=$build/library && mkdir "$library" \
        || ordinary "cannot write to $store"
    if ! compile_all; then
        failed=$(compgen -G "$build/*.failed" | head -n1) || ordinary 'the compiler was killed'
        head -n 20 "${failed%.failed}.log" >&2
        ordinary "RocksDB does not compile with ${compiler[*]}"
    fi
    "$archiver" crs "$library/librocksdb.a" "$build"/*.o || ordinary "$archiver failed"
    # In one condition: `set -e` would end the script where the command must still run.
    if ! { printf '%s\n' "$cpu_features" >"$library/cpu-features" \
        && printf '%s\n' "$description" >"$library/description" \
        && (cd "$library" && sha256sum librocksdb.a cpu-features description >sums) \
        && rm -rf "$directory" && mv -T "$library" "$directory"; }; then
        ordinary "cannot write to $store"
    fi
}

intact() { [ -d "$directory" ] && (cd "$directory" && sha256sum --check --status sums 2>/dev/null); }

[ -z "${ROCKSDB_LIB_DIR:-}" ] || proceed
case ${ROCKSDB_COMPILE:-} in 1 | [Tt][Rr][Uu][Ee]) ordinary 'ROCKSDB_COMPILE is set' ;; esac
check_target
find_sources
choose_options
mapfile -t units < <(plan)
description=$(
    printf '%s\n' "librocksdb-sys $version" "$(basename "$lz4")" "$(basename "$zstd")"
    printf '%s\n' "$("${compiler[@]}" --version | head -n1)" "$("${compiler[@]}" -dumpmachine)"
    printf '%s\n' "${options[*]}" "${crc_options[*]} ${crc_files[*]}" "${units[@]}"
)
directory=$store/$version-$(sha256sum <<<"$description" | cut -c1-12)
if ! intact; then
    mkdir -p "$store" 2>/dev/null && exec 9>"$store/lock" || ordinary "cannot write to $store"
    if have flock && ! flock --nonblock 9; then
        say 'waiting for the build of RocksDB that another process has begun'
        flock 9
    fi
    if ! intact; then
        [ ! -d "$directory" ] || say "$directory is damaged and is built again"
        # Left behind by a process that was killed: the lock is ours.
        ! have flock || rm -rf "$store"/build.*
        build_library
    fi
fi
export ROCKSDB_LIB_DIR=$directory ROCKSDB_STATIC=1
proceed
