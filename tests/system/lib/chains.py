# SPDX-License-Identifier: Apache-2.0
"""CAs above leafd's, with keys in our memory: roots, and what they sign below themselves."""

import datetime
import types

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from . import certs, der
from .authority import CA_USAGE

CONSTRAINTS = x509.BasicConstraints(True, None)


class Issuer:
    """A CA. Without a parent it is a root. `basic`, `usage` None: without that extension."""

    def __init__(self, name, parent=None, *, public_key=None, **options):
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = None if public_key else ec.generate_private_key(ec.SECP256R1())
        self.public_key = public_key or self.key.public_key()
        self.cert = (parent or self).sign(self.name, self.public_key, **options)

    def sign(
        self,
        subject,
        public_key,
        *,
        start=-100,
        end=1000,
        basic=CONSTRAINTS,
        usage=CA_USAGE,
        eku=None,
        extra=(),
        sha1=False,
        key=None,
    ):
        """A certificate; `start` and `end` are days from now, `extra` pairs of an extension and critical."""
        now = datetime.datetime.utcnow().replace(microsecond=0)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=start))
            .not_valid_after(now + datetime.timedelta(days=end))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.public_key), critical=False)
        )
        if basic:
            builder = builder.add_extension(basic, critical=True)
        if usage:
            builder = builder.add_extension(usage, critical=True)
        if eku:
            builder = builder.add_extension(x509.ExtendedKeyUsage(eku), critical=False)
        for extension, critical in extra:
            builder = builder.add_extension(extension, critical=critical)
        cert = builder.sign(key or self.key, hashes.SHA256())
        return _with_sha1(cert, key or self.key) if sha1 else cert


def _with_sha1(cert, key):
    """The same with ecdsa-with-SHA1, which newer releases of python's cryptography do not sign with."""
    fields = der.read(cert.tbs_certificate_bytes)[0].children()
    algorithm = certs.SIGNATURES["ecdsa-sha1"]
    whole = [field.whole for field in fields]
    tbs = der.seq(*whole[:2], algorithm, *whole[3:])
    signature = key.sign(tbs, ec.ECDSA(hashes.SHA1()))
    return x509.load_der_x509_certificate(der.seq(tbs, algorithm, der.bits(signature)))


def pem(*certificates):
    return "".join(c.public_bytes(Encoding.PEM).decode() for c in certificates)


def authority(token, label, pem_file):
    """What `start` and `config_of` want of a CA."""
    return types.SimpleNamespace(token=token, label=label, pem_file=pem_file, rsa_padding=None)
