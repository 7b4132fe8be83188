#!/usr/bin/python3
"""What ./demo shows, once the binary is built: a real PostgreSQL flows into a lake of Iceberg tables while rows change and
the process is killed; then an engine that is not ours (demo_engine.py: DuckDB) reads the lake, travels to each of its
commits, and is compared with SELECTs. Exit code 0 only when everything is equal. Ends by itself, at the latest after the
waits below."""

import argparse
import json
import os
import random
import shlex
import subprocess
import sys
import time
from decimal import Decimal

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import HarnessError, Postgres, Tailrace, Timeout, temporary_folder  # noqa: E402
from harness import processes  # noqa: E402
from harness.tailrace import ROOT, tailrace_binary  # noqa: E402
from lake import Lake  # noqa: E402
from lake_readers import Process  # noqa: E402

CLIENTS, ARTICLES, LEDGER, KILLS = 2000, 300, 60000, 6
SETUP = """
create table accounts (id int primary key, owner text not null, balance numeric(14,2) not null);
create table savings (id int primary key, balance numeric(14,2) not null);
create table ledger (id bigint generated always as identity primary key, source int, target int,
                     amount numeric(14,2) not null, at timestamptz not null default clock_timestamp());
create table articles (slug text primary key, title text not null, body text not null, read_count int not null default 0);
insert into accounts select n, 'owner ' || n, 1000.00 from generate_series(1, %d) n;
insert into savings select n, 500.00 from generate_series(1, %d) n;
insert into ledger (source, target, amount) select 1 + n %% %d, 1 + (n * 7) %% %d, 0.01 * (n %% 99)
  from generate_series(1, %d) n;
insert into articles select 'article-' || n, 'Title of ' || n,
  (select string_agg(md5(n::text || k), '') from generate_series(1, 300) k) from generate_series(1, %d) n;
""" % (CLIENTS, CLIENTS, CLIENTS, CLIENTS, LEDGER, ARTICLES)
BANK_SUM = Decimal(CLIENTS) * 1500
MICROSECONDS = "(extract(epoch from %s) * 1000000)::bigint"
TABLES = {"accounts": ["id", "owner", "balance"], "savings": ["id", "balance"],
          "ledger": ["id", "source", "target", "amount", "at"], "articles": ["slug", "title", "body", "read_count"]}


class Workload:
    """People using the shop: money moves between accounts and savings, articles are read, written and deleted."""

    def __init__(self, server, database):
        self.session = server.session(database)
        self.random = random.Random(7)
        self.transactions = 0
        self.next_article = ARTICLES

    def step(self):
        """One transaction."""
        self.transactions += 1
        kind = self.transactions % 10
        if kind < 7:
            one, two = self.random.sample(range(1, CLIENTS + 1), 2)
            amount = "%d.%02d" % (self.random.randrange(50), self.random.randrange(100))
            self.session.execute(
                "begin; update accounts set balance = balance - %s where id = %d; update savings set balance = balance + %s "
                "where id = %d; insert into ledger (source, target, amount) values (%d, %d, %s); commit"
                % (amount, one, amount, two, one, two, amount))
        elif kind == 7:  # a long text that the log does not carry again
            self.session.execute("update articles set read_count = read_count + 1 where slug = 'article-%d'"
                                 % self.random.randrange(1, ARTICLES))
        elif kind == 8:
            self.next_article += 1
            self.session.execute("insert into articles values ('article-%d', 'New', repeat('lorem ipsum ', 500))"
                                 % self.next_article)
        else:
            self.session.execute("begin; delete from articles where slug = (select min(slug) from articles); "
                                 "update articles set slug = slug || '-moved' where slug = (select max(slug) from articles "
                                 "where slug not like '%moved'); commit")

    def drive(self, until, seconds, what):
        """Works until the predicate holds; raises Timeout after `seconds`."""
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                raise Timeout("waited %.0f s for %s" % (seconds, what))
            self.step()


class Engine:
    """demo_engine.py in the interpreter that has one; None of `name` where nothing could be installed."""

    def __init__(self):
        where = subprocess.run([os.path.join(ROOT, "tests", "servers", "lake_readers.sh"), "--where"], check=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE).stdout.decode().strip()
        self.name = self.python = None
        self.script = os.path.join(ROOT, "tests", "integration", "demo_engine.py")
        for venv in ("venv", "venv-pyiceberg"):
            python = os.path.join(where, venv, "bin", "python")
            if self.name is None and os.access(python, os.X_OK):
                self._begin(python)

    def _begin(self, python):
        self.process = Process([python, self.script])
        try:
            self.name, self.python = json.loads(self.process.line())["engine"], python
        except HarnessError:  # it lacks what it needs: half an installation
            self.process.close()

    def ask(self, metadata, snapshot=None, **what):
        self.process.send(json.dumps(dict(what, metadata=metadata, snapshot=snapshot)))
        said = json.loads(self.process.line())
        if "error" in said:
            raise HarnessError("%s says: %s" % (self.name, said["error"]))
        return said["answer"]


