# SPDX-License-Identifier: Apache-2.0
"""How the whole is written: DER that is none, and PEM."""

import base64
import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from .. import certs, der
from ..certs import DAY
from . import HOST, OTHER, family


def longer(element):
    """The element, its length in one octet more than it needs."""
    whole = der.read(element)[0]
    size = len(whole.content)
    count = 2 if size < 0x80 else (size.bit_length() + 7) // 8 + 1
    if size < 0x80:
        return bytes([whole.tag, 0x81, size]) + whole.content
    return bytes([whole.tag, 0x80 | count]) + size.to_bytes(count, "big") + whole.content


def indefinite(element):
    whole = der.read(element)[0]
    return bytes([whole.tag, 0x80]) + whole.content + b"\0\0"


SERIAL, ISSUER, VALIDITY, SUBJECT = 1, 3, 4, 5


@family
def der_forms(world):
    good = world.leaf()

    def changed(place, change):
        fields = world.fields_of()
        fields[place] = change(fields[place])
        return world.finish(fields)

    yield "der-length-long", longer(good)
    yield "der-length-long-inside", changed(SERIAL, longer)
    yield "der-length-long-extension", world.leaf(
        extra=[der.seq(der.oid("1.3.6.1.4.1.55555.1"), longer(der.octets(der.NULL)))]
    )
    yield "der-length-indefinite", indefinite(good)
    yield "der-length-indefinite-inside", changed(SUBJECT, indefinite)
    yield "der-length-huge", b"\x30\x84\xff\xff\xff\xff" + good[4:]
    yield "der-length-five-octets", b"\x30\x85\1\0\0\0\0" + good[4:]
    yield "der-constructed-signature", world.leaf(value=der.tlv(0x23, der.bits(b"sig"), der.bits(b"nature")))
    yield "der-trailing", world.leaf(behind=bytes(20))
    yield "der-trailing-certificate", world.leaf(behind=world.leaf([OTHER]))
    yield "der-trailing-inside", world.leaf(inside=der.NULL)
    yield "der-trailing-tbs", world.finish([*world.fields_of(), der.NULL])
    fields = world.fields_of()
    fields[ISSUER], fields[VALIDITY] = fields[VALIDITY], fields[ISSUER]
    yield "der-fields-swapped", world.finish(fields)
    yield "der-no-serial", changed(SERIAL, lambda whole: b"")
    yield "der-tbs-alone", der.seq(*world.fields_of())
    yield "der-cut-1", good[:1]
    yield "der-cut-100", good[:100]
    yield "der-cut-last", good[:-1]
    yield "der-set", b"\x31" + good[1:]
    yield "der-three-numbers", der.seq(der.integer(1), der.integer(2), der.integer(3))
    yield "der-nested-deep", der.seq(b"\x30\x82\x10\x00" * 1000)
    nested = b""
    for _ in range(1000):
        nested = der.seq(nested)
    yield "der-nested-extension", world.leaf(extra=[certs.extension("1.3.6.1.4.1.55555.1", nested)])
    yield "der-zeros", bytes(500)
    yield "der-empty", b""
    yield "der-nil", None
    yield "der-number", 5


@family
def other_things(world):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    yield "der-request", request.public_bytes(Encoding.DER)
    moment = datetime.datetime.utcfromtimestamp
    crl = x509.CertificateRevocationListBuilder().issuer_name(name)
    crl = crl.last_update(moment(world.now)).next_update(moment(world.now + DAY)).sign(key, hashes.SHA256())
    yield "der-crl", crl.public_bytes(Encoding.DER)
    yield "der-key", key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    yield "der-ca", world.ca.public_bytes(Encoding.DER)


def lines(data, size):
    text = base64.b64encode(data).decode()
    return "\n".join(text[i : i + size] for i in range(0, len(text), size))


BEGIN, END = "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n"


@family
def pem_forms(world):
    good, other = world.leaf(), world.leaf([OTHER])
    pem = certs.pem(good)
    yield "pem", pem
    yield "pem-bin", pem.encode()
    yield "pem-crlf", pem.replace("\n", "\r\n")
    yield "pem-long-lines", f"{BEGIN}{lines(good, 1 << 20)}\n{END}"
    yield "pem-short-lines", f"{BEGIN}{lines(good, 16)}\n{END}"
    yield "pem-text-before", f"Subject: CN={HOST}\nIssuer: Somebody Else\n\n{pem}"
    yield "pem-text-after", f"{pem}\nThat was it.\n"
    yield "pem-two", pem + certs.pem(other)
    yield "pem-two-reversed", certs.pem(other) + pem
    yield "pem-key-before", certs.pem(b"no key of anybody", "PRIVATE KEY") + pem
    yield "pem-x509", certs.pem(good, "X509 CERTIFICATE")
    trust = der.seq(der.seq(der.oid("1.3.6.1.5.5.7.3.1")))
    yield "pem-trusted", certs.pem(good + trust, "TRUSTED CERTIFICATE")
    yield "pem-expired", certs.pem(world.leaf(dates=(-60 * DAY, -2 * DAY)))
    yield "pem-label-wrong", certs.pem(good, "CERTIFICATE REQUEST")
    yield "pem-labels-differ", pem.replace("END CERTIFICATE", "END X509 CRL")
    yield "pem-no-end", pem.replace(END, "")
    yield "pem-empty", BEGIN + END
    yield "pem-bad-base64", pem.replace("\nM", "\n!", 1) if "\nM" in pem else pem.replace("\n", "\n!", 1)
    yield "pem-cut", f"{BEGIN}{lines(good, 64)[:-2]}\n{END}"
    yield "pem-der-in-str", BEGIN.encode() + good + b"\n" + END.encode()
    yield "pem-text", "www.example.org"
