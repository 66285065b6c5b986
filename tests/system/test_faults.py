# SPDX-License-Identifier: Apache-2.0
"""What a token may do to leafd while many ask for new leaves, and what that costs them (FAULTS.md). One
signer process; what several tokens make of it is in test_tokens.py."""

import time

import pytest

from lib import checks, tree
from lib.authority import Authority, configuration
from lib.client import Load, by_ids
from lib.failing_token import FailingToken
from lib.leafd_process import LeafdProcess
from lib.polling import wait_for
from lib.starvation import Starvation
from lib.tokens.remote import RemoteSoftHsm
from lib.trouble import SLOWER

CLIENTS = 32
SLOW = "latency.C_Sign = 10000"  # so that faults meet signatures, and the load stays small


@pytest.fixture
def config(failing):
    return configuration(failing, failing.authority.pem_file, "ca")


class Asking:
    """Many clients that ask for new leaves all the time, between `with` and its end. Then `good` are the leaves
    they got, each checked, and `bad` the other answers."""

    turn = 0

    def __init__(self, daemon, authority, clients=CLIENTS):
        Asking.turn += 1
        name = f"turn{Asking.turn}"
        self.authority = authority
        self.load = Load(daemon.address, lambda n: (host := f"n{n}.{name}.example.org", by_ids(host)), clients=clients)

    def __enter__(self):
        self.load.start()
        self.wait_for_more()
        return self

    def __exit__(self, kind, value, trace):
        self.load.stop()
        outcomes = self.load.join()
        answers = [o.answer if o.answered else None for o in outcomes]
        self.good = [a for a in answers if a and not a.error]
        self.bad = [a.error if a else "no answer" for a in answers if not a or a.error]
        if kind is None:
            for answer in self.good:
                checks.assert_signed_by(answer.leaf, self.authority.cert)

    def wait_for_more(self, count=CLIENTS):
        """Until so many more have an answer."""
        wanted = self.load.count_answered() + count
        wait_for(lambda: self.load.count_answered() >= wanted, f"{count} more answers")


# ---- what nobody notices ----

UNNOTICED = {
    "one session handle is invalid": "fail.C_Sign = CKR_SESSION_HANDLE_INVALID 1",
    "all sessions are closed": "session_epoch = 1",
    "somebody else logs out": "login_epoch = 1",
    "a device error": "fail.C_Sign = CKR_DEVICE_ERROR 1",
    "three device errors": "fail.C_Sign = CKR_DEVICE_ERROR 3",
    "a general error": "fail.C_SignInit = CKR_GENERAL_ERROR 1",
    "the key's handle is another": "object_offset = 100",
    "a key handle is invalid": "fail.C_SignInit = CKR_KEY_HANDLE_INVALID 1",
    "an object handle is invalid": "fail.C_SignInit = CKR_OBJECT_HANDLE_INVALID 1",
    "an operation is active": "fail.C_SignInit = CKR_OPERATION_ACTIVE 1",
    "the slots are numbered anew": "first_slot = 7",
    "the token is not present, once": "fail.C_Sign = CKR_TOKEN_NOT_PRESENT 1",
    "the device is removed, once": "fail.C_Sign = CKR_DEVICE_REMOVED 1",
    "the module forgets that it is initialised": "fail.C_SignInit = CKR_CRYPTOKI_NOT_INITIALIZED 1",
    "a signature is wrong": "corrupt = 1",
    "the sessions are closed, and the next cannot be opened": "session_epoch = 1\nfail.C_OpenSession = CKR_DEVICE_ERROR 1",
}


def test_what_is_mended_costs_nobody(folder, failing, config):
    """0 failed requests for each, by the same process; as many logins as the ladder needs."""
    failing.tell(SLOW)
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        pid = daemon.role_pid("signer")
        for what, line in UNNOTICED.items():
            logins = failing.count("login")
            with Asking(daemon, failing.authority) as asking:
                failing.tell(SLOW, line)
                asking.wait_for_more()
                failing.tell(SLOW)
                asking.wait_for_more()
            assert not asking.bad, f"{what}: {asking.bad}"
            # Taking the fault back is another one for sessions, handles and slots.
            assert failing.count("login") - logins <= 2, what
        assert daemon.role_pid("signer") == pid
    for never in ("race", "login_after_bad", "fork_use", "sessions_open"):
        assert failing.count(never) == 0, never


