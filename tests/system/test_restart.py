# SPDX-License-Identifier: Apache-2.0
"""kill -9 of a role while 64 clients ask: what is lost, what is not, and how soon it is over."""

import itertools
import time

import pytest

from lib import certs, checks, tree
from lib.client import Answer, Load, by_ids, mimic
from lib.leafd_process import is_ours
from lib.polling import slowness, wait_for

CLIENTS = 64
SLOWER = 2 if tree.IS_SANITIZED else 1
BACK_WITHIN_SEC = 1.0 if not tree.IS_SANITIZED else 8.0
# Whoever has waited for so long may be told that there is no token, or hear nothing more.
TOLD_AFTER_SEC = 3.0


@pytest.fixture
def daemon(start, ca):
    """One for each test: its processes die."""
    with start(ca) as running:
        yield running


def new_hosts(kind):
    """Requests for ever new leaves: (host, bytes) of number i."""

    def make(number):
        host = f"{kind}-{number}.restart.example.org"
        return host, by_ids(host) if number % 2 else mimic(host, certs.upstream([host]))

    return make


def wait_answered(load, more):
    before = load.count_answered()
    wait_for(lambda: load.count_answered() >= before + more, f"{more} more answers")


def ask_until_back(client, data):
    """The leaf, while a process starts. Where that takes longer than a request has, another asks for it."""
    for _ in range(5):
        asked = time.monotonic()
        raw = client.ask_raw(data)
        if raw and not Answer(raw).error:
            return Answer(raw)
        assert time.monotonic() - asked > TOLD_AFTER_SEC, f"told too soon: {raw and Answer(raw)}"
    raise AssertionError("no leaf")


def errors_of(outcomes, back):
    """All of them, but what those were told whose time was up before the service was back, or as it came back
    (busy, since there is somebody who signs)."""
    given_up = ("token-unavailable", "busy")
    late = [o for o in outcomes if o.raw and o.answer.error in given_up and o.took > TOLD_AFTER_SEC]
    excused = {o for o in late if o.answered < back + 0.1}
    return [o.answer.error for o in outcomes if o.raw and o.answer.error and o not in excused]


def assert_back(sec, slow):
    """`slow`: slowness() before; an idle machine's seconds are longer on others."""
    slow = max(slow, slowness())
    assert sec < BACK_WITHIN_SEC * slow, f"back after {sec:.2f} s, where all takes {slow:.1f} times as long"


def test_the_signer_is_killed(daemon, ca):
    """Nothing is lost: what it had is signed anew by the next one."""
    load = Load(daemon.address, new_hosts("signer"), CLIENTS).start()
    wait_answered(load, 200)
    slow = slowness()
    killed, dead = daemon.kill_role("signer")
    wait_for(
        lambda: any(o.answered and o.sent > dead and not o.answer.error for o in list(load.outcomes)),
        "a new leaf after the kill",
    )
    wait_answered(load, 200)
    outcomes = load.stop()
    lost = [o for o in outcomes if o.answered is None]
    assert not lost, f"{len(lost)} of {len(outcomes)} lost"
    leaves = [o for o in outcomes if not o.answer.error]
    back = min(o.answered for o in leaves if o.sent > dead)
    errors = errors_of(outcomes, back)
    assert not errors, f"errors: {set(errors)}"
    assert_back(back - killed, slow)
    assert len({o.answer.leaf.serial_number for o in leaves}) == len(leaves)
    for outcome in leaves[-3:]:
        checks.assert_leaf(outcome.answer, ca.cert, names=[outcome.host])
    assert daemon.role_pids("signer")


def test_the_front_is_killed(daemon, ca):
    """It loses what it had read, and no more: its sockets stay open, and what comes meanwhile waits in them."""
    load = Load(daemon.address, new_hosts("front"), CLIENTS).start()
    wait_answered(load, 200)
    slow = slowness()
    killed, dead = daemon.kill_role("front")
    # The 64 may all be waiting for what was lost; one more asker tells when the service is back.
    with daemon.client() as client:
        ask_until_back(client, by_ids("back.restart.example.org"))
    back = time.monotonic()
    in_flight = [o for o in list(load.outcomes) if o.sent <= dead and not (o.answered and o.answered <= killed)]
    wait_for(
        lambda: any(o.answered and o.sent > dead for o in list(load.outcomes)), "an answer after the kill", seconds=20
    )
    wait_answered(load, 200)
    outcomes = load.stop()
    lost = {o for o in outcomes if o.answered is None}
    given_up = daemon.metric("leafd_dropped_total", reason="deadline")  # where its start took longer than they had
    assert len(lost & set(in_flight)) <= CLIENTS, f"{len(lost)} lost, {len(in_flight)} in flight"
    assert len(lost - set(in_flight)) <= given_up, f"{len(lost)} lost, {len(in_flight)} in flight"
    errors = errors_of(outcomes, back)
    assert not errors, f"errors: {set(errors)}"
    assert_back(back - killed, slow)
    # The new front's leaves have other serials than the old one's.
    answered = [o for o in outcomes if o.raw and not o.answer.error]
    assert len({o.answer.leaf.serial_number for o in answered}) == len(answered)
    checks.assert_leaf(answered[-1].answer, ca.cert, names=[answered[-1].host])


