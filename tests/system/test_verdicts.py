# SPDX-License-Identifier: Apache-2.0
"""Never launder: every row of the verdict table, alone and together."""

import collections
import time

import pytest

from cryptography import x509
from lib import certs, checks, der
from lib.certs import DAY, upstream
from lib.client import by_ids, mimic

HOST = "verdict.example.org"
OTHER = "elsewhere.example.net"
SELF = certs.name((certs.ORGANIZATION, "Example"), (certs.COMMON_NAME, HOST))
NORMAL_TTL, SHORT_TTL = 86400, 10

# One row: the upstream leaf, and what is to be seen. `verdict`: the counter that goes up. `names`: of
# the leaf. `trusted`: signed by the configured CA. `key`: the leaf's.
Row = collections.namedtuple("Row", "cert verdict names trusted key")


def row(cert, verdict, names=(HOST,), trusted=True, key="ec-p256"):
    return Row(cert, verdict, names, trusted, key)


def with_tbs(change, **fields):
    """An upstream leaf whose TBSCertificate's list of elements went through `change`."""
    tbs, algorithm, signature = der.read(upstream([HOST], **fields))[0].children()
    return der.seq(der.seq(*change([f.whole for f in tbs.children()])), algorithm.whole, signature.whole)


def with_algorithms(algorithm):
    def change(fields):
        return fields[:2] + [algorithm] + fields[3:]

    tbs, _, signature = der.read(with_tbs(change))[0].children()
    return der.seq(tbs.whole, algorithm, signature.whole)


def subject_cn(tag, data):
    return der.seq(der.set_of(der.seq(der.oid(certs.COMMON_NAME), der.tlv(tag, data))))


def extra(*extensions, **fields):
    return upstream([HOST], extra=extensions, **fields)


NULL_EXTENSION = "1.3.6.1.4.1.55555.1"
explicit_false = der.seq(der.oid(certs.SKI_OID), der.boolean(False), der.octets(der.octets(b"k" * 20)))

GOOD = {
    "good": row(upstream([HOST]), "good"),
    "wildcard": row(upstream(["*.example.org"]), "good", ["*.example.org"]),
    "several-names": row(upstream([OTHER, HOST]), "good", [OTHER, HOST]),
    "upper-case-name": row(upstream([HOST.upper()]), "good"),
    "any-eku": row(upstream([HOST], eku=[certs.ANY_EKU]), "good"),
    "pss-sha256": row(upstream([HOST], signature="pss-sha256"), "good"),
    "client-and-server": row(upstream([HOST], eku=[certs.CLIENT_AUTH, certs.SERVER_AUTH]), "good"),
    "server-and-ocsp": row(upstream([HOST], eku=[certs.SERVER_AUTH, certs.OCSP_SIGNING]), "good"),
    "no-eku": row(upstream([HOST], eku=None), "good"),
    "no-ku": row(upstream([HOST], ku=None), "good"),
    "no-ku-eku-bc": row(upstream([HOST], ku=None, eku=None, ca=None), "good"),
    "ku-key-agreement": row(upstream([HOST], ku=certs.KEY_AGREEMENT), "good"),
    "ku-encipherment": row(upstream([HOST], ku=certs.KEY_ENCIPHERMENT), "good"),
    "ku-many": row(
        upstream([HOST], ku=certs.DIGITAL_SIGNATURE | certs.NON_REPUDIATION | certs.DATA_ENCIPHERMENT), "good"
    ),
    "san-critical": row(upstream([HOST], san_critical=True), "good"),
    "eku-critical": row(
        upstream([HOST], eku=None, extra=[certs.extended_key_usage(certs.SERVER_AUTH, critical=True)]), "good"
    ),
    "tls-feature-critical": row(extra(certs.extension(certs.TLS_FEATURE_OID, der.seq(der.integer(5)), True)), "good"),
    "policies-critical": row(
        extra(certs.extension(certs.POLICIES_OID, der.seq(der.seq(der.oid("2.23.140.1.2.1"))), True)), "good"
    ),
    "unknown-uncritical": row(extra(certs.extension(NULL_EXTENSION, der.NULL)), "good"),
    "rsa-2048": row(upstream([HOST], key="rsa-2048", signature="rsa-sha256"), "good", key="rsa-2048"),
    "rsa-4096": row(upstream([HOST], key="rsa-4096", signature="rsa-sha256"), "good", key="rsa-2048"),
    "ec-p224": row(upstream([HOST], key="ec-p224"), "good"),
    "ec-p384": row(upstream([HOST], key="ec-p384"), "good", key="ec-p384"),
    "ec-p521": row(upstream([HOST], key="ec-p521"), "good", key="ec-p384"),
    "ec-secp256k1": row(upstream([HOST], key="ec-secp256k1"), "good"),
    "ec-brainpool": row(upstream([HOST], key="ec-brainpool256"), "good"),
    "ed25519": row(upstream([HOST], key="ed25519"), "good"),
}

