"""Starts a cluster with `brock dev` and a Prometheus that scrapes it, asks every query of the dashboard and
every expression of the rules, and lets brock check the configurations that deploy/ contains."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import yaml

BINARIES, PROMETHEUS, WORK = (pathlib.Path(argument) for argument in sys.argv[1:4])
ROOT = pathlib.Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
# Metrics that an idle cluster does not export yet: a counter appears with its first event.
RARE = re.compile(
    r"brock_(conflicts|quarantined|replication_rounds|divergences|scrub_mended_buckets|scrub_unproven_records|repaired_records|resyncs|receipts|rpc_denied|"
    r"handshake_failures|write_retries|duplicate_keys|operations|expired|log_compacted_entries|tombstones_collected|"
    r"origins_folded|peeks|backup_object_requests)_total|brock_backup_\w+_seconds|brock_revocation_seconds_bucket")
problems, processes = [], []


def start(log, *command):
    with open(WORK / log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    processes.append(process)
    return process


def wait_for(what, seconds, condition):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if any(process.poll() is not None for process in processes) or time.monotonic() > deadline:
            logs = "".join(f"\n{log}: " + (WORK / log).read_text(errors="replace")[-2000:] for log in ("cluster.log", "prometheus.log", "chart.log") if (WORK / log).exists())
            raise SystemExit(f"no {what} within {seconds} s{logs}")
        time.sleep(0.2)
    return value


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(port, expression):
    query = urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=10) as answer:
            return json.load(answer)["data"]["result"], ""
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        # While it starts, the answer is not JSON.
        return [], json.loads(text).get("error", text) if text.startswith("{") else f"{error}: {text}"
    except OSError as error:
        return [], str(error)


def cluster():
    """Starts a cluster; returns its addresses and those of its metrics."""
    start("cluster.log", str(BINARIES / "brock"), "dev", "--nodes", "3", "--dir", str(WORK / "dev"), "--base-port", "0")
    environment = WORK / "dev" / "cluster.env"
    wait_for("cluster", 60, environment.exists)
    addresses = re.search(r"BROCK_ADDRESSES=(.*)", environment.read_text())[1]
    targets = wait_for("metrics", 20, lambda: set(re.findall(r"http://([\d.:]+)/console/", (WORK / "cluster.log").read_text(errors="replace"))))
    return addresses, targets


def write(addresses, keys):
    for number in keys:
        subprocess.run(
            [BINARIES / "node-admin", "--certs-dir", WORK / "dev" / "admin", "--node-addresses", addresses, "record", "put", f"{number:064x}"],
            input=b'{"encrypted_access_grant": "aGVsbG8="}', capture_output=True, check=True, timeout=30)


def prometheus(targets):
    port = free_port()
    place = WORK / "prometheus"
    place.mkdir()
    rules = DEPLOY / "prometheus"
    (place / "prometheus.yml").write_text(json.dumps({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules / "rules.yml")],
        "scrape_configs": [{"job_name": "brock", "static_configs": [{"targets": sorted(targets)}]}],
    }))
    start("prometheus.log", str(PROMETHEUS / "prometheus"), f"--config.file={place}/prometheus.yml",
          f"--storage.tsdb.path={place}/data", f"--web.listen-address=127.0.0.1:{port}",
          "--web.console.templates=/nonexistent", "--web.console.libraries=/nonexistent")
    # The gauges appear ten seconds after the start at the latest.
    wait_for("scrape of all nodes", 40, lambda: len(ask(port, 'up{job="brock"} == 1')[0]) == 3
             and len(ask(port, "brock_clock")[0]) >= 3 and len(ask(port, "count_over_time(brock_build_info[1m]) > 4")[0]) == 3)
    return port


def check_queries(port):
    dashboard = json.loads((DEPLOY / "grafana" / "brock.json").read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for variable, value in (("$cluster", ""), ("$namespace", ""), ("$job", "brock"), ("$instance", ".*"), ("$__rate_interval", "1m")):
                expression = expression.replace(variable, value)
            result, error = ask(port, expression)
            if error:
                problems.append(f"brock.json, {panel['title']}: {error}: {expression}")
            elif not result and not RARE.search(expression) and 'code!="Ok"' not in expression:
                problems.append(f"brock.json, {panel['title']}: nothing comes of {expression}")
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                if any(label not in series["metric"] for series in result):
                    problems.append(f"brock.json, {panel['title']}: a series without {label}, which its legend shows")
    for annotation in dashboard["annotations"]["list"]:
        expression = annotation["expr"].replace("$cluster", "").replace("$namespace", "")
        if error := ask(port, expression)[1]:
            problems.append(f"brock.json, annotation {annotation['name']}: {error}")
    for file in ("rules.yml", "rules-platform.yml"):
        for group in yaml.safe_load((DEPLOY / "prometheus" / file).read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                if error := ask(port, rule["expr"])[1]:
                    problems.append(f"{file}, {rule.get('alert') or rule['record']}: {error}")
    firing, _ = ask(port, 'ALERTS{alertstate="firing"}')
    problems.extend(f"fires although nothing is wrong: {series['metric']}" for series in firing)


def brock_takes(where, arguments, environment):
    variables = {"PATH": os.environ["PATH"], **environment}
    said = subprocess.run([BINARIES / "brock", "config", "check", *arguments], env=variables, capture_output=True, text=True, timeout=20)
    if said.returncode != 0:
        problems.append(f"{where}: brock config check: {said.stdout}{said.stderr}")


def arguments_of_the_chart():
    manifests = [m for m in yaml.safe_load_all((DEPLOY / "kubernetes" / "plain" / "brock.yaml").read_text(encoding="utf-8")) if m]
    return next(m for m in manifests if m["kind"] == "StatefulSet")["spec"]["template"]["spec"]["containers"][0]["args"][1:]


def check_chart():
    """A node with the arguments of the chart lets an operator in, until a revocation list appears where the chart
    mounts the ConfigMap. With the certificates that check_certificates has made."""
    pki, lists, port = WORK / "pki", WORK / "revocations", free_port()
    lists.mkdir()
    here = {"--node.id": "node-1", "--node.path": WORK / "chart", "--node.certs-dir": pki / "node-1",
            "--node.crl-dir": lists, "--node.address": f"127.0.0.1:{port}", "--http.address": f"127.0.0.1:{free_port()}"}
    arguments = dict(argument.split("=", 1) for argument in arguments_of_the_chart())
    if missing := here.keys() - arguments.keys():
        problems.append(f"plain/brock.yaml: the node is not started with {missing}")
        return
    # There is no DNS here, and so no peer.
    del arguments["--node.join"]
    start("chart.log", BINARIES / "brock", "run", *(f"{name}={value}" for name, value in {**arguments, **here}.items()))
    status = [BINARIES / "node-admin", "--certs-dir", pki / "admin", "--node-addresses", f"127.0.0.1:{port}", "status"]
    asked = lambda: subprocess.run(status, capture_output=True, text=True, timeout=20)
    wait_for("status of a node of the chart", 30, lambda: asked().returncode == 0)
    subprocess.run([BINARIES / "brock", "cert", "revoke", "--certs-dir", pki / "ca", "--ca-key", pki / "safe" / "ca.key",
                    pki / "admin" / "client.crt"], capture_output=True, check=True, timeout=20)
    shutil.copy(pki / "ca" / "ca.crl", lists / "ca.crl")
    wait_for("refusal of the operator that was revoked", 30, lambda: "revoked" in (said := asked()).stderr and said.returncode != 0)


def check_configurations():
    unit = (DEPLOY / "systemd" / "brock.service").read_text(encoding="utf-8")
    arguments = re.search(r"^ExecStart=/usr/bin/brock run (.*)$", unit, re.M)[1]
    brock_takes("brock.service", arguments.replace("/etc/brock/brock.toml", str(DEPLOY / "systemd" / "brock.toml")).split(), {})

    image = re.findall(r"(BROCK_\w+)=(\S+)", (DEPLOY / "docker" / "Dockerfile").read_text(encoding="utf-8"))
    compose = yaml.safe_load((DEPLOY / "docker" / "compose.yml").read_text(encoding="utf-8"))
    for name, service in compose["services"].items():
        if name.startswith("node-"):
            # As compose does: a variable that is not set has its default.
            own = {key: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value) for key, value in service["environment"].items()}
            # Made by make-certs.sh, see below.
            own = {key: value.replace("/etc/brock/config", str(WORK / "pki" / "config")) for key, value in own.items()}
            brock_takes(f"compose.yml, {name}", [], {**dict(image), **own})

    brock_takes("plain/brock.yaml", [argument.replace("$(POD_NAME)", "brock-0") for argument in arguments_of_the_chart()], {})


def check_certificates():
    """make-certs.sh, run twice, makes certificates with which the nodes of compose.yml start."""
    pki = WORK / "pki"
    for part in ("safe", "ca", "node-1", "node-2", "node-3", "admin", "config"):
        (pki / part).mkdir(parents=True)
    variables = {**os.environ, "PATH": f"{BINARIES}:{os.environ['PATH']}"}
    for _ in range(2):
        said = subprocess.run([DEPLOY / "docker" / "make-certs.sh", pki], env=variables, capture_output=True, text=True, timeout=30)
        if said.returncode != 0:
            problems.append(f"make-certs.sh: {said.stdout}{said.stderr}")
            return
    port, http = free_port(), f":{free_port()}"
    node = [BINARIES / "brock", "run", "--node.id=node-1", "--node.path=ram:", f"--node.certs-dir={pki}/node-1", f"--node.address=127.0.0.1:{port}",
            f"--http.address={http}", f"--http.console-token=@{pki}/config/console-token", "--node.require-uri-roles=true", "--node.trust=distributed"]
    processes.append(subprocess.Popen(node, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL))
    # The health check of compose.yml.
    test = yaml.safe_load((DEPLOY / "docker" / "compose.yml").read_text(encoding="utf-8"))["services"]["node-1"]["healthcheck"]["test"]
    replaced = {"/usr/local/bin/brock": str(BINARIES / "brock")}
    health = [replaced.get(word, word) for word in test[1:]]
    status = [BINARIES / "node-admin", "--certs-dir", pki / "admin", "--node-addresses", f"127.0.0.1:{port}", "status"]
    variables = {**os.environ, "BROCK_HTTP_ADDRESS": http}
    for what, command in (("health", health), ("status", status)):
        wait_for(f"{what} of a node with those certificates", 20,
                 lambda command=command: subprocess.run(command, env=variables, capture_output=True, timeout=20).returncode == 0)
    # Its operator may revoke, which takes a signature.
    key = "ab" * 32
    for what, given in ((["put", key], '{"encrypted_access_grant": "aGVsbG8="}'), (["invalidate", key, "leaked"], None)):
        said = subprocess.run([*status[:-1], "record", *what], input=given, capture_output=True, text=True, timeout=20)
        if said.returncode != 0:
            problems.append(f"record {what[0]} by the operator of make-certs.sh: {said.stderr}")

    # The console of a port that is not on loopback, with the token and without.
    token = (pki / "config" / "console-token").read_text()
    for expected, headers in ((200, {"Authorization": f"Bearer {token}"}), (401, {})):
        request = urllib.request.Request(f"http://127.0.0.1{http}/console/", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                said = answer.status
        except urllib.error.HTTPError as error:
            said = error.code
        if said != expected:
            problems.append(f"the console answers {said}, not {expected}, with {list(headers) or 'no token'}")


def stop_all():
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
    shutil.rmtree(WORK / "dev", ignore_errors=True)


def interrupted(number, _):
    raise SystemExit(128 + number)


signal.signal(signal.SIGTERM, interrupted)
try:
    nodes, scraped = cluster()
    write(nodes, range(3))
    database = prometheus(scraped)
    write(nodes, range(3, 5))
    # These take some seconds: meanwhile Prometheus scrapes what the writes did.
    check_certificates()
    check_chart()
    check_configurations()
    write(nodes, range(5, 7))
    check_queries(database)
finally:
    stop_all()
sys.exit("\n".join(problems) if problems else 0)
