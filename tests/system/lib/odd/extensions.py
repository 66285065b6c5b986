# SPDX-License-Identifier: Apache-2.0
"""Extensions: basic constraints, key usage, extended key usage, and all the others."""

from .. import certs, der
from ..certs import DAY
from . import HOST, OTHER, chance, cn, extension, family
from .names import dns

TRUE, FALSE = der.boolean(True), der.boolean(False)
PURPOSE = "1.3.6.1.5.5.7.3."
SERVER, CLIENT, CODE, MAIL = (PURPOSE + number for number in "1234")
TIME, OCSP, ANY = PURPOSE + "8", certs.OCSP_SIGNING, certs.ANY_EKU
SGC_MICROSOFT, SGC_NETSCAPE = "1.3.6.1.4.1.311.10.3.3", "2.16.840.1.113730.4.1"
UNKNOWN = "1.3.6.1.4.1.55555."


@family
def basic_constraints(world):
    def leaf(value, critical=True, **changes):
        return world.leaf(bc=extension(certs.BC_OID, value, critical), **changes)

    zero = der.integer(0)
    yield "bc-false-written", leaf(der.seq(FALSE))
    yield "bc-true", leaf(der.seq(TRUE))
    yield "bc-true-uncritical", leaf(der.seq(TRUE), False)
    yield "bc-true-pathlen", leaf(der.seq(TRUE, zero))
    yield "bc-true-cert-sign", leaf(der.seq(TRUE), ku=certs.DIGITAL_SIGNATURE | certs.KEY_CERT_SIGN)
    yield "bc-true-cert-sign-alone", leaf(der.seq(TRUE), ku=certs.KEY_CERT_SIGN)
    yield "bc-true-expired", leaf(der.seq(TRUE), dates=(-60 * DAY, -2 * DAY))
    yield "bc-true-is-01", leaf(der.seq(der.boolean(True, b"\1")))
    yield "bc-pathlen-alone", leaf(der.seq(zero))
    yield "bc-pathlen-negative", leaf(der.seq(TRUE, der.integer(-1)))
    yield "bc-pathlen-empty", leaf(der.seq(TRUE, der.tlv(0x02)))
    yield "bc-boolean-long", leaf(der.seq(der.tlv(0x01, b"\xff\xff")))
    yield "bc-trailing", leaf(der.seq() + der.NULL)
    yield "bc-third-field", leaf(der.seq(TRUE, zero, der.NULL))
    yield "bc-empty", leaf(b"")
    yield "bc-garbage-uncritical", leaf(der.integer(5), False)
    yield "bc-twice", world.leaf(extra=[certs.basic_constraints()])
    yield "bc-twice-ca", world.leaf(extra=[certs.basic_constraints(True)])


@family
def key_usages(world):
    def leaf(*octets, unused=0, whole=None, critical=True, **changes):
        value = der.bits(bytes(octets), unused) if whole is None else whole
        return world.leaf(ku=extension(certs.KU_OID, value, critical), **changes)

    names = (
        "digital-signature", "non-repudiation", "key-encipherment", "data-encipherment", "key-agreement",
        "cert-sign", "crl-sign", "encipher-only",
    )  # fmt: skip
    for bit, name in enumerate(names):
        yield f"ku-{name}", leaf(0x80 >> bit, unused=7 - bit)
    yield "ku-decipher-only", leaf(0, 0x80, unused=7)
    yield "ku-signing-bits", leaf(0x46, unused=1)
    yield "ku-web", leaf(0xA0, unused=5)
    yield "ku-agreement-decipher", leaf(0x08, 0x80, unused=7)
    yield "ku-all", leaf(0xFF, 0x80, unused=7)
    yield "ku-rsa-encipherment", leaf(0x20, unused=5, key="rsa-2048")
    yield "ku-none", leaf()
    yield "ku-zeros", leaf(0)
    yield "ku-not-minimal", leaf(0x80)
    yield "ku-three-octets", leaf(0x80, 0, 0)
    yield "ku-padding", leaf(0xFF, unused=7)
    yield "ku-padding-alone", leaf(0x7F, unused=7)
    yield "ku-nine-unused", leaf(0x80, 0, unused=9)
    yield "ku-unused-of-none", leaf(unused=3)
    yield "ku-no-octets", leaf(whole=der.tlv(0x03))
    yield "ku-integer", leaf(whole=der.integer(0x80))
    yield "ku-integer-uncritical", leaf(whole=der.integer(0x80), critical=False)
    yield "ku-trailing", leaf(whole=der.bits(b"\x80", 7) + der.NULL)
    yield "ku-empty", leaf(whole=b"")
    yield "ku-twice", world.leaf(extra=[certs.key_usage(certs.DIGITAL_SIGNATURE)])
    yield "ku-twice-good-and-bad", world.leaf(
        ku=certs.key_usage(certs.KEY_CERT_SIGN), extra=[certs.key_usage(certs.DIGITAL_SIGNATURE)]
    )


