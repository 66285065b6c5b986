# SPDX-License-Identifier: Apache-2.0
"""The subject: its attributes, its strings, its bounds."""

from .. import certs, der
from . import HOST, OTHER, cn, family

UTF8, PRINTABLE, TELETEX, IA5 = certs.UTF8, certs.PRINTABLE, certs.TELETEX, certs.IA5
BMP, UNIVERSAL, NUMERIC, VISIBLE = certs.BMP, certs.UNIVERSAL, 0x12, 0x1A
ORGANIZATION, UNIT, COMMON_NAME = certs.ORGANIZATION, certs.UNIT, certs.COMMON_NAME
DOMAIN = "0.9.2342.19200300.100.1.25"


def value(oid, text, tag=UTF8):
    """An AttributeTypeAndValue."""
    data = text if isinstance(text, bytes) else text.encode()
    return der.seq(oid if isinstance(oid, bytes) else der.oid(oid), der.tlv(tag, data))


def rdn(*values):
    return der.set_of(*values)


def with_cn(*rdns):
    """A Name of these RDNs and the host as CN."""
    return der.seq(*rdns, rdn(value(COMMON_NAME, HOST)))


def filled(size):
    """A Name of exactly so many octets, of OUs and the host as CN."""
    rdns = [rdn(value(UNIT, f"{n} " + "u" * 400)) for n in range(4)]
    for last in range(1, 500):
        name = with_cn(*rdns, rdn(value(UNIT, "v" * last)))
        if len(name) == size:
            return name
    raise AssertionError(f"no Name of {size} octets")


# The value of an O: string tag, octets.
STRINGS = {
    "utf8": (UTF8, "a \u00fc \u20ac \U0001f600".encode()),
    "utf8-overlong": (UTF8, b"a\xc0\xafb"),
    "utf8-surrogate": (UTF8, b"a\xed\xa0\x80b"),
    "utf8-beyond": (UTF8, b"a\xf4\x90\x80\x80b"),
    "utf8-cut": (UTF8, b"Caf\xc3"),
    "utf8-latin-1": (UTF8, b"Caf\xe9 Noir"),
    "utf8-nul": (UTF8, b"Example\0 Evil"),
    "utf8-newline": (UTF8, b"Example\nEvil"),
    "utf8-delete": (UTF8, b"Example\x7f"),
    "utf8-c1": (UTF8, b"Example\xc2\x85Evil"),
    "utf8-marks": (UTF8, b"#Example, \"Ltd\" + <Co>; a=b\\c/d"),
    "printable": (PRINTABLE, b"Example (Org)"),
    "printable-at": (PRINTABLE, b"user@example"),
    "printable-ampersand": (PRINTABLE, b"Smith & Co"),
    "printable-high": (PRINTABLE, b"Caf\xe9"),
    "ia5": (IA5, b"Smith & Co"),
    "ia5-high": (IA5, b"Caf\xe9"),
    "ia5-nul": (IA5, b"Example\0"),
    "teletex": (TELETEX, b"Example"),
    "teletex-high": (TELETEX, b"Caf\xe9"),
    "teletex-escape": (TELETEX, b"\x1b\x28\x42Example"),
    "bmp": (BMP, "M\u00fcller \u20ac".encode("utf-16-be")),
    "bmp-odd": (BMP, "Example".encode("utf-16-be") + b"\0"),
    "bmp-surrogates": (BMP, "\U0001f600".encode("utf-16-be")),
    "bmp-nul": (BMP, "a\0b".encode("utf-16-be")),
    "universal": (UNIVERSAL, "M\u00fcller \U0001f600".encode("utf-32-be")),
    "universal-beyond": (UNIVERSAL, b"\0\x11\0\0"),
    "universal-cut": (UNIVERSAL, b"\0\0\0a\0\0"),
    "numeric": (NUMERIC, b"123 456"),
    "numeric-letters": (NUMERIC, b"12 monkeys"),
    "visible": (VISIBLE, b"Example"),
    "general": (0x1B, b"Example"),
    "graphic": (0x19, b"Example"),
    "bits": (0x03, b"\0Example"),
    "octets": (0x04, b"Example"),
    "integer": (0x02, b"\x12"),
    "constructed": (0x20 | UTF8, der.tlv(UTF8, b"Exa") + der.tlv(UTF8, b"mple")),
    "private-tag": (0xC5, b"Example"),
}


@family
def strings(world):
    for kind, (tag, octets) in STRINGS.items():
        yield f"string-{kind}", world.leaf(subject=with_cn(rdn(value(ORGANIZATION, octets, tag))))
    high = der.seq(der.oid(ORGANIZATION), b"\x1f\x8c\x07Example")
    yield "string-high-tag", world.leaf(subject=with_cn(rdn(high)))


def of_ca(world, tag=UTF8, change=lambda text: text):
    """The subject of leafd's own CA, its strings written otherwise."""
    code = {BMP: "utf-16-be"}.get(tag, "utf-8")
    rdns = []
    for one in world.ca.subject.rdns:
        rdns.append(rdn(*(value(a.oid.dotted_string, change(a.value).encode(code), tag) for a in one)))
    return rdns


