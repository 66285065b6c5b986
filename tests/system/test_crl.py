# SPDX-License-Identifier: Apache-2.0
"""The CA's revocation list: made by leafctl with the key in the token, named in leaves, and good for a
client that insists on one; given away by the admin endpoint."""

import calendar
import datetime
import email.utils
import http.client
import socket
import stat
import subprocess

import pytest

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from lib import checks, tree
from lib.authority import NO_CRL_SIGN, SoftwareAuthority, files_in, leafctl, leafctl_json
from lib.client import by_ids
from lib.leafd_process import LeafdProcess, udp_address

KEYS = ["ec-p256", "ec-p384", "rsa-2048", "rsa-2048 pss", "ed25519"]
URL = "http://crl.example.org/ca.crl"
HOST = "www.example.org"
TESTING = ["--insecure-file-key"]


@pytest.fixture(params=KEYS)
def authority(authorities, request):
    key, _, padding = request.param.partition(" ")
    return authorities(key, rsa_padding=padding or None)


@pytest.fixture
def config(config_of, authority, folder):
    return config_of(authority, {"ca": {"crl_url": URL, "crl_file": str(folder / "ca.crl")}})


def read_crl(file):
    return x509.load_der_x509_crl(file.read_bytes())


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def assert_crl(der, ca, folder, days=90):
    """A CRL as RFC 5280 wants it, by three readers. Its number."""
    now = datetime.datetime.utcnow()
    crl = x509.load_der_x509_crl(der)
    assert crl.issuer == ca.subject
    if isinstance(ca.public_key(), ed25519.Ed25519PublicKey):  # which is_signature_valid does not know yet
        ca.public_key().verify(crl.signature, crl.tbs_certlist_bytes)
    else:
        assert crl.is_signature_valid(ca.public_key())
    assert len(crl) == 0
    assert datetime.timedelta(minutes=59) < now - crl.last_update < datetime.timedelta(minutes=62)
    assert abs(crl.next_update - now - datetime.timedelta(days=days)) < datetime.timedelta(minutes=2)
    assert len(crl.extensions) == 2 and not any(e.critical for e in crl.extensions)
    identifier = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    own = ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert (identifier.key_identifier, identifier.authority_cert_issuer) == (own.digest, None)
    (folder / "checked.pem").write_bytes(crl.public_bytes(Encoding.PEM))
    (folder / "checked-ca.pem").write_text(checks.pem_of(ca))
    done = run("openssl", "crl", "-in", folder / "checked.pem", "-CAfile", folder / "checked-ca.pem", "-noout", "-verify")
    assert done.returncode == 0 and "verify OK" in done.stdout + done.stderr
    done = run(
        "certtool", "--verify-crl", "--infile", folder / "checked.pem", "--load-ca-certificate",
        folder / "checked-ca.pem",
    )  # fmt: skip
    assert done.returncode == 0 and "Verified" in done.stdout, done.stdout + done.stderr
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def verify(answer, ca, folder, crl=None):
    """openssl verify with -crl_check: its exit code and what it says."""
    (folder / "leaf.pem").write_bytes(answer.leaf.public_bytes(Encoding.PEM))
    trusted = checks.pem_of(ca)
    if crl is not None:
        trusted += crl.public_bytes(Encoding.PEM).decode()
    (folder / "trusted.pem").write_text(trusted)
    done = run(
        "openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", HOST, "-crl_check",
        "-no-CApath", "-CAfile", folder / "trusted.pem", folder / "leaf.pem",
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_crl_of_each_key_type(config, authority, folder, start):
    """Made, renewed, and what -crl_check wants beside a leaf."""
    file = folder / "ca.crl"
    told = leafctl_json(config, folder, "ca", "crl")
    first = assert_crl(file.read_bytes(), authority.cert, folder)
    assert (told["crl"], told["number"]) == (str(file), first)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    crl = read_crl(file)
    with start(authority, {"ca": {"crl_url": URL}}) as daemon, daemon.client() as client:
        answer = client.ask_leaf(by_ids(HOST))
    checks.assert_leaf(answer, authority.cert, names=[HOST], common_name=HOST, crl_url=URL)
    assert verify(answer, authority.cert, folder, crl)[0] == 0
    code, said = verify(answer, authority.cert, folder)
    assert code != 0 and "unable to get certificate CRL" in said


def test_numbers_grow(config_of, ca, folder):
    """Whatever the clock does: a CRL in the file is always overtaken."""
    config = config_of(ca, {"ca": {"crl_file": str(folder / "ca.crl")}})
    numbers = []
    for options in (["--days", "10"], [], ["--days", "3"]):
        done = leafctl(config, folder, "ca", "crl", *options)
        assert done.returncode == 0, done.stderr
        days = int((options or [0, 90])[1])
        numbers.append(assert_crl((folder / "ca.crl").read_bytes(), ca.cert, folder, days))
    assert numbers == sorted(set(numbers))
    assert not [name for name in files_in(folder) if ".new-" in name]


def test_other_forms_and_places(config_of, ca, folder):
    config = config_of(ca)
    pem, der = folder / "a.pem", folder / "a.crl"
    assert leafctl(config, folder, "ca", "crl", "--out", pem, "--format", "pem").returncode == 0
    assert_crl(x509.load_pem_x509_crl(pem.read_bytes()).public_bytes(Encoding.DER), ca.cert, folder)
    assert leafctl(config, folder, "ca", "crl", "--out", der).returncode == 0
    assert_crl(der.read_bytes(), ca.cert, folder)
    done = leafctl(config, folder, "ca", "crl", "--out", "-", "--format", "pem")
    assert done.returncode == 0
    assert_crl(x509.load_pem_x509_crl(done.stdout.encode()).public_bytes(Encoding.DER), ca.cert, folder)
    text = leafctl(config, folder, "ca", "crl", "--out", der, "--days", "36").stdout
    assert "next update" in text and str(der) in text


def test_never_longer_than_the_ca(config_of, constrained, folder):
    """An intermediate that ends in 20 days: so does its CRL. Its issuer is the intermediate."""
    inner = constrained(end=20)
    config = config_of(inner, {"ca": {"crl_file": str(folder / "ca.crl")}})
    assert leafctl(config, folder, "ca", "crl").returncode == 0
    crl = read_crl(folder / "ca.crl")
    assert crl.next_update == inner.cert.not_valid_after
    assert crl.issuer == inner.cert.subject


def test_refusals(config_of, ca, constrained, folder):
    file = folder / "ca.crl"
    config = config_of(ca)
    with_file = config_of(ca, {"ca": {"crl_file": str(file)}})
    rows = [
        (config, [], 1, "ca.crl_file"),
        (config, ["--out", folder / "nowhere" / "ca.crl"], 1, "cannot write beside"),
        (config, ["--out", folder], 1, "cannot write"),
        (config, ["--days", "0", "--out", file], 2, "--days"),
        (config, ["--days", "4000", "--out", file], 2, "--days"),
        (with_file, ["--format", "pem"], 2, "needs --out"),
        (with_file, ["--format", "txt"], 2, "--format must be"),
        (with_file, ["--key", "ec-p256"], 2, "no option --key"),
        (with_file, ["--json", "--out", "-"], 2, "standard output"),
        (dict(start=-20, end=-1), [], 1, "expired"),
        (dict(usage=NO_CRL_SIGN), [], 1, "without cRLSign"),
    ]
    for settings, words, code, sentence in rows:
        if "listen" not in settings:
            settings = config_of(constrained(**settings), {"ca": {"crl_file": str(file)}})
        done = leafctl(settings, folder, "ca", "crl", *words)
        assert (done.returncode, sentence in done.stderr) == (code, True), (words, done.stderr)
        assert not file.exists()
    assert not [name for name in files_in(folder) if ".new-" in name]


# ---- given away by the admin endpoint ----


def get(daemon, method="GET", path="/ca.crl", unix=False):
    """(status, headers, body) over TCP or the Unix socket."""
    host, port = udp_address(daemon.admin)
    connection = http.client.HTTPConnection(host, port, timeout=5)
    if unix:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(5)
        connection.sock.connect(str(daemon.folder / "admin.sock"))
    try:
        connection.request(method, path)
        response = connection.getresponse()
        return response.status, dict(response.getheaders()), response.read()
    finally:
        connection.close()


def assert_not_served(daemon, since, reason):
    """404 without a word of why to the world, which the log has once."""
    for unix in (False, True, False):
        status, headers, body = get(daemon, unix=unix)
        assert (status, headers["Content-Type"], headers["Cache-Control"]) == (404, "text/plain", "no-store")
        assert body == b"there is no CRL here\n"
    daemon.wait_line(lambda line: "event=crl-needs-care" in line and reason in line, reason, since=since)
    assert len(daemon.events("crl-needs-care", since)) == 1, daemon.log()
    assert daemon.metric("leafd_crl_next_update_timestamp_seconds") == 0


def test_served_and_renewed(start, ca, folder):
    """What is in the file when it is asked for, and nothing but a CRL of this CA."""
    file = folder / "ca.crl"
    changes = {"ca": {"crl_url": URL, "crl_file": str(file)}, "admin": {"unix": "admin.sock"}}
    with start(ca, changes) as daemon:
        daemon.wait_event("crl-needs-care")
        assert_not_served(daemon, 0, "leafctl ca crl makes it")
        numbers = []
        for unix in (False, True):
            since = len(daemon.lines)
            told = leafctl_json(daemon.config, folder, "ca", "crl", "--out", file)
            status, headers, body = get(daemon, unix=unix)
            assert (status, body) == (200, file.read_bytes())
            assert headers["Content-Type"] == "application/pkix-crl"
            assert int(headers["Content-Length"]) == len(body)
            assert headers["Cache-Control"] == "public, max-age=3600"
            modified = email.utils.parsedate_to_datetime(headers["Last-Modified"]).timestamp()
            assert modified == int(file.stat().st_mtime)
            status, told_of, _ = get(daemon, "HEAD", unix=unix)
            del headers["Date"], told_of["Date"]  # each of its own second
            assert (status, told_of) == (200, headers)
            assert get(daemon, "POST", unix=unix)[0] == 405
            numbers.append(assert_crl(body, ca.cert, folder))
            assert numbers[-1] == told["number"]
            assert not daemon.events("crl-needs-care", since)
            assert daemon.metric("leafd_crl_next_update_timestamp_seconds") == calendar.timegm(
                x509.load_der_x509_crl(body).next_update.timetuple()
            )
        assert numbers[0] < numbers[1]
        good = file.read_bytes()
        with daemon.client() as client:
            assert verify(client.ask_leaf(by_ids(HOST)), ca.cert, folder, x509.load_der_x509_crl(good))[0] == 0
        for garbage in (b"", b"<html>", good + b"\0", good[:-1], b"\0" * (2 << 20), pem_crl(good)):
            since = len(daemon.lines)
            file.write_bytes(garbage)
            assert_not_served(daemon, since, "is not served" if len(garbage) < 1 << 20 else "larger than")
            file.write_bytes(good)
            assert get(daemon)[::2] == (200, good)
        if tree.IS_ROOT:
            since = len(daemon.lines)
            file.chmod(0o600)
            assert_not_served(daemon, since, "user.front")
            file.chmod(0o644)
        assert get(daemon)[2] == good
        file.unlink()
        assert get(daemon)[0] == 404


def pem_crl(der):
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)


