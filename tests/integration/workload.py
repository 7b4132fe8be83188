"""A workload that hurts: seeded clients whose transactions exercise what breaks change capture.

Bank transfers over three tables, a ledger row in every transaction, big TOASTed texts that updates leave alone, moves of
keys, rows deleted and inserted again, savepoints rolled back, transactions from one row to tens of thousands, TRUNCATE,
a table with a collated key, one without a key and with equal rows, both again so wide that several lanes read pieces of
one snapshot, DDL of every kind, tables that come, go and return. Each DDL announces itself in its own transaction (the
form is in truth.py). The server may crash under it: whoever lost a session asks the ledger whether its transaction
stands. Also here: the reader of the truth's slot and the server's own text of a table. Clients are psql sessions, each
used by one thread; they are opened by the thread that calls setup, start and renew, which must be the main one."""

import json
import math
import random
import threading

from harness import SqlError, quote_literal
from truth import Truth, canonical_text, parse_lsn

ACCOUNTS = 200
BALANCE = 1000
BANKS = ("public.bank_a", "public.bank_b", "public.bank_c")
LEDGER = "public.ledger"
BANK_COLUMNS = {name: "balance" for name in BANKS}
BANK_SUM = ACCOUNTS * BALANCE * len(BANKS)
GUESTS = ("guest_a", "guest_b", 'Guest "c"')
TRUTH_SLOT = "truth"
SESSION = (
    "set timezone = 'UTC'; set datestyle = 'ISO, MDY'; set bytea_output = 'hex'; set extra_float_digits = 1; "
    "set lock_timeout = '3s'; set deadlock_timeout = '50ms'; set client_min_messages = 'error'"
)

TABLES = {
    "bank_a": ({"id": "integer", "balance": "bigint", "v": "bigint"}, ["id"], ""),
    "bank_b": ({"id": "integer", "balance": "bigint", "v": "bigint"}, ["id"], ""),
    "bank_c": ({"id": "integer", "balance": "bigint", "v": "bigint"}, ["id"], ""),
    "ledger": ({"client": "integer", "n": "bigint"}, ["client", "n"], ""),
    "docs": (
        {"id": "integer", "title": "text", "body": "text", "v": "bigint"},
        ["id"],
        "alter table docs alter column body set storage external",
    ),
    "labels": ({"code": 'text collate "und-x-icu"', "note": "text", "v": "bigint"}, ["code"], ""),
    "events": ({"kind": "integer", "note": "text"}, [], ""),
    "typed": (
        {
            "id": "bigint",
            'Größe "x"': "numeric",
            "b": "boolean",
            "y": "bytea",
            "t": "timestamp with time zone",
            "f": "double precision",
            "a": "integer[]",
        },
        ["id"],
        "alter table typed replica identity full",
    ),
    "churn": ({"id": "integer", "v": "bigint"}, ["id"], ""),
    "bulk": ({"id": "bigint", "v": "bigint", "pad": "text"}, ["id"], ""),
    "shape": ({"id": "integer", "v": "bigint"}, ["id"], ""),
}
# A row a page, so that few rows make the blocks of which pieces of a whole table are cut.
WIDE_TABLES = {
    "wide": (
        {"code": 'text collate "und-x-icu"', "v": "bigint", "pad": "text"},
        ["code"],
        "alter table wide set (fillfactor = 10)",
    ),
    "pile": ({"kind": "integer", "pad": "text"}, [], "alter table pile set (fillfactor = 10)"),
}
WIDE_ROWS = 2300


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


def announce(**message):
    """The statement that tells the truth of a DDL in the same transaction."""
    return "select pg_logical_emit_message(true, 'ddl', %s);" % quote_literal(json.dumps(message, ensure_ascii=False))


def create_sql(name, columns, key, more=""):
    """CREATE TABLE with its announcement, one transaction."""
    shown = {column: kind.split(" collate ")[0] for column, kind in columns.items()}
    parts = ["%s %s" % (quoted(column), kind) for column, kind in columns.items()]
    if key:
        parts.append("primary key (%s)" % ", ".join(quoted(column) for column in key))
    else:
        more = "alter table %s replica identity full; %s" % (quoted(name), more)
    return "begin; create table %s (%s); %s; %s commit" % (
        quoted(name),
        ", ".join(parts),
        more,
        announce(create="public." + name, columns=shown, key=key),
    )


