# SPDX-License-Identifier: Apache-2.0
"""The ways to the keys that sign with somebody's library (token.access): the real daemon with each that this
leafd has and this machine can load."""

import pathlib
import subprocess

import pytest

from lib import checks, tree
from lib.authority import Authority, Token, configuration, leafctl_json
from lib.client import by_ids, run_load
from lib.leafd_process import LeafdProcess
from lib.polling import wait_for

CLIENTS = 8
ONCE = {"engine"}  # a process opens it once, and is replaced when it fails
# The provider hashes in the token where it can, in calls that the fake module does not have.
MECHANISMS = {"provider": "no_mechanism = CKM_ECDSA_SHA256 CKM_ECDSA_SHA384"}


def modules_folder():
    shown = subprocess.run(["openssl", "version", "-m"], capture_output=True, text=True, check=True).stdout
    return pathlib.Path(shown.split('"')[1])


def why_not(way):
    """Why this machine cannot go that way; None: it can."""
    if way == "provider" and not (modules_folder() / "pkcs11.so").exists():
        return "no OpenSSL provider pkcs11; on Debian 13: apt-get install pkcs11-provider"
    if way == "provider" and tree.IS_SANITIZED:
        return "pkcs11-provider loads the module with RTLD_DEEPBIND, which sanitizers do not bear"
    if way == "engine" and subprocess.run(["openssl", "engine", "pkcs11"], capture_output=True).returncode != 0:
        return "no OpenSSL engine pkcs11; on Debian: apt-get install libengine-pkcs11-openssl"
    return None


@pytest.fixture(params=["provider", "libp11", "engine"])
def way(request):
    if why := why_not(request.param):
        pytest.skip(why)
    return request.param


@pytest.fixture
def config(failing, way):
    config = configuration(failing, failing.authority.pem_file, "ca")
    config["token"]["access"] = way
    return config


def new_hosts(kind, count):
    return [(host, by_ids(host)) for host in (f"{kind}-{n}.ways.example.org" for n in range(count))]


def answers_to(daemon, authority, kind, count=100):
    """The error replies; every leaf is checked."""
    outcomes = run_load(daemon.address, new_hosts(kind, count), clients=CLIENTS)
    assert all(o.answered for o in outcomes)
    for outcome in outcomes:
        if not outcome.answer.error:
            checks.assert_signed_by(outcome.answer.leaf, authority.cert)
    return [o.answer.error for o in outcomes if o.answer.error]


def test_a_leaf(folder, way):
    """From a SoftHSM token; leafctl token test signs in the same way."""
    token = Token(folder / "token")
    authority = Authority(token, folder, "ca")
    config = configuration(token, authority.pem_file, "ca")
    config["token"]["access"] = way
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        with daemon.client() as client:
            leaf = client.ask_leaf(by_ids("leaf.ways.example.org")).leaf
            checks.assert_signed_by(leaf, authority.cert)
    assert leafctl_json(config, folder, "token", "test", "--sessions", "1")["tokens"][0]["keys"][0]["label"] == "ca"


def test_recovery(folder, failing, config, way):
    """Under a small load all sessions are closed, then the token goes and comes back in another slot. Nobody
    starts leafd again; one login each time, and the library adds none."""
    def tell(*lines):
        failing.tell(MECHANISMS.get(way, ""), *lines)

    tell()
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()
        pid = daemon.role_pid("signer")
        assert not answers_to(daemon, failing.authority, "before")
        assert failing.count("login") == 1
        tell("session_epoch = 1")
        assert not answers_to(daemon, failing.authority, "closed")
        assert failing.count("login") == 2
        tell("session_epoch = 1", "present = no")
        with daemon.client() as client:
            assert client.ask_error(by_ids("gone.ways.example.org")) == "token-unavailable"
            assert client.ask_leaf(by_ids("before-0.ways.example.org")), "cached leaves are answered"
        tell("session_epoch = 1", "first_slot = 3")
        wait_for(lambda: daemon.http("/ready")[0] == 200, "/ready says 200")
        assert not answers_to(daemon, failing.authority, "back")
        assert failing.count("login") == 3
        assert (daemon.role_pid("signer") == pid) == (way not in ONCE)
        assert failing.count("race") == 0 and failing.count("fork_use") == 0


def test_a_wrong_pin(folder, failing, config):
    failing.tell("pin = 9999")
    daemon = LeafdProcess(folder, config)
    assert daemon.wait_exit() == 78
    assert "PIN" in daemon.log()
    assert failing.count("login") == 1


def test_what_it_cannot_do(folder, failing, config, way):
    """Named, with the remedy."""
    failing.tell("cannot_lock = yes")
    daemon = LeafdProcess(folder, config)
    assert daemon.wait_exit() == 78
    assert f"token.access: {way} needs: use native" in daemon.log()
