"""Big rows, many tables, many columns, big transactions, slow targets (catalogue, group H)."""

import hashlib
import os

from flows import Flow
from harness import wait_until

FAST = False

NOISE = "(select string_agg(md5((g * %d)::text), '') from generate_series(1, %d) g)"  # 32 bytes each, hard to compress


def sums(flow, column, table="t"):
    return {int(key): value for key, value in flow.sql("select id, md5(%s) from %s" % (column, table))}


def same_big(flow, what, column="body", table="t"):
    """Compares by digest: the rows are too large to be sent through psql in reasonable time."""
    got = {row["id"]: hashlib.md5(row[column].encode()).hexdigest() for row in flow.folder.rows("public." + table)}
    flow.equal(what, got, sums(flow, column, table))
    flow.equal(what + " exactly once", flow.folder.state().problems[:3], [])


def case_rows_of_8_mib(t):
    """T200 with what every memory setting must carry: text, bytea, json and arrays near 8 MiB in snapshot, stream
    and old rows."""
    flow = Flow(t, "T200", "create table t (id int primary key, body text); insert into t values (1, %s);"
                "create table b (id int primary key, body bytea); alter table b replica identity full; insert into b select "
                "1, decode(%s, 'hex');"
                "create table a (id int primary key, list int[]); insert into a select 1, array_agg(g) from "
                "generate_series(1, 500000) g"
                % (NOISE % (1, 240000), NOISE % (2, 100000)))
    flow.once("snapshot")
    flow.sql("insert into t values (2, %s); insert into t values (3, %s); update t set body = body || 'x' where id = 1; "
        "update t set id = 20 where id = 2;"
             "update b set body = body || 'y'; insert into b values (2, 'z'); delete from b where id = 1; insert into a "
             "select 2, array_agg(-g) from generate_series(1, 500000) g"
             % (NOISE % (3, 240000), NOISE % (4, 200000)))
    flow.once("stream")
    same_big(flow, "text")
    flow.same("bytea", "b")
    flow.equal("arrays", [[len(r["list"]), r["list"][-1]] for r in sorted(flow.folder.rows("public.a"), key=lambda r: r["id"])],
        [[500000, 500000], [500000, -500000]])


def case_row_of_20_mb(t):
    """T200: a row of 20 MB is delivered; above row_max a clear error, in the snapshot and in the stream."""
    flow = Flow(t, "T200", "create table t (id int primary key, body text); insert into t values (1, %s)" % (NOISE % (1,
        625000)), arguments=("--memory", "256MiB"))
    flow.once("20 MB in the snapshot")
    flow.sql("insert into t values (2, %s); update t set body = body || '!' where id = 1" % (NOISE % (2, 625000)))
    flow.once("20 MB in the stream")
    same_big(flow, "20 MB")
    small = Flow(t, "T200", "create table t (id int primary key, body text); insert into t values (1, %s)" % (NOISE % (1,
        65536)), row_max="1MiB")
    result = small.once("over row_max in the snapshot", code=1)
    small.check("over row_max in the snapshot is named", "row_max" in result.stderr and "cure:" in result.stderr, result.stderr)
    small.sql("delete from t")
    small.once("without the row")
    small.sql("insert into t values (2, 'before'); insert into t values (3, %s)" % (NOISE % (2, 200000)))
    result = small.once("over row_max in the stream", code=1)
    small.check("over row_max in the stream is named", "row_max" in result.stderr and "cure:" in result.stderr, result.stderr)
    small.keys = {"row_max": "8MiB"}
    small.once("goes on with a larger row_max")
    same_big(small, "after the larger row_max")