def setup(session, wide=False):
    """Creates and fills the tables, those of WIDE_TABLES if `wide`. The truth's slot must exist already."""
    session.execute(SESSION)
    for name, (columns, key, more) in {**TABLES, **(WIDE_TABLES if wide else {})}.items():
        session.execute(create_sql(name, columns, key, more))
    if wide:
        session.execute(
            "insert into wide select 'Wide ' || i, 0, repeat('w', 600) from generate_series(1, %d) i" % WIDE_ROWS
        )
        session.execute("insert into pile select i %% 50, repeat('p', 600) from generate_series(1, %d) i" % WIDE_ROWS)
    for name in ("bank_a", "bank_b", "bank_c"):
        session.execute("insert into %s select i, %d, 0 from generate_series(1, %d) i" % (name, BALANCE, ACCOUNTS))
    session.execute(
        "insert into docs select i, 'doc ' || i, repeat(md5(i::text), 90), 0 from generate_series(1, 300) i"
    )
    session.execute("insert into labels select 'Label ' || md5(i::text), 'x', 0 from generate_series(1, 500) i")
    session.execute("insert into events select i % 7, 'n' || i % 13 from generate_series(1, 400) i")
    session.execute("insert into churn select i, 0 from generate_series(1, 400) i")
    session.execute("insert into shape select i, 0 from generate_series(1, 300) i")
    session.execute("insert into bulk select i, 0, 'p' from generate_series(1, 4000) i")