PURPOSES = {
    "server": [SERVER], "any": [ANY], "client": [CLIENT], "code": [CODE], "mail": [MAIL], "time": [TIME],
    "ocsp": [OCSP], "ipsec": [PURPOSE + "5"], "sgc-microsoft": [SGC_MICROSOFT], "sgc-netscape": [SGC_NETSCAPE],
    "unknown": [UNKNOWN + "6"], "arc": [PURPOSE[:-1]], "server-longer": [SERVER + ".1"],
    "server-client": [SERVER, CLIENT], "client-server": [CLIENT, SERVER], "server-ocsp": [SERVER, OCSP],
    "server-code": [SERVER, CODE], "server-sgc": [SERVER, SGC_MICROSOFT, SGC_NETSCAPE],
    "client-any": [CLIENT, ANY], "client-ocsp": [CLIENT, OCSP], "server-twice": [SERVER, SERVER],
    "hundred": [*(f"{UNKNOWN}7.{n}" for n in range(99)), SERVER], "list-empty": [],
}  # fmt: skip


@family
def extended_key_usages(world):
    def leaf(value):
        return world.leaf(eku=extension(certs.EKU_OID, value))

    server = der.oid(SERVER)
    for name, purposes in PURPOSES.items():
        yield f"eku-{name}", world.leaf(eku=purposes)
    yield "eku-client-critical", world.leaf(eku=certs.extended_key_usage(CLIENT, critical=True))
    yield "eku-any-critical", world.leaf(eku=certs.extended_key_usage(ANY, critical=True))
    yield "eku-empty", leaf(b"")
    yield "eku-not-a-list", leaf(server)
    yield "eku-not-oids", leaf(der.seq(server, der.integer(1)))
    yield "eku-bad-oid", leaf(der.seq(server, der.tlv(0x06, b"\x80\x01")))
    yield "eku-trailing", leaf(der.seq(server) + der.NULL)
    yield "eku-twice", world.leaf(extra=[certs.extended_key_usage(SERVER)])
    yield "eku-twice-good-and-bad", world.leaf(eku=[CLIENT], extra=[certs.extended_key_usage(SERVER)])
    yield "eku-client-expired", world.leaf(eku=[CLIENT], dates=(-60 * DAY, -2 * DAY))
    yield "eku-client-other-name", world.leaf([OTHER], eku=[CLIENT])


@family
def forms_of_extensions(world):
    def leaf(*whole):
        return world.leaf(extra=whole)

    oid, value = der.oid(UNKNOWN + "1"), der.octets(der.NULL)
    huge = UNKNOWN + ".".join(["1"] * 292)
    yield "extension-unknown", leaf(der.seq(oid, value))
    yield "extension-unknown-critical", leaf(der.seq(oid, TRUE, value))
    yield "extension-unknown-twice", leaf(der.seq(oid, value), der.seq(oid, value))
    yield "extension-false-written", leaf(der.seq(oid, FALSE, value))
    yield "extension-true-is-01", leaf(der.seq(oid, der.boolean(True, b"\1"), value))
    yield "extension-oid-smallest", leaf(der.seq(der.tlv(0x06, b"\0"), TRUE, value))
    yield "extension-oid-huge", leaf(extension(huge, der.NULL))
    yield "extension-oid-huge-critical", leaf(extension(huge, der.NULL, True))
    for name, octets in (("padded", b"\x2a\x80\x01"), ("cut", b"\x2a\x83"), ("empty", b"")):
        yield f"extension-oid-{name}", leaf(der.seq(der.tlv(0x06, octets), value))
    yield "extension-value-empty", leaf(der.seq(oid, der.octets(b"")))
    yield "extension-value-missing", leaf(der.seq(oid, TRUE))
    yield "extension-value-constructed", leaf(der.seq(oid, der.tlv(0x24, der.octets(b"\x05"), der.octets(b"\0"))))
    yield "extension-boolean-long", leaf(der.seq(oid, der.tlv(0x01, b"\xff\xff"), value))
    yield "extension-trailing", leaf(der.seq(oid, value, der.NULL))
    yield "extension-reversed", leaf(der.seq(oid, value, TRUE))
    many = [extension(f"{UNKNOWN}8.{n}", der.NULL) for n in range(61)]
    yield "extensions-64", leaf(*many[:60])
    yield "extensions-65", leaf(*many)
    yield "extensions-none", world.leaf(None, subject=cn(HOST), extensions=der.context(3, der.seq()))
    whole = world.fields_of()[-1]
    yield "extensions-lists", world.leaf(extensions=whole + whole)
    yield "extensions-holder-empty", world.leaf(None, subject=cn(HOST), extensions=der.context(3))


