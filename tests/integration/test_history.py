"""Servers that were set back, or copies that took over, grown past the position (catalogue T196)."""

import os
import shutil
import subprocess

from flows import Flow
from harness import temporary_folder, wait_until

TABLE = ("create table t (id int primary key, n int not null, body text);"
    " insert into t select g, 0, 'a' from generate_series(1, 2000) g;")
MORE = "insert into t select g, 0, 'more' from generate_series(%d, %d) g"


def copy_of(server):
    """The data folder of a server, which is stopped and started for it."""
    server.stop("fast")
    backup = os.path.join(temporary_folder(), "data")
    subprocess.run(["cp", "-a", server.data, backup], check=True)
    server.start()
    return backup


def put_back(server, backup, archive):
    """The copy in place of the data. `archive`: recovered as from an archive, which begins a new timeline."""
    server.stop("fast")
    if backup:
        shutil.rmtree(server.data)
        subprocess.run(["cp", "-a", backup, server.data], check=True)
    if archive:
        path = os.path.join(server.data, "recovery.signal")
        with open(path, "w", encoding="ascii"):
            pass
        shutil.chown(path, os.stat(server.data).st_uid, os.stat(server.data).st_gid)
    server.start({"restore_command": "false"})
    wait_until(lambda: server.value("select pg_is_in_recovery()") == "f", 30, "the end of recovery")


def case_timelines(t):
    """T196: a server restored to before the position that has grown past it: another timeline; the same timeline twice. One
    that left its timeline above the position goes on."""
    server = t.own_server()
    flow = Flow(t, "T196 timeline", TABLE, server=server)
    flow.once("snapshot")
    backup = copy_of(server)
    flow.sql(MORE % (10000, 11000))
    flow.once("goes on")
    put_back(server, None, archive=True)
    flow.sql(MORE % (20000, 20100))
    flow.once("promoted with all it had")
    flow.equal("the timeline is stored", flow.folder.position()["source"]["timeline"], 2)
    flow.same("promoted with all it had", "t")
    flow.once("again on its timeline")
    written = flow.written()
    put_back(server, backup, archive=False)
    flow.sql(MORE % (30000, 45000))
    result = flow.once("the timeline before", code=5)
    flow.check("the timeline before is named", "timeline 2" in result.stderr and "cure:" in result.stderr, result.stderr)
    put_back(server, backup, archive=True)
    flow.sql(MORE % (30000, 45000))
    result = flow.once("a second timeline 2", code=5)
    flow.check("a second timeline 2 is named", "began at" in result.stderr, result.stderr)
    flow.equal("nothing written", flow.written(), written)

    below = Flow(t, "T196 timeline", TABLE, server=server)
    below.once("snapshot")
    backup = copy_of(server)
    below.sql(MORE % (10000, 11000))
    below.once("goes on")
    put_back(server, backup, archive=True)
    below.sql(MORE % (30000, 45000))
    result = below.once("left its timeline below", code=5)
    below.check("left its timeline below is named", "left that timeline" in result.stderr, result.stderr)


def case_same_timeline(t):
    """T196: a copy of before the last start, started on the same timeline, that has grown past the position."""
    server = t.own_server()
    flow = Flow(t, "T196 same timeline", TABLE, server=server)
    flow.once("snapshot")
    backup = copy_of(server)
    kept = "select restart_lsn from pg_replication_slots"
    before = server.value(kept)
    for at in (10000, 12000, 14000):  # the last one stores what the others moved
        flow.sql("checkpoint; " + MORE % (at, at + 1000))
        flow.once("goes on at %d" % at)
        stored = flow.folder.position()["source"]["kept"]
    flow.check("the slot has moved", server.value("select '%s'::pg_lsn > '%s'" % (stored, before)) == "t", (before, stored))
    put_back(server, backup, archive=False)
    flow.sql(MORE % (30000, 60000))
    result = flow.once("set back", code=5)
    flow.check("set back is named", "keeps the log from" in result.stderr and "cure:" in result.stderr, result.stderr)
