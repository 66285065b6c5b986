# SPDX-License-Identifier: Apache-2.0
"""leafctl and tokens: what an operator is told of an HSM before leafd uses it, of several tokens and modules,
and in which of them leafctl works."""

import json
import os
import signal
import subprocess

import pytest

from cryptography import x509

from lib import tree, yaml_text
from lib.authority import SoftwareAuthority, Token, configuration, files_in, leafctl, leafctl_json
from lib.failing_token import FailingToken
from lib.leafd_process import environment
from lib.polling import wait_for


@pytest.fixture
def two(failing, folder):
    """Two tokens behind modules that fail on command, with the same key; and the configuration."""
    other = FailingToken(folder, "other", failing.authority)
    config = configuration(failing, failing.authority.pem_file, "ca")
    config["more_tokens"] = [other.section()]
    return failing, other, config


@pytest.fixture
def words(failing):
    """For a token that is in no configuration."""
    user = ["-o", f"user.signer={tree.SIGNER_ID}"]
    return ["--module", tree.FAKE_MODULE, "--env", f"FAKE_PKCS11_CONTROL={failing.control}", *user]


def probe(*words):
    """leafctl token test without a configuration."""
    command = [str(tree.LEAFCTL), "token", "test", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment(), cwd="/")


def probe_json(*words):
    done = probe("--json", *words)
    (told,) = json.loads(done.stdout)["tokens"]
    return done, told


def advice(told):
    return "\n".join(row["text"] for row in told["advice"])


# ---- token test without a configuration ----


def test_what_a_token_says_of_itself(failing, words):
    """Without a key nobody logs in and nothing is signed."""
    failing.tell("no_mechanism = CKM_EDDSA CKM_ECDSA", "more_mechanisms = CKM_AES_KEY_WRAP_PAD CKM_AES_KEY_GEN",
                 "max_sessions = 9", "session_limit = 7")  # fmt: skip
    done, told = probe_json("pkcs11:token=leafd", *words, "--pin-file", failing.pin_file)
    assert done.returncode == 0 and told["good"] and not done.stderr, done.stderr
    assert told["library"]["description"] == "fake module" and told["library"]["pkcs11_version"] == "2.40"
    assert (told["max_sessions"], told["sessions_opened"], told["session_refusal"]) == (9, 7, "CKR_SESSION_COUNT")
    mechanisms = {row["mechanism"]: row for row in told["mechanisms"]}
    assert mechanisms["CKM_RSA_PKCS"]["max"] == 4096 and mechanisms["CKM_RSA_PKCS"]["in_hardware"]
    assert "CKM_EDDSA" not in mechanisms
    chosen = {row["signs_with"]: row["mechanism"] for row in told["algorithms"]}
    assert chosen["ecdsa-sha256"] == "CKM_ECDSA_SHA256" and chosen["ed25519"] == ""
    assert told["seals_with"] == "CKM_AES_KEY_WRAP_PAD"
    assert told["keys"] == [] and failing.count("login") == 0 and failing.count("C_SignInit") == 0
    assert "opened 7" in advice(told)
    text = probe("pkcs11:token=leafd", *words).stdout
    for part in ("7 at once, then CKR_SESSION_COUNT", "not: the token does not sign with CKM_EDDSA",
                 "seal with CKM_AES_KEY_WRAP_PAD", "Nothing was signed"):  # fmt: skip
        assert part in text, text


