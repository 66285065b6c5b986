# SPDX-License-Identifier: Apache-2.0
"""What other people's verifiers say about leafd's leaves (lib/oracles.py): all that can judge a good leaf
take it for its host, and refuse it for another host, under another root and as a client's certificate; what
is wrong with an upstream leaf is as wrong with the leaf that is like it."""

import concurrent.futures
import time

import pytest

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import SignatureAlgorithmOID
from lib import certs, choices, der, oracles
from lib.authority import SoftwareAuthority
from lib.certs import DAY, upstream
from lib.client import Answer, by_ids, mimic
from lib.polling import wait_for

HOST = "www.oracle.example.org"
LONG = "long-" + "a" * 50 + ".oracle.example.org"  # over 64 characters, so no CN
LONG_253 = ".".join(["a" * 63] * 3 + ["b" * 61])
MANY = [f"host-{n}.oracle.example.org" for n in range(100)]
IDN = "b\u00fccher.oracle.example"
FILLING = [f"{n:04}.{'x' * 40}.example.org" for n in range(200)]  # too large for a reply

LEAF_KEYS, CA_KEYS = choices.leaf_keys(), choices.ca_keys()
UPSTREAM_KEYS = {"rsa": "rsa-2048"}  # of a leaf key type; the others have the same word
# What the tools cannot read or check, in a leaf or in its issuers.
CANNOT = {
    "openssl": set(),
    "gnutls": {"sm2"},
    "nss": {"ed25519", "ed448", "sm2"},
    "cryptography": {"ed25519", "ed448", "sm2"},
}


def der_of(cert):
    return cert.public_bytes(Encoding.DER)


@pytest.fixture(scope="module")
def other_root(session_folder):
    """A root that has signed nothing of ours."""
    return der_of(SoftwareAuthority(session_folder).cert)


def spki_of(cert_der):
    fields = der.read(cert_der)[0][0].children()
    return fields[6 if fields[0].tag == 0xA0 else 5]


def judges(*key_types):
    """Those here that know these key types."""
    assert set(CANNOT) == set(oracles.EVERY)
    return [name for name in oracles.ORACLES if not CANNOT[name].intersection(key_types)]


def ask(name, blocks, root, host, **options):
    """The answer of an oracle that can judge this."""
    leaf, *chain = blocks
    answer = oracles.ORACLES[name](leaf, chain, root, host, None, **options)
    assert answer is not None, f"{name} does not judge"
    return answer


def assert_refused(name, reason, blocks, root, host, **options):
    answer = ask(name, blocks, root, host, **options)
    assert (answer.ok, answer.reason) == (False, reason), (name, host, answer)


_threads = concurrent.futures.ThreadPoolExecutor(len(oracles.EVERY))


def of_every_oracle(question, key_types=()):
    """question(name) for each oracle that knows these keys, all at once: they are programs that we wait for."""
    for _ in _threads.map(question, judges(*key_types)):
        pass


def assert_all_take(blocks, root, hosts, key_types=()):
    def question(name):
        for host in hosts if name in oracles.LOOKS_AT_THE_HOST else hosts[:1]:
            answer = ask(name, blocks, root, host)
            assert answer.ok, (name, host, answer)

    of_every_oracle(question, key_types)


def assert_all_agree(blocks, root, hosts, other_root, key_types=()):
    """The four questions that a good leaf is asked."""

    def question(name):
        if name in oracles.LOOKS_AT_THE_HOST:
            assert_refused(name, "name", blocks, root, "elsewhere.example.com")
        assert_refused(name, "untrusted", blocks, other_root, hosts[0])
        assert_refused(name, "purpose", blocks, root, hosts[0], purpose=oracles.CLIENT)

    assert_all_take(blocks, root, hosts, key_types)
    of_every_oracle(question, key_types)


@pytest.mark.parametrize("name", oracles.EVERY)
def test_which_oracles_are_here(name, ca):
    if name in oracles.ABSENT:
        pytest.skip(f"oracle {name}: {oracles.ABSENT[name]}")
    root = der_of(ca.cert)
    assert_refused(name, "malformed", [root[:-1]], root, HOST)


# ---- every form of a name, in each of the three ways to a leaf ----

# What is asked for, and the hosts that the leaf must be good for.
NAMES = {
    "dns": (HOST, [HOST]),
    "wildcard": ("*.oracle.example.org", ["probe.oracle.example.org"]),
    "ipv4": ("192.0.2.7", ["192.0.2.7"]),
    "ipv6": ("2001:db8::7", ["2001:db8::7", "2001:0db8:0:0::7"]),
    "idn": (IDN, ["xn--bcher-kva.oracle.example"]),
    "253-characters": (LONG_253, [LONG_253]),
    "empty-subject": (LONG, [LONG]),
    "one-label": ("localhost", ["localhost"]),
}


