"""Nodes that a check starts, each on free ports."""
import socket
import subprocess
import time


def free_ports():
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


def start(command, log):
    """A node of this command and its port; no port: it does not start. Another process may take a port before it does."""
    for _ in range(5):
        process, port = start_once(command, log)
        if port is not None or "already in use" not in log.read_text():
            break
    return process, port


def start_once(command, log):
    port, http = free_ports()
    addresses = ["--node.address", f"127.0.0.1:{port}", "--http.address", f"127.0.0.1:{http}"]
    with open(log, "wb") as output:
        process = subprocess.Popen([*command, *addresses], stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return process, port
        except OSError:
            time.sleep(0.05)
    process.kill()
    return process, None
