#!/usr/bin/env bash
# Measures Brock on this machine, beside redis-server over mutual TLS and a bare fdatasync in the
# same run, and prints a Markdown table. Data goes to stdout, progress to stderr. Exit code 1 when
# something could not be measured; a figure that was missed is in the table. Called by `make bench`.
#
# BENCH_SECONDS  how long each measurement takes (10)
# BENCH_RECORDS  how many records the catch-up and the start are measured with (1000000)
# BENCH_PARTS    core, lifecycle, backup, trust, or all (all)
# BENCH_TRUST_RECORDS the same for what signatures cost (200000)
# BENCH_BINARIES a directory with binaries to measure, instead of building optimised ones
# BENCH_DIR      where data is written; a real disk, not tmpfs (~/.cache/brock/bench)
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=deploy/bench-backup.sh disable=SC1091
for part in backup trust; do . "$(dirname "${BASH_SOURCE[0]}")/bench-$part.sh"; done

seconds=${BENCH_SECONDS:-10}
records=${BENCH_RECORDS:-1000000}
parts=${BENCH_PARTS:-all}
base=${BENCH_DIR:-$HOME/.cache/brock/bench}
mkdir -p "$base"
work=$(mktemp -d "$base/run.XXXXXX")
declare -A running=() value=() pid=() port=() http=() admin_certs=()
rows=()
failures=0
load_before=$(cut -d' ' -f1-3 /proc/loadavg)

finish() {
    local status=$? process
    trap - EXIT INT TERM
    for process in "${!running[@]}"; do stop "$process" 5; done
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '%s\n' "$*" >&2; }

# calculate EXPRESSION: Python arithmetic on numbers.
calculate() { python3 -c "print($1)"; }
now() { date +%s.%N; }

# field NAME FILE: a field of a JSON object.
field() { python3 -c 'import json, sys; print(json.load(open(sys.argv[2]))[sys.argv[1]])' "$1" "$2"; }

# grouped NUMBER: without decimals, thousands apart.
grouped() { calculate "format($1, ',.0f')"; }

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# row WHAT MEASURED BESIDE WANTED MET: MET is a Python condition, or empty when nothing is wanted.
row() {
    local verdict=''
    [ -z "$5" ] || verdict=$(calculate "'yes' if $5 else '**no**'")
    rows+=("| $1 | $2 | $3 | $4 | $verdict |")
    say "  $1: $2${3:+ ($3)}"
}

# ratio ROW-NAME KEY REDIS-KEY TIMES: a row of operations a second beside redis-server's.
ratio() {
    local ours=${value[$2]} theirs=${value[$3]:-}
    if [ -z "$theirs" ]; then
        row "$1" "$(grouped "$ours")/s" 'redis-server not measured' "$4 ×" ''
        return
    fi
    row "$1" "$(grouped "$ours")/s" \
        "redis $(grouped "$theirs")/s, ratio $(calculate "format($ours / $theirs, '.2f')")" "≥ $4 ×" "$ours >= $4 * $theirs"
}

# measure NAME COMMAND…: goes on after a failure, and remembers it. Not under `set -e`: each step
# of a measurement says itself what happens when it fails.
measure() {
    local name=$1
    shift
    say "$name"
    if ! "$@"; then
        say "  FAILED: $name"
        # The log written to last.
        find "$work" -name '*.log' -printf '%T@ %p\n' | sort -rn | head -n1 | cut -d' ' -f2- | xargs -r tail -n 5 >&2
        rows+=("| $name | could not be measured | | | **no** |")
        failures=$((failures + 1))
    fi
}

# ---------------------------------------------------------------- building and certificates

# The release profile, as in production.
build() {
    if [ -n "${BENCH_BINARIES:-}" ]; then
        brock=$BENCH_BINARIES/brock admin=$BENCH_BINARIES/node-admin
        return
    fi
    say 'building Brock with the release profile'
    CARGO_TARGET_DIR=$target deploy/rocksdb.sh cargo build --locked --release --bins >&2
    # Copies: no other build replaces them while they run.
    mkdir "$work/bin"
    cp "$target/release/brock" "$target/release/node-admin" "$work/bin/"
    brock=$work/bin/brock admin=$work/bin/node-admin
}

