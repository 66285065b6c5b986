# SPDX-License-Identifier: Apache-2.0
"""Several signers: processes of one token, and tokens with the same key. What one of them costs when it
dies, and how often a PIN is tried."""

import contextlib
import os
import shutil
import signal
import subprocess
import time

import pytest

from lib import checks, tree
from lib.authority import SoftwareAuthority, Token, configuration, leafctl, leafctl_json
from lib.client import Load, by_ids, run_load
from lib.failing_token import FailingToken
from lib.leafd_process import LeafdProcess, pairs
from lib.polling import wait_for

HOST = "tokens.example.org"
PROCESSES = 3


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
        wait_for(lambda: "pin" in daemon.http("/ready")[1].lower(), "/ready says why")
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
def all_blocked(daemon, count=PROCESSES):
    """What happens in the context starts so many signers anew; they find that the PIN is not to be tried."""
    since = len(daemon.lines)
    yield
    wait_for(lambda: len(daemon.events("pin-blocked", since)) == count, "the signers wait for the operator")


def test_a_wrong_pin_is_tried_by_one_process(folder, failing, config):
    """Of four, once for each start of leafd."""
    config["token"]["processes"] = 4
    failing.tell("pin = 9999")
    for start in (1, 2):
        assert LeafdProcess(folder, config).wait_exit() == 78
        assert failing.count("login") == start


# ---- two tokens ----


@pytest.fixture
def two(failing, folder):
    """Two tokens behind modules that fail on command, with the same key; and the configuration."""
    other = FailingToken(folder, "other", failing.authority)
    config = configuration(failing, failing.authority.pem_file, "ca")
    config["more_tokens"] = [other.section()]
    return [failing, other], config


def wait_both(daemon):
    """Until the front knows that both sign: else it takes the one that it knows of."""
    daemon.wait_ready()
    for token in ("0", "1"):
        wait_for(lambda: daemon.metric("leafd_token_state", token=token, state="ready") == 1, f"token {token} signs")


def signer_pid(daemon, token):
    """Of the process that was started last for this token."""
    return int([pairs(e)["pid"] for e in daemon.events("role-started") if f"token={token}" in e.split()][-1])


def load_during(daemon, authority, kind, harm, more=300, clients=32):
    """So many clients ask while `harm` happens; nothing is lost and nothing fails."""
    load = Load(daemon.address, endless(kind), clients).start()
    wait_for(lambda: load.count_answered() > 100, "the load runs")
    harm()
    before = load.count_answered()
    wait_for(lambda: load.count_answered() > before + more, "the load goes on")
    outcomes = load.stop()
    assert_all_good(outcomes, authority)
    return outcomes


def endless(kind):
    def make(number):
        host = f"{kind}-{number}.tokens.example.org"
        return host, by_ids(host)

    return make


def test_prefer_first(folder, two):
    """The second token signs only what the first one cannot; whatever befalls that, nothing fails."""
    (first, second), config = two
    with LeafdProcess(folder, config) as daemon:
        wait_both(daemon)
        second.tell("latency.C_Sign = 300000")
        signed = second.count("sign")
        quiet = run_load(daemon.address, new_hosts("quiet", 100), clients=4)
        assert_all_good(quiet, first.authority)
        # Where the first one takes long, as on a busy machine, leafd looks how fast the second is.
        looks = 4 if max(o.took for o in quiet) > 0.02 else 0
        assert second.count("sign") - signed <= looks
        second.tell()

        load_during(daemon, first.authority, "killed", lambda: daemon.kill_pid(signer_pid(daemon, 0)))
        wait_for(lambda: len(daemon.events("signer-ready")) == 3, "the first token signs again")

        load_during(daemon, first.authority, "removed", lambda: first.tell("present = no"))
        assert second.count("sign") > signed + 200
        first.tell()
        signed = first.count("sign")
        with daemon.client() as client:
            names = (f"back-{n}.tokens.example.org" for n in range(10000))
            wait_for(lambda: client.ask_leaf(by_ids(next(names))) and first.count("sign") > signed + 1, "it is preferred again")

        pid = signer_pid(daemon, 0)

        def freeze():
            os.kill(pid, signal.SIGSTOP)
            # On a busy machine it may be slow as well, and then gets a request a second.
            wait_for(lambda: daemon.events("signer-ejected"), "the silent one is ejected")

        load_during(daemon, first.authority, "frozen", freeze)
        os.kill(pid, signal.SIGCONT)


def test_a_module_that_crashes(folder, two):
    (first, _), config = two
    with LeafdProcess(folder, config) as daemon:
        wait_both(daemon)
        load_during(daemon, first.authority, "crash", lambda: first.tell("crash.C_Sign = 1 5"))
        daemon.wait_line(lambda line: "event=role-ended" in line and "signal=11" in line, "that it crashed")


def test_spread(folder, two):
    """Both sign; one that is removed costs nothing."""
    (first, second), config = two
    config["token_choice"] = "spread"
    with LeafdProcess(folder, config) as daemon:
        wait_both(daemon)
        signed = [token.count("sign") for token in (first, second)]
        assert_all_good(run_load(daemon.address, new_hosts("spread", 600), clients=32), first.authority)
        shares = [token.count("sign") - before for token, before in zip((first, second), signed)]
        assert min(shares) > 60, shares
        load_during(daemon, first.authority, "removed", lambda: second.tell("present = no"))
        wait_for(lambda: daemon.metric("leafd_token_state", token="1", state="ready") == 0, "token 1 is gone")


