# SPDX-License-Identifier: Apache-2.0
"""make check-browsers: what Chromium and Firefox do with leafd's leaves. Not part of make check, which has
to do without them; a browser that is not installed is skipped."""

import pytest

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import SignatureAlgorithmOID
from lib import certs, choices, oracles
from lib.authority import Intermediate
from lib.browsers import BROWSERS, Page
from lib.certs import DAY, upstream
from lib.client import by_ids, mimic
from lib.https_server import HttpsServer

PACKAGES = {"chromium": "chromium", "firefox": "firefox-esr"}
GOOD = Page("leafd: good", "")
HOST = "www.browser.example.org"
LONG_253 = ".".join(["a" * 63] * 3 + ["b" * 61])
IDN = "b\u00fccher.example"
CA_KEYS = ["ec-p256", "rsa-2048"] + [key for key in ("ec-p384", "ed25519") if key in choices.ca_keys()]

# The name asked of leafd, the host in the address bar.
NAMES = {
    "plain": (HOST, HOST),
    "wildcard": ("*.browser.example.org", "deep.browser.example.org"),
    "idn": (IDN, IDN),
    "ipv4": ("127.0.0.1", "127.0.0.1"),
    "ipv6": ("::1", "::1"),
    "253-characters": (LONG_253, LONG_253),
}
UNKNOWN_ROOT = {"chromium": "ERR_CERT_AUTHORITY_INVALID", "firefox": "SEC_ERROR_UNKNOWN_ISSUER"}
# An upstream leaf of HOST, and what each browser calls its fault.
FAULTS = {
    "expired": (
        {"start": -90 * DAY, "end": -5 * DAY},
        {"chromium": "ERR_CERT_DATE_INVALID", "firefox": "SEC_ERROR_EXPIRED_CERTIFICATE"},
    ),
    "not-yet-valid": (
        {"start": 5 * DAY, "end": 90 * DAY},
        {"chromium": "ERR_CERT_DATE_INVALID", "firefox": "MOZILLA_PKIX_ERROR_NOT_YET_VALID_CERTIFICATE"},
    ),
    "wrong-name": (
        {"names": ["elsewhere.example.net"]},
        {"chromium": "ERR_CERT_COMMON_NAME_INVALID", "firefox": "SSL_ERROR_BAD_CERT_DOMAIN"},
    ),
    "self-signed": (
        {"subject": certs.name((certs.COMMON_NAME, HOST)), "issuer": certs.name((certs.COMMON_NAME, HOST))},
        UNKNOWN_ROOT,
    ),
}
# Key types of leaves that a browser has no signature algorithm for; the others it takes. Why leaf.key:
# compatible answers P-521 with P-384, and Ed25519 and Ed448 with P-256. (OpenSSL has no TLS with SM2 keys.)
LEAF_KEYS = [key for key in choices.leaf_keys() if key != "sm2"]
TAKES_NOT = {"chromium": {"ec-p521", "ed25519", "ed448"}, "firefox": {"ed25519", "ed448"}}
NO_ALGORITHM = {"chromium": "ERR_SSL_VERSION_OR_CIPHER_MISMATCH", "firefox": "nssFailure2"}
# The database of NSS, which both read, does not even take such a root.
NO_ROOT = {"ed25519"}


def ascii_of(name):
    return name.encode("idna").decode() if not name.isascii() else name


def der_of(cert):
    return cert.public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def intermediate(ca, session_folder):
    return Intermediate(ca, session_folder)


@pytest.fixture(scope="module")
def roots(authorities, intermediate):
    cas = [authorities(key).cert for key in CA_KEYS if key not in NO_ROOT]
    return [der_of(cert) for cert in (*cas, intermediate.root)]


@pytest.fixture(scope="module", params=BROWSERS)
def browser(request, roots):
    kind = BROWSERS[request.param]
    if not kind.path():
        pytest.skip(f"{kind.program} is not installed; on Debian: apt-get install {PACKAGES[request.param]}")
    if "nss" in oracles.ABSENT:
        pytest.skip(oracles.ABSENT["nss"])
    names = [ascii_of(host) for _, host in NAMES.values()]
    running = kind(roots) if request.param == "chromium" else kind(roots, names)
    running.name = request.param
    yield running
    running.close()


def visit(browser, answer, host=HOST):
    with HttpsServer(answer) as server:
        return browser.load(host, server)


@pytest.mark.parametrize("way", ["fresh", "mimic"])
@pytest.mark.parametrize("case", NAMES)
def test_good(client, browser, case, way):
    name, host = NAMES[case]
    request = by_ids(name) if way == "fresh" else mimic(name, upstream([ascii_of(name)]))
    address = "::1" if case == "ipv6" and browser.name == "firefox" else "127.0.0.1"
    with HttpsServer(client.ask_leaf(request), address=address) as server:
        assert browser.load(host, server) == GOOD


@pytest.mark.parametrize("case", FAULTS)
def test_faults(client, browser, case):
    fields, errors = FAULTS[case]
    answer = client.ask_leaf(mimic(HOST, upstream(**{"names": [HOST], **fields})))
    assert visit(browser, answer) == Page("", errors[browser.name])


@pytest.mark.parametrize("upstream_key", ["ec-p256", "rsa-2048"])
@pytest.mark.parametrize("ca_key", CA_KEYS)
def test_ca_keys(start, authorities, browser, ca_key, upstream_key):
    with start(authorities(ca_key)) as daemon, daemon.client() as client:
        page = visit(browser, client.ask_leaf(mimic(HOST, upstream([HOST], key=upstream_key))))
    if ca_key in NO_ROOT:
        assert page == Page("", UNKNOWN_ROOT[browser.name])
    else:
        assert page == GOOD


@pytest.mark.skipif("pss" not in choices.option_values("ca.rsa_padding"), reason="no RSA-PSS here")
def test_an_rsa_pss_signature(start, authorities, browser):
    with start(authorities("rsa-2048"), {"ca": {"rsa_padding": "pss"}}) as daemon, daemon.client() as client:
        answer = client.ask_leaf(mimic(HOST, upstream([HOST])))
        assert answer.leaf.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS
        assert visit(browser, answer) == GOOD


@pytest.mark.parametrize("key", LEAF_KEYS)
def test_leaf_keys(start, ca, browser, key):
    with start(ca, {"leaf": {"key": key}}) as daemon, daemon.client() as client:
        answer = client.ask_leaf(by_ids(HOST))
        page = visit(browser, answer)
    assert page == (Page("", NO_ALGORITHM[browser.name]) if key in TAKES_NOT[browser.name] else GOOD)


@pytest.mark.parametrize("key", ["ec-p521", "ed25519"])
def test_compatible_leaf_keys(client, browser, key):
    """Whatever the upstream's key, the leaf of leaf.key: compatible is for every browser."""
    assert visit(browser, client.ask_leaf(mimic(HOST, upstream([HOST], key=key)))) == GOOD


def test_an_intermediate_ca(start, browser, intermediate):
    with start(intermediate) as daemon, daemon.client() as client:
        assert visit(browser, client.ask_leaf(mimic(HOST, upstream([HOST])))) == GOOD
