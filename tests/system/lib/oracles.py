# SPDX-License-Identifier: Apache-2.0
"""Other people's verifiers, asked the same question about the same leaf: would a client that trusts
this root, and wants this host, take it?

    for name, oracle in oracles.ORACLES.items():
        answer = oracle(leaf_der, chain_der, root_der, "www.example.org", None)
        assert answer is None or answer.ok, (name, answer)

ORACLES holds those that this machine has; ABSENT tells why the others are missing. An answer is None
where the oracle cannot judge: a key type it does not know, a time it cannot be set to, nonsense that
stands for no host. What each of them looks at:

    openssl       everything, RFC 5280 to the letter (-x509_strict), keys as TLS clients do (-auth_level 2)
    gnutls        everything; only new releases of certtool can be asked about another time than now
    nss           everything but the host: certutil has no way to ask for it (LOOKS_AT_THE_HOST;
                  test_tls_clients.py shows what the TLS of NSS makes of names);
                  a leaf that begins within the next day is good
    cryptography  everything, with the profile of the public web; runs in a Python of its own, since
                  Debian 12's python3-cryptography has no verifier yet (ORACLE_PYTHON)

Each oracle is for one thread at a time; different ones may run at once.

The reasons are the tool's own words, brought to one of REASONS ("malformed": no certificate, or one that
breaks a rule of its profile). Where a tool names several faults, the first in the order of REASONS stands
for them; NSS and cryptography name only the one that they find first. These two also have one sentence for
a leaf that is expired and for one that is not yet valid: the dates of the leaf tell which."""

import atexit
import base64
import calendar
import functools
import hashlib
import ipaddress
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import typing

from . import certs, der

REASONS = ("malformed", "untrusted", "weak", "constraints", "purpose", "name", "expired", "not-yet", "other", "ok")
SERVER, CLIENT = "server", "client"


class Answer(typing.NamedTuple):
    ok: bool
    reason: str
    said: str  # in the tool's own words


GOOD = Answer(True, "ok", "")


def refused(reasons, said):
    known = [reason for reason in REASONS if reason in reasons]
    return Answer(False, known[0] if known else "other", said.strip())


# ---- files, for the tools that read files ----


@functools.lru_cache(maxsize=None)
def _folder():
    # In memory where there is such a place: NSS writes its database to the disk at every import.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else None
    path = pathlib.Path(tempfile.mkdtemp(prefix="leafd-oracles-", dir=memory))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@functools.lru_cache(maxsize=64)
def _root_file(root_der):
    path = _folder() / f"root-{hashlib.sha256(root_der).hexdigest()[:16]}.pem"
    # Whole at once: another oracle may be reading it.
    temporary = pathlib.Path(f"{path}.{threading.get_ident()}")
    temporary.write_text(certs.pem(root_der))
    return temporary.replace(path)


def _pem_file(name, blocks):
    path = _folder() / name
    path.write_text("".join(certs.pem(block) for block in blocks))
    return path


def _run(command, **options):
    done = subprocess.run(command, capture_output=True, timeout=60, **options)
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "backslashreplace")


def is_address(host):
    try:
        ipaddress.ip_address(host)
        return True
    except ValueError:
        return False


# ---- what the bytes say, for what the tools do not tell ----


def _fields(cert_der):
    """The elements of the TBSCertificate from the serial on."""
    fields = der.read(cert_der)[0][0].children()
    return fields[1:] if fields[0].tag == 0xA0 else fields


def _spki_algorithm(cert_der):
    """DER of the AlgorithmIdentifier of the public key; empty where there is none to be read."""
    try:
        return _fields(cert_der)[5][0].whole
    except (IndexError, ValueError):
        return b""


ED25519, ED448 = (der.seq(der.oid(oid)) for oid in ("1.3.101.112", "1.3.101.113"))
SM2_CURVE = der.oid("1.2.156.10197.1.301")


def key_family(cert_der):
    """`ed25519`, `ed448`, `sm2`, or "" for what every oracle knows."""
    algorithm = _spki_algorithm(cert_der)
    if SM2_CURVE in algorithm:
        return "sm2"
    return {ED25519: "ed25519", ED448: "ed448"}.get(algorithm, "")


def _subject(cert_der):
    """DER of the subject; empty where there is none to be read."""
    try:
        return _fields(cert_der)[4].whole
    except (IndexError, ValueError):
        return b""


