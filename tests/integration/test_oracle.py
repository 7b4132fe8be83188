"""The oracle of the kill loop, judged itself: right changelogs pass, each kind of wrong one is caught.

First by hand, small enough to be read; then with a real server's test_decoding as the truth and hundreds of honest
changelogs' worth of spoiled lines. The workload's and the truth reader's own tests are the server's SELECT."""

import copy
import itertools
import json
import os
import random
import time

import truth as truth_module
from kill_loop import OPENING, RESTING, Kill, failpoint_names
from oracle import Checker
from scribe import Scribe, save_files
from truth import Truth
from workload import BANK_COLUMNS, BANK_SUM, LEDGER, SESSION, TABLES, TruthReader, Workload, server_rows, setup

TIMEOUT = 240
SERVERS = False  # the judge is judged, not the product
SPOILS = 6  # of each kind, on the real workload's changelog
ACCOUNT = '{"create": "public.a", "columns": {"id": "integer", "balance": "bigint"}, "key": ["id"]}'
NUMBERS = itertools.count()
BAG = '{"create": "public.k", "columns": {"x": "text"}, "key": []}'


class Log:
    """The text of a slot, by hand: transactions end at 0x100, 0x200, ..."""

    def __init__(self):
        self.truth = Truth()
        self.number = 0

    def tx(self, *texts):
        """One transaction; returns its (xid, end)."""
        self.number += 1
        xid, end = 700 + self.number, self.number * 0x100
        lsn = "0/%X" % end
        self.truth.feed(lsn, "BEGIN %d" % xid)
        for text in texts:
            self.truth.feed(
                lsn,
                (
                    "message: transactional: 1 prefix: ddl, sz: %d content:%s" % (len(text), text)
                    if text.startswith("{")
                    else "table " + text
                ),
            )
        self.truth.feed(lsn, "COMMIT %d" % xid)
        return xid, end


def row(op, key, after, tx=None, before=None, joined=None, gen=1, table="public.a", unchanged=None):
    """A line; tx is (xid, end), or joined a snapshot's place."""
    line = {"op": op, "table": table, "key": key, "before": before, "after": after}
    if unchanged:
        line["unchanged"] = unchanged
    line.update(
        {
            "tx": {"id": tx[0], "n": next(NUMBERS)} if tx else None,
            "ts": "2026-01-02T03:04:05Z",
            "source": {"lsn": "0/%X" % (tx[1] if tx else joined), "snapshot": False if tx else "first", "gen": gen},
        }
    )
    return line


def account(op, number, balance, tx=None, **more):
    after = None if op == "d" else {"id": number, "balance": balance}
    return row(op, {"id": number}, after, tx, **more)


def commit(seq, lines, applied, inconsistent=(), epoch=1, schemas=None):
    """A file: schema lines, lines, commit line."""
    columns = {"public.a": ["id", "balance"], "public.k": ["x"]}
    columns.update(schemas or {})
    tables = []
    for line in lines:
        if line["table"] not in tables:
            tables.append(line["table"])
    file = [
        {
            "schema": {
                "table": name,
                "version": 1,
                "columns": [{"name": column, "type": "x", "nullable": True, "key": False} for column in columns[name]],
            }
        }
        for name in tables
    ]
    return (
        file
        + lines
        + [
            {
                "commit": {
                    "job": "j",
                    "epoch": epoch,
                    "seq": seq,
                    "rows": len(lines),
                    "schema": None,
                    "position": {"v": 1, "applied": "0/%X" % applied, "resume": "0/%X" % applied} if applied else None,
                    "inconsistent": list(inconsistent),
                }
            }
        ]
    )


def judge(t, truth, files, bank=None, ledger=None):
    folder = t.temp()
    save_files(folder, files)
    return Checker(truth, bank, ledger).run(folder)


def expect(t, name, found, *kinds):
    """Right (no kinds): nothing may be found; wrong: every kind named."""
    if kinds:
        t.check("oracle catches " + name, set(kinds) <= found.kinds(), "found %s" % (found.texts or "nothing"))
    else:
        t.equal("oracle accepts " + name, found.texts, [])


