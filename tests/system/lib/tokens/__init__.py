# SPDX-License-Identifier: Apache-2.0
"""Kinds of tokens that the suites can run on, each made in a private folder. A new kind is a class and a
line in KINDS.

A kind has
  absent()   why it cannot be made here, or None
  CANNOT     {CA key type: what leafctl ca init says when asked for one}
  PINS       False where nobody logs in
  Kind(folder)   makes the token; label, section() and uri() as authority.Token
  user, ids  who its signer and its servers run as: name or number, (uid, gid)
  interrupt(daemon)   takes away what the signer holds, for once
  remove()   ends the processes that belong to it"""

from .kryoptic import Kryoptic, KryopticThatHashes
from .nss import Nss, NssWithoutPin
from .remote import RemoteSoftHsm
from .softhsm import SoftHsm, SoftHsmThatHashes
from .tpm import Tpm

KINDS = {
    "softhsm": SoftHsm,
    "softhsm-hashing": SoftHsmThatHashes,
    "p11-kit": RemoteSoftHsm,
    "nss": Nss,
    "nss-no-pin": NssWithoutPin,
    "kryoptic": Kryoptic,
    "kryoptic-hashing": KryopticThatHashes,
    "tpm": Tpm,
}
