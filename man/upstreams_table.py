#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Reads upstreams.table, and writes leafd-upstreams.7 from it:

    man/upstreams_table.py          writes the page
    man/upstreams_table.py --check  exit code 1 if the page is not what the table says

A row is `id | what the server shows | verdict: reasons | CA | the leaf`:

verdict  good, legacy, dates, name, self-signed, untrusted, unreadable as `leafctl explain` says it, or
         minimal where a minimal leaf takes its place; behind the colon explain's reasons.
CA       ours, untrusted (leafd's untrusted CA), or - where there is no leaf.
leaf     `like it`, or what is different from that, between semicolons:
         names NAME...            exactly these
         subject empty            subject without ATTRIBUTE... (that which was dropped)
         dates RULE               one of DATES
         key TYPE                 another than ec-p256
         minimal                  the host alone, also as CN; the dates are the upstream's
         error CODE               no leaf
"""

import collections
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
TABLE, PAGE = FOLDER / "upstreams.table", FOLDER / "leafd-upstreams.7"

VERDICTS = ("good", "legacy", "dates", "name", "self-signed", "untrusted", "minimal", "unreadable")
CAS = ("ours", "untrusted", "-")
DATES = (
    "its first 397 days",
    "its last 397 days",
    "397 days from yesterday",
    "from yesterday to its end",
    "both its end",
    "both the CA's end",
    "until the CA's end",
)

Row = collections.namedtuple("Row", "id shown verdict reasons ca leaf")
Section = collections.namedtuple("Section", "title text rows")


def clauses_of(text):
    """The leaf as {word: rest}."""
    clauses = {}
    for clause in text.split("; "):
        word, _, rest = clause.partition(" ")
        if word not in ("like", "names", "subject", "dates", "key", "minimal", "error") or word in clauses:
            raise ValueError(f"the leaf: {clause}")
        if word == "dates" and rest not in DATES:
            raise ValueError(f"dates: {rest}")
        clauses[word] = rest
    return clauses


def row_of(line):
    cells = [cell.strip() for cell in line.split(" | ")]
    if len(cells) != 5 or not all(cells):
        raise ValueError("not five cells")
    name, shown, verdict, ca, leaf = cells
    kind, _, reasons = verdict.partition(": ")
    if kind not in VERDICTS or ca not in CAS:
        raise ValueError(f"verdict or CA: {verdict}, {ca}")
    clauses = clauses_of(leaf)
    if (ca == "-") != ("error" in clauses):
        raise ValueError("a CA and an error, or neither")
    return Row(name, shown, kind, tuple(reasons.split(",")) if reasons else (), ca, clauses)


def read():
    """The sections."""
    sections = []
    seen = set()
    for number, line in enumerate(TABLE.read_text("utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("== "):
            sections.append(Section(line[3:], [], []))
        elif " | " not in line:
            sections[-1].text.append(line)
        else:
            try:
                row = row_of(line)
            except ValueError as error:
                raise SystemExit(f"{TABLE}:{number}: {error}") from None
            if row.id in seen:
                raise SystemExit(f"{TABLE}:{number}: {row.id} stands twice")
            seen.add(row.id)
            sections[-1].rows.append(row)
    return sections


def rows():
    """All rows by id."""
    return {row.id: row for section in read() for row in section.rows}


# ---- the page ----

HEAD = """\
.\\" SPDX-License-Identifier: Apache-2.0
.\\" Written by upstreams_table.py from upstreams.table: change that.
.Dd November 21, 2026
.Dt LEAFD-UPSTREAMS 7
.Os
.Sh NAME
.Nm leafd-upstreams
.Nd odd upstream certificates, and what leafd makes of each
.Sh DESCRIPTION
The server behind a proxy may show anything as its certificate.
For each of {count} odd ones this page says which verdict
.Xr leafd 8
comes to
.Po
see
.Sx VERDICTS
in
.Xr leafd-protocol 7
.Pc ,
and what leaf, or which error reply, the proxy gets.
Each of them is sent to a running
.Xr leafd 8
by its tests.
The configuration is the default one.
.Pp
Where nothing else is said, the certificate is that of the server www.example.org, for which the proxy
asks: version 3, that name as the only subject alternative name, a P-256 key, KeyUsage
digitalSignature, extended key usage serverAuth, not a CA, valid since 30 days and for another 60.
What is said of it is all that is different.
.Pp
Behind the verdict stand the reasons, as
.Nm leafctl Cm explain
gives them.
What follows is the leaf.
.Bl -tag -width "like it"
.It like it
The leaf has the names (in lower case, each once), the subject and the dates of the certificate, and
leafd's own extensions.
Its key is P-256.
It is signed by the configured CA.
.It names
Exactly these, in their order.
.It subject
Empty, or the certificate's without what is said.
.It dates
Others than the certificate's.
.It key
Of this type.
.It untrusted
Signed by the untrusted CA
.Po
.Sq untrusted_ca
in
.Xr leafd.yaml 5
.Pc .
.It minimal
The host is the only name.
.It error
No leaf, but an error reply with this code.
.El
"""

TAIL = """\
.Sh SEE ALSO
.Xr leafctl 1 ,
.Xr leafd.yaml 5 ,
.Xr leafd-protocol 7 ,
.Xr leafd 8
"""


def escape(text):
    """Text for a line of mdoc: nothing in it is a request."""
    text = text.replace("\\", "\\e").replace('"', "\\(dq").replace("'", "\\(aq").replace("^", "\\(ha")
    text = text.replace("-", "\\-") if text.startswith("-") else text
    return "\\&" + text if text[:1] in ".'\\" else text


def leaf_text(row):
    words = {"like": "like it", "minimal": "minimal"}
    parts = [words.get(word, f"{word} {rest}") for word, rest in row.leaf.items()]
    return ("untrusted; " if row.ca == "untrusted" else "") + "; ".join(parts)


def row_text(row):
    reasons = f" ({', '.join(row.reasons)})" if row.reasons else ""
    return [
        f".It Sy {row.id}",
        escape(row.shown),
        ".br",
        f".Em {row.verdict}{' No' + reasons if reasons else ''} :",
        escape(leaf_text(row)),
    ]


def page():
    sections = read()
    lines = [HEAD.format(count=sum(len(section.rows) for section in sections)).rstrip("\n")]
    for section in sections:
        lines.append(f".Sh {section.title.upper()}")
        lines += section.text
        lines.append('.Bl -tag -width "xx"')
        for row in section.rows:
            lines += row_text(row)
        lines.append(".El")
    return "\n".join(lines) + "\n" + TAIL


def main(words):
    if words == ["--check"]:
        if PAGE.read_text("utf-8") != page():
            print(f"{PAGE} is not what {TABLE} says: run {__file__}", file=sys.stderr)
            return 1
    elif words:
        print(__doc__, file=sys.stderr)
        return 2
    else:
        PAGE.write_text(page(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
