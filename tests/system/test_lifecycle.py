# SPDX-License-Identifier: Apache-2.0
"""From start to stop: readiness, signals, a configuration that is wrong, systemd."""

import base64
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time

import pytest

from lib import certs, checks, leafd_process, tree, yaml_text
from lib.client import Answer, UdpClient, by_ids, mimic
from lib.leafd_process import LeafdProcess, environment, pairs
from lib.polling import wait_for
from test_token import refuse_to_start

HOST = "life.example.org"


# ---- the command line ----


def run_leafd(*args, env=None):
    return subprocess.run(
        [str(tree.LEAFD), *args], capture_output=True, text=True, timeout=30, env=env or environment(), cwd="/"
    )


def test_help_and_version():
    for args in (["--help"], ["-h"]):
        done = run_leafd(*args)
        assert done.returncode == 0 and "usage: leafd" in done.stdout and not done.stderr
    done = run_leafd("--version")
    assert done.returncode == 0 and done.stdout.startswith("leafd ") and not done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["--nonsense"],
        ["extra"],
        ["-c"],
        ["--role", "front"],
        ["--role", "nobody", "--channel", "3"],
        ["--channel", "x"],
    ],
)
def test_usage(args):
    done = run_leafd(*args)
    assert done.returncode in (2, 78) if args == ["--channel", "x"] else done.returncode == 2
    assert done.stderr


def test_a_missing_configuration():
    done = run_leafd("-c", "/nonexistent/leafd.yaml")
    assert done.returncode == 78 and "/nonexistent/leafd.yaml" in done.stderr


# ---- a configuration that is wrong: file, line, key and reason ----


@pytest.mark.parametrize(
    "place, wrong, words",
    [
        ("log", {"level": "chatty"}, ["log.level", "chatty"]),
        ("listen_threads", -1, ["listen_threads"]),
        ("listen_threads", "many", ["listen_threads"]),
        ("colour", "red", ["colour"]),
        ("leaf", {"lifetime": "soon"}, ["leaf.lifetime"]),
        ("leaf", {"rsa_bits": 1024}, ["leaf.rsa_bits"]),
        ("leaf", {"key": "rsa-17"}, ["leaf.key"]),
        ("ttl", {"max": "-5s"}, ["ttl.max"]),
        ("mimic", {"self_signed": "maybe"}, ["mimic.self_signed"]),
        ("mimic", {"upstream_verified": "perhaps"}, ["mimic.upstream_verified"]),
        ("policy", {"deny": ["10.0.0.0/99"]}, ["policy.deny"]),
        ("admin", {"address": "0.0.0.0:2998"}, ["admin.address"]),
        ("token", {"access": "telepathy"}, ["token.access"]),
        ("errors", {"per_source": "5x"}, ["errors.per_source"]),
        ("listen", [{"udp": "127.0.0.1"}], ["listen"]),
        ("listen", [{"udp": "127.0.0.1:99999"}], ["listen"]),
        ("listen", [{"udp": "example.org:53"}], ["listen"]),
        ("listen", [], ["listen"]),
        ("listen", [{"udp": "127.0.0.1:0", "unix": "x.sock"}], ["listen"]),
        ("listen", [{"udp": "127.0.0.1:0", "cert_format": "jks"}], ["cert_format"]),
        ("listen", [{"udp": "127.0.0.1:0", "allow_from": ["anybody"]}], ["allow_from"]),
    ],
    ids=lambda value: None if isinstance(value, list) else str(value)[:30],
)
def test_a_wrong_value(folder, config_of, ca, place, wrong, words):
    config = yaml_text.merged(config_of(ca), {place: wrong})
    log = refuse_to_start(folder, config, str(folder / "leafd.yaml"), *words)
    text = (folder / "leafd.yaml").read_text().splitlines()
    first = next(n for n, line in enumerate(text, 1) if line.startswith(f"{place}:"))
    last = next((n for n, line in enumerate(text[first:], first + 1) if line and line[0] not in " -"), len(text) + 1)
    assert any(
        f"leafd.yaml:{n}" in log or f"line {n}" in log for n in range(first, last + 1)
    ), f"no line number:\n{log}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "listen: [",
        "a: b: c",
        "- 1\n- 2\n",
        "just words",
        "listen: &a [*a]\n",
        "\0\0\0",
        "\t\n",
        "log: {level: info}\nlog: {level: debug}\n",
        "x: " + "[" * 5000,
        "\u00ff" * 100,
        "%YAML 9.9\n---\n",
    ],
    ids=["empty", "open", "colons", "list", "scalar", "anchor", "nul", "tab", "twice", "deep", "latin", "directive"],
)
def test_yaml_that_is_wrong(folder, text):
    refuse_to_start(folder, None, "leafd.yaml", text=text)


def test_a_configuration_that_is_huge(folder):
    refuse_to_start(folder, None, "leafd.yaml", text="# comment\n" * 200000)


