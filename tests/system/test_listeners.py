# SPDX-License-Identifier: Apache-2.0
"""Where leafd listens, whom it answers, from which address and in which form."""

import os
import socket
import struct

import pytest

from lib import certs, checks, der, tree
from lib.client import Answer, UdpClient, UnixClient, by_ids, by_names, mimic
from lib.leafd_process import LeafdProcess, udp_address

HOST = "listen.example.org"


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on the loopback interface")


# ---- addresses ----


@needs_ipv6
def test_ipv6(start, ca):
    with start(ca, {"listen": [{"udp": "[::1]:0"}]}) as daemon, daemon.client() as client:
        assert daemon.listen[0].startswith("[::1]:")
        checks.assert_leaf(client.ask_leaf(by_ids(HOST)), ca.cert, names=[HOST])


@needs_ipv6
def test_several_listeners(start, ca):
    with start(ca, {"listen": [{"udp": "127.0.0.1:0"}, {"udp": "[::1]:0"}, {"udp": "127.0.0.2:0"}]}) as daemon:
        assert len(daemon.listen) == 3
        certificates = set()
        for text in daemon.listen:
            with UdpClient(udp_address(text)) as client:
                certificates.add(client.ask_leaf(by_ids(HOST)).map[3])
        assert len(certificates) == 1, "one cache for all"


def test_replies_leave_from_the_address_asked(start, ca):
    listen = [{"udp": "0.0.0.0:0", "allow_from": ["127.0.0.0/8"]}]
    with start(ca, {"listen": listen}) as daemon:
        port = daemon.address[1]
        for asked in ("127.0.0.1", "127.0.0.2", "127.9.9.9"):
            # Not connected, so that a reply from elsewhere would be seen.
            for data in (by_ids(HOST), b"\xc1", mimic(HOST, certs.upstream([HOST]))):
                with UdpClient((asked, port), bind=("127.0.0.1", 0), connect=False) as client:
                    client.send(data)
                    client.socket.settimeout(5)
                    _, source = client.socket.recvfrom(65536)
                    assert source == (asked, port)


@needs_ipv6
def test_an_ipv6_wildcard_is_ipv6_alone(start, ca):
    with start(ca, {"listen": [{"udp": "[::]:0", "allow_from": ["::1/128", "127.0.0.0/8"]}]}) as daemon:
        port = daemon.address[1]
        with UdpClient(("::1", port)) as client:
            client.ask_leaf(by_ids(HOST))
        # The same port is still free for IPv4, at an address where nobody is given one for its requests.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.66", port))


# ---- who may ask ----


def test_allow_from(start, ca):
    """Others are dropped without a word, and counted."""
    listen = [{"udp": "127.0.0.1:0", "allow_from": ["127.0.0.2/32", "127.1.0.0/16"]}]
    with start(ca, {"listen": listen}) as daemon:
        for source in ("127.0.0.2", "127.1.2.3"):
            with UdpClient(daemon.address, bind=(source, 0)) as client:
                client.ask_leaf(by_ids(HOST))
        for source in ("127.0.0.1", "127.0.0.3", "127.2.0.1"):
            before = daemon.metric("leafd_dropped_total", reason="source")
            with UdpClient(daemon.address, bind=(source, 0)) as client:
                for data in (by_ids(HOST), b"\xc1"):
                    client.send(data)
                daemon.wait_metric("leafd_dropped_total", more_than=before + 1, reason="source")
                assert client.receive(timeout=0.1) is None


def internet_checksum_packet(source, target, payload):
    """An IPv4 UDP packet with a source of our choice (the kernel fills in the header's checksum)."""
    udp = struct.pack(">HHHH", source[1], target[1], 8 + len(payload), 0) + payload
    header = struct.pack(
        ">BBHHHBBH4s4s",
        0x45,
        0,
        20 + len(udp),
        0,
        0,
        64,
        socket.IPPROTO_UDP,
        0,
        socket.inet_aton(source[0]),
        socket.inet_aton(target[0]),
    )
    return header + udp


