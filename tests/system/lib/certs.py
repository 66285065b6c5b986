# SPDX-License-Identifier: Apache-2.0
"""Upstream leaves, ordinary and odd. Written by hand in DER: leafd looks at what a certificate says,
never at its signature (that is the proxy's duty), so the signature is random, and anything can be said."""

import base64
import datetime
import functools
import ipaddress
import os
import random
import time

from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from . import der

DAY = 86400
COMMON_NAME = "2.5.4.3"
SERIAL_NUMBER = "2.5.4.5"
COUNTRY = "2.5.4.6"
LOCALITY = "2.5.4.7"
ORGANIZATION = "2.5.4.10"
UNIT = "2.5.4.11"
EMAIL = "1.2.840.113549.1.9.1"

UTF8, PRINTABLE, TELETEX, IA5, BMP, UNIVERSAL = 0x0C, 0x13, 0x14, 0x16, 0x1E, 0x1C

SKI_OID, KU_OID, SAN_OID, BC_OID = "2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19"
CRL_OID, POLICIES_OID, AKI_OID, EKU_OID = "2.5.29.31", "2.5.29.32", "2.5.29.35", "2.5.29.37"
NAME_CONSTRAINTS_OID, AIA_OID = "2.5.29.30", "1.3.6.1.5.5.7.1.1"
TLS_FEATURE_OID = "1.3.6.1.5.5.7.1.24"
SM2_OID = "1.2.156.10197.1.301"
POISON_OID = "1.3.6.1.4.1.11129.2.4.3"

SERVER_AUTH, CLIENT_AUTH = "1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"
OCSP_SIGNING, ANY_EKU = "1.3.6.1.5.5.7.3.9", "2.5.29.37.0"

DIGITAL_SIGNATURE, NON_REPUDIATION, KEY_ENCIPHERMENT = 0x80, 0x40, 0x20
DATA_ENCIPHERMENT, KEY_AGREEMENT, KEY_CERT_SIGN = 0x10, 0x08, 0x04


def _pss(digest):
    return der.seq(der.oid("1.2.840.113549.1.1.10"), der.seq(der.context(0, der.seq(der.oid(digest), der.NULL))))


SIGNATURES = {
    "ecdsa-sha256": der.seq(der.oid("1.2.840.10045.4.3.2")),
    "ecdsa-sha1": der.seq(der.oid("1.2.840.10045.4.1")),
    "rsa-sha256": der.seq(der.oid("1.2.840.113549.1.1.11"), der.NULL),
    "rsa-sha1": der.seq(der.oid("1.2.840.113549.1.1.5"), der.NULL),
    "rsa-md5": der.seq(der.oid("1.2.840.113549.1.1.4"), der.NULL),
    "rsa-md2": der.seq(der.oid("1.2.840.113549.1.1.2"), der.NULL),
    "pss-sha256": _pss("2.16.840.1.101.3.4.2.1"),
    "pss-md2": _pss("1.2.840.113549.2.2"),
    "pss-md4": _pss("1.2.840.113549.2.4"),
    "pss-md5": _pss("1.2.840.113549.2.5"),
}

CURVES = {
    "ec-p224": ec.SECP224R1,
    "ec-p256": ec.SECP256R1,
    "ec-p384": ec.SECP384R1,
    "ec-p521": ec.SECP521R1,
    "ec-secp256k1": ec.SECP256K1,
    "ec-brainpool256": ec.BrainpoolP256R1,
}

_random = random.SystemRandom()


def _rsa_spki(bits_count):
    modulus = _random.getrandbits(bits_count) | 1 << (bits_count - 1) | 1
    return der.seq(
        der.seq(der.oid("1.2.840.113549.1.1.1"), der.NULL),
        der.bits(der.seq(der.integer(modulus), der.integer(65537))),
    )


def _dsa_spki():
    p, q, g = (_random.getrandbits(n) | 1 << (n - 1) | 1 for n in (2048, 256, 2047))
    parameters = der.seq(der.integer(p), der.integer(q), der.integer(g))
    return der.seq(der.seq(der.oid("1.2.840.10040.4.1"), parameters), der.bits(der.integer(g - 2)))


def _explicit_curve_spki():
    """P-256 with its parameters spelled out instead of named."""
    p = 2**256 - 2**224 + 2**192 + 2**96 - 1
    field = der.seq(der.oid("1.2.840.10045.1.1"), der.integer(p))
    curve = der.seq(der.octets((p - 3).to_bytes(32, "big")), der.octets(os.urandom(32)))
    parameters = der.seq(
        der.integer(1), field, curve, der.octets(b"\x04" + os.urandom(64)), der.integer(p - 2), der.integer(1)
    )
    return der.seq(der.seq(der.oid("1.2.840.10045.2.1"), parameters), der.bits(b"\x04" + os.urandom(64)))


def _unknown_curve_spki():
    return der.seq(der.seq(der.oid("1.2.840.10045.2.1"), der.oid("1.3.132.0.99")), der.bits(b"\x04" + os.urandom(64)))


def _sm2_spki():
    """The public key of the example in GB/T 32918.5."""
    x = "09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020"
    y = "CCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13"
    return der.seq(
        der.seq(der.oid("1.2.840.10045.2.1"), der.oid(SM2_OID)), der.bits(b"\x04" + bytes.fromhex(x + y))
    )