def access(method, uri):
    return der.seq(der.seq(der.oid("1.3.6.1.5.5.7.48." + method), der.context(6, uri, constructed=False)))


POINT = der.seq(der.seq(der.context(0, der.context(0, der.context(6, b"http://c.example/", constructed=False)))))
POLICY = "2.23.140.1.2.1"

# OID and value; those in CRITICAL are shown critical as well, under their name with "-critical".
KNOWN = {
    "ct-scts": ("1.3.6.1.4.1.11129.2.4.2", der.octets(b"\0\x12\0\x10" + b"s" * 16)),
    "must-staple": (certs.TLS_FEATURE_OID, der.seq(der.integer(5))),
    "authority-info": (certs.AIA_OID, access("1", b"http://o.example/")),
    "subject-info": ("1.3.6.1.5.5.7.1.11", access("5", b"http://r.example/")),
    "policies": (certs.POLICIES_OID, der.seq(der.seq(der.oid(POLICY)))),
    "policy-constraints": ("2.5.29.36", der.seq(der.context(0, b"\0", constructed=False))),
    "policy-mappings": ("2.5.29.33", der.seq(der.seq(der.oid(POLICY), der.oid("1.2.3")))),
    "inhibit-any-policy": ("2.5.29.54", der.integer(0)),
    "name-constraints": (certs.NAME_CONSTRAINTS_OID, der.seq(der.context(1, der.seq(dns("example.org"))))),
    "crl-points": (certs.CRL_OID, POINT),
    "freshest-crl": ("2.5.29.46", POINT),
    "issuer-alt-name": ("2.5.29.18", der.seq(dns(OTHER))),
    "subject-directory": (
        "2.5.29.9", der.seq(der.seq(der.oid("1.3.6.1.5.5.7.9.4"), der.set_of(der.tlv(certs.PRINTABLE, b"DE"))))
    ),
    "netscape-type": ("2.16.840.1.113730.1.1", der.bits(b"\x40", 6)),
    "netscape-comment": ("2.16.840.1.113730.1.13", der.tlv(certs.IA5, b"made by hand")),
    "proxy-certificate": ("1.3.6.1.5.5.7.1.14", der.seq(der.seq(der.oid("1.3.6.1.5.5.7.21.1")))),
    "ip-blocks": ("1.3.6.1.5.5.7.1.7", der.seq(der.seq(der.octets(b"\0\1"), der.NULL))),
    "ocsp-no-check": ("1.3.6.1.5.5.7.48.1.5", der.NULL),
    "qualified-statements": ("1.3.6.1.5.5.7.1.3", der.seq(der.seq(der.oid("0.4.0.1862.1.1")))),
}  # fmt: skip
CRITICAL = (
    "must-staple", "authority-info", "policies", "policy-constraints", "inhibit-any-policy", "name-constraints",
    "crl-points", "subject-info", "freshest-crl", "issuer-alt-name", "subject-directory", "policy-mappings", "netscape-type", "ip-blocks", "qualified-statements",
)  # fmt: skip


@family
def known_extensions(world):
    for name, (oid, value) in KNOWN.items():
        if name not in ("inhibit-any-policy", "ip-blocks", "proxy-certificate"):
            yield name, world.leaf(extra=[extension(oid, value)])
        if name in CRITICAL:
            yield f"{name}-critical", world.leaf(extra=[extension(oid, value, True)])
    yield "crl-points-no-list-critical", world.leaf(extra=[extension(certs.CRL_OID, der.integer(1), True)])
    yield "proxy-certificate", world.leaf(extra=[extension(*KNOWN["proxy-certificate"], True)])
    poison = extension(certs.POISON_OID, der.NULL, True)
    yield "ct-poison", world.leaf(extra=[poison])
    yield "ct-poison-uncritical", world.leaf(extra=[extension(certs.POISON_OID, der.NULL)])
    yield "ct-poison-twice", world.leaf(extra=[poison, poison])
    subject_id = der.octets(chance.getrandbits(160).to_bytes(20, "big"))
    authority_id = der.seq(der.context(0, world.root.key_id, constructed=False))
    yield "key-ids", world.leaf(extra=[extension(certs.AKI_OID, authority_id), extension(certs.SKI_OID, subject_id)])
    yield "key-id-critical", world.leaf(extra=[extension(certs.SKI_OID, subject_id, True)])
    yield "authority-key-id-critical", world.leaf(extra=[extension(certs.AKI_OID, authority_id, True)])
    yield "key-id-twice", world.leaf(extra=[extension(certs.SKI_OID, subject_id)] * 2)
