"""Transactions, forms of DML, feedback, numbers of transactions past 2^32 (catalogue, T137 to T149)."""

import hashlib
import os
import re
import subprocess
import time

from flows import Flow, pg
from harness import wait_until

FAST = False

SERVER = {"settings": {"max_prepared_transactions": "10", "logical_decoding_work_mem": "64kB", "wal_sender_timeout": "5s"}}


def case_savepoints(t):
    """T137, T139: subtransactions and whole transactions that are rolled back, with a server that spills."""
    flow = Flow(t, "T137", "create table t (id int primary key, body text)")
    flow.run()
    flow.sql("begin; insert into t select g, repeat('x', 200) from generate_series(1, 500) g; savepoint s;"
             "insert into t select g, repeat('y', 200) from generate_series(501, 1000) g; update t set body = 'lost' where "
             "id < 100;"
             "rollback to s; insert into t select g, 'z' from generate_series(2001, 2005) g; commit")
    flow.wait_rows("t", 505)
    flow.equal("rows of the stream", len(flow.lines("t", "c")), 505)
    flow.sql("begin; savepoint a; insert into t values (3001, 'a'); savepoint b; insert into t values (3002, 'b'); "
        "savepoint c; insert into t values (3003, 'c');"
             "release c; rollback to b; insert into t values (3004, 'd'); savepoint e; insert into t values (3005, 'e'); "
             "release e; release a; insert into t values (3006, 'f'); commit")
    flow.sql("do $$ begin for i in 1..200 loop begin insert into t values (10000 + i, 'in'); if i % 3 = 0 then raise "
        "exception 'no'; end if;"
             " exception when others then null; end; end loop; end $$")
    flow.finish("savepoints", "t")
    flow.equal("nested", sorted(l["key"]["id"] for l in flow.lines("t", "c") if 3000 < l["key"]["id"] < 4000), [3001, 3004,
        3005, 3006])
    numbers = [l["tx"]["n"] for l in flow.lines("t", "c") if l["key"]["id"] > 10000]
    flow.equal("one transaction, in order", numbers, list(range(len(numbers))))
    flow.equal("134 of 200", len(numbers), 134)


def case_rolled_back(t):
    """T139: big transactions that end in nothing, between others."""
    flow = Flow(t, "T139", "create table t (id int primary key, body text)")
    flow.run()
    one, two = flow.server.session(flow.database), flow.server.session(flow.database)
    one.execute("begin; insert into t select g, repeat('x', 500) from generate_series(1, 20000) g")
    two.execute("begin; insert into t values (100001, 'other'); commit; begin; insert into t values (100002, 'gone'); rollback")
    one.execute("rollback")
    two.execute("insert into t values (100003, 'last')")
    flow.wait_rows("t", 2)
    one.execute("begin; insert into t values (5, 'never')")
    one.close()
    flow.finish("rolled back", "t")
    flow.equal("nothing of what was rolled back", [l["key"]["id"] for l in flow.lines("t")], [100001, 100003])


def case_prepared(t):
    """T140: prepared transactions arrive at COMMIT PREPARED, those that the snapshot could not see included."""
    flow = Flow(t, "T140", "create table t (id int primary key, body text); insert into t select g, 'old' from "
        "generate_series(1, 50) g")
    flow.sql("begin; insert into t values (1001, 'prepared before the slot'); update t set body = 'by it' where id = 1; "
        "prepare transaction 'early'")
    flow.start()
    wait_until(lambda: flow.sql("select 1 from pg_replication_slots where database = '%s'" % flow.database), 30,
        "the slot to be asked for")
    flow.sql("insert into t values (1002, 'meanwhile'); commit prepared 'early'")
    flow.consistent()
    flow.same("prepared before the slot", "t")
    flow.sql("begin; insert into t values (2001, 'p'); update t set body = 'p' where id = 2; prepare transaction 'yes'")
    flow.sql("begin; insert into t values (2002, 'q'); delete from t where id = 3; prepare transaction 'no'")
    flow.sql("insert into t values (2003, 'other')")
    flow.wait_rows("t", 53)
    flow.equal("nothing before COMMIT PREPARED", [l for l in flow.lines("t") if l["key"]["id"] in (2001, 2002)], [])
    flow.sql("commit prepared 'yes'; rollback prepared 'no'")
    flow.wait_rows("t", 54)
    flow.finish("prepared", "t")
    flow.equal("in order of the commits", [l["key"]["id"] for l in flow.lines("t", "cu")][-3:], [2003, 2001, 2])
    flow.sql("begin; update t set body = 'while down' where id = 4; prepare transaction 'down'")
    flow.once("prepared while down")
    flow.sql("commit prepared 'down'")
    flow.once("committed while down")
    flow.same("committed while down", "t")