def accounts_history():
    """Three accounts, made, moved between, one deleted and made again."""
    log = Log()
    log.tx(ACCOUNT, *("public.a: INSERT: id[integer]:%d balance[bigint]:100" % i for i in (1, 2, 3)))
    events = [
        log.tx(
            "public.a: UPDATE: id[integer]:1 balance[bigint]:90", "public.a: UPDATE: id[integer]:2 balance[bigint]:110"
        ),
        log.tx(
            "public.a: UPDATE: id[integer]:1 balance[bigint]:80", "public.a: UPDATE: id[integer]:3 balance[bigint]:120"
        ),
        log.tx("public.a: DELETE: id[integer]:3", "public.a: INSERT: id[integer]:3 balance[bigint]:120"),
        log.tx("public.a: UPDATE: old-key: id[integer]:2 new-tuple: id[integer]:9 balance[bigint]:110"),
    ]
    two, three, four, five = events
    files = [
        commit(1, [], 0),
        commit(2, [account("r", i, 100, joined=0x100) for i in (1, 2, 3)], 0x100),
        commit(3, [account("u", 1, 90, two), account("u", 2, 110, two)], 0x200),
        commit(4, [account("u", 1, 80, three), account("u", 3, 120, three)], 0x300),
        commit(5, [], 0x300, epoch=2),
        commit(
            6,
            [
                account("d", 3, 0, four, before={"id": 3}),
                account("c", 3, 120, four),
                row("u", {"id": 9}, {"id": 9, "balance": 110}, five, before={"id": 2}),
            ],
            0x500,
            epoch=2,
        ),
    ]
    return log.truth, files


def case_by_hand(t):
    truth, files = accounts_history()
    expect(t, "a right changelog", judge(t, truth, files))

    def wrong(name, spoil, *kinds):
        spoiled = copy.deepcopy(files)
        spoil(spoiled)
        for file in spoiled:
            if "commit" in file[-1]:
                recount(file)
        expect(t, name, judge(t, truth, spoiled), *kinds)

    wrong("a missing change", lambda f: f[3].pop(1), "missing", "state")
    wrong("a missing last change", lambda f: f[5].pop(3), "missing", "state")
    wrong("a missing delete and insert of one key", lambda f: [f[5].pop(1), f[5].pop(1)], "missing")
    wrong("a doubled change", lambda f: f[3].insert(2, f[3][1]), "doubled")
    wrong("a change that is shown again later", lambda f: f[5].insert(1, f[3][1]), "doubled", "torn")
    wrong("a doubled snapshot row", lambda f: f[1].insert(2, f[1][1]), "doubled")
    wrong("a change that the snapshot covers", lambda f: f[1].insert(2, account("c", 1, 100, (701, 0x100))), "doubled")

    def swap(f):
        f[2][1], f[3][1] = f[3][1], f[2][1]

    wrong("two changes of a key in the wrong order", swap, "order")

    def swap_within(f):
        f[5][1], f[5][2] = f[5][2], f[5][1]

    wrong("an insert before the delete it follows", swap_within, "order")

    def swap_keys(f):
        f[2][1], f[2][2] = f[2][2], f[2][1]

    wrong("two changes of a transaction, of two keys, in the wrong order", swap_keys, "order")
    wrong("a snapshot row that says it is of the log", lambda f: f[1][1]["source"].update(snapshot=False), "form")
    wrong("a change that says it is of a snapshot", lambda f: f[2][1]["source"].update(snapshot="first"), "form")
    wrong("an insert with a before-image", lambda f: f[5][2].update(before={"id": 3}), "form")
    wrong("keys of a line in another order", lambda f: f[2][1].update(op=f[2][1].pop("op")), "form")
    wrong("a stale value", lambda f: f[3][1]["after"].update(balance=90), "value", "state")
    wrong("a stale snapshot row", lambda f: f[1][1]["after"].update(balance=99), "value")
    wrong("a wrong JSON type", lambda f: f[3][1]["after"].update(balance="80"), "form")
    wrong("a column left out", lambda f: f[3][1]["after"].pop("balance"), "value")
    wrong("a torn transaction", lambda f: f[3].insert(1, f[2].pop(2)), "torn", "state")
    wrong("a row beyond the position", lambda f: f[3][-1]["commit"]["position"].update(applied="0/200"), "torn")
    wrong("a transaction nobody committed", lambda f: f[3].insert(1, account("u", 1, 85, (999, 0x300))), "value")
    wrong("a gap between commits", lambda f: f.pop(4), "sequence")
    wrong("an epoch that falls back", lambda f: f[5][-1]["commit"].update(epoch=1), "sequence")
    wrong("an epoch left out", lambda f: [f[i][-1]["commit"].update(epoch=3) for i in (4, 5)], "sequence")
    wrong("an epoch without a claim", lambda f: f[3][-1]["commit"].update(epoch=7), "sequence")
    wrong("a position that falls back", lambda f: f[4][-1]["commit"]["position"].update(applied="0/100"), "sequence")
    wrong("a file without its commit", lambda f: f[3].pop(), "form")
    wrong("an unknown operation", lambda f: f[3][1].update(op="x"), "form")
    miscounted = copy.deepcopy(files)
    miscounted[3][-1]["commit"]["rows"] += 1
    expect(t, "a wrong count of rows", judge(t, truth, miscounted), "form")
    wrong(
        "a snapshot row of a key that was not there",
        lambda f: f[1].insert(2, account("r", 8, 1, joined=0x100)),
        "value",
        "state",
    )
    wrong("a before that the row never was", lambda f: f[3][1].update(before={"id": 1, "balance": 91}), "state")
    wrong(
        "a lost half of a move", lambda f: f[5].__setitem__(3, account("c", 9, 110, (705, 0x500))), "missing", "state"
    )

    def unfinished(f):
        f[5][-1]["commit"]["inconsistent"] = ["public.a"]
        f[5].pop(3)

    wrong("a loss excused by the word inconsistent", unfinished, "state")


