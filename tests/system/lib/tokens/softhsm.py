# SPDX-License-Identifier: Apache-2.0
"""SoftHSM."""

import subprocess

from lib import tree
from lib.leafd_process import environment

from .kind import Kind


class SoftHsm(Kind):
    def make(self):
        subprocess.run(
            [str(tree.SOFTHSM_SETUP), str(self.folder)], check=True, capture_output=True, timeout=60, env=environment()
        )
        self.conf = self.folder / "softhsm2.conf"

    def module(self):
        return tree.SOFTHSM_MODULE

    def options(self):
        return {"env": {"SOFTHSM2_CONF": str(self.conf)}}


class SoftHsmThatHashes(SoftHsm):
    """It signs messages alone, as many an HSM that does not trust its callers to hash. SoftHSM 2.6 has no such
    mechanisms for EC keys."""

    MECHANISMS = """CKM_RSA_PKCS_KEY_PAIR_GEN,CKM_EC_KEY_PAIR_GEN,CKM_EC_EDWARDS_KEY_PAIR_GEN,CKM_EDDSA,
        CKM_SHA256_RSA_PKCS,CKM_SHA256_RSA_PKCS_PSS"""

    CANNOT = dict.fromkeys(("ec-p256", "ec-p384"), "signs with neither CKM_ECDSA nor")

    def make(self):
        super().make()
        with self.conf.open("a") as file:
            file.write(f"slots.mechanisms = {''.join(self.MECHANISMS.split())}\n")
