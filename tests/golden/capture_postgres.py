#!/usr/bin/env python3
"""Writes the golden files of the PostgreSQL decoders anew from a real server, with psql.

    tests/golden/capture_postgres.py values   > tests/golden/postgres/values.txt
    tests/golden/capture_postgres.py pgoutput DIRECTORY     (files NAME.txt with messages; expected rows are kept if there)

Connects as psql does (PGHOST, PGPORT, PGUSER). The server needs wal_level=logical. It creates and drops the database
tailrace_golden.
"""
import os
import re
import struct
import subprocess
import sys

DB = "tailrace_golden"
PIN = ("set datestyle=iso; set intervalstyle=postgres; set extra_float_digits=3; set bytea_output=hex; set timezone=utc; ")

SETUP = """
create type mood as enum ('sad', 'ok', 'glücklich');
create domain price as numeric(10,2);
create domain dear as price check (value > 0);
create domain moody as mood;
create domain tags as text[];
create type pair as (a int, b text);
"""

# type -> literals
VALUES = {
    "bool": ["t", "f"],
    "int2": ["0", "-32768", "32767"],
    "int4": ["0", "-2147483648", "2147483647", "-1"],
    "int8": ["0", "-9223372036854775808", "9223372036854775807"],
    "oid": ["0", "4294967295"],
    "float4": ["0", "-0", "1.5", "3.4028235e38", "1e-45", "NaN", "Infinity", "-Infinity", "0.1"],
    "float8": ["0", "-0", "0.1", "1e308", "5e-324", "NaN", "Infinity", "-Infinity", "123456789.123", "1e22"],
    "numeric": ["0", "0.00", "-12345.6780", "NaN", "Infinity", "-Infinity", "1e-20", "1e40", "100000000", "0.0001",
                "0.00010", "10000",
                "9999.9999", "-0.5", "1" + "0" * 100 + ".5", "123456789012345678901234567890.123456789"],
    "numeric(15,2)": ["0", "0.01", "-0.01", "12.30", "9999999999999.99", "-9999999999999.99", "10000", "100000000.5",
                      "NaN", "0.10", "901.00"],
    "numeric(18,0)": ["999999999999999999", "-999999999999999999", "10000000000000000", "1"],
    "numeric(38,10)": ["1234567890123456789012345678.0123456789", "-0.0000000001", "NaN", "10000000000000000000000000000"[:28]],
    "numeric(76,30)": ["1" * 46 + "." + "2" * 30, "-" + "9" * 46 + "." + "9" * 30],
    "numeric(3,-2)": ["12300", "-99900", "0"],
    "numeric(3,5)": ["0.00123", "-0.00999"],
    "numeric(77,2)": ["1" * 75 + ".25"],
    "price": ["12.30"],
    "dear": ["99999999.99"],
    "text": ["", "a", "näh", "NULL", "\t\\x", "sixteen bytes!!!", "more than sixteen bytes of text"],
    "varchar(20)": ["", "varchar"],
    "bpchar(5)": ["ab", ""],
    "name": ["aname"],
    '"char"': ["", "a", "\\377", "\\200"],
    "xml": ["<a/>", '<?xml version="1.0" encoding="UTF-8"?><a>ä</a>', '<?xml version="1.0" standalone="yes"?>\n<a/>'],
    "bytea": ["\\x", "\\x00ff10", "\\xdeadbeef"],
    "date": ["2000-01-01", "1999-12-31", "0044-03-15 BC", "0001-01-01", "0001-12-31 BC", "1582-10-04", "1582-10-05",
             "5874897-12-31", "4714-11-24 BC",
             "infinity", "-infinity", "10000-01-01", "2024-02-29", "1900-02-28"],
    "time": ["00:00:00", "24:00:00", "23:59:59.999999", "04:05:06.789"],
    "timetz": ["04:05:06.789+05:30", "00:00:00-08", "24:00:00+00", "12:00:00+05:30:15", "01:02:03-15:59:59"],
    "timestamp": ["2000-01-01 00:00:00", "1999-12-31 23:59:59.999999", "0044-03-15 01:02:03.5 BC",
                  "294276-12-31 23:59:59.999999",
                  "4713-01-01 00:00:00 BC", "infinity", "-infinity", "0001-01-01 00:00:00"],
    "timestamptz": ["2000-01-01 00:00:00+00", "2026-01-02 03:04:05.678+05:30", "0044-03-15 01:02:03.5+00 BC",
                    "294276-12-31 23:59:59.999999+00", "infinity",
                    "-infinity"],
    "interval": ["0", "1 year 2 mons -3 days 04:05:06.789", "-1 mons +1 day", "-00:00:01", "1 day", "-1 year",
                 "178000000 years", "-178000000 years",
                 "2147483647 days", "-2147483648 days", "2562047788:00:54.775807", "-2562047788:00:54.775807",
                 "-1 mons +2 days -00:00:00.000001",
                 "1 mon", "100:00:00"],
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "ffffffff-ffff-ffff-ffff-ffffffffffff"],
    "json": ['{"a": 1,  "a": 2}', "null", " [1]"],
    "jsonb": ['{"b":1.10,"a":[1e3]}', "null", '"ä"'],
    "bit(3)": ["101"],
    "bit(8)": ["10000001"],
    "varbit": ["", "1", "10101010101", "1" * 1000],
    "mood": ["sad", "glücklich"],
    "moody": ["ok"],
    "int4[]": ["{1,NULL,3}", "{}", "[0:1]={7,8}", "{{1,2},{3,4}}", "[-1:0][5:5]={{1},{2}}", "{{{1,2,3}}}"],
    "int2[]": ["{1,-1}"],
    "bool[]": ["{t,f,NULL}"],
    "text[]": ['{a,"",NULL,"NULL","a,b","q\\"q","b\\\\s","{x}"," sp "}', "{{a,b},{c,NULL}}", '{"null","nUll"}'],
    "tags": ['{x,"y z"}'],
    '"char"[]': ["{a,b}"],
    "bytea[]": ['{"\\\\x00ff","\\\\x"}'],
    "numeric[]": ["{1.10,NaN,NULL,-0.001}"],
    "numeric(10,2)[]": ["{1.1,2}"],
    "float8[]": ["{1.5,NaN,-Infinity}"],
    "date[]": ['{2000-01-01,infinity,"0044-03-15 BC"}'],
    "timestamptz[]": ['{"2026-01-02 03:04:05+00"}'],
    "timetz[]": ["{04:05:06+05:30}"],
    "interval[]": ['{"1 day","-1 mons +1 day"}'],
    "uuid[]": ["{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"],
    "jsonb[]": ['{"{\\"a\\": 1}",NULL}'],
    "bit(3)[]": ["{101,000}"],
    "varbit[]": ['{101,""}'],
    "mood[]": ["{sad,NULL,glücklich}"],
    "oid[]": ["{4294967295}"],
    "xid": ["0", "4294967295"],
    "cid": ["7"],
    "xid8": ["18446744073709551615"],
    "pg_lsn": ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"],
    "tid": ["(0,1)", "(4294967295,65535)"],
    "inet": ["192.168.1.5", "10.0.0.0/8", "::1", "::", "::ffff:1.2.3.4", "::1.2.3.4", "2001:db8::1/64", "1:0:0:2:0:0:0:3",
             "fe80:0:0:1::", "1:2:3:4:5:6:7:8",
             "0:0:1::", "0:1::", "::5:6", "1:0:3:4:5:6:7:8", "::ffff:0:0", "0:0:0:0:0:fffe:1:2"],
    "cidr": ["10.0.0.0/8", "192.168.1.5/32", "::/0", "2001:db8::/32"],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:ff:fe:01:02:03"],
    "jsonpath": ["$.a[*] ? (@ > 1)"],
    "refcursor": ["cur"],
    "money": ["-1234.5"],
    "int4range": ["[1,5)", "empty", "(,)"],
    "tsrange": ['[2020-01-01,infinity)'],
    "int4multirange": ["{[1,3),[5,7)}"],
    "pair": ['(1,"a b")', '(,"")'],
    "pair[]": ['{"(1,x)"}'],
    "point": ["(1.5,-2)"],
    "tsvector": ["'a':1 'b':2"],
    "int2vector": ["1 2"],
    "regclass": ["pg_class"],
}


