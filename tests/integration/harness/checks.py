"""What a case gets: checks that print one line each, and whatever it starts, ended with it. Thread: main."""

import base64
import os
import re
import sys

from . import processes
from .jsonl import JsonlFolder
from .memory import MemoryCgroup, PeakSampler
from .postgres import Postgres
from .tailrace import Tailrace


class CaseFailed(Exception):
    """Ends a case after a check that failed where going on makes no sense."""


def memory_setting():
    """Bytes of TAILRACE_TEST_MEMORY (such as 64MiB): with it every tailrace of a case that asks for no --memory of its own
    runs with --memory of that size, alone in a memory cgroup of twice that, or sampled where none can be made. 0: not set."""
    text = os.environ.get("TAILRACE_TEST_MEMORY", "")
    return int(text[:-3]) << 20 if text.endswith("MiB") else 0


class Watched(Tailrace):
    """A Tailrace whose memory is limited by a cgroup or sampled from each start on."""

    def __init__(self, *arguments, **keys):
        limit = memory_setting()
        keys["env"] = dict(keys.get("env") or {}, TAILRACE_MEMORY="%dMiB" % (limit >> 20))
        self.group = MemoryCgroup.make(2 * limit)
        self.samplers = []
        if self.group:
            keys["prefix"] = list(self.group.prefix) + list(keys.get("prefix") or ())
        super().__init__(*arguments, **keys)

    def start(self):
        super().start()
        self.samplers.append(PeakSampler(self.pid))
        return self


class Test:
    """One case's hands. Each check prints `ok NAME` or `not ok NAME: why` and is counted once."""

    def __init__(self, module_name, case_name, server_of_module):
        self.module_name = module_name
        self.case_name = case_name
        self._server_of_module = server_of_module
        self._tailraces = []
        self.passed = self.failed = self.skipped = 0

    # ---- checks -----------------------------------------------------------------------------------------------------

    def ok(self, name):
        self.passed += 1
        self._say("ok %s" % name)

    def fail(self, name, why=""):
        """A failed check; the case goes on."""
        self.failed += 1
        why = re.sub(r"\s*\n\s*", " | ", str(why).strip())[:1500]
        self._say("not ok %s%s" % (name, ": " + why if why else ""))

    def check(self, name, condition, why=""):
        """`condition` true: ok. Returns it as a bool; see require for a check that ends the case."""
        if condition:
            self.ok(name)
        else:
            self.fail(name, why)
        return bool(condition)

    def equal(self, name, got, want):
        """ok when they are equal; otherwise shows both."""
        return self.check(name, got == want, "got %.600r, want %.600r" % (got, want))

    def require(self, name, condition, why=""):
        """A check that ends the case when it fails."""
        if not self.check(name, condition, why):
            raise CaseFailed(name)

    def skip(self, name, reason):
        """Counted, printed, and fatal under --no-skip: only for what this machine cannot do."""
        self.skipped += 1
        self._say("skip %s: %s" % (name, reason))

    def note(self, text):
        self._say("# " + text)

    @staticmethod
    def _say(text):
        print(text)
        sys.stdout.flush()

    # ---- what a case starts -----------------------------------------------------------------------------------------

    @property
    def server(self):
        """The module's PostgreSQL (started by the first case that asks)."""
        return self._server_of_module()

    def own_server(self, settings=None, auth="trust", start=True):
        """A server of this case alone."""
        server = Postgres(settings, auth)
        return server.start() if start else server

    def database(self, sql=None, server=None):
        """A new database named after the case; returns its name. It is dropped, slots included, at the case's end."""
        server = server or self.server
        name = re.sub(r"[^a-z0-9_]", "_", (self.module_name[5:] + "_" + self.case_name[5:]).lower())[:40]
        taken = {row[0] for row in server.sql("select datname from pg_database")}
        number, base = 1, name
        while name in taken:
            number += 1
            name = "%s_%d" % (base, number)
        server.create_database(name, sql)

        def drop():
            if server.running():
                server.drop_database(name)
        processes.current_scope().add(drop)
        return name

    def temp(self):
        """A new empty folder."""
        return processes.temporary_folder()

    def jsonl(self):
        """A JsonlFolder at a path that does not exist yet."""
        return JsonlFolder(os.path.join(processes.temporary_folder(), "out"))

    def tailrace(self, *arguments, **keys):
        """A Tailrace that is ended with the case; its stderr is shown when the case fails. Not started yet."""
        kind = Watched if memory_setting() and "--memory" not in arguments and arguments[0] in ("run", "once") else Tailrace
        process = kind(*arguments, **keys)
        self._tailraces.append(process)
        return process

    def check_memory(self):
        """At a case's end, with TAILRACE_TEST_MEMORY: one check over all its processes that were watched."""
        watched = [process for process in self._tailraces if isinstance(process, Watched)]
        if not watched:
            return
        limit = memory_setting()
        peak = max([sampler.stop() for process in watched for sampler in process.samplers] or [0])
        grouped = all(process.group for process in watched)
        name = "memory %s %s.%s peak %.1f MiB of anonymous memory, %s" % (
            os.environ["TAILRACE_TEST_MEMORY"], self.module_name[5:], self.case_name[5:], peak / 1048576,
            "in a cgroup of %d MiB" % (limit >> 19) if grouped else "sampled every 10 ms")
        if grouped:
            self.check(name, not any(process.group.out_of_memory() for process in watched), "the kernel ended it: out of memory")
        else:
            self.check(name, peak <= limit, "more than %d MiB" % (limit >> 20))

    def once(self, source, sink, *arguments, timeout=60.0, **keys):
        """`tailrace once SOURCE SINK`: a Result."""
        return self.tailrace("once", source, sink, *arguments, **keys).run(timeout)

    def show_logs(self):
        for process in self._tailraces:
            text = process.stderr_text()
            if text:
                print("# stderr of %s:" % " ".join(process.arguments), file=sys.stderr)
                print("\n".join("#   " + line for line in text.splitlines()[-40:]), file=sys.stderr)

    # ---- comparing --------------------------------------------------------------------------------------------------

    def same_table(self, name, folder, table, database, server=None, order="1"):
        """Checks that the folder rebuilds `table` ("public.t") to the rows that the server selects now: every column of the
        server, as text (see plain_text for how the JSON forms are compared)."""
        server = server or self.server
        return self.check(name, *compare_table(folder.state().table(table), server, table, database, order))


