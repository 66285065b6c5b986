# SPDX-License-Identifier: Apache-2.0
"""What the programs under test say that they can do, so that a new key type is tested as soon as it is there."""

import functools
import re
import subprocess

from . import tree


@functools.lru_cache(maxsize=None)
def _leafctl(*words):
    done = subprocess.run([str(tree.LEAFCTL), *words], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def _words(text):
    """`a, b or c` as a list."""
    return [word for word in re.split(r",\s*|\s+or\s+|\s+", text.strip()) if word]


def option_values(name):
    """The words that an option of the configuration takes ("leaf.key"), or [] where there is none of it:
    the last parenthesis of its comment in the sample."""
    section, _, key = name.rpartition(".")
    inside, comment = not section, ""
    for line in _leafctl("check", "--sample").splitlines():
        if re.match(r"\S", line) and not line.startswith("#"):
            inside = not section or line.startswith(f"{section}:")
        text = line.strip()
        if text.startswith("#") and not re.match(rf"# {key}: ", text):
            comment = comment + " " + text.lstrip("# ")
            continue
        if inside and re.match(rf"(# )?{key}:", text):
            return _words(comment.rpartition("(")[2].rpartition(")")[0])
        comment = ""
    return []


def leaf_keys():
    """Key types that leaf.key can name: rsa, ec-p256, …"""
    return [word for word in option_values("leaf.key") if word not in ("compatible", "upstream")]


def ca_keys():
    """Key types of `leafctl ca init --key`."""
    refusal = _leafctl("-c", "/dev/null", "ca", "init", "--key", "no-such-type")
    return _words(re.search(r"must be (.*), not ", refusal, re.DOTALL)[1])
