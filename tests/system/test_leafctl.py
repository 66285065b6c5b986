# SPDX-License-Identifier: Apache-2.0
"""leafctl: a CA made and shown, a leaf fetched and explained, a daemon looked at and flushed."""

import contextlib
import json
import os
import pty
import socket
import stat
import subprocess

import pytest

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from lib import certs, checks, der, tree
from lib.authority import Authority, Token, configuration, files_in, leafctl, leafctl_json
from lib.client import Answer, UnixClient, by_ids, pack
from lib.leafd_process import environment

HOST = "www.example.org"
NAMES = [HOST, "example.org", "*.cdn.example.org", "192.0.2.1", "2001:db8::1"]


@pytest.fixture(scope="module")
def upstream_file(session_folder):
    file = session_folder / "upstream.pem"
    file.write_text(certs.pem(certs.upstream(NAMES)))
    return file


@pytest.fixture(scope="module")
def follower(start, ca):
    """A daemon whose leaves have keys as their upstreams."""
    with start(ca, {"leaf": {"key": "upstream"}}) as running:
        yield running


class Printed:
    """PEM text of a leaf, its chain and its key, as `leafctl issue` prints it; made to look like a reply."""

    def __init__(self, text):
        blocks = [b + "-----END CERTIFICATE-----\n" for b in text.split("-----END CERTIFICATE-----\n")[:-1]]
        self.certs = [x509.load_pem_x509_certificate(b.encode()) for b in blocks]
        self.leaf = self.certs[0]
        self.key = load_pem_private_key(text.split("-----END CERTIFICATE-----\n")[-1].encode(), None)
        self.cert_blocks = [c.public_bytes(Encoding.DER) for c in self.certs]

    sans = Answer.sans


def issue(daemon, *words):
    host, port = daemon.address
    return leafctl(daemon.file, daemon.folder, "issue", *words, "--server", f"{host}:{port}")


# ---- issue ----


def test_issue_like(daemon, ca, upstream_file):
    """What a TLS client trusting only the CA accepts for every name of the upstream leaf."""
    done = issue(daemon, "example.org", "--like", upstream_file)
    assert done.returncode == 0, done.stderr
    leaf = Printed(done.stdout)
    checks.assert_leaf(leaf, ca.cert, names=NAMES)
    for name in NAMES:
        checks.assert_openssl(leaf, ca.cert, [checks.probe_host(name)])
        checks.handshake(leaf, ca.cert, checks.probe_host(name))
    with pytest.raises(checks.ssl.SSLError):
        checks.handshake(leaf, ca.cert, "other.example.net")


def test_issue_fresh(daemon, ca):
    done = issue(daemon, "fresh.example.org")
    assert done.returncode == 0, done.stderr
    checks.assert_leaf(Printed(done.stdout), ca.cert, names=["fresh.example.org"], common_name="fresh.example.org")


@pytest.mark.parametrize("form", ["pem", "der"])
def test_issue_into_files(daemon, ca, upstream_file, folder, form):
    """--out DIR: the key is its owner's alone; a chain stands behind the leaf, or beside it."""
    out = folder / "out"
    done = issue(daemon, HOST, "--like", upstream_file, "--out", out, "--format", form)
    assert done.returncode == 0, done.stderr
    assert "PRIVATE KEY" not in done.stdout
    names = files_in(out)
    keys = [n for n in names if "key" in n]
    leaves = [n for n in names if n not in keys and "chain" not in n]
    assert len(keys) == 1 and len(leaves) == 1, names
    assert stat.S_IMODE((out / keys[0]).stat().st_mode) == 0o600
    data = (out / keys[0]).read_bytes()
    key = load_der_private_key(data, None) if form == "der" else load_pem_private_key(data, None)
    data = (out / leaves[0]).read_bytes()
    leaf = x509.load_der_x509_certificate(data) if form == "der" else x509.load_pem_x509_certificate(data)
    assert leaf.public_key().public_numbers() == key.public_key().public_numbers()
    checks.assert_signed_by(leaf, ca.cert)
    assert issue(daemon, HOST, "--out", out, "--format", form).returncode in (0, 1), "again"


def public_key(words):
    return subprocess.run(["openssl", *map(str, words)], capture_output=True, timeout=120, check=True).stdout