class Client:
    """One session and one seeded sequence of transactions."""

    def __init__(self, number, session, seed, share):
        self.number, self.session, self.random, self.share = number, session, random.Random(seed), share
        self.n = 0  # ledger rows committed
        self.versions = 0
        self.committed = self.failed = 0
        self.loss = None  # an Event while a crash of the server is expected; set once `session` is a new one

    def version(self):
        """A number that no other change carries."""
        self.versions += 1
        return self.versions * 100 + self.number

    def transact(self, body):
        """Runs body with a ledger row in one transaction; False if it failed (and was rolled back as a whole)."""
        ledger = "insert into ledger values (%d, %d)" % (self.number, self.n + 1)
        parts = [body, ledger] if self.random.random() < 0.5 else [ledger, body]
        session, stands = self.session, True
        try:
            session.execute("begin; %s; commit" % "; ".join(parts), 120)
        except SqlError as error:
            loss = self.loss
            if error.sqlstate[:3] in ("", "57P", "080") and (loss is not None or session is not self.session):
                stands = self._stands(loss)
            elif not error.sqlstate:
                raise
            else:
                stands = False
        self.n += stands
        self.committed += stands
        self.failed += not stands
        return stands

    def _stands(self, loss):
        """Whether the transaction whose answer was lost has committed, as its ledger row says. `loss`: see __init__."""
        if loss is not None and not loss.wait(120):
            raise RuntimeError("no new session after a crash of the server")
        return (
            self.session.value("select count(*) from ledger where client = %d and n = %d" % (self.number, self.n + 1))
            == "1"
        )

    def step(self):
        actions, weights = zip(*self.share)
        self.transact(self.random.choices(actions, weights)[0](self))

    # ---- bodies of transactions -------------------------------------------------------------------------------------

    def transfer(self):
        """2 to 6 accounts over three tables, in one order of locking; the sum stays."""
        r = self.random
        rows = sorted({(r.choice("abc"), r.randint(1, ACCOUNTS)) for _ in range(r.randint(2, 6))})
        amounts = [r.randint(-50, 50) for _ in rows[1:]]
        amounts.append(-sum(amounts))
        return "; ".join(
            "update bank_%s set balance = balance + %d, v = %d where id = %d" % (t, a, self.version(), i)
            for (t, i), a in zip(rows, amounts)
        )

    def document(self):
        r, i = self.random, self.random.randint(1, 330)
        choice = r.random()
        if choice < 0.45:  # the text stays where it is and is not in the log
            return "update docs set title = 't%d', v = %d where id between %d and %d" % (
                r.randint(1, 9),
                self.version(),
                i,
                i + 2,
            )
        if choice < 0.6:
            return "update docs set body = repeat(md5('%d'), %d), v = %d where id = %d" % (
                self.version(),
                r.choice((1, 80, 150)),
                self.version(),
                i,
            )
        if choice < 0.75:  # the key moves and the text does not
            return "delete from docs where id = %d; update docs set id = %d, v = %d where id = %d" % (
                i + 1,
                i + 1,
                self.version(),
                i,
            )
        if choice < 0.85:
            return "delete from docs where id = %d" % i
        return (
            "insert into docs values (%d, 'new', repeat(md5('%d'), 100), %d) on conflict (id) do update set v = excluded.v"
            % (i, self.version(), self.version())
        )

    def label(self):
        r = self.random
        code = "Label " + r.choice(("", "é", "Z", "z")) + str(r.randint(1, 300))
        choice = r.random()
        if choice < 0.5:
            return (
                "insert into labels values ('%s', 'it''s\n%d', %d) on conflict (code) do update set v = excluded.v, "
                "note = excluded.note" % (code, r.randint(1, 9), self.version())
            )
        if choice < 0.7:
            return "delete from labels where code = '%s'" % code
        if choice < 0.85:
            return "update labels set code = code || '+', v = %d where code = '%s'" % (self.version(), code)
        return "update labels set v = %d where v %% 50 = %d" % (self.version(), r.randint(0, 49))

    def event(self):
        r = self.random
        kind, note = r.randint(0, 6), r.choice(("null", "'n%d'" % r.randint(0, 12), "'new-tuple: x[text]:''1'''"))
        choice = r.random()
        if choice < 0.6:
            return "insert into events select %d, %s from generate_series(1, %d)" % (kind, note, r.randint(1, 4))
        if choice < 0.8:
            return "delete from events where ctid in (select ctid from events where kind = %d limit %d)" % (
                kind,
                r.randint(1, 5),
            )
        return "update events set note = %s where ctid in (select ctid from events where kind = %d limit %d)" % (
            note,
            kind,
            r.randint(1, 3),
        )

    def types(self):
        r, i = self.random, self.random.randint(-20, 60)
        if r.random() < 0.2:
            return "delete from typed where id = %d" % i
        return (
            "insert into typed values (%d, %s, %s, decode('%s', 'hex'), %s, %s, %s) on conflict (id) do update set "
            '"Größe ""x""" = excluded."Größe ""x""", b = excluded.b, y = excluded.y, t = excluded.t, '
            "f = excluded.f, a = excluded.a"
            % (
                i,
                r.choice(
                    ("null", "'NaN'", "0.00", "-12.3400", "1%s.5" % ("0" * r.randint(0, 30)), str(self.version()))
                ),
                r.choice(("null", "true", "false")),
                "00ff" * r.randint(0, 40),
                r.choice(("null", "clock_timestamp()", "'infinity'", "timestamptz '2026-02-03 04:05:06.5+02'")),
                r.choice(("null", "'NaN'", "'-Infinity'", "0.1", "1e300", "-0.5", "'1e-7'")),
                r.choice(("null", "'{}'", "'{1,null,-3}'", "array[%d]" % self.version())),
            )
        )

    def churn(self):
        r = self.random
        i, v = r.randint(1, 450), self.version()
        return r.choice(
            (
                "delete from churn where id = {i}; insert into churn values ({i}, {v})",
                "delete from churn where id = {i}; insert into churn values ({i}, {v}); delete from churn where id = {i}; "
                "insert into churn values ({i}, {v} + 1); update churn set v = {v} + 2 where id = {i}",
                "savepoint a; update churn set v = {v} where id between {i} and {i} + 5; rollback to a; "
                "update churn set v = {v} + 1 where id = {i}",
                "savepoint a; delete from churn where id = {i}; savepoint b; insert into churn values ({i}, {v}); release b; "
                "rollback to a; savepoint c; update churn set v = {v} where id = {i} + 1; release c",
                "update churn set id = -id, v = {v} where id = {i}; update churn set id = -id, v = {v} + 1 where id = -{i}",
                "update churn set v = {v} where id between {i} and {i} + 20",
                "insert into churn values ({i}, {v}) on conflict do nothing",
                "delete from churn where id between {i} and {i} + 3",
                "select 1",
            )
        ).format(i=i, v=v)

    def guest(self):
        name, i = quoted(self.random.choice(GUESTS)), self.random.randint(1, 60)
        return self.random.choice(
            (
                "insert into {0} values ({1}, {2}, repeat('g', 3000)) on conflict (id) do update set v = excluded.v",
                "update {0} set v = {2} where id = {1}",
                "delete from {0} where id = {1}",
            )
        ).format(name, i, self.version())

    def shape(self):
        i = self.random.randint(1, 320)
        return self.random.choice(
            (
                "insert into shape (id, v) values ({0}, {1}) on conflict (id) do update set v = excluded.v",
                "update shape set v = {1} where id between {0} and {0} + 3",
                "delete from shape where id = {0}",
            )
        ).format(i, self.version())

    def bulk(self):
        r, v = self.random, self.version()
        rows = int(math.exp(r.uniform(math.log(50), math.log(self.bulk_rows))))
        first = r.randint(1, 6000)
        return r.choice(
            (
                "insert into bulk select i, {v}, 'pad ' || i from generate_series({a}, {b}) i "
                "on conflict (id) do update set v = excluded.v",
                "update bulk set v = {v} where id between {a} and {b}",
                "delete from bulk where id between {a} and {b}",
                "delete from bulk where id >= {a}; insert into bulk select i, {v}, 'again' from generate_series({a}, {b}) i",
            )
        ).format(v=v, a=first, b=first + rows)

    def wide(self):
        """The tables that are read in pieces; never truncated, so that they stay wide."""
        r, v = self.random, self.version()
        code = "Wide %d" % r.randint(1, WIDE_ROWS + 100)
        return r.choice(
            (
                "update wide set v = {v} where code = '{code}'",
                "update wide set code = code || 'é', v = {v} where code = '{code}'",
                "delete from wide where code = '{code}'",
                "insert into wide values ('{code}', {v}, repeat('w', 600)) on conflict (code) do update set v = excluded.v",
                "insert into pile select {k}, repeat('p', 600) from generate_series(1, 2)",
                "delete from pile where ctid in (select ctid from pile where kind = {k} limit 2)",
                "update pile set pad = repeat('q', 590) where ctid in (select ctid from pile where kind = {k} limit 1)",
            )
        ).format(v=v, code=code, k=r.randint(0, 49))

    def empty(self):
        return "truncate %s" % self.random.choice(("churn", "events", "churn, docs", "bulk", "labels"))

    bulk_rows = 20000


