# SPDX-License-Identifier: Apache-2.0
"""How much later something happens because the machine is busy with other things: for times that leafd promises,
which it can keep only while it runs."""

import contextlib
import os


def waited_ns(pid):
    """{thread: for how long it has stood ready while others had the processors}, of one process."""
    waited = {}
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                    waited[thread] = int(file.read().split()[1])
    return waited


class Starvation:
    """From here on, of the daemon and of this process, which looks when it has happened: one process waits for
    the other, and each for one of its threads. Next to nothing on a machine with nothing else to do."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.before = self._waited()

    def _waited(self):
        return {pid: waited_ns(pid) for pid in (os.getpid(), self.daemon.pid, *self.daemon.role_pids())}

    def seconds(self):
        most = 0
        for pid, threads in self._waited().items():
            before = self.before.get(pid, {})
            most += max((now - before.get(thread, 0) for thread, now in threads.items()), default=0)
        return most / 1e9
