# SPDX-License-Identifier: Apache-2.0
"""How a CA signs: paddings of RSA keys, Ed25519, keys for RSASSA-PSS alone. That each key type gives good
leaves is test_fields.py's."""

import subprocess

import pytest

from cryptography import x509
from lib import checks, tree
from lib.authority import Authority, Token, configuration, leafctl, leafctl_json
from lib.certs import upstream
from lib.client import by_ids, mimic
from lib.leafd_process import LeafdProcess

HOST = "keys.example.org"
UNTRUSTED = {"eku": [checks.certs.CLIENT_AUTH]}  # what an upstream leaf shows that nobody should trust


class OpensslAuthority:
    """A CA in files, made by openssl: `rsa` signs itself by PKCS #1, `rsa-pss` has a key for PSS alone."""

    def __init__(self, folder, algorithm, *options):
        self.pem_file, self.key_file = folder / f"{algorithm}.pem", folder / f"{algorithm}.key"
        command = ["openssl", "req", "-x509", "-nodes", "-days", "900", "-subj", f"/CN=Test {algorithm}"]
        command += ["-newkey", algorithm, "-keyout", self.key_file, "-out", self.pem_file]
        command += ["-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        tree.give_to(self.key_file, tree.SIGNER_ID)
        self.cert = x509.load_pem_x509_certificate(self.pem_file.read_bytes())

    def section(self):
        return {"certificate": str(self.pem_file), "key": str(self.key_file)}


def algorithm_of(answer):
    """The leaf's AlgorithmIdentifier, which stands in it twice."""
    tbs, outer, _ = checks.der.read(answer.cert_blocks[0])[0].children()
    assert tbs[2].whole == outer.whole
    return outer.whole


RSA, PSS = checks.SIGNATURE_ALGORITHMS["rsa"], checks.SIGNATURE_ALGORITHMS["rsa-pss"]


BOUND = ["rsa_pss_keygen_md:sha256", "rsa_pss_keygen_mgf1_md:sha256", "rsa_pss_keygen_saltlen:32"]


@pytest.mark.parametrize("bound", [[], BOUND], ids=["unbound", "sha256"])
def test_a_key_for_pss_alone(folder, bound):
    """Its CA signs with PSS whatever ca.rsa_padding says, and so does an untrusted one; for another untrusted
    one ca.rsa_padding does not count."""
    options = [word for option in bound for word in ("-pkeyopt", option)]
    pss = OpensslAuthority(folder, "rsa-pss", "-sigopt", "rsa_pss_saltlen:32", *options)
    rsa = OpensslAuthority(folder, "rsa")
    config = configuration(Token(folder / "token"), pss.pem_file, "ca") | {"token": {"access": "file"}}
    # the CA, ca.rsa_padding, the untrusted CA; what each signs with
    rows = [(pss, "pkcs1", rsa, (PSS, RSA)), (rsa, "pss", rsa, (PSS, RSA)), (rsa, "pkcs1", pss, (RSA, PSS))]
    for ca, padding, other, wanted in rows[:1] if bound else rows:
        config["ca"] = ca.section() | {"rsa_padding": padding}
        config["untrusted_ca"] = other.section()
        with LeafdProcess(folder, config, args=["--insecure-file-key"]) as daemon:
            with daemon.wait_ready().client() as client:
                good = client.ask_leaf(by_ids(HOST))
                bad = client.ask_leaf(mimic(HOST, upstream([HOST], **UNTRUSTED)))
        assert (algorithm_of(good), algorithm_of(bad)) == wanted
        for answer, issuer in ((good, ca), (bad, other)):
            checks.assert_openssl(answer, issuer.cert, [HOST])
            checks.handshake(answer, issuer.cert, HOST)


def test_a_key_bound_to_another_hash(folder):
    """Refused by name, by leafctl and by leafd."""
    pss = OpensslAuthority(folder, "rsa-pss", "-sha384", "-pkeyopt", "rsa_pss_keygen_md:sha384")
    config = configuration(Token(folder / "token"), pss.pem_file, "ca")
    done = leafctl(config, folder, "check")
    assert done.returncode == 1 and "bound to SHA-384" in done.stdout + done.stderr
    daemon = LeafdProcess(folder, config)
    assert daemon.wait_exit() == 78
    assert any("bound to SHA-384" in line for line in daemon.lines)


def test_the_padding_is_of_rsa_keys(folder, config_of, ca):
    config = config_of(ca, {"ca": {"rsa_padding": "pss"}})
    sentence = "ca.rsa_padding: pss is for RSA keys"
    for words in (["check"], ["ca", "show"], ["explain", HOST]):
        done = leafctl(config, folder, *words)
        assert done.returncode == 1 and sentence in done.stdout + done.stderr, done
    daemon = LeafdProcess(folder, config)
    assert daemon.wait_exit() == 78
    assert any(sentence in line for line in daemon.lines)
    config["ca"]["certificate"] = str(folder / "new.pem")
    config["ca"]["key"] = ca.token.uri("padding-of-ed25519")
    done = leafctl(config, folder, "ca", "init", "--key", "ed25519")
    assert done.returncode == 1 and sentence in done.stderr and not (folder / "new.pem").exists()


def test_the_padding_of_an_old_ca_can_be_changed(folder, config_of, authorities):
    """It is an option of signing, not of the key."""
    authority = authorities("rsa-2048")
    config = config_of(authority, {"ca": {"rsa_padding": "pss"}})
    (shown,) = leafctl_json(config, folder, "ca", "show")
    assert (shown["key_type"], shown["signs_with"]) == ("rsa-2048", "rsa-pss-sha256")
    (key,) = leafctl_json(config, folder, "token", "test", "--sessions", "1")["tokens"][0]["keys"]
    assert key["mechanism"] == "CKM_RSA_PKCS_PSS"
    with LeafdProcess(folder, config) as daemon, daemon.wait_ready().client() as client:
        answer = client.ask_leaf(by_ids(HOST))
    assert algorithm_of(answer) == PSS
    checks.assert_openssl(answer, authority.cert, [HOST])


def test_ed25519_is_warned_about(folder):
    """At ca init, by check, and at the start."""
    token = Token(folder / "token")
    config = configuration(token, folder / "ca.pem", "ca")
    done = leafctl(config, folder, "ca", "init", "--key", "ed25519")
    assert done.returncode == 0 and "no browser takes" in done.stdout + done.stderr
    done = leafctl(config, folder, "check")
    assert done.returncode == 0 and "no browser takes" in done.stdout
    (key,) = leafctl_json(config, folder, "token", "test", "--sessions", "1")["tokens"][0]["keys"]
    assert key["mechanism"] == "CKM_EDDSA"
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        (line,) = daemon.events("ca-with-ed25519")
        assert "warning" in line and "no browser takes" in line


def test_an_ed25519_key_beside_does_no_harm(folder):
    """Where libp11 finds no key at all on such a token."""
    token = Token(folder / "token")
    for label in ("ed25519", "ec-p256", "rsa-2048"):
        Authority(token, folder, label, "--key", label)
    for label in ("ec-p256", "rsa-2048"):
        config = configuration(token, folder / f"{label}.pem", label)
        with LeafdProcess(folder, config) as daemon, daemon.wait_ready().client() as client:
            assert client.ask_leaf(by_ids(HOST)).sans == [HOST]
