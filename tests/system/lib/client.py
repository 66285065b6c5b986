# SPDX-License-Identifier: Apache-2.0
"""Clients of leafd: one that asks one thing, and one that keeps many requests outstanding."""

import collections
import contextlib
import ipaddress
import select
import selectors
import socket
import threading
import time

import msgpack

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key, load_pem_private_key

IDS = {"host": 1, "service": 2, "cert": 3, "usage": 4}
REPLY_IDS = {1: "host", 2: "service", 3: "cert", 4: "key", 5: "ttl", 6: "usage", 7: "error"}
BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----\n"


def pack(fields):
    """msgpack, str as str and bytes as bin."""
    return msgpack.packb(fields, use_bin_type=True)


def by_ids(host, **fields):
    """A request as g3proxy sends it: by ids."""
    return pack({IDS[k]: v for k, v in {"host": host, **fields}.items()})


def by_names(host, **fields):
    """A request as protocol 1.9.0 has it: by names."""
    return pack({"host": host, **fields})


def mimic(host, cert, **fields):
    """The bytes of g3proxy's own request: host, service, usage, cert."""
    return pack({1: host, 2: 0, 4: 0, 3: cert, **fields})


class Answer:
    """A reply, taken apart. `map` holds it as it came; text that is no UTF-8 comes with surrogates."""

    def __init__(self, raw):
        self.raw = raw
        # strict_map_key=False lets integers be keys; what follows the map would raise ExtraData.
        self.map = msgpack.unpackb(raw, raw=False, strict_map_key=False, unicode_errors="surrogateescape")
        assert isinstance(self.map, dict), self.map
        kinds = {type(key) for key in self.map}
        assert len(kinds) == 1, f"mixed keys: {self.map.keys()}"
        self.dialect = "ids" if kinds == {int} else "names"
        self.fields = {REPLY_IDS.get(k, k): v for k, v in self.map.items()}

    @property
    def error(self):
        return self.fields.get("error")

    @property
    def host(self):
        return self.fields.get("host")

    @property
    def ttl(self):
        return self.fields["ttl"]

    @property
    def cert_blocks(self):
        """DER of the leaf and of what stands behind it, from whatever form it came in."""
        cert = self.fields["cert"]
        if isinstance(cert, bytes):
            return [cert]
        if isinstance(cert, list):
            return cert
        blocks, rest = [], cert
        while rest:
            assert rest.startswith(BEGIN), rest[:80]
            one, end, rest = rest.partition(END)
            assert end, "a PEM block has no end"
            blocks.append(x509.load_pem_x509_certificate((one + end).encode()).public_bytes(Encoding.DER))
        return blocks

    @property
    def leaf(self):
        return x509.load_der_x509_certificate(self.cert_blocks[0])

    @property
    def key(self):
        key = self.fields["key"]
        if isinstance(key, bytes):
            return load_der_private_key(key, None)
        return load_pem_private_key(key.encode(), None)

    @property
    def sans(self):
        """The names, as text, in their order."""
        extension = self.leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return [n.value if isinstance(n, x509.DNSName) else str(n.value) for n in extension.value]

    def __repr__(self):
        return f"Answer({ {k: v if k not in ('cert', 'key') else '...' for k, v in self.fields.items()} })"


class DatagramClient:
    """One socket, one request at a time."""

    TIMEOUT_SEC = 6.0  # over leafd's own 3.5 s

    def send(self, data):
        self.socket.send(data)

    def receive(self, timeout=None):
        """The next datagram, or None."""
        ready, _, _ = select.select([self.socket], [], [], self.TIMEOUT_SEC if timeout is None else timeout)
        return self.socket.recv(65536) if ready else None

    def ask_raw(self, data, timeout=None):
        self.send(data)
        return self.receive(timeout)

    def ask(self, data, timeout=None):
        """The answer to these bytes; no answer is a failure."""
        raw = self.ask_raw(data, timeout)
        assert raw is not None, f"no answer to {data[:60]!r}"
        return Answer(raw)

    def ask_error(self, data):
        """The code of the error reply to these bytes."""
        answer = self.ask(data)
        assert answer.error, f"a leaf, where an error was expected: {answer}"
        return answer.error

    def ask_leaf(self, data):
        answer = self.ask(data)
        assert not answer.error, f"error {answer.error}, where a leaf was expected"
        return answer

    def ask_last(self, host):
        """The leaf of a host that was not asked for before. What comes ahead of it was due to earlier requests."""
        self.send(by_ids(host))
        deadline = time.monotonic() + self.TIMEOUT_SEC
        while True:
            raw = self.receive(max(0, deadline - time.monotonic()))
            assert raw is not None, f"no answer for {host}"
            answer = Answer(raw)
            if answer.host == host:
                assert not answer.error, f"error {answer.error}, where a leaf was expected"
                return answer

    def assert_silence(self, data, barrier):
        """No packet comes back for `data`. `barrier` is a request that is answered: once its answer is
        there and nothing else has come, nothing will (`data` was read before it)."""
        self.send(data)
        answer = Answer(self.ask_raw(barrier))
        host = msgpack.unpackb(barrier, strict_map_key=False)[1]
        assert answer.host == host and not answer.error, f"answered: {answer}"
        late = self.receive(timeout=0.1)
        assert late is None, f"answered: {late[:60]!r}"

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def _family(host):
    return socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET


