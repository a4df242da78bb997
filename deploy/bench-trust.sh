# shellcheck shell=bash disable=SC2154,SC2034
# The trust part of bench.sh, which defines the functions and variables used here: what signatures cost. A node whose
# certificate has a URI signs what it logs, one whose certificate has none does not; everything else is the same.

trust_records=${BENCH_TRUST_RECORDS:-200000}
trust_rounds=${BENCH_TRUST_ROUNDS:-21}
trust_fill_rounds=${BENCH_TRUST_FILL_ROUNDS:-11}

# Nodes s and t sign; u and v do not, and have a CA of their own.
make_trust_certificates() {
    local id
    for id in s t; do
        mkdir "$work/certs-$id" && cp "$work/ca/ca.crt" "$work/certs-$id/" || return
        "$brock" cert node --certs-dir "$work/certs-$id" --ca-key "$work/ca-key/ca.key" --node-id "$id" \
            --host 127.0.0.1 --host localhost >&2 || return
    done
    certs-example/make-certs.sh "$work/unsigned" localhost 127.0.0.1 >"$work/make-certs.log" 2>&1 || return
    for id in u v; do
        mkdir "$work/certs-$id" && cp "$work"/unsigned/certs/{ca.crt,node.crt,node.key} "$work/certs-$id/" || return
    done
    mkdir "$work/admin-unsigned" && cp "$work"/unsigned/certs/{ca.crt,client.crt,client.key} "$work/admin-unsigned/" || return
    for id in u v; do admin_certs[$id]=$work/admin-unsigned; done
}

# middle NUMBER…
middle() { calculate "sorted([$(IFS=,; echo "$*")])[$# // 2]"; }

# signed_beside WHAT UNIT SIGNED UNSIGNED TIMES [RATIO]: both in something a second, and the ratio of the two.
signed_beside() {
    local ratio=${6:-$(calculate "$3 / $4")}
    row "$1" "$(grouped "$3") $2" "unsigned $(grouped "$4") $2, ratio $(calculate "format($ratio, '.2f')")" "≥ $5 ×" \
        "$ratio >= $5"
}

# Rates within one run differ by a tenth and more from one measurement to the next. So many short ones alternate, each
# two of which have a ratio, and the middle one counts.
trust_puts() {
    local clients id round wanted ratios
    declare -A rates=() rate=()
    start_node s '' --node.first-start=true --compact-mode=never || return
    start_node u '' --node.first-start=true --compact-mode=never || return
    for clients in 1 256; do
        rates=([s]='' [u]='') ratios=''
        for ((round = 0; round <= trust_rounds; round++)); do
            for id in s u; do
                bench put ops_per_second "$id" put --clients "$clients" --size 1024 --duration 2s || return
                rate[$id]=${value[put]}
            done
            # The first warms up.
            [ "$round" != 0 ] || continue
            for id in s u; do rates[$id]+=" ${rate[$id]}"; done
            ratios+=" $(calculate "${rate[s]} / ${rate[u]}")"
        done
        wanted=$([ "$clients" = 1 ] && echo 0.98 || echo 0.97)
        # shellcheck disable=SC2086
        signed_beside "durable Put, signed, $clients client$([ "$clients" = 1 ] || echo s), 1 KiB" 'Puts/s' \
            "$(middle ${rates[s]})" "$(middle ${rates[u]})" "$wanted" "$(middle $ratios)"
    done
    stop_process s && stop_process u
    rm -rf "$work/data-s" "$work/data-u"
}

# How many records a node holds.
records() {
    ask "$1" status >"$work/status-$1.json" && field records "$work/status-$1.json"
}

# filled ID FROM OPERATIONS: starts an empty node that joins FROM, and keeps how many records it takes in a second, from
# the first that it says it has.
filled() {
    local id=$1 from=$2 wanted=$3 begun='' first=0 held=0 deadline=$((SECONDS + 600))
    rm -rf "$work/data-$id"
    begin_node "$id" "127.0.0.1:${port[$from]}" --node.first-start=true
    while ((held < wanted)); do
        ((SECONDS < deadline)) || { say "  only $held records after ten minutes"; return 1; }
        sleep 0.02
        # Not up yet.
        held=$(records "$id" 2>>"$work/errors") || { held=0; continue; }
        if [ -z "$begun" ] && ((held > 0)); then begun=$(now) first=$held; fi
    done
    value[filled]=$(calculate "($wanted - $first) / ($(now) - $begun)") || return
    within 30 nothing_lags "$from" || return
    stop_process "$id"
}

# Of each kind a node that holds the records, and one that is empty: by the log, and without one by the records. The
# fills alternate as the Puts do.
trust_fills() {
    local donor round kind deadline ratios what wanted
    declare -A joiner=([s]=t [u]=v) held=() rates=() rate=()
    for donor in s u; do
        start_node "$donor" '' --node.first-start=true --compact-mode=never || return
        held[$donor]=0 deadline=$((SECONDS + 600))
        while ((held[$donor] < trust_records)); do
            ((SECONDS < deadline)) || { say "  only ${held[$donor]} records after ten minutes"; return 1; }
            ask "$donor" bench put --clients 8 --batch 500 --size 512 --duration 1s >"$work/result.json" || return
            held[$donor]=$(applied "$donor") || return
        done
    done
    for kind in log records; do
        rates=([s]='' [u]='') ratios=''
        for ((round = 0; round <= trust_fill_rounds; round++)); do
            for donor in s u; do
                if [ "$kind$round" = records0 ]; then ask "$donor" compact >"$work/result.json" || return; fi
                filled "${joiner[$donor]}" "$donor" "${held[$donor]}" || return
                rate[$donor]=${value[filled]}
            done
            # The first warms up.
            [ "$round" != 0 ] || continue
            for donor in s u; do rates[$donor]+=" ${rate[$donor]}"; done
            ratios+=" $(calculate "${rate[s]} / ${rate[u]}")"
        done
        if [ "$kind" = log ]; then
            what="catch-up by the log, signed, bundles of 64, $(grouped "$trust_records") records of 512 B" wanted=0.90
        else
            what='the same without a log, by the records' wanted=0.85
        fi
        # shellcheck disable=SC2086
        signed_beside "$what" 'records/s' "$(middle ${rates[s]})" "$(middle ${rates[u]})" "$wanted" "$(middle $ratios)"
    done
    for donor in s u; do
        stop_process "$donor"
        # Files that a compaction has replaced are gone only now.
        value[disk_$donor]=$(calculate "$(du -sb "$work/data-$donor" | cut -f1) / ${held[$donor]}")
        rm -rf "$work/data-$donor" "$work/data-${joiner[$donor]}"
    done
    row 'bytes on disk for each of these records, compacted, signed' "$(grouped "${value[disk_s]}") B" \
        "unsigned $(grouped "${value[disk_u]}") B" 'at most 350 B more' "${value[disk_s]} <= ${value[disk_u]} + 350"
}

# One client that waits for each Put: a signature for each operation.
trust_single() {
    local held
    start_node s '' --node.first-start=true --compact-mode=never || return
    ask s bench put --clients 1 --size 64 --duration 30s >"$work/result.json" || return
    held=$(applied s) || return
    filled t s "$held" || return
    row "catch-up by the log, signed, $(grouped "$held") bundles of one operation" "$(grouped "${value[filled]}") records/s" \
        'both nodes on two cores' '≥ 20,000 records/s a core' "${value[filled]} >= 20000"
    stop_process s
}

trust() {
    make_trust_certificates && trust_puts && trust_fills && trust_single
}