def test_options_over_the_file(folder, config_of, ca):
    """-o key=value, and what is wrong with one."""
    with LeafdProcess(
        folder, config_of(ca, {"log": {"level": "error"}}), args=["-o", "log.level=info", "-o", "ttl.max=1m"]
    ) as daemon:
        daemon.wait_ready()
        with daemon.client() as client:
            assert client.ask_leaf(by_ids(HOST)).ttl == 60
    refuse_to_start(folder, config_of(ca), "ttl.max", args=["-o", "ttl.max=x"])
    refuse_to_start(folder, config_of(ca), "no.such", args=["-o", "no.such=1"])
    refuse_to_start(folder, config_of(ca), "novalue", args=["-o", "novalue"])


def test_leafd_config_in_the_environment(folder, config_of, ca):
    """Base64; relative paths have nothing to be relative to."""
    config = config_of(ca, {"control": {"socket": str(folder / "control.sock")}})
    text = yaml_text.dump(config).encode()
    env = {**environment(), "LEAFD_CONFIG": base64.b64encode(text).decode()}
    daemon = LeafdProcess(folder, config, env=env, wrapper=["/bin/sh", "-c", 'exec "$0"', str(tree.LEAFD)])
    with daemon:
        daemon.wait_ready()
        with daemon.client() as client:
            client.ask_leaf(by_ids(HOST))
    relative = yaml_text.dump(config_of(ca)).encode()
    done = run_leafd(env={**environment(), "LEAFD_CONFIG": base64.b64encode(relative).decode()})
    assert done.returncode == 78 and "control.socket" in done.stderr
    done = run_leafd(env={**environment(), "LEAFD_CONFIG": "no base64!"})
    assert done.returncode == 78 and "LEAFD_CONFIG" in done.stderr


@pytest.mark.skipif(not tree.IS_ROOT, reason="users are changed by root alone")
@pytest.mark.parametrize("role", ["front", "signer"])
@pytest.mark.parametrize("name", ["nobody-has-this-name", "root", "0"])
def test_users_that_cannot_be(folder, config_of, ca, role, name):
    refuse_to_start(folder, config_of(ca, {"user": {role: name}}), f"user.{role}")


def test_a_port_that_is_taken(folder, config_of, ca):
    """No configuration error: another time it may be free. It ends with 1 and names the address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        text = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon = LeafdProcess(folder, config_of(ca, {"listen": [{"udp": text}]}))
        assert daemon.wait_exit() in (1, 78)
        assert text in daemon.log()


def test_a_stale_socket_file_is_no_obstacle(folder, config_of, ca):
    """Left behind by one that was killed."""
    config = config_of(ca, {"listen": [{"udp": "127.0.0.1:0"}, {"unix": "leafd.sock"}]})
    daemon = LeafdProcess(folder, config).wait_ready()
    daemon.role_pids()
    daemon.process.kill()
    daemon.wait_exit()
    with LeafdProcess(folder, config) as again:
        again.wait_ready()


# ---- signals ----


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_queued_is_answered(start, ca, number):
    """Everything sent before the signal is answered, and the exit code is 0 within 5 s."""
    with start(ca) as daemon, daemon.client() as client:
        daemon.wait_rsa_key()
        hosts = [f"queued-{n}.example.org" for n in range(150)]
        requests = [
            mimic(h, certs.upstream([h], key="rsa-2048" if n % 10 == 0 else "ec-p256")) for n, h in enumerate(hosts)
        ]
        for data in requests:
            client.send(data)
        started = time.monotonic()
        daemon.send_signal(number)
        answered = set()
        while len(answered) < len(hosts):
            raw = client.receive(timeout=5)
            assert raw, f"{len(hosts) - len(answered)} of {len(hosts)} lost"
            answer = Answer(raw)
            assert not answer.error, answer
            answered.add(answer.host)
        assert daemon.wait_exit() == 0
        leafd_process.assert_stopped_in(time.monotonic() - started)


def test_signals_to_the_whole_group(start, ca):
    """Ctrl-C reaches every process: the roles leave the word to the supervisor."""
    with start(ca) as daemon, daemon.client() as client:
        client.ask_leaf(by_ids(HOST))
        os.killpg(daemon.pid, signal.SIGINT)
        assert daemon.wait_exit() == 0


def test_a_stop_without_a_token_is_in_time(folder, config_of, ca):
    config = config_of(ca, {"ca": {"key": "pkcs11:token=nosuchtoken;object=ca;type=private"}})
    with LeafdProcess(folder, config) as daemon:
        daemon.wait_serving()
        with daemon.client() as client:
            client.send(by_ids(HOST))
            wait_for(lambda: daemon.metric("leafd_datagrams_total") >= 1, "the request was read")


def test_reload_changes_the_log_level(folder, config_of, ca):
    """Of every role: the front's lines of level notice come, stay away, and come again."""
    with LeafdProcess(folder, config_of(ca, {"log": {"level": "info"}})) as daemon:
        daemon.wait_ready()
        text = daemon.file.read_text()
        with daemon.client() as client:

            def told():
                since = len(daemon.lines)
                client.ask_error(b"\xc1")
                client.ask_leaf(by_ids(HOST))
                return bool(daemon.events("request-failed", since))

            wait_for(told, "a line about a bad request")
            for level in ("error", "info"):
                # At once, since nothing tells when the file of the level before was read.
                new = folder / "new.yaml"
                new.write_text(text.replace("level: info", f"level: {level}"))
                new.rename(daemon.file)
                since = len(daemon.lines)
                daemon.send_signal(signal.SIGHUP)
                if level == "info":
                    assert pairs(daemon.wait_event("reload", since=since))["result"] == "ok"
                wait_for(lambda: told() == (level == "info"), f"log level {level}", every=0.1)