SO_RCVBUFFORCE = 33


def make_room(one, octets):
    """For replies that come while nobody reads: more than net.core.rmem_max only for root."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, octets)
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, octets)


class UdpClient(DatagramClient):
    def __init__(self, address, bind=None, connect=True):
        self.address = address
        self.socket = socket.socket(_family(address[0]), socket.SOCK_DGRAM)
        make_room(self.socket, 4 << 20)
        if bind:
            self.socket.bind(bind)
        if connect:
            self.socket.connect(address)
        else:
            self.send = lambda data: self.socket.sendto(data, address)


class UnixClient(DatagramClient):
    """A datagram socket with a name of its own (`path`, or one the kernel makes), which replies need."""

    def __init__(self, address, path=""):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        if path:
            path.chmod(0o666)
        self.socket.connect(str(address))


class Outcome:
    __slots__ = ("host", "sent", "answered", "raw")

    def __init__(self, host, sent):
        self.host, self.sent, self.answered, self.raw = host, sent, None, None

    @property
    def took(self):
        return self.answered - self.sent

    @property
    def answer(self):
        return Answer(self.raw)


class Load:
    """Clients that each keep one request outstanding, on a socket of their own, until `limit` requests
    are sent or stop() is called. `make(i)` gives (host, bytes) of request number i; a host is asked once
    at a time. What has no answer after `timeout` stays unanswered and its client goes on."""

    def __init__(self, address, make, clients, limit=None, timeout=4.0):
        self.address, self.make, self.limit, self.timeout = address, make, limit, timeout
        self.outcomes = []
        self._stop = threading.Event()
        self._sockets = []
        for _ in range(clients):
            one = socket.socket(_family(address[0]), socket.SOCK_DGRAM)
            make_room(one, 1 << 20)
            one.connect(address)
            one.setblocking(False)
            self._sockets.append(one)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._error = None

    def start(self):
        self._thread.start()
        return self

    def stop(self):
        """No new requests; waits for the answers to those outstanding. All outcomes."""
        self._stop.set()
        return self.join()

    def join(self, seconds=60):
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the load does not end"
        for one in self._sockets:
            one.close()
        if self._error:
            raise self._error
        return self.outcomes

    def count_answered(self):
        return sum(1 for outcome in list(self.outcomes) if outcome.answered)

    def _run(self):
        try:
            self._pump()
        except BaseException as error:  # shown by join()
            self._error = error

    def _pump(self):
        selector = selectors.DefaultSelector()
        for one in self._sockets:
            selector.register(one, selectors.EVENT_READ)
        idle = collections.deque(self._sockets)
        outstanding = {}
        number = 0
        while True:
            more = not self._stop.is_set() and (self.limit is None or number < self.limit)
            while more and idle:
                one = idle.popleft()
                host, data = self.make(number)
                number += 1
                outcome = Outcome(host, time.monotonic())
                self.outcomes.append(outcome)
                outstanding[one] = outcome
                one.send(data)
                more = self.limit is None or number < self.limit
            if not outstanding:
                break
            for key, _ in selector.select(0.02):
                self._receive(key.fileobj, outstanding, idle)
            now = time.monotonic()
            for one in [s for s, o in outstanding.items() if now - o.sent > self.timeout]:
                del outstanding[one]
                idle.append(one)
        selector.close()

    def _receive(self, one, outstanding, idle):
        while True:
            try:
                raw = one.recv(65536)
            except BlockingIOError:
                return
            outcome = outstanding.get(one)
            # A late answer to a request given up must not count for the one after it.
            if outcome is None or Answer(raw).host not in (outcome.host, None):
                continue
            outcome.answered, outcome.raw = time.monotonic(), raw
            del outstanding[one]
            idle.append(one)


def run_load(address, requests, clients, timeout=4.0):
    """Sends all of `requests` ((host, bytes)) with `clients` outstanding; their outcomes, in order."""
    return Load(address, requests.__getitem__, clients, limit=len(requests), timeout=timeout).start().join()
