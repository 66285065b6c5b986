# SPDX-License-Identifier: Apache-2.0
"""Every row of the request table, and the exact form of what comes back (leafd-protocol(7))."""

import itertools
import random
import struct

import msgpack
import pytest

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from lib import certs, checks, der
from lib import client as wire
from lib.client import Answer, by_ids, by_names, mimic, pack

HOST = "wire.example.org"
numbers = itertools.count(1)

ID_ORDER = [1, 2, 6, 3, 4, 5]


def raw_map(*pairs):
    """A map of already packed keys and values."""
    return bytes([0x80 | len(pairs)]) + b"".join(k + v for k, v in pairs)


def assert_ids_form(answer, service=0, usage=0):
    """Keys in their order, small integers in one octet, PEM and DER, as g3proxy reads them."""
    assert list(answer.map) == ID_ORDER
    raw = answer.raw
    host = answer.map[1].encode("utf-8", "surrogateescape")
    header = bytes([0x86, 0x01]) + (bytes([0xA0 | len(host)]) if len(host) < 32 else bytes([0xD9, len(host)]))
    assert raw.startswith(header + host + bytes([0x02, service, 0x06, usage, 0x03])), raw[:80].hex()
    assert isinstance(answer.map[3], str) and isinstance(answer.map[4], bytes)
    assert type(answer.ttl) is int and answer.ttl > 0
    assert answer.map[3].startswith(wire.BEGIN + "\n") and answer.map[3].endswith(wire.END)


# ---- dialects ----


def test_by_ids(client):
    answer = client.ask_leaf(by_ids(HOST))
    assert_ids_form(answer)
    assert answer.host == HOST and answer.ttl == 86400
    assert answer.raw[-5:] == b"\xce\x00\x01\x51\x80", "the shortest form of the ttl"


def test_by_names(client):
    answer = client.ask_leaf(by_names(HOST))
    assert list(answer.map) == ["host", "service", "cert", "key", "ttl"]
    assert answer.map["service"] == "http" and answer.ttl == 86400
    assert isinstance(answer.map["key"], str)
    assert answer.map["key"].startswith("-----BEGIN PRIVATE KEY-----\n")


def test_by_names_says_the_service_and_the_usage_only_if_asked(client):
    """1.9.0 knows no usage: who does not ask for it does not get it."""
    assert list(client.ask_leaf(by_names(HOST, service="smtp")).map) == ["host", "service", "cert", "key", "ttl"]
    answer = client.ask_leaf(by_names(HOST, service=2, usage="TLS_SERVER"))
    assert list(answer.map) == ["host", "service", "usage", "cert", "key", "ttl"]
    assert (answer.map["service"], answer.map["usage"]) == ("imap", "tls_server")


@pytest.mark.parametrize("name", ["HOST", "Host", "hOsT"])
def test_names_in_any_case(client, name):
    answer = client.ask_leaf(pack({name: HOST}))
    assert answer.dialect == "names" and answer.host == HOST


@pytest.mark.parametrize(
    "request_bytes",
    [
        pack({1: HOST, "service": "http"}),
        pack({"host": HOST, 2: 0}),
        pack({"host": HOST, 4: 0, "service": 0}),
        pack(HOST),
    ],
    ids=["id-first", "name-first", "three", "bare-str"],
)
def test_mixed_and_bare_are_answered_by_ids(client, request_bytes):
    answer = client.ask_leaf(request_bytes)
    assert_ids_form(answer)
    assert answer.host == HOST


@pytest.mark.parametrize(
    "header", [b"\xd9\x10", b"\xda\x00\x10", b"\xdb\x00\x00\x00\x10"], ids=["str8", "str16", "str32"]
)
def test_str_headers(client, header):
    assert len(HOST) == 16
    assert_ids_form(client.ask_leaf(header + HOST.encode()))
    assert_ids_form(client.ask_leaf(raw_map((b"\x01", header + HOST.encode()))))


