# SPDX-License-Identifier: Apache-2.0
"""Where the PIN is not, from whichever source it comes: not in a log, an environment, an argument, an
answer, a core dump, nor in the memory of any process but the signer, and there in one place alone."""

import os
import pathlib
import re
import signal
import subprocess

import pytest

from lib import memory, tree
from lib.authority import Authority, Token, configuration, leafctl
from lib.client import by_ids
from lib.leafd_process import LeafdProcess, environment
from lib.polling import wait_for
from lib.terminal import Terminal

VARIABLE = "LEAFD_TEST_PIN"
WRONG = "5f7d0b6ca2e94c1d8e3b-not-the-pin"
# So that a crash would leave a core, if nobody had forbidden it.
CORES_WANTED = ("/bin/sh", "-c", 'ulimit -c unlimited; exec "$@"', "sh")


class Source:
    """One way in which an operator gives the PIN; `give` puts another one there."""

    def __init__(self, kind, token, config):
        self.env, self.file = environment(), token.pin_file
        self.terminal, self.starts = None, 1
        if kind == "credential":
            # As systemd's LoadCredential= leaves it: in a folder of the service, for its eyes alone.
            folder = token.folder / "credentials"
            folder.mkdir(mode=0o700)
            self.file = folder / "pin"
            self.env["CREDENTIALS_DIRECTORY"] = str(folder)
            config["token"]["pin_file"] = str(self.file)
        elif kind == "pin-source":
            del config["token"]["pin_file"]
            config["ca"]["key"] += f"?pin-source=file:{self.file}"
        elif kind == "pin_env":
            del config["token"]["pin_file"]
            config["token"]["pin_env"] = VARIABLE
            self.file = None
        elif kind == "prompt":
            del config["token"]["pin_file"]
            self.file, self.terminal = None, Terminal()

    def start(self, folder, config):
        stdin = self.terminal.slave if self.terminal else subprocess.DEVNULL
        daemon = LeafdProcess(folder, config, env=self.env, wrapper=CORES_WANTED, stdin=stdin)
        if self.terminal:
            self.terminal.answer("PIN for token", self.pin, times=self.starts)
            self.starts += 1
        return daemon

    def give(self, pin):
        self.pin = pin
        if self.terminal:
            return
        if self.file is None:
            self.env[VARIABLE] = pin
            return
        self.file.write_text(pin + "\n")
        self.file.chmod(0o600)
        tree.give_to(self.file, tree.SIGNER_ID)


def told_by_daemon(daemon):
    return "\n".join(daemon.http(path)[1] for path in ("/ready", "/healthcheck", "/metrics", "/ping"))


def told_by_leafctl(config, folder, codes):
    """By commands that end with these codes."""
    done = [leafctl(config, folder, *words.split()) for words in ("status --json", "check", "token list", "token test")]
    assert [one.returncode for one in done] == codes, done
    return "\n".join(one.stdout + one.stderr for one in done)


def assert_absent(pins, text):
    for pin in pins:
        assert pin not in text, text


def assert_nowhere_but_in_the_signer(daemon, pin):
    """For root, who alone may look."""
    signer = daemon.role_pid("signer")
    for pid in (daemon.pid, *daemon.role_pids()):
        proc = pathlib.Path(f"/proc/{pid}")
        for name in ("environ", "cmdline"):
            assert pin not in (proc / name).read_bytes(), (pid, name)
        assert re.search(rb"^Max core file size\s+0\s+0\s", (proc / "limits").read_bytes(), re.M)
        assert (proc / "mem").stat().st_uid == 0, "it is not dumpable, so its files are root's"
        if tree.IS_SANITIZED:
            continue  # they keep what was freed, and copies of what was passed on
        places = memory.places(pid, pin)
        if pid != signer:
            assert not places, (pid, places)
        else:
            assert places, "else we look in vain"
            for line, flags in places:
                assert {"dd", "lo"} <= flags, line


def core_files(*folders):
    return {path for folder in folders for path in pathlib.Path(folder).glob("core*")}


@pytest.mark.parametrize("kind", ["pin_file", "credential", "pin-source", "pin_env", "prompt"])
def test_where_the_pin_is_not(folder, kind):
    token = Token(folder / "token")
    authority = Authority(token, folder, "ca")
    config = configuration(token, authority.pem_file, "ca")
    config["log"] = {"level": "debug"}
    pin = token.pin_file.read_text().strip()
    pins = (pin, WRONG)
    source = Source(kind, token, config)
    source.give(pin)

    cores = core_files("/", folder)
    with source.start(folder, config) as daemon:
        daemon.wait_ready()
        with daemon.client() as client:
            client.ask_leaf(by_ids("pin.example.org"))
            # A crash: no core, and the next one gets the PIN too.
            crashed = daemon.role_pid("signer")
            os.kill(crashed, signal.SIGSEGV if not tree.IS_SANITIZED else signal.SIGABRT)
            daemon.wait_line(lambda line: "event=role-ended" in line and f"pid={crashed}" in line, "that it crashed")
            client.ask_leaf(by_ids("again.example.org"))
            if tree.IS_ROOT:
                assert_nowhere_but_in_the_signer(daemon, pin.encode())
        assert core_files("/", folder) == cores
        if kind == "pin_file":
            assert_absent(pins, told_by_leafctl(config, folder, [0, 0, 0, 0]))
        if source.file:  # it turns wrong while leafd runs
            source.give(WRONG)
            daemon.kill_role("signer")
            wait_for(lambda: "pin" in daemon.http("/ready")[1].lower(), "/ready tells of the PIN")
            if kind == "pin_file":
                assert_absent(pins, told_by_leafctl(config, folder, [0, 0, 0, 1]))
        assert_absent(pins, told_by_daemon(daemon))
    assert_absent(pins, daemon.log())

    source.give(WRONG)
    refused = source.start(folder, config)
    assert refused.wait_exit() == 78
    assert "PIN" in refused.log()
    assert_absent(pins, refused.log())
    if source.terminal:
        assert source.terminal.read().count("PIN for") == 2, "once for each start of leafd"
        assert_absent(pins, source.terminal.said)
