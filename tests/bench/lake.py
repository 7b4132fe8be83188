"""The bench `lake`: PostgreSQL into Iceberg tables, and the two things that it is made of. README.md defines the figures. Thread: main."""

import os
import re
import shutil

from harness import HarnessError, temporary_folder
from measure import MIB, Job, counts, expect, median, program, run
import postgres
from postgres import log_seconds, note

FIGURES = ("lake_pg.cpu_us_row", "lake_pg_1.ratio", "lake_pg_2.ratio", "parquet.us_row", "parquet.bytes_row",
           "index.probes_per_s", "index.bytes_key", "index.us_change", "index.us_insert", "upsert.rows_per_cpu_s", "lake.rss_mib")
PARTS = ("parquet", "index", "load_1", "load_2", "upsert")


class Bench(postgres.Bench):
    """One server, filled once; each part measures and returns its figures."""

    def programs(self, name, figures):
        """A micro-benchmark's figures: medians of its runs; what else it prints is said."""
        found = [dict(re.findall(r"^(\w+\.\w+) (\S+)$", run([program(name)], 600).out, re.M)) for _ in range(self.sizes.rounds)]
        for figure in found[0]:
            value = median([float(pairs[figure]) for pairs in found])
            if figure in figures:
                self.figures[figure] = "%.3f" % value if value < 1000 else "%.0f" % value
            else:
                note("%s %.3f" % (figure, value))

    def parquet(self):
        self.programs("bench_parquet_encode", FIGURES)

    def index(self):
        self.programs("bench_key_index", FIGURES)

    # ---- a full load ------------------------------------------------------------------------------------------------

    def load(self, lanes):
        rows = self.sizes.rows

        def ours():
            folder = temporary_folder()
            job = Job(self.server.url("bench", lanes=lanes), "iceberg://" + folder, "public.lineitem")
            ended = job.once(3600, True)
            ended.phase = log_seconds(ended, "ended") - log_seconds(ended, "started")
            ended.stored = folder_bytes(folder)
            job.drop()
            shutil.rmtree(folder)
            return ended

        def limit():
            ended = run([program("limit_pg"), self.conninfo(), "public.lineitem", str(lanes)], 3600)
            found = counts(ended.out)
            expect("rows of the limit's client", found["rows"], rows)
            ended.phase = found["seconds"]
            return ended

        name = "lake_pg_%d" % lanes
        pairs = self.rounds(name, ours, limit)
        for ended, bare in pairs:
            note("%s tailrace %.0f rows/s to the last commit (%s, %.1f bytes a row); limit %.0f rows/s (%s); ratio %.3f" % (
                name, rows / ended.phase, ended.cost(rows), ended.stored / rows, rows / bare.phase, bare.cost(rows),
                bare.phase / ended.phase))
        self.figures[name + ".ratio"] = "%.3f" % median([bare.phase / ended.phase for ended, bare in pairs])
        self.peak(max(ended.anonymous for ended, _bare in pairs))
        if lanes == 1:
            self.figures["lake_pg.cpu_us_row"] = "%.3f" % median([ended.cpu / rows * 1e6 for ended, _bare in pairs])

    def load_1(self):
        self.load(1)

    def load_2(self):
        self.load(2)

    def peak(self, anonymous):
        """lake.rss_mib is the highest peak of all parts."""
        before = float(self.figures.get("lake.rss_mib", 0))
        self.figures["lake.rss_mib"] = "%.0f" % max(before, anonymous / MIB)

    # ---- upserts ----------------------------------------------------------------------------------------------------

    def upsert(self):
        keys, rows = self.sizes.keys, self.sizes.upserts
        self.progress("upsert: %d keys" % keys)
        self.sql("drop table if exists accounts")
        self.sql("create table accounts (id bigint primary key, branch int not null, balance bigint not null, filler char(84) not null)")
        self.sql("insert into accounts select i, i %% 1000, 0, '' from generate_series(1, %d) i" % keys)
        self.sql("checkpoint")
        folder = temporary_folder()
        job = Job(self.server.url("bench"), "iceberg://" + folder, "public.accounts")
        job.once(3600)
        rates = []
        for number in range(self.sizes.rounds):
            self.sql("""do $$ declare done bigint := 0; begin
                while done < %d loop
                  update accounts set balance = balance + 1
                    where id in (select 1 + (random() * %d)::bigint from generate_series(1, 1000));
                  commit;
                  done := done + 1000;
                end loop; end $$""" % (rows, keys - 1))
            changed = int(self.value("select sum(balance) from accounts"))
            ended = job.once(3600, True)
            changed, before = changed, getattr(self, "_changed", 0)
            self._changed = changed
            rates.append((changed - before) / ended.cpu)
            self.peak(ended.anonymous)
            note("upsert %d rows of %d keys: %.0f rows a CPU second (%s)" % (
                changed - before, keys, rates[-1], ended.cost(changed - before)))
            self.progress("upsert: round %d of %d" % (number + 1, self.sizes.rounds))
        self.figures["upsert.rows_per_cpu_s"] = "%.0f" % median(rates)
        job.drop()
        shutil.rmtree(folder)
        self.sql("drop table accounts")


def folder_bytes(folder):
    """Bytes of all data files."""
    total = 0
    for where, _folders, names in os.walk(folder):
        total += sum(os.path.getsize(os.path.join(where, name)) for name in names if name.endswith(".parquet"))
    if total == 0:
        raise HarnessError("no data file in %s" % folder)
    return total


def main(sizes):
    """Runs the parts that `sizes.only` names and returns {figure: text}."""
    bench = Bench(sizes)
    try:
        bench.fill()
        note("server %s, shared_buffers %s, %d rows of lineitem, %d keys to upsert, %d rounds" % (
            bench.value("show server_version"), sizes.shared_buffers, sizes.rows, sizes.keys, sizes.rounds))
        for part in sizes.only:
            getattr(bench, part)()
    finally:
        bench.server.stop("fast")
    return {name: bench.figures[name] for name in FIGURES if name in bench.figures}
