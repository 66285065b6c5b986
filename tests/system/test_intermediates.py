# SPDX-License-Identifier: Apache-2.0
"""leafd's CA below others: requested, installed, sent with its leaves, and held to what its issuers
say; a CA with name constraints; and what clients are given to trust."""

import hashlib
import os
import plistlib
import re
import subprocess
import uuid

import pytest

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from lib import certs, checks
from lib.authority import CA_USAGE, configuration, files_in, leafctl, leafctl_json
from lib.chains import Issuer, authority, pem
from lib.client import by_ids, mimic
from lib.leafd_process import LeafdProcess

HOST = "www.example.org"


@pytest.fixture(scope="module")
def below(token, session_folder):
    """A key in the token and the request for it, for tests that need no key of their own."""
    label = "below"
    file = session_folder / "below.csr"
    done = leafctl(configuration(token, session_folder / "below.pem", label), session_folder, "ca", "csr", "--out", file)
    assert done.returncode == 0, done.stderr
    return x509.load_pem_x509_csr(file.read_bytes()), label


@pytest.fixture(scope="module")
def root():
    return Issuer("Outside root")


@pytest.fixture(scope="module")
def middle(root):
    return Issuer("Outside issuer", root, basic=x509.BasicConstraints(True, 1))


def extension(thing, kind):
    return thing.extensions.get_extension_for_class(kind)


def assert_asks_for_a_ca(csr):
    assert csr.is_signature_valid
    basic = extension(csr, x509.BasicConstraints)
    assert basic.critical and (basic.value.ca, basic.value.path_length) == (True, 0)
    usage = extension(csr, x509.KeyUsage)
    assert usage.critical and usage.value == CA_USAGE
    wanted = x509.SubjectKeyIdentifier.from_public_key(csr.public_key())
    assert extension(csr, x509.SubjectKeyIdentifier).value == wanted


def commands_of(done):
    """The lines that a message shows to be typed."""
    return "\n".join(line for line in done.stderr.splitlines() if line.startswith("  "))


# ---- from a request to leaves ----


ROOT_KEYS = {
    "ec-p256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "rsa-2048": ["rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"],
    "ed25519": ["ed25519"],
}


@pytest.mark.parametrize("kind", ROOT_KEYS)
def test_from_a_request_to_leaves(token, folder, start, kind):
    """What leafctl tells to do is done, with openssl as the root; a client that knows only the root takes
    the leaves."""
    label = f"requested-{kind}"
    config = configuration(token, folder / "ca.pem", label)
    done = leafctl(config, folder, "ca", "csr", "--key", kind, "--out", folder / "leafd.csr")
    assert done.returncode == 0 and not done.stdout, done.stderr
    assert "the key was made in the token" in done.stderr
    csr = x509.load_pem_x509_csr((folder / "leafd.csr").read_bytes())
    assert_asks_for_a_ca(csr)
    assert checks.key_kind(csr.public_key()) == kind
    assert csr.subject.rfc4514_string().startswith("CN=leafd CA ") and len(csr.extensions) == 3

    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", *ROOT_KEYS[kind], "-nodes", "-days", "2000", "-subj", "/CN=Root by openssl",
         "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", "root.key", "-out", "root.pem"],
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    to_do, install = commands_of(done).split("  cat ")
    signed = subprocess.run(["sh", "-ec", to_do], cwd=folder, capture_output=True, text=True, timeout=120)
    assert signed.returncode == 0, signed.stderr
    assert re.fullmatch(rf"leafd-ca.pem root.pem \| leafctl -c {folder}/leafctl-\d+.yaml ca install -", install)

    text = "".join((folder / name).read_text() for name in ("leafd-ca.pem", "root.pem"))
    done = leafctl(config, folder, "ca", "install", "-", input=text)
    assert done.returncode == 0 and "restart leafd" in done.stderr, done.stderr
    assert (folder / "ca.pem").read_text() == text
    assert files_in(folder).count("ca.pem") == 1 and not [n for n in files_in(folder) if ".new-" in n]
    assert leafctl(config, folder, "check").returncode == 0

    root_cert = x509.load_pem_x509_certificate((folder / "root.pem").read_bytes())
    own = x509.load_pem_x509_certificate((folder / "leafd-ca.pem").read_bytes())
    with start(authority(token, label, folder / "ca.pem")) as daemon, daemon.client() as client:
        for request in (by_ids(HOST), mimic(HOST, certs.upstream([HOST, "192.0.2.1"]))):
            answer = client.ask_leaf(request)
            assert answer.cert_blocks[1:] == [own.public_bytes(Encoding.DER)]
            checks.assert_openssl(answer, root_cert, [HOST])
            checks.handshake(answer, root_cert, HOST)


