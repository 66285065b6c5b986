# SPDX-License-Identifier: Apache-2.0
"""NSS's softokn: the database of certutil. Its slot 1 is a token without keys, and there is none without the
text that C_Initialize gets."""

import pathlib
import shutil
import subprocess

from lib.leafd_process import environment

from .kind import Kind

MODULE = next(iter(sorted(pathlib.Path("/usr/lib").glob("*-linux-gnu*/libsoftokn3.so"))), None)


# An RSA key costs some 30 ms a signature otherwise: NSS decrypts each part of it anew, and derives a key from
# the password for each. The count is kept in the database, for what is written while it is set.
FAST = {"NSS_MAX_MP_PBE_ITERATION_COUNT": "1"}


class Nss(Kind):
    CANNOT = {"ed25519": "makes no ed25519 key: CKR_MECHANISM_INVALID"}
    label = "NSS Certificate DB"

    @staticmethod
    def absent():
        if not (MODULE and shutil.which("certutil")):
            return "no libsoftokn3.so and certutil; on Debian: apt-get install libnss3 libnss3-tools"
        return None

    def make(self):
        self.database = self.folder / "db"
        self.database.mkdir()
        if self.PINS:
            self.write_pin()
        password = ["-f", str(self.pin_file)] if self.PINS else ["--empty-password"]
        subprocess.run(
            ["certutil", "-N", "-d", f"sql:{self.database}", *password],
            check=True,
            capture_output=True,
            timeout=60,
            env=environment(**FAST),
        )

    def module(self):
        return MODULE

    def options(self):
        return {"init_args": f"configdir='sql:{self.database}'", "env": FAST}


class NssWithoutPin(Nss):
    """A database without a password does not ask for one (no CKF_LOGIN_REQUIRED)."""

    PINS = False