@pytest.mark.parametrize("key", ["ec-p521", "ed25519", "ed448", "sm2", "rsa-2048"])
def test_issue_every_type_of_key(follower, folder, key):
    """Written as PKCS#8 whatever it is, in PEM and in DER; openssl reads it, and it is the leaf's."""
    if key == "rsa-2048":
        follower.wait_rsa_key()
    (folder / "up.pem").write_text(certs.pem(certs.upstream([HOST], key=key)))
    for form in ("pem", "der"):
        done = issue(follower, HOST, "--like", folder / "up.pem", "--out", folder / form, "--format", form)
        assert done.returncode == 0, done.stderr
        leaf, private = folder / form / f"leaf.{form}", folder / form / f"key.{form}"
        wanted = public_key(["x509", "-in", leaf, "-inform", form, "-noout", "-pubkey"])
        assert public_key(["pkey", "-in", private, "-inform", form, "-pubout"]) == wanted
    blocks = [certs.der_of_pem((folder / "pem" / "leaf.pem").read_text()), (folder / "der" / "leaf.der").read_bytes()]
    assert blocks[0] == blocks[1]
    info = der.read((folder / "der" / "key.der").read_bytes())[0].children()
    assert info[0].content == b"\0" and info[1].whole == checks.spki_of(blocks[0])[0].whole
    assert (folder / "pem" / "key.pem").read_text().startswith("-----BEGIN PRIVATE KEY-----")


def test_issue_for_tlcp(daemon, folder):
    for usage in ("tlcp_server_signature", "tlcp_server_encryption"):
        done = issue(daemon, HOST, "--usage", usage, "--out", folder / usage)
        assert done.returncode == 0, done.stderr
        command = ["openssl", "pkey", "-in", str(folder / usage / "key.pem"), "-noout", "-text_pub"]
        text = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        assert "SM2" in text, text


def test_der_needs_out(daemon):
    done = issue(daemon, HOST, "--format", "der")
    assert done.returncode == 2 and "--out" in done.stderr


def test_issue_what_is_refused(daemon, folder):
    done = issue(daemon, "a b")
    assert done.returncode == 1 and "refused" in done.stderr and not done.stdout
    (folder / "none.pem").write_text("no certificate")
    done = issue(daemon, HOST, "--like", folder / "none.pem")
    assert done.returncode == 1 and done.stderr and not done.stdout
    done = issue(daemon, HOST, "--like", folder / "absent.pem")
    assert done.returncode == 1 and "absent.pem" in done.stderr


def test_issue_where_nobody_listens(ca, config_of, folder):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        done = leafctl(
            config_of(ca), folder, "issue", HOST, "--server", f"127.0.0.1:{silent.getsockname()[1]}", timeout=30
        )
    assert done.returncode == 1 and done.stderr


def test_no_passphrase_is_asked_for(folder):
    """A stranger who answers in leafd's place with an encrypted key gets no secret of the operator's."""
    key = ec.generate_private_key(ec.SECP256R1())
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.0.1", 0))
        command = [tree.LEAFCTL, "issue", HOST, "--server", "127.0.0.1:%d" % stranger.getsockname()[1]]
        try:
            pid, terminal = pty.fork()
        except OSError as error:
            pytest.skip(f"no pseudo-terminal here ({error}); is /dev/pts mounted?")
        if pid == 0:
            os.execve(command[0], list(map(str, command)), environment())
        _, asker = stranger.recvfrom(65536)
        stranger.sendto(pack({1: HOST, 3: certs.pem(certs.upstream([HOST])), 4: locked, 5: 10}), asker)
        said = b""
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            while b"phrase" not in said:
                said += os.read(terminal, 4096)
        os.close(terminal)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert b"phrase" not in said and b"no leaf that its key belongs to" in said, said
    assert status == 1


def test_issue_over_a_unix_socket(start, ca):
    with start(ca, {"listen": [{"udp": "127.0.0.1:0"}, {"unix": "leafd.sock"}]}) as daemon:
        done = leafctl(daemon.file, daemon.folder, "issue", HOST, "--server", f"unix:{daemon.folder}/leafd.sock")
        assert done.returncode == 0, done.stderr
        checks.assert_leaf(Printed(done.stdout), ca.cert, names=[HOST])
        with UnixClient(daemon.folder / "leafd.sock") as client:
            client.ask_leaf(by_ids(HOST))


