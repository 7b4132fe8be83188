"""The harness against a real server and a folder written by hand: what the other tests lean on must stand itself."""

import http.server
import json
import os
import subprocess
import threading

from harness import (HarnessError, JsonlFolder, MemoryCgroup, PeakSampler, Proxy, RubbishServer, Session, SqlError, Tailrace,
                     fill_disk, give_away, small_disk, wait_until)
from harness.tailrace import ROOT


def case_server(t):
    t.check("harness server logical", t.server.value("show wal_level") == "logical")
    t.equal("harness server encoding", t.server.value("show server_encoding"), "UTF8")
    before = t.server.value("select system_identifier from pg_control_system()")
    t.server.restart("immediate")
    t.equal("harness server restart", t.server.value("select system_identifier from pg_control_system()"), before)
    server = t.server
    server.kill()
    t.check("harness server killed", not server.running())
    t.equal("harness server comes back", server.start().value("select 1"), "1")


def case_session(t):
    database = t.database("create table t (id int primary key, body text)")
    one, two = t.server.session(database), t.server.session(database)
    one.execute("begin; insert into t values (1, 'a')")
    t.equal("harness session sees its own rows", one.value("select count(*) from t"), "1")
    t.equal("harness session hides them from others", two.value("select count(*) from t"), "0")
    two.execute("begin")
    two.send("lock table t in share mode")
    wait_until(lambda: one.value("select count(*) from pg_locks where not granted and pid = %d" % two.pid) == "1",
               10, "the lock to be waited for")
    t.check("harness session waits", two.waiting())
    one.execute("commit")
    two.receive()
    t.equal("harness session goes on", two.value("select body from t"), "a")


def case_session_values(t):
    with t.server.session() as session:
        rows = session.execute("select null, '', E'a\\nb', 'c,\"d\"', E'\\\\.', 'é' "
                               "union all select '1', '2', '3', '4', '5', '6'")
        t.equal("harness values are exact", rows,
                [[None, "", "a\nb", 'c,"d"', "\\.", "é"], ["1", "2", "3", "4", "5", "6"]])
        t.equal("harness one empty cell", session.execute("select ''"), [[""]])
        t.equal("harness no row", session.execute("select 1 where false"), [])
        try:
            session.execute("select 1/0")
            t.fail("harness error state", "no error")
        except SqlError as error:
            t.equal("harness error state", error.sqlstate, "22012")
        t.equal("harness session survives an error", session.value("select 2"), "2")
        big = session.value("select repeat('x', 9000000)")
        t.equal("harness long value", len(big), 9000000)


def case_scram(t):
    server = t.own_server(auth="scram-sha-256")
    server.sql("create role reader login password 'right'")
    t.equal("harness scram login", server.value("select current_user", user="reader", password="right"), "reader")
    try:
        server.value("select 1", user="reader", password="wrong")
        t.fail("harness scram refuses", "logged in with a wrong password")
    except SqlError as error:
        t.check("harness scram refuses", "password authentication failed" in error.text, error.text)


def line(operation, key, before, after, unchanged=None):
    found = {"op": operation, "table": "public.t", "key": key, "before": before, "after": after}
    if unchanged:
        found["unchanged"] = unchanged
    found.update({"tx": {"id": 7, "n": 1}, "ts": "2026-01-02T03:04:05.678Z",
                  "source": {"lsn": "0/1", "snapshot": False, "gen": 1}})
    return found


def write_file(folder, seq, lines, inconsistent=()):
    schema = {"schema": {"table": "public.t", "version": 1, "columns": [
        {"name": "id", "type": "int4", "nullable": False, "key": True},
        {"name": "body", "type": "text", "nullable": True, "key": False}]}}
    commit = {"commit": {"job": "j", "epoch": 1, "seq": seq, "rows": len(lines), "schema": "_schema.1.1.json",
                         "position": {"v": 1}, "inconsistent": list(inconsistent)}}
    with open(os.path.join(folder, "%016d.jsonl" % seq), "w", encoding="utf-8") as file:
        for content in [schema] + lines + [commit]:
            file.write(json.dumps(content, separators=(",", ":")) + "\n")


