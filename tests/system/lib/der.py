# SPDX-License-Identifier: Apache-2.0
"""The little DER that the tests write (also wrong, on purpose) and read."""


def tlv(tag, *parts):
    body = b"".join(parts)
    size = len(body)
    if size < 0x80:
        return bytes([tag, size]) + body
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(octets)]) + octets + body


def seq(*parts):
    return tlv(0x30, *parts)


def set_of(*parts):
    return tlv(0x31, *parts)


def integer(value):
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def oid(dotted):
    arcs = [int(arc) for arc in dotted.split(".")]
    out = bytearray()
    for arc in [arcs[0] * 40 + arcs[1]] + arcs[2:]:
        octets = [arc & 0x7F]
        while arc := arc >> 7:
            octets.append(0x80 | (arc & 0x7F))
        out += bytes(reversed(octets))
    return tlv(0x06, bytes(out))


def octets(body):
    return tlv(0x04, body)


def bits(body, unused=0):
    return tlv(0x03, bytes([unused]) + body)


def boolean(value, true=b"\xff"):
    return tlv(0x01, true if value else b"\x00")


def context(number, *parts, constructed=True):
    return tlv(0x80 | (0x20 if constructed else 0) | number, *parts)


NULL = tlv(0x05)


class Element:
    """One element of a DER text: tag, content, and the whole of it."""

    def __init__(self, tag, content, whole):
        self.tag, self.content, self.whole = tag, content, whole

    def children(self):
        return read_all(self.content)

    def __getitem__(self, index):
        return self.children()[index]


def read(data):
    """The first element of `data`, and what is behind it."""
    tag, size, at = data[0], data[1], 2
    if size & 0x80:
        count = size & 0x7F
        size = int.from_bytes(data[2 : 2 + count], "big")
        at += count
    if at + size > len(data):
        raise ValueError("cut DER")
    return Element(tag, data[at : at + size], data[: at + size]), data[at + size :]


def read_all(data):
    elements = []
    while data:
        element, data = read(data)
        elements.append(element)
    return elements
