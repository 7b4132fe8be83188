"""Every partition transform on columns of many types, with nulls: rows after inserts, updates that move them and deletes; and
filters, whose pruning by partitions, manifests and file bounds must lose nothing."""

import os
import re

from lake import LakeFlow, have_readers, seconds
from lake_readers import ReaderError, readers

FAST = False
TIMEOUT = seconds(300)

MAKE = (
    "create table t (id bigint primary key, a int, s text, u uuid, d numeric(12,2), d38 numeric(38,4), day date, ts"
    " timestamp, created_at timestamptz, y bytea, f float8, b bool);"
)
FILL = (
    "insert into t select i, case when i % 13 > 0 then (i * 7919) % 2000 - 1000 end, case when i % 11 > 0 then (array['',"
    " 'a', 'é', 'text ', '気分', 'zz', '🦝x'])[1 + i % 7] || i % 50 end, case when i % 9 > 0 then md5((i % 60)::text)::uuid"
    " end, case when i % 8 > 0 then (i % 500) * 1.25 - 300 end, (i % 100) * -12345678901234567890.1234, case when i % 7 > 0"
    " then date '1970-01-01' + (i % 90 - 45)::int end, case when i % 6 > 0 then timestamp '1970-01-01' + (i % 200 - 100) *"
    " interval '7 hours 1.5 seconds' end, case when i % 5 > 0 then timestamptz '2023-12-31 00:00+00' + (i % 300) * interval"
    " '5 hours' end, decode(md5((i % 40)::text), 'hex'), case when i % 10 > 0 then (i % 77) - 38.5 else 'NaN' end, case when"
    " i % 4 > 0 then i % 2 = 0 end from generate_series({0}, {1}) i;"
)
CHANGES = (
    "update t set a = a + 1, day = day + 1 where id % 4 = 0; update t set created_at = created_at - interval '1 day', s = s"
    " || 'q', u = md5(id::text)::uuid where id % 5 = 1; delete from t where id % 17 = 3; update t set d = -d, ts = null, y ="
    " null where id % 19 = 0;update t set id = id + 100000 where id % 23 = 0"
)
PARTITIONS = (
    "bucket(5,id)",
    "bucket(3,a),truncate(100,a)",
    "bucket(4,s)",
    "truncate(2,s)",
    "bucket(4,u)",
    "bucket(3,d),truncate(50,d)",
    "truncate(7,d38)",
    "day(day)",
    "month(ts),bucket(2,y)",
    "year(created_at)",
    "day(created_at)",
    "hour(ts)",
    "identity(b)",
    "s",
)
# The same predicate for the server, DuckDB and PyIceberg.
FILTERS = [
    ("a = 3",) * 3,
    ("a > 500",) * 3,
    ("a <= -990",) * 3,
    ("a is null",) * 3,
    ("s = 'a1'",) * 3,
    ("s >= 'z'", "s >= 'z'", "s >= 'z'"),
    ("s is null",) * 3,
    ("d = 12.50",) * 3,
    ("d < -250",) * 3,
    ("f > 30 and f <> 'NaN'::float8", "f > 30 and not isnan(f)", "f > 30 and f is not nan"),
    ("b = true", "b = true", "b == true"),
    ("id = 57",) * 3,
    ("id > 100000",) * 3,
    ("day = '1969-12-20'", "day = '1969-12-20'::date", "day == '1969-12-20'"),
    ("day >= '1970-02-01'", "day >= '1970-02-01'::date", "day >= '1970-02-01'"),
    ("ts < '1969-12-15'", "ts < '1969-12-15'::timestamp", "ts < '1969-12-15T00:00:00'"),
    ("ts >= '1970-01-20 05:00'", "ts >= '1970-01-20 05:00'::timestamp", "ts >= '1970-01-20T05:00:00'"),
    (
        "created_at < '2024-01-02 00:00+00'",
        "created_at < '2024-01-02 00:00:00+00'::timestamptz",
        "created_at < '2024-01-02T00:00:00+00:00'",
    ),
    (
        "created_at >= '2024-02-15 03:00+00'",
        "created_at >= '2024-02-15 03:00:00+00'::timestamptz",
        "created_at >= '2024-02-15T03:00:00+00:00'",
    ),
]


LITERAL = re.compile(r"'([^']*)'::(date|timestamptz|timestamp)")


def written(reader, where):
    """A filter of DuckDB's in the words of another reader; literals of the column's own type, so that files can be left out."""

    def spark(found):
        kinds = {"date": "date", "timestamptz": "timestamp", "timestamp": "timestamp_ntz"}
        return "%s'%s'" % (kinds[found.group(2)], found.group(1))

    def clickhouse(found):
        if found.group(2) == "date":
            return "toDate32('%s')" % found.group(1)
        day, _, time = found.group(1).partition("+")[0].partition(" ")
        return "toDateTime64('%s %s', 6, 'UTC')" % (day, (time + "00:00:00"[len(time):]))

    if reader.startswith("Spark"):
        return LITERAL.sub(spark, where)
    return LITERAL.sub(clickhouse, where).replace("isnan", "isNaN") if reader == "ClickHouse" else where


def compared(flow):
    """Each filter by DuckDB, PyIceberg and others against the server: a list of what differs."""
    url, wrong = flow.lake.tables()["public.t"], []
    others = [name for name in readers().more if not flow.refused(name, "t")]
    for server, duck, pyiceberg in FILTERS:
        wanted = {row[0] for row in flow.sql("select id from t where " + server)}
        asked = [("DuckDB", duck), ("PyIceberg", pyiceberg)] + [
            (name, written(name, duck)) for name in others if readers().more[name].holds(duck)
        ]
        for reader, where in asked:
            try:
                rows = readers().filtered(reader, url, where)
            except ReaderError as error:
                wrong.append("%s %s: %s" % (reader, where, str(error)[:200]))
                continue
            if sorted(row["id"] for row in rows) != sorted(wanted):
                wrong.append("%s %s: %d rows, want %d" % (reader, where, len(rows), len(wanted)))
    return wrong


def each(t, form, partitions):
    if not have_readers(t):
        return
    for partition in partitions:
        flow = LakeFlow(
            t, "LP1 %s %s" % (form, partition), MAKE + FILL.format(1, 1500), "format=%s&partition=%s" % (form, partition)
        )
        if flow.once("snapshot is read").code != 0:
            continue
        flow.sql(CHANGES)
        flow.once("changes are read")
        flow.sql(FILL.format(2001, 2300))
        flow.once("more rows are read")
        flow.same("rows", "t")
        flow.equal("filters", compared(flow)[:4], [])


def case_v2(t):
    each(t, "v2", PARTITIONS[::2])


if os.environ.get("TAILRACE_TEST_LONG"):

    def case_v3(t):
        each(t, "v3", PARTITIONS[1::2])


def case_refused(t):
    """A partition that cannot be: a usage error or a clear stop, and nothing is made."""
    for partition in ("bucket(0,id)", "day(s)", "bucket(4,f)", "nonsense(id)", "bucket(4"):
        flow = LakeFlow(t, "LP2 %s" % partition, MAKE + FILL.format(1, 20), "partition=" + partition)
        result = t.tailrace("once", *flow.words(), state=flow.state).run(60)
        flow.check(
            "is refused",
            result.code in (1, 2, 3) and "partition" in result.stderr,
            "exit %s: %s" % (result.code, result.stderr[-500:]),
        )
        flow.equal("no table", sorted(flow.lake.tables()), [])
