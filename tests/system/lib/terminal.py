# SPDX-License-Identifier: Apache-2.0
"""A pseudo-terminal on which a program under test asks somebody for something."""

import os
import select
import subprocess
import termios
import time

from .leafd_process import environment
from .polling import PATIENCE_SEC, wait_for


class Terminal:
    """Its end for the program is `slave`, which stays open here, so that the kernel leaves the settings alone. It
    controls no process: who has it as standard input in a session of its own has no other terminal."""

    def __init__(self):
        self.master, self.slave = os.openpty()
        self.said = ""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.master)
        os.close(self.slave)

    def echoes(self):
        return bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)

    def read(self):
        """What has been shown by now, all of it."""
        while select.select([self.master], [], [], 0)[0]:
            self.said += os.read(self.master, 4096).decode()
        return self.said

    def wait_question(self, words, times=1):
        """Until the question with these words was put so often, and is waiting for an answer."""
        deadline = time.monotonic() + PATIENCE_SEC
        while self.read().count(words) < times:
            assert time.monotonic() < deadline, f"never asked for {words}: {self.said}"
            select.select([self.master], [], [], 0.1)
        assert not self.echoes()

    def type(self, text):
        os.write(self.master, text.encode())

    def answer(self, words, text, times=1):
        self.wait_question(words, times)
        self.type(text + "\n")

    def wait_echo(self):
        wait_for(self.echoes, "the terminal echoes again")

    def run(self, command, *answers, timeout=120):
        """Runs a command with this terminal, and answers its questions: pairs of what they hold and the answer."""
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=self.slave,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            cwd="/",
            start_new_session=True,
        )
        try:
            for words, text in answers:
                self.answer(words, text)
            out, error = process.communicate(timeout=timeout)
        finally:
            process.kill()
            process.wait()
        assert self.echoes()
        return subprocess.CompletedProcess(command, process.returncode, out, error)