@family
def subjects_of_the_ca(world):
    def leaf(rdns):
        return world.leaf(subject=der.seq(*rdns))

    yield "subject-ours", world.leaf(subject=world.ca.subject.public_bytes())
    yield "subject-ours-printable", leaf(of_ca(world, PRINTABLE))
    yield "subject-ours-capitals", leaf(of_ca(world, change=str.upper))
    yield "subject-ours-spaces", leaf(of_ca(world, change=lambda text: " " + text.replace(" ", "  ") + " "))
    yield "subject-ours-bmp", leaf(of_ca(world, BMP))
    yield "subject-ours-and-mail", leaf([*of_ca(world), rdn(value(certs.EMAIL, "ca@example.org", IA5))])
    yield "subject-ours-longer", leaf([*of_ca(world), rdn(value(UNIT, "Unit"))])


@family
def subjects(world):
    def leaf(*rdns):
        return world.leaf(subject=with_cn(*rdns))

    organization = rdn(value(ORGANIZATION, "Example"))
    yield "subject-empty", world.leaf(subject=certs.name())
    yield "subject-cn-64", world.leaf(subject=cn("c" * 64))
    yield "subject-cn-65", world.leaf(subject=cn("c" * 65))
    yield "subject-cn-nul", world.leaf(subject=cn(HOST + "\0.example.net"))
    yield "subject-cn-other", world.leaf(subject=cn(OTHER))
    yield "subject-two-cns", leaf(rdn(value(COMMON_NAME, OTHER)))
    for name, oid, text, tag in (
        ("country", certs.COUNTRY, "DE", PRINTABLE),
        ("country-utf8", certs.COUNTRY, "DE", UTF8),
        ("country-three", certs.COUNTRY, "DEU", PRINTABLE),
        ("country-umlaut", certs.COUNTRY, "\u00d6E", UTF8),
        ("serial-number", certs.SERIAL_NUMBER, "HRB 12345", PRINTABLE),
        ("serial-number-utf8", certs.SERIAL_NUMBER, "HRB 12345", UTF8),
        ("serial-number-hash", certs.SERIAL_NUMBER, "#12345", UTF8),
        ("mail", certs.EMAIL, "root@example.org", IA5),
        ("mail-utf8", certs.EMAIL, "root@example.org", UTF8),
        ("unknown-attribute", "1.3.6.1.4.1.55555.5", "Example", UTF8),
        ("long-attribute", "1.3" + ".1" * 64, "Example", UTF8),
        ("bits", "2.5.4.45", b"\0bits", 0x03),
        ("sequence", "2.5.4.16", der.tlv(UTF8, b"Street 1"), 0x30),
        ("null", ORGANIZATION, b"", 0x05),
        ("value-0", ORGANIZATION, "", UTF8),
        ("value-1", ORGANIZATION, "e", UTF8),
        ("value-512", ORGANIZATION, "e" * 512, UTF8),
        ("value-513", ORGANIZATION, "e" * 513, UTF8),
        ("value-512-wide", ORGANIZATION, ("\u20ac" * 171).encode("utf-16-be"), BMP),
    ):
        yield f"subject-{name}", leaf(rdn(value(oid, text, tag)))
    yield "subject-domain", leaf(rdn(value(DOMAIN, "org", IA5)), rdn(value(DOMAIN, "example", IA5)))
    yield "subject-bad-attribute", leaf(rdn(value(der.tlv(0x06, b"\x80\x01"), "Example")))
    whole = der.oid(ORGANIZATION)
    yield "subject-two-values", leaf(rdn(der.seq(whole, der.tlv(UTF8, b"One"), der.tlv(UTF8, b"Two"))))
    yield "subject-no-value", leaf(rdn(der.seq(whole)))
    yield "subject-not-a-set", leaf(der.seq(value(ORGANIZATION, "Example")))
    yield "subject-not-a-list", world.leaf(subject=der.set_of(organization))
    yield "subject-choice", world.leaf(subject=der.NULL)


@family
def many_valued_subjects(world):
    def leaf(*rdns):
        return world.leaf(subject=with_cn(*rdns))

    def units(count):
        return sorted(value(UNIT, f"unit {n:02}") for n in range(count))

    two = sorted((value(ORGANIZATION, "Example"), value(UNIT, "Unit")))
    yield "subject-multi-valued", leaf(rdn(*sorted([*two, value(certs.LOCALITY, "Town")])))
    yield "subject-multi-unsorted", leaf(rdn(*reversed(two)))
    yield "subject-multi-twins", leaf(rdn(two[0], two[0]))
    yield "subject-multi-same-kind", leaf(rdn(*units(2)))
    yield "subject-rdn-empty", leaf(rdn())
    rdns = [rdn(unit) for unit in units(32)]
    yield "subject-rdns-32", leaf(*rdns[:31])
    yield "subject-rdns-33", leaf(*rdns)
    yield "subject-rdns-33-mail", leaf(*rdns[:31], rdn(value(certs.EMAIL, "root@example.org", IA5)))
    yield "subject-attributes-64", world.leaf(subject=der.seq(rdn(*units(64))))
    yield "subject-attributes-65", world.leaf(subject=der.seq(rdn(*units(65))))
    yield "subject-2048", world.leaf(subject=filled(2048))
    yield "subject-2049", world.leaf(subject=filled(2049))