def case_join(t):
    """Changes of a key that comes and goes: the rows that join behind them cover them, those that join before do not."""
    log = Log()
    log.tx(ACCOUNT, "public.a: INSERT: id[integer]:1 balance[bigint]:5")
    txs = [log.tx("public.a: INSERT: id[integer]:8 balance[bigint]:6"), log.tx("public.a: DELETE: id[integer]:8")]
    shown = [account("c", 8, 6, txs[0]), account("d", 8, 0, txs[1], before={"id": 8})]

    def files(joined, lines):
        return [
            commit(1, [], 0),
            commit(2, [], 0x100, ["public.a"], epoch=1),
            commit(3, [account("r", 1, 5, joined=joined)] + lines, 0x300),
        ]

    expect(t, "rows that cover a key that came and went", judge(t, log.truth, files(0x300, [])))
    expect(t, "rows, and a key that came and went after them", judge(t, log.truth, files(0x100, shown)))
    expect(t, "changes lost behind a join", judge(t, log.truth, files(0x100, [])), "missing")


def case_bank_sum(t):
    log = Log()
    log.tx(
        ACCOUNT,
        "public.a: INSERT: id[integer]:1 balance[bigint]:100",
        "public.a: INSERT: id[integer]:2 balance[bigint]:100",
    )
    two = log.tx(
        "public.a: UPDATE: id[integer]:1 balance[bigint]:90", "public.a: UPDATE: id[integer]:2 balance[bigint]:110"
    )
    bank = ({"public.a": "balance"}, 200)
    snapshot = [account("r", 1, 100, joined=0x100), account("r", 2, 100, joined=0x100)]
    moves = [account("u", 1, 90, two), account("u", 2, 110, two)]
    expect(
        t,
        "a bank whose sum holds",
        judge(t, log.truth, [commit(1, [], 0), commit(2, snapshot, 0x100), commit(3, moves, 0x200)], bank),
    )
    expect(
        t,
        "a bank's sum broken at one commit",
        judge(
            t,
            log.truth,
            [commit(1, [], 0), commit(2, snapshot, 0x100), commit(3, moves[:1], 0x100), commit(4, moves[1:], 0x200)],
            bank,
        ),
        "sum",
        "torn",
    )
    found = judge(
        t,
        log.truth,
        [commit(1, [], 0), commit(2, snapshot[:1], 0x100, ["public.a"]), commit(3, snapshot[1:] + moves, 0x200)],
        bank,
    )
    expect(t, "a bank's sum that is not there yet where the commit says so", found)
    found = judge(
        t, log.truth, [commit(1, [], 0), commit(2, snapshot[:1], 0x100), commit(3, snapshot[1:] + moves, 0x200)], bank
    )
    expect(t, "an inconsistent commit that does not say so", found, "sum", "state")


