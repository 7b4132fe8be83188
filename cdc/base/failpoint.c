/* Failpoints: planted deaths, stops, delays and errors. Test equipment that ships, so that what is
 * tested is what runs. Names enter a fixed open-addressing table by compare-and-swap and never
 * leave it, counters are atomics: no lock, hence usable in any task and under the simulator. The
 * rules are read-only after failpoints_new. Thread: any. */
#include "cdc/base/failpoint.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cdc/base/clock.h"
#include "cdc/base/map.h"

enum action { ACTION_KILL, ACTION_STOP, ACTION_EXIT, ACTION_ERROR, ACTION_SLEEP };
enum { NAMES_MAX = 1024, RULES_MAX = 64, NUMBER_MAX = 1000000000 };

struct rule {
    char *name; /* "*": every name */
    enum action action;
    int64_t sleep_ms;
    uint64_t at;
};
struct point {
    _Atomic(char *) name; /* set once */
    _Atomic uint64_t hits;
};
struct failpoints {
    char *log_path; /* or NULL */
    struct rule rules[RULES_MAX];
    size_t rule_count;
    struct point points[NAMES_MAX];
};

static const char cure_text[] =
    "TAILRACE_FAILPOINTS=\"NAME=kill|stop|exit|error|sleep(MS)[@N][;...]\"";

/* A number of digits only, 0 to NUMBER_MAX, at *at; -1 if there is none. */
static int64_t number_take(const char **at) {
    int64_t v = -1;
    for (; **at >= '0' && **at <= '9'; (*at)++) {
        v = (v < 0 ? 0 : v) * 10 + (**at - '0');
        if (v > NUMBER_MAX) {
            return -1;
        }
    }
    return v;
}

static bool word_take(const char **at, const char *word) {
    size_t len = strlen(word);
    if (strncmp(*at, word, len) != 0) {
        return false;
    }
    *at += len;
    return true;
}

/* What stands behind NAME=. False if it is no action. */
static bool action_parse(const char *at, struct rule *rule) {
    static const struct {
        const char *word;
        enum action action;
    } plain[] = {
        { "kill", ACTION_KILL },
        { "stop", ACTION_STOP },
        { "exit", ACTION_EXIT },
        { "error", ACTION_ERROR },
    };
    bool found = false;
    for (size_t i = 0; i < ARRAY_COUNT(plain) && !found; i++) {
        found = word_take(&at, plain[i].word);
        rule->action = plain[i].action;
    }
    if (!found && word_take(&at, "sleep(")) {
        rule->action = ACTION_SLEEP;
        rule->sleep_ms = number_take(&at);
        found = rule->sleep_ms >= 0 && word_take(&at, ")");
    }
    rule->at = 1;
    if (found && word_take(&at, "@")) {
        int64_t n = number_take(&at);
        found = n > 0;
        rule->at = (uint64_t)n;
    }
    return found && *at == '\0';
}

/* One NAME=ACTION[@N] of len bytes. */
static int rule_add(struct failpoints *fp, const char *text, size_t len, struct err *err) {
    const char *equals = memchr(text, '=', len);
    if (fp->rule_count == RULES_MAX) {
        return err_set(err, ERR_FATAL, "failpoint_spec", "more than %d failpoints", RULES_MAX);
    }
    struct rule *rule = &fp->rules[fp->rule_count];
    char *action = equals ? xstrndup(equals + 1, len - (size_t)(equals + 1 - text)) : NULL;
    bool good = equals && equals > text && action_parse(action, rule);
    free(action);
    if (!good) {
        *rule = (struct rule){ 0 };
        err_set(err, ERR_FATAL, "failpoint_spec", "failpoint \"%.*s\": not NAME=ACTION[@N]",
                (int)(len < 200 ? len : 200), text);
        err_exit(err, EXIT_USAGE);
        return err_cure(err, "%s", cure_text);
    }
    rule->name = xstrndup(text, (size_t)(equals - text));
    fp->rule_count++;
    return 0;
}