def case_prepared_in_snapshot(t):
    """T140: prepared after the slot exists and before a table's snapshot; committed after it."""
    flow = Flow(t, "T140", "create table t (id int primary key, body text); insert into t select g, 'old' from "
        "generate_series(1, 3000) g", chunk_rows=1000)
    flow.start(failpoints="lane.after_begin=sleep(1500)")
    wait_until(lambda: flow.sql("select 1 from pg_replication_slots where database = '%s' and confirmed_flush_lsn is not null"
        % flow.database), 30, "the slot")
    flow.sql("begin; insert into t values (5001, 'p'); update t set body = 'p' where id in (2, 2999); delete from t where "
        "id = 7; prepare transaction 'over'")
    flow.consistent()
    flow.sql("commit prepared 'over'")
    flow.wait_rows("t", 3000)
    flow.finish("prepared over the snapshot", "t")


def case_two_phase_slot(t):
    """T140: the user's own slot gives out transactions when they are prepared: refused, by plan too; one that was made as the
    cure says is taken, and prepared transactions arrive once, at COMMIT PREPARED, those rolled back never."""
    flow = Flow(t, "T140 two_phase", "create table t (id int primary key, body text); insert into t select g, 'old' from "
        "generate_series(1, 50) g; create publication mine for table t", slot="two_phase_slot", publication="mine")
    flow.sql("select pg_create_logical_replication_slot('two_phase_slot', 'pgoutput', false, true)")
    flow.sql("begin; insert into t values (1001, 'early'); update t set body = 'early' where id = 1; prepare transaction 'e'")
    plan = flow.plan()
    flow.check("plan does not say ready", plan.code != 0 and "two-phase" in plan.stdout + plan.stderr, plan)
    result = flow.once("refused", code=5)
    flow.check("named", "two-phase" in result.stderr and "cure:" in result.stderr, result.stderr)
    flow.equal("nothing written", flow.folder.files(), [])
    flow.sql("commit prepared 'e'")
    for sql in re.search("cure: make one without: (.*)", result.stderr).group(1).split("; "):
        flow.sql(sql)
    flow.run()
    flow.sql("begin; insert into t values (1002, 'yes'); delete from t where id = 2; prepare transaction 'yes'")
    flow.sql("begin; insert into t values (1003, 'no'); delete from t where id = 3; prepare transaction 'no'")
    flow.sql("insert into t values (1004, 'other')")
    flow.wait_rows("t", 52)
    flow.sql("commit prepared 'yes'; rollback prepared 'no'")
    wait_until(lambda: any(r["id"] == 1002 for r in flow.folder.rows("public.t")) or not flow.job.running(), 30, "the commit")
    flow.finish("as the cure says", "t")
    flow.equal("once, in order of the commits", [l["key"]["id"] for l in flow.lines("t", "cud")], [1004, 1002, 2])
    flow.sql("select pg_drop_replication_slot('two_phase_slot')")


def case_subscriber(t):
    """T142: the source is itself a subscriber: what its workers apply, first copy and stream, arrives beside what is written
    there."""
    first = t.own_server()
    origin = t.database("create table t (id int primary key, body text); insert into t select g, 'a' from "
        "generate_series(1, 500) g; create publication upstream for table t", first)
    flow = Flow(t, "T142 subscriber", "create table t (id int primary key, body text)")
    flow.run()
    flow.sql("create subscription s connection 'host=127.0.0.1 port=%d user=postgres dbname=%s' publication upstream"
        % (first.port, origin))
    try:
        flow.wait_rows("t", 500)
        first.sql("begin; update t set body = 'b' where id <= 100; delete from t where id > 490; insert into t values (1000, "
            "'c'); commit", origin)
        flow.sql("insert into t values (2000, 'ours')")
        flow.wait_rows("t", 492)
        wait_until(lambda: flow.sql("select count(*) from t where body = 'b'") == [["100"]], 30, "the updates")
    finally:
        flow.sql("drop subscription s")
    flow.finish("applied and written", "t")
    flow.equal("all of it", flow.sql("select count(*) from t"), [["492"]])