def case_ledger(t):
    log = Log()
    log.tx('{"create": "public.l", "columns": {"client": "integer", "n": "bigint"}, "key": ["client", "n"]}')
    txs = [log.tx("public.l: INSERT: client[integer]:1 n[bigint]:%d" % n) for n in (1, 2)]
    lines = [row("c", {"client": 1, "n": n}, {"client": 1, "n": n}, tx, table="public.l") for n, tx in zip((1, 2), txs)]
    schemas = {"public.l": ["client", "n"]}
    right = [commit(1, [], 0x100, ["public.l"]), commit(2, [], 0x100), commit(3, lines, 0x300, schemas=schemas)]
    expect(t, "a ledger", judge(t, log.truth, right, ledger="public.l"))
    late = [commit(1, [], 0x100, ["public.l"]), commit(2, [], 0x200), commit(3, lines, 0x300, schemas=schemas)]
    expect(t, "a table said to be consistent of which nothing was shown yet", judge(t, log.truth, late), "state")
    wrong = [commit(1, [], 0x100, ["public.l"]), commit(2, [], 0x100), commit(3, lines[1:], 0x300, schemas=schemas)]
    expect(t, "a hole in a ledger", judge(t, log.truth, wrong, ledger="public.l"), "sum", "missing")


def case_generation(t):
    """A table dropped and made again under its name, and a column added with a default."""
    log = Log()
    log.tx(
        ACCOUNT,
        "public.a: INSERT: id[integer]:1 balance[bigint]:5",
        "public.a: INSERT: id[integer]:2 balance[bigint]:6",
    )
    log.tx('{"drop": "public.a"}')
    log.tx(ACCOUNT, "public.a: INSERT: id[integer]:1 balance[bigint]:7")
    four = log.tx("public.a: INSERT: id[integer]:4 balance[bigint]:8")
    first = [account("r", 1, 5, joined=0x100), account("r", 2, 6, joined=0x100)]
    record = row("t", {}, None, joined=0x300, gen=2)
    again = [record, account("r", 1, 7, joined=0x300, gen=2), account("c", 4, 8, four, gen=2)]
    start = [commit(1, [], 0), commit(2, first, 0x100)]
    expect(t, "a table made again", judge(t, log.truth, start + [commit(3, again, 0x400)]))
    skipped = [dict(line, source=dict(line["source"], gen=3)) for line in again]
    expect(t, "a generation left out", judge(t, log.truth, start + [commit(3, skipped, 0x400)]), "generation")
    expect(t, "a missing generation record", judge(t, log.truth, start + [commit(3, again[1:], 0x400)]), "generation")
    old = [dict(line, source=dict(line["source"], gen=1)) for line in again[1:]]
    expect(
        t,
        "a table made again under its old generation",
        judge(t, log.truth, start + [commit(3, old, 0x400)]),
        "generation",
    )
    expect(t, "a table made again and never read", judge(t, log.truth, start + [commit(3, [], 0x400)]), "missing")
    late = [account("r", 2, 6, joined=0x300, gen=1)]
    expect(t, "a row of a void generation", judge(t, log.truth, start + [commit(3, again + late, 0x400)]), "generation")

    log = Log()
    log.tx(ACCOUNT, "public.a: INSERT: id[integer]:1 balance[bigint]:5")
    two = log.tx("public.a: UPDATE: id[integer]:1 balance[bigint]:6")
    log.tx('{"drop": "public.a"}')
    shown = [commit(1, [], 0), commit(2, [account("r", 1, 5, joined=0x100)], 0x100)]
    expect(t, "a table dropped", judge(t, log.truth, shown + [commit(3, [account("u", 1, 6, two)], 0x300)]))
    expect(
        t, "a change lost before its table is dropped", judge(t, log.truth, shown + [commit(3, [], 0x300)]), "missing"
    )
    expect(
        t,
        "a stale row before its table is dropped",
        judge(t, log.truth, shown + [commit(3, [], 0x200)]),
        "missing",
        "state",
    )

    log = Log()
    log.tx(ACCOUNT, "public.a: INSERT: id[integer]:1 balance[bigint]:5")
    log.tx('{"add": "public.a", "column": "c", "type": "integer", "default": "3"}')
    three = log.tx("public.a: INSERT: id[integer]:2 balance[bigint]:6 c[integer]:4")
    schemas = {"public.a": ["id", "balance", "c"]}
    first = commit(1, [account("r", 1, 5, joined=0x100)], 0x100)
    second = row("c", {"id": 2}, {"id": 2, "balance": 6, "c": 4}, three, gen=2)
    read = row("r", {"id": 1}, {"id": 1, "balance": 5, "c": 3}, joined=0x200, gen=2)
    right = [commit(1, [], 0)] + [
        commit(2, first[1:-1], 0x100),
        commit(3, [row("t", {}, None, joined=0x200, gen=2), read, second], 0x300, schemas=schemas),
    ]
    expect(t, "a default read again", judge(t, log.truth, right))
    lost = [commit(1, [], 0)] + [
        commit(2, first[1:-1], 0x100),
        commit(3, [dict(second, source=dict(second["source"], gen=1))], 0x300, schemas=schemas),
    ]
    expect(t, "a default that nobody read", judge(t, log.truth, lost), "state")


