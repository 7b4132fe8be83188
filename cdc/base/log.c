/* The log: builds a line in memory and gives it to the system with one write(2), so lines of
 * several tasks do not mix. Never blocks on a lock, never fails upwards: a log that cannot be
 * written is not a reason to stop. Thread: any. */
#include "cdc/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cdc/base/clock.h"
#include "cdc/base/escape.h"
#include "cdc/base/json.h"

static const char *level_name(enum log_level level) {
    switch (level) {
    case LOG_ERROR:
        return "error";
    case LOG_WARN:
        return "warn";
    case LOG_INFO:
        return "info";
    case LOG_DEBUG:
        return "debug";
    }
    check_failed(__FILE__, __LINE__, "a log level");
}

static void write_line(int fd, const struct buf *line) {
    size_t done = 0;
    while (done < line->len) {
        ssize_t n = write(fd, line->data + done, line->len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return; /* a closed or full pipe: the line is lost, the job goes on */
        }
        done += (size_t)n;
    }
}

/* {"ts":..,"level":..,"job":..,"part":..,"code":..,"msg":.. without the closing brace. */
static void put_json_head(struct buf *line, const struct log *log, enum log_level level,
                          const char *part, const char *code, const char *msg) {
    const char *members[][2] = { { "level", level_name(level) },
                                 { "job", log->job ? log->job : "" },
                                 { "part", part },
                                 { "code", code },
                                 { "msg", msg } };
    char ts[32];
    clock_format_wall(clock_wall_us(), ts);
    buf_puts(line, "{\"ts\":");
    json_put_cstr(line, ts);
    for (size_t i = 0; i < ARRAY_COUNT(members); i++) {
        buf_putf(line, ",\"%s\":", members[i][0]);
        json_put_cstr(line, members[i][1]);
    }
}

static void put_text(struct buf *line, const struct log *log, enum log_level level,
                     const char *part, const char *code, const struct buf *msg) {
    char ts[32];
    clock_format_wall(clock_wall_us(), ts);
    const char *job = log->job && log->job[0] ? log->job : "-";
    buf_putf(line, "%s %s %s %s %s", ts, level_name(level), job, part, code);
    if (msg->len > 0) {
        buf_putc(line, ' ');
        escape_put(line, msg->data, msg->len);
    }
}

static void hide(const struct log *log, struct buf *text) {
    if (log->hide) {
        log->hide(log->hidden, text);
    }
}

void log_write(struct log *log, enum log_level level, const char *part, const char *code,
               const char *fmt, ...) {
    if (level > log->level || log->fd < 0) {
        return;
    }
    struct buf msg;
    struct buf line;
    buf_init(&msg, SIZE_MAX);
    buf_init(&line, SIZE_MAX);
    va_list args;
    va_list again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    CHECK(n >= 0);
    int failed = buf_reserve(&msg, (size_t)n + 1);
    CHECK(!failed);
    vsnprintf(msg.data, (size_t)n + 1, fmt, again);
    va_end(again);
    msg.len = (size_t)n;
    hide(log, &msg);
    if (log->json) {
        put_json_head(&line, log, level, part, code, buf_cstr(&msg));
        buf_putc(&line, '}');
    } else {
        put_text(&line, log, level, part, code, &msg);
    }
    buf_putc(&line, '\n');
    write_line(log->fd, &line);
    buf_release(&msg);
    buf_release(&line);
}

void log_err(struct log *log, const char *part, const struct err *err) {
    CHECK(err->kind != ERR_NONE);
    if (log->fd < 0) {
        return;
    }
    struct buf line;
    struct buf text;
    struct buf cure;
    buf_init(&line, SIZE_MAX);
    buf_init(&text, SIZE_MAX);
    buf_init(&cure, SIZE_MAX);
    buf_puts(&text, err->text);
    buf_puts(&cure, err->cure);
    hide(log, &text);
    hide(log, &cure);
    if (log->json) {
        put_json_head(&line, log, LOG_ERROR, part, err->code, buf_cstr(&text));
        if (cure.len > 0) {
            buf_puts(&line, ",\"cure\":");
            json_put_cstr(&line, buf_cstr(&cure));
        }
        buf_puts(&line, "}\n");
    } else {
        buf_puts(&line, "tailrace: ");
        if (log->job && log->job[0]) {
            buf_putf(&line, "%s: ", log->job);
        }
        buf_putf(&line, "%s\n", buf_cstr(&text));
        if (cure.len > 0) {
            buf_putf(&line, "cure: %s\n", buf_cstr(&cure));
        }
    }
    write_line(log->fd, &line);
    buf_release(&line);
    buf_release(&text);
    buf_release(&cure);
}
