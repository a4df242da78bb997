"""Renders the chart with several values, checks every manifest against the schemas of the oldest and
the newest Kubernetes that it is for, and checks that wrong values are refused with the cause."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
from concurrent import futures

import kubernetes_validate
import yaml

HELM, PROMTOOL = sys.argv[1:3]
ROOT = pathlib.Path(__file__).parent.parent.parent
CHART = ROOT / "deploy" / "kubernetes" / "chart"
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
        "http.tls=true", "console.tokenSecret=console", "audit.storage.enabled=true", "audit.storage.className=slow",
        "image.registry=registry.example.com/team", f"image.digest=sha256:{'0' * 64}", "commonLabels.team=storage",
        "toolbox.enabled=true", "toolbox.adminCertsSecret=operator", "fullnameOverride=creds", "service.headless=true",
        "serviceAccount.create=true", "serviceAccount.annotations.role=backup", "storage.annotations.snapshot=daily",
        "extraEnv[0].name=SSL_CERT_FILE", "extraEnv[0].value=/etc/ca/ca.pem", "extraEnvFrom[0].secretRef.name=more",
        "prometheusRule.runbookBaseUrl=https://git.example.com/brock/", "extraArgs={--log.level=debug}", "extraVolumes[0].name=ca", "extraVolumes[0].configMap.name=ca",
        "extraVolumeMounts[0].name=ca", "extraVolumeMounts[0].mountPath=/etc/ca",
        "extraInitContainers[0].name=wait", "extraInitContainers[0].image=busybox",
        "extraContainers[0].name=shipper", "extraContainers[0].image=shipper",
        "updateStrategy.rollingUpdate.partition=2", "minReadySeconds=10", "probes.startup.failureThreshold=600",
        "json node.settings={\"compact-threshold-size\": 104857600, \"audit.max-size\": \"2GiB\", \"trace.sample-ratio\": 0.5}",
    ],
    "certificates from the CSI driver": CSI + ["replicas=12", "certificates.extraHosts={brock.example.com,10.0.0.1}"],
    "one node, nothing around it": [
        "replicas=1", "networkPolicy.enabled=false", "fullnameOverride=alone", "node.firstStart=false",
        "certificates.requireUriRoles=false", "node.trust=centralized", "node.settings.tombstone-grace=720h",
        "updateStrategy.type=OnDelete",
    ],
    "one of two clusters": CSI + [
        "node.idPrefix=eu-", "service.perPod.enabled=true", "service.perPod.domain=eu.example.com",
        "service.perPod.loadBalancerClass=internal", "service.perPod.externalTrafficPolicy=Local",
        "service.perPod.annotations.scheme=internal", "service.type=LoadBalancer", "service.loadBalancerClass=internal",
        "service.externalTrafficPolicy=Local", "networkPolicy.peers[0].ipBlock.cidr=192.0.2.0/24", "http.tls=true",
        "toolbox.enabled=true", "node.extraJoin={us-0.example.com:20104,dns+us.example.com:20104,dnssrv+_brock._tcp.us.example.com}",
        "serviceMonitor.enabled=true", "serviceMonitor.tlsConfig.insecureSkipVerify=true",
        "prometheusRule.enabled=true", "json prometheusRule.clusterLabels=[]",
    ],
    "restored from backups": [
        "restore.from=s3://backups/brock", "restore.identitySecret=identity", "restore.at=2026-11-22T08:00:00Z",
        "backup.endpoint=https://s3.example.com:9000", "backup.port=9000", "backup.credentialsSecret=s3",
    ],
    "on OpenShift": [
        "podSecurityContext.runAsUser=null", "podSecurityContext.runAsGroup=null", "podSecurityContext.fsGroup=null",
    ] + CSI,
}
# Values, and a word that the refusal must mention.
REFUSED = [
    (["replicas=0"], "replicas"),
    (["replicas=66"], "replicas"),
    (["image.tagg=1"], "tagg"),
    (["node.settings.node\\.id=x"], "node.id"),
    (["node.settings.node\\.join=a:1"], "node.join"),
    (["node.settings.http\\.tls=true"], "http.tls"),
    (["node.settings.log\\.level="], "log.level"),
    (["node.settings.audit\\.path=/x"], "audit.path"),
    (["node.settings.audit\\.max-sise=1GiB"], "audit.max-sise"),
    (["node.idPrefix=a prefix"], "idPrefix"),
    (["node.idPrefix=europe-", "fullnameOverride=brock-production-a"], "28"),
    (["image.digest=sha256:1"], "digest"),
    (["certificates.isolate=true"], "isolate"),
    (["certificates.requireUriRoles=maybe"], "requireUriRoles"),
    (["certificates.requireUriRoles=false"], "node.trust=centralized"),
    (["node.trust=believed"], "trust"),
    (["node.settings.node\\.trust=centralized"], "node.trust"),
    (["node.settings.tombstone-grace=0s"], "tombstone-grace"),
    (["toolbox.enabled=true"], "adminCertsSecret"),
    (["restore.from=backups"], "from"),
    (["service.headless=true", "service.type=LoadBalancer"], "headless"),
    (["service.perPod.domain=Eu.example.com"], "domain"),
    (["extraArgs={node.id=x}"], "extraArgs"),
    (["probes.liveness.path=/x"], "path"),
    (["json networkPolicy.dnsPorts=[]"], "dnsPorts"),
    (["json prometheusRule.clusterLabels=[\"a b\"]"], "clusterLabels"),
    (CSI + ["http.tls=true", "serviceMonitor.enabled=true"], "serviceMonitor.tlsConfig"),
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
    flags = []
    for value in values:
        flags += ["--set-json", value.removeprefix("json ")] if value.startswith("json ") else ["--set", value]
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
    check_pods(name, manifests)
    check_rules(name, manifests)
    if name in CHECKS:
        CHECKS[name](lambda what, holds: holds or problems.append(f"{name}: {what}"), manifests)


def of_kind(manifests, kind):
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def check_pods(name, manifests):
    """Revocation lists reach every node, no certificate without a role counts, and no version of the chart
    restarts the pods."""
    [stateful] = of_kind(manifests, "StatefulSet")
    template = stateful["spec"]["template"]
    container = template["spec"]["containers"][0]
    arguments = dict(argument.split("=", 1) for argument in container["args"][1:])
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    if volumes["revocations"]["configMap"] != {"name": f"{stateful['metadata']['name']}-revocations", "optional": True}:
        problems.append(f"{name}: {volumes['revocations']}")
    if arguments.get("--node.crl-dir") != mounts["revocations"]["mountPath"] or any("subPath" in text for text in mounts["certs"]):
        problems.append(f"{name}: the node does not read the revocation lists in {mounts}")
    trust = [arguments[f"--node.{key}"] for key in ("require-uri-roles", "trust")]
    if trust != (["false", "centralized"] if name == "one node, nothing around it" else ["true", "distributed"]):
        problems.append(f"{name}: require-uri-roles and trust are {trust}")
    if {"helm.sh/chart", "app.kubernetes.io/version", "app.kubernetes.io/managed-by"} & template["metadata"]["labels"].keys():
        problems.append(f"{name}: a new version of the chart would restart the pods: {template['metadata']['labels']}")
    scheme = "HTTPS" if arguments.get("--http.tls") == "true" else "HTTP"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        if container[probe]["httpGet"]["scheme"] != scheme:
            problems.append(f"{name}: the {probe} does not use {scheme}")
    for monitor in of_kind(manifests, "ServiceMonitor"):
        [endpoint] = monitor["spec"]["endpoints"]
        if (endpoint.get("scheme") == "https") != (scheme == "HTTPS") or (scheme == "HTTPS" and not endpoint["tlsConfig"]):
            problems.append(f"{name}: Prometheus does not speak {scheme}: {endpoint}")


def check_rules(name, manifests):
    for rules in of_kind(manifests, "PrometheusRule"):
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            json.dump(rules["spec"], file)
            file.flush()
            said = subprocess.run([PROMTOOL, "check", "rules", file.name], capture_output=True, text=True)
        if said.returncode != 0:
            problems.append(f"{name}: promtool: {said.stdout}{said.stderr}")


def expressions(manifests):
    [rules] = of_kind(manifests, "PrometheusRule")
    return {rule.get("alert") or rule["record"]: rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"]}


def check_everything(check, manifests):
    [stateful] = of_kind(manifests, "StatefulSet")
    spec = stateful["spec"]["template"]["spec"]
    container = spec["containers"][0]
    check("the image", container["image"] == f"registry.example.com/team/brock@sha256:{'0' * 64}")
    for argument in ("--compact-threshold-size=104857600", "--audit.max-size=2GiB", "--trace.sample-ratio=0.5", "--log.level=debug",
                     "--http.console-token=@/etc/brock/console/token", "--audit.path=/var/lib/brock-audit/log"):
        check(f"no {argument} in {container['args']}", argument in container["args"])
    check("the claims", [claim["metadata"]["name"] for claim in stateful["spec"]["volumeClaimTemplates"]] == ["data", "audit"])
    check("the containers", [other["name"] for other in spec["containers"]] == ["brock", "shipper"])
    check("the init containers", [other["name"] for other in spec["initContainers"]] == ["wait"])
    check("the environment", "SSL_CERT_FILE" in [variable["name"] for variable in container["env"]] and container["envFrom"])
    check("the probe", container["startupProbe"]["failureThreshold"] == 600 and container["startupProbe"]["periodSeconds"] == 1)
    check("the account", spec["serviceAccountName"] == "creds" and of_kind(manifests, "ServiceAccount"))
    check("the labels", all(manifest["metadata"]["labels"].get("team") == "storage" for manifest in manifests))
    [toolbox] = of_kind(manifests, "Deployment")
    tool = toolbox["spec"]["template"]["spec"]["containers"][0]
    check("the toolbox", tool["image"].startswith("registry.example.com/team/brock-tools:") and "creds-4.creds-nodes" in str(tool["env"]))
    [policy] = of_kind(manifests, "NetworkPolicy")
    check("the policy does not let the toolbox in", str(policy).count("brock-toolbox") == 2)
    check("the policy has a named port", "'port': 'grpc'" not in str(policy))
    check("the policy has no port 5353", str(policy).count("'port': 5353") == 2)
    texts = expressions(manifests)
    for alert, like, names in (("BrockVolumeFilling", r'persistentvolumeclaim=~"([^"]*)"', {"data-creds-0": True, "audit-creds-11": True, "data-brock-0": False, "data-creds-web-0": False}),
                               ("BrockCertificateExpiring", r'[{]name=~"([^"]*)"', {"creds-0-certs": True, "brock-0-certs": False})):
        pattern = re.search(like, texts[alert])[1]
        for text, matches in names.items():
            check(f"{alert} for {text}: {pattern}", bool(re.fullmatch(pattern, text)) == matches)
    [rules] = of_kind(manifests, "PrometheusRule")
    notes = [rule["annotations"] for group in rules["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
    check("runbooks", all(note["runbook_url"].startswith("https://git.example.com/brock/docs/guides/") for note in notes))
    check("BrockVolumeFilling of another namespace", 'namespace="brock"' in texts["BrockVolumeFilling"])
    check("BrockAbsent of another release", 'absent(up{job="brock",namespace="brock",release="brock"})' in texts["BrockAbsent"])
    check("BrockMixedVersions of other clusters", "by (cluster, namespace, release, job)" in texts["BrockMixedVersions"])


def check_one_of_two(check, manifests):
    [stateful] = of_kind(manifests, "StatefulSet")
    check("the node ids", "--node.id=eu-$(POD_NAME)" in stateful["spec"]["template"]["spec"]["containers"][0]["args"])
    services = {service["metadata"]["name"]: service for service in of_kind(manifests, "Service")}
    for number in range(3):
        service = services[f"brock-{number}"]
        check("the Service of a pod", service["spec"]["selector"]["statefulset.kubernetes.io/pod-name"] == f"brock-{number}"
              and service["spec"]["publishNotReadyAddresses"] and service["spec"]["externalTrafficPolicy"] == "Local"
              and service["metadata"]["annotations"] == {"scheme": "internal", "external-dns.alpha.kubernetes.io/hostname": f"brock-{number}.eu.example.com"})
    attributes = next(volume for volume in stateful["spec"]["template"]["spec"]["volumes"] if volume["name"] == "certs")["csi"]["volumeAttributes"]
    check("the certificate lacks the name for other clusters", "${POD_NAME}.eu.example.com" in attributes["csi.cert-manager.io/dns-names"])
    [certificate] = of_kind(manifests, "Certificate")
    [toolbox] = of_kind(manifests, "Deployment")
    check("the toolbox is no operator", certificate["spec"]["uris"] == ["spiffe://brock/admin/brock-toolbox"]
          and certificate["spec"]["secretName"] in str(toolbox) and "client auth" in certificate["spec"]["usages"])
    [policy] = of_kind(manifests, "NetworkPolicy")
    check("the policy does not let the other cluster in", {"ipBlock": {"cidr": "192.0.2.0/24"}} in policy["spec"]["ingress"][0]["from"])
    ports = [[port["port"] for port in rule["ports"]] for rule in policy["spec"]["egress"] if "to" not in rule]
    check(f"the policy does not let the nodes out to the other cluster: {ports}", [20004, 20104] in ports)
    check("the rules compare by cluster", not any(re.search(r"\bcluster\b", text) for text in expressions(manifests).values()))


def check_restored(check, manifests):
    [stateful] = of_kind(manifests, "StatefulSet")
    spec = stateful["spec"]["template"]["spec"]
    [restore] = spec["initContainers"]
    node = dict(argument.split("=", 1) for argument in spec["containers"][0]["args"][1:])
    arguments = dict(argument.split("=", 1) for argument in restore["args"][2:])
    check("it restores to another place", restore["args"][:2] == ["backup", "restore"] and arguments["--node.path"] == node["--node.path"])
    check("it restores another node", arguments["--node-id"] == node["--node.id"])
    check("a node could start empty", node["--node.first-start"] == "false")
    check("the credentials", "BROCK_NODE_BACKUP_SECRET_ACCESS_KEY" in [variable["name"] for variable in restore["env"]])
    check("the identity", arguments["--identity"].startswith(next(mount["mountPath"] for mount in restore["volumeMounts"] if mount["name"] == "identity")))
    [policy] = of_kind(manifests, "NetworkPolicy")
    check("the policy does not let it out", "'port': 9000" in str(policy))


def check_openshift(check, manifests):
    [stateful] = of_kind(manifests, "StatefulSet")
    check("ids remain", not re.search(r"65532", str(stateful)))


CHECKS = {
    "everything": check_everything, "one of two clusters": check_one_of_two, "restored from backups": check_restored,
    "on OpenShift": check_openshift,
}


def check_notes():
    """The notes lead a new operator to a certificate that works with port-forward, and warn of what shuts Prometheus out."""
    said = {}
    for case, values in (("plain", []), ("monitored", ["--set", "serviceMonitor.enabled=true"]),
                         ("let in", ["--set", "serviceMonitor.enabled=true,networkPolicy.monitoring[0].podSelector.matchLabels.app=p"])):
        rendered = helm("install", "brock", str(CHART), "--namespace", "brock", "--dry-run=client", *values)
        said[case] = rendered.stdout.partition("NOTES:")[2]
        if "--host localhost" not in said[case] or "port-forward" not in said[case]:
            problems.append(f"notes, {case}: {said[case]}{rendered.stderr}")
    if ["networkPolicy.monitoring" in text for text in said.values()] != [False, True, False]:
        problems.append(f"notes: the warning about networkPolicy.monitoring is wrong: {said}")


def check_settings():
    """node.settings takes every setting that the chart does not set by itself, and no other word."""
    table = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    flags = re.findall(r"^\| `--([\w.-]+)", table, re.M)
    schema = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
    accepted = schema["properties"]["node"]["properties"]["settings"]["propertyNames"]["enum"]
    templates = "".join(path.read_text(encoding="utf-8") for path in (CHART / "templates").iterdir())
    own = set(re.findall(r"--((?:node|http|audit)\.[\w.-]+)=", templates))
    # Secrets, which come by the environment, and the file of settings itself.
    own |= {"node.backup.access-key-id", "node.backup.secret-access-key", "node.backup.session-token", "config"}
    if accepted != [flag for flag in flags if flag not in own]:
        problems.append(f"node.settings in values.schema.json must list {[flag for flag in flags if flag not in own]}")


def check_certificates(name, manifests):
    """Every possible node has a Secret or gets a certificate with its id and its DNS name. All nodes have the
    same arguments, and a directory whose files can be updated."""
    stateful = of_kind(manifests, "StatefulSet")[0]
    spec = stateful["spec"]["template"]["spec"]
    container, own = spec["containers"][0], stateful["metadata"]["name"]
    service = stateful["spec"]["serviceName"]
    [headless] = [m for m in of_kind(manifests, "Service") if m["metadata"]["name"] == service]
    listed = f"dnssrv+_{headless['spec']['ports'][0]['name']}._tcp.{service}.brock.svc.cluster.local"
    arguments = dict(argument.split("=", 1) for argument in container["args"][1:])
    if arguments["--node.join"].split(",")[0] != listed or headless["spec"]["ports"][0]["port"] != 20004:
        problems.append(f"{name}: the nodes join {arguments['--node.join']}, not {listed}")
    if not headless["spec"]["publishNotReadyAddresses"]:
        problems.append(f"{name}: nodes that are not ready could not find each other")
    volume = {volume["name"]: volume for volume in spec["volumes"]}["certs"]
    if "csi" in volume:
        attributes = {key.split("/")[1]: text for key, text in volume["csi"]["volumeAttributes"].items()}
        if attributes["uri-sans"] != "spiffe://brock/node/" + arguments["--node.id"].replace("$(POD_NAME)", "${POD_NAME}"):
            problems.append(f"{name}: {attributes['uri-sans']}")
        if f"${{POD_NAME}}.{service}.brock.svc.cluster.local" not in attributes["dns-names"].split(","):
            problems.append(f"{name}: {attributes['dns-names']}")
        return
    if arguments["--node.certs-dir"] != "/etc/brock/certs/$(POD_NAME)":
        problems.append(f"{name}: {arguments['--node.certs-dir']}")
    sources = [source["secret"] for source in volume["projected"]["sources"]]
    secrets = [source["name"] for source in sources]
    if secrets != [f"{own}-{n}-certs" for n in range(max(stateful["spec"]["replicas"], 9))]:
        problems.append(f"{name}: the Secrets {secrets}")
    if not all(source["optional"] for source in sources):
        problems.append(f"{name}: a node would wait for the Secrets of nodes that do not exist")
    listed = {item["key"] for source in sources for item in source["items"]}
    nodes = [certificate for certificate in of_kind(manifests, "Certificate") if "server auth" in certificate["spec"]["usages"]]
    if "ca.crl" not in listed:
        problems.append(f"{name}: a revocation list in the Secret of a node does not reach it")
    for certificate in nodes:
        node, asked = certificate["spec"]["commonName"], certificate["spec"]
        if asked["uris"] != [f"spiffe://brock/node/{node}"] or asked["secretName"] not in secrets:
            problems.append(f"{name}: the certificate of {node} is not for it")
        if f"{node}.{service}.brock.svc.cluster.local" not in asked["dnsNames"]:
            problems.append(f"{name}: the certificate of {node} does not state the name by which it is dialled")


for release, name_of in (("a-release-that-has-a-long-name", "28"),):
    long_name = template([], release)
    if long_name.returncode == 0 or name_of not in long_name.stderr:
        problems.append(f"a release name that is too long is not refused: {long_name.stderr}")
check_settings()
check_notes()
lint = helm("lint", "--strict", str(CHART))
if lint.returncode != 0:
    problems.append(f"helm lint: {lint.stdout}{lint.stderr}")
for case, values in ACCEPTED.items():
    check_accepted(case, values)
with futures.ThreadPoolExecutor(4) as pool:
    refusals = list(pool.map(lambda case: template(case[0]), REFUSED))
for (values, mention), rendered in zip(REFUSED, refusals):
    if rendered.returncode == 0:
        problems.append(f"{values} is not refused")
    elif mention not in rendered.stderr:
        problems.append(f"the refusal of {values} does not mention {mention}: {rendered.stderr}")
sys.exit("\n".join(problems) if problems else 0)
