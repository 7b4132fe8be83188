/* The world: a database under load, instances of the job that are started, killed, suspended and
 * joined by others, and at the end a quiet time in which everything must arrive. Oracles of its
 * own: `exit` (why an instance ended), `liveness`, `leak`, `spool` (what waited outlives its run).
 * Thread: fibers of the simulator. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "engine/budget.h"
#include "engine/job.h"
#include "tests/sim/faulty.h"
#include "tests/sim/lake.h"
#include "tests/sim/oracle.h"
#include "tests/sim/sched.h"
#include "tests/sim/script.h"
#include "tests/sim/source.h"
#include "tests/sim/sqldisk.h"

#define MIDDLING_TEXT (24u << 10) /* a few of them are beyond what is held in memory */
#define INSTANCES_MAX 120u
#define QUIET_US (400 * US_PER_S)
#define STOP_US (60 * US_PER_S)
#define LOCKED_US (5 * US_PER_S) /* the operator's pause when the machine's lock is held */
#define CONTROL_CHANNELS_BYTES (8u << 20)

struct instance {
    unsigned group;
    struct job *job;
    struct job_config config;
    struct env env;
    struct log log;
    struct metrics metrics;
    char state_dir[32];
    bool ended, seen;
    bool rival; /* another instance was there at the same time */
    int code;
    struct err err;
    uint64_t log_end; /* at its start */
    int64_t start_us;
    int64_t stop_us; /* when it was told to stop; 0 = it was not */
    bool stop_now;
    bool damaged; /* it is told a damaged position */
};

static struct {
    struct script *s;
    struct db *db;
    struct server *server;
    struct disk *disk;
    struct instance *instances[INSTANCES_MAX];
    unsigned count, machines;
    unsigned crashes, zombies, newcomers, txs;
    unsigned damages, stops, selects, foreigns, forgets;
    bool resnapshot; /* the next instance runs with on_rewrite=resnapshot */
    unsigned crowd_from, crowd_to;
    unsigned later[4], later_count; /* tables that are not yet created */
    struct db_tx *open[4];
    bool quiet;
    int64_t resume_us;
} w;

static unsigned below(unsigned n) { return sim_below(STREAM_WORK, n); }

static void select_all(const void *rules, const char *space, const char *table,
                       struct table_choice *out) {
    (void)rules, (void)space, (void)table;
    *out = (struct table_choice){ 0 };
}

/* ---- instances ---- */

static void instance_main(void *arg) {
    struct instance *i = arg;
    i->code = job_run(i->job, &i->err);
    sim_note("instance %u ends: %d %s %s", i->group, i->code, i->err.code, i->err.text);
    i->ended = true;
    sched_wake_world();
}

static bool runs(const struct instance *i) {
    return !i->ended && sched_alive(i->group) && !sched_suspended(i->group);
}

static struct instance *survivor(void) {
    struct instance *found = NULL;
    for (unsigned i = 0; i < w.count; i++) {
        found = runs(w.instances[i]) ? w.instances[i] : found;
    }
    return found;
}

static unsigned running(void) {
    unsigned n = 0;
    for (unsigned i = 0; i < w.count; i++) {
        n += runs(w.instances[i]);
    }
    return n;
}

static void draw_end(struct instance *i) {
    unsigned range = below(2) ? 400 : 4000;
    if (w.s->crash_at && w.count == 1) {
        sched_kill_at(i->group, w.s->crash_at);
    } else if (w.s->crash_at && w.s->crash_again && w.count == 2) {
        sched_kill_at(i->group, w.s->crash_again);
    } else if (w.crashes && !w.s->crash_at) {
        w.crashes--;
        sched_kill_at(i->group, 1 + below(range));
    } else if (w.zombies) {
        w.zombies--;
        bool fenced_by_files = w.s->sink == SINK_JSONL || w.s->sink == SINK_PARQUET;
        if ((fenced_by_files || w.s->sink == SINK_ICEBERG) && below(2)) {
            fault_suspend_at_rename(i->group, 1 + below(12));
        } else {
            sched_suspend_at(i->group, 200 + below(4000));
        }
    }
}