@pytest.mark.parametrize(
    "header", [b"\xc4\x10", b"\xc5\x00\x10", b"\xc6\x00\x00\x00\x10"], ids=["bin8", "bin16", "bin32"]
)
def test_host_as_bin_is_echoed_as_str(client, header):
    answer = client.ask_leaf(raw_map((b"\x01", header + HOST.encode())))
    assert_ids_form(answer)
    assert answer.host == HOST


@pytest.mark.parametrize(
    "header", [b"\x81", b"\xde\x00\x01", b"\xdf\x00\x00\x00\x01"], ids=["fixmap", "map16", "map32"]
)
def test_map_headers(client, header):
    assert_ids_form(client.ask_leaf(header + b"\x01" + pack(HOST)))


@pytest.mark.parametrize(
    "key",
    [
        b"\xcc\x01",
        b"\xcd\x00\x01",
        b"\xce\0\0\0\x01",
        b"\xcf\0\0\0\0\0\0\0\x01",
        b"\xd0\x01",
        b"\xd1\x00\x01",
        b"\xd2\0\0\0\x01",
        b"\xd3\0\0\0\0\0\0\0\x01",
    ],
    ids=["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"],
)
def test_integer_forms(client, key):
    """Of a key, of a service, and of a usage."""
    assert_ids_form(client.ask_leaf(raw_map((key, pack(HOST)))))
    assert_ids_form(client.ask_leaf(raw_map((b"\x01", pack(HOST)), (b"\x02", key))), service=1)
    assert_ids_form(client.ask_leaf(raw_map((b"\x01", pack(HOST)), (b"\x04", key))), usage=1)


def test_order_of_keys_does_not_matter(client):
    assert_ids_form(client.ask_leaf(pack({4: 0, 2: 1, 1: HOST})), service=1)


# ---- service and usage ----


@pytest.mark.parametrize(
    "value, service",
    [
        (0, 0),
        (1, 1),
        (2, 2),
        ("http", 0),
        ("HTTP", 0),
        ("Http", 0),
        ("smtp", 1),
        ("sMtP", 1),
        ("imap", 2),
        ("IMAP", 2),
        (b"http", 0),
        (b"IMAP", 2),
    ],
)
def test_service(client, value, service):
    assert_ids_form(client.ask_leaf(by_ids(HOST, service=value)), service=service)


@pytest.mark.parametrize("value", [3, 255, 256, -1, -33, 1 << 40, "bad", "", "0", "https", b"bad", b"\xff", "http\0"])
def test_unknown_service(client, value):
    answer = client.ask(by_ids(HOST, service=value))
    assert answer.map == {1: HOST, 7: "unsupported"}


USAGES = {
    "tls_server": 0, "tlsserver": 0, "tls_server_tongsuo": 1, "tlcp_server_signature": 11, "tlcp_server_sign": 11,
    "tlcp_server_encryption": 12, "tlcp_server_enc": 12,
}  # fmt: skip


@pytest.mark.parametrize("name, usage", USAGES.items())
def test_usage_by_name(client, name, usage):
    for value in (name, name.upper(), name.title(), name.encode()):
        assert_ids_form(client.ask_leaf(by_ids(HOST, usage=value)), usage=usage)


@pytest.mark.parametrize("usage", [0, 1, 11, 12])
def test_usage_decides_the_key_usage(client, ca, usage):
    answer = client.ask_leaf(by_ids(HOST, usage=usage))
    assert_ids_form(answer, usage=usage)
    # A TLCP encryption leaf is no TLS server's: openssl's purpose check is for usage 0, 1 and 11.
    if usage != 12:
        key = "sm2" if usage == 11 else "ec-p256"
        checks.assert_leaf(answer, ca.cert, names=[HOST], key=key, usage=usage)
    key_usage = answer.leaf.extensions.get_extension_for_class(checks.x509.KeyUsage).value
    assert {bit for bit in checks.USAGE_BITS if getattr(key_usage, bit)} == checks.KEY_USAGE["ec", usage]


@pytest.mark.parametrize("asked, told", [("tls_server", "tls_server"), (0, "tls_server"), ("TLSServer", "tls_server"),
                                         ("tls_server_tongsuo", "tls_server_tongsuo"), (11, "tlcp_server_signature"),
                                         ("tlcp_server_enc", "tlcp_server_encryption")])  # fmt: skip
