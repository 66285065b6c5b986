# SPDX-License-Identifier: Apache-2.0
"""Never launder: what the configuration makes of a verdict, and that verdicts are made anew for every
request. Each verdict by itself: test_odd_upstreams.py."""

import sys
import time

import pytest

from cryptography import x509
from lib import certs, checks, der, odd, tree
from lib.certs import DAY, upstream
from lib.client import by_ids, mimic

sys.path.insert(0, str(tree.SOURCE / "man"))
import upstreams_table  # noqa: E402

HOST = "verdict.example.org"
OTHER = "elsewhere.example.net"
SELF = certs.name((certs.ORGANIZATION, "Example"), (certs.COMMON_NAME, HOST))
NORMAL_TTL, SHORT_TTL = 86400, 10

SELF_SIGNED = upstream([HOST], subject=SELF, issuer=SELF)
UNTRUSTED = {
    "self-signed": SELF_SIGNED,
    "md5": upstream([HOST], signature="rsa-md5"),
    "eku-client": upstream([HOST], eku=[certs.CLIENT_AUTH]),
    "dsa": upstream([HOST], key="dsa"),
    "ct-poison": upstream([HOST], extra=[certs.extension(certs.POISON_OID, der.NULL, True)]),
    "sha1-and-other-name": upstream([OTHER], signature="rsa-sha1"),
}


def validity_of(cert):
    """notBefore and notAfter of our upstream leaves, as written."""
    fields = [f for f in der.read(cert)[0][0].children() if f.tag == 0x30]
    return [m.content for m in fields[2].children()]


def test_untrusted_leaves_have_one_issuer(client):
    """Made in the signer's memory at its start: the same name and key for all, not our CA's."""
    first = client.ask_leaf(mimic(HOST, UNTRUSTED["md5"])).leaf
    second = client.ask_leaf(mimic(HOST, SELF_SIGNED)).leaf
    assert first.issuer == second.issuer
    authority = [c.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value for c in (first, second)]
    assert authority[0] == authority[1]


def test_untrusted_by_a_file(start, ca, authorities):
    """untrusted_ca with a certificate and a key of its own: then its signature can be seen to be right."""
    other = authorities("ec-p256", "--cn", "Not Trusted By Anybody")
    changes = {"untrusted_ca": {"certificate": str(other.pem_file), "key": other.token.uri(other.label)}}
    with start(ca, changes) as daemon, daemon.client() as client:
        answer = client.ask_leaf(mimic(HOST, upstream([HOST], signature="rsa-sha1")))
        checks.assert_leaf(answer, other.cert, names=[HOST])
        assert answer.ttl <= SHORT_TTL
        checks.assert_leaf(client.ask_leaf(mimic(HOST, upstream([HOST]))), ca.cert, names=[HOST])


def test_untrusted_none_is_refused(start, ca):
    with start(ca, {"untrusted_ca": "none"}) as daemon, daemon.client() as client:
        for cert in UNTRUSTED.values():
            assert client.ask_error(mimic(HOST, cert)) == "refused"
        client.ask_leaf(mimic(HOST, upstream([HOST])))


def test_self_signed_mimic(start, ca):
    """Where the proxy pins them. It lifts that row alone."""
    with start(ca, {"mimic": {"self_signed": "mimic"}}) as daemon, daemon.client() as client:
        answer = client.ask_leaf(mimic(HOST, SELF_SIGNED))
        checks.assert_leaf(answer, ca.cert, names=[HOST])
        weak = upstream([HOST], subject=SELF, issuer=SELF, signature="rsa-sha1")
        checks.assert_leaf(client.ask_leaf(mimic(HOST, weak)), ca.cert, names=[HOST], trusted=False)


def test_self_signed_refuse(start, ca):
    with start(ca, {"mimic": {"self_signed": "refuse"}}) as daemon, daemon.client() as client:
        assert client.ask_error(mimic(HOST, SELF_SIGNED)) == "refused"
        # Refuse beats untrusted; an error beats refuse.
        both = upstream([HOST], subject=SELF, issuer=SELF, signature="rsa-md5")
        assert client.ask_error(mimic(HOST, both)) == "refused"
        nameless = upstream([], subject=SELF, issuer=SELF)
        assert client.ask_error(mimic(HOST, nameless)) == "unsupported"
        checks.assert_leaf(client.ask_leaf(mimic(HOST, UNTRUSTED["md5"])), ca.cert, names=[HOST], trusted=False)


# ---- unreadable ----


def test_fallback_fresh(start, ca):
    """The operator's choice: a leaf for the host alone, with a short ttl, for every certificate that cannot be
    read. What could be read and is wrong with it holds all the same."""
    unreadable = [row for row in upstreams_table.rows().values() if row.verdict == "unreadable"]
    shown = odd.everything(odd.World(ca.cert))
    with start(ca, {"mimic": {"fallback": "fresh"}}) as daemon, daemon.client() as client:
        for row in unreadable:
            cert, host = shown[row.id]
            answer = client.ask_leaf(mimic(host, cert))
            trusted = "self-signed" not in row.reasons
            checks.assert_leaf(answer, ca.cert, names=[host], common_name=host, trusted=trusted, verifiers=False)
            assert answer.ttl <= SHORT_TTL
        checks.assert_leaf(client.ask_leaf(mimic(HOST, None)), ca.cert, names=[HOST], common_name=HOST)


