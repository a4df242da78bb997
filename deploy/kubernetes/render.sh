#!/usr/bin/env bash
# Writes plain/ from chart/, which is the one source of both. Name a helm by $HELM; an argument is
# another place to write to. `make deploy` says when plain/ is not what the chart gives.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-$here/plain}
helm=${HELM:-helm}

# render FILE WHAT [ARGUMENT…]: what helm makes of the chart for the namespace brock, without the
# marks of helm itself.
render() {
    local file=$1 what=$2 text
    shift 2
    text=$("$helm" template brock "$here/chart" --namespace brock "$@" 2>"$errors") || {
        cat "$errors" >&2
        exit 1
    }
    {
        printf '# %s\n# Made from ../chart by ../render.sh: change the chart, then run that.\n' "$what"
        sed -e '/^# Source: /d' -e '/helm\.sh\/chart:/d' -e '/managed-by: Helm/d' <<<"$text"
    } >"$out/$file"
}

mkdir -p "$out"
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

render brock.yaml 'Three nodes in the namespace brock; their certificates are in Secrets (docs/operations.md).'
render certificates.yaml 'With cert-manager: the Secrets of the nodes. Put the name of your issuer for ISSUER.' \
    --set certificates.source=cert-manager,certificates.certManager.issuerRef.name=ISSUER \
    --show-only templates/certificates.yaml
render monitoring.yaml 'With the operator of Prometheus: what to scrape, and the alerts.' \
    --set serviceMonitor.enabled=true,prometheusRule.enabled=true --show-only templates/monitoring.yaml
