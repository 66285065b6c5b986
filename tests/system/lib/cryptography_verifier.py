# SPDX-License-Identifier: Apache-2.0
"""The verifier of python's cryptography (42 or later) as a child of lib/oracles.py: a question as one
line of JSON, an answer as one line of JSON, until standard input ends. An answer is a text: empty for
a good leaf, else what was wrong. Needs nothing of the tests, so that any Python can run it."""

import base64
import datetime
import ipaddress
import json
import sys

from cryptography import x509
from cryptography.x509 import verification


def certificate(text):
    return x509.load_der_x509_certificate(base64.b64decode(text))


def subject(host):
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def verify(question):
    leaf = certificate(question["leaf"])
    chain = [certificate(text) for text in question["chain"]]
    builder = verification.PolicyBuilder().store(verification.Store([certificate(question["root"])]))
    if question["at"] is not None:
        # Naive, in UTC.
        builder = builder.time(datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=question["at"]))
    if question["purpose"] == "client":
        builder.build_client_verifier().verify(leaf, chain)
    else:
        builder.build_server_verifier(subject(question["host"])).verify(leaf, chain)


for line in sys.stdin:
    try:
        verify(json.loads(line))
        said = ""
    except (verification.VerificationError, ValueError, TypeError) as error:
        said = f"{type(error).__name__}: {error}"
    except Exception as error:  # pylint: disable=broad-except  # a parser's own error is its answer
        said = f"malformed: {type(error).__name__}: {error}"
    print(json.dumps(said), flush=True)
