# SPDX-License-Identifier: Apache-2.0
"""What every system test may ask for. One token and one CA of each key type serve the whole run; each
file of tests has a daemon with the ordinary configuration, and starts others where it needs them."""

import contextlib

import pytest

from lib import leafd_process, tree, yaml_text
from lib.authority import Authority, Intermediate, Token, configuration
from lib.failing_token import FailingToken
from lib.leafd_process import LeafdProcess


@pytest.fixture(scope="session")
def session_folder():
    folder = tree.TemporaryFolder()
    yield folder.path
    folder.remove()


@pytest.fixture
def folder():
    """A folder for one test."""
    temporary = tree.TemporaryFolder()
    yield temporary.path
    temporary.remove()


@pytest.fixture
def failing(folder):
    """A token behind a module that fails on command."""
    if not tree.FAKE_MODULE.exists():
        pytest.skip(f"{tree.FAKE_MODULE} is not built (make check builds it)")
    return FailingToken(folder)


@pytest.fixture(scope="session")
def token(session_folder):
    return Token(session_folder / "token")


@pytest.fixture(scope="session")
def authorities(token, session_folder):
    """The CA of a key type: authorities("rsa-2048"), also with rsa_padding="pss". Made when first asked for."""
    made = {}

    def get(key="ec-p256", *options, rsa_padding=None):
        name = " ".join((key, *options, rsa_padding or ""))
        if name not in made:
            label = f"ca-{len(made)}-{key}"
            made[name] = Authority(
                token, session_folder, label, "--key", key, *options, rsa_padding=rsa_padding
            )
        return made[name]

    return get


@pytest.fixture(scope="session")
def ca(authorities):
    """The ordinary CA, with a P-256 key."""
    return authorities("ec-p256")


@pytest.fixture
def constrained(ca, folder):
    """constrained(name_constraints, …): an intermediate CA with the ordinary CA's key, under a root of ours."""
    return lambda *args, **options: Intermediate(ca, folder, *args, **options)


@pytest.fixture(scope="session")
def config_of(token):
    """The ordinary configuration of a CA, with changes (lib.yaml_text.merged)."""

    def make(authority, changes=None):
        config = configuration(token, authority.pem_file, authority.label)
        if authority.rsa_padding:
            config["ca"]["rsa_padding"] = authority.rsa_padding
        return yaml_text.merged(config, changes or {})

    return make


@pytest.fixture(scope="session")
def start(config_of):
    """start(authority, {"leaf": {"lifetime": "1d"}}): a daemon that is ready, as a context."""

    @contextlib.contextmanager
    def run(authority, changes=None, **options):
        temporary = tree.TemporaryFolder()
        try:
            with LeafdProcess(temporary.path, config_of(authority, changes), **options) as daemon:
                yield daemon.wait_ready()
        finally:
            temporary.remove()

    return run


@pytest.fixture(scope="module")
def daemon(start, ca):
    """The ordinary daemon of a file of tests."""
    with start(ca) as running:
        yield running


@pytest.fixture
def client(daemon):
    with daemon.client() as one:
        yield one


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the end of each daemon's log."""
    report = (yield).get_result()
    if report.failed:
        logs = [(str(d.folder), d.log()) for d in leafd_process.running] + leafd_process.ended_logs
        for name, text in logs:
            report.sections.append((f"log of leafd in {name}", text[-6000:]))
    leafd_process.ended_logs.clear()


def pytest_sessionfinish():
    for daemon in list(leafd_process.running):
        daemon.kill()
