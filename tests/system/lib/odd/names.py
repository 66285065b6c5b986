# SPDX-License-Identifier: Apache-2.0
"""Names: in subject alternative names, in the CN, and very many of them."""

from .. import certs, der
from ..certs import DAY
from . import ADDRESS, ADDRESS_6, HOST, OTHER, Shown, chance, cn, family
from .fields import ALGORITHMS

LABEL = "a" * 63
NAME_253 = ".".join([LABEL, LABEL, LABEL, "b" * 49, "example.org"])
NAME_254 = ".".join([LABEL, LABEL, LABEL, "b" * 50, "example.org"])
assert (len(NAME_253), len(NAME_254)) == (253, 254)


def dns(text):
    return certs.dns(text)


def ip(octets):
    return der.context(7, octets, constructed=False)


# What stands in a dNSName.
DNS = {
    "space": "a b.example.org",
    "nul": HOST + "\0.example.net",
    "control": "a\x07.example.org",
    "utf8": "b\u00fccher.example",
    "latin-1": b"b\xfccher.example",
    "slash": "a/b.example.org",
    "at": "a@example.org",
    "port": HOST + ":443",
    "url": f"https://{HOST}/",
    "comma": f"{HOST},{OTHER}",
    "percent": "www%2eexample.org",
    "quote": f'"{HOST}"',
    "empty": "",
    "dot": ".",
    "leading-dot": ".example.org",
    "trailing-dot": OTHER + ".",
    "double-dot": "a..example.org",
    "label-64": "a" * 64 + ".example.org",
    "254": NAME_254,
    "star": "*",
    "star-dot": "*.",
    "star-front": "f*.example.org",
    "star-back": "*f.example.org",
    "star-middle": "f*f.example.org",
    "star-double": "*.*.example.org",
    "star-stars": "**.example.org",
    "star-inner": "a.*.example.org",
    "star-a-label": "xn--*.example.org",
    "star-com": "*.com",
    "star-co-uk": "*.co.uk",
    "star-co-uk-capitals": "*.CO.UK",
    "star-ck": "*.ck",
    "star-idn-suffix": "*.xn--p1ai",
    "star-github": "*.github.io",
    "star-blogspot": "*.blogspot.com",
    "star-private": "*.corp",
    "star-idn": "*.xn--bcher-kva.example",
    "underscore": "a_b.example.org",
    "underscore-first": "_dmarc.example.org",
    "hyphens": "-a-.example.org",
    "single-label": "localhost",
    "digits": "1.example.org",
    "idn": "xn--bcher-kva.example",
    "idn-bad": "xn--a-.example",
    "label-63": LABEL + ".example.org",
    "253": NAME_253,
    "ipv4-text": ADDRESS,
    "ipv6-text": ADDRESS_6,
    "ipv4-hex": "0xc0000207",
    "ipv4-short": "127.1",
    "ipv4-wildcard": "*.0.2.7",
    "number-last": "example.1",
}

# Those that are shown alone, some of them as a name that would stand for the host.
ALONE = {
    "trailing-dot": HOST + ".",
    "star-front": "w*.example.org",
    "star-inner": "www.*.org",
    "star-org": "*.org",
    **{kind: DNS[kind] for kind in ("space", "nul", "utf8", "port", "empty", "leading-dot", "254", "star")},
}

ADDRESSES = {
    "text": ADDRESS.encode(),
    "zero": bytes(4),
    "mapped": bytes(10) + b"\xff\xff\xc0\0\2\7",
}
for _size in (0, 3, 5, 8, 15, 17, 32):
    ADDRESSES[str(_size)] = (b"\xc0\0\2\7" * 8)[:_size]