def case_without_key(t):
    log = Log()
    log.tx(BAG, *["public.k: INSERT: x[text]:'a'"] * 2)
    two = log.tx("public.k: INSERT: x[text]:'a'", "public.k: INSERT: x[text]:'it''s'", "public.k: INSERT: x[text]:null")
    three = log.tx("public.k: DELETE: x[text]:'a'", "public.k: UPDATE: old-key: x[text]:'a' new-tuple: x[text]:'b'")

    def bag(op, before, after, tx=None, joined=None):
        return row(
            op,
            {},
            after if after is None else {"x": after[0]},
            tx,
            None if before is None else {"x": before[0]},
            joined,
            table="public.k",
        )

    snapshot = [bag("r", None, ["a"], joined=0x100), bag("r", None, ["a"], joined=0x100)]
    seconds = [bag("c", None, ["a"], two), bag("c", None, ["it's"], two), bag("c", None, [None], two)]
    thirds = [bag("d", ["a"], None, three), bag("u", ["a"], ["b"], three)]

    def files(*groups):
        return [commit(1, [], 0)] + [commit(i + 2, lines, applied) for i, (lines, applied) in enumerate(groups)]

    expect(t, "a table without a key", judge(t, log.truth, files((snapshot, 0x100), (seconds, 0x200), (thirds, 0x300))))
    unseen = [dict(line, source=dict(line["source"], lsn="0/200")) for line in snapshot]
    expect(
        t,
        "a transaction below the join that the snapshot did not see",
        judge(t, log.truth, files((unseen + seconds, 0x200), (thirds, 0x300))),
    )
    expect(
        t,
        "one of two equal rows lost",
        judge(t, log.truth, files((snapshot[:1], 0x100), (seconds, 0x200), (thirds, 0x300))),
        "missing",
    )
    expect(
        t,
        "one equal row too many",
        judge(t, log.truth, files((snapshot + snapshot[:1], 0x100), (seconds, 0x200), (thirds, 0x300))),
        "doubled",
    )
    expect(
        t,
        "an insert of an equal row doubled",
        judge(t, log.truth, files((snapshot, 0x100), (seconds[:1] + seconds, 0x200), (thirds, 0x300))),
        "doubled",
    )
    expect(
        t,
        "changes of a table without a key lost",
        judge(t, log.truth, files((snapshot, 0x100), (seconds[:2], 0x200), (thirds, 0x300))),
        "missing",
    )
    expect(
        t,
        "a whole transaction lost",
        judge(t, log.truth, files((snapshot, 0x100), ([], 0x200), (thirds, 0x300))),
        "missing",
    )
    expect(t, "transactions swapped", judge(t, log.truth, files((snapshot, 0x100), (thirds + seconds, 0x300))), "order")
    wrong = copy.deepcopy(seconds)
    wrong[1]["after"]["x"] = "its"
    expect(
        t,
        "a wrong value without a key",
        judge(t, log.truth, files((snapshot, 0x100), (wrong, 0x200), (thirds, 0x300))),
        "value",
        "state",
    )