# ---- a module that crashes ----


def test_a_module_that_crashes(folder, failing, config):
    """With no other token: new leaves again within 3 s, cached ones throughout, and what was under way is
    signed by the next process."""
    failing.tell(SLOW)
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        pid = daemon.role_pid("signer")
        with daemon.client() as client:
            cached = client.ask_leaf(by_ids("cached.example.org")).map[3]
            with Asking(daemon, failing.authority) as asking:
                seen = len(daemon.lines)
                failing.tell(SLOW, "crash.C_Sign = 1 5")
                daemon.wait_line(lambda line: "event=role-ended" in line and "signal=11" in line, "that it crashed")
                crashed, starvation = time.monotonic(), Starvation(daemon)
                failing.tell(SLOW)  # else the next one crashes too
                while not daemon.events("signer-ready", seen):
                    assert client.ask_leaf(by_ids("cached.example.org")).map[3] == cached
                wait_for(lambda: daemon.http("/ready")[0] == 200, "/ready says 200")
                asking.wait_for_more(1)
                took, starved = time.monotonic() - crashed, starvation.seconds()
                asking.wait_for_more()
        print(f"new leaves {took:.2f} s after the crash, starved for {starved:.2f} s, {len(asking.bad)} errors")
        assert took - starved < (3 if not tree.IS_SANITIZED else 6)
        assert not asking.bad, asking.bad
        assert daemon.role_pid("signer") != pid


# ---- a token that goes ----


class Absence:
    """Of a token, from here on: ready a second after its end, and errors only where requests could not wait so long."""

    def __init__(self, daemon, what):
        self.daemon, self.what, self.began = daemon, what, time.monotonic()

    def ends(self):
        """Now; waits until the token is ready again."""
        ended, starvation = time.monotonic(), Starvation(self.daemon)
        wait_for(lambda: self.daemon.http("/ready")[0] == 200, "/ready says 200")
        now = time.monotonic()
        self.gone, self.took, self.starved = now - self.began, now - ended, starvation.seconds()

    def judge(self, errors):
        print(f"{self.what}: gone for {self.gone:.2f} s, ready {self.took:.2f} s after the return, "
              f"starved for {self.starved:.2f} s, {len(errors)} errors")  # fmt: skip
        assert self.took - self.starved < (1 if not tree.IS_SANITIZED else 4)
        assert set(errors) <= {"token-unavailable"}, errors
        # Requests wait for 3.2 s, and take their turns then.
        assert self.gone > 2 or not errors, errors


def test_a_token_that_goes_and_comes_back(folder, failing, config):
    """Errors only while it is gone, READY within a second of its return, cached leaves throughout, also when
    it comes back in another slot."""
    failing.tell(SLOW)
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        pid = daemon.role_pid("signer")
        with daemon.client() as client:
            cached = client.ask_leaf(by_ids("cached.example.org")).map[3]
            for slot in (0, 5):
                with Asking(daemon, failing.authority) as asking:
                    absence = Absence(daemon, f"slot {slot}")
                    failing.tell(SLOW, "present = no")
                    wait_for(lambda: daemon.http("/ready")[0] == 503, "/ready says 503")
                    assert client.ask_leaf(by_ids("cached.example.org")).map[3] == cached
                    failing.tell(SLOW, f"first_slot = {slot}")
                    absence.ends()
                    asking.wait_for_more()
                absence.judge(asking.bad)
        assert daemon.role_pid("signer") == pid