static int rules_parse(struct failpoints *fp, const char *spec, struct err *err) {
    for (const char *at = spec; *at;) {
        size_t len = strcspn(at, ";");
        if (len > 0 && rule_add(fp, at, len, err)) {
            return -1;
        }
        at += len + (at[len] == ';');
    }
    return 0;
}

/* Appends one line; opened each time, so that a kill right after it loses nothing. */
static bool log_append(const struct failpoints *fp, const char *name, const char *mark) {
    if (!fp->log_path) {
        return true;
    }
    int fd = open(fp->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0) {
        return false;
    }
    char *line = xasprintf("%s%s\n", name, mark);
    size_t len = name[0] ? strlen(line) : 0;
    ssize_t n = write(fd, line, len);
    free(line);
    close(fd);
    return n == (ssize_t)len;
}

struct failpoints *failpoints_new(const char *spec, const char *log_path, struct err *err) {
    struct failpoints *fp = xcalloc(1, sizeof *fp);
    fp->log_path = log_path ? xstrdup(log_path) : NULL;
    if (spec && rules_parse(fp, spec, err)) {
        failpoints_free(fp);
        return NULL;
    }
    if (!log_append(fp, "", "")) {
        err_set(err, ERR_FATAL, "failpoint_log", "open the failpoint log \"%s\" failed", log_path);
        failpoints_free(fp);
        return NULL;
    }
    return fp;
}

void failpoints_free(struct failpoints *fp) {
    if (fp) {
        for (size_t i = 0; i < fp->rule_count; i++) {
            free(fp->rules[i].name);
        }
        for (size_t i = 0; i < NAMES_MAX; i++) {
            free(atomic_load(&fp->points[i].name));
        }
        free(fp->log_path);
        free(fp);
    }
}

/* The name's place in the table; *first says whether this call put it there. */
static struct point *point_of(struct failpoints *fp, const char *name, bool *first) {
    size_t slot = hash_bytes(name, strlen(name), 0) % NAMES_MAX;
    char *copy = NULL;
    *first = false;
    for (size_t tries = 0; tries < NAMES_MAX; tries++, slot = (slot + 1) % NAMES_MAX) {
        struct point *point = &fp->points[slot];
        char *there = atomic_load(&point->name);
        if (!there) {
            copy = copy ? copy : xstrdup(name);
            if (atomic_compare_exchange_strong(&point->name, &there, copy)) {
                *first = true;
                return point;
            }
        }
        if (strcmp(there, name) == 0) {
            free(copy);
            return point;
        }
    }
    check_failed(__FILE__, __LINE__, "fewer failpoint names than NAMES_MAX");
}

static int rule_act(const struct rule *rule, const char *name, struct err *err) {
    switch (rule->action) {
    case ACTION_KILL:
        kill(getpid(), SIGKILL);
        break;
    case ACTION_STOP:
        raise(SIGSTOP); /* to this thread: sent to the process, it would run on for a moment */
        break;
    case ACTION_EXIT:
        _exit(EXIT_ERROR);
    case ACTION_SLEEP:
        clock_sleep_until_us(clock_mono_us() + rule->sleep_ms * US_PER_MS);
        break;
    case ACTION_ERROR:
        return err_set(err, ERR_REWIND, "failpoint", "failpoint \"%s\" reached", name);
    }
    return 0;
}

int failpoints_hit(struct failpoints *fp, const char *name, struct err *err) {
    CHECK(name[0] != '\0');
    bool first;
    struct point *point = point_of(fp, name, &first);
    uint64_t hit = atomic_fetch_add(&point->hits, 1) + 1;
    if (first) {
        (void)log_append(
            fp, name, ""); /* opened before; a log that fails now must not change what is tested */
    }
    for (size_t i = 0; i < fp->rule_count; i++) {
        const struct rule *rule = &fp->rules[i];
        if (rule->at == hit && (strcmp(rule->name, name) == 0 || strcmp(rule->name, "*") == 0)) {
            (void)log_append(fp, name, "!");
            if (rule_act(rule, name, err)) {
                return -1;
            }
        }
    }
    return 0;
}
