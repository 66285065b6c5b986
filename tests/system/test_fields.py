# SPDX-License-Identifier: Apache-2.0
"""Every field of a leaf: fresh, mimic and minimal, for each leaf key and each CA key; dates, subject,
names, and that nothing else of the upstream comes along."""

import itertools
import time

import pytest

from cryptography import x509
from lib import certs, checks, der
from lib.certs import DAY, upstream
from lib.client import Answer, by_ids, by_names, mimic
from lib.leafd_process import LeafdProcess
from lib.polling import wait_for

HOST = "fields.example.org"
CA_KEYS = ["ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519", "rsa-2048-pss"]
# RSA of 3072 and 4096 bits takes its time, so it has tests of its own.
LEAF_KEYS = ["ec-p256", "ec-p384", "ec-p521", "ed25519", "ed448", "sm2", "rsa-2048"]
CRL_URL = "http://crl.example.org/ca.crl"
SUBJECT = certs.name((certs.ORGANIZATION, "Example"), (certs.COMMON_NAME, HOST))


@pytest.fixture(scope="module")
def follower(start, ca):
    """A daemon whose leaves have keys as their upstreams."""
    with start(ca, {"leaf": {"key": "upstream"}}) as running:
        yield running


@pytest.mark.parametrize("ca_key", CA_KEYS)
def test_every_profile_with_every_key(start, authorities, ca_key):
    word = ca_key.removesuffix("-pss")
    authority = authorities(word, rsa_padding=None if word == ca_key else "pss")
    assert checks.key_kind(authority.cert.public_key()) == word
    serials = set()

    def look(answer, **wanted):
        serials.add(checks.assert_leaf(answer, authority.cert, crl_url=CRL_URL, **wanted).serial_number)

    with start(authority, {"leaf": {"key": "upstream"}, "ca": {"crl_url": CRL_URL}}) as daemon, daemon.client() as client:
        daemon.wait_rsa_key()
        look(client.ask_leaf(by_ids(HOST)), names=[HOST], common_name=HOST)
        for key in LEAF_KEYS:
            cert = upstream([HOST, "*.fields.example.org", "192.0.2.1"], key=key)
            answer = client.ask_leaf(mimic(HOST, cert))
            look(answer, names=[HOST, "*.fields.example.org", "192.0.2.1"], key=key)
            checks.assert_key_form(answer)
            large = upstream([HOST, *(f"{n}.{'x' * 50}.example.org" for n in range(180))], key=key)
            look(client.ask_leaf(mimic(HOST, large)), names=[HOST], key=key, common_name=HOST)
    assert len(serials) == 1 + 2 * len(LEAF_KEYS)


@pytest.mark.parametrize("key", LEAF_KEYS)
def test_leaf_key_names_a_type(start, ca, key):
    """Then every leaf has it: fresh ones for every usage, and mimics."""
    word = key.replace("-2048", "")  # leaf.key says rsa, leaf.rsa_bits the rest
    with start(ca, {"leaf": {"key": word}}) as daemon, daemon.client() as client:
        if word == "rsa":
            daemon.wait_rsa_key()
        for usage in (0, 1, 11, 12):
            answer = client.ask_leaf(by_ids(HOST, usage=usage))
            checks.assert_leaf(answer, ca.cert, names=[HOST], key=key, usage=usage, common_name=HOST)
            checks.assert_key_form(answer)
        answer = client.ask_leaf(by_names(HOST, cert=upstream([HOST], key="ec-p256")))
        checks.assert_leaf(answer, ca.cert, names=[HOST], key=key)
        checks.assert_key_form(answer)


@pytest.mark.parametrize("key", LEAF_KEYS)
def test_usage_with_every_key(follower, ca, key):
    if key == "rsa-2048":
        follower.wait_rsa_key()
    with follower.client() as client:
        for usage in (1, 11, 12):
            answer = client.ask_leaf(by_ids(HOST, usage=usage, cert=upstream([HOST], key=key)))
            checks.assert_leaf(answer, ca.cert, names=[HOST], key=key, usage=usage)


