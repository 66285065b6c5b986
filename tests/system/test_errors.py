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


def answers_to(client, data, count):
    """How many of `count` sent in one go are answered, and in what time they were sent."""
    started = time.monotonic()
    for _ in range(count):
        client.send(data)
    took = time.monotonic() - started
    answered = 0
    while client.receive(timeout=0.5):
        answered += 1
    return answered, took


def test_the_budget_of_a_source(start, ca):
    """Past it silence, counted; for this source alone, for errors alone, and not for ever."""
    with start(ca, {"errors": {"per_source": 5, "global": 0}}) as daemon, daemon.client() as client:
        answered, took = answers_to(client, b"\xc1", 60)
        assert 5 <= answered <= 5 + 5 * took + 6, f"{answered} in {took:.3f} s"
        daemon.wait_metric("leafd_errors_silenced_total", more_than=60 - answered - 1)
        client.ask_leaf(by_ids("budget.example.org"))
        # Two sources may share an allowance by chance; four do not.
        told = 0
        for n in range(4):
            with UdpClient(daemon.address, bind=(f"127.0.0.{n + 3}", 0)) as other:
                told += other.ask_raw(b"\xc1", timeout=0.2) is not None
        assert told >= 3
        wait_for(lambda: client.ask_raw(b"\xc1", timeout=0.1), "the budget has filled again", seconds=5)
        assert daemon.metric("leafd_errors_total", code="malformed") > 60


def test_the_budget_of_a_source_is_its_address(start, ca):
    """Another port is no other source."""
    with start(ca, {"errors": {"per_source": 5, "global": 0}}) as daemon:
        answered, started = 0, time.monotonic()
        for _ in range(40):
            with daemon.client() as client:
                answered += client.ask_raw(b"\xc1", timeout=0.02) is not None
        took = time.monotonic() - started
        assert answered <= 5 + 5 * took + 6


def test_the_budget_of_all(start, ca):
    """30 sources in one go: each is answered, or counted as not answered."""
    with start(ca, {"errors": {"per_source": 0, "global": 5}}) as daemon, contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(UdpClient(daemon.address, bind=(f"127.0.1.{n + 1}", 0))) for n in range(30)
        ]
        answered, started = 0, time.monotonic()
        for client in clients:
            client.send(b"\xc1")
        took = time.monotonic() - started

        def settled():
            nonlocal answered
            answered += sum(client.receive(timeout=0.001) is not None for client in clients)
            return answered + daemon.metric("leafd_errors_silenced_total") == len(clients)

        wait_for(settled, "every source answered or counted")
        assert 5 <= answered <= 5 + 5 * took + 6


def test_no_limit_is_no_limit(client):
    answered, _ = answers_to(client, b"\xc1", 300)
    assert answered == 300


def test_bad_requests_are_logged_a_little_and_escaped(start, ca):
    """One rate-limited line per reason; what a sender wrote cannot forge a line or a terminal sequence."""
    with start(ca) as daemon, daemon.client() as client:
        before = len(daemon.lines)
        host = 'evil\n<3>leafd[front]: event=forged \x1b[31m"quoted"\x00'
        for _ in range(200):
            assert client.ask_error(pack({1: host})) == "refused"
        client.ask_leaf(by_ids("after.example.org"))
        lines = daemon.lines[before:]
        assert len(lines) < 60, f"{len(lines)} lines for 200 bad requests"
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
