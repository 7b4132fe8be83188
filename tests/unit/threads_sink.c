/* The sink of the `threads` program: a target that refuses rows which are repeated or missing. See
 * threads.c. */
#include "tests/unit/threads.h"

struct fake_item {
    enum stage_kind kind;
    unsigned table, generation;
    struct batch *batch;
};
struct sink_part {
    struct fake_item *items;
    unsigned count, cap;
};
struct fake_sink {
    struct sink base;
    uint64_t epoch;
    bool last_applied; /* what resolve answers */
};
struct fake_writer {
    struct sink_writer base;
    struct sink_part *part;
};

static void wrong(const char *what, const struct batch *b, unsigned key) {
    target->wrong++;
    snprintf(target->why, sizeof target->why, "%s: table %s key %u", what, b->schema->name, key);
}
static unsigned key_at(const struct batch *b, uint32_t row) {
    size_t len;
    const uint8_t *p = cell_bytes(&b->columns[0], row, &len);
    if (b->schema->columns[0].type.kind == TYPE_TEXT) {
        char text[8] = "";
        memcpy(text, p, len);
        return (unsigned)atoi(text);
    }
    int64_t id;
    memcpy(&id, p, sizeof id);
    return (unsigned)id;
}
static int64_t value_at(const struct batch *b, uint32_t row) {
    size_t len;
    int64_t v;
    memcpy(&v, cell_bytes(&b->columns[1], row, &len), sizeof v);
    return v;
}

/* Target's lock held. A repeated insert, or an update or delete of what is not there, is an error
 * of the engine's. */
static void target_row(unsigned table, const struct batch *b, uint32_t r) {
    unsigned key = key_at(b, r);
    bool *there = &target->rows.there[table][key];
    switch (row_kind_of(b, r)) {
    case ROW_INSERT:
        if (*there) {
            wrong("inserted twice", b, key);
        }
        *there = true;
        target->rows.value[table][key] = value_at(b, r);
        break;
    case ROW_UPDATE_AFTER:
        if (r == 0 || row_kind_of(b, r - 1) != ROW_UPDATE_BEFORE || key_at(b, r - 1) == key) {
            if (!*there) {
                wrong("updated but not there", b, key);
            }
        }
        *there = true;
        target->rows.value[table][key] = value_at(b, r);
        break;
    case ROW_UPDATE_BEFORE:
    case ROW_DELETE:
        if (!*there) {
            wrong("deleted but not there", b, key);
        }
        *there = false;
        break;
    case ROW_TRUNCATE:
        break;
    }
}
static void target_apply(const struct sink_part *part) {
    for (unsigned i = 0; part && i < part->count; i++) {
        const struct fake_item *x = &part->items[i];
        if (x->kind == STAGE_GENERATION) {
            if (x->generation <= target->generation[x->table]) {
                target->wrong++;
            }
            target->generation[x->table] = x->generation;
            memset(target->rows.there[x->table], 0, sizeof target->rows.there[x->table]);
            continue;
        }
        for (uint32_t r = 0; r < x->batch->rows; r++) {
            target_row(x->table, x->batch, r);
        }
    }
}

static int sink_fake_open(const struct sink_address *a, struct env *env, struct sink **out,
                          struct err *err);
