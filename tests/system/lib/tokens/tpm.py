# SPDX-License-Identifier: Apache-2.0
"""A TPM in software (swtpm) behind tpm2-pkcs11 and the resource manager tpm2-abrmd, without which such a TPM
runs out of room for objects. They talk over a private D-Bus, which lets nobody in who is not in /etc/passwd:
signer and servers run as tss, the user that Debian's packages make."""

import os
import pathlib
import pwd
import shutil
import socket
import subprocess

from lib import tree
from lib.leafd_process import environment
from lib.polling import wait_for

from .kind import Kind

MODULE = next(iter(sorted(pathlib.Path("/usr/lib").glob("*/pkcs11/libtpm2_pkcs11.so"))), None)
TOOLS = ("swtpm", "tpm2-abrmd", "tpm2_ptool", "dbus-daemon")
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>
<allow receive_sender="*"/></policy></busconfig>
"""


def two_free_ports():
    """swtpm's and, one above, that of its control channel."""
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            try:
                two.bind(("127.0.0.1", one.getsockname()[1] + 1))
            except OSError:
                continue
            return one.getsockname()[1]


class Tpm(Kind):
    CANNOT = {"rsa-4096": "makes no rsa-4096 key", "ed25519": "makes no ed25519 key: CKR_MECHANISM_INVALID"}
    user = "tss"

    @staticmethod
    def absent():
        path = os.environ["PATH"] + ":/usr/sbin"
        missing = [tool for tool in TOOLS if not shutil.which(tool, path=path)]
        if missing or not MODULE:
            return (
                f"no {missing[0] if missing else 'libtpm2_pkcs11.so'}; on Debian: apt-get install swtpm "
                "tpm2-abrmd libtpm2-pkcs11-1 libtpm2-pkcs11-tools libtss2-tcti-tabrmd0 dbus-daemon"
            )
        if not tree.IS_ROOT:
            return "it needs root, to run as the user tss"
        return None

    def make(self):
        self.processes = []
        owner = pwd.getpwnam("tss")
        self.ids = owner.pw_uid, owner.pw_gid
        for name in ("state", "store"):
            (self.folder / name).mkdir()
        (self.folder / "bus.conf").write_text(BUS.format(path=self.folder / "bus"))
        self.give()
        port = two_free_ports()
        self.start(
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.folder}/state", "--flags",
            "not-need-init,startup-clear", "--server", f"type=tcp,port={port},bindaddr=127.0.0.1",
            "--ctrl", f"type=tcp,port={port + 1},bindaddr=127.0.0.1",
        )  # fmt: skip
        self.start("dbus-daemon", f"--config-file={self.folder}/bus.conf", "--nofork", "--nopidfile")
        wait_for((self.folder / "bus").exists, "the bus is there")
        wait_for(lambda: answers(port + 1), "the TPM listens")
        self.start("tpm2-abrmd", "--session", f"--tcti=swtpm:host=127.0.0.1,port={port}")
        wait_for(lambda: self.run("tpm2_getrandom", "--hex", "4").returncode == 0, "the TPM answers", every=0.1)
        self.ptool("init")
        self.ptool("addtoken", "--pid", "1", "--label", self.label, "--sopin", "sopin", "--userpin", self.write_pin())

    def environment(self):
        return {
            "TPM2_PKCS11_STORE": f"{self.folder}/store",
            "TPM2_PKCS11_TCTI": "tabrmd:bus_type=session",
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self.folder}/bus",
        }

    def start(self, *command):
        self.processes.append(
            subprocess.Popen(
                command,
                env=environment(**self.environment(), PATH=os.environ["PATH"] + ":/usr/sbin"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=tree.become(*self.ids),
                start_new_session=True,
            )
        )

    def run(self, *command):
        more = {"TPM2TOOLS_TCTI": "tabrmd:bus_type=session"}
        return subprocess.run(
            command,
            env=environment(**self.environment(), **more),
            capture_output=True,
            text=True,
            timeout=60,
            preexec_fn=tree.become(*self.ids),
        )

    def ptool(self, *words):
        done = self.run("tpm2_ptool", *words, "--path", f"{self.folder}/store")
        assert done.returncode == 0, done.stdout + done.stderr

    def module(self):
        return MODULE

    def options(self):
        return {"env": self.environment()}

    def remove(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait()


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
