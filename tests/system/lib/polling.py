# SPDX-License-Identifier: Apache-2.0
"""Waiting for something to become true, with a deadline."""

import time

from . import tree

# For what comes in a moment on an idle machine. Sanitizers make everything some times slower, and a CI machine
# may be busy.
PATIENCE_SEC = 15.0 if not tree.IS_SANITIZED else 60.0


def slowness():
    """How much longer than on an idle machine something takes right now, by what a short computation waits for a
    processor: 1, or more. For the times that are promised for a machine that has little else to do."""
    began, used = time.monotonic(), time.thread_time()
    while time.thread_time() - used < 0.03:
        pass
    return max(1.0, (time.monotonic() - began) / (time.thread_time() - used))


def wait_for(condition, what, seconds=PATIENCE_SEC, every=0.01):
    """Calls `condition` until it gives something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(every)