def psql(sql, db=DB, raw=False):
    r = subprocess.run(["psql", "-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-d", db], input=sql.encode(),
    stdout=subprocess.PIPE, check=True)
    return r.stdout if raw else r.stdout.decode()


def literal(text):
    return "'" + text.replace("'", "''") + "'"


def start():
    psql(f"drop database if exists {DB};", "postgres")
    psql(f"create database {DB} encoding 'UTF8' template template0;", "postgres")
    psql(SETUP)


def catalog():
    return psql("select format('catalog %s %s %s %s %s %s # %s', oid, typtype, typbasetype, typtypmod, case when "
        "typcategory = 'A' and typtype = 'b' then typelem else 0 end, "
                "coalesce((select e.typtype from pg_type e where e.oid = t.typelem and t.typcategory = 'A' and t.typtype = "
                "'b')::text, '-'), typname) "
                "from pg_type t where typname in ('mood', 'price', 'dear', 'moody', 'tags', '_mood', 'pair', '_pair') order "
                "by oid")


def field(data):
    """The one field of the one row of a binary COPY."""
    at = 11 + 4
    ext = struct.unpack(">i", data[at:at + 4])[0]
    at += 4 + ext + 2
    size = struct.unpack(">i", data[at:at + 4])[0]
    return data[at + 4:at + 4 + size]


