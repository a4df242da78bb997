#!/usr/bin/env bash
# Renders plain/ from chart/, the only source of both. $HELM names the helm to use, an argument another
# directory to write to. `make deploy` fails if plain/ differs from what the chart renders.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/plain}
helm=${HELM:-helm}

# render FILE WHAT [ARGUMENT…]: renders the chart for the namespace brock, without helm's own labels.
render() {
    local file=$1 what=$2 text
    shift 2
    text=$("$helm" template brock "$here/chart" --namespace brock "$@" 2>"$errors") || {
        cat "$errors" >&2
        exit 1
    }
    {
        printf '# %s\n# Rendered from ../chart by ../render.sh: change the chart, then run render.sh.\n' "$what"
        sed -e '/^# Source: /d' -e '/helm\.sh\/chart:/d' -e '/managed-by: Helm/d' <<<"$text"
    } >"$out/$file"
}

mkdir -p "$out"
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

render brock.yaml 'Three nodes in the namespace brock; their certificates are in Secrets (docs/guides/kubernetes.md).'
render certificates.yaml 'With cert-manager: the Secrets of the nodes. Replace ISSUER with the name of your issuer.' \
    --set certificates.source=cert-manager,certificates.certManager.issuerRef.name=ISSUER \
    --show-only templates/certificates.yaml
render monitoring.yaml 'With the Prometheus operator: the scrape configuration and the alerts.' \
    --set serviceMonitor.enabled=true,prometheusRule.enabled=true --show-only templates/monitoring.yaml
