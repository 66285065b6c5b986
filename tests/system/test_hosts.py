# SPDX-License-Identifier: Apache-2.0
"""The host of a request: what is served, with which names, and what is refused."""

import pytest

from lib import certs, checks
from lib.client import by_ids, mimic, pack

LABEL_63 = "a" * 63
LONG_253 = ".".join([LABEL_63] * 3 + ["b" * 61])
assert len(LONG_253) == 253

SERVED = {
    "example.org": "example.org",
    "EXAMPLE.Org": "example.org",
    "example.org.": "example.org",
    "localhost": "localhost",
    "under_score.example.org": "under_score.example.org",
    "_sip._tcp.example.org": "_sip._tcp.example.org",
    "-odd-.example.org": "-odd-.example.org",
    "a--b.example.org": "a--b.example.org",
    "123.example.org": "123.example.org",
    f"{LABEL_63}.example.org": f"{LABEL_63}.example.org",
    LONG_253: LONG_253,
    LONG_253 + ".": LONG_253,
    "xn--bcher-kva.example": "xn--bcher-kva.example",
    "b\u00fccher.example": "xn--bcher-kva.example",
    "B\u00dcCHER.example": "xn--bcher-kva.example",
    "stra\u00dfe.example": "xn--strae-oqa.example",
    "\uff45xample.org": "example.org",
    "\u4f8b\u3048.example": "xn--r8jz45g.example",
    "*.example.org": "*.example.org",
    "*.github.io": "*.github.io",
    "*.b\u00fccher.example": "*.xn--bcher-kva.example",
    "192.0.2.1": "192.0.2.1",
    "255.255.255.255": "255.255.255.255",
    "2001:db8::1": "2001:db8::1",
    "2001:0DB8:0:0:0:0:0:1": "2001:db8::1",
    "[2001:db8::1]": "2001:db8::1",
    "::1": "::1",
    "[::]": "::",
}

REFUSED = {
    "dot": ".", "empty-label": "a..example.org", "leading-dot": ".example.org", "two-trailing-dots": "example.org..",
    "space": "exa mple.org", "nul": "example.org\0", "nul-inside": "exam\0ple.org", "newline": "example.org\n", "tab": "a\tb",
    "delete": "a\x7fb.example", "slash": "example.org/", "url": "https://example.org", "at": "user@example.org",
    "port": "example.org:443", "port-of-v4": "192.0.2.1:443", "port-of-v6": "[::1]:443", "zone": "fe80::1%eth0",
    "zone-in-brackets": "[fe80::1%25eth0]", "v4-of-256": "256.1.1.1", "v4-short": "1.2.3", "v4-number": "3221225985",
    "v4-zeros": "192.0.2.01", "v4-five": "1.2.3.4.5", "v4-brackets": "[192.0.2.1]", "bracket-open": "[2001:db8::1",
    "bracket-close": "2001:db8::1]", "brackets-empty": "[]", "v6-bad": "2001:db8:::1", "v6-nine": "1:2:3:4:5:6:7:8:9",
    "star": "*", "star-com": "*.com", "star-co-uk": "*.co.uk", "star-inside": "a.*.example.org", "star-partial": "f*.example.org",
    "star-twice": "*.*.example.org", "star-double": "**.example.org", "star-address": "*.2.0.192",
    "label-64": "a" * 64 + ".example.org", "length-254": "a." + LONG_253[1:], "comma": "example.org,DNS:evil.example",
    "quote": 'exa"mple.org', "percent": "%65xample.org", "backslash": "a\\b.example", "plus": "a+b.example", "colon": "a:b",
    "idn-bad": "\u0640\u2028.example", "surrogate-free-garbage": "\ufffd.example",
}  # fmt: skip


@pytest.mark.parametrize("host", SERVED, ids=lambda host: ascii(host)[:30])
def test_served(client, ca, host):
    name = SERVED[host]
    answer = client.ask_leaf(by_ids(host))
    assert answer.host == host
    checks.assert_leaf(answer, ca.cert, names=[name], common_name=name if len(name) <= 64 else None)


@pytest.mark.parametrize("case", REFUSED)
def test_refused(client, case):
    answer = client.ask(by_ids(REFUSED[case]))
    assert answer.error == "refused"
    assert answer.host == (REFUSED[case] if len(REFUSED[case].encode()) <= 253 else None)


def test_an_empty_host_is_no_host(client):
    assert client.ask(by_ids("")).error in ("malformed", "refused")


def test_a_host_that_is_no_utf8(client):
    answer = client.ask(b"\x81\x01\xa3a\xff\xfe")
    assert answer.error in ("refused", "malformed")


def test_mapped_ipv4_is_an_address(client):
    """Whichever of its two forms: never a DNS name."""
    (name,) = client.ask_leaf(by_ids("::ffff:192.0.2.1")).sans
    assert name in ("192.0.2.1", "::ffff:c000:201", "::ffff:192.0.2.1")


def test_common_name_ends_at_64_characters(client, ca):
    for size in (64, 65):
        host = ("a" * 30 + "." + "b" * 60)[: size - 8] + ".example"
        assert len(host) == size
        leaf = checks.assert_leaf(
            client.ask_leaf(by_ids(host)), ca.cert, names=[host], common_name=host if size == 64 else None
        )
        san = leaf.extensions.get_extension_for_class(checks.x509.SubjectAlternativeName)
        assert san.critical == (size == 65)


def test_a_host_over_253_needs_a_cert(client):
    host = ".".join(["c" * 60] * 10)
    assert 253 < len(host) <= 1024
    answer = client.ask(by_ids(host))
    assert answer.map == {7: "refused"}, "the host is left out over 253 octets"
    answer = client.ask_leaf(mimic(host, certs.upstream(["long.example.org"])))
    assert answer.host == host and answer.sans == ["long.example.org"] and answer.ttl <= 10
    assert client.ask(mimic("d" * 1025, certs.upstream(["long.example.org"]))).map == {7: "refused"}


def test_a_host_of_refused_form_is_refused_with_a_cert_too(client):
    upstream = certs.upstream(["www.example.org"])
    for host in ("exa mple.org", "example.org\0", "a..b", "1.2.3"):
        assert client.ask_error(mimic(host, upstream)) == "refused"


def test_nothing_is_injected(client):
    """Text that means something to printf, msgpack, logs or X.509 text forms."""
    for host in ("%s%n.example", "DNS:evil.example", "CN=evil", "\u202eevil.example", "${x}.example"):
        assert client.ask(pack({1: host})).error == "refused"