def test_usage_told_by_name(client, asked, told):
    assert client.ask_leaf(by_names(HOST, usage=asked)).map["usage"] == told


@pytest.mark.parametrize("value", [2, 10, 13, 255, 256, -1, "tls-server", "bad", "", "1", b"\x00"])
def test_unknown_usage(client, value):
    assert client.ask(by_ids(HOST, usage=value)).map == {1: HOST, 7: "unsupported"}


# ---- cert ----

UPSTREAM = certs.upstream([HOST, "other.example.org"])
MINE = pack({1: HOST, 3: UPSTREAM})


def other_upstream():
    return certs.upstream([f"second-{next(numbers)}.example.net"])


@pytest.mark.parametrize(
    "cert",
    [
        UPSTREAM,
        UPSTREAM + b"trailing octets",
        UPSTREAM + other_upstream(),
        certs.pem(UPSTREAM),
        certs.pem(UPSTREAM).encode(),
        certs.pem(UPSTREAM).replace("\n", "\r\n"),
        certs.pem(UPSTREAM).rstrip("\n"),
        "subject=whoever\nissuer=whoever\n" + certs.pem(UPSTREAM),
        certs.pem(UPSTREAM) + certs.pem(other_upstream()),
        certs.pem(b"\x30\x00", "X509 CRL") + certs.pem(UPSTREAM),
    ],
    ids=[
        "der",
        "der-trailing",
        "der-two",
        "pem",
        "pem-bin",
        "pem-crlf",
        "pem-no-end",
        "text-before",
        "pem-two",
        "pem-other-block",
    ],
)
def test_cert_forms(client, cert):
    answer = client.ask_leaf(by_ids(HOST, cert=cert))
    assert_ids_form(answer)
    assert answer.sans == [HOST, "other.example.org"]


@pytest.mark.parametrize("fields", [{"cert": UPSTREAM}, {"cert": certs.pem(UPSTREAM)}])
def test_cert_by_name(client, fields):
    answer = client.ask_leaf(by_names(HOST, **fields))
    assert answer.dialect == "names" and answer.sans == [HOST, "other.example.org"]


@pytest.mark.parametrize("length", [b"\xc5", b"\xc6"], ids=["bin16", "bin32"])
def test_cert_header_of_any_length(client, length):
    size = struct.pack(">H" if length == b"\xc5" else ">I", len(UPSTREAM))
    assert client.ask_leaf(raw_map((b"\x01", pack(HOST)), (b"\x03", length + size + UPSTREAM))).sans[0] == HOST


UNUSABLE_CERTS = {
    "nil": None,
    "empty-bin": b"",
    "empty-str": "",
    "int": 5,
    "array": [UPSTREAM],
    "map": {1: UPSTREAM},
    "garbage": b"\x01\x02\x03\x04",
    "garbage-str": "not a certificate",
    "der-cut": UPSTREAM[:-1],
    "der-cut-early": UPSTREAM[:40],
    "pem-no-body": "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    "pem-no-end": certs.pem(UPSTREAM)[:-40],
    "pem-bad-base64": certs.pem(UPSTREAM).replace("M", "*", 3),
    "pem-key": certs.pem(b"\x30\x00", "PRIVATE KEY"),
    "der-empty-sequence": b"\x30\x00",
    "der-as-str": pack({1: HOST, 3: 0})[:-1] + b"\xda" + struct.pack(">H", len(UPSTREAM)) + UPSTREAM,
}


@pytest.mark.parametrize("name", UNUSABLE_CERTS)
def test_unusable_cert_is_never_as_if_absent(client, name):
    value = UNUSABLE_CERTS[name]
    data = value if name == "der-as-str" else by_ids(HOST, cert=value)
    assert client.ask(data).map == {1: HOST, 7: "unsupported"}


# ---- bad requests ----


