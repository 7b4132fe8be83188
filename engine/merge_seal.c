/* Barriers of the merge task. One commit is in flight at a time; rows of the next one flow
 * meanwhile.
 *
 *   NONE    -due, transactions are loose-> PROBING
 *   NONE    -due, nothing is loose-------> READY
 *   PROBING -a snapshot was seen---------> READY
 *   READY   -a border, position fits-----> placed, NONE
 *   READY   -position does not fit-------> PROBING, a little later */
#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "engine/barrier.h"
#include "engine/merge.h"

#define PROBE_AGAIN_US (100 * US_PER_MS)
#define LONG_WARN_US (60 * US_PER_S)

static void look_again(struct merge *m, int64_t at_us) {
    if (at_us < m->look_again_us) {
        m->look_again_us = at_us;
    }
}

static bool changed(struct merge *m) {
    return m->items > 0 || hybrid_shape_changed(m->h, false) || hybrid_schemas_changed(m->h, false);
}

static bool due(struct merge *m, int64_t now_us) {
    struct barrier_view v = {
        .now_us = now_us,
        .last_us = m->barrier_us,
        .freshness_us = m->run->freshness_us,
        .commit_us = m->commit_us,
        .bytes = m->bytes,
        .snapshot_bytes = m->run->sink->ops->snapshot_bytes,
        .changed = changed(m),
        .log_moved = logpos_cmp(m->log_to, m->sealed_to) > 0,
        .snapshot = !hybrid_joined(m->h),
        .finishing = m->finishing,
        .in_flight = m->in_flight,
    };
    if (v.log_moved) {
        v.log_bytes = m->log_to.segment == m->sealed_to.segment
                          ? m->log_to.offset - m->sealed_to.offset
                          : BARRIER_IDLE_BYTES;
    }
    int64_t again_us;
    bool is_due = barrier_due(&v, &again_us);
    look_again(m, again_us);
    return is_due;
}

static char **copy_labels(const char *const *labels, uint32_t count) {
    char **copy = count ? xcalloc(count, sizeof *copy) : NULL;
    for (uint32_t i = 0; i < count; i++) {
        copy[i] = xstrdup(labels[i]);
    }
    return copy;
}

/* The order for the commit task. Resets what is counted per commit. */
static struct commit_news *build_order(struct merge *m, struct buf *to) {
    struct commit_news *o = xcalloc(1, sizeof *o);
    o->kind = COMMIT_ORDER;
    o->seq = m->seq;
    o->to = xstrdup(buf_cstr(to));
    o->resume = hybrid_resume(m->h);
    o->rows = m->rows;
    o->position_only = !changed(m);
    o->schemas_changed = hybrid_schemas_changed(m->h, true);
    hybrid_shape_changed(m->h, true);
    const char *const *labels;
    o->inconsistent_count = hybrid_inconsistent(m->h, &labels);
    o->inconsistent = copy_labels(labels, o->inconsistent_count);
    struct schema *const *schemas;
    o->schema_count = hybrid_schemas(m->h, &schemas);
    o->schemas = o->schema_count ? xcalloc(o->schema_count, sizeof *o->schemas) : NULL;
    for (uint32_t i = 0; i < o->schema_count; i++) {
        o->schemas[i] = schema_ref(schemas[i]);
    }
    return o;
}

/* The position to store. 1 = it does not fit now. */
static int build_position(struct merge *m, struct buf *to, struct err *err) {
    struct run *run = m->run;
    if (position_open(to, run->config->source, run->stored.lineage, hybrid_applied(m->h),
                      hybrid_resume(m->h), run->see_from_tx, err)) {
        return -1;
    }
    buf_putc(to, ',');
    if (hybrid_put_position(m->h, to, POSITION_BYTES_MAX - to->len - 1)) {
        return 1;
    }
    position_close(to);
    return 0;
}

static int place(struct merge *m, struct buf *to, int64_t now_us, struct err *err) {
    struct run *run = m->run;
    if (FAILPOINT(run->env->failpoints, "merge.before_barrier", err)) {
        return -1;
    }
    for (unsigned w = 0; w < run->writer_count; w++) {
        struct writer_order *order = xcalloc(1, sizeof *order);
        order->barrier = true;
        order->seq = m->seq;
        if (run_send(run, run->writer_orders[w], order, sizeof *order, writer_order_free)) {
            m->stopped_sending = true;
            return 0;
        }
    }
    struct commit_news *order = build_order(m, to);
    if (run_send(run, run->commit_news, order, sizeof *order, commit_news_free)) {
        m->stopped_sending = true;
        return 0;
    }
    m->seq++;
    m->in_flight = true;
    m->barrier_us = now_us;
    m->items = m->rows = m->bytes = 0;
    m->sealed_to = m->log_to;
    m->sealed_any = true;
    m->final_sealed = m->finishing;
    m->seal = SEAL_NONE;
    return FAILPOINT(run->env->failpoints, "merge.after_barrier", err);
}

static void probe_later(struct merge *m, int64_t now_us) {
    m->seal = SEAL_PROBING;
    m->seal_at_us = now_us + PROBE_AGAIN_US;
    look_again(m, m->seal_at_us);
    if (now_us - m->long_warned_us >= LONG_WARN_US) {
        m->long_warned_us = now_us;
        log_warn(m->run->env->log, "merge", "position_waits",
                 "the position does not fit into %u bytes yet: bounds of what was read, and %u "
                 "transactions that are in the log and not yet visible",
                 POSITION_BYTES_MAX, hybrid_loose(m->h));
    }
}

int merge_seal_step(struct merge *m, struct err *err) {
    int64_t now_us = clock_mono_us();
    if (!m->catalogued || m->final_sealed) {
        return 0;
    }
    if (m->seal == SEAL_NONE) {
        if (!due(m, now_us)) {
            return 0;
        }
        if (m->finishing && m->sealed_any && !changed(m) &&
            logpos_cmp(m->log_to, m->sealed_to) <= 0) {
            m->done = hybrid_at_border(m->h); /* the last commit already says all */
            return 0;
        }
        m->seal = hybrid_loose(m->h) ? SEAL_PROBING : SEAL_READY;
    }
    if (m->seal == SEAL_PROBING) {
        if (!m->probing && now_us >= m->seal_at_us) {
            merge_ask(m, CONTROL_PROBE, NULL, 0);
        }
        look_again(m, m->seal_at_us > now_us ? m->seal_at_us : INT64_MAX);
        return 0;
    }
    if (!hybrid_at_border(m->h)) {
        return 0;
    }
    struct buf to;
    buf_init(&to, SIZE_MAX);
    int rc = build_position(m, &to, err);
    if (rc == 0) {
        rc = place(m, &to, now_us, err);
    } else if (rc > 0) {
        probe_later(m, now_us);
        rc = 0;
    }
    buf_release(&to);
    return rc;
}

void merge_committed(struct merge *m, const struct merge_news *news) {
    CHECK(m->in_flight && news->seq + 1 == m->seq);
    m->in_flight = false;
    m->commit_us = news->took_us;
    if (m->final_sealed) {
        m->done = true;
    }
}