def test_keys_made_for_a_test(failing, words):
    """They sign and are gone; one login."""
    # So slow that a busy machine makes little difference.
    failing.tell("no_mechanism = CKM_RSA_PKCS_KEY_PAIR_GEN", "latency.C_Sign = 20000")
    arguments = ["pkcs11:token=leafd", *words, "--make-key", "--pin-file", failing.pin_file, "--sessions", "4"]
    done, told = probe_json(*arguments)
    assert done.returncode == 0 and told["good"], done.stderr
    keys = {key["type"]: key for key in told["keys"]}
    assert {kind for kind in keys if not keys[kind]["failure"]} == {"ec-p256", "ed25519"}
    assert "CKR_MECHANISM_INVALID" in keys["rsa-2048"]["failure"] and "CURVE" in keys["ec-p384"]["failure"]
    rates = keys["ec-p256"]["rates"]
    assert [rate["sessions"] for rate in rates] == [1, 2, 4]
    assert rates[0]["median_us"] >= 20000 and rates[2]["per_second"] > 1.5 * rates[0]["per_second"]
    assert told["logins"] == 1 == failing.count("login") and told["login_is_shared"] == "yes"
    assert failing.count("made_in_token") == 0 and failing.count("sessions_open") == 0
    done = probe(*arguments, "--key", "ec-p384")
    assert done.returncode == 1 and "CKR_CURVE_NOT_SUPPORTED" in done.stderr and "WARNING" not in done.stdout
    done = probe(*arguments, "--key", "ed25519")
    assert done.returncode == 0 and "Session key:     ed25519" in done.stdout and "ec-p256" not in done.stdout


def test_a_module_that_does_one_thing_at_a_time(failing, words):
    failing.tell("cannot_lock = yes", "latency.C_Sign = 2000")
    arguments = ["pkcs11:token=leafd;object=ca", *words, "--pin-file", failing.pin_file]
    done, told = probe_json(*arguments)
    assert done.returncode == 0 and told["library"]["locks"] is False and told["lanes"] == 1
    assert "token.processes: 2 or more" in advice(told) and failing.count("race") == 0


@pytest.mark.parametrize(
    "line, said, logins",
    [
        ("pin_flags = locked", "is locked", 0),
        ("pin_flags = final-try", "one PIN try left", 0),
        ("pin = 9999", "refuses the PIN", 1),
        ("fail.C_Sign = CKR_FUNCTION_FAILED 0 20", "CKR_FUNCTION_FAILED", 1),
    ],
    ids=["locked", "final-try", "wrong", "failing"],
)
def test_what_fails_is_told_with_the_rest(failing, words, line, said, logins):
    failing.tell(line)
    done, told = probe_json("pkcs11:token=leafd;object=ca", *words, "--pin-file", failing.pin_file)
    assert done.returncode == 1 and not told["good"] and said in told["error"] and said in done.stderr
    assert told["mechanisms"] and failing.count("login") == logins


def test_softhsm_keeps_nothing(folder):
    """A real token: its keys sign, and no object stays."""
    token = Token(folder / "token")
    before = sorted(p.name for p in token.folder.rglob("*.object"))
    for kind in ("ec-p384", "rsa-2048", "ed25519"):
        done, told = probe_json(
            f"pkcs11:token={token.label}", "--module", tree.SOFTHSM_MODULE, "--env", f"SOFTHSM2_CONF={token.conf}",
            "-o", f"user.signer={tree.SIGNER_ID}", "--pin-file", token.pin_file, "--make-key", "--key", kind,
            "--sessions", "2",
        )  # fmt: skip
        assert done.returncode == 0 and told["good"], done.stderr
        (key,) = told["keys"]
        assert key["type"] == kind and not key["failure"] and key["extractable"] == "no" and key["made"]
        assert told["seals_with"] == "CKM_AES_GCM" and told["sessions_opened"] == 2
    assert sorted(p.name for p in token.folder.rglob("*.object")) == before


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--module", "/x.so"], "a URI"),
        (["pkcs11:token=a", "--module", "/x.so", "-c", "/dev/null"], "-c"),
        (["pkcs11:token=a", "--module", "/x.so", "--token", "1"], "--token"),
        (["pkcs11:token=a", "-c", "/dev/null", "--env", "A=b"], "token.env"),
        (["pkcs11:token=a", "--module", "/x.so", "--env", "A"], "NAME=VALUE"),
        (["pkcs11:token=a;object=b", "--module", "/x.so", "--make-key"], "object="),
        (["pkcs11:token=a", "--module", "/x.so", "--key", "ec-p256"], "--make-key"),
        (["pkcs11:token=a", "--module", "/x.so", "--make-key", "--key", "dsa"], "rsa-2048"),
        (["pkcs11:token=a", "--module", "/x.so", "--sessions", "0"], "--sessions"),
        (["--token", "first"], "0 is token"),
    ],
)
def test_mixtures_without_sense(arguments, said):
    done = probe(*arguments)
    assert done.returncode == 2 and said in done.stderr and not done.stdout, done.stderr