/* What the next instance is like: told a damaged position; stopped by a rewrite, or not. */
static void draw_kind(struct instance *i) {
    i->damaged = w.damages && !w.quiet && oracle_seq() && below(2);
    if (i->damaged) {
        w.damages--;
        faulty_sink_damage(i->group, true);
    }
    i->config.rewrite_stops = w.s->rewrite_stops && !w.resnapshot && !w.quiet;
    if (i->config.rewrite_stops) {
        oracle_rewrite_stops(i->group);
    }
    w.resnapshot = false;
}

static void instance_start(unsigned machine) {
    CHECK(w.count < INSTANCES_MAX);
    struct instance *i = w.instances[w.count++] = xcalloc(1, sizeof *i);
    const struct script *s = w.s;
    i->group = w.count;
    snprintf(i->state_dir, sizeof i->state_dir, "/machine%u/state", machine);
    i->log = (struct log){ .level = sim_tracing() ? LOG_DEBUG : LOG_ERROR,
                           .fd = sim_tracing() ? 2 : -1,
                           .job = "sim" };
    i->env = (struct env){ .files = faulty_files(w.disk, i->group),
                           .log = &i->log,
                           .metrics = &i->metrics,
                           .state_dir = i->state_dir,
                           .memory_bytes = s->chunk_rows % 2 || s->fat == 2 ? 1u << 20 : 32u << 20,
                           .spill_bytes_max = s->fat == 2 ? 256u << 10
                                              : s->fat    ? 6u << 20
                                                          : 1u << 30,
                           .row_bytes_max = 8u << 20 };
    i->config = (struct job_config){
        .name = "sim",
        .source = &faulty_source_ops,
        .sink = faulty_sink_ops((enum sink_kind)s->sink),
        .select = select_all,
        .lanes = s->lanes,
        .mode = s->once ? JOB_ONCE : JOB_RUN,
        .chunk_rows = s->chunk_rows,
        .snapshot_never = s->never,
        .sink_address = { .scheme = "sim", .path = SIM_JSONL_DIR, .job = "sim" },
        .source_address = { .scheme = "sim", .job = "sim" }
    };
    draw_kind(i);
    i->job = job_new(&i->config, &i->env);
    i->rival = running() > 0;
    for (unsigned k = 0; k < w.count; k++) {
        w.instances[k]->rival = w.instances[k]->rival || (w.instances[k] != i && i->rival) ||
                                sched_suspended(w.instances[k]->group);
        i->rival = i->rival || sched_suspended(w.instances[k]->group);
    }
    struct budget budget;
    budget_plan(&budget, i->env.memory_bytes, s->lanes, (unsigned)i->config.sink->writers_max);
    oracle_watch_channels(i->group, &i->metrics,
                          budget.log_bytes + budget.lane_bytes + 2 * budget.writer_bytes +
                              CONTROL_CHANNELS_BYTES);
    i->start_us = clock_mono_us();
    i->log_end = w.db->log_count ? w.db->txs[w.db->log[w.db->log_count - 1]].end : 0;
    sim_note("instance %u starts on machine %u", i->group, machine);
    if (!w.quiet) {
        draw_end(i);
    }
    sched_start(i->group, "control", instance_main, i);
}

static void on_death(unsigned group) {
    sim_verdict()->crashes++;
    disk_process_died(w.disk, group);
    sqldisk_process_died(group);
    server_process_died(w.server, group);
}

