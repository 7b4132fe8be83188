"""Bad input, as one table: what is wrong, the exit code, the stable code, the cure. Each entry brings about its own trouble
and afterwards, where a job existed, the trouble is ended and the job must lose nothing: it catches up, the rebuilt table
equals the server's, and nothing came twice."""

import ctypes
import json
import os
import re
import shutil
import socket
import threading

from harness import processes, wait_until
from harness.jsonl import JsonlFolder

TABLE = ("create table orders (id int primary key, body text);"
         "insert into orders select g, 'row ' || g from generate_series(1, 200) g")
CANARY = "c4nary-s3cret"


class World:
    """A database with a table, a folder, and the line between them."""

    def __init__(self, t, server=None, job=True, folder=None):
        self.t = t
        self.server = server or t.server
        self.database = t.database(TABLE, server=self.server)
        self.folder = folder or t.jsonl()
        self.state = os.path.join(t.temp(), "state")
        self.next_id = 1000
        if job:  # one that has already delivered something
            result = self.once()
            t.require("%s: the job worked before" % t.case_name[5:], result.code == 0, result)

    def tailrace(self, command, *options, source=None, prefix=(), **keys):
        keys.setdefault("state", self.state)
        source = source or self.server.url(self.database)
        return self.t.tailrace(command, source, self.folder.sink, *options, prefix=prefix, **keys)

    def once(self, **keys):
        return self.tailrace("once", "--log", "json", **keys).run(60)

    def insert(self, count=10, size=10):
        self.server.sql("insert into orders select g, repeat('x', %d) from generate_series(%d, %d) g"
                        % (size, self.next_id, self.next_id + count - 1), self.database)
        self.next_id += count

    def slot(self):
        return "tailrace_" + self.database + "_jsonl"


def errors(text):
    """The errors of a JSON log, in order."""
    found = []
    for line in text.splitlines():
        if line.startswith("{"):
            entry = json.loads(line)
            if entry["level"] == "error":
                found.append(entry)
    return found


def nothing_lost(world, name):
    """The job goes on, and its target is exact."""
    t = world.t
    world.insert()
    result = world.once()
    t.equal("%s: goes on afterwards" % name, result.code, 0)
    t.same_table("%s: nothing is lost" % name, world.folder, "public.orders", world.database, server=world.server)
    t.equal("%s: nothing came twice" % name, world.folder.state().problems, [])


# ---- the troubles: each returns (Result, world of a job that must go on, or None) -------------------------------------------

def wrong_password(t):
    server = t.own_server(auth="scram-sha-256")
    world = World(t, server)
    world.insert()
    result = world.once(source=server.url(world.database, password=CANARY))
    t.check("wrong_password: the password is not shown", CANARY not in result.stderr + result.stdout, result)
    return result, world


def missing_grant(t):
    world = World(t, job=False)
    world.server.sql("drop role if exists reader_bad; create role reader_bad login replication")
    world.server.sql("grant create on database \"%s\" to reader_bad" % world.database)

    def drop():
        world.server.sql("drop owned by reader_bad", world.database)
        world.server.sql("drop role reader_bad")
    processes.current_scope().add(drop)
    result = world.once(source=world.server.url(world.database, user="reader_bad"))
    t.equal("missing_grant: nothing was written", world.folder.files(), [])
    return result, None


def missing_grant_plan(t):
    world = World(t, job=False)
    world.server.sql("create role reader_plan login")
    processes.current_scope().add(lambda: world.server.sql("drop role reader_plan"))
    plan = world.tailrace("plan", "--json", source=world.server.url(world.database, user="reader_plan")).run()
    answer = json.loads(plan.stdout)
    cures = "\n".join(finding["cure"] for finding in answer["findings"])
    t.check("missing_grant_plan: plan is not ready", answer["ready"] is False)
    t.check("missing_grant_plan: REPLICATION to paste", "ALTER ROLE reader_plan REPLICATION" in cures, cures)
    t.check("missing_grant_plan: GRANT to paste", "GRANT SELECT ON public.orders TO reader_plan" in cures, cures)
    t.equal("missing_grant_plan: no slot was made",
            world.server.value("select count(*) from pg_replication_slots where database = '%s'" % world.database), "0")
    t.check("missing_grant_plan: no state was made", not os.path.exists(world.state))
    t.check("missing_grant_plan: no folder was made", not os.path.exists(world.folder.path))
    return plan, None


