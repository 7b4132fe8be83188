"""JSON cells of a changelog row as the canonical text that truth.py uses, strict about the JSON type of each.

INTERFACE's VALUES: integers are numbers, numeric is text, bytes are base64, timestamptz ends in Z. Thread: any."""

import base64
import re

from truth import FLOATS, canonical_text

INTEGERS = ("smallint", "integer", "bigint")
_TIME = re.compile(r"^([+-]?\d{4,})-(\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d+))?Z$")


class FormError(Exception):
    """A cell that has another form than its type asks for, or a column that the table never had."""


def row_of(incarnation, cells):
    """{column: JSON value} -> {canonical column: text or None}; None stays None."""
    if cells is None:
        return None
    row = {}
    for name, value in cells.items():
        column = incarnation.alias.get(name)
        if column is None:
            raise FormError("%s never had a column %r" % (incarnation.name, name))
        row[column] = None if value is None else text_of(incarnation.types[column], value)
    return row


def text_of(kind, value):
    """One JSON value as the server's text, in canonical form. Raises FormError."""
    if kind in INTEGERS:
        if type(value) is int:
            return str(value)
    elif kind == "boolean":
        if isinstance(value, bool):
            return "true" if value else "false"
    elif kind in FLOATS:
        if type(value) in (int, float) or value in ("NaN", "Infinity", "-Infinity"):
            return repr(float(value))
    elif kind.endswith("[]"):
        if isinstance(value, list):
            return canonical_text(kind, "{%s}" % ",".join("NULL" if v is None else text_of(kind[:-2], v) for v in value))
    elif isinstance(value, str):
        if kind == "bytea":
            return canonical_text(kind, "\\x" + base64.b64decode(value, validate=True).hex())
        if kind == "timestamp with time zone":
            return timestamp_text(value)
        return canonical_text(kind, value)
    raise FormError("%s as %.80r" % (kind, value))


def timestamp_text(value):
    """2026-01-02T03:04:05.600Z -> 2026-01-02 03:04:05.6+00 (a session in UTC)."""
    if value in ("infinity", "-infinity"):
        return value
    found = _TIME.match(value)
    if not found:
        raise FormError("timestamp with time zone as %.80r" % value)
    year, day, clock, fraction = found.groups()
    fraction = (fraction or "").rstrip("0")
    return "%s-%s %s%s+00" % (year, day, clock, "." + fraction if fraction else "")
