/* The log: one line an event on standard error, as text or JSON (INTERFACE, "OUTPUT").
 * text: 2026-01-02T03:04:05.678Z info shop log connected server=15.20 slot=tailrace_shop
 * json: {"ts","level","job","part","code","msg"}
 * Thread: any (one write(2) a line). Control characters of the message are escaped. */
#pragma once
#include <stdbool.h>

#include "cdc/base/buf.h"
#include "cdc/base/check.h"
#include "cdc/base/err.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
struct log {
    enum log_level level;
    bool json;
    int fd;          /* 2 in the product; -1 = nowhere */
    const char *job; /* "" before a job is known */
    /* Takes out of a text what must not be seen: called with `hidden` on every message, error and
     * cure before it is written, by any thread. NULL: nothing is hidden. */
    void (*hide)(const void *hidden, struct buf *text);
    const void *hidden; /* borrowed */
};
/* part: "log", "lane", "ctl", "merge", "commit", "job"...; code: stable snake_case; fmt may be "".
 */
void log_write(struct log *log, enum log_level level, const char *part, const char *code,
               const char *fmt, ...) TR_PRINTF(5, 6);
/* `tailrace: shop: <text>` and `cure: <cure>` (text), or one JSON object with msg and cure. */
void log_err(struct log *log, const char *part, const struct err *err);
#define log_info(l, part, code, ...) log_write((l), LOG_INFO, (part), (code), __VA_ARGS__)
#define log_warn(l, part, code, ...) log_write((l), LOG_WARN, (part), (code), __VA_ARGS__)
#define log_debug(l, part, code, ...) log_write((l), LOG_DEBUG, (part), (code), __VA_ARGS__)