def ascii_of(name):
    return name.encode("idna").decode() if not name.isascii() else name


def subject_is_empty(block):
    return not list(x509.load_der_x509_certificate(block).subject)


@pytest.mark.parametrize("way", ["fresh", "mimic", "minimal"])
@pytest.mark.parametrize("case", NAMES)
def test_names(client, ca, other_root, case, way):
    name, hosts = NAMES[case]
    names = [ascii_of(name)]
    subject = der.seq() if case == "empty-subject" else None
    request = {
        "fresh": lambda: by_ids(name),
        "mimic": lambda: mimic(name, upstream(names, subject=subject)),
        "minimal": lambda: mimic(name, upstream(names + FILLING, subject=subject)),
    }[way]()
    answer = client.ask_leaf(request)
    assert answer.sans == names
    if case == "empty-subject":
        assert subject_is_empty(answer.cert_blocks[0])
    assert_all_agree(answer.cert_blocks, der_of(ca.cert), hosts, other_root)


def test_many_names(client, ca, other_root):
    answer = client.ask_leaf(mimic(MANY[0], upstream(MANY + ["*.wide.example.org", "192.0.2.8", "2001:db8::8"])))
    hosts = [MANY[0], MANY[50], MANY[-1], "probe.wide.example.org", "192.0.2.8", "2001:db8::8"]
    assert_all_agree(answer.cert_blocks, der_of(ca.cert), hosts, other_root)


@pytest.mark.parametrize("service_usage", [0, 1, 11, 12])
def test_usages(client, ca, service_usage):
    """The halves of a TLCP pair are no TLS servers by their key usage: no oracle says more than that."""
    for name in judges():
        # Like an upstream: the key of a fresh leaf for TLCP is on a curve that few oracles know.
        blocks = client.ask_leaf(by_ids(HOST, usage=service_usage, cert=upstream([HOST]))).cert_blocks
        answer = ask(name, blocks, der_of(ca.cert), HOST)
        assert answer.ok or (service_usage == 12 and answer.reason == "purpose"), (name, answer)


def test_an_intermediate_ca(start, constrained, other_root):
    """The chain of the reply leads to a root that alone is trusted; without it there is no way there."""
    authority = constrained(None)
    root = der_of(authority.root)
    with start(authority) as daemon, daemon.client() as client:
        for request in (by_ids(HOST), mimic(HOST, upstream([HOST])), mimic(HOST, upstream([HOST] + FILLING))):
            blocks = client.ask_leaf(request).cert_blocks
            assert len(blocks) == 2
            assert_all_agree(blocks, root, [HOST], other_root)
            for name in judges():
                assert_refused(name, "untrusted", blocks[:1], root, HOST)


# ---- every leaf key under every CA key ----


def upstream_key(word):
    return UPSTREAM_KEYS.get(word, word)


def assert_key_like(block, word):
    """The leaf's key is of the upstream's type (RSA: and size)."""
    ours, theirs = spki_of(block), der.read(certs.spki(upstream_key(word)))[0]
    assert ours[0].whole == theirs[0].whole, f"another key than {word}"
    assert abs(len(ours.whole) - len(theirs.whole)) <= 2


def like_upstream(**changes):
    """The configuration in which a leaf's key is of its upstream's type."""
    strict = {"keys": {"rsa_match": "strict"}} if choices.option_values("keys.rsa_match") else {}
    return {"leaf": {"key": "upstream"}, **strict, **changes}


CA_KINDS = [(key, None) for key in CA_KEYS]
if "pss" in choices.option_values("ca.rsa_padding"):
    CA_KINDS.append(("rsa-2048", "pss"))


@pytest.mark.parametrize("kind", CA_KINDS, ids=lambda kind: "-".join(filter(None, kind)))
def test_keys_of_mimics(start, authorities, other_root, kind):
    """All that a client may ask under each CA; of the leaf keys behind the first, whether they are good."""
    ca_key, padding = kind
    authority = authorities(ca_key)
    root = der_of(authority.cert)
    with start(authority, like_upstream(**({"ca": {"rsa_padding": padding}} if padding else {}))) as daemon:
        with daemon.client() as client:
            answer = client.ask_leaf(by_ids(HOST))
            signed_by_pss = answer.leaf.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS
            assert signed_by_pss == (padding == "pss")
            assert_all_agree(answer.cert_blocks, root, [HOST], other_root, {ca_key})
            for word in LEAF_KEYS:
                blocks = client.ask_leaf(mimic(HOST, upstream([HOST], key=upstream_key(word)))).cert_blocks
                assert_key_like(blocks[0], word)
                assert_all_take(blocks, root, [HOST], {ca_key, word})


