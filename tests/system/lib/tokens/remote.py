# SPDX-License-Identifier: Apache-2.0
"""SoftHSM behind p11-kit remoting: a module that talks to a server in another process, which can die."""

import os
import pathlib
import subprocess

from lib import tree
from lib.client import by_ids
from lib.leafd_process import environment
from lib.polling import wait_for

from .softhsm import SoftHsm

SERVER = pathlib.Path("/usr/libexec/p11-kit/p11-kit-server")
CLIENT = next(iter(sorted(pathlib.Path("/usr/lib").glob("*/pkcs11/p11-kit-client.so"))), None)
ACCEPTS_CONNECTIONS = "00010000"  # among the flags of /proc/net/unix


class RemoteSoftHsm(SoftHsm):
    process = None
    # p11-kit 0.24 has no words for its mechanisms.
    CANNOT = {"ed25519": "makes no ed25519 key: CKR_MECHANISM_INVALID"}

    @staticmethod
    def absent():
        if not (SERVER.exists() and CLIENT):
            return "no p11-kit server; on Debian: apt-get install p11-kit p11-kit-modules"
        if tree.SANITIZER == "thread":
            return "p11-kit-client closes its socket while other threads read from it, which ThreadSanitizer reports"
        return None

    def make(self):
        super().make()
        self.remote = self.folder / "remote"
        self.remote.mkdir()
        self.socket = self.remote / "socket"

    def give(self):
        super().give()
        self.start()

    def start(self):
        self.socket.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [str(SERVER), "-f", "-n", str(self.socket), "--provider", tree.SOFTHSM_MODULE, "pkcs11:"],
            env=environment(SOFTHSM2_CONF=str(self.conf), XDG_RUNTIME_DIR=str(self.remote)),
            stdout=subprocess.DEVNULL,
            preexec_fn=tree.become(*self.ids),
            start_new_session=True,
        )
        wait_for(self.listens, "p11-kit server listens")

    def listens(self):
        """The socket has its name before that."""
        with open("/proc/net/unix", encoding="utf-8") as file:
            lines = [line.split() for line in file]
        return any(line[-1] == str(self.socket) and line[3] == ACCEPTS_CONNECTIONS for line in lines)

    def kill(self):
        """The server and the children that serve its connections."""
        os.killpg(self.process.pid, 9)
        self.process.wait()
        self.process = None

    def module(self):
        return CLIENT

    def options(self):
        return {"env": {"P11_KIT_SERVER_ADDRESS": f"unix:path={self.socket}"}}

    def interrupt(self, daemon):
        """The server is gone until leafd knows, and comes back."""
        self.kill()
        with daemon.client() as client:
            client.send(by_ids("gone.example.org"))
            wait_for(lambda: daemon.http("/ready")[0] == 503, "/ready says 503")
        self.start()

    def remove(self):
        if self.process:
            self.kill()
