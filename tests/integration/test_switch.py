"""Races between the snapshot of a chunk and the log, made deterministic: the process stands still at a failpoint while the
other side moves (catalogue, group F)."""

from flows import Flow
from harness import wait_until

FAST = False

CHUNKS = ("create table t (id int primary key, n int, body text); insert into t select g, 0, repeat('x', 100) from "
    "generate_series(1, 3000) g;")


def met(flow, steps):
    """windows(), and a check that the process stood still at every point."""
    flow.equal("the points were met", sorted(flow.windows(steps)), sorted(point for point, _nth, _act in steps))


def case_transaction_over_the_read(t):
    """T155: a transaction that writes before the snapshot and commits after the read."""
    flow = Flow(t, "T155", CHUNKS + "create table nokey (id int, body text); alter table nokey replica identity full; "
        "insert into nokey select g, 'a' from generate_series(1, 500) g",
                lanes=1, chunk_rows=1000)
    sessions = [flow.server.session(flow.database) for _ in range(3)]

    def write():
        for number, session in enumerate(sessions):
            session.execute("begin; insert into t values (%d, 1, 'over'); update t set n = n + 1 where id in (%d, %d); "
                "delete from t where id = %d;"
                            "insert into nokey values (%d, 'over'); delete from nokey where id = %d; update nokey set body "
                            "= 'u' where id = %d"
                            % (10000 + number, 1 + number, 2990 + number, 1500 + number, number, 100 + number, 200 + number))
    met(flow, [("job.after_slot", 1, write), ("lane.after_rows", 1, lambda: sessions[0].execute("commit")),
                          ("lane.before_end", 2, lambda: sessions[1].execute("commit")), ("lane.after_begin", 4, lambda:
                              sessions[2].execute("commit"))])
    flow.consistent()
    flow.finish("exactly once", "t", "nokey")


def case_moves_between_chunks(t):
    """T158: keys that move from an unread chunk to a read one and back during the reads."""
    flow = Flow(t, "T158", CHUNKS, lanes=1, chunk_rows=1000)
    met(flow, [("lane.after_begin", 1, "update t set id = -2500 where id = 2500; update t set id = 9500 where id = 500"),
                  ("lane.after_rows", 1, "update t set id = -2600 where id = 2600; update t set id = 9600 where id = 600"),
                  ("lane.before_end", 1, "update t set id = 2500 where id = -2500; update t set id = 500 where id = 9500"),
                  ("lane.after_begin", 2, "update t set id = -1500 where id = 1500; update t set id = 2600 where id = -2600"),
                  ("lane.before_end", 2, "update t set id = 1500 where id = -1500; update t set id = -1501 where id = 1501; "
                      "update t set id = 600 where id = 9600"),
                  ("lane.after_begin", 3, "update t set id = -id where id between 2700 and 2720; update t set id = -id "
                      "where id between -2720 and -2700"),
                  ("lane.before_end", 3, "update t set id = 1501 where id = -1501; update t set id = id + 100000 where id "
                      "between 1 and 10")])
    flow.consistent()
    flow.finish("moved and back", "t")
    flow.equal("3000 rows", len(flow.folder.rows("public.t")), 3000)