/* What a job must refuse, and the operator's answer. */
static bool is_refusal(const struct instance *i) {
    const char *code = i->err.code;
    if (i->code == EXIT_ERROR && strcmp(code, "stopped") == 0) {
        return i->stop_now;
    }
    if (i->code == EXIT_ERROR && strcmp(code, "table_rewritten") == 0) {
        w.resnapshot = true;
        return i->config.rewrite_stops && (oracle_rewritten() || i->rival);
    }
    if (i->code == EXIT_ERROR && strcmp(code, "key_missing") == 0) {
        return w.server->keyless_told[i->group];
    }
    if (i->code == EXIT_ERROR && strcmp(code, "key_order") == 0) {
        return w.server->disordered[i->group];
    }
    if (i->code == EXIT_PLAN && strcmp(code, "table_unusable") == 0) {
        for (unsigned t = 0; t < DB_TABLES; t++) { /* given an identity, or left out */
            w.server->hidden[t] = w.server->hidden[t] || (w.server->unusable[t] && below(2));
            w.server->unusable[t] = false;
        }
        return w.server->told_unusable[i->group];
    }
    return false;
}

/* `once` gives up where it never started. */
static bool lost_patience(const struct instance *i) {
    return w.s->once && i->code == EXIT_ERROR && i->err.kind != ERR_FATAL &&
           metric_get(&i->metrics, METRIC_REWINDS) + 1 >= JOB_START_TRIES &&
           clock_mono_us() - i->start_us >= JOB_START_PATIENCE_US;
}

/* Why may an instance end? */
static void judge_end(struct instance *i) {
    bool faulty = fault_count() > 0;
    const char *code = i->err.code;
    sim_verdict()->rewinds += (uint64_t)metric_get(&i->metrics, METRIC_REWINDS);
    if (metric_get(&i->metrics, METRIC_CHANNEL_BYTES) != 0) {
        sim_fail("leak", "instance %u left %lld bytes in channels", i->group,
                 (long long)metric_get(&i->metrics, METRIC_CHANNEL_BYTES));
    }
    const char *damage = faulty_sink_damaged(i->group);
    if (*damage && i->code == EXIT_ERROR && strncmp(code, "position_", 9) == 0) {
        return;
    }
    if (i->code == EXIT_DONE) {
        if (*damage && !i->stop_us) {
            sim_fail("damage", "instance %u ended well with a position damaged by %s", i->group,
                     damage);
        }
        if (w.s->once && !i->stop_us && oracle_applied() < i->log_end) {
            sim_fail("once", "ended at %llu, the log's end was %llu at its start",
                     (unsigned long long)oracle_applied(), (unsigned long long)i->log_end);
        }
        return;
    }
    if ((i->code == EXIT_FENCED || i->code == EXIT_LINEAGE) && i->rival) {
        return; /* 5: what it peeked at was old when it asked for the slot */
    }
    if (i->code == EXIT_PLAN && faulty && strcmp(code, "preflight") == 0) {
        return; /* an input error while the folder was examined */
    }
    if (i->code == EXIT_ERROR && faulty &&
        (strcmp(code, "io_error") == 0 || strcmp(code, "disk_full") == 0)) {
        return;
    }
    if (faulty && w.s->sink == SINK_ICEBERG &&
        (strcmp(code, "catalog_unreachable") == 0 || strcmp(code, "object_exists") == 0 ||
         strcmp(code, "catalog_io") == 0)) {
        return; /* an input error while a file was opened; made, which it had been; all the time */
    }
    if (is_refusal(i) || (lost_patience(i) && (faulty || i->rival))) {
        return;
    }
    sim_fail("exit", "instance %u ended with %d %s: %s%s%s", i->group, i->code, code, i->err.text,
             *damage ? "; damaged by " : "", damage);
}

/* Somebody tells the job to end, and it does, whatever it waits for. */
static void maybe_stop(void) {
    struct instance *i = survivor();
    if (i && w.stops && !w.quiet && !i->stop_us && below(150) == 0) {
        w.stops--;
        i->stop_us = clock_mono_us();
        i->stop_now = below(3) == 0;
        sim_note("stop %u%s", i->group, i->stop_now ? " now" : "");
        (i->stop_now ? job_stop_now : job_stop)(i->job);
    }
    if (i && i->stop_us && clock_mono_us() - i->stop_us > 2 * STOP_US) {
        sim_fail("liveness", "instance %u was told to stop and does not", i->group);
    }
}