@pytest.mark.parametrize(
    "data",
    {
        "nil": b"\xc0", "true": b"\xc3", "float": pack(1.5), "int": pack(12345), "array": pack([HOST]),
        "ext": msgpack.packb(msgpack.ExtType(5, b"abc")), "timestamp": b"\xd6\xff\0\0\0\0", "never-used": b"\xc1",
        "empty-map": b"\x80", "raw-text": HOST.encode(), "bare-bin": pack(HOST.encode()), "http": b"GET / HTTP/1.1\r\n\r\n",
        "no-host": pack({2: 0}), "only-unknown": pack({99: "x"}), "cut-in-key": b"\x81", "cut-in-host": pack({1: HOST})[:-1],
        "cut-in-length": b"\x81\x01\xda\x00", "map32-huge": b"\xdf\xff\xff\xff\xff", "array32-huge": b"\xdd\xff\xff\xff\xff",
        "str32-huge": b"\xdb\xff\xff\xff\xff", "bin32-huge": b"\x81\x01\xc6\xff\xff\xff\xff", "ext32-huge": b"\xc9\xff\xff\xff\xff\x01",
        "map32-huge-inside": b"\x81\x63\xdf\xff\xff\xff\xff\x01", "bare-str-cut": b"\xb0abc",
        "map16-full-of-nothing": b"\xde\xff\xff" + b"\xc0" * 1000,
    }.items(),
    ids=lambda item: item[0],
)  # fmt: skip
def test_malformed_without_a_host(client, data):
    """Not of the form, and no host could be read: ids, and nothing but the code."""
    answer = client.ask(data[1])
    assert answer.map == {7: "malformed"}
    assert answer.raw == b"\x81\x07\xa9malformed"


@pytest.mark.parametrize(
    "data",
    {
        "host-twice": raw_map((b"\x01", pack(HOST)), (b"\x01", pack(HOST))),
        "host-twice-in-two-forms": raw_map((b"\x01", pack(HOST)), (pack("host"), pack(HOST))),
        "service-twice": raw_map((b"\x01", pack(HOST)), (b"\x02", b"\x00"), (b"\x02", b"\x00")),
        "cert-twice": raw_map((b"\x01", pack(HOST)), (b"\x03", pack(UPSTREAM)), (b"\x03", pack(UPSTREAM))),
        "usage-twice": raw_map((b"\x01", pack(HOST)), (b"\x04", b"\x00"), (pack("USAGE"), b"\x00")),
        "service-nil": pack({1: HOST, 2: None}), "service-float": pack({1: HOST, 2: 1.0}), "service-true": pack({1: HOST, 2: True}),
        "service-array": pack({1: HOST, 2: [0]}), "usage-nil": pack({1: HOST, 4: None}), "usage-map": pack({1: HOST, 4: {}}),
        "cut-after-host": pack({1: HOST, 2: 0})[:-1], "too-few-pairs": b"\x82\x01" + pack(HOST),
        "cut-cert": pack({1: HOST, 3: UPSTREAM})[:-10],
        "c1-inside": raw_map((b"\x01", pack(HOST)), (b"\x63", b"\xc1")),
    }.items(),
    ids=lambda item: item[0],
)  # fmt: skip
def test_malformed_with_a_host(client, data):
    answer = client.ask(data[1])
    assert answer.error == "malformed"
    assert answer.host in (HOST, None)
    assert len(answer.raw) <= 48 + len(HOST)


@pytest.mark.parametrize(
    "value", [None, 42, 1.5, True, [HOST], {1: HOST}], ids=["nil", "int", "float", "true", "array", "map"]
)
def test_host_of_another_type(client, value):
    assert client.ask(pack({1: value})).map == {7: "malformed"}


def test_an_empty_datagram_is_malformed(client):
    assert client.ask(b"").map == {7: "malformed"}


def test_errors_speak_the_dialect(client):
    assert client.ask(by_names(HOST, service="bad")).map == {"host": HOST, "error": "unsupported"}
    assert list(client.ask(by_names(HOST, service="bad")).map) == ["host", "error"]
    assert client.ask(pack({"host": HOST, 2: "bad"})).map == {1: HOST, 7: "unsupported"}
    assert client.ask(pack({"service": "http"})).map == {"error": "malformed"}
    assert client.ask(pack({"1": HOST})).map == {"error": "malformed"}