ORDINARY = [
    (Client.transfer, 40),
    (Client.document, 14),
    (Client.label, 9),
    (Client.event, 9),
    (Client.types, 6),
    (Client.churn, 12),
    (Client.guest, 8),
    (Client.shape, 6),
]
WIDE = [(Client.wide, 6)]
BIG = [(Client.bulk, 9), (Client.empty, 1)]


class Shaper(Client):
    """The client of DDL: columns of `shape` and of `bank_b` come, go and change, guest tables come and go."""

    def __init__(self, number, session, seed):
        super().__init__(number, session, seed, [])
        self.names = 0
        self.columns = []  # added to shape: [name, type]
        self.bank_columns = 0
        self.guests = {}  # name -> exists

    def step(self):
        r = self.random
        choice = r.random()
        if choice < 0.55:
            self._shape(r)
        elif choice < 0.62 and self.bank_columns < 3:
            name = self._name()
            if self._ddl(
                "alter table bank_b add column %s integer" % name,
                add="public.bank_b",
                column=name,
                type="integer",
                default=None,
            ):
                self.bank_columns += 1
        else:
            self._guest(r)

    def _name(self):
        self.names += 1
        return "c%d" % self.names

    def _ddl(self, sql, **message):
        return self.transact("%s; %s" % (sql, announce(**message).rstrip(";")))

    def _shape(self, r):
        what = r.choice(("add", "add", "default", "remove", "rename", "retype"))
        if what in ("add", "default") and len(self.columns) < 6:
            name, kind = self._name(), r.choice(("integer", "text"))
            default = None if what == "add" else str(r.randint(1, 99))
            sql = "alter table shape add column %s %s" % (name, kind)
            if default is not None:
                sql += " default " + quote_literal(default)
            if self._ddl(sql, add="public.shape", column=name, type=kind, default=default):
                self.columns.append([name, kind])
        elif self.columns:
            self._alter_column(r, what)
        if self.columns and r.random() < 0.7:
            name, kind = r.choice(self.columns)
            value = str(r.randint(1, 999)) if kind != "text" else "'it is %d'" % r.randint(1, 9)
            self.transact(
                "update shape set %s = %s, v = %d where id %% 10 = %d" % (name, value, self.version(), r.randint(0, 9))
            )

    def _alter_column(self, r, what):
        column = r.choice(self.columns)
        if what == "remove":
            if self._ddl("alter table shape drop column %s" % column[0], remove="public.shape", column=column[0]):
                self.columns.remove(column)
        elif what == "rename":
            name = self._name()
            if self._ddl(
                "alter table shape rename column %s to %s" % (column[0], name),
                rename="public.shape",
                **{"from": column[0], "to": name}
            ):
                column[0] = name
        elif what == "retype" and column[1] == "integer":
            if self._ddl(
                "alter table shape alter column %s type bigint" % column[0],
                retype="public.shape",
                column=column[0],
                type="bigint",
            ):
                column[1] = "bigint"

    def _guest(self, r):
        name = r.choice(GUESTS)
        if self.guests.get(name) and r.random() < 0.5:
            if self._ddl("drop table %s" % quoted(name), drop="public." + name):
                self.guests[name] = False
        elif not self.guests.get(name):
            columns = {"id": "integer", "v": "bigint", "text": "text"}
            body = create_sql(name, columns, ["id"])[len("begin; ") : -len(" commit")].rstrip("; ")
            if r.random() < 0.5:
                body += "; insert into %s select i, i, 'born with it' from generate_series(1, 20) i" % quoted(name)
            if self.transact(body):
                self.guests[name] = True


