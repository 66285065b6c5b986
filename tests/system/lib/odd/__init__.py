# SPDX-License-Identifier: Apache-2.0
"""Builds the odd upstream certificates of man/upstreams.table: one for each id there.

Each file here holds families: generators that give (id, certificate), where a certificate is what `cert`
of a request may be, or a Shown that says for which host it is asked. `everything(world)` is all of them."""

import collections
import datetime
import os
import random
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from .. import certs, der
from ..certs import DAY

HOST, OTHER = "www.example.org", "www.example.net"
ADDRESS, ADDRESS_6 = "192.0.2.7", "2001:db8::7"

Shown = collections.namedtuple("Shown", "cert host")

FAMILIES = []

# Every run makes the same certificates, but for their dates and signatures.
chance = random.Random(5280)


def family(function):
    FAMILIES.append(function)
    return function


def everything(world):
    """All of them by id: {id: Shown}."""
    from . import extensions, fields, forms, keys, names, subjects  # noqa: F401 (they fill FAMILIES)

    made = {}
    for function in FAMILIES:
        for name, cert in function(world):
            assert name not in made, f"two builders for {name}"
            made[name] = cert if isinstance(cert, Shown) else Shown(cert, HOST)
    return made


ECDSA_HASHES = {
    "1.2.840.10045.4.3.1": hashes.SHA224, "1.2.840.10045.4.3.2": hashes.SHA256,
    "1.2.840.10045.4.3.3": hashes.SHA384, "1.2.840.10045.4.3.4": hashes.SHA512,
    "1.2.840.10045.4.1": hashes.SHA1,
}  # fmt: skip
RSA_HASHES = {
    "1.2.840.113549.1.1.14": hashes.SHA224, "1.2.840.113549.1.1.11": hashes.SHA256,
    "1.2.840.113549.1.1.12": hashes.SHA384, "1.2.840.113549.1.1.13": hashes.SHA512,
    "1.2.840.113549.1.1.5": hashes.SHA1, "1.2.840.113549.1.1.4": hashes.MD5,
}  # fmt: skip


def algorithm(oid, *parameters):
    return der.seq(der.oid(oid), *parameters)


ECDSA_SHA256 = algorithm("1.2.840.10045.4.3.2")
RSA_SHA256 = algorithm("1.2.840.113549.1.1.11", der.NULL)


class Root:
    """Somebody's root, with a key of its own: its name, its certificate, and signatures that are right."""

    def __init__(self, common_name, key, now):
        self.key = key
        self.hashes = ECDSA_HASHES if isinstance(key, ec.EllipticCurvePrivateKey) else RSA_HASHES
        self.name = certs.name((certs.ORGANIZATION, "Somebody Else"), (certs.COMMON_NAME, common_name))
        name = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Somebody Else"),
                x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            ]
        )
        date = datetime.datetime.utcfromtimestamp
        self.cert = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(date(now - 12000 * DAY))
            .not_valid_after(date(now + 12000 * DAY))
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .add_extension(
                x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )

    @property
    def der(self):
        return self.cert.public_bytes(certs.Encoding.DER)

    @property
    def key_id(self):
        return self.cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest

    def can(self, oid):
        return oid in self.hashes

    def sign(self, oid, tbs):
        digest = self.hashes[oid]()
        if isinstance(self.key, ec.EllipticCurvePrivateKey):
            return self.key.sign(tbs, ec.ECDSA(digest))
        return self.key.sign(tbs, padding.PKCS1v15(), digest)


