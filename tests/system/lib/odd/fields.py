# SPDX-License-Identifier: Apache-2.0
"""Version, unique identifiers, serial number, signature, issuer and dates."""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .. import certs, der
from ..certs import DAY
from . import ADDRESS, ADDRESS_6, HOST, OTHER, Shown, algorithm, cn, extension, family

YEAR = 365 * DAY


@family
def ordinary(world):
    leaf = world.leaf
    yield "good", leaf()
    yield "good-wildcard", leaf(["*.example.org"])
    yield "good-two-names", leaf([OTHER, HOST])
    yield "good-capitals", leaf([HOST.upper()])
    yield "good-ipv4", Shown(leaf([ADDRESS]), ADDRESS)
    yield "good-ipv6", Shown(leaf([ADDRESS_6]), ADDRESS_6)
    yield "good-mixed", leaf([ADDRESS, HOST, ADDRESS_6, OTHER])
    yield "good-no-ku", leaf(ku=None)
    yield "good-no-eku", leaf(eku=None)
    yield "good-no-bc", leaf(bc=None)
    yield "good-san-alone", leaf(ku=None, eku=None, bc=None)
    yield "good-san-critical", leaf(san_critical=True)
    yield "good-eku-critical", leaf(eku=certs.extended_key_usage(certs.SERVER_AUTH, critical=True))
    yield "good-bc-uncritical", leaf(bc=certs.basic_constraints(critical=False))
    yield "good-ku-uncritical", leaf(ku=certs.key_usage(certs.DIGITAL_SIGNATURE, critical=False))
    yield "good-other-name", leaf([OTHER])
    yield "good-address-only", leaf([ADDRESS])
    yield "good-name-for-address", Shown(leaf(), ADDRESS)
    mapped = der.context(7, bytes(10) + b"\xff\xff\xc0\0\2\7", constructed=False)
    yield "good-mapped-address", Shown(leaf([mapped]), ADDRESS)
    yield "good-wildcard-deeper", leaf(["*." + HOST])
    yield "good-wildcard-below", leaf(["*.deep.example.org"])
    yield "good-cn-beside-san", leaf([OTHER], subject=cn(HOST))


def version(octets):
    return der.context(0, der.tlv(0x02, octets))


@family
def versions(world):
    leaf = world.leaf
    by_cn = {"names": None, "subject": cn(HOST), "extensions": b""}
    yield "version-1-cn", leaf(version=b"", **by_cn)
    yield "version-2-cn", leaf(version=version(b"\1"), **by_cn)
    yield "version-1-written", leaf(version=version(b"\0"), **by_cn)
    yield "version-1-extensions", leaf(version=b"")
    yield "version-2-extensions", leaf(version=version(b"\1"))
    yield "version-1-untrusted", leaf(version=b"", extra=[extension("1.3.6.1.4.1.55555.1", der.NULL, True)])
    yield "version-1-nothing", leaf(None, version=b"", subject=certs.name((certs.ORGANIZATION, HOST)), extensions=b"")
    yield "version-4", leaf(version=version(b"\3"))
    yield "version-256", leaf(version=version(b"\1\0"))
    yield "version-long-form", leaf(version=version(b"\0\2"))
    yield "version-negative", leaf(version=version(b"\xfe"))
    yield "version-huge", leaf(version=version(b"\1\0\0\0\2"))
    yield "version-no-octets", leaf(version=version(b""))
    yield "version-twice", leaf(version=version(b"\2") * 2)
    issuer_id, subject_id = (der.context(n, b"\0unique", constructed=False) for n in (1, 2))
    yield "unique-ids", leaf(unique=issuer_id + subject_id)
    yield "unique-id-issuer", leaf(unique=issuer_id)
    yield "unique-id-subject", leaf(unique=subject_id)
    yield "unique-ids-version-2", leaf(version=version(b"\1"), unique=issuer_id + subject_id, **by_cn)
    yield "unique-id-version-1", leaf(version=b"", unique=issuer_id, **by_cn)
    yield "unique-id-padding", leaf(unique=der.context(1, b"\4\xff", constructed=False))
    yield "unique-ids-reversed", leaf(unique=subject_id + issuer_id)


