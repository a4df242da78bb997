"""Checks that names in deploy/ exist: metrics and their labels in the library, settings in
docs/reference/configuration.md, runbooks in docs/, and for every alert a test in which it fires and one in
which it does not."""

import json
import pathlib
import re
import sys
import tomllib

import yaml

ROOT = pathlib.Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
# Labels that Prometheus adds, and metrics of other exporters in rules-platform.yml.
COMMON_LABELS = {"job", "instance", "cluster", "namespace", "release"}
OUTSIDE = {"up", "ALERTS"}
PLATFORM = OUTSIDE | {
    "kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes", "node_filesystem_avail_bytes",
    "node_filesystem_size_bytes", "certmanager_certificate_expiration_timestamp_seconds",
    "certmanager_certificate_renewal_timestamp_seconds",
}
# Variables of compose.yml and of the scripts, not of the node.
NOT_SETTINGS = {"BROCK_TAG", "BROCK_FIRST_START", "BROCK_CACHE", "BROCK_BINARIES"}

problems = []


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


# ---- metrics -----------------------------------------------------------------------------

METRIC = re.compile(r'[A-Z_]+ = "(\w+)", Kind::(\w+)(?:\(\w+\))?, \w+,\s*"((?:[^"\\]|\\.)*)"[,;]')
[source] = [text for path in (ROOT / "src").rglob("metrics.rs") if METRIC.search(text := path.read_text(encoding="utf-8"))]
metrics = {}
for name, kind, help_text in METRIC.findall(source):
    labels = set(re.findall(r"`(\w+)`", help_text))
    for series in [name + suffix for suffix in ("_bucket", "_sum", "_count")] if kind == "Histogram" else [name]:
        metrics[series] = labels | ({"le"} if series.endswith("_bucket") else set())
if len(metrics) < 20:
    sys.exit("the table of metrics was not understood: " + ", ".join(sorted(metrics)))

STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
NAME = re.compile(r"(?<![\w:$])(?:brock|process|kubelet|node|certmanager)_\w+|(?<![\w:$])brock:[\w:]+|\bup(?=\{)")
SELECTOR = re.compile(r"((?:brock_|process_|up\b)\w*)\{([^}]*)\}")


def check_expression(where, expression, known, recorded):
    # The values of labels are not names.
    bare = STRING.sub('""', expression)
    for name in NAME.findall(bare):
        if name not in known and name not in recorded:
            problems.append(f"{where}: there is no metric {name}")
    for name, inner in SELECTOR.findall(bare):
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", inner):
            if name in metrics and label not in metrics[name] | COMMON_LABELS:
                problems.append(f"{where}: {name} has no label {label}")