def compare_table(rebuilt, server, table, database, _order="1"):
    """(equal?, why not) of a rebuilt Table and the server's own `::text` of every column."""
    schema, plain = table.split(".", 1)
    columns = server.sql(
        "select attname, format_type(atttypid, null) from pg_attribute where attrelid = "
        "('\"%s\".\"%s\"')::regclass and attnum > 0 and not attisdropped order by attnum" % (schema, plain), database)
    select = ", ".join('encode("%s", \'hex\')' % n if t == "bytea" else '"%s"::text' % n for n, t in columns)
    want = [tuple(row) for row in server.sql('select %s from "%s"."%s"' % (select, schema, plain), database)]
    want = sorted((tuple(plain_server(v, t) for v, (_n, t) in zip(row, columns)) for row in want), key=repr)
    got = []
    for row in rebuilt.all_rows():
        lost = [n for n, _t in columns if n not in row]
        if lost:
            return False, "a row without %s: %r" % (lost, row)
        got.append(tuple(plain_text(row[n], t) for n, t in columns))
    got.sort(key=repr)
    if got == want:
        return True, ""
    only_got, only_want = _difference(got, want), _difference(want, got)
    return False, "%s: %d rows, the server has %d; only here %.300r; only there %.300r" % (
        table, len(got), len(want), only_got[:3], only_want[:3])


def _difference(left, right):
    rest = list(left)
    other = {}
    for row in right:
        other[row] = other.get(row, 0) + 1
    out = []
    for row in rest:
        if other.get(row, 0):
            other[row] -= 1
        else:
            out.append(row)
    return out


def plain_text(value, type_name):
    """A JSON value of the changelog as the text that plain_server gives for the same value."""
    if value is None:
        return None
    if type_name == "bytea":
        return base64.b64decode(value, validate=True).hex()
    if isinstance(value, bool):
        return "true" if value else "false"
    if type_name in ("real", "double precision"):
        return repr(float(value))
    if type_name.startswith("timestamp") and isinstance(value, str):
        return _plain_time(value)
    return str(value)


def plain_server(text, type_name):
    """The server's text, with the freedoms of notation removed that JSON forms have (floats, T and Z in times)."""
    if text is None:
        return None
    if type_name in ("real", "double precision"):
        return repr(float(text))
    if type_name.startswith("timestamp"):
        return _plain_time(text)
    return text


def _plain_time(text):
    text = text.replace("T", " ")
    text = re.sub(r"(Z|\+00)$", "+00", text)
    return re.sub(r"(\.\d*?)0+(?=\+|$)", lambda m: "" if m.group(1) == "." else m.group(1), text)
