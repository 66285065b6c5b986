# SPDX-License-Identifier: Apache-2.0
"""Every odd upstream certificate of leafd-upstreams(7), sent to one running leafd: the verdict and its
reasons, the leaf or the error that the table says, and what other people's verifiers say of both."""

import concurrent.futures
import ipaddress
import json
import re
import sys
import time
import traceback

import pytest

from lib import certs, checks, der, odd, oracles, tree, yaml_text
from lib.authority import leafctl
from lib.certs import DAY
from lib.client import mimic

sys.path.insert(0, str(tree.SOURCE / "man"))
import upstreams_table  # noqa: E402

ROWS = upstreams_table.rows()
NORMAL_TTL, SHORT_TTL = 86400, 10

# Many other processes, which say the same whatever leafd was compiled with.
plain_run = pytest.mark.skipif(tree.IS_SANITIZED, reason="of each row, the plain run has asked")


@pytest.fixture(scope="module")
def world(ca):
    return odd.World(ca.cert)


@pytest.fixture(scope="module")
def shown(world):
    return odd.everything(world)


def test_the_page_is_the_table():
    assert upstreams_table.PAGE.read_text("utf-8") == upstreams_table.page(), "run man/upstreams_table.py"


def test_there_is_a_certificate_for_each_row(shown):
    assert set(shown) == set(ROWS)
    assert len(ROWS) >= 300


# ---- what an upstream says, read by ourselves ----

CODES = {certs.BMP: "utf-16-be", certs.UNIVERSAL: "utf-32-be"}


class Said:
    """Names, subject and dates of an upstream certificate that can be read."""

    def __init__(self, cert):
        if isinstance(cert, str):
            cert = cert.encode()
        if cert[:1] != b"\x30":
            body = cert.partition(b"CERTIFICATE-----")[2].partition(b"-----END")[0]
            cert = certs.base64.b64decode(body)
        fields = der.read(cert)[0][0].children()
        if fields[0].tag == 0xA0:
            fields = fields[1:]
        self.dates = [seconds_of(moment) for moment in fields[3].children()]
        self.subject = subject_of(fields[4])
        names = [
            name
            for extension in (fields[-1][0].children() if fields[-1].tag == 0xA3 else ())
            if extension[0].whole == der.oid(certs.SAN_OID)
            for name in der.read(extension.children()[-1].content)[0].children()
        ]
        self.names = unique(name_text(name) for name in names)
        if not names:
            self.names = [text.lower() for rdn in self.subject for oid, text in rdn if oid == certs.COMMON_NAME]


def name_text(name):
    if name.tag == 0x87 and len(name.content) in (4, 16):
        return str(ipaddress.ip_address(name.content))
    return name.content.decode("latin-1").lower()


def as_python_writes(name):
    """Addresses have several forms."""
    return str(ipaddress.ip_address(name)) if checks.is_address(name) else name


def unique(items):
    return list(dict.fromkeys(items))


def seconds_of(moment):
    text = moment.content.decode().rstrip("Z")
    if moment.tag == 0x17:
        text = ("19" if text[:2] >= "50" else "20") + text
    when = checks.datetime.datetime.strptime(text, "%Y%m%d%H%M%S")
    return checks.unix_time(when)


def subject_of(name):
    """[[(OID, text)]]; text that is none stays octets."""
    out = []
    for rdn in name.children():
        out.append([])
        for attribute in rdn.children():
            kind, value = attribute.children()
            try:
                text = value.content.decode(CODES.get(value.tag, "utf-8"))
            except UnicodeDecodeError:
                text = value.content
            out[-1].append((odd.dotted(kind.content), text))
    return out


# ---- one row ----

WITHOUT = {
    "CN": certs.COMMON_NAME, "O": certs.ORGANIZATION, "C": certs.COUNTRY, "serialNumber": certs.SERIAL_NUMBER,
    "emailAddress": certs.EMAIL,
}  # fmt: skip


def wanted_subject(row, said, host):
    if "minimal" in row.leaf:
        return [[(certs.COMMON_NAME, host)]]
    rule = row.leaf.get("subject", "")
    if rule == "empty":
        return []
    subject = said.subject
    if rule == "without twins":
        return [sorted(set(rdn)) for rdn in subject]
    if rule == "without it":
        return subject[1:]
    if rule:
        oid = WITHOUT[rule.removeprefix("without ")]
        subject = [[pair for pair in rdn if pair[0] != oid] for rdn in subject]
    return [sorted(rdn) for rdn in subject if rdn]


def wanted_names(row, said, host):
    if "minimal" in row.leaf:
        return [host]
    if "names" in row.leaf:
        return [as_python_writes(name) for name in row.leaf["names"].split()]
    return said.names


