#include "engine/status.h"

#include <stdio.h>
#include <stdlib.h>

#include "cdc/base/json.h"
#include "cdc/base/waitq.h"

struct status {
    struct waitq *q;
    char *job;
    const char *phase, *waits_for;
    char code[40], text[640];
    uint64_t epoch, seq;
    char log_end[64], applied[64];
    uint64_t log_end_offset, applied_offset;
    int64_t retained_bytes;
    struct buf tables;
};

struct status *status_new(const char *job) {
    struct status *s = xcalloc(1, sizeof *s);
    s->q = waitq_new();
    s->job = xstrdup(job);
    s->phase = "starting";
    s->waits_for = "";
    s->retained_bytes = -1;
    buf_init(&s->tables, SIZE_MAX);
    return s;
}

void status_free(struct status *s) {
    buf_release(&s->tables);
    waitq_free(s->q);
    free(s->job);
    free(s);
}

void status_phase(struct status *s, const char *phase) {
    waitq_lock(s->q);
    s->phase = phase;
    waitq_unlock(s->q);
}

void status_waits(struct status *s, const char *waits_for) {
    waitq_lock(s->q);
    s->waits_for = waits_for;
    waitq_unlock(s->q);
}

void status_error(struct status *s, const struct err *err) {
    waitq_lock(s->q);
    snprintf(s->code, sizeof s->code, "%s", err->code);
    snprintf(s->text, sizeof s->text, "%s", err->text);
    waitq_unlock(s->q);
}

void status_commit(struct status *s, uint64_t epoch, uint64_t seq) {
    waitq_lock(s->q);
    s->epoch = epoch;
    s->seq = seq;
    waitq_unlock(s->q);
}

void status_log_end(struct status *s, const char *text, uint64_t offset, int64_t retained_bytes) {
    waitq_lock(s->q);
    snprintf(s->log_end, sizeof s->log_end, "%s", text);
    s->log_end_offset = offset;
    s->retained_bytes = retained_bytes;
    waitq_unlock(s->q);
}

void status_progress(struct status *s, const char *applied, uint64_t offset,
                     const struct buf *tables) {
    waitq_lock(s->q);
    snprintf(s->applied, sizeof s->applied, "%s", applied);
    s->applied_offset = offset;
    buf_clear(&s->tables);
    buf_put(&s->tables, tables->data, tables->len);
    waitq_unlock(s->q);
}

static void put_text(struct buf *out, const char *key, const char *value) {
    buf_putf(out, ",\"%s\":", key);
    json_put_cstr(out, value);
}

void status_put_json(struct status *s, const struct metrics *metrics, struct buf *out) {
    waitq_lock(s->q);
    buf_puts(out, "{\"job\":");
    json_put_cstr(out, s->job);
    put_text(out, "phase", s->phase);
    put_text(out, "waits_for", s->waits_for);
    buf_putf(out, ",\"epoch\":%llu,\"seq\":%llu", (unsigned long long)s->epoch,
             (unsigned long long)s->seq);
    put_text(out, "applied", s->applied);
    put_text(out, "log_end", s->log_end);
    if (s->log_end[0] && s->applied[0]) {
        uint64_t lag =
            s->log_end_offset > s->applied_offset ? s->log_end_offset - s->applied_offset : 0;
        buf_putf(out, ",\"lag_bytes\":%llu", (unsigned long long)lag);
    }
    if (s->retained_bytes >= 0) {
        buf_putf(out, ",\"retained_bytes\":%lld", (long long)s->retained_bytes);
    }
    if (s->code[0]) {
        buf_puts(out, ",\"last_error\":{\"code\":");
        json_put_cstr(out, s->code);
        put_text(out, "text", s->text);
        buf_putc(out, '}');
    }
    buf_puts(out, ",\"metrics\":{");
    for (int k = 0; k < METRIC_COUNT; k++) {
        buf_putf(out, "%s\"%s\":%lld", k ? "," : "", metric_name((enum metric)k),
                 (long long)metric_get(metrics, (enum metric)k));
    }
    buf_puts(out, "},\"tables\":");
    if (s->tables.len) {
        buf_put(out, s->tables.data, s->tables.len);
    } else {
        buf_puts(out, "[]");
    }
    buf_putc(out, '}');
    waitq_unlock(s->q);
}
