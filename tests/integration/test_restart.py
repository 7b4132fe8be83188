"""Crashes, restarts, networks that go away, and slots and servers that are not what they were (catalogue, group G and T220)."""

import os
import random
import shutil
import socket
import subprocess

from flows import Flow, pg
from harness import Proxy, temporary_folder, wait_until

FAST = False

TABLE = ("create table t (id int primary key, n int not null, body text); insert into t select g, 0, 'a' from "
    "generate_series(1, 2000) g;")
LOAD = ("do $$ begin for i in 1..%d loop insert into t values (%d + i, 0, 'new'); update t set n = n + 1 where id = 1 + i "
    "%% 2000; delete from t where id = %d + i - 5;"
        " commit; perform pg_sleep(0.002); end loop; end $$")


def case_killed_under_load(t):
    """T179, T191: kill -9 at random moments and at the points around commit and acknowledgement, the local state
    gone each third time."""
    flow = Flow(t, "T179", TABLE, chunk_rows=1000)
    load = flow.server.session(flow.database)
    load.send(LOAD % (8000, 10000, 10000))
    dice = random.Random(179)
    points = ("commit.after_commit", "commit.after_ack", "jsonl.after_rename", "commit.before_commit", "merge.after_barrier",
        "log.after_segment")
    job = t.tailrace("run", *flow.job_words())
    flow.job = job
    for number in range(18):
        job.failpoints = "%s=kill@%d" % (points[number // 3 % len(points)], dice.randint(1, 3)) if number % 3 else None
        if number % 3 == 2:
            shutil.rmtree(job.state, ignore_errors=True)
        job.start()
        if job.failpoints:
            wait_until(lambda: not job.running() or not load.waiting(), 30, "the kill at " + job.failpoints)
            job.kill()
        else:
            seen = flow.written()
            wait_until(lambda: flow.written() > seen or not job.running(), 20, "a commit")
            job.kill()
    load.receive(120)
    flow.once("after 18 kills")
    flow.same("after 18 kills", "t")
    flow.label = flow.label.replace("T179", "T191")
    fired = job.failpoints_reached()[1]
    flow.check("killed between commit and acknowledgement", {"commit.after_commit", "jsonl.after_rename"} <= fired, fired)
    flow.check("each restart has a higher epoch", flow.folder.last_commit()["epoch"] >= 19, flow.folder.last_commit()["epoch"])


def case_server_crash(t):
    """T190: the server crashes after acknowledgements, with a transaction open since long: what was sent comes again
    and is filtered."""
    server = t.own_server()
    flow = Flow(t, "T190", TABLE, server=server)
    flow.run()
    old = server.session(flow.database)
    old.execute("begin; insert into t values (-1, 0, 'open for long')")
    for number in range(3):
        flow.sql("insert into t select %d + g, 0, 'x' from generate_series(1, 300) g; update t set n = n + 1 where id < 50" %
            (10000 * (number + 1)))
        flow.wait_written(2000 + 349 * (number + 1))
        server.restart("immediate")
    flow.sql("insert into t values (90000, 1, 'after')")
    flow.wait_rows("t", 2901)
    flow.finish("server crashed three times", "t")
    flow.equal("the open transaction left nothing", [l for l in flow.lines("t") if l["key"]["id"] == -1], [])
    server.kill()
    server.start()
    flow.sql("insert into t values (90001, 1, 'after kill')")
    flow.once("server killed while the job is down")
    flow.same("server killed", "t")


def case_slot_of_others(t):
    """T193: a slot that was dropped, or dropped and made again, is a hole in the log: refused, on every attempt."""
    flow = Flow(t, "T193", TABLE)
    flow.once("snapshot")
    flow.sql("insert into t values (5000, 0, 'while down'); select pg_drop_replication_slot('tailrace_%s')" % flow.name)
    for attempt in ("dropped", "dropped, second attempt"):
        result = flow.once(attempt, code=5)
        flow.check(attempt + " is named", "tailrace_" + flow.name in result.stderr and "cure:" in result.stderr, result.stderr)
    flow.sql("select pg_create_logical_replication_slot('tailrace_%s', 'pgoutput')" % flow.name)
    result = flow.once("made again by hand", code=5)
    flow.check("made again is named", "tailrace_" + flow.name in result.stderr and "cure:" in result.stderr, result.stderr)
    flow.equal("nothing was written", flow.written(), 2000)
    emptied = Flow(t, "T193", database=flow.database)
    emptied.once("another job")
    shutil.rmtree(emptied.folder.path)
    result = emptied.once("target emptied under the slot", code=5)
    emptied.check("target emptied is named", "slot" in result.stderr and "cure:" in result.stderr, result.stderr)
    t.equal(emptied.label + " drop", t.tailrace("drop", *emptied.job_words(), "--yes").run().code, 0)
    emptied.once("begins anew after drop")
    emptied.same("begins anew", "t")


def case_slot_lost(t):
    """T194: max_slot_wal_keep_size is exceeded while the job is down."""
    server = t.own_server({"max_slot_wal_keep_size": "16MB", "wal_keep_size": "0", "max_wal_size": "64MB", "min_wal_size":
        "32MB"})
    flow = Flow(t, "T194", TABLE, server=server)
    flow.once("snapshot")
    for _ in range(6):
        flow.sql("select pg_logical_emit_message(false, 'noise', repeat('x', 16000000)); select pg_switch_wal(); checkpoint")
    wait_until(lambda: flow.sql("checkpoint; select wal_status from pg_replication_slots")[-1] == ["lost"], 30,
        "the slot to be lost")
    result = flow.once("slot lost", code=5)
    flow.check("the cause is named", "max_slot_wal_keep_size" in result.stderr and "cure:" in result.stderr, result.stderr)
    plan = flow.plan()
    flow.check("plan does not say ready", plan.code != 0, plan.stdout + plan.stderr)


def case_other_history(t):
    """T196: a server restored to before the stored position, another server, another database: refused."""
    server = t.own_server()
    flow = Flow(t, "T196", TABLE, server=server)
    flow.once("snapshot")
    server.stop("fast")
    backup = os.path.join(temporary_folder(), "data")
    subprocess.run(["cp", "-a", server.data, backup], check=True)
    server.start()
    flow.sql("insert into t select g, 0, 'lost by the restore' from generate_series(10000, 13000) g; update t set n = 1")
    flow.once("goes on")
    flow.same("before the restore", "t")
    written = flow.written()
    server.stop("fast")
    shutil.rmtree(server.data)
    subprocess.run(["cp", "-a", backup, server.data], check=True)
    server.start()
    result = flow.once("restored to the past", code=5)
    flow.check("restored is named", "set back" in result.stderr or "history" in result.stderr or "log ends" in result.stderr,
        result.stderr)
    flow.equal("restored: nothing written", flow.written(), written)
    other = Flow(t, "T196", TABLE)
    other.folder, other.name = flow.folder, flow.name
    result = other.once("another server", code=5)
    other.check("another server is named", "server" in result.stderr, result.stderr)


def case_network(t):
    """T197: cuts, silence and refusals of the network, with and without TLS: the same position, no row twice."""
    server = t.own_server()
    authority = server.enable_tls()
    for keys in ({}, {"sslmode": "verify-full", "sslrootcert": authority}):
        flow = Flow(t, "T197 tls" if keys else "T197", TABLE, server=server, **keys)
        proxy = Proxy(server.port)
        flow.start(port=proxy.port)
        wait_until(lambda: proxy.bytes_to_client > 20000 or flow.folder.consistent() or not flow.job.running(), 30,
            "the first bytes")
        proxy.cut()
        flow.consistent()
        flow.check("lives after a cut in the snapshot", flow.job.running(), flow.job.stderr_text()[-600:])
        load = server.session(flow.database)
        load.send(LOAD % (600, 10000, 10000))
        for number in range(3):
            seen = flow.written()
            wait_until(lambda: flow.written() > seen or not flow.job.running(), 30, "rows after a cut")
            proxy.cut()
        proxy.refuse()
        proxy.cut()
        load.receive()
        flow.job.wait_log("rewind|retry|connect", 20)
        proxy.refuse(False)
        flow.sql("insert into t values (70000, 0, 'after the refusal')")
        wait_until(lambda: any(r["id"] == 70000 for r in flow.folder.rows("public.t")) or not flow.job.running(), 40,
            "the row after the refusal")
        proxy.hold()
        flow.sql("insert into t values (70001, 0, 'in the silence')")
        proxy.cut()
        proxy.go()
        flow.finish("through a bad network", "t")
        flow.check("it said so", "rewind" in flow.job.stderr_text(), flow.job.stderr_text()[-600:])


def error_message(severity, state, text):
    """An ErrorResponse of the protocol."""
    body = b"".join(b"%s%s\0" % (kind, value.encode()) for kind, value in ((b"S", severity), (b"V", severity), (b"C", state),
        (b"M", text))) + b"\0"
    return b"E" + (len(body) + 4).to_bytes(4, "big") + body


class HangsUp(Proxy):
    """Answers the start of the log with a fatal error in the server's place, and hangs up."""

    def _pump(self, source, sink, counts):
        try:
            while True:
                piece = source.recv(65536)
                if b"START_REPLICATION" in piece:
                    source.sendall(error_message("FATAL", "58P01", "requested WAL segment 0000 has already been removed"))
                    source.shutdown(socket.SHUT_RDWR)
                if not piece or b"START_REPLICATION" in piece:
                    break
                sink.sendall(piece)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def case_error_before_the_end(t):
    """What the server says before it hangs up counts, not that it hangs up."""
    flow = Flow(t, "T194", TABLE)
    flow.once("snapshot")
    proxy = HangsUp(t.server.port)
    result = flow.once("an error, then the end of the connection", code=5, port=proxy.port)
    flow.check("the error is named", "already been removed" in result.stderr and "cure:" in result.stderr, result.stderr)


def case_refused_sources(t):
    """T220: sources for which a bound is not proven, or that lack what is needed, are refused at the start."""
    server, label = t.own_server({"max_wal_senders": "10"}), "T220 %s " % pg(t)

    def refused(what, result, codes, word):
        t.check(label + what + " is refused",
                result.code in codes and word in result.stderr and "cure:" in result.stderr, result)

    server.create_database("shop", "create table t (id int primary key); insert into t values (1)")
    standby = server.standby({"hot_standby": "on"}).start()
    t.equal(label + "the standby is one", standby.value("select pg_is_in_recovery()"), "t")
    refused("a standby", t.once(standby.url("shop"), t.jsonl().sink), (1, 2, 3), "standby")
    standby.stop("fast")
    server.restart("fast", {"wal_level": "replica"})
    refused("wal_level=replica", t.once(server.url("shop"), t.jsonl().sink), (3,), "wal_level")
    server.restart("fast", {"wal_level": "logical"})
    server.sql("create role reader login; create role copier login replication")
    for role, what in (("reader", "REPLICATION"), ("copier", "t")):
        refused("role " + role, t.once(server.url("shop", user=role), t.jsonl().sink), (1, 3), what)
    t.equal(label + "nothing was made", server.sql("select slot_name from pg_replication_slots"), [])


def case_run_and_once(t):
    """`run` and `once` go on from each other's position, in whichever order, with local state and without."""
    flow = Flow(t, "restart", TABLE)
    state = t.temp()
    for number, (command, keep) in enumerate((("once", True), ("run", True), ("run", False), ("once", False), ("once", True),
        ("run", True))):
        flow.sql("insert into t values (%d, 0, 'x'); update t set n = n + 1 where id <= 3; delete from t where id = %d" % (
            5000 + number, 100 + number))
        job = t.tailrace(command, *flow.job_words(), state=state if keep else None).start()
        if command == "run":
            wait_until(lambda: any(r["id"] == 5000 + number for r in flow.folder.rows("public.t")) or not job.running(), 30,
                "the row of this round")
            job.interrupt()
        flow.equal("round %d %s" % (number, command), job.wait(40), 0)
        flow.same("round %d" % number, "t")
    unchanged = flow.written()
    for _ in range(3):
        flow.once("with nothing new")
    flow.equal("no row without a change", flow.written(), unchanged)