def percentile_99_ms(outcomes):
    return 1000 * sorted(o.took for o in outcomes)[len(outcomes) * 99 // 100]


@pytest.mark.parametrize("choice", ["spread", "prefer-first"])
def test_one_is_slow(folder, two, choice):
    """One becomes 50 ms slower than the other, or five times as slow as both are on a busy machine, and that the
    preferred one: it is found out by its first answers, gets a request a second, and is taken again once it is
    as fast. What that makes of the times is printed: others than the token make a request late too."""
    tokens, config = two
    config["token_choice"] = choice
    slow, index = (tokens[0], 0) if choice == "prefer-first" else (tokens[1], 1)
    for token in tokens:
        token.tell("latency.C_Sign = 10000")
    with LeafdProcess(folder, config) as daemon:
        wait_both(daemon)
        alone = run_load(daemon.address, new_hosts("alone", 600), clients=16)
        # Five times what leafd may have seen of the other one, of which it knows a few answers alone. Over a
        # second it would be silent.
        slow_sec = min(max(0.06, 5 * percentile_99_ms(alone) / 1000), 0.6)
        found = []

        def is_ejected():
            return daemon.metric("leafd_token_ejected", token=str(index)) == 1

        def find_out():
            slow.tell(f"latency.C_Sign = {slow_sec * 1e6:.0f}")
            began = time.monotonic()
            wait_for(is_ejected, "it is ejected")
            found.append(time.monotonic() - began)

        load_during(daemon, slow.authority, "slow", find_out, more=0, clients=16)
        signed, since = slow.count("sign"), time.monotonic()
        beside = run_load(daemon.address, new_hosts("beside", 800), clients=16)
        assert_all_good(beside, slow.authority)
        probes = slow.count("sign") - signed
        print(f"{choice}: {1000 * slow_sec:.0f} ms, 99 % of requests within {percentile_99_ms(alone):.0f} ms while both are fast, "
              f"{percentile_99_ms(beside):.0f} ms beside the slow one, ejected after {found[0]:.2f} s, {probes} probes")  # fmt: skip
        assert probes <= 2 + (time.monotonic() - since), "more than one probe a second"

        slow.tell("latency.C_Sign = 10000")
        with daemon.client() as client:
            names = (f"again-{n}.tokens.example.org" for n in range(100000))
            wait_for(lambda: client.ask_leaf(by_ids(next(names))) and not is_ejected(), "it is taken again")


def test_check_looks_at_each_token(folder, two):
    (_, second), config = two
    config["more_tokens"][0]["pin_file"] = str(second.folder / "no-such-pin")
    done = leafctl(config, folder, "check")
    assert done.returncode == 1 and f"more_tokens[0].pin_file: {second.folder}/no-such-pin" in done.stdout, done.stdout


def test_another_key_is_refused_by_name(folder, failing):
    (folder / "elsewhere").mkdir()
    other = FailingToken(folder, "other", SoftwareAuthority(folder / "elsewhere"))
    config = configuration(failing, failing.authority.pem_file, "ca")
    config["more_tokens"] = [other.section()]
    daemon = LeafdProcess(folder, config)
    assert daemon.wait_exit() == 78
    told = [line for line in daemon.lines if "event=start-failed" in line]
    assert any(str(failing.authority.pem_file) in line and "signer-1.0" in line for line in told), daemon.log()


def token_states(config, folder):
    return [token["state"] for token in leafctl_json(config, folder, "status")["tokens"]]


def test_a_wrong_pin_of_one_token(folder, two):
    """Blocks that token alone; the other goes on."""
    (first, second), config = two
    with LeafdProcess(folder, config) as daemon:
        wait_both(daemon)
        logins = second.count("login")
        second.tell("pin = 9999")
        for _ in range(3):
            with all_blocked(daemon, 1):
                daemon.kill_pid(signer_pid(daemon, 1))
        wait_for(lambda: token_states(config, folder) == ["ready", "pin-blocked"], "status tells of it")
        assert second.count("login") == logins + 1
        assert_all_good(run_load(daemon.address, new_hosts("one-left", 60), clients=16), first.authority)
        assert daemon.http("/ready")[0] == 200
        assert daemon.metric("leafd_token_state", token="1", state="pin-blocked") == 1
        assert unblock(folder, config, "0") == 0
        assert unblock(folder, config, "1") == 1
        wait_for(lambda: second.count("login") == logins + 2, "one more try")


def test_two_softhsm_tokens(folder):
    """The same key, imported into two token folders of their own; one is killed again and again under load."""
    tool = shutil.which("softhsm2-util")
    if not tool or not tree.SOFTHSM_MODULE:
        pytest.skip("softhsm2-util is not there")
    authority = SoftwareAuthority(folder)
    tokens = [Token(folder / name) for name in ("one", "two")]
    for token in tokens:
        done = subprocess.run(
            [tool, "--import", str(authority.key_file), "--token", token.label, "--label", "ca", "--id", "01",
             "--pin", token.pin_file.read_text().strip()],
            capture_output=True, text=True, timeout=60, env={**os.environ, "SOFTHSM2_CONF": str(token.conf)},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        tree.give_to(token.folder, tree.SIGNER_ID)
    config = configuration(tokens[0], authority.pem_file, "ca")
    config["more_tokens"] = [{"env": {"SOFTHSM2_CONF": str(tokens[1].conf)}, "pin_file": str(tokens[1].pin_file)}]
    config["token_choice"] = "spread"
    with LeafdProcess(folder, config) as daemon:
        wait_both(daemon)

        def kill():
            for token in (0, 1, 0, 1):
                ready = len(daemon.events("signer-ready"))
                daemon.kill_pid(signer_pid(daemon, token))
                wait_for(lambda: len(daemon.events("signer-ready")) == ready + 1, "it signs again")

        load_during(daemon, authority, "softhsm", kill)