/* A suspended instance keeps the machine's lock. */
static bool locked_out(void) {
    const struct instance *last = w.count ? w.instances[w.count - 1] : NULL;
    return last && last->ended && strcmp(last->err.code, "instance_running") == 0 &&
           clock_mono_us() - last->start_us < LOCKED_US;
}

/* The operator: sees who ended, and that somebody runs. */
static void watch(void) {
    maybe_stop();
    for (unsigned k = 0; k < w.count; k++) {
        struct instance *i = w.instances[k];
        if (i->ended && !i->seen) {
            i->seen = true;
            judge_end(i);
            job_free(i->job);
        } else if (!i->ended && !i->seen && !sched_alive(i->group)) {
            i->seen = true;
            if (below(100) < w.s->power) {
                for (unsigned j = 0; j < w.count; j++) {
                    if (!w.instances[j]->ended && sched_alive(w.instances[j]->group)) {
                        sched_kill(w.instances[j]->group);
                        w.instances[j]->seen = true;
                    }
                }
                sim_note("power lost");
                disk_power_lost(w.disk);
            }
        } else if (sched_suspended(i->group) && !w.resume_us) {
            w.resume_us = clock_mono_us() + (int64_t)(1 + below(60)) * US_PER_S;
            w.machines++;
            for (unsigned j = 0; j < w.count; j++) {
                w.instances[j]->rival = true;
            }
        }
    }
    if (w.resume_us && (w.quiet || clock_mono_us() >= w.resume_us)) {
        for (unsigned k = 0; k < w.count; k++) {
            if (sched_suspended(w.instances[k]->group)) {
                sched_resume(w.instances[k]->group);
            }
        }
        w.resume_us = 0;
    }
    if (w.newcomers && running() == 1 && below(200) == 0) {
        w.newcomers--;
        instance_start(below(2) ? w.machines : ++w.machines);
    }
    bool again =
        w.count == 0 || !w.instances[w.count - 1]->ended ||
        w.instances[w.count - 1]->code != EXIT_DONE; /* a job that is done is run anew, later */
    if (running() == 0 && !locked_out() && (again || below(w.quiet ? 4 : 60) == 0)) {
        instance_start(w.machines);
    }
}

/* ---- the load ---- */

static void one_change(struct db_tx *tx) {
    struct db *db = w.db;
    unsigned t = below(db->table_count), k = below(db->keys), to = below(db->keys);
    if (db->tables[t].bank && below(3)) {
        unsigned other = t;
        while (other == t) {
            other = below(db->table_count);
            other = db->tables[other].bank ? other : t;
            if (below(8) == 0) {
                break;
            }
        }
        db_transfer(db, tx, t, other, k, to, (int32_t)below(20));
        return;
    }
    bool there = db->now[t].rows[k].there;
    unsigned x = below(100);
    enum db_op_kind kind = !there ? OP_INSERT : x < 25 ? OP_DELETE : x < 50 ? OP_MOVE : OP_UPDATE;
    if (!db->tables[t].bank) {
        db_change(db, tx, kind, t, k, to, below(100) < 60);
    }
}

/* Many rows move at once, without their texts, from high keys to low ones or back. */
static void move_many(struct db_tx *tx) {
    struct db *db = w.db;
    unsigned half = db->keys / 2, t = db->tables[1].kind == DB_WHOLE && db->keys > 60 && below(2);
    bool down = below(3) > 0;
    unsigned from = down ? half : 0, end = down ? db->keys : half, to = down ? 0 : half;
    for (unsigned k = from; k < end; k++) {
        while (to < db->keys && db->now[t].rows[to].there) {
            to++;
        }
        if (to < (down ? half : db->keys)) {
            db_change(db, tx, OP_MOVE, t, k, to, true);
        }
    }
}