make_certificates() {
    "$brock" cert ca --certs-dir "$work/ca" --ca-key "$work/ca-key/ca.key" >&2
    local id
    for id in a b c d redis; do
        mkdir "$work/certs-$id"
        cp "$work/ca/ca.crt" "$work/certs-$id/"
        "$brock" cert node --certs-dir "$work/certs-$id" --ca-key "$work/ca-key/ca.key" \
            --node-id "$id" --host 127.0.0.1 --host localhost >&2
    done
    mkdir "$work/admin"
    cp "$work/ca/ca.crt" "$work/admin/"
    "$brock" cert admin --certs-dir "$work/admin" --ca-key "$work/ca-key/ca.key" --name bench >&2
}

# ---------------------------------------------------------------- nodes

# start_node ID JOIN [FLAG…]: the node's certificates, ports and directory follow from its id.
start_node() { begin_node "$@" && wait_ready "$1"; }

# Does not wait until it is ready.
begin_node() {
    local id=$1 join=$2
    shift 2
    : "${port[$id]:=$(free_port)}" "${http[$id]:=$(free_port)}"
    start "$work/$id.log" "$brock" run --node.id "$id" --node.path "$work/data-$id" \
        --node.address "127.0.0.1:${port[$id]}" --node.certs-dir "$work/certs-$id" \
        --http.address "127.0.0.1:${http[$id]}" ${join:+--node.join "$join"} "$@"
    pid[$id]=$started
    running[$started]=yes
}

# Polls /readyz every 5 ms for up to a minute, in one process so that little is added to the time.
wait_ready() {
    python3 - "${http[$1]}" <<'PYTHON' || { say "node $1 did not become ready"; return 1; }
import sys, time, urllib.request
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/readyz", timeout=1)
        sys.exit(0)
    except OSError:
        time.sleep(0.005)
sys.exit(1)
PYTHON
}

stop_process() {
    stop "${pid[$1]}" 30
    unset "running[${pid[$1]}]"
}

# ask ID COMMAND…: asks a node; every call is bounded.
ask() {
    local id=$1
    shift
    timeout $((seconds + 120)) "$admin" --certs-dir "${admin_certs[$id]:-$work/admin}" --node-addresses "127.0.0.1:${port[$id]}" \
        -o json "$@"
}

# bench KEY FIELD ID ARGUMENT…: runs node-admin bench, keeps one field of what it says.
bench() {
    local key=$1 name=$2 id=$3 errors
    shift 3
    ask "$id" bench "$@" >"$work/result.json" || return
    value[$key]=$(field "$name" "$work/result.json") || return
    errors=$(field errors "$work/result.json") || return
    [ "$errors" = 0 ] || { say "  $errors errors"; return 1; }
}

# How many operations a node has applied, all origins together.
applied() {
    ask "$1" status >"$work/status-$1.json" \
        && python3 -c 'import json, sys; print(sum(json.load(open(sys.argv[1]))["clocks"].values()))' "$work/status-$1.json"
}

# memory ID VmRSS|VmHWM: in MiB.
memory() { awk -v name="$2:" '$1 == name { printf "%.0f", $2 / 1024 }' "/proc/${pid[$1]}/status"; }

# ---------------------------------------------------------------- what it is compared with

probe_fdatasync() {
    value[fdatasync]=$(python3 - "$work/probe" <<'PYTHON'
import os, sys, time
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
block, times, end = os.urandom(1024), [], time.monotonic() + 3
while time.monotonic() < end:
    start = time.perf_counter()
    os.write(file, block)
    os.fdatasync(file)
    times.append((time.perf_counter() - start) * 1000)
print(f"{sorted(times)[len(times) // 2]:.3f}")
PYTHON
    ) || return
    rm -f "$work/probe"
    row 'fdatasync of 1 KiB appended, p50' "${value[fdatasync]} ms" '' '' ''
}

# start_redis NAME FLAG…
start_redis() {
    local name=$1
    shift
    port[$name]=$(free_port)
    mkdir "$work/$name"
    start "$work/$name.log" redis-server --port 0 --tls-port "${port[$name]}" --bind 127.0.0.1 --dir "$work/$name" \
        --tls-cert-file "$work/certs-redis/node.crt" --tls-key-file "$work/certs-redis/node.key" \
        --tls-ca-cert-file "$work/ca/ca.crt" --tls-auth-clients yes --tls-protocols TLSv1.3 --save '' "$@"
    pid[$name]=$started
    running[$started]=yes
    within 10 redis "$name" cli ping >/dev/null 2>&1 || { say 'redis-server did not start'; return 1; }
}