def wal_level_replica(t):
    server = t.own_server(settings={"wal_level": "replica"})
    world = World(t, server, job=False)
    result = world.once()
    server.restart(settings={"wal_level": "logical"})  # the cure, as it was said
    return result, world


def unknown_table(t):
    world = World(t, job=False)
    path = os.path.join(t.temp(), "shop.sync")
    with open(path, "w", encoding="utf-8") as file:
        file.write("%s -> %s\npublic.ordres: skip\n" % (world.server.url(world.database), world.folder.sink))
    plan = t.tailrace("plan", path, "--json", state=world.state).run()
    t.equal("unknown_table: plan warns", json.loads(plan.stdout)["warnings"],
            [{"rule": "public.ordres", "line": 2, "what": "matches no table"}])
    result = t.tailrace("once", path, "--log", "json", state=world.state).run()
    said = [json.loads(line) for line in result.stderr.splitlines() if "rule_unmatched" in line]
    t.check("unknown_table: the run warns", said and "public.ordres" in said[0]["msg"], result)
    t.same_table("unknown_table: nothing else was left out", world.folder, "public.orders", world.database)
    return result, None


SEVEN = """# a job with seven mistakes
postgres://u:{canary}@127.0.0.1/d?lane=2&snapshot=sometimes -> jsonl:///nowhere
audit.*: skpi
*.email: hash
orders: key=(id
public.orders skip
caf\u00e9: append=1
"""
SEVEN_LINE = SEVEN.format(canary=CANARY).splitlines()[1]
SEVEN_WANTED = [("2:%d" % (SEVEN_LINE.index("lane=") + 1), "option_unknown", "lanes"),
                ("2:%d" % (SEVEN_LINE.index("sometimes") + 1), "option_value", "first, never"),
                ("3:10", "action_unknown", "skip"), ("4:10", "not_built", "hash"), ("5:13", "parenthesis_open", "not closed"),
                ("6:15", "rule", "PATTERN: ACTION"), ("7:7", "action_value", "no value")]


def seven_mistakes(t):
    path = os.path.join(t.temp(), "shop.sync")
    with open(path, "w", encoding="utf-8") as file:
        file.write(SEVEN.format(canary=CANARY))
    result = t.tailrace("once", path, "--log", "json").run()
    found = errors(result.stderr)
    t.equal("seven_mistakes: all are said", [e["code"] for e in found], [code for _place, code, _word in SEVEN_WANTED])
    for entry, (place, code, word) in zip(found, SEVEN_WANTED):
        said = entry["msg"] + " " + entry.get("cure", "")
        where = re.match(r".*shop\.sync:(\d+:\d+): ", entry["msg"])
        t.check("seven_mistakes: %s has its place and what was meant" % code,
                where and where.group(1) == place and word in said, said)
    t.check("seven_mistakes: the secret is not shown", CANARY not in result.stderr + result.stdout, result)
    return result, None


def mounted(t, options):
    """A tmpfs with these options, or None where it cannot be made. Unmounted with the case."""
    if os.geteuid() != 0:
        return None
    folder = t.temp()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", folder.encode(), b"tmpfs", 0, options.encode()) != 0:
        return None
    processes.current_scope().add(lambda: libc.umount2(folder.encode(), 2))
    return folder


def full_disk(t):
    """The disk fills up while the job runs: it waits and says so; with room again it goes on by itself."""
    folder = mounted(t, "size=1m")
    if folder is None:
        t.skip("full_disk", "no small file system can be mounted here")
        return None, None
    world = World(t, folder=JsonlFolder(os.path.join(folder, "out")))
    job = world.tailrace("run", "--log", "json").start()
    job.wait_log("\"started\"")
    world.insert(40, 100000)
    job.wait_log("disk_full", 60)
    files = len(world.folder.files())
    t.check("full_disk: the job is still there", job.running(), job.last_stderr())
    libc = ctypes.CDLL(None, use_errno=True)
    remounted = libc.mount(b"tmpfs", folder.encode(), b"tmpfs", 32, b"size=64m")  # MS_REMOUNT
    t.require("full_disk: room was made", remounted == 0, os.strerror(ctypes.get_errno()))
    wait_until(lambda: len(world.folder.files()) > files and world.folder.state().table("public.orders").count() == 240, 60,
               "the rows that had no room")
    job.terminate()
    return job.result(), world