static void one_ddl(void) {
    struct db *db = w.db;
    unsigned t = below(db->table_count), x = below(100);
    bool create = x < 20 && w.later_count;
    struct db_tx *tx = db->tables[t].bank && !create ? NULL : db_begin(db);
    if (!tx) {
        return;
    }
    if (create) {
        unsigned table = w.later[w.later_count - 1];
        bool clash = false;
        for (unsigned i = 0; i < db->table_count;
             i++) { /* a dropped table's name is free once nobody sees it any more */
            bool same = i != table && strcmp(db->tables[i].name, db->tables[table].name) == 0;
            clash = clash || (same && db->now[i].exists);
        }
        if (clash) {
            unsigned old = 0;
            while (strcmp(db->tables[old].name, db->tables[table].name) != 0 ||
                   !db->now[old].exists) {
                old++;
            }
            if (!db_change(db, tx, OP_DROP, old, 0, 0, false)) {
                db_abort(db, tx);
                return;
            }
        }
        bool made = db_change(db, tx, OP_CREATE, table, 0, 0, false);
        CHECK(made);
        w.later_count--;
    } else {
        enum db_op_kind kind = x < 45   ? OP_TRUNCATE
                               : x < 70 ? OP_ADD_COLUMN
                               : x < 85 ? OP_DROP_COLUMN
                                        : OP_REWRITE;
        if (!db_change(db, tx, kind, t, 0, 0, below(2))) {
            db_abort(db, tx);
            return;
        }
    }
    sim_note("ddl op=%d table=%u", tx->ops[0].kind, tx->ops[0].table);
    db_commit(db, tx, below(4) != 0);
}

static void begin_or_go_on(void) {
    unsigned slot = below(ARRAY_COUNT(w.open));
    struct db *db = w.db;
    struct db_tx *tx = w.open[slot];
    if (!tx || tx->state == TX_ABORTED) {
        w.open[slot] = w.txs ? db_begin(db) : NULL;
        w.txs -= w.txs > 0;
        return;
    }
    unsigned x = below(100);
    if (tx->state == TX_PREPARED) {
        if (x < 15) {
            x < 13 ? db_commit(db, tx, true) : db_abort(db, tx);
            w.open[slot] = NULL;
        }
    } else if (x < 55) {
        bool many = (db->keys > 60 || w.s->long_keys) && below(db->keys > 60 ? 15 : 40) == 0;
        many ? move_many(tx) : one_change(tx);
    } else if (x < 58) {
        db_abort(db, tx);
        w.open[slot] = NULL;
    } else if (x < 62 && tx->op_count) {
        db_prepare(db, tx);
    } else if (tx->op_count) {
        db_commit(db, tx, below(4) != 0);
        sim_note("tx place=%u xid=%llu ops=%u end=%llu", tx->place, (unsigned long long)tx->xid,
                 tx->op_count, (unsigned long long)tx->end);
        w.open[slot] = NULL;
    }
}

static void show_one(bool all) {
    for (unsigned tries = 0; tries < (all ? w.db->log_count : 3); tries++) {
        if (w.db->log_count) {
            struct db_tx *tx = &w.db->txs[w.db->log[all ? tries : below(w.db->log_count)]];
            if (tx->state == TX_COMMITTED && db_show(w.db, tx)) {
                sim_note("visible place=%u", tx->place);
            }
        }
    }
}

/* Tables leave the selection or come back, one or the whole crowd; new ones cannot be followed. */
static void one_select(void) {
    struct server *v = w.server;
    unsigned t = below(w.db->table_count), to = t + 1;
    bool hide = below(2);
    if (w.crowd_to > w.crowd_from && below(3)) {
        t = w.crowd_from;
        to = w.crowd_to;
        hide = !v->hidden[t];
    }
    for (; t < to; t++) {
        if (!w.db->now[t].exists || (to - t == 1 && t < w.crowd_from && below(4) == 0)) {
            v->unusable[t] = !v->unusable[t];
        } else {
            v->hidden[t] = hide;
        }
    }
    sim_note("selection of table %u: %d %d", to - 1, v->hidden[to - 1], v->unusable[to - 1]);
}

/* What else happens to a lake: somebody commits to its tables, a machine's local state is deleted
 * while nobody runs on it. */
static void lake_step(void) {
    if (w.foreigns && below(60) == 0) {
        w.foreigns -= lake_foreign_commit();
    }
    if (w.forgets && running() == 0 && w.count &&
        !sched_suspended(w.instances[w.count - 1]->group)) {
        w.forgets--;
        sim_note("local state is deleted: %u files",
                 disk_forget(w.disk, w.instances[w.count - 1]->state_dir));
    }
}

