# SPDX-License-Identifier: Apache-2.0
"""Random faults at random moments under load: nothing that was sent is wrong, errors come only while no
token can sign, and in the end sessions, memory, threads and descriptors are where they were.

LEAFD_SOAK_SECONDS is how long each of the two soaks takes (make soak: 600); LEAFD_SOAK_SEED repeats the
faults of a run, which prints it."""

import bisect
import collections
import math
import os
import random
import time

import pytest

from lib import checks, choices, tree
from lib.askers import Askers
from lib.authority import configuration
from lib.failing_token import FailingToken
from lib.leafd_process import LeafdProcess
from lib.polling import wait_for
from lib.trouble import SLOWER, Fault, ProcessTrouble, Scene, TokenTrouble

SECONDS = float(os.environ.get("LEAFD_SOAK_SECONDS", "10"))
CLIENTS = (16, 64)
SESSIONS = 8
TIMEOUT_MS = 1000 * SLOWER
GRACE_SEC = 0.5 * SLOWER  # between the end of a fault and its end for every request
MIB = 1 << 20
GROWTH_MAX = 3 * MIB  # of a process, in the second half of its life


def fails(function, code, most=1):
    return lambda rng: [f"fail.{function} = {code} {rng.randint(1, most)}"]


def hangs(function, after=0):
    return lambda rng: [f"hang.{function} = 1 {rng.randint(0, after)}"]


def one(_):
    return 1


def each_timeout(seconds):
    return 2 + seconds * 1000 / TIMEOUT_MS


ALL_CLOSED = Fault("all sessions are closed", bumps=("session_epoch",), logins=one)
WRONG_SIGNATURES = Fault(
    "wrong signatures", lambda rng: [f"corrupt = {rng.randint(1, 3)}"], logins=lambda _: 3, spoils_signatures=True
)

# What each costs in C_Login calls, besides the one of each process that is started (FAULTS.md). Where the
# second rung is climbed: one. A device error costs one when the same request meets two of them.
FAULTS = [
    Fault("a session handle is invalid", fails("C_Sign", "CKR_SESSION_HANDLE_INVALID")),
    Fault("a session is closed", fails("C_SignInit", "CKR_SESSION_CLOSED")),
    Fault("a device error", fails("C_Sign", "CKR_DEVICE_ERROR")),
    Fault("device errors", fails("C_Sign", "CKR_DEVICE_ERROR", 3), logins=one),
    Fault("general errors", fails("C_SignInit", "CKR_GENERAL_ERROR", 3), logins=one),
    Fault("functions fail", fails("C_Sign", "CKR_FUNCTION_FAILED", 3), logins=one),
    ALL_CLOSED,
    Fault("somebody else logs out", bumps=("login_epoch",), logins=one),
    Fault("the handles are numbered anew", bumps=("object_offset",), logins=one),
    Fault("the slots are numbered anew", bumps=("first_slot",), logins=one),
    Fault("a key handle is invalid", fails("C_SignInit", "CKR_KEY_HANDLE_INVALID"), logins=one),
    Fault("the device is removed, once", fails("C_Sign", "CKR_DEVICE_REMOVED"), logins=one),
    Fault("the module forgets", fails("C_SignInit", "CKR_CRYPTOKI_NOT_INITIALIZED"), logins=one),
    WRONG_SIGNATURES,
    Fault("the latency changes", lasting=lambda rng: {"latency.C_Sign": rng.choice((0, 5000, 10000, 20000, 40000))}),
    Fault(
        "few sessions",
        lambda rng: [f"session_limit = {rng.randint(1, 3)}", "fail.C_Sign = CKR_SESSION_HANDLE_INVALID 4"],
        hold=(0.2, 2.0),
        logins=lambda _: 2,
    ),
    Fault("the token is out", lambda rng: ["present = no"], hold=(0.1, 4.5), takes_away=True, logins=one),
    Fault(
        "the token comes back elsewhere",
        lambda rng: ["present = no"],
        bumps=("first_slot",),
        hold=(0.1, 2.0),
        takes_away=True,
        logins=one,
    ),
    # All is begun anew twice at once, then every five seconds.
    Fault(
        "the key is gone",
        hold=(0.1, 4.0),
        bumps=("session_epoch",),
        has_key=False,
        takes_away=True,
        logins=lambda seconds: 3 + seconds / 5,
    ),
    Fault(
        "a login fails",
        lambda rng: [f"fail.C_Login = CKR_DEVICE_ERROR {rng.randint(1, 2)}"],
        bumps=("session_epoch",),
        hold=(0.1, 1.5),
        takes_away=True,
        logins=lambda _: 3,
    ),
    Fault("C_Login hangs", hangs("C_Login"), bumps=("session_epoch",), hold=(0.1, 4.0), takes_away=True, logins=one),
    Fault(
        "C_OpenSession hangs",
        hangs("C_OpenSession", 2),
        bumps=("session_epoch",),
        hold=(0.1, 3.0),
        takes_away=True,
        logins=lambda _: 2,
        starts=each_timeout,
        ends_process=True,
    ),
    Fault("C_Sign hangs", hangs("C_Sign", 30), hold=(0.1, 3.0), starts=each_timeout, ends_process=True),
    Fault(
        "the module crashes",
        lambda rng: [f"crash.C_Sign = 1 {rng.randint(0, 3)}"],
        hold="death",
        starts=one,
        ends_process=True,
    ),
    Fault(
        "the PIN is another",
        lambda rng: ["pin = 9999"],
        bumps=("session_epoch",),
        hold="refused",
        takes_away=True,
        logins=one,
        starts=one,
        ends_process=True,
    ),
]