def test_no_such_token(failing, words):
    done = probe("pkcs11:token=none", *words)
    assert done.returncode == 1 and 'the module has "leafd"' in done.stderr and not done.stdout
    done = probe("pkcs11:token=none", "--module", "/nonexistent.so", *words[4:])
    assert done.returncode == 1 and "there is no file /nonexistent.so" in done.stderr
    done = probe("pkcs11:token=leafd", "-c", "/nonexistent.yaml")
    assert done.returncode == 1 and "--module FILE" in done.stderr


# ---- configured tokens ----


def test_each_configured_token(two, folder):
    """By name; one that fails does not hide the other."""
    first, other, config = two
    other.tell("pin = 9999")
    done = leafctl(config, folder, "--json", "token", "test", "--sessions", "2")
    told = json.loads(done.stdout)
    assert done.returncode == 1 and not told["good"] and "more_tokens[0]: " in done.stderr
    assert [t["configured"] for t in told["tokens"]] == ["token", "more_tokens[0]"]
    assert [t["good"] for t in told["tokens"]] == [True, False]
    (key,) = told["tokens"][0]["keys"]
    assert key["ca"] == 0 and key["type"] == "ec-p256" and key["label"] == "ca" and not key["failure"]
    assert "refuses the PIN" in told["tokens"][1]["error"] and told["tokens"][1]["sessions_opened"] == 2
    assert first.count("login") == 1 == other.count("login")
    done = leafctl(config, folder, "token", "test", "--token", "0", "--sessions", "1")
    assert done.returncode == 0 and "Key:             ec-p256, of CA 0" in done.stdout and "====" not in done.stdout
    assert other.count("login") == 1
    done = leafctl(config, folder, "token", "test", "--token", "2")
    assert done.returncode == 1 and "there is no token 2" in done.stderr


def test_a_uri_with_the_configured_module(two, folder):
    """The configured PIN is for the configured token alone."""
    first, _, config = two
    first.tell("tokens = leafd stranger", f"key = token=1 label=ca id=02 file={first.authority.key_file}")
    done = leafctl(config, folder, "token", "test", "pkcs11:token=stranger;object=ca")
    assert done.returncode == 1 and "none is given" in done.stderr and first.count("login") == 0
    done = leafctl(config, folder, "token", "test", "pkcs11:token=leafd;object=ca", "--sessions", "1")
    assert done.returncode == 0 and first.count("login") == 1, done.stderr
    done = leafctl(config, folder, "token", "test", "pkcs11:token=stranger;object=ca", "--sessions", "1",
                   "--pin-file", first.pin_file)  # fmt: skip
    assert done.returncode == 0 and first.count("login") == 2, done.stderr


def test_before_there_is_a_ca(failing, folder):
    config = configuration(failing, folder / "none.pem", "ca")
    done = leafctl(config, folder, "token", "test")
    assert done.returncode == 0 and "ca.certificate is not there yet" in done.stdout, done.stderr
    assert failing.count("login") == 0


def test_list_over_all_modules(two, config_of, ca, folder):
    """Each module once, and which of its tokens are configured."""
    first, other, config = two
    first.tell("tokens = leafd spare")
    config["more_tokens"] += [
        {**first.section(), "key": "pkcs11:token=spare;object=ca"},
        {**ca.token.section(), "key": ca.token.uri("ca")},
    ]
    listed = leafctl_json(config, folder, "token", "list")
    places = [(t["label"], t["configured"]) for t in listed if t["initialized"]]
    assert places == [("leafd", [0]), ("spare", [2]), ("leafd", [1]), (ca.token.label, [3])]
    assert [t["module"] == tree.SOFTHSM_MODULE for t in listed if t["initialized"]] == [False] * 3 + [True]
    done = leafctl(config, folder, "token", "list")
    assert done.stdout.count("Module:  ") == 3 and "  configured:    more_tokens[1]\n" in done.stdout
    config["more_tokens"][0]["module"] = "/nonexistent.so"
    done = leafctl(config, folder, "token", "list")
    assert done.returncode == 1 and "/nonexistent.so" in done.stderr and "more_tokens[2]" in done.stdout