static void load_step(void) {
    unsigned x = below(1000);
    if (x < 600) {
        begin_or_go_on();
    } else if (x < 850) {
        show_one(below(10) == 0);
    } else if (x < 850 + w.s->ddl) {
        one_ddl();
    } else if (x < 975) {
        db_log_noise(w.db);
    } else if (x < 985) {
        db_flush(w.db);
    } else if (x < 990) {
        sinks_settle_late();
    } else if (x < 993 && w.s->server_crashes) {
        w.s->server_crashes--;
        for (unsigned i = 0; i < ARRAY_COUNT(w.open); i++) {
            w.open[i] = w.open[i] && w.open[i]->state == TX_PREPARED ? w.open[i] : NULL;
        }
        server_crash(w.server);
    } else if (x >= 993 && w.selects) {
        w.selects--;
        one_select();
    }
    lake_step();
    server_changed(w.server);
}

static void end_load(void) {
    for (unsigned i = 0; i < ARRAY_COUNT(w.open); i++) {
        struct db_tx *tx = w.open[i];
        if (tx && (tx->state == TX_OPEN || tx->state == TX_PREPARED)) {
            tx->op_count &&below(2) ? db_commit(w.db, tx, true) : db_abort(w.db, tx);
        }
    }
    show_one(true);
    db_flush(w.db);
    server_changed(w.server);
    fault_stop();
    memset(w.server->hidden, 0, sizeof w.server->hidden);
    memset(w.server->unusable, 0, sizeof w.server->unusable);
    w.server->disorders = w.server->keyless = 0;
    for (unsigned i = 0; i < w.count; i++) {
        sched_kill_at(w.instances[i]->group, 0);
        sched_suspend_at(w.instances[i]->group, 0);
        faulty_sink_damage(w.instances[i]->group, false);
    }
    w.quiet = true;
}

/* ---- the whole ---- */

static void build(void) {
    const struct script *s = w.s;
    struct db *db = w.db = xcalloc(1, sizeof *db);
    db_init(db, (enum db_flavour)s->flavour, s->keys);
    db->retypes = s->sink == SINK_ICEBERG && s->lake & LAKE_RETYPES;
    db->fat = s->fat == 2 ? MIDDLING_TEXT : s->fat ? DB_TEXT_MAX : 0;
    db_add_table(db, "r1", DB_RANGE, false, false);
    db->tables[0].long_keys = s->long_keys;
    if (s->tables > 1) {
        db_add_table(db, "w1", DB_WHOLE, false, false);
    }
    if (s->tables > 2) {
        bool keyless = s->sink != SINK_ICEBERG || !s->ddl; /* it refuses to drop a column there */
        db_add_table(db, "n1", keyless ? DB_KEYLESS : DB_WHOLE, true, false);
    }
    if (s->tables > 3) {
        db_add_table(db, "b1", DB_RANGE, false, true);
        db_add_table(db, "b2", DB_RANGE, true, true);
    }
    if (s->tables > 4) {
        db_add_table(db, "r2", DB_RANGE, true, false);
    }
    w.crowd_from = w.crowd_to = db->table_count;
    for (unsigned i = 0; i < s->crowd; i++) {
        char name[16];
        snprintf(name, sizeof name, "c%u", i);
        w.crowd_to = 1 + db_add_table(db, name, i % 4 ? DB_RANGE : DB_WHOLE, i % 2, false);
    }
    if (s->ddl) {
        w.later[w.later_count++] = db_declare_table(db, "r1", DB_RANGE, true);
        w.later[w.later_count++] = db_declare_table(db, "late", DB_WHOLE, false);
        w.later[w.later_count++] = db_declare_table(db, "r1", DB_RANGE, false);
    }
    w.server = server_new(db);
    w.server->big_estimates = sim_below(STREAM_WORK, 2);
    w.server->split_permille = 150;
    w.server->disorders = s->disorders;
    w.server->keyless = s->keyless;
    w.disk = disk_new();
    sinks_init(db, w.disk, (enum sink_kind)s->sink, s->lake);
    oracle_init(db);
    if (s->never) {
        oracle_snapshot_never();
    }
}