def test_keys_of_minimal_leaves(start, ca):
    with start(ca, like_upstream()) as daemon, daemon.client() as client:
        for word in LEAF_KEYS:
            cert = upstream([HOST] + FILLING, key=upstream_key(word))
            answer = client.ask_leaf(mimic(HOST, cert))
            assert_key_like(answer.cert_blocks[0], word)
            assert_all_take(answer.cert_blocks, der_of(ca.cert), [HOST], {word})


@pytest.mark.parametrize("word", LEAF_KEYS)
def test_keys_of_fresh_leaves(start, ca, other_root, word):
    with start(ca, {"leaf": {"key": word}}) as daemon, daemon.client() as client:
        blocks = client.ask_leaf(by_ids(HOST)).cert_blocks
        assert_key_like(blocks[0], word)
        assert_all_agree(blocks, der_of(ca.cert), [HOST], other_root, {word})


@pytest.mark.parametrize("bits", choices.option_values("leaf.rsa_bits"))
def test_rsa_sizes(start, ca, bits):
    changes = {"leaf": {"key": "rsa", "rsa_bits": int(bits)}, "keys": {"rsa_match": "strict"}}
    with start(ca, changes) as daemon, daemon.client() as client:
        # The first such key may take longer than anybody waits.
        raw = wait_for(lambda: client.ask_raw(by_ids(HOST), timeout=3.6), "a leaf", seconds=60)
        blocks = Answer(raw).cert_blocks
        assert x509.load_der_x509_certificate(blocks[0]).public_key().key_size == int(bits)
        assert_all_take(blocks, der_of(ca.cert), [HOST])


# ---- upstream leaves that are wrong, really signed by a root of theirs ----


class Upstreams:
    """A root of the outer world, and leaves that it signs."""

    def __init__(self, extra=()):
        """`extra`: more extensions of the root."""
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.leaf_key = ec.generate_private_key(ec.SECP256R1())
        self.name = certs.name((certs.ORGANIZATION, "Outer World"), (certs.COMMON_NAME, "Outer World Root"))
        identifier = self.identifier(self.key)
        self.root = self.signed(
            upstream(
                None,
                subject=self.name,
                issuer=self.name,
                start=-3000 * DAY,
                end=3000 * DAY,
                ku=certs.KEY_CERT_SIGN,
                eku=None,
                ca=True,
                key_info=self.spki(self.key),
                extra=[certs.extension(certs.SKI_OID, der.octets(identifier)), *extra],
            ),
            self.key,
        )

    @staticmethod
    def spki(key):
        return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @staticmethod
    def identifier(key):
        return x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest

    @staticmethod
    def signed(cert, key, digest=hashes.SHA256()):
        """The certificate with a signature that is right."""
        tbs, algorithm, _ = der.read(cert)[0].children()
        signature = key.sign(tbs.whole, ec.ECDSA(digest))
        return der.seq(tbs.whole, algorithm.whole, der.bits(signature))

    def leaf(self, names=(HOST,), *, extra=(), digest=hashes.SHA256(), self_signed=False, **fields):
        issuer_key, fields["issuer"] = self.key, self.name
        if self_signed:
            issuer_key = self.leaf_key
            fields["issuer"] = fields["subject"] = certs.name((certs.COMMON_NAME, HOST))
        issuer = der.seq(der.context(0, self.identifier(issuer_key), constructed=False))
        extra = [*extra, certs.extension(certs.AKI_OID, issuer)]
        cert = upstream(names, key_info=self.spki(self.leaf_key), extra=extra, **fields)
        return self.signed(cert, issuer_key, digest)


@pytest.fixture(scope="module")
def outer_world():
    return Upstreams()


OTHER = "elsewhere.example.net"
LATE = {"start": -90 * DAY, "end": -5 * DAY}
# The client sees the faults of the upstream itself.
SAME_FAULT = {
    "expired": (["expired"], LATE),
    "expired-long-ago": (["expired"], {"start": -2000 * DAY, "end": -1000 * DAY}),
    "not-yet-valid": (["not-yet"], {"start": 5 * DAY, "end": 90 * DAY}),
    "another-name": (["name"], {"names": [OTHER]}),
    "another-address": (["name"], {"names": ["192.0.2.99"]}),
    "too-wide-a-wildcard": (["name"], {"names": ["*.example.org"]}),
    "expired-with-another-name": (["name", "expired"], {"names": [OTHER], **LATE}),
    "self-signed": (["untrusted"], {"self_signed": True}),
    "self-signed-and-expired": (["untrusted", "expired"], {"self_signed": True, **LATE}),
}
# A fault that a leaf of the template cannot have: it comes from a CA that nobody trusts.
OTHER_FAULT = {
    "client-only": ("purpose", {"eku": [certs.CLIENT_AUTH]}),
    "ocsp-only": ("purpose", {"eku": [certs.OCSP_SIGNING]}),
    "sha1-signature": ("weak", {"signature": "ecdsa-sha1", "digest": hashes.SHA1()}),
    "unknown-critical": ("other", {"extra": [certs.extension("1.3.6.1.4.1.55555.1", der.NULL, True)]}),
}


