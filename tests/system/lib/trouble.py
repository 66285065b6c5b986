# SPDX-License-Identifier: Apache-2.0
"""Random faults at random moments, each told to a failing token or done to the daemon's processes: what
is made when, and what that explains."""

import contextlib
import dataclasses
import http.client
import os
import random
import re
import signal
import threading
import time
import typing

from . import tree
from .authority import leafctl_json
from .client import by_ids
from .leafd_process import pairs
from .polling import wait_for

SLOWER = 4 if tree.IS_SANITIZED else 1
RECOVERS_SEC = 12 * SLOWER  # a deadline; how long it took is printed
NOT_YET = float("inf")


@dataclasses.dataclass(frozen=True)
class Fault:
    """One kind of fault of a token.

    `lines`: of the control file, made with a random.Random; gone when the fault is over.
    `lasting`: settings of the control file, made so too, that stay; `bumps`: numbers there that go up.
    `has_key`: no: the key is gone as well.
    `hold`: seconds between which it lasts, or what ends it: "death" of its process, PIN "refused".
    `takes_away`: the token signs nothing for a while, so that errors are explained.
    `spoils_signatures`: the cache may drop leaves.
    `ends_process`: left out towards the end, when processes are to stay.
    `logins`: C_Login calls that it costs at most in a process that goes on, with the seconds it lasted;
    `starts`: processes that it starts at most, each of which logs in once."""

    what: str
    lines: typing.Callable = lambda rng: []
    lasting: typing.Callable = lambda rng: {}
    bumps: tuple = ()
    has_key: bool = True
    hold: typing.Any = (0.0, 0.3)
    takes_away: bool = False
    logins: typing.Callable = lambda seconds: 0
    starts: typing.Callable = lambda seconds: 0
    spoils_signatures: bool = False
    ends_process: bool = False


@dataclasses.dataclass
class Made:
    """A fault as it was made."""

    what: str
    place: str  # "token 0", "front"
    began: float
    ended: float = NOT_YET
    takes_away: bool = False
    logins: int = 0
    starts: int = 0
    recovered_sec: float = 0.0


class Deck:
    """Each of `cards` once in random order, then again."""

    def __init__(self, cards, rng):
        self.cards, self.rng, self.left = list(cards), rng, []

    def draw(self, allowed=lambda card: True):
        while True:
            if not self.left:
                self.left = self.rng.sample(self.cards, len(self.cards))
            card = self.left.pop()
            if allowed(card):
                return card


class Scene:
    """The daemon, its tokens and its askers, and what was done to them."""

    def __init__(self, daemon, tokens, askers, seed):
        self.daemon, self.tokens, self.askers, self.seed = daemon, tokens, askers, seed
        self.made = []
        self.stop = threading.Event()
        self.spare_processes = threading.Event()
        self._errors = []

    def rng(self, name):
        return random.Random(f"{self.seed} {name}")

    @contextlib.contextmanager
    def making(self, what, place, **fields):
        made = Made(what, place, time.monotonic(), **fields)
        self.made.append(made)
        yield made
        made.ended = time.monotonic()

    def run(self, *actors):
        """Starts each of these functions on a thread; what they raise is raised by check()."""

        def guard(actor):
            try:
                actor()
            except BaseException as error:
                self._errors.append(error)
                self.stop.set()

        threads = [threading.Thread(target=guard, args=[actor], daemon=True) for actor in actors]
        for thread in threads:
            thread.start()
        return threads

    def check(self):
        for error in self._errors:
            raise error
        self.askers.check()

    # ---- what is seen of the daemon ----

    def metrics(self):
        """The text of /metrics; "" while nobody answers."""
        try:
            return self.daemon.http("/metrics")[1]
        except (OSError, http.client.HTTPException):
            return ""

    def token_state(self, token):
        found = re.search(rf'^leafd_token_state{{token="{token}",state="([a-z-]+)"}} 1$', self.metrics(), re.M)
        return found[1] if found else "unknown"

    def token_lanes(self, token):
        found = re.search(rf'^leafd_token_lanes{{token="{token}"}} (\d+)$', self.metrics(), re.M)
        return int(found[1]) if found else 0

    def is_ready(self, token):
        return self.token_state(token) in ("ready", "degraded")

    def signers_started(self, token):
        """Process numbers of all signers that this token ever had, perhaps one of them twice."""
        return self._signers("role-started", token)

    def signers(self, token):
        """Of those that live, as the supervisor knows it: numbers are used again."""
        ended = self._signers("role-ended", token)
        live = self._signers("role-started", token)
        for pid in ended:
            live.remove(pid)
        return live

    def _signers(self, event, token):
        told = [pairs(line) for line in self.daemon.events(event)]
        return [int(p["pid"]) for p in told if p["role"] == "signer" and p.get("token") == str(token)]

    def wait_signing(self, index):
        """Until the token is ready for the front, has signed, and has one process."""
        token = self.tokens[index]
        signed = token.count("sign")

        def signs():
            self.check()
            return token.count("sign") > signed + 1 and self.is_ready(index) and len(self.signers(index)) == 1

        wait_for(signs, f"token {index} signs again", RECOVERS_SEC, every=0.03)


