# SPDX-License-Identifier: Apache-2.0
"""A private SoftHSM token, and CAs whose keys are made in it by `leafctl ca init`."""

import datetime
import json
import pathlib
import subprocess

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from . import tree, yaml_text
from .leafd_process import environment


class Token:
    """A folder made by softhsm-setup: softhsm2.conf, tokens, pin. Belongs to the signer's user."""

    def __init__(self, folder, label="leafd"):
        self.folder, self.label = folder, label
        subprocess.run(
            [str(tree.SOFTHSM_SETUP), str(folder), "--label", label, "--owner", f"{tree.SIGNER_ID}:{tree.SIGNER_ID}"],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
            env=environment(),
        )
        self.conf = folder / "softhsm2.conf"
        self.pin_file = folder / "pin"

    def uri(self, key):
        return f"pkcs11:token={self.label};object={key};type=private"

    def section(self):
        """The `token:` part of a configuration."""
        return {
            "access": "native",
            "module": tree.SOFTHSM_MODULE,
            "env": {"SOFTHSM2_CONF": str(self.conf)},
            "pin_file": str(self.pin_file),
        }


class Authority:
    """A CA: its certificate and the URI of its key. `rsa_padding`: None, or as ca.rsa_padding."""

    def __init__(self, token, folder, label, *options, rsa_padding=None):
        self.token, self.label, self.rsa_padding = token, label, rsa_padding
        self.pem_file = folder / f"{label}.pem"
        config = configuration(token, self.pem_file, label)
        if rsa_padding:
            config["ca"]["rsa_padding"] = rsa_padding
        done = leafctl(config, folder, "ca", "init", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        self.cert = x509.load_pem_x509_certificate(self.pem_file.read_bytes())


CA_USAGE = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
NO_CRL_SIGN = x509.KeyUsage(False, False, False, False, False, True, False, False, False)


class SoftwareAuthority:
    """A CA whose key is a file: for token.access: file, and for the module that fails on command."""

    def __init__(self, folder):
        self.pem_file, self.key_file = folder / "software-ca.pem", folder / "software-ca.key"
        now = datetime.datetime.utcnow().replace(microsecond=0)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Software CA of the tests")])
        key = ec.generate_private_key(ec.SECP256R1())
        self.cert = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=2))
            .not_valid_after(now + datetime.timedelta(days=900))
            .add_extension(x509.BasicConstraints(True, 0), critical=True)
            .add_extension(CA_USAGE, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        self.pem_file.write_bytes(self.cert.public_bytes(Encoding.PEM))
        self.key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


class Intermediate:
    """Another certificate for the key of `authority`, signed by a root whose key is in our memory. `start` and
    `end` are days from now. `cert`, `root` and `pem_file` (both, the CA first)."""

    def __init__(self, authority, folder, name_constraints=None, key_identifier=True, start=-2, end=900, usage=CA_USAGE):
        self.token, self.label, self.rsa_padding = authority.token, authority.label, authority.rsa_padding
        now = datetime.datetime.utcnow().replace(microsecond=0)
        root_key = ec.generate_private_key(ec.SECP256R1())
        root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Root of the tests")])

        def certificate(subject, public_key, first, last):
            return (
                x509.CertificateBuilder()
                .subject_name(subject)
                .issuer_name(root_name)
                .public_key(public_key)
                .serial_number(x509.random_serial_number())
                .not_valid_before(now + datetime.timedelta(days=first))
                .not_valid_after(now + datetime.timedelta(days=last))
            )

        ski = x509.SubjectKeyIdentifier.from_public_key
        self.root = (
            certificate(root_name, root_key.public_key(), -900, 3650)
            .add_extension(x509.BasicConstraints(True, None), critical=True)
            .add_extension(CA_USAGE, critical=True)
            .add_extension(ski(root_key.public_key()), critical=False)
            .sign(root_key, hashes.SHA256())
        )
        public_key = authority.cert.public_key()
        builder = certificate(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Intermediate of the tests")]), public_key, start, end
        )
        builder = builder.add_extension(x509.BasicConstraints(True, 0), critical=True).add_extension(
            usage, critical=True
        )
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False
        )
        if key_identifier:
            builder = builder.add_extension(ski(public_key), critical=False)
        if name_constraints:
            builder = builder.add_extension(name_constraints, critical=True)
        self.cert = builder.sign(root_key, hashes.SHA256())
        self.pem_file = folder / "intermediate.pem"
        self.pem_file.write_bytes(self.cert.public_bytes(Encoding.PEM) + self.root.public_bytes(Encoding.PEM))


def configuration(token, pem_file, label):
    """The least that a daemon needs; every port is any free one."""
    return {
        "listen": [{"udp": "127.0.0.1:0"}],
        "user": {"front": str(tree.FRONT_ID), "signer": getattr(token, "user", str(tree.SIGNER_ID))},
        "ca": {"certificate": str(pem_file), "key": token.uri(label)},
        "token": token.section(),
        # Tests send bad requests fast; those of the budget say so.
        "errors": {"per_source": 0, "global": 0},
        "control": {"socket": "control.sock"},
        "admin": {"address": "127.0.0.1:0"},
    }


_number = iter(range(1, 1 << 30))


def leafctl(config, folder, *words, text=None, timeout=120, input=None):
    """Runs leafctl with this configuration (a dict, or the path of one)."""
    file = config
    if isinstance(config, dict) or text is not None:
        file = folder / f"leafctl-{next(_number)}.yaml"
        file.write_text(text if text is not None else yaml_text.dump(config))
    return subprocess.run(
        [str(tree.LEAFCTL), "-c", str(file), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(),
        cwd="/",
        input=input,
    )


def leafctl_json(config, folder, *words):
    done = leafctl(config, folder, "--json", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def files_in(folder):
    return sorted(p.name for p in pathlib.Path(folder).iterdir())