def check(config, folder, *words):
    done = leafctl(config, folder, "--json", "check", *words)
    told = json.loads(done.stdout)
    assert told["good"] == (done.returncode == 0)
    return told, [t["has_key"] for t in told["tokens"]]


def test_check_asks_each_token(two, folder):
    first, other, config = two
    told, has_key = check(config, folder)
    assert told["good"] and has_key == [True, True]
    text = leafctl(config, folder, "check").stdout
    assert "more_tokens[0]:  has the CA's key\n" in text and "leafd would start with this.\n" in text

    other.authority = SoftwareAuthority(other.folder)
    other.tell()
    told, has_key = check(config, folder)
    assert not told["good"] and has_key == [True, False]
    assert told["errors"][0].startswith("more_tokens[0]: ") and "is not the key of the CA" in told["errors"][0]

    # What leafd would wait for is a warning.
    first.tell("present = no")
    told, has_key = check(config, folder)
    assert has_key == [False, False] and [w for w in told["warnings"] if w.startswith("token: no token answers")]

    # A PIN that may be wrong is not tried again and again.
    other.authority = first.authority
    for line, errors in (("pin_flags = count-low", 0), ("pin_flags = final-try", 1)):
        logins = other.count("login")
        other.tell(line)
        told, has_key = check(config, folder)
        assert has_key == [False, False] and len(told["errors"]) == errors and other.count("login") == logins

    logins = first.count("login") + other.count("login")
    told, has_key = check(config, folder, "--no-token")
    assert told["good"] and has_key == [False, False]
    assert first.count("login") + other.count("login") == logins
    assert "No token was asked." in leafctl(config, folder, "check", "--no-token").stdout


def test_a_check_does_not_wait_for_ever_for_a_pin(failing, folder):
    """What can be read once alone is left to leafd."""
    os.mkfifo(folder / "pin")
    config = configuration(failing, failing.authority.pem_file, "ca")
    config["token"]["pin_file"] = str(folder / "pin")
    told, has_key = check(config, folder)
    assert told["good"] and has_key == [False] and "is no file" in " ".join(told["warnings"])


# ---- ca init and its kin ----


def test_in_the_second_token(two, folder):
    """--token: where the key is made, and which token signs."""
    first, other, config = two
    first.tell("present = no")
    config["ca"]["certificate"] = str(folder / "new.pem")
    config["more_tokens"][0]["key"] = other.uri("new")
    done = leafctl(config, folder, "ca", "init", "--token", "1")
    assert done.returncode == 0 and other.count("made_in_token") == 1, done.stderr
    x509.load_pem_x509_certificate((folder / "new.pem").read_bytes())
    for command in ("init", "csr", "crl"):
        done = leafctl(config, folder, "ca", command, "--token", "x")
        assert done.returncode == 2, command
    config["more_tokens"][0]["key"] = other.uri("ca")
    config["ca"]["certificate"] = str(other.authority.pem_file)
    done = leafctl(config, folder, "ca", "csr", "--existing", "--token", "1")
    assert done.returncode == 0 and "CERTIFICATE REQUEST" in done.stdout, done.stderr
    done = leafctl(config, folder, "ca", "crl", "--token", "1", "--out", folder / "ca.crl")
    assert done.returncode == 0 and "ca.crl" in files_in(folder), done.stderr
    assert leafctl(config, folder, "ca", "crl", "--out", folder / "other.crl").returncode == 1
    done = leafctl(config, folder, "ca", "install", "--token", "1", other.authority.pem_file)
    assert done.returncode == 0 and "nothing was written" in done.stderr, done.stderr


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