alerts = {}
for file, known in (("rules.yml", OUTSIDE), ("rules-platform.yml", PLATFORM)):
    groups = yaml.safe_load(read(f"deploy/prometheus/{file}"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    recorded = {rule["record"] for rule in rules if "record" in rule}
    for rule in rules:
        name = rule.get("alert") or rule["record"]
        check_expression(f"{file}, {name}", rule["expr"], known | metrics.keys(), recorded)
        if "alert" in rule:
            alerts[name] = (file, rule)

dashboard = json.loads(read("deploy/grafana/brock.json"))
queries = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]
for title, expression in queries:
    check_expression(f"brock.json, {title}", expression, metrics.keys() | OUTSIDE, set())
for variable in dashboard["templating"]["list"]:
    if isinstance(variable["query"], dict):
        check_expression(f"brock.json, variable {variable['name']}", variable["query"]["query"], metrics.keys(), set())
identities = [panel["id"] for panel in dashboard["panels"]]
if len(queries) < 30 or len(set(identities)) != len(identities):
    problems.append("brock.json: queries are missing, or two panels have one id")

# ---- alerts ------------------------------------------------------------------------------

fires, silent = set(), set()
for file in sorted((DEPLOY / "prometheus").glob("*.test.yml")):
    for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
        for case in test.get("promql_expr_test", []):
            named = {match for sample in case.get("exp_samples") or [] for match in re.findall(r'alertname="(\w+)"', sample["labels"])}
            fires |= named
            excluded = set(re.findall(r'alertname!="(\w+)"', case["expr"]))
            rule_files = {name for name, (rules, _) in alerts.items() if rules.replace(".yml", "") == re.sub(r"(-long)?\.test\.yml$", "", file.name)}
            silent |= rule_files - named - excluded
for name, (file, rule) in alerts.items():
    if name not in fires:
        problems.append(f"{file}, {name}: no test sees it fire")
    if name not in silent:
        problems.append(f"{file}, {name}: no test sees it not fire")
    if rule.get("labels", {}).get("severity") not in ("critical", "warning"):
        problems.append(f"{file}, {name}: its severity is neither critical nor warning")
    notes = rule.get("annotations", {})
    page, _, anchor = notes.get("runbook", "").partition("#")
    headings = re.findall(r"^## (.+)$", read(page), re.M) if page and (ROOT / page).exists() else []
    if anchor not in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}:
        problems.append(f"{file}, {name}: there is no place {notes.get('runbook')!r}")
    if not notes.get("summary") or len(notes.get("description", "")) < 60:
        problems.append(f"{file}, {name}: no summary, or a description that does not say what to do")
    if "`node-admin " not in notes.get("description", "") and "`brock " not in notes.get("description", ""):
        problems.append(f"{file}, {name}: the description names no command")

# ---- settings ----------------------------------------------------------------------------

REFERENCE = "docs/reference/configuration.md"
table = read(REFERENCE).split("<!-- flags:begin -->")[1].split("<!-- flags:end -->")[0]
flags = set(re.findall(r"^\| `--([\w.-]+)", table, re.M))
variables = set(re.findall(r"`(BROCK_\w+)`", table))
FLAG = re.compile(r"--((?:node|http|log|trace|audit|compact|tombstone)[.-][a-z.-]*[a-z]|config)(?=[=\s`\"'):,]|$)", re.M)
VARIABLE = re.compile(r"\bBROCK_[A-Z_]+\b")
# Flags of node-admin and `brock health`; commands.py checks them.
OTHER_FLAGS = {"node-addresses", "node-id", "http-address"}
seen_flags = set()
places = [path for place in ("docker", "kubernetes", "systemd", "prometheus") for path in (DEPLOY / place).rglob("*")]
places += [ROOT / "README.md", ROOT / "docs" / "tutorial.md"] + list((ROOT / "docs" / "guides").glob("*.md"))
for path in sorted(path for path in places if path.is_file()):
    text, shown = path.read_text(encoding="utf-8"), path.relative_to(ROOT)
    for flag in FLAG.findall(text):
        seen_flags.add(flag)
        if flag not in flags | OTHER_FLAGS:
            problems.append(f"{shown}: {REFERENCE} has no flag --{flag}")
    for variable in VARIABLE.findall(text):
        if variable not in variables | NOT_SETTINGS and not variable.endswith("_"):
            problems.append(f"{shown}: {REFERENCE} has no variable {variable}")
if len(seen_flags) < 10:
    problems.append(f"only these flags were found, so this check is broken: {sorted(seen_flags)}")


def check_toml(where, text):
    def keys(table, prefix=""):
        for key, value in table.items():
            yield from keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]

    for key in keys(tomllib.loads(text)):
        if key not in flags:
            problems.append(f"{where}: {REFERENCE} has no setting {key}")


check_toml("deploy/systemd/brock.toml", read("deploy/systemd/brock.toml"))
for manifest in yaml.safe_load_all(read("deploy/kubernetes/plain/brock.yaml")):
    if manifest and manifest["kind"] == "ConfigMap":
        for name, text in manifest["data"].items():
            check_toml(f"deploy/kubernetes/plain/brock.yaml, {name}", text)

sys.exit("\n".join(problems) if problems else 0)
