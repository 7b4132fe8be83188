#include "engine/control.h"

#include <stdlib.h>
#include <string.h>

#include "cdc/base/clock.h"
#include "cdc/source_call.h"

#define CATALOGUE_EACH_US (10 * US_PER_S)

/* Marks in job->known: their addresses. */
static const char left_out = 'l', told = 't';

/* After a call of the control session failed: true = call again. */
static bool again(struct job *job, struct backoff *backoff, struct err *err) {
    if (err->kind != ERR_RETRY) {
        return false;
    }
    if (backoff->tries >= RUN_TRIES_MAX) {
        err->kind = ERR_REWIND;
        return false;
    }
    if (!job_pause(job, backoff_next_us(backoff))) {
        err->kind = ERR_REWIND;
        return false;
    }
    err_clear(err);
    return true;
}

static int send_merge(struct run *run, struct merge_news *news) {
    /* -1 = the run is being stopped, and only we stop it. */
    return run_send(run, run->merge_news, news, sizeof *news, merge_news_free);
}

static struct merge_news *news_new(enum merge_news_kind kind) {
    struct merge_news *news = xcalloc(1, sizeof *news);
    news->kind = kind;
    return news;
}

static void remove_table(struct source_catalogue *c, uint32_t i) {
    schema_unref(c->tables[i].schema);
    memmove(&c->tables[i], &c->tables[i + 1], (c->count - i - 1) * sizeof *c->tables);
    c->count--;
}

/* Tables that cannot be followed: at the job's start, or when we follow them already, they stop the
 * job. New ones are left out, loudly, until they can be. */
static int sift(struct job *job, struct source_catalogue *c, bool first, struct err *err) {
    for (uint32_t i = 0; i < c->count;) {
        struct source_table *t = &c->tables[i];
        uint64_t id = t->schema->table_id;
        const void *mark = map_get(job->known, &id, sizeof id);
        if (t->usable) {
            map_set(job->known, &id, sizeof id, (void *)&told);
            i++;
            continue;
        }
        if (first || mark == &told) {
            err_set(err, ERR_FATAL, "table_unusable", "table \"%s\": %s", t->schema->label, t->why);
            char *cures =
                xstrdup(t->cure); /* alternatives, one a line; an error's cure is one line */
            for (char *end = cures; (end = strchr(end, '\n'));) {
                *end = '|';
            }
            err_cure(err, "%s", cures);
            free(cures);
            return err_exit(err, EXIT_PLAN);
        }
        if (!mark) {
            map_set(job->known, &id, sizeof id, (void *)&left_out);
            log_warn(job->env->log, "ctl", "table_left_out",
                     "new table \"%s\" is left out until it can be followed: %s", t->schema->label,
                     t->why);
        }
        remove_table(c, i);
    }
    return 0;
}

int control_check_tables(struct job *job, struct source *source, struct err *err) {
    struct source_catalogue catalogue = { 0 };
    if (source_catalogue(source, &catalogue, err)) {
        return -1;
    }
    int rc = sift(job, &catalogue, true, err);
    source_catalogue_release(&catalogue);
    return rc;
}

static int send_catalogue(struct job *job, struct run *run, bool first, bool asked,
                          struct err *err) {
    struct merge_news *news = news_new(NEWS_CATALOGUE);
    news->asked = asked;
    struct backoff backoff = RUN_BACKOFF;
    while (source_catalogue(run->source, &news->catalogue, err)) {
        news->catalogue = (struct source_catalogue){ 0 };
        if (!again(job, &backoff, err)) {
            merge_news_free(news);
            return -1;
        }
    }
    if (sift(job, &news->catalogue, first, err)) {
        merge_news_free(news);
        return -1;
    }
    if (first) {
        log_info(job->env->log, "ctl", "catalogue", "server=\"%s\" tables=%u",
                 news->catalogue.server, news->catalogue.count);
    }
    atomic_store(&run->catalogue_waits, true);
    send_merge(run, news);
    return 0;
}

static int send_log_end(struct job *job, struct run *run, struct err *err) {
    struct merge_news *news = news_new(NEWS_LOG_END);
    struct backoff backoff = RUN_BACKOFF;
    while (source_log_end(run->source, &news->pos, err)) {
        if (!again(job, &backoff, err)) {
            merge_news_free(news);
            return -1;
        }
    }
    send_merge(run, news);
    return 0;
}

int control_first_catalogue(struct job *job, struct run *run, struct err *err) {
    if (send_catalogue(job, run, !job->catalogued, true, err)) {
        return -1;
    }
    job->catalogued = true;
    return job->config->mode == JOB_ONCE ? send_log_end(job, run, err) : 0;
}