@pytest.mark.parametrize("usage, key", [(0, "ec-p256"), (1, "ec-p256"), (11, "sm2"), (12, "sm2")])
def test_fresh_for_every_usage(client, ca, usage, key):
    """TLCP clients take no curve but SM2's."""
    for ask in (by_ids, by_names):
        answer = client.ask_leaf(ask(HOST, usage=usage))
        checks.assert_leaf(answer, ca.cert, names=[HOST], key=key, usage=usage, common_name=HOST)
        checks.assert_key_form(answer)


COMPATIBLE = {
    "ec-p521": "ec-p384", "ed25519": "ec-p256", "ed448": "ec-p256", "sm2": "sm2", "rsa-1024": "rsa-2048",
    "rsa-3072": "rsa-2048", "rsa-4096": "rsa-2048", "rsa-8192": "rsa-2048", "ec-p224": "ec-p256",
    "ec-secp256k1": "ec-p256", "ec-brainpool256": "ec-p256",
}  # fmt: skip


@pytest.mark.parametrize("key", COMPATIBLE)
def test_leaf_key_compatible(daemon, client, ca, key):
    if COMPATIBLE[key] == "rsa-2048":
        daemon.wait_rsa_key()
    answer = client.ask_leaf(mimic(HOST, upstream([HOST], key=key)))
    checks.assert_leaf(answer, ca.cert, names=[HOST], key=COMPATIBLE[key])


# ---- RSA of 3072 and 4096 bits ----


def test_a_larger_rsa_key_gives_way_until_there_is_one(start, ca):
    """At once with 2048 bits and for a moment only; with its own size as soon as there is such a key."""
    cert = upstream([HOST], key="rsa-8192")
    with start(ca, {"leaf": {"key": "upstream"}}) as daemon, daemon.client() as client:
        daemon.wait_rsa_key()
        # No such key was made ahead.
        assert daemon.metric("leafd_keys_stock", type="rsa-4096") == 0
        answer = client.ask_leaf(mimic(HOST, cert))
        checks.assert_leaf(answer, ca.cert, names=[HOST], key="rsa-2048")
        assert answer.ttl == 5
        assert daemon.metric("leafd_keys_gave_way_total") == 1

        def larger():
            answer = client.ask_leaf(mimic(HOST, cert))
            return answer if checks.leaf_kind(answer) == "rsa-4096" else None

        answer = wait_for(larger, "a leaf with a key of 4096 bits", seconds=120, every=0.1)
        checks.assert_leaf(answer, ca.cert, names=[HOST], key="rsa-4096")
        checks.assert_key_form(answer)
        assert answer.ttl == 86400
        assert client.ask_leaf(mimic(HOST, cert)).leaf == answer.leaf, "not remembered"
        answer = client.ask_leaf(by_names(HOST, cert=upstream([HOST], key="rsa-4096")))
        checks.assert_leaf(answer, ca.cert, names=[HOST], key="rsa-4096")
        checks.assert_key_form(answer)


def test_strict_waits_for_the_larger_rsa_key(start, ca):
    """keys.rsa_match: strict. Perhaps longer than anybody waits, but never with another size."""
    changes = {"leaf": {"rsa_bits": 3072}, "keys": {"rsa_match": "strict", "rsa_low": 0, "rsa_high": 1}}
    with start(ca, changes) as daemon, daemon.client() as client:
        data = mimic(HOST, upstream([HOST], key="rsa-2048"))
        answer = Answer(wait_for(lambda: client.ask_raw(data, timeout=3.6), "a leaf", seconds=120))
        checks.assert_leaf(answer, ca.cert, names=[HOST], key="rsa-3072")
        checks.assert_key_form(answer)
        assert answer.ttl == 86400 and daemon.metric("leafd_keys_gave_way_total") == 0


# ---- what is dropped ----