def say(text=""):
    print(text)
    sys.stdout.flush()


def commits(lake):
    """The number of the last commit; 0 before the first."""
    found = lake.commit()
    return found[1] if found else 0


def arrived(lake):
    """The ledger rows that a reader of the lake sees now (it only grows: no row of it was ever deleted)."""
    if "public.ledger" not in lake.tables():
        return 0
    return int(lake.snapshots("public.ledger")[-1]["summary"]["total-records"])


def kill_and_restart(number, job, lake, workload, server, database):
    """SIGKILL, what it left behind, and a new start."""
    job.kill()
    there = int(server.value("select count(*) from ledger", database))
    here = arrived(lake)
    begun = sum(name.endswith(".parquet") for name in lake.files())
    say("  kill -9 number %d: the lake stands at commit %d with %d ledger rows of %d; %d data files lie there, some half written"
        % (number, commits(lake), here, there, begun))
    for _ in range(50):
        workload.step()  # life goes on while nobody listens
    job.start()


def run_job(server, database, job, lake):
    """Snapshot, stream, kills, a clean stop, a catch-up. Returns (transactions, results)."""
    workload = Workload(server, database)
    ended = lambda: not job.running()  # noqa: E731
    job.start()
    workload.drive(lambda: ended() or any(name.endswith(".parquet") for name in lake.files()), 30, "the first data file")
    kill_and_restart(1, job, lake, workload, server, database)
    workload.drive(lambda: ended() or lake.consistent(), 40, "the snapshot to be whole")
    for number in range(2, KILLS + 1):
        at, pause = commits(lake), workload.random.uniform(0.0, 0.9)
        workload.drive(lambda: ended() or commits(lake) >= at + 2, 30, "two more commits")
        until = time.monotonic() + pause  # in the middle of whatever it does then
        workload.drive(lambda: ended() or time.monotonic() > until, 30, "a moment")
        kill_and_restart(number, job, lake, workload, server, database)
    at = commits(lake)
    workload.drive(lambda: ended() or commits(lake) >= at + 2, 30, "commits after the last kill")
    if ended():
        raise HarnessError("tailrace ended by itself with %s" % job.process.returncode)
    stopped = job.terminate()
    say("  SIGTERM: exit code %d, at commit %d" % (stopped, commits(lake)))
    for _ in range(100):
        workload.step()
    job.arguments[0] = "once"
    caught_up = job.run(40)
    say("  100 more transactions while it was down, then `tailrace once`: exit code %d" % caught_up.code)
    return workload.transactions, [("run ended with 0 on SIGTERM", stopped == 0, "exit code %d" % stopped),
                                   ("once ended with 0", caught_up.code == 0, str(caught_up))]


def consistent_commits(lake):
    """[{table: snapshot id}] for each commit at which every table says that it is consistent."""
    by_table = {table: lake.snapshots(table) for table in lake.tables()}
    seqs = sorted({int(s["summary"]["tailrace.seq"]) for snapshots in by_table.values() for s in snapshots})
    found = []
    for seq in seqs:
        newest = {table: [s for s in snapshots if int(s["summary"]["tailrace.seq"]) <= seq][-1:]
                  for table, snapshots in by_table.items()}
        if all(s and s[0]["summary"]["tailrace.consistent"] == "true" for s in newest.values()):
            found.append({table: s[0]["snapshot-id"] for table, s in newest.items()})
    return found


def judge_tables(server, database, lake, engine):
    """[(what, good?, why not)]: each table as the engine and as the server give it."""
    results = []
    for table, columns in TABLES.items():
        cells = ", ".join((MICROSECONDS % c if c == "at" else c) + "::text" for c in columns)
        wanted = sorted(tuple(row) for row in server.sql("select %s from %s" % (cells, table), database))
        got = sorted(tuple(row) for row in engine.ask(lake.tables()["public." + table], columns=columns))
        results.append(("%-9s %6d rows, each equal to the server's" % (table, len(got)), got == wanted and bool(got),
                        "the server has %d; first that differs: %s" % (
                            len(wanted), next(((a, b) for a, b in zip(got, wanted) if a != b), None))))
    return results


def judge_bank(lake, engine):
    """The sum over two tables at each commit, by time travel."""
    tables, wrong = lake.tables(), []
    found = consistent_commits(lake)
    for number, at in enumerate(found):
        total = sum(Decimal(engine.ask(tables[t], at[t], sum="balance")) for t in ("public.accounts", "public.savings"))
        if total != BANK_SUM:
            wrong.append((number, str(total)))
    return [("accounts + savings = %s at each of %d commits, both tables at one position" % (BANK_SUM, len(found)),
             len(found) > KILLS and not wrong, "wrong: %s" % wrong[:5])]


