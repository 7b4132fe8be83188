"""Every column type in the lake, by value: independent readers against the server's own text, after the snapshot and after
the stream, for both formats, partitioned and not; and what Iceberg cannot say: a clear stop, and ?text=."""

import re

from lake import FORMATS, LakeFlow, have_readers, seconds
from lake_readers import readers

FAST = False
TIMEOUT = seconds(170)

MAKE = (
    "create type mood as enum ('sad', 'glücklich', '気分', 'a,b\"c'); create domain dear as numeric(10,2); "
    "create domain names as text[];"
)
U1, U2 = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "ffffffff-ffff-ffff-ffff-ffffffffffff"
TEXTS = ["", "a", "null", "NULL", " sp ", "ü — 気分 🦝", "tab\tnew\nline\rcr", "'\"\\", "x" * 5000, "\x01\x7f"]
TYPES = [
    ("bool", ["true", "false"]),
    ("int2", ["0", "-32768", "32767"]),
    ("int4", ["0", "-2147483648", "2147483647"]),
    ("int8", ["0", "-9223372036854775808", "9223372036854775807"]),
    ("oid", ["0", "4294967295"]),
    ("float4", ["0", "-0", "0.1", "3.4028235e38", "1e-45", "NaN", "Infinity", "-Infinity"]),
    ("float8", ["0", "-0", "0.1", "1.7976931348623157e308", "5e-324", "NaN", "Infinity", "-Infinity", "-123456.789"]),
    ("numeric(5,2)", ["0", "-0.01", "999.99", "-999.99"]),
    ("numeric(18,6)", ["0", "123456789012.345678", "-999999999999.999999"]),
    ("numeric(19,0)", ["0", "9999999999999999999", "-9999999999999999999"]),
    (
        "numeric(38,10)",
        ["0", "9999999999999999999999999999.9999999999", "-0.0000000001", "-9999999999999999999999999999.9999999999"],
    ),
    ("numeric(38,38)", ["0.1", "-0.99999999999999999999999999999999999999"]),
    ("numeric", ["0", "1.10", "-0.0000001", "NaN", "1" + "0" * 60, "12345678901234567890.123456789"]),
    ("numeric(60,2)", ["0.10", "9" * 58 + ".99"]),
    ("dear", ["99999999.99", "0.01"]),
    ("text", TEXTS),
    ("varchar(20)", ["", "varchar", " blanks  ", "äöüäöüäöüäöüäöüäöüäö"]),
    ("char(5)", ["ab", "", "abcde", "äö"]),
    ("name", ["aname", "n" * 63]),
    ('"char"', ["", "a", "~"]),
    ("mood", ["sad", "glücklich", "気分", 'a,b"c']),
    ("xml", ["<a/>", '<a b="1">ä &amp; <![CDATA[<]]></a>']),
    ("json", ['{"a": 1,  "a": 2}', "null", " [1]", '{"n":\n1e400}', '"ä"']),
    ("jsonb", ['{"b":1.10,"a":[1e3]}', "null", '"ä"', "1e400", '{"a":{"b":[]}}']),
    ("uuid", [U1, U2, "00000000-0000-0000-0000-000000000000"]),
    ("bytea", ["\\x", "\\x00ff10", "\\x" + "ab" * 5000]),
    (
        "date",
        ["1970-01-01", "1969-12-31", "0001-01-01", "1582-10-04", "1582-10-05", "9999-12-31", "2024-02-29", "1900-02-28"],
    ),
    (
        "timestamp",
        [
            "1970-01-01 00:00:00",
            "1969-12-31 23:59:59.999999",
            "1900-01-01 00:00:00.000001",
            "0001-01-01 00:00:00",
            "9999-12-31 23:59:59.999999",
            "1582-10-05 12:00:00",
        ],
    ),
    (
        "timestamptz",
        [
            "1970-01-01 00:00:00+00",
            "1969-12-31 23:59:59.999999+00",
            "2026-01-02 03:04:05.678+05:30",
            "0001-01-01 00:00:00+00",
            "9999-12-31 23:59:59.999999+00",
        ],
    ),
    ("time", ["00:00:00", "23:59:59.999999", "04:05:06.789"]),
    ("timetz", ["04:05:06.789+05:30", "00:00:00-08", "24:00:00+00", "12:00:00+05:30:15"]),
    ("interval", ["0", "1 year 2 mons -3 days 04:05:06.789", "-1 mons +1 day", "-00:00:01", "178000000 years"]),
    ("bit(3)", ["101", "000"]),
    ("varbit", ["", "1", "10" * 500]),
    ("inet", ["192.168.0.1/24", "::1"]),
    ("int4range", ["[1,5)", "empty"]),
    ("xid8", ["18446744073709551615"]),
    ("int2[]", ["{1,-1}", "{NULL}", "{}"]),
    ("int4[]", ["{1,NULL,3}", "{}", "{-2147483648}"]),
    ("int8[]", ["{9223372036854775807,-9223372036854775808}"]),
    ("bool[]", ["{t,f,NULL}", "{}"]),
    ("float4[]", ["{0.1,NaN,3.4028235e+38}"]),
    ("float8[]", ["{0.1,NaN,-Infinity,NULL,1e300}"]),
    ("numeric(10,3)[]", ["{1.100,NULL,-9999999.999}", "{}"]),
    ("numeric(30,3)[]", ["{1.100,NULL,-999999999999999999999999999.999}"]),
    ("numeric[]", ["{1.10,NaN,NULL,1e20,-0.0001}"]),
    ("text[]", ['{a,"",NULL,"NULL","a,b","q\\"q","b\\\\s","{x}"," sp ",気分}', "{}"]),
    ("names", ['{x,"y z"}', "{}"]),
    ("mood[]", ['{sad,NULL,"a,b\\"c",気分}']),
    ("uuid[]", ["{%s,NULL}" % U1]),
    ("bytea[]", ['{"\\\\x00ff","\\\\x"}']),
    ("date[]", ["{2000-01-01,1969-12-31,NULL}"]),
    ("timestamp[]", ['{"2000-01-01 00:00:00.5","1900-01-01 00:00:00"}']),
    ("timestamptz[]", ['{"2000-01-01 00:00:00+00",NULL}']),
    ("time[]", ["{04:05:06.789,00:00:00}"]),
    ("timetz[]", ["{04:05:06.789+05:30,NULL}"]),
    ("interval[]", ['{"1 year -3 days",00:00:01,NULL}']),
    ("jsonb[]", ['{"{\\"a\\": [1, null]}",null}']),
]
ROWS = max(len(values) for _kind, values in TYPES)
# What no lake type can say: (type, value).
REFUSED = [
    ("timestamptz", "infinity"),
    ("timestamp", "-infinity"),
    ("date", "infinity"),
    ("numeric(10,2)", "NaN"),
    ("time", "24:00"),
    ("int4[]", "{{1,2},{3,4}}"),
    ("text[]", "[0:1]={7,8}"),
    ("date[]", "{infinity}"),
    ("time[]", "{24:00:00}"),
    ("timestamptz[]", "{infinity,NULL}"),
]
AS_TEXT = REFUSED + [
    ("timestamptz", "2026-01-02 03:04:05.678+05:30"),
    ("bytea", "\\x00ff10"),
    ("numeric(10,2)", "12.30"),
    ("float8", "0.1"),
    ("float8", "NaN"),
    ("bool", "true"),
    ("int8", "-1"),
    ("uuid", U1),
    ("jsonb", '{"a": [1]}'),
    ("interval", "1 mon -00:00:01"),
    ("text", "plain"),
    ("mood[]", "{sad,NULL}"),
    ("date", "0044-03-15 BC"),
]