def test_nothing_else_comes_along(client, ca):
    """Extensions that would give the leaf power, or point elsewhere, or promise something."""
    sct = certs.extension("1.3.6.1.4.1.11129.2.4.2", der.octets(b"\0\x10" + b"s" * 16))
    aia = certs.extension(
        certs.AIA_OID,
        der.seq(der.seq(der.oid("1.3.6.1.5.5.7.48.1"), der.context(6, b"http://o.example", constructed=False))),
    )
    policies = certs.extension(certs.POLICIES_OID, der.seq(der.seq(der.oid("2.23.140.1.2.1"))))
    crl = certs.extension(
        certs.CRL_OID,
        der.seq(der.seq(der.context(0, der.context(0, der.context(6, b"http://c.example", constructed=False))))),
    )
    netscape = certs.extension("2.16.840.1.113730.1.1", der.bits(b"\x07", 0))
    feature = certs.extension(certs.TLS_FEATURE_OID, der.seq(der.integer(5)))
    constraints = certs.extension(
        certs.NAME_CONSTRAINTS_OID, der.seq(der.context(0, der.seq(certs.dns("example.org"))))
    )
    ski = certs.extension(certs.SKI_OID, der.octets(b"k" * 20))
    aki = certs.extension(certs.AKI_OID, der.seq(der.context(0, b"a" * 20, constructed=False)))
    cert = upstream(
        [HOST],
        ku=0xFE,
        eku=[certs.SERVER_AUTH, certs.CLIENT_AUTH, certs.OCSP_SIGNING, "1.3.6.1.5.5.7.3.3"],
        ca=True,
        extra=[sct, aia, policies, crl, netscape, feature, constraints, ski, aki],
    )
    checks.assert_leaf(client.ask_leaf(mimic(HOST, cert)), ca.cert, names=[HOST])


# ---- names ----

LABEL = "a" * 63

