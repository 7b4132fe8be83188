"""JSON cells of a changelog as the text that the server's own `::text` gives for the same value, for every kind of type.

Strict about the JSON form of each (INTERFACE, "VALUES") and about every character: numbers are kept as they were written.
The server's session must be set as PINNED says. Shares no code with the product. Thread: any."""

import base64
import json
import re
import struct

PINNED = ("set datestyle = 'ISO, MDY'; set intervalstyle = 'postgres'; set timezone = 'UTC'; set bytea_output = 'hex'; "
          "set extra_float_digits = 1")
INTEGERS = ("smallint", "integer", "bigint", "oid")
TEXTS = ("text", "character", "character varying", "name", '"char"', "xml", "json", "jsonb", "enum", "uuid", "bit", "bit varying")
OTHER = "other"  # the server's own text, taken as it is
_DAY = re.compile(r"^([+-]?\d+)-(\d\d)-(\d\d)$")
_CLOCK = re.compile(r"^\d\d:\d\d:\d\d(\.\d*[1-9])?$")
_ZONED = re.compile(r"^(.+)([+-])(\d\d):(\d\d)(?::(\d\d))?$")
_NUMERIC = re.compile(r"^-?\d+(\.\d+)?$|^(NaN|-?Infinity)$")


class FormError(Exception):
    """A cell that does not have the JSON form of its type."""


class Number(str):
    """A JSON number as it was written."""


def changelog_lines(folder):
    """{table: its rows in order, as dicts, numbers as Number}."""
    tables = {}
    for path in folder.files():
        with open(path, encoding="utf-8") as file:
            for text in file:
                line = json.loads(text, parse_int=Number, parse_float=Number)
                if "op" in line:
                    tables.setdefault(line["table"], []).append(line)
    return tables


def server_text(kind, value):
    """One cell as the server's text; None stays None. `kind`: format_type without modifiers, "enum", "other", or one of
    these with [] for arrays. Raises FormError."""
    if value is None:
        return None
    if kind.endswith("[]"):
        return _array_text(kind[:-2], value)
    text = _scalar_text(kind, value)
    if text is None:
        raise FormError("%s as %.200r" % (kind, value))
    return text


def _scalar_text(kind, value):
    if kind in INTEGERS:
        return str(value) if isinstance(value, Number) and re.match(r"^(0|-?[1-9]\d*)$", value) else None
    if kind == "boolean":
        return {True: "true", False: "false"}.get(value) if isinstance(value, bool) else None
    if kind in ("real", "double precision"):
        return _float_text(kind, value)
    if kind == "interval":
        return _interval_text(value) if isinstance(value, dict) else None
    if isinstance(value, Number) or not isinstance(value, str):
        return None
    if kind in TEXTS or kind == OTHER:
        return value
    if kind == "numeric":
        return value if _NUMERIC.match(value) else None
    if kind == "bytea":
        return "\\x" + base64.b64decode(value, validate=True).hex()
    if kind in ("date", "timestamp without time zone", "timestamp with time zone"):
        return _time_text(kind, value)
    if kind == "time without time zone":
        return value if _CLOCK.match(value) else None
    if kind == "time with time zone":
        found = _ZONED.match(value)
        if not found or not _CLOCK.match(found.group(1)):
            return None
        clock, sign, hours, minutes, seconds = found.groups()
        tail = ":%s:%s" % (minutes, seconds) if seconds else ":" + minutes if minutes != "00" else ""
        return clock + sign + hours + tail
    raise FormError("no rule for %s" % kind)