def case_row_max_is_exact(t):
    """T200: row_max counts the bytes of a row's values, in the snapshot and in the stream, and of each of the two rows that a
    change with identity FULL carries."""
    flow = Flow(t, "T200 row_max", "create table t (id int primary key, body text); alter table t replica identity full;"
        "insert into t values (1, repeat('x', 1048572))", row_max="1MiB")
    flow.once("all of it in the snapshot")
    flow.sql("insert into t values (2, repeat('y', 1048572)); update t set body = repeat('z', 1048572) where id = 1;"
        "update t set id = 3 where id = 2; delete from t where id = 1")
    flow.once("all of it in the stream")
    same_big(flow, "all of it")
    for what, sql in (("an insert", "insert into t values (4, repeat('x', 1048573))"),
                      ("a new row", "update t set body = body || 'x' where id = 3")):
        over = Flow(t, "T200 row_max", "create table t (id int primary key, body text); alter table t replica identity full;"
            "insert into t values (3, repeat('x', 1048572))", row_max="1MiB")
        over.once("before " + what)
        over.sql(sql)
        result = over.once(what + " with a byte more", code=1)
        over.check(what + " is named", "row_max" in result.stderr and '"public.t"' in result.stderr, result.stderr)
        anew = Flow(t, "T200 row_max", database=over.database, row_max="1MiB")
        result = anew.once("the same in the snapshot", code=1)
        over.check("the snapshot is named", "row_max" in result.stderr and "cure:" in result.stderr, result.stderr)


def case_value_of_300_mb(t):
    """T200: refused by the default row_max, delivered with a larger one, in the snapshot and in the stream."""
    flow = Flow(t, "T200 300 MB", "create table t (id int primary key, body text); alter table t alter body set storage "
        "external; insert into t values (1, repeat('0123456789abcdef', 18750000))", arguments=("--memory", "3GiB"))
    result = flow.once("300 MB in the snapshot", code=1)
    flow.check("300 MB in the snapshot is named", "row_max" in result.stderr and "cure:" in result.stderr, result.stderr)
    flow.keys = {"row_max": "300MiB"}
    flow.once("300 MB with a larger row_max")
    flow.sql("insert into t values (2, repeat('0123456789ABCDEF', 18750000))")
    flow.once("300 MB in the stream")
    same_big(flow, "300 MB")


def value_of_1_gb(t):
    """T200: 1 GB less 64 KiB is delivered in the snapshot. In the stream too, unless the server has something else to send
    meanwhile: both must fit into one buffer of 1 GB, and what the server says then is said."""
    flow = Flow(t, "T200 1 GB", "create table t (id int primary key, body text); alter table t alter body set storage "
        "external; insert into t values (1, repeat('0123456789abcdef', 67104768))", row_max="1GiB",
        arguments=("--memory", "10GiB"))
    flow.once("1 GB in the snapshot")
    flow.sql("insert into t values (2, repeat('0123456789ABCDEF', 67104768))")
    result = t.tailrace("once", *flow.job_words()).run(300)
    full = result.code == 1 and "read the log: invalid memory alloc" in result.stderr
    flow.check("1 GB in the stream", result.code == 0 or full, "exit %s: %s" % (result.code, result.stderr[-600:]))
    if full:
        flow.sql("delete from t where id = 2")
    same_big(flow, "1 GB")


if os.environ.get("TAILRACE_TEST_LONG"):
    case_value_of_1_gb = value_of_1_gb
    case_value_of_1_gb.timeout = 900


def case_big_transaction(t):
    """T202, scaled down: a transaction larger than the memory arrives in one commit."""
    flow = Flow(t, "T202", "create table t (id int primary key, body text); create table other (id int primary key)",
        arguments=("--memory", "64MiB"))
    flow.run()
    flow.sql("begin; insert into t select g, repeat(md5(g::text), 20) from generate_series(1, 120000) g; insert into other "
        "values (1); update t set body = 'u' where id <= 1000; commit")
    flow.wait_written(121001, 120)
    flow.equal("one commit", [c["rows"] for c in flow.folder.commits() if c["rows"]], [121001])
    flow.stop()
    flow.once("catches up")
    state = flow.folder.state()
    flow.equal("rows", (state.table("public.t").count(), state.table("public.other").count()), (120000, 1))
    flow.equal("exactly once", state.problems[:3], [])


