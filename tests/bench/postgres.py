"""The bench `postgres`: what is filled, what is run, what each figure is. README.md defines the figures. Thread: main."""

import os
import re
import shutil
import sys
import time
from datetime import datetime

from harness import HarnessError, Postgres, temporary_folder
from measure import MIB, Job, counts, expect, median, program, run, summary

SETTINGS = {"wal_level": "logical", "fsync": "off", "autovacuum": "off", "max_wal_size": "32GB", "checkpoint_timeout": "1h",
            "maintenance_work_mem": "256MB"}
WORDS = "carefully final deposits nag quickly against the regular ideas sleep furiously among express packages"
COLUMNS = """l_orderkey bigint not null, l_partkey int not null, l_suppkey int not null, l_linenumber int not null,
    l_quantity decimal(15,2) not null, l_extendedprice decimal(15,2) not null, l_discount decimal(15,2) not null,
    l_tax decimal(15,2) not null, l_returnflag char(1) not null, l_linestatus char(1) not null, l_shipdate date not null,
    l_commitdate date not null, l_receiptdate date not null, l_shipinstruct char(25) not null, l_shipmode char(10) not null,
    l_comment varchar(44) not null"""
# Row i: the same on every machine. h is i scattered over 31 bits; each column takes other bits of it.
ROWS = """select 1 + (i - 1) / 4, 1 + h % 200000, 1 + h / 7 % 10000, (1 + (i - 1) % 4)::int, (1 + h / 11 % 50)::decimal(15,2),
    (90000 + h / 13 % 10000000)::decimal(15,2) / 100, (h / 17 % 11)::decimal(15,2) / 100, (h / 19 % 9)::decimal(15,2) / 100,
    substr('NRA', (1 + h / 23 % 3)::int, 1), substr('OF', (1 + h / 29 % 2)::int, 1), d, d + (h / 31 % 60)::int - 30,
    d + (1 + h / 37 % 30)::int,
    (array['DELIVER IN PERSON', 'COLLECT COD', 'NONE', 'TAKE BACK RETURN'])[1 + h / 41 % 4],
    (array['REG AIR', 'AIR', 'RAIL', 'SHIP', 'TRUCK', 'MAIL', 'FOB'])[1 + h / 43 % 7],
    substr('WORDS', (1 + h / 47 % 50)::int, (10 + h / 53 % 34)::int)
  from (select i, h, date '1992-01-01' + (h / 59 % 2500)::int d
        from (select i, (i * 2654435761) % 2147483647 h from generate_series(FIRST::bigint, LAST) i) a) b"""
ROWS = ROWS.replace("WORDS", WORDS)
FIGURES = ("pg_snapshot_1.ratio", "pg_snapshot_2.ratio", "pg_decode.ns_cell", "pg_stream.ratio", "pg_stream.cpu_us_row",
           "jsonl.rows_per_cpu_s", "pg_big_tx.rss_mib")
PARTS = ("snapshot_1", "snapshot_2", "jsonl", "decode", "stream", "small_tx", "big_tx")


def note(text):
    """A line of the answer that is not a figure."""
    print("# " + text, flush=True)


def log_seconds(ended, code):
    """When tailrace logged `code`, in seconds since some moment."""
    found = re.search(r"^(\S+)Z info \S+ \S+ %s(?: |$)" % code, ended.err, re.M)
    if not found:
        raise HarnessError("tailrace did not log %s: %s" % (code, ended.err[-2000:]))
    return datetime.fromisoformat(found.group(1)).timestamp()


