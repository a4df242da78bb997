"""Checks that every command of brock and node-admin that a document or an alert mentions exists, with its
subcommands and flags, by what the binaries say of themselves."""

import functools
import pathlib
import re
import shlex
import subprocess
import sys

import yaml

BINARIES = pathlib.Path(sys.argv[1])
ROOT = pathlib.Path(__file__).parent.parent.parent
DOCUMENTS = ["docs/operations.md", "docs/troubleshooting.md"]
problems = []
checked = 0


@functools.cache
def help_of(words):
    said = subprocess.run([BINARIES / words[0], *words[1:], "--help"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if said.returncode != 0:
        sys.exit(f"{' '.join(words)} --help: {said.stderr}")
    return said.stdout


def subcommands_of(words):
    listed = re.search(r"^Commands:\n((?:  .*\n)+)", help_of(words), re.M)
    return set(re.findall(r"^  ([\w-]+) ", listed[1], re.M)) if listed else set()


def check(where, command):
    global checked
    checked += 1
    program, *rest = command
    words, takes_value = (program,), False
    for word in rest:
        flag = word.split("=")[0]
        if flag.startswith("-") and flag != "-":
            known = re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w.-])(.*)", help_of(words)) or re.search(
                rf"(?<![\w-]){re.escape(flag)}(?![\w.-])(.*)", help_of((program,)))
            if not known:
                problems.append(f"{where}: `{' '.join(command)}`: {' '.join(words)} has no {flag}")
                return
            takes_value = "=" not in word and known[1].startswith(" <")
        elif takes_value:
            takes_value = False
        elif word in subcommands_of(words):
            words += (word,)
        elif subcommands_of(words):
            problems.append(f"{where}: `{' '.join(command)}`: {' '.join(words)} has no command {word}")
            return
        elif not takes_arguments(help_of(words)):
            problems.append(f"{where}: `{' '.join(command)}`: {' '.join(words)} takes no {word}")
            return


def takes_arguments(help_text):
    """Whether the usage has a word that is neither a flag nor a flag's value."""
    usage = re.search(r"^Usage: (.*)$", help_text, re.M)
    tokens = usage[1].split() if usage else []
    return any(token[0] in "<[" and token != "[OPTIONS]" and not before.startswith("-")
               for before, token in zip(tokens, tokens[1:]))


def commands_in(text):
    """Of a line of a shell or of `code`: what begins with the name of a binary."""
    text = re.sub(r"(\$\(.*?\)|\$\{?\w+\}?)", "VALUE", text)
    # compose.yml's service `admin` is node-admin.
    text = re.sub(r"docker compose .* run --rm admin", "node-admin", text)
    for part in re.split(r"[;|&\n]", text):
        part = part.strip().removeprefix("do ").strip()
        if re.match(r"(brock|node-admin)( |$)", part):
            words = shlex.split(part.split(" > ")[0])
            yield [word.replace("…", "") for word in words if word not in ("…", "...")]


def lines_of(block):
    joined = re.sub(r"\\\n\s*", " ", block)
    return "\n".join(re.sub(r"^[$#] ", "", line) for line in joined.splitlines())


for document in DOCUMENTS:
    text = (ROOT / document).read_text(encoding="utf-8")
    for block in re.findall(r"```console\n(.*?)```", text, re.S):
        for command in commands_in(lines_of(block)):
            check(document, command)
    for code in re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S)):
        for command in commands_in(code):
            check(document, command)
for file in ("rules.yml", "rules-platform.yml"):
    for group in yaml.safe_load((ROOT / "deploy/prometheus" / file).read_text(encoding="utf-8"))["groups"]:
        for rule in group["rules"]:
            for code in re.findall(r"`([^`]+)`", rule.get("annotations", {}).get("description", "")):
                for command in commands_in(code):
                    check(f"{file}, {rule['alert']}", command)
if checked < 80:
    problems.append(f"only {checked} commands were found, so this check is broken")
sys.exit("\n".join(problems) if problems else 0)