def test_a_request_for_the_key_that_is_there(token, folder, below):
    """As for a renewal; --existing makes no key, --key wants a new one."""
    csr, label = below
    config = configuration(token, folder / "ca.pem", label)
    done = leafctl(config, folder, "ca", "csr", "--existing", "--cn", "Renewed CA")
    assert done.returncode == 0 and "the one that was in the token" in done.stderr
    again = x509.load_pem_x509_csr(done.stdout.encode())
    assert again.public_key().public_numbers() == csr.public_key().public_numbers()
    assert again.subject.rfc4514_string() == "CN=Renewed CA"
    done = leafctl(config, folder, "ca", "csr", "--key", "ec-p384")
    assert done.returncode == 1 and "leave --key out" in done.stderr and not done.stdout
    done = leafctl(configuration(token, folder / "ca.pem", "nobody"), folder, "ca", "csr", "--existing")
    assert done.returncode == 1 and "no private key" in done.stderr
    assert leafctl(config, folder, "ca", "csr", "--existing", "--key", "ec-p256").returncode == 2
    done = leafctl(config, folder, "ca", "csr", "--existing", "--out", "-")
    assert done.returncode == 0 and "CERTIFICATE REQUEST" in done.stdout
    done = leafctl(config, folder, "ca", "csr", "--out", folder / "nowhere" / "leafd.csr")
    assert done.returncode == 1 and "nowhere" in done.stderr


def test_two_deep(token, folder, start, below, root, middle):
    """A CA two below the root: leaf first, then each one's issuer, in every form of a reply; and all of
    their name constraints."""
    csr, label = below
    names = x509.NameConstraints(
        [x509.DNSName("example.org"), x509.DirectoryName(x509.Name([]))], [x509.DNSName("no.example.org")]
    )
    upper = Issuer("Upper", root, extra=[(names, True)])
    lower = Issuer("Lower", upper, basic=x509.BasicConstraints(True, 1))
    own = lower.sign(csr.subject, csr.public_key(), end=30, basic=x509.BasicConstraints(True, 0))
    config = configuration(token, folder / "ca.pem", label)
    text = pem(root.cert, lower.cert, own, upper.cert, root.cert)
    (folder / "mixed.pem").write_text("words around them\n" + text)
    told = leafctl_json(config, folder, "ca", "install", folder / "mixed.pem")
    assert told["chain_sent"] == 3 and told["name_constraints"]["permitted"] == []
    assert [(i["root"], i["sent"]) for i in told["issuers"]] == [(False, True), (False, True), (True, False)]
    assert [i["name_constraints"] for i in told["issuers"]] == [
        {"permitted": [], "excluded": [], "on_subject": False},
        {"permitted": ["example.org"], "excluded": ["no.example.org"], "on_subject": True},
        {"permitted": [], "excluded": [], "on_subject": False},
    ]
    shown = leafctl(config, folder, "ca", "show").stdout
    assert "Issuer:          CN=Upper" in shown and "  permitted:     example.org\n" in shown
    assert (folder / "ca.pem").read_text() == pem(own, lower.cert, upper.cert, root.cert)

    wanted = [c.public_bytes(Encoding.DER) for c in (own, lower.cert, upper.cert)]
    whole = authority(token, label, folder / "ca.pem")
    large = certs.upstream([HOST] + [f"name-{i}.of-a-long-list.example.org" for i in range(300)])
    for form in ("pem", "der"):
        listen = {"listen": [{"udp": "127.0.0.1:0", "cert_format": form}]}
        with start(whole, listen) as daemon, daemon.client() as client:
            for request in (by_ids(HOST), mimic(HOST, certs.upstream([HOST, "a.example.net"])), mimic(HOST, large)):
                for cached in (False, True):
                    answer = client.ask_leaf(request)
                    assert answer.cert_blocks[1:] == wanted, (form, cached)
                    assert answer.sans == [HOST] and not list(answer.leaf.subject)
                    assert answer.leaf.not_valid_after <= own.not_valid_after
                checks.assert_openssl(answer, root.cert, [HOST])
                checks.handshake(answer, root.cert, HOST)
            assert client.ask_error(by_ids("www.example.net")) == "refused"
            assert client.ask_error(by_ids("no.example.org")) == "refused"
    with start(whole, {"ca": {"append_root": True}}) as daemon, daemon.client() as client:
        answer = client.ask_leaf(mimic(HOST, certs.upstream([HOST])))
        assert answer.cert_blocks[1:] == [*wanted, root.cert.public_bytes(Encoding.DER)]
        checks.assert_openssl(answer, root.cert, [HOST])


