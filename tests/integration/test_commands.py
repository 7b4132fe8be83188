"""The commands as a user types them: jobs from files, folders and the environment, status of a running job, signals, drop."""

import json
import os
import re
import socket
import stat
import subprocess

from harness import wait_until
from harness.jsonl import JsonlFolder
from harness.tailrace import ROOT, tailrace_binary

TABLE = "create table orders (id int primary key, body text); insert into orders select g, 'row' from generate_series(1, 50) g"
CANARY = "c4nary-s3cret"


def write(path, text):
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def case_help_comes_from_the_tables(t):
    for words, expected in ((["help"], "tailrace once JOB..."), (["help", "job"], "SOURCE -> SINK"),
                            (["help", "exit"], "5  the source"), (["help", "postgres"], "publication"),
                            (["help", "discard"], "at-least-once"), (["help", "--docs"], "# Options"),
                            (["--version"], "tailrace "), (["help", "metrics"], "commits"), (["help", "once"], "catch up")):
        result = t.tailrace(*words).run()
        t.check("commands %s" % " ".join(words), result.code == 0 and expected in result.stdout, result)
    result = t.tailrace("help", "nothing").run()
    t.equal("commands help on nothing", result.code, 2)


def case_man_page_and_completion_come_from_the_tables(t):
    options = re.findall(r"^  --([a-z-]+)=", t.tailrace("help", "options").run().stdout, re.M)
    t.check("commands man: options are known", len(options) >= 6, options)
    man = t.tailrace("help", "--man").run()
    t.equal("commands man: code", man.code, 0)
    plain = man.stdout.replace("\\-", "-")
    t.equal("commands man: every option", [o for o in options if ".B --%s=" % o not in plain], [])
    t.check("commands man: keys of URLs", ".B ?freshness=" in plain and ".B ?lanes=" in plain, plain[:200])
    script = write(os.path.join(t.temp(), "tailrace.bash"), t.tailrace("help", "--completion").run().stdout)

    def complete(*words):
        line = ". %s; COMP_WORDS=(tailrace %s); COMP_CWORD=%d; _tailrace; printf '%%s\\n' \"${COMPREPLY[@]}\"" % (
            script, " ".join("'%s'" % word for word in words), len(words))
        done = subprocess.run(["bash", "-c", line], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return done.stdout.split()
    t.equal("commands completion: a command", complete("pl"), ["plan"])
    t.equal("commands completion: options", [o for o in options if "--" + o not in complete("run", "--")], [])
    t.equal("commands completion: values", complete("run", "--log", ""), ["text", "json"])
    t.equal("commands completion: topics", complete("help", "jso"), ["jsonl"])
    folder = t.temp()
    shop = write(os.path.join(folder, "shop.sync"), "")
    write(os.path.join(folder, "shop.txt"), "")
    t.equal("commands completion: job files", complete("run", os.path.join(folder, "sh")), [shop])


def case_help_where_people_look_for_it(t):
    bare = t.tailrace(state=False).run()
    t.equal("commands bare: code and no answer", (bare.code, bare.stdout), (2, ""))
    t.check("commands bare: usage on stderr", "tailrace run JOB" in bare.stderr, bare)
    for words in (["run", "--help"], ["run", "x.sync", "--help"], ["--help", "run"]):
        result = t.tailrace(*words).run()
        t.check("commands %s" % " ".join(words), result.code == 0 and result.stdout.startswith("tailrace run JOB"), result)
    for words, said in ((["-h"], 'did you mean "--help"'), (["-pc4nary"], 'unknown option "-p"'),
                        (["onec"], 'did you mean "once"'),
                        (["help", "metrcs"], 'did you mean "metrics"'), (["run", "-"], "standard input"),
                        (["postgres://u:%s@h/d" % CANARY, "discard:"], "no command before the job"),
                        (["help", "postgres://u:%s@h/d" % CANARY], "not jobs"), (["run", "--man"], "belongs to help")):
        result = t.tailrace(*words).run()
        t.check("commands usage: %s" % said, result.code == 2 and said in result.stderr, result)
        t.check("commands usage: no secret, %s" % said, CANARY not in result.stderr + result.stdout, result)


CODE_USES = (r'err_set\(\s*[^,;]+,\s*[^,;]+?,\s*"([a-z0-9_]+)"', r'mistake_add\(\s*[^,;]+(?:\([^)]*\))?[^";]*?,\s*"([a-z0-9_]+)"',
             r'usage_error\([^,;]+,\s*"([a-z0-9_]+)"', r'ERR_(?:FATAL|RETRY|REWIND), "([a-z0-9_]+)"')


def case_codes_are_listed(t):
    """Every code that the sources give an error has a line in the docs."""
    used = set()
    for room in ("cdc", "connectors", "engine", "sinks", "config"):
        for where, _folders, names in os.walk(os.path.join(ROOT, room)):
            for name in names:
                if name.endswith(".c"):
                    with open(os.path.join(where, name), encoding="utf-8") as file:
                        text = file.read()
                    used.update(code for use in CODE_USES for code in re.findall(use, text))
    listed = {line.split()[0] for line in t.tailrace("help", "codes").run().stdout.splitlines()}
    t.check("commands codes: found in the sources", len(used) > 90, len(used))
    t.equal("commands codes: none without a line in config/codes.c", sorted(used - listed), [])


def case_examples_are_jobs(t):
    """Each example is read without a mistake: what fails is only that nobody answers where it points here."""
    folder = os.path.join(ROOT, "config", "examples")
    names = sorted(name for name in os.listdir(folder) if name.endswith(".sync"))
    t.check("commands examples: there are some", len(names) >= 2, names)
    for name in names:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            text = re.sub(r"\$\{file:[^}]*\}", "${env:SHOP_SECRET}", file.read())
        text = text.replace("db1.example.net:5432", "127.0.0.1:1").replace("/var/run/postgresql", t.temp())
        job = write(os.path.join(t.temp(), name), text)
        result = t.tailrace("plan", job, "--log", "json", env={"SHOP_SECRET": CANARY}).run()
        t.check("commands examples: %s" % name, result.code == 1 and "connect_failed" in result.stderr, result)


def case_status_of_a_running_job(t):
    database = t.database(TABLE)
    folder, state = t.jsonl(), os.path.join(t.temp(), "state")
    runtime = t.temp()
    env = {"XDG_RUNTIME_DIR": runtime}
    job = t.tailrace("run", t.server.url(database), folder.sink, state=state, env=env).start()
    wait_until(folder.consistent, 30, "the snapshot")
    name = database + "_jsonl"

    def status():
        result = t.tailrace("status", name, "--json", state=state, env=env).run()
        answer = json.loads(result.stdout)
        return answer if answer["phase"] == "streaming" else None
    answer = wait_until(status, 20, "the status to say streaming")
    t.equal("commands status: job and running", (answer["job"], answer["running"]), (name, True))
    t.equal("commands status: tables", [table["table"] for table in answer["tables"]], ["public.orders"])
    t.check("commands status: position", answer["applied"] and answer["epoch"] == 1, answer)
    text = t.tailrace("status", t.server.url(database), folder.sink, state=state, env=env).run()
    t.check("commands status: text", text.code == 0 and "job %s: running, streaming" % name in text.stdout, text)
    listed = t.tailrace("status", state=state, env=env).run()
    t.check("commands status: all of the machine", "job %s: running" % name in listed.stdout, listed)
    places = [os.path.join(folder_, name + ".sock") for folder_ in ("/run/tailrace", os.path.join(runtime, "tailrace"), state)]
    found = [place for place in places if os.path.exists(place)]
    t.equal("commands status: one socket", len(found), 1)
    t.equal("commands status: socket is private", stat.S_IMODE(os.stat(found[0]).st_mode), 0o600)
    with socket.socket(socket.AF_UNIX) as silent:  # a client that asks nothing holds nobody up for long
        silent.connect(found[0])
        t.equal("commands status: beside a silent client", status()["job"], name)
    refused = t.tailrace("drop", t.server.url(database), folder.sink, "--yes", "--log", "json", state=state, env=env).run()
    t.check("commands drop of a running job", refused.code == 4 and "instance_running" in refused.stderr, refused)
    t.equal("commands run: TERM", job.terminate(), 0)
    t.check("commands status: the socket is gone", not os.path.exists(found[0]))
    asleep = t.tailrace("status", t.server.url(database), folder.sink, "--json", state=state, env=env).run()
    answer = json.loads(asleep.stdout)
    t.equal("commands status: not running", (asleep.code, answer["running"], answer["target"]["knows"]), (0, False, "position"))
    gone = t.tailrace("status", name, state=state, env=env).run()
    t.equal("commands status: a name that does not run", gone.code, 2)


def case_folder_of_jobs_where_one_fails(t):
    database = t.database(TABLE)
    jobs, out = t.temp(), t.temp()
    write(os.path.join(jobs, "a.sync"), "%s -> jsonl://%s/a\n" % (t.server.url(database), out))
    write(os.path.join(jobs, "b.sync"), "%s -> jsonl://%s/b\n" % (t.server.url("no_such_database"), out))
    write(os.path.join(jobs, "c.sync"), "%s -> jsonl://%s/c\nt: skpi\n" % (t.server.url(database), out))
    write(os.path.join(jobs, "d.txt"), "not a job\n")
    write(os.path.join(jobs, "e.sync"), "%s -> discard:\n" % t.server.url(database))
    result = t.tailrace("once", jobs).run()
    t.equal("commands folder: the highest code", result.code, 2)
    said = "tailrace: b: " in result.stderr and 'c.sync:2:4: unknown action "skpi"' in result.stderr
    t.check("commands folder: each failure is said", said, result)
    t.same_table("commands folder: the others are whole", JsonlFolder(os.path.join(out, "a")), "public.orders", database)


def case_plan_of_tables_never_analysed(t):
    """Sizes are looked at where the server's statistics have none; rows that nobody has counted are not said to be none. A
    table that somebody has locked does not hold plan up."""
    server = t.own_server({"track_counts": "off"})
    database = t.database("create table t (id int primary key, body text); alter table t alter body set storage external;"
        "insert into t select g, repeat('x', 10000) from generate_series(1, 500) g; create table e (id int primary key);"
        "create table p (id int primary key) partition by range (id); create table p_1 partition of p for values from (0) to "
        "(100000); insert into p select g from generate_series(1, 50000) g; create table a (id int primary key);"
        "insert into a select g from generate_series(1, 1000) g; analyze a", server)
    lines = t.tailrace("plan", server.url(database), t.jsonl().sink).run(60).stdout.splitlines()
    cells = {line.split()[0]: line.split()[1:4] for line in lines if line.startswith("public.")}
    t.equal("rows", [cells["public." + name][0] for name in "teap"], ["unknown", "0", "1000", "unknown"])
    told = json.loads(t.tailrace("plan", "--json", server.url(database), t.jsonl().sink).run(60).stdout)
    t.equal("json", [table["rows"] for table in told["tables"]], [None, 0, None, 1000])
    bytes_of = {table["table"][7:]: table["bytes"] for table in told["tables"]}
    t.check("sizes", bytes_of["t"] > 5000000 and bytes_of["e"] == 0 and bytes_of["a"] > 30000 and bytes_of["p"] > 1500000,
        bytes_of)
    t.check("sizes as text", cells["public.t"][2] in ("KiB", "MiB") and cells["public.e"][1:] == ["0", "B"], cells)
    with server.session(database) as session:
        session.execute("begin; lock table t in access exclusive mode")
        plan = t.tailrace("plan", server.url(database), t.jsonl().sink).run(60)
        t.equal("a locked table does not stop plan", plan.code, 0)


def case_two_jobs_of_one_name(t):
    database = t.database(TABLE)
    url = t.server.url(database)
    result = t.tailrace("once", url, "discard:?job=same", url, "discard:?job=same", "--log", "json").run()
    t.check("commands two jobs of one name", result.code == 2 and "job_twice" in result.stderr, result)


def case_options_from_the_environment(t):
    result = t.tailrace("once", "nothing.sync", env={"TAILRACE_LOG": "json"}).run()
    t.equal("commands environment: log", json.loads(result.stderr)["code"], "job_missing")
    result = t.tailrace("once", "nothing.sync", env={"TAILRACE_MEMORY": "12parsecs"}).run()
    t.check("commands environment: bad value", result.code == 2 and "TAILRACE_MEMORY" in result.stderr, result)
    result = t.tailrace("once", "nothing.sync", "--log=text", env={"TAILRACE_LOG": "json"}).run()
    t.check("commands environment: the command line wins", result.stderr.startswith("tailrace: "), result)
    result = t.tailrace("once", "nothing.sync", "--memroy", "1GiB").run()
    t.check("commands options: nearest name", result.code == 2 and "memory" in result.stderr, result)


def case_secrets_are_never_printed(t):
    """A secret from a file and one from the environment, through run, plan, status, slots and an error, at debug level."""
    server = t.own_server(auth="scram-sha-256")
    database = t.database(TABLE, server=server)
    server.sql("create role keeper superuser login password '%s'" % CANARY)
    secret = write(os.path.join(t.temp(), "secret"), CANARY + "\n")
    folder, state = t.jsonl(), os.path.join(t.temp(), "state")
    for kind, given in (("file", "${file:%s}" % secret), ("env", "${env:SHOP_SECRET}")):
        source = "postgres://keeper:%s@127.0.0.1:%d/%s" % (given, server.port, database)
        for words in (["plan"], ["once"], ["status"], ["slots"], ["drop"]):
            result = t.tailrace(*words, "%s -> %s" % (source, folder.sink), "--log-level", "debug", state=state,
                                env={"SHOP_SECRET": CANARY}).run()
            t.check("commands secrets %s %s works" % (kind, words[0]), result.code == (2 if words == ["drop"] else 0), result)
            t.check("commands secrets %s %s" % (kind, words[0]), CANARY not in result.stdout + result.stderr, result)
    broken = t.tailrace("once", "postgres://keeper:%s@127.0.0.1:%d/%s?lanes=${env:SHOP_SECRET}&host=${env:SHOP_SECRET} -> %s"
                        % (CANARY, server.port, database, folder.sink), state=state, env={"SHOP_SECRET": CANARY}).run()
    t.check("commands secrets in mistakes", broken.code == 2 and CANARY not in broken.stderr, broken)
    kept = [os.path.join(where, name) for where, _folders, names in os.walk(state) for name in names]
    kept += [os.path.join(folder.path, name) for name in os.listdir(folder.path)]
    holders = [path for path in kept if os.path.isfile(path) and CANARY.encode() in open(path, "rb").read()]
    t.equal("commands secrets are in no file", holders, [])


def case_unquoted_arrow_names_the_sink(t):
    """As a shell would start it: standard output is a file with the sink's name."""
    folder = t.temp()
    with open(os.path.join(folder, "discard:"), "wb") as out:
        done = subprocess.run([tailrace_binary(), "run", "postgres://127.0.0.1/d", "-"], stdout=out, stderr=subprocess.PIPE,
                              stdin=subprocess.DEVNULL, cwd=folder, check=False)
    t.equal("commands unquoted arrow: code", done.returncode, 2)
    line = b"tailrace run 'postgres://127.0.0.1/d -> discard:'"
    t.check("commands unquoted arrow: the line to paste", line in done.stderr, done.stderr)


def case_second_signal_ends_at_once(t):
    server = t.own_server()
    database = t.database(TABLE, server=server)
    folder = t.jsonl()
    job = t.tailrace("run", server.url(database), folder.sink).start()
    wait_until(folder.consistent, 30, "the snapshot")
    server.stop("immediate")
    job.wait_log("rewind")
    job.interrupt()
    job.interrupt()
    code = job.wait(15)
    t.check("commands two signals: ends", code in (0, 1), code)
    server.start()
    t.equal("commands two signals: goes on", t.tailrace("once", server.url(database), folder.sink, state=job.state).run().code, 0)
    t.same_table("commands two signals: nothing is lost", folder, "public.orders", database, server=server)


def case_drop_all(t):
    database = t.database(TABLE)
    folder = t.jsonl()
    t.equal("commands drop: once", t.once(t.server.url(database), folder.sink).code, 0)
    slots = t.tailrace("slots", t.server.url(database)).run()
    t.check("commands slots: of a lone source", "tailrace_%s_jsonl" % database in slots.stdout, slots)
    dropped = t.tailrace("drop", t.server.url(database), folder.sink, "--yes").run()
    t.equal("commands drop: code", dropped.code, 0)
    slots_left = "select count(*) from pg_replication_slots where database = '%s'" % database
    t.equal("commands drop: no slot", t.server.value(slots_left), "0")
    t.equal("commands drop: no publication", t.server.value("select count(*) from pg_publication", database), "0")
    again = t.tailrace("drop", t.server.url(database), folder.sink, "--yes").run()
    t.check("commands drop: twice is nothing", again.code == 0 and "neither slot nor publication" in again.stdout, again)
    t.equal("commands drop: of a lone source", t.tailrace("drop", t.server.url(database), "--yes").run().code, 2)