def case_origin(t):
    """T142: changes that a subscriber applied (with an origin) are changes like any other."""
    flow = Flow(t, "T142", "create table t (id int primary key, body text); insert into t values (1, 'a')")
    flow.once("snapshot")
    flow.sql("select pg_replication_origin_create('other_node')")
    flow.sql("select pg_replication_origin_session_setup('other_node'); begin; select "
        "pg_replication_origin_xact_setup('0/123', now());"
             "insert into t values (2, 'from elsewhere'); commit; update t set body = 'b' where id = 1; select "
             "pg_replication_origin_session_reset()")
    flow.sql("insert into t values (3, 'ours'); select pg_replication_origin_drop('other_node')")
    flow.once("stream")
    flow.same("stream", "t")


def case_publication_after_slot(t):
    """T143: a publication that is younger than the slot is not in the slot's past: an error, no silent gap."""
    flow = Flow(t, "T143", "create table t (id int primary key); insert into t values (1)", slot="t143", publication="late")
    flow.sql("select pg_create_logical_replication_slot('t143', 'pgoutput'); insert into t values (2); create publication "
        "late for table t; insert into t values (3)")
    result = flow.t.tailrace("once", *flow.job_words()).run(60)
    flow.check("ends with an error", result.code in (1, 5), "exit %s" % result.code)
    flow.check("names the publication", "late" in result.stderr and "publication" in result.stderr, result.stderr)
    flow.check("says nothing was skipped: no rows", not flow.folder.consistent(), flow.folder.commits())
    mine = Flow(t, "T143", "create table t (id int primary key); insert into t values (1)")
    mine.once("snapshot")
    mine.sql("insert into t values (2); drop publication tailrace_%s; insert into t values (3); create publication "
        "tailrace_%s for table t; insert into t values (4)"
             % (mine.name, mine.name))
    result = mine.t.tailrace("once", *mine.job_words()).run(60)
    mine.check("dropped and made anew ends with an error", result.code in (1, 5), "exit %s: %s" % (result.code, result.stderr))
    mine.check("dropped and made anew is named", "tailrace_" + mine.name in result.stderr and "cure:" in result.stderr, result.
        stderr)
    mine.equal("dropped and made anew writes nothing wrong", [l["key"]["id"] for l in mine.lines("t")], [1])


DML = """
insert into t values (1, 'a') on conflict (id) do update set body = excluded.body || '!';
insert into t values (1, 'b') on conflict (id) do update set body = excluded.body || '!';
insert into t values (1, 'c') on conflict do nothing;
merge into t using (values (1, 'm'), (2, 'new')) s (id, body) on t.id = s.id
  when matched then update set body = s.body when not matched then insert values (s.id, s.body);
merge into t using (values (2)) s (id) on t.id = s.id when matched then delete;
update t set body = 'r' where id = 1 returning id, body;
with gone as (delete from t where id = 1 returning *), back as (insert into t select id + 100, body from gone returning *)
  insert into log select id, 'cte' from back;
insert into t select g, 'bulk' from generate_series(200, 210) g;
update t set id = id + 1000 where id between 200 and 205;
delete from t using log where t.id = log.id;
insert into parent values (1), (2); insert into child values (1, 1), (2, 1), (3, 2);
update parent set id = 10 where id = 1; delete from parent where id = 2;
insert into watched values (1); update watched set n = 5;
begin; truncate t, log; insert into t values (7, 'after truncate'); commit;
insert into u values (1); create temporary table tmp (id int primary key); insert into tmp values (1);
create table made as select g as id, 'ctas' as body from generate_series(1, 20) g; alter table made add primary key (id);
insert into made values (100, 'later');
begin; create table frozen (id int primary key, body text); copy frozen from stdin (freeze);
1\tx
2\ty
\\.
commit;
copy t from stdin;
300\tcopied
301\t\\N
\\.
insert into s default values; insert into s default values; select nextval('s_id_seq'); insert into s default values;
select lo_create(0); notify something; begin; lock table t; commit; analyze t; reindex table t; comment on table t is 'x';
"""


def dml(t):
    """DML, without MERGE where the server (14) does not know it."""
    return DML if t.server.version() >= 15 else re.sub(r"^merge into.*?;\n", "", DML, flags=re.M | re.S)


