/* How the model targets differ: what a server does with a commit that arrives, for the second time,
 * late or in part. See sinks.h. */
#include <stdlib.h>
#include <string.h>

#include "tests/sim/oracle.h"
#include "tests/sim/sched.h"
#include "tests/sim/sinks_impl.h"

/* ---- fetchable token ---- */

/* It compares nothing: rows are appended and the token replaces the last one. Who has the channel
 * must go on from the token that he fetched. */
static enum commit_outcome take_token(const struct request *r) {
    enum commit_outcome outcome = target_judge(r);
    if (outcome == COMMIT_CONFLICT) {
        sim_fail("token", "commit %llu goes on from %s, the token is %s",
                 (unsigned long long)r->seq, r->from ? r->from : "nothing",
                 sim_target.token ? sim_target.token : "none");
    }
    if (outcome == COMMITTED) {
        free(sim_target.token);
        sim_target.token = xasprintf("%llu %s", (unsigned long long)r->seq, r->to);
        target_apply(r);
    }
    return outcome;
}

uint64_t target_seq(void) {
    if (sim_target.kind != SINK_TOKEN || !sim_target.token) {
        return sim_target.seq;
    }
    char *end;
    uint64_t seq = strtoull(sim_target.token, &end, 10);
    if (seq != sim_target.seq || *end != ' ' || strcmp(end + 1, sim_target.position) != 0) {
        sim_fail("token", "the token is %s, the last commit was %llu", sim_target.token,
                 (unsigned long long)sim_target.seq);
    }
    return seq;
}

/* ---- dedupe ---- */

#define REMEMBERED 32u
static struct { uint64_t epoch, seq, hash; } remembered[REMEMBERED];

/* Knows its last commits by number: the same once more is answered as the first was; another one
 * under the number of an old one is refused. */
static enum commit_outcome take_dedupe(const struct request *r) {
    if (r->epoch != sim_target.epoch) {
        return COMMIT_FENCED;
    }
    unsigned slot = (unsigned)(r->seq % REMEMBERED);
    uint64_t hash = request_hash(r);
    if (remembered[slot].epoch == r->epoch && remembered[slot].seq == r->seq) {
        if (remembered[slot].hash != hash) {
            sim_fail("dedupe", "commit %llu of epoch %llu comes again with other contents",
                     (unsigned long long)r->seq, (unsigned long long)r->epoch);
        }
        sim_note("commit %llu came again", (unsigned long long)r->seq);
        return COMMITTED;
    }
    enum commit_outcome outcome = target_judge(r);
    if (outcome == COMMITTED) {
        remembered[slot].epoch = r->epoch;
        remembered[slot].seq = r->seq;
        remembered[slot].hash = hash;
        target_apply(r);
    }
    return outcome;
}

/* ---- newest version wins ---- */

/* Rows arrive one by one and in any order, each with its version (commit, place in it); the
 * position last. A row counts when its commit's position stands; of a key's rows the newest. */
struct version {
    uint64_t seq;
    unsigned at;
    struct event row;
};
struct versioned {
    char label[32];
    bool there[DB_KEYS];
    struct event_row rows[DB_KEYS];
};
static struct version *pending; /* beyond the stored position */
static unsigned pending_count, pending_cap;
static struct versioned tables[DB_TABLES];

static void put_version(uint64_t seq, unsigned at, const struct event *row) {
    for (unsigned i = 0; i < pending_count; i++) {
        if (pending[i].seq == seq && pending[i].at == at) {
            if (memcmp(&pending[i].row, row, sizeof *row) != 0) {
                sim_fail("version", "%s: two rows have the version %llu/%u", row->label,
                         (unsigned long long)seq, at);
            }
            return;
        }
    }
    if (pending_count == pending_cap) {
        pending_cap = pending_cap ? pending_cap * 2 : 64;
        pending = xrealloc(pending, pending_cap * sizeof *pending);
    }
    pending[pending_count++] = (struct version){ .seq = seq, .at = at, .row = *row };
}

static struct versioned *versioned_of(const char *label) {
    unsigned i = 0;
    while (i < DB_TABLES && *tables[i].label && strcmp(tables[i].label, label) != 0) {
        i++;
    }
    CHECK(i < DB_TABLES);
    memcpy(tables[i].label, label, sizeof tables[i].label);
    return &tables[i];
}

static bool is_keyless(const char *label) {
    for (unsigned i = 0; i < sim_target.db->table_count; i++) {
        const struct db_table *t = &sim_target.db->tables[i];
        if (t->kind == DB_KEYLESS && strcmp(label + strlen("public."), t->name) == 0) {
            return true;
        }
    }
    return false;
}

