# SPDX-License-Identifier: Apache-2.0
"""One running leafd: started in a temporary folder with port 0, ended with SIGTERM and exit code 0."""

import contextlib
import http.client
import os
import re
import select
import shlex
import signal
import subprocess
import threading
import time

from . import certs, tree, yaml_text
from .client import Answer, UdpClient, mimic
from .polling import PATIENCE_SEC, slowness, wait_for

STOP_SEC = 5.0 if not tree.IS_SANITIZED else 15.0

TCP_TIME_WAIT, TCP_LISTEN = "06", "0A"  # as /proc/net/tcp has them

# Those under way, for the log that a failed test shows.
running = []

PAIR = re.compile(r'([a-z_]+)=("(?:[^"\\]|\\.)*"|\S*)')


def pairs(line):
    """The key=value pairs of a log line."""
    return {key: value[1:-1] if value.startswith('"') else value for key, value in PAIR.findall(line)}


def environment(**changes):
    env = {k: v for k, v in os.environ.items() if k not in ("LEAFD_CONFIG", "NOTIFY_SOCKET", "JOURNAL_STREAM")}
    env.update({k: str(v) for k, v in changes.items()})
    return env


class LeafdProcess:
    def __init__(self, folder, config, *, args=(), env=None, pass_fd=None, text=None, wrapper=(), stdin=subprocess.DEVNULL):
        """Starts leafd with `config` (dict) or `text` as folder/leafd.yaml. `pass_fd`: a bound socket
        for it, by the systemd protocol."""
        self.folder, self.config = folder, config
        self.file = folder / "leafd.yaml"
        self.file.write_text(text if text is not None else yaml_text.dump(config))
        self.lines, self._news = [], threading.Condition()
        command = [str(tree.LEAFD), "-c", str(self.file), *args]
        env = dict(env or environment())
        before_exec = None
        fds = ()
        if pass_fd is not None:
            # The shell's own number is the daemon's: that is what LISTEN_PID has to say.
            command = ["/bin/sh", "-c", f"LISTEN_PID=$$ LISTEN_FDS=1 exec {shlex.join(command)}"]
            fds = (3,)

            def before_exec():
                os.dup2(pass_fd, 3)

        self.process = subprocess.Popen(
            [*wrapper, *command],
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=env,
            cwd="/",
            preexec_fn=before_exec,
            pass_fds=fds,
            start_new_session=True,
        )
        self.pid = self.process.pid
        self._roles_seen = set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        running.append(self)

    def _read(self):
        for raw in self.process.stderr:
            with self._news:
                self.lines.append(raw.decode("utf-8", "backslashreplace").rstrip("\n"))
                self._news.notify_all()

    def log(self):
        with self._news:
            return "\n".join(self.lines)

    def events(self, event, since=0):
        with self._news:
            return [line for line in self.lines[since:] if f"event={event}" in line.split()]

    def wait_line(self, condition, what, seconds=PATIENCE_SEC, since=0):
        """The first log line, from number `since`, of which `condition` (a function, or a word) is true."""
        wanted = condition if callable(condition) else lambda line: condition in line
        deadline = time.monotonic() + seconds
        with self._news:
            at = since
            while True:
                for line in self.lines[at:]:
                    at += 1
                    if wanted(line):
                        return line
                left = deadline - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and not self._reader.is_alive()):
                    raise AssertionError(f"never logged: {what}\n" + "\n".join(self.lines))
                self._news.wait(min(left, 0.2))

    def wait_event(self, event, seconds=PATIENCE_SEC, since=0):
        return self.wait_line(lambda line: f"event={event}" in line.split(), f"event={event}", seconds, since)

    # ---- where it is ----

    def wait_serving(self):
        """Until the sockets are served; learns the ports."""
        told = pairs(self.wait_event("ready"))
        self.listen = told["listen"].split(",")
        self.admin = told.get("admin", "")
        return self

    def wait_ready(self):
        """Until it can issue."""
        self.wait_serving()
        wait_for(lambda: self.http("/ready")[0] == 200, "/ready says 200")
        return self

    @property
    def address(self):
        """(host, port) of the first UDP listener."""
        return udp_address(self.listen[0])

    def client(self, **options):
        return UdpClient(self.address, **options)

    def wait_rsa_key(self):
        """Until leaves with RSA keys come at once; gives one. On a busy machine the first key can take longer than
        a request has, and none is made ahead before it is idle: so somebody has to ask, and to ask again."""
        host = "rsa-key.example.org"
        data = mimic(host, certs.upstream([host], key="rsa-2048"))

        def leaf():
            raw = client.ask_raw(data, timeout=3.6)
            return raw and not Answer(raw).error and Answer(raw)

        with self.client() as client:
            return wait_for(leaf, "a leaf with an RSA key", seconds=60)

    # ---- what it says about itself ----

    def http(self, path):
        """(status, text) of the admin endpoint."""
        host, port = udp_address(self.admin)
        connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_SEC)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def has_admin_connections(self):
        """Are there any to the HTTP endpoint? One that has been asked closes its end a moment after the asker."""
        port = f":{udp_address(self.admin)[1]:04X}"
        with open("/proc/net/tcp", encoding="ascii") as file:
            lines = [line.split() for line in file]
        return any(line[1].endswith(port) and line[3] not in (TCP_LISTEN, TCP_TIME_WAIT) for line in lines[1:])

    def metric(self, name, **labels):
        """One counter of /metrics; KeyError when it is not there."""
        wanted = {f'{k}="{v}"' for k, v in labels.items()}
        for line in self.http("/metrics")[1].splitlines():
            match = re.match(r"([a-z_]+)(?:\{(.*)\})? (\S+)\Z", line)
            if match and match[1] == name and wanted <= set((match[2] or "").split(",")):
                return float(match[3])
        raise KeyError(f"{name} {labels}")

    def wait_metric(self, name, more_than, **labels):
        return wait_for(lambda: self.metric(name, **labels) > more_than, f"{name}{labels} > {more_than}")

    # ---- its processes ----

    def role_pids(self, role=None):
        """Process numbers of the children that have this role (or any), dead ones left out."""
        pids = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                with open(f"/proc/{entry}/stat", encoding="latin-1") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read().split(b"\0")
            except OSError:
                continue
            if int(parent) != self.pid or state in "ZX" or b"--role" not in words:
                continue
            if role is None or words[words.index(b"--role") + 1] == role.encode():
                pids.append(int(entry))
        self._roles_seen.update(pids)
        return pids

    def role_pid(self, role):
        """The number of the one process with this role, waiting until it is there."""
        return wait_for(lambda: self.role_pids(role), f"a process with role {role}")[0]

    def kill_role(self, role):
        """kill -9 of the one process with this role, as kill_pid."""
        return self.kill_pid(self.role_pid(role))

    def kill_pid(self, pid):
        """kill -9; returns (monotonic time of the kill, when the process was surely dead)."""
        handle = os.pidfd_open(pid)
        try:
            killed = time.monotonic()
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            ready, _, _ = select.select([handle], [], [], PATIENCE_SEC)
            assert ready, f"process {pid} outlives SIGKILL"
            return killed, time.monotonic()
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def frozen(self, role):
        """As long as the context lasts, no thread of this role runs."""
        pid = self.role_pid(role)
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_for(lambda: set(thread_states(pid)) == {"T"}, f"the {role} has stopped")
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def send_signal(self, number):
        self.process.send_signal(number)

    # ---- the end ----

    def wait_exit(self, seconds=PATIENCE_SEC):
        """Its exit code, once it has ended by itself."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"leafd still runs after {seconds} s") from None
        self._reader.join(PATIENCE_SEC)
        if self in running:
            running.remove(self)
        return code

    def stop(self, number=signal.SIGTERM):
        """Ends it as its operator would; the exit code must be 0, in time, and nobody may stay behind."""
        if self not in running:
            return
        self.role_pids()
        started = time.monotonic()
        try:
            if self.process.poll() is None:
                self.process.send_signal(number)
            code = self.wait_exit(STOP_SEC + 5)
        except AssertionError:
            self.kill()
            raise
        took = time.monotonic() - started
        assert code == 0, f"exit code {code}\n{self.log()}"
        assert_stopped_in(took)
        wait_for(lambda: not [p for p in self._roles_seen if is_ours(p)], "all roles have ended")
        self.assert_clean()

    def kill(self):
        """For the end of a test that failed."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(2)
        if self in running:
            running.remove(self)

    def assert_clean(self):
        for line in self.lines:
            for word in ("AddressSanitizer", "ThreadSanitizer", "LeakSanitizer", "runtime error:"):
                assert word not in line, self.log()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.stop()
        elif self in running:
            self.kill_quietly()

    def kill_quietly(self):
        """The test has failed already: end it, keep the log for the report."""
        log = self.log()
        self.kill()
        ended_logs.append((str(self.folder), log))


def assert_stopped_in(took):
    """As is promised for a machine that has little else to do."""
    assert took <= STOP_SEC or took <= STOP_SEC * slowness(), f"took {took:.1f} s to stop"


ended_logs = []


def thread_states(pid):
    """The state letter of each thread of a process."""
    for entry in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended by now
            with open(f"/proc/{pid}/task/{entry}/stat", encoding="latin-1") as file:
                yield file.read().rpartition(")")[2].split()[0]


def is_ours(pid):
    """Does this process number still belong to a leafd role that lives?"""
    try:
        with open(f"/proc/{pid}/stat", encoding="latin-1") as file:
            if file.read().rpartition(")")[2].split()[0] in "ZX":
                return False
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"--role" in file.read().split(b"\0")
    except OSError:
        return False


def udp_address(text):
    """`127.0.0.1:2999` or `[::1]:2999` as (host, port)."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)