def case_one_key(t):
    """T160, T161: insert, delete, insert of one key, rows deleted and updated inside the window, a row updated 1000 times."""
    flow = Flow(t, "T160", CHUNKS + "alter table t replica identity full", lanes=1, chunk_rows=1000)
    thousand = "do $$ begin for i in 1..500 loop update t set n = n + 1 where id = 77; commit; end loop; end $$;"
    met(flow, [("lane.after_begin", 1, "insert into t values (0, 1, 'a'); delete from t where id = 0; insert into t values "
        "(0, 2, 'b'); delete from t where id = 5;"
                   "update t set n = 9 where id = 6; delete from t where id = 6;" + thousand),
                  ("lane.after_rows", 1, "delete from t where id = 0; insert into t values (0, 3, 'c'); delete from t where "
                      "id = 7; insert into t values (7, 7, 'again');"
                   "begin; update t set n = 1 where id = 8; delete from t where id = 8; insert into t values (8, 8, 'x'); "
                   "update t set n = 9 where id = 8; commit"),
                  ("lane.before_end", 1, "update t set body = 'late' where id in (0, 7, 8); delete from t where id = 9;" +
                      thousand),
                  ("merge.before_barrier", 2, "update t set body = body || '!' where id in (0, 7, 8); insert into t values "
                      "(9, 9, 'last')")])
    flow.consistent()
    flow.finish("one key", "t")
    flow.label = flow.label.replace("T160", "T161")
    flow.equal("final value", [r["n"] for r in flow.folder.rows("public.t") if r["id"] == 77], [1000])
    broken, last = [], None
    for line in flow.lines("t"):
        if line["key"]["id"] == 77:
            if line["op"] == "u" and line["before"] != last:
                broken.append((line["before"], last))
            last = line["after"]
    flow.equal("each before-image is the row as it was", broken[:2], [])


def case_composite_key(t):
    """T166: a composite key with a first column that never changes is cut into bounded chunks."""
    flow = Flow(t, "T166", "create table t (a int, b text collate \"C\", c uuid, n int, primary key (a, b, c));"
                "insert into t select 1, 'k' || g, md5(g::text)::uuid, 0 from generate_series(1, 12000) g; analyze t", lanes=2,
                    chunk_rows=1000)
    step = "update t set n = n + 1 where b in ('k%d', 'k7%d'); insert into t values (1, 'k', md5('n%d')::uuid, 0)"
    met(flow, [("lane.before_end", nth, step % (nth, nth, nth)) for nth in range(1, 9)])
    flow.consistent()
    flow.finish("one first column", "t")
    places = {line["source"]["lsn"] for line in flow.lines("t", "r")}
    flow.check("many chunks", len(places) >= 5, places)


def case_keys_of_all_kinds(t):
    """T167: keys whose order we can or cannot reproduce, while rows change in every window."""
    kinds = {"k_uuid": ("uuid", "md5(g::text)::uuid"), "k_icu": ("text collate \"und-x-icu\"",
        "case g % 3 when 0 then 'é' when 1 then 'e' else 'E' end || g"),
             "k_citext": ("citext", "case g % 2 when 0 then 'aB' else 'Ac' end || g"), "k_c": ("text collate \"C\"",
                 "chr(200 + g % 100) || g"),
             "k_default": ("text", "'d' || g"), "k_bytea": ("bytea", "decode(md5(g::text), 'hex')"), "k_bigint": ("bigint",
                 "g::bigint * 3000000000 - 4000000000000"),
             "k_small": ("smallint", "g - 1500"), "k_numeric": ("numeric", "g * 1.5 - 1000"), "k_date": ("date",
                 "date '2000-01-01' + g"), "k_bool": ("boolean, part int", "g % 2 = 0, g"),
             "k_char": ("char(8)", "'c' || lpad(g::text, 7, '0')"), "k_timestamptz": ("timestamptz",
                 "timestamptz '1970-01-01' + g * interval '1 hour'"), "k_oid": ("oid", "g::bigint * 1400000"),
             "k_enum": ("mood, part int", "(array['sad', 'ok', 'good'])[1 + g % 3]::mood, g"), "k_domain": ("whole", "g - 1500")}
    create = "create extension citext; create type mood as enum ('sad', 'ok', 'good'); create domain whole as int;"
    for name, (kind, value) in kinds.items():
        key = "k, part" if "part" in kind else "k"
        create += ("create table %s (k %s, n int, primary key (%s));"
                   " insert into %s select %s, g from generate_series(1, 2200) g;" % (name, kind, key, name, value))
    flow = Flow(t, "T167", create, lanes=2, chunk_rows=1000)
    change = "".join("update %s set n = n + 10000 where n %% 97 = %%d; delete from %s where n %% 101 = %%d; insert into %s "
        "select %s, -1 from generate_series(2200 + %%d, 2203 + %%d) g;"
                     % (name, name, name, value.replace("%", "%%")) for name, (_kind, value) in kinds.items())

    def act(number):
        return change.replace("%%", "%").replace("%d", "{}").format(*[n for _ in kinds for n in (number, number, number * 10,
            number * 10)])
    met(flow, [("lane.after_rows", 3, act(1)), ("lane.before_end", 4, act(2)), ("lane.after_begin", 7, act(3)), (
        "lane.after_view", 12, act(4)), ("lane.after_rows", 20, act(5))])
    flow.consistent()
    flow.finish("all kinds of keys", *kinds)


