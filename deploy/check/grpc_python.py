"""Runs the Python of docs/reference/orders.md: gRPC's own client revokes a key with an operator's order.

Usage: grpc_python.py BINARIES WORK. At the levels of wire encryption that gRPC for Python has.
"""
import os
import pathlib
import re
import secrets
import subprocess
import sys

import nodes

BINARIES, WORK = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
ROOT = pathlib.Path(__file__).parent.parent.parent
LEVELS = ["default", "128", "192"]


def run(*command, **options):
    return subprocess.run([BINARIES / command[0], *command[1:]], check=True, capture_output=True, **options).stdout


def documented():
    """What the document defines, after making the messages as it says."""
    made = WORK / "grpc-made"
    made.mkdir()
    protos = sorted((ROOT / "proto/brock/v1").glob("*.proto"))
    command = ["-m", "grpc_tools.protoc", "-I", ROOT / "proto", f"--python_out={made}", f"--grpc_python_out={made}"]
    subprocess.run([sys.executable, *command, *protos], check=True)
    sys.path.insert(0, str(made))
    text = (ROOT / "docs/reference/orders.md").read_text()
    names = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1), names)
    return names


def start(level, node):
    command = [
        BINARIES / "brock", "run", "--node.id", "one", "--node.path", WORK / "grpc" / level, "--node.certs-dir", node,
        "--node.first-start=true", "--node.trust", "distributed", "--wire-encryption", level,
    ]
    log = WORK / f"grpc-{level}.log"
    process, port = nodes.start(command, log)
    if port is None:
        sys.exit(f"no node starts at {level}: {log.read_text()}")
    return process, f"127.0.0.1:{port}"


def main():
    os.environ["PATH"] = f"{BINARIES}:{os.environ['PATH']}"
    invalidate = documented()["invalidate"]
    node, admin, key = (WORK / "grpc" / name for name in ("node", "admin", "ca.key"))
    run("brock", "cert", "ca", "--certs-dir", node, "--ca-key", key)
    admin.mkdir()
    (admin / "ca.crt").write_bytes((node / "ca.crt").read_bytes())
    run("brock", "cert", "node", "--certs-dir", node, "--ca-key", key, "--node-id", "one", "--host", "127.0.0.1")
    run("brock", "cert", "admin", "--certs-dir", admin, "--ca-key", key, "--name", "ops")
    for level in LEVELS:
        (process, address), secret = start(level, node), secrets.token_hex(32)
        ask = ["node-admin", "--certs-dir", admin, "--node-addresses", address, "record"]
        try:
            run(*ask, "put", secret, input=b'{"encrypted_access_grant":"Z3JhbnQ="}')
            invalidate(address, str(admin), secret, "leaked")
            shown = run(*ask, "show", secret, "-o", "json").decode()
            if '"leaked"' not in shown:
                sys.exit(f"at {level} the record shows no revocation: {shown}")
        finally:
            process.kill()
            process.wait()
    print(f"revoked at {', '.join(LEVELS)}")


main()
