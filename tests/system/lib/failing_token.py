# SPDX-License-Identifier: Apache-2.0
"""A token behind the fake PKCS#11 module (tests/lib/fake_pkcs11.c), which does what a test tells it to."""

from lib import tree
from lib.authority import SoftwareAuthority

PIN = "1234"


class FailingToken:
    """The module's control file, its counters, and the CA whose key it has."""

    label = "leafd"

    def __init__(self, folder, name="fake", authority=None):
        """With an authority of its own, or with the key of another token's."""
        self.folder = folder / name
        self.folder.mkdir()
        self.authority = authority or SoftwareAuthority(self.folder)
        self.pin_file = self.folder / "pin"
        self.pin_file.write_text(PIN + "\n")
        self.control = self.folder / "control"
        self.tell()

    def tell(self, *lines, has_key=True):
        """Writes the control file anew."""
        fixed = [f"counters = {self.folder}/counters.%p"]
        if has_key:
            fixed.append(f"key = token=0 label=ca id=01 file={self.authority.key_file}")
        new = self.folder / "control.new"
        new.write_text("\n".join([*fixed, *lines]) + "\n")
        tree.give_to(self.folder, tree.SIGNER_ID)
        new.rename(self.control)

    def count(self, name):
        """Over all processes that had the module; peaks are those of one process."""
        counts = []
        for file in self.folder.glob("counters.*"):
            words = dict(line.split() for line in file.read_text().splitlines() if len(line.split()) == 2)
            counts.append(int(words.get(name, 0)))
        return max(counts, default=0) if name.endswith("_peak") else sum(counts)

    def uri(self, key):
        return f"pkcs11:token={self.label};object={key};type=private"

    def section(self):
        return {
            "access": "native",
            "module": str(tree.FAKE_MODULE),
            "env": {"FAKE_PKCS11_CONTROL": str(self.control)},
            "pin_file": str(self.pin_file),
        }