class TokenTrouble:
    """One fault after the other for one token, each waited for until it is mended."""

    def __init__(self, scene, index, faults):
        self.scene, self.index, self.token = scene, index, scene.tokens[index]
        self.rng = scene.rng(f"token {index}")
        self.deck = Deck(faults, self.rng)
        self.lasting = {"latency.C_Sign": 20000}
        self.tell()

    def tell(self, *lines, has_key=True):
        self.token.tell(*(f"{name} = {value}" for name, value in self.lasting.items()), *lines, has_key=has_key)

    def __call__(self):
        while not self.scene.stop.wait(self.rng.uniform(0, 0.4)):
            self.make(self.deck.draw(lambda fault: not (fault.ends_process and self.scene.spare_processes.is_set())))

    def make(self, fault):
        place = f"token {self.index}"
        doubt = self.scene.askers.cache_in_doubt if fault.spoils_signatures else contextlib.nullcontext
        with doubt(), self.scene.making(fault.what, place, takes_away=fault.takes_away) as made:
            for name in fault.bumps:
                self.lasting[name] = self.lasting.get(name, 0) + self.rng.randint(1, 100)
            self.lasting.update(fault.lasting(self.rng))
            pids = self.scene.signers(self.index)
            self.tell(*fault.lines(self.rng), has_key=fault.has_key)
            self.hold(fault, pids)
            self.tell()
            over = time.monotonic()
            lasted = over - made.began
            made.logins, made.starts = int(fault.logins(lasted)), int(fault.starts(lasted))
            if fault.hold == "refused":
                self.unblock()
            self.scene.wait_signing(self.index)
            made.recovered_sec = time.monotonic() - over

    def hold(self, fault, pids):
        if fault.hold == "death":
            wait_for(lambda: self.scene.signers(self.index) != pids, f"{fault.what}: it dies", RECOVERS_SEC)
        elif fault.hold == "refused":
            wait_for(lambda: self.scene.token_state(self.index) == "pin-blocked", "the PIN is refused", RECOVERS_SEC)
        else:
            called = self.token.count("C_Sign")
            least = time.monotonic() + self.rng.uniform(*fault.hold)
            most = least + (0 if fault.takes_away else 2 * SLOWER)
            # Until somebody has met it. The end of the soak shortens no fault: that would be another one.
            while (now := time.monotonic()) < most and (now < least or self.token.count("C_Sign") < called + 4):
                time.sleep(0.02)

    def unblock(self):
        """The operator's word."""
        daemon = self.scene.daemon
        leafctl_json(daemon.config, daemon.folder, "token", "unblock", str(self.index))


class ProcessTrouble:
    """Kills and reloads, and more and fewer clients."""

    def __init__(self, scene, clients):
        self.scene, self.daemon, self.clients = scene, scene.daemon, clients
        self.rng = scene.rng("processes")
        # The front seldom: its clients lose what they had asked.
        acts = [self.kill_signer] * 3 + [self.reload] * 2 + [self.change_clients] * 4 + [self.kill_front]
        self.deck = Deck(acts, self.rng)

    def __call__(self):
        while not self.scene.stop.wait(self.rng.uniform(0.2, 2.0)):
            kills = (self.kill_signer, self.kill_front)
            self.deck.draw(lambda act: not (act in kills and self.scene.spare_processes.is_set()))()

    def kill_signer(self):
        index = self.rng.randrange(len(self.scene.tokens))
        with self.scene.making("kill -9", f"signer of token {index}", starts=1):
            for pid in self.scene.signers(index)[-1:]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def kill_front(self):
        with self.scene.askers.cache_in_doubt(), self.scene.making("kill -9", "front") as made:
            _, dead = self.daemon.kill_role("front")
            with self.daemon.client() as client:
                # What was asked of the old one is lost; the new one answers this.
                wait_for(lambda: client.ask_raw(by_ids("front.soak.example.org"), 1.0), "the front answers", 10 * SLOWER)
            made.recovered_sec = time.monotonic() - dead

    def reload(self):
        # A token whose PIN was refused starts its signer anew, without a try.
        with self.scene.making("reload", "supervisor", starts=len(self.scene.tokens)):
            before = len(self.daemon.lines)
            self.daemon.send_signal(signal.SIGHUP)
            self.daemon.wait_event("reload", since=before)

    def change_clients(self):
        self.scene.askers.active = self.rng.randint(*self.clients)
