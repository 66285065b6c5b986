# SPDX-License-Identifier: Apache-2.0
"""Error replies are small and few: their size, their budget, their log lines."""

import contextlib
import time

import pytest

from lib import leafd_process
from lib.client import UdpClient, by_ids, by_names, pack
from lib.polling import wait_for


def test_an_error_is_small(client):
    """At most 48 octets plus the host, which is left out over 253 octets; it amplifies nothing."""
    for host in ("a", "e" * 31, "e" * 32, "e" * 253):
        for data in (
            by_ids(host + " "[: 253 - len(host)], service=99),
            by_names(host, service=99),
            by_ids(host, usage=99),
        ):
            answer = client.ask(data)
            assert answer.error and len(answer.raw) <= 48 + len(host) + 1
    long = client.ask(by_ids("e" * 254, service=99))
    assert long.map.keys() == {7} and len(long.raw) <= 48


def answers_to(daemon, clients, data=b"\xc1"):
    """How many of these clients are answered, who ask in one go, and in what time; the others are counted as not
    answered."""
    silenced, started = daemon.metric("leafd_errors_silenced_total"), time.monotonic()
    for client in clients:
        client.send(data)
    answered = 0

    def settled():
        nonlocal answered
        answered += sum(client.receive(timeout=0) is not None for client in clients)
        return answered + daemon.metric("leafd_errors_silenced_total") == silenced + len(clients)

    wait_for(settled, "each is answered, or counted")
    return answered, time.monotonic() - started


def test_the_budget_of_a_source(start, ca):
    """Past it silence, counted; for this source alone, for errors alone, and not for ever."""
    with start(ca, {"errors": {"per_source": 5, "global": 0}}) as daemon, daemon.client() as client:
        answered, took = answers_to(daemon, [client] * 60)
        assert 5 <= answered <= 5 + 5 * took + 6, f"{answered} in {took:.3f} s"
        client.ask_leaf(by_ids("budget.example.org"))
        # Two sources may share an allowance by chance; four do not.
        told = 0
        for n in range(4):
            with UdpClient(daemon.address, bind=(f"127.0.0.{n + 3}", 0)) as other:
                told += answers_to(daemon, [other])[0]
        assert told >= 3
        wait_for(lambda: answers_to(daemon, [client])[0], "the budget has filled again", every=0.1)
        assert daemon.metric("leafd_errors_total", code="malformed") > 60


def test_the_budget_of_a_source_is_its_address(start, ca):
    """Another port is no other source."""
    with start(ca, {"errors": {"per_source": 5, "global": 0}}) as daemon, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(daemon.client()) for _ in range(40)]
        answered, took = answers_to(daemon, clients)
        assert answered <= 5 + 5 * took + 6, f"{answered} in {took:.3f} s"


def test_the_budget_of_all(start, ca):
    """30 sources in one go: each is answered, or counted as not answered."""
    with start(ca, {"errors": {"per_source": 0, "global": 5}}) as daemon, contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(UdpClient(daemon.address, bind=(f"127.0.1.{n + 1}", 0))) for n in range(30)
        ]
        answered, took = answers_to(daemon, clients)
        assert 5 <= answered <= 5 + 5 * took + 6, f"{answered} in {took:.3f} s"


def test_no_limit_is_no_limit(daemon, client):
    assert answers_to(daemon, [client] * 300)[0] == 300


def test_bad_requests_are_logged_a_little_and_escaped(start, ca):
    """One rate-limited line per reason; what a sender wrote cannot forge a line or a terminal sequence."""
    with start(ca) as daemon, daemon.client() as client:
        before, started = len(daemon.lines), time.monotonic()
        host = 'evil\n<3>leafd[front]: event=forged \x1b[31m"quoted"\x00'
        for _ in range(200):
            assert client.ask_error(pack({1: host})) == "refused"
        client.ask_leaf(by_ids("after.example.org"))
        lines, took = daemon.lines[before:], time.monotonic() - started
        # Five in each second that the clock has seen.
        assert len(lines) <= 5 * (took + 2) + 10, f"{len(lines)} lines for 200 bad requests in {took:.1f} s"
        for line in lines:
            assert all(" " <= c <= "~" for c in line), ascii(line)
            assert not line.startswith("<3>leafd[front]: event=forged")
            assert leafd_process.pairs(line)["event"] != "forged"


@pytest.mark.parametrize("code", ["malformed", "refused", "unsupported"])
def test_errors_are_counted(daemon, client, code):
    data = {"malformed": b"\xc1", "refused": by_ids("a b"), "unsupported": by_ids("a.example", service=9)}[code]
    before = daemon.metric("leafd_errors_total", code=code)
    assert client.ask_error(data) == code
    assert daemon.metric("leafd_errors_total", code=code) == before + 1
