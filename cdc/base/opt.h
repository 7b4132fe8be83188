/* Options: one table per component (key, type, default, range, doc). Parser, validation, --help,
 * the man page and the README tables come from it. Values are text until opts_set checks them
 * against their spec. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#include "cdc/base/buf.h"
#include "cdc/base/err.h"

enum opt_type {
    OPT_TEXT,
    OPT_BOOL,     /* on|off|true|false|yes|no|1|0 */
    OPT_COUNT,    /* bare number */
    OPT_BYTES,    /* 64KiB MiB GiB (1024), kB MB GB (1000); a unit is required */
    OPT_DURATION, /* 20ms 10s 5m 1h; a unit is required; kept in microseconds */
    OPT_CHOICE,
};
struct opt_spec {
    const char *key;
    enum opt_type type;
    const char *fallback; /* default as text; NULL = unset */
    int64_t min, max;     /* of COUNT, BYTES, DURATION (us); max 0 = no limit */
    const char *choices;  /* OPT_CHOICE: "a|b|c" */
    bool secret;          /* never printed */
    const char *doc;      /* one line */
};
/* A table ends with an entry whose key is NULL. */
struct opts;
struct opts *opts_new(const struct opt_spec *table);
void opts_free(struct opts *o);
/* -1 with code "option_unknown" (text names the nearest key) or "option_value"; FATAL, exit
 * EXIT_USAGE. A second value replaces the first; a refused one changes nothing. */
int opts_set(struct opts *o, const char *key, const char *value, struct err *err);
/* The getters abort on a key that is not in the table, or of another type. */
bool opts_is_set(const struct opts *o, const char *key); /* by opts_set; a default does not count */
const char *opts_text(const struct opts *o,
                      const char *key); /* NULL if unset and without default */
bool opts_bool(const struct opts *o, const char *key);
int64_t opts_int(const struct opts *o,
                 const char *key); /* COUNT, BYTES, DURATION in us; 0 if unset */
const struct opt_spec *opts_table(const struct opts *o);
/* -1 if it is not a whole number with one of the units above, or beyond int64. */
int opt_parse_bytes(const char *s, int64_t *out);
int opt_parse_duration(const char *s, int64_t *out_us);
/* The entry of `words` nearest to `word` by edit distance, or NULL if none is near (more than a
 * third of its letters wrong). */
const char *opt_nearest(const char *word, const char *const *words, size_t count);
