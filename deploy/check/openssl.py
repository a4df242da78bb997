"""Another TLS library as the other end of a node: each level of wire encryption, kind of certificate and key exchange.

Usage: openssl.py BINARIES WORK. The OpenSSL is that of the package `cryptography`, 3.5 or later; the one of Debian 12 has
no post-quantum key exchange (tests/suite/net/wire_levels.rs runs it as both ends).
"""
import pathlib
import socket
import subprocess
import sys

from cryptography.hazmat.bindings.openssl.binding import Binding
from OpenSSL import SSL

import nodes

BINARIES, WORK = (pathlib.Path(argument) for argument in sys.argv[1:3])
LIBRARY = Binding().lib
KINDS = ["ecdsa-p256", "ecdsa-p384", "ml-dsa-65", "ml-dsa-87"]
STRONG = ["ecdsa-p384", "ml-dsa-87"]
GROUPS = ["X25519", "X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024"]
# What a node of that level takes from a client that offers one group, with which suite in OpenSSL's order, and what the
# node itself asks for first.
LEVELS = {
    "default": (["X25519", "X25519MLKEM768", "SecP384r1MLKEM1024"], "TLS_AES_256_GCM_SHA384", "X25519MLKEM768"),
    "128": (["X25519", "X25519MLKEM768"], "TLS_CHACHA20_POLY1305_SHA256", "X25519MLKEM768"),
    "192": (["X25519MLKEM768", "SecP256r1MLKEM768"], "TLS_AES_256_GCM_SHA384", "X25519MLKEM768"),
    "256": (["SecP384r1MLKEM1024"], "TLS_AES_256_GCM_SHA384", "SecP384r1MLKEM1024"),
}
problems = []


def run(*command):
    subprocess.run([BINARIES / command[0], *command[1:]], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def certificates(kind):
    """Directories of two nodes and of a client whose CA and keys are of that kind."""
    node, peer, client, key = (WORK / f"tls-{kind}" / name for name in ("one", "two", "client", "ca.key"))
    run("brock", "cert", "ca", "--certs-dir", node, "--ca-key", key, "--algorithm", kind)
    for directory in (peer, client):
        directory.mkdir()
        (directory / "ca.crt").write_bytes((node / "ca.crt").read_bytes())
    for directory in (node, peer):
        name = ["--node-id", directory.name, "--host", "127.0.0.1"]
        run("brock", "cert", "node", "--certs-dir", directory, "--ca-key", key, *name)
    run("brock", "cert", "client", "--certs-dir", client, "--ca-key", key, "--name", "app")
    return node, peer, client


def start(kind, level, certs, join):
    directory = WORK / f"tls-{kind}"
    command = [
        BINARIES / "brock", "run", "--node.id", "one", "--node.path", directory / f"data-{level}", "--node.certs-dir", certs,
        "--node.first-start=true", "--wire-encryption", level, "--node.join", join,
    ]
    return nodes.start(command, directory / f"{level}.log")


def context_of(directory, name, groups):
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    if name:
        context.use_certificate_chain_file(str(directory / f"{name}.crt"))
        context.use_privatekey_file(str(directory / f"{name}.key"))
    context.load_verify_locations(str(directory / "ca.crt"))
    required = SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT
    context.set_verify(required, lambda *arguments: bool(arguments[4]))
    context.set_alpn_protos([b"h2"])
    context.set_alpn_select_callback(lambda _, offered: b"h2")
    if LIBRARY.SSL_CTX_set1_curves_list(context._context, ":".join(groups).encode()) != 1:
        sys.exit(f"this OpenSSL lacks one of {groups}")
    return context


def negotiated(connection):
    return connection.get_group_name().lower(), connection.get_cipher_name()


def dial(port, client, group, name="client"):
    """The group and suite of a connection that the node has accepted, or why there is none. No name: no certificate."""
    context = context_of(client, name, [group])
    with socket.create_connection(("127.0.0.1", port), 5) as tcp:
        connection = SSL.Connection(context, tcp)
        connection.set_connect_state()
        try:
            tcp.setblocking(True)
            connection.do_handshake()
            # The preface of HTTP/2: a client of TLS 1.3 learns only from the answer whether it was accepted.
            connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")
            connection.recv(9)
            return negotiated(connection)
        except SSL.Error as error:
            return None, str(error)


def accept(listener, peer):
    """The group and suite of a connection that the node has dialled."""
    listener.settimeout(20)
    tcp, _ = listener.accept()
    with tcp:
        tcp.setblocking(True)
        connection = SSL.Connection(context_of(peer, "node", GROUPS), tcp)
        connection.set_accept_state()
        try:
            connection.do_handshake()
            return negotiated(connection)
        except SSL.Error as error:
            return None, str(error)


def check(kind, level, port, client, listener, peer):
    groups, suite, first = LEVELS[level]
    for group in GROUPS:
        got = dial(port, client, group)
        met = got == (group.lower(), suite) if group in groups else got[0] is None
        if not met:
            problems.append(f"{kind} at {level}, a client with {group}: {got}")
    got = dial(port, client, first, None)
    if got[0] is not None:
        problems.append(f"{kind} at {level}, a client without a certificate: {got}")
    got = accept(listener, peer)
    # The suite is the server's choice: OpenSSL's.
    if got[0] != first.lower():
        problems.append(f"{kind} at {level}, dialling a server: {got}")


def main():
    connections = 0
    for kind in KINDS:
        node, peer, client = certificates(kind)
        for level in LEVELS:
            listener = socket.create_server(("127.0.0.1", 0))
            process, port = start(kind, level, node, f"127.0.0.1:{listener.getsockname()[1]}")
            try:
                if port is None:
                    if level != "256" or kind in STRONG:
                        problems.append(f"a node with {kind} does not start at {level}")
                    continue
                if level == "256" and kind not in STRONG:
                    problems.append(f"a node with {kind} starts at 256")
                check(kind, level, port, client, listener, peer)
                connections += len(LEVELS[level][0]) + 1
            finally:
                process.kill()
                process.wait()
                listener.close()
    for problem in problems:
        print(problem)
    version = SSL.OpenSSL_version(0).decode()
    print(f"{version}: {connections} connections with {len(KINDS)} kinds of certificates, and no other")
    sys.exit(bool(problems))


main()
