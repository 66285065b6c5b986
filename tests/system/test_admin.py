# SPDX-License-Identifier: Apache-2.0
"""The admin endpoint: /ping, /ready, /healthcheck, /metrics."""

import http.client
import re
import socket

import pytest

from lib import certs
from lib.client import by_ids, mimic
from lib.leafd_process import LeafdProcess, udp_address


def test_ping_ready_healthcheck(daemon):
    assert daemon.http("/ping")[0] == 200
    assert daemon.http("/ready")[0] == 200
    assert daemon.http("/healthcheck")[0] == 200


def test_other_paths_and_methods(daemon):
    assert daemon.http("/")[0] == 404
    assert daemon.http("/metrics/../etc/passwd")[0] == 404
    assert daemon.http("/" + "a" * 300)[0] == 404
    host, port = udp_address(daemon.admin)
    for method in ("POST", "DELETE", "PUT"):
        connection = http.client.HTTPConnection(host, port, timeout=5)
        connection.request(method, "/metrics", body=b"x" * 10)
        assert connection.getresponse().status == 405
        connection.close()


def test_garbage_harms_nobody(daemon):
    host, port = udp_address(daemon.admin)
    for data in (b"\x16\x03\x01\x02\x00" + b"\0" * 600, b"\r\n" * 1000, b"GET " + b"x" * 20000, b"\0"):
        with socket.create_connection((host, port), timeout=5) as connection:
            try:
                connection.settimeout(0.2)
                connection.sendall(data)
                connection.recv(4096)
            except OSError:
                pass  # it may close first, or wait for more
    assert daemon.http("/ping")[0] == 200


def test_metrics_have_the_prometheus_form(daemon, client):
    client.ask_leaf(by_ids("metrics.example.org"))
    status, text = daemon.http("/metrics")
    assert status == 200 and text.endswith("\n")
    declared, seen = {}, set()
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ", 3)
            assert name not in declared, f"{name} is declared twice"
            declared[name] = kind
        elif not line.startswith("#"):
            match = re.fullmatch(
                r'([a-z_]+)(\{[a-z_]+="[^"\\]*"(?:,[a-z_]+="[^"\\]*")*\})? (\d+(?:\.\d+)?(?:e[+-]?\d+)?)', line
            )
            assert match, line
            assert match[1] in declared, f"{match[1]} has no type"
            assert (match[1], match[2]) not in seen, line
            seen.add((match[1], match[2]))
            assert (declared[match[1]] == "counter") == match[1].endswith("_total"), line
    assert {name for name, _ in seen} >= {
        "leafd_datagrams_total",
        "leafd_replies_total",
        "leafd_errors_total",
        "leafd_verdicts_total",
    }


def test_counters_count(daemon, client):
    def counters():
        return [
            daemon.metric("leafd_datagrams_total"), daemon.metric("leafd_replies_total", result="issued"),
            daemon.metric("leafd_replies_total", result="hit"), daemon.metric("leafd_verdicts_total", verdict="good"),
        ]  # fmt: skip

    before = counters()
    data = mimic("counted.example.org", certs.upstream(["counted.example.org"]))
    for _ in range(3):
        client.ask_leaf(data)
    assert [b - a for a, b in zip(before, counters())] == [3, 1, 2, 3]


def test_admin_over_a_unix_socket(start, ca):
    with start(ca, {"admin": {"unix": "admin.sock"}}) as daemon:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5)
            connection.connect(str(daemon.folder / "admin.sock"))
            connection.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
            assert connection.recv(4096).split(b" ")[1] == b"200"


def test_admin_switched_off(folder, config_of, ca):
    with LeafdProcess(folder, config_of(ca, {"admin": {"address": ""}})) as daemon:
        daemon.wait_serving()
        assert ":" not in daemon.admin
        with daemon.client() as client:
            client.ask_leaf(by_ids("no-admin.example.org"))


@pytest.mark.parametrize("path", ["/ready", "/metrics"])
def test_many_connections_at_once(daemon, path):
    host, port = udp_address(daemon.admin)
    connections = [socket.create_connection((host, port), timeout=5) for _ in range(30)]
    try:
        for connection in connections[:5]:
            connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            assert connection.recv(4096).split(b" ")[1] == b"200"
    finally:
        for connection in connections:
            connection.close()
