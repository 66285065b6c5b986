# SPDX-License-Identifier: Apache-2.0
"""The full look at a returned leaf: python3-cryptography reads it, our own few lines of DER hold its
form, openssl verifies it as a client would, and a TLS handshake is made with it."""

import base64
import datetime
import hashlib
import ipaddress
import pathlib
import ssl
import subprocess
import tempfile

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from . import certs, der

KU, EKU, BC, SAN, SKI, AKI, CRL = (
    certs.KU_OID,
    certs.EKU_OID,
    certs.BC_OID,
    certs.SAN_OID,
    certs.SKI_OID,
    certs.AKI_OID,
    certs.CRL_OID,
)
EC, RSA = "ec", "rsa"

# KeyUsage by the leaf's key (any but RSA as EC) and what it is for.
KEY_USAGE = {
    ("ec", 0): {"digital_signature"},
    ("ec", 1): {"digital_signature", "key_agreement"},
    ("rsa", 0): {"digital_signature", "key_encipherment"},
    ("rsa", 1): {"digital_signature", "key_encipherment", "key_agreement"},
    ("ec", 11): {"digital_signature", "content_commitment"},
    ("rsa", 11): {"digital_signature", "content_commitment"},
    ("ec", 12): {"key_encipherment", "data_encipherment", "key_agreement"},
    ("rsa", 12): {"key_encipherment", "data_encipherment", "key_agreement"},
}
USAGE_BITS = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)

PSS_OID = "1.2.840.113549.1.1.10"
SHA256_ID = der.seq(der.oid("2.16.840.1.101.3.4.2.1"), der.NULL)
# The AlgorithmIdentifier of what a CA signs. RSASSA-PSS: RFC 4055 section 3.1, the trailer left out.
SIGNATURE_ALGORITHMS = {
    "rsa": der.seq(der.oid("1.2.840.113549.1.1.11"), der.NULL),
    "rsa-pss": der.seq(
        der.oid(PSS_OID),
        der.seq(
            der.context(0, SHA256_ID),
            der.context(1, der.seq(der.oid("1.2.840.113549.1.1.8"), SHA256_ID)),
            der.context(2, der.integer(32)),
        ),
    ),
    "ec-p256": der.seq(der.oid("1.2.840.10045.4.3.2")),
    "ec-p384": der.seq(der.oid("1.2.840.10045.4.3.3")),
    "ed25519": der.seq(der.oid("1.3.101.112")),
}


def signs_with(ca):
    """What this CA signs with, a word of SIGNATURE_ALGORITHMS. With PSS if it has signed itself so: the
    key alone does not tell."""
    kind = key_kind(ca.public_key())
    if kind.startswith("rsa"):
        own = ca.issuer == ca.subject and ca.signature_algorithm_oid.dotted_string == PSS_OID
        return "rsa-pss" if own else "rsa"
    return kind


def key_kind(public_key):
    """`ec-p256`, `rsa-2048`: as our configuration names key types."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return f"rsa-{public_key.key_size}"
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        names = {"secp256r1": "ec-p256", "secp384r1": "ec-p384", "secp521r1": "ec-p521"}
        return names.get(public_key.curve.name, public_key.curve.name)
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return "ed25519"
    if isinstance(public_key, ed448.Ed448PublicKey):
        return "ed448"
    return type(public_key).__name__


def spki_of(whole):
    """The SubjectPublicKeyInfo of a certificate."""
    return der.read(whole)[0][0].children()[6]


def leaf_kind(answer):
    """As key_kind(); also of SM2, which python3-cryptography does not read."""
    algorithm = spki_of(answer.cert_blocks[0])[0].children()
    if len(algorithm) == 2 and algorithm[1].whole == der.oid(certs.SM2_OID):
        return "sm2"
    return key_kind(answer.leaf.public_key())


def public_part(answer):
    """The SPKI of the answer's private key."""
    if leaf_kind(answer) != "sm2":
        return answer.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = answer.fields["key"]
    form, data = ("DER", key) if isinstance(key, bytes) else ("PEM", key.encode())
    command = ["openssl", "pkey", "-inform", form, "-pubout", "-outform", "DER"]
    return subprocess.run(command, input=data, capture_output=True, timeout=120, check=True).stdout


