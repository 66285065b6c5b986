# SPDX-License-Identifier: Apache-2.0
"""Headless Chromium and Firefox, each with a profile of its own that trusts the given roots. load(host,
server) opens https://host/ at an HttpsServer, whatever the host's name, and tells how that went; nothing
else is reached, and nothing beyond loopback."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import typing

from .polling import wait_for
from . import oracles

PATIENCE_SEC = 90


class Page(typing.NamedTuple):
    title: str  # empty where the page has not loaded
    error: str  # what the browser calls the fault, or empty


def _environment(home):
    env = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    return {**env, "HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "XDG_CACHE_HOME": str(home / ".cache")}


def _in_url(host):
    return f"[{host}]" if ":" in host else host


class Browser:
    program = ""

    @classmethod
    def path(cls):
        return shutil.which(cls.program)

    def __init__(self, roots):
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="leafd-browser-"))
        self.trust(roots)

    def trust(self, roots):
        """A database of NSS with these roots (DER), where the browser looks for one."""
        database = oracles.NssDatabase()
        try:
            for number, root in enumerate(roots):
                status, said = database.add(f"root-{number}", root, "C,,")
                assert status == 0, said
            shutil.copytree(database.path, self.database(), dirs_exist_ok=True)
        finally:
            database.close()

    def close(self):
        shutil.rmtree(self.home, ignore_errors=True)


class Chromium(Browser):
    """A process for each page."""

    program = "chromium"

    def database(self):
        return self.home / ".pki" / "nssdb"

    def load(self, host, server):
        command = [self.path(), "--headless", "--disable-gpu", f"--user-data-dir={self.home}/profile", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        if os.geteuid() == 0:
            command.append("--no-sandbox")
        command += [f"--host-resolver-rules=MAP * 127.0.0.1:{server.port}", "--dump-dom", f"https://{_in_url(host)}/"]
        done = subprocess.run(
            command,
            env=_environment(self.home),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE_SEC,
        )
        title = re.search(r"<title>(.*?)</title>", done.stdout)
        error = re.search(r"Page load failed: net::(\w+)", done.stderr)
        assert title or error, done.stdout + done.stderr
        return Page(title[1] if title else "", error[1] if error else "")


# Firefox asks many servers for many things; all of it goes to a proxy that is not there.
PREFERENCES = {
    "marionette.port": 0,
    "app.update.enabled": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "network.proxy.type": 1,
    "network.proxy.http": "127.0.0.1",
    "network.proxy.http_port": 9,
    "network.proxy.ssl": "127.0.0.1",
    "network.proxy.ssl_port": 9,
    "toolkit.telemetry.enabled": False,
}
PAGE_STATE = (
    "return [document.documentURI, document.title,"
    " document.getFailedCertSecurityInfo ? document.getFailedCertSecurityInfo().errorCodeString : '']"
)


class Firefox(Browser):
    """One process, told what to do by Marionette: JSON with its length before it, over TCP."""

    program = "firefox-esr"

    def database(self):
        return self.home

    def __init__(self, roots, names):
        """`names`: those of all pages to come."""
        super().__init__(roots)
        here = ",".join(names)
        preferences = {**PREFERENCES, "network.dns.localDomains": here, "network.proxy.no_proxies_on": here}
        lines = (f"user_pref({json.dumps(key)}, {json.dumps(value)});\n" for key, value in preferences.items())
        (self.home / "user.js").write_text("".join(lines))
        self.number = 0
        self.log = (self.home / "log").open("w")
        self.process = subprocess.Popen(
            [self.path(), "--headless", "--marionette", "--no-remote", "--profile", str(self.home)],
            env=_environment(self.home),
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def _connect(self):
        told = self.home / "MarionetteActivePort"
        port = wait_for(lambda: told.exists() and told.read_text(), "Firefox tells its port", PATIENCE_SEC)
        self.socket = socket.create_connection(("127.0.0.1", int(port)), PATIENCE_SEC)
        self.stream = self.socket.makefile("rb")
        self._receive()  # its greeting
        self.command("WebDriver:NewSession", capabilities={"alwaysMatch": {"acceptInsecureCerts": False}})

    def _receive(self):
        digits = b""
        while (octet := self.stream.read(1)) != b":":
            assert octet, "Firefox has hung up"
            digits += octet
        return json.loads(self.stream.read(int(digits)))

    def command(self, name, **parameters):
        """(error, result): one of them is None."""
        self.number += 1
        message = json.dumps([0, self.number, name, parameters]).encode()
        self.socket.sendall(b"%d:%b" % (len(message), message))
        return self._receive()[2:]

    def load(self, host, server):
        failed, _ = self.command("WebDriver:Navigate", url=f"https://{_in_url(host)}:{server.port}/")
        _, result = self.command("WebDriver:ExecuteScript", script=PAGE_STATE, args=[])
        address, title, error = result["value"]
        if failed is None and address.startswith("https:"):
            return Page(title, "")
        return Page("", error or re.sub(r".*[?&]e=(\w+).*", r"\1", address))

    def close(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if hasattr(self, "socket"):
            self.stream.close()
            self.socket.close()
        self.log.close()
        super().close()


BROWSERS = {"chromium": Chromium, "firefox": Firefox}