@pytest.mark.skipif(not tree.IS_ROOT, reason="a spoofed source needs root")
def test_two_listeners_never_talk_to_each_other(start, ca):
    """A datagram whose source is a listener of ours is dropped, whatever is in it."""
    with start(ca, {"listen": [{"udp": "127.0.0.1:0"}, {"udp": "127.0.0.2:0"}]}) as daemon:
        first, second = map(udp_address, daemon.listen)
        before = daemon.metric("leafd_dropped_total", reason="loop")
        datagrams = daemon.metric("leafd_datagrams_total")
        sent = 0
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
            for source, target in ((first, second), (second, first), (first, first)):
                for data in (b"\xc1", by_ids(HOST), by_ids(HOST, service=99)):
                    raw.sendto(internet_checksum_packet(source, target, data), (target[0], 0))
                    sent += 1
        daemon.wait_metric("leafd_dropped_total", more_than=before + sent - 1, reason="loop")
        # Had one been answered, a listener would have read the answer.
        with daemon.client() as client:
            client.ask_leaf(by_ids(HOST))
        assert daemon.metric("leafd_datagrams_total") == datagrams + sent + 1
        assert daemon.metric("leafd_dropped_total", reason="loop") == before + sent


def test_a_listener_does_not_answer_itself(start, ca):
    """The same with a socket of ours that the daemon got from systemd's protocol: no root needed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine:
        mine.bind(("127.0.0.1", 0))
        address = mine.getsockname()
        with start(ca, {"listen": [{"udp": f"127.0.0.1:{address[1]}"}]}, pass_fd=mine.fileno()) as daemon:
            assert daemon.address == address
            before = daemon.metric("leafd_dropped_total", reason="loop")
            mine.sendto(by_ids(HOST), address)
            daemon.wait_metric("leafd_dropped_total", more_than=before, reason="loop")


def test_a_listener_elsewhere_needs_allow_from(folder, config_of, ca):
    """Private keys travel in clear: only loopback is open by default."""
    daemon = LeafdProcess(folder, config_of(ca, {"listen": [{"udp": "0.0.0.0:0"}]}))
    assert daemon.wait_exit() == 78
    assert "allow_from" in daemon.log()


# ---- Unix datagram sockets ----


@pytest.fixture
def unix_daemon(start, ca):
    with start(
        ca, {"listen": [{"udp": "127.0.0.1:0"}, {"unix": "leafd.sock", "allow_uid": [0, os.getuid()]}]}
    ) as daemon:
        yield daemon


def test_unix_socket(unix_daemon, ca, folder):
    socket_path = unix_daemon.folder / "leafd.sock"
    with UnixClient(socket_path, folder / "mine.sock") as client:
        checks.assert_leaf(client.ask_leaf(by_ids(HOST)), ca.cert, names=[HOST])
        checks.assert_leaf(client.ask_leaf(mimic(HOST, certs.upstream([HOST]))), ca.cert, names=[HOST])
        assert client.ask_error(b"\xc1") == "malformed"
    with UnixClient(socket_path) as client:  # a name in the abstract namespace
        client.ask_leaf(by_ids(HOST))


def test_a_unix_client_without_a_name_harms_nobody(unix_daemon):
    path = unix_daemon.folder / "leafd.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless:
        nameless.connect(str(path))
        for data in (by_ids(HOST), b"\xc1", b""):
            nameless.send(data)
    with UnixClient(path) as client:
        client.ask_leaf(by_ids(HOST))


@pytest.mark.skipif(not tree.IS_ROOT, reason="to be somebody else needs root")
def test_allow_uid(unix_daemon):
    """Somebody else reaches the socket, and is refused."""
    path = unix_daemon.folder / "leafd.sock"
    assert path.stat().st_mode & 0o777 == 0o666, "the kernel would refuse before leafd counts"
    with UnixClient(path) as client:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setgroups([])
                os.setresgid(tree.STRANGER_ID, tree.STRANGER_ID, tree.STRANGER_ID)
                os.setresuid(tree.STRANGER_ID, tree.STRANGER_ID, tree.STRANGER_ID)
                answer = Answer(client.ask_raw(by_ids(HOST)))
                code = 0 if answer.map == {1: HOST, 7: "refused"} else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        client.ask_leaf(by_ids(HOST))


# ---- forms ----


def test_cert_format_der(start, ca):
    """A bin when the leaf stands alone."""
    with start(ca, {"listen": [{"udp": "127.0.0.1:0", "cert_format": "der"}]}) as daemon, daemon.client() as client:
        for data in (by_ids(HOST), by_names(HOST)):
            answer = client.ask_leaf(data)
            assert isinstance(answer.fields["cert"], bytes)
            checks.assert_leaf(answer, ca.cert, names=[HOST])


def test_cert_format_der_with_a_chain(start, ca):
    """With a chain an array of bins, the leaf first."""
    changes = {"listen": [{"udp": "127.0.0.1:0", "cert_format": "der"}], "ca": {"append_root": True}}
    with start(ca, changes) as daemon, daemon.client() as client:
        answer = client.ask_leaf(by_ids(HOST))
        assert isinstance(answer.fields["cert"], list) and len(answer.fields["cert"]) == 2
        checks.assert_leaf(answer, ca.cert, names=[HOST], chain=[ca.cert])


def test_append_root(start, ca):
    """As g3fcgen does: PEM of the leaf, then of the CA. Without it, a self-signed root is not sent."""
    with start(ca, {"ca": {"append_root": True}}) as daemon, daemon.client() as client:
        checks.assert_leaf(client.ask_leaf(by_ids(HOST)), ca.cert, names=[HOST], chain=[ca.cert])
        checks.assert_leaf(client.ask_leaf(mimic(HOST, certs.upstream([HOST]))), ca.cert, names=[HOST], chain=[ca.cert])


@pytest.mark.parametrize("key_format", ["der", "pem"])
def test_key_format(start, ca, key_format):
    """In both dialects. PEM keys are PKCS#8, DER ones of their own kind."""
    with start(ca, {"listen": [{"udp": "127.0.0.1:0", "key_format": key_format}]}) as daemon, daemon.client() as client:
        daemon.wait_rsa_key()
        rsa = certs.upstream([HOST], key="rsa-2048")
        for data in (by_ids(HOST), by_names(HOST), by_ids(HOST, cert=rsa), by_names(HOST, cert=rsa)):
            answer = client.ask_leaf(data)
            if key_format == "pem":
                assert answer.fields["key"].startswith("-----BEGIN PRIVATE KEY-----\n")
            else:
                version = der.read(answer.fields["key"])[0][0].content
                assert version == (b"\x00" if "rsa" in checks.key_kind(answer.leaf.public_key()) else b"\x01")
            checks.assert_leaf(answer, ca.cert, names=[HOST], key=checks.key_kind(answer.leaf.public_key()))


def test_one_leaf_in_every_form(start, ca):
    """Formats belong to the listener, not to the leaf: it is issued once."""
    listen = [{"udp": "127.0.0.1:0"}, {"udp": "127.0.0.1:0", "cert_format": "der", "key_format": "pem"}]
    with start(ca, {"listen": listen}) as daemon:
        blocks = set()
        for text in daemon.listen:
            for data in (by_ids(HOST), by_names(HOST)):
                with UdpClient(udp_address(text)) as client:
                    blocks.add(client.ask_leaf(data).cert_blocks[0])
        assert len(blocks) == 1
        assert daemon.metric("leafd_replies_total", result="issued") == 1
        assert daemon.metric("leafd_replies_total", result="hit") == 3


def test_a_flood_harms_nobody(daemon):
    """Thousands of requests at once on one socket; afterwards an answer comes at once."""
    with daemon.client() as client:
        data = [by_ids(f"flood-{n % 50}.example.org") for n in range(50)] + [b"\xc1", os.urandom(200), b""]
        for n in range(5000):
            client.send(data[n % len(data)])
        while client.receive(timeout=0.3):
            pass
        client.ask_last("after-the-flood.example.org")
