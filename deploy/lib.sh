# shellcheck shell=bash disable=SC2034 # scripts that source it use its variables
# Shared by demo.sh and bench.sh; sourced, not run.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$here" || exit
target=$(realpath -m "${CARGO_TARGET_DIR:-$HOME/.cache/brock/target}")
brock=$target/debug/brock
admin=$target/debug/node-admin

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# Starts a command with its output in the file $1. Ctrl-C in this terminal does not reach it: the caller has
# to stop it. Its process id is in $started.
start() {
    local log=$1
    shift
    setsid "$@" >"$log" 2>&1 </dev/null &
    started=$!
}

# Ends a process that `start` started: SIGTERM first, SIGKILL after $2 seconds (20).
stop() {
    local pid=$1 tenths=$((${2:-20} * 10))
    kill -TERM "$pid" 2>/dev/null || true
    while kill -0 "$pid" 2>/dev/null; do
        ((tenths-- > 0)) || kill -KILL "$pid" 2>/dev/null || true
        sleep 0.1
    done
    wait "$pid" 2>/dev/null || true
}

# Repeats a command every tenth of a second until it succeeds, for at most $1 seconds.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}