class Bench:
    """One server, filled once; each part measures and returns its figures."""

    def __init__(self, sizes):
        """`sizes`: the options of ./run, by name."""
        self.sizes = sizes
        self.figures = {}
        self.server = Postgres(dict(SETTINGS, shared_buffers=sizes.shared_buffers), folder=sizes.data or None)

    # ---- filling ----------------------------------------------------------------------------------------------------

    def sql(self, text, timeout=7200.0):
        return self.server.sql(text, "bench", timeout=timeout)

    def value(self, text):
        return self.sql(text)[0][0]

    def progress(self, text):
        print("bench: %s %s" % (time.strftime("%H:%M:%S"), text), file=sys.stderr, flush=True)

    def fill(self):
        self.server.start()
        wanted = "lineitem %d, pgbench %d" % (self.sizes.rows, self.sizes.scale)
        if self.server.sql("select 1 from pg_database where datname = 'bench'"):
            done = self.sql("select shobj_description(oid, 'pg_database') from pg_database where datname = 'bench'")
            if done[0][0] == wanted:
                self.forget()
                return
            self.server.drop_database("bench")
        self.progress("filling: %s" % wanted)
        self.server.create_database("bench")
        self.sql("create table lineitem (%s)" % COLUMNS)
        self.sql("insert into lineitem " + rows_between(ROWS, 1, self.sizes.rows))
        self.sql("alter table lineitem add primary key (l_orderkey, l_linenumber)")
        run([self._program("pgbench"), "-i", "-q", "-I", "dtGp", "-s", str(self.sizes.scale), self.server.conninfo("bench")],
            7200)
        self.sql("vacuum freeze analyze")
        self.sql("checkpoint")
        self.sql("comment on database bench is '%s'" % wanted)

    def forget(self):
        """What an interrupted run left in a kept folder."""
        for (slot,) in self.sql("select slot_name from pg_replication_slots"):
            self.sql("select pg_drop_replication_slot('%s')" % slot)
        for (publication,) in self.sql("select pubname from pg_publication"):
            self.sql("drop publication %s" % publication)
        self.sql("drop table if exists backlog")

    def _program(self, name):
        path = os.path.join(self.server.bin, name)
        return path if os.path.exists(path) else name

    def conninfo(self):
        return self.server.conninfo("bench") + " sslmode=disable"

    # ---- rounds -----------------------------------------------------------------------------------------------------

    def rounds(self, what, ours, limit):
        """Runs both in each round, in alternating order; yields pairs of what they return."""
        pairs = []
        for number in range(self.sizes.rounds):
            order = (ours, limit) if number % 2 else (limit, ours)
            got = [function() for function in order]
            self.progress("%s: round %d of %d" % (what, number + 1, self.sizes.rounds))
            pairs.append(tuple(got if number % 2 else reversed(got)))
        return pairs

    # ---- snapshot ---------------------------------------------------------------------------------------------------

    def receive_only(self, lanes):
        """The limit: the same rows over as many connections, and nothing done with them."""
        ended = run([program("limit_pg"), self.conninfo(), "public.lineitem", str(lanes)], 3600)
        found = counts(ended.out)
        expect("rows of the limit's client", found["rows"], self.sizes.rows)
        ended.phase = found["seconds"]
        return ended

    def snapshot(self, lanes):
        rows = self.sizes.rows

        def ours():
            ended = Job(self.server.url("bench", lanes=lanes), "discard:", "public.lineitem").once(3600)
            expect("rows of the snapshot", summary(ended)["snapshot"], rows)
            ended.phase = log_seconds(ended, "snapshot_joined") - log_seconds(ended, "started")
            return ended

        name = "pg_snapshot_%d" % lanes
        pairs = self.rounds(name, ours, lambda: self.receive_only(lanes))
        for ended, bare in pairs:
            note("%s tailrace %.0f rows/s in the snapshot (%s); limit %.0f rows/s (%s); ratio %.3f, of whole processes %.3f" % (
                name, rows / ended.phase, ended.cost(rows), rows / bare.phase, bare.cost(rows), bare.phase / ended.phase,
                bare.wall / ended.wall))
        note("%s.ratio_process %.3f" % (name, median([bare.wall / ended.wall for ended, bare in pairs])))
        self.figures[name + ".ratio"] = "%.3f" % median([bare.phase / ended.phase for ended, bare in pairs])

    def snapshot_1(self):
        self.snapshot(1)

    def snapshot_2(self):
        self.snapshot(2)

    def jsonl(self):
        rows = self.sizes.scale * 100000
        rates = []
        for number in range(self.sizes.rounds):
            folder = temporary_folder()
            job = Job(self.server.url("bench"), "jsonl://" + folder, "public.pgbench_accounts")
            ended = job.once(3600)
            job.drop()
            rates.append(rows / ended.cpu)
            lines, size = count_lines(folder)
            expect("rows in the jsonl files", lines, rows)
            shutil.rmtree(folder)
            note("jsonl %.0f rows a CPU second (%s), %.0f bytes a row" % (rates[-1], ended.cost(rows), size / rows))
            self.progress("jsonl: round %d of %d" % (number + 1, self.sizes.rounds))
        self.figures["jsonl.rows_per_cpu_s"] = "%.0f" % median(rates)

    # ---- decoding ---------------------------------------------------------------------------------------------------

    def decode(self):
        found = [re.findall(r"^pg_decode\.(\w+) (\S+)$", run([program("bench_decode_pg")], 600).out, re.M)
                 for _ in range(self.sizes.rounds)]
        for name, _value in found[0]:
            values = [float(dict(pairs)[name]) for pairs in found]
            if name == "ns_cell":
                self.figures["pg_decode.ns_cell"] = "%.2f" % median(values)
            else:
                note("pg_decode.%s %.2f" % (name, median(values)))

    # ---- stream -----------------------------------------------------------------------------------------------------

    def backlog(self, columns, rows, a_transaction, source):
        """A new table `backlog` with changes behind the slot `backlog`; returns the log's end."""
        self.progress("backlog of %d rows, %d a transaction" % (rows, a_transaction))
        self.sql("drop table if exists backlog; create table backlog (%s)" % columns)
        self.sql("create publication bench_backlog for table backlog")
        self.sql("select pg_create_logical_replication_slot('backlog', 'pgoutput')")
        self.sql("""do $$ declare first bigint := 1; begin
            while first <= %d loop
              insert into backlog %s;
              commit;
              first := first + %d;
            end loop; end $$""" % (rows, rows_between(source, "first", "least(first + %d, %d)" % (a_transaction - 1, rows)),
                                   a_transaction))
        expect("rows of the backlog", int(self.value("select count(*) from backlog")), rows)
        self.sql("checkpoint")
        return self.value("select pg_current_wal_flush_lsn()")

    def backlog_end(self):
        self.sql("select pg_drop_replication_slot('backlog'); drop publication bench_backlog; drop table backlog; checkpoint")

    def copied_slot(self, function):
        """Calls it with the name of a slot that stands where `backlog` stands, and drops that slot."""
        self.sql("select pg_copy_logical_replication_slot('backlog', 'bench_run')")
        try:
            return function("bench_run")
        finally:
            self.sql("select pg_drop_replication_slot('bench_run')")

    def stream_once(self, sink, sample=False):
        def work(slot):
            url = self.server.url("bench", slot=slot, publication="bench_backlog", snapshot="never")
            return Job(url, sink, "public.backlog").once(7200, sample)
        return self.copied_slot(work)

    def discard_backlog(self, rows):
        ended = self.stream_once("discard:")
        expect("rows of the stream", summary(ended)["insert"], rows)
        return ended

    def recvlogical(self, end):
        def work(slot):
            ended = run([self._program("pg_recvlogical"), "-d", self.conninfo(), "-S", slot, "--start", "-f", "/dev/null",
                         "--no-loop", "-o", "proto_version=1", "-o", "publication_names=bench_backlog", "-o", "binary=true",
                         "--endpos", end], 7200)
            reached = self.value("select confirmed_flush_lsn >= '%s' from pg_replication_slots where slot_name = '%s'"
                                 % (end, slot))
            expect("pg_recvlogical read up to the backlog's end", reached, "t")
            return ended
        return self.copied_slot(work)

    def lineitem_backlog(self, rows, a_transaction):
        return self.backlog(COLUMNS + ", primary key (l_orderkey, l_linenumber)", rows, a_transaction, ROWS)

    def stream(self):
        rows = self.sizes.stream_rows
        end = self.lineitem_backlog(rows, 1000)
        pairs = self.rounds("pg_stream", lambda: self.discard_backlog(rows), lambda: self.recvlogical(end))
        for ended, bare in pairs:
            note("pg_stream 1000 rows a transaction: tailrace %.0f rows/s (%s); pg_recvlogical %.0f rows/s (%s); ratio %.3f" % (
                rows / ended.wall, ended.cost(rows), rows / bare.wall, bare.cost(rows), bare.wall / ended.wall))
        self.figures["pg_stream.ratio"] = "%.3f" % median([bare.wall / ended.wall for ended, bare in pairs])
        self.backlog_end()

    def small_tx(self):
        rows = self.sizes.small_rows
        end = self.lineitem_backlog(rows, 10)
        pairs = self.rounds("small_tx", lambda: self.discard_backlog(rows), lambda: self.recvlogical(end))
        for ended, bare in pairs:
            note("pg_stream 10 rows a transaction: tailrace %.0f rows/s (%s); pg_recvlogical %.0f rows/s (%s); ratio %.3f" % (
                rows / ended.wall, ended.cost(rows), rows / bare.wall, bare.cost(rows), bare.wall / ended.wall))
        self.figures["pg_stream.cpu_us_row"] = "%.2f" % median([ended.cpu / rows * 1e6 for ended, _bare in pairs])
        self.backlog_end()

    def big_tx(self):
        rows = self.sizes.big_rows
        self.backlog("id bigint primary key, account int not null, amount decimal(15,2) not null, memo text not null", rows, rows,
                     "select i, (i * 7919 % 100000)::int, (i % 100000)::decimal(15,2) / 100, 'memo of row ' || i"
                     " from generate_series(FIRST::bigint, LAST) i")
        peaks = []
        for sink in ("jsonl", "discard"):
            folder = temporary_folder()
            ended = self.stream_once("jsonl://" + folder if sink == "jsonl" else "discard:", True)
            if sink == "jsonl":
                expect("rows in the jsonl files", count_lines(folder)[0], rows)
            else:
                expect("rows of the stream", summary(ended)["insert"], rows)
            shutil.rmtree(folder)
            peaks.append(ended.anonymous / MIB)
            note("pg_big_tx %d rows in one transaction into %s: %s" % (rows, sink, ended.cost(rows)))
        self.figures["pg_big_tx.rss_mib"] = "%.0f" % max(peaks)
        self.backlog_end()


def rows_between(source, first, last):
    """A SELECT of rows first..last."""
    return source.replace("FIRST", str(first)).replace("LAST", str(last))


def count_lines(folder):
    """Rows in the change files of a jsonl folder, and bytes: lines that begin as changes do."""
    rows = size = 0
    for name in sorted(os.listdir(folder)):
        if name.endswith(".jsonl") and name[0] not in "._":
            with open(os.path.join(folder, name), "rb") as file:
                for line in file:
                    rows += line.startswith((b'{"op":"r"', b'{"op":"c"'))
                    size += len(line)
    return rows, size


def main(sizes):
    """Runs the parts that `sizes.only` names and returns {figure: text}."""
    bench = Bench(sizes)
    try:
        bench.fill()
        note("server %s, shared_buffers %s, %d rows of lineitem, pgbench scale %d, %d rounds" % (
            bench.value("show server_version"), sizes.shared_buffers, sizes.rows, sizes.scale, sizes.rounds))
        for part in sizes.only:
            getattr(bench, part)()
    finally:
        bench.server.stop("fast")
    return {name: bench.figures[name] for name in FIGURES if name in bench.figures}