def values():
    start()
    print("# Values as a PostgreSQL server sends them, from tests/golden/capture_postgres.py: type (oid, modifier), the "
        "binary form in")
    print("# hex (- if it is not read), the text form with \\ escapes; what the cell holds stands in values.expected.txt.")
    print(catalog(), end="")
    for name, literals in VALUES.items():
        psql(f"drop table if exists v; create table v (c {name});")
        oid, mod = psql("select atttypid, atttypmod from pg_attribute where attrelid = 'v'::regclass and attname = "
            "'c'").strip().split("|")
        for value in literals:
            # format() gives what the type's output function writes; a cast to text may not (bool, bpchar, inet).
            psql(f"truncate v; insert into v values ({literal(value)});")
            binary = field(psql(PIN + "copy v to stdout binary;", raw=True))
            text = field(psql(PIN + f"set client_encoding=utf8; copy (select format('%s', c) from v) to stdout binary;",
            raw=True))
            shown = "".join(chr(b) if 32 < b < 127 and b != 92 else f"\\{b:02x}" for b in text)
            print(f"{name.replace(' ', '_')} {oid} {mod} {binary.hex() or '.'} {shown or '.'}")


SCRIPTS = {
    "changes": [
        "create table t (id int primary key, a text, n numeric(10,2), m mood)",
        "alter table t alter a set storage external",
        "begin; insert into t values (1,'a',1.5,'ok'),(2,null,null,null); update t set a='b' where id=1; update t set id=3 "
        "where id=2; delete from t where id=3; commit",
        "insert into t values (10, repeat('x',2500), 0, 'sad')",
        "update t set n=7 where id=10",
        "update t set id=11 where id=10",
        "begin; insert into t values (20,'gone',0,'ok'); rollback",
        "create table unwanted (id int primary key); insert into unwanted values (1)",
        "begin; insert into unwanted values (2); insert into t values (21,'after unwanted',0,'ok'); commit",
        "truncate t",
    ],
    "identities": [
        "create table f (id int primary key, a text, j jsonb, l int[]); alter table f alter a set storage external; alter "
        "table f replica identity full",
        "insert into f values (1, repeat('y',2500), '{\"k\":1.10}', '{1,NULL,3}')",
        "update f set id=2",
        "update f set a=null, l='[0:1]={7,8}'",
        "delete from f",
        "create table i (a int, b int not null, c text); create unique index ib on i(b); alter table i replica identity "
        "using index ib",
        "insert into i values (1,1,'x'),(null,2,'y')",
        "update i set a=5 where b=1",
        "update i set b=9 where b=2",
        "delete from i where b=9",
        "create table k (k text primary key, v int); alter table k alter k set storage external",
        "insert into k values (repeat('k',2200), 1)",
        "update k set v=2",
        "create table q (c int, b int, a int, primary key (c, a)); insert into q values (1,2,3); update q set a=4; delete "
        "from q",
    ],
    "schema_changes": [
        "create table s (id int primary key, a int)",
        "insert into s values (1,1)",
        "begin; insert into s values (2,2); alter table s add column b text default 'd'; insert into s values (3,3,'x'); "
        "commit",
        "alter table s alter a type text; insert into s values (4,'four','y')",
        "alter table s drop column b; insert into s values (5,'five')",
        "create table d (id int primary key, p price, e dear, t tags, o moody, r int4range, x pair); insert into d values "
        "(1, 1.25, 2.5, '{a,b}', 'ok', '[1,5)', '(1,z)')",
        "select pg_logical_emit_message(true,'p','in'), pg_logical_emit_message(false,'p','out')",
        "begin; insert into s values (6,'six'); savepoint a; insert into s values (7,'seven'); rollback to a; insert into s "
        "values (8,'eight'); commit",
    ],
}


def pgoutput(directory):
    for name, script in SCRIPTS.items():
        for binary in ("true", "false"):
            start()
            psql("create publication p for all tables;")
            psql("select pg_create_logical_replication_slot('golden', 'pgoutput');")
            lines = [catalog()]
            for sql in script:
                psql(PIN + sql + ";")
                lines.append(f"# {sql}\n")
                got = psql(PIN + f"select encode(data, 'hex') from pg_logical_slot_get_binary_changes('golden', null, null, "
                    f"'proto_version', '1', "
                           f"'publication_names', 'p', 'binary', '{binary}', 'messages', 'true')")
                lines += [line + "\n" for line in got.split()]
            psql("select pg_drop_replication_slot('golden');")
            path = os.path.join(directory, f"{name}_{'binary' if binary == 'true' else 'text'}.txt")
            with open(path, "w", encoding="utf-8") as f:
                f.write("# pgoutput messages of a PostgreSQL server, from tests/golden/capture_postgres.py; what is decoded "
                    "from them stands beside, in .expected.txt.\n")
                f.writelines(lines)
    psql(f"drop database {DB};", "postgres")


if __name__ == "__main__":
    if sys.argv[1:] == ["values"]:
        values()
    elif len(sys.argv) == 3 and sys.argv[1] == "pgoutput":
        pgoutput(sys.argv[2])
    else:
        sys.exit(__doc__)