def assert_key_form(answer):
    """DER is PKCS#1 for RSA, SEC1 with the curve's name for EC and SM2, PKCS#8 for the others; PEM is PKCS#8."""
    key, kind = answer.fields["key"], leaf_kind(answer)
    algorithm = spki_of(answer.cert_blocks[0])[0]
    if isinstance(key, str):
        lines = key.splitlines()
        assert (lines[0], lines[-1]) == ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----")
        assert max(len(line) for line in lines) <= 64
        key, kind = base64.b64decode("".join(lines[1:-1])), "pem"
    whole, rest = der.read(key)
    fields = whole.children()
    assert not rest and whole.tag == 0x30
    if kind.startswith("rsa"):
        assert [f.tag for f in fields] == [0x02] * 9 and fields[0].content == b"\0"
    elif kind.startswith("ec-") or kind == "sm2":
        assert [f.tag for f in fields] == [0x02, 0x04, 0xA0, 0xA1] and fields[0].content == b"\1"
        assert fields[2][0].whole == algorithm[1].whole, "another curve"
    else:
        assert [f.tag for f in fields] == [0x02, 0x30, 0x04] and fields[0].content == b"\0"
        assert fields[1].whole == algorithm.whole, "another algorithm"


def key_identifier(cert):
    return cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def unix_time(when):
    """cryptography's naive UTC datetime as seconds since 1970."""
    return int(when.replace(tzinfo=datetime.timezone.utc).timestamp())


def assert_signed_by(cert, ca):
    key = ca.public_key()
    kind = signs_with(ca)
    if kind == "rsa-pss":
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        key.verify(cert.signature, cert.tbs_certificate_bytes, pss, hashes.SHA256())
    elif kind == "ed25519":
        key.verify(cert.signature, cert.tbs_certificate_bytes)
    elif kind == "rsa":
        key.verify(cert.signature, cert.tbs_certificate_bytes, padding.PKCS1v15(), hashes.SHA256())
    else:
        digest = hashes.SHA384() if key.curve.name == "secp384r1" else hashes.SHA256()
        key.verify(cert.signature, cert.tbs_certificate_bytes, ec.ECDSA(digest))


def assert_form(whole, ca):
    """What only the bytes show: one algorithm twice, its parameters, the times' types, a compact SPKI."""
    tbs, outer, _ = der.read(whole)[0].children()
    fields = tbs.children()
    assert fields[0].tag == 0xA0 and fields[0][0].content == b"\x02", "not version 3"
    serial, inner, issuer, validity, subject, spki = fields[1:7]
    assert len(serial.content) == 20 and 0x40 <= serial.content[0] <= 0x7F, serial.content.hex()
    assert inner.whole == outer.whole, "inner and outer algorithm differ"
    assert inner.whole == SIGNATURE_ALGORITHMS[signs_with(ca)], inner.whole.hex()
    assert issuer.whole == ca.subject.public_bytes(), "the issuer is not the CA's subject, octet by octet"
    for moment in validity.children():
        text = moment.content.decode()
        assert text.endswith("Z") and len(text) == (13 if moment.tag == 0x17 else 15), text
        if moment.tag == 0x18:
            assert int(text[:4]) >= 2050, f"GeneralizedTime for {text}"
    assert len(fields) == 8 and fields[7].tag == 0xA3, "unique identifiers, or no extensions"
    assert subject.tag == 0x30 and spki.tag == 0x30


def assert_extensions(cert, spki, *, key, usage, subject_is_empty, crl_url, ca):
    """Exactly the template's extensions, in its order, with its criticality."""
    order = [KU, EKU, BC, SAN, SKI, AKI] + ([CRL] if crl_url else [])
    assert [e.oid.dotted_string for e in cert.extensions] == order
    critical = {e.oid.dotted_string for e in cert.extensions if e.critical}
    assert critical == {KU, BC} | ({SAN} if subject_is_empty else set())

    key_usage = cert.extensions.get_extension_for_class(x509.KeyUsage).value
    bits = {bit for bit in USAGE_BITS if getattr(key_usage, bit)}
    assert bits == KEY_USAGE["rsa" if key.startswith("rsa") else "ec", usage], bits
    purposes = cert.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [p.dotted_string for p in purposes] == [certs.SERVER_AUTH]
    constraints = cert.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (constraints.ca, constraints.path_length) == (False, None)

    # RFC 7093 method 1: the leftmost 160 bits of SHA-256 of the BIT STRING's value.
    assert key_identifier(cert) == hashlib.sha256(spki[1].content[1:]).digest()[:20]
    authority = cert.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    if ca is not None:
        assert authority.key_identifier == key_identifier(ca)
    assert (authority.authority_cert_issuer, authority.authority_cert_serial_number) == (None, None)
    if crl_url:
        (point,) = cert.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        assert [n.value for n in point.full_name] == [crl_url]


