# SPDX-License-Identifier: Apache-2.0
"""Waiting for something to become true, with a deadline."""

import time

# Sanitizers make everything some times slower, and a CI machine may be busy.
PATIENCE_SEC = 15.0


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
