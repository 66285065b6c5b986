# SPDX-License-Identifier: Apache-2.0
"""The PIN asked for on a terminal: by leafd once at start, by leafctl where it logs in."""

import signal
import subprocess

import pytest

from lib import tree, yaml_text
from lib.authority import Token, configuration
from lib.client import by_ids
from lib.failing_token import FailingToken
from lib.leafd_process import LeafdProcess, environment
from lib.polling import wait_for
from lib.terminal import Terminal

PIN, OTHER_PIN, WRONG = "8c41-the-pin-of-one", "d20b-the-pin-of-the-other", "e97f-no-pin-of-either"


@pytest.fixture
def terminal():
    with Terminal() as terminal:
        yield terminal


@pytest.fixture
def failing(failing):
    failing.tell(f"pin = {PIN}")
    return failing


@pytest.fixture
def config(failing):
    config = configuration(failing, failing.authority.pem_file, "ca")
    del config["token"]["pin_file"]
    return config


def without_terminal(command):
    """In a session of its own, which has none."""
    return subprocess.run(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
        cwd="/",
        start_new_session=True,
    )


def leafctl_command(config, folder, *words):
    file = folder / "leafctl.yaml"
    file.write_text(yaml_text.dump(config))
    return [tree.LEAFCTL, "-c", file, *words]


# ---- leafd ----


def test_each_token_is_asked_for_once(folder, failing, config, terminal):
    """Before anything is started; a signer that is started again has the same PIN."""
    other = FailingToken(folder, "other", failing.authority)
    other.tell(f"pin = {OTHER_PIN}")
    config["more_tokens"] = [{**other.section(), "pin_prompt": True, "processes": 2}]
    del config["more_tokens"][0]["pin_file"]
    with LeafdProcess(folder, config, stdin=terminal.slave) as daemon:
        terminal.wait_question(f"PIN for token ({failing.uri('ca')}): ")
        assert not daemon.role_pids()
        terminal.type(PIN + "\n")
        terminal.answer("PIN for more_tokens[0] (", OTHER_PIN)
        terminal.wait_echo()
        daemon.wait_ready()
        wait_for(lambda: (failing.count("login"), other.count("login")) == (1, 2), "all signers have logged in")
        for pid in daemon.role_pids("signer"):
            daemon.kill_pid(pid)
        wait_for(lambda: (failing.count("login"), other.count("login")) == (2, 4), "and those after them")
        with daemon.client() as client:
            client.ask_leaf(by_ids("prompt.example.org"))
    assert terminal.read().count("PIN for") == 2 and terminal.echoes()
    for pin in (PIN, OTHER_PIN):
        assert pin not in daemon.log() and pin not in terminal.said


def test_a_wrong_answer_costs_one_login(folder, failing, config, terminal):
    config["token"]["processes"] = 3
    daemon = LeafdProcess(folder, config, stdin=terminal.slave)
    terminal.answer("PIN for token", WRONG)
    assert daemon.wait_exit() == 78
    assert failing.count("login") == 1
    assert "refuses the PIN" in daemon.log() and WRONG not in daemon.log()
    assert terminal.read().count("PIN for") == 1 and terminal.echoes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_the_place_of_an_answer(folder, failing, config, terminal, number):
    daemon = LeafdProcess(folder, config, stdin=terminal.slave)
    terminal.wait_question("PIN for token")
    terminal.type(WRONG)
    daemon.send_signal(number)
    assert daemon.wait_exit() == 0
    assert "event=stopping" in daemon.log() and terminal.echoes()
    assert failing.count("login") == 0


def test_no_answer(folder, failing, config, terminal):
    daemon = LeafdProcess(folder, config, stdin=terminal.slave)
    for turn in range(3):
        terminal.answer("PIN for token", "", times=turn + 1)
    assert daemon.wait_exit() == 78
    assert "pin_prompt: no is for a token that wants none" in daemon.log() and terminal.echoes()
    assert failing.count("login") == 0


def test_when_it_is_asked_for(folder, failing, config, terminal):
    """Without a terminal never, on one unless there is another source or the operator does not want it."""
    config["token"]["pin_prompt"] = True
    daemon = LeafdProcess(folder, config)
    assert daemon.wait_exit() == 78
    assert "token.pin_prompt: there is no terminal" in daemon.log() and "token.pin_file" in daemon.log()
    done = without_terminal(leafctl_command(config, folder, "check"))
    assert done.returncode == 0 and "token.pin_prompt: not asked for the CA's key" in done.stdout, done

    config["token"]["pin_prompt"] = False
    daemon = LeafdProcess(folder, config, stdin=terminal.slave)
    assert daemon.wait_exit() == 78
    assert "wants a PIN and none is given" in daemon.log() and "start from a terminal" in daemon.log()

    del config["token"]["pin_prompt"]
    failing.pin_file.write_text(PIN + "\n")
    config["ca"]["key"] += f"?pin-source=file:{failing.pin_file}"
    with LeafdProcess(folder, config, stdin=terminal.slave) as daemon:
        daemon.wait_ready()
    assert terminal.read() == "" and failing.count("login") == 1


# ---- leafctl ----


def test_leafctl_asks_where_it_logs_in(folder, terminal):
    token = Token(folder / "token")
    pin = token.pin_file.read_text().strip()
    config = configuration(token, folder / "ca.pem", "ca")
    del config["token"]["pin_file"]

    def run(*words, answers=(("PIN for token", pin),)):
        terminal.said = ""
        done = terminal.run(leafctl_command(config, folder, *words), *answers)
        for given in (pin, WRONG):
            assert given not in done.stdout + done.stderr + terminal.read()
        return done

    for words in (("token", "list"), ("token", "test", f"pkcs11:token={token.label}")):
        assert run(*words, answers=()).returncode == 0, "nobody logs in"
    for words in (("ca", "init"), ("token", "test"), ("check",)):
        done = run(*words)
        assert done.returncode == 0, (words, done)
    done = run("token", "test", token.uri("ca"), answers=[(f"PIN for token ({token.uri('ca')})", pin)])
    assert done.returncode == 0, done
    done = run("token", "test", answers=[("PIN for token", WRONG)])
    assert done.returncode == 1 and "refuses the PIN" in done.stderr, done
    done = without_terminal(leafctl_command(config, folder, "token", "test"))
    assert done.returncode == 1 and "none is given" in done.stderr, done