class World:
    """What the certificates are made in: the time, leafd's CA, and the roots of the upstream servers."""

    def __init__(self, ca, now=None):
        self.now = int(time.time()) if now is None else now
        self.ca = ca
        self.ca_end = int(ca.not_valid_after.replace(tzinfo=datetime.timezone.utc).timestamp())
        self.roots = [
            Root("Somebody Else Root E1", ec.generate_private_key(ec.SECP256R1()), self.now),
            Root("Somebody Else Root R1", rsa.generate_private_key(65537, 2048), self.now),
        ]
        self.root = self.roots[0]

    def root_of(self, oid):
        return next((root for root in self.roots if root.can(oid)), self.root)

    def dates(self, start, end):
        """A Validity, of seconds from now."""
        return der.seq(certs.time_of(self.now + int(start)), certs.time_of(self.now + int(end)))

    def leaf(self, names=(HOST,), **changes):
        """DER of a certificate that is good but for the changes (see fields_of and finish)."""
        return self.finish(self.fields_of(names, **changes), **self.outer_of(changes))

    @staticmethod
    def outer_of(changes):
        return {key: changes[key] for key in ("outer", "value", "inside", "behind", "signer") if key in changes}

    def fields_of(
        self,
        names=(HOST,),
        *,
        version=der.context(0, der.integer(2)),
        serial=None,
        algorithm=ECDSA_SHA256,
        issuer=None,
        dates=(-30 * DAY, 60 * DAY),
        subject=None,
        key="ec-p256",
        unique=b"",
        ku=certs.DIGITAL_SIGNATURE,
        eku=(certs.SERVER_AUTH,),
        bc=False,
        san_critical=False,
        extra=(),
        extensions=None,
        **_,
    ):
        """The elements of the TBSCertificate, in order. `ku`: flags, a whole extension or None; so `eku`,
        `bc`; `names` None: no subject alternative names; `extensions`: what stands at the end, whole."""
        if subject is None:
            first = next((n for n in names or () if isinstance(n, str)), HOST)
            subject = certs.name((certs.ORGANIZATION, "Example"), (certs.COMMON_NAME, first[:64]))
        if extensions is None:
            wanted = [
                certs.key_usage(ku) if isinstance(ku, int) else ku,
                eku if isinstance(eku, bytes) or eku is None else certs.extended_key_usage(*eku),
                certs.basic_constraints(bc) if isinstance(bc, bool) else bc,
                None if names is None else certs.san(names, san_critical),
                *extra,
            ]
            wanted = [extension for extension in wanted if extension is not None]
            extensions = der.context(3, der.seq(*wanted)) if wanted else b""
        name = der.read(algorithm)[0]
        oid = dotted(name[0].content) if name.tag == 0x30 and name.content[:1] == b"\x06" else ""
        return [
            version,
            der.integer(chance.getrandbits(120) | 1 << 119) if serial is None else serial,
            algorithm,
            self.root_of(oid).name if issuer is None else issuer,
            self.dates(*dates) if isinstance(dates, tuple) else dates,
            subject,
            certs.spki(key) if isinstance(key, str) else key,
            unique,
            extensions,
        ]

    def finish(self, fields, *, outer=None, value=None, inside=b"", behind=b"", signer=None):
        """The Certificate around these fields, signed by the root of its algorithm if that knows it.
        `outer`: the algorithm outside, `value`: the BIT STRING instead of a right one."""
        tbs = der.seq(*fields)
        outer = fields[2] if outer is None else outer
        if value is None:
            value = der.bits(self.signature(outer, tbs, signer))
        return der.seq(tbs, outer, value, inside) + behind

    def signs(self, cert):
        """Can one of the roots make signatures of this certificate's algorithm?"""
        return any(root.can(dotted(der.read(cert)[0][1][0].content)) for root in self.roots)

    def signature(self, algorithm_der, tbs, signer):
        try:
            oid = dotted(der.read(algorithm_der)[0][0].content)
        except (IndexError, ValueError):
            oid = ""
        if signer is not None:
            return signer(tbs)
        root = self.root_of(oid)
        return root.sign(oid, tbs) if root.can(oid) else os.urandom(70)


def dotted(content):
    """An object identifier's octets as text; "" for what is none."""
    arcs, arc = [], 0
    for octet in content:
        arc = arc << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(arc)
            arc = 0
    if not arcs:
        return ""
    top = min(arcs[0] // 40, 2)
    return ".".join(map(str, [top, arcs[0] - 40 * top, *arcs[1:]]))


def cn(text, tag=certs.UTF8):
    """A subject of an O and this CN."""
    return certs.name((certs.ORGANIZATION, "Example"), (certs.COMMON_NAME, text, tag))


def extension(oid, value, critical=False):
    return certs.extension(oid, value, critical)