def test_too_large_a_datagram(client):
    """Over 16384 octets is malformed, even if the map would be complete by then."""
    fitting = pack({1: HOST, 99: b"x" * 16000})
    fitting += b"\0" * (16384 - len(fitting))
    assert len(fitting) == 16384
    client.ask_leaf(fitting)
    assert client.ask_error(fitting + b"\0") == "malformed"
    assert client.ask_error(pack({1: HOST}) + b"\0" * 40000) == "malformed"


# ---- what is ignored ----


@pytest.mark.parametrize("key", [8, 0, 99, -1, -1 << 40, 1 << 40, (1 << 64) - 1, "ttl2", "", "hostname"], ids=repr)
def test_unknown_keys_are_ignored(daemon, client, key):
    before = daemon.metric("leafd_ignored_keys_total")
    answer = client.ask_leaf(raw_map((pack(key), pack({"a": [1, 2, {"b": None}]})), (b"\x01", pack(HOST))))
    assert answer.host == HOST
    daemon.wait_metric("leafd_ignored_keys_total", more_than=before)


@pytest.mark.parametrize("key", [b"host", None, True, 1.0, [1], {1: 1}], ids=repr)
def test_a_key_is_an_integer_or_a_str(client, key):
    packed = pack(key)
    assert client.ask_error(raw_map((packed, pack(HOST)), (b"\x01", pack(HOST)))) == "malformed"
    assert client.ask(raw_map((b"\x01", pack(HOST)), (packed, pack(HOST)))).map == {1: HOST, 7: "malformed"}


def test_octets_behind_the_map_are_ignored(client):
    assert_ids_form(client.ask_leaf(pack({1: HOST}) + b"\xc1\xff"))
    assert client.ask_leaf(pack({1: HOST}) + pack({1: "second.example.org"})).host == HOST
    assert_ids_form(client.ask_leaf(pack(HOST) + b"\0"))