@pytest.mark.parametrize("case", SAME_FAULT)
def test_a_fault_stays_the_same(client, ca, outer_world, case):
    faults, fields = SAME_FAULT[case]
    cert = outer_world.leaf(**fields)
    blocks = client.ask_leaf(mimic(HOST, cert)).cert_blocks
    for name in judges():
        if faults == ["name"] and name not in oracles.LOOKS_AT_THE_HOST:
            continue
        theirs = ask(name, [cert], outer_world.root, HOST)
        ours = ask(name, blocks, der_of(ca.cert), HOST)
        assert not theirs.ok and theirs.reason in faults, (name, theirs)
        # Of several faults a tool may name one of the upstream and another of the mimic.
        assert not ours.ok and ours.reason in faults, (name, ours)


@pytest.mark.parametrize("case", OTHER_FAULT)
def test_another_fault_is_an_untrusted_leaf(client, ca, outer_world, case):
    reason, fields = OTHER_FAULT[case]
    cert = outer_world.leaf(**fields)
    blocks = client.ask_leaf(mimic(HOST, cert)).cert_blocks
    refusing = set()
    for name in judges():
        answer = ask(name, [cert], outer_world.root, HOST)
        # SHA-1 is a matter of policy, and NSS has none.
        assert answer.reason == reason or (name, case) == ("nss", "sha1-signature"), (name, answer)
        if not answer.ok:
            refusing.add(name)
        assert_refused(name, "untrusted", blocks, der_of(ca.cert), HOST)
    assert "openssl" in refusing


def test_the_words_for_constraints():
    """leafd's own leaves never need them: a host outside of its CA's names is refused. NSS verifies with
    libpkix from 3.101 on, which has no word of its own for this: it knows no issuer that may sign the leaf."""
    for permitted, excluded in (("example.org", None), ("allowed.example", None), (None, "example.org")):
        subtrees = [der.context(n, der.seq(certs.dns(name))) for n, name in enumerate((permitted, excluded)) if name]
        limits = certs.extension(certs.NAME_CONSTRAINTS_OID, der.seq(*subtrees), True)
        limited = Upstreams([limits])
        for name in judges():
            answer = ask(name, [limited.leaf()], limited.root, HOST)
            words = {"ok"} if permitted == "example.org" else {"constraints"}
            if name == "nss" and words == {"constraints"}:
                words.add("untrusted")
            assert answer.reason in words, (name, permitted, excluded, answer)


def test_a_good_upstream_is_good(client, ca, outer_world):
    """Otherwise the refusals above would say nothing."""
    cert = outer_world.leaf()
    blocks = client.ask_leaf(mimic(HOST, cert)).cert_blocks
    for name in judges():
        answer = ask(name, [cert], outer_world.root, HOST)
        assert answer.ok, (name, answer)
        assert ask(name, blocks, der_of(ca.cert), HOST).ok


# ---- serials ----


@pytest.mark.skipif("nss" in oracles.ABSENT, reason=f"oracle nss: {oracles.ABSENT.get('nss')}")
def test_nss_takes_many_leaves_of_one_ca(client, ca, outer_world):
    """NSS refuses a second certificate of one issuer with one serial: it never has cause to with ours."""
    database = oracles.NssDatabase()
    try:
        assert database.add("root", der_of(ca.cert), "C,,")[0] == 0
        for number in range(8):
            leaf = client.ask_leaf(by_ids(f"serial-{number}.example.org")).cert_blocks[0]
            assert database.add(f"leaf-{number}", leaf) == (0, "")
        # The rule is really held: the same issuer and serial with other content.
        assert database.add("first", outer_world.leaf(["first.example.org"], serial=7)) == (0, "")
        status, said = database.add("second", outer_world.leaf(["second.example.org"], serial=7))
        assert status != 0 and "same issuer/serial" in said, said
    finally:
        database.close()


def test_another_time(client, ca):
    """Oracles that can be set to another time: the same leaf before, in and after its days."""
    now = int(time.time())
    leaf = client.ask_leaf(mimic(HOST, upstream([HOST], start=-DAY // 2, end=2 * DAY))).cert_blocks[0]
    for name in judges():
        # NSS gives a leaf a day, and the CA is two days old.
        for at, reason in ((now, "ok"), (now - 7 * DAY // 4, "not-yet"), (now + 3 * DAY, "expired")):
            answer = oracles.ORACLES[name](leaf, [], der_of(ca.cert), HOST, at)
            assert answer is None and name == "gnutls" or answer.reason == reason, (name, at, answer)
