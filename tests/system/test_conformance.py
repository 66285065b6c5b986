# SPDX-License-Identifier: Apache-2.0
"""The same for each way to the key, kind of token and type of CA key: leafctl makes the CA, leafd starts and
gives new leaves on all lanes, every one is checked by openssl and by python's cryptography, the token is
interrupted and leafd recovers. leafd(8) has the versions that were tried.

Here is a part of the matrix that has every key type, kind and way once; `make check-tokens` runs all of it.
What a way or a kind cannot do is a refusal that says so."""

import os
import subprocess

import pytest

from cryptography.hazmat.primitives.serialization import Encoding

from lib import checks, choices, oracles, tree, yaml_text
from lib.authority import Authority, configuration, leafctl_json
from lib.certs import upstream
from lib.client import by_ids, mimic, run_load
from lib.leafd_process import LeafdProcess, environment
from lib.polling import wait_for
from lib.tokens import KINDS
from test_ways import ONCE, why_not

HOST = "conformance.example.org"
LEAVES = 16
CLIENTS = 16
WHOLE = os.environ.get("LEAFD_TESTS") == "tokens"
CLIMB_LADDER = tree.readable(tree.BUILD / "tests" / "lib" / "climb_ladder")

KEYS = [*choices.ca_keys(), "rsa-2048-pss"]
ACCESSES = [way for way in ("native", "provider", "libp11", "engine") if way in choices.option_values("token.access")]

PART = {
    "native": {
        "softhsm": KEYS,
        "softhsm-hashing": ["rsa-2048", "rsa-2048-pss"],
        "p11-kit": ["ec-p256", "rsa-2048"],
        "nss": ["ec-p256", "ec-p384", "rsa-2048"],
        "nss-no-pin": ["ec-p256"],
        "kryoptic": ["ec-p256"],
        "kryoptic-hashing": ["ec-p384"],
    },
    **dict.fromkeys(
        ("provider", "libp11", "engine"),
        {"softhsm": ["ec-p256", "rsa-2048-pss", "ed25519"], "p11-kit": ["rsa-2048"], "nss": ["ec-p384"]},
    ),
}


def cannot(kind, key):
    return KINDS[kind].CANNOT.get(key.removesuffix("-pss"))


def refusal(access, kind, key):
    """What leafd says when it ends, where it cannot go this way; else None."""
    if access == "native":
        return None
    if key == "ed25519" and access != "provider":
        return f"token.access: {access} cannot sign with the Ed25519 key"
    if kind == "p11-kit":
        return f"the module gives token.access: {access} an instance of its own"
    if kind.endswith("-hashing") and access != "provider":
        return "signs whole messages alone"
    if kind.endswith("-hashing") and key.endswith("-pss"):
        return "has no CKM_RSA_PKCS_PSS"
    return None


def cases():
    for access in ACCESSES:
        for kind in KINDS:
            for key in KEYS if WHOLE else PART[access].get(kind, []):
                if not cannot(kind, key):
                    yield pytest.param(access, kind, key, id=f"{access}-{kind}-{key}")


def refusals():
    kinds = KINDS if WHOLE else PART["native"]
    return [(kind, key) for kind in kinds for key in KINDS[kind].CANNOT]


def skip_absent(kind, access="native"):
    if reason := why_not(access):
        pytest.skip(f"{access}: {reason}")
    reason = KINDS[kind].absent()
    if reason:
        pytest.skip(f"{kind}: {reason}")


class Place:
    """A token with the CA of one key type in it. Each key type has a token of its own."""

    def __init__(self, kind, key):
        self.temporary = tree.TemporaryFolder()
        self.token = KINDS[kind](self.temporary.path / "token")
        try:
            padding = "pss" if key.endswith("-pss") else None
            word = key.removesuffix("-pss")
            self.ca = Authority(self.token, self.temporary.path, "ca", "--key", word, rsa_padding=padding)
        except BaseException:
            self.remove()
            raise

    def configuration(self, access):
        config = configuration(self.token, self.ca.pem_file, "ca")
        config["token"]["access"] = access
        if self.ca.rsa_padding:
            config["ca"]["rsa_padding"] = self.ca.rsa_padding
        return config

    def remove(self):
        self.token.remove()
        self.temporary.remove()