def wanted_dates(row, said, world):
    first, last = said.dates
    cut, yesterday = 397 * DAY, world.now - DAY
    return {
        "": (first, last),
        "its first 397 days": (first, first + cut),
        "its last 397 days": (last - cut, last),
        "397 days from yesterday": (yesterday, yesterday + cut),
        "from yesterday to its end": (yesterday, last),
        "both its end": (last, last),
        "both the CA's end": (world.ca_end, world.ca_end),
        "until the CA's end": (first, world.ca_end),
    }[row.leaf.get("dates", "")]


COUNTER = re.compile(r'leafd_verdicts_total{verdict="(.*)"} (.*)')


class Counters:
    """How the verdict counters move from one request to the next."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.before = self.read()

    def read(self):
        return dict(COUNTER.findall(self.daemon.http("/metrics")[1]))

    def moved(self):
        now = self.read()
        moved = [kind for kind in now if now[kind] != self.before[kind]]
        self.before = now
        return moved


def assert_row(name, shown, world, client, counters, answers):
    row, (cert, host) = ROWS[name], shown[name]
    answer = client.ask(mimic(host, cert))
    assert counters.moved() == [row.verdict]
    if "error" in row.leaf:
        assert answer.map == {1: host, 7: row.leaf["error"]}
        return
    assert not answer.error, answer
    answers[name] = answer
    said = Said(cert)
    trusted = row.ca == "ours"
    names, key = wanted_names(row, said, host), row.leaf.get("key", "ec-p256")
    leaf = checks.assert_leaf(answer, world.ca, names=names, key=key, trusted=trusted, verifiers=False)
    if not trusted:
        assert "untrusted" in leaf.issuer.rfc4514_string().lower(), leaf.issuer
        assert len(answer.cert_blocks) == 1, "the untrusted CA is never sent"
    subject = der.read(answer.cert_blocks[0])[0][0].children()[5]
    assert [sorted(rdn) for rdn in subject_of(subject)] == wanted_subject(row, said, host)
    wanted = wanted_dates(row, said, world)
    dates = [checks.unix_time(moment) for moment in (leaf.not_valid_before, leaf.not_valid_after)]
    late = time.time() - world.now if "yesterday" in row.leaf.get("dates", "") else 0
    assert all(0 <= had - want <= late for had, want in zip(dates, wanted)), (dates, wanted)
    assert answer.ttl == NORMAL_TTL if row.verdict in ("good", "legacy") else answer.ttl <= SHORT_TTL


@pytest.fixture(scope="module")
def answers():
    """Those with a leaf, by id, as the rows leave them."""
    return {}


@pytest.mark.parametrize("section", upstreams_table.read(), ids=lambda section: section.title.lower())
def test_rows(section, shown, world, client, daemon, answers):
    daemon.wait_rsa_key()
    counters = Counters(daemon)
    wrong = []
    for row in section.rows:
        try:
            assert_row(row.id, shown, world, client, counters, answers)
        except (AssertionError, ValueError) as error:
            wrong.append(f"{row.id}: {error or traceback.format_exc()}")
    assert not wrong, "\n".join(wrong)


# ---- the reasons ----


@plain_run
def test_reasons(shown, config_of, ca, folder):
    """leafctl explain, which runs the same policy, says why."""
    config = folder / "leafd.yaml"
    config.write_text(yaml_text.dump(config_of(ca)))

    def explain(row):
        cert, host = shown[row.id]
        file = folder / row.id
        file.write_bytes(cert.encode() if isinstance(cert, str) else cert)
        done = leafctl(config, folder, "--json", "explain", host, "--like", file)
        said = json.loads(done.stdout)
        assert said["answer"] == row.leaf.get("error", "leaf")
        assert said["reasons"] == ",".join(row.reasons)
        assert said.get("ca") == {"ours": "default", "untrusted": "untrusted", "-": None}[row.ca]
        if row.verdict == "minimal":
            assert said["profile"] == "minimal"
        else:
            assert said["verdict"] == row.verdict

    def fault(row):
        try:
            explain(row)
        except (AssertionError, ValueError) as error:
            return f"{row.id}: {error}"

    rows = [row for row in ROWS.values() if row.reasons or row.verdict in ("minimal", "dates", "name")]
    rows += [row for row in ROWS.values() if row.id.startswith("pem") and row.ca == "ours"]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        wrong = list(filter(None, pool.map(fault, rows)))
    assert not wrong, "\n".join(wrong)


# ---- what other verifiers say ----

# Good for leafd, and not for OpenSSL 3.0 as a client: by what leafd-upstreams(7) says, not by an oversight.
OPENSSL_DIFFERS = {
    "eku-any", "eku-any-critical", "eku-client-any",  # wants serverAuth itself
    "must-staple-critical",  # does not know it
    "key-brainpool384", "key-brainpool512", "key-rsa-oaep", "key-gost", "key-unknown",  # cannot build the key
    "key-ml-dsa-44", "key-ml-dsa-87",
    "issuer-empty", "issuer-ours", "issuer-ampersand",  # nobody's root signed them
    "signature-wrong", "signature-empty", "signature-unused-bits", "signature-ecdsa-specified-sha256",
}  # fmt: skip


def by_host(names, shown):
    """{host: [id]}, for those that are asked in DER."""
    hosts = {}
    for name in names:
        cert, host = shown[name]
        if isinstance(cert, bytes) and cert[:1] == b"\x30":
            hosts.setdefault(host, []).append(name)
    return hosts


def ask_openssl(names, shown, roots, leaf_of, **options):
    answers = {}
    for host, some in by_host(names, shown).items():
        answers.update(oracles.openssl_many({name: leaf_of(name) for name in some}, roots, host, **options))
    return answers


def whole_leaf(answer):
    return answer.cert_blocks[0]


@plain_run
def test_no_leaf_is_better_than_its_upstream(shown, world):
    """What leafd calls good is good for a client of the upstream server that trusts the upstream's root (where
    its signature is one that the root can make)."""
    good = [row.id for row in ROWS.values() if row.verdict == "good"]
    roots = [root.der for root in world.roots]
    answers = ask_openssl(good, shown, roots, lambda name: shown[name].cert, strict=False)
    assert len(answers) > 200
    bad = {name: answer for name, answer in answers.items() if not answer.ok and name not in OPENSSL_DIFFERS}
    unsigned = {name for name in bad if name.startswith("signature-") and not world.signs(shown[name].cert)}
    assert {name: answer for name, answer in bad.items() if name not in unsigned} == {}


@plain_run
def test_good_leaves_pass(shown, world, answers):
    """Every leaf that is current and names its host: openssl is asked about each, the others about each that has
    another subject, other names or another type of key than those before."""
    good = [name for name in answers if ROWS[name].verdict in ("good", "legacy") or ROWS[name].leaf.keys() & {"minimal"}]
    good = [name for name in good if ROWS[name].ca == "ours" and name not in ("large-expired",)]
    root = world.ca.public_bytes(certs.Encoding.DER)
    said = ask_openssl(good, shown, [root], lambda name: whole_leaf(answers[name]))
    assert {name: answer for name, answer in said.items() if not answer.ok} == {}
    seen = set()
    wrong = []
    for name in good:
        fields = der.read(whole_leaf(answers[name]))[0][0].children()
        subject, spki, extensions = fields[5], fields[6], fields[7]
        look = (subject.whole, spki[0].whole, extensions[0][3].whole)
        if look in seen:
            continue
        seen.add(look)
        for oracle, ask in oracles.ORACLES.items():
            if oracle != "openssl":
                answer = ask(whole_leaf(answers[name]), [], root, shown[name].host, None)
                if answer is not None and not answer.ok:
                    wrong.append((name, oracle, answer))
    assert not wrong
    assert len(seen) > 50


FAULTS = ("expired", "not-yet", "name")


@plain_run
def test_bad_leaves_are_refused_as_their_upstreams(shown, world, answers):
    """Of dates and names every oracle says the same of both; an untrusted leaf is one whatever else it is."""
    root = world.ca.public_bytes(certs.Encoding.DER)
    bad = [name for name in answers if ROWS[name].verdict not in ("good", "legacy", "minimal")]
    roots = [one.der for one in world.roots]
    pairs = {
        "openssl": (
            ask_openssl(bad, shown, [root], lambda name: whole_leaf(answers[name])),
            ask_openssl(bad, shown, roots, lambda name: shown[name].cert, strict=False),
        )
    }
    few = [name for name in bad if ROWS[name].verdict in ("dates", "name") and ROWS[name].id in pairs["openssl"][0]]
    few += ["self-signed", "self-signed-expired", "signature-md5-other-name", "eku-client", "ct-poison", "key-dsa"]
    for oracle, ask in oracles.ORACLES.items():
        if oracle != "openssl":
            pairs[oracle] = (
                {name: ask(whole_leaf(answers[name]), [], root, shown[name].host, None) for name in few},
                {name: ask(shown[name].cert, [], world.root.der, shown[name].host, None) for name in few},
            )
    wrong = []
    for oracle, (leaves, upstreams) in pairs.items():
        for name, leaf in leaves.items():
            row, upstream = ROWS[name], upstreams.get(name)
            if leaf is None or (row.verdict == "name" and oracle not in oracles.LOOKS_AT_THE_HOST):
                continue
            if row.ca == "untrusted":
                right = leaf.reason == "untrusted" or leaf.reason in set(FAULTS) & {upstream and upstream.reason}
            elif upstream and upstream.ok:  # it cannot tell: NSS is a day patient
                right = True
            elif upstream is None or upstream.reason not in FAULTS or "inverted-dates" in row.reasons:
                right = leaf.reason in FAULTS  # inverted dates are never right, and no leaf has them
            else:
                right = leaf.reason == upstream.reason
            if not right:
                wrong.append((name, oracle, leaf, upstream))
    assert not wrong
