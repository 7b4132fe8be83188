"""The traps that a reading of the rules found, on a real server: commits that nobody sees yet, log ends that nobody sends,
keys that swap, staged files of a zombie, slots held by the dead and the stopped."""

import time

from flows import Flow
from harness import Proxy, wait_until

FAST = False

SERVER = {"settings": {"wal_sender_timeout": "3s"}}


def waits_for_standby(server, session):
    return server.value("select count(*) from pg_stat_activity where pid = %d and wait_event = 'SyncRep'" % session.pid) == "1"


def case_commit_waits_for_standby(t):
    """A commit below the log's start that waits for a standby is in no log and not yet visible: its row comes exactly once."""
    server = t.own_server({"wal_sender_timeout": "10s"})
    flow = Flow(t, "trap 1", "create table t (id int primary key, body text); insert into t select g, 'a' from "
        "generate_series(1, 100) g;"
                "create table nokey (id int); alter table nokey replica identity full", server=server)
    writer, local = server.session(flow.database), server.session(flow.database)
    local.execute("set synchronous_commit = local")
    try:
        below_the_log(flow, server, writer, local)
    finally:
        server.configure(synchronous_standby_names="")


def demand_standby(flow, server):
    """From its return on commits wait. The reload alone is not enough: the checkpointer takes the setting over a little later."""
    server.configure(synchronous_standby_names="missing")
    probe = server.session(flow.database)

    def waits():
        probe.send("select pg_logical_emit_message(true, 'probe', '')")
        wait_until(lambda: not probe.waiting() or waits_for_standby(server, probe), 20, "a probe to commit or to wait")
        held = waits_for_standby(server, probe)
        if held:
            server.sql("select pg_cancel_backend(%d)" % probe.pid)
        probe.receive()
        return held

    wait_until(waits, 20, "commits to wait for a standby")
    probe.close()


def below_the_log(flow, server, writer, local):
    demand_standby(flow, server)
    writer.send("begin; insert into t values (1000, 'waits'); update t set body = 'waits' where id = 1; delete from t where "
        "id = 2; insert into nokey values (1); commit")
    wait_until(lambda: waits_for_standby(server, writer), 20, "the commit to wait for the standby")
    flow.start()
    wait_until(lambda: local.execute("select 1 from pg_replication_slots where slot_name = 'tailrace_%s'" % flow.name), 30,
        "the slot to be asked for")
    local.execute("insert into t values (1001, 'beside')")
    flow.check("the row is not visible yet", local.value("select count(*) from t where id = 1000") == "0" and
        waits_for_standby(server, writer))
    server.configure(synchronous_standby_names="")
    writer.receive()
    flow.consistent()
    flow.same("below the slot's start", "t", "nokey")
    # A table that joins later: what was written to it before the publication had it is in no log either.
    local.execute("create table late (id int primary key, body text); insert into late select g, 'a' from "
        "generate_series(1, 10) g;"
                  "create table late_nokey (id int); alter table late_nokey replica identity full")
    demand_standby(flow, server)
    writer.send("begin; insert into late values (1000, 'waits'); update late set body = 'w' where id = 1; delete from late "
        "where id = 2; insert into late_nokey values (1); commit")
    wait_until(lambda: waits_for_standby(server, writer), 20, "the commit to wait for the standby")
    published = "select count(*) from pg_publication_tables where tablename in ('late', 'late_nokey')"
    wait_until(lambda: local.value(published) == "2" or not flow.job.running(), 40, "the new tables to be published")
    flow.check("published while the commit waits", waits_for_standby(server, writer))
    local.execute("insert into late values (1001, 'beside'); insert into late_nokey values (2)")
    time.sleep(1)  # nothing to wait for: the point is that no row is read in this second
    flow.equal("no snapshot is taken while it waits", flow.lines("late") + flow.lines("late_nokey"), [])
    server.configure(synchronous_standby_names="")
    writer.receive()
    flow.wait_rows("late", 11)
    flow.finish("below the publication", "t", "nokey", "late", "late_nokey")


def case_page_header(t):
    """An idle server whose insert position stands behind a page header: `once` ends all the same."""
    server = t.own_server({"archive_mode": "on", "archive_command": "true", "archive_timeout": "1s"})
    server.sql("checkpoint")  # wakes a checkpointer that began to wait while the server was still starting
    flow = Flow(t, "trap 2", "create table t (id int primary key); insert into t values (1)", server=server)
    switched = 0
    for number in range(3):
        flow.sql("insert into t values (%d)" % (10 + number))
        if number == 0:
            wait_until(lambda: flow.sql("select pg_current_wal_insert_lsn()")[0][0].endswith("000028"), 30, "archive_timeout")
        else:
            flow.sql("select pg_switch_wal()")
        place = flow.sql("select pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn()")[0]
        switched += place[0][-6:] == "000028"
        begun = time.monotonic()
        flow.once("after a switch of the log")
        flow.check("ends soon", time.monotonic() - begun < 15, "%.1f s at %s" % (time.monotonic() - begun, place))
        flow.same("after a switch of the log", "t")
    flow.check("the insert position stood behind a header", switched >= 1, "%d times" % switched)