def case_toast_and_truncate(t):
    log = Log()
    log.tx(
        '{"create": "public.d", "columns": {"id": "integer", "n": "integer", "body": "text"}, "key": ["id"]}',
        "public.d: INSERT: id[integer]:1 n[integer]:1 body[text]:'long'",
    )
    two = log.tx("public.d: UPDATE: id[integer]:1 n[integer]:2 body[text]:unchanged-toast-datum")
    three = log.tx(
        "public.d: UPDATE: old-key: id[integer]:1 new-tuple: id[integer]:5 n[integer]:2 body[text]:unchanged-toast-datum"
    )
    four = log.tx("public.d: TRUNCATE: (no-flags)", "public.d: INSERT: id[integer]:5 n[integer]:9 body[text]:null")
    schemas = {"public.d": ["id", "n", "body"]}

    def doc(op, number, after, tx=None, **more):
        return row(op, {"id": number}, after, tx, table="public.d", **more)

    lines = [
        doc("r", 1, {"id": 1, "n": 1, "body": "long"}, joined=0x100),
        doc("u", 1, {"id": 1, "n": 2}, two, unchanged=["body"]),
        doc("u", 5, {"id": 5, "n": 2}, three, before={"id": 1}, unchanged=["body"]),
        row("t", {}, None, four, table="public.d"),
        doc("c", 5, {"id": 5, "n": 9, "body": None}, four),
    ]

    def check(name, lines, *kinds):
        expect(
            t,
            name,
            judge(
                t,
                log.truth,
                [
                    commit(1, [], 0),
                    commit(2, lines[:1], 0x100, schemas=schemas),
                    commit(3, lines[1:], 0x400, schemas=schemas),
                ],
            ),
            *kinds
        )

    check("unchanged cells and a truncate", lines)
    check("a truncate lost", lines[:3] + lines[4:], "missing", "state")
    check("a truncate doubled", lines[:4] + lines[3:], "doubled")
    nulled = copy.deepcopy(lines)
    nulled[1]["after"]["body"] = None
    del nulled[1]["unchanged"]
    check("NULL written for an unchanged cell", nulled, "value")
    placeholder = copy.deepcopy(lines)
    placeholder[2]["after"]["body"] = "__unavailable__"
    del placeholder[2]["unchanged"]
    check("a placeholder for an unchanged cell", placeholder, "value")
    check("an unchanged cell of a row nobody has", lines[:1] + lines[2:3] + lines[3:], "missing", "state")


def case_stored_definitions(t):
    """The newest commit's file of definitions holds the tables as of its position."""
    truth, files = accounts_history()
    name = "_schema.0000000000000002.1.json"
    for file in files:
        file[-1]["commit"]["schema"] = name
    right = [{"name": "id", "key": 0}, {"name": "balance", "key": -1}]

    def stored(columns):
        folder = t.temp()
        save_files(folder, files)
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            json.dump({"tables": [{"table": "public.a", "columns": columns}] if columns else []}, file)
        return Checker(truth).run(folder)

    expect(t, "stored definitions", stored(right))
    expect(t, "a definition that is not stored", stored(None), "sequence")
    expect(t, "a stored column too few", stored(right[:1]), "sequence")
    expect(
        t,
        "a stored key that is another",
        stored([dict(column, key=-1 - column["key"]) for column in right]),
        "sequence",
    )
    expect(t, "a file of definitions that is not there", judge(t, truth, files), "sequence")


class DeadSession:
    """Answers nothing: a reader is given the slot's rows by hand."""

    def execute(self, _sql, _timeout=0):
        return []

    def close(self):
        pass


def case_truth_after_crash(t):
    """A slot that fell back tells whole transactions again, and may have been cut within one: each is taken once."""

    def transaction(number):
        lsn = "0/%X" % (number * 0x100)
        text = ACCOUNT if number == 1 else "public.a: INSERT: id[integer]:%d balance[bigint]:1" % number
        text = "message: transactional: 1 prefix: ddl, sz: 1 content:" + text if number == 1 else "table " + text
        return [(lsn, "BEGIN %d" % number), (lsn, text), (lsn, "COMMIT %d" % number)]

    raw = os.path.join(t.temp(), "raw")
    reader = TruthReader(DeadSession(), raw)
    for piece in (transaction(1), transaction(2), transaction(3)[:2]):
        for line in piece:
            reader.take(*line)
    reader.renew(DeadSession())
    for number in (2, 3, 4):
        for line in transaction(number):
            reader.take(*line)
    reader.close()
    t.equal("truth after a crash: transactions", sorted(reader.truth.txs), [1, 2, 3, 4])
    t.equal("truth after a crash: rows", len(reader.truth.live()["public.a"].current), 3)
    with open(raw, encoding="utf-8") as file:
        kept = [json.loads(line)[1] for line in file]
    t.equal("truth after a crash: kept text", sum(1 for text in kept if text.startswith("COMMIT ")), 4)