def _seconds(element):
    """A Time as seconds since 1970."""
    text = element.content.decode("ascii").rstrip("Z")
    if element.tag == 0x17:
        text = ("19" if text[:2] >= "50" else "20") + text
    return calendar.timegm(time.strptime(text, "%Y%m%d%H%M%S"))


def _which_date(leaf_der, at):
    """For the tools that say `expired` of both: too early or too late for the leaf?"""
    try:
        first, _ = (_seconds(moment) for moment in _fields(leaf_der)[3].children())
    except (IndexError, ValueError):
        return "expired"
    return "not-yet" if (time.time() if at is None else at) < first else "expired"


# ---- openssl ----

# X509_V_ERR_…, by its number, which does not change between releases.
OPENSSL_REASONS = {
    **dict.fromkeys((2, 7, 18, 19, 20, 21, 24, 27, 28, 29, 79), "untrusted"),
    9: "not-yet",
    10: "expired",
    **dict.fromkeys((13, 14, 41, 76, 77, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92), "malformed"),
    **dict.fromkeys((25, 47, 48, 49, 51, 52, 53), "constraints"),
    26: "purpose",
    **dict.fromkeys((62, 64), "name"),
    **dict.fromkeys((66, 67, 68), "weak"),
}
OPENSSL_ERROR = re.compile(r"error (\d+) at \d+ depth lookup")


def openssl(leaf_der, chain_der, root_der, host, at, purpose=SERVER):
    command = ["openssl", "verify", "-x509_strict", "-auth_level", "2", "-purpose", f"ssl{purpose}"]
    command += ["-no-CApath", "-no-CAstore", "-CAfile", str(_root_file(root_der))]
    if chain_der:
        command += ["-untrusted", str(_pem_file("chain.pem", chain_der))]
    if purpose == SERVER:
        command += ["-verify_ip" if is_address(host) else "-verify_hostname", host]
    if at is not None:
        command += ["-attime", str(at)]
    status, text = _run([*command, str(_pem_file("leaf.pem", [leaf_der]))])
    if status == 0:
        return GOOD
    if "Could not read" in text or "Could not find certificate" in text or "unable to load" in text.lower():
        return refused({"malformed"}, text)
    return refused({OPENSSL_REASONS.get(int(number), "other") for number in OPENSSL_ERROR.findall(text)}, text)


# Of one certificate after the other: what ails it, and then its file.
OPENSSL_FILE = re.compile(r"^error (?:(\d+) at \d+ depth lookup|(\S+)\.pem: verification failed)", re.M)


