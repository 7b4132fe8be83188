"""Two instances of one job with two state folders: who runs, who waits, who ends, and that no row is lost or doubled."""

from flows import Flow
from harness import wait_until

FAST = False

SERVER = {"settings": {"wal_sender_timeout": "3s"}}
TABLE = "create table t (id int primary key, n int not null); insert into t select g, 0 from generate_series(1, 1000) g;"
LOAD = ("do $$ begin for i in 1..%d loop insert into t values (%d + i, 0); update t set n = n + 1 where id = 1 + i %% 1000; "
    "commit; perform pg_sleep(0.002); end loop; end $$")


def case_live_instance(t):
    """A newcomer never fences a healthy instance: same state folder, other state folder, `once` beside `run`."""
    flow = Flow(t, "fencing", TABLE)
    flow.run()
    same = t.tailrace("run", *flow.job_words(), state=flow.job.state).run(40)
    flow.equal("same state folder", same.code, 4)
    flow.check("same state folder says why", "another instance" in same.stderr or "running" in same.stderr, same.stderr)
    other = t.tailrace("once", *flow.job_words()).run(60)
    flow.equal("other state folder", other.code, 4)
    flow.check("other state folder says why", "slot" in other.stderr and "cure:" in other.stderr, other.stderr)
    flow.sql("insert into t values (5000, 1)")
    flow.wait_rows("t", 1001)
    flow.check("the healthy one was not fenced", flow.job.running() and flow.folder.last_commit()["epoch"] == 1, flow.folder.
        last_commit())
    flow.finish("live", "t")


def takes_over(t, flow, older, load):
    """The older stands still; a newer one with a state folder of its own takes over; the older goes on and must end with 4."""
    newer = t.tailrace("run", *flow.job_words()).start()
    newer.wait_log("job started", 40)
    wait_until(lambda: flow.folder.last_commit()["rows"] > 0 and flow.folder.last_commit()["epoch"] > 1 or not newer.running(),
        40, "a commit of the newer instance")
    flow.check("the newer has a higher epoch", flow.folder.last_commit()["epoch"] >= 2, flow.folder.last_commit())
    older.resume()
    flow.equal("the older ends with 4", older.wait(60), 4)
    flow.check("the older says why", "tailrace: %s:" % flow.name in older.stderr_text() and "cure:" in older.stderr_text(),
        older.stderr_text()[-800:])
    load.receive(120)
    flow.equal("the newer stops", newer.terminate(), 0)
    flow.once("catches up")
    flow.same("taken over", "t")
    epochs = [commit["epoch"] for commit in flow.folder.commits()]
    flow.equal("epochs never go back", epochs, sorted(epochs))


def case_stopped_while_streaming(t):
    flow = Flow(t, "fencing stopped in the stream", TABLE)
    flow.run()
    load = flow.server.session(flow.database)
    load.send(LOAD % (1500, 10000))
    flow.wait_written(1300)
    flow.job.pause()
    takes_over(t, flow, flow.job, load)


def case_stopped_at_points(t):
    """Stopped at the worst places: before and after the rename, after the commit, while a part is staged."""
    for point in ("jsonl.before_rename", "jsonl.after_rename"):
        flow = Flow(t, "fencing stopped at " + point, TABLE)
        load = flow.server.session(flow.database)
        flow.run()
        flow.equal("first life", flow.job.terminate(), 0)
        flow.job.failpoints = point + "=stop@3"
        flow.job.start()
        load.send(LOAD % (700, 10000))
        wait_until(flow.job.is_stopped, 40, "the stop at " + point)
        takes_over(t, flow, flow.job, load)


def case_stopped_in_snapshot(t):
    """The older stands still in the middle of the snapshot."""
    flow = Flow(t, "fencing stopped in the snapshot", TABLE + "insert into t select g, 0 from generate_series(20000, 24000) g",
        chunk_rows=1000, lanes=1)
    flow.start(failpoints="lane.after_rows=stop@3")
    wait_until(flow.job.is_stopped, 40, "the stop in the snapshot")
    load = flow.server.session(flow.database)
    load.send(LOAD % (1000, 50000))
    takes_over(t, flow, flow.job, load)