@pytest.fixture(scope="module")
def places():
    """places(kind, key), made when first asked for."""
    made = {}

    def get(kind, key):
        skip_absent(kind)
        if (kind, key) not in made:
            made[kind, key] = Place(kind, key)
        return made[kind, key]

    yield get
    for place in made.values():
        place.remove()


def new_leaves(daemon, ca, name):
    """LEAVES at once, each for another upstream; all of them looked at by others too."""
    sans = {f"{n}.{name}.example.org": [HOST, f"{n}.{name}.example.org"] for n in range(LEAVES)}
    requests = [(host, mimic(host, upstream(names))) for host, names in sans.items()]
    outcomes = run_load(daemon.address, requests, CLIENTS)
    leaves = {}
    for outcome, (host, names) in zip(outcomes, sans.items()):
        assert outcome.answered and not outcome.answer.error, outcome.answered and outcome.answer.error
        checks.assert_leaf(outcome.answer, ca.cert, names=names, verifiers=False)
        leaves[host] = outcome.answer.cert_blocks[0]
    look_at(leaves, ca)


def look_at(leaves, ca):
    root = ca.cert.public_bytes(Encoding.DER)
    said = oracles.openssl_many(leaves, [root], HOST)
    assert set(said) == set(leaves) and set(said.values()) == {oracles.GOOD}, said
    if "cryptography" in oracles.ORACLES:
        for leaf in leaves.values():
            assert oracles.cryptography(leaf, [], root, HOST, None) in (oracles.GOOD, None)


def climb(token, config, folder):
    """Each rung of the ladder, in one process of the signer's user. Its sessions after each."""
    file = folder / "climb.yaml"
    file.write_text(yaml_text.dump(config))
    done = subprocess.run(
        [str(CLIMB_LADDER), str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        preexec_fn=tree.become(*token.ids),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [int(line.split()[-2]) for line in done.stdout.splitlines()]


def conform(place, access, folder):
    config, token, ca = place.configuration(access), place.token, place.ca
    assert token.label in [one["label"] for one in leafctl_json(config, folder, "token", "list")]
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        assert daemon.metric("leafd_token_state", token="0", state="ready") == 1
        lanes = daemon.metric("leafd_token_lanes", token="0")
        with daemon.client() as client:
            answer = client.ask_leaf(by_ids(HOST))
        checks.assert_leaf(answer, ca.cert, names=[HOST], common_name=HOST, verifiers=False)
        checks.handshake(answer, ca.cert, HOST)
        new_leaves(daemon, ca, "before")
        assert daemon.metric("leafd_token_failures_total", token="0") == 0
        token.interrupt(daemon)
        wait_for(lambda: daemon.http("/ready")[0] == 200, "/ready says 200")
        new_leaves(daemon, ca, "after")
        assert daemon.metric("leafd_token_lanes", token="0") == lanes
    if access not in ONCE:
        sessions = climb(token, config, folder)
        # All are there again after each rung; a library has its own.
        assert sessions == 5 * [lanes] or access != "native" and len(sessions) == 5


@pytest.mark.parametrize("access, kind, key", cases())
def test_token(places, folder, access, kind, key):
    skip_absent(kind, access)
    place = places(kind, key)
    assert checks.key_kind(place.ca.cert.public_key()) == key.removesuffix("-pss")
    if words := refusal(access, kind, key):
        daemon = LeafdProcess(folder, place.configuration(access))
        assert daemon.wait_exit() == 78
        assert words in daemon.log()
    else:
        conform(place, access, folder)


@pytest.mark.parametrize("kind, key", refusals())
def test_a_key_that_a_token_may_not_have(folder, kind, key):
    """Refused by name, or of full use where the token has learned it."""
    skip_absent(kind)
    try:
        place = Place(kind, key)
    except AssertionError as refusal:
        assert KINDS[kind].CANNOT[key] in str(refusal)
        return
    try:
        conform(place, "native", folder)
    finally:
        place.remove()
