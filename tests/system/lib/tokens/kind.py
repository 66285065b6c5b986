# SPDX-License-Identifier: Apache-2.0
"""What all kinds of tokens have."""

import os
import secrets
import urllib.parse

from lib import tree


class Kind:
    CANNOT = {}
    PINS = True
    label = "leafd"
    user = str(tree.SIGNER_ID)
    ids = tree.SIGNER_ID, tree.SIGNER_ID

    @staticmethod
    def absent():
        return None

    def __init__(self, folder):
        self.folder = folder
        self.folder.mkdir(exist_ok=True)
        self.pin_file = self.folder / "pin"
        try:
            self.make()
            self.give()
        except BaseException:
            self.remove()
            raise

    def make(self):
        raise NotImplementedError

    def give(self):
        """Its files belong to the signer's user (only root can, and only root needs it)."""
        if not tree.IS_ROOT:
            return
        for path in [self.folder, *self.folder.rglob("*")]:
            os.chown(path, *self.ids)

    def write_pin(self):
        """A random one."""
        pin = secrets.token_hex(8)
        self.pin_file.write_text(pin + "\n")
        return pin

    def uri(self, key):
        return f"pkcs11:token={urllib.parse.quote(self.label)};object={key};type=private"

    def section(self):
        """The `token:` part of a configuration."""
        own = {"access": "native", "module": str(self.module()), **self.options()}
        return own | ({"pin_file": str(self.pin_file)} if self.PINS else {})

    def module(self):
        raise NotImplementedError

    def options(self):
        """What more its section has."""
        return {}

    def interrupt(self, daemon):
        """Sessions, login and all end with the process that had them; the next one signs."""
        since = len(daemon.lines)
        daemon.kill_pid(daemon.role_pids("signer")[0])
        daemon.wait_event("signer-ready", since=since)

    def remove(self):
        pass
