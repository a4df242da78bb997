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
# Kinds of other projects; kubernetes-validate has no schema for them.
FOREIGN = {"Certificate", "ServiceMonitor", "PrometheusRule"}

CERT_MANAGER = ["certificates.source=cert-manager", "certificates.certManager.issuerRef.name=ca"]
CSI = ["certificates.source=csi", "certificates.certManager.issuerRef.name=ca"]
ACCEPTED = {
    "defaults": [],
    "everything": CERT_MANAGER + [
        "replicas=5", "serviceMonitor.enabled=true", "prometheusRule.enabled=true", "prometheusRule.platform=true",
        "dashboard.enabled=true", "test.adminCertsSecret=admin", "certificates.extraHosts={brock.example.com,10.0.0.1}",
        "node.extraJoin={far.example.com:20004}", "node.settings.node\\.cache-size=256MiB", "storage.className=fast",
        "networkPolicy.monitoring[0].namespaceSelector.matchLabels.name=monitoring", "priorityClassName=high",
        "networkPolicy.clients[0].podSelector.matchLabels.app=web", "nodeSelector.disk=ssd", "imagePullSecrets[0].name=pull",
        "backup.enabled=true", "backup.bucket=backups", "backup.endpoint=https://s3.example.com:9000", "backup.port=9000",
        "backup.recipients={age1abc,age1def}", "backup.credentialsSecret=s3",
    ],
    "certificates from the CSI driver": CSI + ["replicas=12", "certificates.extraHosts={brock.example.com,10.0.0.1}"],
    "a node sees its own certificate only": ["certificates.isolate=true", "node.firstStart=false"],
    "one node, nothing around it": ["replicas=1", "networkPolicy.enabled=false", "fullnameOverride=alone"],
}
# Values, and a word that the refusal must mention.
REFUSED = [
    (["replicas=0"], "replicas"),
    (["replicas=66"], "replicas"),
    (["image.tagg=1"], "tagg"),
    (["node.settings.node\\.id=x"], "node.id"),
    (["node.settings.node\\.join=a:1"], "node.join"),
    (["node.settings.node\\.backup\\.secret-access-key=x"], "secret-access-key"),
    (["node.extraJoin={far.example.com}"], "extraJoin"),
    (["node.extraJoin={dnssrv+_brock._tcp.example.com:1}"], "extraJoin"),
    (["node.firstStart=maybe"], "firstStart"),
    (["certificates.source=cert-manager"], "issuerRef"),
    (["certificates.source=csi"], "issuerRef"),
    (["certificates.maxNodes=0"], "maxNodes"),
    (["backup.enabled=true"], "bucket"),
    (["backup.recipients={AGE-SECRET-KEY-1ABC}"], "recipients"),
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
    """Every possible node has a Secret or gets a certificate with its id and its DNS name. All nodes have the
    same arguments, and a directory whose files can be updated."""
    of_kind = lambda kind: [manifest for manifest in manifests if manifest["kind"] == kind]
    stateful = of_kind("StatefulSet")[0]
    spec = stateful["spec"]["template"]["spec"]
    container, own = spec["containers"][0], stateful["metadata"]["name"]
    service = stateful["spec"]["serviceName"]
    [headless] = [m for m in of_kind("Service") if m["metadata"]["name"] == service]
    listed = f"dnssrv+_{headless['spec']['ports'][0]['name']}._tcp.{service}.brock.svc.cluster.local"
    arguments = dict(argument.split("=", 1) for argument in container["args"][1:])
    if arguments["--node.join"].split(",")[0] != listed or headless["spec"]["ports"][0]["port"] != 20004:
        problems.append(f"{name}: the nodes join {arguments['--node.join']}, not {listed}")
    if not headless["spec"]["publishNotReadyAddresses"]:
        problems.append(f"{name}: nodes that are not ready could not find each other")
    [mount] = [m for m in container["volumeMounts"] if m["name"] == "certs"]
    isolated = "subPathExpr" in mount
    if isolated != (name == "a node sees its own certificate only"):
        problems.append(f"{name}: {mount}")
    volume = {volume["name"]: volume for volume in spec["volumes"]}["certs"]
    if "csi" in volume:
        attributes = {key.split("/")[1]: text for key, text in volume["csi"]["volumeAttributes"].items()}
        if attributes["uri-sans"] != "spiffe://brock/node/${POD_NAME}":
            problems.append(f"{name}: {attributes['uri-sans']}")
        if f"${{POD_NAME}}.{service}.brock.svc.cluster.local" not in attributes["dns-names"].split(","):
            problems.append(f"{name}: {attributes['dns-names']}")
        return
    if arguments["--node.certs-dir"] != "/etc/brock/certs" + ("" if isolated else "/$(POD_NAME)"):
        problems.append(f"{name}: {arguments['--node.certs-dir']}")
    sources = [source["secret"] for source in volume["projected"]["sources"]]
    secrets = [source["name"] for source in sources]
    if secrets != [f"{own}-{n}-certs" for n in range(max(stateful["spec"]["replicas"], 9))]:
        problems.append(f"{name}: the Secrets {secrets}")
    if not all(source["optional"] for source in sources):
        problems.append(f"{name}: a node would wait for the Secrets of nodes that do not exist")
    for certificate in of_kind("Certificate"):
        node, asked = certificate["spec"]["commonName"], certificate["spec"]
        if asked["uris"] != [f"spiffe://brock/node/{node}"] or asked["secretName"] not in secrets:
            problems.append(f"{name}: the certificate of {node} is not for it")
        if f"{node}.{service}.brock.svc.cluster.local" not in asked["dnsNames"]:
            problems.append(f"{name}: the certificate of {node} does not state the name by which it is dialled")


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