# ---- what is installed ----


def test_install_replaces_what_is_of_the_same_key(token, folder, below, root):
    """A renewal keeps the former one beside it; another key's needs --force; the same again is nothing."""
    csr, label = below
    config = configuration(token, folder / "ca.pem", label)

    def install(*words):
        return leafctl(config, folder, "ca", "install", *words)

    first, second = (root.sign(csr.subject, csr.public_key()) for _ in range(2))
    for name, cert in (("first", first), ("second", second)):
        (folder / name).write_text(pem(cert))
    done = install(folder / "first")
    assert done.returncode == 0 and "the root is not among them" in done.stderr
    done = install(folder / "first")
    assert done.returncode == 0 and "nothing was written" in done.stderr
    assert not [n for n in files_in(folder) if n.endswith(".old")]

    done = install(folder / "second")
    assert done.returncode == 0, done.stderr
    backup = f"ca.pem.{hashlib.sha256(pem(first).encode()).hexdigest()[:8]}.old"
    assert backup in done.stderr and (folder / backup).read_text() == pem(first)
    assert (folder / "ca.pem").read_text() == pem(second)

    for other in (pem(Issuer("Another").cert), "no certificate"):
        (folder / "ca.pem").write_text(other)
        done = install(folder / "first")
        assert done.returncode == 1 and "--force" in done.stderr
        assert (folder / "ca.pem").read_text() == other
        done = install("--force", folder / "first")
        assert done.returncode == 0 and (folder / "ca.pem").read_text() == pem(first)
        backup = f"ca.pem.{hashlib.sha256(other.encode()).hexdigest()[:8]}.old"
        assert (folder / backup).read_text() == other
    assert not [n for n in files_in(folder) if ".new-" in n]