struct sink_ops sink_ops;
static void sink_fake_close(struct sink *s) { free(s); }
static int sink_examine(struct sink *s, struct source_findings *out, struct err *err) {
    (void)s, (void)err;
    out->count = 0;
    return 0;
}
static int sink_peek(struct sink *s, struct sink_state *out, struct err *err) {
    (void)s, (void)err;
    waitq_lock(target->q);
    *out = (struct sink_state){ .knows = target->position  ? TARGET_POSITION
                                         : target->claimed ? TARGET_CLAIM
                                                           : TARGET_NOTHING,
                                .position = target->position ? xstrdup(target->position) : NULL,
                                .epoch = target->epoch,
                                .seq = target->seq };
    if (target->position) {
        out->schema_count = TABLES;
        out->schemas = xcalloc(TABLES, sizeof *out->schemas);
        for (unsigned t = 0; t < TABLES; t++) {
            out->schemas[t] = schema_with_version(server->schemas[t], 1);
        }
    }
    waitq_unlock(target->q);
    return 0;
}
static int sink_recover(struct sink *s, struct sink_state *out, struct err *err) {
    waitq_lock(target->q);
    target->epoch++;
    target->claimed = true;
    ((struct fake_sink *)s)->epoch = target->epoch;
    waitq_unlock(target->q);
    return sink_peek(s, out, err);
}
static int sink_apply_schema(struct sink *s, const struct commit_request *next, struct err *err) {
    (void)s, (void)next, (void)err;
    return 0;
}
static enum commit_outcome sink_commit(struct sink *sink, const struct commit_request *req,
                                       struct err *err) {
    struct fake_sink *s = (struct fake_sink *)sink;
    waitq_lock(target->q);
    bool same = req->from ? target->position && strcmp(req->from, target->position) == 0
                          : !target->position;
    enum commit_outcome outcome = req->epoch != target->epoch ? COMMIT_FENCED
                                  : !same                     ? COMMIT_CONFLICT
                                                              : COMMITTED;
    unsigned n = ++target->commits;
    if (n == target->fenced_at) {
        target->epoch++; /* another instance claimed it */
        outcome = COMMIT_FENCED;
    } else if (n == target->conflict_at) {
        outcome = COMMIT_CONFLICT;
    }
    bool unknown = outcome == COMMITTED && target->unknown_each && n % target->unknown_each == 0;
    s->last_applied = !unknown || n % (2 * target->unknown_each) == 0;
    if (outcome == COMMITTED && s->last_applied) {
        for (uint32_t i = 0; i < req->part_count; i++) {
            target_apply(req->parts[i]);
        }
        free(target->position);
        target->position = xstrdup(req->to);
        target->seq = req->seq;
        atomic_store(&seq_now, (unsigned)req->seq);
    }
    if (unknown) {
        s->last_applied ? target->applied_unknown++ : target->lost_unknown++;
        err_set(err, ERR_RETRY, "answer_lost", "the answer was lost");
        outcome = COMMIT_UNKNOWN;
    }
    bool stop = stop_after_commits && target->seq == stop_after_commits;
    waitq_unlock(target->q);
    if (stop) {
        (stop_at_once ? job_stop_now : job_stop)(the_job);
    }
    return outcome;
}
static enum resolve_outcome sink_resolve(struct sink *sink, const struct commit_request *req,
                                         struct err *err) {
    (void)req, (void)err;
    return ((struct fake_sink *)sink)->last_applied ? RESOLVED_COMMITTED : RESOLVED_NOT_COMMITTED;
}
static int writer_fake_open(struct sink *s, uint32_t number, struct sink_writer **out,
                            struct err *err) {
    (void)number, (void)err;
    struct fake_writer *w = xcalloc(1, sizeof *w);
    w->base.ops = s->ops;
    *out = &w->base;
    return 0;
}
static void part_add(struct fake_writer *w, struct fake_item item) {
    if (!w->part) {
        w->part = xcalloc(1, sizeof *w->part);
    }
    if (w->part->count == w->part->cap) {
        w->part->cap = w->part->cap ? w->part->cap * 2 : 8;
        w->part->items = xrealloc(w->part->items, w->part->cap * sizeof *w->part->items);
    }
    w->part->items[w->part->count++] = item;
}
static int writer_stage(struct sink_writer *writer, const struct stage_item *item,
                        struct err *err) {
    (void)err;
    struct fake_writer *w = (struct fake_writer *)writer;
    if (item->kind == STAGE_GENERATION) {
        part_add(w, (struct fake_item){ .kind = item->kind,
                                        .table = (unsigned)(item->schema->table_id - 1000),
                                        .generation = item->generation });
        return 0;
    }
    for (uint32_t i = 0; i < item->count; i++) {
        part_add(w,
                 (struct fake_item){ .kind = item->kind,
                                     .table = (unsigned)(item->batches[i]->schema->table_id - 1000),
                                     .batch = batch_ref(item->batches[i]) });
    }
    return 0;
}
static int writer_seal(struct sink_writer *writer, uint64_t seq, struct sink_part **out,
                       struct err *err) {
    (void)seq, (void)err;
    struct fake_writer *w = (struct fake_writer *)writer;
    *out = w->part;
    w->part = NULL;
    return 0;
}
static void part_free(struct sink_part *part, bool committed) {
    (void)committed;
    for (unsigned i = 0; i < part->count; i++) {
        if (part->items[i].batch) {
            batch_unref(part->items[i].batch);
        }
    }
    free(part->items);
    free(part);
}
static void writer_close(struct sink_writer *writer) {
    struct fake_writer *w = (struct fake_writer *)writer;
    if (w->part) {
        part_free(w->part, false);
    }
    free(w);
}
static int sink_summary(struct sink *s, struct buf *out, struct err *err) {
    (void)s, (void)out, (void)err;
    return 0;
}
const struct sink_ops fake_sink_ops = {
    .name = "fake",
    .owns_position = true,
    .stages = true,
    .writers_max = 2,
    .freshness_us = 2 * US_PER_MS,
    .open = sink_fake_open,
    .close = sink_fake_close,
    .examine = sink_examine,
    .peek = sink_peek,
    .recover = sink_recover,
    .apply_schema = sink_apply_schema,
    .commit = sink_commit,
    .resolve = sink_resolve,
    .writer_open = writer_fake_open,
    .writer_stage = writer_stage,
    .writer_seal = writer_seal,
    .writer_close = writer_close,
    .part_free = part_free,
    .summary = sink_summary,
    .describe = sink_describes_nothing,
};
static int sink_fake_open(const struct sink_address *a, struct env *env, struct sink **out,
                          struct err *err) {
    (void)a, (void)env, (void)err;
    struct fake_sink *s = xcalloc(1, sizeof *s);
    s->base.ops = &sink_ops;
    *out = &s->base;
    return 0;
}