LEGACY = {
    "v1": row(upstream(None, version=1, subject=SELF), "legacy"),
    "v2": row(upstream(None, version=2, subject=SELF), "legacy"),
    "cn-only": row(upstream(None, subject=SELF), "legacy"),
    "ca-true": row(upstream([HOST], ca=True), "legacy"),
    "teletex-subject": row(upstream([HOST], subject=subject_cn(certs.TELETEX, HOST.encode())), "legacy"),
    "bmp-subject": row(upstream([HOST], subject=subject_cn(certs.BMP, HOST.encode("utf-16-be"))), "legacy"),
    "serial-zero": row(upstream([HOST], serial=0), "legacy"),
    "serial-negative": row(upstream([HOST], serial=-77), "legacy"),
    "serial-not-minimal": row(upstream([HOST], serial=der.tlv(0x02, b"\x00\x00\x12")), "legacy"),
    "rsa-1024": row(upstream([HOST], key="rsa-1024", signature="rsa-sha256"), "legacy", key="rsa-2048"),
    "rsa-2047": row(upstream([HOST], key="rsa-2047", signature="rsa-sha256"), "legacy", key="rsa-2048"),
    "critical-false-encoded": row(extra(explicit_false), "legacy"),
    "ca-false-encoded": row(extra(certs.extension(certs.BC_OID, der.seq(der.boolean(False)), True), ca=None), "legacy"),
    "true-is-one": row(
        extra(der.seq(der.oid(certs.BC_OID), der.boolean(True, b"\x01"), der.octets(der.seq())), ca=None), "legacy"
    ),
    "version-1-encoded": row(with_tbs(lambda f: [der.context(0, der.integer(0))] + f[1:7], subject=SELF), "legacy"),
    "ku-padded": row(extra(certs.extension(certs.KU_OID, der.bits(b"\x81", 7), True), ku=None), "legacy"),
}

# Trusted, but the client sees what is wrong.
FAULTY = {
    "expired": row(upstream([HOST], start=-60 * DAY, end=-2 * DAY), "dates"),
    "expired-just-now": row(upstream([HOST], end=-5), "dates"),
    "not-yet-valid": row(upstream([HOST], start=2 * DAY, end=60 * DAY), "dates"),
    "other-name": row(upstream([OTHER]), "name", [OTHER]),
    "wildcard-one-level-down": row(upstream(["*.deep.example.org"]), "name", ["*.deep.example.org"]),
    "wildcard-of-itself": row(upstream(["*.verdict.example.org"]), "name", ["*.verdict.example.org"]),
    "address-only": row(upstream(["192.0.2.7"]), "name", ["192.0.2.7"]),
    "cn-does-not-count": row(upstream([OTHER], subject=SELF), "name", [OTHER]),
    "expired-and-other-name": row(upstream([OTHER], start=-60 * DAY, end=-2 * DAY), None, [OTHER]),
}