DML_TABLES = """
create table t (id int primary key, body text); create table log (id int primary key, what text);
create unlogged table u (id int primary key);
create table parent (id int primary key);
create table child (id int primary key, p int references parent on update cascade on delete cascade);
create table watched (id int primary key, n int); create table audit (id serial primary key, was int);
create function note() returns trigger language plpgsql as $$
  begin insert into audit (was) values (old.n); new.n := new.n * 2; return new; end $$;
create trigger w before update on watched for each row execute function note();
create table s (id serial primary key, at timestamptz default '2020-01-01');
"""


def case_forms_of_dml(t):
    """T145: every way to write a row; new tables are found and read while the job runs."""
    tables = ("t", "log", "parent", "child", "watched", "audit", "s", "made", "frozen")
    flow = Flow(t, "T145", DML_TABLES)
    flow.run()
    flow.sql(dml(t))
    wait_until(lambda: {"public.made", "public.frozen"} <= set(flow.folder.state().tables) or not flow.job.running(), 60,
        "the new tables")
    flow.finish("forms of DML", *tables)
    flow.equal("unlogged and temporary tables are left out", sorted(flow.folder.state().tables), sorted("public." + name for
        name in tables))
    flow.check("unlogged is said loudly", "unlogged" in flow.job.stderr_text(), flow.job.stderr_text()[:600])
    other = Flow(t, "T145", DML_TABLES)
    other.sql(dml(t))
    other.once("snapshot")
    other.same("snapshot", *tables)


def case_idle(t):
    """T146: a published table without changes beside a busy database does not hold the server's log."""
    flow = Flow(t, "T146", "create table t (id int primary key); insert into t values (1)")
    busy = t.database("create table b (id int primary key)")
    flow.run()
    before = flow.sql("select confirmed_flush_lsn from pg_replication_slots where database = '%s'" % flow.database)[0][0]
    t.server.sql("select pg_logical_emit_message(false, 'noise', repeat('x', 8000000)) from generate_series(1, 10)", busy)
    target = flow.sql("select pg_current_wal_lsn()")[0][0]
    ahead = ("select confirmed_flush_lsn >= '%s'::pg_lsn - 67108864, restart_lsn > '%s' "
             "from pg_replication_slots where database = '%s'" % (target, before, flow.database))
    t.server.sql("checkpoint")
    wait_until(lambda: flow.sql(ahead)[0][0] == "t", 30, "confirmed_flush to follow")
    flow.check("confirmed_flush follows", True)
    flow.equal("no file for a position", len([c for c in flow.folder.commits() if c["rows"] == 0 and c["position"]]) <= 2, True)
    flow.check("the position is an idle one", flow.folder.idle() is not None)
    flow.stop()
    flow.once("goes on from the idle position")
    flow.sql("insert into t values (2)")
    flow.once("stream")
    flow.same("stream", "t")


def case_log_kept_back(t):
    """A server whose log writer sleeps long: `once` has the end of its log flushed, also where commits do not wait for it. A
    role that may not write a message gets there when the server writes."""
    server = t.own_server({"wal_writer_delay": "10s", "synchronous_commit": "off"})
    flow = Flow(t, "T146 wal_writer_delay", "create table t (id int primary key); insert into t values (1)", server=server)
    for what in ("snapshot", "stream"):
        flow.sql("insert into t select max(id) + 1 from t")
        begun = time.monotonic()
        flow.once(what)
        took = time.monotonic() - begun
        flow.check(what + " does not wait for the log writer", took < 6, "%.1f s" % took)
    flow.same("stream", "t")
    server.restart("fast", {"wal_writer_delay": "2s"})
    server.sql("create role reader login replication; revoke execute on function pg_logical_emit_message(boolean, text, text) "
        "from public", flow.database)
    flow.sql("alter table t owner to reader; grant create on database %s to reader" % flow.database)
    denied = Flow(t, "T146 no message", database=flow.database, server=server)
    denied.job_words = lambda port=None: [server.url(flow.database, user="reader"), denied.folder.sink + "?job=denied"]
    denied.once("snapshot")
    denied.sql("insert into t values (100)")
    denied.once("stream")
    denied.same("stream", "t")
    if server.version() < 17:
        denied.check("the message was tried and refused", "permission denied for function pg_logical_emit_message" in
            server.log_text())