@pytest.mark.parametrize(
    "changes",
    [{"ca": {"append_root": True}}, {"listen": [{"udp": "127.0.0.1:0", "cert_format": "der", "key_format": "der"}]}],
    ids=["append-root", "der"],
)
def test_issue_from_a_daemon_with_other_forms(start, ca, changes):
    with start(ca, changes) as daemon:
        done = issue(daemon, HOST)
        assert done.returncode == 0, done.stderr
        printed = Printed(done.stdout)
        chain = [ca.cert] if "ca" in changes else []
        checks.assert_leaf(printed, ca.cert, names=[HOST], chain=chain)


# ---- explain ----


def test_explain(config_of, ca, folder, upstream_file):
    """Which plan, and why; without a daemon, without a token."""
    done = leafctl(config_of(ca), folder, "explain", HOST, "--like", upstream_file)
    assert done.returncode == 0, done.stderr
    for word in ("mimic", "good", "192.0.2.1"):
        assert word in done.stdout.lower(), done.stdout
    done = leafctl(config_of(ca), folder, "explain", HOST)
    assert done.returncode == 0 and "fresh" in done.stdout.lower(), done.stdout + done.stderr


@pytest.mark.parametrize(
    "fields, words",
    [
        ({"signature": "rsa-sha1"}, ["untrusted", "sha-1"]),
        ({"start": -60 * certs.DAY, "end": -certs.DAY}, ["expired"]),
        ({"names": ["other.example.net"]}, ["name"]),
        ({"eku": [certs.CLIENT_AUTH]}, ["untrusted"]),
        ({"ca": True}, ["legacy"]),
    ],
    ids=["sha1", "expired", "name", "eku", "legacy"],
)
def test_explain_tells_the_reason(config_of, ca, folder, fields, words):
    fields = {"names": [HOST], **fields}
    (folder / "up.pem").write_text(certs.pem(certs.upstream(**fields)))
    done = leafctl(config_of(ca), folder, "explain", HOST, "--like", folder / "up.pem")
    assert done.returncode == 0, done.stderr
    assert all(w in done.stdout.lower() for w in words), done.stdout
    report = leafctl_json(config_of(ca), folder, "explain", HOST, "--like", folder / "up.pem")
    assert isinstance(report, dict) and all(w in json.dumps(report).lower() for w in words), report