UNTRUSTED = {
    "self-signed": row(upstream([HOST], subject=SELF, issuer=SELF), "self-signed", trusted=False),
    "self-signed-ca": row(upstream([HOST], subject=SELF, issuer=SELF, ca=True), None, trusted=False),
    "self-signed-expired": row(
        upstream([HOST], subject=SELF, issuer=SELF, start=-60 * DAY, end=-DAY), None, trusted=False
    ),
    "self-signed-other-name": row(upstream([OTHER], subject=SELF, issuer=SELF), None, [OTHER], trusted=False),
    "self-signed-v1": row(upstream(None, version=1, subject=SELF, issuer=SELF), None, trusted=False),
    "eku-client": row(upstream([HOST], eku=[certs.CLIENT_AUTH]), "untrusted", trusted=False),
    "eku-ocsp": row(upstream([HOST], eku=[certs.OCSP_SIGNING]), "untrusted", trusted=False),
    "eku-email": row(upstream([HOST], eku=["1.3.6.1.5.5.7.3.4"]), "untrusted", trusted=False),
    "ku-cert-sign": row(upstream([HOST], ku=certs.KEY_CERT_SIGN), "untrusted", trusted=False),
    "ku-non-repudiation": row(upstream([HOST], ku=certs.NON_REPUDIATION), "untrusted", trusted=False),
    "unknown-critical": row(extra(certs.extension(NULL_EXTENSION, der.NULL, True)), "untrusted", trusted=False),
    "ct-poison": row(extra(certs.extension(certs.POISON_OID, der.NULL, True)), "untrusted", trusted=False),
    "ct-poison-uncritical": row(extra(certs.extension(certs.POISON_OID, der.NULL, False)), "untrusted", trusted=False),
    "san-twice": row(extra(certs.san([HOST])), "untrusted", None, trusted=False),
    "ku-twice": row(extra(certs.key_usage(certs.DIGITAL_SIGNATURE)), "untrusted", trusted=False),
    "eku-twice": row(extra(certs.extended_key_usage(certs.SERVER_AUTH)), "untrusted", trusted=False),
    "bc-twice": row(extra(certs.basic_constraints()), "untrusted", trusted=False),
    "rsa-512": row(upstream([HOST], key="rsa-512", signature="rsa-sha256"), "untrusted", trusted=False, key="rsa-2048"),
    "rsa-1023": row(
        upstream([HOST], key="rsa-1023", signature="rsa-sha256"), "untrusted", trusted=False, key="rsa-2048"
    ),
    "dsa": row(upstream([HOST], key="dsa"), "untrusted", trusted=False),
    "explicit-curve": row(upstream([HOST], key="ec-explicit"), "untrusted", trusted=False),
    "unknown-curve": row(upstream([HOST], key="ec-unknown"), "untrusted", trusted=False),
    "md2": row(upstream([HOST], signature="rsa-md2"), "untrusted", trusted=False),
    "md5": row(upstream([HOST], signature="rsa-md5"), "untrusted", trusted=False),
    "pss-md2": row(upstream([HOST], signature="pss-md2"), "untrusted", trusted=False),
    "pss-md4": row(upstream([HOST], signature="pss-md4"), "untrusted", trusted=False),
    "pss-md5": row(upstream([HOST], signature="pss-md5"), "untrusted", trusted=False),
    "sha1-rsa": row(upstream([HOST], signature="rsa-sha1"), "untrusted", trusted=False),
    "sha1-ecdsa": row(upstream([HOST], signature="ecdsa-sha1"), "untrusted", trusted=False),
    "sha1-and-other-name": row(upstream([OTHER], signature="rsa-sha1"), "untrusted", [OTHER], trusted=False),
    "md5-and-expired": row(
        upstream([HOST], signature="rsa-md5", start=-60 * DAY, end=-DAY), "untrusted", trusted=False
    ),
}

ROWS = {**GOOD, **LEGACY, **FAULTY, **UNTRUSTED}


