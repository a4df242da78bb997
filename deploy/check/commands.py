"""Checks that every command of brock and node-admin in a document or an alert exists, with its subcommands
and flags, according to the help of the binaries. The suite also runs the commands of the documents; this check
covers the blocks that it cannot run."""

import functools
import pathlib
import re
import shlex
import subprocess
import sys

import yaml

BINARIES = pathlib.Path(sys.argv[1])
ROOT = pathlib.Path(__file__).parent.parent.parent
DOCUMENTS = ["README.md", "docs/tutorial.md", "docs/reference/output.md", "docs/explanation/concepts.md",
             "docs/explanation/security.md", "docs/explanation/faq.md",
             *sorted(f"docs/guides/{path.name}" for path in (ROOT / "docs" / "guides").glob("*.md"))]
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
    for index, word in enumerate(rest):
        flag = word.split("=")[0]
        if word == "--" and words == ("brock", "dev"):
            # The settings of its nodes.
            check(where, ["brock", "run", *rest[index + 1:]])
            return
        if flag.startswith("-") and flag != "-":
            # At the begin of a line of the help; elsewhere the flag is only mentioned.
            pattern = rf"^ +(?:-\w, )?{re.escape(flag)}(?![\w.-])(.*)"
            known = re.search(pattern, help_of(words), re.M) or re.search(pattern, help_of((program,)), re.M)
            if not known:
                problems.append(f"{where}: `{' '.join(command)}`: {' '.join(words)} has no {flag}")
                return
            takes_value = "=" not in word and bool(re.match(r"(, --[\w.-]+)? <", known[1]))
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
    """Whether the usage has a word that is neither a flag nor a value of a flag."""
    usage = re.search(r"^Usage: (.*)$", help_text, re.M)
    tokens = usage[1].split() if usage else []
    return any(token[0] in "<[" and token != "[OPTIONS]" and not before.startswith("-")
               for before, token in zip(tokens, tokens[1:]))


def commands_in(text):
    """The commands in a line of a shell or in `code` that begin with the name of a binary."""
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
    return "\n".join(re.sub(r"^\s*[$#] ", "", line) for line in joined.splitlines())


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
