# SPDX-License-Identifier: Apache-2.0
"""Clients that ask for as long as it takes, and judge each answer when it comes: for load that goes on
for minutes, of which nothing can be kept but counts and what went wrong."""

import collections
import contextlib
import selectors
import socket
import threading
import time
import typing

from cryptography import x509

from . import certs, checks
from .client import Answer, by_ids, mimic

KNOWN_HOSTS = [f"known-{n}.soak.example.org" for n in range(24)]
GIVE_UP_SEC = 6.0  # leafd is silent after 3.5 s
KEY_EVERY = 16  # to load a private key takes longer than all the rest
SAMPLE_EVERY = 500
SAMPLE_MAX = 8


class Asked:
    __slots__ = ("host", "sent", "generation", "expects")

    def __init__(self, host, generation, expects):
        self.host, self.sent, self.generation, self.expects = host, time.monotonic(), generation, expects


class Failure(typing.NamedTuple):
    """An error reply, or no answer."""

    sent: float
    ended: float
    error: str  # "no answer" for that
    host: str
    is_known: bool  # its leaf has come before, and nothing has emptied the cache since


class Askers:
    """Each client has one request outstanding all the time, in turn for a new leaf (fresh or mimic) and for
    one that was asked for before. A leaf that is not signed by the authority, names another host, has
    another's key or serial, or differs from what the cache gave before ends the load: join() raises it."""

    def __init__(self, address, authority, clients):
        self.authority = authority
        self.active = clients  # of them, as many as ask; may be changed at any time
        self.new_good = self.known_good = self.mimics = 0
        self.failures = []
        self.sample = []  # (host, answer), for a closer look
        self.slowest_sec = 0.0
        self._serials = {}  # serial: the hash of the one certificate that has it
        self._known = {}  # host: (generation, certificate)
        self._generation = 0
        self._doubts = 0
        self._stop = threading.Event()
        self._error = None
        self._sockets = []
        for _ in range(clients):
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.connect(address)
            one.setblocking(False)
            self._sockets.append(one)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        self._thread.start()
        return self

    def stop(self, seconds=GIVE_UP_SEC + 20):
        """No new requests; waits for the answers to those outstanding."""
        self._stop.set()
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "the load does not end"
        for one in self._sockets:
            one.close()
        self.check()

    def check(self):
        """Raises what has ended the load, if something has."""
        if self._error:
            raise self._error

    @contextlib.contextmanager
    def cache_in_doubt(self):
        """While this lasts, and for what was asked before its end, the cache may have lost what it knew."""
        self._doubts += 1
        try:
            yield
        finally:
            self._generation += 1
            self._doubts -= 1

    # ---- on the load's thread ----

    def _run(self):
        try:
            self._pump()
        except BaseException as error:  # shown by check()
            self._error = error

    def _pump(self):
        idle = collections.deque(self._sockets)
        outstanding = {}
        number = 0
        with selectors.DefaultSelector() as selector:
            for one in self._sockets:
                selector.register(one, selectors.EVENT_READ)
            while outstanding or not self._stop.is_set():
                while idle and len(outstanding) < self.active and not self._stop.is_set():
                    one = idle.popleft()
                    asked, data = self._make(number)
                    outstanding[one] = asked
                    one.send(data)
                    number += 1
                for key, _ in selector.select(0.05):
                    self._receive(key.fileobj, outstanding, idle)
                self._give_up(outstanding, idle)

    def _make(self, number):
        if number % 2:
            host = KNOWN_HOSTS[number // 2 % len(KNOWN_HOSTS)]
            generation, cert = self._known.get(host, (-1, None))
            is_sure = generation == self._generation and not self._doubts
            return Asked(host, self._generation, cert if is_sure else None), by_ids(host)
        host = f"n{number}.soak.example.org"
        if number % 4:
            return Asked(host, self._generation, None), by_ids(host)
        self.mimics += 1
        return Asked(host, self._generation, None), mimic(host, certs.upstream([host]))

    def _receive(self, one, outstanding, idle):
        while True:
            try:
                answer = Answer(one.recv(65536))
            except BlockingIOError:
                return
            asked = outstanding.get(one)
            # A late answer to a request given up must not count for the one after it.
            if asked is None or answer.host != asked.host:
                continue
            del outstanding[one]
            idle.append(one)
            self._judge(asked, answer)

    def _give_up(self, outstanding, idle):
        now = time.monotonic()
        for one in [s for s, asked in outstanding.items() if now - asked.sent > GIVE_UP_SEC]:
            asked = outstanding.pop(one)
            idle.append(one)
            self._fail(asked, "no answer")

    def _is_sure(self, asked):
        return asked.expects is not None and asked.generation == self._generation and not self._doubts

    def _fail(self, asked, error):
        self.failures.append(Failure(asked.sent, time.monotonic(), error, asked.host, self._is_sure(asked)))

    def _judge(self, asked, answer):
        self.slowest_sec = max(self.slowest_sec, time.monotonic() - asked.sent)
        if answer.error:
            self._fail(asked, answer.error)
            return
        cert = answer.fields["cert"]
        if self._is_sure(asked):
            assert cert == asked.expects, f"{asked.host}: the cache gives another leaf than before"
            self.known_good += 1
            return
        self._assert_good(asked.host, answer)
        self.new_good += 1
        if asked.host in KNOWN_HOSTS:
            self._known[asked.host] = (asked.generation, cert)
        elif self.new_good % SAMPLE_EVERY == 1 and len(self.sample) < SAMPLE_MAX:
            self.sample.append((asked.host, answer))

    def _assert_good(self, host, answer):
        leaf = answer.leaf
        checks.assert_signed_by(leaf, self.authority.cert)
        assert leaf.issuer == self.authority.cert.subject
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [host] and len(names) == 1, (host, names)
        # A leaf may come again from the cache, also behind a newer one whose answer has overtaken it.
        this = hash(answer.fields["cert"])
        assert self._serials.setdefault(leaf.serial_number, this) == this, f"{host}: a serial for the second time"
        if self.new_good % KEY_EVERY == 0:
            assert answer.key.public_key().public_numbers() == leaf.public_key().public_numbers(), host