def case_blocked_sink(t):
    """T148: wal_sender_timeout=5s while the sink stands still for 8 s and more arrives than can be held."""
    flow = Flow(t, "T148", "create table t (id int primary key, body text)", arguments=("--memory", "64MiB"))
    flow.start(failpoints="jsonl.before_rename=sleep(8000)@4")
    flow.consistent()
    for first in range(0, 45000, 9000):
        flow.sql("insert into t select g, repeat(md5(g::text), 40) from generate_series(%d, %d) g" % (first + 1, first + 9000))
    wait_until(lambda: "jsonl.before_rename" in flow.job.failpoints_reached()[1], 60, "the sink to stand still")
    flow.wait_written(45000)
    flow.check("the connection survives", "rewind" not in flow.job.stderr_text().lower(), flow.job.stderr_text()[-800:])
    flow.check("the server did not end it", "replication timeout" not in t.server.log_text())
    flow.stop()
    flow.once("catches up")
    want = {int(number): text for number, text in flow.sql("select id, md5(body) from t")}
    got = [(row["id"], hashlib.md5(row["body"].encode()).hexdigest()) for row in flow.folder.rows("public.t")]
    flow.check("every row once", len(got) == len(want) and dict(got) == want, "%d rows of %d" % (len(got), len(want)))
    flow.equal("exactly once", flow.folder.state().problems[:3], [])


def prepare_wrap(server):
    """Sets the next transaction id of a stopped server 300 below 2^32."""
    with open(os.path.join(server.data, "pg_xact", "0FFF"), "wb") as file:
        file.write(b"\0" * 262144)
    os.chown(file.name, os.stat(server.data).st_uid, os.stat(server.data).st_gid)
    done = subprocess.run([*setpriv(server), os.path.join(server.bin, "pg_resetwal"), "-D", server.data, "-x", "4294966996",
        "-u", "4294900000"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/", check=False)
    return done.returncode, done.stdout.decode()


def setpriv(server):
    owner = os.stat(server.data)
    return ["setpriv", "--reuid=%d" % owner.st_uid, "--regid=%d" % owner.st_gid, "--clear-groups"] if os.getuid() == 0 else []


def case_xid_wrap(t):
    """T149: ids of transactions past 2^32 and across it: the rule of the snapshot compares widened ids."""
    server = t.own_server()
    if not os.path.exists(os.path.join(server.bin, "pg_resetwal")):
        t.skip("T149 %s" % pg(t), "this server came without pg_resetwal, which sets its next transaction id")
        return
    for (name,) in server.sql("select datname from pg_database where datallowconn"):
        server.sql("vacuum freeze", name)
    server.stop("fast")
    code, said = prepare_wrap(server)
    t.require("T149 %s pg_resetwal" % pg(t), code == 0, said)
    server.start()
    flow = Flow(t, "T149", "create table t (id int primary key, body text); insert into t select g, 'a' from "
        "generate_series(1, 3000) g;"
                "create table nokey (id int, body text); alter table nokey replica identity full; insert into nokey select "
                "g % 3, 'a' from generate_series(1, 30) g",
                server=server, chunk_rows=1000)
    session = server.session(flow.database)
    holder = server.session(flow.database)
    holder.execute("begin; insert into t values (-1, 'begun before the wrap'); insert into nokey values (-1, 'x'); update t "
        "set body = 'h' where id = 10")
    flow.check("begun before 2^32", int(holder.value("select pg_current_xact_id()")) < 4294967296)
    flow.start()
    burn = ("do $$ begin for i in 1..%d loop insert into t values (%d + i, 'burn'); update nokey set body = body || 'b' "
        "where id = 1; commit; end loop; end $$")
    wait_until(lambda: flow.sql("select 1 from pg_replication_slots where database = '%s'" % flow.database), 30,
        "the slot to be asked for")
    session.execute(burn % (500, 100000))
    holder.execute("commit")
    flow.consistent()
    session.execute(burn % (100, 200000) + "; delete from t where id between 5 and 20; update t set id = -7 where id = 30")
    flow.finish("across 2^32", "t", "nokey")
    flow.check("past 2^32", int(session.value("select pg_current_xact_id()")) > 4294967296)
    again = Flow(t, "T149", server=server, database=flow.database)
    again.once("snapshot past 2^32")
    session.execute(burn % (50, 300000))
    again.once("stream past 2^32")
    again.same("past 2^32", "t", "nokey")
