# SPDX-License-Identifier: Apache-2.0
"""leafctl and tokens: what an operator is told of an HSM before leafd uses it."""

import signal
import subprocess

import pytest

from lib import tree, yaml_text
from lib.authority import configuration, files_in
from lib.failing_token import FailingToken
from lib.leafd_process import environment
from lib.polling import wait_for


@pytest.fixture
def failing(folder):
    if not tree.FAKE_MODULE.exists():
        pytest.skip(f"{tree.FAKE_MODULE} is not built (make check builds it)")
    return FailingToken(folder)


# ---- ca init ----


def test_an_init_that_is_killed_leaves_nothing(folder, failing):
    """Not even an empty file beside the certificate's place."""
    failing.tell("hang.C_GenerateKeyPair = 1")
    (folder / "out").mkdir()
    file = folder / "leafd.yaml"
    file.write_text(yaml_text.dump(configuration(failing, folder / "out" / "ca.pem", "new")))
    running = subprocess.Popen([str(tree.LEAFCTL), "-c", str(file), "ca", "init"], env=environment(), cwd="/")
    wait_for(lambda: failing.count("C_GenerateKeyPair") == 1, "the key is being made")
    running.send_signal(signal.SIGKILL)
    running.wait(30)
    assert files_in(folder / "out") == []