MAIL = der.context(1, b"root@example.org", constructed=False)
OTHER_KINDS = {
    "name": der.context(0, der.oid("1.3.6.1.4.1.311.20.2.3"), der.context(0, der.tlv(certs.UTF8, b"user@example.org"))),
    "name-dns": der.context(0, der.oid("1.3.6.1.5.5.7.8.7"), der.context(0, der.tlv(certs.IA5, OTHER.encode()))),
    "mail": MAIL,
    "x400": der.context(3, der.seq(der.tlv(0x61, der.tlv(certs.PRINTABLE, b"XX")))),
    "directory": der.context(4, certs.name((certs.COMMON_NAME, OTHER))),
    "edi": der.context(5, der.context(1, der.tlv(certs.UTF8, OTHER.encode()))),
    "uri": der.context(6, f"https://{OTHER}/".encode(), constructed=False),
    "id": der.context(8, b"\x2a\x03\x04", constructed=False),
}
NO_KINDS = {
    "name-cut": der.context(0, der.oid("1.3.6.1.4.1.311.20.2.3")),
    "directory-cut": der.context(4, der.seq(der.integer(1))),
    "id-bad": der.context(8, b"\x2a\x80\x01", constructed=False),
    "ninth": der.context(9, OTHER.encode(), constructed=False),
    "constructed": der.context(2, der.tlv(certs.IA5, OTHER.encode())),
    "universal": der.tlv(certs.UTF8, OTHER.encode()),
    "high-tag": b"\x9f\x22\x03abc",
}


@family
def single_names(world):
    leaf = world.leaf
    for kind, text in DNS.items():
        yield f"name-{kind}-beside", leaf([HOST, dns(text)])
    for kind, text in ALONE.items():
        yield f"name-{kind}-alone", leaf([dns(text)])
    yield "name-ipv4-text-alone", Shown(leaf([dns(ADDRESS)]), ADDRESS)
    yield "name-253-host", Shown(leaf([NAME_253]), NAME_253)
    yield "name-twice", leaf([HOST, HOST.upper()])
    for kind, octets in ADDRESSES.items():
        yield f"address-{kind}-beside", leaf([HOST, ip(octets)])
    yield "address-5-alone", leaf([ip(ADDRESSES["5"])])
    yield "address-twice", Shown(leaf([ADDRESS, ADDRESS]), ADDRESS)
    for kind, whole in OTHER_KINDS.items():
        yield f"other-{kind}-beside", leaf([HOST, whole])
    yield "other-all-alone", leaf(list(OTHER_KINDS.values()), subject=cn(HOST))
    for kind, whole in NO_KINDS.items():
        yield f"other-{kind}-beside", leaf([HOST, whole])


@family
def lists_of_names(world):
    def leaf(value):
        return world.leaf(None, subject=cn(HOST), extra=[certs.extension(certs.SAN_OID, value)])

    yield "san-empty", world.leaf([], subject=cn(HOST))
    yield "san-no-octets", leaf(b"")
    yield "san-not-a-list", leaf(der.integer(5))
    yield "san-garbage", leaf(b"\x30\x05abc")
    yield "san-cut", leaf(der.seq(b"\x82\x20" + HOST.encode()))
    yield "san-trailing", leaf(der.seq(dns(HOST)) + der.NULL)
    dropped = ["*", "*.com", "f*.example.org", "*.*.example.org", "a b", "", ADDRESS + "."]
    yield "san-emptied", world.leaf([dns(text) for text in dropped], subject=cn(HOST))
    yield "san-twice", world.leaf(extra=[certs.san([OTHER])])
    yield "san-twice-same", world.leaf(extra=[certs.san([HOST])])
    yield "san-twice-garbage", world.leaf(extra=[certs.extension(certs.SAN_OID, b"\x30\x05abc")])
    yield "san-issuer", world.leaf([OTHER], extra=[certs.extension("2.5.29.18", der.seq(dns(HOST)))])