def case_kill_counts(t):
    """A kill counts only where something was lost by it: staged bytes, or transactions sent and not committed."""
    ends = [0x100, 0x200, 0x300]
    t.check("kill with staged bytes counts", Kill(None, 10, False, 0x300, 0).in_flight(ends))
    t.check("kill with a transaction sent counts", Kill(None, 0, False, 0x100, 0x250).in_flight(ends))
    t.check("kill with all committed does not count", not Kill(None, 0, False, 0x200, 0x2F0).in_flight(ends))
    t.check("kill of one that had nothing sent does not count", not Kill(None, 0, False, 0x100, 0).in_flight(ends))
    t.check("kill at a commit failpoint is in commit", Kill("commit.after_commit", 0, False, 0, 0).in_commit())
    t.check("kill with a sealed file is in commit", Kill(None, 10, True, 0, 0).in_commit())
    t.check("kill at a lane is not in commit", not Kill("lane.after_rows", 10, False, 0, 0).in_commit())
    names = failpoint_names()
    t.check("failpoints are found in the source", len(names) == len(set(names)) >= 10, "%s" % names)
    t.equal("failpoints with rounds of their own are in the source", set(OPENING + RESTING) - set(names), set())


# ---- with a real server ----------------------------------------------------------------------------------------------


def defaults(reader):
    """Columns added with a default, so far: each makes a new generation of a table."""
    return sum(1 for entry in list(reader.truth.journal) if entry[2] == "default")


def case_real_truth(t):
    """test_decoding's text of a hard workload, applied to nothing, gives what the server selects; an honest changelog of it
    passes; every one that is spoiled in one place does not."""
    database = t.database()
    session = t.server.session(database)
    TruthReader.create_slot(session)
    setup(session)
    truth_module.LONG_TEXT, long_text = 1 << 30, truth_module.LONG_TEXT
    try:
        reader = TruthReader(t.server.session(database), every=0.5)
        load = Workload(
            lambda: t.server.session(database), seed=5, rate=150.0, bulk_rows=1500, bulk_every=0.7, ddl_every=0.15
        )
        load.start()
        reader.start()
        deadline = time.monotonic() + 60
        while (load.counts()[0] < 450 or defaults(reader) < 3) and time.monotonic() < deadline and load.error is None:
            time.sleep(0.05)
        load.stop()
        truth = reader.finish()
        t.check("oracle workload committed", load.counts()[0] >= 450, "%s" % (load.counts(),))
        ddl = sum(1 for entry in truth.journal if entry[2] in ("create", "drop", "default", "remove"))
        t.check("oracle workload knows DDL", ddl > len(TABLES) + 3, "%d" % ddl)
        session.execute(SESSION)
        for name, table in truth.live().items():
            have = sorted(json.dumps(row, sort_keys=True) for row in server_rows(session, table))
            want = table.current.values() if table.key else [dict(row) for row in table.current.elements()]
            t.equal("truth equals SELECT %s" % name, sorted(json.dumps(row, sort_keys=True) for row in want), have)
        spoil_and_judge(t, truth)
    finally:
        truth_module.LONG_TEXT = long_text


def spoil_and_judge(t, truth):
    bank = (BANK_COLUMNS, BANK_SUM)
    folder = os.path.join(t.temp(), "out")
    dice = random.Random(11)
    for seed in range(3):
        scribe = Scribe(truth, random.Random(seed))
        scribe.write(folder + str(seed), start=(15, 100, 200)[seed])
        checker = Checker(truth, bank, LEDGER)
        found = checker.run(folder + str(seed))
        t.equal("oracle accepts an honest changelog %d" % seed, found.texts, [])
        t.check(
            "oracle looked at it %d" % seed,
            checker.sums_checked > 10 and checker.states_checked > 100 and checker.lines > 1000,
        )
    for name, spoil in SPOILERS.items():
        missed = []
        for _ in range(SPOILS):
            files = list(scribe.files)
            what = spoil(dice, files)
            spoiled = [i for i, file in enumerate(files) if file is not scribe.files[i]]
            save_files(folder + "2", files, spoiled)
            if not Checker(truth, bank, LEDGER).run(folder + "2").total():
                missed.append(what)
            save_files(folder + "2", scribe.files, spoiled)
        t.equal("oracle catches %s, %d of %d" % (name, SPOILS, SPOILS), missed, [])


