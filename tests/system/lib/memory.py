# SPDX-License-Identifier: Apache-2.0
"""What stands in the memory of a process, for root: it is not stopped, so look when it has little to do."""

import re

MAPPING = re.compile(rb"[0-9a-f]+-[0-9a-f]+ ")
CHUNK = 1 << 20


def mappings(pid):
    """(start, end, line, flags) of each, the flags as smaps has them: dd is left out of core dumps, lo is locked."""
    with open(f"/proc/{pid}/smaps", "rb") as file:
        line = None
        for row in file:
            if MAPPING.match(row):
                line = row.decode()
            elif row.startswith(b"VmFlags:"):
                start, end = (int(n, 16) for n in line.split()[0].split("-"))
                yield start, end, line.strip(), set(row.decode().split()[1:])


def places(pid, needle):
    """(line, flags) of the mappings in which `needle` stands."""
    found = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for start, end, line, flags in list(mappings(pid)):
            if "rd" in flags and contains(memory, start, end, needle):
                found.append((line, flags))
    return found


def contains(memory, start, end, needle):
    at, tail = start, b""
    while at < end:
        try:
            memory.seek(at)
            block = memory.read(min(CHUNK, end - at))
        except (OSError, OverflowError):
            return False  # the kernel's own, or gone by now
        if not block:
            return False
        if needle in tail + block:
            return True
        tail = block[-len(needle) :]
        at += len(block)
    return False