def test_another_key_under_the_same_name(folder, failing, config):
    """Never a wrong signature; /ready says what is wrong; and all is well when the key is back."""
    other = FailingToken(folder, "other").authority.key_file
    tree.give_to(other, tree.SIGNER_ID)
    key = f"key = token=0 label=ca id=01 file={failing.authority.key_file}"
    failing.tell(SLOW)
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        others = key.replace(str(failing.authority.key_file), str(other))
        for instead, says in ((None, "no private key"), (others, "not the key of the CA certificate")):
            with Asking(daemon, failing.authority) as asking:
                text = failing.control.read_text()
                new = failing.folder / "control.new"
                new.write_text(text.replace(key + "\n", instead + "\n" if instead else ""))
                tree.give_to(new, tree.SIGNER_ID)
                new.rename(failing.control)
                wait_for(lambda: says in daemon.http("/ready")[1], f"/ready says: {says}")
                failing.tell(SLOW)
                asking.wait_for_more()
            assert len(asking.good) >= 2 * CLIENTS
            assert set(asking.bad) <= {"token-unavailable"}


# ---- a lane that hangs ----


def assert_stops(daemon):
    """Within 3 s, without the call that hangs."""
    stopping = time.monotonic()
    daemon.stop()
    took = time.monotonic() - stopping
    print(f"stopped after {took:.2f} s")
    assert took < 3 * SLOWER


def test_a_lane_that_hangs(folder, failing, config):
    """Its request is signed by another lane, and another process takes over. Nobody waits for its end."""
    config["token"]["timeout"] = "500ms"
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        pid = daemon.role_pid("signer")
        failing.tell(SLOW)
        with Asking(daemon, failing.authority) as asking:
            failing.tell(SLOW, "hang.C_Sign = 1 20")
            daemon.wait_event("lane-lost")
            asking.wait_for_more()
        wait_for(lambda: pid not in daemon.role_pids("signer"), "another process has taken over")
        assert not asking.bad, asking.bad
        failing.tell(SLOW, "hang.C_Sign = 1 1")  # not in the challenge of the next process
        with daemon.client() as client:
            client.ask_leaf(by_ids("hangs.example.org"))
        assert_stops(daemon)


def test_a_stop_while_the_module_hangs(folder, failing, config):
    """In the opening of the token: nobody waits for that call either."""
    failing.tell("hang.C_Login = 1")
    daemon = LeafdProcess(folder, config)
    wait_for(lambda: failing.count("C_Login") == 1, "the token is being opened")
    assert_stops(daemon)


# ---- few sessions ----


@pytest.mark.parametrize("limit", [1, 2])
def test_few_sessions(folder, failing, config, limit):
    failing.tell(f"session_limit = {limit}")
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        with Asking(daemon, failing.authority) as asking:
            failing.tell(f"session_limit = {limit}", "fail.C_Sign = CKR_DEVICE_ERROR 1")
            asking.wait_for_more(200)
        assert not asking.bad, asking.bad
        assert failing.count("sessions_peak") == limit


# ---- p11-kit remoting ----


@pytest.mark.skipif(bool(RemoteSoftHsm.absent()), reason=str(RemoteSoftHsm.absent()))
def test_a_remote_token_whose_server_dies(folder):
    """p11-kit remoting, killed and restarted for real: the module has to be initialised anew."""
    remote = RemoteSoftHsm(folder / "remote")
    try:
        ca = Authority(remote, folder, "ca")
        config = configuration(remote, ca.pem_file, "ca")
        with LeafdProcess(folder, config) as daemon:
            daemon.wait_ready()
            pid = daemon.role_pid("signer")
            with Asking(daemon, ca, clients=16) as asking:
                absence = Absence(daemon, "server")
                remote.kill()
                wait_for(lambda: daemon.http("/ready")[0] == 503, "/ready says 503")
                remote.start()
                absence.ends()
                asking.wait_for_more()
            absence.judge(asking.bad)
            # p11-kit's client sometimes leaves a call hanging when its server dies: then, and only then, another process takes over.
            assert daemon.role_pid("signer") == pid or daemon.events("signer-wants-replacement")
    finally:
        remote.remove()