def case_keyless(t):
    """T169, T170: tables without a key, with equal rows, and rows that move between pages while pieces of them are read."""
    flow = Flow(t, "T169", "create table dup (a int, b text); alter table dup replica identity full; insert into dup select "
        "g % 7, 'x' from generate_series(1, 700) g;"
                "create table pages (id int, pad text) with (fillfactor = 50); alter table pages replica identity full;"
                "insert into pages select g, repeat('p', 400) from generate_series(1, 20000) g;"
                "create table collated (id text collate \"und-x-icu\" primary key, pad text); insert into collated select "
                "'k' || g, repeat('p', 400) from generate_series(1, 20000) g; analyze",
                lanes=2, chunk_rows=1000)
    move = ("update pages set pad = repeat('q', %d) where id %% 50 = %d; delete from pages where id %% 331 = %d; insert "
        "into pages select g, 'new' from generate_series(1, 9) g;"
            "update collated set pad = repeat('q', %d) where right(id, 1) = '%d'; update dup set b = 'y' where ctid in "
            "(select ctid from dup where a = %d limit 3);"
            "delete from dup where ctid = (select min(ctid) from dup where a = 2); insert into dup values (3, 'x')")
    steps = [("lane.after_begin", 2), ("lane.after_begin", 3), ("lane.after_view", 3), ("lane.after_rows", 2), (
        "lane.after_rows", 6), ("lane.before_piece_end", 2),
             ("lane.before_piece_end", 5), ("lane.after_join", 1)]
    met(flow, [(point, nth, move % (300 + 100 * i, i, i, 200 + 50 * i, i, i % 7)) for i, (point, nth) in enumerate(steps)])
    flow.consistent()
    flow.stop()
    flow.once("catches up")
    flow.same("equal rows", "dup")
    flow.label = flow.label.replace("T169", "T170")
    flow.same("rows move between pages", "pages", "collated")


def case_new_table(t):
    """T172: a table that is created and written while the job streams is read in full, and exactly once."""
    flow = Flow(t, "T172", "create table first (id int primary key); insert into first values (1)")
    flow.run()
    session = flow.server.session(flow.database)
    session.execute("begin; create table second (id int primary key, body text); insert into second select g, 'in the "
        "transaction' from generate_series(1, 100) g; commit;"
                    "insert into second values (101, 'after')")
    session.execute("begin; insert into second values (102, 'open for long'); update second set body = 'u' where id = 1")
    flow.sql("insert into first values (2)")
    wait_until(lambda: flow.sql("select 1 from pg_publication_tables where tablename = 'second'") or not flow.job.running(),
        60, "the new table to be published")
    session.execute("insert into second values (103, 'later'); commit; insert into second values (104, 'last')")
    flow.wait_rows("second", 104, 60)
    flow.finish("complete", "first", "second")