static void start_faults(const struct script *s) {
    struct fault_plan plan = {
        .max = s->faults, .at = s->fault_at, .delay_permille = s->delay_permille, .mutes = s->mutes
    };
    for (unsigned d = 0; d < FAULT_DOORS && s->faults; d++) {
        unsigned drawn = sim_below(STREAM_FAULT, 2) ? s->fault_permille : s->fault_permille / 5;
        plan.permille[d] = !s->fault_door ? drawn : s->fault_door == d + 1 ? s->fault_permille : 0;
    }
    fault_plan(&plan);
}

/* What waited on disk belongs to a run: nothing of it outlives a clean end, whatever crashed
 * before. */
static void judge_spill(const struct instance *last) {
    struct err err = ERR_INIT;
    struct buf names;
    char dir[sizeof last->state_dir + 8];
    snprintf(dir, sizeof dir, "%s/spill", last->state_dir);
    buf_init(&names, SIZE_MAX);
    if (files_list(last->env.files, dir, &names, &err) == FILES_OK && names.len) {
        sim_fail("spool", "after a clean end %s holds %s", dir, buf_cstr(&names));
    }
    buf_release(&names);
}

/* It was told to stop, or what it must refuse. */
static bool is_ending(const struct instance *i) {
    return i && (i->stop_us || *faulty_sink_damaged(i->group));
}

/* Everything works: the target must catch up, and the job must end when it is told to. */
static void quiet_time(void) {
    int64_t deadline = clock_mono_us() + QUIET_US;
    const char *behind = "";
    end_load();
    while (*(behind = oracle_behind()) || running() > 1 || is_ending(survivor())) {
        if (clock_mono_us() >= deadline) {
            sim_fail("liveness", "after %lld s without faults: %s",
                     (long long)(QUIET_US / US_PER_S),
                     *behind ? behind : "two instances run, or one that must end");
        }
        watch();
        sched_pause_us(200 * US_PER_MS);
    }
    struct instance *last = survivor();
    deadline = clock_mono_us() + STOP_US;
    if (last && !w.s->once) {
        sim_note("stop");
        job_stop(last->job);
    }
    while (last && !last->ended) {
        if (clock_mono_us() >= deadline) {
            sim_fail("liveness", "the job does not end");
        }
        sched_pause_us(100 * US_PER_MS);
    }
    if (last) {
        judge_end(last);
    }
    if (last && last->code == EXIT_DONE) {
        if (!faulty_files_left(last->group)) {
            judge_spill(last);
        }
    } else if (last && !last->rival) { /* a rival's end was judged */
        sim_fail("exit", "the job ended with %d %s", last->code, last->err.code);
    }
    if (*(behind = oracle_behind())) {
        sim_fail("liveness", "at the end: %s", behind);
    }
}

void world_main(void *script) {
    w.s = script;
    w.crashes = w.s->crashes;
    w.zombies = w.s->zombies;
    w.newcomers = w.s->newcomers;
    w.damages = w.s->damages;
    w.stops = w.s->stops;
    w.selects = w.s->selects;
    w.foreigns = w.s->foreigns;
    w.forgets = w.s->forgets;
    w.txs = w.s->txs;
    sched_on_death(on_death);
    build();
    for (unsigned i = 0; i < 20 && w.txs > 3;
         i++) { /* some lie below the log's start, not yet visible */
        begin_or_go_on();
        if (below(4) == 0) {
            show_one(false);
        }
    }
    start_faults(w.s);
    instance_start(0);
    unsigned idle = 0;
    while (w.txs || idle < 40) {
        load_step();
        sched_pause_us(1 + below(w.s->pace_us));
        watch();
        idle += w.txs == 0;
    }
    quiet_time();
    sim_verdict()->faults = fault_count();
}