class Workload:
    """The clients, each in a thread. `rate`: ordinary transactions a second, of all clients together. `wide`: as of setup."""

    def __init__(
        self, open_session, seed, clients=4, rate=45.0, bulk_rows=20000, bulk_every=12.0, ddl_every=2.5, wide=False
    ):
        self.clients = []
        self._paces = []
        self._open_session = open_session
        self._lost = []
        for number in range(1, clients + 1):
            self._add(Client(number, open_session(), seed * 1000 + number, ORDINARY + WIDE * wide), clients / rate)
        big = Client(clients + 1, open_session(), seed * 1000 + clients + 1, BIG)
        big.bulk_rows = bulk_rows
        self._add(big, bulk_every)
        self._add(Shaper(clients + 2, open_session(), seed * 1000 + clients + 2), ddl_every)
        self._stop = threading.Event()
        self._going = threading.Event()
        self._lock = threading.Condition()
        self._busy = 0
        self._threads = []
        self.error = None

    def _add(self, client, pace):
        client.session.execute(SESSION)
        self.clients.append(client)
        self._paces.append(pace)

    def start(self):
        self._going.set()
        for client, pace in zip(self.clients, self._paces):
            self._threads.append(threading.Thread(target=self._run, args=(client, pace), daemon=True))
            self._threads[-1].start()

    def _run(self, client, pace):
        try:
            while not self._stop.is_set():
                self._going.wait(1.0)
                with self._lock:
                    if not self._going.is_set() or self._stop.is_set():
                        continue
                    self._busy += 1
                try:
                    client.step()
                finally:
                    with self._lock:
                        self._busy -= 1
                        self._lock.notify_all()
                self._stop.wait(client.random.uniform(0, 2 * pace))
        except Exception as error:  # a thread's end must end the run, and be said
            self.error = error

    def pause(self):
        """Returns when no client is inside a transaction; none begins one until resume."""
        self._going.clear()
        with self._lock:
            if not self._lock.wait_for(lambda: self._busy == 0, 150):
                raise RuntimeError("the workload's clients did not come to rest")

    def resume(self):
        self._going.set()

    def expect_loss(self):
        """The server will crash: until renew, a session that ends is no error."""
        for client in self.clients:
            client.loss = threading.Event()

    def renew(self):
        """The server is back: each client gets a new session, and asks what became of its transaction."""
        for client in self.clients:
            session = self._open_session()
            session.execute(SESSION)
            self._lost.append(client.session)
            client.session, loss = session, client.loss
            client.loss = None
            loss.set()

    def close(self):
        """Ends the sessions; after stop."""
        for session in [client.session for client in self.clients] + self._lost:
            session.close()

    def stop(self):
        self._stop.set()
        self._going.set()
        for thread in self._threads:
            thread.join(150)
        if self.error:
            raise self.error

    def counts(self):
        """(committed, rolled back) of all clients."""
        return sum(c.committed for c in self.clients), sum(c.failed for c in self.clients)