def openssl_many(leaves, roots, host, strict=True):
    """One process for many leaves ({name: DER}) under the same roots (DER), with the same host: {name: Answer}.
    `strict` False: no more than a client does."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="many-", dir=_folder()))
    try:
        for name, leaf in leaves.items():
            (folder / f"{name}.pem").write_text(certs.pem(leaf))
        (folder / "roots").write_text("".join(certs.pem(root) for root in roots))
        command = ["openssl", "verify", "-purpose", "sslserver", "-no-CApath", "-no-CAstore", "-CAfile", "roots"]
        command += ["-x509_strict", "-auth_level", "2"] if strict else []
        command += ["-verify_ip" if is_address(host) else "-verify_hostname", host]
        command += [f"{name}.pem" for name in leaves]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, cwd=folder)
    finally:
        shutil.rmtree(folder)
    good = set(re.findall(r"^(\S+)\.pem: OK$", done.stdout, re.M))
    answers = {name: GOOD if name in good else refused({"malformed"}, done.stderr) for name in leaves}
    numbers = []
    for number, name in OPENSSL_FILE.findall(done.stderr):
        if number:
            numbers.append(int(number))
            continue
        if numbers:
            reasons = {OPENSSL_REASONS.get(number, "other") for number in numbers}
            answers[name] = refused(reasons, f"errors {numbers}")
        numbers = []
    return answers


# ---- GnuTLS ----

GNUTLS_REASONS = {
    "issuer is unknown": "untrusted",
    "signature in the certificate is invalid": "untrusted",
    "issuer is not a CA": "untrusted",
    "uses expired certificate": "expired",
    "uses not yet valid certificate": "not-yet",
    "does not match the expected": "name",
    "does not match the intended purpose": "purpose",
    "violates the signer's constraints": "constraints",
    "insecure algorithm": "weak",
    "security level": "weak",
    "unknown critical extension": "other",
}
GNUTLS_PURPOSE = {SERVER: certs.SERVER_AUTH, CLIENT: certs.CLIENT_AUTH}
GNUTLS_CANNOT = ("sm2",)


@functools.lru_cache(maxsize=None)
def _certtool_has(option):
    return option in _run(["certtool", "--help"])[1]


def gnutls(leaf_der, chain_der, root_der, host, at, purpose=SERVER):
    if key_family(leaf_der) in GNUTLS_CANNOT or (at is not None and not _certtool_has("--attime")):
        return None
    command = ["certtool", "--verify", "--verify-profile", "medium", "--verify-purpose", GNUTLS_PURPOSE[purpose]]
    command += ["--load-ca-certificate", str(_root_file(root_der))]
    if purpose == SERVER:
        command += ["--verify-hostname", host]
    if at is not None:
        command += ["--attime", time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))]
    file = _pem_file("gnutls.pem", [leaf_der, *chain_der])
    status, text = _run([*command, "--infile", str(file)], env={**os.environ, "LC_ALL": "C", "TZ": "UTC"})
    said = text.rpartition("Chain verification output:")[2] if "Chain verification output:" in text else ""
    if status == 0 and "Not verified" not in said:
        return GOOD
    if not said:
        return refused({"malformed"}, text)
    return refused({reason for words, reason in GNUTLS_REASONS.items() if words in said}, said)


# ---- NSS ----

NSS_REASONS = {
    "Certificate type not approved": "purpose",
    "key usage inadequate": "purpose",
    "issuer is not recognized": "untrusted",
    "Issuer certificate is invalid": "untrusted",
    "marked as not trusted": "untrusted",
    "has an invalid signature": "untrusted",
    "not permitted to issue a certificate with this name": "constraints",
    "Path length constraint": "constraints",
    "issuer's certificate has expired": "expired",
    "unknown critical extension": "other",
    "insecure signature algorithm": "weak",
    "signature algorithm that is disabled": "weak",
    "SEC_ERROR_BAD_DER": "malformed",
    "improperly formatted DER": "malformed",
}
NSS_OVER = "Peer's Certificate has expired"  # also said of a leaf that is not yet valid
NSS_USAGE = {SERVER: "V", CLIENT: "C"}
NSS_CANNOT = ("ed25519", "ed448", "sm2")


@functools.lru_cache(maxsize=None)
def _empty_database():
    path = _folder() / "empty-database"
    path.mkdir()
    status, text = _run(["certutil", "-N", "-d", f"sql:{path}", "--empty-password"])
    assert status == 0, text
    return path


class NssDatabase:
    """A certificate database of NSS. Ends with close()."""

    def __init__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="nss-", dir=_folder()))
        shutil.copytree(_empty_database(), self.path, dirs_exist_ok=True)

    def file(self, name, cert_der):
        path = self.path / f"{name}.der"
        path.write_bytes(cert_der)
        return path

    def batch(self, *commands):
        """Runs certutil once for many commands (lists of words); what it printed."""
        script = self.path / "batch"
        script.write_text("".join(f"{' '.join(map(str, words))} -d sql:{self.path}\n" for words in commands))
        return _run(["certutil", "-B", "-d", f"sql:{self.path}", "-i", str(script)])[1]

    def add(self, name, cert_der, trust=",,"):
        """Imports a certificate. (exit code, what it said): not 0 where NSS does not take it."""
        return _run(
            ["certutil", "-A", "-d", f"sql:{self.path}", "-n", name, "-t", trust, "-i", self.file(name, cert_der)]
        )

    def close(self):
        shutil.rmtree(self.path, ignore_errors=True)


def nss(leaf_der, chain_der, root_der, host, at, purpose=SERVER):
    """`host` is not looked at. A leaf with the subject of its issuer would share its nickname, by which
    certutil finds it: not judged."""
    issuers = (root_der, *chain_der)
    if any(key_family(cert) in NSS_CANNOT for cert in (leaf_der, *issuers)):
        return None
    if _subject(leaf_der) in map(_subject, issuers):
        return None
    database = NssDatabase()
    try:
        commands = [["-A", "-n", "root", "-t", "C,,", "-i", database.file("root", root_der)]]
        for number, cert in enumerate(chain_der):
            name = f"chain-{number}"
            commands.append(["-A", "-n", name, "-t", ",,", "-i", database.file(name, cert)])
        commands.append(["-A", "-n", "leaf", "-t", ",,", "-i", database.file("leaf", leaf_der)])
        when = [] if at is None else ["-b", time.strftime("%y%m%d%H%M%SZ", time.gmtime(at))]
        commands.append(["-V", "-n", "leaf", "-u", NSS_USAGE[purpose], "-e", *when])
        text = database.batch(*commands)
    finally:
        database.close()
    if text == "certutil: certificate is valid\n":
        return GOOD
    if "certificate is invalid" not in text:
        return refused({"malformed"}, text)
    reasons = {reason for words, reason in NSS_REASONS.items() if words in text}
    if NSS_OVER in text:
        reasons.add(_which_date(leaf_der, at))
    return refused(reasons, text)


# ---- python's cryptography ----

CRYPTOGRAPHY_REASONS = {
    "no matching subjectAltName": "name",
    "has no subjectAltName": "name",
    "signature does not match": "untrusted",
    "required EKU not found": "purpose",
    "must be an X509v3": "malformed",
    "serial": "malformed",
    "duplicate extension": "malformed",
    "must not": "malformed",
    "name constraint": "constraints",
    "path length": "constraints",
    "RSA key": "weak",
    "orbidden": "weak",
    "unaccounted-for critical": "other",
    "malformed": "malformed",
    "ParseError": "malformed",
}
CRYPTOGRAPHY_NO_PATH = "candidates exhausted"  # with the fault of an issuer behind it, or nothing more
CRYPTOGRAPHY_OVER = "not valid at validation time"
# The public web has none of these, and this verifier none of their algorithms.
CRYPTOGRAPHY_CANNOT = ("ed25519", "ed448", "sm2")
VERIFIER = pathlib.Path(__file__).with_name("cryptography_verifier.py")
WITHOUT_VERIFIER = "no python cryptography of 42 or later (tests/check-all makes one: ORACLE_PYTHON)"


def _has_verifier(python):
    try:
        return _run([python, "-c", "import cryptography.x509.verification"])[0] == 0
    except OSError:
        return False


@functools.lru_cache(maxsize=None)
def _verifier_python():
    """A Python whose cryptography has the verifier, or None."""
    candidates = [os.environ.get("ORACLE_PYTHON"), sys.executable]
    return next((python for python in candidates if python and _has_verifier(python)), None)


@functools.lru_cache(maxsize=None)
def _verifier():
    """The child that answers, one line of JSON for each: its start takes longer than many answers."""
    child = subprocess.Popen(
        [_verifier_python(), "-u", "-W", "ignore", str(VERIFIER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def end():
        child.stdin.close()
        child.wait(10)

    atexit.register(end)
    return child


def cryptography(leaf_der, chain_der, root_der, host, at, purpose=SERVER):
    if any(key_family(cert) in CRYPTOGRAPHY_CANNOT for cert in (leaf_der, root_der, *chain_der)):
        return None
    text = functools.partial(base64.b64encode)
    question = {
        "leaf": text(leaf_der).decode(),
        "chain": [text(cert).decode() for cert in chain_der],
        "root": text(root_der).decode(),
        "host": host,
        "at": at,
        "purpose": purpose,
    }
    child = _verifier()
    child.stdin.write(json.dumps(question) + "\n")
    child.stdin.flush()
    line = child.stdout.readline()
    assert line, "the verifier of python's cryptography has died"
    said = json.loads(line)
    if said == "":
        return GOOD
    reasons = {reason for words, reason in CRYPTOGRAPHY_REASONS.items() if words in said}
    if CRYPTOGRAPHY_OVER in said:
        reasons.add(_which_date(leaf_der, at))
    if CRYPTOGRAPHY_NO_PATH in said and not reasons:
        reasons.add("untrusted")
    return refused(reasons, said)


# ---- those that are here ----

EVERY = {"openssl": openssl, "gnutls": gnutls, "nss": nss, "cryptography": cryptography}
LOOKS_AT_THE_HOST = frozenset(("openssl", "gnutls", "cryptography"))


def _absent():
    absent = {}
    for name, tool, package in (
        ("openssl", "openssl", "openssl"),
        ("gnutls", "certtool", "gnutls-bin"),
        ("nss", "certutil", "libnss3-tools"),
    ):
        if not shutil.which(tool):
            absent[name] = f"{tool} is missing; on Debian: apt-get install {package}"
    if not _verifier_python():
        absent["cryptography"] = WITHOUT_VERIFIER
    return absent


ABSENT = _absent()
ORACLES = {name: oracle for name, oracle in EVERY.items() if name not in ABSENT}