def case_jsonl(t):
    path = t.temp()
    write_file(path, 1, [line("r", {"id": 1}, None, {"id": 1, "body": "a"}),
                         line("r", {"id": 2}, None, {"id": 2, "body": "b"})], ["public.t"])
    write_file(path, 2, [line("c", {"id": 3}, None, {"id": 3, "body": None}),
                         line("u", {"id": 9}, {"id": 1}, {"id": 9}, ["body"]), line("d", {"id": 2}, {"id": 2}, None)])
    open(os.path.join(path, ".0000000000000003.0123456789abcdef"), "w", encoding="ascii").close()
    folder = JsonlFolder(path)
    t.equal("harness jsonl commits", [c["inconsistent"] for c in folder.commits()], [["public.t"], []])
    t.equal("harness jsonl rebuilds", folder.state().table("public.t").rows,
            {(3,): {"id": 3, "body": None}, (9,): {"id": 9, "body": "a"}})
    t.equal("harness jsonl no problems", folder.state().problems, [])
    t.equal("harness jsonl counts after each commit", [s.table("public.t").count() for s, _c in folder.replay()], [2, 2])
    database = t.database("create table t (id int primary key, body text); insert into t values (3, null), (9, 'a')")
    t.same_table("harness same table", folder, "public.t", database)
    write_file(path, 3, [line("c", {"id": 3}, None, {"id": 3, "body": "x"}), line("d", {"id": 4}, {"id": 4}, None)])
    t.equal("harness jsonl sees doubled and missing", [p.kind for p in folder.state().problems],
            ["doubled", "delete_of_missing_row"])
    with open(os.path.join(path, "%016d.jsonl" % 4), "w", encoding="utf-8") as file:
        file.write('{"op":"c"}\n')
    try:
        folder.commits()
        t.fail("harness jsonl broken file", "was read")
    except HarnessError:
        t.ok("harness jsonl broken file")


def case_process(t):
    sleeper = Tailrace("60", state=False, binary="/bin/sleep").start()
    sleeper.pause()
    t.check("harness process stopped", sleeper.is_stopped())
    sleeper.resume()
    t.check("harness process killed", sleeper.kill() and sleeper.wait() == -9)
    result = Tailrace("-c", "echo out; echo err >&2; exit 3", state=False, binary="/bin/sh").run(10)
    t.equal("harness process output", (result.code, result.stdout, result.stderr), (3, "out\n", "err\n"))


def case_unprivileged(t):
    folder = t.temp()
    os.chmod(folder, 0o555)
    words = ("-c", "touch %s/x" % folder)
    refused = Tailrace(*words, state=False, binary="/bin/sh", unprivileged=True).run(10)
    t.check("harness read-only folder refuses", refused.code != 0 and not os.listdir(folder), refused)
    give_away(folder)
    os.chmod(folder, 0o755)
    t.equal("harness given folder", Tailrace(*words, state=False, binary="/bin/sh", unprivileged=True).run(10).code, 0)


def case_tls(t):
    server = t.own_server()
    authority = server.enable_tls()
    server.allow_only("hostssl all all 127.0.0.1/32 trust")
    base = server.conninfo()
    with Session(base + " sslmode=verify-full sslrootcert=" + authority) as session:
        t.check("harness tls", session.value("select ssl from pg_stat_ssl where pid = pg_backend_pid()") == "t")
    try:
        Session(base + " sslmode=disable")
        t.fail("harness tls only", "a plain connection was let in")
    except SqlError as error:
        t.check("harness tls only", "no encryption" in error.text, error.text)


def case_proxy(t):
    proxy = Proxy(t.server.port)
    conninfo = t.server.conninfo().replace("port=%d" % t.server.port, "port=%d" % proxy.port)
    session = Session(conninfo)
    t.equal("harness proxy forwards", session.value("select 7"), "7")
    proxy.hold()
    session.send("select 8")
    t.check("harness proxy holds", session.waiting())
    proxy.go()
    t.equal("harness proxy goes on", session.receive(), [["8"]])
    proxy.cut()
    try:
        session.execute("select 9")
        t.fail("harness proxy cuts", "it still answered")
    except SqlError:
        t.ok("harness proxy cuts")
    proxy.refuse()
    try:
        Session(conninfo)
        t.fail("harness proxy refuses", "connected")
    except SqlError:
        t.ok("harness proxy refuses")


