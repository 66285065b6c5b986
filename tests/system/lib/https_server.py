# SPDX-License-Identifier: Apache-2.0
"""A web server on loopback that shows a leaf: what a client sees behind a proxy that leafd serves."""

import socket
import ssl
import tempfile
import threading

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from . import certs

PAGE = b"<!doctype html><title>leafd: good</title><p>loaded"
PATIENCE_SEC = 30


class HttpsServer:
    """Serves PAGE under any name, with the leaf, chain and key of an answer of leafd (or pem text)."""

    def __init__(self, answer=None, *, pem=None, address="127.0.0.1"):
        if pem is None:
            key = answer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
            pem = "".join(map(certs.pem, answer.cert_blocks)) + key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile(mode="w", prefix="leafd-pair-", suffix=".pem") as file:
            file.write(pem)
            file.flush()
            self.context.load_cert_chain(file.name)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.create_server((address, 0), family=family)
        self.port = self.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        connection.settimeout(PATIENCE_SEC)
        try:
            with self.context.wrap_socket(connection, server_side=True) as tls:
                request = b""
                while b"\r\n\r\n" not in request:
                    data = tls.recv(4096)
                    if not data:
                        return
                    request += data
                head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(PAGE)}\r\n"
                tls.sendall(head.encode() + b"Connection: close\r\n\r\n" + PAGE)
                tls.unwrap()
        except (OSError, ValueError):
            pass  # a client that does not like the certificate hangs up
        finally:
            connection.close()

    def close(self):
        # Wakes the thread up, which close() alone does not.
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()
        self._thread.join(5)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