def case_deferrable_key(t):
    """Two rows that swap keys in one statement: a deferrable key is never a key."""
    flow = Flow(t, "trap 3", "create table t (id int primary key deferrable, body text); alter table t replica identity "
        "full; insert into t values (1, 'one'), (2, 'two')")
    flow.run()
    flow.sql("update t set id = 3 - id; update t set body = body || id")
    flow.sql("begin; set constraints all deferred; update t set id = 2 where body like 'two%'; update t set id = 1 where "
        "body like 'one%'; update t set id = 3 - id; commit; insert into t values (3, 'three')")
    flow.wait_rows("t", 3)
    flow.finish("swapped keys", "t")
    flow.equal("no key", flow.lines("t")[0]["key"], {})


def case_unflushed(t):
    """A read-only scan that prunes pages writes log that nobody flushes (until the background writer's next snapshot, 15 s
    later): H lies behind what the server sends."""
    server = t.own_server({"bgwriter_lru_maxpages": "0"})
    flow = Flow(t, "trap 4", "create table t (id int primary key, body text) with (fillfactor = 60); insert into t select "
        "g, repeat('x', 100) from generate_series(1, 3000) g;"
                "create table other (id int primary key, n int) with (fillfactor = 50); insert into other select g, 0 from "
                "generate_series(1, 3000) g",
                    server=server)
    unflushed = 0
    for number in range(4):
        flow.sql("update t set body = repeat('%d', 100) where id %% 2 = 0; update other set n = n + 1 where id %% 2 = 0" % number)
        begun = time.monotonic()
        if number == 0:
            flow.once("snapshot")
        else:
            flow.sql("select count(*), sum(length(body)) from t; select sum(n) from other")
            unflushed += flow.sql("select pg_current_wal_insert_lsn() > pg_current_wal_flush_lsn()") == [["t"]]
            flow.once("log")
        flow.check("ends soon", time.monotonic() - begun < 6, "%.1f s" % (time.monotonic() - begun))
        flow.same("unflushed end", "t", "other")
    flow.check("the log's end was unflushed", unflushed >= 1, unflushed)


def case_staged_file_of_a_zombie(t):
    """An older instance that stands still between staging and its rename: the newer one clears up, and the rename is refused."""
    flow = Flow(t, "trap 5", "create table t (id int primary key, body text); insert into t select g, 'a' from "
        "generate_series(1, 100) g")
    flow.run()
    older = flow.job
    flow.sql("insert into t values (1000, 'first')")
    flow.wait_rows("t", 101)
    older.terminate()
    older.failpoints = "jsonl.before_rename=stop@2"  # the first is its claim
    older.start()
    flow.sql("insert into t values (1001, 'staged by the older'); update t set body = 'b' where id = 1")
    wait_until(older.is_stopped, 30, "the older instance to stand still")
    flow.check("a staged file lies there", len(flow.folder.staged()) >= 1, flow.folder.staged())
    newer = t.tailrace("run", *flow.job_words()).start()
    wait_until(lambda: len(flow.folder.rows("public.t")) == 102 or not newer.running(), 40, "the newer instance to deliver")
    flow.sql("insert into t values (1002, 'by the newer')")
    wait_until(lambda: len(flow.folder.rows("public.t")) == 103 or not newer.running(), 40, "the newer instance to go on")
    flow.equal("no foreign staged file is left", [name for name in flow.folder.staged()], [])
    older.resume()
    flow.equal("the older ends as fenced", older.wait(60), 4)
    flow.sql("insert into t values (1003, 'still the newer')")
    wait_until(lambda: len(flow.folder.rows("public.t")) == 104 or not newer.running(), 40, "the newer instance to go on")
    flow.equal("newer stops", newer.terminate(), 0)
    flow.same("zombie", "t")
    flow.equal("nothing staged remains", flow.folder.staged(), [])


def case_slot_held_by_the_dead(t):
    """The process is gone (kill -9 behind a network that drops packets): the slot is taken over once the server noticed."""
    flow = Flow(t, "trap 6", "create table t (id int primary key); insert into t values (1)")
    proxy = Proxy(t.server.port)
    flow.run(port=proxy.port)
    proxy.hold()
    flow.job.kill()
    flow.sql("insert into t values (2)")
    held = flow.sql("select active from pg_replication_slots where slot_name = 'tailrace_%s'" % flow.name)
    flow.equal("the slot is held", held, [["t"]])
    result = flow.once("taken over from the dead")
    flow.check("it said what it waits for", "slot" in result.stderr, result.stderr)
    flow.same("dead", "t")
    plain = Flow(t, "trap 6", "create table t (id int primary key); insert into t values (1)")
    plain.run()
    plain.job.kill()
    plain.sql("insert into t values (2)")
    plain.once("taken over after kill -9")
    plain.same("kill -9", "t")


def case_slot_held_by_the_stopped(t):
    """The process stands still: its walsender falls silent, the slot is taken over, and it ends with 4 when it goes on."""
    flow = Flow(t, "trap 6", "create table t (id int primary key); insert into t values (1)")
    flow.run()
    flow.job.pause()
    flow.sql("insert into t values (2)")
    flow.once("taken over from the stopped")
    flow.same("stopped", "t")
    newer = t.tailrace("run", *flow.job_words()).start()
    newer.wait_log("job started", 30)
    flow.job.resume()
    flow.equal("the stopped ends with 4", flow.job.wait(60), 4)
    flow.sql("insert into t values (3)")
    wait_until(lambda: len(flow.folder.rows("public.t")) == 3 or not newer.running(), 30, "the newer instance")
    flow.equal("newer stops", newer.terminate(), 0)
    flow.same("stopped and continued", "t")