def validity_of(cert):
    """notBefore and notAfter of our upstream leaves, as written."""
    fields = [f for f in der.read(cert)[0][0].children() if f.tag == 0x30]
    return [m.content for m in fields[2].children()]


@pytest.mark.parametrize("name", ROWS)
def test_verdict(daemon, client, ca, name):
    given = ROWS[name]
    before = daemon.metric("leafd_verdicts_total", verdict=given.verdict) if given.verdict else 0
    answer = client.ask_leaf(mimic(HOST, given.cert))
    leaf = answer.leaf
    names = answer.sans if given.names is None else given.names
    checks.assert_leaf(answer, ca.cert, names=names, key=given.key, trusted=given.trusted)
    assert HOST in names or given.names is not None
    assert answer.ttl == NORMAL_TTL if name in GOOD or name in LEGACY else answer.ttl <= SHORT_TTL
    if not given.trusted:
        assert "untrusted" in leaf.issuer.rfc4514_string().lower(), leaf.issuer
        assert len(answer.cert_blocks) == 1, "the untrusted CA is never sent"
    if given.verdict:
        assert daemon.metric("leafd_verdicts_total", verdict=given.verdict) == before + 1
    assert validity_of(answer.cert_blocks[0]) == validity_of(given.cert), "other dates than the upstream's"


def test_untrusted_leaves_have_one_issuer(client):
    """Made in the signer's memory at its start: the same name and key for all, not our CA's."""
    first = client.ask_leaf(mimic(HOST, UNTRUSTED["md5"].cert)).leaf
    second = client.ask_leaf(mimic(HOST, UNTRUSTED["self-signed"].cert)).leaf
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
        for name in ("self-signed", "md5", "eku-client", "dsa", "unknown-critical", "sha1-and-other-name"):
            assert client.ask_error(mimic(HOST, UNTRUSTED[name].cert)) == "refused"
        client.ask_leaf(mimic(HOST, GOOD["good"].cert))


def test_self_signed_mimic(start, ca):
    """Where the proxy pins them. It lifts that row alone."""
    with start(ca, {"mimic": {"self_signed": "mimic"}}) as daemon, daemon.client() as client:
        answer = client.ask_leaf(mimic(HOST, UNTRUSTED["self-signed"].cert))
        checks.assert_leaf(answer, ca.cert, names=[HOST])
        weak = upstream([HOST], subject=SELF, issuer=SELF, signature="rsa-sha1")
        checks.assert_leaf(client.ask_leaf(mimic(HOST, weak)), ca.cert, names=[HOST], trusted=False)


def test_self_signed_refuse(start, ca):
    with start(ca, {"mimic": {"self_signed": "refuse"}}) as daemon, daemon.client() as client:
        assert client.ask_error(mimic(HOST, UNTRUSTED["self-signed"].cert)) == "refused"
        # Refuse beats untrusted; an error beats refuse.
        both = upstream([HOST], subject=SELF, issuer=SELF, signature="rsa-md5")
        assert client.ask_error(mimic(HOST, both)) == "refused"
        nameless = upstream([], subject=SELF, issuer=SELF)
        assert client.ask_error(mimic(HOST, nameless)) == "unsupported"
        checks.assert_leaf(client.ask_leaf(mimic(HOST, UNTRUSTED["md5"].cert)), ca.cert, names=[HOST], trusted=False)


# ---- unreadable ----

MAIL = der.context(1, b"root@example.org", constructed=False)
URI = der.context(6, b"https://example.org/", constructed=False)