def faults(csr, root, middle):
    """Name -> the file, what leafctl says of it, and whether a start with it is refused too (with an expired
    CA leafd stays up and refuses each request)."""
    subject, key = csr.subject, csr.public_key()
    no_sign = x509.KeyUsage(True, False, False, False, False, False, True, False, False)
    client_auth = [x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    narrow = x509.NameConstraints([x509.DirectoryName(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "X")]))], None)
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    good = middle.sign(subject, key)
    forged = middle.sign(subject, key, key=root.key)
    unknown_critical = [(unknown, True)]
    high = Issuer("High", root, basic=x509.BasicConstraints(True, 0))
    low = Issuer("Low", high)

    def by(parent, **options):
        return pem(parent.sign(subject, key, **options), parent.cert, root.cert)

    def under(**options):
        issuer = Issuer("Issuer at fault", root, **options)
        return pem(issuer.sign(subject, key), issuer.cert, root.cert)

    return {
        "another key": (pem(Issuer("Another", root).cert, root.cert), "is not the key of the CA certificate", True),
        "no CA": (by(middle, basic=x509.BasicConstraints(False, None)), "is none of a CA", True),
        "no basic constraints": (by(middle, basic=None), "is none of a CA", True),
        "no key usage": (by(middle, usage=None), "keyCertSign", True),
        "no keyCertSign": (by(middle, usage=no_sign), "keyCertSign", True),
        "for clients": (by(middle, eku=client_auth), "serverAuth", True),
        "unknown critical": (by(middle, extra=unknown_critical), "critical extension", True),
        "SHA-1": (by(middle, sha1=True), "SHA-1", True),
        "issuer for clients": (under(eku=client_auth), "certificate 2", True),
        "issuer unknown critical": (under(extra=unknown_critical), "certificate 2", True),
        "path length": (pem(low.sign(subject, key), low.cert, high.cert, root.cert), "pathLenConstraint", True),
        "name outside the issuer's": (under(extra=[(narrow, True)]), "outside its name constraints", True),
        "forged": (pem(forged, middle.cert, root.cert), "have issued none of the others", True),
        "no link": (pem(good, root.cert), "have issued none of the others", True),
        "a stranger": (pem(good, middle.cert, Issuer("Stranger").cert), "Stranger", True),
        "no certificate": ("nothing\n", "cannot be read", True),
        "expired": (by(middle, start=-20, end=-10), "has expired", False),
        "not yet valid": (by(middle, start=10, end=20), "is not valid before", False),
        "issuer expired": (under(start=-20, end=-10), "an issuer of the CA has expired", False),
    }  # fmt: skip


def test_what_is_not_installed_and_does_not_start(token, folder, below, root, middle):
    """Everything that a client would hold against the leaves, told by install, by check and by the start;
    and nothing is written."""
    csr, label = below
    config = configuration(token, folder / "ca.pem", label)
    good = pem(middle.sign(csr.subject, csr.public_key()), middle.cert, root.cert)
    (folder / "ca.pem").write_text(good)
    for name, (text, said, stops) in faults(csr, root, middle).items():
        (folder / "given.pem").write_text(text)
        done = leafctl(config, folder, "ca", "install", folder / "given.pem")
        assert done.returncode == 1 and not done.stdout, name
        assert said in done.stderr, (name, done.stderr)
        assert (folder / "ca.pem").read_text() == good, name
        bad = dict(config, ca=dict(config["ca"], certificate=str(folder / "given.pem")))
        done = leafctl(bad, folder, "check")
        if stops:
            assert done.returncode == 1 and "ERROR" in done.stdout, (name, done.stdout)
            assert name != "another key" or said in done.stdout
        else:
            assert done.returncode == 0 and "leafd would start and refuse" in done.stdout, (name, done.stdout)
    assert not [n for n in files_in(folder) if ".new-" in n or n.endswith(".old")]


@pytest.mark.parametrize("name", ["another key", "no CA", "path length", "for clients", "SHA-1"])
def test_no_start(token, folder, below, root, middle, name):
    csr, label = below
    text, said, _ = faults(csr, root, middle)[name]
    (folder / "ca.pem").write_text(text)
    with LeafdProcess(folder, configuration(token, folder / "ca.pem", label)) as daemon:
        assert daemon.wait_exit() == 78
        assert said in daemon.log()


def test_an_expired_root_in_the_file_is_a_warning(token, folder, start, below):
    """Clients go by the root that they have, which may be a newer one."""
    csr, label = below
    old = Issuer("Old root", start=-100, end=-1)
    new = Issuer("Old root", public_key=old.public_key, parent=old)
    (folder / "ca.pem").write_text(pem(old.sign(csr.subject, csr.public_key()), old.cert))
    whole = authority(token, label, folder / "ca.pem")
    done = leafctl(configuration(token, folder / "ca.pem", label), folder, "check")
    assert done.returncode == 0 and "the root in it has expired" in done.stdout
    with start(whole) as daemon, daemon.client() as client:
        checks.handshake(client.ask_leaf(by_ids(HOST)), new.cert, HOST)


# ---- name constraints ----