static void fold(const struct event *e) {
    struct versioned *v = versioned_of(e->label);
    if (e->kind == EVENT_GENERATION || e->kind == EVENT_TRUNCATE) {
        memset(v->there, 0, sizeof v->there);
        return;
    }
    unsigned key = (unsigned)e->after.v[0], old = e->has_before ? (unsigned)e->before.v[0] : key;
    struct event_row row = e->after;
    CHECK(key < DB_KEYS && old < DB_KEYS); /* the oracle has looked at them */
    if (e->kind == EVENT_UPDATE) {
        for (unsigned c = 0; c < DB_COLUMNS; c++) {
            if (row.state[c] == EVENT_ABSENT) {
                row.state[c] = v->rows[old].state[c];
                row.v[c] = v->rows[old].v[c];
            }
        }
        v->there[old] = false;
    }
    v->there[key] = e->kind != EVENT_DELETE && e->kind != EVENT_REMOVE;
    v->rows[key] = row;
}

static int compare_versions(const void *a, const void *b) {
    const struct version *x = a, *y = b;
    return x->seq != y->seq ? (x->seq < y->seq ? -1 : 1) : (x->at > y->at) - (x->at < y->at);
}

static void check_versioned(const struct versioned *v) {
    for (unsigned k = 0; k < sim_target.db->keys; k++) {
        struct event_row want;
        bool there = oracle_row(v->label, k, &want), same = there == v->there[k];
        for (unsigned c = 0; same && there && c < DB_COLUMNS; c++) {
            same = want.state[c] == v->rows[k].state[c] &&
                   (want.state[c] != EVENT_VALUE || want.v[c] == v->rows[k].v[c]);
        }
        if (!same) {
            sim_fail("version", "%s key %u: the newest version is not the row that was committed",
                     v->label, k);
        }
    }
}

/* The position stands at r: its rows count, and nothing that bears a number up to its own stays. */
static void settle_versions(const struct request *r) {
    if (pending_count) {
        qsort(pending, pending_count, sizeof *pending, compare_versions);
    }
    unsigned rows = 0, left = 0;
    for (unsigned i = 0; i < pending_count; i++) {
        if (pending[i].seq > r->seq) {
            pending[left++] = pending[i];
            continue;
        }
        rows++;
        if (!is_keyless(pending[i].row.label)) {
            fold(&pending[i].row);
        }
    }
    pending_count = left;
    if (rows != r->events.count) {
        sim_fail("version", "commit %llu has %u rows, the target %u of its number",
                 (unsigned long long)r->seq, r->events.count, rows);
    }
    for (unsigned i = 0; i < DB_TABLES && *tables[i].label; i++) {
        check_versioned(&tables[i]);
    }
}

/* Sends up to `rows` of them, each to be refused where a newer epoch was claimed meanwhile. */
static enum commit_outcome send_rows(const struct request *r, unsigned rows) {
    enum commit_outcome outcome = target_judge(r);
    unsigned count = r->events.count, first = count ? sim_below(STREAM_DOOR, count) : 0;
    for (unsigned i = 0; outcome == COMMITTED && i < rows; i++) {
        unsigned at = (first + i) % count;
        put_version(r->seq, at, &r->events.at[at]);
        if (sim_below(STREAM_DOOR, 2) == 0) {
            sched_yield("version");
            outcome = target_judge(r);
        }
    }
    return outcome;
}

static enum commit_outcome take_version(const struct request *r) {
    enum commit_outcome outcome = send_rows(r, r->events.count);
    if (outcome == COMMITTED) {
        target_apply(r);
        settle_versions(r);
    }
    return outcome;
}

/* ---- which ---- */

enum commit_outcome target_take(const struct request *r) {
    switch (sim_target.kind) {
    case SINK_TOKEN:
        return take_token(r);
    case SINK_DEDUPE:
        return take_dedupe(r);
    case SINK_VERSION:
        return take_version(r);
    default:
        break;
    }
    enum commit_outcome outcome = target_judge(r);
    if (outcome == COMMITTED) {
        target_apply(r);
    }
    return outcome;
}

void target_take_part(const struct request *r) {
    if (sim_target.kind == SINK_VERSION && r->events.count) {
        send_rows(r, sim_below(STREAM_DOOR, r->events.count));
    }
}

void target_claimed(void) { pending_count = 0; }
