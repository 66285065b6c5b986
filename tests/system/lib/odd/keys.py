# SPDX-License-Identifier: Apache-2.0
"""The subject's public key. None of them need be a key that somebody has."""

from .. import certs, der
from . import algorithm, chance, family

RSA, PSS, EC = "1.2.840.113549.1.1.1", "1.2.840.113549.1.1.10", "1.2.840.10045.2.1"
P256 = der.oid("1.2.840.10045.3.1.7")
SHA256 = der.seq(der.context(0, algorithm("2.16.840.1.101.3.4.2.1", der.NULL)))


def modulus(bits):
    return chance.getrandbits(bits) | 1 << (bits - 1) | 1


def spki(oid, key, *parameters, unused=0):
    return der.seq(algorithm(oid, *parameters), der.bits(key, unused))


def rsa(n=None, e=65537, *, oid=RSA, parameters=(der.NULL,), behind=b"", unused=0):
    """`n` and `e`: numbers, or whole INTEGERs."""
    n = modulus(2048) if n is None else n
    numbers = [number if isinstance(number, bytes) else der.integer(number) for number in (n, e)]
    return spki(oid, der.seq(*numbers, behind), *parameters, unused=unused)


def octets(count):
    return chance.getrandbits(8 * count).to_bytes(count, "big")


def point(form, size=64):
    return bytes([form]) + octets(size)


def compressed(whole):
    """The point of this key, of 256 bits, by its x and the last bit of its y."""
    x_and_y = der.read(whole)[0][1].content[2:]
    return bytes([2 | x_and_y[63] & 1]) + x_and_y[:32]


@family
def rsa_keys(world):
    def leaf(key):
        return world.leaf(key=key)

    for bits in (512, 1023, 1024, 1536, 2047, 2048, 3072, 4096, 8192, 16384):
        yield f"key-rsa-{bits}", leaf(rsa(modulus(bits)))
    for name, exponent in (("3", 3), ("1", 1), ("0", 0), ("even", 65536), ("negative", -65537)):
        yield f"key-rsa-exponent-{name}", leaf(rsa(e=exponent))
    n = modulus(2048)
    whole = n.to_bytes(256, "big")
    yield "key-rsa-modulus-even", leaf(rsa(n - 1))
    yield "key-rsa-modulus-zero", leaf(rsa(0))
    yield "key-rsa-modulus-sign", leaf(rsa(der.tlv(0x02, whole)))
    yield "key-rsa-modulus-long", leaf(rsa(der.tlv(0x02, b"\0\0" + whole)))
    yield "key-rsa-no-null", leaf(rsa(parameters=()))
    yield "key-rsa-garbage", leaf(spki(RSA, octets(270), der.NULL))
    yield "key-rsa-trailing", leaf(rsa(behind=der.integer(1)))
    yield "key-rsa-unused-bits", leaf(rsa(behind=b"", e=65536 + 0x100, unused=4))
    yield "key-rsa-empty", leaf(spki(RSA, b"", der.NULL))
    yield "key-pss", leaf(rsa(oid=PSS, parameters=()))
    yield "key-pss-parameters", leaf(rsa(oid=PSS, parameters=(SHA256,)))
    yield "key-pss-1024", leaf(rsa(modulus(1024), oid=PSS, parameters=()))


@family
def ec_keys(world):
    def leaf(*key, **options):
        return world.leaf(key=spki(EC, *key, **options))

    for kind in ("p224", "p384", "p521", "secp256k1", "brainpool256"):
        yield f"key-{kind}", world.leaf(key=f"ec-{kind}")
    yield "key-brainpool384", leaf(point(4, 96), der.oid("1.3.36.3.3.2.8.1.1.11"))
    yield "key-brainpool512", leaf(point(4, 128), der.oid("1.3.36.3.3.2.8.1.1.13"))
    yield "key-sm2", world.leaf(key="sm2")
    yield "key-sm2-compressed", leaf(compressed(certs.spki("sm2")), der.oid(certs.SM2_OID))
    yield "key-sm2-short", leaf(point(4, 63), der.oid(certs.SM2_OID))
    yield "key-brainpool-twisted", leaf(point(4), der.oid("1.3.36.3.3.2.8.1.1.8"))
    yield "key-p192", leaf(point(4, 48), der.oid("1.2.840.10045.3.1.1"))
    yield "key-sect283", leaf(point(4, 72), der.oid("1.3.132.0.16"))
    yield "key-curve-unknown", world.leaf(key="ec-unknown")
    yield "key-curve-explicit", world.leaf(key="ec-explicit")
    yield "key-curve-implicit", leaf(point(4), der.NULL)
    yield "key-curve-absent", leaf(point(4))
    key = certs.spki("ec-p256")
    yield "key-ec-compressed", leaf(compressed(key), P256)
    yield "key-ec-hybrid", leaf(bytes([4 | compressed(key)[0]]) + der.read(key)[0][1].content[2:], P256)
    yield "key-ec-infinity", leaf(b"\0", P256)
    yield "key-ec-short", leaf(point(4, 63), P256)
    yield "key-ec-empty", leaf(b"", P256)
    yield "key-ec-unused-bits", leaf(point(4, 63) + b"\xf0", P256, unused=4)


@family
def other_keys(world):
    def leaf(*key):
        return world.leaf(key=spki(*key))

    parameters = der.seq(*(der.integer(modulus(bits)) for bits in (2048, 256, 2047)))
    public = der.integer(modulus(2040))
    yield "key-dsa", leaf("1.2.840.10040.4.1", public, parameters)
    yield "key-dsa-inherited", leaf("1.2.840.10040.4.1", public)
    yield "key-ed25519", world.leaf(key="ed25519")
    yield "key-ed25519-short", leaf("1.3.101.112", octets(31))
    yield "key-ed25519-null", leaf("1.3.101.112", octets(32), der.NULL)
    yield "key-ed448", leaf("1.3.101.113", octets(57))
    yield "key-ed448-long", leaf("1.3.101.113", octets(58))
    yield "key-x25519", leaf("1.3.101.110", octets(32))
    yield "key-dh", leaf("1.2.840.10046.2.1", public, parameters)
    yield "key-rsa-oaep", world.leaf(key=rsa(oid="1.2.840.113549.1.1.7"))
    curve = der.seq(der.oid("1.2.643.7.1.2.1.1.1"), der.oid("1.2.643.7.1.1.2.2"))
    yield "key-gost", leaf("1.2.643.7.1.1.1.1", der.octets(octets(64)), curve)
    yield "key-ml-dsa-44", leaf("2.16.840.1.101.3.4.3.17", octets(1312))
    yield "key-ml-dsa-87", leaf("2.16.840.1.101.3.4.3.19", octets(2592))
    yield "key-unknown", leaf("1.3.6.1.4.1.55555.3", octets(32))
    yield "key-no-sequence", world.leaf(key=der.octets(octets(32)))
    yield "key-no-bits", world.leaf(key=der.seq(algorithm(EC, P256)))
    yield "key-bad-algorithm", world.leaf(key=der.seq(der.seq(der.tlv(0x06, b"\x80\x01")), der.bits(octets(32))))