def case_killed_at_each_step(t):
    """T173: killed at each step of a chunk, between changes; a restart with its local state, without it, as `run`
    and as `once`."""
    points = ("job.after_slot", "job.after_recover", "job.after_start", "job.after_capture", "lane.after_begin",
        "lane.after_view", "lane.after_rows", "lane.before_end",
              "lane.after_join", "lane.before_piece_end", "merge.before_barrier", "merge.after_barrier", "writer.before_seal",
                  "writer.after_seal", "commit.before_commit",
              "commit.before_apply_schema", "commit.after_commit", "commit.after_ack", "jsonl.before_rename",
                  "jsonl.after_rename", "jsonl.after_claim", "jsonl.after_schema")
    create = (CHUNKS + "create table nokey (id int, body text); alter table nokey replica identity full; insert into nokey "
        "select g % 9, repeat('a', 300) from generate_series(1, 4000) g")
    flow = Flow(t, "T173", create)
    for number, point in enumerate(points):
        one = Flow(t, "T173", database=flow.database, lanes=2, chunk_rows=1000)
        second = number % 2 == 1 and point.startswith(("lane.after_begin", "lane.after_view", "lane.after_rows",
            "lane.before_end", "commit.", "writer."))
        job = one.start(failpoints=point + "=kill@%d" % (2 if second else 1))
        one.sql("update t set n = n + 1 where id %% 100 = %d; delete from t where id = %d; insert into t values (%d, 0, "
            "'new'); update nokey set body = body || 'b' where id = %d;"
                "insert into nokey values (1, 'c')" % (number, 2000 + number, 4000 + number, number % 9))
        wait_until(lambda: not job.running() or one.folder.consistent(), 60, "the end at " + point)
        hit = not job.running()
        if not hit:
            job.kill()
        one.sql("update t set n = n + 1 where id %% 90 = %d; delete from nokey where ctid = (select min(ctid) from nokey)" %
            number)
        one.once("after a kill at %s%s" % (point, "" if hit else " (later)"))
        one.same(point, "t", "nokey")
        t.tailrace("drop", *one.job_words(), "--yes").run()


def case_truncate(t):
    """T175: TRUNCATE between two chunks and inside a read."""
    flow = Flow(t, "T175", CHUNKS + "create table u (id int primary key); insert into u select g from generate_series(1, 3000) g;"
                "create table nokey (id int); alter table nokey replica identity full; insert into nokey select g from "
                "generate_series(1, 3000) g",
                    lanes=1, chunk_rows=1000)
    other = flow.server.session(flow.database)

    def blocked_truncate():
        other.send("truncate u; insert into u values (5), (6)")  # waits for the lane's lock
    met(flow, [("lane.before_end", 1, lambda: other.send("truncate t; insert into t values (1, 1, 'new')")), (
        "lane.before_end", 2, "insert into u values (-1)")])
    other.receive()
    flow.consistent()
    flow.wait_rows("t", 1)
    blocked_truncate()
    other.receive()
    flow.sql("begin; truncate nokey; insert into nokey values (1), (1); commit; begin; insert into nokey values (2); "
        "truncate nokey; rollback")
    flow.finish("truncated", "t", "u", "nokey")


def case_view_lost(t):
    """T176: the session that reads is ended, the server restarts, in the middle of a chunk: read again under a new snapshot."""
    server = t.own_server()
    flow = Flow(t, "T176", CHUNKS + "create table nokey (id int, body text); alter table nokey replica identity full;"
                "insert into nokey select g % 9, repeat('p', 300) from generate_series(1, 9000) g", server=server, lanes=2,
                    chunk_rows=1000)

    def end_lanes():
        server.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'tailrace:%:lane'; "
            "update t set n = 1 where id < 50;"
                   "update nokey set body = 'u' where id = 3; delete from t where id = 60", flow.database)

    def restart():
        server.restart("immediate")
        server.sql("update t set n = 2 where id < 30; insert into nokey values (1, 'x'); delete from t where id = 61", flow.
            database)
    met(flow, [("lane.after_begin", 1, end_lanes), ("lane.after_rows", 2, end_lanes), ("lane.before_end", 2, restart), (
        "lane.before_piece_end", 1, end_lanes)])
    flow.consistent()
    flow.finish("view lost", "t", "nokey")
    flow.check("it said so", "rewind" in flow.job.stderr_text() or "retry" in flow.job.stderr_text(), flow.job.stderr_text()[-
        900:])