def assert_leaf(
    answer,
    ca,
    *,
    names,
    key="ec-p256",
    usage=0,
    common_name=False,
    crl_url=None,
    chain=(),
    trusted=True,
    tls=True,
    verifiers=True,
):
    """The whole look. `ca`: its certificate; `names`: the SAN in order; `common_name`: the subject is
    exactly CN of this text, None: empty, False: not looked at; `trusted` False: by another CA, whose
    certificate nobody has; `verifiers` False: nobody else is asked about it. Gives the leaf."""
    leaf = answer.leaf
    blocks = answer.cert_blocks
    assert blocks[1:] == [c.public_bytes(Encoding.DER) for c in chain], "another chain"
    signer = ca if trusted else None
    if trusted:
        assert_signed_by(leaf, ca)
        assert_form(blocks[0], ca)
        assert unix_time(leaf.not_valid_after) <= unix_time(ca.not_valid_after)
    else:
        assert leaf.issuer != ca.subject
    assert leaf.not_valid_before <= leaf.not_valid_after
    assert unix_time(leaf.not_valid_after) - unix_time(leaf.not_valid_before) <= 825 * certs.DAY
    assert leaf_kind(answer) == key
    spki = spki_of(blocks[0])
    assert public_part(answer) == spki.whole, "the key is not the leaf's"
    empty = not list(leaf.subject)
    assert_extensions(leaf, spki, key=key, usage=usage, subject_is_empty=empty, crl_url=crl_url, ca=signer)
    assert answer.sans == list(names)
    if common_name is None:
        assert empty, leaf.subject
    elif common_name is not False:
        (only,) = leaf.subject
        assert (only.oid.dotted_string, only.value) == (certs.COMMON_NAME, common_name)
    if trusted and verifiers:
        now = datetime.datetime.utcnow()
        current = leaf.not_valid_before <= now <= leaf.not_valid_after
        hosts = [probe_host(n) for n in names]
        assert_openssl(answer, ca, hosts[:3], any_time=not current)
        if tls and current and usage in (0, 1) and key != "sm2":  # OpenSSL has no TLS with SM2
            handshake(answer, ca, hosts[0])
    return leaf


def probe_host(name):
    """A host that a SAN name stands for."""
    return "probe" + name[1:] if name.startswith("*") else name


def is_address(host):
    try:
        ipaddress.ip_address(host)
        return True
    except ValueError:
        return False


def pem_of(cert):
    return cert.public_bytes(Encoding.PEM).decode()


def assert_openssl(answer, ca, hosts, any_time=False):
    """openssl verify, as strict as it can be, trusting the CA alone. `any_time`: dates do not count."""
    with tempfile.TemporaryDirectory(prefix="leafd-verify-") as name:
        folder = pathlib.Path(name)
        (folder / "ca.pem").write_text(pem_of(ca))
        blocks = answer.cert_blocks
        (folder / "leaf.pem").write_text(certs.pem(blocks[0]))
        command = [
            "openssl",
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-CAfile",
            str(folder / "ca.pem"),
            "-no-CApath",
        ]
        if len(blocks) > 1:
            (folder / "chain.pem").write_text("".join(certs.pem(b) for b in blocks[1:]))
            command += ["-untrusted", str(folder / "chain.pem")]
        if any_time:
            command += ["-no_check_time"]
        for host in hosts:
            named = ["-verify_ip" if is_address(host) else "-verify_hostname", host]
            done = subprocess.run(
                [*command, *named, str(folder / "leaf.pem")], capture_output=True, text=True, timeout=120
            )
            assert done.returncode == 0, done.stdout + done.stderr


def handshake(answer, ca, host):
    """A TLS handshake in memory: a server with the returned pair, a client that trusts the CA alone.
    ssl.SSLError when the client does not accept it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile(mode="w", prefix="leafd-pair-", suffix=".pem") as file:
        file.write("".join(certs.pem(b) for b in answer.cert_blocks))
        file.write(answer.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
        file.flush()
        server.load_cert_chain(file.name)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=pem_of(ca))
    client.hostname_checks_common_name = False
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(down, up, server_hostname=host),
        server.wrap_bio(up, down, server_side=True),
    ]
    for _ in range(10):
        waiting = 0
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                waiting += 1
        if not waiting:
            return ends[0].version()
    raise AssertionError("the handshake does not end")