def read_only_folder(t):
    """The folder's owner is somebody else."""
    user = processes.server_user()
    world = World(t, job=False)
    parent = t.temp()
    os.chmod(parent, 0o555)
    world.folder = JsonlFolder(os.path.join(parent, "out"))
    state = t.temp()
    if user:
        os.chown(state, user[1], user[2])
    job = world.tailrace("once", "--log", "json", state=state, prefix=processes.as_user(user),
                         env={"TAILRACE_FAILPOINTS_LOG": os.path.join(state, "failpoints.log")})
    result = job.run()
    plan = world.tailrace("plan", state=state, prefix=processes.as_user(user)).run()
    t.check("read_only_folder: plan is not ready", plan.code == 3 and "not ready" in plan.stdout and parent in plan.stdout, plan)
    t.equal("read_only_folder: no slot was made",
            world.server.value("select count(*) from pg_replication_slots where database = '%s'" % world.database), "0")
    os.chmod(parent, 0o755)
    return result, world


def slot_dropped(t):
    world = World(t)
    world.server.sql("select pg_drop_replication_slot('%s')" % world.slot())
    world.insert()
    files = world.folder.files()
    result = world.once()
    t.equal("slot_dropped: the target was left alone", world.folder.files(), files)
    return result, None


def slot_dropped_plan(t):
    """plan says what a start would: it looks at the slot as a start does, and creates nothing."""
    world = World(t)
    world.server.sql("select pg_drop_replication_slot('%s')" % world.slot())
    plan = world.tailrace("plan", "--log", "json").run()
    t.check("slot_dropped_plan: it does not say ready", "not ready" in plan.stdout, plan.stdout)
    t.equal("slot_dropped_plan: no slot was made",
            world.server.value("select count(*) from pg_replication_slots where slot_name = '%s'" % world.slot()), "0")
    return plan, None


def slot_recreated(t):
    world = World(t)
    world.server.sql("select pg_drop_replication_slot('%s')" % world.slot())
    world.insert()
    world.server.sql("select pg_create_logical_replication_slot('%s', 'pgoutput')" % world.slot(), world.database)
    files = world.folder.files()
    result = world.once()
    t.equal("slot_recreated: the target was left alone", world.folder.files(), files)
    return result, None


def server_restarted(t):
    """In the middle of a run: it goes on by itself."""
    server = t.own_server()
    world = World(t, server)
    job = world.tailrace("run", "--log", "json").start()
    job.wait_log("\"started\"")
    world.insert()
    server.restart("immediate")
    world.insert()
    wait_until(lambda: world.folder.state().table("public.orders").count() == 220, 60, "the rows of before and after")
    t.equal("server_restarted: stops cleanly", job.terminate(), 0)
    return job.result(), world


def same_state_twice(t):
    world = World(t)
    first = world.tailrace("run").start()
    first.wait_log(" started ")
    result = world.once()
    world.insert()
    wait_until(lambda: world.folder.state().table("public.orders").count() == 210, 30, "the first instance to go on")
    t.equal("same_state_twice: the first goes on", first.terminate(), 0)
    return result, world


def other_state_twice(t):
    world = World(t)
    first = world.tailrace("run").start()
    first.wait_log(" started ")
    result = world.once(state=os.path.join(t.temp(), "other"))
    world.insert()
    wait_until(lambda: world.folder.state().table("public.orders").count() == 210, 30, "the first instance to go on")
    t.equal("other_state_twice: the first goes on", first.terminate(), 0)
    return result, world