def test_a_bad_reload_changes_nothing_and_says_why(folder, config_of, ca):
    with LeafdProcess(folder, config_of(ca, {"log": {"level": "info"}})) as daemon:
        daemon.wait_ready()
        good = daemon.file.read_text()
        pids = daemon.role_pids()
        for bad, words in (
            (good.replace("level: info", "level: chatty"), ["log.level", "leafd.yaml:"]),
            (good + "colour: red\n", ["colour", "leafd.yaml:"]),
            ("listen: [", ["leafd.yaml"]),
        ):
            since = len(daemon.lines)
            daemon.file.write_text(bad)
            daemon.send_signal(signal.SIGHUP)
            line = daemon.wait_event("reload", since=since)
            assert pairs(line)["result"] == "bad" and all(w in line for w in words), line
        daemon.file.unlink()
        since = len(daemon.lines)
        daemon.send_signal(signal.SIGHUP)
        assert pairs(daemon.wait_event("reload", since=since))["result"] == "bad"
        with daemon.client() as client:
            client.ask_leaf(by_ids(HOST))
        assert daemon.role_pids() == pids
        daemon.file.write_text(good)


# ---- systemd ----


def test_systemd_is_notified(start, ca, folder):
    """READY=1 when the sockets are served, STOPPING=1 at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        path = folder / "notify"
        notices.bind(str(path))
        notices.settimeout(15)
        env = {**environment(), "NOTIFY_SOCKET": str(path)}
        with start(ca, env=env) as daemon:
            assert b"READY=1" in notices.recv(4096)
            daemon.stop()
            assert b"STOPPING=1" in notices.recv(4096)


def test_a_journal_gets_priorities(start, ca):
    """Under systemd lines begin with <N>; elsewhere with the level's word."""
    with start(ca, env={**environment(), "JOURNAL_STREAM": "8:12345"}) as daemon:
        assert all(line[0] == "<" and line[1].isdigit() and line[2] == ">" for line in daemon.lines)
    with start(ca) as daemon:
        assert not any(line.startswith("<") for line in daemon.lines)


def answer_from_the_start(daemon, client, sent):
    """The answer to by_ids(HOST), which was sent to the socket before the daemon was there. It is for 3.5 s that
    somebody waits for one: a start that takes as long is asked anew."""
    daemon.wait_ready()
    if time.monotonic() - sent > 3:
        with daemon.client() as another:
            return another.ask_leaf(by_ids(HOST))
    raw = client.receive()
    assert raw is not None, "no answer to what came before the start"
    return Answer(raw)


def test_a_socket_from_systemd(start, ca):
    """LISTEN_FDS: the configured listener is the socket that was handed over; requests that came before
    the start are answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs:
        theirs.bind(("127.0.0.1", 0))
        address = theirs.getsockname()
        with UdpClient(address) as client:
            client.send(by_ids(HOST))
            sent = time.monotonic()
            with start(ca, {"listen": [{"udp": f"127.0.0.1:{address[1]}"}]}, pass_fd=theirs.fileno()) as daemon:
                assert daemon.address == address
                checks.assert_leaf(answer_from_the_start(daemon, client, sent), ca.cert, names=[HOST])


def port_of_nobody(host):
    """A free UDP port that stays free: none of those that the kernel gives to who asks for any."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
            with contextlib.suppress(OSError):
                one.bind((host, random.randrange(20000, 32000)))
                return one.getsockname()[1]


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="systemd-socket-activate is missing")
def test_systemd_socket_activate(folder, config_of, ca):
    """The first request starts it, and is answered."""
    address = ("127.0.0.77", port_of_nobody("127.0.0.77"))
    text = "%s:%d" % address
    config = config_of(ca, {"listen": [{"udp": text}]})
    wrapper = ["systemd-socket-activate", "--datagram", "-l", text]
    with LeafdProcess(folder, config, wrapper=wrapper) as daemon:
        daemon.wait_line("Listening on", "that it listens")
        with UdpClient(address) as client:
            client.send(by_ids(HOST))
            checks.assert_leaf(answer_from_the_start(daemon, client, time.monotonic()), ca.cert, names=[HOST])