UNREADABLE = {
    "not-a-certificate": der.seq(der.integer(1), der.integer(2), der.integer(3)),
    "certificate-cut": upstream([HOST])[:-30],
    "indefinite-length": b"\x30\x80" + upstream([HOST])[4:] + b"\0\0",
    "no-names-at-all": upstream(None, subject=certs.name((certs.ORGANIZATION, "Example"))),
    "cn-is-no-name": upstream(None, subject=certs.name((certs.COMMON_NAME, "Example Ltd"))),
    "two-cns": upstream(None, subject=certs.name((certs.COMMON_NAME, HOST), (certs.COMMON_NAME, OTHER))),
    "san-empty": upstream([], subject=SELF),
    "san-mail-only": upstream([MAIL, URI], subject=SELF),
    "san-emptied": upstream(["*", "*.com", "f*.example.org", "*.*.example.org", "a b", ""], subject=SELF),
    "san-garbage": upstream(None, subject=SELF, extra=[certs.extension(certs.SAN_OID, b"\x30\x05abc")]),
    "san-not-a-sequence": upstream(None, subject=SELF, extra=[certs.extension(certs.SAN_OID, der.integer(5))]),
    "times-garbage": upstream([HOST], times=der.seq(der.tlv(0x17, b"not a time"), der.tlv(0x17, b"261340000000Z"))),
    "v1-with-bad-cn": upstream(None, version=1, subject=certs.name((certs.COMMON_NAME, "a b"))),
    "trailing-in-tbs": with_tbs(lambda fields: fields + [der.NULL]),
    "nested-deep": der.seq(b"\x30\x82\x10\x00" * 1000),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_is_unsupported(client, name):
    assert client.ask(mimic(HOST, UNREADABLE[name])).map == {1: HOST, 7: "unsupported"}


def test_fallback_fresh(start, ca):
    """The operator's choice: a leaf for the host alone, with a short ttl."""
    with start(ca, {"mimic": {"fallback": "fresh"}}) as daemon, daemon.client() as client:
        for cert in (*UNREADABLE.values(), None, b"", "", 5):
            answer = client.ask_leaf(mimic(HOST, cert))
            checks.assert_leaf(answer, ca.cert, names=[HOST], common_name=HOST, tls=False)
            assert answer.ttl <= SHORT_TTL


# ---- too large ----


def large(names_count, *names, **fields):
    return upstream([*names, *(f"{n:04}.{'x' * 40}.example.org" for n in range(names_count))], **fields)


def test_too_large_becomes_minimal(daemon, client, ca):
    """Names the host, but its mimic would not fit into a reply: the host alone, dates within the upstream's."""
    before = daemon.metric("leafd_verdicts_total", verdict="minimal")
    cert = large(200, HOST, subject=certs.name((certs.ORGANIZATION, "Example"), (certs.COMMON_NAME, "large")))
    answer = client.ask_leaf(mimic(HOST, cert))
    checks.assert_leaf(answer, ca.cert, names=[HOST], common_name=HOST)
    assert validity_of(answer.cert_blocks[0]) == validity_of(cert)
    assert daemon.metric("leafd_verdicts_total", verdict="minimal") == before + 1
    # The next host of the same upstream gets its own name.
    host = f"0007.{'x' * 40}.example.org"
    checks.assert_leaf(client.ask_leaf(mimic(host, cert)), ca.cert, names=[host], common_name=host)
    checks.assert_leaf(client.ask_leaf(mimic(HOST, cert)), ca.cert, names=[HOST], common_name=HOST)


def test_too_large_and_not_naming_the_host(client):
    assert client.ask(mimic(HOST, large(200))).map == {1: HOST, 7: "too-large"}


def test_too_large_and_untrusted(client, ca):
    answer = client.ask_leaf(mimic(HOST, large(200, HOST, signature="rsa-sha1")))
    checks.assert_leaf(answer, ca.cert, names=[HOST], trusted=False)


def test_no_reply_is_over_16384_octets(client):
    """Around the bound, every size is answered, and in one datagram that a proxy can read."""
    kinds = collections.Counter()
    for count in range(150, 220, 3):
        answer = client.ask_leaf(mimic(HOST, large(count, HOST)))
        assert len(answer.raw) <= 16384
        kinds["minimal" if answer.sans == [HOST] else "mimic"] += 1
        assert len(answer.sans) in (1, count + 1)
    assert kinds["minimal"] and kinds["mimic"], kinds


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
