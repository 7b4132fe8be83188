"""A persistent psql: one session with its own transactions, many of them side by side.

Each request is followed by markers on both outputs, so that an answer is read to its end without guessing. Values come
as the server's own text (None for NULL): nothing converts them on the way. Thread: one session, one thread."""

import csv
import io
import os
import re
import select
import subprocess
import time
import uuid

from . import processes
from .processes import HarnessError, Timeout

NULL_MARK = "\x01null\x01"
_ERROR = re.compile(r"^(?:psql:[^\n]*?: )?(ERROR|FATAL|PANIC):  (?:(\w{5}): )?(.*)$", re.M)
_CLIENT_ERROR = re.compile(r"^psql: error: (.*)$|^(invalid command .*)$", re.M)


class SqlError(Exception):
    """A statement failed. `sqlstate` is five characters ('' when psql itself failed), `text` all it said."""

    def __init__(self, sqlstate, message, text):
        super().__init__("%s %s" % (sqlstate, message) if sqlstate else message)
        self.sqlstate = sqlstate
        self.message = message
        self.text = text


def quote_literal(text):
    """A string as an SQL literal."""
    if "\\" in text:
        return " E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
    return "'" + text.replace("'", "''") + "'"


def quote_identifier(name):
    return '"' + name.replace('"', '""') + '"'


class Session:
    """One psql process. `execute` sends and waits; `send` and `receive` do it in two steps, for statements that block."""

    def __init__(self, conninfo, environment=None, program="psql"):
        env = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        env.update({"PGCLIENTENCODING": "UTF8", "PGCONNECT_TIMEOUT": "20", "HOME": "/nonexistent"})  # nobody's .pgpass
        env.update(environment or {})
        self._process = subprocess.Popen(
            processes.dies_with_us([program, "-X", "-q", "-t", "--csv", "-P", "null=" + NULL_MARK,
                                    "-v", "VERBOSITY=verbose", "-v", "ON_ERROR_STOP=0", "-d", conninfo]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, bufsize=0)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            os.set_blocking(pipe.fileno(), False)
        self._out = b""
        self._err = b""
        self._unsent = b""
        self._marks = []
        self._scope = processes.current_scope()
        self._scope.add(self.close)
        self.notices = ""
        try:
            self.pid = int(self.value("select pg_backend_pid()"))
        except BaseException:
            self.close()
            raise

    def send(self, sql):
        """Sends without waiting. Each send needs one receive, in order."""
        mark = "--" + uuid.uuid4().hex + "--"
        self._marks.append(mark)
        sql = sql.rstrip()
        if sql and not sql.endswith(";") and not sql.lstrip().startswith("\\"):
            sql += "\n;"
        self._unsent += ("%s\n\\echo %s\n\\warn %s\n" % (sql, mark, mark)).encode()
        self._pump(0)

    def receive(self, timeout=60.0):
        """The rows of the oldest request not yet received: lists of text or None. Raises SqlError, or Timeout after
        which the answer can be asked for again."""
        mark = self._marks[0].encode() + b"\n"
        deadline = time.monotonic() + timeout
        while mark not in self._out or mark not in self._err:
            if not self._pump(deadline - time.monotonic()):
                self._marks.clear()
                text = self._err.decode(errors="replace")
                found = _ERROR.search(text)
                raise SqlError(found.group(2) or "" if found else "", found.group(3) if found else "psql ended: " + text.strip(),
                               text)
            if time.monotonic() >= deadline and (mark not in self._out or mark not in self._err):
                raise Timeout("no answer from psql in %.0f s" % timeout)
        self._marks.pop(0)
        out, self._out = self._out.split(mark, 1)
        err, self._err = self._err.split(mark, 1)
        text = err.decode(errors="replace")
        self.notices = text
        found = _ERROR.search(text)
        if found:
            raise SqlError(found.group(2) or "", found.group(3), text)
        found = _CLIENT_ERROR.search(text)
        if found:
            raise SqlError("", found.group(0), text)
        return parse_rows(out.decode())

    def waiting(self):
        """True while the oldest request has no complete answer (it may be blocked)."""
        self._pump(0)
        return bool(self._marks) and self._marks[0].encode() + b"\n" not in self._err

    def execute(self, sql, timeout=60.0):
        if self._marks:
            raise HarnessError("a sent statement was not received yet")
        self.send(sql)
        return self.receive(timeout)

    def value(self, sql, timeout=60.0):
        """The first column of the only row; None where it is NULL."""
        rows = self.execute(sql, timeout)
        if len(rows) != 1:
            raise HarnessError("%d rows where one was expected: %s" % (len(rows), sql))
        return rows[0][0]

    def close(self):
        """Ends the session (an open transaction is rolled back by the server)."""
        self._scope.remove(self.close)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            pipe.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _pump(self, timeout):
        """Moves bytes for at most `timeout` seconds, until something moved. False once psql has closed its outputs."""
        readers = [self._process.stdout, self._process.stderr]
        writers = [self._process.stdin] if self._unsent else []
        ready, can_write, _ = select.select(readers, writers, [], max(0.0, min(timeout, 1.0)))
        ended = 0
        for pipe in ready:
            piece = os.read(pipe.fileno(), 1 << 20)
            if not piece:
                ended += 1
            elif pipe is self._process.stdout:
                self._out += piece
            else:
                self._err += piece
        if can_write:
            try:
                self._unsent = self._unsent[os.write(self._process.stdin.fileno(), self._unsent[:65536]):]
            except BrokenPipeError:
                self._unsent = b""
        return ended < len(readers)


def parse_rows(text):
    """psql's --csv output. A row of one empty column is an empty line there."""
    rows = []
    for row in csv.reader(io.StringIO(text, newline=""), strict=True):
        rows.append([None if cell == NULL_MARK else cell for cell in row] or [""])
    return rows


csv.field_size_limit(1 << 30)