@functools.lru_cache(maxsize=None)
def spki(kind):
    """A SubjectPublicKeyInfo: rsa-BITS, ec-CURVE, ed25519, ed448, sm2, dsa, ec-explicit, ec-unknown."""
    if kind.startswith("rsa-"):
        return _rsa_spki(int(kind[4:]))
    if kind in CURVES:
        key = ec.generate_private_key(CURVES[kind]()).public_key()
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if kind in ("ed25519", "ed448"):
        maker = {"ed25519": ed25519.Ed25519PrivateKey, "ed448": ed448.Ed448PrivateKey}[kind]
        key = maker.generate().public_key()
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {"dsa": _dsa_spki, "sm2": _sm2_spki, "ec-explicit": _explicit_curve_spki, "ec-unknown": _unknown_curve_spki}[kind]()


def attribute(kind, value, tag=UTF8):
    data = value if isinstance(value, bytes) else value.encode("ascii" if tag in (PRINTABLE, IA5) else "utf-8")
    return der.set_of(der.seq(der.oid(kind), der.tlv(tag, data)))


def name(*attributes):
    """A Name: pairs (OID, text), triples with a string tag, or whole RDNs."""
    return der.seq(*(a if isinstance(a, bytes) else attribute(*a) for a in attributes))


def dns(text):
    return der.context(2, text if isinstance(text, bytes) else text.encode(), constructed=False)


def ip(text):
    return der.context(7, ipaddress.ip_address(text).packed, constructed=False)


def general_name(item):
    """Whole GeneralNames pass; addresses and host names are encoded."""
    if isinstance(item, bytes):
        return item
    try:
        return ip(item)
    except ValueError:
        return dns(item)


def extension(kind, value, critical=False):
    parts = [der.oid(kind)] + ([der.boolean(True)] if critical else []) + [der.octets(value)]
    return der.seq(*parts)


def san(names, critical=False):
    return extension(SAN_OID, der.seq(*(general_name(n) for n in names)), critical)


def key_usage(flags, critical=True):
    unused = (flags & -flags).bit_length() - 1 if flags else 0
    return extension(KU_OID, der.bits(bytes([flags]), unused) if flags else der.bits(b""), critical)


def extended_key_usage(*purposes, critical=False):
    return extension(EKU_OID, der.seq(*(der.oid(p) for p in purposes)), critical)


def basic_constraints(ca=False, critical=True):
    return extension(BC_OID, der.seq(*([der.boolean(True)] if ca else [])), critical)


def time_of(at):
    """UTCTime to 2049, then GeneralizedTime. `at`: seconds since 1970."""
    when = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=at)
    if 1950 <= when.year < 2050:
        return der.tlv(0x17, when.strftime("%y%m%d%H%M%SZ").encode())
    return der.tlv(0x18, f"{when.year:04}{when:%m%d%H%M%S}Z".encode())


ISSUER = name((COUNTRY, "XX", PRINTABLE), (ORGANIZATION, "Somebody Else"), (COMMON_NAME, "Somebody Else CA 1"))


def upstream(
    names=("www.example.org",),
    *,
    key="ec-p256",
    subject=None,
    issuer=ISSUER,
    start=-30 * DAY,
    end=60 * DAY,
    version=3,
    serial=None,
    signature="ecdsa-sha256",
    ku=DIGITAL_SIGNATURE,
    eku=(SERVER_AUTH,),
    ca=False,
    san_critical=False,
    extra=(),
    now=None,
    key_info=None,
    times=None,
):
    """The DER of an upstream leaf. `names` None: no SAN extension; `ku`, `eku`, `ca` None: without that
    extension; `start` and `end` are seconds from now; `extra` are whole extensions put at the end."""
    now = int(time.time()) if now is None else now
    if subject is None:
        first = next((n for n in names or () if isinstance(n, str)), "www.example.org")
        subject = name((ORGANIZATION, "Example"), (COMMON_NAME, first[:64]))
    algorithm = SIGNATURES[signature]
    extensions = []
    if version == 3:
        if ku is not None:
            extensions.append(key_usage(ku))
        if eku is not None:
            extensions.append(extended_key_usage(*eku))
        if ca is not None:
            extensions.append(basic_constraints(ca))
        if names is not None:
            extensions.append(san(names, san_critical))
        extensions.extend(extra)
    tbs = der.seq(
        *([der.context(0, der.integer(version - 1))] if version > 1 else []),
        (
            serial
            if isinstance(serial, bytes)
            else der.integer(_random.getrandbits(120) | 1 << 119 if serial is None else serial)
        ),
        algorithm,
        issuer,
        times or der.seq(time_of(now + start), time_of(now + end)),
        subject,
        key_info or spki(key),
        *([der.context(3, der.seq(*extensions))] if extensions else []),
    )
    return der.seq(tbs, algorithm, der.bits(os.urandom(70)))


def pem(data, label="CERTIFICATE"):
    text = base64.encodebytes(data).decode().replace("\n", "")
    lines = "\n".join(text[i : i + 64] for i in range(0, len(text), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n"


def der_of_pem(text):
    """The content of the first PEM block."""
    return base64.b64decode(text.split("-----\n", 1)[1].split("-----END", 1)[0])