def case_rubbish(t):
    rubbish = RubbishServer(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    try:
        Session("host=127.0.0.1 port=%d user=x" % rubbish.port)
        t.fail("harness rubbish server", "connected")
    except SqlError:
        t.check("harness rubbish server", rubbish.accepted > 0)


def case_small_disk(t):
    folder = small_disk(1 << 20)
    if folder is None:
        t.skip("harness small disk", "this machine lets us mount no tmpfs")
        return
    filler = fill_disk(folder)
    try:
        with open(os.path.join(folder, "more"), "wb") as file:
            file.write(b"x" * 65536)
        t.fail("harness small disk", "it took more")
    except OSError:
        t.check("harness small disk", os.path.getsize(filler) > 900000)


def case_memory(t):
    script = "x = bytearray(40 << 20); import time; time.sleep(60)"
    process = Tailrace("-c", script, state=False, binary="/usr/bin/python3").start()
    sampler = PeakSampler(process.pid)
    wait_until(lambda: sampler.peak > 40 << 20, 20, "40 MiB to be seen")
    t.check("harness peak sampler", sampler.samples > 0 and sampler.stop() < 80 << 20)
    group = MemoryCgroup.make(64 << 20)
    if group is None:
        t.note("this machine lets us make no memory cgroup: only the sampler was tried")
        return
    eater = Tailrace("-c", "bytearray(256 << 20)", state=False, binary="/usr/bin/python3", prefix=group.prefix)
    t.equal("harness memory cgroup ends an eater", eater.run(30).code, -9)
    t.check("harness memory cgroup says so", group.out_of_memory() and group.peak() > 32 << 20)


class Rubbish(http.server.BaseHTTPRequestHandler):
    """A mirror whose every file is another one."""

    def do_GET(self):
        self.send_response(200 if "18." in self.path else 404)
        self.end_headers()
        self.wfile.write(b"PK and what follows")

    def log_message(self, *_words):
        pass


def case_fetch(t):
    """A server that cannot be had is a loud skip with its reason, and nothing of what came is kept."""
    mirror = http.server.HTTPServer(("127.0.0.1", 0), Rubbish)
    threading.Thread(target=mirror.serve_forever, daemon=True).start()
    here, nobody = "http://127.0.0.1:%d" % mirror.server_port, "http://127.0.0.1:9"
    cache = os.path.join(t.temp(), "cache")
    try:
        for url, version, reason in ((here, "18", "not the file that was pinned"), (here, "17", "404"), (nobody, "18",
                                                                                                          "refused")):
            if os.path.exists("/usr/lib/postgresql/%s/bin/initdb" % version):
                t.note("PostgreSQL %s is installed: it need not be fetched" % version)
                continue
            done = subprocess.run([os.path.join(ROOT, "tests", "run"), "--server", "pg" + version, "stream"], check=False,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  env=dict(os.environ, TAILRACE_CACHE=cache, TAILRACE_MAVEN=url, no_proxy="*"))
            lines = done.stdout.decode().splitlines()
            t.check("harness fetch: %s" % reason, done.returncode == 0 and len(lines) == 2 and lines[0].startswith("skip ")
                    and reason in lines[0] and lines[1] == "0 passed, 0 failed, 1 skipped", done.stdout + done.stderr)
    finally:
        mirror.shutdown()
        mirror.server_close()
    t.check("harness fetch: nothing is kept", not os.path.exists(cache))
    done = subprocess.run([os.path.join(ROOT, "tests", "run"), "--server", "pg9"], check=False, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)
    t.check("harness fetch: a version that nobody knows", done.returncode == 2 and b"pg18" in done.stderr, done.stderr)