# redis NAME cli|benchmark ARGUMENT…
redis() {
    local name=$1 tool=$2
    shift 2
    timeout $((seconds * 6 + 60)) "redis-$tool" -h 127.0.0.1 -p "${port[$name]}" --tls --cacert "$work/ca/ca.crt" \
        --cert "$work/admin/client.crt" --key "$work/admin/client.key" "$@"
}

# redis_rate KEY NAME TEST CLIENTS: redis-benchmark counts requests, so a short run finds how many
# fill the time.
redis_rate() {
    local key=$1 name=$2 test=$3 clients=$4 requests=20000 attempt
    for attempt in short whole; do
        redis "$name" benchmark --csv -t "$test" -c "$clients" -d 1024 -r 100000 -n "$requests" \
            >"$work/redis.csv" 2>"$work/redis-benchmark.log" || return
        value[$key]=$(tail -n1 "$work/redis.csv" | cut -d, -f2 | tr -d '"') || return
        [ "$attempt" = whole ] || requests=$(calculate "max(20000, int(${value[$key]} * $seconds))") || return
    done
}

compare_redis_set() {
    start_redis redis-set --appendonly yes --appendfsync always || return
    redis_rate redis_set redis-set set 256 || return
    row 'redis-server SET, appendfsync always, 256 clients, 1 KiB' "$(grouped "${value[redis_set]}")/s" '' '' ''
    stop_process redis-set
}

compare_redis_get() {
    start_redis redis-get --appendonly no || return
    # Filled by pipeline, so that nearly every key is there to be read.
    redis redis-get benchmark -q -t set -c 16 -P 32 -d 1024 -r 100000 -n 1500000 >/dev/null || return
    redis_rate redis_get redis-get get 64 || return
    row 'redis-server GET, 64 clients, 1 KiB' "$(grouped "${value[redis_get]}")/s" '' '' ''
    stop_process redis-get
}

# ---------------------------------------------------------------- Brock

for_time=(--duration "${seconds}s")

put_by_many() {
    bench put256 ops_per_second a put --clients 256 --size 1024 "${for_time[@]}" || return
    ratio 'durable Put, 256 clients, 1 KiB' put256 redis_set 0.6
}

put_by_one() {
    bench put1 p50_ms a put --clients 1 --size 1024 "${for_time[@]}" || return
    row 'durable Put, 1 client, p50' "${value[put1]} ms" "fdatasync ${value[fdatasync]:-?} ms" '≤ fdatasync + 0.5 ms' \
        "${value[put1]} <= ${value[fdatasync]:-0} + 0.5"
}

get_by_calls() {
    bench get64 ops_per_second a get --clients 64 --size 1024 "${for_time[@]}" || return
    ratio 'Get, 64 clients, 1 KiB' get64 redis_get 0.5
}

get_by_session() {
    bench session1 ops_per_second a get --clients 64 --size 1024 --session --depth 1 "${for_time[@]}" || return
    ratio 'Get over Session, 64 clients, depth 1' session1 redis_get 1.0
    bench session16 ops_per_second a get --clients 64 --size 1024 --session --depth 16 "${for_time[@]}" || return
    row 'Get over Session, 64 clients, depth 16' "$(grouped "${value[session16]}")/s" '' '' ''
}

get_by_batch() {
    bench batch100 ops_per_second a get --batch 100 --size 1024 "${for_time[@]}" || return
    row 'BatchGet of 100, 1 KiB' "$(grouped "${value[batch100]}") records/s" '' '≥ 200,000 records/s' \
        "${value[batch100]} >= 200000"
}

# Three nodes: how long until the others hold a write, and refuse a revoked key.
three_nodes() {
    local readers
    port[b]=$(free_port) port[c]=$(free_port) port[d]=$(free_port)
    start_node b "127.0.0.1:${port[c]},127.0.0.1:${port[d]}" --node.first-start=true || return
    start_node c "127.0.0.1:${port[b]},127.0.0.1:${port[d]}" --node.first-start=true || return
    start_node d "127.0.0.1:${port[b]},127.0.0.1:${port[c]}" --node.first-start=true || return
    within 30 peers_are_up b && within 30 peers_are_up c && within 30 peers_are_up d || return
    readers="127.0.0.1:${port[c]},127.0.0.1:${port[d]}"
    ! has core || visible "$readers" || return
    ! has lifecycle || revoked "$readers" || return
    stop_process b && stop_process c && stop_process d
    rm -rf "$work"/data-[bcd]
    unset 'port[b]' 'port[c]' 'port[d]'
}