# ---- too large ----


def large(names_count, *names, **fields):
    return upstream([*names, *(f"{n:04}.{'x' * 40}.example.org" for n in range(names_count))], **fields)


def test_each_host_of_a_large_upstream_gets_its_own_leaf(client, ca):
    cert = large(200, HOST)
    for host in (HOST, f"0007.{'x' * 40}.example.org", HOST):
        checks.assert_leaf(client.ask_leaf(mimic(host, cert)), ca.cert, names=[host], common_name=host)


def test_no_reply_is_over_16384_octets(client):
    """Around the bound, every size is answered, and in one datagram that a proxy can read: with steps of
    many names, and then of single octets."""
    most, least = 0, 1 << 16
    for count in range(150, 220, 3):
        answer = client.ask_leaf(mimic(HOST, large(count, HOST)))
        assert len(answer.raw) <= 16384
        assert len(answer.sans) in (1, count + 1)
        if len(answer.sans) == 1:
            least = min(least, count)
        else:
            most = max(most, count)
    assert 150 <= most < least < 220

    sizes = []
    for octets in range(1, 240):
        labels = ".".join(["y" * min(60, octets - at) for at in range(0, octets, 60)])
        answer = client.ask_leaf(mimic(HOST, large(most - 1, HOST, labels + ".example.org")))
        assert len(answer.raw) <= 16384
        if len(answer.sans) > 1:
            sizes.append(len(answer.raw))
    assert 16384 - 128 <= max(sizes) <= 16384, "room for a mimic is given away"


# ---- per request, never remembered ----


@pytest.mark.parametrize("first", [HOST, OTHER], ids=["named-first", "unnamed-first"])
def test_hosts_never_change_each_others_leaf(client, ca, first):
    """A host that its upstream does not name gets the leaf without it, in either order."""
    cert = upstream([HOST, f"{first}.order.example.org"])
    for host in (first, HOST if first == OTHER else OTHER, first):
        answer = client.ask_leaf(mimic(host, cert))
        assert answer.host == host
        checks.assert_leaf(answer, ca.cert, names=[HOST, f"{first}.order.example.org"])
        assert answer.ttl == NORMAL_TTL if host == HOST else answer.ttl <= SHORT_TTL


def test_a_cached_leaf_gets_todays_verdict(client):
    """The upstream expires while its leaf is cached: from then on the ttl is short."""
    cert = upstream([HOST], now=int(time.time()), end=2)
    first = client.ask_leaf(mimic(HOST, cert))
    assert first.ttl == 1
    deadline = time.monotonic() + 8
    while time.monotonic() < deadline:
        answer = client.ask_leaf(mimic(HOST, cert))
        assert answer.ttl <= SHORT_TTL
        if time.time() > checks.unix_time(answer.leaf.not_valid_after) + 1:
            break
    assert validity_of(answer.cert_blocks[0]) == validity_of(cert)


# ---- policy ----


def test_upstream_not_verified(start, ca):
    """mimic.upstream_verified: no. Nobody has checked the other names, so the host stands alone."""
    with start(ca, {"mimic": {"upstream_verified": False}}) as daemon, daemon.client() as client:
        cert = upstream([OTHER, HOST, "*.example.org"], subject=SELF)
        checks.assert_leaf(client.ask_leaf(mimic(HOST, cert)), ca.cert, names=[HOST])
        checks.assert_leaf(client.ask_leaf(mimic("third.example.org", cert)), ca.cert, names=["third.example.org"])
        checks.assert_leaf(client.ask_leaf(mimic(HOST, cert)), ca.cert, names=[HOST])


def test_deny(start, ca):
    """Denied names are dropped, a denied host is refused, and a leaf with none left is unsupported."""
    deny = ["denied.example.org", ".below.example.org", "192.0.2.0/24", "2001:db8::/32"]
    with start(ca, {"policy": {"deny": deny}}) as daemon, daemon.client() as client:
        denied = ["denied.example.org", "a.b.denied.example.org", "x.below.example.org", "192.0.2.200", "2001:db8:5::1"]
        for host in denied:
            assert client.ask_error(mimic(host, upstream([HOST, host]))) == "refused"
            assert client.ask_error(by_ids(host)) == "refused"
        for host in ("below.example.org", "notdenied.example.org", "192.0.3.1", "2001:db9::1"):
            checks.assert_leaf(client.ask_leaf(by_ids(host)), ca.cert, names=[host])
        answer = client.ask_leaf(mimic(HOST, upstream([*denied, HOST])))
        checks.assert_leaf(answer, ca.cert, names=[HOST])
        assert client.ask_error(mimic(HOST, upstream(denied))) == "unsupported"
        # A wildcard that stands for a denied name is a denied name.
        answer = client.ask_leaf(mimic(HOST, upstream([HOST, "*.below.example.org", "*.denied.example.org"])))
        assert answer.sans == [HOST]