def pick(dice, files, wanted):
    """A place of a line: (index of the file, index of the line); the file is copied so that it may be changed."""
    places = [(i, k) for i, file in enumerate(files) for k, line in enumerate(file) if "op" in line and wanted(line)]
    index, place = dice.choice(places)  # IndexError: the workload made nothing of this kind
    files[index] = list(files[index])
    return index, place


def recount(file):
    file[-1] = {"commit": dict(file[-1]["commit"], rows=sum(1 for line in file if "op" in line))}


def spoil_drop(dice, files):
    """Of a table's last generation: what an older one lacks just before it is void, nobody can miss."""
    last = {line["table"]: line["source"]["gen"] for file in files for line in file if "op" in line}
    index, place = pick(dice, files, lambda line: line["op"] != "t" and line["source"]["gen"] == last[line["table"]])
    line = files[index].pop(place)
    recount(files[index])
    return line


def spoil_double(dice, files):
    index, place = pick(dice, files, lambda line: True)
    line = files[index][place]
    files[index].insert(place, line)
    recount(files[index])
    return line


def spoil_repeat_later(dice, files):
    index, place = pick(dice, files, lambda line: line["op"] in "cud")
    line = files[index][place]
    later = dice.choice([i for i in range(index, len(files)) if len(files[i]) > 1])
    files[later] = list(files[later])
    files[later].insert(len(files[later]) - 1, line)
    recount(files[later])
    return line


def spoil_value(dice, files):
    index, place = pick(dice, files, lambda line: line["op"] in "rcu" and "v" in (line["after"] or ()))
    line = copy.deepcopy(files[index][place])
    line["after"]["v"] -= 1
    files[index][place] = line
    return line


def spoil_file(dice, files):
    """The contents of a commit go, its position stays."""
    last = {line["table"]: line["source"]["gen"] for file in files for line in file if "op" in line}
    index, _place = pick(dice, files, lambda line: line["op"] in "cud" and line["source"]["gen"] == last[line["table"]])
    taken = files[index]
    files[index] = [taken[-1]]
    recount(files[index])
    return taken[0]


def spoil_swap(dice, files):
    """Two changes of one key of one file, exchanged."""
    while True:
        index, place = pick(dice, files, lambda line: line["op"] in "cu" and line["key"])
        file = files[index]
        same = [
            i
            for i, line in enumerate(file)
            if i != place
            and "op" in line
            and line["op"] in "cu"
            and line["table"] == file[place]["table"]
            and line["key"] == file[place]["key"]
            and line != file[place]
        ]
        if same:
            other = dice.choice(same)
            file[place], file[other] = file[other], file[place]
            return file[place]


def spoil_tear(dice, files):
    """The last row of a transaction of several rows goes into the next file."""
    while True:
        index = dice.randrange(len(files) - 1)
        file = list(files[index])
        streamed = [line["tx"]["id"] for line in file if line.get("tx")]
        xid = dice.choice(streamed or [0])
        of_tx = [i for i, line in enumerate(file) if line.get("tx") and line["tx"]["id"] == xid]
        if len(of_tx) > 1 and file[of_tx[-1]]["table"] not in file[-1]["commit"]["inconsistent"]:
            line = file.pop(of_tx[-1])
            files[index] = file
            files[index + 1] = list(files[index + 1])
            at = 0
            schema = next((s for s in file if "schema" in s and s["schema"]["table"] == line["table"]), None)
            files[index + 1][at:at] = [schema, line] if schema else [line]
            recount(files[index])
            recount(files[index + 1])
            return line


def spoil_generation(dice, files):
    shown = {
        (line["table"], line["source"]["gen"]) for file in files for line in file if "op" in line and line["op"] != "t"
    }
    index, place = pick(
        dice,
        files,
        lambda line: line["op"] == "t" and line["tx"] is None and (line["table"], line["source"]["gen"]) in shown,
    )
    line = files[index].pop(place)
    recount(files[index])
    return line


SPOILERS = {
    "a line left out": spoil_drop,
    "a line doubled": spoil_double,
    "a change repeated later": spoil_repeat_later,
    "a stale version": spoil_value,
    "a commit's rows lost": spoil_file,
    "two changes of a key swapped": spoil_swap,
    "a transaction torn": spoil_tear,
    "a generation record left out": spoil_generation,
}