def networks(values, length):
    return [str(v.value) for v in values if isinstance(v, x509.IPAddress) and v.value.version == length]


def test_permit_and_exclude(token, folder, start):
    """A CA for one organisation: its own names, no address that was not named; leaves that clients take."""
    config = configuration(token, folder / "ca.pem", "narrow")
    done = leafctl(
        config, folder, "ca", "init", "--permit", "Example.org", "--permit", "192.0.2.0/24",
        "--exclude", "no.example.org", "--exclude", "192.0.2.7",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    cert = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    found = extension(cert, x509.NameConstraints)
    assert found.critical
    permitted, excluded = found.value.permitted_subtrees, found.value.excluded_subtrees
    assert [v.value for v in permitted if isinstance(v, x509.DNSName)] == ["example.org"]
    assert [v.value for v in excluded if isinstance(v, x509.DNSName)] == ["no.example.org"]
    assert networks(permitted, 4) == ["192.0.2.0/24"] and networks(permitted, 6) == []
    assert networks(excluded, 4) == ["192.0.2.7/32"] and networks(excluded, 6) == ["::/0"]
    for word in ("example.org", "192.0.2.0/24", "no.example.org", "192.0.2.7/32", "::/0"):
        assert f" {word}\n" in done.stdout and f" {word}\n" in leafctl(config, folder, "ca", "show").stdout
    (told,) = leafctl_json(config, folder, "ca", "show")
    assert told["name_constraints"]["permitted"] == ["example.org", "192.0.2.0/24"] and told["issuers"] == []
    with start(authority(token, "narrow", folder / "ca.pem")) as daemon, daemon.client() as client:
        for host in ("example.org", HOST, "192.0.2.1", "*.sub.example.org"):
            answer = client.ask_leaf(by_ids(host))
            checks.assert_openssl(answer, cert, [checks.probe_host(host)])
            checks.handshake(answer, cert, checks.probe_host(host))
        for host in ("example.net", "a.no.example.org", "192.0.2.7", "198.51.100.1", "2001:db8::1"):
            assert client.ask_error(by_ids(host)) == "refused", host
        for names in (["192.0.2.1", "example.net"], [HOST, "192.0.2.7", "2001:db8::1"]):
            answer = client.ask_leaf(mimic(names[0], certs.upstream(names)))
            assert answer.sans == names[:1]
            checks.assert_openssl(answer, cert, names[:1])


def test_permits_in_a_request(token, folder, below):
    csr, label = below
    config = configuration(token, folder / "ca.pem", label)
    done = leafctl(config, folder, "ca", "csr", "--permit", "example.org")
    found = extension(x509.load_pem_x509_csr(done.stdout.encode()), x509.NameConstraints)
    assert found.critical
    assert sorted(networks(found.value.excluded_subtrees, 4) + networks(found.value.excluded_subtrees, 6)) == [
        "0.0.0.0/0",
        "::/0",
    ]
    for words in (["--permit", "a b"], ["--exclude", "10.0.0.1/8"], ["--permit", ".example.org"]):
        done = leafctl(config, folder, "ca", "csr", *words)
        assert done.returncode == 2 and words[1] in done.stderr, words


# ---- what clients get ----


def export(config, folder, *words):
    done = leafctl(config, folder, "ca", "export", *words)
    assert done.returncode == 0, done.stderr
    return done


def assert_profile(data, wanted):
    """An Apple profile with these certificates, in order; the same each time."""
    profile = plistlib.loads(data)
    assert (profile["PayloadType"], profile["PayloadVersion"]) == ("Configuration", 1)
    payloads = profile["PayloadContent"]
    assert [p["PayloadContent"] for p in payloads] == [c.public_bytes(Encoding.DER) for c in wanted]
    for payload, cert in zip(payloads, wanted):
        kind = "root" if cert.issuer == cert.subject else "pkcs1"
        assert payload["PayloadType"] == f"com.apple.security.{kind}" and payload["PayloadVersion"] == 1
        assert payload["PayloadDisplayName"] == cert.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value
    identifiers = [uuid.UUID(p["PayloadUUID"]) for p in [profile, *payloads]]
    assert len(set(identifiers)) == len(identifiers) and all(i.variant == uuid.RFC_4122 for i in identifiers)
    assert len({p["PayloadIdentifier"] for p in [profile, *payloads]}) == len(identifiers)


def test_export_of_a_root(config_of, folder, ca):
    config = config_of(ca)
    assert export(config, folder).stdout == pem(ca.cert)
    done = export(config, folder, "--format", "der", "--out", folder / "ca.der")
    assert (folder / "ca.der").read_bytes() == ca.cert.public_bytes(Encoding.DER) and not done.stdout
    profile = export(config, folder, "--format", "mobileconfig").stdout
    assert_profile(profile.encode(), [ca.cert])
    assert export(config, folder, "--format", "mobileconfig", "--chain").stdout == profile
    text = export(config, folder, "--format", "text").stdout
    assert ca.cert.fingerprint(hashes.SHA256()).hex(":").upper() in text
    for word in ("update-ca-certificates", "update-ca-trust", "security add-trusted-cert", "certutil -addstore",
                 "Group Policy", "policies.json", "keytool"):  # fmt: skip
        assert word in text
    assert "intermediate" not in text
    for words in (["--format", "p12"], ["--root", "--chain"], ["--format", "text", "--chain"]):
        assert leafctl(config, folder, "ca", "export", *words).returncode == 2, words
    assert leafctl(config, folder, "--json", "ca", "export").returncode == 2
    done = leafctl(config, folder, "-o", "ca.certificate=none.pem", "ca", "export")
    assert done.returncode == 1 and "leafctl ca init" in done.stderr


def test_only_files_are_replaced(config_of, folder, ca):
    """What is a pipe, a device or a folder stays so, also behind a link; nobody waits for its other end."""
    config = config_of(ca)
    pipe, link = folder / "pipe", folder / "link"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for place in (pipe, link, folder):
        for words in (["export"], ["crl"], ["csr", "--existing"]):
            done = leafctl(config, folder, "ca", *words, "--out", place)
            assert done.returncode == 1 and "is no file" in done.stderr, (words, done.stderr)
    assert pipe.is_fifo() and link.is_symlink()
    assert not [n for n in files_in(folder.parent) if n.startswith(f"{folder.name}.new-")]


def test_export_below_a_root(token, folder, below, root):
    """Clients get the root; a name with everything that XML minds in it is what it is."""
    csr, label = below
    config = configuration(token, folder / "ca.pem", label)
    odd = Issuer('<Wurzel> & "Söhne"\u4e2d\U0001f600', root)
    own = odd.sign(csr.subject, csr.public_key())
    (folder / "ca.pem").write_text(pem(own, odd.cert, root.cert))
    done = export(config, folder)
    assert done.stdout == pem(root.cert)
    assert "this is the root" in done.stderr and "leafd CA" in done.stderr
    assert export(config, folder, "--chain").stdout == pem(own, odd.cert, root.cert)
    assert_profile(export(config, folder, "--format", "mobileconfig").stdout.encode(), [root.cert])
    export(config, folder, "--format", "mobileconfig", "--chain", "--out", folder / "chain.mobileconfig")
    assert_profile((folder / "chain.mobileconfig").read_bytes(), [own, odd.cert, root.cert])
    text = export(config, folder, "--format", "text").stdout
    assert f"    leafctl -c {folder}/leafctl-" in text
    assert root.cert.fingerprint(hashes.SHA256()).hex(":").upper() in text
    assert "is an intermediate" in text and "clients need the root alone" in text
    done = leafctl(config, folder, "ca", "export", "--chain", "--format", "der", "--out", folder / "chain.der")
    assert done.returncode == 1 and "holds one certificate" in done.stderr

    (folder / "ca.pem").write_text(pem(own, odd.cert))
    for words in ([], ["--root"], ["--format", "text"]):
        done = leafctl(config, folder, "ca", "export", *words)
        assert done.returncode == 1 and "the root above it" in done.stderr, words
    assert export(config, folder, "--chain").stdout == pem(own, odd.cert)