@family
def serials(world):
    def leaf(octets):
        return world.leaf(serial=der.tlv(0x02, octets))

    yield "serial-one", leaf(b"\1")
    yield "serial-zero", leaf(b"\0")
    yield "serial-minus-one", leaf(b"\xff")
    yield "serial-negative", leaf(b"\xff" + b"s" * 19)
    yield "serial-20", leaf(b"s" * 20)
    yield "serial-21", leaf(b"\0" + b"\xf3" * 20)
    yield "serial-1000", leaf(b"s" * 1000)
    yield "serial-long-form", leaf(b"\0\x12")
    yield "serial-long-zero", leaf(b"\0\0\0")
    yield "serial-long-negative", leaf(b"\xff\x80")
    yield "serial-no-octets", leaf(b"")
    yield "serial-other-type", world.leaf(serial=der.octets(b"\x12"))


def pss(*parameters):
    return algorithm("1.2.840.113549.1.1.10", *parameters)


def pss_with(digest, *more):
    return pss(der.seq(der.context(0, algorithm(digest, der.NULL)), *more))


SHA1, SHA256, SHA512 = "1.3.14.3.2.26", "2.16.840.1.101.3.4.2.1", "2.16.840.1.101.3.4.2.3"
MGF1 = "1.2.840.113549.1.1.8"
RSA = "1.2.840.113549.1.1."

ALGORITHMS = {
    "rsa-sha224": algorithm(RSA + "14", der.NULL),
    "rsa-sha256": algorithm(RSA + "11", der.NULL),
    "rsa-sha384": algorithm(RSA + "12", der.NULL),
    "rsa-sha512": algorithm(RSA + "13", der.NULL),
    "rsa-sha3": algorithm("2.16.840.1.101.3.4.3.14", der.NULL),
    "rsa-no-null": algorithm(RSA + "11"),
    "ecdsa-sha224": algorithm("1.2.840.10045.4.3.1"),
    "ecdsa-sha384": algorithm("1.2.840.10045.4.3.3"),
    "ecdsa-sha512": algorithm("1.2.840.10045.4.3.4"),
    "ed25519": algorithm("1.3.101.112"),
    "ed448": algorithm("1.3.101.113"),
    "pss-sha256": pss_with(SHA256, der.context(1, algorithm(MGF1, algorithm(SHA256, der.NULL)))),
    "pss-sha512": pss_with(SHA512, der.context(1, algorithm(MGF1, algorithm(SHA512, der.NULL)))),
    "pss-mgf-sha1": pss_with(SHA256),
    "dsa-sha256": algorithm("2.16.840.1.101.3.4.3.2"),
    "sm2": algorithm("1.2.156.10197.1.501"),
    "gost": algorithm("1.2.643.7.1.1.3.2"),
    "ml-dsa": algorithm("2.16.840.1.101.3.4.3.17"),
    "unknown": algorithm("1.3.6.1.4.1.55555.2"),
    "md2": algorithm(RSA + "2", der.NULL),
    "md4": algorithm(RSA + "3", der.NULL),
    "md5": algorithm(RSA + "4", der.NULL),
    "sha1": algorithm(RSA + "5", der.NULL),
    "ecdsa-sha1": algorithm("1.2.840.10045.4.1"),
    "ecdsa-specified-sha1": algorithm("1.2.840.10045.4.3", algorithm(SHA1)),
    "ecdsa-specified-sha256": algorithm("1.2.840.10045.4.3", algorithm(SHA256)),
    "ecdsa-plain-sha1": algorithm("0.4.0.127.0.7.1.1.4.1.1"),
    "dsa-sha1": algorithm("1.2.840.10040.4.3"),
    "pss-default": pss(),
    "pss-empty": pss(der.seq()),
    "pss-sha1": pss_with(SHA1),
    "pss-md2": pss_with("1.2.840.113549.2.2"),
    "pss-md4": pss_with("1.2.840.113549.2.4"),
    "pss-md5": pss_with("1.2.840.113549.2.5"),
    "oiw-md4": algorithm("1.3.14.3.2.2", der.NULL),
    "oiw-md5": algorithm("1.3.14.3.2.3", der.NULL),
    "oiw-md4-encryption": algorithm("1.3.14.3.2.4", der.NULL),
    "oiw-dsa-sha": algorithm("1.3.14.3.2.13"),
    "oiw-rsa-sha": algorithm("1.3.14.3.2.15", der.NULL),
    "oiw-md2": algorithm("1.3.14.3.2.24", der.NULL),
    "oiw-md5-signature": algorithm("1.3.14.3.2.25", der.NULL),
    "oiw-dsa-sha1": algorithm("1.3.14.3.2.27"),
    "oiw-sha1": algorithm("1.3.14.3.2.29", der.NULL),
    "odd-parameters": algorithm(RSA + "11", der.tlv(0x01, b"\x55")),
    "bad-parameters": algorithm(RSA + "11", der.tlv(0x01, b"\x55\x55")),
    "no-algorithm": der.seq(),
    "bad-algorithm": der.seq(der.tlv(0x06, b"\x80\x01")),
}