def literal(value, kind):
    return (
        "null"
        if value is None
        else "E'%s'::%s"
        % (
            value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t"),
            kind,
        )
    )


TIMELESS = [(kind, values) for kind, values in TYPES if kind not in ("time", "time[]")]  # for engines without such a type


def insert(first, table="types", types=TYPES):
    """One row a value, and one of nulls; a type with fewer values has nulls in the other rows."""
    rows = []
    for k in range(ROWS + 1):
        cells = [literal(values[k] if k < len(values) else None, kind) for kind, values in types]
        rows.append(
            "(%d, timestamptz '%s', %s)" % (first + k, "19%02d-03-0%d 12:00:00+00" % (69 + k, 1 + k % 9), ", ".join(cells))
        )
    return "insert into %s values " % table + ", ".join(rows) + ";"


def make(table="types", types=TYPES):
    columns = ", ".join("c%d %s" % (i, kind) for i, (kind, _values) in enumerate(types))
    return "create table %s (id int primary key, created_at timestamptz, %s);" % (table, columns)


def every_type(t, number, what, options):
    if not have_readers(t):
        return
    tables = {"types": TYPES, **({"timeless": TIMELESS} if readers().more else {})}
    flow = LakeFlow(t, "%s %s" % (number, what), MAKE + "".join(make(*of) + insert(0, *of) for of in tables.items()), options)
    flow.once("snapshot is read")
    flow.same("snapshot", *tables)
    flow.sql("".join(insert(1000, *of) for of in tables.items()))
    flow.once("stream is read")
    flow.same("stream", *tables)