visible() {
    ask b bench visible --rate 1000 --readers "$1" "${for_time[@]}" >"$work/result.json" || return
    value[visible]=$(slowest p99_ms) && value[visible50]=$(slowest p50_ms) || return
    row 'held by both others after its acknowledgement, 1,000 Puts/s, p99' "${value[visible]} ms" \
        "p50 ${value[visible50]} ms" '≤ 100 ms' "${value[visible]} <= 100"
}

# Keys revoked at one node, one by one: until the last of the others refuses each.
revoked() {
    ask b bench revoke --count 200 --rate 20 --readers "$1" >"$work/result.json" || return
    value[revoke50]=$(nested everywhere p50_ms) && value[revoke99]=$(nested everywhere p99_ms) || return
    row 'a revoked key is refused at both others after the acknowledgement, p99' "${value[revoke99]} ms" \
        "p50 ${value[revoke50]} ms; until acknowledged: p50 $(field revoke_p50_ms "$work/result.json") ms" '' ''
}

# nested NAME FIELD: a field of a field of the last result.
nested() {
    python3 -c 'import json, sys; print(json.load(open(sys.argv[3]))[sys.argv[1]][sys.argv[2]])' "$1" "$2" "$work/result.json"
}

# slowest FIELD: of the reader that took longest; fails when a reader missed records or failed.
slowest() {
    python3 - "$1" "$work/result.json" <<'PYTHON'
import json, sys
result = json.load(open(sys.argv[2]))
readers = result["readers"]
if result["errors"] or any(r["unseen"] or r["errors"] or not r["records"] for r in readers):
    sys.exit(f"errors or unseen records: {result}")
print(max(reader[sys.argv[1]] for reader in readers))
PYTHON
}

peers_are_up() {
    ask "$1" status >"$work/status-$1.json" 2>/dev/null || return
    python3 -c 'import json, sys; sys.exit(not all(p["up"] for p in json.load(open(sys.argv[1]))["peers"]))' \
        "$work/status-$1.json"
}

# Loads node a by BatchPut until it has the records that are asked for.
load() {
    local held deadline=$((SECONDS + 600))
    held=$(applied a) || return
    while ((held < records)); do
        ((SECONDS < deadline)) || { say "  only $held records after ten minutes"; return 1; }
        ask a bench put --clients 8 --batch 500 --size 512 --duration 2s >"$work/result.json" || return
        held=$(applied a) || return
    done
    value[loaded]=$held
}

# Node a holds the records; node b is empty and joins it.
catch_up() {
    local begun held=0 peak=0 took deadline=$((SECONDS + 600))
    begun=$(now)
    start_node b "127.0.0.1:${port[a]}" --node.first-start=true || return
    while ((held < value[loaded])); do
        ((SECONDS < deadline)) || { say "  only $held records after ten minutes"; return 1; }
        sleep 0.1
        held=$(applied b) || return
    done
    took=$(calculate "$(now) - $begun") || return
    row "an empty node catches up with $(grouped "${value[loaded]}") records of 512 B" \
        "$(grouped "${value[loaded]} / $took") records/s" "$(printf '%.1f s' "$took")" \
        '≥ 30,000 records/s' "${value[loaded]} / $took >= 30000"
    peak=$(memory b VmHWM) || return
    row 'resident memory while it caught up: donor' "$(memory a VmRSS) MiB" "peak $(memory a VmHWM) MiB, loading included" 'bounded' ''
    row 'resident memory while it caught up: joiner' "$(memory b VmRSS) MiB" "peak $peak MiB" 'bounded' ''
    # Long enough for node a to hear that it has everything.
    within 30 nothing_lags a || return
    stop_process b
}

nothing_lags() {
    ask "$1" members >"$work/members.json" 2>/dev/null || return
    python3 -c 'import json, sys; sys.exit(any(m["lag_entries"] != 0 for m in json.load(open(sys.argv[1]))["members"]))' \
        "$work/members.json"
}

# Everything that node b had goes from the log.
compact() {
    local before after begun took
    before=$(du -sm "$work/data-a" | cut -f1)
    begun=$(now)
    ask a compact >"$work/result.json" || return
    took=$(calculate "$(now) - $begun") || return
    after=$(du -sm "$work/data-a" | cut -f1)
    row "compacting the log of $(grouped "${value[loaded]}") operations" "$(printf '%.1f s' "$took")" \
        "log $(grouped "$(field bytes_removed "$work/result.json") / 1048576") MiB to $(grouped "$(field bytes_kept "$work/result.json") / 1048576") MiB; directory $before MiB to $after MiB" '' ''
}

