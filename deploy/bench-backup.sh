# shellcheck shell=bash disable=SC2154
# The backup part of bench.sh, which defines the functions and variables used here.

# The bytes of all parts of one kind in the vault.
vault_bytes() { find "$work/vault" -name "*-$1-*.age" -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }'; }

# timed COMMAND…: prints the seconds and the peak memory in MiB.
timed() {
    python3 - "$@" <<'PYTHON'
import resource, subprocess, sys, time
begun = time.monotonic()
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=sys.stderr)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(f"{time.monotonic() - begun:.2f} {peak:.0f}")
PYTHON
}

# speed BYTES SECONDS: in records and in bytes.
speed() { printf '%s records/s, %s MB/s' "$(grouped "${value[loaded]} / $2")" "$(grouped "$1 / 1e6 / $2")"; }

# Node a holds the records; its backups go to a directory on the same disk, encrypted.
backups() {
    local recipient before begun took peak bytes small held
    recipient=$("$brock" backup keygen --yes --out "$work/identity" 2>/dev/null) || return
    stop_process a
    start_node a '' --node.backup.enabled=true --node.backup.bucket="file://$work/vault" \
        --node.backup.recipient="$recipient" --node.backup.sync-interval=0s --node.backup.interval=24h || return
    # The node makes its first backup at the start: this waits for it, and finds nothing to do.
    ask a backup now >/dev/null || return
    before=$(vault_bytes full)
    begun=$(now)
    ask a backup now --full >"$work/result.json" || return
    took=$(calculate "$(now) - $begun") || return
    bytes=$(calculate "$(vault_bytes full) - $before")
    peak=$(memory a VmHWM) || return
    row "a full backup of $(grouped "${value[loaded]}") records of 512 B, encrypted, to a directory" \
        "$(speed "$bytes" "$took")" "$(printf '%.1f s' "$took"), $(grouped "$bytes / 1e6") MB; node's peak memory $peak MiB" '' ''
    held=$(applied a) || return
    ask a bench put --clients 1 --batch 100 --size 512 --duration 1s >/dev/null || return
    held=$(($(applied a) - held)) || return
    ask a backup now >"$work/result.json" || return
    small=$(vault_bytes incremental)
    row "an incremental backup of $(grouped "$held") Puts" "$(grouped "$small") bytes" \
        "$(calculate "round($small / $held)") bytes for each, 512 of them payload" '' ''
    read -r took peak < <(timed "$brock" backup verify --from "file://$work/vault" --identity "$work/identity") || return
    row 'verifying them end to end, everything decoded and compared' "$(speed "$bytes" "$took")" "$took s, peak $peak MiB" '' ''
    read -r took peak < <(timed "$brock" backup restore --from "file://$work/vault" --identity "$work/identity" \
        --node.path "$work/restored") || return
    row 'restoring them to a directory' "$(speed "$bytes" "$took")" "$took s, peak $peak MiB" '' ''
}
