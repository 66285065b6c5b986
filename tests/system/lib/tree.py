# SPDX-License-Identifier: Apache-2.0
"""Where the programs under test are, and as whom their roles run."""

import atexit
import os
import pathlib
import shutil
import tempfile

SOURCE = pathlib.Path(os.environ["top_srcdir"]).resolve()
BUILD = pathlib.Path(os.environ["top_builddir"]).resolve()
SOFTHSM_MODULE = os.environ["SOFTHSM_MODULE"]

LEAFD = BUILD / "leafd"
LEAFCTL = BUILD / "leafctl"
SOFTHSM_SETUP = SOURCE / "softhsm-setup" / "softhsm-setup"

IS_ROOT = os.geteuid() == 0
# Two ids that nobody has, as quickstart does it. Without root, roles stay who we are.
FRONT_ID, SIGNER_ID, STRANGER_ID = (64101, 64102, 64103) if IS_ROOT else (os.geteuid(),) * 3

SANITIZER = os.environ.get("SANITIZER", "no")
IS_SANITIZED = SANITIZER not in ("", "no")


class TemporaryFolder:
    """A folder that the roles' users can search, with a short path (socket paths end at 107 octets)."""

    def __init__(self, prefix="leafd-test-"):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=prefix))
        self.path.chmod(0o755)

    def remove(self):
        shutil.rmtree(self.path, ignore_errors=True)


def readable(path):
    """A copy of the file that every user can reach, wherever the build folder lies; `path` if it is not there."""
    if not path.exists():
        return path
    folder = TemporaryFolder()
    atexit.register(folder.remove)
    return pathlib.Path(shutil.copy(path, folder.path))


FAKE_MODULE = readable(BUILD / "tests" / "lib" / "fake_pkcs11.so")


def become(uid, gid):
    """What a child calls before exec, to run as a role's user (only root can, and only root needs it)."""

    def before_exec():
        if IS_ROOT:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)

    return before_exec


def give_to(path, uid):
    """Hands a file or a whole folder to a role's user (only root can, and only root needs it)."""
    if not IS_ROOT:
        return
    os.chown(path, uid, uid)
    if os.path.isdir(path):
        for folder, folders, files in os.walk(path):
            for entry in folders + files:
                os.chown(os.path.join(folder, entry), uid, uid)