EXPLAINED = {
    "fresh": ([], None, {}, "ec-p256"),
    "fresh-tlcp": (["--usage", "TLCP_server_signature"], None, {}, "sm2"),
    "compatible": ([], "ed448", {}, "ec-p256"),
    "upstream": ([], "ed448", {"leaf": {"key": "upstream"}}, "ed448"),
    "upstream-rsa": ([], "rsa-5000", {"leaf": {"key": "upstream"}}, "rsa-4096"),
    "rsa-bits": ([], "rsa-2048", {"leaf": {"rsa_bits": 3072}, "keys": {"rsa_match": "strict"}}, "rsa-3072"),
    "type": (["--usage", "tlcp_server_encryption"], None, {"leaf": {"key": "ec-p521"}}, "ec-p521"),
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_explain_names_the_key(config_of, ca, folder, name):
    words, upstream_key, changes, wanted = EXPLAINED[name]
    if upstream_key:
        (folder / "up.pem").write_text(certs.pem(certs.upstream([HOST], key=upstream_key)))
        words = [*words, "--like", folder / "up.pem"]
    report = leafctl_json(config_of(ca, changes), folder, "explain", HOST, *words)
    assert report["key_type"] == wanted
    assert any("keys.rsa_match" in why for why in report["why"]) == (wanted == "rsa-4096"), report
    done = leafctl(config_of(ca, changes), folder, "explain", HOST, *words)
    assert wanted in done.stdout.split(), done.stdout + done.stderr


def test_explain_a_refusal(config_of, ca, folder):
    done = leafctl(config_of(ca), folder, "explain", "a b")
    assert "refused" in (done.stdout + done.stderr).lower()


def test_explain_prints_nothing_unescaped(config_of, ca, folder):
    evil = "evil\x1b[31m\n"
    subject = certs.name((certs.ORGANIZATION, evil), (certs.COMMON_NAME, HOST))
    (folder / "up.pem").write_text(certs.pem(certs.upstream([HOST], subject=subject)))
    for words in (
        ["explain", HOST, "--like", folder / "up.pem"],
        ["explain", evil],
        ["issue", evil, "--server", "127.0.0.1:9"],
    ):
        done = leafctl(config_of(ca), folder, *words)
        assert "\x1b" not in done.stdout + done.stderr


# ---- status, flush, check ----


def test_status(daemon, client):
    client.ask_leaf(by_ids("status.example.org"))
    done = leafctl(daemon.file, daemon.folder, "status")
    assert done.returncode == 0 and "ready" in done.stdout.lower(), done.stdout + done.stderr
    report = leafctl_json(daemon.file, daemon.folder, "status")
    assert isinstance(report, dict) and "ready" in json.dumps(report).lower()


def test_flush(daemon, client):
    data = by_ids("flushed.example.org")
    first = client.ask_leaf(data).leaf.serial_number
    assert client.ask_leaf(data).leaf.serial_number == first
    done = leafctl(daemon.file, daemon.folder, "flush")
    assert done.returncode == 0, done.stderr
    assert client.ask_leaf(data).leaf.serial_number != first
    assert isinstance(leafctl_json(daemon.file, daemon.folder, "flush"), dict)


def test_status_without_a_daemon(config_of, ca, folder):
    done = leafctl(config_of(ca), folder, "status")
    assert done.returncode == 1 and "control.sock" in done.stderr


@pytest.mark.skipif(not tree.IS_ROOT, reason="to be somebody else needs root")
def test_the_control_socket_is_the_operators(daemon):
    """Whoever is not root (or leafd's own user) gets nothing out of it."""
    config = daemon.folder / "stranger.yaml"
    config.write_text(daemon.file.read_text())
    config.chmod(0o644)

    def become_a_stranger():
        os.setgroups([])
        os.setresgid(tree.STRANGER_ID, tree.STRANGER_ID, tree.STRANGER_ID)
        os.setresuid(tree.STRANGER_ID, tree.STRANGER_ID, tree.STRANGER_ID)

    done = subprocess.run(
        [str(tree.readable(tree.LEAFCTL)), "-c", str(config), "flush"],
        preexec_fn=become_a_stranger, capture_output=True, text=True, timeout=30, env=environment(), cwd="/",
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr


def test_check(config_of, ca, folder):
    """A configuration that is good, and one that is not: file, line, key, reason."""
    good = config_of(ca)
    done = leafctl(good, folder, "check")
    assert done.returncode == 0, done.stdout + done.stderr
    bad = dict(good, colour="red")
    done = leafctl(bad, folder, "check")
    assert done.returncode == 1 and "colour" in done.stderr + done.stdout
    done = leafctl(None, folder, "check", text="log:\n  level: chatty\n")
    assert done.returncode == 1 and ":2" in done.stderr + done.stdout and "log.level" in done.stderr + done.stdout


# ---- ca, token ----


def test_ca_init_makes_what_the_design_says(authorities):
    kinds = [(key, None) for key in ("ec-p256", "ec-p384", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519")]
    for key, rsa_padding in [*kinds, ("rsa-2048", "pss")]:
        cert = authorities(key, rsa_padding=rsa_padding).cert
        assert (checks.signs_with(cert) == "rsa-pss") == (rsa_padding == "pss")
        assert checks.key_kind(cert.public_key()) == key
        checks.assert_signed_by(cert, cert)
        get = cert.extensions.get_extension_for_class
        constraints = get(x509.BasicConstraints)
        assert constraints.critical and constraints.value.ca and constraints.value.path_length == 0
        usage = get(x509.KeyUsage)
        assert usage.critical and usage.value.key_cert_sign and not usage.value.digital_signature
        with pytest.raises(x509.ExtensionNotFound):
            get(x509.ExtendedKeyUsage)
        assert checks.key_identifier(cert)
        days = (cert.not_valid_after - cert.not_valid_before).days
        assert 3650 <= days <= 3656
        assert cert.issuer == cert.subject and cert.subject.rdns
        assert cert.serial_number.bit_length() > 64
    names = {authorities(key).cert.subject for key in ("ec-p256", "ec-p384", "rsa-2048")}
    assert len(names) == 3, "a short key id makes each name its own"


def test_ca_init_options(authorities):
    cert = authorities("ec-p256", "--cn", "Lab CA", "--days", "100").cert
    assert "Lab CA" in cert.subject.rfc4514_string()
    assert 100 <= (cert.not_valid_after - cert.not_valid_before).days <= 103


def test_ca_init_overwrites_nothing(folder):
    """Neither the key nor the certificate."""
    token = Token(folder / "token")
    authority = Authority(token, folder, "ca")
    before = authority.pem_file.read_bytes()
    config = configuration(token, authority.pem_file, "ca")
    done = leafctl(config, folder, "ca", "init")
    assert done.returncode == 1 and done.stderr
    elsewhere = configuration(token, folder / "elsewhere.pem", "ca")
    done = leafctl(elsewhere, folder, "ca", "init")
    assert done.returncode == 1 and not (folder / "elsewhere.pem").exists(), "the key is there already"
    new_key = configuration(token, authority.pem_file, "another-key")
    done = leafctl(new_key, folder, "ca", "init")
    assert done.returncode == 1
    assert authority.pem_file.read_bytes() == before
    done = leafctl(configuration(token, folder / "new.pem", "another-key"), folder, "ca", "init")
    assert done.returncode == 0, f"a refused init left a key behind: {done.stderr}"


def test_ca_init_with_a_wrong_pin(folder):
    token = Token(folder / "token")
    token.pin_file.write_text("wrong\n")
    done = leafctl(configuration(token, folder / "ca.pem", "ca"), folder, "ca", "init")
    assert done.returncode == 1 and "pin" in done.stderr.lower() and not (folder / "ca.pem").exists()


def test_ca_show(config_of, ca, folder):
    done = leafctl(config_of(ca), folder, "ca", "show")
    assert done.returncode == 0, done.stderr
    assert ca.cert.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value in done.stdout
    assert isinstance(leafctl_json(config_of(ca), folder, "ca", "show"), (dict, list))


def test_token_list(config_of, ca, folder):
    done = leafctl(config_of(ca), folder, "token", "list")
    assert done.returncode == 0 and ca.token.label in done.stdout, done.stdout + done.stderr
    assert "ecdsa-sha256, with CKM_ECDSA\n" in done.stdout
    listed = leafctl_json(config_of(ca), folder, "token", "list")
    (token,) = [t for t in listed if t["label"] == ca.token.label]
    assert token["cas"] == [{"ca": 0, "signs_with": "ecdsa-sha256", "can_sign": True, "mechanism": "CKM_ECDSA"}]
    without = config_of(ca, {"ca": {"certificate": str(folder / "not-made-yet.pem")}})
    assert [t["cas"] for t in leafctl_json(without, folder, "token", "list")] == [[] for _ in listed]


def test_token_test(config_of, ca, folder):
    done = leafctl(config_of(ca), folder, "token", "test", "--sessions", "1")
    assert done.returncode == 0 and "leafd would sign" in done.stdout, done.stdout + done.stderr
    told = leafctl_json(config_of(ca), folder, "token", "test", "--sessions", "2")
    assert told["good"] and told["tokens"][0]["keys"][0]["mechanism"] == "CKM_ECDSA"


def test_token_test_of_a_key_that_is_not_there(config_of, ca, folder):
    done = leafctl(config_of(ca, {"ca": {"key": ca.token.uri("no-such-key")}}), folder, "token", "test")
    assert done.returncode == 1 and "no-such-key" in done.stderr


@pytest.mark.skipif(not tree.IS_ROOT, reason="one user owns everything")
def test_token_files_have_one_owner(authorities):
    """leafctl works as the signer's user, so that the daemon can read what it made."""
    token = authorities("ec-p256").token
    owners = {p.stat().st_uid for p in token.folder.rglob("*")}
    assert owners == {tree.SIGNER_ID}


# ---- usage ----


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["issue"],
        ["ca"],
        ["ca", "nonsense"],
        ["token"],
        ["issue", HOST, "--nonsense"],
        ["ca", "init", "--key", "rsa-1024"],
        ["ca", "init", "--days", "x"],
        ["issue", HOST, "--format", "jks"],
    ],
)
def test_usage(config_of, ca, folder, words):
    done = leafctl(config_of(ca), folder, *words)
    assert done.returncode == 2 and done.stderr and not done.stdout


def test_help_and_version():
    for word, start_of in (("--help", "usage: leafctl"), ("--version", "leafctl ")):
        done = subprocess.run([str(tree.LEAFCTL), word], capture_output=True, text=True, timeout=30, env=environment())
        assert done.returncode == 0 and done.stdout.startswith(start_of) and not done.stderr, done.stdout
