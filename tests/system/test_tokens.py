# SPDX-License-Identifier: Apache-2.0
"""Several signers: processes of one token, and tokens with the same key. What one of them costs when it
dies, and how often a PIN is tried."""

import pytest

from lib import checks, tree
from lib.authority import configuration
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
        for pid in daemon.role_pids("signer"):
            daemon.kill_pid(pid)
        wait_for(lambda: "pin" in daemon.http("/ready")[1].lower(), "/ready tells of the PIN")
        assert failing.count("login") == PROCESSES + 2, "one try for all of them"
        daemon.kill_pid(daemon.role_pids("signer")[0])
        daemon.wait_event("pin-blocked")
        with daemon.client() as client:
            assert client.ask_error(by_ids(HOST)) == "token-unavailable"
        assert failing.count("login") == PROCESSES + 2


def test_a_wrong_pin_is_tried_by_one_process(folder, failing, config):
    failing.tell("pin = 9999")
    assert LeafdProcess(folder, config).wait_exit() == 78
    assert failing.count("login") == 1
