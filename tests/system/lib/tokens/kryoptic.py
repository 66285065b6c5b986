# SPDX-License-Identifier: Apache-2.0
"""Kryoptic, a token in Rust (crate kryoptic, cargo build --no-default-features --features
minimal,kryoptic-lib/dynamic), where LEAFD_KRYOPTIC_MODULE names its libkryoptic_pkcs11.so."""

import os
import pathlib
import shutil
import subprocess

from lib import tree
from lib.leafd_process import environment

from .kind import Kind

MODULE = os.environ.get("LEAFD_KRYOPTIC_MODULE")
CONF = """[[slots]]
slot = 3
dbtype = "sqlite"
dbargs = "{folder}/token.sql"
{more}
"""


class Kryoptic(Kind):
    CANNOT = {"ed25519": "makes no ed25519 key: CKR_MECHANISM_INVALID"}  # of its minimal features
    MECHANISMS = ""

    @staticmethod
    def absent():
        if not MODULE:
            return "LEAFD_KRYOPTIC_MODULE does not say where libkryoptic_pkcs11.so is"
        if not shutil.which("pkcs11-tool"):
            return "no pkcs11-tool; on Debian: apt-get install opensc"
        return None

    def make(self):
        self.copy = tree.readable(pathlib.Path(MODULE))
        self.conf = self.folder / "kryoptic.conf"
        self.conf.write_text(CONF.format(folder=self.folder, more=self.MECHANISMS))
        pin = self.write_pin()
        self.tool("--init-token", "--slot", "3", "--label", self.label, "--so-pin", pin)
        login = ["--login", "--login-type", "so", "--so-pin", pin]
        self.tool("--init-pin", "--token-label", self.label, *login, "--pin", pin)

    def tool(self, *words):
        subprocess.run(
            ["pkcs11-tool", "--module", str(self.copy), *words],
            check=True,
            capture_output=True,
            timeout=60,
            env=environment(KRYOPTIC_CONF=self.conf),
        )

    def module(self):
        return self.copy

    def options(self):
        return {"env": {"KRYOPTIC_CONF": str(self.conf)}}


class KryopticThatHashes(Kryoptic):
    """It signs messages alone."""

    MECHANISMS = 'mechanisms = ["DENY", "CKM_RSA_PKCS", "CKM_RSA_PKCS_PSS", "CKM_ECDSA"]'