# The names of the upstream, and those of the leaf.
NAMES = {
    "order-kept": (["b.example.org", HOST, "a.example.org"], ["b.example.org", HOST, "a.example.org"]),
    "lower-cased": (["FIELDS.Example.ORG"], [HOST]),
    "duplicates": ([HOST, HOST.upper(), "192.0.2.1", HOST, "192.0.2.1"], [HOST, "192.0.2.1"]),
    "addresses": ([HOST, "192.0.2.1", "2001:db8::1"], [HOST, "192.0.2.1", "2001:db8::1"]),
    "star-alone": ([HOST, "*"], [HOST]),
    "star-partial": ([HOST, "f*.example.org", "*a.example.org", "a*b.example.org"], [HOST]),
    "star-double": ([HOST, "*.*.example.org", "a.*.example.org"], [HOST]),
    "star-suffix": ([HOST, "*.com", "*.co.uk", "*.org"], [HOST]),
    "star-private-suffix": ([HOST, "*.github.io", "*.blogspot.com"], [HOST, "*.github.io", "*.blogspot.com"]),
    "bad-syntax": ([HOST, "a b.example", "a..b", ".example.org", "a/b.example", "a@b.example", "a:1", "", "a\0b.example"], [HOST]),
    "not-ascii": ([HOST, certs.dns("b\u00fccher.example")], [HOST]),
    "punycode": ([HOST, "xn--bcher-kva.example"], [HOST, "xn--bcher-kva.example"]),
    "underscore": ([HOST, "a_b.example.org"], [HOST, "a_b.example.org"]),
    "label-64": ([HOST, "a" + LABEL + ".example", LABEL + ".example"], [HOST, LABEL + ".example"]),
    "over-253": ([HOST, ".".join([LABEL] * 4)], [HOST]),
    "odd-addresses": ([HOST, der.context(7, b"\1\2\3", constructed=False), der.context(7, b"\1" * 8, constructed=False)], [HOST]),
    "other-kinds": (
        [
            HOST, der.context(1, b"root@example.org", constructed=False), der.context(6, b"https://example.org", constructed=False),
            der.context(4, certs.name((certs.COMMON_NAME, "dir"))), der.context(8, b"\x2a\x03\x04", constructed=False),
            der.context(0, der.oid("1.3.6.1.4.1.311.20.2.3"), der.context(0, der.tlv(certs.UTF8, b"upn"))),
        ],
        [HOST],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names(client, ca, name):
    given, wanted = NAMES[name]
    checks.assert_leaf(client.ask_leaf(mimic(HOST, upstream(given, subject=SUBJECT))), ca.cert, names=wanted)


@pytest.mark.parametrize(
    "text, wanted",
    [
        (HOST, HOST),
        ("FIELDS.example.ORG", HOST),
        ("*.example.org", "*.example.org"),
        ("192.0.2.9", "192.0.2.9"),
        ("2001:db8::9", "2001:db8::9"),
    ],
)
def test_the_cn_where_there_is_no_san(client, ca, text, wanted):
    cert = upstream(None, subject=certs.name((certs.ORGANIZATION, "Example"), (certs.COMMON_NAME, text)))
    checks.assert_leaf(client.ask_leaf(mimic(HOST, cert)), ca.cert, names=[wanted])


@pytest.mark.parametrize("host, pattern", [
    ("www.names.example", "*.names.example"), ("WWW.NAMES.EXAMPLE.", "www.names.example"), ("192.0.2.5", "192.0.2.5"),
    ("[2001:db8::5]", "2001:db8::5"), ("b\u00fccher.example", "xn--bcher-kva.example"),
    ("b\u00fccher.names.example", "*.names.example"),
])  # fmt: skip
def test_a_host_that_is_named(client, ca, host, pattern):
    """By a wildcard, an address, or its A-labels: an ordinary mimic, with the ordinary ttl."""
    answer = client.ask_leaf(mimic(host, upstream([pattern])))
    assert answer.host == host and answer.ttl == 86400
    checks.assert_leaf(answer, ca.cert, names=[pattern])


@pytest.mark.parametrize("host, pattern", [
    ("a.b.names.example", "*.names.example"), ("names.example", "*.names.example"), ("www.names.example", "www.names.example.evil.example"),
    ("192.0.2.5", "*.0.2.5"), ("192.0.2.5", "192.0.2.6"), ("wwwnames.example", "*.names.example"),
])  # fmt: skip
def test_a_host_that_is_not_named(client, host, pattern):
    answer = client.ask_leaf(mimic(host, upstream([pattern, "second.example.org"])))
    assert answer.ttl <= 10 and "second.example.org" in answer.sans
    assert host not in answer.sans


# ---- subject ----


def subject_of(answer):
    """The subject as (OID, string tag, octets), one list per RDN."""
    fields = der.read(answer.cert_blocks[0])[0][0].children()
    out = []
    for rdn in fields[5].children():
        out.append([(a[0].whole, a[1].tag, a[1].content) for a in rdn.children()])
    return out


def entry(kind, value, tag=certs.UTF8):
    return (der.oid(kind), tag, value if isinstance(value, bytes) else value.encode())


O, CN, C, SN, L, OU = (
    certs.ORGANIZATION,
    certs.COMMON_NAME,
    certs.COUNTRY,
    certs.SERIAL_NUMBER,
    certs.LOCALITY,
    certs.UNIT,
)

SUBJECTS = {
    "plain": ([(C, "SE", certs.PRINTABLE), (O, "Example"), (CN, HOST)], [entry(C, "SE", certs.PRINTABLE), entry(O, "Example"), entry(CN, HOST)]),
    "printable-becomes-utf8": ([(O, "Example", certs.PRINTABLE), (CN, HOST, certs.PRINTABLE)], [entry(O, "Example"), entry(CN, HOST)]),
    "ia5-becomes-utf8": ([(O, "Example", certs.IA5)], [entry(O, "Example")]),
    "teletex-ascii": ([(O, "Example", certs.TELETEX)], [entry(O, "Example")]),
    "country-utf8-becomes-printable": ([(C, "SE", certs.UTF8), (O, "x")], [entry(C, "SE", certs.PRINTABLE), entry(O, "x")]),
    "serial-number-printable": ([(SN, "123-4", certs.PRINTABLE), (O, "x")], [entry(SN, "123-4", certs.PRINTABLE), entry(O, "x")]),
    "bmp": ([(O, "B\u00fccher \u4f8b".encode("utf-16-be"), certs.BMP)], [entry(O, "B\u00fccher \u4f8b")]),
    "universal": ([(O, "B\u00fccher".encode("utf-32-be"), certs.UNIVERSAL)], [entry(O, "B\u00fccher")]),
    "utf8": ([(O, "B\u00fccher")], [entry(O, "B\u00fccher")]),
    "email-dropped": ([(O, "x"), (certs.EMAIL, "a@b.example", certs.IA5)], [entry(O, "x")]),
    "inconvertible-dropped": ([(O, "x"), (OU, b"\xff\xfe", certs.UTF8), (L, b"\xd8\x00", certs.BMP)], [entry(O, "x")]),
    "order-kept": ([(CN, HOST), (O, "x"), (C, "SE", certs.PRINTABLE), (OU, "1"), (OU, "2")],
                   [entry(CN, HOST), entry(O, "x"), entry(C, "SE", certs.PRINTABLE), entry(OU, "1"), entry(OU, "2")]),
    "cn-of-another": ([(CN, "something else")], [entry(CN, "something else")]),
    "value-512": ([(O, "o" * 512)], [entry(O, "o" * 512)]),
    "value-513": ([(O, "o" * 513), (CN, HOST)], []),
    "value-empty-dropped": ([(O, ""), (CN, HOST)], [entry(CN, HOST)]),
    "rdns-32": ([(OU, str(n)) for n in range(32)], [entry(OU, str(n)) for n in range(32)]),
    "rdns-33": ([(OU, str(n)) for n in range(33)], []),
    "over-2-kib": ([(OU, "u" * 500) for _ in range(5)], []),
    "empty": ([], []),
    "nothing-left": ([(certs.EMAIL, "a@b.example", certs.IA5)], []),
}  # fmt: skip


@pytest.mark.parametrize("name", SUBJECTS)
def test_subject(client, ca, name):
    given, wanted = SUBJECTS[name]
    answer = client.ask_leaf(mimic(HOST, upstream([HOST], subject=certs.name(*given))))
    assert subject_of(answer) == [[e] for e in wanted]
    # Also: SAN is critical exactly when the subject is empty.
    checks.assert_leaf(answer, ca.cert, names=[HOST])


def test_a_subject_equal_to_the_cas(client, ca):
    answer = client.ask_leaf(mimic(HOST, upstream([HOST], subject=ca.cert.subject.public_bytes())))
    checks.assert_leaf(answer, ca.cert, names=[HOST], common_name=None)


def test_a_subject_equal_to_another_cas(client, ca):
    """Whoever shows our CA's name and is not to be trusted gets a leaf of the untrusted CA without it."""
    cert = upstream([HOST], subject=ca.cert.subject.public_bytes(), signature="ecdsa-sha1")
    answer = client.ask_leaf(mimic(HOST, cert))
    assert subject_of(answer) == [] and answer.leaf.issuer != ca.cert.subject
    cert = upstream([HOST], subject=ca.cert.subject.public_bytes(), issuer=ca.cert.subject.public_bytes())
    assert subject_of(client.ask_leaf(mimic(HOST, cert))) == []


def test_an_rdn_of_several_values(client, ca):
    rdn = der.set_of(
        der.seq(der.oid(CN), der.tlv(certs.UTF8, HOST.encode())), der.seq(der.oid(OU), der.tlv(certs.UTF8, b"unit"))
    )
    answer = client.ask_leaf(mimic(HOST, upstream([HOST], subject=certs.name((O, "x"), rdn))))
    checks.assert_leaf(answer, ca.cert, names=[HOST])
    assert [len(r) for r in subject_of(answer)] == [1, 2]


# ---- dates ----


def dates_of(answer):
    leaf = answer.leaf
    return checks.unix_time(leaf.not_valid_before), checks.unix_time(leaf.not_valid_after)


def close_to(value, wanted):
    return abs(value - wanted) <= 5


def test_dates_of_a_fresh_leaf(client):
    now = int(time.time())
    start, end = dates_of(client.ask_leaf(by_ids("dates.example.org")))
    assert close_to(start, now - DAY) and close_to(end, now + 90 * DAY)


def test_leaf_lifetime(start, ca):
    with start(ca, {"leaf": {"lifetime": "7d"}}) as daemon, daemon.client() as client:
        now = int(time.time())
        begin, end = dates_of(client.ask_leaf(by_ids(HOST)))
        assert close_to(begin, now - DAY) and close_to(end, now + 7 * DAY)


# Of the upstream, in days from now; and of the leaf: None where it is the upstream's, else days from now.
SPANS = {
    "ordinary": (-30, 60, None, None),
    "one-second": (-1 / DAY, 100 / DAY, None, None),
    "span-824": (-400, 424, None, None),
    "span-825": (-400, 425, -1, 396),
    "ten-years": (-1000, 2650, -1, 396),
    "starts-now": (-0.5, 2000, -0.5, 396.5),
    "long-and-ending-soon": (-900, 100, -1, 100),
    "long-expired": (-2000, -100, -497, -100),
    "long-not-yet": (100, 2000, 100, 497),
    "expired-of-ordinary-span": (-200, -100, None, None),
    "not-yet-of-ordinary-span": (100, 200, None, None),
    "until-9999": (-10, (253402300799 - time.time()) / DAY - 1, -1, 396),
}


@pytest.mark.parametrize("name", SPANS)
def test_dates_of_a_mimic(client, ca, name):
    """The upstream's, and never a span over 824 days."""
    now = int(time.time())
    first, last, wanted_first, wanted_last = SPANS[name]
    cert = upstream([HOST], now=now, start=int(first * DAY), end=int(last * DAY))
    answer = client.ask_leaf(mimic(HOST, cert))
    begin, end = dates_of(answer)
    assert close_to(begin, now + (first if wanted_first is None else wanted_first) * DAY), (begin - now) / DAY
    assert close_to(end, now + (last if wanted_last is None else wanted_last) * DAY), (end - now) / DAY
    if wanted_first is None:
        assert (begin, end) == (now + int(first * DAY), now + int(last * DAY))
    checks.assert_leaf(answer, ca.cert, names=[HOST])


def test_inverted_dates_never_come_out(client, ca):
    cert = upstream([HOST], start=30 * DAY, end=10 * DAY)
    answer = client.ask_leaf(mimic(HOST, cert))
    begin, end = dates_of(answer)
    assert begin == end, "notBefore = notAfter instead"
    assert answer.ttl <= 10
    checks.assert_leaf(answer, ca.cert, names=[HOST])


def test_dates_end_with_the_ca(start, authorities):
    """Of whatever profile: notAfter is cut to the CA's, and the order of the two stays."""
    short = authorities("ec-p256", "--days", "30")
    end_of_ca = checks.unix_time(short.cert.not_valid_after)
    with start(short) as daemon, daemon.client() as client:
        for data in (
            by_ids(HOST),
            mimic(HOST, upstream([HOST], end=60 * DAY)),
            mimic(HOST, upstream([HOST], start=-DAY, end=3000 * DAY)),
        ):
            answer = client.ask_leaf(data)
            checks.assert_leaf(answer, short.cert, names=[HOST])
            assert dates_of(answer)[1] == end_of_ca
        answer = client.ask_leaf(mimic(HOST, upstream([HOST], start=60 * DAY, end=90 * DAY)))
        assert dates_of(answer) == (end_of_ca, end_of_ca)


# ---- ttl ----


@pytest.mark.parametrize(
    "left, wanted",
    [(60 * DAY, 86400), (DAY + 400, 86400), (DAY, DAY - 300), (1800, 1500), (400, 100), (299, 1), (30, 1)],
)
def test_ttl(client, left, wanted):
    """Real seconds: min(ttl.max, notAfter - now - 300), at least 1."""
    answer = client.ask_leaf(mimic(HOST, upstream([HOST], end=left)))
    assert wanted - 5 <= answer.ttl <= wanted or answer.ttl == wanted == 1


@pytest.mark.parametrize("configured, seconds", [("10m", 600), ("7d", 7 * DAY)])
def test_ttl_max(start, ca, configured, seconds):
    """g3fcgen gives 26362135 for 20 years; here it is what is configured, and what is left."""
    with start(ca, {"ttl": {"max": configured}}) as daemon, daemon.client() as client:
        assert client.ask_leaf(by_ids(HOST)).ttl == seconds
        assert client.ask_leaf(mimic(HOST, upstream([HOST], end=20 * 365 * DAY))).ttl == seconds
        left = client.ask_leaf(mimic(HOST, upstream([HOST], end=DAY // 4))).ttl
        assert left == min(seconds, left) and (seconds == 600 or DAY // 4 - 310 <= left <= DAY // 4 - 300)


# ---- serials ----


def test_serials_are_new_for_every_leaf(client):
    """Every leaf made, of whatever kind, has another one; a cached leaf keeps its own."""
    serials = set()
    for n in range(50):
        serials.add(client.ask_leaf(by_ids(f"serial-{n}.example.org")).leaf.serial_number)
        serials.add(client.ask_leaf(mimic(HOST, upstream([HOST]))).leaf.serial_number)
    assert len(serials) == 100
    again = {client.ask_leaf(by_ids(f"serial-{n}.example.org")).leaf.serial_number for n in range(50)}
    assert again <= serials


def test_ec_keys_are_never_shared(client):
    keys = itertools.chain(
        (client.ask_leaf(by_ids(f"key-{n}.example.org")).map[4] for n in range(30)),
        (client.ask_leaf(mimic(HOST, upstream([HOST], key="ec-p384"))).map[4] for _ in range(10)),
    )
    assert len(set(keys)) == 40


# ---- CAs with something about them ----


def test_name_constraints(start, constrained):
    """Names outside the CA's are dropped, a host outside is refused, none left is unsupported."""
    authority = constrained(
        x509.NameConstraints(
            [x509.DNSName("example.org"), x509.IPAddress(checks.ipaddress.ip_network("192.0.2.0/24"))],
            [x509.DNSName("secret.example.org")],
        )
    )
    with start(authority) as daemon, daemon.client() as client:
        for host in (HOST, "192.0.2.77"):
            answer = client.ask_leaf(by_ids(host))
            assert answer.sans == [host]
            checks.assert_openssl(answer, authority.root, [host])
            checks.handshake(answer, authority.root, host)
        for host in (
            "example.net",
            "a.secret.example.org",
            "secret.example.org",
            "198.51.100.1",
            "2001:db8::1",
            "*.example.org",
        ):
            assert client.ask_error(by_ids(host)) == "refused", host
        cert = upstream(
            ["outside.example.net", HOST, "secret.example.org", "198.51.100.1", "192.0.2.1", "*.example.org"]
        )
        answer = client.ask_leaf(mimic(HOST, cert))
        assert answer.sans == [HOST, "192.0.2.1"]
        checks.assert_openssl(answer, authority.root, [HOST, "192.0.2.1"])
        assert client.ask_error(mimic(HOST, upstream(["outside.example.net"]))) == "unsupported"
        # Without a dNSName, clients hold the CN against the constraints: then there is none.
        answer = client.ask_leaf(mimic("192.0.2.1", upstream(["192.0.2.1", "outside.example.net"])))
        assert answer.sans == ["192.0.2.1"] and not list(answer.leaf.subject)
        checks.assert_openssl(answer, authority.root, ["192.0.2.1"])


def test_an_intermediate_ca_is_sent_without_its_root(start, constrained):
    """A chain: the CA, then its issuers, without a self-signed root unless asked for."""
    authority = constrained(None)
    with start(authority) as daemon, daemon.client() as client:
        answer = client.ask_leaf(by_ids(HOST))
        assert answer.cert_blocks[1:] == [authority.cert.public_bytes(checks.Encoding.DER)]
        checks.assert_signed_by(answer.leaf, authority.cert)
        checks.assert_openssl(answer, authority.root, [HOST])
        checks.handshake(answer, authority.root, HOST)
    with start(authority, {"ca": {"append_root": True}}) as daemon, daemon.client() as client:
        answer = client.ask_leaf(by_ids(HOST))
        assert len(answer.cert_blocks) == 3
        checks.assert_openssl(answer, authority.root, [HOST])


def test_a_ca_without_a_key_identifier(start, constrained):
    """Then it is SHA-1 of its key (RFC 5280 method 1), and a warning at start."""
    authority = constrained(None, key_identifier=False)
    with start(authority) as daemon, daemon.client() as client:
        leaf = client.ask_leaf(by_ids(HOST)).leaf
        wanted = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.cert.public_key()).key_identifier
        assert leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier == wanted
        (line,) = daemon.events("ca-without-key-id")
        assert "warning" in line


def test_an_expired_ca_is_refused(folder, config_of, constrained):
    """It stays up and says why: /ready 503, and `refused` to whoever asks."""
    authority = constrained(None, start=-30, end=-1)
    with LeafdProcess(folder, config_of(authority)) as daemon:
        daemon.wait_serving()
        daemon.wait_event("signer-ready")
        with daemon.client() as client:
            for data in (by_ids(HOST), mimic(HOST, upstream([HOST]))):
                assert client.ask(data).map == {1: HOST, 7: "refused"}
        assert daemon.http("/ready")[0] == 503