# Node a has no log left; node c is empty and joins it: by the records.
resync() {
    local begun held=0 took deadline=$((SECONDS + 600))
    begun=$(now)
    start_node c "127.0.0.1:${port[a]}" --node.first-start=true || return
    while ((held < value[loaded])); do
        ((SECONDS < deadline)) || { say "  only $held records after ten minutes"; return 1; }
        sleep 0.1
        held=$(applied c) || return
    done
    took=$(calculate "$(now) - $begun") || return
    row "a node $(grouped "${value[loaded]}") operations below the log is filled from the records" \
        "$(grouped "${value[loaded]} / $took") records/s" "$(printf '%.1f s' "$took"), peak $(memory c VmHWM) MiB" '' ''
}

verify() {
    local begun took
    ask c verify >"$work/result.json" || return
    begun=$(now)
    ask c verify >"$work/result.json" || return
    took=$(calculate "round($(now) - $begun, 2)") || return
    row "verify over $(grouped "${value[loaded]}") records on each of two nodes" "$took s" \
        "$(field verdict "$work/result.json")" '≤ 1 s' "$took <= 1"
    stop_process c
}

start_with_records() {
    local begun took resident
    stop_process a
    begun=$(now)
    start_node a '' --compact-mode=never || return
    took=$(calculate "round($(now) - $begun, 2)") || return
    row "start with $(grouped "${value[loaded]}") records" "$took s" 'process start to /readyz' '≤ 2 s' "$took <= 2"
    resident=$(memory a VmRSS) || return
    # The default --node.cache-size is 64 MiB.
    row 'resident memory then' "$resident MiB" '' '≤ 256 MiB + 64 MiB of cache' "$resident <= 256 + 64"
}

# A node of its own for the million records, so that nothing else is in it.
fresh_node_a() {
    stop_process a
    rm -rf "$work/data-a"
    # Its log stays whole until the compaction is measured.
    start_node a '' --node.first-start=true --compact-mode=never
}

# has PART: whether that part is to be measured.
has() { [ "$parts" = all ] || [ "$parts" = "$1" ]; }

# ---------------------------------------------------------------- the run

describe_machine() {
    local cpu
    cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n1)
    printf 'Measured %s on %s (%s cores), %s GiB of memory, Linux %s, %s; client, redis-server and nodes\n' \
        "$(date -u +%F)" "${cpu:-$(uname -m)}" "$(nproc)" "$(awk '/MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo)" \
        "$(uname -r)" "$(findmnt -no FSTYPE -T "$work")"
    printf 'on the same machine over 127.0.0.1, mutual TLS; %s s for each measurement. Commit %s. Load average\n' \
        "$seconds" "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
    printf 'before it began: %s.\n' "$load_before"
}

[ "$(findmnt -no FSTYPE -T "$work")" != tmpfs ] || fail "$work is in memory: set BENCH_DIR to a directory on a disk"
build
make_certificates
measure 'fdatasync' probe_fdatasync
if has core; then
    if command -v redis-server >/dev/null && command -v redis-benchmark >/dev/null; then
        measure 'redis-server SET' compare_redis_set
        measure 'redis-server GET' compare_redis_get
    else
        say 'redis-server or redis-benchmark is missing: going on without ratios. To have them: apt-get install redis-server'
    fi
fi
! has trust || measure 'what signatures cost' trust
[ "$parts" = trust ] || start_node a '' --node.first-start=true
if has core; then
    measure 'Put by 256 clients' put_by_many
    measure 'Put by one client' put_by_one
    measure 'Get' get_by_calls
    measure 'Get over Session' get_by_session
    measure 'BatchGet' get_by_batch
fi
if has core || has lifecycle; then
    measure 'three nodes' three_nodes
fi
if [ "$parts" != trust ]; then
    measure 'a fresh node' fresh_node_a
    measure "loading $records records" load
fi
if [ -n "${value[loaded]:-}" ]; then
    if has core || has lifecycle; then
        measure 'catch-up' catch_up
    fi
    if has lifecycle; then
        measure 'compaction' compact
        measure 'resync' resync
        measure 'verify' verify
    fi
    measure 'start' start_with_records
    if has backup; then
        measure 'backups' backups
    fi
fi

describe_machine
printf '\n| What | Brock | Beside | Wanted | Met |\n|---|---|---|---|---|\n'
printf '%s\n' "${rows[@]}"
[ "$failures" -eq 0 ] || fail "$failures measurements failed"