def peeked_before_a_commit(t):
    """A second instance has seen the target's position; before it asks for the slot the first one commits."""
    world = World(t)
    first = world.tailrace("run").start()
    first.wait_log(" started ")
    second = world.tailrace("once", "--log", "json", state=os.path.join(t.temp(), "other"),
                            failpoints="job.after_peek=stop").start()
    wait_until(second.is_stopped, 30, "the second instance to have peeked")
    before = world.server.value("select confirmed_flush_lsn from pg_replication_slots where slot_name = '%s'" % world.slot())
    world.insert()
    moved = "select confirmed_flush_lsn > '%s' from pg_replication_slots where slot_name = '%s'" % (before, world.slot())
    wait_until(lambda: world.server.value(moved) == "t", 30, "the first instance to move the slot on")
    second.resume()
    result = second.result(60)
    t.equal("peeked_before_a_commit: the first goes on", first.terminate(), 0)
    return result, world


def corrupted_state(t):
    world = World(t)
    world.insert()
    home = os.path.join(world.state, os.listdir(world.state)[0])
    for name in ("lock", "cache", "spill/0000000000000001.spool", "spill/rubbish"):
        path = os.path.join(home, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(os.urandom(5000))
    return world.once(), world


def state_is_a_file(t):
    world = World(t)
    shutil.rmtree(world.state)
    with open(world.state, "w", encoding="ascii") as file:
        file.write("no folder")
    result = world.once()
    os.unlink(world.state)
    return result, world


def garbage_server(t):
    """Something on the port that is no PostgreSQL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                client, _address = listener.accept()
            except OSError:
                return
            with client:
                try:
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                    client.recv(4096)
                except OSError:
                    pass
    threading.Thread(target=serve, daemon=True).start()
    processes.current_scope().add(listener.close)
    world = World(t)
    port = listener.getsockname()[1]
    result = world.once(source="postgres://postgres@127.0.0.1:%d/%s" % (port, world.database))
    return result, world


def silent_server(t):
    """It accepts and says nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    processes.current_scope().add(listener.close)
    source = "postgres://postgres@127.0.0.1:%d/d" % listener.getsockname()[1]
    return t.tailrace("plan", source, "discard:", "--log", "json").run(60), None


def closed_port(t):
    return t.tailrace("plan", "postgres://127.0.0.1:1/d", "discard:", "--log", "json").run(60), None


def unknown_host(t):
    return t.tailrace("plan", "postgres://no-such-host.invalid/d", "discard:", "--log", "json").run(60), None


def tls_wanted(t):
    return t.tailrace("plan", t.server.url("postgres", sslmode="require"), "discard:", "--log", "json").run(), None


def put_in_value_refused(t):
    """By the client library, which quotes it."""
    result = t.tailrace("plan", "postgres://h/d?sslmode=${env:X}", "discard:", "--log", "json", env={"X": CANARY}).run()
    t.check("put_in_value_refused: names the variable", "${env:X}" in result.stderr and CANARY not in result.stderr, result)
    return result, None


def password_with_ampersand(t):
    result = t.tailrace("plan", "postgres://h/d?password=x&%s" % CANARY, "discard:", "--log", "json").run()
    t.check("password_with_ampersand: it is not shown", CANARY not in result.stderr, result)
    return result, None


def empty_file(t):
    path = os.path.join(t.temp(), "empty.sync")
    with open(path, "w", encoding="ascii"):
        pass
    return t.tailrace("once", path, "--log", "json").run(), None


def job_is_an_empty_folder(t):
    return t.tailrace("once", t.temp(), "--log", "json").run(), None


def unknown_command(t):
    return t.tailrace("onec", "--log", "json").run(), None


def not_built_command(t):
    return t.tailrace("verify", "shop.sync", "--log", "json").run(), None


def unquoted_arrow(t):
    result = t.tailrace("run", "postgres://u:%s@127.0.0.1/d" % CANARY, "-", "--log", "json").run()
    t.check("unquoted_arrow: the secret is not shown", CANARY not in result.stderr + result.stdout, result)
    return result, None


def missing_file(t):
    return t.tailrace("run", "no-such.sync", "--log", "json").run(), None


def other_sink(t):
    return t.tailrace("once", "postgres://127.0.0.1/d -> delta://lake/d", "--log", "json").run(), None


def missing_database(t):
    return t.once(t.server.url("no_such_database"), t.jsonl().sink, "--log", "json"), None


def drop_without_yes(t):
    world = World(t)
    result = world.tailrace("drop", "--log", "json").run()
    t.check("drop_without_yes: says what it would do", "pg_drop_replication_slot('%s')" % world.slot() in result.stdout, result)
    return result, world


# what is wrong: exit code, stable code (None: no error), part of the cure
BAD_INPUT = [
    (wrong_password, 1, "login_refused", "password"),
    (missing_grant, 3, "preflight", "GRANT SELECT ON public.orders TO reader_bad"),
    (missing_grant_plan, 3, None, None),
    (wal_level_replica, 3, "preflight", "wal_level = 'logical'"),
    (unknown_table, 0, None, None),
    (seven_mistakes, 2, "option_unknown", "lanes"),
    (full_disk, 0, None, None),
    (read_only_folder, 3, "preflight", "namei -l"),
    (slot_dropped, 5, "slot_lost", "tailrace drop"),
    (slot_dropped_plan, 5, "slot_lost", "tailrace drop"),
    (slot_recreated, 5, "slot_ahead", "tailrace drop"),
    (server_restarted, 0, None, None),
    (same_state_twice, 4, "instance_running", "stop the other instance"),
    (other_state_twice, 4, "slot_in_use", "stop the other instance"),
    (peeked_before_a_commit, 4, "slot_in_use", "stop the other instance"),
    (corrupted_state, 0, None, None),
    (state_is_a_file, 1, "file_error", "a folder is needed there"),
    (garbage_server, 1, "not_postgres", "host and port"),
    (silent_server, 1, "connect_failed", "firewall"),
    (closed_port, 1, "connect_failed", "host and port"),
    (unknown_host, 1, "connect_failed", "host and port"),
    (tls_wanted, 1, "tls_failed", "ssl = on"),
    (put_in_value_refused, 2, "option_value", None),
    (password_with_ampersand, 2, "option_form", "%26"),
    (empty_file, 2, "job_line", "SOURCE -> SINK"),
    (job_is_an_empty_folder, 2, "job_missing", None),
    (unknown_command, 2, "command_unknown", "tailrace help"),
    (not_built_command, 2, "not_built", "tailrace help"),
    (unquoted_arrow, 2, "arrow_unquoted", "tailrace run 'postgres://u:${env:PASSWORD}@127.0.0.1/d -> SINK'"),
    (missing_file, 2, "job_missing", "SOURCE -> SINK"),
    (other_sink, 2, "not_built", "jsonl, stdout, discard"),
    (missing_database, 1, "database_missing", "psql -l"),
    (drop_without_yes, 2, "yes_missing", "--yes"),
]


def make_case(trouble, code, stable, cure):
    name = trouble.__name__

    def case(t):
        result, world = trouble(t)
        if result is None:
            return
        t.equal("%s: exit code" % name, result.code, code)
        found = errors(result.stderr)
        if stable:
            t.check("%s: code %s" % (name, stable), found and found[0]["code"] == stable, result)
        elif code == 0:
            t.equal("%s: no error" % name, found, [])
        if cure:
            t.check("%s: cure" % name, any(cure in entry.get("cure", "") for entry in found), result)
        if world:
            nothing_lost(world, name)
    case.__name__ = "case_" + name
    case.__doc__ = trouble.__doc__
    return case


for _entry in BAD_INPUT:
    globals()["case_" + _entry[0].__name__] = make_case(*_entry)


def case_error_lines(t):
    """The form of an error for people: one line that begins with the program and the job, and the cure on the next."""
    world = World(t)
    world.server.sql("select pg_drop_replication_slot('%s')" % world.slot())
    lines = world.tailrace("once").run().stderr.splitlines()
    at = [i for i, line in enumerate(lines) if line.startswith("tailrace: ")]
    t.equal("error_lines: one error", len(at), 1)
    form = r'tailrace: %s_jsonl: .*"%s"' % (world.database, world.slot())
    t.check("error_lines: names job and subject", re.match(form, lines[at[0]]), lines[at[0]])
    t.check("error_lines: the cure is the next line", lines[at[0] + 1].startswith("cure: "), lines)
