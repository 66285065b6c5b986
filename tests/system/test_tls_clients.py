# SPDX-License-Identifier: Apache-2.0
"""Real TLS clients, each of which checks the name, over real sockets: the leaves with the names that are
hardest to get right are taken, for their host alone and under our root alone."""

import collections
import contextlib
import os
import shutil
import socket
import ssl
import subprocess

import pytest

from lib import certs, oracles
from lib.authority import SoftwareAuthority
from lib.checks import is_address
from lib.client import by_ids, mimic
from lib.https_server import PAGE, HttpsServer

LONG_253 = ".".join(["a" * 63] * 3 + ["b" * 61])

# The name asked of leafd, and the host that the client believes to speak to.
NAMES = {
    "plain": ("www.client.example.org", "www.client.example.org"),
    "253-characters": (LONG_253, LONG_253),
    "ipv4": ("127.0.0.1", "127.0.0.1"),
    "ipv6": ("::1", "::1"),
    "idn": ("b\u00fccher.example", "xn--bcher-kva.example"),
    "idn-as-typed": ("b\u00fccher.example", "b\u00fccher.example"),
    "wildcard": ("*.client.example.org", "deep.client.example.org"),
}
REQUEST = b"GET / HTTP/1.0\r\n\r\n"


def run(command, **options):
    """(it has loaded the page, what it said)"""
    done = subprocess.run(command, capture_output=True, timeout=60, **options)
    text = done.stdout + done.stderr
    return done.returncode == 0 and PAGE in done.stdout, text.decode("utf-8", "backslashreplace")


@contextlib.contextmanager
def never_ending(data):
    """A descriptor to read `data` from, and then nothing more, without an end."""
    reading, writing = os.pipe()
    try:
        os.write(writing, data)
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def openssl(server, host, root):
    check = ["-noservername", "-verify_ip"] if is_address(host) else ["-servername", host, "-verify_hostname"]
    command = ["openssl", "s_client", "-connect", where(server), "-CAfile", root, "-no-CApath", "-no-CAstore"]
    strict = ["-verify_return_error", "-x509_strict", "-quiet"]
    return run([*command, *strict, *check, host], input=REQUEST)


def gnutls(server, host, root):
    address = server.socket.getsockname()[0]
    name = ["--disable-sni"] if is_address(host) else [f"--sni-hostname={host}"]
    command = ["gnutls-cli", "--port", str(server.port), f"--x509cafile={root}", "--no-ocsp", "--logfile=/dev/stderr"]
    with never_ending(REQUEST) as keyboard:  # two seconds after its end it waits for no answer
        return run([*command, f"--verify-hostname={host}", *name, address], stdin=keyboard)


def curl(server, host, root):
    address, port = server.socket.getsockname()[:2]
    bracketed = f"[{address}]" if ":" in address else address
    shown = f"[{host}]" if ":" in host else host
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--cacert", root, "--max-time", "30", "--globoff"]
    return run([*command, "--connect-to", f"::{bracketed}:{port}", f"https://{shown}:{port}/"], env=utf8())


def python(server, host, root):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(root)
    context.hostname_checks_common_name = False
    try:
        with socket.create_connection(server.socket.getsockname()[:2], 30) as plain:
            with context.wrap_socket(plain, server_hostname=host) as tls:
                tls.sendall(REQUEST)
                text = b""
                while data := tls.recv(4096):
                    text += data
                return PAGE in text, ""
    except ssl.SSLCertVerificationError as error:
        return False, str(error)


def utf8():
    """curl reads a host in the locale's character set."""
    return {**os.environ, "LC_ALL": "C.UTF-8"}


def where(server):
    address, port = server.socket.getsockname()[:2]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def nss(server, host, root):
    """NSS looks at the name in its TLS client alone, not in certutil."""
    database = oracles.NssDatabase()
    try:
        status, said = database.add("root", ssl.PEM_cert_to_DER_cert(open(root, encoding="ascii").read()), "C,,")
        assert status == 0, said
        address, port = server.socket.getsockname()[:2]
        family = "-6" if ":" in address else "-4"
        command = ["tstclnt", family, "-h", address, "-p", str(port), "-a", host, "-d", f"sql:{database.path}"]
        # -Q: the handshake alone, since it spins for ever on a closed standard input.
        done = subprocess.run([*command, "-Q"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        return done.returncode == 0, (done.stdout + done.stderr).decode("utf-8", "backslashreplace")
    finally:
        database.close()


# How to visit, the program that it takes, whether a host may be given in Unicode; what it says of a name
# that is not the leaf's, and of a root that is not the leaf's.
Client = collections.namedtuple("Client", "visit program unicode wrong_name wrong_root")
NO_ISSUER = "unable to get local issuer certificate"
CLIENTS = {
    "openssl": Client(openssl, "openssl", False, "hostname mismatch", NO_ISSUER),
    "python": Client(python, "openssl", True, "Hostname mismatch", NO_ISSUER),
    "gnutls": Client(gnutls, "gnutls-cli", True, "name in the certificate does not match", "issuer is unknown"),
    "curl": Client(curl, "curl", True, "subject name matches target host", NO_ISSUER),
    "nss": Client(nss, "tstclnt", False, "BAD_CERT_DOMAIN", "UNKNOWN_ISSUER"),
}
CASES = [
    pytest.param(case, one, id=f"{case}-{one}")
    for case, (_, host) in NAMES.items()
    for one, client in CLIENTS.items()
    if client.unicode or host.isascii()
]


@pytest.fixture(scope="module")
def other_root(session_folder):
    return str(SoftwareAuthority(session_folder).pem_file)


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        return True
    except OSError:
        return False


@pytest.mark.parametrize("case, client_name", CASES)
def test_a_client_takes_the_leaf(client, ca, other_root, case, client_name):
    tls_client = CLIENTS[client_name]
    if not shutil.which(tls_client.program):
        pytest.skip(f"{tls_client.program} is not installed")
    if case == "ipv6" and not has_ipv6():
        pytest.skip("this machine has no ::1")
    name, host = NAMES[case]
    address = "::1" if case == "ipv6" else "127.0.0.1"
    names = [name.encode("idna").decode() if not name.isascii() else name]
    with HttpsServer(client.ask_leaf(by_ids(name)), address=address) as server:
        taken, said = tls_client.visit(server, host, str(ca.pem_file))
        assert taken, said
    with HttpsServer(client.ask_leaf(mimic(name, certs.upstream(names))), address=address) as server:
        taken, said = tls_client.visit(server, host, str(ca.pem_file))
        assert taken, said
        taken, said = tls_client.visit(server, "elsewhere.example.com", str(ca.pem_file))
        assert not taken and tls_client.wrong_name in said, said
        taken, said = tls_client.visit(server, host, other_root)
        assert not taken and tls_client.wrong_root in said, said