def changed_types(t, number, what, options):
    """Each row of every type updated in one column only, moved to another key, and rows deleted: old cells come from files."""
    if not have_readers(t):
        return
    flow = LakeFlow(
        t,
        "%s %s" % (number, what),
        MAKE + make() + "alter table types alter column c15 set storage external;" + insert(0),
        options,
    )
    flow.once("snapshot is read")
    flow.sql(
        "update types set c1 = 5 where id % 2 = 0; update types set id = id + 500 where id % 3 = 0; "
        "delete from types where id = 1; update types set c15 = c15 || 'y'"
    )
    flow.once("changes are read")
    flow.same("changes", "types")


def case_v2(t):
    every_type(t, *("LT1",) + FORMATS[0])


def case_v2_bucket(t):
    every_type(t, *("LT1",) + FORMATS[1])


def case_v3(t):
    every_type(t, *("LT1",) + FORMATS[2])


def case_v3_bucket_day(t):
    every_type(t, *("LT1",) + FORMATS[3])


def case_compatible(t):
    """The other encodings and codecs."""
    for options in ("encoding=compatible&compression=snappy", "compression=lz4", "compression=none"):
        every_type(t, "LT2", options, options)


def case_changes_v2(t):
    changed_types(t, *("LT3",) + FORMATS[0])


def case_changes_v3(t):
    changed_types(t, *("LT3",) + FORMATS[3])


def case_refused(t):
    """A value that Iceberg cannot say stops the job, in the snapshot and in the stream, names table and column and the cure."""
    for at, (kind, value) in enumerate(REFUSED):
        table = "create table t (id int primary key, v %s);" % kind
        row = "insert into t values (%d, " + literal(value, kind) + ");"
        name = "LT4 %s %s" % (kind, value)
        flow = LakeFlow(t, name, table + row % 1)
        said = flow.once("snapshot stops", 1, 'table public.t, column "v": ').stderr
        cure = re.search(r"cure: add the option (text=\S*v), which stores the column as text", said)
        if flow.check("the cure", cure, said[-300:]):
            flow.options += "&" + cure.group(1)
            flow.once("the cure cures")
            flow.equal("the column", flow.lake.columns("public.t"), [("id", "int"), ("v", "string")])
        if at % 3 == 0:
            flow = LakeFlow(t, name, table + "insert into t values (0, null)")
            flow.once("reads what is before")
            flow.sql(row % 1)
            flow.once("stream stops", 1, 'column "v"')
            flow.once("stops again", 1, 'column "v"')


def case_as_text(t):
    """?text= stores each as a string, which reads back to the server's text."""
    if not have_readers(t):
        return
    columns = ", ".join("v%d %s" % (i, kind) for i, (kind, _value) in enumerate(AS_TEXT))
    row = "insert into t values (%d, " + ", ".join(literal(value, kind) for kind, value in AS_TEXT).replace("%", "%%") + ");"
    flow = LakeFlow(
        t,
        "LT5",
        MAKE + "create table t (id int primary key, %s);" % columns + row % 1,
        text=["v%d" % i for i in range(len(AS_TEXT))],
    )
    flow.once("snapshot is read")
    flow.same("text snapshot", "t")
    flow.sql(row % 2 + "insert into t (id) values (3)")
    flow.once("stream is read")
    flow.same("text stream", "t")
    flow.equal("all are strings", {kind for name, kind in flow.lake.columns("public.t") if name != "id"}, {"string"})


def case_keys(t):
    """Tables whose keys are of other types, and of several columns: updates find their rows."""
    if not have_readers(t):
        return
    kinds = [
        ("text", "'k' || i"),
        ("uuid", "md5(i::text)::uuid"),
        ("numeric(10,2)", "i * 1.5"),
        ("timestamptz", "'1969-12-31'::timestamptz + i * interval '1 h'"),
        ("date", "date '1969-12-01' + i"),
        ("bytea", "decode(md5(i::text), 'hex')"),
        ("bool", "i = 1"),
        ("varchar(9)", "'é' || i"),
        ("int2", "i"),
    ]
    sql = "".join(
        "create table k%d (k %s%s, n int, v text, primary key (k%s));"
        % (at, kind, ", k2 int" if kind == "bool" else "", ", k2" if kind == "bool" else "")
        for at, (kind, _e) in enumerate(kinds)
    )

    def fill(first, last):
        return "".join(
            "insert into k%d select %s%s, i, 'v' || i from generate_series(%d, %d) i;"
            % (at, expression, ", i" if kind == "bool" else "", first, last)
            for at, (kind, expression) in enumerate(kinds)
        )

    flow = LakeFlow(t, "LT6", sql + fill(1, 40), "format=v3")
    tables = ["k%d" % at for at in range(len(kinds))]
    flow.once("snapshot is read")
    flow.sql(
        fill(41, 60)
        + "".join(
            "update k{0} set v = 'new' where n % 3 = 0; delete from k{0} where n % 5 = 1;".format(at)
            for at in range(len(kinds))
        )
    )
    flow.once("stream is read")
    flow.same("keys", *tables)
