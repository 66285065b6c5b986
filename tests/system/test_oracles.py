# SPDX-License-Identifier: Apache-2.0
"""What other people's verifiers say about leafd's leaves (lib/oracles.py): all that can judge a good leaf
take it for its host, and refuse it for another host, under another root and as a client's certificate."""

import pytest

from cryptography.hazmat.primitives.serialization import Encoding
from lib import certs, checks, oracles
from lib.authority import SoftwareAuthority
from lib.client import by_ids, mimic

HOST = "www.oracle.example.org"


def der_of(cert):
    return cert.public_bytes(Encoding.DER)


@pytest.fixture(scope="module", params=oracles.EVERY)
def oracle(request):
    """One of the oracles, and its name."""
    name = request.param
    if name in oracles.ABSENT:
        pytest.skip(f"oracle {name}: {oracles.ABSENT[name]}")
    return name, oracles.ORACLES[name]


@pytest.fixture(scope="module")
def other_root(session_folder):
    """A root that has signed nothing of ours."""
    return der_of(SoftwareAuthority(session_folder).cert)


def judge_good(oracle, blocks, root, host, other_root):
    """The four questions that a good leaf is asked."""
    name, ask = oracle
    leaf, *chain = blocks
    answer = ask(leaf, chain, root, host, None)
    if answer is None:
        return False
    assert answer.ok, (name, host, answer)
    if name in oracles.LOOKS_AT_THE_HOST:
        answer = ask(leaf, chain, root, "elsewhere.example.com", None)
        assert not answer.ok and answer.reason == "name", (name, host, answer)
    answer = ask(leaf, chain, other_root, host, None)
    assert not answer.ok and answer.reason == "untrusted", (name, host, answer)
    answer = ask(leaf, chain, root, host, None, purpose=oracles.CLIENT)
    assert not answer.ok and answer.reason == "purpose", (name, host, answer)
    return True


@pytest.mark.parametrize("make", [by_ids, mimic], ids=["fresh", "mimic"])
def test_names(client, ca, oracle, other_root, make):
    for name in (HOST, "*.oracle.example.org", "192.0.2.7", "2001:db8::7", "xn--bcher-kva.example"):
        request = by_ids(name) if make is by_ids else mimic(name, certs.upstream([name]))
        blocks = client.ask_leaf(request).cert_blocks
        assert judge_good(oracle, blocks, der_of(ca.cert), checks.probe_host(name), other_root)