def test_not_that_of_another_ca(start, ca, authorities, config_of, folder):
    file = folder / "ca.crl"
    other = authorities("ec-p384")
    assert leafctl(config_of(other), folder, "ca", "crl", "--out", file).returncode == 0
    with start(ca, {"ca": {"crl_url": URL, "crl_file": str(file)}, "admin": {"unix": "admin.sock"}}) as daemon:
        daemon.wait_event("crl-needs-care")
        assert_not_served(daemon, 0, "another issuer")
        found = leafctl_json(daemon.config, daemon.folder, "check")
        assert found["good"] and any("another issuer" in text for text in found["warnings"])


def software_crl(authority, start, end):
    """Signed with a CA's key in a file: dates that leafctl would not give. Days from now."""
    now = datetime.datetime.utcnow().replace(microsecond=0)
    key = load_pem_private_key(authority.key_file.read_bytes(), None)
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.cert.subject)
        .last_update(now + datetime.timedelta(days=start))
        .next_update(now + datetime.timedelta(days=end))
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )


def test_one_that_expires_is_told(folder):
    """In the log, in leafctl check and status, in a metric; it is served all the same."""
    authority = SoftwareAuthority(folder)
    tree.give_to(authority.key_file, tree.SIGNER_ID)
    file = folder / "ca.crl"
    config = {
        "listen": [{"udp": "127.0.0.1:0"}],
        "user": {"front": str(tree.FRONT_ID), "signer": str(tree.SIGNER_ID)},
        "ca": {"certificate": str(authority.pem_file), "key": str(authority.key_file), "crl_file": str(file)},
        "token": {"access": "file"},
        "control": {"socket": "control.sock"},
        "admin": {"address": "127.0.0.1:0"},
    }
    file.write_bytes(software_crl(authority, -10, -1))
    with LeafdProcess(folder, config, args=TESTING) as daemon:
        daemon.wait_ready()
        assert "has expired on" in daemon.wait_event("crl-needs-care")
        for start, end, sentence in ((-10, -1, "has expired on"), (-80, 5, "expires on"), (1, 9, "is not valid before")):
            crl = software_crl(authority, start, end)
            file.write_bytes(crl)
            assert get(daemon)[2] == crl
            assert daemon.metric("leafd_crl_next_update_timestamp_seconds") == calendar.timegm(
                x509.load_der_x509_crl(crl).next_update.timetuple()
            )
            daemon.wait_line(sentence, sentence)
            status = leafctl_json(daemon.file, folder, *TESTING, "status")
            assert status["crl"]["good"] and sentence in status["crl"]["attention"]
            assert sentence in leafctl(daemon.file, folder, *TESTING, "status").stdout
            found = leafctl_json(daemon.file, folder, *TESTING, "check")
            assert found["good"] and any(sentence in text for text in found["warnings"])
        file.write_bytes(software_crl(authority, -1, 60))
        assert leafctl_json(daemon.file, folder, *TESTING, "status")["crl"]["attention"] == ""
        assert not any("CRL" in text for text in leafctl_json(daemon.file, folder, *TESTING, "check")["warnings"])


