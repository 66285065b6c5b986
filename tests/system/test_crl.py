# SPDX-License-Identifier: Apache-2.0
"""The CA's revocation list: made by leafctl with the key in the token, named in leaves, and good for a
client that insists on one."""

import datetime
import stat
import subprocess

import pytest

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lib import checks
from lib.authority import NO_CRL_SIGN, files_in, leafctl, leafctl_json
from lib.client import by_ids

KEYS = ["ec-p256", "ec-p384", "rsa-2048"]
URL = "http://crl.example.org/ca.crl"
HOST = "www.example.org"


@pytest.fixture(params=KEYS)
def authority(authorities, request):
    return authorities(request.param)


@pytest.fixture
def config(config_of, authority, folder):
    return config_of(authority, {"ca": {"crl_url": URL, "crl_file": str(folder / "ca.crl")}})


def read_crl(file):
    return x509.load_der_x509_crl(file.read_bytes())


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def assert_crl(der, ca, folder, days=90):
    """A CRL as RFC 5280 wants it, by three readers. Its number."""
    now = datetime.datetime.utcnow()
    crl = x509.load_der_x509_crl(der)
    assert crl.issuer == ca.subject
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