class TruthReader:
    """Reads the truth's slot into a Truth, in a thread once started. `raw`: a file that keeps the text, or None."""

    def __init__(self, session, raw=None, every=3.0):
        self.truth = Truth()
        self.error = None
        self._session, self._every = session, every
        self._raw = open(raw, "w", encoding="utf-8") if raw else None
        self._stop = threading.Event()
        self._thread = None
        self._piece = []  # the transaction being read
        self._again = 0  # up to there a server that crashed may tell what it told before
        session.execute(SESSION)

    @staticmethod
    def create_slot(session):
        session.execute("select pg_create_logical_replication_slot('%s', 'test_decoding')" % TRUTH_SLOT)

    def start(self):
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            while not self._stop.wait(self._every):
                self.pull(1)
        except Exception as error:  # kept for finish, which raises it in the caller's thread
            self.error = error

    def pull(self, rounds=0):
        """Reads what is there: `rounds` pieces, or (0) until nothing is left."""
        while True:
            rows = self._session.execute(
                "select lsn, data from pg_logical_slot_get_changes('%s', null, 20000)" % TRUTH_SLOT, 300
            )
            for lsn, data in rows:
                self.take(lsn, data)
            if self._raw:
                self._raw.flush()
            rounds -= 1
            if not rows or rounds == 0:
                return

    def take(self, lsn, data):
        """One row of the slot; whole transactions go on, except those told again after a crash."""
        self._piece.append((lsn, data))
        if not data.startswith("COMMIT "):
            return
        piece, self._piece = self._piece, []
        if parse_lsn(lsn) <= self._again:
            return
        for row in piece:
            if self._raw:
                self._raw.write(json.dumps(row, ensure_ascii=False) + "\n")
            self.truth.feed(*row)

    def halt(self):
        """Stops the thread, wherever it is in the log."""
        self._stop.set()
        if self._thread:
            self._thread.join(300)
            self._thread = None
        self._stop.clear()
        if self.error:
            raise self.error

    def renew(self, session):
        """Goes on with a new session after a crash of the server, while halted. The slot may have fallen back."""
        self._session.close()
        self._session = session
        session.execute(SESSION)
        self._again, self._piece = self.truth.last_end, []

    def finish(self):
        """Stops the thread and reads the rest. Call it while the workload rests."""
        self.halt()
        self.pull()
        return self.truth

    def close(self):
        self._session.close()
        if self._raw:
            self._raw.close()


def server_rows(session, incarnation):
    """The table's rows as the server prints them: a list of {canonical column: text}, NULLs left out."""
    columns = session.execute(
        "select attname, format_type(atttypid, null) from pg_attribute where attrelid = %s::regclass and attnum > 0 "
        "and not attisdropped order by attnum" % quote_literal("public." + quoted(incarnation.name.split(".", 1)[1]))
    )
    rows = session.execute(
        "select %s from public.%s"
        % (", ".join(quoted(name) + "::text" for name, _kind in columns), quoted(incarnation.name.split(".", 1)[1])),
        300,
    )
    found = []
    for row in rows:
        found.append(
            {
                incarnation.alias[name]: canonical_text(kind, value)
                for (name, kind), value in zip(columns, row)
                if value is not None
            }
        )
    return found
