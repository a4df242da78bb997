#!/usr/bin/env bash
# A three-node cluster on loopback: write to node 1, read from node 2, see that the record was
# replicated, each by a command that is printed. On a terminal the cluster then stays up until Ctrl-C.
# Called by `make demo`.
set -euo pipefail
# shellcheck source=deploy/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

bold='' plain=''
[ ! -t 1 ] || { bold=$'\e[1m' plain=$'\e[0m'; }

directory=$(mktemp -d "${TMPDIR:-/tmp}/brock-demo.XXXXXX")
log=$directory/cluster.log
cluster=''

finish() {
    local status=$?
    trap - EXIT INT TERM
    [ -z "$cluster" ] || stop "$cluster"
    if [ "$status" -ne 0 ] && [ "$status" -lt 128 ] && [ -s "$log" ]; then
        printf '\nThe end of the log of the cluster:\n' >&2
        tail -n 40 "$log" >&2
    fi
    rm -rf "$directory"
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }

# show COMMAND…: as it can be typed once PATH and NODE_ADMIN_CERTS_DIR are set.
show() { printf '  $%s\n' "$(printf ' %q' "$@")"; }

# Written when all nodes are ready.
cluster_is_ready() {
    kill -0 "$cluster" 2>/dev/null || fail 'the cluster stopped before it was ready'
    [ -e "$directory/data/cluster.env" ]
}

# node NUMBER COMMAND…: asks one node, as an admin.
node() {
    local address=${addresses[$1 - 1]}
    shift
    timeout 30 node-admin --node-addresses "$address" "$@"
}

# show_node NUMBER COMMAND…: prints what node would run.
show_node() { show node-admin --node-addresses "${addresses[$1 - 1]}" "${@:2}"; }

# Only "not found" is worth waiting for.
holds_it() {
    local status=0
    node "$1" -o json record show "$key" --local >"$directory/shown.json" 2>"$directory/shown.err" || status=$?
    case $status in
        0) ;;
        3) return 1 ;;
        *) fail "node $1 answered with exit code $status: $(cat "$directory/shown.err")" ;;
    esac
}

[ -x "$brock" ] && [ -x "$admin" ] || fail "there is no $brock: run 'make build' first"

export PATH=$target/debug:$PATH
unset NODE_ADMIN_CONTEXT

step 'Starting three nodes, with certificates made for the occasion'
printf '  $ export PATH=%q:$PATH\n' "$target/debug"
show brock dev --nodes 3 --dir "$directory/data" --base-port 0
start "$log" brock dev --nodes 3 --dir "$directory/data" --base-port 0
cluster=$started
within 60 cluster_is_ready || fail 'the cluster was not ready after 60 seconds'
# shellcheck disable=SC1091 # brock dev writes it
. "$directory/data/cluster.env"
IFS=, read -ra addresses <<<"$BROCK_ADDRESSES"
[ "${#addresses[@]}" -eq 3 ] || fail "expected three addresses, got '$BROCK_ADDRESSES'"
for number in 1 2 3; do printf '  node %s  %s\n' "$number" "${addresses[number - 1]}"; done
export NODE_ADMIN_CERTS_DIR=$BROCK_CERTS_DIR
show export NODE_ADMIN_CERTS_DIR="$NODE_ADMIN_CERTS_DIR"

key=$(od -An -vtx1 -N32 /dev/urandom | tr -d ' \n')
grant=$(printf 'an encrypted access grant, opaque to Brock' | base64 -w0)
expect_grant() { grep -qF "$grant" "$1" || fail "node $2 showed another record than was written"; }

step 'Writing a record to node 1, under the hash of a key'
printf '{"satellite_address": "satellite.example:7777", "encrypted_access_grant": "%s"}\n' "$grant" \
    >"$directory/record.json"
show cat "$directory/record.json"
sed 's/^/  /' "$directory/record.json"
show_node 1 record put "$key" --file "$directory/record.json"
node 1 record put "$key" --file "$directory/record.json" | sed 's/^/  /'

step 'Reading it from node 2'
show_node 2 -o json record show "$key"
node 2 -o json record show "$key" >"$directory/shown.json"
expect_grant "$directory/shown.json" 2
sed 's/^/  /' "$directory/shown.json"

step 'Replicated, not only peeked: nodes 2 and 3 hold it themselves (--local)'
for number in 2 3; do
    show_node "$number" -o json record show "$key" --local
    within 20 holds_it "$number" || fail "node $number did not hold the record after 20 seconds"
    expect_grant "$directory/shown.json" "$number"
    printf '  node %s holds it\n' "$number"
done

step 'The status of node 2'
show_node 2 status
node 2 status | sed 's/^/  /'

if [ ! -t 0 ] || [ ! -t 1 ]; then
    step 'All as it should be. On a terminal the cluster would now stay up; here it stops.'
    exit 0
fi

step 'The cluster stays up until Ctrl-C. To try next, in another terminal:'
cat <<NEXT

# Talk to the three nodes (the first that answers does it)
export PATH=$target/debug:\$PATH
export NODE_ADMIN_CERTS_DIR=$BROCK_CERTS_DIR NODE_ADMIN_NODE_ADDRESSES=$BROCK_ADDRESSES

# What the nodes know of themselves and of each other
node-admin status

# Write a record of your own, and read the first one from node 3
echo '{"encrypted_access_grant": "aGVsbG8="}' | node-admin record put $(od -An -vtx1 -N32 /dev/urandom | tr -d ' \n')
node-admin record show $key --local --node-addresses ${addresses[2]}

# Measure
node-admin bench mixed --clients 32 --duration 5s

# See what is logged
tail -f $log
NEXT
trap 'printf "\nStopping the cluster.\n"; exit 0' INT
status=0
wait "$cluster" || status=$?
cluster=''
fail "the cluster stopped by itself (exit code $status)"