static int serve_probe(struct job *job, struct run *run, struct err *err) {
    struct merge_news *news = news_new(NEWS_PROBE);
    struct backoff backoff = RUN_BACKOFF;
    snapshot_init(&news->snapshot);
    while (source_probe(run->source, &news->snapshot, err)) {
        if (!again(job, &backoff, err)) {
            merge_news_free(news);
            return -1;
        }
    }
    send_merge(run, news);
    return 0;
}

static int serve_capture(struct job *job, struct run *run, struct control_order *order,
                         struct err *err) {
    struct merge_news *news = news_new(NEWS_CAPTURED);
    struct backoff backoff = RUN_BACKOFF;
    while (source_capture(run->source, order->ids, order->count, &news->see_from_tx, &news->pos,
                          err)) {
        if (!again(job, &backoff, err)) {
            merge_news_free(news);
            return -1;
        }
    }
    if (FAILPOINT(job->env->failpoints, "job.after_capture", err)) {
        merge_news_free(news);
        return -1;
    }
    news->ids = order->ids;
    news->count = order->count;
    order->ids = NULL;
    send_merge(run, news);
    return 0;
}

static int serve_order(struct job *job, struct run *run, struct control_order *order, bool *done,
                       struct err *err) {
    switch (order->kind) {
    case CONTROL_PROBE:
        return serve_probe(job, run, err);
    case CONTROL_CATALOGUE:
        return send_catalogue(job, run, false, true, err);
    case CONTROL_CAPTURE:
        return serve_capture(job, run, order, err);
    case CONTROL_NUDGE: {
        /* Only a help: a server that cannot just now is asked again a second later. */
        int rc = source_nudge(run->source, err);
        if (rc && err->kind == ERR_RETRY) {
            err_clear(err);
            return 0;
        }
        return rc;
    }
    case CONTROL_DONE:
        *done = true;
        return 0;
    }
    return 0;
}

/* The source's side of status. What fails here fails nobody but status, unless the session is lost.
 */
static int poll_status(struct job *job, struct run *run, struct err *err) {
    struct source_status s = { 0 };
    if (source_status(run->source, &s, err)) {
        if (err->kind != ERR_RETRY) {
            return -1;
        }
        err_clear(err);
        return 0;
    }
    struct buf text;
    buf_init(&text, SIZE_MAX);
    if (source_put_logpos(run->source->ops, &text, s.log_end) == 0) {
        status_log_end(job->status, buf_cstr(&text), s.log_end.offset, s.retained_bytes);
    }
    buf_release(&text);
    return 0;
}

static int poll_source(struct job *job, struct run *run, struct err *err) {
    bool waits = atomic_load(&run->catalogue_waits); /* merge waits for a slow target */
    return (!waits && send_catalogue(job, run, false, false, err)) || poll_status(job, run, err)
               ? -1
               : 0;
}

enum control_end control_serve(struct job *job, struct run *run, struct err *err) {
    int64_t next_poll_us = clock_mono_us() + CATALOGUE_EACH_US, stop_by_us = INT64_MAX;
    if (poll_status(job, run, err)) {
        return CONTROL_FAILED;
    }
    for (;;) {
        bool done = false;
        if (run_failed(run, err, job->failed_part)) {
            return CONTROL_FAILED;
        }
        if (atomic_load(&job->stop_now)) {
            return CONTROL_STOPPED;
        }
        if (job_stopping(job) && stop_by_us == INT64_MAX) {
            stop_by_us = clock_mono_us() + STOP_PATIENCE_US;
            atomic_store(&run->finishing, true);
            inbox_poke(run->merge_inbox);
        }
        struct control_order *order = channel_take(run->control_orders);
        int64_t now_us = clock_mono_us();
        if (order) {
            int rc = serve_order(job, run, order, &done, err);
            control_order_free(order);
            if (rc || done) {
                return rc ? CONTROL_FAILED : CONTROL_ENDED;
            }
        } else if (now_us >= stop_by_us) {
            return CONTROL_STOPPED;
        } else if (now_us >= next_poll_us && stop_by_us == INT64_MAX) {
            next_poll_us = now_us + CATALOGUE_EACH_US;
            if (poll_source(job, run, err)) {
                return CONTROL_FAILED;
            }
        } else {
            inbox_wait(job->inbox, stop_by_us == INT64_MAX ? next_poll_us : stop_by_us);
        }
    }
}