def case_many_tables(t):
    """T203, scaled down: 1,000 tables and 300 partitions."""
    flow = Flow(t, "T203", "do $$ begin for i in 1..1000 loop execute format('create table t%s (id int primary key, body "
        "text)', i);"
                " execute format('insert into t%s values (1, %L)', i, i); if i % 100 = 0 then commit; end if; end loop; end $$;"
                "create table p (id int primary key) partition by range (id); do $$ begin for i in 0..299 loop"
                " execute format('create table p%s partition of p for values from (%s) to (%s)', i, i * 10, i * 10 + 10); "
                "end loop; end $$; insert into p select g from generate_series(0, 2999) g")
    flow.once("snapshot")
    flow.sql("do $$ begin for i in 1..1000 loop execute format('insert into t%s values (2, %L)', i, 'new'); if i % 2 = 0 "
        "then execute format('update t%s set body = %L where id = 1', i, 'u'); end if; end loop; end $$;"
             "insert into p select g from generate_series(0, 2999) g on conflict do nothing; delete from p where id % 7 = 0")
    flow.once("stream")
    state = flow.folder.state()
    flow.equal("1,001 tables", len(state.tables), 1001)
    wrong = [name for name, table in state.tables.items() if name != "public.p"
             and sorted((r["id"], r["body"]) for r in table.all_rows()) != [(1, "u" if int(name[8:]) % 2 == 0 else name[8:]),
                 (2, "new")]]
    flow.equal("each table's rows", wrong, [])
    flow.same("partitions", "p")
    flow.check("the position stays small", len(str(flow.folder.position())) < 8192)


def case_many_columns(t):
    """T205: 1,600 columns."""
    names = ["c%d" % number for number in range(1, 1600)]
    flow = Flow(t, "T205", "create table t (id int primary key, %s)" % ", ".join("%s %s" % (name, ("smallint", "text",
        "boolean", "bigint")[i % 4]) for i, name in enumerate(names)))
    row = ", ".join(("%d", "'t%d'", "true", "null")[i % 4] % i if i % 4 < 2 else ("true", "null")[i % 4 - 2] for i in range(
        len(names)))
    flow.sql("insert into t values (1, %s)" % row)
    flow.once("snapshot")
    flow.sql("insert into t values (2, %s); update t set c1599 = null, c1 = 5 where id = 1; alter table t drop column c10; "
        "update t set c2 = 'x' where id = 2" % row)
    flow.once("stream")
    flow.same("1,600 columns", "t")
    flow.equal("columns", len(flow.folder.rows("public.t")[0]), 1599)


def case_slow_target(t):
    """T208: the target stalls during the snapshot, under time-outs of the database that would end an idle reader."""
    flow = Flow(t, "T208", "create table t (id int primary key, body text); insert into t select g, repeat(md5(g::text), 4) "
        "from generate_series(1, 60000) g", chunk_rows=10000,
                arguments=("--memory", "64MiB"))
    flow.sql('alter database "%s" set statement_timeout = 1500; alter database "%s" set idle_in_transaction_session_timeout '
        '= 1500; alter database "%s" set lock_timeout = 1000'
             % (flow.database, flow.database, flow.database))
    flow.start(failpoints="writer.before_seal=sleep(4000)@2;jsonl.before_rename=sleep(4000)@3")
    flow.consistent()
    wait_until(lambda: "jsonl.before_rename" in flow.job.failpoints_reached()[1] or not flow.job.running(), 30, "the stall")
    flow.check("it stalled", len(flow.job.failpoints_reached()[1]) == 2, flow.job.failpoints_reached()[1])
    flow.sql("update t set body = 'u' where id % 1000 = 0")
    flow.check("no chunk was lost", "rewind" not in flow.job.stderr_text(), flow.job.stderr_text()[-600:])
    flow.finish("stalled", "t")
