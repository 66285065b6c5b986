# SPDX-License-Identifier: Apache-2.0
"""Several signers: processes of one token, and tokens with the same key. What one of them costs when it
dies, and how often a PIN is tried."""

import contextlib
import signal

import pytest

from lib import checks, tree
from lib.authority import configuration, leafctl_json
from lib.client import Load, by_ids, run_load
from lib.failing_token import FailingToken
from lib.leafd_process import LeafdProcess
from lib.polling import wait_for

HOST = "tokens.example.org"
PROCESSES = 3


@pytest.fixture
def failing(folder):
    if not tree.FAKE_MODULE.exists():
        pytest.skip(f"{tree.FAKE_MODULE} is not built (make check builds it)")
    return FailingToken(folder)


@pytest.fixture
def config(failing):
    config = configuration(failing, failing.authority.pem_file, "ca")
    config["token"]["processes"] = PROCESSES
    return config


def new_hosts(kind, count):
    return [(host, by_ids(host)) for host in (f"{kind}-{n}.tokens.example.org" for n in range(count))]


def assert_all_good(outcomes, authority):
    assert all(o.answered for o in outcomes), f"{sum(1 for o in outcomes if not o.answered)} lost"
    assert not [o.answer.error for o in outcomes if o.answer.error]
    for outcome in outcomes:
        checks.assert_signed_by(outcome.answer.leaf, authority.cert)
    assert len({o.answer.leaf.serial_number for o in outcomes}) == len(outcomes)


# ---- token.processes ----


def test_processes_of_one_token(folder, failing, config):
    """Each logs in once; under load the death of one costs nothing; a PIN that turned wrong is tried once."""
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        wait_for(lambda: failing.count("login") == PROCESSES, "each process has logged in")
        assert len(daemon.role_pids("signer")) == PROCESSES
        load = Load(daemon.address, new_hosts("one", 400).__getitem__, clients=32, limit=400).start()
        wait_for(lambda: load.count_answered() > 50, "the load runs")
        daemon.kill_pid(daemon.role_pids("signer")[0])
        assert_all_good(load.join(), failing.authority)
        wait_for(lambda: failing.count("login") == PROCESSES + 1, "the new process has logged in")

        failing.tell("pin = 9999")
        with all_blocked(daemon):
            for pid in daemon.role_pids("signer"):
                daemon.kill_pid(pid)
        assert "pin" in daemon.http("/ready")[1].lower()
        assert failing.count("login") == PROCESSES + 2, "one try for all of them"
        with daemon.client() as client:
            assert client.ask_error(by_ids(HOST)) == "token-unavailable"

        # The operator's word is one more try, not one for each process; a reload is none.
        with all_blocked(daemon):
            daemon.send_signal(signal.SIGHUP)
        assert failing.count("login") == PROCESSES + 2
        with all_blocked(daemon):
            assert unblock(folder, config) == PROCESSES
        assert failing.count("login") == PROCESSES + 3

        # A changed PIN is another one: it is tried when a signer starts, as after a reload.
        failing.pin_file.write_text("9999\n")
        daemon.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.http("/ready")[0] == 200, "/ready says 200")
        wait_for(lambda: failing.count("login") == 2 * PROCESSES + 3, "each process has logged in")
        assert unblock(folder, config, "0") == 0, "nobody waits"


def unblock(folder, config, *token):
    return leafctl_json(config, folder, "token", "unblock", *token)["unblocked"]


@contextlib.contextmanager
def all_blocked(daemon):
    """What happens in the context starts all signers anew; they all find that the PIN is not to be tried."""
    since = len(daemon.lines)
    yield
    wait_for(lambda: len(daemon.events("pin-blocked", since)) == PROCESSES, "all signers wait for the operator")


def test_a_wrong_pin_is_tried_by_one_process(folder, failing, config):
    failing.tell("pin = 9999")
    assert LeafdProcess(folder, config).wait_exit() == 78
    assert failing.count("login") == 1