@family
def signatures(world):
    leaf = world.leaf
    md5, sha256, sha384 = (ALGORITHMS[name] for name in ("md5", "rsa-sha256", "rsa-sha384"))
    for name, der_of_it in ALGORITHMS.items():
        yield f"signature-{name}", leaf(algorithm=der_of_it)
    yield "signature-inner-md5", leaf(algorithm=md5, outer=sha256)
    yield "signature-outer-md5", leaf(algorithm=sha256, outer=md5)
    yield "signature-two-algorithms", leaf(algorithm=sha256, outer=sha384)
    yield "signature-null-differs", leaf(algorithm=sha256, outer=ALGORITHMS["rsa-no-null"])
    yield "signature-wrong", leaf(value=der.bits(bytes(70)))
    yield "signature-empty", leaf(value=der.bits(b""))
    yield "signature-unused-bits", leaf(value=der.bits(b"sign\x08", 3))
    yield "signature-padding", leaf(value=der.bits(b"sign\x0f", 3))
    yield "signature-nine-unused", leaf(value=der.bits(b"sign\0\0", 9))
    yield "signature-no-octets", leaf(value=der.tlv(0x03, b""))
    yield "signature-octets", leaf(value=der.octets(b"sign"))
    yield "signature-missing", leaf(value=b"")
    yield "signature-md5-expired", leaf(algorithm=md5, dates=(-60 * DAY, -2 * DAY))
    yield "signature-md5-other-name", leaf([OTHER], algorithm=md5)


@family
def issuers(world):
    leaf = world.leaf
    subject = cn(HOST)
    key = ec.generate_private_key(ec.SECP256R1())
    own = {
        "subject": subject,
        "issuer": subject,
        "key": key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "signer": lambda tbs: key.sign(tbs, ec.ECDSA(hashes.SHA256())),
    }
    yield "self-signed", leaf(**own)
    yield "self-signed-by-name", leaf(subject=subject, issuer=subject)
    yield "self-signed-ca", leaf(**own, bc=True)
    yield "self-signed-expired", leaf(**own, dates=(-60 * DAY, -2 * DAY))
    yield "self-signed-other-name", leaf([OTHER], **own)
    yield "self-signed-version-1", leaf(None, version=b"", extensions=b"", **own)
    yield "self-signed-sha1", leaf(subject=subject, issuer=subject, algorithm=ALGORITHMS["sha1"])

    def issuer(common_name, tag=certs.UTF8, organization="Example"):
        code = {certs.BMP: "utf-16-be", certs.UNIVERSAL: "utf-32-be"}.get(tag, "utf-8")
        text = ((certs.ORGANIZATION, organization), (certs.COMMON_NAME, common_name))
        return certs.name(*((oid, value.encode(code), tag) for oid, value in text))

    for name, given in (
        ("capitals", issuer(HOST.upper(), organization="EXAMPLE")),
        ("spaces", issuer(HOST + "  ", organization=" Example ")),
        ("printable", issuer(HOST, certs.PRINTABLE)),
        ("bmp", issuer(HOST, certs.BMP)),
        ("universal", issuer(HOST, certs.UNIVERSAL)),
    ):
        yield f"self-signed-{name}", leaf(subject=subject, issuer=given)
    yield "self-signed-nameless", leaf(subject=certs.name(), issuer=certs.name())
    yield "self-signed-no-names", leaf([], subject=subject, issuer=subject)
    yield "issuer-empty", leaf(issuer=certs.name())
    yield "issuer-ours", leaf(issuer=world.ca.subject.public_bytes())
    yield "issuer-ampersand", leaf(issuer=certs.name((certs.ORGANIZATION, b"Smith & Co", certs.PRINTABLE)))
    yield "issuer-bad-utf8", leaf(issuer=certs.name((certs.ORGANIZATION, b"\xc0\x80")))
    yield "issuer-no-name", leaf(issuer=der.seq(der.integer(1)))


def utc(text):
    return der.tlv(0x17, text.encode())


def generalized(text):
    return der.tlv(0x18, text.encode())


