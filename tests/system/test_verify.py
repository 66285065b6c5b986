# SPDX-License-Identifier: Apache-2.0
"""A token that signs wrongly without saying so (FAULTS.md): how many leaves of it are sent, and what becomes of
those that leafd remembers."""

import json

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from lib import tree
from lib.authority import configuration, leafctl
from lib.client import Load, by_ids
from lib.failing_token import FailingToken
from lib.leafd_process import LeafdProcess
from lib.polling import wait_for

CLIENTS = 16
LANES = 4
UNVERIFIED = 15  # of a lane in a row, at most
WARM = 6 * 32 * LANES  # so many signatures that each lane has had its first 32


def is_good(leaf, ca):
    try:
        ca.public_key().verify(leaf.signature, leaf.tbs_certificate_bytes, ec.ECDSA(leaf.signature_hash_algorithm))
    except InvalidSignature:
        return False
    return True


def use_key(failing, key_file):
    """Another key, under the same label, id and handle."""
    new = failing.folder / "control.new"
    new.write_text(failing.control.read_text().replace(str(failing.authority.key_file), str(key_file)))
    tree.give_to(new, tree.SIGNER_ID)
    new.rename(failing.control)


def counter(daemon, name):
    lines = [line.split() for line in daemon.http("/metrics")[1].splitlines() if line.startswith(name)]
    return sum(int(value) for _, value in lines)


@pytest.mark.parametrize("verify", ["auto", "always"])
def test_a_token_that_signs_wrongly(folder, failing, verify):
    """With always none is sent. With auto at most 15 of each lane, until one is verified; then none, and no cached
    one either; /ready says why."""
    other = FailingToken(folder, "other").authority.key_file
    tree.give_to(other, tree.SIGNER_ID)
    faults = {
        "another key": (lambda: use_key(failing, other), "is not the key of the CA certificate"),
        "wrong signatures": (lambda: failing.tell("corrupt = 1000000"), "what it signs does not verify"),
    }
    config = configuration(failing, failing.authority.pem_file, "ca")
    config["token"].update({"verify": verify, "sessions": LANES})
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        for turn, (what, (make, says)) in enumerate(faults.items()):
            disowned = counter(daemon, "leafd_token_disowned_total")
            load = Load(
                daemon.address,
                lambda n: (host := f"n{n}.turn{turn}.example.org", by_ids(host)),
                clients=CLIENTS,
            ).start()
            wait_for(lambda: load.count_answered() >= WARM, f"{WARM} leaves")
            make()
            wait_for(lambda: says in daemon.http("/ready")[1], f"/ready says: {says}")
            failing.tell()
            answers = {o.host: o.answer for o in load.stop() if o.answered}
            assert {a.error for a in answers.values() if a.error} <= {"token-unavailable"}
            leaves = {host: a.leaf for host, a in answers.items() if not a.error}
            wrong = [host for host, leaf in leaves.items() if not is_good(leaf, failing.authority.cert)]

            wait_for(lambda: daemon.http("/ready")[0] == 200, "/ready says 200")
            disowned = counter(daemon, "leafd_token_disowned_total") - disowned
            print(f"{verify}, {what}: {len(wrong)} of {len(leaves)} leaves were wrong, {disowned} disowned")
            assert len(wrong) <= disowned <= (UNVERIFIED * LANES if verify == "auto" else 0)
            # What is remembered is good; what was wrong is signed anew.
            with daemon.client() as client:
                for host in [*wrong, *list(leaves)[-100:]]:
                    assert is_good(client.ask_leaf(by_ids(host)).leaf, failing.authority.cert), host
        for row in ("proofs", "recoveries", "disowned"):
            assert row in leafctl(config, folder, "status").stdout
        signer = json.loads(daemon.http("/healthcheck")[1])["signer"]
        assert signer["recoveries"] >= len(faults)
        assert (signer["disowned"] > 0) <= (verify == "auto")