def test_requests_wait_in_the_socket_while_there_is_no_front(daemon):
    """No port ever closes: no ECONNREFUSED, and an answer to each."""
    with daemon.client() as client:
        client.ask_leaf(by_ids("before.example.org"))
        _, dead = daemon.kill_role("front")
        hosts = [f"waits-{n}.example.org" for n in range(50)]
        for host in hosts:
            client.send(by_ids(host))
        got = []

        def settled():
            """All have an answer, but those that were too old when the new front, on a slow machine, came."""
            got.extend(Answer(raw).host for raw in iter(lambda: client.receive(timeout=0.1), None))
            return len(got) == len(hosts) or len(got) + dropped() == len(hosts)

        def dropped():
            return daemon.metric("leafd_dropped_total", reason="deadline")

        wait_for(settled, "an answer to each")
        assert len(set(got)) == len(got) and set(got) <= set(hosts)
        assert len(got) == len(hosts) or time.monotonic() - dead > TOLD_AFTER_SEC


def test_cached_leaves_are_answered_throughout(daemon):
    """While the signer is dead, and while it starts."""
    hosts = [f"cached-{n}.example.org" for n in range(50)]
    upstreams = {host: certs.upstream([host]) for host in hosts}
    with daemon.client() as client:
        first = {host: client.ask_leaf(mimic(host, upstreams[host])).map[3] for host in hosts}
    cycle = itertools.cycle(hosts)
    load = Load(daemon.address, lambda n: (lambda h: (h, mimic(h, upstreams[h])))(next(cycle)), 8, timeout=2.0 * SLOWER).start()
    wait_answered(load, 100)
    for _ in range(2):
        old = daemon.role_pid("signer")
        daemon.kill_role("signer")
        wait_for(lambda: daemon.role_pids("signer") not in ([], [old]), "another signer")
        wait_answered(load, 100)
    wait_for(lambda: daemon.http("/ready")[0] == 200, "ready again")
    outcomes = load.stop()
    assert all(o.answered for o in outcomes), f"{sum(1 for o in outcomes if not o.answered)} of {len(outcomes)} lost"
    assert all(o.answer.map.get(3) == first[o.host] for o in outcomes)
    slowest, slow = max(o.took for o in outcomes), slowness()
    assert slowest < 0.5 * slow or tree.IS_SANITIZED, f"the slowest took {slowest:.2f} s"


def test_cached_leaves_are_answered_while_the_signer_hangs(daemon):
    """A module that hangs costs the signer alone."""
    cert = certs.upstream(["hangs.example.org"])
    with daemon.client() as client:
        first = client.ask_leaf(mimic("hangs.example.org", cert))
        with daemon.frozen("signer"):
            for _ in range(20):
                assert client.ask_leaf(mimic("hangs.example.org", cert)).map[3] == first.map[3]
            assert daemon.http("/ping")[0] == 200
        client.ask_leaf(by_ids("goes-on.example.org"))


def test_a_new_signer_has_a_new_untrusted_ca(daemon, ca):
    """It is made in each signer's memory: leaves of the one before are not told from those of this one by
    their trust, and nothing breaks over the change."""
    host = "untrusted.restart.example.org"
    self_signed = certs.name((certs.COMMON_NAME, host))

    def ask(client):
        cert = certs.upstream([host], subject=self_signed, issuer=self_signed)
        answer = ask_until_back(client, mimic(host, cert))
        checks.assert_leaf(answer, ca.cert, names=[host], trusted=False)
        get = answer.leaf.extensions.get_extension_for_class
        return get(checks.x509.AuthorityKeyIdentifier).value.key_identifier

    with daemon.client() as client:
        before = ask(client)
        daemon.kill_role("signer")
        assert ask(client) != before


def test_both_are_killed_again_and_again(daemon):
    """The service comes back each time; the supervisor and the sockets stay."""
    listen = daemon.address
    for turn in range(3):
        for role in ("signer", "front"):
            daemon.kill_role(role)
        with daemon.client() as client:
            wait_for(lambda: client.ask_raw(by_ids(f"turn-{turn}.example.org"), timeout=0.5), "an answer", seconds=20)
    assert daemon.address == listen and daemon.process.poll() is None


def test_the_supervisor_is_killed(start, ca):
    """Then nobody stays behind."""
    with start(ca) as daemon:
        pids = daemon.role_pids()
        assert len(pids) == 2
        daemon.process.kill()
        daemon.wait_exit()
        wait_for(lambda: not any(is_ours(pid) for pid in pids), "the roles have ended too")