# ---- what is to be level ----


def counters_of(token, pid):
    """What the module has counted in this process; {} where it has none."""
    try:
        lines = (token.folder / f"counters.{pid}").read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {name: int(value) for name, value in (line.split() for line in lines if len(line.split()) == 2)}


def memory(pid):
    """Octets that a process has for itself: not its share of libraries, which others' starts and ends change."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon:")), 0)
    except OSError:
        return 0


def count_entries(pid, what):
    try:
        return len(os.listdir(f"/proc/{pid}/{what}"))
    except OSError:
        return -1


def serials(signatures):
    """Octets of the signer's memory of serials after so many signatures: each takes a place somewhere in 16
    MiB, of which the kernel gives a page when it is first written to."""
    pages = 16 * MIB // 4096
    return 16 * MIB * (1 - math.exp(-signatures / pages))


def upstreams(mimics):
    """Octets of what the front remembers of so many upstream leaves, 8 MiB at most."""
    return min(8 * MIB, 500 * mimics)


class Watch:
    """The memory of each process over its life, but for what is to fill: see serials() and upstreams()."""

    def __init__(self, scene):
        self.scene = scene
        self.samples = {}  # (role, pid), of those that live: [(when, octets)]
        self.mimics = {}  # front's pid: how many were asked when it was first seen

    def __call__(self):
        while not self.scene.stop.wait(1.0):
            self.look()

    def roles(self):
        daemon = self.scene.daemon
        pids = {("supervisor", daemon.pid)}
        for role in ("front", "signer"):
            pids |= {(role, pid) for pid in daemon.role_pids(role)}
        return pids

    def look(self):
        before, self.samples = self.samples, {}
        for role, pid in self.roles():
            octets = memory(pid)
            if octets:
                sample = (time.monotonic(), octets - self.filled(role, pid))
                self.samples[role, pid] = before.get((role, pid), []) + [sample]

    def filled(self, role, pid):
        if role == "signer":
            return serials(sum(counters_of(token, pid).get("sign", 0) for token in self.scene.tokens))
        asked = self.scene.askers.mimics
        return upstreams(asked - self.mimics.setdefault(pid, asked)) if role == "front" else 0

    def growth(self):
        """(role, pid, seconds, octets then, octets now) of those that live, over the last half of their lives."""
        for (role, pid), samples in sorted(self.samples.items()):
            born, (last, octets) = samples[0][0], samples[-1]
            warm = next(s for s in samples if s[0] >= born + (last - born) / 2)
            yield role, pid, last - warm[0], warm[1], octets


def shape(watch):
    """(role, descriptors, threads) of all processes; None as long as the front has a descriptor for somebody who
    has just asked it for /metrics."""
    if watch.scene.daemon.has_admin_connections():
        return None
    return sorted((role, count_entries(pid, "fd"), count_entries(pid, "task")) for role, pid in watch.roles())


# ---- the soak ----


@pytest.mark.parametrize("count", [1, 2])
def test_soak(failing, folder, count):
    seed = os.environ.get("LEAFD_SOAK_SEED") or str(random.SystemRandom().randrange(10**6))
    print(f"LEAFD_SOAK_SEED={seed} LEAFD_SOAK_SECONDS={SECONDS:g}, {count} token(s)")
    tokens = [failing]
    while len(tokens) < count:
        tokens.append(FailingToken(folder, f"fake{len(tokens)}", tokens[0].authority))
    with LeafdProcess(folder, config_of(tokens)) as daemon:
        daemon.wait_ready()
        askers = Askers(daemon.address, tokens[0].authority, CLIENTS[1]).start()
        scene = Scene(daemon, tokens, askers, seed)
        soak(scene)
        live = {index: scene.signers(index) for index in range(count)}
    for index, token in enumerate(tokens):
        for pid in live[index]:
            assert counters_of(token, pid)["sessions_open"] == 0, "a signer that ends closes its sessions"


def config_of(tokens):
    config = configuration(tokens[0], tokens[0].authority.pem_file, "ca")
    config["token"].update(sessions=SESSIONS, timeout=f"{TIMEOUT_MS}ms")
    if choices.option_values("token.verify"):
        config["token"]["verify"] = "always"  # else a fast token gives out up to 16 wrong signatures
    config["more_tokens"] = [token.section() for token in tokens[1:]]
    config["token_choice"] = "spread"
    config["cache"] = {"max_size": "2MiB"}
    return config


def soak(scene):
    watch = Watch(scene)
    troubles = [TokenTrouble(scene, index, FAULTS) for index in range(len(scene.tokens))]
    for index in range(len(troubles)):
        scene.wait_signing(index)
    before = wait_for(lambda: shape(watch), "descriptors and threads are counted")
    threads = scene.run(watch, ProcessTrouble(scene, CLIENTS), *troubles)
    scene.stop.wait(SECONDS * 2 / 3)
    scene.spare_processes.set()
    scene.stop.wait(SECONDS / 3)
    scene.stop.set()
    for thread in threads:
        thread.join(60 * SLOWER)
    scene.check()
    level(scene, troubles)
    watch.look()
    scene.askers.stop()
    try:
        judge(scene, watch, before)
    finally:
        tell(scene, watch)


def level(scene, troubles):
    """What no soak is to go without; then all sessions anew, so that each token has what it was asked for."""
    for index, trouble in enumerate(troubles):
        trouble.make(WRONG_SIGNATURES)
        trouble.make(ALL_CLOSED)
        wait_for(lambda: scene.token_lanes(index) == SESSIONS, f"token {index} has all its lanes")


def judge(scene, watch, before):
    daemon = scene.daemon
    assert daemon.process.poll() is None and daemon.http("/ready")[0] == 200
    assert not unexplained(scene), unexplained(scene)[:10]
    for index, token in enumerate(scene.tokens):
        judge_token(scene, index, token)
    starts = sum(len(scene.signers_started(index)) for index in range(len(scene.tokens)))
    assert starts <= len(scene.tokens) + sum(made.starts for made in scene.made)
    wait_for(lambda: shape(watch) == before, f"descriptors and threads are as they were: {before}, not {shape(watch)}")
    for host, answer in scene.askers.sample:
        checks.assert_leaf(answer, scene.askers.authority.cert, names=[host])
    if not tree.IS_SANITIZED:
        for role, pid, seconds, then, now in watch.growth():
            assert now - then < GROWTH_MAX, f"{role} {pid} has grown by {(now - then) / MIB:.1f} MiB in {seconds:.0f} s"


def judge_token(scene, index, token):
    """Sessions and logins."""
    (pid,) = scene.signers(index)
    counters = counters_of(token, pid)
    assert counters["sessions_open"] == scene.token_lanes(index) == SESSIONS
    assert token.count("sessions_peak") <= SESSIONS
    made = [m for m in scene.made if m.place == f"token {index}"]
    assert token.count("login") <= len(scene.signers_started(index)) + sum(m.logins for m in made)
    assert token.count("login_bad") <= sum(m.what == "the PIN is another" for m in made)
    assert token.count("login_after_bad") == token.count("fork_use") == token.count("race") == 0


class Times:
    """The faults of one place, one after the other, as times: [began, ended]."""

    def __init__(self, made):
        self.began = [m.began for m in made]
        self.ended = [m.ended + GRACE_SEC for m in made]

    def meet(self, failure):
        last = bisect.bisect_right(self.began, failure.ended) - 1
        return last >= 0 and self.ended[last] >= failure.sent


def unexplained(scene):
    """Failures that no fault of that moment explains."""
    places = [f"token {index}" for index in range(len(scene.tokens))]
    gone = [Times([m for m in scene.made if m.place == place and m.takes_away]) for place in places]
    front = Times([m for m in scene.made if m.place == "front"])

    def is_explained(failure):
        if failure.error == "no answer" and front.meet(failure):
            return True
        # No answer: the token came back when too little of its time was left for all that waited.
        return (
            failure.error in ("token-unavailable", "busy", "no answer")
            and not failure.is_known
            and all(times.meet(failure) for times in gone)
        )

    began = scene.made[0].began
    return [
        f"{f.host}: {f.error} after {f.ended - f.sent:.2f} s at {f.ended - began:.2f}"
        for f in scene.askers.failures
        if not is_explained(f)
    ]


def tell(scene, watch):
    """The figures, for FAULTS.md and for whoever looks for a fault's reason."""
    askers = scene.askers
    errors = collections.Counter(f.error for f in askers.failures)
    print(f"new leaves {askers.new_good}, cached {askers.known_good}, failed {dict(errors)}")
    print(f"the slowest answer took {askers.slowest_sec:.2f} s")
    kinds = collections.Counter((m.place, m.what) for m in scene.made)
    print(f"{len(scene.made)} faults:")
    for (place, what), number in sorted(kinds.items()):
        slowest = max(m.recovered_sec for m in scene.made if (m.place, m.what) == (place, what))
        print(f"  {place}: {what}: {number}, mended {slowest:.2f} s after its end at the latest")
    for index, token in enumerate(scene.tokens):
        starts = len(scene.signers_started(index))
        most = starts + sum(m.logins for m in scene.made if m.place == f"token {index}")
        print(f"token {index}: {token.count('sign')} signatures, {starts} processes,", end=" ")
        print(f"{token.count('login')} logins of at most {most}")
    for role, pid, seconds, then, now in watch.growth():
        print(f"{role} {pid}: {then / MIB:.1f} MiB, {seconds:.0f} s later {now / MIB:.1f} MiB")
    if os.environ.get("LEAFD_SOAK_LOG"):
        began = scene.made[0].began
        for m in scene.made:
            print(f"{m.began - began:.2f} to {m.ended - began:.2f}: {m.place}: {m.what}, {m.logins} logins")