def test_an_address_without_a_list_is_told(config_of, ca, folder):
    config = config_of(ca, {"ca": {"crl_url": URL}})
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        assert "ca.crl_file names none" in daemon.wait_event("crl-needs-care")
        assert get(daemon)[0] == 404
        assert "ca.crl_file names none" in leafctl(daemon.file, folder, "check").stdout
        assert "ca.crl_file names none" in leafctl(daemon.file, folder, "status").stdout


def test_check_tells_what_the_front_would(config_of, ca, constrained, folder):
    """Warnings, never errors: leafd starts without a CRL."""
    file = folder / "ca.crl"
    config = config_of(ca, {"ca": {"crl_url": URL, "crl_file": str(file)}})

    def warnings():
        found = leafctl_json(config, folder, "check")
        assert found["good"] and not found["errors"]
        return [text for text in found["warnings"] if "crl" in text.lower()]

    assert len(warnings()) == 1 and "leafctl ca crl makes it" in warnings()[0]
    assert leafctl(config, folder, "ca", "crl").returncode == 0
    assert warnings() == []
    good = file.read_bytes()
    file.write_bytes(good[:-1])
    assert len(warnings()) == 1 and "not a CRL in DER" in warnings()[0]
    file.write_bytes(pem_crl(good))
    assert len(warnings()) == 1 and "it is PEM" in warnings()[0]
    file.write_bytes(good)
    file.chmod(0o600)
    assert [("chmod 644" in text) for text in warnings()] == ([True] if tree.IS_ROOT else [])
    file.unlink()
    file.mkdir()
    assert len(warnings()) == 1 and "is no file" in warnings()[0]
    config = config_of(constrained(usage=NO_CRL_SIGN), {"ca": {"crl_url": URL}})
    assert len(warnings()) == 1 and "without cRLSign" in warnings()[0]