@pytest.mark.parametrize("depth", [500, 2000, 16000])
@pytest.mark.parametrize("opening", [b"\x91", b"\x81\x01"], ids=["arrays", "maps"])
def test_nesting_harms_nobody(client, depth, opening):
    depth = min(depth, 16000 // len(opening))
    for data in (opening * depth, raw_map((b"\x01", pack(HOST)), (b"\x63", opening * depth + b"\xc0"))):
        assert client.ask(data).error == "malformed"
    client.ask_leaf(pack({1: HOST}))


def test_many_entries_harm_nobody(client):
    """A packet full of pairs is read once, in linear time."""
    data = b"\xde\x1f\x00" + b"\x63\xc0" * 0x1F00 + b"\xc0" * 100
    assert client.ask_error(data) == "malformed"


# ---- replies that come to a listener ----


def replies(client):
    ids, names = client.ask_leaf(by_ids(HOST)), client.ask_leaf(by_names(HOST))
    return {
        "leaf-ids": ids.raw,
        "leaf-names": names.raw,
        "error-ids": client.ask(by_ids(HOST, service=99)).raw,
        "error-names": client.ask(by_names(HOST, service=99)).raw,
        "error-without-host": client.ask(b"\xc1").raw,
        "id-5": pack({1: HOST, 5: 300}),
        "id-6": pack({1: HOST, 6: 0}),
        "id-7": pack({1: HOST, 7: "busy"}),
        "name-key": pack({"host": HOST, "key": "x"}),
        "name-ttl": pack({"host": HOST, "TTL": 1}),
        "name-error": pack({"host": HOST, "Error": "busy"}),
        "id-7-first": pack({7: "busy", 1: HOST}),
        "id-7-behind-a-mistake": pack({1: 42, 7: "busy"}),
        "id-7-uint64": raw_map((b"\xcf\0\0\0\0\0\0\0\x07", pack("busy")), (b"\x01", pack(HOST))),
        "id-7-alone": pack({7: "malformed"}),
        "mixed": pack({"host": HOST, 7: "busy"}),
    }


def test_replies_are_dropped(daemon, client):
    """A real reply and an error reply sent to the listener produce no packet, of whatever kind."""
    packets = replies(client)
    before = daemon.metric("leafd_dropped_total", reason="reply")
    for name, data in packets.items():
        client.assert_silence(data, barrier=by_ids(HOST))
    assert daemon.metric("leafd_dropped_total", reason="reply") == before + len(packets)


# ---- requests of g3proxy ----


def test_the_request_g3proxy_sends(client, ca):
    """Map of 4, ids, order host, service, usage, cert in a bin16; the same in the reply, 6 keys."""
    host = f"g3-{next(numbers)}.example.org"
    upstream = certs.upstream([host])
    data = mimic(host, upstream)
    assert data.startswith(bytes([0x84, 0x01])) and b"\x02\x00\x04\x00\x03\xc5" in data
    answer = client.ask_leaf(data)
    assert_ids_form(answer)
    checks.assert_leaf(answer, ca.cert, names=[host])


def test_keys_have_the_forms_of_their_dialect(daemon, client):
    """DER: EC as SEC1, RSA as PKCS#1. PEM: PKCS#8."""
    daemon.wait_rsa_key()
    ecc = client.ask_leaf(by_ids(HOST)).map[4]
    fields = der.read(ecc)[0].children()
    assert fields[0].content == b"\x01" and fields[1].tag == 0x04 and fields[2].tag == 0xA0, "not SEC1"
    rsa_upstream = certs.upstream([HOST], key="rsa-2048")
    fields = der.read(client.ask_leaf(mimic(HOST, rsa_upstream)).map[4])[0].children()
    assert len(fields) == 9 and fields[0].content == b"\x00" and fields[2].content == b"\x01\x00\x01", "not PKCS#1"
    for cert, kind in ((UPSTREAM, ec.EllipticCurvePrivateKey), (rsa_upstream, rsa.RSAPrivateKey)):
        answer = client.ask_leaf(by_names(HOST, cert=cert))
        assert answer.map["key"].startswith("-----BEGIN PRIVATE KEY-----\n") and isinstance(answer.key, kind)


def test_the_host_is_echoed_octet_by_octet(client):
    for host in ("WIRE.Example.ORG.", "b\u00fccher.example", "[2001:DB8::0:1]", "WIRE.example.org"):
        answer = client.ask_leaf(by_ids(host))
        assert answer.host == host
        assert client.ask_leaf(by_names(host)).host == host
    raw = client.ask_raw(raw_map((b"\x01", pack("\u212aelvin.example"))))  # KELVIN SIGN maps to k
    assert Answer(raw).host == "\u212aelvin.example" and Answer(raw).sans == ["kelvin.example"]


@pytest.mark.parametrize("seed", range(4))
def test_mutated_requests_harm_nobody(daemon, client, seed):
    """Thousands of requests with some octets changed, cut or doubled; the processes stay the same ones."""
    chance = random.Random(seed)
    roles = daemon.role_pids()
    originals = [by_ids(HOST), by_names(HOST, service="http"), MINE, by_ids(HOST, cert=certs.pem(UPSTREAM), usage=11)]
    for _ in range(1500):
        data = bytearray(chance.choice(originals))
        for _ in range(chance.choice((1, 1, 2, 5, 20))):
            at = chance.randrange(len(data))
            change = chance.randrange(4)
            if change == 0:
                data[at] = chance.randrange(256)
            elif change == 1:
                del data[at : at + chance.randrange(1, 9)]
            elif change == 2:
                data[at:at] = data[at : at + chance.randrange(1, 40)]
            else:
                data[at] ^= 1 << chance.randrange(8)
            data = data or bytearray(b"\0")
        client.send(bytes(data))
        while raw := client.receive(timeout=0):
            assert len(raw) <= 16384 and Answer(raw)
    while client.receive(timeout=0.3):
        pass
    client.ask_last(f"after-{seed}.{HOST}")
    assert daemon.role_pids() == roles