def judge_alone(server, database, lake):
    """Without an engine: what the tables say of themselves, which is less."""
    results = []
    for table in TABLES:
        summary = lake.snapshots("public." + table)[-1]["summary"]
        live = int(summary["total-records"]) - int(summary["total-position-deletes"])
        wanted = int(server.value("select count(*) from " + table, database))
        results.append(("%-9s %6d rows by its own counts, as many as the server's" % (table, live), live == wanted,
                        "the server has %d" % wanted))
    return results


def say_how_to_look(lake, engine):
    """Commands for the lake that is kept."""
    metadata = os.path.join(lake.path, "public", "accounts")
    say()
    say("The lake is in %s; look at it with" % lake.path)
    if engine.name and engine.name.startswith("DuckDB"):
        say("  %s %s %s 'select count(*), sum(balance) from public.accounts'" % (
            os.path.relpath(engine.python), os.path.relpath(engine.script), lake.path))
    say("  duckdb -c \"install iceberg; load iceberg; select * from iceberg_scan('%s') limit 10\"" % metadata)
    say("  %s -c %s" % (os.path.relpath(engine.python) if engine.python else "python3", shlex.quote(
        'from pyiceberg.catalog.sql import SqlCatalog; catalog = SqlCatalog("tailrace", uri="sqlite:///%s/catalog.db"); '
        'print(catalog.load_table("public.accounts").scan().to_arrow())' % lake.path)))


def judge(server, database, lake):
    engine = Engine()
    say("3. What an engine that is not ours reads")
    if engine.name is None:
        say("  !! No engine could be installed (tests/servers/lake_readers.sh; it needs pypi.org). What follows is only")
        say("  !! what the tables say of themselves, compared with the server's counts: no value was looked at.")
        return engine, judge_alone(server, database, lake)
    if not engine.name.startswith("DuckDB"):
        say("  !! DuckDB could not be installed (tests/servers/lake_readers.sh); %s reads instead" % engine.name)
        say("  with StaticTable.from_metadata('.../accounts/metadata/%s')" % os.path.basename(lake.tables()["public.accounts"]))
    else:
        say("  %s: select sum(balance) from iceberg_scan('.../public/accounts', snapshot_from_id = ...) ..." % engine.name)
    return engine, judge_tables(server, database, lake, engine) + judge_bank(lake, engine)


def say_what_it_proves(engine):
    if engine.name is None:
        say("What it proves: as many rows arrived as the server has, whatever was killed in between. That their values are")
        say("right, this run did not see: install an engine and run it again.")
        return
    say("What it proves: every row that the server has is in the lake exactly once, with its present value, whatever was killed")
    say("in between. All tables of a commit become visible at once: a reader never sees half a transfer, even across two tables.")


def main():
    options = argparse.ArgumentParser(prog="./demo", description="Installs what it needs, builds, and shows tailrace at work.")
    options.add_argument("--keep", action="store_true", help="keep the lake, and say how to look at it")
    keep = options.parse_args().keep
    processes.install_handlers()
    processes.keep_folders = processes.keep_folders or keep
    say("tailrace: a database flows into a lake while it is used, and while tailrace is killed")
    say()
    say("1. A throwaway PostgreSQL with a bank (accounts, savings), a ledger and some long texts")
    server = Postgres().start()
    database = server.create_database("shop", SETUP)
    say("  server %s on port %d: %d clients with %s, %d ledger rows, %d articles"
        % (server.value("show server_version"), server.port, CLIENTS, BANK_SUM, LEDGER, ARTICLES))
    lake = Lake(os.path.join(temporary_folder(), "lake"))
    line = "%s -> %s?freshness=1s" % (server.url(database), lake.sink)
    job = Tailrace("run", line)
    say()
    say("2. %s run '%s'" % (os.path.relpath(tailrace_binary()), line))
    say("  people go on working; it is killed %d times and started again, with nothing but the lake to go by" % KILLS)
    started = time.monotonic()
    try:
        transactions, results = run_job(server, database, job, lake)
        say("  %d transactions, %d commits, %d starts in %.0f s" % (
            transactions, commits(lake), job.starts, time.monotonic() - started))
        say()
        engine, judged = judge(server, database, lake)
    except (HarnessError, OSError) as error:
        say("failed: %s" % error)
        say(job.last_stderr()[-3000:])
        return 1
    bad = 0
    for what, good, why in results + judged:
        bad += not good
        say("  %s %s%s" % ("yes" if good else "NO ", what, "" if good else ": %.600s" % (why,)))
    say()
    if bad:
        say("That is not exact: %d of the statements above are false." % bad)
        say(job.last_stderr()[-3000:])
    else:
        say_what_it_proves(engine)
    if processes.keep_folders:
        say_how_to_look(lake, engine)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
