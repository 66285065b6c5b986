# SPDX-License-Identifier: Apache-2.0
"""The daemon with a PKCS#11 module that does what a test tells it to (tests/lib/fake_pkcs11.c): how often
it logs in, and what a token that fails costs."""

import time

import pytest

from lib import checks, tree
from lib.authority import SoftwareAuthority, configuration, leafctl_json
from lib.client import Answer, by_ids, run_load
from lib.failing_token import PIN, FailingToken
from lib.leafd_process import LeafdProcess
from lib.polling import wait_for
from lib.starvation import Starvation

HOST = "failing.example.org"


@pytest.fixture
def config(failing):
    return configuration(failing, failing.authority.pem_file, "ca")


def new_hosts(kind, count):
    return [(host, by_ids(host)) for host in (f"{kind}-{n}.example.org" for n in range(count))]


def next_answer(client):
    raw = client.receive()
    assert raw is not None, "no answer"
    return Answer(raw)


def assert_all_good(outcomes, authority):
    assert all(o.answered for o in outcomes), f"{sum(1 for o in outcomes if not o.answered)} lost"
    assert not [o.answer.error for o in outcomes if o.answer.error]
    for outcome in outcomes:
        checks.assert_signed_by(outcome.answer.leaf, authority.cert)


def refused(folder, config, *words):
    """leafd's start ends with 78, and one line has all of `words`."""
    daemon = LeafdProcess(folder, config)
    assert daemon.wait_exit() == 78
    assert any(all(word in line for word in words) for line in daemon.lines), daemon.log()
    return daemon.log()


# ---- PIN ----


def test_a_wrong_pin_is_tried_once(folder, failing, config):
    """Once for each start of leafd, whose operator may have mended it."""
    failing.tell("pin = 9999")
    for start in (1, 2):
        assert PIN not in refused(folder, config, "PIN").replace("tests", "")
        assert failing.count("login") == start, "one try of three, or of one"


@pytest.mark.parametrize("flag", ["final-try", "locked"])
def test_the_last_try_is_not_ours(folder, failing, config, flag):
    failing.tell(f"pin_flags = {flag}")
    daemon = LeafdProcess(folder, config)
    assert daemon.wait_exit() == 78
    assert "PIN" in daemon.log()
    assert failing.count("login") == 0

    # The same when it comes to that while leafd runs; then the operator mends it, and says so.
    failing.tell()
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        failing.tell(f"pin_flags = {flag}")
        daemon.kill_role("signer")
        daemon.wait_event("pin-blocked")
        wait_for(lambda: "pin" in daemon.http("/ready")[1].lower(), "/ready tells of the PIN")
        assert failing.count("login") == 1
        failing.tell()
        assert leafctl_json(config, folder, "token", "unblock")["unblocked"] == 1
        wait_for(lambda: daemon.http("/ready")[0] == 200, "/ready says 200")
        assert failing.count("login") == 2


def test_one_login_for_a_process(folder, failing, config):
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        assert_all_good(run_load(daemon.address, new_hosts("login", 200), clients=32), failing.authority)
        assert failing.count("login") == 1
        assert failing.count("fork_use") == 0 and failing.count("race") == 0
        assert failing.count("sessions_peak") <= 20


def test_a_pin_that_is_wrong_later(folder, failing, config):
    """Changed in the token while leafd runs: one try, then none, by whichever process; cached leaves stay."""
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        with daemon.client() as client:
            cached = client.ask_leaf(by_ids(HOST)).map[3]
            logins = failing.count("login")
            failing.tell("pin = 9999")
            daemon.kill_role("signer")
            wait_for(lambda: failing.count("login") == logins + 1, "a login with the PIN of before")
            wait_for(lambda: "pin" in daemon.http("/ready")[1].lower(), "/ready tells of the PIN")
            assert daemon.http("/ready")[0] == 503
            for turn in range(3):
                started, starvation = time.monotonic(), Starvation(daemon)
                assert client.ask_error(by_ids(f"new-{turn}.example.org")) == "token-unavailable"
                assert time.monotonic() - started - starvation.seconds() < 2, "not at once"
                assert client.ask_leaf(by_ids(HOST)).map[3] == cached
                since = len(daemon.lines)
                daemon.kill_role("signer")
                daemon.wait_event("pin-blocked", since=since)
                wait_for(lambda: "pin" in daemon.http("/ready")[1].lower(), "/ready tells of the PIN")
        assert failing.count("login") == logins + 1
        assert daemon.process.poll() is None


def test_a_pin_that_nobody_gives(folder, failing, config):
    """There is no terminal to ask for it at: the start ends, and says where to put it."""
    del config["token"]["pin_file"]
    refused(folder, config, "wants a PIN and none is given", "token.pin_file")
    assert failing.count("login") == 0


# ---- names that name two ----


def test_two_tokens_with_the_same_label(folder, failing, config):
    """Neither is logged in to, until the URI says which."""
    failing.tell(f"tokens = {failing.label} {failing.label}")
    refused(folder, config, f"pkcs11:token={failing.label};", "slots 0 and 1", "serial=")
    assert failing.count("login") == 0
    config["ca"]["key"] += f";serial={1:016}"
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
    assert failing.count("login") == 1


