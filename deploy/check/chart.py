"""Renders the chart with several values, checks every manifest against the schemas of the oldest and
the newest Kubernetes that it is for, and checks that wrong values are refused with the cause."""

import pathlib
import subprocess
import sys

import kubernetes_validate
import yaml

HELM = sys.argv[1]
CHART = pathlib.Path(__file__).parent.parent / "kubernetes" / "chart"
VERSIONS = ["1.30", "1.37"]
# Kinds of other projects: no schema comes with kubernetes-validate.
FOREIGN = {"Certificate", "ServiceMonitor", "PrometheusRule"}

CERT_MANAGER = ["certificates.source=cert-manager", "certificates.certManager.issuerRef.name=ca"]
ACCEPTED = {
    "defaults": [],
    "everything": CERT_MANAGER + [
        "replicas=5", "serviceMonitor.enabled=true", "prometheusRule.enabled=true", "prometheusRule.platform=true",
        "dashboard.enabled=true", "test.adminCertsSecret=admin", "certificates.extraHosts={brock.example.com,10.0.0.1}",
        "node.extraJoin={far.example.com:20004}", "node.settings.node\\.cache-size=256MiB", "storage.className=fast",
        "networkPolicy.monitoring[0].namespaceSelector.matchLabels.name=monitoring", "priorityClassName=high",
        "networkPolicy.clients[0].podSelector.matchLabels.app=web", "nodeSelector.disk=ssd", "imagePullSecrets[0].name=pull",
    ],
    "one node, nothing around it": ["replicas=1", "networkPolicy.enabled=false", "fullnameOverride=alone"],
}
# Values, and what the refusal must mention.
REFUSED = [
    (["replicas=0"], "replicas"),
    (["replicas=66"], "replicas"),
    (["image.tagg=1"], "tagg"),
    (["node.settings.node\\.id=x"], "node.id"),
    (["node.extraJoin={far.example.com}"], "extraJoin"),
    (["certificates.source=cert-manager"], "issuerRef"),
    (["storage.size=big"], "size"),
    (["fullnameOverride=a-name-that-is-much-too-long"], "fullnameOverride"),
    (["terminationGracePeriodSeconds=5"], "terminationGracePeriodSeconds"),
]

problems = []


def helm(*arguments):
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)


def template(values, release="brock"):
    flags = [part for value in values for part in ("--set", value)]
    return helm("template", release, str(CHART), "--namespace", "brock", *flags)


def check_accepted(name, values):
    rendered = template(values)
    if rendered.returncode != 0:
        problems.append(f"{name}: helm template: {rendered.stderr}")
        return
    manifests = [manifest for manifest in yaml.safe_load_all(rendered.stdout) if manifest]
    for manifest in manifests:
        kind = manifest["kind"]
        if kind in FOREIGN:
            continue
        for version in VERSIONS:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                problems.append(f"{name}: {kind}, Kubernetes {version}: {error.message}")
    check_certificates(name, manifests)


def check_certificates(name, manifests):
    """Every node has its Secret, its certificate names its id, and no node joins itself."""
    of_kind = lambda kind: [manifest for manifest in manifests if manifest["kind"] == kind]
    stateful = of_kind("StatefulSet")[0]
    nodes = [f"{stateful['metadata']['name']}-{n}" for n in range(stateful["spec"]["replicas"])]
    volumes = {volume["name"]: volume for volume in stateful["spec"]["template"]["spec"]["volumes"]}
    secrets = [source["secret"]["name"] for source in volumes["certs"]["projected"]["sources"]]
    if secrets != [f"{node}-certs" for node in nodes]:
        problems.append(f"{name}: the Secrets {secrets} are not those of {nodes}")
    configs = [m for m in of_kind("ConfigMap") if m["metadata"]["name"] == stateful["metadata"]["name"]][0]["data"]
    if sorted(configs) != sorted(f"{node}.toml" for node in nodes):
        problems.append(f"{name}: the configurations {sorted(configs)} are not those of {nodes}")
    for node in nodes:
        if f'"{node}.' in configs.get(f"{node}.toml", ""):
            problems.append(f"{name}: {node} joins itself")
    for certificate in of_kind("Certificate"):
        node = certificate["spec"]["commonName"]
        if certificate["spec"]["uris"] != [f"spiffe://brock/node/{node}"] or certificate["spec"]["secretName"] not in secrets:
            problems.append(f"{name}: the certificate of {node} is not for it")


for release, name_of in (("a-release-that-has-a-long-name", "28"),):
    long_name = template([], release)
    if long_name.returncode == 0 or name_of not in long_name.stderr:
        problems.append(f"a release name that is too long is not refused: {long_name.stderr}")
lint = helm("lint", "--strict", str(CHART))
if lint.returncode != 0:
    problems.append(f"helm lint: {lint.stdout}{lint.stderr}")
for case, values in ACCEPTED.items():
    check_accepted(case, values)
for values, mention in REFUSED:
    rendered = template(values)
    if rendered.returncode == 0:
        problems.append(f"{values} is not refused")
    elif mention not in rendered.stderr:
        problems.append(f"the refusal of {values} does not mention {mention}: {rendered.stderr}")
sys.exit("\n".join(problems) if problems else 0)