@family
def common_names(world):
    def leaf(*texts, tag=certs.UTF8, **changes):
        organization = (certs.ORGANIZATION, "Example")
        return world.leaf(
            None, subject=certs.name(organization, *((certs.COMMON_NAME, text, tag) for text in texts)), **changes
        )

    for kind, text in (
        ("name", HOST), ("other-name", OTHER), ("capitals", HOST.upper()), ("wildcard", "*.example.org"),
        ("wildcard-suffix", "*.org"), ("wildcard-partial", "w*.example.org"), ("company", "Example Ltd"),
        ("nul", HOST + "\0.example.net"), ("trailing-dot", HOST + "."), ("space", HOST + " "),
        ("url", f"https://{HOST}/"), ("umlaut", "b\u00fccher.example"), ("empty", ""),
    ):  # fmt: skip
        yield f"cn-{kind}", leaf(text)
    yield "cn-ipv4", Shown(leaf(ADDRESS), ADDRESS)
    yield "cn-ipv6", Shown(leaf(ADDRESS_6), ADDRESS_6)
    yield "cn-ipv6-brackets", Shown(leaf(f"[{ADDRESS_6}]"), ADDRESS_6)
    yield "cn-two", leaf(HOST, OTHER)
    yield "cn-two-same", leaf(HOST, HOST)
    yield "cn-two-one-name", leaf("Example Ltd", HOST)
    yield "cn-none", leaf()
    yield "cn-no-subject", world.leaf(None, subject=certs.name())
    yield "cn-253", Shown(leaf(NAME_253), NAME_253)
    yield "cn-printable", leaf(HOST, tag=certs.PRINTABLE)
    yield "cn-ia5", leaf(HOST, tag=certs.IA5)
    yield "cn-teletex", leaf(HOST, tag=certs.TELETEX)
    yield "cn-bmp", leaf(HOST.encode("utf-16-be"), tag=certs.BMP)
    yield "cn-universal", leaf(HOST.encode("utf-32-be"), tag=certs.UNIVERSAL)
    yield "cn-bits", leaf(b"\0" + HOST.encode(), tag=0x03)
    pieces = der.tlv(certs.UTF8, HOST[:4].encode()) + der.tlv(certs.UTF8, HOST[4:].encode())
    yield "cn-constructed", leaf(pieces, tag=0x20 | certs.UTF8)
    both = (der.seq(der.oid(kind), der.tlv(certs.UTF8, text.encode())) for kind, text in (
        (certs.COMMON_NAME, HOST), (certs.ORGANIZATION, "Example")))  # fmt: skip
    yield "cn-multi-valued", world.leaf(None, subject=der.seq(der.set_of(*sorted(both))))
    yield "cn-mail", world.leaf(None, subject=certs.name((certs.EMAIL, HOST, certs.IA5)))
    yield "cn-client-only", leaf(HOST, eku=[certs.CLIENT_AUTH])


def large(*first):
    """As many names as no reply holds."""
    return [*first, *(f"{n:04}.{'x' * 40}.example.org" for n in range(200))]


@family
def many_names(world):
    leaf = world.leaf
    yield "many-100", leaf([HOST, *(f"{n}.example.org" for n in range(99))])
    yield "many-170", leaf([HOST, *(f"{n:03}.{'y' * 41}.example.org" for n in range(169))])
    short = [f"a{n:04}.b" for n in range(1001)]
    yield "many-1000", leaf([HOST, *short[:999]])
    yield "many-1001", leaf([HOST, *short[:1000]])
    yield "many-1001-other", leaf(short)
    letters = "abcdefghijklmnopqrstuvwxyz"
    yield "many-4096", Shown(leaf([letters[n % 26] for n in range(4096)]), "c")
    yield "many-4097", Shown(leaf([letters[n % 26] for n in range(4097)]), "c")
    yield "many-4097-empty", leaf([HOST, *[b"\x82\0"] * 4097])
    yield "many-addresses", leaf([HOST, *(f"192.0.{n // 256}.{n % 256}" for n in range(900))])

    yield "large", leaf(large(HOST))
    yield "large-other", leaf(large())
    yield "large-wildcard", leaf(large("*.example.org"))
    yield "large-address", Shown(leaf(large(ADDRESS)), ADDRESS)
    yield "large-rsa", leaf(large(HOST), key="rsa-2048")
    yield "large-expired", leaf(large(HOST), dates=(-60 * DAY, -2 * DAY))
    yield "large-not-yet-other", leaf(large(), dates=(2 * DAY, 60 * DAY))
    yield "large-10-years", leaf(large(HOST), dates=(-5 * 365 * DAY, 5 * 365 * DAY))
    yield "large-legacy", leaf(large(HOST), bc=True)
    yield "large-untrusted", leaf(large(HOST), algorithm=ALGORITHMS["sha1"])
    yield "large-self-signed", leaf(large(HOST), subject=cn(HOST), issuer=cn(HOST))
    yield "large-self-signed-other", leaf(large(), subject=cn(HOST), issuer=cn(HOST))
    yield "large-dropped", leaf([HOST, *(f"f*.{n}.{'x' * 30}.example.org" for n in range(300))])
    filler = chance.getrandbits(8 * 14336).to_bytes(14336, "big")
    yield "large-extension", leaf(extra=[certs.extension("1.3.6.1.4.1.55555.4", filler)])
    units = [(certs.UNIT, f"{n:02} " + "u" * 440) for n in range(31)]
    yield "large-subject", leaf(subject=certs.name(*units, (certs.COMMON_NAME, HOST)))
