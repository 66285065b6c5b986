# SPDX-License-Identifier: Apache-2.0
"""The token: its key stays in it, one process maps its module, and what happens when it, its key or its
PIN is wrong, missing or late."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

from lib import checks, tree
from lib.authority import Authority, SoftwareAuthority, Token, configuration, leafctl_json
from lib.client import Answer, by_ids
from lib.leafd_process import LeafdProcess, pairs
from lib.polling import wait_for

HOST = "token.example.org"


@pytest.fixture
def private(folder):
    """A token and a CA for one test, which may spoil them."""
    token = Token(folder / "token")
    authority = Authority(token, folder, "ca")
    return token, authority, configuration(token, authority.pem_file, "ca")


def refuse_to_start(folder, config, *words, args=(), env=None, text=None):
    """Starts leafd, which must end with 78 and say all of `words` in one line. Gives the log."""
    daemon = LeafdProcess(folder, config, args=args, env=env, text=text)
    try:
        code = daemon.wait_exit()
    except AssertionError:
        daemon.kill_quietly()
        raise
    assert code == 78, f"exit code {code}\n{daemon.log()}"
    daemon.assert_clean()
    missing = [w for w in words if not any(w.lower() in line.lower() for line in daemon.lines)]
    assert not missing, f"nothing about {missing}:\n{daemon.log()}"
    return daemon.log()


# ---- the key stays in the token ----


@pytest.mark.skipif(not tree.IS_ROOT, reason="the roles are not dumpable: only root reads their maps")
def test_only_the_signer_maps_the_module(daemon, client):
    client.ask_leaf(by_ids(HOST))
    roles = {role: daemon.role_pid(role) for role in ("signer", "front")}
    mapped = {}
    for name, pid in {**roles, "supervisor": daemon.pid}.items():
        maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
        mapped[name] = "softhsm" in maps.lower()
    assert mapped == {"signer": True, "front": False, "supervisor": False}


@pytest.mark.skipif(not tree.IS_ROOT, reason="without root the roles share our user")
def test_roles_have_users_of_their_own(daemon):
    for role, uid in (("signer", tree.SIGNER_ID), ("front", tree.FRONT_ID)):
        status = pathlib.Path(f"/proc/{daemon.role_pid(role)}/status").read_text()
        assert re.search(r"^Uid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)$", status, re.M).groups() == (str(uid),) * 4
        assert re.search(r"^Gid:\t(\d+)\t(\d+)\t(\d+)\t(\d+)$", status, re.M).groups() == (str(uid),) * 4
        assert re.search(r"^Groups:\t\s*$", status, re.M), "supplementary groups"
        assert re.search(r"^NoNewPrivs:\t1$", status, re.M)
        assert re.search(r"^CapEff:\t0+$", status, re.M)
        for info in pathlib.Path(f"/proc/{daemon.role_pid(role)}/fdinfo").iterdir():
            flags = int(re.search(r"^flags:\s+(\d+)$", info.read_text(), re.M)[1], 8)
            assert int(info.name) <= 2 or flags & os.O_CLOEXEC, info  # not for what a module may start
        limits = pathlib.Path(f"/proc/{daemon.role_pid(role)}/limits").read_text()
        assert re.search(r"^Max core file size\s+0\s+0\s", limits, re.M)


def test_the_key_cannot_leave(config_of, ca, folder):
    """leafctl token test tells; pkcs11-tool, where there is one, tells the same."""
    report = leafctl_json(config_of(ca), folder, "token", "test", "--sessions", "1")
    text = str(report).lower()
    assert "extractable" in text, report
    tool = shutil.which("pkcs11-tool")
    if not tool:
        return
    done = subprocess.run(
        [tool, "--module", tree.SOFTHSM_MODULE, "--token-label", ca.token.label, "--login", "--pin", ca.token.pin_file.read_text().strip(),
         "--list-objects", "--type", "privkey", "--label", ca.label],
        capture_output=True, text=True, timeout=60, env={**os.environ, "SOFTHSM2_CONF": str(ca.token.conf)},
    )  # fmt: skip
    tree.give_to(ca.token.folder, tree.SIGNER_ID)
    assert done.returncode == 0, done.stderr
    access = re.search(r"Access:\s*(.*)", done.stdout)[1]
    assert "sensitive" in access and "never extractable" in access and "local" in access, done.stdout


# ---- PIN ----


def wrong_pin(token):
    token.pin_file.write_text("000000wrong\n")


def test_a_wrong_pin_ends_the_start(folder, private):
    token, _, config = private
    wrong_pin(token)
    log = refuse_to_start(folder, config, "PIN")
    assert "000000wrong" not in log


@pytest.mark.parametrize("end", ["", "\n"], ids=["bare", "newline"])
def test_one_newline_behind_the_pin(folder, private, end):
    token, _, config = private
    token.pin_file.write_text(token.pin_file.read_text().rstrip("\n") + end)
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()


@pytest.mark.parametrize("content", [b"", b"\n", b"p" * 300, b"12\x0034"], ids=["empty", "newline", "long", "nul"])
def test_a_pin_file_with_no_pin(folder, private, content):
    token, _, config = private
    token.pin_file.write_bytes(content)
    refuse_to_start(folder, config, "PIN")


def test_a_pin_file_that_is_missing(folder, private):
    token, _, config = private
    token.pin_file.unlink()
    refuse_to_start(folder, config, str(token.pin_file))


def test_a_pin_variable_that_is_missing(folder, private):
    _, _, config = private
    del config["token"]["pin_file"]
    config["token"]["pin_env"] = "LEAFD_NO_SUCH_PIN"
    refuse_to_start(folder, config, "LEAFD_NO_SUCH_PIN")


# ---- what the operator got wrong: 78, and what ----


def test_a_module_that_is_missing(folder, private):
    config = private[2]
    config["token"]["module"] = "/nonexistent/module.so"
    refuse_to_start(folder, config, "/nonexistent/module.so")


def test_a_module_that_is_none(folder, private):
    config = private[2]
    (folder / "module.so").write_text("this is no shared object")
    config["token"]["module"] = str(folder / "module.so")
    refuse_to_start(folder, config, "module.so")


def test_a_key_that_is_not_the_certificates(folder, private):
    token, authority, config = private
    other = Authority(token, folder, "other")
    config["ca"]["key"] = token.uri("other")
    refuse_to_start(folder, config, "certificate")
    config["ca"] = {"certificate": str(other.pem_file), "key": token.uri("other")}
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_ready()


def test_an_ambiguous_key(folder, private):
    """Exactly one key must match."""
    token, _, config = private
    Authority(token, folder, "other")
    config["ca"]["key"] = f"pkcs11:token={token.label};type=private"
    refuse_to_start(folder, config, "pkcs11:token=")


@pytest.mark.parametrize(
    "uri",
    [
        "pkcs11:token=leafd;token=leafd;object=ca",
        "pkcs11:token=leafd;colour=red;object=ca",
        "file:/etc/key",
        "pkcs11:object=ca;type=public",
        "",
        "pkcs11:token=leafd;object=%zz",
    ],
)
def test_a_uri_that_is_wrong(folder, private, uri):
    config = private[2]
    config["ca"]["key"] = uri
    refuse_to_start(folder, config, "ca.key")


@pytest.mark.parametrize(
    "content",
    ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
    ids=["empty", "text", "garbage"],
)
def test_a_certificate_that_is_none(folder, private, content):
    _, authority, config = private
    authority.pem_file.write_text(content)
    refuse_to_start(folder, config, authority.pem_file.name)


def test_a_certificate_that_is_missing(folder, private):
    _, authority, config = private
    authority.pem_file.unlink()
    refuse_to_start(folder, config, authority.pem_file.name)


def test_a_leaf_is_no_ca(folder, private, daemon):
    """The operator pasted the wrong file."""
    _, authority, config = private
    with daemon.client() as client:
        authority.pem_file.write_text(client.ask_leaf(by_ids(HOST)).map[3])
    refuse_to_start(folder, config, authority.pem_file.name)


def test_a_file_key_needs_the_option(folder, private):
    """token.access: file is for tests and benchmarks, and says so."""
    _, _, config = private
    software = SoftwareAuthority(folder)
    tree.give_to(software.key_file, tree.SIGNER_ID)
    config["ca"] = {"certificate": str(software.pem_file), "key": str(software.key_file)}
    config["token"] = {"access": "file"}
    refuse_to_start(folder, config, "--insecure-file-key")
    with LeafdProcess(folder, config, args=["--insecure-file-key"]) as daemon:
        daemon.wait_ready()
        with daemon.client() as client:
            checks.assert_leaf(client.ask_leaf(by_ids(HOST)), software.cert, names=[HOST])


# ---- what time may mend: stay up, and probe ----


def test_a_token_that_comes_later(folder, private):
    """It stays up, /ready says 503 and what is missing, requests are told; then it works by itself."""
    token, authority, config = private
    tokens = token.folder / "tokens"
    (only,) = tokens.iterdir()
    away = token.folder / "away"
    only.rename(away)
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_serving()
        assert pairs(daemon.wait_event("token-absent"))["reason"]
        wait_for(lambda: "no token" in daemon.http("/ready")[1], "/ready names what is missing")
        assert daemon.http("/ready")[0] == 503
        assert daemon.http("/ping")[0] == 200
        with daemon.client() as client:
            assert client.ask(by_ids(HOST)).map == {1: HOST, 7: "token-unavailable"}
            away.rename(only)
            wait_for(lambda: daemon.http("/ready")[0] == 200, "ready once the token is there")
            checks.assert_leaf(client.ask_leaf(by_ids(HOST)), authority.cert, names=[HOST])


def test_a_key_that_comes_later(folder, private):
    """The same when the token is there, without the key."""
    token, authority, config = private
    (only,) = (token.folder / "tokens").iterdir()
    kept = token.folder / "kept"
    kept.mkdir()
    objects = [p for p in only.iterdir() if not p.name.startswith("token.")]
    assert objects
    for one in objects:
        one.rename(kept / one.name)
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_serving()
        wait_for(lambda: "key" in daemon.http("/ready")[1].lower(), "/ready names the key")
        assert daemon.http("/ready")[0] == 503
        for one in objects:
            (kept / one.name).rename(one)
        wait_for(lambda: daemon.http("/ready")[0] == 200, "ready once the key is there")
        with daemon.client() as client:
            checks.assert_leaf(client.ask_leaf(by_ids(HOST)), authority.cert, names=[HOST])


def test_requests_wait_for_a_token_that_is_late(folder, private):
    """With no lane ready, misses wait, and are answered when it comes within their deadline."""
    token, _, config = private
    (only,) = (token.folder / "tokens").iterdir()
    away = token.folder / "away"
    only.rename(away)
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_serving()
        with daemon.client() as client:
            for n in range(20):
                client.send(by_ids(f"late-{n}.example.org"))
            away.rename(only)
            answers = [Answer(client.receive()) for _ in range(20)]
            assert not [a.error for a in answers if a.error]
