/* Progress of the first reading, from the job's own status. On a terminal a line that is drawn
 * over, and the job's log lines go between; elsewhere a log line a table each 10 s, only for tables
 * that are still read. Thread: main. */
#include "config/cmd/progress.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cdc/base/clock.h"

#define EACH_US (10 * US_PER_S)
#define TABLES_MAX 50 /* lines at a time */

struct progress {
    struct job *job;
    struct log *log;
    int64_t next_us;
    bool terminal;
    bool drawn;
};

struct progress *progress_new(struct job *job, struct log *log) {
    struct progress *p = xcalloc(1, sizeof *p);
    *p = (struct progress){ .job = job, .log = log, .next_us = clock_mono_us() + EACH_US };
    p->terminal = log->fd >= 0 && !log->json && log->level >= LOG_INFO && isatty(log->fd);
    return p;
}

static void erase(struct progress *p) {
    if (p->drawn) {
        ssize_t n = write(p->log->fd, "\r\033[K", 4);
        (void)n; /* a terminal that is gone shows nothing */
        p->drawn = false;
    }
}

void progress_free(struct progress *p) {
    if (p) {
        erase(p);
        free(p);
    }
}

static bool is_read(json_t *table) {
    const char *phase = json_string_value(json_object_get(table, "phase"));
    return phase && strcmp(phase, "stream") != 0 && strcmp(phase, "gone") != 0;
}

static void draw(struct progress *p, json_t *tables) {
    json_int_t rows = 0;
    json_int_t estimate = 0;
    size_t left = 0;
    size_t i;
    json_t *table;
    json_array_foreach(tables, i, table) {
        json_int_t read = json_integer_value(json_object_get(table, "rows_read"));
        json_int_t of = json_integer_value(json_object_get(table, "rows_estimate"));
        rows += read;
        estimate += of > read ? of : read;
        left += is_read(table);
    }
    erase(p);
    if (left == 0) {
        return;
    }
    char bar[21];
    size_t full = estimate > 0 ? (size_t)(rows * 20 / estimate) : 0;
    for (size_t k = 0; k < 20; k++) {
        bar[k] = k < full ? '#' : '.';
    }
    bar[20] = '\0';
    struct buf line;
    buf_init(&line, SIZE_MAX);
    buf_putf(&line, "%s [%s] %lld of about %lld rows, %zu of %zu tables left", p->log->job, bar,
             (long long)rows, (long long)estimate, left, json_array_size(tables));
    buf_putc(&line, '\r'); /* a log line of another task writes over it */
    ssize_t n = write(p->log->fd, line.data, line.len);
    (void)n;
    p->drawn = true;
    buf_release(&line);
}

static void say(struct progress *p, json_t *tables) {
    size_t said = 0;
    size_t i;
    json_t *table;
    json_array_foreach(tables, i, table) {
        if (is_read(table) && said++ < TABLES_MAX) {
            log_info(p->log, "job", "progress", "table=%s phase=%s rows=%lld of about %lld",
                     json_string_value(json_object_get(table, "table")),
                     json_string_value(json_object_get(table, "phase")),
                     (long long)json_integer_value(json_object_get(table, "rows_read")),
                     (long long)json_integer_value(json_object_get(table, "rows_estimate")));
        }
    }
    if (said > TABLES_MAX) {
        log_info(p->log, "job", "progress", "and %zu more tables", said - TABLES_MAX);
    }
}

bool progress_look(struct progress *p, int64_t now_us, bool ask) {
    bool due = now_us >= p->next_us;
    if (!p->terminal && !due && !ask) {
        return false;
    }
    struct buf text;
    buf_init(&text, SIZE_MAX);
    job_status_json(p->job, &text);
    json_t *status = json_loadb(text.data, text.len, 0, NULL);
    json_t *tables = json_object_get(status, "tables");
    bool known = json_array_size(tables) > 0;
    if (p->terminal) {
        draw(p, tables);
    } else if (due) {
        p->next_us = now_us + EACH_US;
        say(p, tables);
    }
    json_decref(status);
    buf_release(&text);
    return known;
}