# Instead of notBefore, where not said otherwise; notAfter is far ahead.
UNREADABLE_TIMES = {
    "before-1950": generalized("19491231235959Z"),
    "year-0": generalized("00000101000000Z"),
    "no-seconds": utc("2601010000Z"),
    "offset": utc("260101000000+0100"),
    "local": utc("260101000000"),
    "fraction": generalized("20500101000000.5Z"),
    "generalized-offset": generalized("20500101000000+0100"),
    "generalized-no-seconds": generalized("205001010000Z"),
    "month-13": utc("261301000000Z"),
    "month-0": utc("260001000000Z"),
    "day-0": utc("260100000000Z"),
    "30-february": utc("240230000000Z"),
    "29-february": utc("250229000000Z"),
    "hour-24": utc("260101240000Z"),
    "minute-60": utc("260101006000Z"),
    "second-60": utc("261231235960Z"),
    "letters": utc("2601O1000000Z"),
    "nul": utc("260101000000Z\0"),
    "empty": utc(""),
    "number": der.integer(0),
}


@family
def dates(world):
    def leaf(start, end):
        return world.leaf(dates=(start, end))

    def leaf_at(first, last):
        return world.leaf(dates=der.seq(first, last))

    def at(seconds):
        """Seconds from now as GeneralizedTime, whatever the year."""
        text = certs.time_of(world.now + seconds)[2:].decode()
        return generalized(text if len(text) == 15 else "20" + text)

    yield "dates-expired", leaf(-60 * DAY, -2 * DAY)
    yield "dates-expired-just-now", leaf(-60 * DAY, -5)
    yield "dates-expired-before-ca", leaf_at(utc("010401120000Z"), utc("020401120000Z"))
    yield "dates-not-yet", leaf(2 * DAY, 60 * DAY)
    yield "dates-not-yet-long", leaf(100 * DAY, 2000 * DAY)
    ca_end = world.ca_end - world.now
    yield "dates-beyond-ca", leaf(ca_end + DAY, ca_end + 90 * DAY)
    yield "dates-over-ca-end", leaf(ca_end - 30 * DAY, ca_end + 30 * DAY)
    yield "dates-inverted-past", leaf(-10 * DAY, -40 * DAY)
    yield "dates-inverted-future", leaf(40 * DAY, 10 * DAY)
    yield "dates-inverted-around", leaf(30 * DAY, -30 * DAY)
    yield "dates-equal-past", leaf(-DAY, -DAY)
    yield "dates-equal-future", leaf(DAY, DAY)
    yield "dates-824-days", leaf(-DAY, 823 * DAY)
    yield "dates-825-days", leaf(-2 * DAY, 823 * DAY)
    yield "dates-826-days", leaf(-2 * DAY, 824 * DAY)
    yield "dates-10-years", leaf(-5 * YEAR, 5 * YEAR)
    yield "dates-10-years-new", leaf(-3600, 10 * YEAR - 3600)
    yield "dates-10-years-ending", leaf(100 * DAY - 10 * YEAR, 100 * DAY)
    yield "dates-10-years-expired", leaf(-100 * DAY - 10 * YEAR, -100 * DAY)
    yield "dates-10-years-not-yet", leaf(100 * DAY, 100 * DAY + 10 * YEAR)
    yield "dates-to-9999", leaf_at(certs.time_of(world.now - 30 * DAY), generalized("99991231235959Z"))
    yield "dates-1950-to-9999", leaf_at(utc("500101000000Z"), generalized("99991231235959Z"))
    yield "dates-1950", leaf_at(utc("500101000000Z"), utc("501231235959Z"))
    yield "dates-utc-49", leaf_at(utc("500101000000Z"), utc("491231235959Z"))
    yield "dates-leap-day", leaf_at(utc("240229000000Z"), utc("240301235959Z"))
    yield "dates-generalized", leaf_at(at(-30 * DAY), at(60 * DAY))
    yield "dates-generalized-expired", leaf_at(at(-30 * DAY), at(-DAY))
    yield "dates-mixed", leaf_at(at(-30 * DAY), certs.time_of(world.now + 60 * DAY))
    later = generalized("20510101000000Z")
    for name, bad in UNREADABLE_TIMES.items():
        yield f"dates-{name}", leaf_at(bad, later)
    yield "dates-one", world.leaf(dates=der.seq(later))
    yield "dates-three", world.leaf(dates=der.seq(later, later, later))