def _float_text(kind, value):
    """The shortest number that reads back as the same value, in the server's notation."""
    if not isinstance(value, Number):
        return value if value in ("NaN", "Infinity", "-Infinity") else None
    number = float(value)
    if kind == "real":
        single = struct.unpack("f", struct.pack("f", number))[0]
        digits = next(n for n in range(1, 10) if struct.unpack("f", struct.pack("f", float("%.*e" % (n - 1, single))))[0] ==
            single)
        shortest = "%.*e" % (digits - 1, single)
    else:
        digits = next(n for n in range(1, 18) if float("%.*e" % (n - 1, number)) == number)
        shortest = "%.*e" % (digits - 1, number)
    if len(_digits(value)) > len(_digits(shortest)):
        return None
    return canonical_float(shortest if kind == "real" else value)


def _digits(text):
    return text.lower().split("e")[0].replace(".", "").lstrip("-").lstrip("0").rstrip("0")


def canonical_float(text):
    """One notation for a float's text, of ours and of the server's; the sign of zero is kept."""
    return repr(float(text)) if text not in ("NaN", "Infinity", "-Infinity") else text


def _time_text(kind, value):
    if value in ("infinity", "-infinity"):
        return value
    if kind == "date":
        day, rest = value, ""
    else:
        day, separator, rest = value.partition("T")
        if not separator:
            return None
        if kind == "timestamp with time zone":
            if not rest.endswith("Z"):
                return None
            rest = rest[:-1]
        if not _CLOCK.match(rest):
            return None
        rest = " " + rest + ("+00" if kind == "timestamp with time zone" else "")
    found = _DAY.match(day)
    if not found:
        return None
    year = int(found.group(1))
    if found.group(1) != ("%+d" % year if year > 9999 else "%04d" % year if year >= 0 else "%05d" % year):
        return None
    era = ""
    if year <= 0:
        year, era = 1 - year, " BC"
    return "%04d-%s-%s%s%s" % (year, found.group(2), found.group(3), rest, era)


def _interval_text(value):
    """{"months","days","us"} as intervalstyle postgres writes it."""
    if list(value) != ["months", "days", "us"]:
        return None
    months, days, microseconds = (int(value[name]) for name in value)
    parts = []
    signs = []

    def put(number, word):
        if number == 0:
            return
        plus = "+" if signs and signs[-1] < 0 and number > 0 else ""
        parts.append("%s%d %s%s" % (plus, number, word, "" if number == 1 else "s"))
        signs.append(number)
    sign = -1 if months < 0 else 1
    put(sign * (abs(months) // 12), "year")
    put(sign * (abs(months) % 12), "mon")
    put(days, "day")
    if microseconds or not parts:
        size = abs(microseconds)
        mark = "-" if microseconds < 0 else "+" if signs and signs[-1] < 0 else ""
        seconds, fraction = divmod(size, 1000000)
        text = "%s%02d:%02d:%02d" % (mark, seconds // 3600, seconds // 60 % 60, seconds % 60)
        parts.append(text + (".%06d" % fraction).rstrip("0") if fraction else text)
    return " ".join(parts)


def _array_text(kind, value):
    lower = None
    if isinstance(value, dict):
        if list(value) != ["lower", "values"]:
            raise FormError("an array as %.200r" % value)
        lower, value = [int(bound) for bound in value["lower"]], value["values"]
        if all(bound == 1 for bound in lower):
            raise FormError("lower bounds that are not needed: %.200r" % lower)
    if not isinstance(value, list):
        raise FormError("an array as %.200r" % value)
    text = _braces(kind, value)
    if lower is None:
        return text
    sizes, inner = [], value
    while isinstance(inner, list):
        sizes.append(len(inner))
        inner = inner[0]
    return "".join("[%d:%d]" % (low, low + size - 1) for low, size in zip(lower, sizes)) + "=" + text


def _braces(kind, value):
    if isinstance(value, list):
        return "{%s}" % ",".join(_braces(kind, item) for item in value)
    text = server_text(kind, value)
    if text is None:
        return "NULL"
    if kind == "boolean":
        return text[0]
    if text == "" or text.upper() == "NULL" or re.search(r'[{}",\\ \t\n\r\v\f]', text):
        return '"%s"' % text.replace("\\", "\\\\").replace('"', '\\"')
    return text
