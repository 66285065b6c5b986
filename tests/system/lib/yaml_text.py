# SPDX-License-Identifier: Apache-2.0
"""A dict as YAML text, in the block style that an operator would write."""

import json
import re

PLAIN = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./ +-]*\Z")


def scalar(value):
    if value is True:
        return "yes"
    if value is False:
        return "no"
    if isinstance(value, int):
        return str(value)
    return value if PLAIN.match(value) else json.dumps(value)


def dump(value, indent=0):
    """`value` (dict, list or scalar) as lines that start in column `indent`."""
    pad = " " * indent
    if isinstance(value, dict):
        text = ""
        for key, inner in value.items():
            if isinstance(inner, (dict, list)) and inner:
                text += f"{pad}{key}:\n{dump(inner, indent + 2)}"
            elif isinstance(inner, list):
                text += f"{pad}{key}: []\n"
            else:
                text += f"{pad}{key}: {scalar(inner)}\n"
        return text
    if isinstance(value, list):
        text = ""
        for inner in value:
            if isinstance(inner, dict):
                text += f"{pad}- {dump(inner, indent + 2).lstrip()}"
            else:
                text += f"{pad}- {scalar(inner)}\n"
        return text
    raise TypeError(value)


def merged(base, changes):
    """A deep copy of `base` with `changes` put over it; None takes a key away."""
    result = {k: merged(v, {}) if isinstance(v, dict) else v for k, v in base.items()}
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result