def test_two_keys_with_the_same_label(folder, failing, config):
    """Not one of them, and not the public half of one with the private half of the other."""
    (folder / "elsewhere").mkdir()
    other = SoftwareAuthority(folder / "elsewhere").key_file
    failing.tell(f"key = token=0 label=ca id=02 file={other}")
    tree.give_to(other, tree.SIGNER_ID)
    refused(folder, config, "object=ca", "id=")
    assert failing.count("login") == 1
    config["ca"]["key"] += ";id=%01"
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        with daemon.client() as client:
            checks.assert_signed_by(client.ask_leaf(by_ids(HOST)).leaf, failing.authority.cert)


# ---- a token that fails ----


def test_no_session_at_the_start(folder, failing, config):
    """leafd stays up and says why; then all goes on by itself."""
    failing.tell("fail.C_OpenSession = CKR_DEVICE_ERROR")
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_serving()
        wait_for(lambda: "C_OpenSession" in daemon.http("/ready")[1], "/ready says what failed")
        assert daemon.http("/ready")[0] == 503
        failing.tell()
        wait_for(lambda: daemon.http("/ready")[0] == 200, "/ready says 200")
        assert failing.count("login") == 1


def test_one_bad_call_costs_nothing(folder, failing, config):
    """Another session, and the request goes on."""
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        for function, code in (
            ("C_Sign", "CKR_DEVICE_ERROR"),
            ("C_SignInit", "CKR_SESSION_HANDLE_INVALID"),
            ("C_Sign", "CKR_GENERAL_ERROR"),
        ):
            failing.tell(f"fail.{function} = {code} 1")
            assert_all_good(
                run_load(daemon.address, new_hosts(f"{function}-{code}".replace("_", "-").lower(), 20), clients=8),
                failing.authority,
            )


def test_a_wrong_signature_is_never_given_out(folder, failing, config):
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        failing.tell("corrupt = 3")
        outcomes = run_load(daemon.address, new_hosts("corrupt", 40), clients=8)
        for outcome in outcomes:
            if outcome.raw and not outcome.answer.error:
                checks.assert_signed_by(outcome.answer.leaf, failing.authority.cert)
        assert sum(1 for o in outcomes if o.raw and not o.answer.error) >= 37


def test_a_token_that_is_taken_out_and_put_back(folder, failing, config):
    """Cached leaves are answered meanwhile, new ones told; then all goes on without a hand."""
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        with daemon.client() as client:
            cached = client.ask_leaf(by_ids(HOST)).map[3]
            failing.tell("present = no")
            assert client.ask_error(by_ids("gone.example.org")) == "token-unavailable"
            assert client.ask_leaf(by_ids(HOST)).map[3] == cached
            wait_for(lambda: daemon.http("/ready")[0] == 503, "/ready says 503")
            failing.tell()
            wait_for(lambda: daemon.http("/ready")[0] == 200, "/ready says 200")
            checks.assert_leaf(
                client.ask_leaf(by_ids("back.example.org")), failing.authority.cert, names=["back.example.org"]
            )


def test_a_token_with_one_session(folder, failing, config):
    failing.tell("session_limit = 1")
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        assert_all_good(run_load(daemon.address, new_hosts("one", 60), clients=16), failing.authority)
        assert failing.count("sessions_peak") == 1


def test_a_slow_token_is_used_in_parallel(folder, failing, config):
    """20 ms for each signature and 16 sessions: 160 leaves in well under 160 * 20 ms."""
    failing.tell("latency.C_Sign = 20000")
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        started, starvation = time.monotonic(), Starvation(daemon)
        outcomes = run_load(daemon.address, new_hosts("slow", 160), clients=64)
        took, starved = time.monotonic() - started, starvation.seconds()
        print(f"{took:.2f} s, starved for {starved:.2f} s")
        assert took - starved < 1.6 * (4 if tree.IS_SANITIZED else 1)
        assert_all_good(outcomes, failing.authority)


# ---- when the token is slower than anybody waits ----


def test_deadlines_and_bounds(folder, failing, config):
    """No more flights than allowed, no more askers of one than allowed: the others are told `busy` at once."""
    config["cache"] = {"max_flights": 4, "max_waiters": 3}
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        failing.tell("latency.C_Sign = 1000000")
        with daemon.client() as client:
            hosts = [f"flight-{n}.example.org" for n in range(10)]
            for host in hosts:
                client.send(by_ids(host))
            told = [next_answer(client) for _ in range(6)]
            assert {a.error for a in told} == {"busy"}
            leaves = [next_answer(client) for _ in range(4)]
            assert not [a.error for a in leaves if a.error]
            assert {a.host for a in told + leaves} == set(hosts)
            for _ in range(8):
                client.send(by_ids("one.example.org"))
            answers = [next_answer(client) for _ in range(8)]
            assert sorted(str(a.error) for a in answers) == ["None"] * 3 + ["busy"] * 5


def test_nobody_is_answered_too_late(folder, config):
    """A request that waited in the socket for over 3.5 s, by the kernel's clock, is dropped and counted."""
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        with daemon.client() as client:
            client.ask_leaf(by_ids(HOST))
            with daemon.frozen("front"):
                for n in range(10):
                    client.send(by_ids(HOST) if n % 2 else b"\xc1")
                sent = time.monotonic()
                wait_for(lambda: time.monotonic() - sent > 3.7, "they are too old", seconds=5)
            daemon.wait_metric("leafd_dropped_total", more_than=9, reason="deadline")
            assert client.receive(timeout=0.1) is None
            client.ask_leaf(by_ids(HOST))
